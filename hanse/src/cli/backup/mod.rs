//! `hanse backup`: making, checking and restoring backups.
//!
//! Sealing and checking are done here, on the operator's machine: the key never leaves it, and what was received is
//! checked while it is written. A file has its name only once it is whole and durable.

mod restore;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use hanse_backup::chain::{self, Chain};
use hanse_backup::{BackupError, Head, Key, NewFile, Protection, Verified, Writer};
use hanse_client::{BackupPart, ClientError, Code, files, pb};
use serde_json::{Value, json};

use super::context::{Context, Global};
use super::error::CliError;
use super::view::{Shown, View};
use crate::output::{self, Format};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum BackupCommand {
    /// Make a key file for backups. Keep a copy away from the machines that are backed up: without it no backup opens.
    Keygen {
        /// File that does not exist yet.
        file: PathBuf,
    },
    /// Make a backup of the whole platform in a new file on this machine.
    Create(CreateArgs),
    /// Check a backup, and the incremental ones after it in order, without a cluster.
    Verify(FilesArgs),
    /// Make the data folders of a new cluster from a backup and the incremental ones after it.
    Restore(restore::RestoreArgs),
}

/// How files are protected.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ProtectionArgs {
    /// Key file made by `hanse backup keygen`.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Without encryption, with checksums only. The file holds every secret of the platform.
    #[arg(long)]
    plain: bool,
}

impl ProtectionArgs {
    fn key(&self) -> Result<Option<Key>, CliError> {
        let Some(path) = &self.key_file else { return Ok(None) };
        let text = files::read(path).map_err(|error| CliError::file(path, &error))?;
        Key::parse(&text).map(Some).map_err(local)
    }
}

/// How files with or without a key are opened.
fn protection(key: Option<&Key>) -> Protection<'_> {
    key.map_or(Protection::Plain, Protection::Key)
}

/// What `create` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// File that does not exist yet.
    file: PathBuf,
    /// Earlier backup, with the same key: only history after it is fetched, and a restore needs both.
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    #[command(flatten)]
    protection: ProtectionArgs,
}

/// Backups in order.
#[derive(Debug, clap::Args)]
pub(crate) struct FilesArgs {
    /// The whole backup first, then each incremental one in order.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    protection: ProtectionArgs,
}

/// Runs a verb.
///
/// # Errors
/// The call failed, a file cannot be read or written, or a backup is broken.
pub(crate) async fn run(command: BackupCommand, global: &Global) -> Result<(), CliError> {
    match command {
        BackupCommand::Keygen { file } => {
            let text = Key::generate().map_err(local)?.to_text();
            files::write_new(&file, text.as_bytes()).map_err(|error| CliError::file(&file, &error))?;
            show(global, "file", json!({ "file": file }))
        }
        BackupCommand::Create(args) => create(args, global).await,
        BackupCommand::Verify(args) => {
            let key = args.protection.key()?;
            let mut chain = Chain::default();
            let mut checked = Vec::new();
            for path in &args.files {
                let verified = check_file(&mut chain, path, key.as_ref())?;
                checked.push(told(path, &verified.head));
            }
            let view = View {
                key: "backups",
                name: "backup",
                columns: &[
                    ("BACKUP", "backup"),
                    ("REVISION", "revision"),
                    ("AT", "at_ms"),
                    ("DIGEST", "digest"),
                    ("FILE", "file"),
                ],
            };
            print(global, Shown { value: json!({ "ok": true, "backups": checked }), view })
        }
        BackupCommand::Restore(args) => restore::run(args, global).await,
    }
}

/// Reads and checks a file wholly; what is wrong is told with its name.
fn check_file(chain: &mut Chain, path: &Path, key: Option<&Key>) -> Result<Verified, CliError> {
    let checked = chain.file(path, protection(key), |_| Ok::<(), BackupError>(()));
    checked.map_err(|error| failed(path, &error))
}

async fn create(args: CreateArgs, global: &Global) -> Result<(), CliError> {
    let context = Context::new(global)?;
    context.refuse_dry_run("a backup")?;
    let key = args.protection.key()?;
    let base = match &args.base {
        Some(path) => Some(chain::read_head(path, protection(key.as_ref())).map_err(|error| failed(path, &error))?),
        None => None,
    };
    let request_id = global.request_id.clone().unwrap_or_else(hanse_client::new_request_id);
    let request = pb::CreateBackupRequest { request_id, base: base.as_ref().map(on_the_wire) };
    let mut making: Option<Making> = None;
    let received = context.client.create_backup(request, |part| match part {
        BackupPart::Begin => {
            // What a lost connection left is dropped before its successor begins.
            making = None;
            making = Some(Making::begin(&args.file, base.clone(), key.as_ref())?);
            Ok(())
        }
        BackupPart::Content(bytes) => making.as_mut().map_or(Ok(()), |making| making.take(bytes)),
    });
    received.await.map_err(|Stop(error)| error)?;
    let Some(making) = making else { return Err(CliError::Failed("no backup came".into())) };
    let head = making.finish().map_err(|Stop(error)| error)?;
    show(global, "backup", told(&args.file, &head))
}

/// A file on its way, checked while it is written.
struct Making {
    chain: Chain,
    writer: Writer<NewFile>,
}

/// Whatever ends the receiving of a backup.
struct Stop(CliError);

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self(error.into())
    }
}

impl From<BackupError> for Stop {
    fn from(error: BackupError) -> Self {
        Self(match error {
            BackupError::Io { .. } => local(error),
            // What the server sent is at fault; nothing was kept.
            other => ClientError::local(
                Code::DataLoss,
                "BACKUP_BROKEN",
                with_causes(&other),
                "Try again; tell us if it stays.",
            )
            .into(),
        })
    }
}

impl Making {
    fn begin(path: &Path, base: Option<Head>, key: Option<&Key>) -> Result<Self, Stop> {
        let chain = base.map_or_else(Chain::default, Chain::after);
        let writer = Writer::new(NewFile::create(path)?, protection(key))?;
        Ok(Self { chain, writer })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.chain.take(bytes)?;
        Ok(self.writer.push(bytes)?)
    }

    fn finish(mut self) -> Result<Head, Stop> {
        let head = self.chain.end()?.head;
        let mut file = self.writer.finish()?;
        file.flush().map_err(|source| BackupError::Io { what: "write the backup".into(), source })?;
        file.finish()?;
        Ok(head)
    }
}

fn on_the_wire(head: &Head) -> pb::BackupBase {
    let marks = head.history.iter().map(|(kind, span)| pb::BackupMark { kind: kind.clone(), last: span.last });
    pb::BackupBase {
        backup: head.backup.to_string(),
        revision: head.revision,
        audit_hash: head.audit.to_string(),
        history: marks.collect(),
    }
}

/// What is told of a backup.
fn told(path: &Path, head: &Head) -> Value {
    let records: u64 = head.history.values().map(|span| span.last - span.after).sum();
    json!({
        "file": path,
        "backup": head.backup.to_string(),
        "base": head.base.as_ref().map(|base| base.backup.to_string()).unwrap_or_default(),
        "cluster_id": head.cluster.to_string(),
        "cluster_name": head.cluster_name,
        "revision": head.revision,
        "at_ms": head.at.0,
        "digest": head.digest.to_string(),
        "state_sha256": head.state_sha256.to_string(),
        "audit_hash": head.audit.to_string(),
        "records": records,
        "made_by": head.made_by,
    })
}

/// One line of an error and its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// The error of something on this machine.
fn local(error: BackupError) -> CliError {
    CliError::local(with_causes(&error), "")
}

/// The error of a backup that was looked at: a file that cannot be read is a mistake, a broken one is a finding.
fn failed(path: &Path, error: &BackupError) -> CliError {
    let text = format!("{}: {}", path.display(), with_causes(error));
    match error {
        BackupError::Io { .. } | BackupError::Protection { .. } | BackupError::NotAChain(_) | BackupError::WrongKey => {
            CliError::local(text, "")
        }
        _ => CliError::Failed(text),
    }
}

fn show(global: &Global, name: &'static str, value: Value) -> Result<(), CliError> {
    print(global, Shown { value, view: View { key: "", name, columns: &[] } })
}

fn print(global: &Global, shown: Shown) -> Result<(), CliError> {
    match global.format() {
        Format::Json => output::print_json(&shown.value)?,
        Format::Name => output::print(&shown.names())?,
        Format::Table => output::print(&shown.table())?,
    }
    Ok(())
}
