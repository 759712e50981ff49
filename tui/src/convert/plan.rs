//! Plans: the question to the API, and its answer.

use hanse_client::pb;

use crate::app::model::data::Failure;
use crate::app::model::plan::{Plan, Planned};

/// Returns the request; none if the name is not one.
pub(crate) fn request(planned: &Planned) -> Option<pb::PlanChainRequest> {
    use pb::plan_chain_request::Planned as Asked;
    use pb::planned_order::Order;
    let parts = |name: &str, kind: &str| {
        let (consortium, rest) = name.strip_prefix("consortiums/")?.split_once(&format!("/{kind}/"))?;
        Some((consortium.to_owned(), rest.to_owned()))
    };
    let order = |name: &str, order: Order| {
        let (consortium, chain) = parts(name, "chains")?;
        let planned = Asked::Order(pb::PlannedOrder { chain, accept_outage: false, order: Some(order) });
        Some(pb::PlanChainRequest { consortium, planned: Some(planned) })
    };
    match planned {
        Planned::Pause(chain) => order(chain, Order::Pause(pb::PauseChange {})),
        Planned::Resume(chain) => order(chain, Order::Resume(pb::ResumeChange {})),
        Planned::Undelete(chain) => order(chain, Order::Undelete(pb::UndeleteChange {})),
        Planned::Roll(chain) => order(chain, Order::Roll(pb::PlannedRoll {})),
        Planned::RollBack(chain) => order(chain, Order::RollBack(pb::PlannedRollBack {})),
        Planned::Restart(name) => {
            let (chain, node) = name.split_once("/nodes/")?;
            order(chain, Order::Restart(pb::PlannedRestart { node: node.to_owned() }))
        }
        Planned::Move(name) => {
            let (chain, node) = name.split_once("/nodes/")?;
            order(chain, Order::MoveNode(pb::PlannedMove { node: node.to_owned(), ..pb::PlannedMove::default() }))
        }
        Planned::Proposal(name) => {
            let (consortium, proposal) = parts(name, "proposals")?;
            Some(pb::PlanChainRequest { consortium, planned: Some(Asked::Proposal(proposal)) })
        }
    }
}

/// Returns consortium, chain and id of a node.
///
/// # Errors
/// The name is not one of a node.
pub(crate) fn node_parts(name: &str) -> Result<(String, String, String), Failure> {
    let unnamed = || Failure { message: format!("{name} names no node"), ..Failure::default() };
    let (consortium, rest) =
        name.strip_prefix("consortiums/").and_then(|rest| rest.split_once("/chains/")).ok_or_else(unnamed)?;
    let (chain, node) = rest.split_once("/nodes/").ok_or_else(unnamed)?;
    Ok((consortium.to_owned(), chain.to_owned(), node.to_owned()))
}

/// Returns what people read: placement as a sentence, then the server's own.
pub(crate) fn plan(answer: pb::PlanChainResponse) -> Plan {
    if let Some(refusal) = answer.refusal {
        let refused = format!("{} ({})", refusal.message, refusal.advice);
        return Plan { refused, ..Plan::default() };
    }
    let plan = answer.plan.unwrap_or_default();
    let mut words = plan.words;
    let made = plan.nodes.iter().filter(|node| !node.to_host.is_empty() && node.from_host != node.to_host);
    let places: Vec<String> = made.map(|node| format!("{} \u{2192} {}", node.node, node.to_host)).collect();
    if !places.is_empty() {
        words.push(places.join(", "));
    }
    if !plan.order.is_empty() {
        words.push(plan.order.join(" \u{2192} "));
    }
    for cost in plan.costs {
        let of = |money: Option<pb::Money>| money.map(|it| (it.amount, it.currency)).unwrap_or_default();
        let ((before, _), (after, currency)) = (of(cost.before_per_hour), of(cost.after_per_hour));
        if !after.is_empty() {
            words.push(format!("{}: {before} \u{2192} {after} {currency}/h", cost.tenant));
        }
    }
    Plan { refused: String::new(), words, risks: plan.risks }
}
