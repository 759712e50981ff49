//! `hanse chain govern`: the steps of a governance proposal for a chain that is asked through the platform.
//!
//! They are those of `hanse node govern`, on the same file; only the way to the chain differs, so that no member needs to
//! reach a node's own port. Keys are read and used on this machine.

use std::path::PathBuf;

use alloy_primitives::{Address, B256, Bytes};
use hanse_client::{Call, Code, pb};
use hanse_node::NodeError;
use hanse_node::govern::{self, ACCOUNT, Inclusion, Ledger, Offer, Standing};
use hanse_node::keys::PublicKey;
use serde_json::{Value, json};

use super::context::{Context, Global, PAGE_SIZE};
use super::error::CliError;
use super::key::show;
use crate::output::Format;

/// A node this many blocks behind has caught up.
const BEHIND_MAX: u64 = 5;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum GovernCommand {
    /// Make a proposal's file from the chain's present state.
    Propose {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        /// A change, action=subject,value or action=value; may be repeated.
        #[arg(long = "change", required = true)]
        changes: Vec<String>,
        /// The last height at which it may be executed; 0 is never too late.
        #[arg(long, default_value_t = 0)]
        deadline: u64,
        /// Propose a validator even if its node is not seen to follow the chain.
        #[arg(long)]
        unseen: bool,
        /// Where the proposal is written; must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Print what a proposal says, who signed it, and the typed data for wallets; needs no replica.
    Show {
        /// The proposal's file.
        #[arg(long, value_name = "FILE")]
        proposal: PathBuf,
    },
    /// Add a member's signature to a proposal's file; needs no replica.
    Sign {
        /// The proposal's file.
        #[arg(long, value_name = "FILE")]
        proposal: PathBuf,
        /// The member's account key.
        #[arg(long, value_name = "FILE", conflicts_with = "signature", required_unless_present = "signature")]
        key_file: Option<PathBuf>,
        /// A signature that the member's wallet made of the typed data that `show` prints.
        #[arg(long)]
        signature: Option<Bytes>,
    },
    /// Send a proposal to the chain and wait until it is executed.
    Submit {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        /// The proposal's file.
        #[arg(long, value_name = "FILE")]
        proposal: PathBuf,
        /// Key of the account that sends the transaction; need not be a member's.
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
    },
}

impl GovernCommand {
    /// Whether it works on files of this machine alone.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Show { .. } | Self::Sign { .. })
    }
}

/// Runs a verb that needs no replica, if it is one.
///
/// # Errors
/// A file cannot be used, or the signature is none of the proposal.
pub(crate) fn run_local(command: GovernCommand, global: &Global) -> Result<(), CliError> {
    match command {
        GovernCommand::Show { proposal } => print(global, "proposal_hash", govern::show(&proposal)?),
        GovernCommand::Sign { proposal, key_file, signature } => {
            print(global, "signed_by", govern::sign(&proposal, key_file.as_deref(), signature)?)
        }
        GovernCommand::Propose { .. } | GovernCommand::Submit { .. } => Ok(()),
    }
}

/// Runs a verb.
///
/// # Errors
/// A call failed, the chain refuses, or a file cannot be used.
pub(crate) fn run(command: GovernCommand, context: &Context) -> Result<(), CliError> {
    match command {
        GovernCommand::Propose { consortium, chain, changes, deadline, unseen, out } => {
            let platform = Platform { context, consortium, chain };
            print(&context.global, "proposal", govern::propose(&platform, &changes, deadline, unseen, &out)?)
        }
        GovernCommand::Submit { consortium, chain, proposal, key_file } => {
            context.refuse_dry_run("submitting a proposal")?;
            context.confirm(&format!("Submit {} to {consortium}/{chain}?", proposal.display()))?;
            let platform = Platform { context, consortium, chain };
            print(&context.global, "transaction_hash", govern::submit(&platform, &proposal, &key_file)?)
        }
        local => run_local(local, &context.global),
    }
}

/// The answer about governance with lists that a table shows in full: one row a validator that is to come, one row an
/// account, each with what it is about.
pub(crate) fn in_rows(mut answer: Value) -> Value {
    let governance = &mut answer["governance"];
    let mut rows = Vec::new();
    for set in governance["pending_validators"].as_array_mut().into_iter().flatten() {
        let from = set["from_height"].take();
        for validator in set["validators"].as_array_mut().into_iter().flatten() {
            let mut row = json!({ "from_height": from });
            for field in ["node", "owner", "power", "node_id"] {
                row[field] = validator[field].take();
            }
            rows.push(row);
        }
    }
    governance["pending_validators"] = Value::Array(rows);
    for list in ["nodes", "senders", "deployers"] {
        name_entries(&mut governance[list]["entries"], "entry");
    }
    name_entries(&mut governance["silent_nodes"], "node");
    answer
}

/// Makes things of a list's texts, so that each gets a row.
fn name_entries(list: &mut Value, column: &str) {
    for entry in list.as_array_mut().into_iter().flatten() {
        *entry = json!({ column: entry.take() });
    }
}

fn print(global: &Global, name: &'static str, mut value: Value) -> Result<(), CliError> {
    if global.format() == Format::Table {
        name_entries(&mut value["members"], "account");
    }
    show(global, name, value)
}

impl From<NodeError> for CliError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Asked(words) => Self::Failed(words),
            NodeError::Invalid { file, field, reason, action } => {
                let place = if field == "(all)" { file } else { format!("{file}: {field}") };
                Self::local(format!("{place}: {reason}"), action)
            }
            other => Self::local(other.chain(), ""),
        }
    }
}

/// A chain, asked through the platform.
struct Platform<'a> {
    context: &'a Context,
    consortium: String,
    chain: String,
}

impl Platform<'_> {
    /// The steps are written for a chain that answers before they go on.
    fn call<C: Call>(&self, request: C) -> Result<C::Response, CliError> {
        let call = self.context.call(request);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(call))
    }

    fn names(&self) -> (String, String) {
        (self.consortium.clone(), self.chain.clone())
    }

    fn governance(&self) -> Result<pb::ChainGovernance, CliError> {
        let (consortium, chain) = self.names();
        let response = self.call(pb::GetChainGovernanceRequest { consortium, chain })?;
        response.governance.ok_or_else(|| CliError::Failed("the answer holds no governance".to_owned()))
    }

    fn nodes(&self) -> Result<Vec<pb::Node>, CliError> {
        let (consortium, chain) = self.names();
        let request = pb::ListNodesRequest { page_size: PAGE_SIZE, consortium, chain, ..Default::default() };
        Ok(self.call(request)?.nodes)
    }
}

impl Ledger for Platform<'_> {
    type Error = CliError;

    fn standing(&self) -> Result<Option<Standing>, CliError> {
        let it = self.governance()?;
        if !it.governed {
            return Ok(None);
        }
        let unreadable = |what: &str| CliError::Failed(format!("the platform's answer holds a {what} that is none"));
        let sets = it.pending_validators.iter().map(|set| set.validators.len());
        let members = it.members.iter().map(|member| member.account.parse::<Address>());
        Ok(Some(Standing {
            chain_id: it.chain_id,
            genesis_hash: it.genesis_hash.parse::<B256>().map_err(|_| unreadable("genesis hash"))?,
            sequence: it.sequence,
            threshold: it.threshold,
            members: members.collect::<Result<_, _>>().map_err(|_| unreadable("member's account"))?,
            validators_max: sets.chain([it.validators.len()]).max().unwrap_or(0),
        }))
    }

    fn check_follows(&self, key: &PublicKey) -> Result<(), CliError> {
        let id = key.node_id().to_string();
        if self.governance()?.validators.iter().any(|validator| validator.node_id == id) {
            return Ok(());
        }
        let nodes = self.nodes()?;
        let head = nodes.iter().map(|node| node.height).max().unwrap_or(0);
        let advice = "start the node and wait until it follows the chain, or say --unseen";
        let Some(node) = nodes.iter().find(|node| node.node_id == id) else {
            let words = format!("node {id} of the new validator is not one that the platform runs for this chain");
            return Err(CliError::local(words, advice));
        };
        if node.state() == pb::NodeState::Running && node.peers > 0 && node.height + BEHIND_MAX >= head {
            return Ok(());
        }
        let state = node.state().as_str_name().trim_start_matches("NODE_STATE_").to_lowercase();
        let words = format!("{} does not follow the chain: {state}, height {} of {head}", node.name, node.height);
        Err(CliError::local(words, advice))
    }

    fn simulate(&self, _sender: Address, input: &Bytes) -> Result<(), CliError> {
        // Governance looks at who signed, never at who sends.
        let (consortium, chain) = self.names();
        let (to, data) = (format!("{ACCOUNT:#x}"), input.to_vec());
        self.call(pb::CallContractRequest { consortium, chain, to, data }).map(drop)
    }

    fn offer(&self, sender: Address) -> Result<Offer, CliError> {
        let (consortium, chain) = self.names();
        let account = self.call(pb::GetAccountRequest { consortium, chain, address: format!("{sender:#x}") })?.account;
        let (consortium, chain) = self.names();
        let latest = Some(pb::get_block_request::Block::Latest(true));
        let block = self.call(pb::GetBlockRequest { consortium, chain, block: latest })?.block;
        // Twice the base fee outlives six full blocks in a row (EIP-1559: at most an eighth more each).
        let base_fee = block.and_then(|block| block.base_fee_wei.parse::<u128>().ok()).unwrap_or(0);
        Ok(Offer { nonce: account.unwrap_or_default().nonce, gas_price: base_fee.saturating_mul(2) })
    }

    fn send(&self, raw: Bytes) -> Result<String, CliError> {
        let (consortium, chain) = self.names();
        let raw_transaction = raw.to_vec();
        let request = pb::SendTransactionRequest { request_id: String::new(), consortium, chain, raw_transaction };
        let hash = self.call(request)?.transaction_hash;
        self.context.say(&format!("sent {hash}; waiting for a block"));
        Ok(hash)
    }

    fn inclusion(&self, hash: &str) -> Result<Option<Inclusion>, CliError> {
        let (consortium, chain) = self.names();
        match self.call(pb::GetTransactionRequest { consortium, chain, hash: hash.to_owned() }) {
            Ok(response) => {
                let it = response.transaction.unwrap_or_default();
                let succeeded = it.state() == pb::TransactionState::Succeeded;
                let is_in_a_block = succeeded || it.state() == pb::TransactionState::Reverted;
                Ok(is_in_a_block.then_some(Inclusion { height: it.block, succeeded }))
            }
            // The node that is asked may not have heard of it yet.
            Err(CliError::Client(error)) if error.code == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::{Shown, View};
    use super::*;

    #[test]
    fn a_table_shows_every_validator_to_come_and_every_account() {
        let voter = |node: &str, power: u64| json!({ "node": node, "owner": "acme", "power": power, "node_id": "aa" });
        let answer = json!({ "governance": {
            "name": "consortiums/trade/chains/c",
            "validators": [voter("n0", 1)],
            "pending_validators": [{ "from_height": 9, "validators": [voter("n0", 1), voter("n1", 2)] }],
            "nodes": { "entries": [] },
            "senders": { "restricted": true, "entries": ["0x1", "0x2"] },
            "silent_nodes": ["n3"],
        }});
        let view = View { key: "governance", name: "name", columns: &[] };
        let text = Shown { value: in_rows(answer), view }.table();
        let rows: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let after = |title: &str| rows.iter().skip_while(|row| *row != title).skip(2).take(2).collect::<Vec<_>>();
        assert_eq!(after("PENDING VALIDATORS"), ["9 n0 aa acme 1", "9 n1 aa acme 2"], "{text}");
        assert_eq!(after("SENDERS ENTRIES"), ["0x1", "0x2"], "{text}");
        assert_eq!(after("SILENT NODES")[0], "n3", "{text}");
    }
}
