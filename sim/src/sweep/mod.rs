//! The crash sweep of provisioning and repair (RELIABILITY.md I-8 and 2.5).
//!
//! How it works. Each stage of a chain's life (`stage`, `changes`) or of a cloud's machines (`machines`) is played once without
//! faults, and the points that its steps reach are kept (`trap`). Then it is played again for every point and every fault of the leader (`one`), each time before a cloud of
//! another habit (`crate::cloud`), which goes through all of them. The fault begins exactly at its point and ends six seconds
//! later. Then, within a minute, everything must be as wished: the state's nodes and nothing else on the hosts, each with its
//! own keys and running in its generation, the state's machines and nothing else in the cloud, every operation at its end;
//! nothing may ever have been there twice.
//!
//! What it never does: look at less than the simulation does. Every check of `crate::check` and `crate::oracle` is on.

mod changes;
mod machines;
mod one;
mod stage;
pub(crate) mod trap;

use std::collections::BTreeMap;

use serde::Serialize;

pub use crate::cloud::Cloud;
use crate::mutant::Mutant;
use one::{Case, End, Fault, one};
pub use stage::Stage;
pub(crate) use trap::{Point, Step, Trap};

/// How often one act may be repeated: after the cloud's habit, by the next leader, and after what that one met.
pub const REPEATS_MAX: u64 = 3;
/// The same where a removed thing is shown for eight seconds more: it is asked for again with growing pauses until it is gone.
pub const SLOW_REPEATS_MAX: u64 = 5;
/// Bad runs that are told in full.
const TOLD_MAX: usize = 20;

/// What a sweep is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The stages that are played.
    pub stages: Vec<Stage>,
    /// The habits of the cloud: each run has the next one.
    pub clouds: Vec<Cloud>,
    /// Each point and fault with every habit, and not with one.
    pub full: bool,
    /// Every so-manieth case only.
    pub every: usize,
    /// Which share of the cases, of how many: what is played beside each other adds up to the whole.
    pub part: (usize, usize),
    /// Goes into the seed of each run.
    pub seed: u64,
    /// A mistake to put in.
    pub mutant: Option<Mutant>,
    /// Whether each run is told.
    pub tell: bool,
    /// Only the case of this number, with its trace.
    pub only: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stages: Stage::ALL.to_vec(),
            clouds: Cloud::ALL.to_vec(),
            full: false,
            every: 1,
            part: (1, 1),
            seed: 1,
            mutant: None,
            tell: false,
            only: None,
        }
    }
}

impl Options {
    /// Whether the case of this number is played.
    fn has(&self, number: usize) -> bool {
        let (part, parts) = self.part;
        let is_asked = self.only.is_none_or(|only| only == number);
        is_asked && number.is_multiple_of(self.every) && number % parts == part % parts
    }
}

/// What a sweep gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Runs, those without a fault of a leader among them.
    pub runs: u64,
    /// Points of steps that stages reached.
    pub points: u64,
    /// Things on hosts or in the cloud that nobody asks for when the time is over.
    pub orphans: u64,
    /// Things that were there twice.
    pub doubles: u64,
    /// Runs in which something had not come to its end.
    pub unfinished: u64,
    /// Runs in which something else did not hold.
    pub violations: u64,
    /// Runs whose fault did not find its point, so that they prove nothing.
    pub missed: u64,
    /// Runs that ended well without the point that was to be struck, as the cloud led around it; it was then struck in another one.
    pub passed_by: u64,
    /// Orphans that the platform found and removed, planted ones among them.
    pub removed: u64,
    /// How often one act was repeated at most.
    pub repeats_max: u64,
    /// The same where the cloud deletes slowly, or shows late what it has deleted.
    pub slow_repeats_max: u64,
    /// Longest time from the healing until all was as wished, milliseconds.
    pub healed_ms_max: u64,
    /// Runs by stage, by fault and by the cloud's habit.
    pub by: BTreeMap<String, u64>,
    /// What was wrong, the first of it.
    pub bad: Vec<String>,
}

impl Figures {
    /// Whether everything held.
    pub fn is_good(&self) -> bool {
        // A sweep that met no point has tried nothing.
        self.runs > 0
            && self.points > 0
            && [self.orphans, self.doubles, self.unfinished, self.violations, self.missed] == [0; 5]
            && self.repeats_max <= REPEATS_MAX
            && self.slow_repeats_max <= SLOW_REPEATS_MAX
    }

    fn add(&mut self, number: usize, case: &Case, end: &End) {
        self.runs += 1;
        let fault = case.blow.as_ref().filter(|_| !end.passed).map_or("none", |(_, _, fault)| fault.name());
        for word in [case.stage.name(), fault, case.cloud.name()] {
            *self.by.entry(word.to_owned()).or_default() += 1;
        }
        self.orphans += u64::from(end.orphan.is_some());
        self.doubles += u64::from(end.double.is_some());
        self.unfinished += u64::from(end.unfinished.is_some());
        self.violations += u64::from(end.violation.is_some());
        self.missed += u64::from(case.blow.is_some() && !end.struck && !end.passed && end.bad().is_none());
        self.passed_by += u64::from(end.passed);
        self.removed += end.removals;
        // What is shown late, or for longer, is asked for again with growing pauses until it is seen to be gone.
        let slow = case.cloud == Cloud::DeletesSlowly || case.cloud == Cloud::ListsLate && case.stage.is_of_machines();
        let repeats = if slow { &mut self.slow_repeats_max } else { &mut self.repeats_max };
        // Of what is out of reach for long everything is asked again, with growing pauses, until it answers.
        if case.stage != Stage::GiveUp {
            *repeats = (*repeats).max(end.repeats);
        }
        self.healed_ms_max = self.healed_ms_max.max(end.healed_ms);
        if let Some(what) = end.bad().filter(|_| self.bad.len() < TOLD_MAX) {
            self.bad.push(format!("case {number}, {case}: {what}"));
        }
    }
}

/// Plays every case; gives what came of them.
#[must_use]
pub fn sweep(options: &Options) -> Figures {
    let mut figures = Figures::default();
    let mut number = 0;
    for stage in &options.stages {
        let calm = case(options, (*stage, 0), Cloud::Calm, None, number);
        let dry = one(&calm);
        figures.points += dry.reached.len() as u64;
        // Every part plays it, and it counts once; unless it is what is wrong.
        if options.part.0 == 1 || dry.bad().is_some() {
            figures.add(number, &calm, &dry);
        }
        // What does not go well by itself is not made better by faults.
        if dry.bad().is_some() {
            continue;
        }
        let clouds = clouds(options, *stage);
        for (blow, cloud) in cases(options, &clouds, &dry, number) {
            number += 1;
            if !options.has(number) {
                continue;
            }
            play(&mut figures, options, &case(options, (*stage, dry.acts()), cloud, blow, number), number);
        }
    }
    figures
}

/// Plays one case; where the cloud leads around its point, once more in the next cloud, until it is struck.
fn play(figures: &mut Figures, options: &Options, first: &Case, number: usize) {
    let clouds = clouds(options, first.stage);
    let from = clouds.iter().position(|cloud| *cloud == first.cloud).unwrap_or(0);
    for turn in 0..clouds.len() {
        let case = Case { cloud: clouds[(from + turn) % clouds.len()], ..first.clone() };
        let end = one(&case);
        if options.tell {
            let well = if end.passed { "passed by" } else { "well" };
            let how = end.bad().map_or(well, String::as_str);
            eprintln!("case {number}, {case}: {how}, {} ms, {} repeats", end.healed_ms, end.repeats);
        }
        figures.add(number, &case, &end);
        if !end.passed {
            return;
        }
    }
    // No cloud leads to it.
    figures.missed += 1;
}

fn case(options: &Options, (stage, acts): (Stage, u64), cloud: Cloud, blow: Option<Blow>, number: usize) -> Case {
    let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
    let print = options.only == Some(number) && number > 0;
    Case { stage, cloud, blow, seed, mutant: options.mutant, print, acts }
}

/// The habits that a stage can meet.
fn clouds(options: &Options, stage: Stage) -> Vec<Cloud> {
    options.clouds.iter().copied().filter(|it| it.is_met_by(stage)).collect()
}

type Blow = (Step, Point, Fault);

/// Every point with every fault, and each habit alone.
fn cases(options: &Options, clouds: &[Cloud], dry: &End, from: usize) -> Vec<(Option<Blow>, Cloud)> {
    let mut all: Vec<(Option<Blow>, Cloud)> = clouds.iter().map(|cloud| (None, *cloud)).collect();
    if clouds.is_empty() {
        return all;
    }
    let mut turn = from;
    for (step, point) in &dry.reached {
        for fault in Fault::ALL {
            let blow = (step.clone(), *point, fault);
            if options.full {
                all.extend(clouds.iter().map(|cloud| (Some(blow.clone()), *cloud)));
            } else {
                all.push((Some(blow), clouds[turn % clouds.len()]));
                turn += 1;
            }
        }
    }
    all
}
