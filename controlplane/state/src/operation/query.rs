//! Reads of this area, from a snapshot of the state.

use super::{Operation, OperationKind};
use crate::ids::{ChainKey, OperationId};
use crate::page::{Page, page};
use crate::{Rejection, State, name};

/// Returns the operation.
///
/// # Errors
/// `NotFound`.
pub fn get(state: &State, id: OperationId) -> Result<&Operation, Rejection> {
    let missing = || Rejection::NotFound { field: "operation".into(), what: name::operation(id) };
    state.operations.get(&id).ok_or_else(missing)
}

/// Returns operations, about one chain or all, after key `after`, at most `limit`, oldest first.
///
/// # Errors
/// `InvalidName` if `after` is not a key.
pub fn list(
    state: &State,
    of: Option<&ChainKey>,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<Operation>, Rejection> {
    page(&state.operations, after, limit, |_, operation| of.is_none_or(|of| chain_of(&operation.kind) == of))
}

/// The chain that an operation is about.
pub fn chain_of(kind: &OperationKind) -> &ChainKey {
    match kind {
        OperationKind::CreateChain(chain) | OperationKind::ChangeChain { chain, .. } => chain,
        OperationKind::DeployContract(contract) => &contract.chain,
    }
}
