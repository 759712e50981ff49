//! Ordering a node to another host.

use hanse_proto::v1 as pb;
use hanse_state::chain::moving::MoveNode;
use hanse_state::chain::node::Node;
use hanse_state::host::spread::elsewhere;
use hanse_state::ids::HostId;
use hanse_state::{Command, Outcome};

use super::chain::node_key;
use super::{Call, Wish, convert, found, request_id};
use crate::context::Context;
use crate::error::ApiError;

/// Answers `MoveNode`.
///
/// # Errors
/// The state's refusal; no host has room; the host that it leaves does not answer, and its key was not given up.
pub(super) async fn answer(
    context: &Context,
    call: &Call,
    it: pb::MoveNodeRequest,
) -> Result<pb::MoveNodeResponse, ApiError> {
    let key = node_key(&it.consortium, &it.chain, &it.node)?;
    let node = call.sight().node(&key)?;
    // A request that is known was decided then; what has changed since must not refuse it or make another one of it.
    let id = request_id(&it.request_id, context.log_clock())?;
    let known = call.state.dedup.seen.get(&id).is_some_and(|seen| seen.outcome.is_ok());
    let generation = if known { node.generation.saturating_sub(1) } else { node.generation };
    // Asked again, the best host may be another one; the order is the one that was given.
    let chosen = node.moving.as_ref().map(|moving| &moving.to).or(node.host.as_ref());
    let to = match chosen.filter(|_| known && it.to_host.is_empty()) {
        Some(chosen) => chosen.clone(),
        None => target(call, node, &it.to_host)?,
    };
    let reason = convert::text("reason", it.reason)?;
    let (accept_outage, lost) = (it.accept_outage, it.lost);
    let command = Command::MoveNode(MoveNode { node: key.clone(), generation, to, reason, accept_outage, lost });
    if !known {
        call.may(&command)?;
        check_reach(context, call, node, lost).await?;
    }
    let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
    let done = call.write(wish, command).await?;
    let operation = match done.outcome {
        Outcome::OperationStarted { operation, .. } => operation.to_string(),
        _ => String::new(),
    };
    let moved = found("node", done.state.nodes.get(&key))?;
    let node = Some(convert::chain::node(&done.state, context.observed(), moved));
    Ok(pb::MoveNodeResponse { header: call.header(done.revision), node, operation })
}

/// The host that is named, or the best one.
pub(super) fn target(call: &Call, node: &Node, named: &str) -> Result<HostId, ApiError> {
    if !named.is_empty() {
        return convert::id("to_host", named);
    }
    elsewhere(&call.state, node).ok_or_else(|| {
        let advice = "enrol or uncordon a host with a free slot, or name one with `--to`";
        ApiError::invalid("to_host", "is not given, and no other host that is ready has a slot for it", advice)
    })
}

/// Refuses what would only wait, for a host that does not answer cannot fence; and to give up a key whose host answers.
async fn check_reach(context: &Context, call: &Call, node: &Node, lost: bool) -> Result<(), ApiError> {
    let Some(host) = node.host.as_ref().and_then(|id| call.state.hosts.get(id)) else { return Ok(()) };
    let look = async { context.hosts().connect(host).await?.inspect().await };
    let why = match tokio::time::timeout(context.limits().node_call, look).await {
        Ok(Ok(_)) if lost => {
            let why = format!("is set, but hosts/{} answers", host.id);
            return Err(ApiError::invalid("lost", &why, "move the node with its key, without `--lost`"));
        }
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    if lost {
        return Ok(());
    }
    let why =
        format!("hosts/{} cannot be reached ({why}), so it cannot be proven that the node does not run there", host.id);
    let advice = "bring the host back; or, if it is lost for good, say `--lost` with the reason: the node gets a new key, and what \
                  is left there is removed as soon as it answers and never run again";
    Err(ApiError::invalid("node", &why, advice))
}
