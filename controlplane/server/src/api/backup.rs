//! BackupService: a copy of everything, from the leader, without holding anyone up.
//!
//! The wish for a backup is an entry. The state after it, a cheap copy, holds all that was acknowledged before the call;
//! history up to that state's heads is read from disk piece by piece. Writes go on meanwhile and are not in it.
//!
//! What this never does: keep a copy itself, or end a stream cleanly that is not whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hanse_backup::content::Base;
use hanse_backup::{Content, Head};
use hanse_proto::v1 as pb;
use hanse_proto::v1::backup_service_server::BackupService;
use hanse_state::cluster::backup::{CreateBackup, ResumeCluster};
use hanse_state::codec::encode_state;
use hanse_state::ids::{BackupId, IncarnationId};
use hanse_state::{Command, Digest, Record, State};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Call, Wish, convert, request_id};
use crate::context::Context;
use crate::error::ApiError;

/// Backups under way at once; each reads the whole history.
const BACKUPS_MAX: usize = 2;
/// Records read from disk at once.
const CHUNK: usize = 200;
/// Longest piece of content in a message, well below a megabyte.
const MESSAGE_BYTES: usize = 512 * 1024;
/// Messages that may wait for a slow reader.
const WAITING: usize = 2;
/// Longest a reader may take nothing.
const STUCK_MAX: Duration = Duration::from_secs(60);
/// Kinds of history that a base may name; more is nonsense.
const KINDS_MAX: usize = 32;

/// Makes backups.
pub(crate) struct Backups {
    context: Context,
    turns: Arc<Semaphore>,
}

/// What an incremental backup continues, and the last record of each kind that it has.
type Continued = (Base, BTreeMap<String, u64>);

impl Backups {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self { context, turns: Arc::new(Semaphore::new(BACKUPS_MAX)) }
    }

    /// Checks that the base is a backup of this very history.
    async fn check_base(&self, state: &State, (base, heads): &Continued) -> Result<(), ApiError> {
        let foreign = |why: &str| {
            let message = format!("the base cannot be continued: {why}");
            ApiError::precondition("FOREIGN_BASE", &message, "make a whole backup, without --base")
        };
        let own: BTreeMap<String, u64> =
            state.heads().into_iter().map(|(kind, last)| (kind.to_owned(), last)).collect();
        if let Some((kind, _)) = heads.iter().find(|(kind, last)| own.get(*kind).is_none_or(|have| have < *last)) {
            return Err(foreign(&format!("this cluster has fewer records of {kind}")));
        }
        if base.revision > state.revision {
            return Err(foreign("its revision is ahead of this cluster's"));
        }
        let begun = state.cluster.as_ref().and_then(|cluster| cluster.restored.as_ref());
        if begun.is_some_and(|restored| base.revision <= restored.from_revision) {
            return Err(foreign("it was taken before this cluster was restored"));
        }
        let Some(count) = heads.get("audit").copied().filter(|count| *count > 0) else {
            return Err(foreign("it holds no audit record"));
        };
        let record = self.context.replica().history("audit", count - 1, 1).await;
        match record.map_err(|error| ApiError::internal("audit history", error))?.as_slice() {
            [Record::Audit(record)] if record.hash == base.audit => Ok(()),
            _ => Err(foreign("its audit trail is another one: it was taken of another cluster")),
        }
    }
}

fn base_of(base: pb::BackupBase) -> Result<Continued, ApiError> {
    let backup: BackupId = convert::id("base.backup", &base.backup)?;
    let audit: Digest = convert::id("base.audit_hash", &base.audit_hash)?;
    if base.history.len() > KINDS_MAX {
        return Err(ApiError::invalid("base.history", "names too many kinds", "send the marks of the base's head"));
    }
    let heads = base.history.into_iter().map(|mark| (mark.kind, mark.last)).collect();
    Ok((Base { backup, revision: base.revision, audit }, heads))
}

#[tonic::async_trait]
impl BackupService for Backups {
    type CreateBackupStream = ReceiverStream<Result<pb::CreateBackupResponse, Status>>;

    async fn create_backup(
        &self,
        request: Request<pb::CreateBackupRequest>,
    ) -> Result<Response<Self::CreateBackupStream>, Status> {
        let call = Call::enter(&self.context, &request).await?;
        let it = request.into_inner();
        let backup = convert::id("request_id", &request_id(&it.request_id, self.context.log_clock())?.to_string())?;
        let base = it.base.map(base_of).transpose()?;
        let command = Command::CreateBackup(CreateBackup { backup, base: base.as_ref().map(|(base, _)| base.backup) });
        call.may(&command)?;
        if let Some(base) = &base {
            self.check_base(&call.state, base).await?;
        }
        let busy = || ApiError::exhausted("TOO_MANY_BACKUPS", "other backups are under way on this replica", 30);
        let turn = self.turns.clone().try_acquire_owned().map_err(|_| busy())?;
        let done = call.write(Wish { request_id: &it.request_id, validate_only: false }, command).await?;
        let state = done.state;
        let (head, encoded) = tokio::task::spawn_blocking({
            let state = state.clone();
            move || {
                let encoded = encode_state(&state);
                hanse_backup::chain::head_of(&state, &encoded, backup, base).map(|head| (head, encoded))
            }
        })
        .await
        .map_err(|error| ApiError::internal("backup", error))?
        .map_err(|error| ApiError::internal("backup", error))?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let sending = Sending {
            context: self.context.clone(),
            header: call.header(state.revision),
            sender,
            pending: Vec::new(),
            _turn: turn,
        };
        tokio::spawn(sending.run(head, encoded));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn resume_cluster(
        &self,
        request: Request<pb::ResumeClusterRequest>,
    ) -> Result<Response<pb::ResumeClusterResponse>, Status> {
        let call = Call::enter(&self.context, &request).await?;
        let it = request.into_inner();
        let incarnation: IncarnationId = convert::id("incarnation", &it.incarnation)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, Command::ResumeCluster(ResumeCluster { incarnation })).await?;
        Ok(Response::new(pb::ResumeClusterResponse { header: call.header(done.revision) }))
    }
}

/// A backup on its way to the reader.
struct Sending {
    context: Context,
    header: Option<pb::ResponseHeader>,
    sender: mpsc::Sender<Result<pb::CreateBackupResponse, Status>>,
    pending: Vec<u8>,
    _turn: OwnedSemaphorePermit,
}

/// Why a stream ends before its end.
enum Stopped {
    /// The reader went away or takes nothing: there is nobody to tell.
    Gone,
    /// Ours.
    Failed(ApiError),
}

impl Sending {
    async fn run(mut self, head: Head, state: Vec<u8>) {
        if let Err(Stopped::Failed(error)) = self.send_all(&head, state).await {
            // A clean end would read as a whole backup. The reader may have gone away meanwhile.
            let _gone = self.sender.send(Err(error.into())).await;
        }
    }

    async fn send_all(&mut self, head: &Head, state: Vec<u8>) -> Result<(), Stopped> {
        let mut content = Content::default();
        self.push(&content.head(head)).await?;
        for part in content.state(&state) {
            self.push(&part).await?;
        }
        drop(state);
        for (kind, span) in &head.history {
            let mut after = span.after;
            while after < span.last {
                let wanted = usize::try_from(span.last - after).unwrap_or(CHUNK).min(CHUNK);
                let records = self.context.replica().history(kind, after, wanted).await;
                let records = records.map_err(|e| Stopped::Failed(ApiError::internal("history", e)))?;
                let Some(last) = records.last().map(Record::seq) else {
                    let why = format!("record {} of {kind} is missing", after + 1);
                    return Err(Stopped::Failed(ApiError::internal("history", why)));
                };
                after = last;
                for record in &records {
                    self.push(&content.record(record)).await?;
                }
            }
        }
        self.push(&content.end()).await?;
        let rest = std::mem::take(&mut self.pending);
        self.send(rest).await
    }

    /// Sends what fills a message; the rest waits.
    async fn push(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.pending.extend_from_slice(bytes);
        while self.pending.len() > MESSAGE_BYTES {
            let rest = self.pending.split_off(MESSAGE_BYTES);
            let full = std::mem::replace(&mut self.pending, rest);
            self.send(full).await?;
        }
        Ok(())
    }

    async fn send(&self, content: Vec<u8>) -> Result<(), Stopped> {
        if self.context.shutdown().is_cancelled() {
            return Err(Stopped::Failed(ApiError::stopping()));
        }
        let message = pb::CreateBackupResponse { header: self.header.clone(), content };
        self.sender.send_timeout(Ok(message), STUCK_MAX).await.map_err(|_| Stopped::Gone)
    }
}
