//! How long joint configurations stay, as far as they are seen.

use std::time::{Duration, Instant};

/// A joint configuration that is seen longer than that is left (I-14).
pub(crate) const JOINT_MAX: Duration = Duration::from_secs(60);

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Joints {
    /// Since when there is one.
    since: Option<Instant>,
    /// Whether it was counted as left.
    told: bool,
    /// Times that one was seen.
    pub(crate) seen: u64,
    /// Those that stayed too long.
    pub(crate) left: u64,
}

impl Joints {
    /// Takes in one look, at which there was one or none. Whether it has now stayed too long; said once of each.
    pub(crate) fn note(&mut self, joint: bool, now: Instant) -> bool {
        let Some(since) = self.since.filter(|_| joint) else {
            self.since = joint.then_some(now);
            self.told = false;
            self.seen += u64::from(joint);
            return false;
        };
        let late = now.duration_since(since) > JOINT_MAX && !self.told;
        self.told |= late;
        self.left += u64::from(late);
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_stays_is_told_once_and_two_that_pass_are_not() {
        let (mut joints, begin) = (Joints::default(), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let late: Vec<bool> = [(true, 0), (true, 59), (false, 60), (true, 61), (true, 120), (true, 122), (true, 300)]
            .map(|(joint, seconds)| joints.note(joint, at(seconds)))
            .to_vec();
        assert_eq!(late, [false, false, false, false, false, true, false]);
        assert_eq!((joints.seen, joints.left), (2, 1));
        joints.note(false, at(301));
        joints.note(true, at(302));
        assert!(joints.note(true, at(363)), "the next one counts anew");
        assert_eq!((joints.seen, joints.left), (3, 2));
    }
}
