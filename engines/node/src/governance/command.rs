//! `node govern propose|sign|submit|show`: the steps of a proposal for a chain that is asked at a node's own JSON-RPC.
//!
//! Results are one JSON line on stdout. A key file holds a secp256k1 key as 64 hex digits and must be readable by its
//! owner only; a member who signs with a wallet passes `--signature` instead.

use std::path::PathBuf;

use alloy_primitives::{Address, Bytes};
use serde_json::{Value, json};

use super::ADDRESS;
use super::client::Client;
use super::steps::{self, Inclusion, Ledger, Offer, Standing, refused};
use crate::NodeError;
use crate::keys::PublicKey;

/// A node this many blocks behind has caught up.
const BEHIND_MAX: u64 = 5;

/// What members do with proposals.
#[derive(Debug, clap::Subcommand)]
pub enum GovernCommand {
    /// Make a proposal's file from the chain's present state
    Propose {
        /// A node's JSON-RPC, http://host:port
        #[arg(long)]
        rpc: String,
        /// File with the node's access token, if it wants one
        #[arg(long)]
        rpc_token_file: Option<PathBuf>,
        /// A change, action=subject,value or action=value; may be repeated
        #[arg(long = "change", required = true)]
        changes: Vec<String>,
        /// The last height at which it may be executed; 0 is never too late
        #[arg(long, default_value_t = 0)]
        deadline: u64,
        /// Propose a validator even if its node is not seen connected and caught up
        #[arg(long)]
        unseen: bool,
        /// Where the proposal is written; must not exist
        #[arg(long)]
        out: PathBuf,
    },
    /// Add a member's signature to a proposal's file
    Sign {
        /// The proposal's file
        #[arg(long)]
        proposal: PathBuf,
        /// The member's key
        #[arg(long, conflicts_with = "signature", required_unless_present = "signature")]
        key_file: Option<PathBuf>,
        /// A signature that the member's wallet made of the typed data that `show` prints
        #[arg(long)]
        signature: Option<Bytes>,
    },
    /// Send a proposal to the chain and wait until it is executed
    Submit {
        /// The proposal's file
        #[arg(long)]
        proposal: PathBuf,
        /// A node's JSON-RPC, http://host:port
        #[arg(long)]
        rpc: String,
        /// File with the node's access token, if it wants one
        #[arg(long)]
        rpc_token_file: Option<PathBuf>,
        /// The key of the account that sends the transaction; need not be a member's
        #[arg(long)]
        key_file: PathBuf,
    },
    /// Print what a proposal says and who signed it, or what is in force on a chain
    Show {
        /// The proposal's file
        #[arg(long, required_unless_present = "rpc")]
        proposal: Option<PathBuf>,
        /// A node's JSON-RPC, http://host:port
        #[arg(long, conflicts_with = "proposal")]
        rpc: Option<String>,
        /// File with the node's access token, if it wants one
        #[arg(long)]
        rpc_token_file: Option<PathBuf>,
    },
}

/// Runs one command and returns what it prints.
pub(crate) fn run(command: GovernCommand) -> Result<Value, NodeError> {
    match command {
        GovernCommand::Propose { rpc, rpc_token_file, changes, deadline, unseen, out } => {
            steps::propose(&client(&rpc, rpc_token_file)?, &changes, deadline, unseen, &out)
        }
        GovernCommand::Sign { proposal, key_file, signature } => steps::sign(&proposal, key_file.as_deref(), signature),
        GovernCommand::Submit { proposal, rpc, rpc_token_file, key_file } => {
            steps::submit(&client(&rpc, rpc_token_file)?, &proposal, &key_file)
        }
        GovernCommand::Show { proposal: Some(path), .. } => steps::show(&path),
        GovernCommand::Show { proposal: None, rpc, rpc_token_file } => {
            client(&rpc.unwrap_or_default(), rpc_token_file)?.call("consensus_governance", json!([]))
        }
    }
}

fn client(url: &str, rpc_token_file: Option<PathBuf>) -> Result<Client, NodeError> {
    let read = |path: PathBuf| std::fs::read_to_string(&path).map_err(NodeError::io("cannot read", &path));
    let token = rpc_token_file.map(read).transpose()?.map(|text| text.trim().to_owned());
    Client::new(url, token)
}

impl Ledger for Client {
    type Error = NodeError;

    fn standing(&self) -> Result<Option<Standing>, NodeError> {
        let governance = self.call("consensus_governance", json!([]))?;
        if governance.is_null() {
            return Ok(None);
        }
        let unreadable = |field: &str| NodeError::Asked(format!("consensus_governance has no {field} that is one"));
        let sets = governance["pending_validators"].as_array().into_iter().flatten().map(|set| &set["validators"]);
        let sets = sets.chain([&governance["validators"]]);
        let read = |field: &str| governance[field].as_u64().ok_or_else(|| unreadable(field));
        Ok(Some(Standing {
            chain_id: read("chain_id")?,
            genesis_hash: serde_json::from_value(governance["genesis_hash"].clone())
                .map_err(|_| unreadable("genesis_hash"))?,
            sequence: read("sequence")?,
            threshold: read("threshold")?,
            members: serde_json::from_value(governance["members"].clone()).map_err(|_| unreadable("members"))?,
            validators_max: sets.filter_map(|set| set.as_array().map(Vec::len)).max().unwrap_or(0),
        }))
    }

    fn check_follows(&self, key: &PublicKey) -> Result<(), NodeError> {
        let id = key.node_id().to_string();
        let voting = self.call("consensus_validators", json!([]))?;
        if voting.as_array().into_iter().flatten().any(|v| v["node_id"] == json!(id)) {
            return Ok(());
        }
        let status = self.call("consensus_status", json!([]))?;
        if status["node_id"] == json!(id) {
            return Ok(());
        }
        let head = status["height"].as_u64().unwrap_or(0);
        let peers = self.call("consensus_peers", json!([]))?;
        let peer = peers.as_array().into_iter().flatten().find(|peer| peer["node_id"] == json!(id));
        let action = "start the node, list it in this node's configuration and wait until it follows, or say --unseen";
        let Some(peer) = peer else {
            return Err(refused(
                format!("node {id} of the new validator is not in the configuration of the asked node"),
                action,
            ));
        };
        let height = peer["height"].as_u64().unwrap_or(0);
        if peer["inbound"] != json!(true) || height + BEHIND_MAX < head {
            let reason =
                format!("node {id} of the new validator is not connected or behind: height {height} of {head}");
            return Err(refused(reason, action));
        }
        Ok(())
    }

    fn simulate(&self, sender: Address, input: &Bytes) -> Result<(), NodeError> {
        self.call("eth_call", json!([{ "from": sender, "to": ADDRESS, "input": input }, "latest"])).map(drop)
    }

    fn offer(&self, sender: Address) -> Result<Offer, NodeError> {
        let nonce = number(&self.call("eth_getTransactionCount", json!([sender, "pending"]))?, "a nonce")?;
        let gas_price = number(&self.call("eth_gasPrice", json!([]))?, "a gas price")?.into();
        Ok(Offer { nonce, gas_price })
    }

    fn send(&self, raw: Bytes) -> Result<String, NodeError> {
        let hash = self.call("eth_sendRawTransaction", json!([raw]))?;
        hash.as_str().map(str::to_owned).ok_or_else(|| NodeError::Asked(format!("the node answered {hash} as a hash")))
    }

    fn inclusion(&self, hash: &str) -> Result<Option<Inclusion>, NodeError> {
        let receipt = self.call("eth_getTransactionReceipt", json!([hash]))?;
        if !receipt.is_object() {
            return Ok(None);
        }
        let height = number(&receipt["blockNumber"], "a block number")?;
        Ok(Some(Inclusion { height, succeeded: receipt["status"] == json!("0x1") }))
    }
}

fn number(value: &Value, what: &str) -> Result<u64, NodeError> {
    let text = value.as_str().and_then(|text| text.strip_prefix("0x"));
    let read = text.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    read.ok_or_else(|| NodeError::Asked(format!("the node answered {value} as {what}")))
}
