//! Rules of what a chain's nodes run: all checks, then all changes.

use std::collections::BTreeMap;

use super::apply::sync;
use super::height::{AtHeight, HeightStage};
use super::life::{Change, ChangeChain};
use super::life_apply::{begin, check_runs};
use super::node::Node;
use super::node_apply::{go, next_on_way};
use super::outfit::{LIMIT_MS_MAX, LIMIT_MS_MIN, Outfit, Program, Refit, RollBackChain};
use super::rollout_apply::{check_may_roll, check_none_under_way, is_under_way, start};
use super::template::Template;
use super::{Chain, ChainState, REASON_MAX, height, height_apply, query};
use crate::apply::Cx;
use crate::artifact::ArtifactKind;
use crate::cluster::version::Version;
use crate::command::{Actor, Outcome};
use crate::consortium::proposal::{Action, ProposalState};
use crate::digest::Digest;
use crate::ids::{ChainKey, NodeKey, OperationId};
use crate::operation::Work;
use crate::time::Millis;
use crate::{Rejection, State, check, name};

/// Checks that the chain's nodes can be brought to `program` by vote.
pub(super) fn check_upgrade(
    state: &State,
    chain: &Chain,
    program: Option<&Program>,
    limit_ms: Option<u64>,
    accept_outage: bool,
) -> Result<(), Rejection> {
    const FIELD: &str = "action.change_chain.upgrade.program";
    height_apply::check_mendable(chain)?;
    check_may_roll(state, chain, accept_outage, "action.change_chain.upgrade.accept_outage")?;
    if let Some(limit_ms) = limit_ms {
        check::range("action.change_chain.upgrade.limit_ms", limit_ms, LIMIT_MS_MIN, LIMIT_MS_MAX)?;
    }
    if let Some(program) = program {
        check_kept(state, chain, FIELD, program)?;
    }
    // Not asked whether the change before is settled: another program is the way out where one works on no node, and no way leads
    // back. The same one again carries on what was halted, in its own right.
    let is_open = chain.refit.as_ref().is_some_and(|refit| refit.settled_at.is_none());
    if chain.outfit.program.as_ref() == program && !(is_open && is_mixed(state, chain)) {
        let value = chain.outfit.program_words();
        let rule = "another one than what its nodes run already; `hanse chain roll` starts them anew with it";
        return Err(check::invalid(FIELD, value, rule));
    }
    Ok(())
}

/// Checks that the platform keeps the program, under that name and version, and that the chain's nodes can run such a thing.
fn check_kept(state: &State, chain: &Chain, field: &str, program: &Program) -> Result<(), Rejection> {
    let at = |part: &str| format!("{field}.{part}");
    let Some(kept) = state.artifacts.get(&program.sha256) else {
        let what = name::artifact(&program.sha256);
        return Err(Rejection::NotFound { field: at("sha256"), what });
    };
    if kept.name != program.name {
        let rule = format!("{}, as the artifact with this hash is called", kept.name);
        return Err(check::invalid(&at("name"), &program.name, rule));
    }
    if kept.version != program.version {
        let rule = format!("{}, the version of the artifact with this hash", kept.version);
        return Err(check::invalid(&at("version"), &program.version, rule));
    }
    let template = Template::find(&chain.spec.template, chain.spec.template_version)?;
    let wanted = template.program_kind();
    if kept.kind != wanted {
        let rule = format!(
            "a {}, as nodes of the engine {} run; {} {} is a {}",
            wanted.word(),
            template.engine,
            kept.name,
            kept.version,
            kept.kind.word()
        );
        return Err(check::invalid(&at("sha256"), program.sha256, rule));
    }
    Ok(())
}

/// Checks that no change of what the nodes run is unsettled, for settings and more nodes; but one that was given up and cannot be carried out.
pub(super) fn check_may_change(state: &State, chain: &Chain) -> Result<(), Rejection> {
    let Some(refit) = chain.refit.as_ref().filter(|refit| refit.settled_at.is_none()) else { return Ok(()) };
    let is_stuck = chain.rollout.as_ref().is_some_and(|it| it.halted.is_some() && is_under_way(state, chain, it));
    if refit.rolled_back.is_some() && is_stuck {
        return Ok(());
    }
    let needs = format!(
        "the change to {} is not settled: some node does not have it or is not well; let it go on, or roll it back",
        chain.outfit.words()
    );
    Err(check::wrong_state("chain", name::chain(&chain.key), chain.state, &needs))
}

/// Checks that the chain's nodes can be set otherwise by vote: each a setting of the template within its limits, and some of them
/// not as it is.
pub(super) fn check_reconfigure(
    state: &State,
    chain: &Chain,
    settings: &BTreeMap<String, u64>,
    limit_ms: Option<u64>,
    accept_outage: bool,
) -> Result<(), Rejection> {
    const FIELD: &str = "action.change_chain.reconfigure.settings";
    height_apply::check_none(chain)?;
    check_may_roll(state, chain, accept_outage, "action.change_chain.reconfigure.accept_outage")?;
    if let Some(limit_ms) = limit_ms {
        check::range("action.change_chain.reconfigure.limit_ms", limit_ms, LIMIT_MS_MIN, LIMIT_MS_MAX)?;
    }
    let template = Template::find(&chain.spec.template, chain.spec.template_version)?;
    for (name, value) in settings {
        template.check_setting(FIELD, name, *value)?;
    }
    check_may_change(state, chain)?;
    if settings.iter().all(|(name, value)| chain.outfit.settings.get(name) == Some(value)) {
        let value = settings.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ");
        return Err(check::invalid(FIELD, value, "at least one setting that is not so already"));
    }
    Ok(())
}

/// Begins the rolling change that brings the nodes to `program`.
pub(super) fn upgrade(
    state: &mut State,
    cx: &mut Cx<'_>,
    key: &ChainKey,
    program: Option<&Program>,
    limit_ms: Option<u64>,
    reason: &str,
) -> OperationId {
    let now = state.chains.get(key).map(|chain| chain.outfit.clone()).unwrap_or_default();
    refit(state, cx, key, Outfit { program: program.cloned(), ..now }, limit_ms, reason);
    let operation = begin(state, cx, key, Work::Upgrade);
    sync(state, cx, key);
    operation
}

/// Begins the rolling change that brings the nodes to `settings`; those that are not named stay as they are.
pub(super) fn reconfigure(
    state: &mut State,
    cx: &mut Cx<'_>,
    key: &ChainKey,
    settings: &BTreeMap<String, u64>,
    limit_ms: Option<u64>,
    reason: &str,
) -> OperationId {
    let mut outfit = state.chains.get(key).map(|chain| chain.outfit.clone()).unwrap_or_default();
    outfit.settings.extend(settings.clone());
    refit(state, cx, key, outfit, limit_ms, reason);
    let operation = begin(state, cx, key, Work::Reconfigure);
    sync(state, cx, key);
    operation
}

fn refit(state: &mut State, cx: &mut Cx<'_>, key: &ChainKey, outfit: Outfit, limit_ms: Option<u64>, reason: &str) {
    let number = start(state, cx, key, reason);
    let Some(chain) = state.chains.get_mut(key) else { return };
    let given = std::mem::replace(&mut chain.outfit, outfit);
    let before = match &chain.refit {
        // What was on its way to nodes, and is not wanted any more, is nothing to go back to.
        Some(open) if open.settled_at.is_none() && open.rolled_back.is_none() => open.before.clone(),
        Some(_) | None => given,
    };
    // What stands at a height goes on from there with what was voted last.
    let at = height::open(chain).filter(|at| at.stage == HeightStage::Exchanging).cloned();
    let at = at.map(|at| AtHeight { to: chain.outfit.clone(), ..at });
    chain.refit = Some(Refit { before, rollout: number, since: cx.now, settled_at: None, rolled_back: None, at });
    if let Some(rollout) = &mut chain.rollout {
        rollout.limit_ms = limit_ms;
    }
}

pub(crate) fn roll_back(state: &mut State, cx: &mut Cx<'_>, c: &RollBackChain) -> Result<Outcome, Rejection> {
    check::text("reason", &c.reason, REASON_MAX)?;
    let chain = query::get(state, &c.chain)?;
    check_runs(chain)?;
    let wrong = |needs: &str| Err(check::wrong_state("chain", name::chain(&c.chain), chain.state, needs));
    let refit = match &chain.refit {
        None => return wrong("no vote has changed what its nodes run"),
        Some(Refit { settled_at: Some(_), .. }) => {
            let words = chain.outfit.words();
            return wrong(&format!("every node ran {words} and was well: only another vote changes that"));
        }
        Some(Refit { rolled_back: Some(_), .. }) => return wrong("its nodes go back already"),
        Some(refit) => refit.clone(),
    };
    if cx.request.actor == Actor::System && refit.at.as_ref().is_none_or(|at| at.stage != HeightStage::Telling) {
        return wrong("the platform by itself calls off only a change at a height that comes too soon");
    }
    if let Some(node) = query::nodes_of(state, &c.chain).find(|node| node.moving.is_some()) {
        return wrong(&format!("{} goes to another host: wait until it is there", node.key.node));
    }
    let last = chain.rollout.as_ref().map_or(0, |it| it.number);
    if let Some(number) = c.number.filter(|number| *number != last) {
        return wrong(&format!(
            "whether there is a way back was asked during rolling change {number}, and {last} has begun since: ask again"
        ));
    }

    if chain.rollout.as_ref().is_some_and(|it| it.number != refit.rollout) {
        check_none_under_way(state, chain)?;
    }

    let (limit_ms, stay) = (chain.rollout.as_ref().and_then(|it| it.limit_ms), who_stays(state, chain, &refit));
    let number = start(state, cx, &c.chain, &c.reason);
    if let Some(chain) = state.chains.get_mut(&c.chain) {
        let now = std::mem::replace(&mut chain.outfit, refit.before.clone());
        let (given_up, at) = match refit.at {
            Some(at) if at.stage == HeightStage::Telling => {
                (at.to.clone(), Some(AtHeight { stage: HeightStage::CalledOff, ..at }))
            }
            at => (now, at.map(|at| AtHeight { stage: HeightStage::Back, ..at })),
        };
        let rolled_back = Some(check::clip(&c.reason, REASON_MAX));
        chain.refit =
            Some(Refit { before: given_up, rollout: number, since: cx.now, settled_at: None, rolled_back, at });
        if let Some(rollout) = &mut chain.rollout {
            rollout.limit_ms = limit_ms;
        }
    }
    for key in stay {
        if let Some(node) = state.nodes.get_mut(&key) {
            node.rolled = number;
            cx.updated(name::node(&key));
        }
    }
    keyless(state, cx, &c.chain, &refit.before, number);
    let operation = begin(state, cx, &c.chain, Work::RollBack);
    sync(state, cx, &c.chain);
    Ok(Outcome::OperationStarted { resource: name::chain(&c.chain), operation })
}

/// Nodes that are being made anew, as one whose host was lost: no rolling change reaches them before they have keys, and the program
/// that is given up may never make any. They are made with the one before instead.
fn keyless(state: &mut State, cx: &mut Cx<'_>, key: &ChainKey, before: &Outfit, number: u64) {
    if state.version() < Version::HEIGHTS {
        return;
    }
    let is_keyless = |node: &&Node| node.wish.is_run() && node.identity.is_none() && node.outfit != *before;
    let keys: Vec<NodeKey> = query::nodes_of(state, key).filter(is_keyless).map(|node| node.key.clone()).collect();
    for key in keys {
        let Some(mut node) = state.nodes.get(&key).cloned() else { continue };
        node.outfit = before.clone();
        (node.joined, node.rolled) = (number, number);
        node.generation += 1;
        node.intent = None;
        let next = next_on_way(&node);
        go(&mut node, cx.now, next, "it is made with the program before");
        state.nodes.insert(key.clone(), node);
        cx.updated(name::node(&key));
    }
}

/// Nodes that the change has not reached: they have nothing to go back from, and are not touched. Unless they were still to learn
/// from another rolling change where a node is now.
fn who_stays(state: &State, chain: &Chain, refit: &Refit) -> Vec<NodeKey> {
    let other = chain.rollout.as_ref().filter(|it| it.number != refit.rollout).map_or(0, |it| it.number);
    let stays = |node: &&Node| {
        node.outfit == refit.before && node.halt.is_none() && node.identity.is_some() && node.rolled >= other
    };
    query::nodes_of(state, &chain.key).filter(stays).map(|node| node.key.clone()).collect()
}

/// Whether some node that is to run has another outfit than the chain.
pub(super) fn is_mixed(state: &State, chain: &Chain) -> bool {
    query::nodes_of(state, &chain.key).any(|node| node.wish.is_run() && node.outfit != chain.outfit)
}

/// The moment at which the change is settled, if that is now: every node has it and is well.
pub(super) fn settles(state: &State, chain: &Chain, now: Millis) -> Option<Millis> {
    let refit = chain.refit.as_ref()?;
    let is_told_only = refit.at.as_ref().is_some_and(|at| at.stage == HeightStage::Telling);
    let is_due = refit.settled_at.is_none() && chain.state == ChainState::Running && !is_told_only;
    let is_rolled = chain.rollout.as_ref().is_none_or(|rollout| !is_under_way(state, chain, rollout));
    (is_due && is_rolled && !is_mixed(state, chain)).then_some(now)
}

/// Checks that nothing needs the artifact: no chain's nodes run it or may go back to it, and no open vote is about it.
pub(crate) fn check_unused(state: &State, sha256: &Digest) -> Result<(), Rejection> {
    let needs_it = |outfit: &Outfit| outfit.program.as_ref().is_some_and(|program| program.sha256 == *sha256);
    let wrong = |who: String, how: &str| {
        let kept = name::artifact(sha256);
        Err(check::wrong_state("sha256", kept, "Kept", &format!("{who} {how}")))
    };
    if let Some(node) = state.nodes.values().find(|node| needs_it(&node.outfit)) {
        return wrong(name::node(&node.key), "runs it");
    }
    let back = |chain: &&Chain| {
        let refit = chain.refit.as_ref().filter(|refit| refit.settled_at.is_none());
        let next = refit.and_then(|refit| refit.at.as_ref()).map(|at| &at.to);
        needs_it(&chain.outfit) || refit.is_some_and(|refit| needs_it(&refit.before)) || next.is_some_and(needs_it)
    };
    if let Some(chain) = state.chains.values().find(back) {
        return wrong(name::chain(&chain.key), "is to run it, or may go back to it");
    }
    let mut open = state.proposals.values().filter(|proposal| proposal.state == ProposalState::Open);
    let about = |action: &Action| match action {
        Action::ChangeChain(ChangeChain { change: Change::Upgrade { program: Some(program), .. }, .. }) => {
            program.sha256 == *sha256
        }
        Action::ChangeChain(_) | Action::CreateChain(_) => false,
    };
    match open.find(|proposal| about(&proposal.action)) {
        Some(proposal) => wrong(name::proposal(&proposal.key), "is open and would have nodes run it"),
        None => Ok(()),
    }
}

impl Template {
    /// What kind of artifact holds a program of its nodes.
    fn program_kind(&self) -> ArtifactKind {
        if self.engine == "embedded" { ArtifactKind::Program } else { ArtifactKind::Bundle }
    }
}
