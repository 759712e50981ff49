//! A cloud that for a while does not show what it has: no real one can be made to do that at a wanted moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use hanse_adapters_core::cloud::{Cloud, Disk, Machine, MachineKey, MachinePhase, MachineWish, Owner};
use hanse_adapters_core::preflight::Finding;
use hanse_adapters_core::{Adapter, AdapterError};
use hanse_server::config::Timing;
use hanse_server::context;
use hanse_server::observed::Observed;
use hanse_server::reconcile::connect::{HostConnector, HostKeys};
use hanse_server::reconcile::{self, World};
use hanse_state::Millis;
use hanse_state::cloud::MachineState;
use hanse_state::host::way::Way;
use tokio_util::sync::CancellationToken;

use crate::clouds::{add, ready_machine};
use crate::harness::*;

const MINUTE_MS: u64 = 60_000;

/// Knows one machine, and shows it unless it is hidden.
struct Shy {
    token: String,
    hidden: Arc<AtomicBool>,
}

impl Shy {
    fn shown(&self) -> Vec<Machine> {
        let (id, machine, token) = ("i-1".into(), "m1".into(), self.token.clone());
        let (address, zone) = (Some("10.1.0.5".into()), "r1a".into());
        let it = Machine { id, machine, token, phase: MachinePhase::Running, address, zone, reason: String::new() };
        if self.hidden.load(Ordering::SeqCst) { Vec::new() } else { vec![it] }
    }
}

#[async_trait]
impl Cloud for Shy {
    async fn ensure(&self, wish: &MachineWish) -> Result<Machine, AdapterError> {
        Err(AdapterError::Transient { subject: wish.key.machine.clone(), reason: "nothing is made here".into() })
    }
    async fn find(&self, _: &MachineKey, _: Option<&str>) -> Result<Vec<Machine>, AdapterError> {
        Ok(self.shown())
    }
    async fn list(&self, _: &Owner) -> Result<Vec<Machine>, AdapterError> {
        Ok(self.shown())
    }
    async fn delete(&self, _: &Owner, _: &str) -> Result<(), AdapterError> {
        Ok(())
    }
    async fn disks(&self, _: &Owner) -> Result<Vec<Disk>, AdapterError> {
        Ok(Vec::new())
    }
    async fn delete_disk(&self, _: &Owner, _: &str) -> Result<(), AdapterError> {
        Ok(())
    }
    async fn clear(&self, _: &Owner) -> Result<Vec<String>, AdapterError> {
        Ok(Vec::new())
    }
    async fn preflight(&self, _: &MachineWish) -> Result<Vec<Finding>, AdapterError> {
        Ok(Vec::new())
    }
    fn derive(&self, _: &str) -> [u8; 32] {
        [7; 32]
    }
}

struct Reaches(Arc<Shy>);

#[async_trait]
impl HostConnector for Reaches {
    async fn connect(&self, host: &hanse_state::host::Host) -> Result<Arc<dyn Adapter>, AdapterError> {
        NoHosts.connect(host).await
    }
    async fn scan(&self, address: &str, port: u16, way: &Way) -> Result<HostKeys, AdapterError> {
        NoHosts.scan(address, port, way).await
    }
    async fn scan_docker(&self, endpoint: &str) -> Result<String, AdapterError> {
        NoHosts.scan_docker(endpoint).await
    }
    async fn cloud(&self, _: &hanse_state::cloud::Cloud) -> Result<Arc<dyn Cloud>, AdapterError> {
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn a_host_that_its_cloud_does_not_show_for_a_while_is_not_given_up() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    root.clouds().add_cloud(add()).await.unwrap();
    let leader = cluster.leader().await;
    let token = ready_machine(leader, &root).await;
    let (hidden, ahead) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let stop = CancellationToken::new();
    let clock = ahead.clone();
    let world = World {
        replica: Arc::new(leader.replica.clone()),
        observed: Arc::new(Observed::default()),
        hosts: Arc::new(Reaches(Arc::new(Shy { token, hidden: hidden.clone() }))),
        engines: Arc::new(BTreeMap::new()),
        programs: hanse_server::programs::Programs::default(),
        clock: Arc::new(move || Millis(now().0 + clock.load(Ordering::SeqCst))),
        new_id: Arc::new(context::new_request_id),
        timing: Timing { health_ms: 50, ..Timing::default() },
        notary: None,
        cluster_name: CLUSTER.into(),
        setup: None,
    };
    let running = tokio::spawn(reconcile::run(world, stop.clone()));
    let machine = || leader.replica.local().machines.values().next().cloned().unwrap();
    let comes = async |what: &str, is_so: &dyn Fn(&hanse_state::cloud::Machine) -> bool| {
        wait_for(what, async || Some(machine()).filter(|it| is_so(it))).await
    };
    let unseen = |it: &hanse_state::cloud::Machine| it.state_reason.starts_with("the cloud does not show it");
    let pass = |minutes: u64| ahead.fetch_add(minutes * MINUTE_MS, Ordering::SeqCst);

    comes("word that it is not shown", &unseen).await;
    hidden.store(false, Ordering::SeqCst);
    pass(8);
    let again = comes("word that it is shown again", &|it| it.state_reason.is_empty()).await;
    assert_eq!(again.state, MachineState::Ready);

    // What was not shown before does not count.
    hidden.store(true, Ordering::SeqCst);
    pass(4);
    let again = comes("word that it is not shown again", &unseen).await;
    assert_eq!(again.state, MachineState::Ready);
    pass(11);
    let ended = comes("its end", &|it| it.state == MachineState::Ended).await;
    assert!(ended.state_reason.contains("has not shown it for"), "{ended:?}");
    stop.cancel();
    running.await.unwrap();
    cluster.stop().await;
}
