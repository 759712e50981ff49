//! Orders on their way to the log: stamped once, proposed, and the answer told apart from "unknown".

use std::sync::Arc;

use hanse_raft::ProposeError;
use hanse_state::ids::RequestId;
use hanse_state::rejection::Rejection;
use hanse_state::{Actor, Applied, Command, Digest, Outcome, Request, State};
use uuid::Uuid;

use crate::context::Context;
use crate::error::ApiError;

/// What became of an order.
#[derive(Clone, Debug)]
pub struct Done {
    /// What the state answered.
    pub outcome: Outcome,
    /// Entry that did it; of a replay, the first one. 0 if it was only checked.
    pub revision: u64,
    /// The state with the order carried out.
    pub state: Arc<State>,
}

/// An order as a handler gives it.
pub struct Order {
    /// The client's request id.
    pub id: RequestId,
    /// Who orders.
    pub actor: Actor,
    /// The session in which an account orders; it must still be open when the order is applied.
    pub session: Option<Digest>,
    /// From which address.
    pub source: String,
    /// What.
    pub command: Command,
}

/// Proposes `order` and waits until it is durable on a majority and applied here.
///
/// # Errors
/// The state's rejection; not leader; outcome unknown if no answer came in time.
pub async fn propose(context: &Context, order: Order) -> Result<Done, ApiError> {
    let request = request(context, order);
    let sent = context.replica().propose(request);
    let applied: Applied = match tokio::time::timeout(context.limits().propose, sent).await {
        Ok(Ok(applied)) => applied,
        Ok(Err(error)) => return Err(refused(context, error)),
        Err(_) => return Err(ApiError::outcome_unknown()),
    };
    let outcome = applied.outcome.map_err(by_the_log)?;
    Ok(Done { outcome, revision: applied.revision, state: context.replica().local() })
}

/// Runs `order` over `state` without proposing it: the same checks, no change. The answer's revision is 0.
///
/// # Errors
/// The rejection that the real order would get now.
pub fn validate(context: &Context, mut state: Arc<State>, order: Order) -> Result<Done, ApiError> {
    let request = request(context, order);
    let index = state.revision.saturating_add(1);
    let outcome = hanse_state::apply(Arc::make_mut(&mut state), index, &request).outcome?;
    Ok(Done { outcome, revision: 0, state })
}

fn request(context: &Context, order: Order) -> Request {
    let Order { id, actor, session, source, command } = order;
    Request { session, ..Request::new(id, actor, source, context.log_clock(), command) }
}

/// An id for an order of the platform itself, which is never asked for again.
pub fn system_id() -> Result<RequestId, ApiError> {
    Ok(RequestId::new(Uuid::now_v7())?)
}

/// What the state refused. It answers with the first outcome of a request id, so its refusal is certain for every attempt
/// with that id, except where it refused before looking at the id.
fn by_the_log(rejection: Rejection) -> ApiError {
    let looked_at_the_id = match &rejection {
        Rejection::SessionOver { .. }
        | Rejection::AccountUnusable { .. }
        | Rejection::RequestTooOld { .. }
        | Rejection::TooNew { .. } => false,
        Rejection::NotFound { .. }
        | Rejection::AlreadyExists { .. }
        | Rejection::InvalidName { .. }
        | Rejection::InvalidValue { .. }
        | Rejection::ParameterOutOfRange { .. }
        | Rejection::UnknownParameter { .. }
        | Rejection::PermissionDenied { .. }
        | Rejection::NotAMember { .. }
        | Rejection::WrongKey { .. }
        | Rejection::AlreadyVoted { .. }
        | Rejection::DeadlinePassed { .. }
        | Rejection::ArtifactMismatch { .. }
        | Rejection::TooFewHosts { .. }
        | Rejection::HostKeyChanged { .. }
        | Rejection::QuorumAtRisk { .. }
        | Rejection::QuotaExceeded { .. }
        | Rejection::WrongState { .. }
        | Rejection::StaleGeneration { .. }
        | Rejection::ConflictingFact { .. }
        | Rejection::RestartBudgetSpent { .. }
        | Rejection::RequestIdReused { .. } => true,
    };
    let error = ApiError::from(rejection);
    if looked_at_the_id { error.by_the_log() } else { error }
}

fn refused(context: &Context, error: ProposeError) -> ApiError {
    match error {
        ProposeError::NotLeader { leader } => context.not_leader(leader),
        ProposeError::Unavailable(_) => ApiError::not_leader(None),
        ProposeError::DiskFull(shortage) => ApiError::disk_full(context.member().own, &shortage),
        ProposeError::Unspoken(unspoken) => ApiError::unspoken(&unspoken),
        ProposeError::TooNew(rejection) => rejection.into(),
        ProposeError::TooLarge { bytes, limit } => {
            let why = format!("has {bytes} bytes, at most {limit} fit");
            ApiError::invalid("request", &why, "send less")
        }
        ProposeError::OutcomeUnknown(_) => ApiError::outcome_unknown(),
        ProposeError::Stopped => ApiError::stopping(),
    }
}
