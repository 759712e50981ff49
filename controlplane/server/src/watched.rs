//! Nodes that are not the platform's: they are asked over plain HTTP, and nothing is ever done to them.
//!
//! [`Watched`] is an adapter that can dial and nothing else, so that an engine can ask such a node what it asks of its own, and
//! every act through it is refused whoever tries. What answers is believed only while it shows the pinned chain id and
//! first block: another chain at the same address is told of, and its heights are not taken over.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use hanse_adapters_core::{
    Adapter, AdapterError, Artifact, FileSpec, HostFacts, InstanceKey, InstanceSpec, InstanceStatus, Result, RunOutput,
    RunSpec, Stream,
};
use hanse_engines_core::{Engine, EngineError, NodePlan};
use hanse_state::State;
use hanse_state::chain::Chain;
use hanse_state::chain::imported::Endpoint;
use hanse_state::chain::node::{Node, instance_object};
use tokio::net::TcpStream;

/// Longest hash that a stranger's answer is quoted with.
const HASH_CHARS_MAX: usize = 66;
/// How long a connection may take to open.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// The engines' name for the port of the consensus.
const CONSENSUS_RPC: &str = "consensus-rpc";

/// The way to a node that is only watched.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    endpoint: Endpoint,
}

impl Watched {
    /// The way to this endpoint; nothing is opened yet.
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        Self { endpoint: endpoint.clone() }
    }

    fn never<T>(&self, act: &str) -> Result<T> {
        Err(AdapterError::Denied {
            subject: self.endpoint.to_string(),
            reason: format!("it belongs to an imported chain, which is only watched: {act} is never done there"),
        })
    }
}

#[async_trait]
impl Adapter for Watched {
    async fn inspect(&self) -> Result<HostFacts> {
        self.never("looking at its host")
    }

    async fn put_artifact(&self, _artifact: &Artifact) -> Result<()> {
        self.never("putting a program")
    }

    async fn put_files(&self, _key: &InstanceKey, _files: &[FileSpec]) -> Result<()> {
        self.never("writing files")
    }

    async fn run(&self, _key: &InstanceKey, _spec: &RunSpec) -> Result<RunOutput> {
        self.never("running a program")
    }

    async fn ensure(&self, _spec: &InstanceSpec) -> Result<InstanceStatus> {
        self.never("starting a process")
    }

    async fn look(&self, _key: &InstanceKey) -> Result<Option<InstanceStatus>> {
        self.never("looking at its process")
    }

    async fn stop(&self, _key: &InstanceKey, _grace: Duration) -> Result<()> {
        self.never("stopping a process")
    }

    async fn remove(&self, _key: &InstanceKey) -> Result<()> {
        self.never("removing anything")
    }

    async fn list(&self, _cluster: &str) -> Result<Vec<InstanceStatus>> {
        self.never("listing instances")
    }

    async fn tail(&self, _key: &InstanceKey, _lines: u32) -> Result<String> {
        self.never("reading its log")
    }

    async fn dial(&self, port: u16) -> Result<Box<dyn Stream>> {
        let Endpoint { host, rpc_port, consensus_port } = &self.endpoint;
        if port != *rpc_port && Some(port) != *consensus_port {
            return self.never("dialling another port");
        }
        let silent =
            |error: io::Error| AdapterError::Transient { subject: format!("{host}:{port}"), reason: error.to_string() };
        Ok(Box::new(in_time(TcpStream::connect((host.as_str(), port))).await.map_err(silent)?))
    }
}

/// The node as its engine needs to know it to ask; `None` if it cannot be named.
pub(crate) fn plan(state: &State, node: &Node, endpoint: &Endpoint) -> Option<NodePlan> {
    let cluster = state.cluster.as_ref()?.id.to_string();
    let key = InstanceKey::new(&cluster, &instance_object(&node.key))?;
    Some(question(key, endpoint))
}

/// An endpoint that is no node of a chain yet, as an engine needs to know it to ask.
pub(crate) fn question(key: InstanceKey, endpoint: &Endpoint) -> NodePlan {
    NodePlan {
        key,
        generation: 0,
        host_address: endpoint.host.clone(),
        own_network: false,
        p2p_port: 0,
        rpc_port: endpoint.rpc_port,
        ports: endpoint.consensus_port.map(|port| (CONSENSUS_RPC.to_owned(), port)).into_iter().collect(),
        parameters: std::collections::BTreeMap::new(),
        identity: None,
        signed: None,
        halt: None,
        program: None,
    }
}

/// Returns why what answers at an endpoint is not the chain that is pinned; `None` if it is.
///
/// # Errors
/// It could not be asked.
pub(crate) async fn stranger(
    engine: &dyn Engine,
    adapter: &Watched,
    plan: &NodePlan,
    pinned: (u64, &str),
) -> std::result::Result<Option<String>, EngineError> {
    let seen = engine.mark(adapter, plan).await?;
    if (seen.chain_id, seen.first_block.as_str()) == pinned {
        return Ok(None);
    }
    // A stranger's words, of any length.
    let shown: String = seen.first_block.chars().take(HASH_CHARS_MAX).collect();
    let first_block = if pinned.1.is_empty() { "no first block" } else { pinned.1 };
    Ok(Some(format!(
        "another chain answers at {}: chain id {}, first block {}; pinned are {} and {first_block}. Nothing that it says is believed",
        adapter.endpoint, seen.chain_id, shown, pinned.0
    )))
}

/// What is known of whether a node of the pinned chain runs behind an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// None does: connections are refused there, or another chain answers.
    None,
    /// One does, or something that may be one: it takes connections and is not seen to be of another chain.
    Some(String),
    /// It cannot be told: a machine that cannot be reached from here may run it all the same.
    Unknown(String),
}

/// Says whether a node of the pinned chain answers at an endpoint. Only refusing connections, at every address of its host, is silence.
pub(crate) async fn answers(engine: &dyn Engine, endpoint: &Endpoint, plan: &NodePlan, pinned: (u64, &str)) -> Answer {
    match is_refused(endpoint).await {
        Ok(true) => return Answer::None,
        Ok(false) => {}
        Err(error) => {
            return Answer::Unknown(format!("it cannot be told whether a node still answers at {endpoint}: {error}"));
        }
    }
    let adapter = Watched::new(endpoint);
    match tokio::time::timeout(DIAL_LIMIT, stranger(engine, &adapter, plan, pinned)).await {
        Ok(Ok(Some(_))) => Answer::None,
        Ok(Ok(None)) => Answer::Some(format!("a node of the chain still answers at {endpoint}")),
        Ok(Err(error)) => Answer::Some(format!("something still answers at {endpoint} ({error})")),
        Err(_) => {
            Answer::Some(format!("something still listens at {endpoint}, and says nothing within {DIAL_LIMIT:?}"))
        }
    }
}

/// Whether every address of the endpoint's host refuses connections to its port; `false` as soon as one takes them.
async fn is_refused(endpoint: &Endpoint) -> io::Result<bool> {
    let Endpoint { host, rpc_port, .. } = endpoint;
    let addresses: Vec<SocketAddr> = in_time(tokio::net::lookup_host((host.as_str(), *rpc_port))).await?.collect();
    if addresses.is_empty() {
        return Err(io::Error::other("its host has no address"));
    }
    let tries = addresses.iter().map(|address| async move { (address, in_time(TcpStream::connect(address)).await) });
    let tried = futures::future::join_all(tries).await;
    if tried.iter().any(|(_, opened)| opened.is_ok()) {
        return Ok(false);
    }
    let unclear = |error: &io::Error| error.kind() != io::ErrorKind::ConnectionRefused;
    let unclear =
        tried.iter().find_map(|(address, opened)| Some((address, opened.as_ref().err().filter(|it| unclear(it))?)));
    unclear.map_or(Ok(true), |(address, error)| Err(io::Error::new(error.kind(), format!("{address}: {error}"))))
}

async fn in_time<T>(opening: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {} s", DIAL_LIMIT.as_secs()));
    tokio::time::timeout(DIAL_LIMIT, opening).await.map_err(|_| late())?
}

/// What an imported chain is pinned to: its chain id and its first block's hash; empty if it was not imported.
pub(crate) fn pinned(chain: &Chain) -> (u64, &str) {
    (chain.spec.chain_id, chain.imported.as_ref().map_or("", |imported| imported.first_block.as_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;

    use super::*;

    fn endpoint(host: &str, rpc_port: u16) -> Endpoint {
        Endpoint { host: host.into(), rpc_port, consensus_port: None }
    }

    #[tokio::test]
    async fn only_a_refused_connection_is_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_refused(&endpoint("127.0.0.1", port)).await.unwrap());
        drop(listener);
        assert!(is_refused(&endpoint("127.0.0.1", port)).await.unwrap());
        // No machine there is reached, and no name leads to one: it may run all the same.
        for host in ["255.255.255.255", "no-such-host.invalid"] {
            let told = is_refused(&endpoint(host, port)).await;
            assert!(told.is_err(), "{host}: {told:?}");
        }
    }

    /// Its queue is full, as that of a machine that drops what comes: nothing refuses the connection, and nothing takes it.
    #[tokio::test]
    async fn a_connection_that_is_not_taken_in_time_is_no_silence() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
            held.push(stream);
            assert!(held.len() < 100, "its queue never fills");
        }
        let told = is_refused(&endpoint("127.0.0.1", address.port())).await;
        assert_eq!(told.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
