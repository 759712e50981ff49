//! Conversions between the outside contract (`pb`) and the domain, written by hand so that each may change alone.
//!
//! Towards the domain every field is checked and a wrong one is named as the caller knows it. Towards the caller
//! nothing secret has a field: password hashes, tokens and genesis bytes are not in the contract.

pub(crate) mod account;
pub(crate) mod artifact;
pub(crate) mod audit;
pub(crate) mod billing;
pub(crate) mod chain;
pub(crate) mod change;
pub(crate) mod cloud;
pub(crate) mod consortium;
pub(crate) mod governance;
pub(crate) mod host;
pub(crate) mod ledger;
pub(crate) mod operation;
pub(crate) mod outfit;

use std::str::FromStr;

use hanse_proto::v1 as pb;
use hanse_state::event::{Change, Event};
use hanse_state::rejection::Rejection;
use hanse_state::time::Millis;

use crate::error::ApiError;

/// Longest free text (title, reason, display name) that is taken; the state has its own, shorter limits.
const TEXT_BYTES_MAX: usize = 4_096;

/// A moment as the contract writes it; `None` is 0.
pub(crate) fn ms(at: impl Into<Option<Millis>>) -> i64 {
    at.into().map_or(0, |at| i64::try_from(at.0).unwrap_or(i64::MAX))
}

/// Reads an id and blames `field`, whatever the domain calls it.
pub(crate) fn id<T: FromStr<Err = Rejection>>(field: &str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|rejection: Rejection| named(field, text, &rejection))
}

/// Reads an id of an object that is to be found: what is no valid name cannot exist either, and is told the same way.
fn named(field: &str, text: &str, rejection: &Rejection) -> ApiError {
    if text.is_empty() {
        return ApiError::invalid(field, "is missing", "set it");
    }
    match rejection {
        Rejection::InvalidName { rule, .. } => {
            let shown: String = text.chars().take(80).collect();
            ApiError::invalid(field, &format!("{shown:?} is not valid: it must be {rule}"), rejection.advice())
        }
        other => other.clone().into(),
    }
}

/// Checks a free text's length and takes it.
pub(crate) fn text(field: &str, text: String) -> Result<String, ApiError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ApiError::invalid(field, "is longer than 4096 bytes", "shorten it"));
    }
    if text.chars().any(char::is_control) {
        return Err(ApiError::invalid(field, "has control characters", "leave them out"));
    }
    Ok(text)
}

/// A part of a message that must be there.
pub(crate) fn required<T>(field: &str, part: Option<T>) -> Result<T, ApiError> {
    part.ok_or_else(|| ApiError::invalid(field, "is missing", "set it"))
}

/// A number that must fit a smaller type.
pub(crate) fn fits<T: TryFrom<u32>>(field: &str, number: u32) -> Result<T, ApiError> {
    T::try_from(number).map_err(|_| ApiError::invalid(field, &format!("{number} is too large"), "choose a smaller one"))
}

/// Hex of a fixed length (hash, key, signature).
pub(crate) fn hex<T: FromStr<Err = Rejection>>(field: &str, text: &str) -> Result<T, ApiError> {
    id(field, text)
}

/// One change.
pub(crate) fn event(event: &Event) -> pb::Event {
    let change = match event.change {
        Change::Created => pb::ChangeKind::Created,
        Change::Updated => pb::ChangeKind::Updated,
        Change::Deleted => pb::ChangeKind::Deleted,
    };
    pb::Event { revision: event.revision, resource: event.resource.clone(), change: change.into() }
}
