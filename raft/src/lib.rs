//! The thin shell of consensus and storage: openraft orders requests, a log keeps them, `hanse_state` decides.
//!
//! How it works. [`Replica::start`] opens the write-ahead log (`wal`: one fdatasync a group, checksums and a high-water
//! mark) and the store of history (`durable`, `history`: files that only grow), loads the newest snapshot, replays the
//! log and joins its peers over mutual TLS (`network`, `peer`). A request given to [`Replica::propose`] on the leader is
//! put into one entry with all that wait (`batch`, `codec`), durable on a majority before it commits, and applied by
//! every replica (`machine`). [`Replica::read`]
//! gives the state after a majority has confirmed the lead (ReadIndex).
//!
//! What it never does. It never looks into a request, acknowledges what is not durable, reads by a lease of the clock,
//! repairs or shortens a damaged store, or goes on after an unknown request, a divergence or a failed write: then the
//! replica stops with a cause ([`Replica::stopped`]). Only this crate names openraft or sled.

mod append_stream;
mod batch;
mod codec;
mod config;
mod door;
mod durable;
mod error;
mod frames;
mod history;
mod identity;
pub mod inspect;
mod log_store;
mod machine;
mod membership;
mod meter;
mod network;
mod notice;
mod peer;
mod producer;
mod replay;
mod replica;
mod seed;
mod snapshot;
mod space;
mod status;
mod stop;
mod tasks;
mod tls;
mod types;
mod versions;
mod wal;

/// Inside views for this crate's own tests; no part of the interface.
#[doc(hidden)]
pub mod inside;

/// Generated from `proto/peer.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod pb {
    tonic::include_proto!("hanse.peer.v1");
}

pub use codec::CodecError;
pub use config::{ReplicaConfig, Timings};
pub use error::{ChangeError, Leader, ProposeError, RaftError, ReadError, StoreError};
pub use meter::{Histogram, Room};
pub use notice::{Changes, Notice};
pub use replica::{ENTRY_BYTES_MAX, Replica};
pub use seed::Seed;
pub use space::Shortage;
pub use status::{Role, Status};
pub use tls::{PeerTls, peer_name};
pub use types::{Member, ReplicaId};
pub use versions::Unspoken;
