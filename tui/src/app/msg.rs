//! What happens to the console. Everything that changes the model is one of these.

use super::model::data::{Failure, Loaded, Query};
use crate::keymap::Key;

/// An event for `update`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Msg {
    /// The time, in milliseconds since the epoch. Sent ten times a second and before every key.
    Tick(i64),
    /// A key, in the terminal's own words.
    Key(Key),
    /// Text pasted in brackets: goes to inputs only, never to keys.
    Paste(String),
    /// The terminal's size in columns and rows.
    Resize(u16, u16),
    /// Answer to `Effect::Fetch`.
    Fetched {
        /// What was asked.
        query: Query,
        /// Ticket of the asking.
        ticket: u64,
        /// Data, or why not.
        result: Result<Box<Loaded>, Failure>,
    },
    /// Something in the cluster changed.
    Changed {
        /// Revision of the change.
        revision: u64,
    },
    /// The stream of changes ended; the console asks for a new one.
    WatchEnded,
    /// Answer to `Effect::Write`.
    Wrote(Result<Written, Failure>),
}

/// What a write did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The resource that was changed.
    pub resource: String,
    /// Request id that was used.
    pub request_id: String,
    /// Revision of the change.
    pub revision: u64,
    /// A session was opened.
    pub logged_in: bool,
}
