//! How requests, states and records are written to the log, to snapshots and to history.
//!
//! An envelope of three bytes (a magic byte for the kind, the version as two bytes, big end first), then MessagePack
//! with named fields. The version in the envelope of a state is its cluster's ([`Version`]), so that a build that does not
//! speak it says so instead of looking into the body. What is not understood wholly is an error, never a guess: another kind or version, an unknown
//! command or field, bytes left over. The replica that meets one stops.

use rmp_serde::Serializer;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize as _, Serialize};

use crate::cluster::version::{SPOKEN, Version};
use crate::event::Record;
use crate::{Outcome, Rejection, Request, State};

/// Version of every other envelope.
pub const WIRE_VERSION: u16 = 1;

const MAGIC_REQUEST: u8 = b'Q';
const MAGIC_STATE: u8 = b'S';
const MAGIC_RECORD: u8 = b'R';
const MAGIC_OUTCOME: u8 = b'O';

/// Room made at once for what is encoded: most requests and records fit.
const ROOM: usize = 1_024;

/// About what a remembered request takes.
const SEEN_ROOM: usize = 128;

/// Why bytes were not understood.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Shorter than the envelope, or of another kind.
    #[error("not an encoded {what}")]
    NotThis {
        /// What was expected.
        what: &'static str,
    },
    /// Written by another version.
    #[error("{what} has version {found}, this build knows {WIRE_VERSION}: upgrade this replica")]
    Version {
        /// What it is.
        what: &'static str,
        /// Version found.
        found: u16,
    },
    /// Of a cluster version that this build does not speak.
    #[error("{what} is of cluster version {found}, this build speaks {SPOKEN}: start a build that speaks it")]
    ClusterVersion {
        /// What it is.
        what: &'static str,
        /// Version found.
        found: Version,
    },
    /// The body has a command or field that this build does not know, or is damaged.
    #[error("{what} cannot be decoded: {reason}")]
    Body {
        /// What it is.
        what: &'static str,
        /// What the decoder said.
        reason: String,
    },
}

/// Returns the bytes of a log entry.
pub fn encode_request(request: &Request) -> Vec<u8> {
    encode(MAGIC_REQUEST, request)
}

/// As [`encode_request`], of what a request wants.
pub(crate) fn encode_wish(wish: &crate::apply::Wish<'_>) -> Vec<u8> {
    encode(MAGIC_REQUEST, wish)
}

/// Returns the log entry of `bytes`.
///
/// # Errors
/// Any [`CodecError`]: the entry must not be applied and the replica must stop.
pub fn decode_request(bytes: &[u8]) -> Result<Request, CodecError> {
    let request: Request = decode(MAGIC_REQUEST, "request", bytes)?;
    if request.version != crate::command::REQUEST_VERSION {
        return Err(CodecError::Version { what: "request", found: request.version });
    }
    if let Some(found) = request.command.sets_version()
        && !SPOKEN.contains(found)
    {
        return Err(CodecError::ClusterVersion { what: "request", found });
    }
    Ok(request)
}

/// Returns the bytes of a whole state; equal states have equal bytes.
pub fn encode_state(state: &State) -> Vec<u8> {
    // Nearly all of a large state is this window.
    let room = ROOM + state.dedup.seen.len() * SEEN_ROOM;
    encode_as(MAGIC_STATE, state.version().0, state, room)
}

/// Returns the state of `bytes`.
///
/// # Errors
/// Any [`CodecError`]: the snapshot must not be used.
pub fn decode_state(bytes: &[u8]) -> Result<State, CodecError> {
    let what = "state";
    let (version, body) = open(MAGIC_STATE, what, bytes)?;
    let version = Version(version);
    if !SPOKEN.contains(version) {
        return Err(CodecError::ClusterVersion { what, found: version });
    }
    let state: State = decode_body(what, body)?;
    if state.version() == version {
        return Ok(state);
    }
    let reason = format!("its envelope says cluster version {version}, its body {}", state.version());
    Err(CodecError::Body { what, reason })
}

/// Returns the bytes of a record of history.
pub fn encode_record(record: &Record) -> Vec<u8> {
    encode(MAGIC_RECORD, record)
}

/// Returns the record of `bytes`.
///
/// # Errors
/// Any [`CodecError`].
pub fn decode_record(bytes: &[u8]) -> Result<Record, CodecError> {
    decode(MAGIC_RECORD, "record", bytes)
}

/// Returns the bytes of an outcome (what a leader answers to a follower that forwarded).
pub fn encode_outcome(outcome: &Result<Outcome, Rejection>) -> Vec<u8> {
    encode(MAGIC_OUTCOME, outcome)
}

/// Returns the outcome of `bytes`.
///
/// # Errors
/// Any [`CodecError`].
pub fn decode_outcome(bytes: &[u8]) -> Result<Result<Outcome, Rejection>, CodecError> {
    decode(MAGIC_OUTCOME, "outcome", bytes)
}

fn encode<T: Serialize>(magic: u8, value: &T) -> Vec<u8> {
    encode_as(magic, WIRE_VERSION, value, ROOM)
}

fn encode_as<T: Serialize>(magic: u8, version: u16, value: &T, room: usize) -> Vec<u8> {
    let [high, low] = version.to_be_bytes();
    let mut bytes = Vec::with_capacity(room);
    bytes.extend_from_slice(&[magic, high, low]);
    value
        .serialize(&mut Serializer::new(&mut bytes).with_struct_map())
        .expect("plain data into memory cannot fail to encode");
    bytes
}

fn decode<T: DeserializeOwned>(magic: u8, what: &'static str, bytes: &[u8]) -> Result<T, CodecError> {
    let (version, body) = open(magic, what, bytes)?;
    if version != WIRE_VERSION {
        return Err(CodecError::Version { what, found: version });
    }
    decode_body(what, body)
}

/// Gives the version and the body of an envelope.
fn open<'a>(magic: u8, what: &'static str, bytes: &'a [u8]) -> Result<(u16, &'a [u8]), CodecError> {
    match bytes {
        [found, high, low, body @ ..] if *found == magic => Ok((u16::from_be_bytes([*high, *low]), body)),
        _ => Err(CodecError::NotThis { what }),
    }
}

fn decode_body<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, CodecError> {
    let refused = |e: rmp_serde::decode::Error| CodecError::Body { what, reason: e.to_string() };
    let mut reader = rmp_serde::Deserializer::from_read_ref(body);
    let value = T::deserialize(&mut reader).map_err(refused)?;
    // Nothing more can be read: not even the marker that begins a value.
    match IgnoredAny::deserialize(&mut reader) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        Ok(_) | Err(_) => Err(CodecError::Body { what, reason: "bytes are left over".into() }),
    }
}
