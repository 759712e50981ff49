//! Putting artifacts on a host: asked first, uploaded aside, checked there, then renamed into place.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hanse_adapters_core::{AdapterError, Artifact, Result};
use hanse_hostrun::{Act, file_sha256, valid_sha256};
use ring::rand::{SecureRandom, SystemRandom};
use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::client::{Config, SftpSession};
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connection::{Connection, Ran};
use crate::{HASH_LIMIT, SshAdapter, invalid};

/// Longest upload of one artifact.
const UPLOAD_LIMIT: Duration = Duration::from_secs(1800);
/// Read from the local file at once.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Writes that are under way before the first is acknowledged: enough to fill a link with a long round trip.
const WRITES_IN_FLIGHT: usize = 64;
/// Size of one write; OpenSSH takes up to 256 KiB.
const WRITE_BYTES: u32 = 128 * 1024;
/// Longest wait for one acknowledgement.
const SFTP_REPLY_SECS: u64 = 60;

impl SshAdapter {
    /// Makes sure that `artifact` is in its place on the host; asked once per connection.
    pub(crate) async fn place(&self, connection: &Arc<Connection>, artifact: &Artifact) -> Result<()> {
        if connection.has_artifact(&artifact.sha256) {
            return Ok(());
        }
        if !valid_sha256(&artifact.sha256) {
            return Err(invalid(&artifact.sha256, "is not a SHA-256 in lower-case hex"));
        }
        let _one = self.uploads.lock().await;
        if connection.has_artifact(&artifact.sha256) || self.in_place(connection, artifact).await? {
            connection.remember_artifact(&artifact.sha256);
            return Ok(());
        }
        check_local(artifact).await?;
        let upload = format!(".upload-{}", random_hex()?);
        let started = Instant::now();
        let bytes = match tokio::time::timeout(UPLOAD_LIMIT, self.send(connection, artifact, &upload)).await {
            Ok(sent) => sent?,
            Err(_) => return Err(self.transient("the upload took too long")),
        };
        let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(host = %self.target.name, sha256 = %artifact.sha256, bytes, millis, "artifact uploaded");
        let act = Act::Adopt { sha256: artifact.sha256.clone(), upload: upload.clone() };
        self.ask(connection, &self.server_of(artifact, &upload), act).await?.done()?;
        connection.remember_artifact(&artifact.sha256);
        Ok(())
    }

    /// The runner answers for itself, and then for every other artifact.
    fn server_of(&self, artifact: &Artifact, file: &str) -> String {
        if artifact.sha256 == self.runner.sha256 {
            self.target.host_run(&artifact.sha256, file)
        } else {
            self.target.host_run(&self.runner.sha256, "hanse")
        }
    }

    async fn in_place(&self, connection: &Arc<Connection>, artifact: &Artifact) -> Result<bool> {
        let command = self.server_of(artifact, "hanse");
        if artifact.sha256 != self.runner.sha256 {
            let act = Act::HasArtifact { sha256: artifact.sha256.clone() };
            return self.ask(connection, &command, act).await?.has();
        }
        let request = self.encode(Act::HashSelf)?;
        match connection.serve(&command, &request, HASH_LIMIT).await {
            Ran::Answered(stdout) => {
                Ok(self.decode(&stdout).and_then(|reply| reply.sha256()).ok() == Some(artifact.sha256.clone()))
            }
            Ran::NoProgram(_) => Ok(false),
            // A file that is there but is not our program ends in any way it likes: it is replaced.
            Ran::NoAnswer(reason) if !connection.is_closed() => {
                tracing::warn!(host = %self.target.name, %reason, "the program on the host does not answer for itself");
                Ok(false)
            }
            Ran::NotSent(reason) | Ran::NoAnswer(reason) => Err(self.transient(&reason)),
        }
    }

    /// One request that changes nothing if its answer is lost, so that a failure is `Transient`.
    async fn ask(&self, connection: &Connection, command: &str, act: Act) -> Result<hanse_hostrun::Reply> {
        let request = self.encode(act)?;
        match connection.exec(command, &request, HASH_LIMIT).await {
            Ran::Answered(stdout) => self.decode(&stdout),
            Ran::NoProgram(said) => Err(AdapterError::Denied {
                subject: self.target.name.clone(),
                reason: format!(
                    "the host cannot execute what was uploaded to {}: {said}. Is the file system mounted noexec, the \
                     processor another one, or the account without a shell?",
                    self.target.root
                ),
            }),
            Ran::NotSent(reason) | Ran::NoAnswer(reason) => Err(self.transient(&reason)),
        }
    }

    /// Sends the file by SFTP to the name `upload`; returns its size. A partial file is never used and is deleted later.
    async fn send(&self, connection: &Connection, artifact: &Artifact, upload: &str) -> Result<u64> {
        let (mut channel, _permit) = connection.session().await.map_err(|reason| self.transient(&reason))?;
        let started = channel.request_subsystem(true, "sftp").await;
        started.map_err(|e| self.transient(&format!("starting SFTP: {e}")))?;
        if !is_accepted(&mut channel).await {
            return Err(AdapterError::Denied {
                subject: self.target.name.clone(),
                reason: "the host has no SFTP: add `Subsystem sftp internal-sftp` to its sshd_config".into(),
            });
        }
        let config = Config {
            max_concurrent_writes: WRITES_IN_FLIGHT,
            max_write_packet_len: WRITE_BYTES,
            request_timeout_secs: SFTP_REPLY_SECS,
            ..Config::default()
        };
        let sftp = SftpSession::new_with_config(channel.into_stream(), config)
            .await
            .map_err(|e| self.sftp_error("SFTP", &e))?;
        let dir = self.target.artifact_dir(&artifact.sha256);
        make_dirs(&sftp, &dir).await;
        let path = format!("{dir}/{upload}");
        let attributes = FileAttributes { permissions: Some(0o755), ..FileAttributes::empty() };
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        let opened = sftp.open_with_flags_and_attributes(&path, flags, attributes.clone()).await;
        let mut remote = opened.map_err(|e| self.sftp_error(&path, &e))?;
        let local = tokio::fs::File::open(&artifact.path).await;
        let mut local = local.map_err(|e| invalid(&artifact.path.display().to_string(), e.to_string()))?;
        let (mut chunk, mut sent) = (vec![0; CHUNK_BYTES], 0);
        loop {
            let read = local.read(&mut chunk).await;
            let n = read.map_err(|e| invalid(&artifact.path.display().to_string(), e.to_string()))?;
            if n == 0 {
                break;
            }
            let written = remote.write_all(&chunk[..n]).await;
            written.map_err(|e| self.transient(&format!("upload: {e}: is the host's disk full?")))?;
            sent += n as u64;
        }
        remote.flush().await.map_err(|e| self.transient(&format!("upload: {e}: is the host's disk full?")))?;
        // Our program on the host makes it durable once it has compared the hash; umask may have taken the right to execute.
        remote.set_metadata(attributes).await.map_err(|e| self.sftp_error(&path, &e))?;
        remote.close().await.map_err(|e| self.transient(&format!("closing the upload: {e}")))?;
        // Best effort: the channel ends with it anyway.
        let _ = sftp.close().await;
        Ok(sent)
    }

    fn sftp_error(&self, subject: &str, error: &SftpError) -> AdapterError {
        let subject = format!("{} {subject}", self.target.name);
        match error {
            SftpError::Status(status)
                if matches!(status.status_code, StatusCode::PermissionDenied | StatusCode::NoSuchFile) =>
            {
                let reason = format!("{error}: choose a root folder that the account can write to");
                AdapterError::Denied { subject, reason }
            }
            _ => AdapterError::Transient { subject, reason: error.to_string() },
        }
    }
}

/// Whether the host starts the subsystem that it was asked for.
async fn is_accepted(channel: &mut Channel<Msg>) -> bool {
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Success => return true,
            ChannelMsg::Failure => return false,
            _ => {}
        }
    }
    false
}

/// Makes `dir` and its parents. One that is there already fails to be made; one that cannot be made shows itself when
/// the file in it is opened.
async fn make_dirs(sftp: &SftpSession, dir: &str) {
    for end in dir.match_indices('/').map(|(at, _)| at).chain([dir.len()]).filter(|end| *end > 0) {
        let _ = sftp.create_dir(&dir[..end]).await;
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
