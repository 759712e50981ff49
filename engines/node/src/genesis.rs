//! `genesis.json`, version 1: what all nodes of one chain agree on before the first block.
//!
//! The engine's driver writes this file, the same bytes or not, on each node; what counts is
//! [`Genesis::hash`], the keccak of the canonical bytes. The hash stands in block 0's extra data,
//! so two chains with different rules or validators never share a block.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use hanse_trail::VerifierKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::keys::PublicKey;
use crate::{NodeError, anchor, governance};

/// The file's name below a node's home.
pub const GENESIS_FILE: &str = "genesis.json";
/// The version this program reads and writes.
pub const GENESIS_VERSION: u32 = 1;
/// More validators than this would make a certificate too large for a block time of a second.
pub const VALIDATORS_MAX: usize = 100;
/// Total voting power stays far from the overflow of the quorum's multiplication.
pub(crate) const POWER_MAX: u64 = 1 << 40;

/// What a chain starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// Format version, 1.
    pub version: u32,
    /// EIP-155 chain id, 1 to 2^53 - 1.
    pub chain_id: u64,
    /// Block 0's time, milliseconds since 1970; no block is made before it.
    pub genesis_time_ms: u64,
    /// Time from block to block in milliseconds, 50 to 60,000.
    pub block_time_ms: u64,
    /// Gas a block may use, 1,000,000 to 1,000,000,000.
    pub block_gas_limit: u64,
    /// Ethereum's rules that transactions run by.
    #[serde(default, skip_serializing_if = "Fork::is_first")]
    pub fork: Fork,
    /// Encoded size of a block in bytes, [`BLOCK_BYTES_LEAST`] to [`BLOCK_BYTES_MOST`].
    #[serde(default = "block_bytes_most", skip_serializing_if = "is_block_bytes_most")]
    pub block_bytes_max: u64,
    /// Wei that each unit of gas costs at least, 0 to 10^18; it is destroyed, as Ethereum wants it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub base_fee: u64,
    /// Who gets what is paid above the base fee, and what the opcode COINBASE gives; without it the
    /// validator's id, whose account no one can use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee_recipient: Option<Address>,
    /// The validators, 1 to [`VALIDATORS_MAX`], distinct; their order has no meaning.
    pub validators: Vec<GenesisValidator>,
    /// Who may change validators and lists; without it they stay as they are here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governance: Option<GenesisGovernance>,
    /// Whose audit trail has its heads recorded here; without it nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<GenesisAnchor>,
    /// Accounts that exist in block 0, by address.
    #[serde(default)]
    pub alloc: BTreeMap<Address, GenesisAccount>,
}

/// Rules of execution, named as Ethereum names them. Blob transactions (type 3) exist in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fork {
    /// What a genesis without the field means: Prague without type 4 transactions and without the
    /// contract of block hashes (EIP-2935).
    #[default]
    Prague,
    /// Osaka, with type 4 transactions and EIP-2935.
    Osaka,
}

impl Fork {
    fn is_first(&self) -> bool {
        *self == Self::Prague
    }
}

/// A block has room for a transaction of the usual size.
pub const BLOCK_BYTES_LEAST: u64 = 256 << 10;
/// A proposal with its block fits into one frame and one log record.
pub const BLOCK_BYTES_MOST: u64 = 2 << 20;
/// No one could pay more for a unit of gas.
const BASE_FEE_MOST: u64 = 1_000_000_000_000_000_000;

fn block_bytes_most() -> u64 {
    BLOCK_BYTES_MOST
}

fn is_block_bytes_most(value: &u64) -> bool {
    *value == BLOCK_BYTES_MOST
}

/// Who governs a chain, and its lists in block 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisGovernance {
    /// The members' accounts, distinct; their order has no meaning.
    pub members: Vec<Address>,
    /// How many of them must sign a proposal.
    pub threshold: u32,
    /// Keys of nodes that may connect, beside the validators; without it all of the configuration may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<PublicKey>>,
    /// Accounts that may send transactions; without it all may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub senders: Option<Vec<Address>>,
    /// Accounts that may create contracts; without it all may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployers: Option<Vec<Address>>,
}

impl GenesisGovernance {
    /// Checks members, threshold and lists.
    fn check(&self, alloc: &BTreeMap<Address, GenesisAccount>) -> Result<(), NodeError> {
        let bad = |field: &str, reason: String, action: &str| {
            Err(NodeError::invalid(GENESIS_FILE, format!("governance.{field}"), reason, action))
        };
        let members: BTreeSet<_> = self.members.iter().collect();
        if members.len() != self.members.len() || members.contains(&Address::ZERO) {
            return bad("members", "names one twice, or nobody (zero)".into(), "list each member's account once");
        }
        if members.len() > governance::MEMBERS_MAX || !(1..=members.len()).contains(&(self.threshold as usize)) {
            let reason = format!("{} of {} members", self.threshold, members.len());
            return bad("threshold", reason, "choose 1 to the number of members, who are at most 100");
        }
        if let Some(key) = self.nodes.iter().flatten().find(|key| key.verifying().is_none()) {
            return bad("nodes", format!("{key} is not an Ed25519 key"), "copy keys from `node init`");
        }
        let most = governance::ENTRIES_MAX as usize;
        let lists = [("senders", &self.senders), ("deployers", &self.deployers)];
        for (field, list) in lists {
            let list: Vec<_> = list.iter().flatten().collect();
            if list.len() != list.iter().collect::<BTreeSet<_>>().len() || list.len() > most {
                return bad(field, format!("names one twice, or more than {most}"), "list each account once");
            }
        }
        let nodes: Vec<_> = self.nodes.iter().flatten().collect();
        if nodes.len() != nodes.iter().collect::<BTreeSet<_>>().len() || nodes.len() > most {
            return bad("nodes", format!("names one twice, or more than {most}"), "list each key once");
        }
        if alloc.contains_key(&governance::ADDRESS) {
            let reason = format!("alloc has {}, where governance lives", governance::ADDRESS);
            return bad("(all)", reason, "remove that account");
        }
        Ok(())
    }

    fn sort(&mut self) {
        self.members.sort_unstable();
        self.nodes.iter_mut().for_each(|list| list.sort_unstable());
        self.senders.iter_mut().for_each(|list| list.sort_unstable());
        self.deployers.iter_mut().for_each(|list| list.sort_unstable());
    }
}

/// A control plane whose audit trail is anchored here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisAnchor {
    /// The key of its checkpoints, with the trail's name in it: the text of `audit.vkey`.
    #[serde(with = "key_text")]
    pub key: VerifierKey,
}

mod key_text {
    use super::{Deserialize, Deserializer, Serializer, VerifierKey};

    pub(super) fn serialize<S: Serializer>(key: &VerifierKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(key)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<VerifierKey, D::Error> {
        let text = String::deserialize(deserializer)?;
        VerifierKey::parse(&text).map_err(|error| serde::de::Error::custom(format!("anchor.key: {error}")))
    }
}

/// One validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisValidator {
    /// The node's key.
    pub public_key: PublicKey,
    /// Voting power, at least 1.
    pub power: u64,
}

/// One account of block 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisAccount {
    /// Balance in wei, a decimal string.
    #[serde(with = "decimal")]
    pub balance: U256,
    /// Code, `0x…`.
    #[serde(default, skip_serializing_if = "no_code")]
    pub code: Bytes,
    /// Nonce.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nonce: u64,
    /// Storage: values by slot, both 32 bytes; a zero is as good as none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub storage: BTreeMap<B256, B256>,
}

fn no_code(code: &Bytes) -> bool {
    code.is_empty()
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

mod decimal {
    use super::{Deserialize, Deserializer, Serializer, U256};

    pub(super) fn serialize<S: Serializer>(value: &U256, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<U256, D::Error> {
        let text = String::deserialize(deserializer)?;
        U256::from_str_radix(&text, 10).map_err(|_| serde::de::Error::custom("balance must be a decimal string"))
    }
}

impl Genesis {
    /// The genesis below `home`, checked.
    ///
    /// # Errors
    /// The file is missing, not readable as version 1, or a field is wrong.
    pub fn load(home: &Path) -> Result<Self, NodeError> {
        let path = home.join(GENESIS_FILE);
        let text = std::fs::read_to_string(&path).map_err(NodeError::io("cannot read", &path))?;
        Self::from_json(&text)
    }

    /// Reads and checks the file's text.
    ///
    /// # Errors
    /// As [`Genesis::load`].
    pub fn from_json(text: &str) -> Result<Self, NodeError> {
        let genesis: Self = serde_json::from_str(text).map_err(|e| {
            NodeError::invalid(
                GENESIS_FILE,
                "(syntax)",
                e.to_string(),
                "correct the file or have the control plane write it again",
            )
        })?;
        genesis.check()?;
        Ok(genesis)
    }

    /// Checks what the types do not say.
    ///
    /// # Errors
    /// The first wrong field, with reason and remedy.
    pub fn check(&self) -> Result<(), NodeError> {
        let range = |field: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(NodeError::invalid(
                GENESIS_FILE,
                field,
                format!("{value} is out of range"),
                format!("choose {low} to {high}"),
            ))
        };
        range("version", u64::from(self.version), 1, u64::from(GENESIS_VERSION))?;
        range("chain_id", self.chain_id, 1, (1 << 53) - 1)?;
        range("block_time_ms", self.block_time_ms, 50, 60_000)?;
        range("block_gas_limit", self.block_gas_limit, 1_000_000, 1_000_000_000)?;
        range("block_bytes_max", self.block_bytes_max, BLOCK_BYTES_LEAST, BLOCK_BYTES_MOST)?;
        range("base_fee", self.base_fee, 0, BASE_FEE_MOST)?;
        range("validators", self.validators.len() as u64, 1, VALIDATORS_MAX as u64)?;
        let mut seen = BTreeSet::new();
        for (index, validator) in self.validators.iter().enumerate() {
            let field = format!("validators[{index}]");
            range(&format!("{field}.power"), validator.power, 1, POWER_MAX)?;
            let reason = if validator.public_key.verifying().is_none() {
                "is not an Ed25519 key"
            } else if !seen.insert(validator.public_key) {
                "is listed twice"
            } else {
                continue;
            };
            return Err(NodeError::invalid(
                GENESIS_FILE,
                format!("{field}.public_key"),
                reason,
                "list each validator's key once, as its `node init` printed it",
            ));
        }
        self.check_anchor()?;
        self.governance.as_ref().map_or(Ok(()), |governance| governance.check(&self.alloc))
    }

    fn check_anchor(&self) -> Result<(), NodeError> {
        let Some(anchor) = &self.anchor else { return Ok(()) };
        let bad = |field: &str, reason: String, action: &str| {
            Err(NodeError::invalid(GENESIS_FILE, format!("anchor.{field}"), reason, action))
        };
        if PublicKey(*anchor.key.public()).verifying().is_none() {
            return bad("key", format!("{} is not an Ed25519 key", anchor.key), "copy the platform's audit.vkey");
        }
        if anchor.key.name().len() > anchor::NAME_BYTES_MAX {
            let most = anchor::NAME_BYTES_MAX;
            return bad("key", "its name is too long".into(), &format!("choose a name of at most {most} bytes"));
        }
        if self.alloc.contains_key(&anchor::ADDRESS) {
            return bad(
                "(all)",
                format!("alloc has {}, where the anchor lives", anchor::ADDRESS),
                "remove that account",
            );
        }
        Ok(())
    }

    /// The bytes that [`Genesis::hash`] covers: compact JSON, validators sorted by key, accounts
    /// by address, hexadecimal in lower case.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut sorted = self.clone();
        sorted.validators.sort_by_key(|v| v.public_key);
        sorted.governance.iter_mut().for_each(GenesisGovernance::sort);
        serde_json::to_vec(&sorted).expect("a genesis has only string keys and plain numbers")
    }

    /// The chain's identity: keccak256 of [`Genesis::canonical_bytes`].
    pub fn hash(&self) -> B256 {
        keccak256(self.canonical_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Frozen: a file as version 1 writes it must keep its hash.
    const V1: &str = include_str!("../tests/frozen/genesis_v1.json");
    const V1_HASH: &str = include_str!("../tests/frozen/genesis_v1.hash");

    #[test]
    fn the_frozen_example_keeps_its_hash() {
        let genesis = Genesis::from_json(V1).unwrap();
        assert_eq!(genesis.hash().to_string(), V1_HASH.trim());
        let again = Genesis::from_json(&serde_json::to_string_pretty(&genesis).unwrap()).unwrap();
        assert_eq!(again, genesis);
    }

    #[test]
    fn order_of_validators_does_not_change_the_hash_but_power_does() {
        let genesis = Genesis::from_json(V1).unwrap();
        let mut turned = genesis.clone();
        turned.validators.reverse();
        assert_eq!(turned.hash(), genesis.hash());
        turned.validators[0].power += 1;
        assert_ne!(turned.hash(), genesis.hash());
    }

    #[test]
    fn what_a_genesis_of_old_does_not_say_is_what_it_meant_then() {
        let old = Genesis::from_json(V1).unwrap();
        assert_eq!((old.fork, old.base_fee, old.block_bytes_max), (Fork::Prague, 0, BLOCK_BYTES_MOST));
        let new = Genesis { fork: Fork::Osaka, base_fee: 7, ..old.clone() };
        assert_ne!(new.hash(), old.hash());
        let text = serde_json::to_string(&new).unwrap();
        assert!(text.contains(r#""fork":"osaka","base_fee":7,"#), "{text}");
        assert_eq!(Genesis::from_json(&text).unwrap(), new);
        let error = Genesis::from_json(&text.replace("osaka", "paris")).unwrap_err().to_string();
        assert!(error.contains("paris") && error.contains("osaka"), "{error}");
    }

    #[test]
    fn errors_name_field_reason_and_remedy() {
        let genesis = Genesis::from_json(V1).unwrap();
        let mut twice = genesis.clone();
        twice.validators.push(twice.validators[0].clone());
        assert!(twice.check().unwrap_err().to_string().contains("validators[4].public_key: is listed twice"));
        let mut fast = genesis;
        fast.block_time_ms = 1;
        assert!(fast.check().unwrap_err().to_string().contains("block_time_ms: 1 is out of range; choose 50"));
    }
}
