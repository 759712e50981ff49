//! Seats among a chain's validators: one after another, and only while the chain can bear it.

use std::collections::BTreeSet;

use hanse_state::State;
use hanse_state::chain::Chain;
use hanse_state::chain::node::{Health, Node, NodeState};
use hanse_state::chain::query::{counted, nodes_of};
use hanse_state::chain::seat::Seat;
use hanse_state::consortium::MemberState;
use hanse_state::consortium::policy::ActionKind;
use hanse_state::ids::{ChainKey, TenantId};

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
    if let Some(why) = obstacle(&validators, chain.lost.len(), seat) {
        return wait(why);
    }
    Step::Do(Act::Seat { node: node.key.clone(), generation: node.generation })
}

fn words(seat: &Seat) -> &'static str {
    if seat.wished { "is to validate" } else { "is to validate no more" }
}

/// Why the ledger would not follow, or the chain would not bear it.
fn obstacle(validators: &[&Node], lost: usize, seat: &Seat) -> Option<String> {
    // The ledger is only asked whether what was begun before has come about; its answer may have another step follow.
    if seat.wished == seat.held {
        return None;
    }
    let is_well = |node: &&&Node| node.state == NodeState::Running && node.health == Health::Healthy;
    let (count, well) = (validators.len() + lost, validators.iter().filter(is_well).count());
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

/// Words if a vote on new validators of these owners can pass here with the owners of fewer validators than their ledger asks.
pub(crate) fn too_few(before: &State, chain: &ChainKey, needed: BTreeSet<&TenantId>) -> Option<String> {
    let consortium = before.consortiums.get(&chain.consortium).filter(|_| !needed.is_empty())?;
    let policy = consortium.charter.policy(ActionKind::ChangeChain)?;
    let own =
        |tenant: &TenantId| nodes_of(before, chain).filter(|node| node.validates() && node.owner == *tenant).count();
    let members = consortium.members.iter().filter(|(_, member)| member.state == MemberState::Active);
    let mut members: Vec<(&TenantId, u64, usize)> =
        members.map(|(tenant, member)| (tenant, member.weight, own(tenant))).collect();
    let total = members.iter().map(|(_, weight, _)| weight).sum();
    // Whoever must agree comes first, then who has the fewest validators.
    members.sort_by_key(|(tenant, weight, own)| (!needed.contains(tenant), *own, u64::MAX - weight));
    let (mut yes, mut theirs, mut agreed) = (0, 0, 0);
    for (tenant, weight, own) in members {
        if policy.holds(yes, total) && agreed >= needed.len() {
            break;
        }
        (yes, theirs, agreed) = (yes + weight, theirs + own, agreed + usize::from(needed.contains(tenant)));
    }
    let all = counted(before, chain);
    (theirs * 3 < all * 2).then(|| {
        format!(
            "the charter lets it pass with the owners of {theirs} of {all} validators, and its ledger asks two thirds of them: with fewer it \
             is decided and waits, until another vote with more of them carries it on or takes it back"
        )
    })
}
