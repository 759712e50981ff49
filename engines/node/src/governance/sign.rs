//! What members sign: EIP-712 typed data, which wallets show in words.
//!
//! The domain names the chain id, the governance account and, as salt, the genesis hash, so that a signature is
//! worthless on another chain, also on one that was made anew with the same id.

use alloy_primitives::{Address, B256, Signature, U256, keccak256};
use serde_json::{Value, json};

use super::{ADDRESS, Call, Change};

const NAME: &str = "Hanse Governance";
const VERSION: &str = "1";
const DOMAIN_TYPE: &str =
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)";
const PROPOSAL_TYPE: &str = "Proposal(Change[] changes,uint256 sequence,uint256 deadline)\
                             Change(string action,bytes32 subject,uint256 value)";
const CHANGE_TYPE: &str = "Change(string action,bytes32 subject,uint256 value)";

/// The chain that a signature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Domain {
    pub(crate) chain_id: u64,
    pub(crate) genesis_hash: B256,
}

fn hash_words(words: &[B256]) -> B256 {
    keccak256(words.concat())
}

fn word(value: u64) -> B256 {
    U256::from(value).into()
}

impl Domain {
    fn separator(&self) -> B256 {
        hash_words(&[
            keccak256(DOMAIN_TYPE),
            keccak256(NAME),
            keccak256(VERSION),
            word(self.chain_id),
            ADDRESS.into_word(),
            self.genesis_hash,
        ])
    }

    /// The hash that members sign.
    pub(crate) fn signing_hash(&self, call: &Call) -> B256 {
        let mut bytes = vec![0x19, 0x01];
        bytes.extend_from_slice(self.separator().as_slice());
        bytes.extend_from_slice(hash_proposal(call).as_slice());
        keccak256(bytes)
    }

    /// Who made a signature of the call; `None` if it is none. Of the two forms with one meaning (EIP-2) only one counts.
    pub(crate) fn signer(&self, call: &Call, signature: &[u8]) -> Option<Address> {
        let signature = Signature::from_raw(signature).ok()?;
        if signature.normalize_s().is_some() {
            return None;
        }
        signature.recover_address_from_prehash(&self.signing_hash(call)).ok()
    }

    /// The typed data as wallets take it (`eth_signTypedData_v4`).
    pub(crate) fn typed_data(&self, call: &Call) -> Value {
        let field = |name: &str, kind: &str| json!({ "name": name, "type": kind });
        let changes: Vec<_> = call
            .changes
            .iter()
            .map(|c| json!({ "action": c.action.name(), "subject": c.subject, "value": c.value.to_string() }))
            .collect();
        json!({
            "types": {
                "EIP712Domain": [
                    field("name", "string"), field("version", "string"), field("chainId", "uint256"),
                    field("verifyingContract", "address"), field("salt", "bytes32"),
                ],
                "Proposal": [field("changes", "Change[]"), field("sequence", "uint256"), field("deadline", "uint256")],
                "Change": [field("action", "string"), field("subject", "bytes32"), field("value", "uint256")],
            },
            "primaryType": "Proposal",
            "domain": {
                "name": NAME, "version": VERSION, "chainId": self.chain_id, "verifyingContract": ADDRESS,
                "salt": self.genesis_hash,
            },
            "message": {
                "changes": changes, "sequence": call.sequence.to_string(), "deadline": call.deadline.to_string(),
            },
        })
    }
}

fn hash_change(change: &Change) -> B256 {
    hash_words(&[keccak256(CHANGE_TYPE), keccak256(change.action.name()), change.subject, change.value.into()])
}

/// The proposal's own hash, which the log of its execution carries.
pub(super) fn hash_proposal(call: &Call) -> B256 {
    let changes: Vec<_> = call.changes.iter().map(hash_change).collect();
    hash_words(&[keccak256(PROPOSAL_TYPE), hash_words(&changes), word(call.sequence), word(call.deadline)])
}
