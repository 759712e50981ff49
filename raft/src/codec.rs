//! Our own encoding of what Raft keeps and sends, apart from openraft's types.
//!
//! Every value is one version byte and the MessagePack (named fields) of a struct of this file that mirrors openraft's.
//! A value on disk is further *sealed*: `version · key length · key · body · CRC-32`, so that a flipped bit, and a value
//! found under another key, are both seen. Never serde of openraft's types: they change between versions.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::raft::{AppendEntriesResponse, TransferLeaderError, TransferLeaderResponse, VoteRequest, VoteResponse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::types::{
    Entry, EntryBytes, LeaderId, LogId, Member, Membership, Payload, ReplicaId, SnapshotMeta, StoredMembership, Types,
    Vote,
};

mod append;
#[cfg(test)]
mod frozen;

pub(crate) use append::{AppendV1, encode_append};

/// Version of every encoding in this file.
pub(crate) const VERSION: u8 = 1;

/// Room made at once for what is encoded; entries make more.
const ROOM: usize = 256;

/// Why bytes could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end too early.
    #[error("truncated at {0} bytes")]
    Truncated(usize),
    /// A version this program does not know.
    #[error("unknown version {0}")]
    Version(u8),
    /// The checksum differs.
    #[error("bad checksum (stored {stored:08x}, computed {computed:08x})")]
    Checksum {
        /// What is written.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The value belongs to another key.
    #[error("value of key {found} found under key {expected}")]
    Key {
        /// The key it was looked up under, in hex.
        expected: String,
        /// The key it carries, in hex.
        found: String,
    },
    /// The body has another shape.
    #[error("malformed body: {0}")]
    Body(String),
}

/// Gives the version byte and the MessagePack of a value.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ROOM);
    encode_to(&mut bytes, value);
    bytes
}

/// Adds what [`encode`] gives to `out`.
pub(crate) fn encode_to<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    out.push(VERSION);
    rmp_serde::encode::write_named(out, value).expect("plain structs of integers, strings and bytes always encode");
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (version, body) = bytes.split_first().ok_or(CodecError::Truncated(0))?;
    if *version != VERSION {
        return Err(CodecError::Version(*version));
    }
    rmp_serde::from_slice(body).map_err(|e| CodecError::Body(e.to_string()))
}

/// Seals a body for the disk: version, key, body, CRC-32 over all of it.
pub(crate) fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let key_length = u16::try_from(key.len()).expect("keys of this store are under 64 KiB");
    let mut bytes = Vec::with_capacity(7 + key.len() + body.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&key_length.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(body);
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

/// Gives the body of a sealed value after checking its checksum, version and key.
pub(crate) fn unseal<'a>(key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], CodecError> {
    let Some((content, stored)) = bytes.split_last_chunk::<4>() else { return Err(CodecError::Truncated(bytes.len())) };
    let stored = u32::from_be_bytes(*stored);
    let computed = crc32fast::hash(content);
    if stored != computed {
        return Err(CodecError::Checksum { stored, computed });
    }
    let Some((head, rest)) = content.split_first_chunk::<3>() else { return Err(CodecError::Truncated(bytes.len())) };
    if head[0] != VERSION {
        return Err(CodecError::Version(head[0]));
    }
    let key_length = usize::from(u16::from_be_bytes([head[1], head[2]]));
    let Some((found, body)) = rest.split_at_checked(key_length) else { return Err(CodecError::Truncated(bytes.len())) };
    if found != key {
        return Err(CodecError::Key { expected: hex::encode(key), found: hex::encode(found) });
    }
    Ok(body)
}

/// Mirror of a log id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogIdV1 {
    pub(crate) term: u64,
    pub(crate) leader: u64,
    pub(crate) index: u64,
}

impl From<LogId> for LogIdV1 {
    fn from(id: LogId) -> Self {
        Self { term: id.leader_id.term, leader: id.leader_id.node_id.0, index: id.index }
    }
}

impl From<LogIdV1> for LogId {
    fn from(id: LogIdV1) -> Self {
        Self::new(LeaderId { term: id.term, node_id: ReplicaId(id.leader) }, id.index)
    }
}

/// Mirror of a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteV1 {
    pub(crate) term: u64,
    pub(crate) replica: u64,
    pub(crate) committed: bool,
}

impl From<Vote> for VoteV1 {
    fn from(vote: Vote) -> Self {
        Self { term: vote.leader_id.term, replica: vote.leader_id.node_id.0, committed: vote.committed }
    }
}

impl From<VoteV1> for Vote {
    fn from(vote: VoteV1) -> Self {
        Self { leader_id: LeaderId { term: vote.term, node_id: ReplicaId(vote.replica) }, committed: vote.committed }
    }
}

/// Mirror of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberV1 {
    pub(crate) id: u64,
    pub(crate) peer_address: String,
    pub(crate) api_address: String,
}

/// Mirror of a membership: one set of voters, or two while it changes, and every member's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembershipV1 {
    pub(crate) voters: Vec<Vec<u64>>,
    pub(crate) members: Vec<MemberV1>,
}

impl From<&Membership> for MembershipV1 {
    fn from(membership: &Membership) -> Self {
        Self {
            voters: membership.get_joint_config().iter().map(|set| set.iter().map(|id| id.0).collect()).collect(),
            members: membership
                .nodes()
                .map(|(id, member)| MemberV1 {
                    id: id.0,
                    peer_address: member.peer_address.clone(),
                    api_address: member.api_address.clone(),
                })
                .collect(),
        }
    }
}

impl TryFrom<MembershipV1> for Membership {
    type Error = CodecError;

    fn try_from(mirror: MembershipV1) -> Result<Self, CodecError> {
        let voters: Vec<BTreeSet<ReplicaId>> =
            mirror.voters.into_iter().map(|set| set.into_iter().map(ReplicaId).collect()).collect();
        let members: BTreeMap<ReplicaId, Member> = mirror
            .members
            .into_iter()
            .map(|m| (ReplicaId(m.id), Member { peer_address: m.peer_address, api_address: m.api_address }))
            .collect();
        if voters.is_empty() && members.is_empty() {
            return Ok(Self::default());
        }
        Self::new(voters, members).map_err(|e| CodecError::Body(e.to_string()))
    }
}

/// Mirror of a membership and the entry that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredMembershipV1 {
    pub(crate) at: Option<LogIdV1>,
    pub(crate) membership: MembershipV1,
}

impl From<&StoredMembership> for StoredMembershipV1 {
    fn from(stored: &StoredMembership) -> Self {
        Self { at: stored.log_id().map(Into::into), membership: stored.membership().into() }
    }
}

impl TryFrom<StoredMembershipV1> for StoredMembership {
    type Error = CodecError;

    fn try_from(mirror: StoredMembershipV1) -> Result<Self, CodecError> {
        Ok(Self::new(mirror.at.map(Into::into), mirror.membership.try_into()?))
    }
}

/// Mirror of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryV1 {
    pub(crate) id: LogIdV1,
    pub(crate) payload: PayloadV1,
}

/// Mirror of what an entry carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PayloadV1 {
    /// A leader's first entry.
    Blank,
    /// An encoded request.
    Request(#[serde(with = "byte_string")] Bytes),
    /// The replicas.
    Membership(MembershipV1),
}

impl From<&Entry> for EntryV1 {
    fn from(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            Payload::Blank => PayloadV1::Blank,
            Payload::Normal(bytes) => PayloadV1::Request(bytes.0.clone()),
            Payload::Membership(membership) => PayloadV1::Membership(membership.into()),
        };
        Self { id: entry.log_id.into(), payload }
    }
}

impl TryFrom<EntryV1> for Entry {
    type Error = CodecError;

    fn try_from(mirror: EntryV1) -> Result<Self, CodecError> {
        let payload = match mirror.payload {
            PayloadV1::Blank => Payload::Blank,
            PayloadV1::Request(bytes) => Payload::Normal(EntryBytes(bytes)),
            PayloadV1::Membership(membership) => Payload::Membership(membership.try_into()?),
        };
        Ok(Self { log_id: mirror.id.into(), payload })
    }
}

/// Mirror of what a snapshot covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotMetaV1 {
    pub(crate) last: Option<LogIdV1>,
    pub(crate) membership: StoredMembershipV1,
}

impl From<&SnapshotMeta> for SnapshotMetaV1 {
    fn from(meta: &SnapshotMeta) -> Self {
        Self { last: meta.last_log_id.map(Into::into), membership: (&meta.last_membership).into() }
    }
}

impl TryFrom<SnapshotMetaV1> for SnapshotMeta {
    type Error = CodecError;

    fn try_from(mirror: SnapshotMetaV1) -> Result<Self, CodecError> {
        Ok(Self { last_log_id: mirror.last.map(Into::into), last_membership: mirror.membership.try_into()? })
    }
}

/// Mirror of the answer to an append.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AppendAnswerV1 {
    Success,
    Partial(Option<LogIdV1>),
    Conflict,
    HigherVote(VoteV1),
}

impl From<AppendEntriesResponse<Types>> for AppendAnswerV1 {
    fn from(answer: AppendEntriesResponse<Types>) -> Self {
        match answer {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(id) => Self::Partial(id.map(Into::into)),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<AppendAnswerV1> for AppendEntriesResponse<Types> {
    fn from(mirror: AppendAnswerV1) -> Self {
        match mirror {
            AppendAnswerV1::Success => Self::Success,
            AppendAnswerV1::Partial(id) => Self::PartialSuccess(id.map(Into::into)),
            AppendAnswerV1::Conflict => Self::Conflict,
            AppendAnswerV1::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

/// Mirror of the answer to one append of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StreamAnswerV1 {
    /// The target's log is the caller's up to here, durable.
    Matching(Option<LogIdV1>),
    /// The target has another entry here, or none.
    Conflict(LogIdV1),
    /// The target follows another leader.
    HigherVote(VoteV1),
}

/// Mirror of a call for a vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteCallV1 {
    vote: VoteV1,
    last: Option<LogIdV1>,
    transfer: bool,
}

impl From<&VoteRequest<Types>> for VoteCallV1 {
    fn from(call: &VoteRequest<Types>) -> Self {
        Self { vote: call.vote.into(), last: call.last_log_id.map(Into::into), transfer: call.leadership_transfer }
    }
}

impl From<VoteCallV1> for VoteRequest<Types> {
    fn from(mirror: VoteCallV1) -> Self {
        Self {
            vote: mirror.vote.into(),
            last_log_id: mirror.last.map(Into::into),
            leadership_transfer: mirror.transfer,
        }
    }
}

/// Mirror of the answer to a call for a vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteAnswerV1 {
    vote: VoteV1,
    granted: bool,
    last: Option<LogIdV1>,
}

impl From<VoteResponse<Types>> for VoteAnswerV1 {
    fn from(answer: VoteResponse<Types>) -> Self {
        Self { vote: answer.vote.into(), granted: answer.vote_granted, last: answer.last_log_id.map(Into::into) }
    }
}

impl From<VoteAnswerV1> for VoteResponse<Types> {
    fn from(mirror: VoteAnswerV1) -> Self {
        Self { vote: mirror.vote.into(), vote_granted: mirror.granted, last_log_id: mirror.last.map(Into::into) }
    }
}

/// Mirror of the order to take the lead, and its answer (`None`: it may).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TransferV1 {
    pub(crate) from: VoteV1,
    pub(crate) to: u64,
    pub(crate) last: Option<LogIdV1>,
}

/// Mirror of the answer to [`TransferV1`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TransferAnswerV1 {
    Accepted,
    VoteChanged { expected: VoteV1, actual: VoteV1 },
    LogNotFlushed { expected: Option<LogIdV1>, actual: Option<LogIdV1> },
}

impl From<TransferLeaderResponse<Types>> for TransferAnswerV1 {
    fn from(answer: TransferLeaderResponse<Types>) -> Self {
        match answer {
            Ok(()) => Self::Accepted,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                Self::VoteChanged { expected: expected.into(), actual: actual.into() }
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                Self::LogNotFlushed { expected: expected.map(Into::into), actual: actual.map(Into::into) }
            }
        }
    }
}

impl From<TransferAnswerV1> for TransferLeaderResponse<Types> {
    fn from(mirror: TransferAnswerV1) -> Self {
        match mirror {
            TransferAnswerV1::Accepted => Ok(()),
            TransferAnswerV1::VoteChanged { expected, actual } => {
                Err(TransferLeaderError::VoteChanged { expected: expected.into(), actual: actual.into() })
            }
            TransferAnswerV1::LogNotFlushed { expected, actual } => Err(TransferLeaderError::LogNotFlushed {
                expected: expected.map(Into::into),
                actual: actual.map(Into::into),
            }),
        }
    }
}

/// Head of a snapshot on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotHeadV1 {
    pub(crate) vote: VoteV1,
    pub(crate) meta: SnapshotMetaV1,
}

/// Last sequence number of history kept, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeadsV1 {
    pub(crate) last: BTreeMap<String, u64>,
}

/// Whether a replica has stored anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HelloV1 {
    pub(crate) holds_data: bool,
}

/// Byte strings as MessagePack `bin`, not as arrays of numbers.
pub(crate) mod byte_string {
    use bytes::Bytes;
    use serde::de::{Error, SeqAccess, Visitor};
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Whole;
        impl<'de> Visitor<'de> for Whole {
            type Value = Bytes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a byte string")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes::copy_from_slice(bytes))
            }
            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(bytes.into())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Bytes, A::Error> {
                Err(A::Error::custom("an array where a byte string belongs"))
            }
        }
        deserializer.deserialize_byte_buf(Whole)
    }
}
