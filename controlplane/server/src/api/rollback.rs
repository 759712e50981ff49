//! Ordering a chain's nodes back to the program that they ran before.
//!
//! Whether an older program reads what a newer one wrote is the ledger's to say: its driver is asked of every node that would go
//! back, before anything is ordered. What cannot be told takes a person's word, which the audit trail keeps.

use hanse_engines_core::WayBack;
use hanse_proto::v1 as pb;
use hanse_state::chain::Chain;
use hanse_state::chain::height::open;
use hanse_state::chain::node::Node;
use hanse_state::chain::outfit::{Outfit, RollBackChain};
use hanse_state::chain::query::nodes_of;
use hanse_state::cluster::version::Version;
use hanse_state::ids::ChainKey;
use hanse_state::{Command, name};

use super::node_call::reach_node;
use super::{Call, chain::chain_key, convert, request_id};
use crate::context::Context;
use crate::error::ApiError;

/// Checks the request and asks the ledger; gives the order.
///
/// # Errors
/// The caller may not; the ledger says no; or it does not know, and the risk was not accepted.
pub(super) async fn order(
    context: &Context,
    call: &Call,
    it: &pb::RollBackChainRequest,
) -> Result<(ChainKey, Command), ApiError> {
    let key = chain_key(&it.consortium, &it.chain)?;
    let chain = call.sight().chain(&key)?;
    let reason = convert::text("reason", it.reason.clone())?;
    // A request that is known was decided then.
    let id = request_id(&it.request_id, context.log_clock())?;
    let known = call.state.dedup.seen.get(&id).is_some_and(|seen| seen.outcome.is_ok());
    let number = (call.state.version() >= Version::HEIGHTS).then(|| judged(chain, known));
    let order = RollBackChain { chain: key.clone(), reason, accept_risk: it.accept_risk, number };
    let command = Command::RollBackChain(order);
    let before = chain.refit.as_ref().filter(|refit| refit.settled_at.is_none() && refit.rolled_back.is_none());
    // What only asks whether it may be done runs nothing on hosts.
    if let (false, false, Some(refit)) = (known, it.validate_only, before) {
        call.may(&command)?;
        ask(context, call, &key, &refit.before, it.accept_risk).await?;
    }
    Ok((key, command))
}

/// The rolling change that the order is judged for. A request that is known began the one after it; asked again it must be the same
/// order.
fn judged(chain: &Chain, known: bool) -> u64 {
    match (&chain.refit, &chain.rollout) {
        (Some(refit), _) if known && refit.rolled_back.is_some() => refit.rollout.saturating_sub(1),
        (_, rollout) => rollout.as_ref().map_or(0, |it| it.number),
    }
}

/// Asks of every node that would go back whether it can.
async fn ask(
    context: &Context,
    call: &Call,
    key: &ChainKey,
    before: &Outfit,
    accept_risk: bool,
) -> Result<(), ApiError> {
    let mut doubts = Vec::new();
    let from = call.state.chains.get(key).and_then(open).map(|at| at.height);
    // Settings alone are no risk: the program stays, and it refuses what it cannot read.
    let goes_back = |node: &&Node| node.outfit.program != before.program && node.host.is_some();
    for node in nodes_of(&call.state, key).filter(goes_back) {
        let named = name::node(&node.key);
        let asked = async {
            let mut reached = reach_node(call, node).await?;
            reached.plan.program = context
                .programs()
                .find(&call.state, before)
                .await
                .map_err(|error| ApiError::node_unavailable(&named, &error.to_string()))?;
            reached.ask(reached.engine.way_back(&*reached.adapter, &reached.plan, from)).await
        };
        match asked.await {
            Ok(WayBack::Open) => {}
            Ok(WayBack::Closed(why)) => {
                let message = format!("{named} cannot go back to {}: {why}", before.program_words());
                let advice = "go on with the new program, or a mended one; what is lost with an older one only a backup brings back";
                return Err(ApiError::precondition("NO_WAY_BACK", &message, advice));
            }
            Ok(WayBack::Unknown(why)) => doubts.push(format!("{named}: {why}")),
            Err(error) => doubts.push(format!("{named} cannot be asked: {}", error)),
        }
    }
    if doubts.is_empty() || accept_risk {
        return Ok(());
    }
    let why = format!("is not set, and nobody can tell whether its nodes can go back: {}", doubts.join("; "));
    Err(ApiError::invalid(
        "accept_risk",
        &why,
        "find out, and accept the risk (`--accept-risk`) if you go back all the same",
    ))
}
