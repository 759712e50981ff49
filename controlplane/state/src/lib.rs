//! The domain of Hanse and the one door through which it changes.
//!
//! [`apply`] takes the state and one logged [`Request`] and gives an [`Applied`]: first every check, then every change.
//! It is pure: no clock, randomness, IO or hash order, so every replica that applies the same log holds the same state.
//! A "no" is a [`Rejection`], an ordinary outcome that leaves nothing behind but its audit record.
//!
//! One folder an area; in each, `mod.rs` has the types and the commands, `apply.rs` the rules, `query.rs` the reads.

pub mod access;
pub mod account;
mod apply;
pub mod artifact;
pub mod audit;
pub mod billing;
pub mod chain;
mod check;
pub mod cloud;
pub mod cluster;
pub mod codec;
pub mod command;
pub mod consortium;
pub mod contract;
pub mod dedup;
pub mod digest;
pub mod digests;
pub mod event;
pub mod host;
pub mod ids;
pub mod money;
pub mod name;
pub mod operation;
pub mod page;
pub mod rejection;
pub mod replica;
mod state;
pub mod tenant;
pub mod time;

pub use apply::{Planned, apply, preview};
pub use codec::CodecError;
pub use command::{Actor, Command, Outcome, Request};
pub use digest::{Blob, Digest, PublicKey, Secret, Signature};
pub use digests::DIGESTS_KEPT;
pub use event::{Change, Event, Record};
pub use page::{PAGE_MAX, Page};
pub use rejection::Rejection;
pub use state::{Applied, Divergence, State};
pub use time::{Millis, Month};
