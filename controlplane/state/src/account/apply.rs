//! Rules of accounts and sessions: all checks, then all changes.

use super::{
    ACCOUNTS_MAX, Account, CloseSession, CreateAccount, LOCK_MS, LOGIN_FAILURES_MAX, OpenSession, RecordLoginFailure,
    RestoreAccount, Role, SESSION_LIFETIME_MS_MAX, SESSIONS_PER_ACCOUNT_MAX, Session, SuspendAccount, query,
};
use crate::apply::Cx;
use crate::check;
use crate::command::Outcome;
use crate::digest::{Digest, Secret};
use crate::ids::AccountId;
use crate::{Rejection, State, name};

/// Longest reason of a suspension.
const REASON_MAX: usize = 200;
/// Longest address of a client that is kept.
const SOURCE_MAX: usize = 100;

pub(crate) fn create(state: &mut State, cx: &mut Cx<'_>, c: &CreateAccount) -> Result<Outcome, Rejection> {
    if let Some(tenant) = c.account.tenant() {
        crate::tenant::query::get(state, tenant)?;
    }
    check_new(state, &c.account, &c.role, "password_hash", &c.password_hash)?;

    add(state, cx, &c.account, c.role.clone(), &c.password_hash);
    Ok(Outcome::Done { resource: name::account(&c.account) })
}

/// Checks that the account can be added.
pub(crate) fn check_new(
    state: &State,
    id: &AccountId,
    role: &Role,
    field: &str,
    password_hash: &Secret,
) -> Result<(), Rejection> {
    let tenant = match role {
        Role::Platform(_) => None,
        Role::Tenant { tenant, .. } => Some(tenant),
    };
    if tenant != id.tenant() {
        return Err(check::invalid("account", id, "name@tenant for a tenant's role, name alone for the platform's"));
    }
    if state.accounts.contains_key(id) {
        return Err(Rejection::AlreadyExists { field: "account".into(), what: name::account(id) });
    }
    check::password_hash(field, password_hash)?;
    check::quota("account", "the number of accounts", state.accounts.len(), ACCOUNTS_MAX)
}

/// Adds an account that was checked.
pub(crate) fn add(state: &mut State, cx: &mut Cx<'_>, id: &AccountId, role: Role, password_hash: &Secret) {
    let account = Account {
        id: id.clone(),
        role,
        password_hash: password_hash.clone(),
        suspended: None,
        login_failures: 0,
        locked_until: None,
        created_at: cx.now,
    };
    state.accounts.insert(id.clone(), account);
    cx.created(name::account(id));
}

pub(crate) fn suspend(state: &mut State, cx: &mut Cx<'_>, c: &SuspendAccount) -> Result<Outcome, Rejection> {
    let mut account = query::get(state, &c.account)?.clone();
    check::text("reason", &c.reason, REASON_MAX)?;
    if cx.account() == Some(&c.account) {
        return Err(check::invalid("account", &c.account, "another account than the acting one"));
    }

    account.suspended = Some(c.reason.clone());
    state.accounts.insert(c.account.clone(), account);
    for (token, _) in sessions_of(state, &c.account) {
        state.sessions.remove(&token);
    }
    cx.updated(name::account(&c.account));
    Ok(Outcome::Done { resource: name::account(&c.account) })
}

pub(crate) fn restore(state: &mut State, cx: &mut Cx<'_>, c: &RestoreAccount) -> Result<Outcome, Rejection> {
    let mut account = query::get(state, &c.account)?.clone();
    let resource = name::account(&c.account);
    if account.suspended.is_none() && account.locked_until.is_none() {
        return Ok(Outcome::Unchanged { resource });
    }

    account.suspended = None;
    account.locked_until = None;
    account.login_failures = 0;
    state.accounts.insert(c.account.clone(), account);
    cx.updated(resource.clone());
    Ok(Outcome::Done { resource })
}

pub(crate) fn open_session(state: &mut State, cx: &mut Cx<'_>, c: &OpenSession) -> Result<Outcome, Rejection> {
    let mut account = query::get(state, &c.account)?.clone();
    let unusable = |state: String| Rejection::AccountUnusable { account: name::account(&c.account), state };
    if account.suspended.is_some() {
        return Err(unusable("suspended".into()));
    }
    if let Some(until) = account.locked_until.filter(|until| cx.now < *until) {
        return Err(unusable(format!("locked for {} more seconds", until.since(cx.now).div_ceil(1_000))));
    }
    // The leader stamped the end from its clock just before the entry; log time may be a little ahead of it.
    let lifetime = c.expires_at.since(cx.now);
    if lifetime == 0 || lifetime > SESSION_LIFETIME_MS_MAX {
        let rule = format!("1 to {SESSION_LIFETIME_MS_MAX} ms after the entry");
        return Err(check::invalid("expires_at", c.expires_at.0, rule));
    }
    if state.sessions.contains_key(&c.token_hash) {
        return Err(Rejection::AlreadyExists { field: "token_hash".into(), what: "the session".into() });
    }

    account.login_failures = 0;
    account.locked_until = None;
    state.accounts.insert(c.account.clone(), account);
    make_room(state, cx, &c.account);
    let session = Session {
        account: c.account.clone(),
        opened_at: cx.now,
        expires_at: c.expires_at,
        source: check::clip(&c.source, SOURCE_MAX),
    };
    state.sessions.insert(c.token_hash, session);
    Ok(Outcome::SessionOpened { account: c.account.clone(), expires_at: c.expires_at })
}

pub(crate) fn close_session(state: &mut State, _: &mut Cx<'_>, c: &CloseSession) -> Result<Outcome, Rejection> {
    let resource = "sessions".to_owned();
    match state.sessions.remove(&c.token_hash) {
        Some(_) => Ok(Outcome::Done { resource }),
        None => Ok(Outcome::Unchanged { resource }),
    }
}

pub(crate) fn login_failure(state: &mut State, cx: &mut Cx<'_>, c: &RecordLoginFailure) -> Result<Outcome, Rejection> {
    let mut account = query::get(state, &c.account)?.clone();
    let resource = name::account(&c.account);
    if account.locked_until.is_some_and(|until| cx.now < until) {
        return Ok(Outcome::Unchanged { resource });
    }

    account.locked_until = None;
    account.login_failures += 1;
    if account.login_failures >= LOGIN_FAILURES_MAX {
        account.login_failures = 0;
        account.locked_until = Some(cx.now.plus(LOCK_MS));
    }
    state.accounts.insert(c.account.clone(), account);
    cx.updated(resource.clone());
    Ok(Outcome::Done { resource })
}

/// Drops the account's ended sessions, and its oldest until one more fits.
fn make_room(state: &mut State, cx: &Cx<'_>, id: &AccountId) {
    let mut open = sessions_of(state, id);
    open.sort_by_key(|(token, session)| (session.opened_at, *token));
    let alive = open.iter().filter(|(_, session)| cx.now < session.expires_at).count();
    let mut surplus = (alive + 1).saturating_sub(SESSIONS_PER_ACCOUNT_MAX);
    for (token, session) in open {
        let has_ended = session.expires_at <= cx.now;
        if has_ended || surplus > 0 {
            state.sessions.remove(&token);
            surplus -= usize::from(!has_ended);
        }
    }
}

fn sessions_of(state: &State, id: &AccountId) -> Vec<(Digest, Session)> {
    state.sessions.iter().filter(|(_, s)| s.account == *id).map(|(token, s)| (*token, s.clone())).collect()
}
