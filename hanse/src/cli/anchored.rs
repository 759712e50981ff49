//! `hanse audit verify --anchored`: the platform's audit trail against the members' own chains.
//!
//! Each chain with an anchor holds heads of the trail: how many records it had, and the root of the Merkle tree over them. They
//! are read through the platform, or from a member's own node (`--rpc`), which needs nobody's word. Then an export is computed
//! anew and compared with each of them; or, without one, the platform has to prove for each that its present trail, as it signs
//! it now, begins with those records. Whatever was changed, removed or rewritten below a head is found, and the block named.
//!
//! It takes no answer for true that it can check, and says what it could not compare.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hanse_client::pb;
use hanse_trail::merkle::verify_consistency;
use hanse_trail::{Broken, Checkpoint, Hash, Verifier, VerifierKey};
use serde::Deserialize;
use serde_json::{Value, json};

use super::context::{Context, Global, PAGE_SIZE};
use super::error::CliError;
use super::{audit, witness};
use crate::output::{self, Format};

/// Heads of one chain that are compared, the newest first. The chain itself had each proven to continue the one before.
const HEADS_MAX: usize = 500;

/// What is compared with what.
pub(super) struct Wanted<'a> {
    /// Chains, `CONSORTIUM/CHAIN`; none is all that have an anchor.
    pub(super) chains: &'a [String],
    /// Nodes to be asked instead of the platform.
    pub(super) rpc: &'a [String],
    /// Their access token.
    pub(super) rpc_token_file: Option<&'a Path>,
    /// An export; without it the platform has to prove.
    pub(super) file: Option<&'a PathBuf>,
    /// The key that the chains must trust.
    pub(super) key: Option<&'a str>,
}

/// A head that a chain holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    size: u64,
    root: Hash,
    chain: Hash,
    at_ms: u64,
    era: u64,
    height: u64,
    transaction: String,
}

/// What a chain holds.
struct Held {
    /// The chain's name, or the node's address.
    source: String,
    key: String,
    era: u64,
    /// The newest first.
    heads: Vec<Head>,
    /// Whether there are older ones that were not read.
    has_older: bool,
}

impl Held {
    /// Those that bind the trail: of the present era.
    fn binding(&self) -> impl Iterator<Item = &Head> {
        self.heads.iter().filter(|head| head.era == self.era)
    }
}

/// Compares and prints.
///
/// # Errors
/// A call failed, nothing is there to compare with, or the trail is not what a chain holds.
pub(super) async fn verify(wanted: Wanted<'_>, global: &Global) -> Result<(), CliError> {
    let held = if wanted.rpc.is_empty() {
        from_platform(&Context::new(global)?, wanted.chains).await?
    } else {
        from_nodes(wanted.rpc, wanted.rpc_token_file)?
    };
    let key = wanted.key.map(witness::read_key).transpose()?;
    check_keys(&held, key.as_ref())?;
    if held.iter().all(|held| held.binding().next().is_none()) {
        let sources: Vec<_> = held.iter().map(|held| held.source.as_str()).collect();
        return Err(CliError::Failed(format!(
            "{} hold no head of the audit trail yet: nothing was compared; the chain's `anchor` says when it was looked at",
            if sources.is_empty() { "the chains".to_owned() } else { sources.join(", ") }
        )));
    }
    let count = match wanted.file {
        Some(path) => compare_export(path, &held)?,
        None => compare_platform(&Context::new(global)?, &held).await?,
    };
    print(count, &held, global)
}

async fn from_platform(context: &Context, wanted: &[String]) -> Result<Vec<Held>, CliError> {
    let mut names = Vec::new();
    for name in wanted {
        let (consortium, chain) = name.split_once('/').ok_or_else(|| {
            CliError::local(format!("--chain {name:?} is not CONSORTIUM/CHAIN"), "For example trade/supply-1.")
        })?;
        names.push((consortium.to_owned(), chain.to_owned()));
    }
    if wanted.is_empty() {
        names = anchored_chains(context).await?;
    }
    let mut all = Vec::new();
    for (consortium, chain) in names {
        all.push(of_chain(context, consortium, chain).await?);
    }
    Ok(all)
}

/// All chains that were ordered with an anchor.
async fn anchored_chains(context: &Context) -> Result<Vec<(String, String)>, CliError> {
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListChainsRequest { page_size: PAGE_SIZE, page_token, ..Default::default() };
        let answer = context.call(request).await?;
        let anchored = |chain: &pb::Chain| chain.spec.as_ref().is_some_and(|spec| spec.anchor.is_some());
        names.extend(answer.chains.into_iter().filter(anchored).map(|chain| (chain.consortium, chain.chain)));
        if answer.next_page_token.is_empty() {
            break;
        }
        page_token = answer.next_page_token;
    }
    if names.is_empty() {
        return Err(CliError::Failed(
            "no chain that this account sees records the audit trail: nothing was compared".into(),
        ));
    }
    Ok(names)
}

async fn of_chain(context: &Context, consortium: String, chain: String) -> Result<Held, CliError> {
    let source = format!("{consortium}/{chain}");
    let mut held = Held { source, key: String::new(), era: 0, heads: Vec::new(), has_older: false };
    let mut page_token = String::new();
    while held.heads.len() < HEADS_MAX {
        let request = pb::ListAnchorsRequest {
            page_size: PAGE_SIZE,
            page_token,
            consortium: consortium.clone(),
            chain: chain.clone(),
        };
        let answer = context.call(request).await?;
        (held.key, held.era) = (answer.key, answer.era);
        for anchor in answer.anchors {
            let read = || Some((hash_of(&anchor.root_hash)?, hash_of(&anchor.head_hash)?));
            let (root, chain) = read().ok_or_else(|| unreadable(&held.source))?;
            held.heads.push(Head {
                size: anchor.tree_size,
                root,
                chain,
                at_ms: u64::try_from(anchor.at_ms).unwrap_or_default(),
                era: anchor.era,
                height: anchor.height,
                transaction: anchor.transaction_hash,
            });
        }
        held.has_older = answer.pruned || !answer.next_page_token.is_empty();
        if answer.next_page_token.is_empty() {
            break;
        }
        page_token = answer.next_page_token;
    }
    Ok(held)
}

/// What a node's JSON says, as far as it is needed.
#[derive(Deserialize)]
struct NodeAnswer {
    key: String,
    era: u64,
    heads: Vec<NodeHead>,
    older_height: Option<u64>,
}

#[derive(Deserialize)]
struct NodeHead {
    size: u64,
    root: String,
    chain: String,
    time_ms: u64,
    era: u64,
    height: u64,
    transaction_hash: String,
}

fn from_nodes(urls: &[String], token_file: Option<&Path>) -> Result<Vec<Held>, CliError> {
    let one = |url: &String| {
        let answer = hanse_node::ask_anchors(url, token_file, HEADS_MAX, None);
        let answer = answer.map_err(|error| CliError::Failed(format!("{url}: {}", witness::chain(&error))))?;
        if answer.is_null() {
            return Err(CliError::Failed(format!("{url}: this chain's genesis names no audit trail")));
        }
        let answer: NodeAnswer = serde_json::from_value(answer).map_err(|_| unreadable(url))?;
        let head = |it: &NodeHead| {
            let hash = |text: &str| hash_of(text.strip_prefix("0x")?);
            Some(Head {
                size: it.size,
                root: hash(&it.root)?,
                chain: hash(&it.chain)?,
                at_ms: it.time_ms,
                era: it.era,
                height: it.height,
                transaction: it.transaction_hash.clone(),
            })
        };
        let heads = answer.heads.iter().map(head).collect::<Option<_>>().ok_or_else(|| unreadable(url))?;
        let has_older = answer.older_height.is_some();
        Ok(Held { source: url.clone(), key: answer.key, era: answer.era, heads, has_older })
    };
    urls.iter().map(one).collect()
}

fn unreadable(source: &str) -> CliError {
    CliError::Failed(format!("{source}: the answer is not what a node says of its anchor"))
}

fn hash_of(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    hex::decode_to_slice(text, &mut hash).ok().map(|()| hash)
}

fn check_keys(held: &[Held], key: Option<&VerifierKey>) -> Result<(), CliError> {
    let Some(key) = key.map(ToString::to_string) else { return Ok(()) };
    match held.iter().find(|held| held.key != key) {
        Some(other) => {
            let Held { source, key: found, .. } = other;
            Err(CliError::Failed(format!("{source} records checkpoints of the key {found}, not of the given {key}")))
        }
        None => Ok(()),
    }
}

/// Computes an export anew; gives how many records it has.
fn compare_export(path: &Path, held: &[Held]) -> Result<u64, CliError> {
    let mark = |head: &Head| Checkpoint {
        origin: String::new(),
        size: head.size,
        root: head.root,
        chain: head.chain,
        cluster: String::new(),
        at_ms: head.at_ms,
    };
    let marks: Vec<_> = held.iter().flat_map(Held::binding).map(mark).collect();
    let mut verifier = Verifier::against(&marks);
    audit::each_line(path, |line| verifier.take(line)).and_then(|taken| {
        let ended = taken.and_then(|()| verifier.finish());
        ended.map(|(end, _)| end.count).map_err(|broken| CliError::Failed(differs(&broken, held)))
    })
}

/// What is wrong with an export, with the chain that tells.
fn differs(broken: &Broken, held: &[Held]) -> String {
    let (Broken::Root { count } | Broken::Rewritten { count, .. } | Broken::Truncated { expected: count, .. }) = broken
    else {
        return broken.to_string();
    };
    let of_size = held.iter().flat_map(|held| held.binding().map(move |head| (held, head)));
    let places: Vec<_> =
        of_size.filter(|(_, head)| head.size == *count).map(|(held, head)| place(&held.source, head)).collect();
    let advice = match broken {
        Broken::Truncated { .. } => "; export it again: if it still ends there, its end was cut off",
        _ => "",
    };
    format!("{broken}; {}{advice}", places.join("; "))
}

fn place(source: &str, head: &Head) -> String {
    let (height, size, root) = (head.height, head.size, hex::encode(head.root));
    let (transaction, at_ms) = (&head.transaction, head.at_ms);
    format!(
        "{source} holds in block {height} (transaction {transaction}) the root {root} over the first {size} records, signed by the \
         platform at {at_ms} ms"
    )
}

/// Has the platform prove that its trail begins with each head; gives how many records it has now.
async fn compare_platform(context: &Context, held: &[Held]) -> Result<u64, CliError> {
    let mut count = 0;
    let mut proven: BTreeMap<(u64, Hash, Hash), ()> = BTreeMap::new();
    for held in held {
        for head in held.binding() {
            let known = (head.size, head.root, head.chain);
            if proven.contains_key(&known) {
                continue;
            }
            let fault = |why: String| CliError::Failed(format!("{why}; {}", place(&held.source, head)));
            let answer = context.call(pb::GetAuditConsistencyProofRequest { old_size: head.size }).await;
            let answer = answer.map_err(|error| fault(error.to_string()))?;
            let (_, key, checkpoint) = witness::open(answer.checkpoint.as_ref())?;
            if key.to_string() != held.key {
                return Err(fault(format!(
                    "the platform signs with the key {key}, the chain records those of {}",
                    held.key
                )));
            }
            let proof = witness::hashes(&answer.proof).unwrap_or_default();
            let begins = verify_consistency(head.size, checkpoint.size, &proof, &head.root, &checkpoint.root);
            if !begins || (checkpoint.size == head.size && checkpoint.chain != head.chain) {
                let size = head.size;
                return Err(fault(format!(
                    "the first {size} records are no longer those that the chain holds: the trail was changed or written anew"
                )));
            }
            count = checkpoint.size;
            proven.insert(known, ());
        }
    }
    Ok(count)
}

fn print(count: u64, held: &[Held], global: &Global) -> Result<(), CliError> {
    let report = |held: &Held| {
        let checked = held.binding().count();
        let newest = held.binding().next().map(|head| {
            json!({
                "tree_size": head.size, "root_hash": hex::encode(head.root), "height": head.height,
                "transaction_hash": head.transaction, "at_ms": head.at_ms,
            })
        });
        json!({
            "chain": held.source, "key": held.key, "era": held.era, "heads": checked, "newest": newest,
            "earlier_eras": held.heads.len() - checked, "has_older": held.has_older,
        })
    };
    match global.format() {
        Format::Json => {
            let chains: Vec<Value> = held.iter().map(report).collect();
            output::print_json(&json!({ "ok": true, "count": count, "chains": chains }))?;
        }
        Format::Table | Format::Name => {
            for held in held {
                let heads = held.binding().count();
                let newest = held.binding().next().map(|head| {
                    let Head { size, height, transaction, .. } = head;
                    format!("; the newest of {size} records in block {height} ({transaction})")
                });
                let older = if held.has_older { "; older ones were not read" } else { "" };
                let words = newest.unwrap_or_default();
                output::print(&format!("{}: {heads} heads, all as the trail is{words}{older}\n", held.source))?;
            }
            output::print(&format!("{count} records\n"))?;
        }
    }
    Ok(())
}
