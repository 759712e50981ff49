//! What is asked of the state at a block: balance, nonce, code, storage, proof.

use alloy_primitives::{Address, B256, U256};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::types::{Args, BlockRef, invalid, quantity};
use super::{Reply, eth, internal, refuse};
use crate::block::Block;
use crate::node::Shared;
use crate::state::AccountRecord;
use crate::store::{Snapshot, StateView};

/// Slots that one `eth_getProof` may ask for; each costs a walk from the root.
const PROOF_SLOTS_MAX: usize = 256;

/// A block whose state is kept.
pub(super) struct At {
    pub(super) snapshot: Snapshot,
    pub(super) block: Block,
}

impl At {
    /// The block that a request names.
    ///
    /// # Errors
    /// There is no such block, or its state is not kept.
    pub(super) fn find(shared: &Shared, which: &BlockRef) -> Result<Self, ErrorObjectOwned> {
        let snapshot = shared.store.snapshot().map_err(internal)?;
        let number = which.resolve(&snapshot)?.ok_or_else(|| refuse("header not found: there is no such block"))?;
        let block = eth::require(&snapshot, number)?;
        let at = Self { snapshot, block };
        at.state()?;
        Ok(at)
    }

    /// The state after the block.
    ///
    /// # Errors
    /// It is not kept.
    pub(super) fn state(&self) -> Result<StateView<'_>, ErrorObjectOwned> {
        let number = self.block.number();
        if let Some(state) = self.snapshot.state_at(number).map_err(internal)? {
            return Ok(state);
        }
        let (oldest, head) = (self.snapshot.oldest_state().map_err(internal)?, self.snapshot.head().map_err(internal)?);
        Err(refuse(format!(
            "state of block {number} is not kept; this node keeps those of blocks {oldest} to {}",
            head.unwrap_or(0)
        )))
    }
}

/// A slot: 32 bytes, or a number as older tools write it.
struct Slot {
    number: U256,
    /// Given as 32 bytes, and shown so again.
    is_word: bool,
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").filter(|digits| digits.len() <= 64);
        digits
            .and_then(|digits| U256::from_str_radix(digits, 16).ok())
            .map(|number| Self { number, is_word: text.len() == 66 })
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no slot: 0x and at most 64 hex digits")))
    }
}

pub(super) fn transaction_count(shared: &Shared, params: Params<'_>) -> Reply {
    let mut args = Args::new(&params);
    let address: Address = args.need("address")?;
    let which: BlockRef = args.maybe("block")?.unwrap_or_default();
    let at = At::find(shared, &which)?;
    let nonce = at.state()?.account(address).map_err(internal)?.map_or(0, |account| account.nonce);
    let is_pending = which == BlockRef::Pending;
    Ok(quantity(if is_pending { shared.mempool.next_nonce(address, nonce) } else { nonce }))
}

pub(super) fn balance(shared: &Shared, params: Params<'_>) -> Reply {
    let (at, address) = at_address(shared, &params)?;
    let account = at.state()?.account(address).map_err(internal)?;
    Ok(json!(account.map_or(U256::ZERO, |account| account.balance)))
}

pub(super) fn code(shared: &Shared, params: Params<'_>) -> Reply {
    let (at, address) = at_address(shared, &params)?;
    let code = match at.state()?.account(address).map_err(internal)? {
        Some(account) => at.snapshot.code(account.code_hash).map_err(internal)?,
        None => None,
    };
    Ok(json!(code.unwrap_or_default()))
}

pub(super) fn storage(shared: &Shared, params: Params<'_>) -> Reply {
    let mut args = Args::new(&params);
    let address: Address = args.need("address")?;
    let slot: Slot = args.need("slot")?;
    let which: BlockRef = args.maybe("block")?.unwrap_or_default();
    let at = At::find(shared, &which)?;
    Ok(json!(B256::from(at.state()?.slot(address, slot.number).map_err(internal)?)))
}

/// `eth_getProof` (EIP-1186).
pub(super) fn proof(shared: &Shared, params: Params<'_>) -> Reply {
    let mut args = Args::new(&params);
    let address: Address = args.need("address")?;
    let slots: Vec<Slot> = args.need("storage keys")?;
    let which: BlockRef = args.maybe("block")?.unwrap_or_default();
    if slots.len() > PROOF_SLOTS_MAX {
        return Err(invalid(format!("storage keys: {}, at most {PROOF_SLOTS_MAX}", slots.len())));
    }
    let numbers: Vec<_> = slots.iter().map(|slot| slot.number).collect();
    let at = At::find(shared, &which)?;
    let proof = at.state()?.prove(address, &numbers).map_err(internal)?;
    let account = proof.account.unwrap_or(AccountRecord::ABSENT);
    let storage = slots.iter().zip(&proof.storage).map(|(asked, found)| {
        let key = if asked.is_word { json!(B256::from(found.slot)) } else { json!(found.slot) };
        json!({ "key": key, "value": found.value, "proof": found.nodes })
    });
    Ok(json!({
        "address": address,
        "balance": account.balance,
        "nonce": quantity(account.nonce),
        "codeHash": account.code_hash,
        "storageHash": account.storage_root,
        "accountProof": proof.nodes,
        "storageProof": storage.collect::<Vec<_>>(),
    }))
}

fn at_address(shared: &Shared, params: &Params<'_>) -> Result<(At, Address), ErrorObjectOwned> {
    let mut args = Args::new(params);
    let address: Address = args.need("address")?;
    let which: BlockRef = args.maybe("block")?.unwrap_or_default();
    Ok((At::find(shared, &which)?, address))
}
