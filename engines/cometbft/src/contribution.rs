//! What a node gives for the genesis: made on its host by the application itself, public, and signed there.
//!
//! It holds the genesis that the application begins with (so that nobody needs to know its modules, and so that two
//! nodes with different programs are noticed before the chain begins), the node's account in the application's own form,
//! and the transaction by which the account's key claims a validator's seat (a "gentx"). The driver reads back here what
//! it can check without the application's code; the application checks the signature when the chain begins.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hanse_engines_core::NodeIdentity;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::profile::Profile;

/// Version of this form.
const VERSION: u32 = 1;
/// Longest contribution: an application's empty genesis is some 20 kB.
pub(crate) const BYTES_MAX: usize = 128 * 1024;
/// What the account's key may call itself in the application's keyring.
pub(crate) const OPERATOR: &str = "operator";

/// In units of [`Profile::bond_denom`], what a validator stakes: every one the same, so that power is equal. A thousand
/// units of power where 10^18 are one of them (as in `injectived`), 10^15 where 10^6 are.
pub(crate) const STAKE: u128 = 1_000_000_000_000_000_000_000;

/// A node's contribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contribution {
    version: u32,
    /// The operator's address.
    pub(crate) operator: String,
    /// The operator's account as the application writes it.
    pub(crate) account: Value,
    /// The signed claim.
    pub(crate) claim: Value,
    /// What the application begins with, without names and times.
    pub(crate) base: Value,
}

impl Contribution {
    pub(crate) fn new(operator: String, account: Value, claim: Value, base: Value) -> Self {
        Self { version: VERSION, operator, account, claim, base }
    }

    pub(crate) fn text(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// Reads and checks the contribution of `identity`.
    pub(crate) fn of(identity: &NodeIdentity, profile: &Profile) -> Result<Self, String> {
        let text = identity.contribution.as_deref().ok_or("is missing: prepare the node again")?;
        if text.len() > BYTES_MAX {
            return Err(format!("has {} bytes, at most {BYTES_MAX} are taken", text.len()));
        }
        let read: Self = serde_json::from_str(text).map_err(|e| format!("cannot be read: {e}"))?;
        if read.version != VERSION {
            return Err(format!("has version {}, this program knows {VERSION}", read.version));
        }
        read.check(identity, profile)?;
        Ok(read)
    }

    /// One claim, to one seat, with the node's own key, at the stake of everybody.
    fn check(&self, identity: &NodeIdentity, profile: &Profile) -> Result<(), String> {
        let body = &self.claim["body"];
        let [message] = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default() else {
            return Err("must claim one seat".into());
        };
        let is = |seen: &Value, wished: &str| seen.as_str() == Some(wished);
        let node = format!("{}@", identity.node_id);
        let wrong = [
            (is(&message["@type"], "/cosmos.staking.v1beta1.MsgCreateValidator"), "is no claim to a validator's seat"),
            (public_key(&message["pubkey"]).as_deref() == Some(&identity.public_key), "claims for another node's key"),
            (is(&message["value"]["denom"], &profile.bond_denom), "stakes another coin"),
            (is(&message["value"]["amount"], &STAKE.to_string()), "stakes another amount than everybody"),
            (body["memo"].as_str().is_some_and(|memo| memo.starts_with(&node)), "names another node"),
            (
                self.operator.starts_with(&format!("{}1", profile.address_prefix)),
                "has an address of another application",
            ),
            (account_address(&self.account) == Some(&self.operator), "has the account of another"),
        ];
        match wrong.iter().find(|(holds, _)| !holds) {
            Some((_, reason)) => Err((*reason).to_owned()),
            None => Ok(()),
        }
    }
}

/// The address inside an account, whatever the application wraps around the common part.
fn account_address(account: &Value) -> Option<&str> {
    let own = if account["base_account"].is_object() { &account["base_account"] } else { account };
    own["address"].as_str()
}

/// The account of `address` in the form of `pattern`, which is of another address.
pub(crate) fn account_like(pattern: &Value, address: &str) -> Value {
    let mut account = pattern.clone();
    let is_wrapped = account["base_account"].is_object();
    let own = if is_wrapped { &mut account["base_account"] } else { &mut account };
    own["address"] = address.into();
    account
}

/// Hex of an Ed25519 key as the application's JSON writes it: `{"@type": …, "key": base64}`; `None` if it is none.
pub(crate) fn public_key(value: &Value) -> Option<String> {
    let is_ed25519 = value["@type"].as_str() == Some("/cosmos.crypto.ed25519.PubKey");
    is_ed25519.then(|| hex_of_base64(&value["key"])).flatten()
}

/// Hex of 32 bytes of base64.
pub(crate) fn hex_of_base64(value: &Value) -> Option<String> {
    let bytes = BASE64_STANDARD.decode(value.as_str()?).ok()?;
    (bytes.len() == 32).then(|| hex::encode(bytes))
}
