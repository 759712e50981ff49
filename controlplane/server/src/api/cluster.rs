//! ClusterService: the replicas themselves, the first administrator, the stream of changes.
//!
//! GetStatus, GetVersion and Watch are answered by the replica that was asked, without a round to the leader, so that
//! they work when nothing else does. A session that this replica has not heard of yet is asked for at the leader.

use std::time::Duration;

use hanse_proto::v1 as pb;
use hanse_proto::v1::account_service_client::AccountServiceClient;
use hanse_proto::v1::cluster_service_client::ClusterServiceClient;
use hanse_proto::v1::cluster_service_server::ClusterService;
use hanse_proto::{FORWARDED_HEADER, LEADER_TRAILER};
use hanse_raft::Role;
use hanse_state::cluster::Bootstrap;
use hanse_state::cluster::version::{RaiseClusterVersion, SPOKEN, Version};
use hanse_state::command::REQUEST_VERSION;
use hanse_state::ids::AccountId;
use hanse_state::{Actor, Command, Digest, Rejection, Secret, State};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status};
use zeroize::Zeroizing;

use super::events::Next;
use super::sight::Sight;
use super::{Call, Wish, convert, request_id, source};
use crate::auth::{self, Caller};
use crate::context::{Context, Leadership};
use crate::error::ApiError;
use crate::propose::{Order, propose};
use crate::proxy::Origin;
use crate::reconcile::setup::code_hash;

/// Longest wait for another replica's word on itself.
const PEER_MAX: Duration = Duration::from_millis(800);

/// Longest wait for the leader's word on a session, and then for this replica to hear of it too.
const SESSION_MAX: Duration = Duration::from_secs(3);

/// Messages of a watch that may wait for a slow reader; what it misses stays in the event log.
const WATCH_WAITING: usize = 16;

/// The replicas of the control plane.
pub(crate) struct Cluster(Context);

impl Cluster {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }

    /// Finds the caller of a call that is answered here, asking the leader about a session unknown here.
    async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, ApiError> {
        let key = auth::claimed(request.metadata())?
            .ok_or_else(|| ApiError::unauthenticated("NO_SESSION", "this call needs a session"))?;
        let here = auth::authenticate(&self.0.replica().local(), key, self.0.now());
        if here.is_ok() {
            return here;
        }
        match self.0.leadership() {
            Leadership::Me => auth::authenticate(&*self.0.read().await?, key, self.0.now()),
            Leadership::Other { id, api } => {
                let asked = tokio::time::timeout(SESSION_MAX, self.caller_by_leader(id, &api, key, request)).await;
                asked.unwrap_or_else(|_| Err(ApiError::leader_unreachable(api)))
            }
            Leadership::Nobody => Err(ApiError::not_leader(None)),
        }
    }

    /// Asks the leader whose session this is, then waits until this replica has applied that much.
    async fn caller_by_leader<T>(
        &self,
        leader: u64,
        api: &str,
        key: Digest,
        request: &Request<T>,
    ) -> Result<Caller, ApiError> {
        let channel = self.0.peers().get(leader, api).ok_or_else(|| ApiError::not_leader(None))?;
        let mut ask = Request::new(pb::WhoAmIRequest {});
        if let Some(token) = request.metadata().get("authorization") {
            ask.metadata_mut().insert("authorization", token.clone());
        }
        mark_forwarded(&self.0, &mut ask);
        let answer = AccountServiceClient::new(channel).who_am_i(ask).await.map_err(|status| match status.code() {
            Code::Unauthenticated => {
                ApiError::unauthenticated("SESSION_OVER", "there is no open session for this token")
            }
            _ => ApiError::leader_unreachable(api.to_string()),
        })?;
        let revision = answer.into_inner().header.map_or(0, |header| header.revision);
        let mut reached = self.0.events().follow();
        // The revision moves with changes only; that of a login is one.
        let caught_up = reached.wait_for(|at| *at >= revision || self.0.replica().local().revision >= revision).await;
        caught_up.map_err(|_| ApiError::stopping())?;
        auth::authenticate(&self.0.replica().local(), key, self.0.now())
    }

    /// Refuses a setup code that is spent or wrong as the log would, but without an entry: this call needs no session, so
    /// it must not be a way to fill the log, the audit trail or the places where passwords are hashed.
    fn may_bootstrap(&self, state: &State, code: &str, source: &str) -> Result<(), ApiError> {
        let now = self.0.now().0;
        if let Some(wait) = self.0.throttle().wait_ms(source, now) {
            let why = "too many wrong setup codes from this address";
            return Err(ApiError::exhausted("TOO_MANY_ATTEMPTS", why, wait / 1_000 + 1));
        }
        // A refusal by the log would be this request's answer for ever.
        let Some(cluster) = &state.cluster else { return Err(ApiError::beginning()) };
        let refusal = match cluster.setup_code_hash {
            Some(hash) if hash == code_hash(code) => return Ok(()),
            Some(_) => Rejection::PermissionDenied {
                actor: Actor::SetupCode.to_string(),
                action: "Bootstrap".into(),
                needs: "needs the setup code that the first leader printed".into(),
            },
            None => Rejection::WrongState {
                field: "setup_code".into(),
                what: "the setup code".into(),
                state: "spent".into(),
                needs: "an administrator exists".into(),
            },
        };
        self.0.throttle().failed(source, now);
        Err(ApiError::from(refusal).with_field("setup_code"))
    }

    /// What this replica says of itself.
    fn own(&self) -> pb::Replica {
        let (status, member) = (self.0.replica().status(), self.0.member());
        let role = match status.role {
            Role::Leader => pb::ReplicaRole::Leader,
            Role::Follower | Role::Candidate => pb::ReplicaRole::Follower,
            Role::Learner => pb::ReplicaRole::Learner,
            Role::Stopped => pb::ReplicaRole::Unreachable,
        };
        let reason = match status.role {
            Role::Candidate => "asks for votes",
            Role::Stopped => "has stopped by itself: see its log",
            Role::Leader | Role::Follower | Role::Learner => "",
        };
        let peer = status.members.get(&status.id).map(|member| member.peer_address.clone());
        pb::Replica {
            id: member.own.to_string(),
            role: role.into(),
            term: status.term,
            last_log_index: status.last_log_index.unwrap_or(0),
            applied_index: status.applied.unwrap_or(0),
            digest: status.digest,
            digest_revision: status.digest_revision,
            version: env!("CARGO_PKG_VERSION").into(),
            api_address: member.api_addresses.get(&member.own).cloned().unwrap_or_default(),
            peer_address: peer.unwrap_or_default(),
            rss_bytes: rss_bytes(),
            state_reason: reason.into(),
            started_at_ms: convert::ms(self.0.started_at()),
            speaks_oldest: SPOKEN.oldest.0.into(),
            speaks_newest: SPOKEN.newest.0.into(),
            certificate_until_ms: i64::try_from(self.0.certificate_until_ms()).unwrap_or(i64::MAX),
        }
    }

    /// What every replica says of itself, in order of id; one that does not answer is told as unreachable.
    async fn everyone(&self) -> Vec<pb::Replica> {
        let member = self.0.member();
        let addresses = self.0.api_addresses();
        let ask = addresses.iter().map(|(id, api)| async move {
            if *id == member.own {
                return self.own();
            }
            match tokio::time::timeout(PEER_MAX, self.ask_peer(*id, api)).await {
                Ok(Ok(Some(replica))) => replica,
                Ok(Ok(None)) => unreachable(*id, api, "gave no word on itself"),
                Ok(Err(status)) => unreachable(*id, api, status.message()),
                Err(_) => unreachable(*id, api, "did not answer in time"),
            }
        });
        futures::future::join_all(ask).await
    }

    async fn ask_peer(&self, id: u64, api: &str) -> Result<Option<pb::Replica>, Status> {
        let Some(channel) = self.0.peers().get(id, api) else { return Ok(None) };
        let mut request = Request::new(pb::GetStatusRequest {});
        mark_forwarded(&self.0, &mut request);
        let answer = ClusterServiceClient::new(channel).get_status(request).await?.into_inner();
        Ok(answer.replicas.into_iter().find(|replica| replica.id == id.to_string()))
    }

    fn header(&self, state: &State, revision: u64) -> Option<pb::ResponseHeader> {
        super::header(&self.0, state, revision)
    }
}

/// Says to another replica that the question comes from this one; the connection's certificate proves it.
fn mark_forwarded<T>(context: &Context, request: &mut Request<T>) {
    request.metadata_mut().insert(FORWARDED_HEADER, MetadataValue::from(context.member().own));
}

fn unreachable(id: u64, api: &str, why: &str) -> pb::Replica {
    pb::Replica {
        id: id.to_string(),
        role: pb::ReplicaRole::Unreachable.into(),
        api_address: api.into(),
        state_reason: why.into(),
        ..Default::default()
    }
}

/// Resident memory of this process; 0 where the system does not say (no procfs).
fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.map_or(0, |kib: u64| kib.saturating_mul(1_024))
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn get_status(
        &self,
        request: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        let state = self.0.replica().local();
        let bootstrapped = state.cluster.as_ref().is_some_and(|cluster| cluster.setup_code_hash.is_none());
        let name = state.cluster.as_ref().map_or_else(|| self.0.member().cluster.clone(), |it| it.name.clone());
        let mut answer = pb::GetStatusResponse {
            leader_id: self.0.leader_id(),
            cluster_name: name,
            bootstrapped,
            ..Default::default()
        };
        let peer = request.extensions().get::<Origin>().is_some_and(|origin| origin.via.is_some());
        // Whoever has no session learns what a first start needs, and nothing about the machines.
        if !peer && self.caller(&request).await.is_err() {
            return Ok(Response::new(answer));
        }
        answer.replicas = if peer { vec![self.own()] } else { self.everyone().await };
        // A follower that gets no majority goes on naming the last leader; one that was just found dead leads nobody.
        if answer.replicas.iter().any(|it| it.id == answer.leader_id && it.role() == pb::ReplicaRole::Unreachable) {
            answer.leader_id.clear();
        }
        answer.header = self.header(&state, state.revision);
        answer.term = self.0.replica().status().term;
        answer.revision = state.revision;
        if let Some(cluster) = &state.cluster {
            answer.backup_at_ms = cluster.last_backup.as_ref().map_or(0, |note| convert::ms(note.at));
            answer.backup_revision = cluster.last_backup.as_ref().map_or(0, |note| note.revision);
            answer.incarnation = cluster.restored.as_ref().map(|it| it.incarnation.to_string()).unwrap_or_default();
            answer.paused = cluster.is_paused();
            answer.cluster_version = cluster.version.0.into();
        }
        answer.cluster_id = state.cluster.as_ref().map(|cluster| cluster.id.to_string()).unwrap_or_default();
        Ok(Response::new(answer))
    }

    async fn bootstrap(
        &self,
        mut request: Request<pb::BootstrapRequest>,
    ) -> Result<Response<pb::BootstrapResponse>, Status> {
        let password = Zeroizing::new(std::mem::take(&mut request.get_mut().password));
        let code = Zeroizing::new(std::mem::take(&mut request.get_mut().setup_code));
        let source = source(&request);
        let it = request.into_inner();
        let id = request_id(&it.request_id, self.0.log_clock())?;
        let account: AccountId = convert::id("account", &it.account)?;
        let state = self.0.read().await?;
        // A retry of the one that succeeded gets its first answer; anyone else is refused before any work and any entry.
        if !state.dedup.seen.contains_key(&id) {
            self.may_bootstrap(&state, &code, &source)?;
        }
        let salt = super::account::salt(&state, &it.request_id, &account);
        let hash = self.0.passwords().hash("password", password, salt).await?;
        let command = Command::Bootstrap(Bootstrap {
            account: account.clone(),
            password_hash: Secret::new(hash),
            setup_code_hash: code_hash(&code),
        });
        let done = propose(&self.0, Order { id, actor: Actor::SetupCode, session: None, source, command }).await;
        let done = done.map_err(|error| error.with_request(&it.request_id))?;
        let header = self.header(&done.state, done.revision);
        Ok(Response::new(pb::BootstrapResponse { header, account: account.to_string() }))
    }

    type WatchStream = ReceiverStream<Result<pb::WatchResponse, Status>>;

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = self.caller(&request).await?;
        let it = request.into_inner();
        let after = if it.after_revision == 0 { self.0.events().reached() } else { it.after_revision };
        let (sender, receiver) = mpsc::channel(WATCH_WAITING);
        tokio::spawn(follow(self.0.clone(), caller.session_key, after, it.resource_prefix, sender));
        let mut response = Response::new(ReceiverStream::new(receiver));
        if let Leadership::Other { api, .. } = self.0.leadership()
            && let Ok(hint) = MetadataValue::try_from(api)
        {
            response.metadata_mut().insert(LEADER_TRAILER, hint);
        }
        Ok(response)
    }

    async fn get_version(
        &self,
        _request: Request<pb::GetVersionRequest>,
    ) -> Result<Response<pb::GetVersionResponse>, Status> {
        let state = self.0.replica().local();
        Ok(Response::new(pb::GetVersionResponse {
            header: self.header(&state, state.revision),
            version: env!("CARGO_PKG_VERSION").into(),
            command_version: REQUEST_VERSION.into(),
            speaks_oldest: SPOKEN.oldest.0.into(),
            speaks_newest: SPOKEN.newest.0.into(),
        }))
    }

    async fn raise_cluster_version(
        &self,
        request: Request<pb::RaiseClusterVersionRequest>,
    ) -> Result<Response<pb::RaiseClusterVersionResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let version = match it.version {
            0 => SPOKEN.newest,
            number => Version(u16::try_from(number).unwrap_or(u16::MAX)),
        };
        let command = Command::RaiseClusterVersion(RaiseClusterVersion { version });
        call.may(&command)?;
        let was = call.state.version();
        if version > was {
            // Asked again when it is proposed; here also for a check alone.
            let spoken = self.0.replica().check_spoken(version).await;
            spoken.map_err(|unspoken| ApiError::unspoken(&unspoken).with_request(&it.request_id))?;
        }
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, command).await?;
        let header = call.header(done.revision);
        let (version, was) = (done.state.version().0.into(), was.0.into());
        Ok(Response::new(pb::RaiseClusterVersionResponse { header, version, was }))
    }
}

/// Sends changes after `cursor` as they come, and a heartbeat in between, until the reader goes away, the session ends
/// or the replica stops.
async fn follow(
    context: Context,
    session: Digest,
    mut cursor: u64,
    prefix: String,
    sender: mpsc::Sender<Result<pb::WatchResponse, Status>>,
) {
    let mut reached = context.events().follow();
    let mut beats = tokio::time::interval(context.limits().heartbeat);
    loop {
        let beat = tokio::select! {
            () = sender.closed() => return,
            () = context.shutdown().cancelled() => {
                drop(sender.send(Err(ApiError::stopping().into())).await);
                return;
            }
            _ = beats.tick() => true,
            changed = reached.changed() => match changed {
                Ok(()) => false,
                Err(_) => return,
            },
        };
        loop {
            // Looked up anew each time: a closed session sees nothing more, and sight changes with membership.
            let state = context.replica().local();
            let message = match auth::authenticate(&state, session, context.now()) {
                Ok(caller) => next(&context, &state, &caller, &mut cursor, &prefix),
                Err(error) => {
                    drop(sender.send(Err(error.into())).await);
                    return;
                }
            };
            let empty = message.events.is_empty() && !message.resync;
            if (!empty || beat) && sender.send(Ok(message)).await.is_err() {
                return;
            }
            if cursor >= context.events().reached() {
                break;
            }
        }
    }
}

/// The next message, with the cursor moved behind it.
fn next(context: &Context, state: &State, caller: &Caller, cursor: &mut u64, prefix: &str) -> pb::WatchResponse {
    let (events, resync) = match context.events().after(*cursor) {
        Next::Resync(revision) => {
            *cursor = revision;
            (Vec::new(), true)
        }
        Next::Events(events, until) => {
            *cursor = until;
            (events, false)
        }
    };
    let sight = Sight::new(state, caller);
    let seen = events.iter().filter(|event| event.resource.starts_with(prefix) && sight.sees_resource(&event.resource));
    let events = seen.map(convert::event).collect();
    pb::WatchResponse { header: super::header(context, state, *cursor), events, resync }
}
