//! Reads of this area, from a snapshot of the state.

use super::Tenant;
use crate::ids::TenantId;
use crate::page::{Page, page};
use crate::{Rejection, State, name};

/// Returns the tenant.
///
/// # Errors
/// `NotFound`.
pub fn get<'a>(state: &'a State, id: &TenantId) -> Result<&'a Tenant, Rejection> {
    state.tenants.get(id).ok_or_else(|| Rejection::NotFound { field: "tenant".into(), what: name::tenant(id) })
}

/// Returns those after key `after`, at most `limit`.
///
/// # Errors
/// `InvalidName` if `after` is not a key.
pub fn list(state: &State, after: Option<&str>, limit: usize) -> Result<Page<Tenant>, Rejection> {
    page(&state.tenants, after, limit, |_, _| true)
}
