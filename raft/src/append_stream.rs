//! Appends in a stream: one call to a peer carries many, the next goes out before the last is answered.
//!
//! The calling side hands openraft's stream of appends over as it comes; the called side gives it to openraft, which
//! answers in order. Nothing waits for a round trip, and the cost of a call is paid once for the life of a leader.
//!
//! A stream in which the oldest append without an answer is older than its limit has failed. A peer that does not know
//! streams (an older build) is told by its status, and is then sent one append after another.
//!
//! After each commit openraft has one more append without entries ready, only to say so. It waits a little for company:
//! most often the next entry takes the news along, which saves half of the calls of a client that writes alone.
//!
//! What this never does: hold an entry back, give answers in another order, or count an append as answered that was not.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, Stream, StreamExt, stream};
use openraft::errors::RPCError;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;

use crate::codec::{self, StreamAnswerV1};
use crate::network::{CallAnswers, CallError, Caller, Connection};
use crate::pb::Call;
use crate::types::Types;

/// How long the news of a commit waits for an entry that takes it along.
const COMMIT_WAIT: Duration = Duration::from_millis(5);

/// What openraft is given: the answers, in order.
pub(crate) type Answers<'s> =
    Pin<Box<dyn Stream<Item = Result<StreamAppendResult<Types>, RPCError<Types>>> + Send + 's>>;

/// Answers from a peer, each with the time its append may still take.
struct Incoming<'s> {
    connection: &'s mut Connection,
    answers: CallAnswers,
    sent: Sent,
    _end: DropGuard,
}

/// When the appends without an answer ran out of time, oldest first. openraft holds back how many there are.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<VecDeque<Instant>>>);

impl Sent {
    fn begin(&self, limit: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(Instant::now() + limit);
    }

    fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    }

    /// When the oldest must have been answered.
    fn due(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).front().copied()
    }
}

/// How long appends may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// One without entries.
    pub(crate) empty: Duration,
    /// One with entries, which waits for the target's sync.
    pub(crate) entries: Duration,
}

/// What openraft wants sent, looked at as far as it is there at once.
pub(crate) enum Wanted<S> {
    /// Nothing.
    Nothing,
    /// One append and no more: a heartbeat, or a probe.
    One(AppendEntriesRequest<Types>),
    /// These, and what is still to come.
    Many(Vec<AppendEntriesRequest<Types>>, S),
}

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> Wanted<S> {
    pub(crate) async fn look(mut input: S) -> Self {
        let Some(first) = input.next().await else { return Self::Nothing };
        match input.next().now_or_never() {
            Some(None) => Self::One(first),
            Some(Some(second)) => Self::Many(vec![first, second], input),
            None => Self::Many(vec![first], input),
        }
    }
}

/// Appends on their way out.
struct Outgoing<S> {
    input: S,
    /// The last entry of this replica's own log.
    appended: watch::Receiver<u64>,
    /// The last entry that was sent.
    sent_upto: u64,
    caller: Caller,
    sent: Sent,
    limits: Limits,
    /// Cancelled when the answers are dropped.
    end: CancellationToken,
}

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> Outgoing<S> {
    /// Gives the next append until nobody takes the answers any more. openraft's stream holds a lock that the next stream
    /// needs, so it must go with the answers, and not when HTTP/2 finds out.
    async fn next(self) -> Option<(Call, Self)> {
        let end = self.end.clone();
        tokio::select! {
            biased;
            () = end.cancelled() => None,
            next = self.more() => next,
        }
    }

    /// Gives the next append; what has no entry waits for one, but not for long.
    async fn more(mut self) -> Option<(Call, Self)> {
        let sent_upto = self.sent_upto;
        let more = self.appended.wait_for(|last| *last > sent_upto);
        // Late, or the log is closed: then openraft ends the stream.
        let _ = tokio::time::timeout(COMMIT_WAIT, more).await;
        let append = self.input.next().await?;
        Some((self.call(&append), self))
    }

    fn call(&mut self, append: &AppendEntriesRequest<Types>) -> Call {
        let last = append.entries.last().map(|entry| entry.log_id).or(append.prev_log_id);
        self.sent_upto = last.map_or(0, |id| id.index);
        self.sent.begin(if append.entries.is_empty() { self.limits.empty } else { self.limits.entries });
        self.caller.call(codec::encode_append(append))
    }
}

/// Opens a stream of appends to a peer.
///
/// # Errors
/// [`CallError`] if the peer takes no stream; nothing is known of the appends that were taken from `input` by then.
pub(crate) async fn open<'s, S>(
    connection: &'s mut Connection,
    first: Vec<AppendEntriesRequest<Types>>,
    input: S,
    limits: Limits,
) -> Result<Answers<'s>, CallError>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    let sent = Sent::default();
    let (appended, caller) = (connection.appended()?, connection.caller());
    let end = CancellationToken::new();
    let guard = end.clone().drop_guard();
    let mut outgoing = Outgoing { input, appended, sent_upto: 0, caller, sent: sent.clone(), limits, end };
    let first: Vec<Call> = first.iter().map(|append| outgoing.call(append)).collect();
    let calls = stream::iter(first).chain(stream::unfold(outgoing, Outgoing::next));
    let opened = tokio::time::timeout(limits.entries, connection.append_stream(calls)).await;
    let answers = opened.map_err(|_| CallError::Late(limits.entries))??;
    let incoming = Incoming { connection, answers, sent, _end: guard };
    Ok(Box::pin(stream::unfold(Some(incoming), move |state| next(state, limits))))
}

type Step<'s> = Option<(Result<StreamAppendResult<Types>, RPCError<Types>>, Option<Incoming<'s>>)>;

/// Gives the next answer; an error or a refusal is the last.
async fn next(state: Option<Incoming<'_>>, limits: Limits) -> Step<'_> {
    let mut incoming = state?;
    match incoming.answer(limits).await {
        None => None,
        Some(Ok(answer)) => {
            let result: StreamAppendResult<Types> = answer.into();
            let goes_on = result.is_ok();
            Some((Ok(result), goes_on.then_some(incoming)))
        }
        Some(Err(error)) => Some((Err(incoming.connection.append_failed(error)), None)),
    }
}

impl Incoming<'_> {
    /// Waits for one answer as long as the oldest append may take; for ever while nothing is on its way.
    async fn answer(&mut self, limits: Limits) -> Option<Result<StreamAnswerV1, CallError>> {
        loop {
            let patience = self.sent.due().map_or(limits.entries, |due| due.saturating_duration_since(Instant::now()));
            let message = match tokio::time::timeout(patience, self.answers.next()).await {
                Ok(message) => message,
                Err(_) if self.sent.due().is_some_and(|due| due <= Instant::now()) => {
                    return Some(Err(CallError::Late(limits.entries)));
                }
                // Nothing was on its way, or what was late has gone out only just now.
                Err(_) => continue,
            };
            return match message {
                None => None,
                Some(Ok(answer)) => {
                    self.sent.end();
                    Some(self.connection.open(answer))
                }
                Some(Err(status)) => {
                    self.connection.streams = status.code() != Code::Unimplemented;
                    Some(Err(self.connection.refused(&status)))
                }
            };
        }
    }
}

impl From<StreamAppendResult<Types>> for StreamAnswerV1 {
    fn from(result: StreamAppendResult<Types>) -> Self {
        match result {
            Ok(matching) => Self::Matching(matching.map(Into::into)),
            Err(StreamAppendError::Conflict(id)) => Self::Conflict(id.into()),
            Err(StreamAppendError::HigherVote(vote)) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<StreamAnswerV1> for StreamAppendResult<Types> {
    fn from(mirror: StreamAnswerV1) -> Self {
        match mirror {
            StreamAnswerV1::Matching(matching) => Ok(matching.map(Into::into)),
            StreamAnswerV1::Conflict(id) => Err(StreamAppendError::Conflict(id.into())),
            StreamAnswerV1::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote.into())),
        }
    }
}
