//! Runs a replica: reads the configuration, starts Raft, the reconcilers and the API, and stops them in order.
//!
//! Exit codes: 0 asked to stop, 2 a mistake in the set-up, 1 a failure while running, 78 (`EX_CONFIG`) the replica's own
//! store cannot be trusted and the replica must be replaced.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use hanse_server::ca as authority;
use hanse_server::config::Config;

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
