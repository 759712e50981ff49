//! Runs a replica: reads the configuration, starts Raft, the reconcilers and the API, and stops them in order.
//!
//! Exit codes: 0 asked to stop, 2 a mistake in the set-up, 1 a failure while running, 78 (`EX_CONFIG`) the replica's own
//! store cannot be trusted and the replica must be replaced, 79 the replica was removed from the cluster, 80 this
//! build cannot read what the cluster writes: a newer one goes on with the same data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use hanse_engines_core::Engine;
use hanse_engines_embedded::EmbeddedEngine;
use hanse_raft::{PeerTls, RaftError, Replica, ReplicaConfig, ReplicaId, Timings};
use hanse_server::artifacts::{ArtifactStore, RESERVE_BYTES, sync};
use hanse_server::ca as authority;
use hanse_server::config::{Config, ConfigError};
use hanse_server::context::{self, Limits, Member, Parts};
use hanse_server::listen::ApiTls;
use hanse_server::observed::Observed;
use hanse_server::programs::Programs;
use hanse_server::reconcile::anchor::Notary;
use hanse_server::reconcile::connect::HostConnector;
use hanse_server::reconcile::setup::SetupCode;
use hanse_server::reconcile::{self, World};
use hanse_server::series::keep;
use hanse_server::trail::Trail;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::connect::{Connector, SshKeys};
use crate::output::say;
use crate::software::Software;

/// What `hanse server` takes.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Configuration file (see docs/operations.md).
    #[arg(long)]
    config: PathBuf,
    /// End when the starting process ends (used by `hanse dev` and tests).
    #[arg(long, hide = true)]
    die_with_parent: bool,
}

/// `hanse ca …`
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Make the peer and the API certificate authority in a new folder.
    Init {
        /// Folder to make; keep it offline afterwards.
        #[arg(long)]
        dir: PathBuf,
        /// Name of the cluster.
        #[arg(long)]
        cluster: String,
    },
    /// Write the TLS folder of one replica.
    Issue {
        /// Folder that `ca init` made.
        #[arg(long)]
        dir: PathBuf,
        /// Name of the cluster.
        #[arg(long)]
        cluster: String,
        /// Which replica.
        #[arg(long)]
        replica: u64,
        /// Name or address by which clients reach it; may be repeated.
        #[arg(long = "host")]
        hosts: Vec<String>,
        /// Folder to write, to be copied to the replica's machine.
        #[arg(long)]
        out: PathBuf,
    },
}

/// Carries out `hanse ca`.
pub(crate) fn ca(command: CaCommand) -> Result<()> {
    match command {
        CaCommand::Init { dir, cluster } => {
            authority::create(&dir, &cluster)?;
            println!("{}: two authorities made; keep their keys away from the replicas", dir.display());
        }
        CaCommand::Issue { dir, cluster, replica, hosts, out } => {
            authority::issue(&dir, &out, &cluster, replica, &hosts)?;
            println!("{}: certificates of replica {replica}, valid for 90 days", out.display());
        }
    }
    Ok(())
}

/// Exit code of a replica whose own store cannot be trusted: it must be replaced, never restarted on that data.
const EXIT_LOST: u8 = 78;
/// Exit code of a replica that was removed from the cluster: it has nothing to do any more.
const EXIT_REMOVED: u8 = 79;
/// Exit code of a build that does not speak the version of its cluster: the replica goes on with a newer build.
const EXIT_TOO_OLD: u8 = 80;
/// How long the API may take to let its callers go.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Threads that a replica's tasks run on: one for two processors. A write goes through a dozen tasks that do little each;
/// handing it from thread to thread costs more than they do (docs/benchmarks.md). What takes long or waits for a disk has
/// threads of its own. `TOKIO_WORKER_THREADS` overrides it.
pub(crate) fn workers() -> usize {
    let wished = std::env::var("TOKIO_WORKER_THREADS").ok().and_then(|text| text.parse().ok()).filter(|n| *n > 0);
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    wished.unwrap_or_else(|| (processors() / 2).max(1))
}

/// Runs a replica until it is asked to stop or cannot go on; returns the program's exit code.
pub(crate) async fn run(args: ServerArgs) -> ExitCode {
    if args.die_with_parent {
        // Asked by the child itself, so that no unsafe code runs between fork and exec.
        if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)) {
            tracing::warn!(%error, "this replica will not notice when its parent ends");
        }
    }
    match serve(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("hanse server: {error}"));
            for cause in error.chain().skip(1) {
                say(format_args!("  because: {cause}"));
            }
            if error.downcast_ref::<RaftError>().is_some_and(RaftError::is_removed) {
                say("  what to do: nothing; this replica's machine can be given another task");
                return ExitCode::from(EXIT_REMOVED);
            }
            if error.downcast_ref::<RaftError>().is_some_and(RaftError::is_too_old) {
                eprintln!(
                    "  what to do: start it with the build that the other replicas run; its data is unharmed, see \
                     docs/operations.md, \"Rolling upgrade\""
                );
                return ExitCode::from(EXIT_TOO_OLD);
            }
            if error.downcast_ref::<RaftError>().is_some_and(RaftError::is_lost) {
                say(
                    "  what to do: do not start this replica again; put a new one in its place with `hanse replica replace`, see \
                     docs/operations.md, \"A lost replica\"",
                );
                return ExitCode::from(EXIT_LOST);
            }
            let set_up = error.is::<ConfigError>()
                || matches!(
                    error.downcast_ref(),
                    Some(RaftError::Config(_) | RaftError::Tls(_) | RaftError::Listen { .. })
                );
            ExitCode::from(if set_up { 2 } else { 1 })
        }
    }
}

async fn serve(args: &ServerArgs) -> Result<()> {
    let config = Config::load(&args.config)?;
    let own = config.own().context("the configuration lists this replica")?.clone();
    let end = CancellationToken::new();
    make_private(&config.data)?;
    let tls = ApiTls::read(&config.tls)?;
    let software = Software::open(config.node_artifact.as_deref())?;
    let trail = Trail::open(&config.tls, &config.data, &config.cluster)?;
    let listener = TcpListener::bind(config.api_listen)
        .await
        .with_context(|| format!("cannot listen for clients on {} (`api_listen`)", config.api_listen))?;
    let metrics = metrics_listener(&config).await?;
    let replica = Replica::start(replica_config(&config)?, end.child_token()).await?;
    tracing::info!(replica = config.replica, api = %own.api, peer = %own.peer, "replica is up");
    let observed = Arc::new(Observed::with_series(keep::load(&config.data)).with_timing(&config.timing));
    let embedded: Arc<dyn Engine> = Arc::new(EmbeddedEngine::with_later(software.known()));
    let keys = SshKeys {
        identity: config.ssh_identity.clone(),
        certificate: config.ssh_certificate.clone(),
        agent: config.ssh_agent.clone(),
    };
    let hosts: Arc<dyn HostConnector> = Arc::new(Connector::new(software, keys, config.cloud_credentials.clone()));
    let mut engines = BTreeMap::from([(embedded.name().to_string(), embedded)]);
    let artifacts = ArtifactStore::open(&config.data.join("artifacts"), RESERVE_BYTES)?;
    let (mut configured_artifacts, mut later) = (BTreeMap::new(), None);
    if let Some(configured) = config.cometbft.clone() {
        let (engine, bundle) = crate::software::cometbft(configured, &artifacts).await?;
        configured_artifacts.extend(bundle.as_ref().map(|it| (it.sha256(), "cometbft.sha256".to_owned())));
        later = bundle;
        let engine: Arc<dyn Engine> = Arc::new(engine);
        engines.insert(engine.name().to_string(), engine);
    }
    let engines = Arc::new(engines);
    let world = World {
        replica: Arc::new(replica.clone()),
        observed: Arc::clone(&observed),
        hosts: Arc::clone(&hosts),
        engines: Arc::clone(&engines),
        programs: Programs::of(artifacts.clone()),
        clock: Arc::new(context::clock),
        new_id: Arc::new(context::new_request_id),
        timing: config.timing.clone(),
        notary: Some(Notary { replica: replica.clone(), trail: trail.clone() }),
        cluster_name: config.cluster.clone(),
        setup: Some(SetupCode::at(config.data.join("setup-code"))),
    };
    let member = Member {
        own: config.replica,
        api_addresses: config.replicas.iter().map(|entry| (entry.id, entry.api.clone())).collect(),
        cluster: config.cluster.clone(),
    };
    let limits = Limits { reflection: config.reflection, ..Limits::default() };
    let store = artifacts.clone();
    let replica_of = replica.clone();
    let parts =
        Parts { replica: replica_of, observed, hosts, engines, member, trail, artifacts, configured_artifacts, limits };
    let context = context::Context::new(parts, &tls, end.child_token())?;
    let mut tasks = JoinSet::new();
    let (token, world) = (end.child_token(), world);
    tasks.spawn(async move {
        reconcile::run(world, token).await;
        Ok(())
    });
    let (token, syncing) = (end.child_token(), context.clone());
    tasks.spawn(async move {
        sync::run(syncing, token).await;
        Ok(())
    });
    let (token, keeping, folder) = (end.child_token(), context.clone(), config.data.clone());
    tasks.spawn(async move {
        keep::run(keeping, folder, token).await;
        Ok(())
    });
    if let Some(later) = later {
        let token = end.child_token();
        tasks.spawn(async move {
            tokio::select! { () = later.wait(store) => token.cancelled().await, () = token.cancelled() => {} }
            Ok(())
        });
    }
    if let Some(listener) = metrics {
        let (replica, token) = (replica.clone(), end.child_token());
        tasks.spawn(async move {
            hanse_server::metrics::serve(replica, listener, token).await;
            Ok(())
        });
    }
    let token = end.child_token();
    tasks.spawn(async move { hanse_server::serve(context, listener, &tls, token).await });
    let ended = tokio::select! {
        // In this order: the parts end with the replica, and its cause, which comes first, is what is told and decides the exit code.
        biased;
        cause = replica.stopped() => Err(anyhow::Error::new(cause)),
        result = stop_signal() => result,
        Some(task) = tasks.join_next() => match task {
            Ok(Ok(())) => Err(anyhow::anyhow!("a part of the replica ended by itself")),
            Ok(Err(error)) => Err(error.into()),
            Err(panic) => Err(panic.into()),
        },
    };
    replica.hand_over().await;
    end.cancel();
    // What does not end in time is dropped with the runtime; the log is durable without it.
    if tokio::time::timeout(DRAIN_MAX, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("some calls did not end in time");
    }
    replica.shutdown().await;
    ended
}

/// Listens for Prometheus, if that is wished.
async fn metrics_listener(config: &Config) -> Result<Option<TcpListener>> {
    let Some(address) = config.metrics_listen else { return Ok(None) };
    let failed = || format!("cannot listen for Prometheus on {address} (`metrics_listen`)");
    let listener = TcpListener::bind(address).await.with_context(failed)?;
    let own = listener.local_addr().with_context(failed)?;
    if !own.ip().is_loopback() {
        tracing::warn!(address = %own, "anyone who reaches this address can read the metrics");
    }
    tracing::info!("metrics at http://{own}/metrics");
    Ok(Some(listener))
}

fn replica_config(config: &Config) -> Result<ReplicaConfig> {
    let read = |name: &str| {
        let path = config.tls.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("read {} (`tls`)", path.display()))
    };
    let members = config.replicas.iter().map(|entry| {
        let member = hanse_raft::Member { peer_address: entry.peer.clone(), api_address: entry.api.clone() };
        (ReplicaId(entry.id), member)
    });
    Ok(ReplicaConfig {
        id: ReplicaId(config.replica),
        cluster_name: config.cluster.clone(),
        data_dir: config.data.join("raft"),
        peer_listen: config.peer_listen,
        members: members.collect(),
        tls: PeerTls { ca_pem: read("peer-ca.pem")?, cert_pem: read("peer.pem")?, key_pem: read("peer.key")? },
        timings: Timings {
            heartbeat_ms: config.timing.heartbeat_ms,
            election_min_ms: config.timing.election_min_ms,
            election_max_ms: config.timing.election_max_ms,
        },
        snapshot_every: config.timing.snapshot_every,
        bootstrap: !config.join,
    })
}

fn make_private(dir: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("make {} (`data`)", dir.display()))
}

async fn stop_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.context("listen for Ctrl-C")?,
        _ = terminate.recv() => {}
    }
    tracing::info!("asked to stop");
    Ok(())
}
