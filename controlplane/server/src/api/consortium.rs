//! ConsortiumService: charters, members, proposals, ballots.

use std::cmp::Reverse;

use hanse_proto::v1 as pb;
use hanse_proto::v1::consortium_service_server::ConsortiumService;
use hanse_state::consortium::ballot::CastBallot;
use hanse_state::consortium::proposal::{Action, OpenProposal, Proposal};
use hanse_state::consortium::{ActivateConsortium, CreateConsortium, InviteMember, JoinConsortium};
use hanse_state::ids::{ConsortiumId, ProposalId, ProposalKey, TenantId};
use hanse_state::{Command, Outcome};
use tonic::{Request, Response, Status};

use super::page::{Order, PAGE_DEFAULT, Page};
use super::{Call, Wish, convert, found, matches};
use crate::context::Context;
use crate::error::ApiError;
use crate::propose::Done;

/// What several tenants decide together.
pub(crate) struct Consortiums(Context);

impl Consortiums {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }
}

/// The tenant in whose name the caller acts.
fn own_tenant(call: &Call) -> Result<TenantId, ApiError> {
    let denied = || {
        let advice = "log in with an account of the tenant; the platform has no vote";
        ApiError::denied("an account of the platform cannot act for a tenant", advice)
    };
    call.caller.tenant().cloned().ok_or_else(denied)
}

/// Writes and shows the consortium as it is after it.
async fn change(
    call: &Call,
    wish: Wish<'_>,
    id: &ConsortiumId,
    command: Command,
) -> Result<(Option<pb::ResponseHeader>, Option<pb::Consortium>), ApiError> {
    let done = call.write(wish, command).await?;
    let it = found("consortium", done.state.consortiums.get(id))?;
    Ok((call.header(done.revision), Some(convert::consortium::consortium(it))))
}

fn shown(
    call: &Call,
    done: &Done,
    key: &ProposalKey,
) -> Result<(Option<pb::ResponseHeader>, Option<pb::Proposal>), ApiError> {
    let it = found("proposal", done.state.proposals.get(key))?;
    Ok((call.header(done.revision), Some(convert::consortium::proposal(it))))
}

/// Puts this platform's key where a chain is to record its audit trail: no other platform's heads would ever come.
fn put_key(context: &Context, action: &mut Action) -> Result<(), ApiError> {
    let Action::CreateChain(spec) = action else { return Ok(()) };
    let Some(key) = &mut spec.anchor else { return Ok(()) };
    let own = context.trail().verifier()?.to_string();
    if key.is_empty() {
        *key = own;
    } else if *key != own {
        let advice = "leave it empty, and compare what is then voted on with audit.vkey of the authority's folder";
        return Err(ApiError::invalid("action.create_chain.anchor.key", "is not this platform's key", advice));
    }
    Ok(())
}

#[tonic::async_trait]
impl ConsortiumService for Consortiums {
    async fn create_consortium(
        &self,
        request: Request<pb::CreateConsortiumRequest>,
    ) -> Result<Response<pb::CreateConsortiumResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let id: ConsortiumId = convert::id("consortium", &it.consortium)?;
        let command = Command::CreateConsortium(CreateConsortium {
            consortium: id.clone(),
            display_name: convert::text("display_name", it.display_name)?,
            charter: convert::consortium::charter_in(it.charter)?,
            founder: own_tenant(&call)?,
            founder_weight: convert::consortium::weight_in(it.weight),
            member_key: convert::hex("member_key", &it.member_key)?,
        });
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let (header, consortium) = change(&call, wish, &id, command).await?;
        Ok(Response::new(pb::CreateConsortiumResponse { header, consortium }))
    }

    async fn get_consortium(
        &self,
        request: Request<pb::GetConsortiumRequest>,
    ) -> Result<Response<pb::GetConsortiumResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let id = convert::id("consortium", &request.get_ref().consortium)?;
        let consortium = Some(convert::consortium::consortium(call.sight().consortium(&id)?));
        Ok(Response::new(pb::GetConsortiumResponse { header: call.read_header(), consortium }))
    }

    async fn list_consortiums(
        &self,
        request: Request<pb::ListConsortiumsRequest>,
    ) -> Result<Response<pb::ListConsortiumsResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<ConsortiumId>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let sight = call.sight();
        let seen =
            call.state.consortiums.iter().filter(|(id, one)| {
                sight.sees_consortium(id) && matches(&it.filter, &[id.as_str(), &one.display_name])
            });
        let (consortiums, next_page_token) =
            page.take(Order::Ascending, seen.map(|(id, one)| (id.clone(), convert::consortium::consortium(one))));
        Ok(Response::new(pb::ListConsortiumsResponse { header: call.read_header(), consortiums, next_page_token }))
    }

    async fn invite_member(
        &self,
        request: Request<pb::InviteMemberRequest>,
    ) -> Result<Response<pb::InviteMemberResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let id: ConsortiumId = convert::id("consortium", &it.consortium)?;
        call.sight().consortium(&id)?;
        let command = Command::InviteMember(InviteMember {
            consortium: id.clone(),
            tenant: convert::id("tenant", &it.tenant)?,
            weight: convert::consortium::weight_in(it.weight),
        });
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let (header, consortium) = change(&call, wish, &id, command).await?;
        Ok(Response::new(pb::InviteMemberResponse { header, consortium }))
    }

    async fn join_consortium(
        &self,
        request: Request<pb::JoinConsortiumRequest>,
    ) -> Result<Response<pb::JoinConsortiumResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let id: ConsortiumId = convert::id("consortium", &it.consortium)?;
        call.sight().consortium(&id)?;
        let command = Command::JoinConsortium(JoinConsortium {
            consortium: id.clone(),
            tenant: own_tenant(&call)?,
            member_key: convert::hex("member_key", &it.member_key)?,
            proof: convert::hex("proof", &it.proof)?,
        });
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let (header, consortium) = change(&call, wish, &id, command).await?;
        Ok(Response::new(pb::JoinConsortiumResponse { header, consortium }))
    }

    async fn activate_consortium(
        &self,
        request: Request<pb::ActivateConsortiumRequest>,
    ) -> Result<Response<pb::ActivateConsortiumResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let id: ConsortiumId = convert::id("consortium", &it.consortium)?;
        call.sight().consortium(&id)?;
        let command = Command::ActivateConsortium(ActivateConsortium { consortium: id.clone() });
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let (header, consortium) = change(&call, wish, &id, command).await?;
        Ok(Response::new(pb::ActivateConsortiumResponse { header, consortium }))
    }

    async fn open_proposal(
        &self,
        request: Request<pb::OpenProposalRequest>,
    ) -> Result<Response<pb::OpenProposalResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let id: ConsortiumId = convert::id("consortium", &it.consortium)?;
        call.sight().consortium(&id)?;
        let period = convert::consortium::period("voting_period_ms", it.voting_period_ms)?;
        let mut action = convert::consortium::action_in(&call.state, &id, it.action)?;
        put_key(&self.0, &mut action)?;
        super::height::check(&call, &id, &it.request_id, &action)?;
        let command = Command::OpenProposal(OpenProposal {
            consortium: id,
            title: convert::text("title", it.title)?,
            action,
            voting_period_ms: (period != 0).then_some(period),
        });
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, command).await?;
        let Outcome::ProposalOpened { proposal: key, .. } = &done.outcome else {
            return Err(ApiError::internal("open proposal", "another outcome than a proposal").into());
        };
        let (header, proposal) = shown(&call, &done, key)?;
        Ok(Response::new(pb::OpenProposalResponse { header, proposal }))
    }

    async fn get_proposal(
        &self,
        request: Request<pb::GetProposalRequest>,
    ) -> Result<Response<pb::GetProposalResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.get_ref();
        let key = proposal_key(&it.consortium, &it.proposal)?;
        let proposal = Some(convert::consortium::proposal(call.sight().proposal(&key)?));
        Ok(Response::new(pb::GetProposalResponse { header: call.read_header(), proposal }))
    }

    async fn list_proposals(
        &self,
        request: Request<pb::ListProposalsRequest>,
    ) -> Result<Response<pb::ListProposalsResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<ProposalId>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let id: ConsortiumId = convert::id("consortium", &it.consortium)?;
        call.sight().consortium(&id)?;
        let wanted = |one: &Proposal| {
            let outcome = i32::from(convert::consortium::outcome(one.state));
            (it.outcome == 0 || it.outcome == outcome)
                && matches(&it.filter, &[&one.key.proposal.to_string(), &one.title])
        };
        let from = ProposalKey::new(id.clone(), ProposalId::new(0));
        let of = call.state.proposals.range(from..).take_while(|(key, _)| key.consortium == id);
        let mut items: Vec<_> = of.filter(|(_, one)| wanted(one)).map(|(key, one)| (key.proposal, one)).collect();
        items.sort_by_key(|(number, _)| Reverse(*number));
        let (found, next_page_token) = page.take(Order::Descending, items.into_iter());
        let proposals = found.into_iter().map(convert::consortium::proposal).collect();
        Ok(Response::new(pb::ListProposalsResponse { header: call.read_header(), proposals, next_page_token }))
    }

    async fn cast_ballot(
        &self,
        request: Request<pb::CastBallotRequest>,
    ) -> Result<Response<pb::CastBallotResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let key = proposal_key(&it.consortium, &it.proposal)?;
        call.sight().proposal(&key)?;
        let command = Command::CastBallot(CastBallot {
            proposal: key.clone(),
            voter: convert::id("voter", &it.voter)?,
            choice: convert::consortium::choice_in(it.choice)?,
            artifact_hash: convert::hex("artifact_hash", &it.artifact_hash)?,
            signature: convert::hex("signature", &it.signature)?,
        });
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, command).await?;
        let (header, proposal) = shown(&call, &done, &key)?;
        Ok(Response::new(pb::CastBallotResponse { header, proposal }))
    }
}

fn proposal_key(consortium: &str, proposal: &str) -> Result<ProposalKey, ApiError> {
    Ok(ProposalKey::new(convert::id("consortium", consortium)?, convert::id("proposal", proposal)?))
}
