//! The services of `hanse.v1`: authenticate, convert, stamp, propose, convert.
//!
//! One file a service. A read takes a linearizable state and shows of it what the caller may see; a write checks what
//! the caller can know about, turns the request into one command, and proposes it. The decision is the state's: checks
//! here only refuse early.

mod account;
mod adopting;
mod artifact;
mod audit;
mod backup;
mod billing;
mod chain;
mod cloud;
mod cluster;
mod consortium;
pub(crate) mod convert;
pub(crate) mod events;
mod explorer;
mod governance;
mod height;
mod host;
mod imported;
mod monitoring;
mod moving;
mod node_call;
mod operation;
pub(crate) mod page;
mod plan;
mod preflight;
mod replica;
mod rollback;
mod sight;
mod template;
mod tenant;

use std::sync::Arc;

pub(crate) use account::Accounts;
pub(crate) use artifact::Artifacts;
pub(crate) use audit::Audit;
pub(crate) use backup::Backups;
pub(crate) use billing::Billing;
pub(crate) use chain::Chains;
pub(crate) use cloud::Clouds;
pub(crate) use cluster::Cluster;
pub(crate) use consortium::Consortiums;
pub(crate) use explorer::Explorer;
pub(crate) use host::Hosts;
pub(crate) use monitoring::Monitoring;
pub(crate) use operation::Operations;
pub(crate) use replica::ReplicaSet;
pub(crate) use template::Templates;
pub(crate) use tenant::Tenants;

use hanse_proto::v1 as pb;
use hanse_state::ids::RequestId;
use hanse_state::time::Millis;
use hanse_state::{Actor, Command, State};
use tonic::Request;

use crate::auth::{self, Caller};
use crate::context::Context;
use crate::error::ApiError;
use crate::propose::{Done, Order, propose, validate};
use crate::proxy::Origin;
use sight::Sight;

/// One authenticated call.
pub(crate) struct Call {
    pub(crate) context: Context,
    /// Everything acknowledged before the call began.
    pub(crate) state: Arc<State>,
    pub(crate) caller: Caller,
    pub(crate) source: String,
    /// The state was not confirmed by a majority: good enough to prepare an order, not to refuse or answer with.
    near: bool,
}

/// How a write is asked for.
pub(crate) struct Wish<'a> {
    /// The client's request id.
    pub(crate) request_id: &'a str,
    /// Only check.
    pub(crate) validate_only: bool,
}

impl Call {
    /// Reads the state and finds the caller in it.
    ///
    /// # Errors
    /// Unauthenticated without an open session; not leader.
    pub(crate) async fn enter<T>(context: &Context, request: &Request<T>) -> Result<Self, ApiError> {
        // The form of the token is looked at first, so that a call without one costs no round to a majority.
        let key = auth::claimed(request.metadata())?
            .ok_or_else(|| ApiError::unauthenticated("NO_SESSION", "this call needs a session"))?;
        let state = context.read().await?;
        let caller = auth::authenticate(&state, key, context.now())?;
        Ok(Self { context: context.clone(), state, caller, source: source(request), near: false })
    }

    /// As [`Call::enter`] for a call that only proposes: without a round to a majority if this leader's own state knows
    /// the session. The order carries the session, and the state decides when it applies the order.
    ///
    /// # Errors
    /// As [`Call::enter`].
    pub(crate) async fn enter_to_write<T>(context: &Context, request: &Request<T>) -> Result<Self, ApiError> {
        let key = auth::claimed(request.metadata())?;
        let near = key.and_then(|key| {
            let state = context.replica().near()?;
            let caller = auth::authenticate(&state, key, context.now()).ok()?;
            Some(Self { context: context.clone(), state, caller, source: source(request), near: true })
        });
        match near {
            Some(call) => Ok(call),
            None => Self::enter(context, request).await,
        }
    }

    /// The same call with a state that a majority has confirmed.
    async fn confirmed(&self) -> Result<Self, ApiError> {
        let state = self.context.read().await?;
        let caller = auth::authenticate(&state, self.caller.session_key, self.context.now())?;
        Ok(Self { context: self.context.clone(), state, caller, source: self.source.clone(), near: false })
    }

    /// What the caller may see.
    pub(crate) fn sight(&self) -> Sight<'_> {
        Sight::new(&self.state, &self.caller)
    }

    /// Refuses early what the caller may not order, before work is spent on it or the log grows. The state checks again.
    ///
    /// # Errors
    /// The refusal of the state's own policy.
    pub(crate) fn may(&self, command: &Command) -> Result<(), ApiError> {
        let actor = Actor::Account(self.caller.account.id.clone());
        Ok(hanse_state::access::check(&self.state, &actor, command)?)
    }

    /// Says whether a request with this id was applied: then the state gives its first answer again, and what has changed
    /// since must not refuse it. An id that cannot be read is not known.
    pub(crate) fn knows(&self, request_id: &str) -> bool {
        request_id.parse().is_ok_and(|id: RequestId| self.state.dedup.seen.contains_key(&id))
    }

    /// Whether a request with this id was applied and not refused.
    pub(crate) fn succeeded(&self, request_id: &str) -> bool {
        let id = request_id.parse::<RequestId>().ok();
        id.and_then(|id| self.state.dedup.seen.get(&id)).is_some_and(|seen| seen.outcome.is_ok())
    }

    /// Proposes `command` in the caller's name, or only checks it.
    ///
    /// # Errors
    /// The state's refusal, or that the outcome is unknown.
    pub(crate) async fn write(&self, wish: Wish<'_>, command: Command) -> Result<Done, ApiError> {
        let work = async {
            let id = request_id(wish.request_id, self.context.log_clock())?;
            let allowed = |call: &Self| match call.state.dedup.seen.contains_key(&id) {
                // A known request is a retry: the state gives its first answer, whatever the caller may do by now.
                true => Ok(()),
                false => call.may(&command),
            };
            let confirmed;
            let mut call = self;
            if self.near && (wish.validate_only || allowed(self).is_err()) {
                // What is told without proposing must be the word of a majority.
                confirmed = self.confirmed().await?;
                call = &confirmed;
            }
            allowed(call)?;
            let order = Order {
                id,
                actor: Actor::Account(call.caller.account.id.clone()),
                session: Some(call.caller.session_key),
                source: call.source.clone(),
                command,
            };
            if wish.validate_only {
                let mut done = validate(&call.context, call.state.clone(), order)?;
                done.revision = call.state.revision;
                return Ok(done);
            }
            propose(&call.context, order).await
        };
        work.await.map_err(|error: ApiError| error.with_request(wish.request_id))
    }

    /// The header of an answer that reflects `revision`.
    pub(crate) fn header(&self, revision: u64) -> Option<pb::ResponseHeader> {
        header(&self.context, &self.state, revision)
    }

    /// The header of an answer read from this call's state.
    pub(crate) fn read_header(&self) -> Option<pb::ResponseHeader> {
        self.header(self.state.revision)
    }
}

/// The header of an answer that reflects `revision`.
pub(crate) fn header(context: &Context, state: &State, revision: u64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        cluster_id: state.cluster.as_ref().map(|cluster| cluster.id.to_string()).unwrap_or_default(),
        revision,
        replica_id: context.member().own.to_string(),
        leader_id: context.leader_id(),
    })
}

/// Refuses everybody but replicas of this cluster that speak for themselves.
///
/// # Errors
/// Unauthenticated.
pub(crate) fn replica_only<T>(context: &Context, request: &Request<T>) -> Result<(), ApiError> {
    let peer = request.extensions().get::<crate::listen::Caller>().and_then(|caller| caller.replica);
    let handed_on = request.extensions().get::<Origin>().is_some_and(|origin| origin.via.is_some());
    if peer.is_some_and(|id| !context.is_gone(id)) && !handed_on {
        return Ok(());
    }
    Err(ApiError::unauthenticated("NOT_A_REPLICA", "only replicas of this cluster may ask for this"))
}

/// Address of the client as the front found it.
pub(crate) fn source<T>(request: &Request<T>) -> String {
    request.extensions().get::<Origin>().map(|origin| origin.source.clone()).unwrap_or_default()
}

/// How far a client's clock may be ahead of ours.
const CLOCK_AHEAD_MS_MAX: u64 = 10 * 60 * 1_000;

/// The client's request id. One from the future is refused before it reaches the log: the window of remembered requests
/// is ordered by the ids' time, and such ids would push everyone else's out of it. `now` is [`Context::log_clock`]: a
/// leader whose own clock is behind must not refuse everybody.
pub(crate) fn request_id(text: &str, now: Millis) -> Result<RequestId, ApiError> {
    if text.is_empty() {
        let advice = "make a UUID of version 7 and send it with every try of this request";
        return Err(ApiError::invalid("request_id", "is missing", advice));
    }
    let id: RequestId = convert::id("request_id", text)?;
    // The first 48 bits of a UUID of version 7 are its time in milliseconds since 1970 (RFC 9562, section 5.7).
    let made_ms = u64::try_from(id.uuid().as_u128() >> 80).unwrap_or(u64::MAX);
    if made_ms > now.0.saturating_add(CLOCK_AHEAD_MS_MAX) {
        let advice = "set this machine's clock; it is more than 10 minutes ahead of the platform's";
        return Err(ApiError::invalid("request_id", "is from the future", advice));
    }
    Ok(id)
}

/// Returns what was just written; its absence would be a fault of ours.
pub(crate) fn found<T>(part: &'static str, it: Option<T>) -> Result<T, ApiError> {
    it.ok_or_else(|| ApiError::internal(part, "what was written is not in the state"))
}

/// Whether a list's filter keeps an item: any of its texts contains it.
pub(crate) fn matches(filter: &str, texts: &[&str]) -> bool {
    filter.is_empty() || texts.iter().any(|text| text.contains(filter))
}
