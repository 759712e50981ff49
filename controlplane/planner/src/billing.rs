//! When to write running time.

use hanse_state::{Millis, State};

use crate::Act;

/// Returns an act if some node has run for `period_ms` since it was last metered.
pub fn plan_metering(state: &State, now: Millis, period_ms: u64) -> Option<Act> {
    let period_ms = period_ms.max(1);
    let is_due = state.nodes.values().filter_map(|node| node.metered_until).any(|until| now.since(until) >= period_ms);
    is_due.then_some(Act::Meter { until: now })
}
