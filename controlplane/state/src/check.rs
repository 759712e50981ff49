//! Checks that several areas share. Each returns the rejection of its field; none changes anything.

use crate::{Rejection, Secret, State, ids::ClusterId};

/// Longest name that people read.
pub(crate) const DISPLAY_NAME_MAX: usize = 100;
/// Longest password hash in PHC form.
const PASSWORD_HASH_MAX: usize = 512;
/// Longest value that a rejection repeats.
const VALUE_MAX: usize = 80;

pub(crate) fn invalid(field: &str, value: impl ToString, rule: impl Into<String>) -> Rejection {
    let value = value.to_string().chars().take(VALUE_MAX).collect();
    Rejection::InvalidValue { field: field.into(), value, rule: rule.into() }
}

/// Text that people read: not empty, not longer than `max` characters, without control characters.
pub(crate) fn text(field: &str, value: &str, max: usize) -> Result<(), Rejection> {
    let is_ok = !value.trim().is_empty() && value.chars().count() <= max && !value.chars().any(char::is_control);
    if is_ok { Ok(()) } else { Err(invalid(field, value, format!("1 to {max} characters without control characters"))) }
}

/// A number within limits.
pub(crate) fn range(field: &str, value: u64, min: u64, max: u64) -> Result<(), Rejection> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(invalid(field, value, format!("from {min} to {max}"))) }
}

/// Fewer than `limit` things.
pub(crate) fn quota(field: &str, what: &str, count: usize, limit: usize) -> Result<(), Rejection> {
    if count < limit {
        return Ok(());
    }
    Err(Rejection::QuotaExceeded { field: field.into(), what: what.into(), limit: limit as u64 })
}

/// The hash of a password, never the password.
pub(crate) fn password_hash(field: &str, hash: &Secret) -> Result<(), Rejection> {
    let hash = hash.expose();
    if hash.starts_with("$argon2id$") && hash.len() <= PASSWORD_HASH_MAX {
        return Ok(());
    }
    Err(invalid(field, "(secret)", "an Argon2id hash in PHC form"))
}

/// Words of a host, node or person, made safe to keep: one line, cut at `max` characters.
pub(crate) fn clip(words: &str, max: usize) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(max).collect::<String>().trim().to_owned()
}

/// The platform's id.
pub(crate) fn cluster_id(state: &State) -> Result<ClusterId, Rejection> {
    state.cluster.as_ref().map(|cluster| cluster.id).ok_or_else(|| Rejection::WrongState {
        field: "cluster".into(),
        what: "the cluster".into(),
        state: "not initialised".into(),
        needs: "the first leader names it".into(),
    })
}

pub(crate) fn wrong_state(field: &str, what: String, state: impl std::fmt::Debug, needs: &str) -> Rejection {
    let state = format!("{state:?}").trim_matches('"').to_owned();
    Rejection::WrongState { field: field.into(), what, state, needs: needs.into() }
}
