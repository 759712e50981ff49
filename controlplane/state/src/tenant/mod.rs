//! Customers of the platform.

pub(crate) mod apply;
pub mod query;

use serde::{Deserialize, Serialize};

use crate::digest::Secret;
use crate::ids::{AccountId, PlanId, TenantId};
use crate::time::Millis;

/// Tenants on the platform.
pub const TENANTS_MAX: usize = 10_000;

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
