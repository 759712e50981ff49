//! Governance: the members of a consortium change their chain by k-of-n signed proposals.
//!
//! A proposal is a list of [`Change`]s with a sequence number. Members sign it as EIP-712 typed data (`sign`), anyone
//! sends it as an ordinary transaction to [`ADDRESS`], where it is executed natively (`precompile`, `execute`), not by
//! bytecode. What it decides lives in that account's storage (`layout`), so the state root covers it and proofs work.
//! Everything but the membership itself takes effect [`DELAY`] blocks after the proposal's block: then every node that
//! has block h knows who votes on h + 1 and h + 2. A proposal that breaks a rule is reverted with the reason.
//!
//! It never decides on its own: consensus does not know whether a new validator has caught up, because that is no fact
//! of the chain; the tool that proposes one asks the node first.

mod abi;
pub(crate) mod client;
pub(crate) mod command;
mod execute;
mod layout;
mod outlook;
mod precompile;
mod proposal;
mod sign;
pub(crate) mod steps;
#[cfg(test)]
mod tests;

use alloy_primitives::{Address, B256, Bytes, U256, address};
use serde::{Deserialize, Serialize};

pub(crate) use layout::{AccountSlots, Layout, ListId, Slots, SlotsMut};
pub(crate) use outlook::{Outlook, PROTOCOL_VERSION, admit, is_validator, validators_at};
pub(crate) use precompile::run;
pub(crate) use sign::Domain;

use crate::genesis::{Genesis, GenesisAccount};
use crate::native;

/// Where governance lives: "Hanse" and a number.
pub(crate) const ADDRESS: Address = address!("48616e7365000000000000000000000000000001");
/// Blocks from a proposal's block to its effect.
pub(crate) const DELAY: u64 = 2;
/// Changes in one proposal.
pub(crate) const CHANGES_MAX: usize = 64;
/// Members of a consortium.
pub(crate) const MEMBERS_MAX: usize = 100;
/// Entries that one list may ever have had.
pub(crate) const ENTRIES_MAX: u64 = 10_000;

/// What one change does; the number stands in the transaction, the name in what members sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Action {
    /// Subject: a node's key. Value: its voting power, 0 removes it.
    SetValidator,
    /// Subject: a node's key. Value: 1 lets it connect, 0 does not.
    SetNode,
    /// Subject: an account. Value: 1 lets it send transactions, 0 does not.
    SetSender,
    /// Subject: an account. Value: 1 lets it create contracts, 0 does not.
    SetDeployer,
    /// Value: 1 puts the node allow-list in force, 0 lets all nodes of the configuration connect.
    RestrictNodes,
    /// Value: 1 puts the list of senders in force, 0 lets all send.
    RestrictSenders,
    /// Value: 1 puts the list of deployers in force, 0 lets all create contracts.
    RestrictDeployers,
    /// Subject: an account. Value: 1 makes it a member, 0 ends its membership. Counts from the next proposal on.
    SetMember,
    /// Value: how many members must sign. Counts from the next proposal on.
    SetThreshold,
    /// Subject: a protocol version. Value: the last height that older programs may vote on; 0 cancels.
    ScheduleUpgrade,
    /// Subject: the key that signs checkpoints of the platform's audit trail. Value: 1. What is anchored begins anew. Only on
    /// chains with an audit anchor.
    SetAnchorKey,
}

/// All actions with their numbers and names; numbers are never used again.
const ACTIONS: [(Action, u8, &str); 11] = [
    (Action::SetValidator, 1, "setValidator"),
    (Action::SetNode, 2, "setNode"),
    (Action::SetSender, 3, "setSender"),
    (Action::SetDeployer, 4, "setDeployer"),
    (Action::RestrictNodes, 5, "restrictNodes"),
    (Action::RestrictSenders, 6, "restrictSenders"),
    (Action::RestrictDeployers, 7, "restrictDeployers"),
    (Action::SetMember, 8, "setMember"),
    (Action::SetThreshold, 9, "setThreshold"),
    (Action::ScheduleUpgrade, 10, "scheduleUpgrade"),
    (Action::SetAnchorKey, 11, "setAnchorKey"),
];

impl Action {
    fn entry(self) -> &'static (Action, u8, &'static str) {
        ACTIONS.iter().find(|(action, ..)| *action == self).expect("every action is listed")
    }

    fn number(self) -> u8 {
        self.entry().1
    }

    fn name(self) -> &'static str {
        self.entry().2
    }

    fn of_number(number: U256) -> Option<Self> {
        ACTIONS.iter().find(|(_, known, _)| U256::from(*known) == number).map(|(action, ..)| *action)
    }
}

/// One change of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) action: Action,
    /// A key, an account in the last 20 bytes, a number, or zero, as the action says.
    pub(crate) subject: B256,
    pub(crate) value: U256,
}

/// A proposal as it stands in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) changes: Vec<Change>,
    /// How many proposals were executed before; a proposal is executed once.
    pub(crate) sequence: u64,
    /// The last height at which it may be executed; 0 is never too late.
    pub(crate) deadline: u64,
    /// Members' signatures, 65 bytes each.
    pub(crate) signatures: Vec<Bytes>,
}

/// The input of a proposal with these members' signatures, for simulated networks.
#[cfg(test)]
pub(crate) fn signed_input(domain: &Domain, mut call: Call, members: &[&dyn Fn(B256) -> Bytes]) -> Bytes {
    let hash = domain.signing_hash(&call);
    call.signatures = members.iter().map(|sign| sign(hash)).collect();
    abi::encode(&call)
}

/// Governance's account in block 0; `None` for a chain without.
pub(crate) fn genesis_account(genesis: &Genesis) -> Option<GenesisAccount> {
    let storage = layout::initial(genesis)?;
    let storage = storage.into_iter().map(|(slot, value)| (B256::from(slot), B256::from(value))).collect();
    Some(GenesisAccount { nonce: 1, code: Bytes::from_static(&native::CODE), storage, ..Default::default() })
}
