//! Whole-system stories: the real binary, real replicas, real sshd, real ledger nodes, real `cast`.
//!
//! Each story starts what it needs, waits for predicates with generous limits, and ends every process it started, also
//! when it fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod adopted;
mod adopted_cometbft;
mod anchored;
mod audit;
mod backup;
mod by_hand;
mod clouds;
mod cluster;
mod console;
mod data_disks;
mod dev;
mod docker;
mod faults;
mod foreign;
mod full_disk;
mod governed;
mod heights;
mod hypervisor;
mod imported;
mod life;
mod load;
mod operators;
mod owner;
mod people;
mod program;
mod replica;
mod upgrade;
mod wait;
mod watched;
mod ways;
