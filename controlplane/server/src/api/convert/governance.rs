//! Governance of a chain: what a node says, with whose nodes and accounts they are beside it.

use std::collections::BTreeMap;

use hanse_engines_core as engine;
use hanse_proto::v1 as pb;
use hanse_state::chain::Chain;
use hanse_state::chain::node::Node;
use hanse_state::{State, name};

use super::chain::nodes_of;

/// Nodes of the platform by their id on the ledger, and accounts by the member that named them.
struct Known<'a> {
    nodes: BTreeMap<&'a str, &'a Node>,
    accounts: BTreeMap<&'a str, String>,
}

/// What a node said of `chain`, and `evidence` of all nodes that were asked.
pub(crate) fn governance(
    state: &State,
    chain: &Chain,
    said: engine::Governance,
    evidence: Vec<engine::Evidence>,
) -> pb::ChainGovernance {
    let known = Known::of(state, chain);
    let set = |set: Vec<engine::LedgerValidator>| set.into_iter().map(|one| known.validator(one)).collect();
    let pending = said.pending.into_iter();
    let base = pb::ChainGovernance {
        name: name::chain(&chain.key),
        governed: said.rules.is_some(),
        next_height: said.next_height,
        chain_id: chain.spec.chain_id,
        validators: set(said.validators),
        pending_validators: pending
            .map(|it| pb::PendingValidators { from_height: it.from_height, validators: set(it.validators) })
            .collect(),
        protocol: said.protocol,
        halted: said.halted.unwrap_or_default(),
        evidence: evidence.into_iter().map(|one| known.evidence(one)).collect(),
        ..Default::default()
    };
    let Some(rules) = said.rules else { return base };
    pb::ChainGovernance {
        account: rules.account,
        chain_id: rules.chain_id,
        genesis_hash: rules.genesis_hash,
        members: rules.members.into_iter().map(|account| known.member(account)).collect(),
        threshold: rules.threshold,
        sequence: rules.sequence,
        nodes: Some(list(rules.nodes)),
        senders: Some(list(rules.senders)),
        deployers: Some(list(rules.deployers)),
        upgrade: rules.upgrade.map(|it| pb::ScheduledUpgrade { version: it.version, after_height: it.after_height }),
        protocol_needed: rules.protocol_needed,
        ..base
    }
}

impl<'a> Known<'a> {
    fn of(state: &'a State, chain: &'a Chain) -> Self {
        let nodes = nodes_of(state, &chain.key);
        let named = chain.spec.governance.iter().flat_map(|governance| &governance.members);
        Self {
            nodes: nodes.filter_map(|node| Some((node.identity.as_ref()?.node_id.as_str(), node))).collect(),
            accounts: named.map(|(tenant, account)| (account.as_str(), tenant.to_string())).collect(),
        }
    }

    /// Resource name and owner; empty for a node of somebody else.
    fn node(&self, node_id: &str) -> (String, String) {
        self.nodes.get(node_id).map(|node| (name::node(&node.key), node.owner.to_string())).unwrap_or_default()
    }

    fn validator(&self, it: engine::LedgerValidator) -> pb::LedgerValidator {
        let (node, owner) = self.node(&it.node_id);
        pb::LedgerValidator { node_id: it.node_id, public_key: it.public_key, power: it.power, node, owner }
    }

    fn evidence(&self, it: engine::Evidence) -> pb::DoubleSigning {
        let (node, owner) = self.node(&it.node_id);
        pb::DoubleSigning { node_id: it.node_id, kind: it.kind, height: it.height, round: it.round, node, owner }
    }

    fn member(&self, account: String) -> pb::GovernanceMember {
        let tenant = self.accounts.get(account.as_str()).cloned().unwrap_or_default();
        pb::GovernanceMember { account, tenant }
    }
}

fn list(it: engine::AllowList) -> pb::AllowList {
    let change = |it: engine::ListChange| pb::AllowListChange {
        entry: it.entry,
        allowed: it.allowed,
        from_height: it.from_height,
    };
    pb::AllowList {
        restricted: it.restricted,
        restricted_soon: it.restricted_soon,
        entries: it.entries,
        pending: it.pending.into_iter().map(change).collect(),
    }
}
