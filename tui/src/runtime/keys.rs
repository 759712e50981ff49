//! Keys from the real terminal: one thread waits for bytes, a parser makes events of them.
//!
//! The thread waits for the terminal and for its own end at once (`poll`), so that leaving the console leaves nobody
//! behind who would take the shell's first letters. A lone escape byte is held back for a moment, because it may be the
//! start of a sequence that arrives in two pieces. It never draws and never asks the terminal anything.
//!
//! crossterm's reader is not used: it waits edge-triggered and forgets the keys' edge when a resize comes in the same
//! wake-up, so that keys typed then lie until the next one (seen in a test, found in its source, 0.29).

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use termina::{Event, Parser};
use tokio::sync::mpsc;

/// Bytes taken at once; a longer paste comes in pieces.
const READ_BYTES: usize = 4 << 10;
/// Events that may wait for the console; more make the reader wait, and the terminal with it.
const EVENTS_MAX: usize = 1_024;
/// How long the rest of an escape sequence may take.
const ESCAPE_WAIT: Duration = Duration::from_millis(40);

/// The reader; dropping it ends its thread.
pub(super) struct Keys {
    events: mpsc::Receiver<io::Result<Event>>,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Keys {
    /// Begins to read standard input.
    ///
    /// # Errors
    /// No resources for a thread or its stop.
    pub(super) fn open() -> io::Result<Self> {
        let (stop, stopped) = UnixStream::pair()?;
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let read = move || {
            if let Err(error) = pump(io::stdin(), &stopped, &sender) {
                // The console has left already.
                let _ = sender.blocking_send(Err(error));
            }
        };
        let thread = std::thread::Builder::new().name("keys".to_owned()).spawn(read)?;
        Ok(Self { events, stop: Some(stop), thread: Some(thread) })
    }

    /// Waits for the next event; none when the terminal has gone.
    pub(super) async fn next(&mut self) -> Option<io::Result<Event>> {
        self.events.recv().await
    }

    /// Takes an event that waits already.
    pub(super) fn waiting(&mut self) -> Option<io::Result<Event>> {
        self.events.try_recv().ok()
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.events.close();
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the reader of keys panicked");
        }
    }
}

/// Reads until the end of the input, of the console, or `stopped`.
fn pump(input: impl AsFd, stopped: &UnixStream, events: &mpsc::Sender<io::Result<Event>>) -> io::Result<()> {
    let mut parser = Parser::default();
    let mut bytes = [0; READ_BYTES];
    let mut partial = false;
    loop {
        match wait(&input, stopped, partial.then_some(ESCAPE_WAIT))? {
            Wake::Stopped => return Ok(()),
            Wake::Late => {
                parser.parse(&[], false);
                partial = false;
            }
            Wake::Input => {
                // Not through a buffer: `poll` does not see what lies in one.
                let read = match rustix::io::read(&input, &mut bytes) {
                    Ok(0) => return Ok(()),
                    Ok(read) => read,
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                };
                parser.parse(&bytes[..read], true);
                partial = true;
            }
        }
        while let Some(event) = parser.pop() {
            if events.blocking_send(Ok(event)).is_err() {
                return Ok(());
            }
        }
    }
}

enum Wake {
    Input,
    Late,
    Stopped,
}

fn wait(input: &impl AsFd, stopped: &UnixStream, longest: Option<Duration>) -> io::Result<Wake> {
    let longest = longest.map(|wait| Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() });
    let mut watched = [PollFd::new(stopped, PollFlags::IN), PollFd::new(input, PollFlags::IN)];
    loop {
        match poll(&mut watched, longest.as_ref()) {
            Ok(0) => return Ok(Wake::Late),
            Ok(_) if !watched[0].revents().is_empty() => return Ok(Wake::Stopped),
            Ok(_) => return Ok(Wake::Input),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write as _;

    use termina::event::KeyCode;

    use super::*;

    fn reader() -> (UnixStream, UnixStream, mpsc::Receiver<io::Result<Event>>, JoinHandle<io::Result<()>>) {
        let (keyboard, input) = UnixStream::pair().unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        (keyboard, stop, events, std::thread::spawn(move || pump(input, &stopped, &sender)))
    }

    fn code(events: &mut mpsc::Receiver<io::Result<Event>>) -> KeyCode {
        match events.blocking_recv().unwrap().unwrap() {
            Event::Key(key) => key.code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sequence_in_two_pieces_is_one_key_and_a_lone_escape_is_escape() {
        let (mut keyboard, _stop, mut events, thread) = reader();
        keyboard.write_all(b":q\x1b").unwrap();
        assert_eq!((code(&mut events), code(&mut events)), (KeyCode::Char(':'), KeyCode::Char('q')));
        assert_eq!(code(&mut events), KeyCode::Escape);
        keyboard.write_all(b"\x1b[").unwrap();
        keyboard.write_all("A链".as_bytes()).unwrap();
        assert_eq!((code(&mut events), code(&mut events)), (KeyCode::Up, KeyCode::Char('链')));
        drop(keyboard);
        thread.join().unwrap().unwrap();
        assert!(events.blocking_recv().is_none());
    }

    #[test]
    fn stops_while_nobody_types() {
        let (_keyboard, stop, mut events, thread) = reader();
        drop(stop);
        thread.join().unwrap().unwrap();
        assert!(events.blocking_recv().is_none());
    }
}
