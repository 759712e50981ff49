//! The store of one replica under load, and the judge of what is left of it.
//!
//! How it works. The *driver* is a process of its own that drives `hanse_raft::inside::Parts` as openraft would: votes,
//! appends with several in flight, truncation, applying (which writes history), snapshots, purges. Of each step it writes
//! a line before it begins and another when the store has acknowledged it, to a file outside the disk under test
//! (`acks`). The *judge*, a process of its own too, opens what is left and compares it with those lines.
//!
//! What it never does. It never looks into the store's files: only what the store says about itself counts.

pub mod acks;
pub mod driver;
pub mod judge;

use crate::rng::Rng;
use hanse_raft::inside::{EntryBytes, Parts, Stop};
use hanse_raft::{Member, ReplicaId, StoreError};
use hanse_state::cluster::InitCluster;
use hanse_state::cluster::version::Version;
use hanse_state::ids::{ClusterId, RequestId};
use hanse_state::{Command, Digest, Millis, Request};
use openraft::impls::leader_id_adv::LeaderId;
use openraft::{EntryPayload, LogId};

/// An entry of the log, as openraft hands it over.
pub type Entry = openraft::Entry<LeaderId<u64, ReplicaId>, EntryPayload<EntryBytes, ReplicaId, Member>>;

/// Gives the leader of a term.
#[must_use]
pub fn leader(term: u64) -> LeaderId<u64, ReplicaId> {
    LeaderId { term, node_id: ReplicaId(1) }
}

/// Gives an id of an entry.
#[must_use]
pub fn log_id(term: u64, index: u64) -> LogId<LeaderId<u64, ReplicaId>> {
    LogId::new(leader(term), index)
}

/// Gives the text that marks an entry of `index` and `term` in its own bytes, for whoever looks for them in a trace.
#[must_use]
pub fn marker(term: u64, index: u64) -> String {
    format!("hanse-entry-{term:06}-{index:010}-")
}

/// Makes an entry whose request is recorded in history when it is applied. `stream` makes two entries at one place differ.
#[must_use]
pub fn entry(term: u64, index: u64, stream: u64, filler: usize) -> Entry {
    if index == 0 {
        // As in a cluster: the first entry is Raft's own, requests begin with 1.
        return Entry { log_id: log_id(term, 0), payload: EntryPayload::Blank };
    }
    let mut rng = Rng::new(stream ^ Rng::new(term).number() ^ Rng::new(!index).number());
    let [a, b] = [rng.number(), rng.number()].map(u64::to_be_bytes);
    let id =
        uuid::Builder::from_unix_timestamp_millis(index, &[a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], b[4], b[5]]);
    let id = id.into_uuid();
    let name = format!("{}{}", marker(term, index), "x".repeat(filler));
    let cluster = ClusterId::new(id).expect("a UUID of version 7");
    let command = Command::InitCluster(InitCluster {
        cluster,
        name,
        setup_code_hash: Digest::of(b"code"),
        version: Version::NEWEST,
    });
    let request =
        Request::system(RequestId::new(id).expect("a UUID of version 7"), Millis(1_790_000_000_000 + index), command);
    let bytes = EntryBytes(hanse_state::codec::encode_request(&request).into());
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(bytes) }
}

/// Gives the checksum of what an entry carries.
#[must_use]
pub fn checksum(entry: &Entry) -> u32 {
    match &entry.payload {
        EntryPayload::Normal(bytes) => crc32fast::hash(&bytes.0),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

/// Opens the store of a data folder. Blocks on the disk.
///
/// # Errors
/// As [`Parts::open`].
pub fn open(data_dir: &std::path::Path) -> Result<Parts, StoreError> {
    Parts::open(data_dir, Stop::default())
}
