//! The parts of a replica's disk, opened together and checked against each other.

use std::collections::BTreeMap;
use std::path::Path;

use hanse_state::audit::AuditRecord;
use hanse_state::{Record, State};

use crate::codec::{
    self, CodecError, EntryV1, LogIdV1, MemberV1, MembershipV1, PayloadV1, SnapshotMetaV1, StoredMembershipV1, VoteV1,
};
pub use crate::durable::Durable;
use crate::error::StoreError;
use crate::history;
pub use crate::log_store::LogStore;
use crate::log_store::log_key;
pub use crate::machine::Machine;
use crate::mark::{self, Mark};
use crate::snapshot::{self, SnapshotDir};
pub use crate::stop::Stop;
pub use crate::types::{EntryBytes, Types};

/// Store, log and machine of one data folder.
pub struct Parts {
    /// The store beneath both.
    pub store: Durable,
    /// openraft's log.
    pub log: LogStore,
    /// openraft's state machine.
    pub machine: Machine,
}

impl Parts {
    /// Opens and checks everything in a data folder. Blocks on the disk.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if anything is less than what was acknowledged; the store is closed again.
    pub fn open(data_dir: &Path, stop: Stop) -> Result<Self, StoreError> {
        let (store, mark) = Durable::open(data_dir)?;
        let rest = || {
            let log = LogStore::open(store.clone(), mark)?;
            let snapshots = SnapshotDir::open(data_dir)?;
            let machine = Machine::open(store.clone(), snapshots, log.purged_index(), stop)?;
            Ok((log, machine))
        };
        match rest() {
            Ok((log, machine)) => Ok(Self { store, log, machine }),
            Err(error) => {
                store.close();
                Err(error)
            }
        }
    }
}

/// Gives the state as applied so far, and every audit record that belongs to it. Blocks on the disk.
///
/// # Errors
/// [`StoreError::Lost`] if a record is damaged or missing.
pub fn audit_records(store: &Durable, machine: &Machine) -> Result<(State, Vec<AuditRecord>), StoreError> {
    let view = machine.core().view();
    let last = view.heads.get("audit").copied().unwrap_or(0);
    let rows = history::read(store, "audit", None, last, usize::MAX)?;
    let mut records = Vec::with_capacity(rows.len());
    for (seq, body) in rows {
        match hanse_state::codec::decode_record(&body) {
            Ok(Record::Audit(record)) => records.push(record),
            Ok(other) => return Err(StoreError::lost(format!("audit record {seq}"), format!("it is {other:?}"))),
            Err(error) => return Err(StoreError::lost(format!("audit record {seq}"), error)),
        }
    }
    if records.len() as u64 != last {
        return Err(StoreError::lost("history", format!("{} audit records of {last} are there", records.len())));
    }
    Ok((view.state, records))
}

/// Hands bytes to consensus as if they were an encoded request.
///
/// # Errors
/// As [`Replica::propose`](crate::Replica::propose).
pub async fn propose_bytes(
    replica: &crate::Replica,
    bytes: Vec<u8>,
) -> Result<hanse_state::Applied, crate::ProposeError> {
    replica.propose_bytes(bytes).await
}

/// Gives one encoded example of everything version 1 writes to disk, by name; they must never change.
#[must_use]
pub fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let at = LogIdV1 { term: 3, leader: 2, index: 41 };
    let vote = VoteV1 { term: 3, replica: 2, committed: true };
    let member =
        |id: u64| MemberV1 { id, peer_address: format!("10.0.0.{id}:7101"), api_address: format!("10.0.0.{id}:7201") };
    let membership = MembershipV1 { voters: vec![vec![1, 2, 3]], members: vec![member(1), member(2), member(3)] };
    let entry = |payload| codec::seal(&log_key(41), &codec::encode(&EntryV1 { id: at, payload }));
    let stored =
        StoredMembershipV1 { at: Some(LogIdV1 { term: 0, leader: 0, index: 0 }), membership: membership.clone() };
    let meta = SnapshotMetaV1 { last: Some(at), membership: stored };
    let meta = meta.try_into().expect("the example membership is valid");
    let heads = BTreeMap::from([("audit".to_owned(), 40), ("usage".to_owned(), 2)]);
    vec![
        ("entry-blank", entry(PayloadV1::Blank)),
        ("entry-request", entry(PayloadV1::Request(b"request".to_vec()))),
        ("entry-membership", entry(PayloadV1::Membership(membership))),
        ("vote", codec::seal(b"m/vote", &codec::encode(&vote))),
        ("mark", mark::encode(&Mark { last: Some(at), vote: Some(vote) })),
        ("history", codec::seal(&history::key("audit", 7), b"record")),
        ("snapshot", snapshot::encode(&meta, &heads, b"state")),
    ]
}

/// Reads an example back, as a start would.
///
/// # Errors
/// [`CodecError`] if this program cannot.
pub fn read_example(name: &str, bytes: &[u8]) -> Result<(), CodecError> {
    match name {
        "vote" => codec::decode::<VoteV1>(codec::unseal(b"m/vote", bytes)?).map(|_| ()),
        "mark" => codec::decode::<Mark>(codec::unseal(b"mark", bytes)?).map(|_| ()),
        "history" => codec::unseal(&history::key("audit", 7), bytes).map(|_| ()),
        "snapshot" => snapshot::decode(bytes).map(|_| ()),
        _ => codec::decode::<EntryV1>(codec::unseal(&log_key(41), bytes)?).map(|_| ()),
    }
}
