//! Appends in frames: the same messages as those of the call `AppendStream`, without HTTP/2 around them.
//!
//! A lone write waits for one message to a follower and one back, and HTTP/2 with its framing, its windows and its tasks
//! was a good part of each (docs/decisions/0009). So a leader first offers TLS's ALPN `hanse-append/1` on the peer port;
//! whoever picks it speaks frames on that connection from then on, whoever does not (an older build) is sent the call.
//! Who may speak is settled as before: by the certificate, and by what each message says of its sender and target.
//!
//! A frame is its length (4 bytes, big-endian), one byte that says what it is, and the message in protobuf:
//!
//! | kind | from | content |
//! |---|---|---|
//! | 0 | both | nothing: the caller asks whether anybody is there, the other says so |
//! | 1 | caller, other | `Call`; `Answer`, in the order of the calls |
//! | 2 | other | `Refusal`, the last frame: what the status of the call would have been |
//!
//! What this never does: take a frame longer than a message may be, or wait for ever for somebody who is silent.

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{SinkExt as _, Stream, StreamExt as _, stream};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};
use tokio_util::task::AbortOnDropHandle;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::network::{MESSAGE_BYTES_MAX, VERDICT};
use crate::pb::{Answer, Call, Refusal};

/// Name of these frames, and of their version, in TLS's negotiation.
pub(crate) const ALPN: &[u8] = b"hanse-append/1";

const PING: u8 = 0;
const MESSAGE: u8 = 1;
const REFUSAL: u8 = 2;

/// What one frame says.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame<T> {
    /// Somebody is there.
    Ping,
    /// A call, or its answer.
    Message(T),
    /// The end, and why.
    Refusal(Refusal),
}

impl<T: Message + Default> Frame<T> {
    /// Gives the kind and the message; the length is put before it where it is sent.
    pub(crate) fn encode(&self) -> Bytes {
        let (kind, length) = match self {
            Self::Ping => (PING, 0),
            Self::Message(message) => (MESSAGE, message.encoded_len()),
            Self::Refusal(refusal) => (REFUSAL, refusal.encoded_len()),
        };
        let mut frame = BytesMut::with_capacity(1 + length);
        frame.put_u8(kind);
        match self {
            Self::Ping => {}
            Self::Message(message) => put(message, &mut frame),
            Self::Refusal(refusal) => put(refusal, &mut frame),
        }
        frame.freeze()
    }

    /// Reads what [`Frame::encode`] gave.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub(crate) fn decode(mut frame: BytesMut) -> Result<Self, String> {
        if frame.is_empty() {
            return Err("an empty frame".into());
        }
        let message = frame.split_off(1).freeze();
        match frame[0] {
            PING if message.is_empty() => Ok(Self::Ping),
            MESSAGE => T::decode(message).map(Self::Message).map_err(|e| e.to_string()),
            REFUSAL => Refusal::decode(message).map(Self::Refusal).map_err(|e| e.to_string()),
            kind => Err(format!("a frame of kind {kind}")),
        }
    }
}

fn put(message: &impl Message, frame: &mut BytesMut) {
    // A buffer of bytes grows as it has to.
    let Ok(()) = message.encode(frame) else { unreachable!("a growing buffer is never full") };
}

type Reading<S> = FramedRead<ReadHalf<S>, LengthDelimitedCodec>;
type Writing<S> = FramedWrite<WriteHalf<S>, LengthDelimitedCodec>;

fn halves<S: AsyncRead + AsyncWrite>(stream: S) -> (Reading<S>, Writing<S>) {
    let codec = LengthDelimitedCodec::builder().max_frame_length(MESSAGE_BYTES_MAX + 1).new_codec();
    let (read, write) = tokio::io::split(stream);
    (FramedRead::new(read, codec.clone()), FramedWrite::new(write, codec))
}

/// Reaches a peer, which takes the connection within `limit`; `None` if it is there and does not speak frames. How long the
/// handshake may take is the caller's to say: a busy machine is no partition.
///
/// # Errors
/// Whatever kept it from being reached; nothing was sent.
pub(crate) async fn dial(
    address: &str,
    config: rustls::ClientConfig,
    name: &str,
    limit: Duration,
) -> std::io::Result<Option<TlsStream<TcpStream>>> {
    let stream = tokio::time::timeout(limit, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    let name = rustls_pki_types::ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
    let stream = TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await?;
    let speaks = stream.get_ref().1.alpn_protocol() == Some(ALPN);
    Ok(speaks.then_some(stream))
}

/// Sends calls as they come, and asks every so often whether anybody is there; ends with `calls`, or with the connection.
async fn send<S, C>(mut writing: Writing<S>, calls: C, ask_every: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Stream<Item = Call>,
{
    tokio::pin!(calls);
    let mut ask = tokio::time::interval(ask_every);
    ask.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let frame = tokio::select! {
            biased;
            call = calls.next() => match call {
                Some(call) => Frame::Message(call),
                None => return,
            },
            _ = ask.tick() => Frame::<Call>::Ping,
        };
        if let Err(error) = writing.send(frame.encode()).await {
            // Whoever reads the answers finds the same, and tells.
            tracing::debug!(%error, "a stream of appends ended");
            return;
        }
    }
}

/// Hands calls to a peer and gives its answers in order, until either ends. The caller of the answers decides how long it
/// waits for one; somebody who does not even say that it is there for twice `ask_every` has gone.
pub(crate) fn call<S, C>(
    stream: S,
    calls: C,
    ask_every: Duration,
) -> impl Stream<Item = Result<Answer, Status>> + Send + 'static
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: Stream<Item = Call> + Send + 'static,
{
    let (reading, writing) = halves(stream);
    // Ends with the answers, even while the other end takes nothing.
    let sending = AbortOnDropHandle::new(tokio::spawn(send(writing, calls, ask_every)));
    stream::unfold(Some((reading, sending)), move |state| async move {
        let (mut reading, sending) = state?;
        loop {
            match next_frame::<_, Answer>(&mut reading, 2 * ask_every).await {
                None => return None,
                Some(Ok(Frame::Ping)) => {}
                Some(Ok(Frame::Message(answer))) => return Some((Ok(answer), Some((reading, sending)))),
                Some(Ok(Frame::Refusal(refusal))) => return Some((Err(refusal.into()), None)),
                Some(Err(status)) => return Some((Err(status), None)),
            }
        }
    })
}

/// Waits for a frame; `None` at the orderly end.
async fn next_frame<S, T>(reading: &mut Reading<S>, silence: Duration) -> Option<Result<Frame<T>, Status>>
where
    S: AsyncRead + AsyncWrite,
    T: Message + Default,
{
    let frame = match tokio::time::timeout(silence, reading.next()).await {
        Err(_) => return Some(Err(Status::unavailable(format!("nothing was heard for {silence:?}")))),
        Ok(frame) => frame?,
    };
    let frame = frame.map_err(|e| Status::unavailable(format!("the connection broke: {e}")));
    Some(frame.and_then(|frame| Frame::decode(frame).map_err(Status::invalid_argument)))
}

/// Both ways of a connection on which a peer calls.
pub(crate) struct Called<S> {
    pings: mpsc::Receiver<()>,
    writing: Writing<S>,
    silence: Duration,
}

/// Pings that wait for their answer; one says as much as many.
const PINGS_WAITING: usize = 1;

/// Gives the calls of a connection, and what its answers are handed to. Whoever says nothing for `silence` has gone.
pub(crate) fn calls<S>(
    stream: S,
    silence: Duration,
) -> (impl Stream<Item = Result<Call, Status>> + Send + 'static, Called<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (reading, writing) = halves(stream);
    let (ping, pings) = mpsc::channel(PINGS_WAITING);
    let calls = stream::unfold(Some((reading, ping)), move |state| async move {
        let (mut reading, ping) = state?;
        loop {
            match next_frame::<_, Call>(&mut reading, silence).await {
                None => return None,
                Some(Ok(Frame::Ping)) => {
                    // Full: one is about to be answered. Closed: so is the whole connection.
                    let _ = ping.try_send(());
                }
                Some(Ok(Frame::Message(call))) => return Some((Ok(call), Some((reading, ping)))),
                Some(Ok(Frame::Refusal(_))) => {
                    return Some((Err(Status::invalid_argument("a caller refuses nothing")), None));
                }
                Some(Err(status)) => return Some((Err(status), None)),
            }
        }
    });
    (calls, Called { pings, writing, silence })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Called<S> {
    /// Sends answers as they come, until they end, one is a refusal, or nobody takes them.
    pub(crate) async fn answer(mut self, answers: impl Stream<Item = Result<Answer, Status>>) {
        tokio::pin!(answers);
        loop {
            let (frame, last) = tokio::select! {
                biased;
                answer = answers.next() => match answer {
                    None => break,
                    Some(Ok(answer)) => (Frame::Message(answer), false),
                    Some(Err(status)) => (Frame::Refusal(status.into()), true),
                },
                Some(()) = self.pings.recv() => (Frame::<Answer>::Ping, false),
            };
            match tokio::time::timeout(self.silence, self.writing.send(frame.encode())).await {
                Ok(Ok(())) if !last => {}
                Ok(Ok(())) => break,
                // Gone, or it takes nothing.
                Ok(Err(_)) | Err(_) => return,
            }
        }
        // The other end may be gone already.
        let _ = tokio::time::timeout(self.silence, self.writing.get_mut().shutdown()).await;
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let verdict = status.metadata().get(VERDICT).and_then(|verdict| verdict.to_str().ok()).unwrap_or_default();
        Self { code: status.code().into(), message: status.message().to_owned(), verdict: verdict.to_owned() }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut status = Self::new(Code::from(refusal.code), refusal.message);
        // A verdict that is no text is none that this build knows.
        if let Ok(verdict) = MetadataValue::try_from(refusal.verdict)
            && !verdict.is_empty()
        {
            status.metadata_mut().insert(VERDICT, verdict);
        }
        status
    }
}
