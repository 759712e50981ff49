//! The embedded ledger's node: a BFT chain that executes Ethereum transactions.
//!
//! How it works: Malachite's Tendermint core (sans-IO) decides blocks; one thread drives it
//! ([`node`] wires it), appends to a write-ahead log before any message leaves, executes a block
//! with revm before voting for it, and stores block, commit certificate and state changes in one
//! redb transaction. Peers speak length-framed MessagePack over mutual TLS 1.3 with an allow-list
//! of keys. Clients speak Ethereum's JSON-RPC.
//!
//! What it never does: it never signs two different votes for one height, round and step (the log
//! is replayed after a crash), and never talks to a key that is not in its configuration.

mod accounts;
mod anchor;
mod block;
pub mod cli;
mod clock;
pub mod config;
mod consensus;
mod error;
mod exec;
mod feed;
pub mod genesis;
mod gossip;
pub mod govern;
mod governance;
mod join;
pub mod keys;
mod mempool;
mod metrics;
mod native;
mod net;
pub mod node;
mod ready;
mod room;
mod rpc;
mod snapshot;
mod state;
mod store;
mod trie;
mod wal;

pub use anchor::ask as ask_anchors;
pub use error::NodeError;
