//! A stream to a port of a node: `hanse host-dial PORT`, executed in the node's own container.
//!
//! So clients' ports are never published, and it makes no difference whether the engine is on this machine. The engine
//! carries both outputs of the program in frames; what comes on standard output are the bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use hanse_adapters_core::{AdapterError, Result};
use hanse_hostrun::REACHED;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::engine::explain;
use crate::image::PROGRAM;

/// How long the port may take to be reached.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Most that is read before the first line has come.
const SAID_MAX: usize = 4_096;

type Output = Pin<Box<dyn futures::Stream<Item = std::result::Result<LogOutput, Error>> + Send>>;

/// The stream: what is written goes to the program's input, what is read comes from its output.
pub(crate) struct Dialled {
    output: Output,
    input: Pin<Box<dyn AsyncWrite + Send>>,
    /// Read from the engine and not yet by the caller.
    ready: Bytes,
}

/// Opens a stream to `port` in the network of container `id`.
///
/// # Errors
/// `Transient` if nothing listens there or the engine does not answer.
pub(crate) async fn dial(docker: &Docker, id: &str, port: u16) -> Result<Dialled> {
    let subject = format!("port {port}");
    let transient = |reason: String| AdapterError::Transient { subject: subject.clone(), reason };
    let opened = tokio::time::timeout(DIAL_LIMIT, open(docker, id, port, &subject)).await;
    opened.unwrap_or_else(|_| Err(transient("not reached in time".into())))
}

async fn open(docker: &Docker, id: &str, port: u16, subject: &str) -> Result<Dialled> {
    let not_begun = |e| explain(subject, e, false);
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(vec![PROGRAM.to_owned(), "host-dial".into(), port.to_string()]),
        ..Default::default()
    };
    let made = docker.create_exec(id, options).await.map_err(|e| match crate::engine::status(&e) {
        // It has ended since it was looked for.
        Some(404 | 409) => AdapterError::Transient { subject: subject.into(), reason: "its node does not run".into() },
        _ => not_begun(e),
    })?;
    let started = docker.start_exec(&made.id, None::<StartExecOptions>).await.map_err(not_begun)?;
    let StartExecResults::Attached { mut output, input } = started else {
        return Err(AdapterError::Transient { subject: subject.into(), reason: "the engine attached nothing".into() });
    };
    let (mut said, mut complaint) = (BytesMut::new(), Vec::new());
    while said.len() < REACHED.len() && complaint.len() < SAID_MAX {
        match output.next().await {
            Some(Ok(LogOutput::StdErr { message })) => complaint.extend_from_slice(&message),
            Some(Ok(other)) => said.extend_from_slice(other.as_ref()),
            Some(Err(error)) => return Err(not_begun(error)),
            None => break,
        }
    }
    if !said.starts_with(REACHED.as_bytes()) {
        let reason = format!("nothing listens: {}", String::from_utf8_lossy(&complaint).trim());
        return Err(AdapterError::Transient { subject: subject.into(), reason });
    }
    said.advance(REACHED.len());
    Ok(Dialled { output, input, ready: said.freeze() })
}

impl AsyncRead for Dialled {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.ready.is_empty() {
                let count = self.ready.len().min(buf.remaining());
                buf.put_slice(&self.ready.split_to(count));
                return Poll::Ready(Ok(()));
            }
            match std::task::ready!(self.output.as_mut().poll_next(cx)) {
                // Words of our program's about the end; the end itself follows.
                Some(Ok(LogOutput::StdErr { .. })) => {}
                Some(Ok(
                    LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message },
                )) => {
                    self.ready = message;
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for Dialled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.input.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_shutdown(cx)
    }
}
