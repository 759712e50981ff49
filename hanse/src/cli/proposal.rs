//! `hanse proposal`: what is put to the vote, and voting with a signature made on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hanse_client::{MemberKey, ballot, pb};
use serde::Deserialize;

use super::ListArgs;
use super::context::{Context, PAGE_SIZE};
use super::error::CliError;
use super::life::{self, ChangeArgs};
use super::units::{millis, parse_duration};
use super::view::{Shown, View};
use super::{operation, plan};
use crate::output;

/// A chain's specification is a few kilobytes; the server's own limit is its business.
const SPEC_BYTES_MAX: u64 = 4 << 20;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ProposalCommand {
    /// Propose a new chain, by flags or by a JSON file.
    OpenCreateChain(Box<OpenArgs>),
    /// Propose a change of a chain: pause, resume, delete, undelete, add-nodes, remove-nodes, upgrade, reconfigure,
    /// add-validators, remove-validators.
    OpenChangeChain(ChangeArgs),
    /// Show a proposal with its electorate, ballots and tally.
    Get {
        /// The consortium.
        consortium: String,
        /// The proposal, e.g. p-1.
        proposal: String,
    },
    /// List the proposals of a consortium, newest first.
    List {
        /// The consortium.
        consortium: String,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Vote; the ballot is signed on this machine over the artifact that was read.
    Vote {
        /// The consortium.
        consortium: String,
        /// The proposal.
        proposal: String,
        /// How.
        #[arg(value_enum)]
        choice: ChoiceArg,
        /// Member key file.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The voting tenant; by default the session's.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Show what an open proposal would do if it passed.
    Plan {
        /// The consortium.
        consortium: String,
        /// The proposal, e.g. p-3.
        proposal: String,
    },
    /// Print exactly the bytes that are voted on; `sha256sum` gives the artifact hash.
    Artifact {
        /// The consortium.
        consortium: String,
        /// The proposal.
        proposal: String,
    },
}

/// What `open-create-chain` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct OpenArgs {
    /// The consortium.
    consortium: String,
    /// Title for people.
    #[arg(long)]
    title: Option<String>,
    /// JSON file (`-` for stdin) with title, chain, template, template_version, chain_id, parameters, nodes, alloc,
    /// governance (members by tenant, threshold, senders, deployers, restrict_nodes), anchor and voting_period_ms; flags given
    /// beside it win.
    #[arg(short = 'f', long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Id of the chain.
    #[arg(long)]
    chain: Option<String>,
    /// EIP-155 chain id.
    #[arg(long)]
    chain_id: Option<u64>,
    /// Template; by default evm-standard.
    #[arg(long)]
    template: Option<String>,
    /// Its version; by default 1.
    #[arg(long)]
    template_version: Option<u32>,
    /// Owner of a node; once for each node.
    #[arg(long = "node", value_name = "TENANT")]
    nodes: Vec<String>,
    /// Template parameter; may be repeated.
    #[arg(long = "param", value_name = "NAME=NUMBER", value_parser = parse_parameter)]
    parameters: Vec<(String, u64)>,
    /// A member that governs the running chain, with its account; once for each.
    #[arg(long = "governor", value_name = "TENANT=ADDRESS", value_parser = parse_governor)]
    governors: Vec<(String, String)>,
    /// How many of the governors must sign a change; by default more than two thirds.
    #[arg(long, value_name = "K", requires = "governors")]
    governance_threshold: Option<u32>,
    /// Genesis balance; may be repeated.
    #[arg(long = "alloc", value_name = "ADDRESS=WEI", value_parser = parse_alloc)]
    alloc: Vec<(String, String)>,
    /// Let the chain record heads of the platform's audit trail, signed with the key that the artifact then names.
    #[arg(long)]
    anchor: bool,
    /// How long the proposal is open; by default as the charter says.
    #[arg(long, value_parser = parse_duration)]
    voting_period: Option<Duration>,
    /// Open nothing: show what it would do.
    #[arg(long)]
    plan: bool,
}

/// The JSON file of `open-create-chain`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SpecFile {
    title: String,
    chain: String,
    template: String,
    template_version: u32,
    chain_id: u64,
    parameters: BTreeMap<String, u64>,
    nodes: Vec<NodeFile>,
    alloc: BTreeMap<String, String>,
    governance: Option<GovernanceFile>,
    anchor: bool,
    voting_period_ms: i64,
}

/// Who may change the running chain; a list that is left out lets all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GovernanceFile {
    members: BTreeMap<String, String>,
    /// 0: more than two thirds.
    threshold: u32,
    senders: Option<Vec<String>>,
    deployers: Option<Vec<String>>,
    restrict_nodes: bool,
}

impl GovernanceFile {
    fn spec(self) -> pb::GovernanceSpec {
        let list = |list: Vec<String>| pb::AccountList {
            accounts: list.into_iter().map(|account| account.to_lowercase()).collect(),
        };
        let most = u32::try_from(self.members.len() * 2 / 3 + 1).unwrap_or(u32::MAX);
        pb::GovernanceSpec {
            members: self.members.into_iter().map(|(tenant, account)| (tenant, account.to_lowercase())).collect(),
            threshold: if self.threshold == 0 { most } else { self.threshold },
            senders: self.senders.map(list),
            deployers: self.deployers.map(list),
            restrict_nodes: self.restrict_nodes,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    owner: String,
}

/// Choices by the names of the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum ChoiceArg {
    /// For it.
    Yes,
    /// Against it.
    No,
    /// Neither.
    Abstain,
}

impl From<ChoiceArg> for pb::Choice {
    fn from(choice: ChoiceArg) -> pb::Choice {
        match choice {
            ChoiceArg::Yes => pb::Choice::Yes,
            ChoiceArg::No => pb::Choice::No,
            ChoiceArg::Abstain => pb::Choice::Abstain,
        }
    }
}

pub(super) const PROPOSAL: View = View { key: "proposal", name: "proposal", columns: &[] };
const PROPOSALS: View = View {
    key: "proposals",
    name: "proposal",
    columns: &[
        ("PROPOSAL", "proposal"),
        ("TITLE", "title"),
        ("OUTCOME", "outcome"),
        ("YES", "tally.yes"),
        ("NO", "tally.no"),
        ("ABSTAIN", "tally.abstain"),
        ("OF", "tally.total"),
        ("NEEDED", "tally.needed"),
        ("DEADLINE", "deadline_ms"),
        ("OPERATION", "operation"),
    ],
};

/// Runs a verb.
///
/// # Errors
/// The call failed, a file cannot be used, or the user did not agree.
pub(crate) async fn run(command: ProposalCommand, context: &Context) -> Result<(), CliError> {
    match command {
        ProposalCommand::OpenCreateChain(args) => {
            let plan = args.plan;
            let mut request = open_request(*args)?;
            if plan {
                return plan::of_action(request, context).await;
            }
            request.validate_only = context.global.dry_run;
            context.show(request, PROPOSAL).await
        }
        ProposalCommand::OpenChangeChain(args) => life::open_change(args, context).await,
        ProposalCommand::Get { consortium, proposal } => {
            context.show(pb::GetProposalRequest { consortium, proposal }, PROPOSAL).await
        }
        ProposalCommand::Plan { consortium, proposal } => {
            plan::show(consortium, pb::plan_chain_request::Planned::Proposal(proposal), context).await
        }
        ProposalCommand::List { consortium, list } => {
            let request = |page_token| pb::ListProposalsRequest {
                page_size: PAGE_SIZE,
                page_token,
                filter: list.filter(),
                consortium: consortium.clone(),
                outcome: pb::ProposalOutcome::Unspecified.into(),
            };
            context.show_pages(PROPOSALS, request, list.limit).await
        }
        ProposalCommand::Vote { consortium, proposal, choice, key, tenant } => {
            vote(context, pb::GetProposalRequest { consortium, proposal }, choice, &key, tenant).await
        }
        ProposalCommand::Artifact { consortium, proposal } => {
            let shown = get(context, pb::GetProposalRequest { consortium, proposal }).await?.1;
            output::print_bytes(&shown.artifact)?;
            Ok(())
        }
    }
}

/// Returns the cluster's id and the proposal.
async fn get(context: &Context, request: pb::GetProposalRequest) -> Result<(String, pb::Proposal), CliError> {
    let response = context.call(request).await?;
    let cluster_id = response.header.unwrap_or_default().cluster_id;
    let proposal = response.proposal.ok_or_else(|| CliError::Failed("the answer holds no proposal".to_owned()))?;
    Ok((cluster_id, proposal))
}

async fn vote(
    context: &Context,
    which: pb::GetProposalRequest,
    choice: ChoiceArg,
    key: &Path,
    tenant: Option<String>,
) -> Result<(), CliError> {
    let key = MemberKey::load(key)?;
    let tenant = context.tenant(tenant).await?;
    let (cluster_id, shown) = get(context, which).await?;
    let mut request = ballot::sign(&key, &cluster_id, &shown, &tenant, choice.into())?;
    request.validate_only = context.global.dry_run;
    context.say(&format!("{} {}: {}", shown.proposal, shown.title, String::from_utf8_lossy(&shown.artifact)));
    let word = format!("{choice:?}").to_lowercase();
    context.confirm(&format!("Vote {word} for {tenant}? A ballot cannot be taken back."))?;
    let response = context.call(request).await?;
    let operation = response.proposal.as_ref().map(|proposal| proposal.operation.clone()).unwrap_or_default();
    let value = hanse_client::json::response::<pb::CastBallotRequest>(&response);
    context.print(Shown { value, view: PROPOSAL })?;
    if !operation.is_empty() && context.waits() {
        operation::wait(context, &operation).await?;
    }
    Ok(())
}

/// Returns the request of flags and file; a flag wins over the file.
fn open_request(args: OpenArgs) -> Result<pb::OpenProposalRequest, CliError> {
    let mut file = match &args.file {
        None => SpecFile::default(),
        Some(path) => read_spec(path)?,
    };
    file.parameters.extend(args.parameters);
    file.alloc.extend(args.alloc);
    if !args.governors.is_empty() {
        let governance = file.governance.get_or_insert_default();
        governance.members.extend(args.governors);
        governance.threshold = args.governance_threshold.unwrap_or(governance.threshold);
    }
    let owners: Vec<String> =
        if args.nodes.is_empty() { file.nodes.into_iter().map(|node| node.owner).collect() } else { args.nodes };
    let chain = args.chain.unwrap_or(file.chain);
    let chain_id = args.chain_id.unwrap_or(file.chain_id);
    for (missing, flag) in [(chain.is_empty(), "--chain"), (chain_id == 0, "--chain-id"), (owners.is_empty(), "--node")]
    {
        if missing {
            return Err(CliError::local(format!("{flag} is missing"), format!("Give {flag}, or a file with -f.")));
        }
    }
    let some_or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    let title = args.title.unwrap_or(file.title);
    let spec = pb::ChainSpec {
        template: args.template.unwrap_or_else(|| some_or(file.template, "evm-standard")),
        template_version: args.template_version.unwrap_or(file.template_version.max(1)),
        chain_id,
        parameters: file.parameters,
        nodes: owners.into_iter().map(|owner| pb::NodeSpec { owner }).collect(),
        alloc: file.alloc.into_iter().map(|(address, wei)| (address.to_lowercase(), wei)).collect(),
        governance: file.governance.map(GovernanceFile::spec),
        anchor: (args.anchor || file.anchor).then(pb::ChainAnchor::default),
        chain,
    };
    Ok(pb::OpenProposalRequest {
        request_id: String::new(),
        validate_only: false,
        consortium: args.consortium,
        title: some_or(title, &format!("Create chain {}", spec.chain)),
        action: Some(pb::Action { kind: Some(pb::action::Kind::CreateChain(spec)) }),
        voting_period_ms: args.voting_period.map_or(file.voting_period_ms, millis),
    })
}

fn read_spec(path: &Path) -> Result<SpecFile, CliError> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(SPEC_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(SPEC_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| CliError::file(path, &error))?;
    serde_json::from_str(&text).map_err(|error| CliError::file(path, &error))
}

pub(super) fn parse_parameter(text: &str) -> Result<(String, u64), String> {
    let (name, number) = text.split_once('=').ok_or("NAME=NUMBER is needed")?;
    let number = number.parse().map_err(|_| format!("{number:?} is not a whole number"))?;
    Ok((name.to_owned(), number))
}

fn parse_governor(text: &str) -> Result<(String, String), String> {
    let (tenant, account) = text.split_once('=').ok_or("TENANT=ADDRESS is needed")?;
    Ok((tenant.to_owned(), account.to_owned()))
}

fn parse_alloc(text: &str) -> Result<(String, String), String> {
    let (address, wei) = text.split_once('=').ok_or("ADDRESS=WEI is needed")?;
    if wei.is_empty() || !wei.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{wei:?} is not a decimal number of wei"));
    }
    Ok((address.to_owned(), wei.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: OpenArgs,
    }

    fn request(line: &[&str]) -> Result<pb::OpenProposalRequest, CliError> {
        open_request(Line::try_parse_from([&["x", "trade"], line].concat()).unwrap().args)
    }

    #[test]
    fn flags_and_file_make_the_same_request() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spec.json");
        let text = r#"{"title":"T","chain":"supply-1","chain_id":77,"parameters":{"block_time_ms":500},
            "nodes":[{"owner":"acme"},{"owner":"globex"}],"alloc":{"0xAB":"5"},"voting_period_ms":60000}"#;
        std::fs::write(&path, text).unwrap();
        let by_file = request(&["-f", path.to_str().unwrap()]).unwrap();
        let by_flags = request(&[
            "--title",
            "T",
            "--chain",
            "supply-1",
            "--chain-id",
            "77",
            "--param",
            "block_time_ms=500",
            "--node",
            "acme",
            "--node",
            "globex",
            "--alloc",
            "0xab=5",
            "--voting-period",
            "1m",
        ])
        .unwrap();
        assert_eq!(by_file, by_flags);
        let other = request(&["-f", path.to_str().unwrap(), "--chain", "other"]).unwrap();
        let Some(pb::action::Kind::CreateChain(spec)) = other.action.unwrap().kind else { panic!() };
        assert_eq!((spec.chain.as_str(), spec.template.as_str()), ("other", "evm-standard"));

        let of = |request: pb::OpenProposalRequest| match request.action.unwrap().kind.unwrap() {
            pb::action::Kind::CreateChain(spec) => spec.governance,
            pb::action::Kind::ChangeChain(change) => panic!("{change:?}"),
        };
        assert_eq!(of(by_flags), None);
        let text = r#"{"chain":"c","chain_id":7,"nodes":[{"owner":"acme"}],"governance":{"members":{"acme":"0xAB","globex":"0x02"},
            "threshold":1,"senders":["0xCD"],"restrict_nodes":true}}"#;
        std::fs::write(&path, text).unwrap();
        let file = of(request(&["-f", path.to_str().unwrap()]).unwrap()).unwrap();
        assert_eq!((file.members["acme"].as_str(), file.threshold, file.restrict_nodes), ("0xab", 1, true));
        assert_eq!((file.senders.unwrap().accounts, file.deployers), (vec!["0xcd".to_owned()], None));
        let line = ["--chain", "c", "--chain-id", "7", "--node", "a"];
        let governors = ["--governor", "a=0x01", "--governor", "b=0x02", "--governor", "c=0x03"];
        let flags = of(request(&[&line[..], &governors].concat()).unwrap()).unwrap();
        assert_eq!((flags.members.len(), flags.threshold), (3, 3), "more than two thirds unless said");
        let said = of(request(&[&line[..], &governors, &["--governance-threshold", "2"]].concat()).unwrap()).unwrap();
        assert_eq!((said.threshold, said.senders), (2, None));

        std::fs::write(&path, r#"{"chian":"typo"}"#).unwrap();
        assert!(request(&["-f", path.to_str().unwrap()]).unwrap_err().to_string().contains("chian"));
        assert!(request(&["--chain", "c"]).unwrap_err().to_string().contains("--chain-id"));
    }
}
