//! Proofs of double signing, as CometBFT puts them into blocks (`DuplicateVoteEvidence`, CometBFT spec, "Evidence").
//!
//! A header names the hash of its block's proofs, and twenty headers are one question, so only blocks that hold some are read.
//! Looked at are the newest blocks alone: who wants to know asks again before they have passed.

use hanse_adapters_core::Adapter;
use hanse_engines_core::{Evidence, NodePlan, Result};
use hanse_engines_evm::nonsense;
use hanse_engines_evm::rpc::Rpc;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::health::number;

/// Headers of one answer; CometBFT gives no more.
const HEADERS: u64 = 20;
/// How many of the newest blocks are looked at.
const BLOCKS: u64 = 200;
/// Most blocks with proofs that are read at once.
const READ_MAX: usize = 10;
/// SHA-256 of nothing: what the header of a block without proofs holds.
const NONE: &str = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";

/// What blocks call the validator of an Ed25519 key (hex): the first twenty bytes of the key's SHA-256 (CometBFT spec, core
/// data structures, "Address"). `None` if it is no such key.
pub(crate) fn address(public_key: &str) -> Option<String> {
    let key = hex::decode(public_key).ok().filter(|key| key.len() == 32)?;
    Some(hex::encode(&digest(&SHA256, &key).as_ref()[..20]))
}

/// The proofs in the newest blocks of a chain at `height`, the newest last.
pub(crate) async fn of(host: &dyn Adapter, node: &NodePlan, height: u64) -> Result<Vec<Evidence>> {
    let rpc = Rpc::new(host, node).at(crate::port(node, crate::CONSENSUS_RPC)?);
    let status = rpc.one("status", json!({})).await?;
    // What is pruned, or was never there, cannot be asked for.
    let earliest = number(&status["sync_info"]["earliest_block_height"]).unwrap_or(1);
    let from = height.saturating_sub(BLOCKS - 1).max(earliest).max(1);
    let span = |first: u64| {
        let last = (first + HEADERS - 1).min(height);
        ("blockchain", json!({ "minHeight": first.to_string(), "maxHeight": last.to_string() }))
    };
    let step = usize::try_from(HEADERS).unwrap_or(20);
    let calls: Vec<(&str, Value)> = (from..=height).step_by(step).map(span).collect();
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    let answers = rpc.all(&calls).await?;
    let mut heights = Vec::new();
    for answer in &answers {
        heights.extend(with_proofs(answer).ok_or_else(|| nonsense(node, "blockchain", answer))?);
    }
    heights.sort_unstable();
    let newest = &heights[heights.len().saturating_sub(READ_MAX)..];
    if newest.is_empty() {
        return Ok(Vec::new());
    }
    let calls: Vec<(&str, Value)> =
        newest.iter().map(|height| ("block", json!({ "height": height.to_string() }))).collect();
    let mut found = Vec::new();
    for block in rpc.all(&calls).await? {
        found.extend(proofs(&block).ok_or_else(|| nonsense(node, "block", &block))?);
    }
    Ok(found)
}

/// Heights of the blocks of an answer that hold proofs.
fn with_proofs(answer: &Value) -> Option<Vec<u64>> {
    let mut heights = Vec::new();
    for meta in answer["block_metas"].as_array()? {
        let header = &meta["header"];
        let hash = header["evidence_hash"].as_str()?;
        if !hash.is_empty() && !hash.eq_ignore_ascii_case(NONE) {
            heights.push(number(&header["height"])?);
        }
    }
    Some(heights)
}

/// The proofs of double signing in a block; those of attacks on light clients name no single vote, and are left out.
fn proofs(block: &Value) -> Option<Vec<Evidence>> {
    let list = match &block["block"]["evidence"]["evidence"] {
        Value::Null => return Some(Vec::new()),
        list => list.as_array()?,
    };
    let doubles = list.iter().filter(|it| it["type"].as_str() == Some("tendermint/DuplicateVoteEvidence"));
    doubles.map(|it| proof(&it["value"]["vote_a"])).collect()
}

fn proof(vote: &Value) -> Option<Evidence> {
    let kind = match number(&vote["type"]).or_else(|| vote["type"].as_u64())? {
        1 => "prevote",
        2 => "precommit",
        _ => return None,
    };
    Some(Evidence {
        node_id: vote["validator_address"].as_str()?.to_ascii_lowercase(),
        kind: kind.into(),
        height: number(&vote["height"])?,
        round: number(&vote["round"]).or_else(|| vote["round"].as_u64())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_validator_is_named_by_the_hash_of_its_key() {
        // SHA-256 of 32 zero bytes begins so.
        assert_eq!(address(&"00".repeat(32)).as_deref(), Some("66687aadf862bd776c8fc18b8e9f8e2008971485"));
        assert_eq!((address("00"), address("no key")), (None, None));
    }

    #[test]
    fn only_blocks_with_proofs_are_named_and_proofs_are_read() {
        let meta = |height: &str, hash: &str| json!({ "header": { "height": height, "evidence_hash": hash } });
        let some = "AB".repeat(32);
        let answer = json!({ "block_metas": [meta("9", NONE), meta("8", &some), meta("7", "")] });
        assert_eq!(with_proofs(&answer), Some(vec![8]));
        assert_eq!(with_proofs(&json!({ "block_metas": [{ "header": {} }] })), None);

        let vote = json!({ "type": 2, "height": "7", "round": 1, "validator_address": "00AB" });
        let double = json!({ "type": "tendermint/DuplicateVoteEvidence", "value": { "vote_a": vote, "vote_b": vote } });
        let other = json!({ "type": "tendermint/LightClientAttackEvidence", "value": {} });
        let block = |list: Value| json!({ "block": { "evidence": { "evidence": list } } });
        let found = proofs(&block(json!([double, other]))).expect("a good answer");
        let wanted = Evidence { node_id: "00ab".into(), kind: "precommit".into(), height: 7, round: 1 };
        assert_eq!(found, [wanted]);
        assert_eq!(proofs(&block(Value::Null)), Some(Vec::new()));
        assert_eq!(proofs(&block(json!([{ "type": "tendermint/DuplicateVoteEvidence", "value": {} }]))), None);
    }
}
