//! Three members of etcd, as Debian installs it, at its defaults, and the few messages of its API that are needed
//! (etcd's `api/etcdserverpb/rpc.proto`, field numbers as there).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::failover::Cluster;
use crate::load::{self, CLIENTS_PER_CONNECTION, Op, Target};
use crate::members::{COUNT, Members, Start, free_ports, until};

/// Longest call to a member that may be dead.
const CALL_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

/// The answer to a put or a range: only its header is looked at.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusAnswer {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
    #[prost(uint64, tag = "5")]
    raft_index: u64,
}

async fn unary<Q, A>(channel: &Channel, path: &'static str, request: Request<Q>) -> Result<A, Status>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static(path);
    Ok(grpc.unary(request, path, ProstCodec::<Q, A>::default()).await?.into_inner())
}

/// Whether the program is there.
pub(crate) fn is_installed() -> bool {
    Command::new("etcd").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The first line of what it says of itself.
pub(crate) fn version() -> String {
    let output = Command::new("etcd").arg("--version").output();
    output.ok().and_then(|o| String::from_utf8_lossy(&o.stdout).lines().next().map(str::to_owned)).unwrap_or_default()
}

/// The cluster.
pub(crate) struct Etcd {
    pub(crate) members: Members,
    pub(crate) cold_start: Duration,
    addresses: Vec<String>,
    ca: String,
}

impl Etcd {
    /// Starts three members with TLS to clients (the given certificate) and between themselves (their own).
    pub(crate) async fn start(dir: &Path, (cert, key, ca): (PathBuf, PathBuf, String)) -> Result<Self> {
        std::fs::create_dir_all(dir).context("make a folder")?;
        let ports = free_ports(COUNT * 2)?;
        let peer = |n: usize| format!("https://127.0.0.1:{}", ports[COUNT + n]);
        let all: Vec<String> = (0..COUNT).map(|n| format!("m{n}={}", peer(n))).collect();
        let starts = (0..COUNT).map(|n| {
            let client = format!("https://127.0.0.1:{}", ports[n]);
            let pairs = [
                ("name", format!("m{n}")),
                ("data-dir", dir.join(format!("m{n}")).display().to_string()),
                ("listen-client-urls", client.clone()),
                ("advertise-client-urls", client),
                ("listen-peer-urls", peer(n)),
                ("initial-advertise-peer-urls", peer(n)),
                ("initial-cluster", all.join(",")),
                ("initial-cluster-state", "new".to_owned()),
                ("cert-file", cert.display().to_string()),
                ("key-file", key.display().to_string()),
                ("peer-auto-tls", "true".to_owned()),
                ("enable-grpc-gateway", "false".to_owned()),
            ];
            let arguments = pairs.map(|(name, value)| format!("--{name}={value}")).to_vec();
            Start { program: "etcd".into(), arguments, log: dir.join(format!("m{n}.log")) }
        });
        let begin = Instant::now();
        let members = Members::start(starts.collect())?;
        let addresses = ports[..COUNT].iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut this = Self { members, cold_start: Duration::ZERO, addresses, ca };
        let calls = this.calls(0, 1).await?;
        until("etcd's first write", || async { calls.call(Op::Write, 0, 0).await.ok() }).await?;
        this.cold_start = begin.elapsed();
        Ok(this)
    }

    /// Connections to the leader for so many clients.
    pub(crate) async fn target(&self, clients: usize) -> Result<Calls> {
        let leader = until("etcd's leader", || self.leader()).await?;
        self.calls(leader, clients.div_ceil(CLIENTS_PER_CONNECTION)).await
    }

    async fn calls(&self, place: usize, connections: usize) -> Result<Calls> {
        let mut channels = Vec::new();
        for _ in 0..connections {
            channels.push(load::channel(&self.addresses[place], &self.ca).await?);
        }
        Ok(Calls { channels })
    }

    async fn status(&self, place: usize) -> Option<StatusAnswer> {
        let channel = load::channel(&self.addresses[place], &self.ca).await.ok()?;
        let mut request = Request::new(StatusRequest {});
        request.set_timeout(CALL_MAX);
        unary(&channel, "/etcdserverpb.Maintenance/Status", request).await.ok()
    }
}

impl Cluster for Etcd {
    type Calls = Calls;

    fn members(&mut self) -> &mut Members {
        &mut self.members
    }

    async fn leader(&self) -> Option<usize> {
        for place in 0..COUNT {
            if let Some(status) = self.status(place).await
                && status.header.is_some_and(|header| header.member_id == status.leader)
            {
                return Some(place);
            }
        }
        None
    }

    async fn calls_to(&self, place: usize) -> Result<Calls> {
        self.calls(place, 1).await
    }

    async fn is_caught_up(&self, place: usize) -> bool {
        let (mut known, mut own) = (0, 0);
        for at in 0..COUNT {
            let Some(status) = self.status(at).await else { return false };
            known = known.max(status.raft_index);
            if at == place {
                own = status.raft_index;
            }
        }
        own == known
    }
}

/// Calls over some connections.
#[derive(Clone)]
pub(crate) struct Calls {
    channels: Vec<Channel>,
}

impl Target for Calls {
    async fn call(&self, op: Op, client: usize, count: u64) -> Result<(), Status> {
        let channel = &self.channels[client % self.channels.len()];
        let key = format!("bench/{client:0>10}").into_bytes();
        let answer: Result<Answer, Status> = match op {
            Op::Write => {
                let put = PutRequest { key, value: load::value(count).into_bytes() };
                unary(channel, "/etcdserverpb.KV/Put", Request::new(put)).await
            }
            // Ranges of etcd are linearizable unless asked otherwise.
            Op::Read => unary(channel, "/etcdserverpb.KV/Range", Request::new(RangeRequest { key })).await,
        };
        answer.map(drop)
    }
}
