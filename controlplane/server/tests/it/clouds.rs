//! Clouds and machines by the API: who may order them, what is refused before a cloud is asked, and what is shown.

use hanse_proto::v1 as pb;
use hanse_state::Command;
use hanse_state::cloud::{MachineAct, MachineFact, RecordMachineFact, RecordMachineIntent};
use tonic::Code;

use crate::harness::*;

fn spec() -> pb::CloudSpec {
    pb::CloudSpec {
        kind: pb::CloudKind::Ec2.into(),
        endpoint: "https://ec2.example".into(),
        region: "r1".into(),
        credentials: "east.toml".into(),
        ssh_from: vec!["10.0.0.0/24".into()],
        user: "admin".into(),
        root: "/srv/hanse".into(),
        port_first: 30_000,
        port_count: 100,
        machines_max: 2,
        ..Default::default()
    }
}

pub fn add() -> pb::AddCloudRequest {
    pb::AddCloudRequest { request_id: request_id(), validate_only: false, cloud: "east".into(), spec: Some(spec()) }
}

fn create(machine: &str, preflight: bool) -> pb::CreateMachineRequest {
    let spec = pb::MachineSpec {
        cloud: "east".into(),
        image: "ami-1".into(),
        machine_type: "t3.micro".into(),
        slots: 2,
        ..Default::default()
    };
    let (request_id, machine) = (request_id(), machine.into());
    pb::CreateMachineRequest { request_id, validate_only: false, machine, spec: Some(spec), preflight }
}

#[tokio::test]
async fn clouds_are_the_platforms_and_machines_are_ordered_by_its_operators() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let owner = root.tenant("acme").await;
    let checked = pb::AddCloudRequest { validate_only: true, ..add() };
    root.clouds().add_cloud(checked).await.unwrap();
    assert_eq!(root.clouds().get_cloud(get()).await.unwrap_err().code(), Code::NotFound, "it was only checked");
    let request = add();
    let cloud = root.clouds().add_cloud(request.clone()).await.unwrap().into_inner().cloud.unwrap();
    assert_eq!((cloud.name.as_str(), cloud.spec.unwrap()), ("clouds/east", spec()));
    root.clouds().add_cloud(request).await.expect("a retry is answered as the first time");
    let bad =
        pb::AddCloudRequest { spec: Some(pb::CloudSpec { endpoint: "http://10.0.0.9".into(), ..spec() }), ..add() };
    let bad = root.clouds().add_cloud(pb::AddCloudRequest { cloud: "west".into(), ..bad }).await.unwrap_err();
    assert!(bad.code() == Code::InvalidArgument && bad.message().contains("endpoint"), "{bad:?}");

    // A tenant's accounts see nothing of it.
    assert_eq!(owner.clouds().get_cloud(get()).await.unwrap_err().code(), Code::NotFound);
    let list = pb::ListCloudsRequest::default();
    assert!(owner.clouds().list_clouds(list.clone()).await.unwrap().into_inner().clouds.is_empty());
    assert_eq!(root.clouds().list_clouds(list).await.unwrap().into_inner().clouds.len(), 1);
    assert_eq!(owner.clouds().create_machine(create("m1", false)).await.unwrap_err().code(), Code::PermissionDenied);

    // This replica reaches no cloud: a look says so, and an order that looks first is refused for it.
    let look = pb::CheckCloudRequest { cloud: "east".into(), ..Default::default() };
    let findings = root.clouds().check_cloud(look).await.unwrap().into_inner().findings;
    assert_eq!(findings[0].severity(), pb::PreflightSeverity::Error, "{findings:?}");
    let refused = root.clouds().create_machine(create("m1", true)).await.unwrap_err();
    assert!(
        refused.code() == Code::FailedPrecondition && refused.message().contains("reaches no clouds"),
        "{refused:?}"
    );
    let machine = root.clouds().create_machine(create("m1", false)).await.unwrap().into_inner().machine.unwrap();
    assert_eq!((machine.name.as_str(), machine.state()), ("machines/m1", pb::MachineState::Requested));
    let cloud = root.clouds().get_cloud(get()).await.unwrap().into_inner().cloud.unwrap();
    assert_eq!(cloud.machines, 1);

    // A data disk is refused by its field, and shown as it was ordered.
    let disk = |gib| {
        let mut request = create("m2", false);
        let data_disk = Some(pb::DataDisk { gib, kind: "gp3".into(), keep: true });
        request.spec = request.spec.map(|spec| pb::MachineSpec { data_disk, ..spec });
        request
    };
    let refused = root.clouds().create_machine(disk(0)).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("data_disk.gib"), "{refused:?}");
    let machine = root.clouds().create_machine(disk(200)).await.unwrap().into_inner().machine.unwrap();
    let shown = machine.spec.unwrap().data_disk.unwrap();
    assert_eq!((shown.gib, shown.kind.as_str(), shown.keep), (200, "gp3", true));
    cluster.stop().await;
}

fn get() -> pb::GetCloudRequest {
    pb::GetCloudRequest { cloud: "east".into() }
}

fn fingerprint() -> String {
    format!("SHA256:{}", "A".repeat(43))
}

fn fact(token: &str, fact: MachineFact) -> Command {
    let (machine, token) = ("m1".parse().unwrap(), token.parse().unwrap());
    Command::RecordMachineFact(RecordMachineFact { machine, token, fact })
}

/// Orders m1 and says what the leader would see of it until it is a host; returns its token.
pub async fn ready_machine(leader: &One, root: &Client) -> String {
    let made = root.clouds().create_machine(create("m1", false)).await.unwrap().into_inner().machine.unwrap();
    let (machine, token) = ("m1".parse().unwrap(), made.token.parse().unwrap());
    let act = RecordMachineIntent { machine, token, act: MachineAct::Create };
    leader.system(Command::RecordMachineIntent(act)).await;
    let (instance, fingerprint) = ("i-1".into(), fingerprint());
    leader.system(fact(&made.token, MachineFact::Launched { instance, fingerprint })).await;
    leader.system(fact(&made.token, MachineFact::Answers { address: "10.1.0.5".into(), zone: "r1a".into() })).await;
    made.token
}

#[tokio::test]
async fn a_machine_is_shown_as_it_goes_and_its_host_with_it() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    root.clouds().add_cloud(add()).await.unwrap();
    let leader = cluster.leader().await;
    let token = ready_machine(leader, &root).await;
    let list = pb::ListMachinesRequest { filter: "i-1".into(), ..Default::default() };
    let machine = root.clouds().list_machines(list).await.unwrap().into_inner().machines.remove(0);
    assert_eq!((machine.state(), machine.fingerprint.as_str()), (pb::MachineState::Ready, fingerprint().as_str()));
    let host =
        root.hosts().get_host(pb::GetHostRequest { host: "m1".into() }).await.unwrap().into_inner().host.unwrap();
    assert_eq!((host.zone.as_str(), host.labels["cloud"].as_str(), host.slots), ("r1a", "east", 2));

    let (request_id, reason) = (request_id(), "done".to_owned());
    let delete = pb::DeleteMachineRequest { request_id, validate_only: false, machine: "m1".into(), reason };
    root.clouds().delete_machine(delete.clone()).await.unwrap();
    let gone = root.hosts().get_host(pb::GetHostRequest { host: "m1".into() }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    leader.system(fact(&token, MachineFact::Gone)).await;
    root.clouds().delete_machine(delete).await.expect("a retry is answered as the first time");
    let gone = root.clouds().get_machine(pb::GetMachineRequest { machine: "m1".into() }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    cluster.stop().await;
}
