//! The calling side of the peer service: openraft's network over gRPC with mutual TLS.
//!
//! One lazy channel for each target and purpose, so that a large append or a snapshot never stands before a heartbeat.
//! Every call has the deadline openraft gives it; a connection that stays silent is found by HTTP/2 pings within an
//! election timeout, so that a healed partition does not wait for a dead socket.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use hanse_state::cluster::version::Versions;
use openraft::base::BoxFuture;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::{RPCTypes, RaftNetworkV2};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::append_stream::{self, Wanted};
use crate::codec::{
    self, AppendAnswerV1, HeadsV1, HelloV1, SnapshotHeadV1, TransferAnswerV1, TransferV1, VoteAnswerV1, VoteCallV1,
    VoteV1,
};
use crate::config::Timings;
use crate::error::RaftError;
use crate::frames;
use crate::machine::Core;
use crate::membership::Roll;
use crate::pb::peer_client::PeerClient;
use crate::pb::{Answer, Call};
use crate::producer::Producer;
use crate::snapshot::SnapshotFiles;
use crate::stop::Stop;
use crate::tls::{PeerTls, peer_name};
use crate::types::{Member, ReplicaId, SnapshotMeta, Types, Vote};
use crate::versions;
use crate::wal::Wal;

/// Longest message either side takes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Parts that wait for the wire.
const PARTS_WAITING: usize = 4;
/// Pings and connections wait this long, however short the election times are: a busy machine is no partition.
const PING_MIN: Duration = Duration::from_millis(500);
/// Entries wait this long for the target's fsync.
const APPEND_MIN: Duration = Duration::from_secs(1);
/// Whoever is asked for its versions has this long, however short the election times are: a wrong "no answer" costs a
/// person another try.
const VERSIONS_MIN: Duration = Duration::from_secs(2);
/// Longest a whole snapshot may take; a dead peer is found long before by the pings.
const SNAPSHOT_TRANSFER: Duration = Duration::from_secs(600);

type Openraft<T> = openraft::type_config::alias::SnapshotOf<Types, T>;

/// What every connection needs.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) cluster: String,
    pub(crate) id: ReplicaId,
    /// Addresses of the configuration; they stand above those of the log, so that a machine can move.
    pub(crate) members: Arc<BTreeMap<ReplicaId, Member>>,
    pub(crate) tls: PeerTls,
    pub(crate) timings: Timings,
    pub(crate) core: Arc<Core>,
    /// Random name of this replica's data folder.
    pub(crate) incarnation: Arc<str>,
    pub(crate) roll: Arc<Roll>,
    pub(crate) stop: Stop,
}

/// Metadata in which a refusal says what is wrong with the caller for ever.
pub(crate) const VERDICT: &str = "x-hanse-verdict";
/// The caller was removed.
pub(crate) const VERDICT_REMOVED: &str = "removed";
/// The caller's build does not speak the version that the cluster is at.
pub(crate) const VERDICT_TOO_OLD: &str = "too-old";
/// The caller is known with another data folder.
pub(crate) const VERDICT_EMPTIED: &str = "emptied";

impl Network {
    /// Asks whether `target` has room on its disk.
    ///
    /// # Errors
    /// In words, why it has not, or what kept it from answering.
    pub(crate) async fn has_room(&self, target: ReplicaId, member: &Member) -> Result<(), String> {
        let channel = self.channel(target, member).map_err(|e| e.to_string())?;
        let connection = Connection::new(self, target, member, Some(PeerClient::new(channel)));
        let limit = Duration::from_millis(self.timings.election_min_ms);
        let asked = connection.ask(limit, codec::encode(&()), |mut c, r| async move { c.heads(r).await }).await;
        asked.map(|_: HeadsV1| ()).map_err(|error| match error {
            CallError::Late(limit) => format!("no answer within {limit:?}"),
            CallError::Refused(why) | CallError::Broken(why) => why,
        })
    }

    /// Asks whether `target` holds anything of this cluster; `None` if it gives no answer.
    pub(crate) async fn hello(&self, target: ReplicaId, member: &Member) -> Option<bool> {
        let limit = Duration::from_millis(self.timings.election_min_ms);
        self.greet(target, member, limit).await.map(|(HelloV1 { holds_data }, _)| holds_data)
    }

    /// Asks which cluster versions the process of `target` speaks; `None` if it gives no answer.
    pub(crate) async fn versions(&self, target: ReplicaId, member: &Member) -> Option<Versions> {
        let limit = Duration::from_millis(self.timings.election_max_ms).max(VERSIONS_MIN);
        self.greet(target, member, limit).await.map(|(_, versions)| versions)
    }

    async fn greet(&self, target: ReplicaId, member: &Member, limit: Duration) -> Option<(HelloV1, Versions)> {
        let client = self.channel(target, member).ok().map(PeerClient::new);
        let connection = Connection::new(self, target, member, client);
        let asked = connection.ask_whole(limit, codec::encode(&()), |mut c, r| async move { c.hello(r).await }).await;
        asked.ok()
    }

    /// Stops this replica if the refusal says that it can never be accepted. The other end is who it says it is: TLS
    /// demanded its name.
    fn heed(&self, status: &tonic::Status) {
        match status.metadata().get(VERDICT).and_then(|verdict| verdict.to_str().ok()) {
            Some(VERDICT_REMOVED) => self.stop.set(RaftError::Removed(status.message().to_owned())),
            Some(VERDICT_TOO_OLD) => self.stop.set(RaftError::TooOld(status.message().to_owned())),
            Some(VERDICT_EMPTIED) => self.stop.set(RaftError::Emptied(status.message().to_owned())),
            Some(_) | None => {}
        }
    }

    fn address<'a>(&'a self, target: ReplicaId, member: &'a Member) -> &'a str {
        &self.members.get(&target).unwrap_or(member).peer_address
    }

    /// How often a silent connection is asked whether anybody is there.
    pub(crate) fn ask_every(&self) -> Duration {
        Duration::from_millis(self.timings.election_min_ms / 2).max(PING_MIN)
    }

    fn connect_limit(&self) -> Duration {
        Duration::from_millis(self.timings.election_min_ms).max(PING_MIN)
    }

    fn channel(&self, target: ReplicaId, member: &Member) -> Result<Channel, tonic::transport::Error> {
        let address = self.address(target, member);
        let half = self.ask_every();
        let endpoint = Endpoint::from_shared(format!("https://{address}"))?
            .tls_config(self.tls.client(peer_name(&self.cluster, target)))?
            .connect_timeout(self.connect_limit())
            .http2_keep_alive_interval(half)
            .keep_alive_timeout(half)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        Ok(endpoint.connect_lazy())
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: ReplicaId, node: &Member) -> Connection {
        let client = self.channel(target, node).map(|channel| {
            PeerClient::new(channel)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
        });
        if let Err(error) = &client {
            tracing::error!(%target, %error, "the peer's address or our certificates cannot be used");
        }
        Connection::new(self, target, node, client.ok())
    }
}

/// Who calls whom.
#[derive(Clone)]
pub(crate) struct Caller {
    network: Network,
    target: ReplicaId,
}

impl Caller {
    pub(crate) fn call(&self, body: Vec<u8>) -> Call {
        let target = self.target.0;
        let (speaks_oldest, speaks_newest) = versions::own();
        let expected = self.network.core.ask_replicas(|it| it.incarnation(target).map(str::to_owned)).flatten();
        Call {
            cluster: self.network.cluster.clone(),
            sender: self.network.id.0,
            target,
            body,
            sender_incarnation: self.network.incarnation.to_string(),
            target_incarnation: expected.unwrap_or_default(),
            speaks_oldest,
            speaks_newest,
        }
    }
}

/// A channel to one replica.
pub(crate) struct Connection {
    caller: Caller,
    /// Where it is.
    address: String,
    client: Option<PeerClient<Channel>>,
    /// Whether the target takes appends in a stream, as far as is known.
    pub(crate) streams: bool,
}

/// Answers to calls in a stream.
pub(crate) type CallAnswers = Pin<Box<dyn Stream<Item = Result<Answer, tonic::Status>> + Send>>;

/// Why a call gave nothing.
pub(crate) enum CallError {
    Late(Duration),
    Refused(String),
    Broken(String),
}

impl CallError {
    fn into_rpc(self, action: RPCTypes, id: ReplicaId, target: ReplicaId) -> RPCError<Types> {
        match self {
            Self::Late(timeout) => RPCError::Timeout(Timeout { action, id, target, timeout }),
            Self::Refused(why) => RPCError::Unreachable(Unreachable::from_string(why)),
            Self::Broken(why) => RPCError::Network(NetworkError::from_string(why)),
        }
    }
}

impl Connection {
    fn new(network: &Network, target: ReplicaId, member: &Member, client: Option<PeerClient<Channel>>) -> Self {
        let address = network.address(target, member).to_owned();
        Self { caller: Caller { network: network.clone(), target }, address, client, streams: true }
    }

    /// Hands calls to the target, in frames if it knows them; gives the answers as they come.
    ///
    /// # Errors
    /// [`CallError`] if it cannot be reached or refuses; nothing is known of what was taken from `calls`.
    pub(crate) async fn append_stream<C>(&mut self, calls: C) -> Result<CallAnswers, CallError>
    where
        C: Stream<Item = Call> + Send + 'static,
    {
        let Caller { network, target } = &self.caller;
        let config = network.tls.dialler().map_err(|e| CallError::Refused(e.to_string()))?;
        let (limit, name) = (network.connect_limit(), peer_name(&network.cluster, *target));
        let dialled = frames::dial(&self.address, config, &name, limit).await;
        match dialled.map_err(|e| CallError::Refused(format!("{}: {e}", self.address)))? {
            Some(stream) => Ok(Box::pin(frames::call(stream, calls, network.ask_every()))),
            None => {
                let answers = self.client()?.append_stream(calls).await;
                let answers = answers.map_err(|status| {
                    self.streams = status.code() != Code::Unimplemented;
                    self.refused(&status)
                })?;
                Ok(Box::pin(answers.into_inner()))
            }
        }
    }

    pub(crate) fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// Follows the last entry of this replica's log.
    pub(crate) fn appended(&self) -> Result<watch::Receiver<u64>, CallError> {
        let log = self.caller.network.core.store.log();
        log.map(Wal::appended).ok_or_else(|| CallError::Refused("the log is not open".into()))
    }

    /// As openraft wants to hear of an append that failed.
    pub(crate) fn append_failed(&self, error: CallError) -> RPCError<Types> {
        error.into_rpc(RPCTypes::AppendEntries, self.caller.network.id, self.caller.target)
    }

    pub(crate) fn refused(&self, status: &tonic::Status) -> CallError {
        self.caller.network.heed(status);
        let cause = std::error::Error::source(status).map(|e| format!(": {e}")).unwrap_or_default();
        CallError::Refused(format!("{}: {}{cause}", status.code(), status.message()))
    }

    pub(crate) fn client(&self) -> Result<PeerClient<Channel>, CallError> {
        self.client.clone().ok_or_else(|| CallError::Refused("no usable address or certificate".into()))
    }

    /// Makes one call within its deadline and checks who answered.
    async fn ask<T, F>(
        &self,
        limit: Duration,
        body: Vec<u8>,
        rpc: impl FnOnce(PeerClient<Channel>, tonic::Request<Call>) -> F,
    ) -> Result<T, CallError>
    where
        T: serde::de::DeserializeOwned,
        F: Future<Output = Result<tonic::Response<Answer>, tonic::Status>>,
    {
        self.ask_whole(limit, body, rpc).await.map(|(body, _)| body)
    }

    /// As [`Connection::ask`], with the versions that the target says it speaks.
    async fn ask_whole<T, F>(
        &self,
        limit: Duration,
        body: Vec<u8>,
        rpc: impl FnOnce(PeerClient<Channel>, tonic::Request<Call>) -> F,
    ) -> Result<(T, Versions), CallError>
    where
        T: serde::de::DeserializeOwned,
        F: Future<Output = Result<tonic::Response<Answer>, tonic::Status>>,
    {
        let mut request = tonic::Request::new(self.caller.call(body));
        request.set_timeout(limit);
        let answer = tokio::time::timeout(limit, rpc(self.client()?, request)).await;
        let answer = answer.map_err(|_| CallError::Late(limit))?;
        let answer = answer.map_err(|status| self.refused(&status))?.into_inner();
        let versions = versions::said(answer.speaks_oldest, answer.speaks_newest);
        Ok((self.open(answer)?, versions))
    }

    pub(crate) fn open<T: serde::de::DeserializeOwned>(&self, answer: Answer) -> Result<T, CallError> {
        let Caller { network, target } = &self.caller;
        if answer.replica != target.0 {
            return Err(CallError::Refused(format!("replica {} answered for {target}", answer.replica)));
        }
        if !answer.incarnation.is_empty() {
            network.roll.hear(*target, &answer.incarnation);
        }
        codec::decode(&answer.body).map_err(|e| CallError::Broken(e.to_string()))
    }

    /// Streams a snapshot and the history the target lacks.
    async fn send_snapshot(&self, vote: Vote, meta: SnapshotMeta, files: SnapshotFiles) -> Result<VoteV1, CallError> {
        let limit = Duration::from_millis(self.caller.network.timings.election_max_ms);
        let theirs: HeadsV1 = self.ask(limit, codec::encode(&()), |mut c, r| async move { c.heads(r).await }).await?;
        let head = codec::encode(&SnapshotHeadV1 { vote: vote.into(), meta: (&meta).into() });
        let (parts, receiver) = mpsc::channel(PARTS_WAITING);
        let produce =
            Producer { parts, core: self.caller.network.core.clone() }.run(self.caller.call(head), files, theirs);
        let mut client = self.client()?;
        let send = client.snapshot(ReceiverStream::new(receiver));
        let both = async {
            // The call ends when the producer drops its sender; its error says more than the broken stream it leaves.
            let (produced, answer) = tokio::join!(produce, send);
            match (produced, answer) {
                (_, Ok(answer)) => self.open(answer.into_inner()),
                (Err(e), Err(_)) => Err(CallError::Broken(e.to_string())),
                (Ok(()), Err(status)) => Err(self.refused(&status)),
            }
        };
        tokio::time::timeout(SNAPSHOT_TRANSFER, both).await.map_err(|_| CallError::Late(SNAPSHOT_TRANSFER))?
    }
}

/// How long appends may take. openraft gives one heartbeat. That is right for a heartbeat; entries wait for the target's
/// fsync, and for a stream of appends the option bounds silence, not the whole (RPCOption), so they may take longer.
fn limits(option: &RPCOption) -> append_stream::Limits {
    append_stream::Limits { empty: option.soft_ttl(), entries: option.soft_ttl().max(APPEND_MIN) }
}

impl RaftNetworkV2<Types> for Connection {
    type SnapshotData = SnapshotFiles;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let limits = limits(&option);
        let limit = if rpc.entries.is_empty() { limits.empty } else { limits.entries };
        let body = codec::encode_append(&rpc);
        let answer: Result<AppendAnswerV1, _> =
            self.ask(limit, body, |mut c, r| async move { c.append(r).await }).await;
        answer.map(Into::into).map_err(|e| self.append_failed(e))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<append_stream::Answers<'s>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        if !std::mem::replace(&mut self.streams, true) {
            // After one session without, the stream is tried again: the target may have been upgraded.
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            match Wanted::look(input).await {
                Wanted::Nothing => Ok(Box::pin(stream::empty()) as append_stream::Answers<'s>),
                Wanted::One(append) => stream_append_sequential(self, stream::iter([append]), option).await,
                Wanted::Many(first, input) => {
                    let caller = self.caller();
                    let opened = append_stream::open(self, first, input, limits(&option)).await;
                    opened.map_err(|e| e.into_rpc(RPCTypes::AppendEntries, caller.network.id, caller.target))
                }
            }
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let body = codec::encode(&VoteCallV1::from(&rpc));
        let answer: Result<VoteAnswerV1, _> =
            self.ask(option.soft_ttl(), body, |mut c, r| async move { c.vote(r).await }).await;
        answer.map(Into::into).map_err(|e| e.into_rpc(RPCTypes::Vote, self.caller.network.id, self.caller.target))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let body = codec::encode(&VoteCallV1::from(&rpc));
        let answer: Result<VoteAnswerV1, _> =
            self.ask(option.soft_ttl(), body, |mut c, r| async move { c.pre_vote(r).await }).await;
        answer.map(Into::into).map_err(|e| e.into_rpc(RPCTypes::Vote, self.caller.network.id, self.caller.target))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Openraft<SnapshotFiles>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot.meta, snapshot.snapshot) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote.into())),
                Err(e) => Err(e.into_rpc(RPCTypes::InstallSnapshot, self.caller.network.id, self.caller.target).into()),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<openraft::raft::TransferLeaderResponse<Types>, RPCError<Types>> {
        let body = codec::encode(&TransferV1 {
            from: (*req.from_leader()).into(),
            to: req.to_node_id().0,
            last: req.last_log_id().copied().map(Into::into),
        });
        let answer: Result<TransferAnswerV1, _> =
            self.ask(option.soft_ttl(), body, |mut c, r| async move { c.transfer_leader(r).await }).await;
        answer
            .map(Into::into)
            .map_err(|e| e.into_rpc(RPCTypes::TransferLeader, self.caller.network.id, self.caller.target))
    }
}
