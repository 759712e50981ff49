//! Who may act: accounts, their roles, their sessions.

pub(crate) mod apply;
pub mod query;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Secret};
use crate::ids::{AccountId, TenantId};
use crate::time::{HOUR_MS, MINUTE_MS, Millis};

/// Wrong passwords in a row that lock an account.
pub const LOGIN_FAILURES_MAX: u32 = 5;
/// How long a lock lasts, log time.
pub const LOCK_MS: u64 = 15 * MINUTE_MS;
/// Sessions an account may hold; the oldest is closed for a new one.
pub const SESSIONS_PER_ACCOUNT_MAX: usize = 10;
/// Longest life of a session.
pub const SESSION_LIFETIME_MS_MAX: u64 = 12 * HOUR_MS;
/// Accounts on the platform.
pub const ACCOUNTS_MAX: usize = 100_000;

/// Role of an account of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PlatformRole {
    /// Everything that is the platform's; never votes.
    Administrator,
    /// Hosts and nodes.
    Operator,
    /// Reads everything.
    Auditor,
}

/// Role of an account of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TenantRole {
    /// Everything that is the tenant's.
    Owner,
    /// Proposals and ballots.
    Operator,
    /// Contracts.
    Developer,
    /// Reads usage and invoices.
    Billing,
    /// Reads everything of the tenant.
    Auditor,
}

/// What an account may do; fixed for its life.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// An account of the platform.
    Platform(PlatformRole),
    /// An account of a tenant.
    Tenant {
        /// Whose account; the same as in the account's id.
        tenant: TenantId,
        /// Its role.
        role: TenantRole,
    },
}

/// An account. Active until suspended; restored by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// What it may do.
    pub role: Role,
    /// Argon2id PHC string.
    pub password_hash: Secret,
    /// Why it is suspended; `None` if it is not.
    pub suspended: Option<String>,
    /// Wrong passwords in a row.
    pub login_failures: u32,
    /// Log time until which no session may be opened.
    pub locked_until: Option<Millis>,
    /// When it was made.
    pub created_at: Millis,
}

/// A login that lasts until it expires or is closed. Keyed by the hash of its token; the token is nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whose.
    pub account: AccountId,
    /// When it was opened.
    pub opened_at: Millis,
    /// When it ends.
    pub expires_at: Millis,
    /// Where it came from (address of the client).
    pub source: String,
}

/// Makes an account. By an administrator, or by an owner for the own tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateAccount {
    /// Its id.
    pub account: AccountId,
    /// What it may do.
    pub role: Role,
    /// Argon2id PHC string made by the proposer.
    pub password_hash: Secret,
}

/// Stops an account: its sessions are closed. By an administrator, or by an owner for the own tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuspendAccount {
    /// Which.
    pub account: AccountId,
    /// Why, for people.
    pub reason: String,
}

/// Lifts a suspension or a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreAccount {
    /// Which.
    pub account: AccountId,
}

/// Opens a session. By the system, after the API has verified the password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenSession {
    /// Whose.
    pub account: AccountId,
    /// SHA-256 of the token.
    #[serde(serialize_with = "crate::digest::hidden")]
    pub token_hash: Digest,
    /// When it ends, at most [`SESSION_LIFETIME_MS_MAX`] from now.
    pub expires_at: Millis,
    /// Address of the client.
    pub source: String,
}

/// Ends a session. By its own account or the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseSession {
    /// SHA-256 of the token.
    #[serde(serialize_with = "crate::digest::hidden")]
    pub token_hash: Digest,
}

/// A wrong password was given. By the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordLoginFailure {
    /// For which account.
    pub account: AccountId,
    /// Address of the client.
    pub source: String,
}
