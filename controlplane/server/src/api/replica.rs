//! ReplicaService: who belongs to the control plane.
//!
//! An order is an entry; the leader's reconciler carries it out. What can only be judged by looking (who answers, who
//! lags) is judged here, on the leader, before the entry: an unsafe order is refused unless the caller insists and says
//! why, which the entry then holds. The reconciler judges again before it acts.

use std::time::Duration;

use hanse_planner::{LAG_MAX, MembershipView};
use hanse_proto::v1 as pb;
use hanse_proto::v1::replica_service_server::ReplicaService;
use hanse_raft::ReplicaId;
use hanse_state::replica::{
    AddReplica, PromoteReplica, RemoveReplica, Replica, Replicas, Standing, TransferLeader, Wish as ReplicaWish,
};
use hanse_state::{Command, Outcome, State, name};
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};

use super::page::{Order, PAGE_DEFAULT, Page};
use super::{Call, Wish, convert, found};
use crate::context::Context;
use crate::error::ApiError;
use crate::reconcile::replica::view;

/// How long a transfer of the lead may take until the old leader knows of it.
const TRANSFER_MAX: Duration = Duration::from_secs(10);
/// Pause after which a transfer is asked for once more: the target may not have had the last entry.
const TRANSFER_AGAIN: Duration = Duration::from_secs(1);

/// How long it may take until the first members of a new cluster are in the log.
const RECORDED_MAX: Duration = Duration::from_secs(5);

/// Who belongs to the control plane.
pub(crate) struct ReplicaSet(Context);

impl ReplicaSet {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }

    fn view(&self) -> MembershipView {
        view(&self.0.replica().status())
    }

    /// Waits until the log knows every member. Only then is it known which id comes next without a look at Raft's
    /// membership, which may have changed when the order comes again after a lost answer: it would be another order.
    async fn all_recorded(&self) -> Result<(), ApiError> {
        let replica = self.0.replica();
        let mut events = replica.watch_events();
        let recorded = async {
            while unrecorded(&self.view(), &known(&replica.local())).is_some() {
                if let Err(RecvError::Closed) = events.recv().await {
                    return Err(ApiError::stopping());
                }
            }
            Ok(())
        };
        tokio::time::timeout(RECORDED_MAX, recorded).await.unwrap_or_else(|_| Err(ApiError::beginning()))
    }

    /// Orders a new replica and says what it is started with.
    async fn order_new(
        &self,
        call: &Call,
        wish: Wish<'_>,
        add: AddReplica,
    ) -> Result<(u64, Option<pb::ReplicaMember>, Option<pb::ReplicaJoin>), ApiError> {
        let command = Command::AddReplica(add);
        // Who may not order it is told so at once.
        if call.may(&command).is_ok() {
            self.all_recorded().await?;
        }
        let done = call.write(wish, command).await?;
        let (Outcome::Done { resource } | Outcome::Unchanged { resource }) = &done.outcome else {
            return Err(ApiError::internal("replica", "another outcome than ordered"));
        };
        let id = resource.strip_prefix("replicas/").and_then(|id| id.parse().ok());
        let id: u64 = found("replica", id)?;
        let view = self.view();
        let it = found("replica", known(&done.state).by_id.get(&id).cloned())?;
        Ok((done.revision, Some(member(&view, id, &it)), Some(join(&done.state, &view, id))))
    }

    fn shown(&self, state: &State, id: u64) -> Result<Option<pb::ReplicaMember>, ApiError> {
        let it = found("replica", known(state).by_id.get(&id).cloned())?;
        Ok(Some(member(&self.view(), id, &it)))
    }

    /// Waits until another leads; asks once more in between, as a transfer that came too early is dropped in silence.
    async fn hand_over(&self, to: u64) -> Result<(), ApiError> {
        let replica = self.0.replica();
        let mut leading = replica.leading();
        let moved = async {
            loop {
                let asked = replica.transfer_leader(ReplicaId(to)).await;
                asked.map_err(|_| ApiError::stopping())?;
                let gone = tokio::time::timeout(TRANSFER_AGAIN, leading.wait_for(Option::is_none)).await;
                if gone.is_ok() {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(TRANSFER_MAX, moved).await.unwrap_or_else(|_| {
            let advice = "see `hanse replica list` for who leads and who lags, and try again";
            Err(ApiError::precondition("NOT_TRANSFERRED", &format!("{to} did not take the lead in time"), advice))
        })
    }
}

/// What the log knows of the replicas; nothing before the cluster has a name.
fn known(state: &State) -> Replicas {
    state.cluster.as_ref().map(|cluster| cluster.replicas.clone()).unwrap_or_default()
}

fn id(field: &str, text: &str) -> Result<u64, ApiError> {
    let digits = text.strip_prefix("replicas/").unwrap_or(text);
    digits
        .parse()
        .ok()
        .filter(|id| *id > 0)
        .ok_or_else(|| ApiError::invalid(field, "is not the number of a replica", "`hanse replica list` shows them"))
}

/// Reads a replica's id and refuses one that does not exist, before anything is judged by looking at it.
fn existing(state: &State, text: &str) -> Result<u64, ApiError> {
    let id = id("replica", text)?;
    if known(state).by_id.contains_key(&id) { Ok(id) } else { Err(ApiError::not_found("replica", &name::replica(id))) }
}

fn member(view: &MembershipView, id: u64, it: &Replica) -> pb::ReplicaMember {
    let role = match (view.members.contains_key(&id), view.voters.contains(&id)) {
        (true, _) if !view.heard.contains(&id) => pb::ReplicaRole::Unreachable,
        (true, _) if id == view.own => pb::ReplicaRole::Leader,
        (true, true) => pb::ReplicaRole::Follower,
        (true, false) => pb::ReplicaRole::Learner,
        (false, _) => pb::ReplicaRole::Unspecified,
    };
    let wish = match it.wish {
        ReplicaWish::Learner => pb::ReplicaWish::Learner,
        ReplicaWish::Voter => pb::ReplicaWish::Voter,
        ReplicaWish::Gone => pb::ReplicaWish::Gone,
    };
    let standing = match it.standing {
        Standing::Ordered => pb::ReplicaStanding::Ordered,
        Standing::Learner => pb::ReplicaStanding::Learner,
        Standing::Voter => pb::ReplicaStanding::Voter,
        Standing::Gone => pb::ReplicaStanding::Gone,
    };
    let lag = view.lag.get(&id).copied();
    pb::ReplicaMember {
        id: id.to_string(),
        role: role.into(),
        wish: wish.into(),
        standing: standing.into(),
        peer_address: it.peer_address.clone(),
        api_address: it.api_address.clone(),
        last_log_index: lag.map_or(0, |lag| view.last_log_index.saturating_sub(lag)),
        lag: lag.unwrap_or(if view.members.contains_key(&id) { view.last_log_index } else { 0 }),
        replaces: it.replaces.map(|id| id.to_string()).unwrap_or_default(),
        incarnation: it.incarnation.clone().unwrap_or_default(),
        reason: it.reason.clone(),
        waits_for: view.waits_for(id, it),
        since_ms: convert::ms(it.since),
    }
}

/// The members that stay, and the new one.
fn join(state: &State, view: &MembershipView, id: u64) -> pb::ReplicaJoin {
    let replicas = known(state);
    let replaced = replicas.by_id.get(&id).and_then(|it| it.replaces);
    let stays =
        |(other, it): &(u64, &Replica)| *other == id || it.wish != ReplicaWish::Gone && Some(*other) != replaced;
    pb::ReplicaJoin {
        cluster_name: state.cluster.as_ref().map(|cluster| cluster.name.clone()).unwrap_or_default(),
        cluster_id: state.cluster.as_ref().map(|cluster| cluster.id.to_string()).unwrap_or_default(),
        replica: id.to_string(),
        members: replicas.present().filter(stays).map(|(id, it)| member(view, id, it)).collect(),
    }
}

/// A member that the log does not know yet, as in the first moments of a cluster.
fn unrecorded(view: &MembershipView, known: &Replicas) -> Option<u64> {
    view.members.keys().find(|id| !known.by_id.contains_key(*id)).copied()
}

/// Refuses to give a vote to one that would weaken the cluster.
fn check_promote(view: &MembershipView, id: u64) -> Result<(), ApiError> {
    let advice = "start it and wait until it has caught up, or insist with `--force --reason WHY`";
    if view.voters.contains(&id) || view.caught_up(id) {
        return Ok(());
    }
    let why = match view.lag.get(&id) {
        _ if !view.heard.contains(&id) => format!("replica {id} does not answer the leader"),
        Some(lag) => format!("replica {id} lacks {lag} entries of the log, at most {LAG_MAX} are safe"),
        None => format!("replica {id} has nothing of the log yet"),
    };
    Err(ApiError::precondition("NOT_CAUGHT_UP", &why, advice).with_field("replica"))
}

/// Refuses to take out one whose end would leave the voters without an answering majority.
fn check_remove(view: &MembershipView, id: u64) -> Result<(), ApiError> {
    if view.safe_without(id) {
        return Ok(());
    }
    let rest = view.voters.iter().filter(|voter| **voter != id).count();
    let up = view.voters.iter().filter(|voter| **voter != id && view.heard.contains(voter)).count();
    let why = format!("without replica {id} only {up} of {rest} voters answer, which is no majority");
    let advice = "bring the others back or add a replica first, or insist with `--force --reason WHY`";
    Err(ApiError::precondition("NO_MAJORITY_LEFT", &why, advice).with_field("replica"))
}

#[tonic::async_trait]
impl ReplicaService for ReplicaSet {
    async fn list_replicas(
        &self,
        request: Request<pb::ListReplicasRequest>,
    ) -> Result<Response<pb::ListReplicasResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().sees_replicas()?;
        let it = request.into_inner();
        let page = Page::<u64>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let (view, replicas) = (self.view(), known(&call.state));
        let shown = replicas.by_id.iter().filter(|(_, replica)| it.show_gone || replica.standing != Standing::Gone);
        let rows = shown.map(|(id, replica)| (*id, member(&view, *id, replica)));
        let (replicas, next_page_token) = page.take(Order::Ascending, rows);
        let voters = view.voters.iter().map(ToString::to_string).collect();
        let header = call.read_header();
        Ok(Response::new(pb::ListReplicasResponse { header, replicas, next_page_token, voters, changing: view.joint }))
    }

    async fn add_replica(
        &self,
        request: Request<pb::AddReplicaRequest>,
    ) -> Result<Response<pb::AddReplicaResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let add = AddReplica {
            peer_address: convert::text("peer_address", it.peer_address)?,
            api_address: convert::text("api_address", it.api_address)?,
            vote: it.vote,
            replaces: None,
            floor: 0,
            reason: convert::text("reason", it.reason)?,
        };
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let (revision, replica, join) = self.order_new(&call, wish, add).await?;
        Ok(Response::new(pb::AddReplicaResponse { header: call.header(revision), replica, join }))
    }

    async fn promote_replica(
        &self,
        request: Request<pb::PromoteReplicaRequest>,
    ) -> Result<Response<pb::PromoteReplicaResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_replicas()?;
        let it = request.into_inner();
        let (id, forced) = (existing(&call.state, &it.replica)?, it.force);
        if !call.knows(&it.request_id) {
            if !forced {
                check_promote(&self.view(), id)?;
            }
            // Not even by force: it could read nothing of what it would have to confirm.
            let speaks = self.0.replica().check_speaks(ReplicaId(id)).await;
            speaks.map_err(|unspoken| ApiError::unspoken(&unspoken).with_field("replica"))?;
        }
        let reason = convert::text("reason", it.reason)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let command = Command::PromoteReplica(PromoteReplica { replica: id, forced, reason });
        let done = call.write(wish, command).await?;
        let replica = self.shown(&done.state, id)?;
        Ok(Response::new(pb::PromoteReplicaResponse { header: call.header(done.revision), replica }))
    }

    async fn remove_replica(
        &self,
        request: Request<pb::RemoveReplicaRequest>,
    ) -> Result<Response<pb::RemoveReplicaResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_replicas()?;
        let it = request.into_inner();
        let (id, forced) = (existing(&call.state, &it.replica)?, it.force);
        if !forced && !call.knows(&it.request_id) {
            check_remove(&self.view(), id)?;
        }
        let reason = convert::text("reason", it.reason)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let command = Command::RemoveReplica(RemoveReplica { replica: id, forced, reason });
        let done = call.write(wish, command).await?;
        let replica = self.shown(&done.state, id)?;
        Ok(Response::new(pb::RemoveReplicaResponse { header: call.header(done.revision), replica }))
    }

    async fn replace_replica(
        &self,
        request: Request<pb::ReplaceReplicaRequest>,
    ) -> Result<Response<pb::ReplaceReplicaResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_replicas()?;
        let it = request.into_inner();
        let add = AddReplica {
            peer_address: convert::text("peer_address", it.peer_address)?,
            api_address: convert::text("api_address", it.api_address)?,
            vote: true,
            replaces: Some(existing(&call.state, &it.replica)?),
            floor: 0,
            reason: convert::text("reason", it.reason)?,
        };
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let (revision, replica, join) = self.order_new(&call, wish, add).await?;
        Ok(Response::new(pb::ReplaceReplicaResponse { header: call.header(revision), replica, join }))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_replicas()?;
        let it = request.into_inner();
        let id = existing(&call.state, &it.replica)?;
        let here = id == self.0.member().own;
        if !here && !self.view().caught_up(id) {
            let why = format!("replica {id} does not answer or lags; it would keep everyone waiting");
            return Err(ApiError::precondition("NOT_CAUGHT_UP", &why, "choose another voter")
                .with_field("replica")
                .into());
        }
        let reason = convert::text("reason", it.reason)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, Command::TransferLeader(TransferLeader { replica: id, reason })).await?;
        if !here && !it.validate_only {
            self.hand_over(id).await.map_err(|error| error.with_request(&it.request_id))?;
        }
        Ok(Response::new(pb::TransferLeaderResponse { header: call.header(done.revision), leader_id: id.to_string() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_waits_for_members_that_the_log_does_not_know() {
        let member = |id: u64| (id, (format!("p{id}:1"), format!("a{id}:1")));
        let known = |ids: &[u64]| {
            let replica = |id: &u64| {
                (
                    *id,
                    hanse_state::replica::Replica {
                        peer_address: String::new(),
                        api_address: String::new(),
                        wish: ReplicaWish::Voter,
                        standing: Standing::Voter,
                        incarnation: None,
                        replaces: None,
                        forced: false,
                        reason: String::new(),
                        ordered_at: hanse_state::Millis(0),
                        since: hanse_state::Millis(0),
                    },
                )
            };
            Replicas { by_id: ids.iter().map(replica).collect(), ..Replicas::default() }
        };
        let view =
            |last: u64| MembershipView { members: (1..=last).map(member).collect(), ..MembershipView::default() };
        assert_eq!(unrecorded(&view(3), &known(&[])), Some(1), "nothing is recorded yet");
        assert_eq!(unrecorded(&view(3), &known(&[1, 3])), Some(2));
        assert_eq!(unrecorded(&view(3), &known(&[1, 2, 3])), None);
        assert_eq!(unrecorded(&view(3), &known(&[1, 2, 3, 4])), None, "one that was ordered is no member yet");
    }
}
