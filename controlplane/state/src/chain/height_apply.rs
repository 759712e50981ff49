//! Rules of a change of program at one height: all checks, then all changes.

use super::apply::sync;
use super::height::{AtHeight, ExchangeProgram, HaltStage, HeightStage, NodeHalt, open};
use super::life_apply::{begin, check_runs};
use super::node::{Health, Node, NodeState};
use super::outfit::{Outfit, Program, Refit};
use super::rollout::Rollout;
use super::rollout_apply::start;
use super::seat::{Seat, quorum};
use super::template::Template;
use super::{Chain, ChainState, REASON_MAX, query};
use crate::apply::Cx;
use crate::command::Outcome;
use crate::ids::{ChainKey, OperationId};
use crate::operation::Work;
use crate::{Rejection, State, check, name};

/// The lowest height that a vote can name: the first block comes from the genesis.
const HEIGHT_MIN: u64 = 2;

/// Checks, besides what every change of the program needs, that the chain's nodes can stop at that height.
pub(super) fn check(state: &State, chain: &Chain, height: u64) -> Result<(), Rejection> {
    const FIELD: &str = "action.change_chain.upgrade.at_height";
    let template = Template::find(&chain.spec.template, chain.spec.template_version)?;
    let wrong = |needs: &str| Err(check::wrong_state("chain", name::chain(&chain.key), chain.state, needs));
    if !template.halts_at_height() {
        let rule = "left out: nodes of this ledger stop at a height that its members sign on the chain itself (`hanse chain govern \
                    ... upgrade`), if their program does not know what comes then; exchange it before, one node after another";
        return Err(check::invalid(FIELD, height, rule));
    }
    check::range(FIELD, height, HEIGHT_MIN, i64::MAX.unsigned_abs())?;
    if let Some(refit) = chain.refit.as_ref().filter(|refit| refit.settled_at.is_none()) {
        let way = if refit.rolled_back.is_some() { "wait for the end of its way back" } else { "roll it back" };
        return wrong(&format!("the change to {} is not settled: let it go on, or {way}", chain.outfit.words()));
    }
    for node in query::nodes_of(state, &chain.key) {
        let id = node.key.node;
        if !node.wish.is_run() || node.identity.is_none() {
            return wrong(&format!("{id} joins or leaves it: wait for the end of that"));
        }
        if node.seat.as_ref().is_some_and(Seat::is_due) {
            return wrong(&format!("{id} is about to take or give up its seat: wait for the end of that"));
        }
    }
    Ok(())
}

/// Checks that the nodes are not on their way to the height at which they change: whatever starts them anew, moves them or changes
/// who validates would have to know of it.
pub(super) fn check_none(chain: &Chain) -> Result<(), Rejection> {
    let Some(at) = open(chain).filter(|at| matches!(at.stage, HeightStage::Telling | HeightStage::Exchanging)) else {
        return Ok(());
    };
    let needs = format!(
        "its nodes change to {} at block {}: wait for the end of that, or have it called off (`hanse chain rollback`)",
        at.to.words(),
        at.height
    );
    Err(check::wrong_state("chain", name::chain(&chain.key), chain.state, &needs))
}

/// As [`check_none`], but for the ways out of an exchange that has halted: another program, and a new home for a node whose host is
/// lost.
pub(super) fn check_mendable(chain: &Chain) -> Result<(), Rejection> {
    let is_exchanging = open(chain).is_some_and(|at| at.stage == HeightStage::Exchanging);
    let is_halted = chain.rollout.as_ref().is_some_and(|rollout| rollout.halted.is_some());
    if is_exchanging && is_halted { Ok(()) } else { check_none(chain) }
}

/// Gives a node that begins again with an empty home what it begins with, whatever it ran and was told before: the program before,
/// and, if the exchange goes on, the height where it gets the next one as the others did.
pub(super) fn begin_again(chain: &Chain, node: &mut Node) {
    node.halt = None;
    node.returns = false;
    let (Some(at), Some(refit)) = (open(chain), &chain.refit) else { return };
    match at.stage {
        HeightStage::Exchanging => {
            node.outfit = refit.before.clone();
            node.halt = Some(NodeHalt { height: at.height, stage: HaltStage::Ordered });
            // The exchange is still due with it.
            node.rolled = node.rolled.saturating_sub(1);
        }
        HeightStage::Telling | HeightStage::CalledOff | HeightStage::Back => node.outfit = chain.outfit.clone(),
    }
}

/// Has rolling change `number`, by which the others learn where a lost node is made anew, carry on the change at a height: an
/// exchange that has halted stays so, for a person to decide.
pub(super) fn carry_on(chain: &mut Chain, number: u64, before: Option<Rollout>) {
    let Some(stage) = open(chain).map(|at| at.stage) else { return };
    if let Some(refit) = &mut chain.refit {
        refit.rollout = number;
    }
    if let (Some(rollout), Some(before)) = (&mut chain.rollout, before) {
        rollout.limit_ms = before.limit_ms;
        rollout.halted = before.halted.filter(|_| stage == HeightStage::Exchanging);
    }
}

/// Begins the rolling change that tells the nodes at which height they stop.
pub(super) fn upgrade(
    state: &mut State,
    cx: &mut Cx<'_>,
    key: &ChainKey,
    (program, height): (Option<&Program>, u64),
    limit_ms: Option<u64>,
    reason: &str,
) -> OperationId {
    let number = start(state, cx, key, reason);
    if let Some(chain) = state.chains.get_mut(key) {
        let before = chain.outfit.clone();
        let to = Outfit { program: program.cloned(), ..before.clone() };
        let at = Some(AtHeight { height, to, stage: HeightStage::Telling });
        chain.refit = Some(Refit { before, rollout: number, since: cx.now, settled_at: None, rolled_back: None, at });
        if let Some(rollout) = &mut chain.rollout {
            rollout.limit_ms = limit_ms;
        }
    }
    let operation = begin(state, cx, key, Work::UpgradeAt);
    sync(state, cx, key);
    operation
}

pub(crate) fn exchange(state: &mut State, cx: &mut Cx<'_>, c: &ExchangeProgram) -> Result<Outcome, Rejection> {
    let chain = query::get(state, &c.chain)?;
    check_runs(chain)?;
    let resource = name::chain(&c.chain);
    let wrong = |needs: &str| Err(check::wrong_state("chain", name::chain(&c.chain), chain.state, needs));
    let Some((refit, at)) = chain.refit.as_ref().and_then(|refit| Some((refit, refit.at.as_ref()?))) else {
        return wrong("no change of its program at a height was voted");
    };
    match at.stage {
        HeightStage::Telling if refit.rollout == c.number => {}
        HeightStage::Telling | HeightStage::CalledOff | HeightStage::Exchanging | HeightStage::Back => {
            return wrong("another change of its program came in between, or the exchange has begun");
        }
    }
    if let Some(node) = query::nodes_of(state, &c.chain).find(|node| !is_told(node, at.height)) {
        return wrong(&format!("{} was not told to stop at block {}", node.key.node, at.height));
    }
    let validators: Vec<&Node> = query::nodes_of(state, &c.chain).filter(|node| node.validates()).collect();
    let stand = validators.iter().filter(|node| node.stands_at() == Some(at.height)).count();
    let counted = query::counted(state, &c.chain);
    if stand < quorum(counted) {
        return wrong(&format!("{stand} of {counted} validators stand before block {}", at.height));
    }

    let limit_ms = chain.rollout.as_ref().and_then(|it| it.limit_ms);
    let reason = format!("block {} is reached", at.height);
    let number = start(state, cx, &c.chain, &reason);
    if let Some(chain) = state.chains.get_mut(&c.chain)
        && let Some(refit) = &mut chain.refit
        && let Some(at) = &mut refit.at
    {
        at.stage = HeightStage::Exchanging;
        refit.rollout = number;
        chain.outfit = at.to.clone();
        if let Some(rollout) = &mut chain.rollout {
            rollout.limit_ms = limit_ms;
        }
    }
    sync(state, cx, &c.chain);
    Ok(Outcome::Done { resource })
}

/// Whether the node's process knows that it stops at that height.
fn is_told(node: &Node, height: u64) -> bool {
    node.halt.is_some_and(|halt| halt.height == height && halt.stage >= HaltStage::Told)
}

/// The halt that a node has once the rolling change under way has reached it; none goes to the next program before it was seen to
/// stand where that begins.
pub(super) fn halt_of(chain: &Chain, node: &Node) -> Result<Option<NodeHalt>, Rejection> {
    let Some(at) = open(chain) else { return Ok(node.halt) };
    match at.stage {
        HeightStage::Telling => Ok(Some(NodeHalt { height: at.height, stage: HaltStage::Ordered })),
        HeightStage::Exchanging if node.halt.is_some() && node.stands_at() != Some(at.height) => {
            let needs =
                format!("it does not stand before block {} yet: it goes there with the program before", at.height);
            Err(check::wrong_state("node", name::node(&node.key), node.state, &needs))
        }
        HeightStage::Exchanging | HeightStage::CalledOff | HeightStage::Back => Ok(None),
    }
}

/// Whether the rolling change under way takes the node from the next program back to the one before: once, however many others come
/// before it is configured. Whoever has gone back makes the block with the program before, and is not asked again.
pub(super) fn returns(chain: &Chain, node: &Node) -> bool {
    let goes_back = open(chain).is_some_and(|at| at.stage == HeightStage::Back);
    goes_back && (node.returns || node.outfit != chain.outfit)
}

/// Its process was started with the configuration of this generation.
pub(super) fn started(node: &mut Node) {
    if let Some(halt) = node.halt.as_mut().filter(|halt| halt.stage == HaltStage::Ordered) {
        halt.stage = HaltStage::Told;
    }
}

/// It was seen to stand before that block.
pub(super) fn halted(node: &mut Node, height: u64) -> Result<(), Rejection> {
    let (resource, state) = (name::node(&node.key), node.state);
    match &mut node.halt {
        Some(halt) if halt.height == height && halt.stage >= HaltStage::Told => {
            halt.stage = HaltStage::Reached;
            if node.state == NodeState::Running {
                node.state_reason = format!("it stands before block {height}, where its program is exchanged");
            }
            Ok(())
        }
        Some(_) | None => Err(check::wrong_state("fact", resource, state, "it was not told to stop at that height")),
    }
}

/// Checks that the node does not stand where its program is exchanged: started again with the one before it would only end there.
pub(super) fn check_goes_on(node: &Node) -> Result<(), Rejection> {
    let Some(height) = node.stands_at() else { return Ok(()) };
    let needs = format!(
        "it stands before block {height}, where its program is exchanged, and is started with the next one when enough of its chain do; \
         `hanse chain show` says how far that is, and `hanse chain rollback` whether it can still be called off"
    );
    Err(check::wrong_state("node", name::node(&node.key), node.state, &needs))
}

/// State and reason of a chain that makes no block because its program is exchanged at this height.
pub(super) fn state_of(chain: &Chain, nodes: &[&Node]) -> Option<(ChainState, String)> {
    let at = open(chain)?;
    let stands = |node: &&&Node| node.stands_at() == Some(at.height);
    let is_well = |node: &&&Node| node.state == NodeState::Running && node.health == Health::Healthy;
    let goes_on = |node: &&&Node| match at.stage {
        HeightStage::Telling | HeightStage::CalledOff => !stands(node),
        HeightStage::Exchanging | HeightStage::Back => node.halt.is_none() && is_well(node),
    };
    let validators: Vec<&&Node> = nodes.iter().filter(|node| node.validates()).collect();
    if validators.iter().copied().filter(goes_on).count() >= quorum(validators.len() + chain.lost.len()) {
        return None;
    }
    let (count, height) = (nodes.len(), at.height);
    let words = match at.stage {
        HeightStage::Telling => {
            let stand = nodes.iter().filter(stands).count();
            format!(
                "as was voted, it stops before block {height} for {}: {stand} of {count} nodes stand there",
                at.to.words()
            )
        }
        HeightStage::CalledOff => format!("the change at block {height} is called off: its nodes are told to go on"),
        HeightStage::Exchanging | HeightStage::Back => {
            let on = nodes.iter().filter(goes_on).count();
            format!("at block {height} its nodes go on with {}: {on} of {count} do", chain.outfit.words())
        }
    };
    let say = |node: &&Node| {
        let reason = if node.state_reason.is_empty() { String::new() } else { format!(" ({})", node.state_reason) };
        format!("; {} {}{reason}", node.key.node, format!("{:?}", node.state).to_lowercase())
    };
    let ill = nodes.iter().filter(|node| !is_well(node)).map(say);
    Some((ChainState::Halted, check::clip(&(words + &ill.collect::<String>()), REASON_MAX)))
}
