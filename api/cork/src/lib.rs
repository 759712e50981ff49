//! One packet instead of many: a connection whose small writes wait until its task has had another turn.
//!
//! HTTP/2 as hyper does it hands its frames over one by one and flushes after many of them: a call's headers, its body and
//! its end are three writes, an answer is two, and answers that are ready at the same moment are written one after another.
//! Each write is a record of TLS, a system call and a wake-up of the other end, and costs more than the call itself
//! (docs/decisions/0009). [`Corked`] takes the writes into a buffer. The first flush after a write only asks for another turn of the
//! task; in that turn, or in a later one in which nothing new was written, the flush is real. So whatever the tasks that are
//! ready now have to say goes out together, and nothing waits for a timer or for somebody else's data.
//!
//! Whoever writes, flushes and then only reads (a handshake) does not flush again: after a flush that was put off, a read that
//! finds nothing asks for one more turn, and the next such read writes.
//!
//! What this never does: hold bytes back while its task sleeps, ask for turns while the other end takes nothing, reorder bytes, or
//! hide an error of the connection.

mod connect;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use connect::{Connector, connector};

/// Bytes held at most: as many as one record of TLS carries (RFC 8446, section 5.1).
const HELD_MAX: usize = 16 * 1024;

/// A connection that gathers its writes; see the head of this crate.
#[derive(Debug)]
pub struct Corked<S> {
    inner: S,
    held: Vec<u8>,
    /// How much of `held` the connection has taken.
    taken: usize,
    /// Something was written since the last flush.
    fresh: bool,
    /// A flush was put off, and nobody has asked again.
    owed: bool,
    /// A read has found nothing since then.
    waited: bool,
}

impl<S> Corked<S> {
    /// Puts a cork on a connection.
    pub fn new(inner: S) -> Self {
        Self { inner, held: Vec::new(), taken: 0, fresh: false, owed: false, waited: false }
    }

    /// The connection itself.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: AsyncWrite + Unpin> Corked<S> {
    /// Writes what is held.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.held.len() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.held[self.taken..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken += written;
        }
        self.held.clear();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        self.owed = false;
        Pin::new(&mut self.inner).poll_flush(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Corked<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_pending() && self.owed {
            if !self.waited {
                self.waited = true;
                cx.waker().wake_by_ref();
            } else if let Poll::Ready(Err(error)) = self.poll_out(cx) {
                return Poll::Ready(Err(error));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.len() + buf.len() > HELD_MAX {
            ready!(self.poll_drain(cx))?;
        }
        if buf.len() >= HELD_MAX {
            return Pin::new(&mut self.inner).poll_write(cx, buf);
        }
        self.held.extend_from_slice(buf);
        self.fresh = true;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.fresh {
            (self.fresh, self.owed, self.waited) = (false, true, false);
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        // If the other end takes nothing now, the caller is told so and comes again.
        self.owed = false;
        self.poll_out(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::VecDeque;
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::task::{Wake, Waker};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// Keeps each write apart, takes at most `room` bytes of each (none: it is stuck), and reads nothing.
    #[derive(Clone, Default)]
    struct Writes {
        seen: Arc<Mutex<VecDeque<Vec<u8>>>>,
        room: Option<usize>,
    }

    impl AsyncWrite for Writes {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let taken = self.room.map_or(buf.len(), |room| room.min(buf.len()));
            if taken == 0 {
                return Poll::Pending;
            }
            self.seen.lock().unwrap().push_back(buf[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Writes {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    /// One turn of a task that writes some pieces, each with a flush.
    async fn turn(corked: &mut Corked<Writes>, pieces: &[&[u8]]) {
        poll_fn(|cx| {
            for piece in pieces {
                assert!(matches!(Pin::new(&mut *corked).poll_write(cx, piece), Poll::Ready(Ok(n)) if n == piece.len()));
                assert!(matches!(Pin::new(&mut *corked).poll_flush(cx), Poll::Ready(Ok(()))));
            }
            if pieces.is_empty() {
                assert!(matches!(Pin::new(&mut *corked).poll_flush(cx), Poll::Ready(Ok(()))));
            }
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_said_in_turns_that_follow_each_other_goes_out_as_one() {
        let writes = Writes::default();
        let mut corked = Corked::new(writes.clone());
        turn(&mut corked, &[b"headers", b"body", b"end"]).await;
        turn(&mut corked, &[b" and another"]).await;
        assert!(writes.seen.lock().unwrap().is_empty());
        turn(&mut corked, &[]).await;
        assert_eq!(*writes.seen.lock().unwrap(), [b"headersbodyend and another".to_vec()]);
        turn(&mut corked, &[]).await;
        assert_eq!(writes.seen.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_short_write_loses_and_doubles_nothing() {
        let writes = Writes { room: Some(3), ..Writes::default() };
        let mut corked = Corked::new(writes.clone());
        turn(&mut corked, &[b"0123456789"]).await;
        turn(&mut corked, &[]).await;
        assert_eq!(writes.seen.lock().unwrap().make_contiguous().concat(), b"0123456789");
    }

    #[tokio::test]
    async fn more_than_it_holds_goes_out_in_order() {
        let (near, mut far) = duplex(1024);
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            let mut corked = Corked::new(near);
            for piece in sent.chunks(7_001) {
                corked.write_all(piece).await.unwrap();
                corked.flush().await.unwrap();
            }
            corked.write_all(&sent[..40_000]).await.unwrap();
            corked.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap();
        assert_eq!(got[..expected.len()], expected);
        assert_eq!(got[expected.len()..], expected[..40_000]);
    }

    /// As a handshake does: write, flush once, and wait for the answer.
    #[tokio::test]
    async fn who_flushes_once_and_reads_is_heard() {
        let (near, mut far) = duplex(1024);
        let other = tokio::spawn(async move {
            let mut question = [0; 8];
            far.read_exact(&mut question).await.unwrap();
            far.write_all(b"answer").await.unwrap();
            question
        });
        let mut corked = Corked::new(near);
        corked.write_all(b"question").await.unwrap();
        corked.flush().await.unwrap();
        let mut answer = [0; 6];
        corked.read_exact(&mut answer).await.unwrap();
        assert_eq!((&answer, &other.await.unwrap()), (b"answer", b"question"));
    }

    /// Counts how often its task was asked for another turn.
    #[derive(Default)]
    struct Turns(AtomicUsize);

    impl Wake for Turns {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// One turn in the manner of HTTP/2, or of a handshake that has flushed once: whether it asked for another.
    fn asks_again(corked: &mut Corked<Writes>, flushes: bool) -> bool {
        let turns = Arc::new(Turns::default());
        let waker = Waker::from(turns.clone());
        let mut cx = Context::from_waker(&waker);
        let (mut room, mut corked) = ([0; 8], Pin::new(corked));
        assert!(corked.as_mut().poll_read(&mut cx, &mut ReadBuf::new(&mut room)).is_pending());
        if flushes {
            let _ = corked.poll_flush(&mut cx);
        }
        turns.0.load(Ordering::SeqCst) > 0
    }

    #[test]
    fn while_the_other_end_takes_nothing_it_sleeps() {
        for flushes in [true, false] {
            let mut corked = Corked::new(Writes { room: Some(0), ..Writes::default() });
            let mut cx = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut corked).poll_write(&mut cx, b"answer").is_ready());
            assert!(Pin::new(&mut corked).poll_flush(&mut cx).is_ready());
            let again: Vec<bool> = (0..5).map(|_| asks_again(&mut corked, flushes)).collect();
            assert_eq!(again, [true, false, false, false, false], "flushes: {flushes}");
            // Once it takes bytes again all of them go out.
            corked.inner.room = None;
            asks_again(&mut corked, flushes);
            assert_eq!(*corked.inner.seen.lock().unwrap(), [b"answer".to_vec()]);
        }
    }

    #[tokio::test]
    async fn an_end_of_the_other_side_is_told() {
        let (near, far) = duplex(1024);
        drop(far);
        let mut corked = Corked::new(near);
        corked.write_all(b"question").await.unwrap();
        corked.flush().await.unwrap();
        corked.flush().await.unwrap_err();
    }
}
