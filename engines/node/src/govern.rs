//! The steps of a governance proposal for programs that reach a chain by a way of their own.
//!
//! `node govern` asks a node's JSON-RPC; `hanse chain govern` asks the platform. Both go through the same steps and the
//! same file, and give the way they ask as a [`Ledger`].

pub use crate::governance::steps::{Inclusion, Ledger, Offer, Standing, propose, show, sign, submit};

use alloy_primitives::Address;

/// Where governance lives on every chain of this ledger.
pub const ACCOUNT: Address = crate::governance::ADDRESS;
