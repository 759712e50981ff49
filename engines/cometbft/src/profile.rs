//! What the driver must know of an application: how its addresses, coins and chain ids are spelled, and what its genesis
//! needs beyond the modules that every Cosmos-SDK application has.
//!
//! An operator writes it as a small TOML file beside the program that they import. It holds no secret and no code.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Version of the file that this program reads.
const VERSION: u32 = 1;
/// Longest name in it.
const NAME_MAX: usize = 64;
/// Longest name of a chain in CometBFT (`MaxChainIDLen`).
const CHAIN_NAME_MAX: usize = 50;

/// An application, as far as the driver must know it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Version of this form, 1.
    version: u32,
    /// Name of a chain in the consensus; `{id}` stands for its EIP-155 number.
    chain_id: String,
    /// Human-readable part of its addresses.
    pub(crate) address_prefix: String,
    /// What gas and balances are counted in.
    pub(crate) gas_denom: String,
    /// What a unit of gas costs in it.
    pub(crate) gas_price: u64,
    /// What voting power is counted in.
    pub(crate) bond_denom: String,
    /// By JSON pointer, values that its genesis needs; `{chain_id}` in a text stands for the EIP-155 number.
    #[serde(default)]
    pub(crate) genesis: BTreeMap<String, toml::Value>,
}

impl Profile {
    /// Reads the file's content.
    ///
    /// # Errors
    /// Names the field, the reason and what to do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let profile: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        profile.check()?;
        Ok(profile)
    }

    fn check(&self) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!("version: {} is not known, write {VERSION}", self.version));
        }
        let is_word = |text: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'/' | b'.');
            !text.is_empty() && text.len() <= NAME_MAX && text.bytes().all(plain)
        };
        let named = [
            ("gas_denom", &self.gas_denom),
            ("bond_denom", &self.bond_denom),
            ("address_prefix", &self.address_prefix),
        ];
        if let Some((field, _)) = named.into_iter().find(|(_, text)| !is_word(text)) {
            return Err(format!("{field}: must be letters, digits, `-`, `_`, `/` and `.`, at most {NAME_MAX}"));
        }
        if self.address_prefix.bytes().any(|b| !b.is_ascii_lowercase()) {
            return Err("address_prefix: must be lower-case letters".into());
        }
        if self.gas_denom == self.bond_denom {
            return Err(
                "bond_denom: must differ from gas_denom, or whoever has a balance may take the chain over".into()
            );
        }
        if !self.chain_id.contains("{id}") || !is_word(&self.chain_id.replace("{id}", "1")) {
            return Err("chain_id: must be a name with {id} in it, such as \"name-{id}\"".into());
        }
        if self.chain_name(u64::MAX).len() > CHAIN_NAME_MAX {
            return Err(format!("chain_id: must be at most {} characters", CHAIN_NAME_MAX - 16));
        }
        match self.genesis.keys().find(|pointer| !pointer.starts_with('/')) {
            Some(pointer) => Err(format!("genesis.{pointer:?}: must be a JSON pointer, such as \"/app_state/evm\"")),
            None => Ok(()),
        }
    }

    /// The chain's name in the consensus.
    pub(crate) fn chain_name(&self, id: u64) -> String {
        self.chain_id.replace("{id}", &id.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str = include_str!("../profiles/injective.toml");

    #[test]
    fn the_example_is_read_and_mistakes_name_their_field() {
        let profile = Profile::parse(GOOD).unwrap();
        assert_eq!(profile.chain_name(777), "hanse-777");
        for (from, to, field) in [
            ("version = 1", "version = 2", "version"),
            ("hanse-{id}", "hanse", "chain_id"),
            ("hanse-{id}", "a name {id}", "chain_id"),
            ("hanse-{id}", "a-name-that-is-much-too-long-for-this-{id}", "chain_id"),
            ("\"inj\"", "\"INJ\"", "address_prefix"),
            ("bond_denom = \"stake\"", "bond_denom = \"inj\"", "bond_denom"),
            ("bond_denom = \"stake\"", "bond_denom = \"\"", "bond_denom"),
            ("\"/app_state/evm", "\"app_state/evm", "genesis"),
            ("gas_price", "gas_prize", "gas_prize"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let reason = Profile::parse(&text).unwrap_err();
            assert!(reason.contains(field), "{field}: {reason}");
        }
    }
}
