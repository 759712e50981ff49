//! What befalls the replicas in the middle of a change.
//!
//! A change takes a few hundred milliseconds, and its joint configuration a few of them: a blow at a chance moment nearly
//! always misses it. So in many changes the links between the replicas lose packets from before the order on (the mire):
//! each step then takes a while. And in most the blow waits until a leader says that it begins to change the voters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::processes::chance::Chance;
use crate::processes::net::Cuts;
use crate::processes::stage::Stage;

use super::tail::Tail;

/// Longest wait from an order, or from the moment at which a leader begins with it, to the blow.
const DELAY_MAX_MS: u64 = 60;
/// The same in the mire.
const MIRE_DELAY_MAX_MS: u64 = 600;
/// Longest wait for that moment; a change that does not begin at all is struck as well.
const BEGIN_MAX: Duration = Duration::from_secs(3);
/// Percent of the blows that wait for it.
const AIMED_PERCENT: u64 = 75;
/// How often the moment is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Percent of the packets that get lost in the mire.
const MIRE_PERCENT: (u64, u64) = (15, 40);
/// How long trouble lasts.
const LASTS_MS: (u64, u64) = (300, 4_000);
/// One trouble in so many lasts longer than a change of Raft's membership may take (20 s).
const LONG_ONE_IN: u64 = 30;
/// How long that one lasts.
const LONG_MS: u64 = 23_000;

/// What is done.
#[derive(Clone, Debug)]
enum Blow {
    Kill(u64),
    Pause(u64),
    /// These links, by place.
    Cut(BTreeSet<(u64, u64)>),
}

/// Links that lose packets, from before an order on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mire(BTreeMap<u64, u64>);

impl Mire {
    /// Puts it in force between all places.
    pub(crate) fn begin(stage: &Stage, chance: &mut Chance) -> Result<Self> {
        let percent = chance.between(MIRE_PERCENT.0, MIRE_PERCENT.1);
        let mire = Self(stage.net.places().iter().map(|place| (*place, percent)).collect());
        stage.net.apply(&Cuts { loss: mire.0.clone(), ..Cuts::default() })?;
        Ok(mire)
    }
}

/// One trouble, from its choice until it is healed.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    blow: Blow,
    mire: Mire,
    /// Whether it waits until a leader begins to change the voters.
    aimed: bool,
    delay: Duration,
    lasts: Duration,
    since: Option<Instant>,
    /// What it is, for people.
    pub(crate) words: String,
}

impl Trouble {
    /// Chooses what befalls whom. `leader` and `subject` (whom the change is about) are the interesting ones; `ids` are all
    /// that run.
    pub(crate) fn choose(
        stage: &Stage,
        chance: &mut Chance,
        leader: Option<u64>,
        subject: u64,
        mire: Mire,
    ) -> Result<Self> {
        let ids = &stage.cluster.ids()[..];
        let victim = match chance.below(10) {
            0..=3 => leader.unwrap_or(subject),
            4..=6 => subject,
            _ => *chance.pick(ids),
        };
        let (blow, words) = match chance.below(10) {
            0..=2 => (Blow::Kill(victim), format!("kill {victim}")),
            3 | 4 => (Blow::Pause(victim), format!("pause {victim}")),
            5..=7 => {
                let others: Vec<u64> = ids.iter().copied().filter(|id| *id != victim).collect();
                (cut(stage, &[victim], &others, (true, true))?, format!("cut {victim} off"))
            }
            8 => {
                let others: Vec<u64> = ids.iter().copied().filter(|id| *id != victim).collect();
                let deaf = chance.percent(50);
                let word = if deaf { "deaf" } else { "mute" };
                (cut(stage, &[victim], &others, (!deaf, deaf))?, format!("make {victim} {word}"))
            }
            _ => {
                let mut some = ids.to_vec();
                chance.shuffle(&mut some);
                let (left, right) = some.split_at(ids.len() / 2);
                (cut(stage, left, right, (true, true))?, format!("halves {left:?} and {right:?}"))
            }
        };
        let lasts = match chance.below(LONG_ONE_IN) {
            0 => LONG_MS,
            _ => chance.between(LASTS_MS.0, LASTS_MS.1),
        };
        let longest = if mire.0.is_empty() { DELAY_MAX_MS } else { MIRE_DELAY_MAX_MS };
        let delay = Duration::from_millis(chance.below(longest));
        let aimed = chance.percent(AIMED_PERCENT);
        let percent = mire.0.values().next().copied();
        let words = percent.map_or(words.clone(), |percent| format!("{percent} % lost, {words}"));
        Ok(Self { blow, mire, aimed, delay, lasts: Duration::from_millis(lasts), since: None, words })
    }

    /// Whether the links lose packets meanwhile.
    pub(crate) fn has_mire(&self) -> bool {
        !self.mire.0.is_empty()
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self.blow {
            Blow::Kill(_) => "kill",
            Blow::Pause(_) => "pause",
            Blow::Cut(_) => "cut",
        }
    }

    /// Waits for its moment. Whether it comes when a leader has just begun to change the voters.
    pub(crate) fn wait(&self, stage: &mut Stage, tail: &mut Tail) -> Result<bool> {
        let end = Instant::now() + BEGIN_MAX;
        let mut begun = false;
        while self.aimed && !begun && Instant::now() < end {
            begun = tail.sees(&stage.cluster)?;
            std::thread::sleep(LOOK_EVERY);
        }
        std::thread::sleep(self.delay);
        Ok(begun)
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= self.lasts)
    }

    /// Puts it in force. False if there was nobody to do it to.
    pub(crate) fn strike(&mut self, stage: &mut Stage) -> Result<bool> {
        self.since = Some(Instant::now());
        match &self.blow {
            Blow::Kill(id) if stage.cluster.ids().contains(id) => stage.cluster.kill(*id),
            Blow::Pause(id) if stage.cluster.ids().contains(id) => stage.cluster.pause(*id, true),
            Blow::Kill(_) | Blow::Pause(_) => Ok(false),
            Blow::Cut(links) => {
                stage.net.apply(&Cuts { links: links.clone(), loss: self.mire.0.clone() })?;
                Ok(!links.is_empty())
            }
        }
    }

    /// Takes it back.
    pub(crate) fn heal(&self, stage: &mut Stage) -> Result<()> {
        stage.net.apply(&Cuts::default())?;
        stage.cluster.revive()
    }
}

/// Links between two groups: from the first to the second, and back.
fn cut(stage: &Stage, left: &[u64], right: &[u64], (there, back): (bool, bool)) -> Result<Blow> {
    let mut links = BTreeSet::new();
    for a in left {
        for b in right {
            let (a, b) = (stage.cluster.place(*a)?, stage.cluster.place(*b)?);
            links.extend(there.then_some((a, b)));
            links.extend(back.then_some((b, a)));
        }
    }
    Ok(Blow::Cut(links))
}
