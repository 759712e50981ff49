//! The one door.

use crate::{Applied, Rejection, Request, State};

/// Applies one logged request: all checks, then all changes.
///
/// # Panics
/// If `index` is not after the last applied one: the log has been fed out of order.
pub fn apply(state: &mut State, index: u64, request: &Request) -> Applied {
    assert!(index > state.revision, "entry {index} after {}", state.revision);
    state.revision = index;
    let outcome = Err(Rejection::NotFound { field: "command".into(), what: request.command.name().into() });
    Applied { revision: index, outcome, replayed: false, events: Vec::new(), records: Vec::new(), diverged: None }
}
