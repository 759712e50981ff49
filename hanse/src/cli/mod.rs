//! The command line: `hanse <noun> <verb>`, a client of the API like any other.
//!
//! Every verb makes one request (a few make a chain of them), prints the answer as a table, JSON or names on stdout,
//! and ends with an exit code of CONSOLE.md, section 12. Keys are read and used on this machine; passwords come from a
//! file, the environment or the terminal, never from the command line. Nothing here knows the domain or the log.

mod account;
mod adopting;
mod anchored;
mod artifact;
mod audit;
mod backup;
mod billing;
mod chain;
mod cloud;
mod cluster;
mod consortium;
mod context;
mod contract;
mod error;
mod explorer;
mod govern;
mod host;
mod imported;
mod key;
mod life;
mod monitor;
mod moving;
mod node;
mod operation;
mod password;
mod plan;
mod proposal;
mod replica;
mod tenant;
mod tx;
mod units;
mod upgrade;
mod view;
mod witness;

pub(crate) use context::Global;
pub(crate) use node::NodeCommand;

use crate::output::Format;
use chain::ChainCommand;
use error::{CliError, exit};

/// The nouns.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The control plane itself.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Who belongs to the control plane.
    #[command(subcommand)]
    Replica(replica::ReplicaCommand),
    /// Open a session and keep its token.
    Login(account::LoginArgs),
    /// Close the session.
    Logout,
    /// Show who is logged in.
    Whoami,
    /// Accounts that can log in.
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Open sessions.
    #[command(subcommand)]
    Session(account::SessionCommand),
    /// Organisations on the platform.
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Key files on this machine.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Software for hosts that is not in this program.
    #[command(subcommand)]
    Artifact(artifact::ArtifactCommand),
    /// Consortiums and their members.
    #[command(subcommand)]
    Consortium(consortium::ConsortiumCommand),
    /// What is put to the vote.
    #[command(subcommand)]
    Proposal(proposal::ProposalCommand),
    /// Kinds of chains that can be ordered.
    #[command(subcommand)]
    Template(host::TemplateCommand),
    /// Machines that nodes run on.
    #[command(subcommand)]
    Host(host::HostCommand),
    /// Clouds, and the machines that are made there to become hosts.
    #[command(subcommand)]
    Cloud(cloud::CloudCommand),
    /// Ledgers.
    #[command(subcommand)]
    Chain(chain::ChainCommand),
    /// Ledger nodes; the binary joins these verbs with those of the embedded ledger's node under one noun.
    #[command(skip)]
    Node(NodeCommand),
    /// Contracts on a chain.
    #[command(subcommand)]
    Contract(contract::ContractCommand),
    /// Transactions signed on this machine.
    #[command(subcommand)]
    Tx(tx::TxCommand),
    /// Blocks of a chain.
    #[command(subcommand)]
    Block(explorer::BlockCommand),
    /// Look something up on a chain.
    #[command(subcommand)]
    Explorer(explorer::ExplorerCommand),
    /// Long work and its steps.
    #[command(subcommand)]
    Operation(operation::OperationCommand),
    /// Prices.
    #[command(subcommand)]
    Plan(billing::PlanCommand),
    /// Metered use.
    #[command(subcommand)]
    Usage(billing::UsageCommand),
    /// Draft invoices.
    #[command(subcommand)]
    Invoice(billing::InvoiceCommand),
    /// The audit trail.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Backups of the whole platform.
    #[command(subcommand)]
    Backup(backup::BackupCommand),
}

/// Runs one command and returns its exit code; failures are told on stderr.
pub(crate) async fn run(command: Command, global: Global) -> i32 {
    match dispatch(command, &global).await {
        Ok(()) => exit::OK,
        Err(error) => {
            match global.format() {
                Format::Json => eprintln!("{:#}", error.for_scripts()),
                Format::Table | Format::Name => eprint!("{}", error.for_people()),
            }
            error.exit_code()
        }
    }
}

/// Gives what the first replica that answers says of the cluster, or why none did.
pub(crate) async fn status_of(global: &Global) -> Result<hanse_client::pb::GetStatusResponse, String> {
    let ask = async { context::Context::new(global)?.call(hanse_client::pb::GetStatusRequest {}).await };
    ask.await.map_err(|error: CliError| error.to_string())
}

/// What the platform finds wrong with chains, nodes, hosts and keys, the first page.
///
/// # Errors
/// In words, why it is not known.
pub(crate) async fn findings_of(global: &Global) -> Result<Vec<hanse_client::pb::Finding>, String> {
    let request = hanse_client::pb::ListFindingsRequest::default();
    let ask = async { Ok(context::Context::new(global)?.call(request).await?.findings) };
    ask.await.map_err(|error: CliError| error.to_string())
}

async fn dispatch(command: Command, global: &Global) -> Result<(), CliError> {
    // Keys are local; the trail can be verified from a file alone. Everything else needs a replica.
    match command {
        Command::Key(command) => return key::run(command, global),
        Command::Artifact(command) => return artifact::run(command, global).await,
        Command::Audit(command) => return audit::run(command, global).await,
        Command::Backup(command) => return backup::run(command, global).await,
        Command::Chain(ChainCommand::Govern(command)) if command.is_local() => {
            return govern::run_local(command, global);
        }
        _ => {}
    }
    let context = context::Context::new(global)?;
    match command {
        Command::Cluster(command) => cluster::run(command, &context).await,
        Command::Replica(command) => replica::run(command, &context).await,
        Command::Login(args) => account::login(args, &context).await,
        Command::Logout => account::logout(&context).await,
        Command::Whoami => account::whoami(&context).await,
        Command::Account(command) => account::run(command, &context).await,
        Command::Session(command) => account::sessions(command, &context).await,
        Command::Tenant(command) => tenant::run(command, &context).await,
        Command::Consortium(command) => consortium::run(command, &context).await,
        Command::Proposal(command) => proposal::run(command, &context).await,
        Command::Template(command) => host::templates(command, &context).await,
        Command::Host(command) => host::run(command, &context).await,
        Command::Cloud(command) => cloud::run(command, &context).await,
        Command::Chain(command) => chain::run(command, &context).await,
        Command::Node(command) => node::run(command, &context).await,
        Command::Contract(command) => contract::run(command, &context).await,
        Command::Tx(command) => tx::run(command, &context).await,
        Command::Block(command) => explorer::blocks(command, &context).await,
        Command::Explorer(command) => explorer::run(command, &context).await,
        Command::Operation(command) => operation::run(command, &context).await,
        Command::Plan(command) => billing::plans(command, &context).await,
        Command::Usage(command) => billing::usage(command, &context).await,
        Command::Invoice(command) => billing::invoices(command, &context).await,
        Command::Key(_) | Command::Artifact(_) | Command::Audit(_) | Command::Backup(_) => Ok(()),
    }
}

/// Reads `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Flags of every list.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ListArgs {
    /// Only what contains this text.
    #[arg(long)]
    pub(crate) filter: Option<String>,
    /// At most so many.
    #[arg(long)]
    pub(crate) limit: Option<usize>,
}

impl ListArgs {
    /// Returns the filter for the wire.
    pub(crate) fn filter(&self) -> String {
        self.filter.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        global: super::Global,
        #[command(subcommand)]
        command: super::Command,
    }

    #[derive(Debug, Parser)]
    struct Nodes {
        #[command(subcommand)]
        command: super::NodeCommand,
    }

    #[test]
    fn the_command_line_is_sound() {
        Whole::command().debug_assert();
        Nodes::command().debug_assert();
    }

    #[test]
    fn flags_may_follow_the_verb_and_endpoints_may_be_a_list() {
        let line = "hanse tenant list --endpoint a:1,b:2 --endpoint c:3 -o json --timeout 5s";
        let whole = Whole::try_parse_from(line.split(' ')).expect("parses");
        assert_eq!(whole.global.endpoint, ["a:1", "b:2", "c:3"]);
        assert_eq!(whole.global.timeout, Some(std::time::Duration::from_secs(5)));
    }

    /// It would set the global one too: a cloud's address would be taken for the platform's.
    #[test]
    fn no_verb_has_a_flag_of_a_global_ones_name() {
        fn walk(command: &clap::Command, global: &[clap::Id]) {
            for argument in command.get_arguments() {
                assert!(!global.contains(argument.get_id()), "{} takes --{}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(|it| walk(it, global));
        }
        let whole = Whole::command();
        let global: Vec<_> =
            whole.get_arguments().filter(|it| it.is_global_set()).map(|it| it.get_id().clone()).collect();
        assert!(global.len() > 5, "{global:?}");
        whole.get_subcommands().for_each(|it| walk(it, &global));
    }

    #[test]
    fn no_password_is_ever_an_argument() {
        fn walk(command: &clap::Command) {
            for argument in command.get_arguments() {
                let name = argument.get_id().as_str();
                let secret = name.contains("password") || name.contains("setup_code");
                assert!(!secret || name.ends_with("_file"), "{} takes {name}", command.get_name());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Whole::command());
    }
}
