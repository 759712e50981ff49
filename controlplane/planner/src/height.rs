//! A change of program that all nodes make at one height: told while there is time, called off when there is none left, exchanged when
//! they stand there.
//!
//! Heights are what this leader saw; nothing is decided by them but that it is too late to tell (which harms nobody: whoever was
//! not told goes on with the program before, and so do all others then). That a node stands at the height is the log's word.

use hanse_state::chain::Chain;
use hanse_state::chain::height::{AtHeight, HaltStage, HeightStage, open};
use hanse_state::chain::node::{Health, Node, NodeState};
use hanse_state::chain::query::nodes_of;
use hanse_state::ids::ChainKey;
use hanse_state::{Millis, State};

use crate::change::pace_ms;
use crate::rollout::{ROLL_LIMIT_MS, has_ended, illness, roll, wait_or_halt};
use crate::{Act, Observed, Step, quorum};

/// How many blocks before the height it is too late to tell a node: what was seen last is some blocks old.
pub const TELL_BLOCKS_MIN: u64 = 5;
/// A block's time where its template says none, milliseconds.
const BLOCK_MS: u64 = 1_000;

/// Blocks that a chain is granted to have all its nodes told, one after another, as its starts took so far.
pub fn lead(state: &State, chain: &Chain) -> u64 {
    let block_ms = chain.spec.parameters.get("block_time_ms").copied().unwrap_or(BLOCK_MS).max(1);
    let nodes = nodes_of(state, &chain.key).count() as u64;
    nodes.saturating_mul(pace_ms(state, &chain.key).0).div_ceil(block_ms).saturating_add(TELL_BLOCKS_MIN)
}

/// The greatest height that this leader saw on the chain; `None` if it has heard no node.
pub fn best(observed: &Observed, chain: &ChainKey) -> Option<u64> {
    let of_chain = observed.nodes.iter().filter(|(key, _)| key.chain == *chain);
    of_chain.filter_map(|(_, view)| view.health.as_ref()).map(|health| health.height).max()
}

/// Returns the next step of the chain's change at a height; `None` if there is none, or if it goes one node after another now.
pub(crate) fn plan_height(state: &State, chain: &Chain, observed: &Observed, now: Millis) -> Option<Step> {
    let at = open(chain)?;
    let number = chain.refit.as_ref().map_or(0, |refit| refit.rollout);
    let nodes: Vec<&Node> = nodes_of(state, &chain.key).filter(|node| node.wish.is_run()).collect();
    match at.stage {
        HeightStage::Telling => tell(chain, at, number, &nodes, (observed, now)),
        HeightStage::CalledOff => None,
        HeightStage::Exchanging | HeightStage::Back => exchange(chain, at, &nodes, (observed, now)),
    }
}

fn tell(
    chain: &Chain,
    at: &AtHeight,
    number: u64,
    nodes: &[&Node],
    (observed, now): (&Observed, Millis),
) -> Option<Step> {
    let is_told = |node: &Node| node.halt.is_some_and(|halt| halt.stage >= HaltStage::Told);
    let best = best(observed, &chain.key).unwrap_or(0);
    let untold: Vec<&&Node> = nodes.iter().filter(|node| !is_told(node)).collect();
    if let Some(first) = untold.first() {
        let is_late = best.saturating_add(TELL_BLOCKS_MIN) >= at.height;
        let reason = format!(
            "called off: the chain is at height {best} and {} of {} nodes ({} first) do not know yet that they stop before block {}; \
             vote on a later height",
            untold.len(),
            nodes.len(),
            first.key.node,
            at.height
        );
        let is_being_told = || nodes.iter().all(|node| node.rolled >= number);
        return match is_late {
            true => Some(Step::Do(Act::CallOff { chain: chain.key.clone(), reason })),
            false if is_being_told() => {
                Some(Step::wait(format!("{} is being told to stop before block {}", first.key.node, at.height)))
            }
            false => None,
        };
    }
    let stands = |node: &&&Node| node.stands_at() == Some(at.height);
    let validators: Vec<&Node> = nodes.iter().copied().filter(|node| node.validates()).collect();
    let stand = validators.iter().filter(|node| node.stands_at().is_some()).count();
    // Who is away keeps nobody: it knows, and goes no further than the others.
    let limit = chain.rollout.as_ref().and_then(|it| it.limit_ms).unwrap_or(ROLL_LIMIT_MS);
    let missing = nodes.iter().find(|node| !stands(node) && !is_away(node, limit, now));
    if stand >= quorum(validators.len() + chain.lost.len()) && missing.is_none() {
        return Some(Step::Do(Act::Exchange { chain: chain.key.clone(), number }));
    }
    let count = nodes.iter().filter(stands).count();
    let (all, height) = (nodes.len(), at.height);
    Some(Step::wait(format!("{count} of {all} nodes stand before block {height}, the chain is at height {best}")))
}

/// Whether the node takes no part, and has not for that long.
fn is_away(node: &Node, limit: u64, now: Millis) -> bool {
    let is_well = node.state == NodeState::Running && node.health == Health::Healthy;
    !is_well && now.since(node.state_since) >= limit
}

/// Whether the node takes part by the log's word, and was not seen to have ended since. One that no leader has looked at yet is up.
fn is_up(node: &Node, observed: &Observed) -> bool {
    node.state == NodeState::Running && node.health == Health::Healthy && !has_ended(node, observed)
}

/// All at once: none of them makes a block before enough of them go on. One that does and has what the chain's nodes run is down for
/// nothing, if a later rolling change is about something else: it takes its turn in that, as in every other.
fn exchange(chain: &Chain, at: &AtHeight, nodes: &[&Node], (observed, now): (&Observed, Millis)) -> Option<Step> {
    let rollout = chain.rollout.as_ref()?;
    let goes_on = |node: &Node| node.outfit == chain.outfit && node.halt.is_none() && is_up(node, observed);
    let due: Vec<&&Node> = nodes.iter().filter(|node| node.rolled < rollout.number && !goes_on(node)).collect();
    if due.is_empty() {
        return None;
    }
    if let Some(reason) = &rollout.halted {
        return Some(Step::wait(format!("rolling change {} is halted: {reason}", rollout.number)));
    }
    let may =
        |node: &&&&Node| at.stage == HeightStage::Back || node.halt.is_none() || node.stands_at() == Some(at.height);
    if let Some(node) = due.iter().find(may) {
        return Some(roll(node, rollout.number));
    }
    for node in nodes.iter().filter(|node| node.rolled == rollout.number) {
        if let Some(ill) = illness(node, nodes, observed) {
            return Some(wait_or_halt(chain, rollout, node, ill, (observed, now)));
        }
    }
    let away: Vec<String> = due.iter().map(|node| node.key.node.to_string()).collect();
    Some(Step::wait(format!("{} must come to block {} with the program before", away.join(", "), at.height)))
}
