//! Pace of one connection: what a client does not read, or asks for faster than it is answered, is not read from it.
//!
//! jsonrpsee reads the next message of a WebSocket while the calls before it still run, and an answer that cannot be sent
//! waits in memory. So the connection itself stands still: nothing more is read while [`CALLS_MAX`] calls are under way or
//! while the client takes no answers. It never loses a byte and never closes a connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Calls of one connection under way; more are left unread.
const CALLS_MAX: usize = 32;

/// What the two ends of a connection know of each other.
#[derive(Default)]
pub(super) struct Flow {
    calls: AtomicUsize,
    /// The system's buffer for the client is full.
    is_blocked: AtomicBool,
    /// Messages follow each other without an answer between them.
    is_websocket: AtomicBool,
    reader: AtomicWaker,
}

impl Flow {
    fn must_wait(&self) -> bool {
        self.is_blocked.load(Ordering::SeqCst) || self.calls.load(Ordering::SeqCst) >= CALLS_MAX
    }

    /// From now on the connection is a WebSocket.
    pub(super) fn note_websocket(&self) {
        self.is_websocket.store(true, Ordering::SeqCst);
    }

    fn note_write(&self, is_blocked: bool) {
        if self.is_blocked.swap(is_blocked, Ordering::SeqCst) && !is_blocked {
            self.reader.wake();
        }
    }

    /// Counts a call until the guard is dropped.
    pub(super) fn call(self: &Arc<Self>) -> CallGuard {
        self.calls.fetch_add(1, Ordering::SeqCst);
        CallGuard(Arc::clone(self))
    }
}

/// See [`Flow::call`].
pub(super) struct CallGuard(Arc<Flow>);

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
        self.0.reader.wake();
    }
}

/// A connection that keeps its pace.
pub(super) struct Paced {
    stream: TcpStream,
    flow: Arc<Flow>,
    /// Something was read and the calls in it may not have been counted yet.
    has_read: bool,
}

impl Paced {
    pub(super) fn new(stream: TcpStream, flow: Arc<Flow>) -> Self {
        Self { stream, flow, has_read: false }
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        // Between two reads the calls of the first begin, and are counted; a read is some kilobytes.
        if std::mem::take(&mut self.has_read) && self.flow.is_websocket.load(Ordering::SeqCst) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.flow.must_wait() {
            self.flow.reader.register(cx.waker());
            // What changed between the two looks would wake nobody.
            if self.flow.must_wait() {
                return Poll::Pending;
            }
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.has_read = read.is_ready();
        read
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.flow.note_write(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.flow.note_write(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
