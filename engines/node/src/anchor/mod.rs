//! The audit anchor: heads of a control plane's audit trail, recorded on the chain of those who depend on it.
//!
//! A platform signs checkpoints of its audit trail (`hanse-trail`): how many records there are and the root of the Merkle
//! tree over them. Anyone sends one as an ordinary transaction to [`ADDRESS`], with the proof that the tree continues the
//! one recorded last. It is executed natively (`precompile`, `execute`): the signature must be of the key that genesis
//! names, or that the members have set since by governance, and the proof must hold. So from the moment a head is recorded
//! the platform cannot change, remove or rewrite a record below it without the chain refusing every later head, and whoever
//! has an export of the trail can compare it with the chain (`hanse audit verify --anchored`).
//!
//! Only the last head is kept, in the account's storage (`layout`), so the state stays small and `eth_getProof` proves it;
//! each is in the log of its transaction, which names the height of the one before (`history`).
//!
//! It never says that a record is true, only that it has not been changed since, and it holds no secret: a head is a number
//! and a hash.

mod client;
mod execute;
mod history;
mod layout;
mod precompile;
#[cfg(test)]
mod tests;

use alloy_consensus::Transaction;
use alloy_primitives::{Address, Bytes, address};
use hanse_trail::VerifierKey;

pub use client::ask;
pub(crate) use history::{Anchored, before};
pub(crate) use layout::Recorded;
pub(crate) use precompile::run;

use crate::NodeError;
use crate::block::Tx;
use crate::genesis::{Genesis, GenesisAccount};
use crate::governance::{AccountSlots, Layout, Slots};
use crate::native;
use crate::store::StateView;

/// Where the anchor lives: "Hanse" and a number.
pub(crate) const ADDRESS: Address = address!("48616e7365000000000000000000000000000002");
/// Longest name of a trail, which stands in each checkpoint.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// Whose checkpoints are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The key that genesis names.
    key: VerifierKey,
    /// Whether members may set another.
    is_governed: bool,
}

/// Whose checkpoints are recorded now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trust {
    pub(crate) key: VerifierKey,
    /// How often members have set it: what was recorded in an earlier era binds no more.
    pub(crate) era: u64,
}

impl Rules {
    /// The rules of a chain; `None` if it has no anchor.
    pub(crate) fn of(genesis: &Genesis) -> Option<Self> {
        let anchor = genesis.anchor.as_ref()?;
        Some(Self { key: anchor.key.clone(), is_governed: genesis.governance.is_some() })
    }

    /// Whose checkpoints are recorded, by the storage of governance.
    ///
    /// # Errors
    /// The storage cannot be read.
    fn trust<S: Slots>(&self, governance: &mut S) -> Result<Trust, S::Error> {
        if !self.is_governed {
            return Ok(Trust { key: self.key.clone(), era: 0 });
        }
        let (key, era) = Layout::new(governance).anchor()?;
        let key = VerifierKey::new(self.key.name(), key.0).expect("the name is that of a key");
        Ok(Trust { key, era })
    }

    /// Whose checkpoints are recorded after the state of a block, and the last one recorded, of whatever era.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn read(&self, mut state: StateView<'_>) -> Result<(Trust, Recorded), NodeError> {
        let trust = self.trust(&mut state)?;
        Ok((trust, layout::read(&mut AccountSlots(state, ADDRESS))?))
    }

    /// Whether a transaction takes the anchor further than the state of a block has it, so that no list of senders may keep it
    /// out: a platform needs no account that members list. Only the holder of the platform's key can make one, and it can be
    /// said again by others only until it is recorded.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn goes_further(&self, state: StateView<'_>, tx: &Tx) -> Result<bool, NodeError> {
        if tx.to() != Some(ADDRESS) || !tx.value().is_zero() {
            return Ok(false);
        }
        let Ok(execute::Call::Anchor(order)) = execute::decode(tx.input()) else { return Ok(false) };
        let (trust, recorded) = self.read(state)?;
        Ok(order.open(&trust).is_ok_and(|checkpoint| checkpoint.size > recorded.of(&trust).size))
    }
}

/// The anchor's account in block 0; `None` for a chain without.
pub(crate) fn genesis_account(genesis: &Genesis) -> Option<GenesisAccount> {
    genesis.anchor.as_ref()?;
    Some(GenesisAccount { nonce: 1, code: Bytes::from_static(&native::CODE), ..Default::default() })
}
