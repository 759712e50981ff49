//! Rules of voting: all checks, then all changes; the deciding ballot's entry carries the consequence.

use super::ballot::{Ballot, CastBallot, Choice, ballot_text};
use super::policy::Verdict;
use super::proposal::{
    Action, CloseProposal, Elector, OPEN_PROPOSALS_MAX, OpenProposal, PROPOSALS_MAX, Proposal, ProposalState,
    TITLE_MAX, artifact, tally,
};
use super::{Consortium, ConsortiumState, VOTING_PERIOD_MS_MAX, VOTING_PERIOD_MS_MIN, query};
use crate::apply::Cx;
use crate::command::Outcome;
use crate::digest::Digest;
use crate::ids::{ConsortiumId, OperationId, ProposalId, ProposalKey};
use crate::{Rejection, State, chain, check, name};

pub(crate) fn open(state: &mut State, cx: &mut Cx<'_>, c: &OpenProposal) -> Result<Outcome, Rejection> {
    let mut consortium = voting(state, &c.consortium)?;
    let account = cx.account().cloned();
    let Some((opened_by, proposer)) = account.and_then(|id| id.tenant().cloned().map(|tenant| (id, tenant))) else {
        let (tenant, what) = (cx.request.actor.to_string(), name::consortium(&c.consortium));
        return Err(Rejection::NotAMember { field: "actor".into(), tenant, what });
    };
    check::text("title", &c.title, TITLE_MAX)?;
    let period = c.voting_period_ms.unwrap_or(consortium.charter.voting_period_ms);
    check::range("voting_period_ms", period, VOTING_PERIOD_MS_MIN, VOTING_PERIOD_MS_MAX)?;
    check_room(state, &consortium)?;
    check_action(state, &consortium, &c.action)?;
    let Some(policy) = consortium.charter.policy(c.action.kind()) else {
        return Err(check::invalid("action", format!("{:?}", c.action.kind()), "a kind that the charter knows"));
    };

    consortium.last_proposal += 1;
    consortium.version += 1;
    let key = ProposalKey::new(c.consortium.clone(), ProposalId::new(consortium.last_proposal));
    let artifact = artifact(&c.action);
    let proposal = Proposal {
        key: key.clone(),
        title: c.title.clone(),
        action: c.action.clone(),
        artifact_hash: Digest::of(artifact.as_bytes()),
        artifact,
        proposer,
        opened_by,
        opened_at: cx.now,
        deadline: cx.now.plus(period),
        policy,
        electorate: electorate(&consortium),
        ballots: std::collections::BTreeMap::new(),
        state: ProposalState::Open,
        state_since: cx.now,
        operation: None,
    };
    let (artifact_hash, deadline) = (proposal.artifact_hash, proposal.deadline);
    cx.updated(name::consortium(&c.consortium));
    cx.created(name::proposal(&key));
    state.consortiums.insert(c.consortium.clone(), consortium);
    state.proposals.insert(key.clone(), proposal);
    Ok(Outcome::ProposalOpened { proposal: key, artifact_hash, deadline })
}

/// The consortium, if it votes.
fn voting(state: &State, id: &ConsortiumId) -> Result<Consortium, Rejection> {
    let consortium = query::get(state, id)?;
    if consortium.state == ConsortiumState::Active {
        return Ok(consortium.clone());
    }
    Err(check::wrong_state("consortium", name::consortium(id), consortium.state, "it must be active to vote"))
}

fn check_action(state: &State, consortium: &Consortium, action: &Action) -> Result<(), Rejection> {
    match action {
        Action::CreateChain(spec) => chain::apply::check_spec(state, consortium, spec),
        Action::ChangeChain(change) => chain::life_apply::check_vote(state, consortium, change),
    }
}

/// What a vote orders once it has passed.
fn carry_out(state: &mut State, cx: &mut Cx<'_>, proposal: &Proposal) -> Option<OperationId> {
    match &proposal.action {
        Action::CreateChain(spec) => Some(chain::apply::order(state, cx, &proposal.key, proposal.artifact_hash, spec)),
        Action::ChangeChain(change) => {
            let said_yes = proposal.ballots.iter().filter(|(_, ballot)| ballot.choice == Choice::Yes);
            let consent = said_yes.map(|(tenant, _)| tenant.clone()).collect();
            chain::life_apply::order(state, cx, &proposal.key.consortium, change, &proposal.title, &consent)
        }
    }
}

/// What the ballots so far make certain: the charter's policy, and that whoever must agree does.
fn verdict(state: &State, proposal: &Proposal) -> Verdict {
    let verdict = tally(proposal).verdict;
    let Action::ChangeChain(change) = &proposal.action else { return verdict };
    let must = chain::life_apply::must_agree(state, &proposal.key.consortium, change);
    let choices = || must.iter().map(|tenant| proposal.ballots.get(tenant).map(|ballot| ballot.choice));
    match verdict {
        Verdict::Passed | Verdict::Open if choices().flatten().any(|choice| choice != Choice::Yes) => Verdict::Rejected,
        Verdict::Passed if choices().any(|choice| choice.is_none()) => Verdict::Open,
        Verdict::Passed | Verdict::Rejected | Verdict::Open => verdict,
    }
}

/// Does what a proposal would order, were it open and passed.
pub(crate) fn foresee(state: &mut State, cx: &mut Cx<'_>, c: &OpenProposal) -> Result<(), Rejection> {
    let consortium = voting(state, &c.consortium)?;
    check_action(state, &consortium, &c.action)?;

    let key = ProposalKey::new(c.consortium.clone(), ProposalId::new(consortium.last_proposal + 1));
    match &c.action {
        Action::CreateChain(spec) => {
            let hash = Digest::of(artifact(&c.action).as_bytes());
            chain::apply::order(state, cx, &key, hash, spec);
        }
        Action::ChangeChain(change) => {
            let all = electorate(&consortium).into_keys().collect();
            chain::life_apply::order(state, cx, &c.consortium, change, &c.title, &all);
        }
    }
    Ok(())
}

/// Does what an open proposal orders if it passes.
pub(crate) fn foresee_passed(state: &mut State, cx: &mut Cx<'_>, key: &ProposalKey) -> Result<(), Rejection> {
    let proposal = query::get_proposal(state, key)?.clone();
    if proposal.state != ProposalState::Open {
        let needs = "only a vote that is open can still change something";
        return Err(check::wrong_state("proposal", name::proposal(key), proposal.state, needs));
    }
    if let Action::ChangeChain(change) = &proposal.action {
        chain::life_apply::check_ballot(state, &key.consortium, change)?;
    }

    carry_out(state, cx, &proposal);
    Ok(())
}

pub(crate) fn cast(state: &mut State, cx: &mut Cx<'_>, c: &CastBallot) -> Result<Outcome, Rejection> {
    let mut proposal = query::get_proposal(state, &c.proposal)?.clone();
    check_ballot(state, cx, &proposal, c)?;

    let ballot = Ballot { choice: c.choice, signature: c.signature, at: cx.now };
    proposal.ballots.insert(c.voter.clone(), ballot);
    match verdict(state, &proposal) {
        Verdict::Open => {}
        Verdict::Rejected => decide(cx, &mut proposal, ProposalState::Rejected),
        Verdict::Passed => {
            decide(cx, &mut proposal, ProposalState::Passed);
            proposal.operation = carry_out(state, cx, &proposal);
        }
    }
    let (decided, operation) = (proposal.state, proposal.operation);
    state.proposals.insert(c.proposal.clone(), proposal);
    cx.updated(name::proposal(&c.proposal));
    Ok(Outcome::BallotCast { proposal: c.proposal.clone(), state: decided, operation })
}

pub(crate) fn close(state: &mut State, cx: &mut Cx<'_>, c: &CloseProposal) -> Result<Outcome, Rejection> {
    let mut proposal = query::get_proposal(state, &c.proposal)?.clone();
    let resource = name::proposal(&c.proposal);
    if proposal.state != ProposalState::Open {
        return Ok(Outcome::Unchanged { resource });
    }
    if cx.now < proposal.deadline {
        return Err(check::wrong_state("proposal", resource, proposal.state, "its deadline has not come"));
    }

    decide(cx, &mut proposal, ProposalState::Expired);
    state.proposals.insert(c.proposal.clone(), proposal);
    cx.updated(resource.clone());
    Ok(Outcome::Done { resource })
}

fn decide(cx: &Cx<'_>, proposal: &mut Proposal, state: ProposalState) {
    proposal.state = state;
    proposal.state_since = cx.now;
}

fn check_ballot(state: &State, cx: &Cx<'_>, proposal: &Proposal, c: &CastBallot) -> Result<(), Rejection> {
    let cluster = check::cluster_id(state)?;
    let resource = name::proposal(&c.proposal);
    let Some(elector) = proposal.electorate.get(&c.voter) else {
        return Err(Rejection::NotAMember { field: "voter".into(), tenant: c.voter.to_string(), what: resource });
    };
    if let Some(ballot) = proposal.ballots.get(&c.voter) {
        let choice = ballot.choice.word().into();
        return Err(Rejection::AlreadyVoted { voter: c.voter.to_string(), choice, proposal: resource });
    }
    let is_late = proposal.state == ProposalState::Open && cx.now >= proposal.deadline;
    match proposal.state {
        ProposalState::Open if !is_late => {}
        ProposalState::Open | ProposalState::Expired => {
            return Err(Rejection::DeadlinePassed { proposal: resource, deadline: proposal.deadline, now: cx.now });
        }
        ProposalState::Passed | ProposalState::Rejected => {
            return Err(check::wrong_state("proposal", resource, proposal.state, "the vote is decided"));
        }
    }
    if let Action::ChangeChain(change) = &proposal.action {
        chain::life_apply::check_ballot(state, &proposal.key.consortium, change)?;
    }
    if c.artifact_hash != proposal.artifact_hash {
        let (expected, given) = (proposal.artifact_hash.to_string(), c.artifact_hash.to_string());
        return Err(Rejection::ArtifactMismatch { proposal: resource, expected, given });
    }
    let text = ballot_text(cluster, &c.proposal, &c.artifact_hash, &c.voter, c.choice);
    if !elector.key.verifies(text.as_bytes(), &c.signature) {
        let (holder, key) = (name::tenant(&c.voter), elector.key.to_string());
        return Err(Rejection::WrongKey { field: "signature".into(), holder, key });
    }
    Ok(())
}

fn check_room(state: &State, consortium: &Consortium) -> Result<(), Rejection> {
    let first = ProposalKey::new(consortium.id.clone(), ProposalId::new(0));
    let of =
        || state.proposals.range(first.clone()..).map(|(_, p)| p).take_while(|p| p.key.consortium == consortium.id);
    let open = of().filter(|proposal| proposal.state == ProposalState::Open).count();
    check::quota("consortium", "the number of open proposals", open, OPEN_PROPOSALS_MAX)?;
    check::quota("consortium", "the number of proposals", of().count(), PROPOSALS_MAX)
}

fn electorate(consortium: &Consortium) -> std::collections::BTreeMap<crate::ids::TenantId, Elector> {
    // An active member always has a key.
    let active = consortium.members.iter().filter_map(|(tenant, member)| Some((tenant, member, member.key?)));
    active.map(|(tenant, member, key)| (tenant.clone(), Elector { weight: member.weight, key })).collect()
}
