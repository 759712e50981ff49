//! The API as a client meets it: real TLS, real replicas of the log, real disks.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod access;
mod accounts;
mod artifacts;
mod clouds;
mod forwarding;
mod governance;
mod harness;
mod hosts;
mod ledger;
mod lists;
mod series;
mod shy_cloud;
mod trail;
mod watch;
