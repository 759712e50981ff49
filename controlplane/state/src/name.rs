//! Resource names: what the API, events, audit records and operations call things.

use crate::Digest;
use crate::ids::{
    AccountId, ChainKey, CloudId, ConsortiumId, ContractKey, HostId, NodeKey, OperationId, PlanId, ProposalKey,
    PublisherId, TenantId,
};

/// `accounts/li@acme`
pub fn account(id: &AccountId) -> String {
    format!("accounts/{id}")
}

/// `tenants/acme`
pub fn tenant(id: &TenantId) -> String {
    format!("tenants/{id}")
}

/// `consortiums/trade`
pub fn consortium(id: &ConsortiumId) -> String {
    format!("consortiums/{id}")
}

/// `consortiums/trade/proposals/p-1`
pub fn proposal(key: &ProposalKey) -> String {
    format!("consortiums/{}/proposals/{}", key.consortium, key.proposal)
}

/// `consortiums/trade/chains/supply-1`
pub fn chain(key: &ChainKey) -> String {
    format!("consortiums/{}/chains/{}", key.consortium, key.chain)
}

/// `consortiums/trade/chains/supply-1/nodes/n0`
pub fn node(key: &NodeKey) -> String {
    format!("{}/nodes/{}", chain(&key.chain), key.node)
}

/// `consortiums/trade/chains/supply-1/contracts/registry`
pub fn contract(key: &ContractKey) -> String {
    format!("{}/contracts/{}", chain(&key.chain), key.contract)
}

/// `hosts/h1`
pub fn host(id: &HostId) -> String {
    format!("hosts/{id}")
}

/// `hosts/h1/orphans/trade.supply-1.n0`
pub fn orphan(host: &HostId, object: &str) -> String {
    format!("hosts/{host}/orphans/{object}")
}

/// `clouds/east`
pub fn cloud(id: &CloudId) -> String {
    format!("clouds/{id}")
}

/// `clouds/east/orphans/i-0123`
pub fn cloud_orphan(id: &CloudId, instance: &str) -> String {
    format!("clouds/{id}/orphans/{instance}")
}

/// `machines/m1`
pub fn machine(id: &HostId) -> String {
    format!("machines/{id}")
}

/// `replicas/4`
pub fn replica(id: u64) -> String {
    format!("replicas/{id}")
}

/// `operations/op-1`
pub fn operation(id: OperationId) -> String {
    format!("operations/{id}")
}

/// `plans/standard`
pub fn plan(id: &PlanId) -> String {
    format!("plans/{id}")
}

/// `artifacts/<sha256>`
pub fn artifact(sha256: &Digest) -> String {
    format!("artifacts/{sha256}")
}

/// `publishers/acme-releases`
pub fn publisher(id: &PublisherId) -> String {
    format!("publishers/{id}")
}
