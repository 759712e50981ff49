//! The node as a binary of its own, for this crate's tests only.
//!
//! The product ships the same commands inside `hanse` (`hanse node init|start|show`); this file
//! only calls [`hanse_node::cli::run`] and prints the error in one line.

use clap::Parser;
use hanse_node::cli::{self, NodeCommand};

#[derive(Parser)]
#[command(name = "hanse-node", about = "The embedded ledger's node")]
struct Args {
    #[command(subcommand)]
    command: NodeCommand,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match cli::run(Args::parse().command).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.chain());
            std::process::ExitCode::FAILURE
        }
    }
}
