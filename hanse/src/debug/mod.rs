//! `hanse debug`: what lies in a stopped replica's folder, and a bundle of findings for whoever helps.
//!
//! `log`, `snapshot` and `state` read the folder of a replica that does not run; they hold its lock meanwhile and write
//! nothing. Of a request in the log only the command's name, who asked and the request's id are shown.

mod bundle;
mod folder;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use crate::cli::Global;
use crate::output::{self, Format, Table};

/// `hanse debug …`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DebugCommand {
    /// Show entries of a stopped replica's log.
    Log {
        #[command(flatten)]
        folder: FolderArgs,
        /// First entry to show; by default the oldest there is.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Show at most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show the snapshots of a stopped replica.
    Snapshot {
        #[command(flatten)]
        folder: FolderArgs,
    },
    /// Make the state of a stopped replica from its snapshot and log, and show its revision and digest.
    State {
        #[command(flatten)]
        folder: FolderArgs,
    },
    /// Write what a helper needs to know into one file: versions, configuration, findings, status, metrics, log lines. No
    /// key, token, password or setup code is in it.
    Bundle(bundle::BundleArgs),
}

/// Which folder.
#[derive(Debug, clap::Args)]
pub(crate) struct FolderArgs {
    /// Data folder of the replica (`data` of its configuration).
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Something to print.
struct Shown {
    json: Value,
    head: String,
    table: Table,
    names: String,
}

/// Carries out `hanse debug`; 0, or 1 if the folder is damaged, or 2 if it cannot be looked at.
pub(crate) async fn run(command: DebugCommand, global: &Global) -> ExitCode {
    let shown = match command {
        DebugCommand::Bundle(args) => bundle::run(args, global).await,
        DebugCommand::Log { folder, from, limit } => folder::log(&folder.data, from, limit),
        DebugCommand::Snapshot { folder } => folder::snapshots(&folder.data),
        DebugCommand::State { folder } => folder::state(&folder.data),
    };
    let shown = match shown {
        Ok(shown) => shown,
        Err(error) => {
            eprintln!("hanse debug: {}", output::harmless(&format!("{error:#}")));
            let damaged = error.downcast_ref().is_some_and(hanse_raft::StoreError::is_lost);
            return ExitCode::from(if damaged { 1 } else { crate::EXIT_USAGE });
        }
    };
    let printed = match global.format() {
        Format::Json => output::print_json(&shown.json),
        Format::Name => output::print(&shown.names),
        Format::Table => output::print(&(shown.head + &shown.table.render())),
    };
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hanse debug: cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}
