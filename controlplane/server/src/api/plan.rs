//! What a change of a chain would do: the state's own rules over a copy of it, and the planner's words about the difference.

use hanse_planner::change::plan_change;
use hanse_proto::v1 as pb;
use hanse_state::chain::life::{PauseChain, ResumeChain, UndeleteChain};
use hanse_state::chain::moving::MoveNode;
use hanse_state::chain::node::RestartNode;
use hanse_state::chain::outfit::RollBackChain;
use hanse_state::chain::rollout::RollChain;
use hanse_state::consortium::proposal::{Action, OpenProposal};
use hanse_state::ids::{ChainKey, ConsortiumId, NodeKey, ProposalKey};
use hanse_state::{Actor, Command, Planned, preview};

use super::convert::{self, required};
use super::{Call, chain::chain_key, height, moving};
use crate::error::ApiError;
use crate::propose::system_id;

/// Stands for the reason that an order will be given.
const REASON: &str = "planned";

/// Answers `PlanChain`: a plan, or why the change would be refused.
///
/// # Errors
/// The request itself is wrong, or names what the caller may not see.
pub(super) fn answer(call: &Call, request: pb::PlanChainRequest) -> Result<pb::PlanChainResponse, ApiError> {
    let (chain, planned) = planned(call, request)?;
    let actor = Actor::Account(call.caller.account.id.clone());
    let at = call.context.log_clock();
    let header = call.read_header();
    match preview(&call.state, &actor, system_id()?, at, &planned) {
        Ok(after) => {
            let plan = plan_change(&call.state, &after, &chain);
            let plan = Some(convert::change::plan(&plan, |tenant| call.sight().sees_bills(tenant)));
            Ok(pb::PlanChainResponse { header, plan, refusal: None })
        }
        Err(no) => {
            let refusal = Some(convert::change::refusal(&no));
            Ok(pb::PlanChainResponse { header, plan: None, refusal })
        }
    }
}

/// Which chain the plan is about, and what is planned.
fn planned(call: &Call, request: pb::PlanChainRequest) -> Result<(ChainKey, Planned), ApiError> {
    use pb::plan_chain_request::Planned as Asked;
    let consortium: ConsortiumId = convert::id("consortium", &request.consortium)?;
    call.sight().consortium(&consortium)?;
    let of = |action: &Action| match action {
        Action::CreateChain(spec) => ChainKey::new(consortium.clone(), spec.chain.clone()),
        Action::ChangeChain(change) => ChainKey::new(consortium.clone(), change.chain.clone()),
    };
    match required("planned", request.planned)? {
        Asked::Action(action) => {
            let action = convert::consortium::action_in(&call.state, &consortium, Some(action))?;
            height::check(call, &consortium, "", &action)?;
            let (chain, title) = (of(&action), REASON.to_owned());
            let open = OpenProposal { consortium: consortium.clone(), title, action, voting_period_ms: None };
            Ok((chain, Planned::Order(Box::new(Command::OpenProposal(open)))))
        }
        Asked::Proposal(id) => {
            let key = ProposalKey::new(consortium.clone(), convert::id("proposal", &id)?);
            Ok((of(&call.sight().proposal(&key)?.action), Planned::Passed(key)))
        }
        Asked::Order(order) => {
            let chain = chain_key(&request.consortium, &order.chain)?;
            call.sight().chain(&chain)?;
            let command = command(call, &chain, order)?;
            Ok((chain, Planned::Order(Box::new(command))))
        }
    }
}

fn command(call: &Call, chain: &ChainKey, order: pb::PlannedOrder) -> Result<Command, ApiError> {
    use pb::planned_order::Order;
    let (key, reason, accept_outage) = (chain.clone(), REASON.to_owned(), order.accept_outage);
    Ok(match required("order.order", order.order)? {
        Order::Roll(pb::PlannedRoll {}) => Command::RollChain(RollChain { chain: key, reason, accept_outage }),
        Order::Restart(it) => {
            let node = NodeKey::new(key, convert::id("order.restart.node", &it.node)?);
            let generation = call.sight().node(&node)?.generation;
            Command::RestartNode(RestartNode { node, generation, reason, accept_outage })
        }
        Order::MoveNode(it) => {
            let node = call.sight().node(&NodeKey::new(key, convert::id("order.move_node.node", &it.node)?))?;
            let to = moving::target(call, node, &it.to_host)?;
            let (key, generation, lost) = (node.key.clone(), node.generation, it.lost);
            Command::MoveNode(MoveNode { node: key, generation, to, reason, accept_outage, lost })
        }
        Order::RollBack(pb::PlannedRollBack {}) => {
            Command::RollBackChain(RollBackChain { chain: key, reason, accept_risk: false, number: None })
        }
        Order::Pause(pb::PauseChange {}) => Command::PauseChain(PauseChain { chain: key, reason }),
        Order::Resume(pb::ResumeChange {}) => Command::ResumeChain(ResumeChain { chain: key, reason }),
        Order::Undelete(pb::UndeleteChange {}) => Command::UndeleteChain(UndeleteChain { chain: key, reason }),
    })
}
