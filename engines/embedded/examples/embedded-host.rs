//! The stand-in for the one binary in this crate's tests: the node's commands and the supervisor. An example, because
//! only examples and tests may use what the tests depend on.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use hanse_node::cli::{self, NodeCommand};

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The node's commands.
    Node {
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// One request.
    HostRun,
    /// The supervisor.
    HostSupervise { dir: String },
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::HostRun => hanse_hostrun::run_stdio(None),
        Command::HostSupervise { dir } => hanse_hostrun::supervise(Path::new(&dir)),
        Command::Node { command } => {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
            match runtime.block_on(cli::run(command)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("error: {}", error.chain());
                    ExitCode::FAILURE
                }
            }
        }
    }
}
