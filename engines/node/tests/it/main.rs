//! Four real nodes as four processes on loopback, with mutual TLS, and foundry's `cast` as an
//! outside client. `cast` is found as `$HANSE_CAST` or on PATH; without it these tests fail.
#![allow(clippy::unwrap_used)]

mod cast;
mod chain;
mod endure;
mod govern;
mod home;
mod net;
mod signer;
mod startup;
