//! Receiving a backup; what was received is begun anew when the connection is lost.

use hanse_proto::v1 as pb;
use tokio::time::Instant;
use tonic::Status;
use tonic_prost::ProstCodec;

use crate::client::{Backoff, Client, Failure, http_path};
use crate::error::{ClientError, is_local};

const PATH: &str = "/hanse.v1.BackupService/CreateBackup";
/// Tries of one backup that brought some of it; each one sends everything again.
const BEGUN_MAX: u32 = 5;

/// What comes of a backup.
#[derive(Debug)]
pub enum BackupPart<'a> {
    /// It begins; what came before is of no use.
    Begin,
    /// The next bytes.
    Content(&'a [u8]),
}

impl Client {
    /// Hands the content of a new backup to `each`, beginning anew after a lost connection. It is whole when this
    /// returns `Ok` and the content has its end.
    ///
    /// # Errors
    /// The server's refusal, the last failure after five tries that brought something or when nothing has come for the overall
    /// time, or the error of `each`, which ends the call.
    pub async fn create_backup<E: From<ClientError>>(
        &self,
        request: pb::CreateBackupRequest,
        mut each: impl FnMut(BackupPart<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut deadline = Instant::now() + self.timeouts().overall;
        let (mut backoff, mut begun) = (Backoff::new(), 0);
        // A replica's own word says more than the connections that then failed.
        let mut told: Option<Status> = None;
        loop {
            let replica = self.replica();
            each(BackupPart::Begin)?;
            let mut last = None;
            let mut hand_on = |part: BackupPart<'_>| {
                last = Some(Instant::now());
                each(part)
            };
            let status = match self.receive(&replica, &request, &mut hand_on).await {
                Ok(()) => return Ok(()),
                Err(Failed::Each(error)) => return Err(error),
                Err(Failed::Status(status)) => status,
            };
            if let Some(last) = last {
                begun += 1;
                deadline = last + self.timeouts().overall;
            }
            if !is_local(&status) {
                told = Some(status.clone());
            }
            let pause = backoff.next();
            // Replicas that are down, or no leader for a while, cost nobody anything: only the overall time ends that.
            let late = begun >= BEGUN_MAX || Instant::now() + pause >= deadline;
            if Failure::of(&status) == Failure::Final || late {
                let mut error = ClientError::from_status(told.as_ref().unwrap_or(&status));
                error.request_id.clone_from(&request.request_id);
                return Err(error.into());
            }
            self.go_elsewhere(&replica, &status);
            tokio::time::sleep(pause).await;
        }
    }

    async fn receive<E>(
        &self,
        replica: &crate::replicas::Replica,
        request: &pb::CreateBackupRequest,
        each: &mut impl FnMut(BackupPart<'_>) -> Result<(), E>,
    ) -> Result<(), Failed<E>> {
        let mut grpc = Client::grpc(replica);
        grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let codec = ProstCodec::<pb::CreateBackupRequest, pb::CreateBackupResponse>::default();
        let silence = self.timeouts().attempt.max(self.timeouts().watch_silence);
        let late = |_| Status::unavailable("the backup fell silent");
        let call = grpc.server_streaming(self.authorized(request.clone()), http_path(PATH), codec);
        // The limit is on silence, not on the whole: a long history may take long.
        let mut stream = tokio::time::timeout(silence, call).await.map_err(late)??.into_inner();
        while let Some(message) = tokio::time::timeout(silence, stream.message()).await.map_err(late)?? {
            each(BackupPart::Content(&message.content)).map_err(Failed::Each)?;
        }
        Ok(())
    }
}

/// Who ended a try.
enum Failed<E> {
    /// The server or the way to it.
    Status(Status),
    /// The taker.
    Each(E),
}

impl<E> From<Status> for Failed<E> {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}
