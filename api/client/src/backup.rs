//! Receiving a backup; what was received is begun anew when the connection is lost.

use hanse_proto::v1 as pb;
use tokio::time::Instant;
use tonic::Status;
use tonic_prost::ProstCodec;

use crate::client::{Backoff, Client, Failure, http_path};
use crate::error::ClientError;

const PATH: &str = "/hanse.v1.BackupService/CreateBackup";
/// Tries of one backup; each one sends everything again.
const ATTEMPTS_MAX: u32 = 5;

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
    /// The server's refusal, the last failure after five tries, or the error of `each`, which ends the call.
    pub async fn create_backup<E: From<ClientError>>(
        &self,
        request: pb::CreateBackupRequest,
        mut each: impl FnMut(BackupPart<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let deadline = Instant::now() + self.timeouts().overall;
        let mut backoff = Backoff::new();
        loop {
            let replica = self.replica();
            each(BackupPart::Begin)?;
            let status = match self.receive(&replica, &request, &mut each).await {
                Ok(()) => return Ok(()),
                Err(Failed::Each(error)) => return Err(error),
                Err(Failed::Status(status)) => status,
            };
            let pause = backoff.next();
            let late = backoff.attempts >= ATTEMPTS_MAX || Instant::now() + pause >= deadline;
            // A leader that does not answer because there is none yet is asked again only within the overall time.
            if Failure::of(&status) == Failure::Final || late {
                let mut error = ClientError::from_status(&status);
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
