//! A node's keys and its claim to a seat, made on its host by the application's own program.
//!
//! Three keys are made there and stay there: the node's (who it is to its peers), the validator's (what signs blocks) and
//! the operator's (an account of the application, which holds the stake and claims the seat). Files of our own below
//! `hanse/` hold what was public when it was first made, so that doing it again gives the same.

use hanse_adapters_core::{AdapterError, FileSpec};
use hanse_engines_core::{ChainPlan, EngineError, NodeIdentity, Result};
use hanse_engines_evm::refused;
use serde_json::{Value, json};

use crate::contribution::{Contribution, OPERATOR, STAKE, public_key};
use crate::tool::Tool;

const GENESIS_FILE: &str = "config/genesis.json";
/// What the application began with, before the node's own account was added.
const BASE_FILE: &str = "hanse/base.json";
/// What was contributed, for good.
const CONTRIBUTION_FILE: &str = "hanse/contribution.json";
const CLAIM_FILE: &str = "hanse/claim.json";

/// Makes home and keys unless they are there, and returns the public half.
pub(crate) async fn identity(tool: &Tool<'_>) -> Result<NodeIdentity> {
    let name = tool.node.key.object();
    if read(tool, GENESIS_FILE).await?.is_none() {
        // Half-made homes keep the keys that are there; the genesis is what it writes last but one.
        tool.run(&["init", name, "--chain-id", "unnamed"]).await?;
    }
    let node_id = tool.run(&["comet", "show-node-id"]).await?.trim().to_owned();
    if node_id.len() != 40 || !node_id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(refused(tool.node, format!("`comet show-node-id` printed {node_id:?}, which is no node id")));
    }
    Ok(NodeIdentity { node_id, public_key: validator_key(tool).await?, contribution: None })
}

/// Hex of the key that signs blocks, as the home has it.
pub(crate) async fn validator_key(tool: &Tool<'_>) -> Result<String> {
    let printed = tool.run(&["comet", "show-validator"]).await?;
    let value: Value = serde_json::from_str(printed.trim()).unwrap_or_default();
    public_key(&value)
        .ok_or_else(|| refused(tool.node, format!("`comet show-validator` printed no Ed25519 key: {}", printed.trim())))
}

/// Makes the operator's key and the claim unless they are there, and returns the contribution.
pub(crate) async fn contribution(tool: &Tool<'_>, chain: &ChainPlan, identity: &NodeIdentity) -> Result<String> {
    if let Some(made) = read(tool, CONTRIBUTION_FILE).await? {
        return String::from_utf8(made).map_err(|e| refused(tool.node, format!("{CONTRIBUTION_FILE}: {e}")));
    }
    let base = base(tool).await?;
    let operator = operator(tool).await?;
    let stake = format!("{STAKE}{}", tool.profile.bond_denom);
    let name = tool.profile.chain_name(chain.chain_id);
    // Begun anew each time, so that a run that was cut off leaves no account behind.
    let mut begun = base.clone();
    begun["chain_id"] = name.clone().into();
    begun["genesis_time"] = crate::time::text(chain.genesis_time_ms).into();
    begun["app_state"]["staking"]["params"]["bond_denom"] = tool.profile.bond_denom.clone().into();
    write(tool, GENESIS_FILE, &begun).await?;
    add_account(tool, &operator, &stake, &name).await?;
    let account = account(tool).await?;
    claim(tool, &stake, &name, identity).await?;
    let claim = json_of(tool, CLAIM_FILE).await?;
    let made = Contribution::new(operator, account, claim, base).text();
    put(tool, CONTRIBUTION_FILE, made.as_bytes()).await?;
    Ok(made)
}

/// What the application begins with: kept aside before anything is added.
async fn base(tool: &Tool<'_>) -> Result<Value> {
    if read(tool, BASE_FILE).await?.is_none() {
        let mut base = json_of(tool, GENESIS_FILE).await?;
        base["chain_id"] = json!("");
        base["genesis_time"] = json!("");
        write(tool, BASE_FILE, &base).await?;
    }
    json_of(tool, BASE_FILE).await
}

/// Address of the operator, whose key is made if there is none.
async fn operator(tool: &Tool<'_>) -> Result<String> {
    let show = ["keys", "show", OPERATOR, "-a", "--keyring-backend", "test"];
    if tool.attempt(&show).await?.is_err() {
        tool.run(&["keys", "add", OPERATOR, "--no-backup", "--keyring-backend", "test", "--output", "json"]).await?;
    }
    let printed = tool.run(&show).await?;
    let is_address = |word: &&str| word.starts_with(&format!("{}1", tool.profile.address_prefix));
    let address = printed.split_whitespace().find(is_address).map(str::to_owned);
    address.ok_or_else(|| {
        let prefix = &tool.profile.address_prefix;
        refused(tool.node, format!("the operator's address does not begin with {prefix}1: does the profile fit?"))
    })
}

/// Adds the operator's account; applications have the command at one of two places.
async fn add_account(tool: &Tool<'_>, operator: &str, stake: &str, chain: &str) -> Result<()> {
    let words = ["add-genesis-account", operator, stake, "--chain-id", chain];
    if tool.attempt(&[&["genesis"], &words[..]].concat()).await?.is_ok() {
        return Ok(());
    }
    tool.run(&words).await.map(drop)
}

async fn account(tool: &Tool<'_>) -> Result<Value> {
    let genesis = json_of(tool, GENESIS_FILE).await?;
    let account = genesis["app_state"]["auth"]["accounts"].get(0).cloned();
    account.ok_or_else(|| refused(tool.node, "adding the operator's account left no account in the genesis".into()))
}

async fn claim(tool: &Tool<'_>, stake: &str, chain: &str, identity: &NodeIdentity) -> Result<()> {
    // The address is only a memo; the right one is in every node's list of peers.
    let what = ["genesis", "gentx", OPERATOR, stake, "--chain-id", chain, "--keyring-backend", "test"];
    let who = ["--moniker", tool.node.key.object(), "--node-id", &identity.node_id, "--ip", &tool.node.host_address];
    // Nothing is earned by validating for a consortium: no commission.
    let rate = ["--commission-rate", "0", "--commission-max-rate", "0", "--commission-max-change-rate", "0"];
    let out = format!("{{home}}/{CLAIM_FILE}");
    tool.run(&[&what[..], &who, &rate, &["--output-document", &out]].concat()).await.map(drop)
}

pub(crate) async fn json_of(tool: &Tool<'_>, path: &str) -> Result<Value> {
    let bytes = read(tool, path).await?.ok_or_else(|| refused(tool.node, format!("{path} is missing in its home")))?;
    serde_json::from_slice(&bytes).map_err(|e| refused(tool.node, format!("{path} is no JSON: {e}")))
}

pub(crate) async fn read(tool: &Tool<'_>, path: &str) -> Result<Option<Vec<u8>>> {
    tool.host.read_file(&tool.node.key, path).await.map_err(EngineError::Host)
}

async fn write(tool: &Tool<'_>, path: &str, value: &Value) -> Result<()> {
    put(tool, path, value.to_string().as_bytes()).await
}

pub(crate) async fn put(tool: &Tool<'_>, path: &str, content: &[u8]) -> Result<()> {
    let file = FileSpec { path: path.into(), mode: 0o600, content: content.into() };
    let done: std::result::Result<(), AdapterError> =
        tool.host.put_files_at(&tool.node.key, tool.node.generation, &[file]).await;
    done.map_err(EngineError::Host)
}
