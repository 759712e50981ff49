//! Is there an order in which a history could have happened? The search of Wing and Gong with Lowe's memory.
//!
//! A history is a list of calls with the times at which they began and returned. It is linearizable if every call can be
//! given one moment between the two at which it took effect, so that each saw what the moments before it had left. A
//! call whose answer never came may have taken effect at any time after it began, or never.
//!
//! The search is ours because the crate there is (porcupine-rs 0.3) carries a benchmark framework as an ordinary
//! dependency. It is tested against every order of small histories, and on a large one with a single stale read.

use std::collections::HashSet;
use std::hash::Hash;

/// Configurations remembered by one search; beyond it the search gives up. About 300 MB at 2,000 calls a key.
const MEMORY_MAX: usize = 1_000_000;
/// Steps of one search; beyond it the search gives up.
const STEPS_MAX: u64 = 200_000_000;

/// What a history is checked against.
pub trait Model {
    /// What is kept.
    type State: Clone + Eq + Hash;
    /// What is called, with its answer.
    type Op;
    /// The state after `op`; `None` if `op` cannot have had its answer in `state`.
    fn step(state: &Self::State, op: &Self::Op) -> Option<Self::State>;
}

/// One call of a history.
#[derive(Clone, Copy, Debug)]
pub struct Call<Op> {
    /// When it began.
    pub called: u64,
    /// When its answer came; `None` if none did.
    pub returned: Option<u64>,
    /// What was called and answered.
    pub op: Op,
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none.
    Violated,
    /// The search gave up; this proves nothing and counts as a failure.
    Unknown,
}

/// The calls and returns that are not yet placed, as a linked list in order of time. Place 0 is the head.
struct Timeline {
    next: Vec<usize>,
    prev: Vec<usize>,
    /// Call number and whether the entry is its return, by place.
    entries: Vec<(usize, bool)>,
    /// Places of call and return, by call number.
    places: Vec<(usize, Option<usize>)>,
    /// Returns that are still in the list.
    open: usize,
}

const HEAD: usize = 0;

impl Timeline {
    fn new<Op>(calls: &[Call<Op>]) -> Self {
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (number, call) in calls.iter().enumerate() {
            moments.push((call.called, false, number));
            moments.extend(call.returned.map(|at| (at.max(call.called), true, number)));
        }
        // Of equal times calls come first: then the two overlap, which is the lenient reading.
        moments.sort_unstable();
        let len = moments.len() + 1;
        let mut entries = vec![(usize::MAX, false)];
        let mut places = vec![(HEAD, None); calls.len()];
        for (place, (_, is_return, number)) in moments.into_iter().enumerate() {
            entries.push((number, is_return));
            if is_return {
                places[number].1 = Some(place + 1);
            } else {
                places[number].0 = place + 1;
            }
        }
        let open = places.iter().filter(|(_, ret)| ret.is_some()).count();
        let next = (0..len).map(|place| if place + 1 < len { place + 1 } else { HEAD }).collect();
        let prev = (0..len).map(|place| if place == HEAD { len - 1 } else { place - 1 }).collect();
        Self { next, prev, entries, places, open }
    }

    fn unlink(&mut self, place: usize) {
        let (before, after) = (self.prev[place], self.next[place]);
        self.next[before] = after;
        self.prev[after] = before;
    }

    fn relink(&mut self, place: usize) {
        let (before, after) = (self.prev[place], self.next[place]);
        self.next[before] = place;
        self.prev[after] = place;
    }

    fn lift(&mut self, number: usize) {
        let (call, ret) = self.places[number];
        self.unlink(call);
        if let Some(ret) = ret {
            self.unlink(ret);
            self.open -= 1;
        }
    }

    fn put_back(&mut self, number: usize) {
        let (call, ret) = self.places[number];
        if let Some(ret) = ret {
            self.relink(ret);
            self.open += 1;
        }
        self.relink(call);
    }
}

/// Looks for an order of `calls` that begins in `start`.
pub fn check<M: Model>(start: M::State, calls: &[Call<M::Op>]) -> Verdict {
    let mut line = Timeline::new(calls);
    let mut placed = vec![0u64; calls.len().div_ceil(64)];
    let mut state = start;
    let mut known: HashSet<(Box<[u64]>, M::State)> = HashSet::new();
    let mut path: Vec<(usize, M::State)> = Vec::new();
    let mut at = line.next[HEAD];
    for _ in 0..STEPS_MAX {
        if line.open == 0 {
            return Verdict::Linearizable;
        }
        let (number, is_return) = line.entries[at];
        // Past a return nothing may be placed before its call; the end is only reached when all returns are placed.
        if at == HEAD || is_return {
            let Some((last, before)) = path.pop() else { return Verdict::Violated };
            placed[last / 64] &= !(1 << (last % 64));
            state = before;
            line.put_back(last);
            at = line.next[line.places[last].0];
            continue;
        }
        if let Some(after) = M::step(&state, &calls[number].op) {
            placed[number / 64] |= 1 << (number % 64);
            if known.len() >= MEMORY_MAX {
                return Verdict::Unknown;
            }
            if known.insert((placed.clone().into_boxed_slice(), after.clone())) {
                path.push((number, std::mem::replace(&mut state, after)));
                line.lift(number);
                at = line.next[HEAD];
                continue;
            }
            placed[number / 64] &= !(1 << (number % 64));
        }
        at = line.next[at];
    }
    Verdict::Unknown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::processes::chance::Chance;

    /// A register of small numbers.
    struct Register;

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Write(u64),
        Read(u64),
    }

    impl Model for Register {
        type State = u64;
        type Op = Op;
        fn step(state: &u64, op: &Op) -> Option<u64> {
            match op {
                Op::Write(value) => Some(*value),
                Op::Read(value) => (value == state).then_some(*state),
            }
        }
    }

    /// The definition itself: tries every order of every choice of the unanswered calls.
    fn by_definition(state: u64, calls: &[Call<Op>], left: &mut Vec<usize>) -> bool {
        if left.iter().all(|number| calls[*number].returned.is_none()) {
            return true;
        }
        let first_return = left.iter().filter_map(|number| calls[*number].returned).min().unwrap();
        for place in 0..left.len() {
            let number = left[place];
            if calls[number].called > first_return {
                continue;
            }
            if let Some(after) = Register::step(&state, &calls[number].op) {
                left.remove(place);
                let found = by_definition(after, calls, left);
                left.insert(place, number);
                if found {
                    return true;
                }
            }
        }
        false
    }

    #[test]
    fn agrees_with_the_definition_on_small_histories() {
        let (mut yes, mut no) = (0, 0);
        for seed in 0..20_000 {
            let mut chance = Chance::new(seed, 7);
            let calls: Vec<Call<Op>> = (0..chance.between(2, 6))
                .map(|_| {
                    let called = chance.below(12);
                    let returned = (!chance.percent(15)).then(|| called + chance.below(6));
                    let value = chance.below(3);
                    let op = if chance.percent(50) { Op::Write(value) } else { Op::Read(value) };
                    Call { called, returned, op }
                })
                .collect();
            let truth = by_definition(0, &calls, &mut (0..calls.len()).collect());
            let expected = if truth { Verdict::Linearizable } else { Verdict::Violated };
            assert_eq!(check::<Register>(0, &calls), expected, "seed {seed}: {calls:?}");
            if truth { yes += 1 } else { no += 1 }
        }
        assert!(yes > 2_000 && no > 2_000, "{yes} of one kind, {no} of the other: the histories test too little");
    }

    /// A history that a real register gave: up to sixteen calls at once, some never answered.
    fn large(seed: u64) -> Vec<Call<Op>> {
        let mut chance = Chance::new(seed, 8);
        let mut value = 0;
        (0..2_000)
            .map(|turn| {
                let now = turn * 10;
                let op = if chance.percent(50) {
                    value = turn + 1;
                    Op::Write(value)
                } else {
                    Op::Read(value)
                };
                // Few: each may take effect at any later moment, and the search has to rule out all of them.
                let unanswered = matches!(op, Op::Write(_)) && chance.below(200) == 0;
                let returned = (!unanswered).then(|| now + chance.below(80));
                Call { called: now.saturating_sub(chance.below(80)), returned, op }
            })
            .collect()
    }

    #[test]
    fn one_stale_read_among_two_thousand_calls_is_found() {
        let mut calls = large(1);
        assert_eq!(check::<Register>(0, &calls), Verdict::Linearizable);
        let mut reads = calls.iter_mut().enumerate().filter(|(_, call)| matches!(call.op, Op::Read(_)));
        let (place, read) = reads.nth(700).unwrap();
        let Op::Read(value) = read.op else { unreachable!() };
        assert!(value > 100 && place > 1_000);
        read.op = Op::Read(value - 100);
        assert_eq!(check::<Register>(0, &calls), Verdict::Violated);
    }
}
