//! Who calls: bearer token → hash → session in the state → account. Nothing of it is cached, so a session that is closed
//! or an account that is suspended ends with the very next call.

pub mod password;
pub mod throttle;
pub mod token;

use hanse_state::State;
use hanse_state::account::{Account, PlatformRole, Role, Session, TenantRole};
use hanse_state::digest::Digest;
use hanse_state::ids::TenantId;
use hanse_state::time::Millis;
use tonic::metadata::MetadataMap;

use crate::error::ApiError;

/// An authenticated caller.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The account.
    pub account: Account,
    /// The session of this call.
    pub session: Session,
    /// Its key: the hash of the token.
    pub session_key: Digest,
}

impl Caller {
    /// The tenant, `None` for an account of the platform.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.account.id.tenant()
    }

    /// Whether the account is one of the platform's, whatever its role.
    pub fn is_platform(&self) -> bool {
        matches!(self.account.role, Role::Platform(_))
    }

    /// The role within the tenant.
    pub fn tenant_role(&self) -> Option<TenantRole> {
        match &self.account.role {
            Role::Tenant { role, .. } => Some(*role),
            Role::Platform(_) => None,
        }
    }

    /// The role within the platform.
    pub fn platform_role(&self) -> Option<PlatformRole> {
        match &self.account.role {
            Role::Platform(role) => Some(*role),
            Role::Tenant { .. } => None,
        }
    }
}

/// Returns the key of the session that the call claims, `None` if it claims none.
///
/// # Errors
/// Unauthenticated if there is a header and it is not of our form.
pub fn claimed(metadata: &MetadataMap) -> Result<Option<Digest>, ApiError> {
    let Some(value) = metadata.get("authorization") else { return Ok(None) };
    let bad = || ApiError::unauthenticated("BAD_TOKEN", "the authorization header holds no token of this platform");
    let token = value.to_str().ok().and_then(token::from_header).ok_or_else(bad)?;
    Ok(Some(Digest::of(token.as_bytes())))
}

/// Returns the caller of the session `key`, by the clock of the answering replica.
///
/// # Errors
/// Unauthenticated: no such session, it is over, or its account may no longer act.
pub fn authenticate(state: &State, key: Digest, now: Millis) -> Result<Caller, ApiError> {
    // One answer for "never was" and "was closed": which of them it is helps only someone who guesses.
    let over = || ApiError::unauthenticated("SESSION_OVER", "there is no open session for this token");
    let session = state.sessions.get(&key).ok_or_else(over)?;
    if session.expires_at <= now.max(state.now) {
        return Err(ApiError::unauthenticated("SESSION_EXPIRED", "the session has expired"));
    }
    let account = state.accounts.get(&session.account).ok_or_else(over)?;
    if account.suspended.is_some() {
        return Err(ApiError::unauthenticated("ACCOUNT_SUSPENDED", "the account is suspended"));
    }
    Ok(Caller { account: account.clone(), session: session.clone(), session_key: key })
}
