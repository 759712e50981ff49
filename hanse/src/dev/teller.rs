//! How the story is told: each step as it happens on standard error, its seconds kept for the summary.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::output::say;

/// Tells steps and keeps their times.
#[derive(Debug)]
pub(crate) struct Teller {
    number: usize,
    seconds: BTreeMap<String, f64>,
}

impl Teller {
    /// A teller at the beginning of the story.
    pub(crate) fn new() -> Self {
        Self { number: 0, seconds: BTreeMap::new() }
    }

    /// Tells `step`, does it, and keeps its time under `key`.
    pub(crate) async fn step<T>(&mut self, key: &str, words: &str, act: impl Future<Output = Result<T>>) -> Result<T> {
        self.number += 1;
        say(format_args!("{:>2}. {words}", self.number));
        let start = Instant::now();
        let result = act.await.with_context(|| format!("step {} ({words}) failed", self.number));
        let seconds = start.elapsed().as_secs_f64();
        // Milliseconds are enough, and read better.
        self.seconds.insert(key.to_string(), (seconds * 1_000.0).round() / 1_000.0);
        if result.is_ok() {
            note(format_args!("done in {seconds:.2} s"));
        }
        result
    }

    /// Seconds of each step so far.
    pub(crate) fn seconds(&self) -> &BTreeMap<String, f64> {
        &self.seconds
    }
}

/// A line below the current step.
pub(crate) fn note(words: impl std::fmt::Display) {
    say(format_args!("    {words}"));
}
