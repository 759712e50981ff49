//! Reads of this area, from a snapshot of the state.

use super::Contract;
use crate::ids::{ChainKey, ContractKey};
use crate::page::{Page, page};
use crate::{Rejection, State, name};

/// Returns the contract.
///
/// # Errors
/// `NotFound`.
pub fn get<'a>(state: &'a State, key: &ContractKey) -> Result<&'a Contract, Rejection> {
    let missing = || Rejection::NotFound { field: "contract".into(), what: name::contract(key) };
    state.contracts.get(key).ok_or_else(missing)
}

/// Returns contracts, of one chain or of all, after key `after`, at most `limit`.
///
/// # Errors
/// `InvalidName` if `after` is not a key.
pub fn list(
    state: &State,
    of: Option<&ChainKey>,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<Contract>, Rejection> {
    page(&state.contracts, after, limit, |key, _| of.is_none_or(|of| key.chain == *of))
}
