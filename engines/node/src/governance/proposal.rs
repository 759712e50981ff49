//! A proposal's file, version 1: what members pass around until enough of them have signed.

use std::path::Path;

use alloy_primitives::{Address, B256, Bytes, U256};
use hanse_trail::VerifierKey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::sign::{Domain, hash_proposal};
use super::{Action, Call, Change, abi};
use crate::NodeError;
use crate::keys::PublicKey;

/// The version this program reads and writes.
const VERSION: u32 = 1;

/// A proposal and the signatures it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proposal {
    /// Format version, 1.
    pub(super) version: u32,
    pub(super) chain_id: u64,
    pub(super) genesis_hash: B256,
    pub(super) sequence: u64,
    pub(super) deadline: u64,
    pub(super) changes: Vec<ChangeForm>,
    #[serde(default)]
    pub(super) signatures: Vec<SignatureForm>,
}

/// A change as people read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeForm {
    action: Action,
    /// A node's key, an account, or a version; empty where the action wants none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    subject: String,
    value: u64,
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignatureForm {
    pub(super) member: Address,
    pub(super) signature: Bytes,
}

impl ChangeForm {
    /// Reads `action=subject,value` or, for actions without a subject, `action=value`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let usage = "write action=subject,value or action=value, such as setValidator=KEY,1 or restrictSenders=1";
        let (action, rest) = text.split_once('=').ok_or(usage)?;
        let action = serde_json::from_value(json!(action)).map_err(|e| format!("{e}; {usage}"))?;
        let (subject, value) = rest.rsplit_once(',').unwrap_or(("", rest));
        let value = value.trim().parse().map_err(|_| format!("\"{value}\" is no number; {usage}"))?;
        let form = Self { action, subject: subject.trim().to_owned(), value };
        form.read().map(|_| form)
    }

    fn read(&self) -> Result<Change, String> {
        let subject = &self.subject;
        let wants = |what: &str| format!("{} wants {what}, not \"{subject}\"", self.action.name());
        let subject = match self.action {
            Action::SetValidator | Action::SetNode => {
                let key: PublicKey = subject.parse().map_err(|_| wants("a node's public key (64 hex digits)"))?;
                B256::from(key.0)
            }
            Action::SetAnchorKey => {
                let key = VerifierKey::parse(subject).map(|key| PublicKey(*key.public()));
                let key = key.or_else(|_| subject.parse()).map_err(|_| wants("the text of audit.vkey"))?;
                B256::from(key.0)
            }
            Action::SetSender | Action::SetDeployer | Action::SetMember => {
                let account: Address = subject.parse().map_err(|_| wants("an account (0x and 40 hex digits)"))?;
                account.into_word()
            }
            Action::ScheduleUpgrade => {
                let version: u64 = subject.parse().map_err(|_| wants("a protocol version"))?;
                U256::from(version).into()
            }
            Action::RestrictNodes | Action::RestrictSenders | Action::RestrictDeployers | Action::SetThreshold => {
                if !subject.is_empty() {
                    return Err(wants("no subject"));
                }
                B256::ZERO
            }
        };
        Ok(Change { action: self.action, subject, value: U256::from(self.value) })
    }

    /// The key of a validator that would be given power.
    pub(super) fn validator(&self) -> Option<PublicKey> {
        let gives = self.action == Action::SetValidator && self.value > 0;
        gives.then(|| self.subject.parse().ok()).flatten()
    }
}

impl Proposal {
    pub(super) fn new(domain: Domain, sequence: u64, deadline: u64, changes: Vec<ChangeForm>) -> Self {
        let Domain { chain_id, genesis_hash } = domain;
        Self { version: VERSION, chain_id, genesis_hash, sequence, deadline, changes, signatures: Vec::new() }
    }

    /// Reads and checks the file; every signature must be the named member's.
    pub(super) fn load(path: &Path) -> Result<Self, NodeError> {
        let text = std::fs::read_to_string(path).map_err(NodeError::io("cannot read", path))?;
        let name = path.display().to_string();
        let bad = |field: &str, reason: String, action: &str| Err(NodeError::invalid(&name, field, reason, action));
        let read: Self = match serde_json::from_str(&text) {
            Ok(read) => read,
            Err(error) => return bad("(syntax)", error.to_string(), "propose anew"),
        };
        if read.version != VERSION {
            let reason = format!("{} is unknown, this program reads {VERSION}", read.version);
            return bad("version", reason, "use the program version that wrote the file");
        }
        let call = match read.call() {
            Ok(call) => call,
            Err(reason) => return bad("changes", reason, "propose anew"),
        };
        for (index, form) in read.signatures.iter().enumerate() {
            if read.domain().signer(&call, &form.signature) != Some(form.member) {
                let reason = format!("is not {}'s signature of this proposal", form.member);
                return bad(&format!("signatures[{index}]"), reason, "remove it, or have the member sign again");
            }
        }
        Ok(read)
    }

    /// Writes the file whole or not at all.
    pub(super) fn save(&self, path: &Path) -> Result<(), NodeError> {
        let text = serde_json::to_string_pretty(self).expect("a proposal is plain data");
        let part = path.with_extension(format!("part-{}", std::process::id()));
        std::fs::write(&part, text + "\n").map_err(NodeError::io("cannot write", &part))?;
        std::fs::rename(&part, path).map_err(NodeError::io("cannot write", path))
    }

    pub(super) fn domain(&self) -> Domain {
        Domain { chain_id: self.chain_id, genesis_hash: self.genesis_hash }
    }

    pub(super) fn call(&self) -> Result<Call, String> {
        let changes = self.changes.iter().map(ChangeForm::read).collect::<Result<_, _>>()?;
        let signatures = self.signatures.iter().map(|form| form.signature.clone()).collect();
        Ok(Call { changes, sequence: self.sequence, deadline: self.deadline, signatures })
    }

    /// The transaction's input.
    pub(super) fn input(&self) -> Result<Bytes, String> {
        self.call().map(|call| abi::encode(&call))
    }

    /// Adds a signature and returns whose it is; a member's earlier one is replaced.
    pub(super) fn add(&mut self, signature: Bytes) -> Result<Address, String> {
        let call = self.call()?;
        let member = self.domain().signer(&call, &signature).ok_or("it is no signature of this proposal")?;
        self.signatures.retain(|form| form.member != member);
        self.signatures.push(SignatureForm { member, signature });
        Ok(member)
    }

    /// What is proposed, who signed, and what a wallet is asked to sign.
    pub(super) fn describe(&self) -> Result<Value, String> {
        let call = self.call()?;
        Ok(json!({
            "chain_id": self.chain_id,
            "genesis_hash": self.genesis_hash,
            "sequence": self.sequence,
            "deadline": self.deadline,
            "changes": self.changes,
            "proposal_hash": hash_proposal(&call),
            "signing_hash": self.domain().signing_hash(&call),
            "signed_by": self.signatures.iter().map(|form| form.member).collect::<Vec<_>>(),
            "typed_data": self.domain().typed_data(&call),
        }))
    }
}
