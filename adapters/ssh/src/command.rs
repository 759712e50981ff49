//! A machine's own programs, asked by their command lines: for what is reached through them and not through ours.
//!
//! Nothing is put on the machine. Every word is quoted, so a shell reads it as the word that it is; what is longer goes over
//! standard input. Nothing is done twice: a command whose end is not seen is [`AdapterError::Unknown`].

use std::sync::Arc;
use std::time::Duration;

use hanse_adapters_core::{AdapterError, Result};
use russh::ChannelMsg;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::connection::{ANSWER_BYTES_MAX, Connection};
use crate::invalid;
use crate::target::{Checked, SshTarget};

/// Most of standard error that is kept.
const SAID_BYTES_MAX: usize = 64 * 1024;
/// Longest command line; Linux takes 128 KiB for one argument.
const LINE_BYTES_MAX: usize = 96 * 1024;

/// One machine whose programs are asked, over one connection that is made when it is needed.
#[derive(Debug)]
pub struct SshCommands {
    target: Checked,
    connection: Mutex<Option<Arc<Connection>>>,
}

/// What a program said, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its exit status; `None` if a signal ended it.
    pub code: Option<u32>,
    /// Its standard output.
    pub output: Vec<u8>,
    /// Its standard error, as text; at most 64 KiB.
    pub error: String,
}

impl SshCommands {
    /// The machine at `target`, whose root folder is not used. Nothing is connected yet.
    ///
    /// # Errors
    /// `Invalid` names the part of the target that is wrong, or says why the identity cannot be read.
    pub fn new(target: SshTarget) -> Result<Self> {
        Ok(Self { target: target.check()?, connection: Mutex::default() })
    }

    /// `user@address:port`, for messages.
    pub fn name(&self) -> &str {
        &self.target.name
    }

    /// Runs the program of these words, with `input` on its standard input if there is any, for `limit` at most.
    ///
    /// # Errors
    /// `Denied` if the machine shows another key than the pinned one or refuses ours, `Transient` if the command was not sent,
    /// `Unknown` if its end was not seen, `Invalid` if there can be no such command line.
    pub async fn run(&self, words: &[&str], input: Option<&[u8]>, limit: Duration) -> Result<Said> {
        // Through a pipe: what sshd gives a program as its standard input may be a socket, which has no name to be opened by.
        let line = format!("{}{}", if input.is_some() { "cat | " } else { "" }, line(words));
        if line.len() > LINE_BYTES_MAX || line.contains('\0') {
            return Err(invalid(
                self.name(),
                format!("a command line holds no NUL and at most {LINE_BYTES_MAX} bytes"),
            ));
        }
        let connection = self.connection().await?;
        match timeout(limit, run(&connection, &line, input.unwrap_or_default())).await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(Broken::NotSent(reason))) => Err(AdapterError::Transient { subject: self.name().into(), reason }),
            Ok(Err(Broken::Sent(reason))) => Err(AdapterError::Unknown { subject: self.name().into(), reason }),
            Err(_) => Err(AdapterError::Unknown {
                subject: self.name().into(),
                reason: format!("the command has not ended within {} s", limit.as_secs()),
            }),
        }
    }

    async fn connection(&self) -> Result<Arc<Connection>> {
        let mut kept = self.connection.lock().await;
        if let Some(live) = kept.as_ref().filter(|it| !it.is_closed()) {
            return Ok(Arc::clone(live));
        }
        let made = Arc::new(Connection::open(&self.target).await?);
        *kept = Some(Arc::clone(&made));
        Ok(made)
    }
}

/// Whether a command can have been begun that broke.
enum Broken {
    NotSent(String),
    Sent(String),
}

async fn run(connection: &Connection, line: &str, input: &[u8]) -> std::result::Result<Said, Broken> {
    let (mut channel, _permit) = connection.session().await.map_err(Broken::NotSent)?;
    channel.exec(true, line).await.map_err(|error| Broken::NotSent(error.to_string()))?;
    let mut writer = channel.make_writer();
    let sending = async {
        writer.write_all(input).await?;
        writer.shutdown().await
    };
    tokio::pin!(sending);
    let (mut is_sent, mut broke) = (false, None);
    let mut said = Said { code: None, output: Vec::new(), error: String::new() };
    let (mut errors, mut has_ended) = (Vec::new(), false);
    loop {
        // What it says meanwhile is read, or a program that says much would wait for us as we wait for it.
        let message = tokio::select! {
            sent = &mut sending, if !is_sent => {
                // One that ends without reading everything says by its status why; if it says nothing, that is not known.
                (is_sent, broke) = (true, sent.err());
                continue;
            }
            message = channel.wait() => message,
        };
        match message {
            Some(ChannelMsg::Failure) => return Err(Broken::NotSent("the machine executes no commands".into())),
            Some(ChannelMsg::Data { data }) => said.output.extend_from_slice(&data),
            Some(ChannelMsg::ExtendedData { data, .. }) => {
                let room = SAID_BYTES_MAX.saturating_sub(errors.len());
                errors.extend_from_slice(&data[..data.len().min(room)]);
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => (said.code, has_ended) = (Some(exit_status), true),
            Some(ChannelMsg::ExitSignal { .. }) => has_ended = true,
            Some(_) => {}
            None if has_ended => break,
            None => return Err(Broken::Sent("the connection ended before the command did".into())),
        }
        if said.output.len() > ANSWER_BYTES_MAX {
            return Err(Broken::Sent(format!("it said more than {ANSWER_BYTES_MAX} bytes")));
        }
    }
    if let Some(error) = broke.filter(|_| said.code == Some(0)) {
        return Err(Broken::Sent(format!("not all of its input was sent: {error}")));
    }
    said.error = String::from_utf8_lossy(&errors).into_owned();
    Ok(said)
}

/// A command line of these words, whatever is in them.
fn line(words: &[&str]) -> String {
    words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_shell_reads_every_word_as_it_is() {
        let words =
            ["printf", "%s\\n", "a b", "$HOME `id` $(id)", "it's; rm -rf *", "\"\\", "two\nlines", "", "~", "-x"];
        let output = std::process::Command::new("sh").arg("-c").arg(line(&words)).output().unwrap();
        let read = String::from_utf8(output.stdout).unwrap();
        assert_eq!(read, words[2..].iter().map(|word| format!("{word}\n")).collect::<String>());
    }
}
