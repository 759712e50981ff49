//! The called side of the peer service.
//!
//! Each call must be of this cluster, for this replica, and from the replica its certificate names; anything else is
//! refused before Raft sees it. A snapshot is taken to disk part by part, checked whole (lengths, checksums), and only then
//! handed over; the history it brings goes into the store page by page, each checked, and stays when the rest is lost.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use hanse_state::State;
use openraft::Raft;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio_rustls::server::TlsStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use crate::codec::{
    self, AppendAnswerV1, AppendV1, HeadsV1, HelloV1, SnapshotHeadV1, StreamAnswerV1, TransferAnswerV1, TransferV1,
    VoteAnswerV1, VoteCallV1, VoteV1,
};
use crate::error::RaftError;
use crate::frames;
use crate::history;
use crate::machine::{Core, Machine, blocking};
use crate::network::{Network, VERDICT, VERDICT_EMPTIED, VERDICT_REMOVED, VERDICT_TOO_OLD};
use crate::pb::peer_server::Peer;
use crate::pb::snapshot_part::Part;
use crate::pb::{Answer, Call, SnapshotEnd, SnapshotPart};
use crate::snapshot::{SnapshotDir, SnapshotFiles};
use crate::stop::Stop;
use crate::tls::{names, peer_name};
use crate::types::{ReplicaId, SnapshotMeta, Types};
use crate::versions;

/// Longest wait for the next part of a snapshot.
const PART_WAIT: Duration = Duration::from_secs(30);
/// Longest snapshot file taken.
const STATE_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// Shortest time after which a caller of frames that says nothing has gone; replicas may have other timings than this one.
const SILENCE_MIN: Duration = Duration::from_secs(20);
/// Snapshots taken at once: there is one leader.
const SNAPSHOTS_AT_ONCE: usize = 1;

/// Answers peers; a clone is another handle.
#[derive(Clone)]
pub(crate) struct PeerService {
    cluster: String,
    id: ReplicaId,
    raft: Raft<Types, Machine>,
    core: Arc<Core>,
    incarnation: Arc<str>,
    /// A caller of frames that says nothing for so long has gone.
    silence: Duration,
    stop: Stop,
    receiving: Arc<Semaphore>,
}

impl PeerService {
    pub(crate) fn new(network: &Network, raft: Raft<Types, Machine>) -> Self {
        Self {
            cluster: network.cluster.clone(),
            id: network.id,
            raft,
            core: network.core.clone(),
            incarnation: network.incarnation.clone(),
            silence: (4 * network.ask_every()).max(SILENCE_MIN),
            stop: network.stop.clone(),
            receiving: Arc::new(Semaphore::new(SNAPSHOTS_AT_ONCE)),
        }
    }

    /// Checks who calls whom; gives the decoded body.
    fn open<T: serde::de::DeserializeOwned>(&self, call: &Call, certificates: &Certificates) -> Result<T, Status> {
        self.open_from(call, certificates, &mut None)
    }

    /// As [`PeerService::open`]; whom the certificate was found to name is in `proven`, and is not looked for again.
    fn open_from<T: serde::de::DeserializeOwned>(
        &self,
        call: &Call,
        certificates: &Certificates,
        proven: &mut Option<ReplicaId>,
    ) -> Result<T, Status> {
        if call.cluster != self.cluster {
            let why = format!("this is cluster {:?}, not {:?}", self.cluster, call.cluster);
            return Err(Status::failed_precondition(why));
        }
        if call.target != self.id.0 {
            let why = format!("this is replica {}, not {}", self.id, call.target);
            return Err(Status::failed_precondition(why));
        }
        let sender = ReplicaId(call.sender);
        if *proven != Some(sender) {
            let name = peer_name(&self.cluster, sender);
            let named = certificates.as_ref().is_some_and(|c| c.first().is_some_and(|der| names(der, &name)));
            if !named {
                return Err(Status::permission_denied(format!("the caller's certificate does not name {name}")));
            }
            *proven = Some(sender);
        }
        self.know(call)?;
        codec::decode(&call.body).map_err(|e| Status::invalid_argument(e.to_string()))
    }

    /// Takes appends in frames from a connection until it ends.
    pub(crate) async fn take_frames(self, stream: TlsStream<TcpStream>) {
        let certificates = stream.get_ref().1.peer_certificates().map(|chain| Arc::new(chain.to_vec()));
        let (calls, called) = frames::calls(stream, self.silence);
        called.answer(self.take_appends(certificates, calls)).await;
    }

    /// Hands appends to Raft as they come and gives its answers, in order; a refusal is the last.
    fn take_appends<C>(
        &self,
        certificates: Certificates,
        calls: C,
    ) -> impl Stream<Item = Result<Answer, Status>> + Send + 'static
    where
        C: Calls + 'static,
    {
        let appends = Appends { certificates, proven: None, calls: Box::pin(calls) };
        let (failure, failed) = oneshot::channel();
        let taken = stream::unfold((self.clone(), appends, failure), |(service, mut appends, failure)| async move {
            match service.next_append(&mut appends).await {
                Ok(append) => append.map(|append| (append, (service, appends, failure))),
                Err(status) => {
                    // Nobody to tell: the caller is gone.
                    let _ = failure.send(status);
                    None
                }
            }
        });
        let service = self.clone();
        let answers = self.raft.stream_append(taken).map(move |result| {
            let result = result.map_err(stopped)?;
            Ok(service.answer_stored(&StreamAnswerV1::from(result)).into_inner())
        });
        // What kept the next append from being taken comes after the answers to those before it.
        let end = stream::once(failed).filter_map(async |failed| failed.ok().map(Err));
        answers.chain(end)
    }

    /// Gives the next append of a stream; `None` at its end.
    async fn next_append<C: Calls>(
        &self,
        appends: &mut Appends<C>,
    ) -> Result<Option<AppendEntriesRequest<Types>>, Status> {
        let Some(call) = appends.calls.next().await else { return Ok(None) };
        self.append_of(&call?, &appends.certificates, &mut appends.proven).map(Some)
    }

    /// Gives what a call wants appended, if there is room for it.
    fn append_of(
        &self,
        call: &Call,
        certificates: &Certificates,
        proven: &mut Option<ReplicaId>,
    ) -> Result<AppendEntriesRequest<Types>, Status> {
        let body: AppendV1 = self.open_from(call, certificates, proven)?;
        let rpc: AppendEntriesRequest<Types> =
            body.try_into().map_err(|e: codec::CodecError| Status::invalid_argument(e.to_string()))?;
        if !rpc.entries.is_empty() {
            self.core.store.takes_entries().map_err(no_room)?;
        }
        Ok(rpc)
    }

    /// Refuses while the disk is full.
    fn room(&self) -> Result<(), Status> {
        self.core.store.short_of_space().map_or(Ok(()), |shortage| Err(no_room(shortage)))
    }

    /// Refuses a caller that was removed, comes with another data folder than it had, or does not speak the cluster's
    /// version, and stops this replica if the
    /// caller knows it with another.
    fn know(&self, call: &Call) -> Result<(), Status> {
        let (sender, own) = (call.sender, self.incarnation.as_ref());
        let asked = self.core.ask_replicas(|it| {
            let expected = it.incarnation(sender);
            (it.is_gone(sender), expected.is_none_or(|expected| expected == call.sender_incarnation))
        });
        match asked {
            Some((true, _)) => {
                let why = format!("replica {sender} was removed from the cluster for ever");
                return Err(verdict(Status::permission_denied(why), VERDICT_REMOVED));
            }
            Some((_, false)) => {
                let why = format!("replica {sender} is known to replica {} with another data folder", self.id);
                return Err(verdict(Status::failed_precondition(why), VERDICT_EMPTIED));
            }
            Some((false, true)) | None => {}
        }
        let (version, spoken) =
            (self.core.ask_state(State::version), versions::said(call.speaks_oldest, call.speaks_newest));
        if !spoken.contains(version) {
            let why = format!("the cluster is at version {version}, the build of replica {sender} speaks {spoken}");
            return Err(verdict(Status::failed_precondition(why), VERDICT_TOO_OLD));
        }
        if call.target_incarnation.is_empty() || call.target_incarnation == own {
            return Ok(());
        }
        let why = format!("replica {sender} knows replica {} with another data folder", self.id);
        self.stop.set(RaftError::Emptied(why.clone()));
        Err(Status::failed_precondition(why))
    }

    /// As [`PeerService::answer`], after something was stored: now the incarnation stands for what was promised.
    fn answer_stored<T: serde::Serialize>(&self, body: &T) -> Response<Answer> {
        self.answer_as(body, self.incarnation.to_string())
    }

    fn answer<T: serde::Serialize>(&self, body: &T) -> Response<Answer> {
        self.answer_as(body, String::new())
    }

    fn answer_as<T: serde::Serialize>(&self, body: &T, incarnation: String) -> Response<Answer> {
        let (speaks_oldest, speaks_newest) = versions::own();
        let body = codec::encode(body);
        Response::new(Answer { replica: self.id.0, body, incarnation, speaks_oldest, speaks_newest })
    }
}

/// Calls of a peer, in a stream of gRPC or in frames.
trait Calls: Stream<Item = Result<Call, Status>> + Send {}
impl<C: Stream<Item = Result<Call, Status>> + Send> Calls for C {}

/// Appends on their way in.
struct Appends<C> {
    certificates: Certificates,
    /// Whom the certificates were found to name.
    proven: Option<ReplicaId>,
    calls: Pin<Box<C>>,
}

fn verdict(mut status: Status, verdict: &'static str) -> Status {
    status.metadata_mut().insert(VERDICT, MetadataValue::from_static(verdict));
    status
}

fn no_room(shortage: impl std::fmt::Display) -> Status {
    Status::resource_exhausted(format!("the disk of this replica is full: {shortage}"))
}

/// The caller's certificate chain, as DER.
type Certificates = Option<Arc<Vec<tonic::transport::CertificateDer<'static>>>>;

/// A replica whose core has stopped does not answer its peers.
fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

fn disk(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn append(&self, request: Request<Call>) -> Result<Response<Answer>, Status> {
        let certificates = request.peer_certs();
        let rpc = self.append_of(&request.into_inner(), &certificates, &mut None)?;
        let answer = self.raft.append_entries(rpc).await.map_err(stopped)?;
        Ok(self.answer_stored(&AppendAnswerV1::from(answer)))
    }

    type AppendStreamStream = Pin<Box<dyn Stream<Item = Result<Answer, Status>> + Send>>;

    async fn append_stream(
        &self,
        request: Request<Streaming<Call>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let certificates = request.peer_certs();
        Ok(Response::new(Box::pin(self.take_appends(certificates, request.into_inner()))))
    }

    async fn vote(&self, request: Request<Call>) -> Result<Response<Answer>, Status> {
        let certificates = request.peer_certs();
        let body: VoteCallV1 = self.open(&request.into_inner(), &certificates)?;
        let answer = self.raft.vote(body.into()).await.map_err(stopped)?;
        Ok(self.answer(&VoteAnswerV1::from(answer)))
    }

    async fn pre_vote(&self, request: Request<Call>) -> Result<Response<Answer>, Status> {
        let certificates = request.peer_certs();
        let body: VoteCallV1 = self.open(&request.into_inner(), &certificates)?;
        let answer = self.raft.pre_vote(body.into()).await.map_err(stopped)?;
        Ok(self.answer(&VoteAnswerV1::from(answer)))
    }

    async fn transfer_leader(&self, request: Request<Call>) -> Result<Response<Answer>, Status> {
        let certificates = request.peer_certs();
        let body: TransferV1 = self.open(&request.into_inner(), &certificates)?;
        // A leader whose disk is full would only give the lead back.
        self.room()?;
        let rpc = TransferLeaderRequest::new(body.from.into(), ReplicaId(body.to), body.last.map(Into::into));
        let answer = self.raft.handle_transfer_leader(rpc).await.map_err(stopped)?;
        Ok(self.answer(&TransferAnswerV1::from(answer)))
    }

    async fn heads(&self, request: Request<Call>) -> Result<Response<Answer>, Status> {
        let certificates = request.peer_certs();
        let () = self.open(&request.into_inner(), &certificates)?;
        // Whoever asks has something to send: a snapshot, or the lead.
        self.room()?;
        let core = self.core.clone();
        let last = blocking(move || history::heads(&core.store)).await.map_err(disk)?;
        Ok(self.answer(&HeadsV1 { last }))
    }

    async fn hello(&self, request: Request<Call>) -> Result<Response<Answer>, Status> {
        let certificates = request.peer_certs();
        let () = self.open(&request.into_inner(), &certificates)?;
        let holds_data = self.raft.is_initialized().await.map_err(stopped)?;
        Ok(self.answer(&HelloV1 { holds_data }))
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotPart>>) -> Result<Response<Answer>, Status> {
        let certificates = request.peer_certs();
        let mut parts = request.into_inner();
        let Some(Part::Head(call)) = next(&mut parts).await? else {
            return Err(Status::invalid_argument("a snapshot begins with its head"));
        };
        let head: SnapshotHeadV1 = self.open(&call, &certificates)?;
        let meta: SnapshotMeta =
            head.meta.try_into().map_err(|e: codec::CodecError| Status::invalid_argument(e.to_string()))?;
        let _turn =
            self.receiving.try_acquire().map_err(|_| Status::resource_exhausted("another snapshot is coming"))?;
        let mut incoming = Incoming::create(&self.core).await.map_err(disk)?;
        let received = incoming.receive(&mut parts, &meta).await;
        if let Err(status) = received {
            incoming.discard().await;
            return Err(status);
        }
        let files = SnapshotFiles { state: incoming.state_path, incoming: true };
        let snapshot = openraft::Snapshot { meta, snapshot: files };
        let answer = self.raft.install_full_snapshot(head.vote.into(), snapshot).await.map_err(stopped)?;
        Ok(self.answer(&VoteV1::from(answer.vote)))
    }
}

/// Gives the next part; `None` at the end.
async fn next(parts: &mut Streaming<SnapshotPart>) -> Result<Option<Part>, Status> {
    let part = tokio::time::timeout(PART_WAIT, parts.message()).await;
    let part = part.map_err(|_| Status::deadline_exceeded("the snapshot stopped coming"))??;
    match part {
        None => Ok(None),
        Some(SnapshotPart { part: Some(part) }) => Ok(Some(part)),
        Some(SnapshotPart { part: None }) => Err(Status::invalid_argument("an empty part")),
    }
}

/// A snapshot on its way in.
struct Incoming {
    state_path: PathBuf,
    state: File,
    history: history::Incoming,
    state_bytes: u64,
    state_crc: crc32fast::Hasher,
}

impl Incoming {
    async fn create(core: &Core) -> io::Result<Self> {
        let state_path = core.snapshots.incoming_path("state");
        let state = File::create(&state_path).await?;
        let store = core.store.clone();
        let history = blocking(move || history::Incoming::begin(&store)).await?;
        let state_crc = crc32fast::Hasher::new();
        Ok(Self { state_path, state, history, state_bytes: 0, state_crc })
    }

    async fn receive(&mut self, parts: &mut Streaming<SnapshotPart>, meta: &SnapshotMeta) -> Result<(), Status> {
        loop {
            match next(parts).await? {
                Some(Part::State(bytes)) => {
                    self.state_bytes += bytes.len() as u64;
                    if self.state_bytes > STATE_BYTES_MAX {
                        return Err(Status::resource_exhausted("a snapshot longer than any"));
                    }
                    self.state_crc.update(&bytes);
                    self.state.write_all(&bytes).await.map_err(disk)?;
                }
                Some(Part::History(part)) => {
                    let items = part.items.into_iter().map(|item| (item.key, item.value)).collect();
                    self.history.page(items).await.map_err(|e| Status::data_loss(e.to_string()))?;
                }
                Some(Part::End(end)) => return self.finish(end, meta).await,
                Some(Part::Head(_)) => return Err(Status::invalid_argument("a second head")),
                None => return Err(Status::data_loss("the snapshot ended early")),
            }
        }
    }

    /// Checks the whole before Raft sees it: a bad transfer must not stop this replica.
    async fn finish(&mut self, end: SnapshotEnd, meta: &SnapshotMeta) -> Result<(), Status> {
        let crc = self.state_crc.clone().finalize();
        if (end.state_bytes, end.state_crc, end.history_records) != (self.state_bytes, crc, self.history.records) {
            return Err(Status::data_loss("the snapshot did not arrive whole"));
        }
        self.state.flush().await.map_err(disk)?;
        let path = self.state_path.clone();
        let found = blocking(move || SnapshotDir::load(&path)).await.map_err(|e| Status::data_loss(e.to_string()))?;
        if found.meta != *meta {
            return Err(Status::data_loss("the snapshot covers another entry than announced"));
        }
        Ok(())
    }

    async fn discard(self) {
        if let Err(error) = tokio::fs::remove_file(&self.state_path).await {
            tracing::warn!(%error, path = %self.state_path.display(), "cannot remove an incoming file");
        }
    }
}
