//! What a caller may see: the same answer for lists, single objects and the stream of changes.
//!
//! An account of the platform sees everything. An account of a tenant sees its tenant, the consortiums it belongs to or
//! is invited to, and all that is in those; everything else does not exist for it. Hosts are the platform's.

use hanse_state::account::{Account, Session, TenantRole};
use hanse_state::chain::Chain;
use hanse_state::chain::node::Node;
use hanse_state::consortium::Consortium;
use hanse_state::consortium::proposal::Proposal;
use hanse_state::contract::Contract;
use hanse_state::ids::{
    AccountId, ChainKey, CloudId, ConsortiumId, ContractKey, HostId, NodeKey, OperationId, ProposalKey, TenantId,
};
use hanse_state::operation::Operation;
use hanse_state::operation::query::chain_of;
use hanse_state::{State, name};

use crate::auth::Caller;
use crate::error::ApiError;

/// One caller's sight of one state.
#[derive(Clone, Copy)]
pub(crate) struct Sight<'a> {
    state: &'a State,
    caller: &'a Caller,
}

impl<'a> Sight<'a> {
    pub(crate) fn new(state: &'a State, caller: &'a Caller) -> Self {
        Self { state, caller }
    }

    pub(crate) fn sees_tenant(&self, tenant: &TenantId) -> bool {
        self.caller.is_platform() || self.caller.tenant() == Some(tenant)
    }

    pub(crate) fn sees_account(&self, account: &AccountId) -> bool {
        if self.caller.is_platform() || self.caller.account.id == *account {
            return true;
        }
        let reads_all = matches!(self.caller.tenant_role(), Some(TenantRole::Owner | TenantRole::Auditor));
        reads_all && account.tenant().is_some() && account.tenant() == self.caller.tenant()
    }

    pub(crate) fn sees_consortium(&self, id: &ConsortiumId) -> bool {
        let Some(tenant) = self.caller.tenant() else { return self.caller.is_platform() };
        self.state.consortiums.get(id).is_some_and(|it| it.members.contains_key(tenant))
    }

    pub(crate) fn sees_operation(&self, operation: &Operation) -> bool {
        self.sees_consortium(&chain_of(&operation.kind).consortium)
    }

    pub(crate) fn sees_hosts(&self) -> bool {
        self.caller.is_platform()
    }

    /// What only accounts of the platform see.
    ///
    /// # Errors
    /// Denied, to an account of a tenant.
    pub(crate) fn platform(&self, what: &str) -> Result<(), ApiError> {
        if self.caller.is_platform() {
            return Ok(());
        }
        Err(ApiError::denied(&format!("only accounts of the platform see {what}"), "ask an administrator"))
    }

    /// The control plane's own replicas are the platform's.
    pub(crate) fn sees_replicas(&self) -> Result<(), ApiError> {
        if self.caller.is_platform() {
            return Ok(());
        }
        Err(ApiError::denied("only accounts of the platform see its replicas", "ask an administrator"))
    }

    /// What is judged by looking at the replicas is judged for administrators only.
    pub(crate) fn manages_replicas(&self) -> Result<(), ApiError> {
        let command = hanse_state::Command::RemoveReplica(hanse_state::replica::RemoveReplica {
            replica: 0,
            forced: false,
            reason: String::new(),
        });
        let actor = hanse_state::Actor::Account(self.caller.account.id.clone());
        Ok(hanse_state::access::check(self.state, &actor, &command)?)
    }

    /// Usage and invoices of a tenant: the platform, and the tenant's owner, billing and auditor.
    pub(crate) fn sees_bills(&self, tenant: &TenantId) -> bool {
        let reads =
            matches!(self.caller.tenant_role(), Some(TenantRole::Owner | TenantRole::Billing | TenantRole::Auditor));
        self.caller.is_platform() || (reads && self.caller.tenant() == Some(tenant))
    }

    /// Whether a change of the resource of that name may be told.
    pub(crate) fn sees_resource(&self, resource: &str) -> bool {
        if self.caller.is_platform() {
            return true;
        }
        let mut parts = resource.splitn(3, '/');
        match (parts.next(), parts.next()) {
            (Some("tenants" | "invoices"), Some(id)) => {
                TenantId::parse(id).is_ok_and(|tenant| self.sees_tenant(&tenant))
            }
            (Some("accounts"), Some(id)) => AccountId::parse(id).is_ok_and(|account| self.sees_account(&account)),
            (Some("consortiums"), Some(id)) => ConsortiumId::parse(id).is_ok_and(|it| self.sees_consortium(&it)),
            (Some("operations"), Some(id)) => OperationId::parse(id)
                .is_ok_and(|id| self.state.operations.get(&id).is_some_and(|it| self.sees_operation(it))),
            (Some("plans" | "cluster"), _) => true,
            _ => false,
        }
    }

    pub(crate) fn tenant(&self, id: &TenantId) -> Result<&'a hanse_state::tenant::Tenant, ApiError> {
        let it = self.state.tenants.get(id).filter(|_| self.sees_tenant(id));
        it.ok_or_else(|| ApiError::not_found("tenant", &name::tenant(id)))
    }

    pub(crate) fn account(&self, id: &AccountId) -> Result<&'a Account, ApiError> {
        let it = self.state.accounts.get(id).filter(|_| self.sees_account(id));
        it.ok_or_else(|| ApiError::not_found("account", &name::account(id)))
    }

    pub(crate) fn session(&self, session: &Session) -> bool {
        self.sees_account(&session.account)
    }

    pub(crate) fn consortium(&self, id: &ConsortiumId) -> Result<&'a Consortium, ApiError> {
        let it = self.state.consortiums.get(id).filter(|_| self.sees_consortium(id));
        it.ok_or_else(|| ApiError::not_found("consortium", &name::consortium(id)))
    }

    pub(crate) fn proposal(&self, key: &ProposalKey) -> Result<&'a Proposal, ApiError> {
        let it = self.state.proposals.get(key).filter(|_| self.sees_consortium(&key.consortium));
        it.ok_or_else(|| ApiError::not_found("proposal", &name::proposal(key)))
    }

    pub(crate) fn chain(&self, key: &ChainKey) -> Result<&'a Chain, ApiError> {
        let it = self.state.chains.get(key).filter(|_| self.sees_consortium(&key.consortium));
        it.ok_or_else(|| ApiError::not_found("chain", &name::chain(key)))
    }

    pub(crate) fn node(&self, key: &NodeKey) -> Result<&'a Node, ApiError> {
        let it = self.state.nodes.get(key).filter(|_| self.sees_consortium(&key.chain.consortium));
        it.ok_or_else(|| ApiError::not_found("node", &name::node(key)))
    }

    pub(crate) fn contract(&self, key: &ContractKey) -> Result<&'a Contract, ApiError> {
        let it = self.state.contracts.get(key).filter(|_| self.sees_consortium(&key.chain.consortium));
        it.ok_or_else(|| ApiError::not_found("contract", &name::contract(key)))
    }

    pub(crate) fn operation(&self, id: OperationId) -> Result<&'a Operation, ApiError> {
        let it = self.state.operations.get(&id).filter(|it| self.sees_operation(it));
        it.ok_or_else(|| ApiError::not_found("operation", &name::operation(id)))
    }

    pub(crate) fn host(&self, id: &HostId) -> Result<&'a hanse_state::host::Host, ApiError> {
        let it = self.state.hosts.get(id).filter(|_| self.sees_hosts());
        it.ok_or_else(|| ApiError::not_found("host", &name::host(id)))
    }

    pub(crate) fn cloud(&self, id: &CloudId) -> Result<&'a hanse_state::cloud::Cloud, ApiError> {
        let it = self.state.clouds.get(id).filter(|_| self.sees_hosts());
        it.ok_or_else(|| ApiError::not_found("cloud", &name::cloud(id)))
    }

    pub(crate) fn machine(&self, id: &HostId) -> Result<&'a hanse_state::cloud::Machine, ApiError> {
        let it = self.state.machines.get(id).filter(|_| self.sees_hosts());
        it.ok_or_else(|| ApiError::not_found("machine", &name::machine(id)))
    }

    /// Refuses a caller who does not manage hosts at all, before anything is said about one.
    pub(crate) fn manages_hosts(&self) -> Result<(), ApiError> {
        if self.sees_hosts() {
            return Ok(());
        }
        Err(ApiError::denied("hosts belong to the platform", "ask an operator of the platform"))
    }
}
