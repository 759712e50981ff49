//! Consortiums, proposals, ballots.

use std::collections::{BTreeMap, BTreeSet};

use hanse_proto::v1 as pb;
use hanse_state::State;
use hanse_state::chain::governance::GovernanceSpec;
use hanse_state::chain::life::{Change, ChangeChain};
use hanse_state::chain::{ChainSpec, NodeSpec};
use hanse_state::consortium::ballot::Choice;
use hanse_state::consortium::policy::{ActionKind, Policy, Tally};
use hanse_state::consortium::proposal::{Action, Proposal, ProposalState, tally as count};
use hanse_state::consortium::{Charter, Consortium, ConsortiumState, Member, MemberState};
use hanse_state::ids::{ChainId, ChainKey, ConsortiumId, NodeId, TenantId};

use super::{id, ms, outfit, required};
use crate::error::ApiError;

/// A consortium.
pub(crate) fn consortium(it: &Consortium) -> pb::Consortium {
    let state = match it.state {
        ConsortiumState::Forming => pb::ConsortiumState::Forming,
        ConsortiumState::Active => pb::ConsortiumState::Active,
    };
    pb::Consortium {
        name: format!("consortiums/{}", it.id),
        consortium: it.id.to_string(),
        display_name: it.display_name.clone(),
        charter: Some(charter(&it.charter)),
        founder: it.founder.to_string(),
        members: it.members.iter().map(|(tenant, one)| member(tenant, one)).collect(),
        state: state.into(),
        state_since_ms: ms(it.state_since),
        created_at_ms: ms(it.created_at),
        version: it.version,
    }
}

fn member(tenant: &TenantId, member: &Member) -> pb::Member {
    let state = match member.state {
        MemberState::Invited => pb::MemberState::Invited,
        MemberState::Active => pb::MemberState::Active,
    };
    pb::Member {
        tenant: tenant.to_string(),
        weight: weight_out(member.weight),
        state: state.into(),
        member_key: member.key.map(|key| key.to_string()).unwrap_or_default(),
        joined_at_ms: ms(member.joined_at),
    }
}

/// Weights end at a million in the domain.
fn weight_out(weight: u64) -> u32 {
    u32::try_from(weight).unwrap_or(u32::MAX)
}

/// A weight as asked for: 0 means 1.
pub(crate) fn weight_in(weight: u32) -> u64 {
    u64::from(weight.max(1))
}

fn charter(charter: &Charter) -> pb::Charter {
    let rule = |(kind, held): (&ActionKind, &Policy)| pb::PolicyRule {
        action: action_kind(*kind).into(),
        policy: policy(*held).into(),
    };
    pb::Charter {
        policies: charter.policies.iter().map(rule).collect(),
        voting_period_ms: i64::try_from(charter.voting_period_ms).unwrap_or(i64::MAX),
    }
}

/// A charter as asked for; one rule an action.
pub(crate) fn charter_in(charter: Option<pb::Charter>) -> Result<Charter, ApiError> {
    let charter = required("charter", charter)?;
    let mut policies = BTreeMap::new();
    for rule in charter.policies {
        let kind = match pb::ActionKind::try_from(rule.action) {
            Ok(pb::ActionKind::CreateChain) => ActionKind::CreateChain,
            Ok(pb::ActionKind::ChangeChain) => ActionKind::ChangeChain,
            Ok(pb::ActionKind::DeleteChain) => ActionKind::DeleteChain,
            Ok(pb::ActionKind::Unspecified) | Err(_) => {
                return Err(ApiError::invalid("charter.policies", "names no known action", "name each action"));
            }
        };
        let policy = match pb::Policy::try_from(rule.policy) {
            Ok(pb::Policy::Majority) => Policy::Majority,
            Ok(pb::Policy::TwoThirds) => Policy::TwoThirds,
            Ok(pb::Policy::Unanimous) => Policy::Unanimous,
            Ok(pb::Policy::Unspecified) | Err(_) => {
                let advice = "choose majority, two thirds or unanimous";
                return Err(ApiError::invalid("charter.policies", "names no known policy", advice));
            }
        };
        if policies.insert(kind, policy).is_some() {
            return Err(ApiError::invalid("charter.policies", "names an action twice", "give one rule an action"));
        }
    }
    Ok(Charter { policies, voting_period_ms: period("charter.voting_period_ms", charter.voting_period_ms)? })
}

/// A period that cannot be negative.
pub(crate) fn period(field: &str, ms: i64) -> Result<u64, ApiError> {
    u64::try_from(ms).map_err(|_| ApiError::invalid(field, "is negative", "give milliseconds"))
}

fn action_kind(kind: ActionKind) -> pb::ActionKind {
    match kind {
        ActionKind::CreateChain => pb::ActionKind::CreateChain,
        ActionKind::ChangeChain => pb::ActionKind::ChangeChain,
        ActionKind::DeleteChain => pb::ActionKind::DeleteChain,
    }
}

fn policy(policy: Policy) -> pb::Policy {
    match policy {
        Policy::Majority => pb::Policy::Majority,
        Policy::TwoThirds => pb::Policy::TwoThirds,
        Policy::Unanimous => pb::Policy::Unanimous,
    }
}

/// An action as asked for, of the consortium `of`.
pub(crate) fn action_in(state: &State, of: &ConsortiumId, action: Option<pb::Action>) -> Result<Action, ApiError> {
    match required("action.kind", required("action", action)?.kind)? {
        pb::action::Kind::CreateChain(spec) => Ok(Action::CreateChain(spec_in(spec)?)),
        pb::action::Kind::ChangeChain(change) => Ok(Action::ChangeChain(change_in(state, of, change)?)),
    }
}

/// A change as asked for; which chain of that name is meant, the present one, is written into it.
fn change_in(state: &State, of: &ConsortiumId, it: pb::ChangeChain) -> Result<ChangeChain, ApiError> {
    let chain: ChainId = id("action.change_chain.chain", &it.chain)?;
    let known = hanse_state::chain::query::get(state, &ChainKey::new(of.clone(), chain.clone()))?;
    let ordered_by = match it.ordered_by.as_str() {
        "" => known.proposal.proposal,
        text => id("action.change_chain.ordered_by", text)?,
    };
    let change = match required("action.change_chain.change", it.change)? {
        pb::change_chain::Change::Pause(pb::PauseChange {}) => Change::Pause {},
        pb::change_chain::Change::Resume(pb::ResumeChange {}) => Change::Resume {},
        pb::change_chain::Change::Undelete(pb::UndeleteChange {}) => Change::Undelete {},
        pb::change_chain::Change::AddNodes(add) => {
            let owner = |(n, node): (usize, pb::NodeSpec)| {
                id(&format!("action.change_chain.add_nodes.nodes[{n}].owner"), &node.owner)
                    .map(|owner| NodeSpec { owner })
            };
            let nodes = add.nodes.into_iter().enumerate().map(owner).collect::<Result<_, _>>()?;
            Change::AddNodes { nodes, accept_outage: add.accept_outage }
        }
        pb::change_chain::Change::RemoveNodes(remove) => {
            let nodes = node_ids("action.change_chain.remove_nodes.nodes", &remove.nodes)?;
            Change::RemoveNodes { nodes, accept_outage: remove.accept_outage }
        }
        pb::change_chain::Change::AddValidators(seats) => {
            let nodes = node_ids("action.change_chain.add_validators.nodes", &seats.nodes)?;
            Change::AddValidators { nodes, accept_outage: seats.accept_outage }
        }
        pb::change_chain::Change::RemoveValidators(seats) => {
            let nodes = node_ids("action.change_chain.remove_validators.nodes", &seats.nodes)?;
            Change::RemoveValidators { nodes, accept_outage: seats.accept_outage }
        }
        pb::change_chain::Change::Adopt(adopt) => {
            let owner = |(n, node): (usize, pb::NodeSpec)| {
                id(&format!("action.change_chain.adopt.nodes[{n}].owner"), &node.owner).map(|owner| NodeSpec { owner })
            };
            let nodes = adopt.nodes.into_iter().enumerate().map(owner).collect::<Result<_, _>>()?;
            let first_block = match adopt.first_block.as_str() {
                "" => known.imported.as_ref().map(|it| it.first_block.clone()).unwrap_or_default(),
                text => text.to_ascii_lowercase(),
            };
            Change::Adopt { first_block, nodes, accept_outage: adopt.accept_outage }
        }
        pb::change_chain::Change::Upgrade(upgrade) => Change::Upgrade {
            program: upgrade.program.map(|program| outfit::program_in(state, program)).transpose()?,
            limit_ms: match period("action.change_chain.upgrade.limit_ms", upgrade.limit_ms)? {
                0 => None,
                limit_ms => Some(limit_ms),
            },
            accept_outage: upgrade.accept_outage,
            at_height: (upgrade.at_height != 0).then_some(upgrade.at_height),
        },
        pb::change_chain::Change::Reconfigure(it) => Change::Reconfigure {
            settings: it.settings.into_iter().collect(),
            limit_ms: match period("action.change_chain.reconfigure.limit_ms", it.limit_ms)? {
                0 => None,
                limit_ms => Some(limit_ms),
            },
            accept_outage: it.accept_outage,
        },
        pb::change_chain::Change::Delete(delete) => {
            Change::Delete { grace_ms: period("action.change_chain.delete.grace_ms", delete.grace_ms)? }
        }
    };
    Ok(ChangeChain { chain, ordered_by, change })
}

fn node_ids(field: &str, nodes: &[String]) -> Result<Vec<NodeId>, ApiError> {
    nodes.iter().map(|node| id(field, node)).collect()
}

fn spec_in(spec: pb::ChainSpec) -> Result<ChainSpec, ApiError> {
    let owner = |(n, node): (usize, pb::NodeSpec)| {
        id(&format!("action.create_chain.nodes[{n}].owner"), &node.owner).map(|owner| NodeSpec { owner })
    };
    Ok(ChainSpec {
        chain: id("action.create_chain.chain", &spec.chain)?,
        template: spec.template,
        template_version: spec.template_version,
        chain_id: spec.chain_id,
        parameters: spec.parameters,
        nodes: spec.nodes.into_iter().enumerate().map(owner).collect::<Result<_, _>>()?,
        alloc: spec.alloc,
        governance: spec.governance.map(governance_in).transpose()?,
        anchor: spec.anchor.map(|anchor| anchor.key),
    })
}

fn governance_in(spec: pb::GovernanceSpec) -> Result<GovernanceSpec, ApiError> {
    let member = |(tenant, account): (String, String)| {
        id("action.create_chain.governance.members", &tenant).map(|tenant| (tenant, account))
    };
    let list = |field: &str, list: Option<pb::AccountList>| {
        let Some(list) = list else { return Ok(None) };
        let (asked, kept) = (list.accounts.len(), list.accounts.into_iter().collect::<BTreeSet<_>>());
        if kept.len() < asked {
            return Err(ApiError::invalid(field, "names an account twice", "list each account once"));
        }
        Ok(Some(kept))
    };
    Ok(GovernanceSpec {
        members: spec.members.into_iter().map(member).collect::<Result<_, _>>()?,
        threshold: spec.threshold,
        senders: list("action.create_chain.governance.senders", spec.senders)?,
        deployers: list("action.create_chain.governance.deployers", spec.deployers)?,
        restrict_nodes: spec.restrict_nodes,
    })
}

fn governance(spec: &GovernanceSpec) -> pb::GovernanceSpec {
    let list = |list: &BTreeSet<String>| pb::AccountList { accounts: list.iter().cloned().collect() };
    pb::GovernanceSpec {
        members: spec.members.iter().map(|(tenant, account)| (tenant.to_string(), account.clone())).collect(),
        threshold: spec.threshold,
        senders: spec.senders.as_ref().map(list),
        deployers: spec.deployers.as_ref().map(list),
        restrict_nodes: spec.restrict_nodes,
    }
}

/// A chain as it was voted on.
pub(crate) fn spec(spec: &ChainSpec) -> pb::ChainSpec {
    pb::ChainSpec {
        chain: spec.chain.to_string(),
        template: spec.template.clone(),
        template_version: spec.template_version,
        chain_id: spec.chain_id,
        parameters: spec.parameters.clone(),
        nodes: spec.nodes.iter().map(|node| pb::NodeSpec { owner: node.owner.to_string() }).collect(),
        alloc: spec.alloc.clone(),
        governance: spec.governance.as_ref().map(governance),
        anchor: spec.anchor.clone().map(|key| pb::ChainAnchor { key }),
    }
}

/// A vote's choice as asked for.
pub(crate) fn choice_in(number: i32) -> Result<Choice, ApiError> {
    match pb::Choice::try_from(number) {
        Ok(pb::Choice::Yes) => Ok(Choice::Yes),
        Ok(pb::Choice::No) => Ok(Choice::No),
        Ok(pb::Choice::Abstain) => Ok(Choice::Abstain),
        Ok(pb::Choice::Unspecified) | Err(_) => {
            Err(ApiError::invalid("choice", "is missing or not known", "choose yes, no or abstain"))
        }
    }
}

fn choice(choice: Choice) -> pb::Choice {
    match choice {
        Choice::Yes => pb::Choice::Yes,
        Choice::No => pb::Choice::No,
        Choice::Abstain => pb::Choice::Abstain,
    }
}

/// What became of a proposal.
pub(crate) fn outcome(state: ProposalState) -> pb::ProposalOutcome {
    match state {
        ProposalState::Open => pb::ProposalOutcome::Open,
        ProposalState::Passed => pb::ProposalOutcome::Passed,
        ProposalState::Rejected => pb::ProposalOutcome::Rejected,
        ProposalState::Expired => pb::ProposalOutcome::Expired,
    }
}

/// A proposal with its electorate, ballots and tally.
pub(crate) fn proposal(it: &Proposal) -> pb::Proposal {
    let sums = count(it);
    let decided = it.state != ProposalState::Open;
    let chain = match &it.action {
        Action::CreateChain(spec) => &spec.chain,
        Action::ChangeChain(change) => &change.chain,
    };
    let consortium = &it.key.consortium;
    let made = it.operation.map(|_| format!("consortiums/{consortium}/chains/{chain}"));
    pb::Proposal {
        name: format!("consortiums/{consortium}/proposals/{}", it.key.proposal),
        consortium: consortium.to_string(),
        proposal: it.key.proposal.to_string(),
        title: it.title.clone(),
        action_kind: action_kind(it.action.kind()).into(),
        artifact: it.artifact.clone().into_bytes(),
        artifact_hash: it.artifact_hash.to_string(),
        policy: policy(it.policy).into(),
        opened_by: it.opened_by.to_string(),
        opened_by_tenant: it.proposer.to_string(),
        opened_at_ms: ms(it.opened_at),
        deadline_ms: ms(it.deadline),
        electorate: electorate(it),
        ballots: ballots(it),
        tally: Some(tally(it.policy, &sums)),
        outcome: outcome(it.state).into(),
        state_reason: in_words(it.state, it.policy, &sums),
        decided_at_ms: if decided { ms(it.state_since) } else { 0 },
        operation: it.operation.map(|operation| operation.to_string()).unwrap_or_default(),
        ordered_resource: made.unwrap_or_default(),
    }
}

fn electorate(it: &Proposal) -> Vec<pb::Elector> {
    let elector = |(tenant, elector): (&TenantId, &hanse_state::consortium::proposal::Elector)| pb::Elector {
        tenant: tenant.to_string(),
        weight: weight_out(elector.weight),
        member_key: elector.key.to_string(),
    };
    it.electorate.iter().map(elector).collect()
}

/// The ballots in the order in which they were counted.
fn ballots(it: &Proposal) -> Vec<pb::Ballot> {
    let mut ballots: Vec<_> = it.ballots.iter().collect();
    ballots.sort_by_key(|(_, ballot)| ballot.at);
    let one = |(voter, ballot): (&TenantId, &hanse_state::consortium::ballot::Ballot)| pb::Ballot {
        voter: voter.to_string(),
        choice: choice(ballot.choice).into(),
        cast_at_ms: ms(ballot.at),
        weight: it.electorate.get(voter).map_or(0, |elector| weight_out(elector.weight)),
        signature: ballot.signature.to_string(),
    };
    ballots.into_iter().map(one).collect()
}

fn tally(policy: Policy, sums: &Tally) -> pb::Tally {
    pb::Tally {
        yes: sums.yes,
        no: sums.no,
        abstain: sums.abstain,
        total: sums.total,
        needed: needed(policy, sums.total),
    }
}

/// Least weight of yes that satisfies `policy`.
fn needed(policy: Policy, total: u64) -> u64 {
    match policy {
        Policy::Majority => total / 2 + 1,
        Policy::TwoThirds => (total * 2).div_ceil(3),
        Policy::Unanimous => total,
    }
}

fn in_words(state: ProposalState, policy: Policy, sums: &Tally) -> String {
    let (yes, total, needed) = (sums.yes, sums.total, needed(policy, sums.total));
    match state {
        ProposalState::Open => format!("{yes} of {total} weight said yes, {needed} is needed"),
        ProposalState::Passed => format!("{yes} of {total} weight said yes, {needed} was needed"),
        ProposalState::Rejected => {
            format!("{needed} of {total} weight was needed and can no longer be reached ({} no)", sums.no)
        }
        ProposalState::Expired => format!("the deadline came with {yes} of {total} weight for it, {needed} was needed"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn needed_is_the_least_that_holds() {
        for total in 1..200 {
            for policy in [Policy::Majority, Policy::TwoThirds, Policy::Unanimous] {
                let least = needed(policy, total);
                assert!(policy.holds(least, total), "{policy:?} {least}/{total}");
                assert!(!policy.holds(least - 1, total), "{policy:?} {least}/{total}");
            }
        }
    }

    #[test]
    fn a_chain_spec_comes_back_as_it_was() {
        let sent = pb::ChainSpec {
            chain: "supply-1".into(),
            template: "evm-standard".into(),
            template_version: 1,
            chain_id: 4_242,
            parameters: [("block_time_ms".to_string(), 500)].into(),
            nodes: vec![pb::NodeSpec { owner: "acme".into() }, pb::NodeSpec { owner: "bank".into() }],
            alloc: [(format!("0x{}", "a".repeat(40)), "1000".to_string())].into(),
            governance: None,
            anchor: Some(pb::ChainAnchor { key: "trail+0+key".into() }),
        };
        assert_eq!(spec(&spec_in(sent.clone()).unwrap()), sent);
        let list = |accounts: &[&str]| pb::AccountList { accounts: accounts.iter().map(ToString::to_string).collect() };
        let mut governed = sent.clone();
        governed.governance = Some(pb::GovernanceSpec {
            members: [("acme".to_string(), "0xa".to_string()), ("bank".to_string(), "0xb".to_string())].into(),
            threshold: 2,
            senders: Some(list(&["0x1", "0x2"])),
            deployers: Some(list(&[])),
            restrict_nodes: true,
        });
        assert_eq!(spec(&spec_in(governed.clone()).unwrap()), governed, "no list and an empty list are told apart");
        let mut twice = governed.clone();
        twice.governance.as_mut().unwrap().senders = Some(list(&["0x1", "0x1"]));
        assert_eq!(spec_in(twice).unwrap_err().field(), Some("action.create_chain.governance.senders"));
        governed.governance.as_mut().unwrap().members.insert("Bank".into(), "0xc".into());
        assert_eq!(spec_in(governed).unwrap_err().field(), Some("action.create_chain.governance.members"));
        let mut wrong = sent;
        wrong.nodes[1].owner = "Bank".into();
        assert_eq!(spec_in(wrong).unwrap_err().field(), Some("action.create_chain.nodes[1].owner"));
    }

    #[test]
    fn a_charter_comes_back_and_each_fault_is_named() {
        let rule = pb::PolicyRule { action: 1, policy: 2 };
        let sent = pb::Charter { policies: vec![rule], voting_period_ms: 60_000 };
        assert_eq!(charter(&charter_in(Some(sent.clone())).unwrap()), sent);
        assert_eq!(charter_in(None).unwrap_err().field(), Some("charter"));
        for policies in [
            vec![rule, rule],
            vec![pb::PolicyRule { action: 9, policy: 1 }],
            vec![pb::PolicyRule { action: 1, policy: 0 }],
        ] {
            let wrong = pb::Charter { policies, ..sent.clone() };
            assert_eq!(charter_in(Some(wrong)).unwrap_err().field(), Some("charter.policies"));
        }
        let wrong = pb::Charter { voting_period_ms: -1, ..sent };
        assert_eq!(charter_in(Some(wrong)).unwrap_err().field(), Some("charter.voting_period_ms"));
    }
}
