//! Reads of this area, from a snapshot of the state.

use super::{Account, Session};
use crate::digest::Digest;
use crate::ids::AccountId;
use crate::page::{Page, page};
use crate::time::Millis;
use crate::{Rejection, State, name};

/// Returns the account.
///
/// # Errors
/// `NotFound`.
pub fn get<'a>(state: &'a State, id: &AccountId) -> Result<&'a Account, Rejection> {
    state.accounts.get(id).ok_or_else(|| Rejection::NotFound { field: "account".into(), what: name::account(id) })
}

/// Returns accounts after key `after`, at most `limit`.
///
/// # Errors
/// `InvalidName` if `after` is not a key.
pub fn list(state: &State, after: Option<&str>, limit: usize) -> Result<Page<Account>, Rejection> {
    page(&state.accounts, after, limit, |_, _| true)
}

/// Returns the session of a token's hash if it lives at `now` and its account may act.
pub fn session_by_token_hash<'a>(state: &'a State, token_hash: &Digest, now: Millis) -> Option<&'a Session> {
    let session = state.sessions.get(token_hash).filter(|session| now < session.expires_at)?;
    let account = state.accounts.get(&session.account)?;
    account.suspended.is_none().then_some(session)
}
