//! Our program on the host, kept for the next request: it costs a session, a shell and a start only once.
//!
//! Each is one session in which `host-run` answers a line of JSON with a line of JSON and ends with its input; in the first of a
//! connection a shell says before whether the program is there at all, and else receives it. One serves one request at a time;
//! what is idle is kept, at most [`IDLE_MAX`] and for [`IDLE_LIMIT`], so that nothing of ours stays on a host that is not
//! asked. It never asks again what was sent once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hanse_hostrun::Response;
use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{timeout, timeout_at};

use crate::connection::{ANSWER_BYTES_MAX, Connection, Ran, STDERR_BYTES_MAX};
use crate::upload::{Body, Broken};

/// How long a request waits for a program that is busy before another one is started for it: that costs the host a session,
/// a shell and a process, and most requests are answered in less.
const PATIENCE: Duration = Duration::from_millis(250);
/// Programs that wait for the next request: sessions are needed for uploads as well.
const IDLE_MAX: usize = 2;
/// How long one waits.
pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// One running `host-run`.
pub(crate) struct Served {
    /// There until it is dropped.
    channel: Option<Channel<Msg>>,
    command: String,
    /// What came of an answer's line so far.
    line: Vec<u8>,
    stderr: Vec<u8>,
    is_accepted: bool,
    code: Option<u32>,
    idle_since: Instant,
    /// Given back when the channel is closed.
    permit: Option<OwnedSemaphorePermit>,
}

/// Those that wait for a request, and how many do not.
#[derive(Default)]
pub(crate) struct Idle {
    waiting: Mutex<Vec<Served>>,
    /// Requests under way, that to start a program included.
    busy: AtomicUsize,
    /// One of them has ended.
    ended: Notify,
}

/// A request under way, until it is dropped.
struct Busy<'a>(&'a Idle);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_one();
    }
}

impl Idle {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Served>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for one that runs `command`, as long as [`PATIENCE`] if there are others that may become free; `None` if one is
    /// to be started.
    async fn turn(&self, command: &str) -> (Busy<'_>, Option<Served>) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let is_late = tokio::time::Instant::now() >= deadline;
            if let Some(turn) = self.try_turn(command, is_late) {
                return turn;
            }
            // Whether in time or not, it is looked again.
            let _in_time = timeout_at(deadline, self.ended.notified()).await;
        }
    }

    fn try_turn(&self, command: &str, is_late: bool) -> Option<(Busy<'_>, Option<Served>)> {
        // Held to the end: of two that find nobody busy only one begins.
        let mut waiting = self.lock();
        let found = waiting.iter().rposition(|served| served.command == command).map(|at| waiting.remove(at));
        let begins = found.is_some() || is_late || self.busy.load(Ordering::Acquire) == 0;
        begins.then(|| {
            self.busy.fetch_add(1, Ordering::AcqRel);
            (Busy(self), found)
        })
    }

    fn keep(&self, mut served: Served) {
        served.idle_since = Instant::now();
        let mut idle = self.lock();
        if idle.len() < IDLE_MAX {
            idle.push(served);
        }
    }

    /// Ends those that wait too long.
    pub(crate) fn drop_old(&self) {
        self.lock().retain(|served| served.idle_since.elapsed() < IDLE_LIMIT);
    }

    /// Ends all.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }
}

impl Connection {
    /// Has `request` (a line, and the `body` that follows it) answered by `command` on the host, by one that runs already if
    /// there is one.
    pub(crate) async fn serve(self: &Arc<Self>, command: &str, request: &[u8], body: &Body, limit: Duration) -> Ran {
        let (busy, found) = self.idle().turn(command).await;
        let mut served = match found {
            Some(served) => served,
            None => match self.start(command, command).await {
                Ok(served) => served,
                Err(reason) => return Ran::NotSent(reason),
            },
        };
        let ran = served.ask_within(request, body, limit).await;
        if let Ran::Answered(_) = ran {
            self.keep(served);
        }
        // Only now: who waits finds it among those that do nothing.
        drop(busy);
        ran
    }

    /// Keeps what waits for a request.
    pub(crate) fn keep(self: &Arc<Self>, served: Served) {
        self.idle().keep(served);
        self.spawn_sweep();
    }

    /// Starts `script` in a session, which becomes what answers as `command`.
    pub(crate) async fn start(&self, script: &str, command: &str) -> Result<Served, String> {
        let (channel, permit) = self.session().await?;
        channel.exec(true, script).await.map_err(|e| e.to_string())?;
        Ok(Served {
            channel: Some(channel),
            command: command.to_owned(),
            line: Vec::new(),
            stderr: Vec::new(),
            is_accepted: false,
            code: None,
            idle_since: Instant::now(),
            permit: Some(permit),
        })
    }
}

impl Served {
    async fn next(&mut self) -> Option<ChannelMsg> {
        self.channel.as_mut()?.wait().await
    }

    /// Waits until the host has accepted the command, or says what became of it instead.
    async fn accepted(&mut self) -> Result<(), Ran> {
        while !self.is_accepted {
            match self.next().await {
                Some(ChannelMsg::Success) => self.is_accepted = true,
                Some(ChannelMsg::Failure) => return Err(Ran::NoProgram("the host refuses to execute commands".into())),
                Some(message) => drop(self.take(message)),
                None => return Err(Ran::NotSent("the connection ended before the request".into())),
            }
        }
        Ok(())
    }

    /// Waits for a line that is one of `signs` and returns which; other lines were printed by the account's shell at its start.
    ///
    /// # Errors
    /// What the command ended with instead.
    pub(crate) async fn sign<'a>(&mut self, signs: &[&'a str], limit: Duration) -> Result<&'a str, Ran> {
        let heard = async {
            self.accepted().await?;
            while let Some(message) = self.next().await {
                if let ChannelMsg::Data { data } = &message {
                    self.line.extend_from_slice(data);
                    while let Some(line) = self.whole_line() {
                        let said = signs.iter().find(|sign| sign.as_bytes() == line.trim_ascii());
                        if let Some(sign) = said {
                            return Ok(*sign);
                        }
                    }
                    if self.line.len() > ANSWER_BYTES_MAX {
                        return Err(Ran::NoAnswer(format!("the answer exceeds {ANSWER_BYTES_MAX} bytes")));
                    }
                } else {
                    drop(self.take(message));
                }
            }
            Err(self.ended(Ran::NoAnswer("the connection ended before the answer".into())))
        };
        match timeout(limit, heard).await {
            Ok(heard) => heard,
            Err(_) => Err(Ran::NoAnswer(format!("no answer within {} s", limit.as_secs()))),
        }
    }

    /// As [`Served::ask`], in so much time.
    pub(crate) async fn ask_within(&mut self, request: &[u8], body: &Body, limit: Duration) -> Ran {
        match timeout(limit, self.ask(request, body)).await {
            Ok(ran) => ran,
            Err(_) => Ran::NoAnswer(format!("no answer within {} s", limit.as_secs())),
        }
    }

    /// With what code the command ended, if it did, and what it said.
    pub(crate) fn code(&self) -> Option<(u32, String)> {
        Some((self.code?, self.said()))
    }

    async fn ask(&mut self, request: &[u8], body: &Body) -> Ran {
        if let Err(ran) = self.accepted().await {
            return ran;
        }
        let Some(mut writer) = self.channel.as_ref().map(|channel| channel.make_writer()) else {
            return Ran::NotSent("the channel is closed".into());
        };
        if writer.write_all(request).await.is_err() {
            // The program may have ended before: then its exit status says how, and it has read nothing.
            return self.drain(Ran::NotSent("the connection broke before the request was sent".into())).await;
        }
        let sending = body.send(&mut writer);
        tokio::pin!(sending);
        let mut is_sent = false;
        loop {
            // What the host says meanwhile is read, so that a program that ended is noticed while there is more to send.
            let message = tokio::select! {
                sent = &mut sending, if !is_sent => {
                    match sent {
                        Ok(()) => is_sent = true,
                        // The program waits for what does not come; it ends with the channel.
                        Err(Broken::Here(error)) => return Ran::NoAnswer(format!("the upload broke: {error}")),
                        // Its exit status, if it has one, says better why than the channel does.
                        Err(Broken::There(error)) => {
                            return self.drain(Ran::NoAnswer(format!("the upload broke: {error}"))).await;
                        }
                    }
                    continue;
                }
                message = self.next() => message,
            };
            match message {
                Some(message) => {
                    if let Some(ran) = self.take(message) {
                        return ran;
                    }
                }
                None => return self.ended(Ran::NoAnswer("the connection ended before the answer".into())),
            }
        }
    }

    /// Reads what is left until the channel ends.
    async fn drain(&mut self, otherwise: Ran) -> Ran {
        while let Some(message) = self.next().await {
            if let Some(ran) = self.take(message) {
                return ran;
            }
        }
        self.ended(otherwise)
    }

    /// Takes one message; returns the answer when it is whole.
    fn take(&mut self, message: ChannelMsg) -> Option<Ran> {
        match message {
            ChannelMsg::Data { data } if self.line.len() + data.len() <= ANSWER_BYTES_MAX => self.read(&data),
            ChannelMsg::Data { .. } => Some(Ran::NoAnswer(format!("the answer exceeds {ANSWER_BYTES_MAX} bytes"))),
            ChannelMsg::ExtendedData { data, .. } => {
                let room = STDERR_BYTES_MAX.saturating_sub(self.stderr.len());
                self.stderr.extend_from_slice(&data[..data.len().min(room)]);
                None
            }
            ChannelMsg::ExitStatus { exit_status } => {
                self.code = Some(exit_status);
                None
            }
            _ => None,
        }
    }

    /// Whole lines that are no answer were printed by the account's shell at its start, or are empty.
    fn read(&mut self, data: &[u8]) -> Option<Ran> {
        self.line.extend_from_slice(data);
        while let Some(line) = self.whole_line() {
            if serde_json::from_slice::<Response>(&line).is_ok() {
                return Some(Ran::Answered(line));
            }
        }
        None
    }

    /// The next line that has come whole, with its end.
    fn whole_line(&mut self) -> Option<Vec<u8>> {
        let end = self.line.iter().position(|byte| *byte == b'\n')?;
        Some(self.line.drain(..=end).collect())
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }

    fn ended(&self, otherwise: Ran) -> Ran {
        let said = self.said();
        match self.code {
            // What sh(1) answers for a program that is not there or cannot be executed, and what ours ends with, before it
            // does anything, when its file was deleted.
            Some(126 | 127) => Ran::NoProgram(said),
            Some(code) => Ran::NoAnswer(format!("our program on the host ended with {code}: {said}")),
            None => otherwise,
        }
    }
}

/// The program ends with its input.
impl Drop for Served {
    fn drop(&mut self) {
        let (channel, permit) = (self.channel.take(), self.permit.take());
        if let (Some(channel), Ok(runtime)) = (channel, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                // The connection may be gone, and the program with it.
                let _ = channel.close().await;
                drop(permit);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn served(command: &str) -> Served {
        Served {
            channel: None,
            command: command.to_owned(),
            line: Vec::new(),
            stderr: Vec::new(),
            is_accepted: true,
            code: None,
            idle_since: Instant::now(),
            permit: None,
        }
    }

    /// The first starts a program, the second waits for it, and one that waits in vain starts another.
    #[tokio::test]
    async fn a_request_waits_for_a_busy_program_and_not_for_ever() {
        let idle = Idle::default();
        let (first, none) = idle.turn("x").await;
        assert!(none.is_none(), "there is nobody to wait for");
        let second = idle.turn("x");
        tokio::pin!(second);
        assert!(timeout(Duration::from_millis(1), &mut second).await.is_err(), "it waits for the busy one");
        idle.keep(served("x"));
        drop(first);
        let (second, found) = second.await;
        assert_eq!(found.unwrap().command, "x");
        let (third, none) = idle.turn("x").await;
        assert!(none.is_none(), "the only one stays busy");
        drop((second, third));
        idle.keep(served("y"));
        assert!(idle.turn("x").await.1.is_none(), "another program's answers are of no use");
    }
}
