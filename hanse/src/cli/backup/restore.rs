//! `hanse backup restore`: the data folders of a new cluster.
//!
//! Everything is checked first; then each folder gets the same state, which is the backup's with one entry more: the one
//! that says where it came from, gives the cluster its new name and incarnation, and closes every session. All that this
//! entry holds follows from the backup, the configurations and the incarnation, so that machines may be restored apart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hanse_backup::chain::Chain;
use hanse_backup::{Key, Verified};
use hanse_raft::{Member, ReplicaId, Seed, StoreError};
use hanse_server::config::Config;
use hanse_state::cluster::backup::RestoreCluster;
use hanse_state::ids::{IncarnationId, RequestId};
use hanse_state::{Command, Millis, Record, Request, State, apply};
use serde_json::json;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::{ProtectionArgs, check_file, failed, protection, show, with_causes};
use crate::cli::context::Global;
use crate::cli::error::CliError;

/// What `restore` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// The whole backup first, then each incremental one in order.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Configuration of a replica of the new cluster; may be repeated. Its data folder must be empty or not there.
    #[arg(long = "config", required = true, value_name = "FILE")]
    configs: Vec<PathBuf>,
    /// UUIDv7 of the new incarnation; needed only when the replicas are restored by several commands, the same for all.
    #[arg(long, value_name = "UUID")]
    incarnation: Option<Uuid>,
    #[command(flatten)]
    protection: ProtectionArgs,
}

/// Runs the verb.
///
/// # Errors
/// A backup is broken, the configurations do not fit, or a folder cannot be made.
pub(crate) async fn run(args: RestoreArgs, global: &Global) -> Result<(), CliError> {
    if global.dry_run {
        return Err(CliError::local("a restore cannot only be checked", "Use `hanse backup verify`."));
    }
    // Blocks on the disk for as long as the history is long.
    let done = tokio::task::spawn_blocking(move || restore(&args)).await;
    let value = done.map_err(|error| CliError::Failed(error.to_string()))??;
    show(global, "incarnation", value)
}

fn restore(args: &RestoreArgs) -> Result<serde_json::Value, CliError> {
    let key = args.protection.key()?;
    let configs = load(&args.configs)?;
    let verified = verify(&args.files, key.as_ref())?;
    let incarnation = args.incarnation.unwrap_or_else(Uuid::now_v7);
    let (state, records) = restored(&verified, &configs[0].1.cluster, incarnation)?;
    let members = members(&configs[0].1);
    let handle = Handle::current();
    let mut seeds = Vec::new();
    for (path, config) in &configs {
        make_private(&config.data)?;
        let seed = handle.block_on(Seed::begin(&config.data.join("raft")));
        seeds.push(seed.map_err(|error| store_failed(path, &error))?);
    }
    let mut chain = Chain::default();
    for path in &args.files {
        chain.file(path, protection(key.as_ref()), |record| write(&handle, &mut seeds, &record)).map_err(|error| {
            match error {
                Failed::Backup(error) => failed(path, &error),
                Failed::Store(error) => store_failed(path, &error),
            }
        })?;
    }
    let folders: Vec<_> = configs.iter().map(|(_, config)| config.data.clone()).collect();
    for record in &records {
        write(&handle, &mut seeds, record)
            .map_err(|_| CliError::Failed("the restore's record was not taken".into()))?;
    }
    for (seed, (path, _)) in seeds.into_iter().zip(&configs) {
        handle.block_on(seed.finish(&state, members.clone())).map_err(|error| store_failed(path, &error))?;
    }
    Ok(json!({
        "incarnation": incarnation.to_string(),
        "backup": verified.head.backup.to_string(),
        "from_revision": verified.head.revision,
        "revision": state.revision,
        "digest": state.digest().to_string(),
        "cluster_id": verified.head.cluster.to_string(),
        "cluster_name": configs[0].1.cluster,
        "folders": folders,
        "next": "start the replicas; once the old cluster is gone for certain: hanse cluster resume",
    }))
}

/// Why a record was not written.
enum Failed {
    Backup(hanse_backup::BackupError),
    Store(StoreError),
}

impl From<hanse_backup::BackupError> for Failed {
    fn from(error: hanse_backup::BackupError) -> Self {
        Self::Backup(error)
    }
}

fn write(handle: &Handle, seeds: &mut [Seed], record: &Record) -> Result<(), Failed> {
    for seed in seeds {
        handle.block_on(seed.record(record)).map_err(Failed::Store)?;
    }
    Ok(())
}

fn store_failed(path: &Path, error: &StoreError) -> CliError {
    CliError::local(
        format!("{}: {}", path.display(), with_causes(error)),
        "Nothing stands under the folder's name yet.",
    )
}

/// Reads the configurations, which must be of one cluster, with nothing in their data folders.
fn load(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Config)>, CliError> {
    let mut configs: Vec<(PathBuf, Config)> = Vec::new();
    for path in paths {
        let config = Config::load(path).map_err(|error| CliError::local(with_causes(&error), ""))?;
        if let Some((first, one)) = configs.first()
            && (&one.cluster, &one.replicas) != (&config.cluster, &config.replicas)
        {
            let text = format!("{} and {} are not of one cluster", first.display(), path.display());
            return Err(CliError::local(text, "`cluster` and `replicas` must be the same in both."));
        }
        match std::fs::read_dir(&config.data).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => {
                let text = format!("the data folder {} is not empty", config.data.display());
                return Err(CliError::local(text, "A restore begins a new cluster: give it new folders."));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(CliError::file(&config.data, &error)),
        }
        configs.push((path.clone(), config));
    }
    Ok(configs)
}

/// Checks every file and gives the last one's state.
fn verify(files: &[PathBuf], key: Option<&Key>) -> Result<Verified, CliError> {
    let mut chain = Chain::default();
    let mut last = None;
    for path in files {
        last = Some(check_file(&mut chain, path, key)?);
    }
    last.ok_or_else(|| CliError::local("no backup is named", ""))
}

/// The state of the new cluster, and the records of the entry that made it.
fn restored(verified: &Verified, cluster: &str, incarnation: Uuid) -> Result<(State, Vec<Record>), CliError> {
    let wrong = |rejection: hanse_state::Rejection| CliError::local(rejection.message(), rejection.advice());
    let command = Command::RestoreCluster(RestoreCluster {
        backup: verified.head.backup,
        revision: verified.head.revision,
        digest: verified.head.digest,
        incarnation: IncarnationId::new(incarnation).map_err(wrong)?,
        name: cluster.to_owned(),
    });
    // The first 48 bits of a UUID of version 7 are its time in milliseconds since 1970 (RFC 9562, section 5.7).
    let at = Millis(u64::try_from(incarnation.as_u128() >> 80).unwrap_or(0));
    let request = Request::system(RequestId::new(incarnation).map_err(wrong)?, at, command);
    let mut state = verified.state.clone();
    let index = state.revision.saturating_add(1);
    let applied = apply(&mut state, index, &request);
    applied.outcome.map_err(wrong)?;
    Ok((state, applied.records))
}

fn members(config: &Config) -> BTreeMap<ReplicaId, Member> {
    let member = |entry: &hanse_server::config::ReplicaEntry| {
        (ReplicaId(entry.id), Member { peer_address: entry.peer.clone(), api_address: entry.api.clone() })
    };
    config.replicas.iter().map(member).collect()
}

fn make_private(dir: &Path) -> Result<(), CliError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| CliError::file(dir, &error))
}
