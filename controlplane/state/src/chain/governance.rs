//! Governance of a chain as it is ordered: whose signatures change the ledger once it runs.
//!
//! It is part of what members vote on and goes into the genesis word for word. What becomes of it afterwards is decided on
//! the ledger alone, by k of the members' accounts; the platform shows that (it asks a node) and never keeps a copy.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ChainSpec;
use super::template::Template;
use crate::consortium::Consortium;
use crate::ids::TenantId;
use crate::{Rejection, check, name};

/// Accounts in a list of the genesis; more are added by proposals on the ledger.
pub const LIST_MAX: usize = 256;
/// Members that may govern, as the ledger has it.
pub const GOVERNORS_MAX: usize = 100;
/// Where governance lives on the embedded ledger: an account that the genesis makes, so that nobody else may be given it.
pub const ACCOUNT: &str = "0x48616e7365000000000000000000000000000001";

/// Account that nobody has a key of.
const NOBODY: &str = "0x0000000000000000000000000000000000000000";

/// Who may change a chain while it runs. An account is `0x` and 40 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GovernanceSpec {
    /// The account that signs for each member, by tenant; at most [`GOVERNORS_MAX`], no account twice. Its key is the
    /// member's own and never on the platform.
    pub members: BTreeMap<TenantId, String>,
    /// How many of them must sign a change, from 1 to their number.
    pub threshold: u32,
    /// Accounts that may send transactions from the first block on, at most [`LIST_MAX`]; without the list all may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub senders: Option<BTreeSet<String>>,
    /// Accounts that may create contracts from the first block on, at most [`LIST_MAX`]; without the list all may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployers: Option<BTreeSet<String>>,
    /// Whether only validators and nodes that members have let in may connect, from the first block on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restrict_nodes: bool,
}

/// Whether `text` is an account as artifacts write it.
pub(crate) fn is_account(text: &str) -> bool {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("0x").is_some_and(|hex| hex.len() == 40 && hex.bytes().all(is_hex))
}

/// Checks what a ledger would refuse in its genesis, and that the members are those of the consortium.
pub(super) fn check(consortium: &Consortium, template: &Template, spec: &ChainSpec) -> Result<(), Rejection> {
    let Some(governance) = &spec.governance else { return Ok(()) };
    if !template.is_governed() {
        let rule = "none: the ledger of this template cannot be changed by its members' signatures";
        return Err(check::invalid("action.chain.governance", template.name, rule));
    }
    let field = "action.chain.governance.members";
    check::range(field, governance.members.len() as u64, 1, GOVERNORS_MAX as u64)?;
    let mut seen = BTreeSet::new();
    for (tenant, account) in &governance.members {
        if !consortium.has_active(tenant) {
            let (tenant, what) = (tenant.to_string(), name::consortium(&consortium.id));
            return Err(Rejection::NotAMember { field: field.into(), tenant, what });
        }
        check_account(field, account)?;
        if !seen.insert(account) {
            return Err(check::invalid(field, account, "one account a member: no two may share a key"));
        }
    }
    let most = governance.members.len() as u64;
    check::range("action.chain.governance.threshold", governance.threshold.into(), 1, most)?;
    check_list("action.chain.governance.senders", governance.senders.as_ref())?;
    check_list("action.chain.governance.deployers", governance.deployers.as_ref())?;
    if spec.alloc.contains_key(ACCOUNT) {
        return Err(check::invalid("action.chain.alloc", ACCOUNT, "another account: governance lives in this one"));
    }
    Ok(())
}

fn check_account(field: &str, account: &str) -> Result<(), Rejection> {
    if is_account(account) && account != NOBODY {
        return Ok(());
    }
    Err(check::invalid(field, account, "0x and 40 lower-case hex digits, not all zero"))
}

fn check_list(field: &str, list: Option<&BTreeSet<String>>) -> Result<(), Rejection> {
    let Some(list) = list else { return Ok(()) };
    check::range(field, list.len() as u64, 0, LIST_MAX as u64)?;
    list.iter().try_for_each(|account| check_account(field, account))
}
