//! The client against real TLS servers that fail as they are told to.
#![allow(clippy::unwrap_used)]

mod backup;
mod faults;
mod replica;
mod watch;
