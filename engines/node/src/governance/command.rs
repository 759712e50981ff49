//! `node govern propose|sign|submit|show`: a proposal from the idea to the chain, by way of one JSON file.
//!
//! Results are one JSON line on stdout. A key file holds a secp256k1 key as 64 hex digits and must be readable by its
//! owner only; a member who signs with a wallet passes `--signature` instead.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, hex, keccak256};
use k256::ecdsa::SigningKey;
use serde_json::{Value, json};

use super::client::Client;
use super::precompile::price_of;
use super::proposal::{ChangeForm, Proposal};
use super::{ADDRESS, DELAY, Domain};
use crate::NodeError;
use crate::block::Tx;
use crate::keys::PublicKey;

/// What any transaction costs, and at most a byte of its input (EIP-7623).
const TRANSACTION_GAS: u64 = 21_000;
const BYTE_GAS: u64 = 40;
/// A node this many blocks behind has caught up.
const BEHIND_MAX: u64 = 5;
/// How long a submitted proposal may take to get into a block.
const MINED_LIMIT: Duration = Duration::from_secs(60);

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
            let client = client(&rpc, rpc_token_file)?;
            propose(&client, &changes, deadline, unseen, &out)
        }
        GovernCommand::Sign { proposal, key_file, signature } => sign(&proposal, key_file, signature),
        GovernCommand::Submit { proposal, rpc, rpc_token_file, key_file } => {
            submit(&client(&rpc, rpc_token_file)?, &proposal, &key_file)
        }
        GovernCommand::Show { proposal: Some(path), .. } => {
            let read = Proposal::load(&path)?;
            read.describe().map_err(|reason| bad_file(&path, reason))
        }
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

fn bad_file(path: &Path, reason: String) -> NodeError {
    NodeError::invalid(&path.display().to_string(), "(all)", reason, "propose anew")
}

fn refused(reason: impl Into<String>, action: &str) -> NodeError {
    NodeError::invalid("govern", "(all)", reason, action)
}

fn propose(client: &Client, changes: &[String], deadline: u64, unseen: bool, out: &Path) -> Result<Value, NodeError> {
    if out.exists() {
        return Err(NodeError::invalid("--out", out.display().to_string(), "exists already", "choose another name"));
    }
    let governance = client.call("consensus_governance", json!([]))?;
    let (Some(chain_id), Some(sequence), Ok(genesis_hash)) = (
        governance["chain_id"].as_u64(),
        governance["sequence"].as_u64(),
        serde_json::from_value::<B256>(governance["genesis_hash"].clone()),
    ) else {
        return Err(refused("this chain has no governance", "its genesis would have to name members"));
    };
    let parse = |text: &String| {
        ChangeForm::parse(text).map_err(|reason| NodeError::invalid("--change", text.as_str(), reason, "correct it"))
    };
    let changes = changes.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    if !unseen {
        for key in changes.iter().filter_map(ChangeForm::validator) {
            check_caught_up(client, &governance, &key)?;
        }
    }
    let proposal = Proposal::new(Domain { chain_id, genesis_hash }, sequence, deadline, changes);
    proposal.save(out)?;
    let described = proposal.describe().map_err(|reason| bad_file(out, reason))?;
    Ok(json!({ "proposal": out, "sequence": sequence, "threshold": governance["threshold"],
               "members": governance["members"], "proposal_hash": described["proposal_hash"] }))
}

/// Refuses a new validator whose node the asked node does not see, or that lags: its power would count at once, and a
/// chain whose validators are not there stands still. Consensus cannot know this; it is no fact of the chain.
fn check_caught_up(client: &Client, governance: &Value, key: &PublicKey) -> Result<(), NodeError> {
    let id = key.node_id().to_string();
    let voting = governance["validators"].as_array().into_iter().flatten();
    if voting.into_iter().any(|v| v["node_id"] == json!(id)) {
        return Ok(());
    }
    let status = client.call("consensus_status", json!([]))?;
    if status["node_id"] == json!(id) {
        return Ok(());
    }
    let head = status["height"].as_u64().unwrap_or(0);
    let peers = client.call("consensus_peers", json!([]))?;
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
        let reason = format!("node {id} of the new validator is not connected or behind: height {height} of {head}");
        return Err(refused(reason, action));
    }
    Ok(())
}

fn sign(path: &Path, key_file: Option<PathBuf>, signature: Option<Bytes>) -> Result<Value, NodeError> {
    let mut proposal = Proposal::load(path)?;
    let signature = match (key_file, signature) {
        (Some(file), _) => {
            let call = proposal.call().map_err(|reason| bad_file(path, reason))?;
            sign_hash(&load_key(&file)?, proposal.domain().signing_hash(&call)).as_bytes().to_vec().into()
        }
        (None, Some(signature)) => signature,
        (None, None) => return Err(refused("no key and no signature", "pass --key-file or --signature")),
    };
    let member = proposal.add(signature).map_err(|reason| refused(reason, "sign the typed data that `show` prints"))?;
    proposal.save(path)?;
    Ok(json!({ "signed_by": member, "signatures": proposal.signatures.len() }))
}

fn submit(client: &Client, path: &Path, key_file: &Path) -> Result<Value, NodeError> {
    let proposal = Proposal::load(path)?;
    let key = load_key(key_file)?;
    let sender = address(&key);
    let input = proposal.input().map_err(|reason| bad_file(path, reason))?;
    // What would be refused in a block is refused here, with the reason.
    client.call("eth_call", json!([{ "from": sender, "to": ADDRESS, "input": input }, "latest"]))?;
    let gas = gas_limit(client, &proposal, &input).map_err(|reason| bad_file(path, reason))?;
    let nonce = number(&client.call("eth_getTransactionCount", json!([sender, "pending"]))?, "a nonce")?;
    let price = number(&client.call("eth_gasPrice", json!([]))?, "a gas price")?;
    let tx = TxEip1559 {
        chain_id: proposal.chain_id,
        nonce,
        gas_limit: gas,
        max_fee_per_gas: u128::from(price),
        to: TxKind::Call(ADDRESS),
        input,
        ..Default::default()
    };
    let signature = sign_hash(&key, tx.signature_hash());
    let signed = Tx::from(tx.into_signed(signature));
    let hash = client.call("eth_sendRawTransaction", json!([Bytes::from(signed.encoded_2718())]))?;
    let receipt = wait_for(client, &hash)?;
    let height = number(&receipt["blockNumber"], "a block number")?;
    if receipt["status"] != json!("0x1") {
        return Err(refused(
            format!("transaction {hash} was reverted in block {height}"),
            "another proposal came first; propose and sign this one anew",
        ));
    }
    Ok(json!({ "transaction_hash": hash, "height": height, "effective_height": height + DELAY }))
}

/// Enough for the proposal on the largest set that there can be by then.
fn gas_limit(client: &Client, proposal: &Proposal, input: &Bytes) -> Result<u64, String> {
    let governance = client.call("consensus_governance", json!([])).map_err(|error| error.chain())?;
    let sets = governance["pending_validators"].as_array().into_iter().flatten().map(|set| &set["validators"]);
    let sets = sets.chain([&governance["validators"]]);
    let longest = sets.filter_map(|set| set.as_array().map(Vec::len)).max().unwrap_or(0);
    let call = proposal.call()?;
    Ok(TRANSACTION_GAS + BYTE_GAS * input.len() as u64 + price_of(&call, longest as u64))
}

fn wait_for(client: &Client, hash: &Value) -> Result<Value, NodeError> {
    let until = Instant::now() + MINED_LIMIT;
    loop {
        let receipt = client.call("eth_getTransactionReceipt", json!([hash]))?;
        if receipt.is_object() {
            return Ok(receipt);
        }
        if Instant::now() > until {
            return Err(refused(
                format!("transaction {hash} was sent and is in no block after {} s", MINED_LIMIT.as_secs()),
                "look for its receipt later; sending again does no harm",
            ));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn number(value: &Value, what: &str) -> Result<u64, NodeError> {
    let text = value.as_str().and_then(|text| text.strip_prefix("0x"));
    let read = text.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    read.ok_or_else(|| NodeError::Asked(format!("the node answered {value} as {what}")))
}

fn load_key(path: &Path) -> Result<SigningKey, NodeError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(NodeError::io("cannot read", path))?;
    let mode = std::fs::metadata(path).map_err(NodeError::io("cannot read", path))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(NodeError::invalid(&name, "mode", format!("others may read it ({:o})", mode & 0o777), "chmod 600"));
    }
    let bytes = hex::decode(text.trim()).ok();
    let key = bytes.and_then(|bytes| SigningKey::from_slice(&bytes).ok());
    key.ok_or_else(|| NodeError::invalid(&name, "key", "is no secp256k1 key", "write 64 hex digits"))
}

fn address(key: &SigningKey) -> Address {
    let point = key.verifying_key().to_encoded_point(false);
    Address::from_slice(&keccak256(&point.as_bytes()[1..])[12..])
}

fn sign_hash(key: &SigningKey, hash: B256) -> Signature {
    let (signature, recovery) =
        key.sign_prehash_recoverable(hash.as_slice()).expect("a hash of 32 bytes can always be signed");
    Signature::from_signature_and_parity(signature, recovery.is_y_odd())
}
