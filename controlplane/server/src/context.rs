//! What every handler has at hand; a clone is another handle on the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hanse_engines_core::Engine;
use hanse_raft::{Leader, ReadError, Replica};
use hanse_state::ids::RequestId;
use hanse_state::time::Millis;
use hanse_state::{Digest, State};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::events::EventLog;
use crate::artifacts::ArtifactStore;
use crate::auth::password::Passwords;
use crate::auth::throttle::Throttle;
use crate::error::ApiError;
use crate::listen::{ApiTls, ListenError};
use crate::log_clock::LogClock;
use crate::observed::Observed;
use crate::programs::Programs;
use crate::proxy::Peers;
use crate::reconcile::connect::HostConnector;
use crate::trail::Trail;

/// Longest wait for a linearizable read; an election is shorter.
const READ_MAX: Duration = Duration::from_secs(10);

/// What may be set for the API.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Whether gRPC reflection is served.
    pub reflection: bool,
    /// Longest wait for the answer to a proposal.
    pub propose: Duration,
    /// Longest wait for a node's answer.
    pub node_call: Duration,
    /// How often a watch says that it lives.
    pub heartbeat: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reflection: true,
            propose: Duration::from_secs(10),
            node_call: Duration::from_secs(10),
            heartbeat: Duration::from_secs(1),
        }
    }
}

/// Who this replica is and who the others are.
#[derive(Clone, Debug)]
pub struct Member {
    /// Number of this replica.
    pub own: u64,
    /// `host:port` of every replica's API, this one's included.
    pub api_addresses: BTreeMap<u64, String>,
    /// Name of the cluster in the configuration, shown before the log has one.
    pub cluster: String,
}

/// What a [`Context`] is made of.
pub struct Parts {
    /// The replica of the log.
    pub replica: Replica,
    /// What the leader last saw of the nodes.
    pub observed: Arc<Observed>,
    /// The way to hosts.
    pub hosts: Arc<dyn HostConnector>,
    /// Engines by the name that templates use.
    pub engines: Arc<BTreeMap<String, Arc<dyn Engine>>>,
    /// Who is who.
    pub member: Member,
    /// What proves the audit trail.
    pub trail: Trail,
    /// Content of artifacts.
    pub artifacts: ArtifactStore,
    /// Artifacts that this replica's configuration names, each with the setting that does.
    pub configured_artifacts: BTreeMap<Digest, String>,
    /// What may be set.
    pub limits: Limits,
}

/// See the head of this module.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    programs: Programs,
    peers: Peers,
    passwords: Passwords,
    throttle: Throttle,
    events: EventLog,
    log_clock: LogClock,
    started_at: Millis,
    /// Of the API's and the peers' certificate of this replica, the end that comes first; 0 if it is not known.
    certificate_until_ms: u64,
    shutdown: CancellationToken,
}

/// Who leads, as this replica knows it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// This replica.
    Me,
    /// Another.
    Other {
        /// Its number.
        id: u64,
        /// `host:port` of its API.
        api: String,
    },
    /// Nobody, or nobody known.
    Nobody,
}

impl Context {
    /// Returns the context and begins to keep the latest events until `shutdown`.
    ///
    /// # Errors
    /// [`ListenError`] if the certificates cannot be used.
    pub fn new(parts: Parts, tls: &ApiTls, shutdown: CancellationToken) -> Result<Self, ListenError> {
        let peers = Peers::new(parts.member.own, tls)?;
        let passwords = Passwords::new().map_err(|error| ListenError::Serve(error.to_string()))?;
        let events = EventLog::spawn(parts.replica.clone(), shutdown.clone());
        let throttle = Throttle::default();
        let started_at = clock();
        let log_clock = LogClock::default();
        let ends = [&tls.api_cert, &tls.peer_cert].into_iter().filter_map(|pem| crate::listen::ends_at(pem));
        let certificate_until_ms = ends.min().unwrap_or(0);
        let inner = Inner {
            programs: Programs::of(parts.artifacts.clone()),
            parts,
            peers,
            passwords,
            throttle,
            events,
            log_clock,
            started_at,
            certificate_until_ms,
            shutdown,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The replica of the log.
    pub fn replica(&self) -> &Replica {
        &self.inner.parts.replica
    }

    /// What the leader last saw of the nodes.
    pub fn observed(&self) -> &Observed {
        &self.inner.parts.observed
    }

    /// Programs of nodes that were voted on.
    pub(crate) fn programs(&self) -> &Programs {
        &self.inner.programs
    }

    /// The way to hosts.
    pub fn hosts(&self) -> &Arc<dyn HostConnector> {
        &self.inner.parts.hosts
    }

    /// The engine of that name.
    pub fn engine(&self, name: &str) -> Option<Arc<dyn Engine>> {
        self.inner.parts.engines.get(name).cloned()
    }

    /// Who is who.
    pub fn member(&self) -> &Member {
        &self.inner.parts.member
    }

    /// What proves the audit trail.
    pub(crate) fn trail(&self) -> &Trail {
        &self.inner.parts.trail
    }

    /// Content of artifacts.
    pub fn artifacts(&self) -> &ArtifactStore {
        &self.inner.parts.artifacts
    }

    /// What of this replica's configuration names the artifact `sha256`.
    pub(crate) fn configured_by(&self, sha256: &Digest) -> Option<&str> {
        self.inner.parts.configured_artifacts.get(sha256).map(String::as_str)
    }

    /// What may be set.
    pub fn limits(&self) -> &Limits {
        &self.inner.parts.limits
    }

    /// Connections to the other replicas' APIs.
    pub fn peers(&self) -> &Peers {
        &self.inner.peers
    }

    /// Keeper of the turns for hashing passwords.
    pub fn passwords(&self) -> &Passwords {
        &self.inner.passwords
    }

    /// Counter of failed logins by source.
    pub fn throttle(&self) -> &Throttle {
        &self.inner.throttle
    }

    /// The latest events.
    pub(crate) fn events(&self) -> &EventLog {
        &self.inner.events
    }

    /// When the first of this replica's certificates ends, milliseconds since 1970; 0 if it is not known.
    pub(crate) fn certificate_until_ms(&self) -> u64 {
        self.inner.certificate_until_ms
    }

    /// When this process began to serve.
    pub fn started_at(&self) -> Millis {
        self.inner.started_at
    }

    /// Cancelled when the replica stops; long streams end then.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.inner.shutdown
    }

    /// The clock: the one place of the API that reads it.
    pub fn now(&self) -> Millis {
        clock()
    }

    /// The time that requests are stamped and clients' times are compared with: see [`LogClock`].
    pub(crate) fn log_clock(&self) -> Millis {
        self.inner.log_clock.read(self.now(), self.replica().local().now, Instant::now())
    }

    /// Who leads.
    pub fn leadership(&self) -> Leadership {
        if self.replica().is_leader().is_some() {
            return Leadership::Me;
        }
        self.replica().known_leader().map_or(Leadership::Nobody, |leader| self.other(leader))
    }

    /// Number of the leader as this replica knows it, empty if it knows none.
    pub(crate) fn leader_id(&self) -> String {
        match self.leadership() {
            Leadership::Me => self.member().own.to_string(),
            Leadership::Other { id, .. } => id.to_string(),
            Leadership::Nobody => String::new(),
        }
    }

    fn other(&self, leader: Leader) -> Leadership {
        let id = leader.id.0;
        // The configuration knows where a replica's API is; the log's word is for replicas that were added later.
        let known = self.member().api_addresses.get(&id).cloned();
        Leadership::Other { id, api: known.unwrap_or(leader.member.api_address) }
    }

    /// `host:port` of the API of every member: by the membership, and before there is one by the configuration. Where a
    /// replica of the configuration is, the configuration knows better.
    pub(crate) fn api_addresses(&self) -> BTreeMap<u64, String> {
        let configured = &self.member().api_addresses;
        let members = self.replica().status().members;
        if members.is_empty() {
            return configured.clone();
        }
        let address = |id: u64, api: String| configured.get(&id).cloned().unwrap_or(api);
        members.into_iter().map(|(id, member)| (id.0, address(id.0, member.api_address))).collect()
    }

    /// Whether the log says that the replica was removed.
    pub(crate) fn is_gone(&self, replica: u64) -> bool {
        self.replica().is_gone(hanse_raft::ReplicaId(replica))
    }

    /// Returns a state that holds everything acknowledged before this call (ReadIndex on the leader).
    ///
    /// # Errors
    /// Not leader, with a hint; unavailable if no majority answers in time.
    pub async fn read(&self) -> Result<Arc<State>, ApiError> {
        match tokio::time::timeout(READ_MAX, self.replica().read()).await {
            Ok(Ok(state)) => Ok(state),
            Ok(Err(ReadError::NotLeader { leader })) => Err(self.not_leader(leader)),
            Ok(Err(ReadError::Unavailable(_))) | Err(_) => Err(ApiError::not_leader(None)),
            Ok(Err(ReadError::Stopped)) => Err(ApiError::stopping()),
        }
    }

    /// The refusal that names `leader`.
    pub(crate) fn not_leader(&self, leader: Option<Leader>) -> ApiError {
        ApiError::not_leader(leader.map(|leader| match self.other(leader) {
            Leadership::Other { api, .. } => api,
            Leadership::Me | Leadership::Nobody => String::new(),
        }))
    }
}

/// A new id for a request that a replica makes itself.
pub fn new_request_id() -> RequestId {
    RequestId::new(uuid::Uuid::now_v7()).expect("a UUID made as version 7 is of version 7")
}

/// The one clock of a replica: milliseconds since 1970.
pub fn clock() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
