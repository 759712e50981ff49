//! Groups of tenants that decide together: membership, policies, proposals, ballots.

pub(crate) mod apply;
pub mod ballot;
pub mod policy;
pub mod proposal;
pub mod query;
pub(crate) mod vote;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{PublicKey, Signature};
use crate::ids::{ConsortiumId, TenantId};
use crate::time::{DAY_MS, Millis, SECOND_MS};
use policy::{ActionKind, Policy};

/// Consortiums on the platform.
pub const CONSORTIUMS_MAX: usize = 10_000;
/// Members (and invitations) of a consortium.
pub const MEMBERS_MAX: usize = 100;
/// Greatest weight of a member, so that sums and their doubles stay far from overflow.
pub const WEIGHT_MAX: u64 = 1_000_000;
/// Shortest voting period.
pub const VOTING_PERIOD_MS_MIN: u64 = SECOND_MS;
/// Longest voting period.
pub const VOTING_PERIOD_MS_MAX: u64 = 90 * DAY_MS;

/// How a consortium decides; fixed at its founding in this version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charter {
    /// What each kind of action needs; a kind that is not named needs what creating a chain does.
    pub policies: BTreeMap<ActionKind, Policy>,
    /// How long a vote lasts if the proposal does not say.
    pub voting_period_ms: u64,
}

impl Charter {
    /// What an action of this kind needs; `None` only of a charter that no vote can be held under.
    pub fn policy(&self, kind: ActionKind) -> Option<Policy> {
        self.policies.get(&kind).or_else(|| self.policies.get(&kind.stand_in())).copied()
    }
}

/// Life of a consortium: `Forming` (the founder invites, tenants join), then `Active` (only votes change things).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConsortiumState {
    /// The founder gathers members.
    Forming,
    /// Only votes change things.
    Active,
}

/// Life of a membership: `Invited`, then `Active`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MemberState {
    /// May join.
    Invited,
    /// Votes.
    Active,
}

/// A tenant's place in a consortium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Weight of its vote, from 1 to [`WEIGHT_MAX`].
    pub weight: u64,
    /// Invited or active.
    pub state: MemberState,
    /// Key that signs its ballots; `None` while invited.
    pub key: Option<PublicKey>,
    /// When it became active.
    pub joined_at: Option<Millis>,
}

/// A group of tenants that votes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consortium {
    /// Its id.
    pub id: ConsortiumId,
    /// What people call it.
    pub display_name: String,
    /// How it decides.
    pub charter: Charter,
    /// Who made it.
    pub founder: TenantId,
    /// Forming or active.
    pub state: ConsortiumState,
    /// Since when.
    pub state_since: Millis,
    /// By tenant, at most [`MEMBERS_MAX`].
    pub members: BTreeMap<TenantId, Member>,
    /// Goes up with every change.
    pub version: u64,
    /// Number of the last proposal.
    pub last_proposal: u64,
    /// When it was made.
    pub created_at: Millis,
}

impl Consortium {
    /// Whether `tenant` is a member that has joined.
    pub fn has_active(&self, tenant: &TenantId) -> bool {
        self.members.get(tenant).is_some_and(|member| member.state == MemberState::Active)
    }
}

/// Founds a consortium. By an owner, for the own tenant, which becomes its first active member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateConsortium {
    /// Its id.
    pub consortium: ConsortiumId,
    /// What people call it.
    pub display_name: String,
    /// How it decides.
    pub charter: Charter,
    /// The founding tenant.
    pub founder: TenantId,
    /// Weight of the founder's vote.
    pub founder_weight: u64,
    /// Key that signs the founder's ballots.
    pub member_key: PublicKey,
}

/// Invites a tenant. By the founder's owner, while forming.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteMember {
    /// Into which.
    pub consortium: ConsortiumId,
    /// Whom.
    pub tenant: TenantId,
    /// Weight of its vote.
    pub weight: u64,
}

/// Accepts an invitation. By the invited tenant's owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinConsortium {
    /// Which.
    pub consortium: ConsortiumId,
    /// Who joins.
    pub tenant: TenantId,
    /// Key that will sign its ballots.
    pub member_key: PublicKey,
    /// That key's signature over [`ballot::join_text`]: the tenant holds the private key.
    pub proof: Signature,
}

/// Ends the forming. By the founder's owner; invitations that were not accepted lapse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivateConsortium {
    /// Which.
    pub consortium: ConsortiumId,
}
