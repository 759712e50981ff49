//! What a change of a chain would do, before anybody orders it: which node goes where, what is started anew in which order,
//! how many failures the chain survives meanwhile and afterwards, and what it costs.
//!
//! It compares two states: the one that is, and the one that the very rules of the order give
//! ([`preview`](hanse_state::preview)); so placement is the real one. How long a node takes is measured by the chain's own past
//! operations.
//!
//! What this never does: decide whether the change is allowed (the rules do), or promise a time.

use std::collections::{BTreeMap, BTreeSet};

use hanse_state::billing::query::price_now;
use hanse_state::chain::Chain;
use hanse_state::chain::height::{HeightStage, open};
use hanse_state::chain::life::{NodeWish, Wish};
use hanse_state::chain::node::{Health, Node, NodeState};
use hanse_state::chain::query::nodes_of;
use hanse_state::host::HostState;
use hanse_state::host::spread::zone_of;
use hanse_state::ids::{ChainKey, HostId, NodeKey, TenantId};
use hanse_state::operation::{OperationKind, StepState};
use hanse_state::{State, operation};

use crate::quorum;

/// How long a node is taken to need for a start while the chain has none to measure by.
pub const START_GUESS_MS: u64 = 20_000;

/// What a change would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangePlan {
    /// Of which chain.
    pub chain: ChainKey,
    /// What becomes of its nodes, in their order; those that nothing happens to are left out.
    pub nodes: Vec<NodeChange>,
    /// Nodes that are down for a while, one after another, in this order.
    pub order: Vec<NodeKey>,
    /// Where the chain is afterwards, by zone.
    pub zones: Vec<ZoneShare>,
    /// What it survives.
    pub quorum: QuorumPlan,
    /// The same in sentences.
    pub words: Vec<String>,
    /// What a person should know before.
    pub risks: Vec<String>,
    /// What it costs, by tenant; only tenants for whom it changes.
    pub costs: Vec<CostChange>,
}

/// What becomes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeWork {
    /// It is made.
    Make,
    /// It is started anew.
    StartAnew,
    /// It is stopped and keeps everything.
    Stop,
    /// It is started again.
    Start,
    /// It runs until the ledger says that it does not validate, and is removed then.
    Leave,
    /// It is removed with all it holds.
    Remove,
    /// It goes to another host.
    Move,
    /// It becomes a validator.
    Seat,
    /// It is a validator no more, and follows.
    Unseat,
}

/// One node of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeChange {
    /// Which.
    pub node: NodeKey,
    /// Who pays for it.
    pub owner: TenantId,
    /// What becomes of it.
    pub work: NodeWork,
    /// Where it is; `None` of one that is made or has no place.
    pub from: Option<HostId>,
    /// Where it will be; `None` while no host has a slot for it, or if it goes.
    pub to: Option<HostId>,
    /// The failure zone of that host; empty if there is none.
    pub zone: String,
    /// Whether it validates now.
    pub validates: bool,
}

/// What one failure zone has of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneShare {
    /// Its name; `hosts/NAME` for a host without one.
    pub zone: String,
    /// Nodes of the chain.
    pub nodes: usize,
    /// Those of them that will validate.
    pub validators: usize,
}

/// Validators, and how many more of them may fail; below 0 it makes no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How many there are.
    pub validators: usize,
    /// Those that are well.
    pub well: usize,
    /// How many more may fail.
    pub tolerates: i64,
}

/// What a chain survives before, during and after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumPlan {
    /// Now.
    pub now: Standing,
    /// While nodes are down one after another; `None` if none is.
    pub during: Option<Standing>,
    /// For about how long that is, milliseconds.
    pub during_ms: u64,
    /// Afterwards; `None` if it does not run then.
    pub after: Option<Standing>,
}

/// What a tenant pays for the chain's nodes while they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostChange {
    /// Who.
    pub tenant: TenantId,
    /// Nodes that run, before.
    pub nodes_before: usize,
    /// And after.
    pub nodes_after: usize,
    /// The currency and its millionths for one node and hour; `None` if no price is in force.
    pub price: Option<(String, u64)>,
}

impl CostChange {
    /// Millionths of the currency for an hour, before and after; `None` without a price.
    pub fn per_hour_micro(&self) -> Option<(u128, u128)> {
        let rate = u128::from(self.price.as_ref()?.1);
        Some((rate * self.nodes_before as u128, rate * self.nodes_after as u128))
    }
}

/// Returns what changes for the chain between `before` and `after`.
pub fn plan_change(before: &State, after: &State, chain: &ChainKey) -> ChangePlan {
    let changes = changes(before, after, chain);
    let order = order(before, after, chain, &changes);
    let quorum = quorums(before, after, chain, &order);
    let zones = zones(after, chain);
    let costs = costs(before, after, chain);
    let words = words(before, after, chain, &quorum, order.len());
    let risks = risks(before, chain, &changes, &zones, &quorum);
    ChangePlan { chain: chain.clone(), nodes: changes, order, zones, quorum, words, risks, costs }
}

fn changes(before: &State, after: &State, chain: &ChainKey) -> Vec<NodeChange> {
    let keys: BTreeSet<&NodeKey> =
        nodes_of(before, chain).chain(nodes_of(after, chain)).map(|node| &node.key).collect();
    let moved = moved(before, after, chain);
    let change = |key: &NodeKey| {
        let (old, new) = (before.nodes.get(key), after.nodes.get(key));
        let node = new.or(old)?;
        let work = match (old, new) {
            (None, _) => NodeWork::Make,
            (Some(_), None) => NodeWork::Remove,
            // The others are started anew once it is there, to learn of it.
            (Some(old), Some(new)) => work(after, old, new).or_else(|| {
                (moved.is_some() && new.wish.is_run() && new.host.is_some()).then_some(NodeWork::StartAnew)
            })?,
        };
        let to = match work {
            NodeWork::Leave | NodeWork::Remove => None,
            NodeWork::Move => node.moving.as_ref().map(|moving| moving.to.clone()).or_else(|| node.host.clone()),
            NodeWork::Make
            | NodeWork::StartAnew
            | NodeWork::Stop
            | NodeWork::Start
            | NodeWork::Seat
            | NodeWork::Unseat => node.host.clone(),
        };
        let zone = to.as_ref().and_then(|id| after.hosts.get(id)).map(|host| host.zone.clone()).unwrap_or_default();
        Some(NodeChange {
            node: key.clone(),
            owner: node.owner.clone(),
            work,
            from: old.and_then(|node| node.host.clone()),
            to,
            zone,
            validates: node.validates(),
        })
    };
    keys.into_iter().filter_map(change).collect()
}

/// The node that is to go to another host with its key.
fn moved<'a>(before: &State, after: &'a State, chain: &'a ChainKey) -> Option<&'a NodeKey> {
    let was_still = |key: &NodeKey| before.nodes.get(key).is_some_and(|node| node.moving.is_none());
    nodes_of(after, chain)
        .map(|node| (&node.key, node.moving.is_some()))
        .find(|(key, goes)| *goes && was_still(key))
        .map(|it| it.0)
}

/// What becomes of a node that stays; `None` if nothing does.
fn work(after: &State, old: &Node, new: &Node) -> Option<NodeWork> {
    let number = |node: &Node| {
        let rollout = after.chains.get(&node.key.chain).and_then(|chain| chain.rollout.as_ref());
        rollout.filter(|it| it.halted.is_none()).map_or(0, |it| it.number)
    };
    match (old.wish, new.wish) {
        (was, NodeWish::Leave) if was != NodeWish::Leave => Some(NodeWork::Leave),
        (was, NodeWish::Remove) if was != NodeWish::Remove => Some(NodeWork::Remove),
        (NodeWish::Run | NodeWish::Leave, NodeWish::Stop) => Some(NodeWork::Stop),
        (NodeWish::Stop, NodeWish::Run | NodeWish::Leave) => Some(NodeWork::Start),
        _ if will_validate(old) != will_validate(new) && new.identity.is_some() => {
            Some(if will_validate(new) { NodeWork::Seat } else { NodeWork::Unseat })
        }
        _ if new.moving.is_some() && old.moving.is_none() => Some(NodeWork::Move),
        _ if old.host.is_some() && old.host != new.host => Some(NodeWork::Move),
        (_, NodeWish::Run) if old.generation != new.generation || new.rolled < number(new) => Some(NodeWork::StartAnew),
        _ => None,
    }
}

/// Those that are down for a while, in the order in which a rollout takes them: the ill ones first.
fn order(before: &State, after: &State, chain: &ChainKey, changes: &[NodeChange]) -> Vec<NodeKey> {
    let runs = after.chains.get(chain).is_some_and(|chain| chain.wish.is_run() && chain.ran_at.is_some());
    let down = |change: &&NodeChange| matches!(change.work, NodeWork::StartAnew | NodeWork::Move);
    let mut order: Vec<NodeKey> =
        changes.iter().filter(down).filter(|_| runs).map(|change| change.node.clone()).collect();
    let moved = moved(before, after, chain);
    order.sort_by_key(|key| (moved != Some(key), before.nodes.get(key).is_some_and(|node| is_well(before, node))));
    order
}

/// Whether it validates once what was decided has come about.
fn will_validate(node: &Node) -> bool {
    node.seat.as_ref().map_or_else(|| node.validates(), |seat| seat.wished)
}

fn is_well(state: &State, node: &Node) -> bool {
    let host = node.host.as_ref().and_then(|id| state.hosts.get(id));
    let is_kept = host.is_none_or(|host| host.state != HostState::Maintenance);
    node.state == NodeState::Running && node.health == Health::Healthy && is_kept
}

fn quorums(before: &State, after: &State, chain: &ChainKey, order: &[NodeKey]) -> QuorumPlan {
    let now: Vec<&Node> = nodes_of(before, chain).filter(|node| node.validates()).collect();
    let well = |key: &NodeKey| before.nodes.get(key).is_some_and(|node| is_well(before, node));
    let lost_keys = |state: &State| state.chains.get(chain).map_or(0, |chain| chain.lost.len());
    let now = standing(now.len() + lost_keys(before), now.iter().filter(|node| is_well(before, node)).count());
    let disturbs = |key: &&NodeKey| before.nodes.get(*key).is_some_and(|node| node.validates());
    // Whoever is ill already costs nothing more. Nobody finds a node that moved before the first of the others was told.
    let moved = moved(before, after, chain);
    let lost = |(place, key): (usize, &NodeKey)| {
        let unfound = moved.filter(|moved| place == 1 && *moved != key && disturbs(moved) && well(moved));
        usize::from(disturbs(&key) && well(key)) + usize::from(unfound.is_some())
    };
    let steps: Vec<usize> = order.iter().enumerate().map(lost).collect();
    let worst = steps.iter().max().copied().filter(|_| order.iter().any(|key| disturbs(&key)));
    let during = worst.map(|lost| standing(now.validators, now.well - lost));
    let so_long = steps.iter().filter(|lost| moved.is_none() || Some(**lost) == worst).count();
    let runs = after.chains.get(chain).is_some_and(|chain| chain.wish.is_run());
    let stay = nodes_of(after, chain).filter(|node| will_validate(node) && node.wish.is_run());
    let stay: Vec<&Node> = stay.collect();
    // What is made, started or moved is taken to come up; what is ill and left alone stays so.
    let will = |node: &&&Node| {
        let touched = before.nodes.get(&node.key).is_none_or(|old| old != **node) || order.contains(&node.key);
        node.host.is_some() && (touched || well(&node.key))
    };
    let after = runs.then(|| standing(stay.len() + lost_keys(after), stay.iter().filter(will).count()));
    let during_ms = pace_ms(before, chain).0.saturating_mul(so_long as u64);
    QuorumPlan { now, during, during_ms: if during.is_some() { during_ms } else { 0 }, after }
}

fn standing(validators: usize, well: usize) -> Standing {
    let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let tolerates = if validators == 0 { -1 } else { signed(well) - signed(quorum(validators)) };
    Standing { validators, well, tolerates }
}

/// How long a start of one of the chain's nodes takes, by the middle one of its past; and whether that is measured.
pub(crate) fn pace_ms(state: &State, chain: &ChainKey) -> (u64, bool) {
    let of_chain = |kind: &OperationKind| operation::query::chain_of(kind) == chain;
    let operations = state.operations.values().filter(|it| of_chain(&it.kind));
    let starts =
        operations.flat_map(|it| &it.steps).filter(|step| matches!(step.name.as_str(), "start" | "roll" | "tell"));
    let done = starts.filter(|step| step.state == StepState::Done);
    let mut took: Vec<u64> = done.filter_map(|step| Some(step.ended_at?.since(step.started_at?))).collect();
    took.sort_unstable();
    took.get(took.len() / 2).map_or((START_GUESS_MS, false), |middle| ((*middle).max(1_000), true))
}

fn zones(after: &State, chain: &ChainKey) -> Vec<ZoneShare> {
    let mut zones: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for node in nodes_of(after, chain).filter(|node| !matches!(node.wish, NodeWish::Leave | NodeWish::Remove)) {
        let to = node.moving.as_ref().map(|moving| &moving.to).or(node.host.as_ref());
        let Some(host) = to.and_then(|id| after.hosts.get(id)) else { continue };
        let share = zones.entry(zone_of(host)).or_default();
        share.0 += 1;
        share.1 += usize::from(will_validate(node));
    }
    zones.into_iter().map(|(zone, (nodes, validators))| ZoneShare { zone, nodes, validators }).collect()
}

fn costs(before: &State, after: &State, chain: &ChainKey) -> Vec<CostChange> {
    let mut counts: BTreeMap<&TenantId, (usize, usize)> = BTreeMap::new();
    let runs = |node: &&Node| matches!(node.wish, NodeWish::Run | NodeWish::Leave);
    nodes_of(before, chain).filter(runs).for_each(|node| counts.entry(&node.owner).or_default().0 += 1);
    // One that leaves is paid for until it is gone, and then no more.
    let stays = |node: &&Node| node.wish.is_run();
    nodes_of(after, chain).filter(stays).for_each(|node| counts.entry(&node.owner).or_default().1 += 1);
    let changed = counts.into_iter().filter(|(_, (old, new))| old != new);
    changed
        .map(|(tenant, (nodes_before, nodes_after))| CostChange {
            tenant: tenant.clone(),
            nodes_before,
            nodes_after,
            price: price_now(after, tenant),
        })
        .collect()
}

fn words(before: &State, after: &State, chain: &ChainKey, quorum: &QuorumPlan, down: usize) -> Vec<String> {
    let mut words = Vec::new();
    let ran = before.chains.get(chain).is_some_and(|chain| chain.ran_at.is_some() && chain.wish.is_run());
    if ran {
        words.push(format!("now {}", survives(&quorum.now)));
    }
    words.extend(program_words(before, after, chain));
    if let Some(during) = &quorum.during {
        let (pace, measured) = pace_ms(before, chain);
        let by = if measured { "as its starts took so far" } else { "a guess: it was never started before" };
        let each = format!("{down} {} one after another, about {} each ({by})", plural(down, "node"), span(pace));
        words.push(match during.tolerates {
            left if left < 0 => format!("with this it makes no block for about {}: {each}", span(quorum.during_ms)),
            left => {
                let failures = plural(usize::try_from(left).unwrap_or(usize::MAX), "failure");
                format!("with this you tolerate {left} {failures} for about {}: {each}", span(quorum.during_ms))
            }
        });
    }
    if let Some(moved) = moved(before, after, chain).filter(|_| ran) {
        let node = moved.node;
        words.push(format!(
            "once {node} is there the others are started anew, one after another, to learn of it; nobody finds it before the first is back"
        ));
    }
    match (&quorum.after, after.chains.get(chain).map(|chain| &chain.wish)) {
        (Some(standing), _) => words.push(format!("afterwards {}", survives(standing))),
        (None, Some(Wish::Pause { .. })) => words.push("it makes no block until it is resumed".into()),
        (None, Some(Wish::Delete { .. })) => {
            words.push(
                "it makes no block any more, and when the grace is over its nodes are removed with all they hold"
                    .into(),
            );
        }
        (None, Some(Wish::Run | Wish::Watch) | None) => {}
    }
    words
}

/// What the nodes run and how they are set before and after, if that changes; and whether there is a way back.
fn program_words(before: &State, after: &State, chain: &ChainKey) -> Vec<String> {
    let (Some(old), Some(new)) = (before.chains.get(chain), after.chains.get(chain)) else { return Vec::new() };
    if let Some(at) = open(new).filter(|at| at.stage == HeightStage::Telling && open(old).is_none()) {
        let (height, to, from) = (at.height, at.to.program_words(), old.outfit.program_words());
        return vec![
            format!("its nodes are told to stop before block {height}; from that block on they run {to} instead of {from}"),
            "at that block it makes none until enough of them have the next program; that is planned, and nothing is repaired".into(),
            "until then an operator can call it off, afterwards have them go back, as long as none has made that block".into(),
        ];
    }
    if old.outfit == new.outfit {
        return Vec::new();
    }
    let mut words = Vec::new();
    if old.outfit.program != new.outfit.program {
        words.push(format!("its nodes run {} instead of {}", new.outfit.program_words(), old.outfit.program_words()));
    }
    let names: BTreeSet<&String> = old.outfit.settings.keys().chain(new.outfit.settings.keys()).collect();
    for name in names {
        let of = |chain: &Chain| chain.outfit.settings.get(name).map_or("as ordered".to_owned(), u64::to_string);
        if of(old) != of(new) {
            words.push(format!("{name} of its nodes is {} instead of {}", of(new), of(old)));
        }
    }
    if new.refit.as_ref().is_none_or(|refit| refit.rolled_back.is_none()) {
        words.push("until every node has it and is well, an operator can have those that were reached go back".into());
    }
    words
}

fn survives(standing: &Standing) -> String {
    let Standing { validators, well, tolerates } = standing;
    let of =
        format!("{well} of {validators} {} well", if *validators == 1 { "validator is" } else { "validators are" });
    match tolerates {
        left if *left < 0 => format!("{of}: it makes no block, it needs {}", quorum(*validators)),
        left => {
            format!("{of}: it tolerates {left} {}", plural(usize::try_from(*left).unwrap_or(usize::MAX), "failure"))
        }
    }
}

fn risks(
    before: &State,
    chain: &ChainKey,
    changes: &[NodeChange],
    zones: &[ZoneShare],
    quorum: &QuorumPlan,
) -> Vec<String> {
    let mut risks = Vec::new();
    let unplaced = changes.iter().filter(|change| change.work == NodeWork::Make && change.to.is_none()).count();
    if unplaced > 0 {
        risks.push(format!("{unplaced} {} no slot on any host and would wait for one", plural_verb(unplaced)));
    }
    let joins = changes.iter().filter(|change| change.work == NodeWork::Seat);
    risks.extend(crate::seat::too_few(before, chain, joins.map(|change| &change.owner).collect()));
    if let Some(after) = &quorum.after {
        let tolerated = after.validators.saturating_sub(crate::quorum(after.validators));
        for zone in zones.iter().filter(|zone| zone.validators > tolerated && after.validators > 1) {
            let ZoneShare { zone, validators, .. } = zone;
            let all = after.validators;
            risks.push(format!(
                "{zone} has {validators} of {all} validators: the chain makes no block while it is down"
            ));
        }
        if after.tolerates < quorum.now.tolerates.min(1) && quorum.now.validators > 0 {
            risks.push(format!(
                "afterwards it tolerates {} failures, now it tolerates {}",
                after.tolerates.max(0),
                quorum.now.tolerates.max(0)
            ));
        }
    }
    if quorum.during.is_some() {
        let ill = nodes_of(before, chain).filter(|node| node.wish.is_run() && !is_well(before, node));
        let ill: Vec<String> = ill.map(|node| node.key.node.to_string()).collect();
        if !ill.is_empty() {
            risks.push(format!("{} not well: whatever is started anew waits for that", join(&ill)));
        }
    }
    risks
}

fn join(names: &[String]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

fn plural_verb(count: usize) -> &'static str {
    if count == 1 { "node has" } else { "nodes have" }
}

/// A span of time for people: seconds up to a minute and a half, then minutes, rounded up.
fn span(ms: u64) -> String {
    let seconds = ms.div_ceil(1_000);
    if seconds <= 90 {
        return format!("{seconds} {}", plural(usize::try_from(seconds).unwrap_or(usize::MAX), "second"));
    }
    format!("{} minutes", seconds.div_ceil(60))
}
