//! `eth_getLogs`, and the filters that polling and subscriptions share.
//!
//! Blocks whose bloom excludes every wanted log are passed over with their header alone. A question is bounded by blocks,
//! by logs and by time, each with an error that says what to ask instead.

use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, BloomInput};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde::Deserialize;
use serde_json::{Value, json};

use super::types::{self, Args, BlockRef, Place, invalid};
use super::{Reply, eth, internal, refuse, refuse_for_now};
use crate::node::Shared;
use crate::store::{Snapshot, StoredLog};

/// Addresses, and alternatives for one topic, of one filter.
const ALTERNATIVES_MAX: usize = 1_000;
/// A log has no more.
const TOPICS_MAX: usize = 4;
/// A log as text without its data, at most.
const LOG_BYTES: usize = 900;
/// Blocks between two looks at the clock.
const BLOCKS_PER_LOOK: u64 = 64;

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<Option<T>>),
}

impl<T> OneOrMany<T> {
    /// The alternatives; none means any.
    fn into_any_of(self, name: &str) -> Result<Vec<T>, ErrorObjectOwned> {
        match self {
            Self::One(one) => Ok(vec![one]),
            Self::Many(many) if many.len() > ALTERNATIVES_MAX => {
                Err(invalid(format!("{name}: {} alternatives, at most {ALTERNATIVES_MAX}", many.len())))
            }
            // A null among alternatives admits anything.
            Self::Many(many) => Ok(many.into_iter().collect::<Option<Vec<_>>>().unwrap_or_default()),
        }
    }
}

/// A filter as it is sent.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FilterRequest {
    from_block: Option<BlockRef>,
    to_block: Option<BlockRef>,
    block_hash: Option<B256>,
    address: Option<OneOrMany<Address>>,
    topics: Option<Vec<Option<OneOrMany<B256>>>>,
}

/// Which blocks are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Range {
    Block(B256),
    Between(BlockRef, BlockRef),
}

/// Which logs are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Criteria {
    /// Any of these; none means any at all.
    addresses: Vec<Address>,
    /// By place, any of these; none means any at all.
    topics: Vec<Vec<B256>>,
}

impl FilterRequest {
    /// The filter, checked.
    pub(super) fn split(self) -> Result<(Range, Criteria), ErrorObjectOwned> {
        let range = match (self.block_hash, self.from_block, self.to_block) {
            (Some(hash), None, None) => Range::Block(hash),
            (Some(_), _, _) => return Err(invalid("filter: give either blockHash or fromBlock and toBlock")),
            (None, from, to) => Range::Between(from.unwrap_or_default(), to.unwrap_or_default()),
        };
        let topics = self.topics.unwrap_or_default();
        if topics.len() > TOPICS_MAX {
            return Err(invalid(format!("filter: {} topics, a log has at most {TOPICS_MAX}", topics.len())));
        }
        let any_of = |topic: Option<OneOrMany<B256>>| topic.map_or(Ok(Vec::new()), |t| t.into_any_of("topics"));
        Ok((
            range,
            Criteria {
                addresses: self.address.map_or(Ok(Vec::new()), |a| a.into_any_of("address"))?,
                topics: topics.into_iter().map(any_of).collect::<Result<_, _>>()?,
            },
        ))
    }
}

impl Criteria {
    fn admits(&self, log: &StoredLog) -> bool {
        let any_of = |wanted: &[B256], topic: Option<&B256>| match topic {
            Some(topic) => wanted.is_empty() || wanted.contains(topic),
            None => false,
        };
        (self.addresses.is_empty() || self.addresses.contains(&log.address))
            && self.topics.iter().enumerate().all(|(place, wanted)| any_of(wanted, log.topics.get(place)))
    }

    /// Whether a block with this bloom may hold a wanted log.
    fn may_be_in(&self, bloom: &alloy_primitives::Bloom) -> bool {
        let holds = |raw: &[u8]| bloom.contains_input(BloomInput::Raw(raw));
        (self.addresses.is_empty() || self.addresses.iter().any(|address| holds(address.as_slice())))
            && self.topics.iter().all(|any_of| any_of.is_empty() || any_of.iter().any(|topic| holds(topic.as_slice())))
    }

    /// The wanted logs of one block.
    pub(super) fn in_block(&self, snapshot: &Snapshot, number: u64) -> Result<Vec<Value>, ErrorObjectOwned> {
        // A block that is gone is an error of `require`, never an empty answer.
        if let Some(header) = snapshot.header(number).map_err(internal)?
            && !self.may_be_in(&header.logs_bloom)
        {
            return Ok(Vec::new());
        }
        let block = eth::require(snapshot, number)?;
        let receipts = snapshot.receipts(number).map_err(internal)?.unwrap_or_default();
        let (mut found, mut count) = (Vec::new(), 0);
        for ((index, tx), receipt) in (0u64..).zip(block.transactions()).zip(&receipts) {
            let place = Place { block: &block, tx: *tx.tx_hash(), index };
            for log in &receipt.logs {
                if self.admits(log) {
                    found.push(types::log(log, &place, count));
                }
                count += 1;
            }
        }
        Ok(found)
    }

    /// The wanted logs of the blocks `first` to `last`, both included, within the node's limits.
    pub(super) fn between(
        &self,
        shared: &Shared,
        snapshot: &Snapshot,
        first: u64,
        last: u64,
    ) -> Result<Vec<Value>, ErrorObjectOwned> {
        let limits = &shared.rpc.config;
        let blocks = (last + 1).saturating_sub(first);
        if blocks > limits.log_blocks_max {
            return Err(invalid(format!(
                "query exceeds max block range {}: it covers {blocks} blocks; ask for fewer at a time",
                limits.log_blocks_max
            )));
        }
        let until = Instant::now() + Duration::from_millis(limits.call_ms_max);
        let (mut found, mut bytes) = (Vec::new(), 0);
        for number in first..=last {
            if number.is_multiple_of(BLOCKS_PER_LOOK) && Instant::now() >= until {
                return Err(refuse_for_now("query timeout exceeded; ask for fewer blocks at a time"));
            }
            let more = self.in_block(snapshot, number)?;
            bytes += more.iter().map(shown_bytes).sum::<usize>();
            if found.len() + more.len() > limits.logs_max {
                return Err(too_many(&format!("{} results", limits.logs_max), first, number));
            }
            if bytes > limits.response_bytes_max as usize {
                return Err(too_many(&format!("{} bytes", limits.response_bytes_max), first, number));
            }
            found.extend(more);
        }
        Ok(found)
    }
}

/// About how long the log is as text.
fn shown_bytes(log: &Value) -> usize {
    LOG_BYTES + log["data"].as_str().map_or(0, str::len)
}

/// Block `last` is where the logs became too many.
fn too_many(limit: &str, first: u64, last: u64) -> ErrorObjectOwned {
    if first == last {
        return refuse(format!("query returned more than {limit} in block {first}; ask for fewer addresses"));
    }
    refuse(format!("query returned more than {limit}. Try with this block range [{first:#x}, {:#x}].", last - 1))
}

/// `eth_getLogs`.
pub(super) fn get(shared: &Shared, params: Params<'_>) -> Reply {
    let request: FilterRequest = Args::new(&params).need("filter")?;
    let (range, criteria) = request.split()?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let (first, last) = resolve(range, &snapshot)?;
    Ok(json!(criteria.between(shared, &snapshot, first, last)?))
}

/// The first and the last block; the first is larger if there is none.
pub(super) fn resolve(range: Range, snapshot: &Snapshot) -> Result<(u64, u64), ErrorObjectOwned> {
    let (from, to) = match range {
        Range::Block(hash) => {
            let number = snapshot.block_number(hash).map_err(internal)?;
            let number = number.ok_or_else(|| refuse("unknown block: there is none with this hash"))?;
            return Ok((number, number));
        }
        Range::Between(from, to) => (from, to),
    };
    if let (BlockRef::Number(from), BlockRef::Number(to)) = (from, to)
        && from > to
    {
        return Err(invalid(format!("invalid block range: fromBlock {from} is after toBlock {to}")));
    }
    let head = snapshot.head().map_err(internal)?.unwrap_or(0);
    let number = |which: BlockRef| match (which, which.resolve(snapshot)?) {
        (_, Some(number)) => Ok(number),
        (BlockRef::Hash(_), None) => Err(refuse("unknown block: there is none with this hash")),
        (_, None) => Ok(head + 1),
    };
    Ok((number(from)?, number(to)?.min(head)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn criteria(filter: Value) -> Result<Criteria, ErrorObjectOwned> {
        serde_json::from_value::<FilterRequest>(filter).unwrap().split().map(|(_, criteria)| criteria)
    }

    #[test]
    fn topics_match_by_place_with_nulls_and_alternatives() {
        let (a, b, c) = (B256::repeat_byte(1), B256::repeat_byte(2), B256::repeat_byte(3));
        let log = StoredLog { address: Address::repeat_byte(9), topics: vec![a, b], data: Default::default() };
        let cases = [
            (json!({}), true),
            (json!({ "topics": [] }), true),
            (json!({ "topics": null, "address": null }), true),
            (json!({ "topics": [a] }), true),
            (json!({ "topics": [null, b] }), true),
            (json!({ "topics": [[c, a], [b]] }), true),
            (json!({ "topics": [[], b] }), true),
            (json!({ "topics": [[c, null]] }), true),
            (json!({ "topics": [b] }), false),
            (json!({ "topics": [null, [a, c]] }), false),
            // Three places are wanted, the log has two.
            (json!({ "topics": [a, b, null] }), false),
            (json!({ "address": log.address }), true),
            (json!({ "address": [Address::ZERO, log.address], "topics": [a] }), true),
            (json!({ "address": [Address::ZERO] }), false),
            (json!({ "address": [] }), true),
        ];
        for (filter, expected) in cases {
            assert_eq!(criteria(filter.clone()).unwrap().admits(&log), expected, "{filter}");
        }
    }

    #[test]
    fn contradictions_and_endless_lists_are_refused() {
        let hash = B256::ZERO;
        for (filter, expected) in [
            (json!({ "blockHash": hash, "fromBlock": "0x1" }), "either blockHash"),
            (json!({ "topics": [null, null, null, null, null] }), "at most 4"),
            (json!({ "address": vec![Address::ZERO; 1_001] }), "1001 alternatives"),
        ] {
            let error = criteria(filter).unwrap_err();
            assert!(error.message().contains(expected), "{error:?}");
        }
    }
}
