//! A chain of real validators on this machine, driven the way the control plane does it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_consensus::{SignableTransaction, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256};
use futures::future::join_all;
use hanse_adapters_core::{InstanceKey, RunState};
use hanse_adapters_local::LocalAdapter;
use hanse_engines_cometbft::CometBftEngine;
use hanse_engines_core::{
    ChainPlan, Engine, NodeHealth, NodeIdentity, NodePlan, Peer, Progress, Role, Seat, Transaction, conformance,
};
use hanse_hostrun::{Act, Request};
use k256::ecdsa::SigningKey;

use crate::parts;

pub(crate) const CHAIN_ID: u64 = 4_242;
/// How long anything may take on a slow machine before the test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// Nodes on one host. All are prepared and know each other; the first `founders` are in the genesis.
pub(crate) struct Net {
    pub(crate) engine: CometBftEngine,
    pub(crate) host: LocalAdapter,
    pub(crate) root: PathBuf,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) identities: Vec<NodeIdentity>,
    pub(crate) chain: ChainPlan,
    key: SigningKey,
    nonce: u64,
}

impl Net {
    /// Prepares `count` nodes at once, makes the genesis of the first `founders` and configures all. Nothing runs yet.
    pub(crate) async fn prepare(root: &Path, count: usize, founders: usize) -> Self {
        let engine = CometBftEngine::new(parts::bundle(root), parts::profile());
        let host = LocalAdapter::new(root.join("host"), parts::supervisor());
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let chain = chain(&key);
        let mut nodes = plans(count, engine.ports(), &chain);
        // Once for all: otherwise every node would hash the same program at the same time.
        engine.prepare(&host, &nodes[0]).await.unwrap();
        let made = join_all(nodes.iter().map(async |node| {
            let identity = engine.prepare(&host, node).await.unwrap();
            let contribution = engine.contribute(&host, node, &chain, &identity).await.unwrap();
            NodeIdentity { contribution, ..identity }
        }));
        let identities = made.await;
        let genesis = engine.genesis(&chain, &identities[..founders]).unwrap();
        let peers: Vec<Peer> = nodes
            .iter()
            .zip(&identities)
            .map(|(node, identity)| Peer {
                identity: identity.clone(),
                address: format!("127.0.0.1:{}", node.p2p_port),
            })
            .collect();
        for (node, identity) in nodes.iter_mut().zip(&identities) {
            engine.configure(&host, node, identity, &genesis, &peers).await.unwrap();
            node.identity = Some(identity.clone());
        }
        Self { engine, host, root: root.join("host"), nodes, identities, chain, key, nonce: 0 }
    }

    pub(crate) async fn start(&self, node: usize) {
        let status = self.engine.start(&self.host, &self.nodes[node]).await.unwrap();
        assert!(matches!(status.run, RunState::Running { .. }), "{status:?}");
    }

    /// As the control plane restarts a node: a new generation, with what was seen of its signatures.
    pub(crate) async fn restart(&mut self, node: usize) {
        self.nodes[node].signed = self.engine.signed(&self.host, &self.nodes[node]).await.unwrap();
        self.nodes[node].generation += 1;
        self.start(node).await;
    }

    pub(crate) fn home(&self, node: usize) -> PathBuf {
        self.root.join("instances/test").join(self.nodes[node].key.object()).join("home")
    }

    pub(crate) async fn healthy(&self, node: usize, what: &str, holds: impl Fn(&NodeHealth) -> bool) -> NodeHealth {
        conformance::healthy(&self.engine, (&self.host, &self.nodes[node]), (what, LIMIT), holds).await
    }

    /// Asks for a role until the chain says that it is so.
    pub(crate) async fn role(&self, node: usize, role: Role, others: &[usize]) -> Vec<String> {
        let seat = |n: usize| Seat { host: &self.host, node: &self.nodes[n], identity: &self.identities[n] };
        let others: Vec<_> = others.iter().map(|n| seat(*n)).collect();
        let mut said = Vec::new();
        conformance::until("its role", LIMIT, async || {
            match self.engine.ensure_role(&self.chain, &seat(node), role, &others).await.unwrap() {
                Progress::Done => return Ok(()),
                Progress::Waits { reason } => said.push(reason),
            }
            Err(format!("{role:?}: {said:#?}"))
        })
        .await;
        said
    }

    pub(crate) async fn validators(&self, node: usize) -> Vec<String> {
        let list = self.engine.validators(&self.host, &self.nodes[node]).await.unwrap();
        assert!(list.iter().all(|one| one.power == 1_000), "equal power: {list:?}");
        list.into_iter().map(|one| one.public_key).collect()
    }

    pub(crate) fn signed(&mut self, to: TxKind, value: u64, input: &[u8]) -> Vec<u8> {
        let tx = TxLegacy {
            chain_id: Some(CHAIN_ID),
            nonce: self.nonce,
            gas_price: 1,
            gas_limit: 1_000_000,
            to,
            value: U256::from(value),
            input: Bytes::copy_from_slice(input),
        };
        self.nonce += 1;
        let (signature, recovery) = self.key.sign_prehash_recoverable(tx.signature_hash().as_slice()).unwrap();
        tx.into_signed(Signature::from((signature, recovery))).encoded_2718()
    }

    pub(crate) async fn done(&self, hash: &str) -> Transaction {
        conformance::included(&self.engine, (&self.host, &self.nodes[1]), hash, LIMIT).await
    }

    pub(crate) async fn send(&mut self, to: TxKind, value: u64, input: &[u8]) -> Transaction {
        let raw = self.signed(to, value, input);
        let hash = self.engine.send_raw(&self.host, &self.nodes[0], &raw).await.unwrap();
        self.done(&hash).await
    }

    pub(crate) fn sender(&self) -> String {
        address(&self.key)
    }
}

impl Drop for Net {
    /// Also after a failure: a test leaves no process behind.
    fn drop(&mut self) {
        let host = hanse_hostrun::Host::new(&self.root, &parts::supervisor());
        for node in &self.nodes {
            let removed = host.handle(Request::new(Act::Remove { key: node.key.clone(), upto: None })).into_result();
            if let Err(error) = removed {
                eprintln!("{}: {error}", node.key);
            }
        }
    }
}

fn address(key: &SigningKey) -> String {
    Address::from_private_key(key).to_string().to_lowercase()
}

fn chain(key: &SigningKey) -> ChainPlan {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let parameters =
        [("block_time_ms", 300), ("block_gas_limit", 30_000_000), ("vote_seconds", 5), ("double_sign_check_height", 0)];
    ChainPlan {
        chain_id: CHAIN_ID,
        genesis_time_ms: u64::try_from(now).unwrap(),
        parameters: parameters.map(|(name, value)| (name.to_owned(), value)).into(),
        alloc: [(address(key), "1000000000000000000000".to_owned())].into(),
        governance: None,
        anchor: None,
    }
}

fn plans(count: usize, names: &[&str], chain: &ChainPlan) -> Vec<NodePlan> {
    let each = names.len() + 2;
    // Held all at once, so that they differ; free again when this returns.
    let held: Vec<_> = (0..count * each).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<u16> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    let plan = |(n, ports): (usize, &[u16])| NodePlan {
        key: InstanceKey::new("test", &format!("org.chain.n{n}")).unwrap(),
        generation: 1,
        host_address: "127.0.0.1".into(),
        own_network: false,
        p2p_port: ports[0],
        rpc_port: ports[1],
        ports: names.iter().zip(&ports[2..]).map(|(name, port)| ((*name).to_owned(), *port)).collect(),
        parameters: chain.parameters.clone(),
        identity: None,
        signed: None,
        halt: None,
        program: None,
    };
    ports.chunks(each).enumerate().map(plan).collect()
}
