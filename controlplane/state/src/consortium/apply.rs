//! Rules of founding and joining: all checks, then all changes.

use std::collections::BTreeMap;

use super::ballot::join_text;
use super::policy::ActionKind;
use super::{
    ActivateConsortium, CONSORTIUMS_MAX, Charter, Consortium, ConsortiumState, CreateConsortium, InviteMember,
    JoinConsortium, MEMBERS_MAX, Member, MemberState, VOTING_PERIOD_MS_MAX, VOTING_PERIOD_MS_MIN, WEIGHT_MAX, query,
};
use crate::apply::Cx;
use crate::check;
use crate::command::Outcome;
use crate::digest::PublicKey;
use crate::{Rejection, State, name};

pub(crate) fn create(state: &mut State, cx: &mut Cx<'_>, c: &CreateConsortium) -> Result<Outcome, Rejection> {
    let resource = name::consortium(&c.consortium);
    if state.consortiums.contains_key(&c.consortium) {
        return Err(Rejection::AlreadyExists { field: "consortium".into(), what: resource });
    }
    check::text("display_name", &c.display_name, check::DISPLAY_NAME_MAX)?;
    check_charter(&c.charter)?;
    check::range("founder_weight", c.founder_weight, 1, WEIGHT_MAX)?;
    check::quota("consortium", "the number of consortiums", state.consortiums.len(), CONSORTIUMS_MAX)?;

    let founder = Member {
        weight: c.founder_weight,
        state: MemberState::Active,
        key: Some(c.member_key),
        joined_at: Some(cx.now),
    };
    let consortium = Consortium {
        id: c.consortium.clone(),
        display_name: c.display_name.clone(),
        charter: c.charter.clone(),
        founder: c.founder.clone(),
        state: ConsortiumState::Forming,
        state_since: cx.now,
        members: BTreeMap::from([(c.founder.clone(), founder)]),
        version: 1,
        last_proposal: 0,
        created_at: cx.now,
    };
    state.consortiums.insert(c.consortium.clone(), consortium);
    cx.created(resource.clone());
    Ok(Outcome::Done { resource })
}

pub(crate) fn invite(state: &mut State, cx: &mut Cx<'_>, c: &InviteMember) -> Result<Outcome, Rejection> {
    let mut consortium = forming(state, &c.consortium)?;
    crate::tenant::query::get(state, &c.tenant)?;
    if consortium.members.contains_key(&c.tenant) {
        let what = format!("{}/members/{}", name::consortium(&c.consortium), c.tenant);
        return Err(Rejection::AlreadyExists { field: "tenant".into(), what });
    }
    check::range("weight", c.weight, 1, WEIGHT_MAX)?;
    check::quota("tenant", "the number of members", consortium.members.len(), MEMBERS_MAX)?;

    let member = Member { weight: c.weight, state: MemberState::Invited, key: None, joined_at: None };
    consortium.members.insert(c.tenant.clone(), member);
    Ok(put(state, cx, consortium))
}

pub(crate) fn join(state: &mut State, cx: &mut Cx<'_>, c: &JoinConsortium) -> Result<Outcome, Rejection> {
    let cluster = check::cluster_id(state)?;
    let mut consortium = forming(state, &c.consortium)?;
    let Some(member) = consortium.members.get(&c.tenant) else {
        let (tenant, what) = (c.tenant.to_string(), name::consortium(&c.consortium));
        return Err(Rejection::NotAMember { field: "tenant".into(), tenant, what });
    };
    if member.state == MemberState::Active {
        let what = format!("{}/members/{}", name::consortium(&c.consortium), c.tenant);
        return Err(Rejection::AlreadyExists { field: "tenant".into(), what });
    }
    check_key_unused(&consortium, &c.member_key)?;
    let text = join_text(cluster, &c.consortium, &c.tenant, &c.member_key);
    if !c.member_key.verifies(text.as_bytes(), &c.proof) {
        let holder = name::tenant(&c.tenant);
        return Err(Rejection::WrongKey { field: "proof".into(), holder, key: c.member_key.to_string() });
    }

    let member =
        Member { weight: member.weight, state: MemberState::Active, key: Some(c.member_key), joined_at: Some(cx.now) };
    consortium.members.insert(c.tenant.clone(), member);
    Ok(put(state, cx, consortium))
}

pub(crate) fn activate(state: &mut State, cx: &mut Cx<'_>, c: &ActivateConsortium) -> Result<Outcome, Rejection> {
    let mut consortium = forming(state, &c.consortium)?;

    consortium.members.retain(|_, member| member.state == MemberState::Active);
    consortium.state = ConsortiumState::Active;
    consortium.state_since = cx.now;
    Ok(put(state, cx, consortium))
}

fn put(state: &mut State, cx: &mut Cx<'_>, mut consortium: Consortium) -> Outcome {
    let resource = name::consortium(&consortium.id);
    consortium.version += 1;
    state.consortiums.insert(consortium.id.clone(), consortium);
    cx.updated(resource.clone());
    Outcome::Done { resource }
}

fn forming(state: &State, id: &crate::ids::ConsortiumId) -> Result<Consortium, Rejection> {
    let consortium = query::get(state, id)?;
    match consortium.state {
        ConsortiumState::Forming => Ok(consortium.clone()),
        ConsortiumState::Active => Err(check::wrong_state(
            "consortium",
            name::consortium(id),
            consortium.state,
            "members change only while it is forming",
        )),
    }
}

fn check_charter(charter: &Charter) -> Result<(), Rejection> {
    let missing = ActionKind::NAMED.iter().find(|kind| !charter.policies.contains_key(kind));
    if let Some(kind) = missing {
        return Err(check::invalid("charter.policies", "incomplete", format!("with a policy for {kind:?}")));
    }
    let (min, max) = (VOTING_PERIOD_MS_MIN, VOTING_PERIOD_MS_MAX);
    check::range("charter.voting_period_ms", charter.voting_period_ms, min, max)
}

fn check_key_unused(consortium: &Consortium, key: &PublicKey) -> Result<(), Rejection> {
    if consortium.members.values().any(|member| member.key.as_ref() == Some(key)) {
        return Err(check::invalid("member_key", key, "a key that no other member has"));
    }
    Ok(())
}
