//! What a replica tells those who watch it: that something changed, and with which revision; never the content.

use std::sync::Arc;

use hanse_state::Event;

/// What watchers are told.
#[derive(Clone, Debug)]
pub enum Notice {
    /// Resources changed, by revision, ascending; never empty. What was applied together is told together.
    Events(Arc<[Changes]>),
    /// The state was replaced by a snapshot: read it anew.
    Reset {
        /// The revision it now has.
        revision: u64,
    },
}

/// What one request changed.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The revision that the request made.
    pub revision: u64,
    /// What changed; never empty.
    pub events: Arc<[Event]>,
}
