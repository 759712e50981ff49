//! Following changes over lost connections, restarts and changed leaders.
//!
//! [`Watch::next`] gives what happened, including that the connection was lost and came back, so that a console can
//! show how old its picture is. It resumes after the last revision it was told; nothing is told twice.

use std::time::Duration;

use hanse_proto::v1 as pb;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::client::{Backoff, Client, http_path};
use crate::error::{ClientError, reason};
use crate::replicas::Replica;

const PATH: &str = "/hanse.v1.ClusterService/Watch";

/// One thing a watch has to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchUpdate {
    /// A stream was opened on this replica; told again after every loss.
    Connected {
        /// `host:port` of the replica.
        address: String,
    },
    /// Changes up to and including this revision, in order.
    Changes {
        /// The point reached.
        revision: u64,
        /// The changes.
        events: Vec<pb::Event>,
    },
    /// Nothing changed; the replica is alive at this revision.
    Heartbeat {
        /// The point reached.
        revision: u64,
    },
    /// Changes were missed that are no longer kept: read everything again.
    Resync {
        /// The stream goes on after this revision.
        revision: u64,
    },
    /// The stream ended; the next call of [`Watch::next`] opens another.
    Lost {
        /// Why.
        error: ClientError,
    },
}

/// A stream of changes that outlives its connections.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    resource_prefix: String,
    revision: u64,
    open: Option<(Replica, Streaming<pb::WatchResponse>)>,
    failures: u32,
    retry_at: Option<Instant>,
}

impl Client {
    /// Returns a watch of changes after a revision (0: from now on) of resources whose name starts with the prefix.
    pub fn watch(&self, after_revision: u64, resource_prefix: impl Into<String>) -> Watch {
        Watch {
            client: self.clone(),
            resource_prefix: resource_prefix.into(),
            revision: after_revision,
            open: None,
            failures: 0,
            retry_at: None,
        }
    }
}

impl Watch {
    /// Returns the last revision that was told.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Waits for the next update; may be dropped and called again at any point without losing one.
    ///
    /// # Errors
    /// Only what no repeat can mend: the session has ended, access is denied, the request is wrong.
    pub async fn next(&mut self) -> Result<WatchUpdate, ClientError> {
        let silence = self.client.timeouts().watch_silence;
        let Some((replica, stream)) = &mut self.open else {
            return self.connect().await;
        };
        let replica = replica.clone();
        let status = match tokio::time::timeout(silence, stream.message()).await {
            Ok(Ok(Some(message))) => {
                self.failures = 0;
                return Ok(self.take(message));
            }
            Ok(Ok(None)) => Status::unavailable("the replica ended the stream"),
            Ok(Err(status)) => status,
            Err(_) => Status::unavailable(format!("not even a heartbeat for {} s", silence.as_secs())),
        };
        self.lose(&replica, &status)
    }

    async fn connect(&mut self) -> Result<WatchUpdate, ClientError> {
        if let Some(at) = self.retry_at {
            tokio::time::sleep_until(at).await;
            self.retry_at = None;
        }
        let replica = self.client.replica();
        let message = pb::WatchRequest { after_revision: self.revision, resource_prefix: self.resource_prefix.clone() };
        let request = self.client.authorized(message);
        let mut grpc = Client::grpc(&replica);
        let opening = async {
            grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
            let codec = ProstCodec::<pb::WatchRequest, pb::WatchResponse>::default();
            grpc.server_streaming(request, http_path(PATH), codec).await
        };
        let limit = self.client.timeouts().attempt;
        let status = match tokio::time::timeout(limit, opening).await {
            Ok(Ok(response)) => {
                let address = replica.address.to_string();
                self.open = Some((replica, response.into_inner()));
                return Ok(WatchUpdate::Connected { address });
            }
            Ok(Err(status)) => status,
            Err(_) => Status::unavailable(format!("no stream within {} ms", limit.as_millis())),
        };
        self.lose(&replica, &status)
    }

    fn take(&mut self, message: pb::WatchResponse) -> WatchUpdate {
        let last = message.events.iter().map(|event| event.revision).max().unwrap_or(0);
        let reached = message.header.map_or(0, |header| header.revision).max(last);
        if message.resync {
            self.revision = reached;
            return WatchUpdate::Resync { revision: reached };
        }
        let known = self.revision;
        self.revision = reached.max(known);
        let revision = self.revision;
        let events: Vec<pb::Event> = message.events.into_iter().filter(|event| event.revision > known).collect();
        if events.is_empty() { WatchUpdate::Heartbeat { revision } } else { WatchUpdate::Changes { revision, events } }
    }

    fn lose(&mut self, replica: &Replica, status: &Status) -> Result<WatchUpdate, ClientError> {
        self.open = None;
        let mut error = ClientError::from_status(status);
        if matches!(
            status.code(),
            Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented
        ) {
            return Err(error);
        }
        if error.reason.is_empty() {
            error.reason = reason::UNREACHABLE.to_owned();
        }
        let hinted = self.client.go_elsewhere(replica, status);
        let mut backoff = Backoff { attempts: self.failures };
        let pause = if hinted && self.failures == 0 { Duration::ZERO } else { backoff.next() };
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(Instant::now() + pause);
        Ok(WatchUpdate::Lost { error })
    }
}
