//! Rules of replicas: all checks, then all changes.

use super::{
    ADDRESS_MAX, AddReplica, PromoteReplica, REASON_MAX, REPLICA_ID_MAX, REPLICAS_EVER_MAX, REPLICAS_MAX,
    RecordReplica, RemoveReplica, Replica, ReplicaFact, Replicas, Standing, TransferLeader, Wish,
};
use crate::apply::Cx;
use crate::command::Outcome;
use crate::{Rejection, State, check, name};

pub(crate) fn add(state: &mut State, cx: &mut Cx<'_>, c: &AddReplica) -> Result<Outcome, Rejection> {
    let replicas = known(state)?;
    address("peer_address", &c.peer_address)?;
    address("api_address", &c.api_address)?;
    reason(&c.reason)?;
    check::range("floor", c.floor, 0, REPLICA_ID_MAX)?;
    check::quota("replica", "replicas ever", replicas.by_id.len(), REPLICAS_EVER_MAX)?;
    if let Some(old) = c.replaces {
        if let Some(again) = check_replace(replicas, old, c)? {
            return Ok(again);
        }
    } else {
        let count = replicas.present().filter(|(_, it)| it.wish != Wish::Gone).count();
        check::quota("replica", "the number of replicas", count, REPLICAS_MAX)?;
    }
    check_free(replicas, c)?;

    let id = replicas.last_id.max(c.floor) + 1;
    let replica = Replica {
        peer_address: c.peer_address.clone(),
        api_address: c.api_address.clone(),
        wish: if c.vote { Wish::Voter } else { Wish::Learner },
        standing: Standing::Ordered,
        replaces: c.replaces,
        incarnation: None,
        forced: false,
        reason: c.reason.clone(),
        ordered_at: cx.now,
        since: cx.now,
    };
    let replicas = of(state)?;
    replicas.last_id = id;
    replicas.by_id.insert(id, replica);
    cx.created(name::replica(id));
    Ok(Outcome::Done { resource: name::replica(id) })
}

/// A replacement may be ordered again as it was: it is under way, and goes on.
fn check_replace(replicas: &Replicas, old: u64, c: &AddReplica) -> Result<Option<Outcome>, Rejection> {
    let found = get(replicas, "replaces", old)?;
    if !c.vote {
        return Err(check::invalid("vote", c.vote, "true for a replica that replaces a voter"));
    }
    let newer = replicas.present().find(|(_, it)| it.replaces == Some(old) && it.wish != Wish::Gone);
    if let Some((id, it)) = newer {
        if (&it.peer_address, &it.api_address) == (&c.peer_address, &c.api_address) {
            return Ok(Some(Outcome::Unchanged { resource: name::replica(id) }));
        }
        let what = name::replica(old);
        let needs = format!("it is being replaced by {}: remove that one first", name::replica(id));
        return Err(check::wrong_state("replaces", what, found.standing, &needs));
    }
    if found.standing == Standing::Gone {
        return Err(check::wrong_state("replaces", name::replica(old), "gone", "add a replica instead"));
    }
    Ok(None)
}

/// Two replicas never share an address, but that a new one may take the machine of the one it replaces.
fn check_free(replicas: &Replicas, c: &AddReplica) -> Result<(), Rejection> {
    for (id, it) in replicas.present().filter(|(id, _)| Some(*id) != c.replaces) {
        for (field, given) in [("peer_address", &c.peer_address), ("api_address", &c.api_address)] {
            if [&it.peer_address, &it.api_address].contains(&given) {
                return Err(check::invalid(field, given, format!("free; {} has it", name::replica(id))));
            }
        }
    }
    if c.peer_address == c.api_address {
        return Err(check::invalid("api_address", &c.api_address, "another than peer_address"));
    }
    Ok(())
}

pub(crate) fn promote(state: &mut State, cx: &mut Cx<'_>, c: &PromoteReplica) -> Result<Outcome, Rejection> {
    let replicas = known(state)?;
    let mut replica = get(replicas, "replica", c.replica)?.clone();
    check_forced(c.forced, &c.reason)?;
    if replica.wish == Wish::Gone {
        return Err(leaving(c.replica, &replica));
    }
    let resource = name::replica(c.replica);
    if replica.wish == Wish::Voter && (replica.standing == Standing::Voter || replica.forced >= c.forced) {
        return Ok(Outcome::Unchanged { resource });
    }

    (replica.wish, replica.forced, replica.reason) = (Wish::Voter, c.forced, c.reason.clone());
    put(state, cx, c.replica, replica)
}

pub(crate) fn remove(state: &mut State, cx: &mut Cx<'_>, c: &RemoveReplica) -> Result<Outcome, Rejection> {
    let replicas = known(state)?;
    let mut replica = get(replicas, "replica", c.replica)?.clone();
    check_forced(c.forced, &c.reason)?;
    let resource = name::replica(c.replica);
    if replica.standing == Standing::Gone || replica.wish == Wish::Gone && replica.forced >= c.forced {
        return Ok(Outcome::Unchanged { resource });
    }
    check_last(replicas, c.replica)?;

    (replica.wish, replica.forced, replica.reason) = (Wish::Gone, c.forced, c.reason.clone());
    put(state, cx, c.replica, replica)
}

/// Whoever goes, one that votes and shall vote stays.
fn check_last(replicas: &Replicas, id: u64) -> Result<(), Rejection> {
    let stays = |(other, it): (u64, &Replica)| other != id && it.wish == Wish::Voter && it.standing == Standing::Voter;
    if replicas.present().any(stays) {
        return Ok(());
    }
    let needs = "it is the last voter: add another and promote it first";
    Err(check::wrong_state("replica", name::replica(id), "voter", needs))
}

pub(crate) fn transfer(state: &mut State, c: &TransferLeader) -> Result<Outcome, Rejection> {
    let replica = get(known(state)?, "replica", c.replica)?;
    reason(&c.reason)?;
    if replica.wish == Wish::Gone {
        return Err(leaving(c.replica, replica));
    }
    if replica.standing != Standing::Voter {
        let needs = "only a voter can lead: promote it first";
        return Err(check::wrong_state("replica", name::replica(c.replica), replica.standing, needs));
    }
    Ok(Outcome::Done { resource: name::replica(c.replica) })
}

pub(crate) fn record(state: &mut State, cx: &mut Cx<'_>, c: &RecordReplica) -> Result<Outcome, Rejection> {
    let replicas = known(state)?;
    check::range("replica", c.replica, 1, REPLICA_ID_MAX)?;
    if let (ReplicaFact::Member { peer_address, api_address, votes }, None) = (&c.fact, replicas.by_id.get(&c.replica))
    {
        address("peer_address", peer_address)?;
        address("api_address", api_address)?;
        check::quota("replica", "replicas ever", replicas.by_id.len(), REPLICAS_EVER_MAX)?;
        let (wish, standing) = if *votes { (Wish::Voter, Standing::Voter) } else { (Wish::Learner, Standing::Learner) };
        let replica = Replica {
            peer_address: peer_address.clone(),
            api_address: api_address.clone(),
            wish,
            standing,
            replaces: None,
            incarnation: None,
            forced: false,
            reason: String::new(),
            ordered_at: cx.now,
            since: cx.now,
        };
        return put(state, cx, c.replica, replica);
    }
    let mut replica = get(replicas, "replica", c.replica)?.clone();
    if replica.standing == Standing::Gone {
        return match c.fact {
            ReplicaFact::Gone => Ok(Outcome::Unchanged { resource: name::replica(c.replica) }),
            ReplicaFact::Member { .. } | ReplicaFact::Heard { .. } => Err(Rejection::ConflictingFact {
                field: "fact".into(),
                what: format!("{} is gone for ever", name::replica(c.replica)),
            }),
        };
    }
    match &c.fact {
        ReplicaFact::Member { votes, .. } => return seen(state, cx, c.replica, replica, *votes),
        ReplicaFact::Heard { incarnation } => {
            check_incarnation(c.replica, &replica, incarnation)?;
            replica.incarnation = Some(incarnation.clone());
        }
        ReplicaFact::Gone => {
            if replica.wish != Wish::Gone {
                let what = format!("nobody ordered that {} goes", name::replica(c.replica));
                return Err(Rejection::ConflictingFact { field: "fact".into(), what });
            }
            (replica.standing, replica.since) = (Standing::Gone, cx.now);
        }
    }
    put(state, cx, c.replica, replica)
}

/// A member with or without a vote; the first vote of a replacement sends the replaced one away in the same entry.
fn seen(state: &mut State, cx: &mut Cx<'_>, id: u64, mut replica: Replica, votes: bool) -> Result<Outcome, Rejection> {
    let standing = if votes { Standing::Voter } else { Standing::Learner };
    if replica.standing == standing {
        return Ok(Outcome::Unchanged { resource: name::replica(id) });
    }
    (replica.standing, replica.since) = (standing, cx.now);
    let replaces = replica.replaces.filter(|_| votes && replica.wish == Wish::Voter);
    let outcome = put(state, cx, id, replica)?;
    if let Some(old) = replaces
        && let Some(mut replaced) = known(state)?.by_id.get(&old).cloned()
        && replaced.wish != Wish::Gone
    {
        (replaced.wish, replaced.reason) = (Wish::Gone, format!("replaced by {}", name::replica(id)));
        put(state, cx, old, replaced)?;
    }
    Ok(outcome)
}

fn check_incarnation(id: u64, replica: &Replica, incarnation: &str) -> Result<(), Rejection> {
    if incarnation.len() != 32 || !incarnation.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(check::invalid("incarnation", incarnation, "32 hex digits"));
    }
    match &replica.incarnation {
        Some(known) if known != incarnation => Err(Rejection::ConflictingFact {
            field: "incarnation".into(),
            what: format!("{} was first seen as {known}, not {incarnation}", name::replica(id)),
        }),
        Some(_) | None => Ok(()),
    }
}

fn known(state: &State) -> Result<&Replicas, Rejection> {
    check::cluster_id(state)?;
    state.cluster.as_ref().map(|cluster| &cluster.replicas).ok_or_else(unnamed)
}

fn of(state: &mut State) -> Result<&mut Replicas, Rejection> {
    state.cluster.as_mut().map(|cluster| &mut cluster.replicas).ok_or_else(unnamed)
}

fn unnamed() -> Rejection {
    check::wrong_state("cluster", "the cluster".into(), "not initialised", "the first leader names it")
}

fn get<'a>(replicas: &'a Replicas, field: &str, id: u64) -> Result<&'a Replica, Rejection> {
    let missing = || Rejection::NotFound { field: field.into(), what: name::replica(id) };
    replicas.by_id.get(&id).ok_or_else(missing)
}

fn put(state: &mut State, cx: &mut Cx<'_>, id: u64, replica: Replica) -> Result<Outcome, Rejection> {
    let resource = name::replica(id);
    let replicas = of(state)?;
    replicas.last_id = replicas.last_id.max(id);
    if replicas.by_id.insert(id, replica).is_some() {
        cx.updated(resource.clone());
    } else {
        cx.created(resource.clone());
    }
    Ok(Outcome::Done { resource })
}

fn leaving(id: u64, replica: &Replica) -> Rejection {
    check::wrong_state("replica", name::replica(id), replica.standing, "it was ordered to go; add a new replica")
}

fn address(field: &str, text: &str) -> Result<(), Rejection> {
    let form = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
    let plain = !text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '/' || c == '@');
    if text.len() <= ADDRESS_MAX && plain && text.rsplit_once(':').is_some_and(form) {
        return Ok(());
    }
    Err(check::invalid(field, text, "host:port"))
}

fn reason(text: &str) -> Result<(), Rejection> {
    if text.is_empty() { Ok(()) } else { check::text("reason", text, REASON_MAX) }
}

fn check_forced(forced: bool, text: &str) -> Result<(), Rejection> {
    if forced { check::text("reason", text, REASON_MAX) } else { reason(text) }
}
