//! A process that lives and does nothing: it gives no answer, or its height stands while its chain goes on.
//!
//! Only what this leader has seen in several looks counts, from the first of them to the last: a new leader counts anew, and
//! a leader that slept counts nothing. What a node says of itself (a disk that is full, a height at which it was to halt, no
//! peers) is not mended by starting it again, so such a node is left to people; so is a chain that stands as a whole.

use hanse_state::Millis;
use hanse_state::chain::node::{Health, Node, NodeState};

use crate::rollout::ROLL_BEHIND_MAX;
use crate::{Observed, Run};

/// How long a node is seen to do nothing before it counts as hanging, unless the replica is configured otherwise.
pub const HANG_MS: u64 = 60_000;
/// The least for one that has done nothing yet since it was started: a large ledger takes its time to be read and fetched.
pub const HANG_START_MS: u64 = 600_000;
/// In how many looks it must be seen so: one lost answer is nothing, however long it took to be lost.
pub const HANG_LOOKS: u32 = 3;
/// How many blocks its chain must be ahead of a node that stands still.
pub const HANG_BEHIND: u64 = 20;

/// Since when a node whose process runs does nothing, by the looks of this leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quiet {
    /// Generation of the process that was looked at.
    pub generation: u64,
    /// When the first look in a row began that got no answer; `None` if the last one did.
    pub silent_since: Option<Millis>,
    /// The first look at which it was [`HANG_BEHIND`] behind its chain, if it has stood at that height since.
    pub behind_since: Option<Millis>,
    /// The first look in a row at which it was further behind its chain than a rolling change lets a node be, whether it goes on or not.
    pub trails_since: Option<Millis>,
    /// How many looks in a row have seen it silent or standing.
    pub looks: u32,
    /// Whether its height was seen to rise in this generation.
    pub has_risen: bool,
    /// The last look.
    pub at: Millis,
}

impl Quiet {
    /// What is known after a look that began at `began` and had no answer at `at`.
    pub fn after_silence(before: Option<Self>, generation: u64, began: Millis, at: Millis) -> Self {
        let before = before.filter(|it| it.generation == generation);
        let known = before.filter(|it| it.silent_since.is_some());
        Self {
            generation,
            silent_since: Some(known.and_then(|it| it.silent_since).unwrap_or(began)),
            behind_since: None,
            trails_since: None,
            looks: known.map_or(0, |it| it.looks).saturating_add(1),
            has_risen: before.is_some_and(|it| it.has_risen),
            at,
        }
    }

    /// What is known after an answer at `at` with `height`; `last` is the height before in this generation, `best` the
    /// greatest height of the chain's other nodes.
    pub fn after_answer(
        before: Option<Self>,
        generation: u64,
        (last, height, best): (Option<u64>, u64, u64),
        at: Millis,
    ) -> Self {
        let before = before.filter(|it| it.generation == generation);
        let rises = last.is_some_and(|last| height > last);
        let is_behind = best >= height.saturating_add(HANG_BEHIND);
        let trails = best > height.saturating_add(ROLL_BEHIND_MAX);
        let known = before.filter(|it| it.behind_since.is_some() && last == Some(height));
        Self {
            generation,
            silent_since: None,
            behind_since: is_behind.then(|| known.and_then(|it| it.behind_since).unwrap_or(at)),
            trails_since: trails.then(|| before.and_then(|it| it.trails_since).unwrap_or(at)),
            looks: if is_behind { known.map_or(0, |it| it.looks).saturating_add(1) } else { 0 },
            has_risen: rises || before.is_some_and(|it| it.has_risen),
            at,
        }
    }

    /// Whether nothing is to be said against it.
    pub(crate) fn is_well(&self) -> bool {
        self.silent_since.is_none() && self.behind_since.is_none()
    }
}

/// Why a node counts as hanging; `None` if it does not, or its illness is not written down yet.
pub(crate) fn hang(node: &Node, observed: &Observed, now: Millis) -> Option<String> {
    let instance = observed.nodes.get(&node.key)?.instance.as_ref()?;
    if instance.run != Run::Running || instance.generation != node.generation {
        return None;
    }
    if node.state != NodeState::Running || node.health != Health::Unhealthy {
        return None;
    }
    silent(node, observed, now).or_else(|| standing(node, observed))
}

/// Why a node counts as giving no answer.
fn silent(node: &Node, observed: &Observed, now: Millis) -> Option<String> {
    let quiet = quiet(node, observed)?;
    let silence = quiet.at.since(quiet.silent_since?);
    let health = observed.nodes.get(&node.key)?.health.as_ref();
    let has_spoken = health.is_some_and(|health| health.generation == node.generation);
    let limit = limit(observed, has_spoken);
    let is_long = silence >= limit && now.since(node.state_since) >= limit;
    is_long.then(|| format!("its process lives and has given no answer for {} seconds", silence / 1_000))
}

/// Why a node that answers counts as standing still while its chain goes on; `None` if it does not.
pub(crate) fn standing(node: &Node, observed: &Observed) -> Option<String> {
    let health = observed.nodes.get(&node.key)?.health.as_ref()?;
    if health.generation != node.generation || !health.reasons.is_empty() || health.peers == 0 {
        return None;
    }
    let quiet = quiet(node, observed)?;
    let stands = quiet.at.since(quiet.behind_since?);
    let words = || {
        let (height, seconds) = (health.height, stands / 1_000);
        format!("it has stood at height {height} for {seconds} seconds while its chain went on")
    };
    (stands >= limit(observed, quiet.has_risen)).then(words)
}

/// What was seen of this generation, if in enough looks.
fn quiet<'a>(node: &Node, observed: &'a Observed) -> Option<&'a Quiet> {
    let quiet = observed.quiet.get(&node.key)?;
    (quiet.generation == node.generation && quiet.looks >= HANG_LOOKS).then_some(quiet)
}

fn limit(observed: &Observed, has_worked: bool) -> u64 {
    if has_worked { observed.limits.hang_ms } else { HANG_START_MS.max(observed.limits.hang_ms) }
}
