//! The client: one call over as many replicas and repeats as it takes, within one overall time.
//!
//! Repeated are UNAVAILABLE, broken connections, run-out attempts and OUTCOME_UNKNOWN, for reads and for writes that
//! carry a request id, always with the id of the first attempt. Every other answer is final.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hanse_proto::{LEADER_TRAILER, v1 as pb};
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::call::{Call, Repeat};
use crate::config::{ClientConfig, Timeouts};
use crate::error::{ClientError, Effect, is_local, is_logged, reason};
use crate::replicas::{Replica, Replicas};

/// First pause between attempts; doubled each time.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// Longest pause between attempts.
const BACKOFF_LAST: Duration = Duration::from_secs(1);
/// Attempts of one call; the overall time normally ends it earlier.
const ATTEMPTS_MAX: u32 = 100;
/// Largest answer; log lines and proposals stay far below.
const RESPONSE_BYTES_MAX: usize = 16 << 20;

/// A connection to the control plane; clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    replicas: Replicas,
    timeouts: Timeouts,
    token: RwLock<Option<AsciiMetadataValue>>,
}

/// What one call wishes beyond the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallOptions {
    /// Overall time instead of the configured one.
    pub overall: Option<Duration>,
    /// One attempt may take all of the overall time: the answer itself takes long, and asking again begins it anew.
    pub whole: bool,
    /// Only one attempt on the current replica: the answer of this replica is what is asked for.
    pub single_attempt: bool,
}

impl Client {
    /// Returns a client that connects when first used; must be called within a tokio runtime.
    ///
    /// # Errors
    /// The configuration is unusable.
    pub fn new(config: ClientConfig) -> Result<Client, ClientError> {
        let replicas = Replicas::new(&config)?;
        let client =
            Client { inner: Arc::new(Inner { replicas, timeouts: config.timeouts, token: RwLock::new(None) }) };
        client.set_token(config.token.as_deref())?;
        Ok(client)
    }

    /// Returns a client after some replica has answered.
    ///
    /// # Errors
    /// The configuration is unusable, or no replica answered within the overall time.
    pub async fn connect(config: ClientConfig) -> Result<Client, ClientError> {
        let client = Client::new(config)?;
        client.call(pb::GetVersionRequest {}).await?;
        Ok(client)
    }

    /// Sets or forgets the session token for all later calls of this client and its clones.
    ///
    /// # Errors
    /// The token holds characters a header cannot carry; nothing changed.
    pub fn set_token(&self, token: Option<&str>) -> Result<(), ClientError> {
        let value = match token.map(str::trim).filter(|token| !token.is_empty()) {
            None => None,
            Some(token) => {
                let mut value = AsciiMetadataValue::try_from(format!("Bearer {token}")).map_err(|_| {
                    ClientError::local(
                        Code::InvalidArgument,
                        reason::CLIENT_CONFIG,
                        "the session token holds characters that no token has",
                        "Log in again.",
                    )
                })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        *self.inner.token.write().unwrap_or_else(PoisonError::into_inner) = value;
        Ok(())
    }

    /// Returns the response of a request; fills in a request id where one is missing.
    ///
    /// # Errors
    /// The server's refusal as it is, or the last failure when the overall time has run out. `effect` says whether a
    /// write may have happened; if so, the same call with the error's `request_id` tells.
    pub async fn call<C: Call>(&self, request: C) -> Result<C::Response, ClientError> {
        self.call_with(request, CallOptions::default()).await
    }

    /// As [`Client::call`], with options.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_with<C: Call>(&self, mut request: C, options: CallOptions) -> Result<C::Response, ClientError> {
        let overall = options.overall.unwrap_or(self.inner.timeouts.overall);
        let (deadline, longest) =
            (Instant::now() + overall, if options.whole { overall } else { self.inner.timeouts.attempt });
        let mut request_id = String::new();
        if let Some(id) = request.request_id_mut() {
            if id.is_empty() {
                *id = crate::new_request_id();
            }
            request_id.clone_from(id);
        }
        let mut effect = Effect::None;
        let mut backoff = Backoff::new();
        let mut followed = false;
        // A replica's own word says more than the connections that then failed.
        let mut told: Option<Status> = None;
        loop {
            let replica = self.inner.replicas.current();
            let status = match self.attempt(&replica, request.clone(), (deadline, longest)).await {
                Ok(response) => return Ok(response),
                Err(status) => status,
            };
            let failure = Failure::of(&status);
            if failure == Failure::Unknown && C::REPEAT == Repeat::SameId {
                effect = Effect::Unknown;
            }
            if !is_local(&status) {
                told = Some(status.clone());
            }
            let give_up = || {
                let mut error = ClientError::from_status(told.as_ref().unwrap_or(&status));
                error.request_id.clone_from(&request_id);
                // A refusal by the log is certain for this id, whatever became of the attempts before. Any other refusal
                // says nothing about them: a session may have ended after an attempt that did it.
                error.effect = if is_logged(&status) { Effect::None } else { effect };
                error
            };
            if failure == Failure::Final || options.single_attempt || backoff.attempts >= ATTEMPTS_MAX {
                return Err(give_up());
            }
            tracing::debug!(path = C::PATH, replica = %replica.address, code = ?status.code(), "call is repeated");
            let hinted = self.go_elsewhere(&replica, &status);
            // Two replicas that name each other must not be asked in a tight circle: only every other hint is free.
            let pause = if hinted && !followed { Duration::ZERO } else { backoff.next() };
            followed = hinted && !followed;
            if Instant::now() + pause >= deadline {
                return Err(give_up());
            }
            tokio::time::sleep(pause).await;
            if C::REPEAT == Repeat::FreshId
                && failure == Failure::Unknown
                && let Some(id) = request.request_id_mut()
            {
                *id = crate::new_request_id();
                request_id.clone_from(id);
            }
        }
    }

    /// Returns the addresses of the replicas that are known by configuration or hint.
    pub fn addresses(&self) -> Vec<String> {
        self.inner.replicas.addresses()
    }

    /// Returns the address of the replica that is asked now.
    pub fn current_address(&self) -> String {
        self.inner.replicas.current().address.to_string()
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.inner.timeouts
    }

    pub(crate) fn replica(&self) -> Replica {
        self.inner.replicas.current()
    }

    /// Chooses another replica after a failure; returns whether a leader hint named it.
    pub(crate) fn go_elsewhere(&self, failed: &Replica, status: &Status) -> bool {
        let hint = status.metadata().get(LEADER_TRAILER).and_then(|value| value.to_str().ok());
        if hint.is_some_and(|hint| self.inner.replicas.follow(hint, &failed.address)) {
            return true;
        }
        self.inner.replicas.leave(&failed.address);
        false
    }

    /// Returns a request with the session token.
    pub(crate) fn authorized<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        if let Some(token) = self.inner.token.read().unwrap_or_else(PoisonError::into_inner).clone() {
            request.metadata_mut().insert("authorization", token);
        }
        request
    }

    /// Returns the low-level client of a replica.
    pub(crate) fn grpc(replica: &Replica) -> Grpc<Channel> {
        Grpc::new(replica.channel.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    async fn attempt<C: Call>(
        &self,
        replica: &Replica,
        message: C,
        (deadline, longest): (Instant, Duration),
    ) -> Result<C::Response, Status> {
        let limit = deadline.saturating_duration_since(Instant::now()).min(longest);
        let mut request = self.authorized(message);
        request.set_timeout(limit);
        let mut grpc = Client::grpc(replica);
        let answer = async {
            grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
            let path = http_path(C::PATH);
            grpc.unary(request, path, ProstCodec::<C, C::Response>::default()).await
        };
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded(format!(
                "replica {} did not answer within {} ms",
                replica.address,
                limit.as_millis()
            ))),
        }
    }
}

/// What a failed attempt says about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// An answer; asking again gives the same.
    Final,
    /// Nothing happened; another replica or a later moment may do.
    NotDone,
    /// It may or may not have happened.
    Unknown,
}

impl Failure {
    pub(crate) fn of(status: &Status) -> Failure {
        if is_local(status) {
            // Only a connection that never came about proves that nothing was sent.
            let refused = status.code() == Code::Unavailable && is_connect_error(status);
            return if refused { Failure::NotDone } else { Failure::Unknown };
        }
        match status.code() {
            Code::Unavailable => Failure::NotDone,
            Code::DeadlineExceeded | Code::Cancelled => Failure::Unknown,
            _ if ClientError::from_status(status).reason == reason::OUTCOME_UNKNOWN => Failure::Unknown,
            _ => Failure::Final,
        }
    }
}

/// Returns whether the source chain holds an IO error of connecting.
fn is_connect_error(status: &Status) -> bool {
    use std::io::ErrorKind;
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return matches!(
                io.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::AddrNotAvailable
            );
        }
        source = error.source();
    }
    false
}

/// Pauses that double up to a limit, each shortened by chance so that clients do not come back all at once.
pub(crate) struct Backoff {
    pub(crate) attempts: u32,
}

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff { attempts: 0 }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let full = BACKOFF_FIRST.saturating_mul(1 << self.attempts.min(10)).min(BACKOFF_LAST);
        self.attempts += 1;
        // The random half of a UUID is the only chance this crate needs.
        let chance = (uuid::Uuid::now_v7().as_u128() & 0xff) as u32;
        full / 2 + full / 2 * chance / 255
    }
}

/// Returns a constant path of the contract in the form the transport wants.
pub(crate) fn http_path(path: &'static str) -> tonic::codegen::http::uri::PathAndQuery {
    tonic::codegen::http::uri::PathAndQuery::from_static(path)
}
