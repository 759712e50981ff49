//! A call to append entries, on the wire. Its room is made at once: it may carry hundreds of requests.

use openraft::raft::AppendEntriesRequest;
use serde::{Deserialize, Serialize};

use super::{CodecError, EntryV1, LogIdV1, ROOM, VoteV1, encode_to};
use crate::types::{Payload, Types};

/// Room for what stands around the request of an entry.
const ENTRY_ROOM: usize = 64;

/// Mirror of a call to append entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppendV1 {
    pub(super) vote: VoteV1,
    pub(super) previous: Option<LogIdV1>,
    pub(super) entries: Vec<EntryV1>,
    pub(super) commit: Option<LogIdV1>,
}

impl From<&AppendEntriesRequest<Types>> for AppendV1 {
    fn from(call: &AppendEntriesRequest<Types>) -> Self {
        Self {
            vote: call.vote.into(),
            previous: call.prev_log_id.map(Into::into),
            entries: call.entries.iter().map(Into::into).collect(),
            commit: call.leader_commit.map(Into::into),
        }
    }
}

impl TryFrom<AppendV1> for AppendEntriesRequest<Types> {
    type Error = CodecError;

    fn try_from(mirror: AppendV1) -> Result<Self, CodecError> {
        Ok(Self {
            vote: mirror.vote.into(),
            prev_log_id: mirror.previous.map(Into::into),
            entries: mirror.entries.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            leader_commit: mirror.commit.map(Into::into),
        })
    }
}

/// Gives what [`encode`](super::encode) gives of a call to append; its room is made at once.
pub(crate) fn encode_append(call: &AppendEntriesRequest<Types>) -> Vec<u8> {
    let room = call.entries.iter().map(|entry| match &entry.payload {
        Payload::Normal(bytes) => ENTRY_ROOM + bytes.0.len(),
        Payload::Blank | Payload::Membership(_) => ENTRY_ROOM,
    });
    let mut bytes = Vec::with_capacity(ROOM + room.sum::<usize>());
    encode_to(&mut bytes, &AppendV1::from(call));
    bytes
}
