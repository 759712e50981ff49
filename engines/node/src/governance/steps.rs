//! The steps of a proposal, from the idea to the chain, by way of one JSON file: propose, sign, show, submit.
//!
//! How the chain is asked is left to a [`Ledger`]: a node's JSON-RPC (`node govern`) or the platform (`hanse chain
//! govern`). Members' keys are read from files of this machine and go nowhere.

use std::fmt::Display;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, hex, keccak256};
use k256::ecdsa::SigningKey;
use serde_json::{Value, json};

use super::precompile::price_of;
use super::proposal::{ChangeForm, Proposal};
use super::{ADDRESS, DELAY, Domain};
use crate::NodeError;
use crate::block::Tx;
use crate::keys::PublicKey;

/// What any transaction costs, and at most a byte of its input (EIP-7623).
const TRANSACTION_GAS: u64 = 21_000;
const BYTE_GAS: u64 = 40;
/// How long a submitted proposal may take to get into a block.
const MINED_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks for it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a proposal needs to know of the chain it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// What tells the chain from another one with this id.
    pub genesis_hash: B256,
    /// How many proposals were executed.
    pub sequence: u64,
    /// How many members must sign.
    pub threshold: u64,
    /// The members' accounts.
    pub members: Vec<Address>,
    /// Validators of the longest set, in force or decided: what writing a new one costs at most.
    pub validators_max: usize,
}

/// What a sender's next transaction must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// How many it has sent.
    pub nonce: u64,
    /// Most wei a unit of gas; 0 on a chain without fees.
    pub gas_price: u128,
}

/// Where a transaction ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// Height of its block.
    pub height: u64,
    /// Whether it did what it should; otherwise it was reverted.
    pub succeeded: bool,
}

/// A chain that can be asked and sent to. Each method may wait; none repeats by itself.
pub trait Ledger {
    /// How asking fails.
    type Error: From<NodeError>;

    /// What governs the chain now; `None` without governance.
    ///
    /// # Errors
    /// It could not be asked.
    fn standing(&self) -> Result<Option<Standing>, Self::Error>;

    /// Refuses a key whose node is no validator and is not seen to follow the chain: its power would count at once, and a
    /// chain whose validators are not there stands still. Consensus cannot know this; it is no fact of the chain.
    ///
    /// # Errors
    /// Why it would not do, or that it could not be asked.
    fn check_follows(&self, key: &PublicKey) -> Result<(), Self::Error>;

    /// Runs the call on the newest state without changing it.
    ///
    /// # Errors
    /// The rule that the chain would revert it for, or that it could not be asked.
    fn simulate(&self, sender: Address, input: &Bytes) -> Result<(), Self::Error>;

    /// What the sender's next transaction must carry.
    ///
    /// # Errors
    /// It could not be asked.
    fn offer(&self, sender: Address) -> Result<Offer, Self::Error>;

    /// Hands over a signed transaction and returns its hash.
    ///
    /// # Errors
    /// It was refused, or nobody knows whether it was taken.
    fn send(&self, raw: Bytes) -> Result<String, Self::Error>;

    /// Where a transaction is; `None` while it is in no block.
    ///
    /// # Errors
    /// It could not be asked.
    fn inclusion(&self, hash: &str) -> Result<Option<Inclusion>, Self::Error>;
}

fn bad_file(path: &Path, reason: impl Display) -> NodeError {
    NodeError::invalid(&path.display().to_string(), "(all)", reason.to_string(), "propose anew")
}

pub(super) fn refused(reason: impl Into<String>, action: &str) -> NodeError {
    NodeError::invalid("govern", "(all)", reason, action)
}

/// Writes a proposal's file for the chain as it is now and returns what members have to know. A change is
/// `action=subject,value` or `action=value`; `deadline` is the last height at which it may be executed, 0 is never too late.
///
/// # Errors
/// The chain has no governance, a change or a new validator will not do (unless `unseen`), or the file is there already.
pub fn propose<L: Ledger>(
    ledger: &L,
    changes: &[String],
    deadline: u64,
    unseen: bool,
    out: &Path,
) -> Result<Value, L::Error> {
    if out.exists() {
        let error = NodeError::invalid("--out", out.display().to_string(), "exists already", "choose another name");
        return Err(error.into());
    }
    let parse = |text: &String| {
        ChangeForm::parse(text).map_err(|reason| NodeError::invalid("--change", text.as_str(), reason, "correct it"))
    };
    let changes = changes.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let standing = ledger.standing()?.ok_or_else(|| {
        refused("this chain has no governance", "it is given to a chain when the consortium votes on its creation")
    })?;
    if !unseen {
        changes.iter().filter_map(ChangeForm::validator).try_for_each(|key| ledger.check_follows(&key))?;
    }
    let Standing { chain_id, genesis_hash, sequence, threshold, members, .. } = standing;
    let proposal = Proposal::new(Domain { chain_id, genesis_hash }, sequence, deadline, changes);
    proposal.save(out)?;
    let described = proposal.describe().map_err(|reason| bad_file(out, reason))?;
    Ok(json!({ "proposal": out, "sequence": sequence, "threshold": threshold,
               "members": members, "proposal_hash": described["proposal_hash"] }))
}

/// What a proposal's file says, who signed, and the typed data that a wallet signs.
///
/// # Errors
/// The file is none, or a signature in it is not its member's.
pub fn show(path: &Path) -> Result<Value, NodeError> {
    Proposal::load(path)?.describe().map_err(|reason| bad_file(path, reason))
}

/// Adds a member's signature, made with the key of a file or by a wallet, to a proposal's file.
///
/// # Errors
/// A file cannot be used, or the signature is none of this proposal; the file is as before.
pub fn sign(path: &Path, key_file: Option<&Path>, signature: Option<Bytes>) -> Result<Value, NodeError> {
    let mut proposal = Proposal::load(path)?;
    let signature = match (key_file, signature) {
        (Some(file), _) => {
            let call = proposal.call().map_err(|reason| bad_file(path, reason))?;
            sign_hash(&load_key(file)?, proposal.domain().signing_hash(&call)).as_bytes().to_vec().into()
        }
        (None, Some(signature)) => signature,
        (None, None) => return Err(refused("no key and no signature", "pass --key-file or --signature")),
    };
    let member = proposal.add(signature).map_err(|reason| refused(reason, "sign the typed data that `show` prints"))?;
    proposal.save(path)?;
    Ok(json!({ "signed_by": member, "signatures": proposal.signatures.len() }))
}

/// Sends a proposal to its chain, signed as a transaction with the key of `key_file`, and waits until it is executed.
///
/// # Errors
/// The chain's reason if it would refuse or did revert it; that nothing is known of it after a minute; a file's fault.
pub fn submit<L: Ledger>(ledger: &L, path: &Path, key_file: &Path) -> Result<Value, L::Error> {
    let proposal = Proposal::load(path)?;
    let key = load_key(key_file)?;
    let sender = address(&key);
    let input = proposal.input().map_err(|reason| bad_file(path, reason))?;
    let standing = ledger.standing()?;
    let is_its = |s: &Standing| (s.chain_id, s.genesis_hash) == (proposal.chain_id, proposal.genesis_hash);
    let standing = standing.filter(is_its).ok_or_else(|| {
        refused("the proposal is for another chain", "its file names chain id and genesis hash; ask that chain")
    })?;
    // What would be refused in a block is refused here, with the reason.
    ledger.simulate(sender, &input)?;
    let gas_limit = gas_limit(&standing, &proposal, &input).map_err(|reason| bad_file(path, reason))?;
    let Offer { nonce, gas_price } = ledger.offer(sender)?;
    let tx = TxEip1559 {
        chain_id: proposal.chain_id,
        nonce,
        gas_limit,
        max_fee_per_gas: gas_price,
        to: TxKind::Call(ADDRESS),
        input,
        ..Default::default()
    };
    let signature = sign_hash(&key, tx.signature_hash());
    let signed = Tx::from(tx.into_signed(signature));
    let hash = ledger.send(Bytes::from(signed.encoded_2718()))?;
    let Inclusion { height, succeeded } = wait_for(ledger, &hash)?;
    if !succeeded {
        let reason = format!("transaction {hash} was reverted in block {height}");
        return Err(NodeError::Asked(format!("{reason}: another came first; propose and sign this one anew")).into());
    }
    Ok(json!({ "transaction_hash": hash, "height": height, "effective_height": height + DELAY }))
}

/// Enough for the proposal on the largest set that there can be by then.
fn gas_limit(standing: &Standing, proposal: &Proposal, input: &Bytes) -> Result<u64, String> {
    let call = proposal.call()?;
    Ok(TRANSACTION_GAS + BYTE_GAS * input.len() as u64 + price_of(&call, standing.validators_max as u64))
}

fn wait_for<L: Ledger>(ledger: &L, hash: &str) -> Result<Inclusion, L::Error> {
    let until = Instant::now() + MINED_LIMIT;
    loop {
        if let Some(inclusion) = ledger.inclusion(hash)? {
            return Ok(inclusion);
        }
        if Instant::now() > until {
            let reason = format!("transaction {hash} was sent and is in no block after {} s", MINED_LIMIT.as_secs());
            return Err(NodeError::Asked(format!("{reason}; look for it later, sending again does no harm")).into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
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
