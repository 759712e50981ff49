//! The outside contract of Hanse: package `hanse.v1` as Rust types, clients and server traits.
//!
//! Generated at build time from `proto/hanse/v1/*.proto` by protox and tonic; the conventions that hold in every
//! service stand at the head of `common.proto`. This crate holds no logic and never depends on the domain: the
//! server converts by hand, so that the log format and the contract change apart from each other.

/// Messages, clients (`*_client`) and server traits (`*_server`) of `hanse.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    rust_2018_idioms,
    clippy::all,
    rustdoc::all,
    reason = "generated code; the proto files are commented instead"
)]
pub mod v1 {
    tonic::include_proto!("hanse.v1");
}

/// Encoded `FileDescriptorSet` of every file of the contract, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hanse_v1_descriptor.bin"));

/// Trailer in which a replica names the API address (`host:port`) of the leader.
pub const LEADER_TRAILER: &str = "x-hanse-leader";

/// Header a follower sets when it hands a call to the leader; a call that carries it is never handed on.
pub const FORWARDED_HEADER: &str = "x-hanse-forwarded";

/// Key in the metadata of an `ErrorInfo`: "true" if the log itself refused the request id, so that no attempt with that
/// id, earlier or later, has changed anything.
pub const LOGGED_KEY: &str = "logged";

/// Domain of every `ErrorInfo` of the platform.
pub const ERROR_DOMAIN: &str = "hanse";

/// DNS name that every API certificate carries, whatever address the replica listens on.
pub const API_SERVER_NAME: &str = "hanse-api";
