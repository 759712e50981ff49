//! The parts of a replica's disk, opened together and checked against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hanse_state::audit::AuditRecord;
use hanse_state::{Record, State};
use openraft::async_runtime::WatchReceiver as _;

use crate::batch;
use crate::codec::{
    self, CodecError, EntryV1, HeadsV1, LogIdV1, MemberV1, MembershipV1, PayloadV1, SnapshotMetaV1, StoredMembershipV1,
    VoteV1,
};
pub use crate::durable::Durable;
use crate::durable::{HEADS, put};
use crate::error::StoreError;
use crate::history;
pub use crate::history::files::Files as HistoryFiles;
use crate::history::segment;
use crate::identity::{self, IdentityV1};
pub use crate::log_store::LogStore;
pub use crate::machine::Machine;
use crate::snapshot::{self, SnapshotDir};
pub use crate::stop::Stop;
pub use crate::types::{EntryBytes, Types};
use crate::types::{Membership, ReplicaId};
use crate::wal::{self, HeaderV1, Kind, MarkV1, Place, Salt};
pub use crate::wal::{Disk, DiskFile, Folder, Options, Wal};

/// Folder of the log.
pub(crate) const LOG_DIR: &str = "wal";
/// Where the store keeps the id of its log.
const LOG_ID: &[u8] = b"m/log";

/// Store, log and machine of one data folder.
pub struct Parts {
    /// The store beneath both.
    pub store: Durable,
    /// The log beneath openraft's.
    pub wal: Wal,
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
        let disk = || {
            let folder =
                Folder::open(&data_dir.join(LOG_DIR)).map_err(|e| StoreError::io("open the log's folder", e))?;
            Ok(Arc::new(folder) as Arc<dyn Disk>)
        };
        Self::open_with(data_dir, disk, Options::default(), stop)
    }

    /// As [`Parts::open`], with the log on another disk, and of other sizes.
    ///
    /// # Errors
    /// As [`Parts::open`].
    pub fn open_on(data_dir: &Path, disk: Arc<dyn Disk>, options: Options, stop: Stop) -> Result<Self, StoreError> {
        Self::open_with(data_dir, || Ok(disk), options, stop)
    }

    /// Opens the store first: it holds the lock of the folder.
    fn open_with(
        data_dir: &Path,
        disk: impl FnOnce() -> Result<Arc<dyn Disk>, StoreError>,
        options: Options,
        stop: Stop,
    ) -> Result<Self, StoreError> {
        let store = Durable::open(data_dir)?;
        let rest = || {
            let wal = open_log(&store, disk()?, options)?;
            store.attach(wal.clone());
            let log = LogStore::new(wal.clone(), Some(store.clone()));
            let snapshots = SnapshotDir::open(data_dir)?;
            let machine = Machine::open(store.clone(), snapshots, log.purged_index(), stop)?;
            Ok((wal, log, machine))
        };
        match rest() {
            Ok((wal, log, machine)) => Ok(Self { store, wal, log, machine }),
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
pub fn audit_records(store: &Durable, machine: &Machine) -> Result<(Arc<State>, Vec<AuditRecord>), StoreError> {
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

/// Gives how many records of history a running replica has read from its disk, and how many it has sent to others.
#[must_use]
pub fn records_read_and_sent(replica: &crate::Replica) -> (u64, u64) {
    let core = replica.core();
    (core.store.records_read(), core.records_sent.load(Ordering::Relaxed))
}

/// Gives a record of history as key and sealed value.
#[must_use]
pub fn sealed_record(kind: &str, seq: u64, body: &[u8]) -> (Vec<u8>, Vec<u8>) {
    put(history::key(kind, seq), body)
}

/// Opens a log by itself, without store and machine; close the first to end it. Blocks on the disk.
///
/// # Errors
/// As [`Parts::open`].
pub fn log_alone(disk: Arc<dyn Disk>, options: Options) -> Result<(Wal, LogStore), StoreError> {
    let wal = Wal::open(disk, options, false)?;
    Ok((wal.clone(), LogStore::new(wal, None)))
}

/// Opens the log that belongs to a store. Each knows the other, so that neither can go or be changed for another unseen.
fn open_log(store: &Durable, disk: Arc<dyn Disk>, options: Options) -> Result<Wal, StoreError> {
    let known: Option<u64> = match store.get(LOG_ID)? {
        Some(body) => Some(codec::decode(&body).map_err(StoreError::unreadable("id of the log"))?),
        None => None,
    };
    let wal = Wal::open(disk, options, known.is_some())?;
    let error = match known {
        Some(id) if id == wal.id() => return Ok(wal),
        Some(_) => StoreError::lost("log", "it belongs to another store"),
        None if !wal.pristine() => StoreError::lost("store", "its folder is gone, but the log has records"),
        None => match store.write_now(vec![put(LOG_ID.to_vec(), &codec::encode(&wal.id()))]) {
            Ok(()) => return Ok(wal),
            Err(error) => error,
        },
    };
    wal.close();
    Err(error)
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

/// Log and segment of the examples.
const EXAMPLE_SALT: Salt = Salt { log: 0x0123_4567_89ab_cdef, segment: 5 };

/// Leaves a joint configuration behind, as a leader does that fails in the middle of a change; this leader will not
/// leave it any more.
///
/// # Errors
/// openraft's words.
pub async fn leave_joint_behind(replica: &crate::Replica, voters: &BTreeSet<ReplicaId>) -> Result<(), String> {
    let (raft, roll) = replica.raft_parts();
    std::mem::forget(roll.turn.clone().lock_owned().await);
    let seen = raft.metrics().borrow_watched().membership_config.clone();
    let mut configs = seen.membership().get_joint_config().clone();
    configs.push(voters.clone());
    let nodes: BTreeMap<_, _> = seen.membership().nodes().map(|(id, member)| (*id, member.clone())).collect();
    let joint = Membership::new(configs, nodes).map_err(|e| e.to_string())?;
    let appended = raft.append_membership(joint, openraft::EntryPayload::Blank, []).await;
    appended.map(drop).map_err(|e| e.to_string())
}

/// Gives one encoded example of everything version 1 writes to disk, by name; they must never change.
#[must_use]
pub fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let at = LogIdV1 { term: 3, leader: 2, index: 41 };
    let vote = VoteV1 { term: 3, replica: 2, committed: true };
    let member =
        |id: u64| MemberV1 { id, peer_address: format!("10.0.0.{id}:7101"), api_address: format!("10.0.0.{id}:7201") };
    let membership = MembershipV1 { voters: vec![vec![1, 2, 3]], members: vec![member(1), member(2), member(3)] };
    let salt = EXAMPLE_SALT;
    let header =
        HeaderV1 { log: salt.log, segment: salt.segment, bytes: 1 << 24, purged: None, last: Some(at), vote: None };
    let record = |kind, body: Vec<u8>| {
        let mut bytes = Vec::new();
        let place = Place { lsn: 90, synced: 87, previous: 0x1234_5678 };
        wal::encode_frame(&mut bytes, salt, kind, place, |out| out.extend_from_slice(&body));
        bytes
    };
    let entry = |payload| record(Kind::Entry, codec::encode(&EntryV1 { id: at, payload }));
    let mark = MarkV1 {
        number: 7,
        log: salt.log,
        lsn: 90,
        crc: 0x1234_5678,
        last: Some(at),
        vote: Some(vote),
        committed: None,
    };
    let stored =
        StoredMembershipV1 { at: Some(LogIdV1 { term: 0, leader: 0, index: 0 }), membership: membership.clone() };
    let meta = SnapshotMetaV1 { last: Some(at), membership: stored };
    let meta = meta.try_into().expect("the example membership is valid");
    let mut history_record = Vec::new();
    segment::push(&mut history_record, &codec::seal(&history::key("audit", 7), b"record"));
    let heads = BTreeMap::from([("audit".to_owned(), 40), ("usage".to_owned(), 2)]);
    vec![
        ("wal-header", record(Kind::Header, codec::encode(&header))),
        ("wal-entry-blank", entry(PayloadV1::Blank)),
        ("wal-entry-request", entry(PayloadV1::Request(b"request".to_vec().into()))),
        ("wal-entry-batch", entry(PayloadV1::Request(batch::example().into()))),
        ("wal-entry-membership", entry(PayloadV1::Membership(membership))),
        ("wal-vote", record(Kind::Vote, codec::encode(&vote))),
        ("wal-truncate", record(Kind::Truncate, codec::encode(&Some(at)))),
        ("wal-purge", record(Kind::Purge, codec::encode(&at))),
        ("wal-seal", record(Kind::Seal, Vec::new())),
        ("wal-mark", wal::encode_mark(&mark)),
        ("identity", identity::encode(&example_identity())),
        ("history", codec::seal(&history::key("audit", 7), b"record")),
        ("history-heads", codec::seal(HEADS, &codec::encode(&HeadsV1 { last: heads.clone() }))),
        ("history-segment", segment::head("audit", 7)),
        ("history-record", history_record.clone()),
        ("history-index-head", segment::index_head("audit", 7, 2, 120)),
        ("snapshot", snapshot::encode(&meta, &heads, b"state")),
    ]
}

fn example_identity() -> IdentityV1 {
    IdentityV1 { cluster: "test".into(), replica: 3, incarnation: "0a".repeat(16) }
}

/// Reads an example back, as a start would.
///
/// # Errors
/// [`CodecError`] if this program cannot.
pub fn read_example(name: &str, bytes: &[u8]) -> Result<(), CodecError> {
    match name {
        "wal-mark" => wal::decode_mark(bytes).map(|_| ()),
        "identity" => identity::decode(bytes).map(|_| ()),
        "history" => codec::unseal(&history::key("audit", 7), bytes).map(|_| ()),
        "history-heads" => codec::decode::<HeadsV1>(codec::unseal(HEADS, bytes)?).map(|_| ()),
        "history-segment" => segment::check_head(bytes, "audit", 7),
        "history-record" => segment::open(bytes, "audit", 7).map(|_| ()),
        "history-index-head" => segment::check_index_head(bytes, "audit", 7, 2).map(|_| ()),
        "snapshot" => snapshot::decode(bytes).map(|_| ()),
        _ => {
            let frame = wal::decode_frame(bytes, EXAMPLE_SALT)?;
            match frame.kind {
                Kind::Header => codec::decode::<HeaderV1>(frame.body).map(|_| ()),
                Kind::Entry => codec::decode::<EntryV1>(frame.body).map(|_| ()),
                Kind::Vote => codec::decode::<VoteV1>(frame.body).map(|_| ()),
                Kind::Truncate => codec::decode::<Option<LogIdV1>>(frame.body).map(|_| ()),
                Kind::Purge => codec::decode::<LogIdV1>(frame.body).map(|_| ()),
                Kind::Seal => Ok(()),
            }
        }
    }
}
