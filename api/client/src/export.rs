//! Reading the whole audit trail, over lost connections, without a gap and without a line twice.

use hanse_proto::v1 as pb;
use tokio::time::Instant;
use tonic::Status;
use tonic_prost::ProstCodec;

use crate::client::{Backoff, Client, Failure, http_path};
use crate::error::ClientError;

const PATH: &str = "/hanse.v1.AuditService/ExportAudit";

impl Client {
    /// Hands every audit line after `after_seq` to `each`, oldest first; returns how many there were.
    ///
    /// # Errors
    /// The server's refusal, the last failure when nothing has come for the overall time, or the error of `each`,
    /// which ends the export.
    pub async fn export_audit(
        &self,
        after_seq: u64,
        mut each: impl FnMut(&str) -> Result<(), ClientError>,
    ) -> Result<u64, ClientError> {
        let overall = self.timeouts().overall;
        let (mut count, mut through) = (0_u64, after_seq);
        let mut deadline = Instant::now() + overall;
        let mut backoff = Backoff::new();
        loop {
            let replica = self.replica();
            let request = self.authorized(pb::ExportAuditRequest { after_seq: through });
            let mut grpc = Client::grpc(&replica);
            let reading = async {
                grpc.ready().await.map_err(|error| Failed::Status(Status::from_error(Box::new(error))))?;
                let codec = ProstCodec::<pb::ExportAuditRequest, pb::ExportAuditResponse>::default();
                let response = grpc.server_streaming(request, http_path(PATH), codec).await?;
                let mut stream = response.into_inner();
                // The limit is on silence, not on the whole: a long trail may take long.
                while let Some(message) = tokio::time::timeout(self.timeouts().watch_silence, stream.message())
                    .await
                    .map_err(|_| Status::unavailable("the export fell silent"))??
                {
                    for line in &message.lines {
                        each(line).map_err(Failed::Each)?;
                        count += 1;
                    }
                    // Not by the count: a tenant sees only some of the records.
                    through = through.max(message.through_seq);
                    deadline = Instant::now() + overall;
                }
                Ok(())
            };
            let status = match reading.await {
                Ok(()) => return Ok(count),
                Err(Failed::Each(error)) => return Err(error),
                Err(Failed::Status(status)) => status,
            };
            let pause = backoff.next();
            if Failure::of(&status) == Failure::Final || Instant::now() + pause >= deadline {
                return Err(ClientError::from_status(&status));
            }
            self.go_elsewhere(&replica, &status);
            tokio::time::sleep(pause).await;
        }
    }
}

/// Who ended a reading.
enum Failed {
    /// The server or the way to it.
    Status(Status),
    /// The taker of lines.
    Each(ClientError),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Failed {
        Failed::Status(status)
    }
}
