//! The one binary: a replica, the console, the CLI, the embedded ledger's node, and the demo.
//!
//! This crate only wires: it is the one place that names the adapters and engines. Rules live in `hanse-state`, acts in
//! `hanse-server`, screens in `hanse-tui`.

mod cli;
mod connect;
mod console;
mod debug;
mod dev;
mod doctor;
mod output;
mod server;
mod software;
mod wallet;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};
use hanse_state::cluster::version::SPOKEN;
use tracing_subscriber::EnvFilter;

/// A replica makes and drops many small things on several threads; with the C library's allocator that was a sixth of a
/// write's processor time (docs/benchmarks.md). Its limits are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What `--version` says: a person who upgrades must know which builds can share a cluster.
static LONG_VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{}\ncluster versions {SPOKEN}", env!("CARGO_PKG_VERSION")));

/// Exit code for a mistake in the command line or the local set-up (CONSOLE.md section 12).
const EXIT_USAGE: u8 = 2;

/// Hanse: an on-premises, highly available control plane for consortium blockchains.
#[derive(Debug, Parser)]
#[command(name = "hanse", version, long_version = LONG_VERSION.as_str(), max_term_width = 110)]
struct Arguments {
    #[command(flatten)]
    global: cli::Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a replica of the control plane.
    Server(server::ServerArgs),
    /// Open the operators' console.
    Console(console::ConsoleArgs),
    /// Start three replicas on this machine, tell the demo story through the API, and open the console.
    Dev(dev::DevArgs),
    /// Make the cluster's certificate authorities and the replicas' certificates.
    #[command(subcommand)]
    Ca(server::CaCommand),
    /// Look for what will hurt: this machine's configuration, disk and certificates, and the cluster.
    Doctor(doctor::DoctorArgs),
    /// Look into the folder of a stopped replica, or write a bundle for whoever helps.
    #[command(subcommand)]
    Debug(debug::DebugCommand),
    /// Ledger nodes: on the platform, and the embedded ledger's node itself.
    #[command(subcommand)]
    Node(NodeNoun),
    /// Carry out one request on this host (used by adapters).
    #[command(hide = true)]
    HostRun {
        /// Folder of artifacts and instances.
        #[arg(long)]
        root: Option<PathBuf>,
        /// File with the request; standard input otherwise.
        #[arg(long, requires_all = ["root", "answer"])]
        request: Option<PathBuf>,
        /// File for the answer; standard output otherwise.
        #[arg(long, requires = "request")]
        answer: Option<PathBuf>,
    },
    /// Connect standard input and output with a port of this host's loopback (used by adapters).
    #[command(hide = true)]
    HostDial {
        /// The port.
        port: u16,
    },
    /// Keep one instance's process (used by adapters).
    #[command(hide = true)]
    HostSupervise {
        /// The instance's folder.
        dir: PathBuf,
    },
    #[command(flatten)]
    Noun(cli::Command),
}

/// `hanse node …`: verbs that ask the platform, and verbs that are the node.
#[derive(Debug, Subcommand)]
enum NodeNoun {
    #[command(flatten)]
    Platform(cli::NodeCommand),
    #[command(flatten)]
    Ledger(hanse_node::cli::NodeCommand),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        // These are plain blocking programs that live on a host; they need no runtime and log nothing.
        Command::HostRun { root: Some(root), request: Some(request), answer: Some(answer) } => {
            hanse_hostrun::run_files(&root, &request, &answer)
        }
        Command::HostRun { root, .. } => hanse_hostrun::run_stdio(root),
        Command::HostDial { port } => hanse_hostrun::dial_stdio(port),
        Command::HostSupervise { dir } => hanse_hostrun::supervise(&dir),
        command => run(arguments.global, command),
    }
}

fn run(global: cli::Global, command: Command) -> ExitCode {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Command::Server(_) = command {
        runtime.worker_threads(server::workers());
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("start the runtime")),
    };
    let result = runtime.block_on(dispatch(global, command));
    // Blocking reads of a terminal must not hold up the end of the program.
    runtime.shutdown_background();
    result
}

async fn dispatch(global: cli::Global, command: Command) -> ExitCode {
    let done = match command {
        Command::Server(args) => {
            log_to_stderr("info");
            return server::run(args).await;
        }
        Command::Node(NodeNoun::Platform(command)) => {
            return exit_code(cli::run(cli::Command::Node(command), global).await);
        }
        Command::Node(NodeNoun::Ledger(command)) => return ledger_node(command).await,
        Command::Dev(args) => return dev::run(args, &global).await,
        Command::Doctor(args) => return doctor::run(args, &global).await,
        Command::Debug(command) => return debug::run(command, &global).await,
        Command::Ca(command) => server::ca(command),
        Command::Console(args) => return console::run(&global, args).await,
        Command::Noun(command) => return exit_code(cli::run(command, global).await),
        Command::HostRun { .. } | Command::HostDial { .. } | Command::HostSupervise { .. } => Ok(()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// The node sets up its own log; its failure is one line, because a supervisor keeps only the last few.
async fn ledger_node(command: hanse_node::cli::NodeCommand) -> ExitCode {
    match hanse_node::cli::run(command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Prints the whole chain of causes on one line each.
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("hanse: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
    ExitCode::from(EXIT_USAGE)
}

fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_env("HANSE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // A line that cannot be written (a full disk under the log file) is lost; complaining of it there would be a panic, and
    // with it the end of a replica that the full disk itself leaves alone.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    /// The operations guide, whose commands people copy.
    const GUIDE: &str = include_str!("../../docs/operations.md");

    /// Splits a line into words as a shell does with double quotes; what follows `#`, `|` or `>` is not the command's.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for letter in line.chars() {
            match letter {
                '"' => quoted = !quoted,
                ' ' if !quoted => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
                letter => word.push(letter),
            }
        }
        words.extend(Some(word).filter(|word| !word.is_empty()));
        let end = words.iter().position(|word| ["#", "|", ">"].contains(&word.as_str())).unwrap_or(words.len());
        words.truncate(end);
        words
    }

    /// What is wrong with a command; that `0x...` stands for some address is not, nor that it only tells the version.
    fn error_of(line: &str) -> Option<clap::Error> {
        let placeholder = |it: &clap::Error| it.kind() == ErrorKind::ValueValidation && line.contains("...");
        let fine = |it: &clap::Error| it.kind() == ErrorKind::DisplayVersion || placeholder(it);
        Arguments::try_parse_from(words(line)).err().filter(|it| !fine(it))
    }

    #[test]
    fn every_command_of_the_operations_guide_is_one() {
        let joined = GUIDE.replace("\\\n", " ");
        let blocks = joined.split("```").skip(1).step_by(2).flat_map(str::lines);
        let commands: Vec<&str> = blocks.map(str::trim).filter(|line| line.starts_with("hanse ")).collect();
        assert!(commands.len() > 30, "the guide's commands are found: {}", commands.len());
        for line in commands {
            assert!(
                error_of(line).is_none(),
                "{line}: {}",
                error_of(line).map(|it| it.to_string()).unwrap_or_default()
            );
        }
        // In running text a command is often only named, without what it is about.
        let text: String = joined.split("```").step_by(2).collect();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|it| it.starts_with("hanse ")).collect();
        assert!(named.len() > 5, "commands in the text are found: {}", named.len());
        for line in named {
            let wrong = error_of(line).filter(|it| it.kind() != ErrorKind::MissingRequiredArgument);
            assert!(wrong.is_none(), "{line}: {}", wrong.map(|it| it.to_string()).unwrap_or_default());
        }
    }
}
