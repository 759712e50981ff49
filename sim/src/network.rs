//! openraft's network over the simulated post.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hanse_raft::{Member, ReplicaId};
use openraft::OptionalSend;
use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};

use crate::membership::Roll;
use crate::mutant::Mutant;
use crate::post::{Body, Post};
use crate::types::{Snapshot, SnapshotData, Types, Vote};
use crate::world::Shared;

/// How long a whole snapshot may take.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(5);

/// Name of a replica's host.
pub(crate) fn host(id: ReplicaId) -> String {
    format!("replica-{id}")
}

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) id: ReplicaId,
    pub(crate) post: Post,
    pub(crate) shared: Shared,
    pub(crate) roll: Arc<Roll>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: ReplicaId, _: &Member) -> Peer {
        Peer { to: host(target), target, network: self.clone() }
    }
}

/// The way to one other replica.
pub(crate) struct Peer {
    to: String,
    target: ReplicaId,
    network: Network,
}

fn unreachable(error: &io::Error) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(error))
}

fn unexpected() -> RPCError<Types> {
    unreachable(&io::Error::other("an answer of another kind"))
}

impl Peer {
    async fn call(&self, body: Body, limit: Duration) -> Result<Body, RPCError<Types>> {
        let answer = self.network.post.call(&self.to, body, limit).await.map_err(|e| unreachable(&e))?;
        self.network.shared.world().heed(self.network.id, &answer);
        Ok(answer)
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        if self.network.shared.has(Mutant::CommitWithoutQuorum) && !rpc.entries.is_empty() && self.target.0 != 1 {
            return Ok(AppendEntriesResponse::Success);
        }
        match self.call(Body::Append(rpc), option.hard_ttl()).await? {
            Body::Appended(answer) => {
                // Something is stored: from now on the name of its folder stands for what it promised.
                self.network.roll.hear(self.target);
                Ok(answer)
            }
            _ => Err(unexpected()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.call(Body::Vote(rpc), option.hard_ttl()).await? {
            Body::Voted(answer) => Ok(answer),
            _ => Err(unexpected()),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.call(Body::PreVote(rpc), option.hard_ttl()).await? {
            Body::Voted(answer) => Ok(answer),
            _ => Err(unexpected()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let body = Body::Snapshot(vote, snapshot.meta, snapshot.snapshot.into_inner().into());
        let late = |e: io::Error| StreamingError::Unreachable(Unreachable::new(&e));
        let answer = self.network.post.call(&self.to, body, SNAPSHOT_LIMIT).await.map_err(late)?;
        self.network.shared.world().heed(self.network.id, &answer);
        match answer {
            Body::Installed(answer) => Ok(answer),
            _ => Err(late(io::Error::other("an answer of another kind"))),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        match self.call(Body::Transfer(rpc), option.hard_ttl()).await? {
            Body::Transferred(answer) => Ok(answer),
            _ => Err(unexpected()),
        }
    }
}
