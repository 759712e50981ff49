//! Real nodes as processes on loopback, with mutual TLS, and programs of others as outside clients: Foundry's `cast`
//! and `anvil`, ethers, viem, web3.py. `cargo xtask parts` installs them; without them these tests fail.
#![allow(clippy::unwrap_used)]

mod access;
mod anvil;
mod cast;
mod chain;
mod clients;
mod endure;
mod forge;
mod full;
mod govern;
mod home;
mod journal;
mod net;
mod operate;
mod parts;
mod signer;
mod signing;
mod startup;
mod websocket;
