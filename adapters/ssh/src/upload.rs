//! Putting artifacts on a host: asked first, uploaded aside, checked there, then renamed into place.
//!
//! The first is our own small program (`hanse-carried`), which nobody on the host can check but itself: one session asks a shell
//! for it; if it is not there the shell writes it aside and becomes it, and it puts itself in its place if its content is what
//! its folder says, and goes on answering requests. Every other artifact is received by that program, which hashes what
//! arrives. Nothing but sshd and a POSIX shell (the account's own, or sh) with `mkdir`, `head -c` and `chmod` is needed of a host (`install` is used where there
//! is one).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hanse_adapters_core::{AdapterError, Artifact, Result};
use hanse_carried::PROGRAM;
use hanse_hostrun::{Act, Reply, file_sha256, valid_sha256};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::connection::{Connection, Ran};
use crate::served::Served;
use crate::{HASH_LIMIT, SshAdapter, invalid};

/// Longest upload of one artifact.
const UPLOAD_LIMIT: Duration = Duration::from_secs(1800);
/// Read from the local file at once: many hosts are sent to at the same time, each from a buffer of its own. A large file is
/// read in larger pieces, each of which is a wait for another thread.
const CHUNK_BYTES: usize = 128 * 1024;
const CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// A file is read in about so many pieces, within these bounds.
const CHUNKS: u64 = 32;
/// What the shell says when our program is there, before it becomes it, and when it is not and is waited for.
const THERE: &str = "hanse: there";
const ABSENT: &str = "hanse: absent";
/// How our program is uploaded ends with one of these, if it fails: the folder and an executable file in it cannot be made,
/// or the file cannot be written.
const EXIT_PLACE: u32 = 41;
const EXIT_WRITE: u32 = 42;

/// What is sent after a request or to a command.
#[derive(Debug)]
pub(crate) enum Body {
    Nothing,
    Bytes(&'static [u8]),
    /// So many bytes of a file.
    File(PathBuf, u64),
}

/// Why not all of a body was sent.
#[derive(Debug)]
pub(crate) enum Broken {
    /// What was to be sent cannot be read here; the host waits for the rest.
    Here(std::io::Error),
    /// The channel takes no more: the command may have ended.
    There(std::io::Error),
}

impl Body {
    /// Sends all of it.
    pub(crate) async fn send(&self, writer: &mut (impl AsyncWrite + Unpin)) -> std::result::Result<(), Broken> {
        match self {
            Self::Nothing => Ok(()),
            Self::Bytes(bytes) => writer.write_all(bytes).await.map_err(Broken::There),
            Self::File(path, bytes) => {
                let mut file = tokio::fs::File::open(path).await.map_err(Broken::Here)?.take(*bytes);
                let chunk = usize::try_from(bytes / CHUNKS).unwrap_or(CHUNK_BYTES_MAX);
                let mut chunk = vec![0; chunk.clamp(CHUNK_BYTES, CHUNK_BYTES_MAX)];
                loop {
                    let count = file.read(&mut chunk).await.map_err(Broken::Here)?;
                    if count == 0 && file.limit() > 0 {
                        return Err(Broken::Here(std::io::Error::other(format!("{} became shorter", path.display()))));
                    }
                    if count == 0 {
                        return Ok(());
                    }
                    writer.write_all(&chunk[..count]).await.map_err(Broken::There)?;
                }
            }
        }
    }
}

impl SshAdapter {
    /// Makes sure that our program is in its place on the host; asked once per connection.
    pub(crate) async fn place_program(&self, connection: &Arc<Connection>) -> Result<()> {
        let sha256 = hanse_carried::sha256();
        if connection.has_artifact(sha256) {
            return Ok(());
        }
        let _one = self.uploads.lock().await;
        if !connection.has_artifact(sha256) {
            let script = format!("{}{}", self.if_there(), self.receive_program()?);
            let served = match self.begin(connection, &script).await? {
                Some(served) => served,
                // What is in its place is not our program, or cannot be executed: it is replaced, or that is why.
                None => self.begin(connection, &self.receive_program()?).await?.ok_or_else(|| self.unheard())?,
            };
            connection.keep(served);
        }
        connection.remember_artifact(sha256);
        Ok(())
    }

    /// Makes sure that `artifact` is in its place on the host; asked once per connection.
    pub(crate) async fn place(&self, connection: &Arc<Connection>, artifact: &Artifact) -> Result<()> {
        let sha256 = &artifact.sha256;
        if connection.has_artifact(sha256) {
            return Ok(());
        }
        if !valid_sha256(sha256) {
            return Err(invalid(sha256, "is not a SHA-256 in lower-case hex"));
        }
        let _one = self.uploads.lock().await;
        if !connection.has_artifact(sha256) {
            let there =
                self.ask(connection, Act::HasArtifact { sha256: sha256.clone() }, Body::Nothing).await?.has()?;
            if !there {
                self.upload(connection, artifact).await?;
            }
        }
        connection.remember_artifact(sha256);
        Ok(())
    }

    async fn upload(&self, connection: &Arc<Connection>, artifact: &Artifact) -> Result<()> {
        let (path, started) = (artifact.path.clone(), Instant::now());
        let unread = |e: std::io::Error| invalid(&artifact.path.display().to_string(), e.to_string());
        let bytes = tokio::fs::metadata(&path).await.map_err(unread)?.len();
        let act = Act::Receive { sha256: artifact.sha256.clone(), bytes };
        match self.ask(connection, act, Body::File(path, bytes)).await.and_then(Reply::done) {
            Ok(()) => self.tell(&artifact.sha256, bytes, started),
            Err(error) => {
                // If it was the file here, sending it again is of no use.
                check_local(artifact).await?;
                return Err(error);
            }
        }
        Ok(())
    }

    fn tell(&self, sha256: &str, bytes: u64, started: Instant) {
        let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(host = %self.target.name, sha256, bytes, millis, "artifact uploaded");
    }

    /// The part of a script that becomes our program if it is there.
    fn if_there(&self) -> String {
        let program = format!("{}/hanse", self.target.artifact_dir(hanse_carried::sha256()));
        format!("if [ -x {program} ]; then echo; echo {THERE}; exec {program} host-run; fi; ")
    }

    /// The part that writes our program aside and becomes it; that takes its place and answers. Folder, file and mode are made
    /// by one process where there is install(1), as with every coreutils and most busyboxes.
    fn receive_program(&self) -> Result<String> {
        let dir = self.target.artifact_dir(hanse_carried::sha256());
        let (file, bytes) = (format!("{dir}/.upload-{}", random_hex()?), PROGRAM.len());
        Ok(format!(
            "install -D -m 755 /dev/null {file} 2> /dev/null || {{ mkdir -p {dir} && : > {file} && chmod 755 {file}; }} || \
             exit {EXIT_PLACE}; echo; echo {ABSENT}; head -c {bytes} > {file} || exit {EXIT_WRITE}; exec {file} host-keep"
        ))
    }

    /// Has `script` become our program, sent if it is waited for; `None` if what is there does not answer for itself. The account's own
    /// shell is asked first, as sh(1) would be one more process: what it cannot do, being another shell, a restricted one or one that is set
    /// up otherwise, sh is asked for.
    async fn begin(&self, connection: &Arc<Connection>, script: &str) -> Result<Option<Served>> {
        if !self.target.sudo {
            match self.begin_by(connection, script).await? {
                (Err(error), Some(code)) if !connection.is_closed() => {
                    tracing::debug!(host = %self.target.name, code, %error, "the account's shell does not do it; sh is asked");
                }
                (result, _) => return result,
            }
        }
        self.begin_by(connection, &self.target.shell(script)).await?.0
    }

    /// As [`SshAdapter::begin`] by one command line; beside it what that ended with, if it did.
    async fn begin_by(
        &self,
        connection: &Arc<Connection>,
        line: &str,
    ) -> Result<(Result<Option<Served>>, Option<u32>)> {
        let started = connection.start(line, &self.command).await;
        let mut served = started.map_err(|reason| self.transient(&reason))?;
        let code = |served: &Served| served.code().map(|(code, _)| code);
        match served.sign(&[THERE, ABSENT], HASH_LIMIT).await {
            Ok(THERE) => Ok((self.answers_for_itself(connection, served).await, None)),
            Ok(_) => {
                let started = Instant::now();
                let ran = served.ask_within(b"", &Body::Bytes(PROGRAM), UPLOAD_LIMIT).await;
                if let Err(error) = self.uploaded(ran, &served) {
                    return Ok((Err(error), code(&served)));
                }
                self.tell(hanse_carried::sha256(), PROGRAM.len() as u64, started);
                Ok((Ok(Some(served)), None))
            }
            Err(ran) => Ok((self.uploaded(ran, &served).map(|()| None), code(&served))),
        }
    }

    /// Asks what is in our program's place whether it is our program.
    async fn answers_for_itself(&self, connection: &Arc<Connection>, mut served: Served) -> Result<Option<Served>> {
        let request = self.encode(Act::HashSelf)?;
        match served.ask_within(&request, &Body::Nothing, HASH_LIMIT).await {
            Ran::Answered(line) => {
                let said = self.decode(&line).and_then(|reply| reply.sha256());
                Ok(said.is_ok_and(|said| said == hanse_carried::sha256()).then_some(served))
            }
            Ran::NoProgram(_) => Ok(None),
            // A file that is there but is not our program ends in any way it likes: it is replaced.
            Ran::NotSent(reason) | Ran::NoAnswer(reason) if !connection.is_closed() => {
                tracing::warn!(host = %self.target.name, %reason, "the program on the host does not answer for itself");
                Ok(None)
            }
            Ran::NotSent(reason) | Ran::NoAnswer(reason) => Err(self.transient(&reason)),
        }
    }

    fn unheard(&self) -> AdapterError {
        self.transient("the account's shell does not do what it is told: it must be a POSIX shell, or start sh")
    }

    /// What became of an upload, as the shell and the program tell it.
    fn uploaded(&self, ran: Ran, served: &Served) -> Result<()> {
        let denied = |reason: String| AdapterError::Denied { subject: self.target.name.clone(), reason };
        let root = &self.target.root;
        match (ran, served.code()) {
            (Ran::Answered(line), _) => self.decode(&line)?.done(),
            (Ran::NoProgram(said), _) => Err(denied(format!(
                "the host cannot execute what was uploaded to {root}: {said}. Is the file system mounted noexec, the \
                 processor another one, or the account without a shell?"
            ))),
            (_, Some((EXIT_PLACE, said))) => {
                Err(denied(format!("{said}: choose a root folder that the account can write to")))
            }
            (_, Some((EXIT_WRITE, said))) => Err(self.transient(&format!(
                "the upload was not written: {said}: is the host's disk full, or {root} another account's?"
            ))),
            // What sudo(8) exits with if it may not, or would have to ask.
            (_, Some((1, said))) if self.target.sudo => Err(denied(format!(
                "it cannot become root: {said}: give the account `NOPASSWD: ALL` in sudoers, or enrol the host without sudo"
            ))),
            (Ran::NotSent(said) | Ran::NoAnswer(said), _) => Err(self.transient(&said)),
        }
    }

    /// One request that changes nothing if its answer is lost, so that a failure is `Transient`. Our program is in place.
    async fn ask(&self, connection: &Arc<Connection>, act: Act, body: Body) -> Result<Reply> {
        let request = self.encode(act)?;
        let limit = if let Body::Nothing = body { HASH_LIMIT } else { UPLOAD_LIMIT };
        match connection.serve(&self.command, &request, &body, limit).await {
            Ran::Answered(stdout) => self.decode(&stdout),
            Ran::NoProgram(said) => {
                // Deleted since it was seen: the next call puts it there again.
                connection.forget_artifacts();
                connection.idle().clear();
                Err(self.transient(&format!("our program on the host is gone: {said}")))
            }
            Ran::NotSent(reason) | Ran::NoAnswer(reason) => Err(self.transient(&reason)),
        }
    }
}

async fn check_local(artifact: &Artifact) -> Result<()> {
    let (path, subject) = (artifact.path.clone(), artifact.path.display().to_string());
    let hashed = tokio::task::spawn_blocking(move || file_sha256(Path::new(&path))).await;
    let found = match hashed {
        Ok(Ok(found)) => found,
        Ok(Err(e)) => return Err(invalid(&subject, e.to_string())),
        Err(e) => return Err(invalid(&subject, e.to_string())),
    };
    if found == artifact.sha256 {
        return Ok(());
    }
    Err(invalid(&subject, format!("has the hash {found}, not {}", artifact.sha256)))
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| invalid("random numbers", "the system has none"))?;
    Ok(hex::encode(bytes))
}
