//! Where the last head stands in the account's storage, version 1.
//!
//! Three slots at keccak256("hanse.anchor/1/" ‖ name): `head` (the words of 64 bits size, height, time, era, the least
//! significant first), `root`, `chain`.

use alloy_primitives::{B256, U256, keccak256};

use super::Trust;
use crate::governance::{Slots, SlotsMut};

/// A head as the chain holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// How many records the trail had; 0 if nothing was recorded.
    pub(crate) size: u64,
    /// Root of the Merkle tree over them.
    pub(crate) root: B256,
    /// Chain hash of the last record.
    pub(crate) chain: B256,
    /// The platform's log time of the checkpoint, milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// The block that recorded it.
    pub(crate) height: u64,
    /// How often members had set the key.
    pub(crate) era: u64,
}

impl Recorded {
    /// What of it binds the next head: nothing, if members have set the key since.
    pub(super) fn of(&self, trust: &Trust) -> Self {
        if self.era == trust.era { *self } else { Self { height: self.height, era: trust.era, ..Self::default() } }
    }
}

fn place(name: &str) -> U256 {
    keccak256(["hanse.anchor/1/", name].concat()).into()
}

/// Reads the last head.
pub(super) fn read<S: Slots>(slots: &mut S) -> Result<Recorded, S::Error> {
    let [size, height, at_ms, era] = *slots.load(place("head"))?.as_limbs();
    let (root, chain) = (slots.load(place("root"))?.into(), slots.load(place("chain"))?.into());
    Ok(Recorded { size, root, chain, at_ms, height, era })
}

/// Writes the last head.
pub(super) fn write<S: SlotsMut>(slots: &mut S, head: &Recorded) -> Result<(), S::Error> {
    slots.store(place("head"), U256::from_limbs([head.size, head.height, head.at_ms, head.era]))?;
    slots.store(place("root"), U256::from_be_bytes(head.root.0))?;
    slots.store(place("chain"), U256::from_be_bytes(head.chain.0))
}
