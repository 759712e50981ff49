//! Customers of the platform.

pub(crate) mod apply;
mod note;
pub mod query;

use std::collections::BTreeMap;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::digest::Secret;
use crate::ids::{AccountId, PlanId, TenantId};
use crate::time::Millis;

pub use note::Note;

/// Tenants on the platform.
pub const TENANTS_MAX: usize = 10_000;
/// Keys of metadata that a tenant may hold.
pub const METADATA_KEYS_MAX: usize = 64;
/// Longest key of metadata, in bytes.
pub const METADATA_KEY_BYTES_MAX: usize = 63;
/// Longest value of metadata, in bytes.
pub const METADATA_VALUE_BYTES_MAX: usize = 1_024;

/// A customer: owns nodes, votes in consortiums, is billed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// What people call it.
    pub display_name: String,
    /// Which plan prices its usage.
    pub plan: PlanId,
    /// When it was made.
    pub created_at: Millis,
    /// Notes of the tenant's own tools and people, by key; at most [`METADATA_KEYS_MAX`]. The platform reads none.
    #[serde(default, skip_serializing_if = "OrdMap::is_empty")]
    pub metadata: OrdMap<Note, Note>,
}

/// Makes a tenant and its owner in one entry. By an administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// Its id.
    pub tenant: TenantId,
    /// What people call it.
    pub display_name: String,
    /// Account of the owner, `name@tenant`.
    pub owner: AccountId,
    /// Argon2id PHC string of the owner, made by the proposer.
    pub owner_password_hash: Secret,
}

/// Sets and removes keys of a tenant's metadata. By the tenant's owner or operator, or by an administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetTenantMetadata {
    /// Which tenant.
    pub tenant: TenantId,
    /// The new value of each key; `None` removes it. At most [`METADATA_KEYS_MAX`].
    pub changes: BTreeMap<String, Option<String>>,
}
