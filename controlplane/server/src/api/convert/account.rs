//! Accounts, sessions, tenants.

use hanse_proto::v1 as pb;
use hanse_state::account::{Account, PlatformRole, Role, Session, TenantRole};
use hanse_state::digest::Digest;
use hanse_state::ids::{AccountId, TenantId};
use hanse_state::tenant::Tenant;
use hanse_state::time::Millis;

use super::{id, ms};
use crate::error::ApiError;

/// An account as of log time `now` (a lock ends by time alone).
pub(crate) fn account(account: &Account, now: Millis) -> pb::Account {
    let locked = account.locked_until.filter(|until| *until > now);
    let (state, reason) = match (&account.suspended, locked) {
        (Some(reason), _) => (pb::AccountState::Suspended, reason.clone()),
        (None, Some(until)) => {
            let minutes = until.since(now).div_ceil(60_000);
            (pb::AccountState::Locked, format!("wrong passwords; the lock ends in {minutes} min"))
        }
        (None, None) => (pb::AccountState::Active, String::new()),
    };
    pb::Account {
        name: format!("accounts/{}", account.id),
        account: account.id.to_string(),
        tenant: account.id.tenant().map(ToString::to_string).unwrap_or_default(),
        role: role(&account.role).into(),
        state: state.into(),
        state_reason: reason,
        created_at_ms: ms(account.created_at),
    }
}

/// A role.
pub(crate) fn role(role: &Role) -> pb::Role {
    match role {
        Role::Platform(PlatformRole::Administrator) => pb::Role::PlatformAdministrator,
        Role::Platform(PlatformRole::Operator) => pb::Role::PlatformOperator,
        Role::Platform(PlatformRole::Auditor) => pb::Role::PlatformAuditor,
        Role::Tenant { role: TenantRole::Owner, .. } => pb::Role::TenantOwner,
        Role::Tenant { role: TenantRole::Operator, .. } => pb::Role::TenantOperator,
        Role::Tenant { role: TenantRole::Developer, .. } => pb::Role::TenantDeveloper,
        Role::Tenant { role: TenantRole::Billing, .. } => pb::Role::TenantBilling,
        Role::Tenant { role: TenantRole::Auditor, .. } => pb::Role::TenantAuditor,
    }
}

/// The role that `number` gives to `account`: a tenant's role needs an account of a tenant and the other way round.
pub(crate) fn role_of(account: &AccountId, number: i32) -> Result<Role, ApiError> {
    let wrong = |why: &str| Err(ApiError::invalid("role", why, "choose one of the roles of hanse.v1.Role"));
    let platform = |role| match account.tenant() {
        None => Ok(Role::Platform(role)),
        Some(_) => wrong("is a role of the platform, and the account belongs to a tenant"),
    };
    let tenant = |role| match account.tenant() {
        Some(tenant) => Ok(Role::Tenant { tenant: tenant.clone(), role }),
        None => wrong("is a role of a tenant, and the account (without @tenant) belongs to the platform"),
    };
    match pb::Role::try_from(number) {
        Ok(pb::Role::PlatformAdministrator) => platform(PlatformRole::Administrator),
        Ok(pb::Role::PlatformOperator) => platform(PlatformRole::Operator),
        Ok(pb::Role::PlatformAuditor) => platform(PlatformRole::Auditor),
        Ok(pb::Role::TenantOwner) => tenant(TenantRole::Owner),
        Ok(pb::Role::TenantOperator) => tenant(TenantRole::Operator),
        Ok(pb::Role::TenantDeveloper) => tenant(TenantRole::Developer),
        Ok(pb::Role::TenantBilling) => tenant(TenantRole::Billing),
        Ok(pb::Role::TenantAuditor) => tenant(TenantRole::Auditor),
        Ok(pb::Role::Unspecified) => wrong("is missing"),
        Err(_) => wrong("is not known"),
    }
}

/// A session; its id is the hash of its token, which opens nothing.
pub(crate) fn session(key: &Digest, session: &Session, current: Option<&Digest>) -> pb::Session {
    pb::Session {
        session: key.to_string(),
        account: session.account.to_string(),
        opened_at_ms: ms(session.opened_at),
        expires_at_ms: ms(session.expires_at),
        source: session.source.clone(),
        current: current == Some(key),
    }
}

/// A tenant.
pub(crate) fn tenant(tenant: &Tenant) -> pb::Tenant {
    pb::Tenant {
        name: format!("tenants/{}", tenant.id),
        tenant: tenant.id.to_string(),
        display_name: tenant.display_name.clone(),
        state: pb::TenantState::Active.into(),
        created_at_ms: ms(tenant.created_at),
        metadata: tenant.metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
    }
}

/// The owner of a new tenant: `li` or `li@acme`, and of no other tenant.
pub(crate) fn owner_of(tenant: &TenantId, text: &str) -> Result<AccountId, ApiError> {
    let full = if text.contains('@') || text.is_empty() { text.to_string() } else { format!("{text}@{tenant}") };
    let account: AccountId = id("owner_account", &full)?;
    if account.tenant() != Some(tenant) {
        let why = format!("{account} is not an account of {tenant}");
        return Err(ApiError::invalid("owner_account", &why, "give the local name alone"));
    }
    Ok(account)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_role_comes_back_and_fits_only_its_kind_of_account() {
        let (platform, tenant) = (AccountId::parse("root").unwrap(), AccountId::parse("li@acme").unwrap());
        for number in 1..=8 {
            let (fits, other) = if number <= 3 { (&platform, &tenant) } else { (&tenant, &platform) };
            let back = role(&role_of(fits, number).unwrap());
            assert_eq!(i32::from(back), number);
            assert_eq!(role_of(other, number).unwrap_err().field(), Some("role"));
        }
        for number in [0, 9, -1] {
            assert!(role_of(&platform, number).is_err());
        }
    }

    #[test]
    fn an_owner_is_named_short_or_in_full_but_never_elsewhere() {
        let acme = TenantId::parse("acme").unwrap();
        assert_eq!(owner_of(&acme, "li").unwrap().to_string(), "li@acme");
        assert_eq!(owner_of(&acme, "li@acme").unwrap().to_string(), "li@acme");
        for text in ["", "li@bank", "Li", "li@"] {
            assert_eq!(owner_of(&acme, text).unwrap_err().field(), Some("owner_account"), "{text}");
        }
    }

    #[test]
    fn a_lock_ends_by_log_time() {
        let mut one = Account {
            id: AccountId::parse("li@acme").unwrap(),
            role: Role::Platform(PlatformRole::Auditor),
            password_hash: hanse_state::digest::Secret::new("x"),
            suspended: None,
            login_failures: 5,
            locked_until: Some(Millis(1_000)),
            created_at: Millis(1),
        };
        assert_eq!(account(&one, Millis(999)).state(), pb::AccountState::Locked);
        assert_eq!(account(&one, Millis(1_000)).state(), pb::AccountState::Active);
        one.suspended = Some("left".into());
        assert_eq!(account(&one, Millis(999)).state(), pb::AccountState::Suspended);
    }
}
