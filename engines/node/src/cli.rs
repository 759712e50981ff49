//! The commands `node init`, `node start`, `node show` and `node token`.
//!
//! Results go to stdout as one JSON line, the log to stderr. Errors are returned, not printed; the
//! caller prints [`NodeError::chain`] and ends with a code other than 0.

mod show;

use std::path::{Path, PathBuf};

use alloy_primitives::B256;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::NodeError;
use crate::config::{CONFIG_FILE, NodeConfig};
use crate::genesis::Genesis;
pub use crate::governance::command::GovernCommand;
use crate::keys::NodeKey;
use crate::node;
use crate::snapshot;
use crate::store::Store;

/// Overrides the log filter of the configuration.
const LOG_VARIABLE: &str = "HANSE_NODE_LOG";
/// The core logs every vote at info; that is wanted only when asked for.
const QUIET: &str = "arc_malachitebft_core_consensus=warn,jsonrpsee=warn";

/// Exit code after a second signal.
const EXIT_AT_ONCE: i32 = 130;

/// What can be done with a node's home.
#[derive(Debug, clap::Subcommand)]
pub enum NodeCommand {
    /// Make the node's key if there is none and print id and public key as JSON
    Init {
        /// The node's home folder
        #[arg(long)]
        home: PathBuf,
    },
    /// Run the node until SIGTERM or SIGINT
    Start {
        /// The node's home folder
        #[arg(long)]
        home: PathBuf,
    },
    /// Write the state after the newest block, and what proves it, into a file; the node must be stopped
    Export {
        /// The node's home folder
        #[arg(long)]
        home: PathBuf,
        /// The file; it must not exist
        #[arg(long)]
        out: PathBuf,
    },
    /// Begin a home with a snapshot instead of executing all blocks; the home must hold no chain yet
    Import {
        /// The node's home folder, with key, configuration and genesis
        #[arg(long)]
        home: PathBuf,
        /// A file that `export` wrote
        #[arg(long)]
        from: PathBuf,
        /// The hash of the snapshot's block, as a member told you; needed only when the genesis' validators no longer
        /// vouch for it
        #[arg(long)]
        trust: Option<B256>,
    },
    /// Change validators and lists by proposals that members sign
    #[command(subcommand)]
    Govern(GovernCommand),
    /// Check the home's files and print what they and the running node say as JSON; nothing is started
    Show {
        /// The node's home folder
        #[arg(long)]
        home: PathBuf,
    },
    /// Make a token for JSON-RPC and print it with its SHA-256 as JSON; only the second goes into config.toml
    Token,
}

/// Runs one command.
///
/// # Errors
/// What failed, naming field, reason and remedy where the operator can do something.
pub async fn run(cmd: NodeCommand) -> Result<(), NodeError> {
    match cmd {
        NodeCommand::Init { home } => init(&home),
        NodeCommand::Start { home } => start(&home).await,
        NodeCommand::Show { home } => show::run(&home),
        NodeCommand::Token => token(),
        NodeCommand::Export { home, out } => blocking(move || export(&home, &out)).await,
        NodeCommand::Import { home, from, trust } => blocking(move || import(&home, &from, trust)).await,
        NodeCommand::Govern(command) => govern(command).await,
    }
}

async fn govern(command: GovernCommand) -> Result<(), NodeError> {
    let run = tokio::task::spawn_blocking(move || crate::governance::command::run(command));
    let answer = run.await.map_err(|_| NodeError::Task("the command"))??;
    println!("{answer}");
    Ok(())
}

async fn blocking(work: impl FnOnce() -> Result<(), NodeError> + Send + 'static) -> Result<(), NodeError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| NodeError::Task("the command"))?
}

fn export(home: &Path, out: &Path) -> Result<(), NodeError> {
    let (config, genesis) = (NodeConfig::load(home)?, Genesis::load(home)?);
    let store = Store::open(&home.join("data/ledger.redb"), config.history)?;
    let file = std::fs::File::create_new(out).map_err(NodeError::io("cannot create", out))?;
    let mut writer = std::io::BufWriter::new(&file);
    let written = snapshot::export(&store.snapshot()?, &genesis, &mut writer);
    drop(writer);
    let synced = written.and_then(|summary| {
        file.sync_all().map_err(NodeError::io("cannot sync", out))?;
        Ok(summary)
    });
    if synced.is_err() {
        std::fs::remove_file(out).map_err(NodeError::io("cannot remove", out))?;
    }
    println!("{}", json!(synced?));
    Ok(())
}

fn import(home: &Path, from: &Path, trust: Option<B256>) -> Result<(), NodeError> {
    let (config, genesis) = (NodeConfig::load(home)?, Genesis::load(home)?);
    let file = std::fs::File::open(from).map_err(NodeError::io("cannot open", from))?;
    let mut reader = std::io::BufReader::new(file);
    let summary = snapshot::import(home, &genesis, &config.history, trust, &mut reader)?;
    println!("{}", json!(summary));
    Ok(())
}

fn init(home: &Path) -> Result<(), NodeError> {
    let key = NodeKey::load_or_create(home)?;
    println!("{}", json!({ "node_id": key.node_id(), "public_key": key.public_key() }));
    Ok(())
}

fn token() -> Result<(), NodeError> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| NodeError::Rpc(format!("the system gives no randomness: {e}")))?;
    let token = hex::encode(bytes);
    let sha256 = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    println!("{}", json!({ "token": token, "sha256": hex::encode(sha256) }));
    Ok(())
}

async fn start(home: &Path) -> Result<(), NodeError> {
    start_log(&NodeConfig::load(home)?)?;
    let stop = CancellationToken::new();
    let io = |what| NodeError::io(what, home);
    let mut terminate = signal(SignalKind::terminate()).map_err(io("cannot watch signals for"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("cannot watch signals for"))?;
    let token = stop.clone();
    let watcher = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM, stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT, stopping"),
            () = token.cancelled() => {}
        }
        token.cancel();
        // Whoever asks twice does not want to wait; what is durable is durable already.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("a second signal, ending at once");
        std::process::exit(EXIT_AT_ONCE);
    });
    let result = node::run(home, stop.clone()).await;
    stop.cancel();
    watcher.abort();
    if result.is_ok() {
        tracing::info!("node stopped");
    }
    result
}

fn start_log(config: &NodeConfig) -> Result<(), NodeError> {
    let wanted = std::env::var(LOG_VARIABLE).unwrap_or_else(|_| config.log.clone());
    let filter = EnvFilter::builder()
        .parse(format!("{QUIET},{wanted}"))
        .map_err(|e| NodeError::invalid(CONFIG_FILE, "log", e.to_string(), "use a filter such as \"info\""))?;
    // A program that has set up its own log keeps it.
    // A line that cannot be written (a full disk under the log file) is lost; complaining of it there would be a panic.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .log_internal_errors(false)
        .try_init();
    Ok(())
}
