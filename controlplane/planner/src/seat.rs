//! Seats among a chain's validators: one after another, and only while the chain can bear it.

use hanse_state::State;
use hanse_state::chain::Chain;
use hanse_state::chain::node::{Health, Node, NodeState};
use hanse_state::chain::query::nodes_of;
use hanse_state::chain::seat::Seat;

use crate::rollout::illness;
use crate::{Act, Observed, Step, quorum};

/// Returns the next step of a seat that was decided; `None` if there is none to be taken or given up.
pub(crate) fn plan_seat(state: &State, chain: &Chain, observed: &Observed) -> Option<Step> {
    let nodes: Vec<&Node> = nodes_of(state, &chain.key).filter(|node| node.wish.is_run()).collect();
    let due = nodes.iter().filter_map(|node| Some((*node, node.seat.as_ref().filter(|seat| seat.is_due())?)));
    // One that has to wait keeps no other from its turn.
    let steps: Vec<Step> = due.map(|(node, seat)| plan_one(state, chain, (node, seat), &nodes, observed)).collect();
    steps.iter().find(|step| matches!(step, Step::Do(_))).or(steps.first()).cloned()
}

fn plan_one(state: &State, chain: &Chain, (node, seat): (&Node, &Seat), nodes: &[&Node], observed: &Observed) -> Step {
    let wait = |why: String| Step::wait(format!("{} {}: {why}", node.key.node, words(seat)));
    if node.moving.is_some() {
        return wait("it goes to another host first".into());
    }
    if let Some(ill) = illness(node, nodes, observed) {
        return wait(format!("it is not well: {ill}"));
    }
    let validators: Vec<&Node> = nodes_of(state, &chain.key).filter(|node| node.validates()).collect();
    if let Some(why) = obstacle(&validators, seat) {
        return wait(why);
    }
    Step::Do(Act::Seat { node: node.key.clone(), generation: node.generation })
}

fn words(seat: &Seat) -> &'static str {
    if seat.wished { "is to validate" } else { "is to validate no more" }
}

/// Why the ledger would not follow, or the chain would not bear it.
fn obstacle(validators: &[&Node], seat: &Seat) -> Option<String> {
    let is_well = |node: &&&Node| node.state == NodeState::Running && node.health == Health::Healthy;
    let (count, well) = (validators.len(), validators.iter().filter(is_well).count());
    if seat.wished {
        // The ledger's own vote: two thirds of the power take part, and only who agreed here does.
        let consent = validators.iter().filter(|node| seat.consent.contains(&node.owner)).count();
        if consent * 3 < count * 2 {
            return Some(format!(
                "the owners of {consent} of {count} validators voted for it, and its ledger asks two thirds of them; more must agree, \
                 by another vote"
            ));
        }
    }
    let (after, left) =
        if seat.wished { (count + 1, well + 1) } else { (count.saturating_sub(1), well.saturating_sub(1)) };
    if after == 0 {
        return Some("it is the last validator".into());
    }
    if left < quorum(after) && !seat.accept_outage {
        let needed = quorum(after);
        return Some(format!("then {left} of {after} validators would be well, and the chain needs {needed}"));
    }
    None
}
