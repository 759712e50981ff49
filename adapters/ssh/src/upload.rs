//! Putting artifacts on a host: asked first, uploaded aside, checked there, then renamed into place.
//!
//! The first is our own small program (`hanse-carried`), which nobody on the host can check but itself: a shell writes it
//! aside, and it puts itself in its place if its content is what its folder says. Every other artifact is received by that
//! program, which hashes what arrives. Nothing but sshd and a POSIX shell with `mkdir`, `cat` and `chmod` is needed of a host.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hanse_adapters_core::{AdapterError, Artifact, Result};
use hanse_carried::PROGRAM;
use hanse_hostrun::{Act, Reply, file_sha256, valid_sha256};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::connection::{Connection, Ran};
use crate::{HASH_LIMIT, SshAdapter, invalid};

/// Longest upload of one artifact.
const UPLOAD_LIMIT: Duration = Duration::from_secs(1800);
/// Read from the local file at once.
const CHUNK_BYTES: usize = 1024 * 1024;
/// How our program is uploaded ends with one of these, if it fails: the folder cannot be made, the file not be written or
/// not be made executable.
const EXIT_FOLDER: u32 = 41;
const EXIT_WRITE: u32 = 42;
const EXIT_MODE: u32 = 43;

/// What is sent after a request or to a command.
#[derive(Debug)]
pub(crate) enum Body {
    Nothing,
    Bytes(&'static [u8]),
    /// So many bytes of a file.
    File(PathBuf, u64),
}

impl Body {
    /// Sends all of it.
    pub(crate) async fn send(&self, writer: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Bytes(bytes) => writer.write_all(bytes).await,
            Self::File(path, bytes) => {
                let mut file = tokio::fs::File::open(path).await?.take(*bytes);
                let mut chunk = vec![0; CHUNK_BYTES];
                loop {
                    let count = file.read(&mut chunk).await?;
                    if count == 0 && file.limit() > 0 {
                        return Err(std::io::Error::other(format!("{} became shorter", path.display())));
                    }
                    if count == 0 {
                        return Ok(());
                    }
                    writer.write_all(&chunk[..count]).await?;
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
        if !connection.has_artifact(sha256) && !self.answers_for_itself(connection).await? {
            let started = Instant::now();
            self.upload_program(connection).await?;
            self.tell(sha256, PROGRAM.len() as u64, started);
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

    /// Whether what is in our program's place says that it is our program.
    async fn answers_for_itself(&self, connection: &Arc<Connection>) -> Result<bool> {
        let request = self.encode(Act::HashSelf)?;
        match connection.serve(&self.command, &request, &Body::Nothing, HASH_LIMIT).await {
            Ran::Answered(stdout) => {
                let said = self.decode(&stdout).and_then(|reply| reply.sha256());
                Ok(said.is_ok_and(|said| said == hanse_carried::sha256()))
            }
            Ran::NoProgram(_) => Ok(false),
            // A file that is there but is not our program ends in any way it likes: it is replaced.
            Ran::NoAnswer(reason) | Ran::Failed { said: reason, .. } if !connection.is_closed() => {
                tracing::warn!(host = %self.target.name, %reason, "the program on the host does not answer for itself");
                Ok(false)
            }
            Ran::NotSent(reason) | Ran::NoAnswer(reason) | Ran::Failed { said: reason, .. } => {
                Err(self.transient(&reason))
            }
        }
    }

    /// One command: a shell writes the program aside and becomes it; it looks at itself and takes its place.
    async fn upload_program(&self, connection: &Arc<Connection>) -> Result<()> {
        let dir = self.target.artifact_dir(hanse_carried::sha256());
        let file = format!("{dir}/.upload-{}", random_hex()?);
        let script = format!(
            "mkdir -p {dir} || exit {EXIT_FOLDER}; cat > {file} || exit {EXIT_WRITE}; chmod 755 {file} || exit {EXIT_MODE}; \
             exec {file} host-keep"
        );
        let denied = |reason: String| AdapterError::Denied { subject: self.target.name.clone(), reason };
        let root = &self.target.root;
        match connection.exec(&self.target.shell(&script), &Body::Bytes(PROGRAM), UPLOAD_LIMIT).await {
            Ran::Answered(stdout) => self.decode(&stdout)?.done(),
            Ran::NoProgram(said) => Err(denied(format!(
                "the host cannot execute what was uploaded to {root}: {said}. Is the file system mounted noexec, the \
                 processor another one, or the account without a shell?"
            ))),
            Ran::Failed { code: EXIT_FOLDER | EXIT_MODE, said } => {
                Err(denied(format!("{said}: choose a root folder that the account can write to")))
            }
            Ran::Failed { code: EXIT_WRITE, said } => Err(self.transient(&format!(
                "the upload was not written: {said}: is the host's disk full, or {root} another account's?"
            ))),
            // What sudo(8) exits with if it may not, or would have to ask.
            Ran::Failed { code: 1, said } if self.target.sudo => Err(denied(format!(
                "it cannot become root: {said}: give the account `NOPASSWD: ALL` in sudoers, or enrol the host without sudo"
            ))),
            Ran::Failed { said, .. } | Ran::NotSent(said) | Ran::NoAnswer(said) => Err(self.transient(&said)),
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
            Ran::NotSent(reason) | Ran::NoAnswer(reason) | Ran::Failed { said: reason, .. } => {
                Err(self.transient(&reason))
            }
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
