//! What a consortium votes on, and the artifact: the exact bytes that every ballot is about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ballot::Ballot;
use super::policy::{ActionKind, Policy, Tally};
use crate::chain::ChainSpec;
use crate::chain::life::{Change, ChangeChain};
use crate::digest::{Digest, PublicKey};
use crate::ids::{AccountId, ConsortiumId, OperationId, ProposalKey, TenantId};
use crate::time::Millis;

/// Undecided proposals of a consortium.
pub const OPEN_PROPOSALS_MAX: usize = 100;
/// Proposals kept of a consortium, decided ones included.
pub const PROPOSALS_MAX: usize = 10_000;
/// Longest title in characters.
pub const TITLE_MAX: usize = 200;

/// What is to be done if the vote passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Action {
    /// A new chain.
    CreateChain(ChainSpec),
    /// A change of a chain. Came with cluster version 4.
    ChangeChain(ChangeChain),
}

impl Action {
    /// Its kind, for the charter.
    pub const fn kind(&self) -> ActionKind {
        match self {
            Self::CreateChain(_) => ActionKind::CreateChain,
            Self::ChangeChain(ChangeChain { change: Change::Delete { .. }, .. }) => ActionKind::DeleteChain,
            Self::ChangeChain(_) => ActionKind::ChangeChain,
        }
    }
}

/// Life of a proposal: `Open`, then one of the others for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ProposalState {
    /// Ballots are taken.
    Open,
    /// The policy held; the consequence was written in the same entry.
    Passed,
    /// The policy could no longer hold.
    Rejected,
    /// The deadline came first.
    Expired,
}

/// A member's standing in one vote, fixed when the proposal opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elector {
    /// Weight of its ballot.
    pub weight: u64,
    /// Key that must sign it.
    pub key: PublicKey,
}

/// A proposal with its ballots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Its key.
    pub key: ProposalKey,
    /// What people call it.
    pub title: String,
    /// What is to be done.
    pub action: Action,
    /// The bytes that are voted on: [`artifact`] of the action.
    pub artifact: String,
    /// SHA-256 of exactly these bytes.
    pub artifact_hash: Digest,
    /// Tenant that opened it.
    pub proposer: TenantId,
    /// Account that opened it.
    pub opened_by: AccountId,
    /// When it opened.
    pub opened_at: Millis,
    /// Ballots are taken before this moment of log time.
    pub deadline: Millis,
    /// What it takes to pass.
    pub policy: Policy,
    /// Who votes, by tenant; fixed.
    pub electorate: BTreeMap<TenantId, Elector>,
    /// One a member, by tenant.
    pub ballots: BTreeMap<TenantId, Ballot>,
    /// Open or decided.
    pub state: ProposalState,
    /// Since when.
    pub state_since: Millis,
    /// Operation that a passed proposal started.
    pub operation: Option<OperationId>,
}

/// Opens a proposal. By an owner or operator of an active member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenProposal {
    /// Of which consortium.
    pub consortium: ConsortiumId,
    /// What people call it.
    pub title: String,
    /// What is to be done.
    pub action: Action,
    /// How long the vote lasts; the charter's period if `None`.
    pub voting_period_ms: Option<u64>,
}

/// Ends an undecided vote after its deadline. By the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseProposal {
    /// Which.
    pub proposal: ProposalKey,
}

/// Returns the artifact of an action: canonical JSON, version 1, or 2 if the chain has governance or an audit anchor, or 3 if
/// it is a change of a chain.
///
/// Fields in the fixed order below, no white space, maps ordered by key, numbers whole:
/// `{"version":1,"create_chain":{"chain","template","template_version","chain_id","parameters":{..},"nodes":[{"owner"}..],
/// "alloc":{..}}}`. Version 2 goes on with `"governance":{"members":{tenant:account},"threshold"}`, in which may follow
/// `"senders":[..]`, `"deployers":[..]` (in order; an absent list lets all) and `"restrict_nodes":true`; with
/// `"anchor":"NAME+ID+KEY"`; or with both. Version 3 is `{"version":3,"change_chain":{"chain","ordered_by":"p-1","change":{..}}}`
/// with one of `"pause":{}`, `"resume":{}`, `"delete":{"grace_ms"}`, `"undelete":{}`,
/// `"add_nodes":{"nodes":[{"owner"}..]}` (then perhaps `"accept_outage":true`) and `"remove_nodes":{"nodes":["n4"..]}` (then
/// perhaps `"accept_outage":true`), `"upgrade":{"program":{"name","version","sha256"}}` (without the program: the platform's own) and
/// `"reconfigure":{"settings":{..}}` (each then perhaps with `"limit_ms"` and `"accept_outage":true`).,
/// and `"add_validators"` and `"remove_validators"` of the form of `"remove_nodes"`. A client computes the hash of what it shows before it signs.
pub fn artifact(action: &Action) -> String {
    #[derive(Serialize)]
    struct Artifact<'a> {
        version: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        create_chain: Option<&'a ChainSpec>,
        #[serde(skip_serializing_if = "Option::is_none")]
        change_chain: Option<&'a ChangeChain>,
    }
    let artifact = match action {
        Action::CreateChain(spec) => {
            let version = if spec.governance.is_some() || spec.anchor.is_some() { 2 } else { 1 };
            Artifact { version, create_chain: Some(spec), change_chain: None }
        }
        Action::ChangeChain(change) => Artifact { version: 3, create_chain: None, change_chain: Some(change) },
    };
    serde_json::to_string(&artifact).expect("plain structs of text and whole numbers")
}

/// Returns the sums of the ballots so far and what they make certain.
pub fn tally(proposal: &Proposal) -> Tally {
    use super::ballot::Choice;
    let weight = |choice: Choice| {
        let said = proposal.ballots.iter().filter(|(_, ballot)| ballot.choice == choice);
        said.filter_map(|(tenant, _)| proposal.electorate.get(tenant)).map(|elector| elector.weight).sum()
    };
    let total = proposal.electorate.values().map(|elector| elector.weight).sum();
    Tally::new(proposal.policy, weight(Choice::Yes), weight(Choice::No), weight(Choice::Abstain), total)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::chain::NodeSpec;
    use crate::chain::governance::GovernanceSpec;
    use crate::ids::ChainId;

    /// A chain without governance, and its artifact without the closing braces.
    fn ungoverned() -> (ChainSpec, &'static str) {
        let spec = ChainSpec {
            chain: ChainId::parse("supply-1").unwrap(),
            template: "evm-standard".into(),
            template_version: 1,
            chain_id: 1_337,
            parameters: BTreeMap::from([("block_time_ms".into(), 500), ("block_gas_limit".into(), 30_000_000)]),
            nodes: vec![NodeSpec { owner: TenantId::parse("acme").unwrap() }],
            alloc: BTreeMap::from([("0x1111111111111111111111111111111111111111".into(), "1000".into())]),
            governance: None,
            anchor: None,
        };
        let text = "\"create_chain\":{\"chain\":\"supply-1\",\"template\":\"evm-standard\",\"template_version\":1,\
             \"chain_id\":1337,\"parameters\":{\"block_gas_limit\":30000000,\"block_time_ms\":500},\
             \"nodes\":[{\"owner\":\"acme\"}],\
             \"alloc\":{\"0x1111111111111111111111111111111111111111\":\"1000\"}";
        (spec, text)
    }

    #[test]
    fn the_artifact_is_frozen() {
        let (spec, text) = ungoverned();
        assert_eq!(artifact(&Action::CreateChain(spec)), format!("{{\"version\":1,{text}}}}}"));
    }

    #[test]
    fn the_artifact_of_a_change_is_frozen() {
        let of = |change: Change| {
            let chain = ChainId::parse("supply-1").unwrap();
            artifact(&Action::ChangeChain(ChangeChain { chain, ordered_by: "p-7".parse().unwrap(), change }))
        };
        let text = |change: &str| {
            let start = "{\"version\":3,\"change_chain\":{\"chain\":\"supply-1\",\"ordered_by\":\"p-7\",\"change\":{";
            format!("{start}{change}}}}}}}")
        };
        assert_eq!(of(Change::Pause {}), text("\"pause\":{}"));
        assert_eq!(of(Change::Resume {}), text("\"resume\":{}"));
        assert_eq!(of(Change::Delete { grace_ms: 604_800_000 }), text("\"delete\":{\"grace_ms\":604800000}"));
        assert_eq!(of(Change::Undelete {}), text("\"undelete\":{}"));
        let nodes = vec![NodeSpec { owner: TenantId::parse("acme").unwrap() }];
        let add = |accept_outage| of(Change::AddNodes { nodes: nodes.clone(), accept_outage });
        assert_eq!(add(false), text("\"add_nodes\":{\"nodes\":[{\"owner\":\"acme\"}]}"));
        assert_eq!(add(true), text("\"add_nodes\":{\"nodes\":[{\"owner\":\"acme\"}],\"accept_outage\":true}"));
        let leave = vec![crate::ids::NodeId::new(4), crate::ids::NodeId::new(7)];
        let remove = |accept_outage| of(Change::RemoveNodes { nodes: leave.clone(), accept_outage });
        assert_eq!(remove(false), text("\"remove_nodes\":{\"nodes\":[\"n4\",\"n7\"]}"));
        let seat = of(Change::AddValidators { nodes: leave.clone(), accept_outage: false });
        assert_eq!(seat, text("\"add_validators\":{\"nodes\":[\"n4\",\"n7\"]}"));
        let unseat = of(Change::RemoveValidators { nodes: leave.clone(), accept_outage: true });
        assert_eq!(unseat, text("\"remove_validators\":{\"nodes\":[\"n4\",\"n7\"],\"accept_outage\":true}"));
        let program = crate::chain::outfit::Program {
            name: "ledgerd".into(),
            version: "2.0.0".into(),
            sha256: Digest([0xab; 32]),
        };
        let upgrade =
            |program, limit_ms| of(Change::Upgrade { program, limit_ms, accept_outage: false, at_height: None });
        let named = format!("{{\"name\":\"ledgerd\",\"version\":\"2.0.0\",\"sha256\":\"{}\"}}", "ab".repeat(32));
        let both = format!("\"upgrade\":{{\"program\":{named},\"limit_ms\":60000}}");
        assert_eq!(upgrade(Some(program), Some(60_000)), text(&both));
        assert_eq!(upgrade(None, None), text("\"upgrade\":{}"));
        let settings = BTreeMap::from([("rpc_connections".to_owned(), 64), ("history_states".to_owned(), 8)]);
        let set = of(Change::Reconfigure { settings, limit_ms: None, accept_outage: true });
        let settings = "{\"history_states\":8,\"rpc_connections\":64}";
        assert_eq!(set, text(&format!("\"reconfigure\":{{\"settings\":{settings},\"accept_outage\":true}}")));
        assert_eq!(remove(true), text("\"remove_nodes\":{\"nodes\":[\"n4\",\"n7\"],\"accept_outage\":true}"));
    }

    #[test]
    fn the_artifact_of_an_anchored_chain_is_frozen() {
        let (spec, text) = ungoverned();
        let key = "demo.hanse.internal/audit+25a1a361+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
        let artifact = artifact(&Action::CreateChain(ChainSpec { anchor: Some(key.into()), ..spec }));
        assert_eq!(artifact, format!("{{\"version\":2,{text},\"anchor\":\"{key}\"}}}}"));
    }

    #[test]
    fn the_artifact_of_a_governed_chain_is_frozen() {
        let (ungoverned, text) = ungoverned();
        let account = |digit: &str| format!("0x{}", digit.repeat(40));
        let members = [("bank", "b"), ("acme", "a")].map(|(name, d)| (TenantId::parse(name).unwrap(), account(d)));
        let mut governance = GovernanceSpec {
            members: members.into(),
            threshold: 2,
            senders: None,
            deployers: None,
            restrict_nodes: false,
        };
        let (a, b) = (account("a"), account("b"));
        let start = format!(
            "{{\"version\":2,{text},\"governance\":{{\"members\":{{\"acme\":\"{a}\",\"bank\":\"{b}\"}},\"threshold\":2"
        );
        let of = |governance: &GovernanceSpec| {
            artifact(&Action::CreateChain(ChainSpec { governance: Some(governance.clone()), ..ungoverned.clone() }))
        };
        assert_eq!(of(&governance), format!("{start}}}}}}}"));
        governance.senders = Some([b.clone(), a.clone()].into());
        governance.deployers = Some([].into());
        governance.restrict_nodes = true;
        let lists = format!("\"senders\":[\"{a}\",\"{b}\"],\"deployers\":[],\"restrict_nodes\":true");
        assert_eq!(of(&governance), format!("{start},{lists}}}}}}}"));
    }
}
