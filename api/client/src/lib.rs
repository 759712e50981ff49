//! The client that the console, the CLI and scripts use to talk to the control plane.
//!
//! [`Client::call`] takes any request of `hanse.v1` and gives its response. Underneath it keeps one TLS connection a
//! replica, tries the replicas in turn, follows leader hints, and repeats what may be repeated: reads, and writes
//! under the one request id they were first sent with, so that a repeat is never a second act. [`Client::watch`]
//! follows changes over lost connections and changed leaders. [`MemberKey`], [`ballot`] and [`join`] make the
//! signatures of a consortium's members on the member's own machine.
//!
//! The client never talks without TLS, never sends a member's or an account's private key anywhere, and never
//! depends on the domain: it may be older or newer than the replicas.

mod backup;
mod call;
mod client;
mod config;
mod error;
mod export;
mod key;
mod replicas;
mod watch;

pub mod ballot;
pub mod files;
pub mod join;
pub mod json;
pub mod way;

pub use backup::BackupPart;
pub use call::{Call, Repeat};
pub use client::{CallOptions, Client};
pub use config::{ClientConfig, Timeouts};
pub use error::{ClientError, Effect, ErrorParts, reason};
pub use hanse_proto::v1 as pb;
pub use key::{KeyError, MemberKey};
pub use tonic::Code;
pub use watch::{Watch, WatchUpdate};

/// Returns a new request id: a UUIDv7 text, ordered by time.
pub fn new_request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
