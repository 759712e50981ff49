//! Tests of the replica: its disk, its network, and three of them together.
#![allow(clippy::unwrap_used)]

mod batch;
mod cluster;
mod disk;
mod frozen;
mod harness;
mod history;
mod membership;
mod old_build;
mod power_cut;
mod refused;
mod sim_disk;
mod suite;
mod versions;
