//! The replicated core in a simulated world: real openraft and the real state machine, everything around them made up.
//!
//! How it works. turmoil runs every replica and client as a host of one process with simulated time and network; `disk`
//! is a disk that forgets what was not synced; `faults` throws crashes, cuts, loss, slow disks, jumping clocks and
//! changes of the lead from the seed; `operator` changes the membership as a person does; `oracle` and `check` hold every
//! applied entry, every answer and, after each tick, every replica against what must be true. At the end the faults stop
//! and full healing is demanded. One seed is one run: the same to the byte, because nothing asks the machine for time,
//! threads or dice (`runtime`).
//!
//! What it never does. It opens no socket or file, starts no thread, and is no part of the product. Its storage and network
//! stand in for the raft crate's: those are tried with real power cuts and real processes (crate `hanse-faults`).

mod acts;
mod adapter;
mod ask;
mod blocks;
mod carry;
mod chains;
mod check;
mod client;
mod cloud;
mod dice;
mod disk;
mod faults;
mod healing;
mod hosts;
mod inventory;
mod leader;
mod ledger;
mod machine;
mod membership;
mod mutant;
mod network;
mod node;
mod operator;
mod oracle;
mod post;
mod provider;
mod region;
mod roster;
mod run;
mod runtime;
pub mod sweep;
mod types;
mod volumes;
mod workload;
mod world;

pub use mutant::Mutant;
pub use run::{Options, Report, TICK_MS, run};
