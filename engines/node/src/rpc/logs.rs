//! `eth_getLogs`: logs by block range, address and topics.

use alloy_primitives::{Address, B256, BloomInput};
use jsonrpsee::types::Params;
use serde::Deserialize;
use serde_json::{Value, json};

use super::types::{self, BlockRef, Place, invalid};
use super::{Reply, eth, internal, refuse};
use crate::node::Shared;
use crate::store::StoredLog;

/// Blocks that one request may cover.
const RANGE_MAX: u64 = 10_000;
/// Logs that one answer may hold.
const LOGS_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: PartialEq> OneOrMany<T> {
    fn all(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    fn admits(&self, value: &T) -> bool {
        self.all().is_empty() || self.all().contains(value)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    from_block: Option<BlockRef>,
    to_block: Option<BlockRef>,
    block_hash: Option<B256>,
    address: Option<OneOrMany<Address>>,
    topics: Vec<Option<OneOrMany<B256>>>,
}

impl Filter {
    fn admits(&self, log: &StoredLog) -> bool {
        self.address.as_ref().is_none_or(|wanted| wanted.admits(&log.address))
            && self.topics.iter().enumerate().all(|(place, wanted)| match wanted {
                None => true,
                Some(wanted) => log.topics.get(place).is_some_and(|topic| wanted.admits(topic)),
            })
    }

    /// Whether a block with this bloom may hold a wanted log.
    fn may_hold(&self, bloom: &alloy_primitives::Bloom) -> bool {
        let any = |inputs: Vec<&[u8]>| {
            inputs.is_empty() || inputs.iter().any(|raw| bloom.contains_input(BloomInput::Raw(raw)))
        };
        let addresses = self.address.as_ref().map_or(&[][..], OneOrMany::all);
        any(addresses.iter().map(|a| a.as_slice()).collect())
            && self
                .topics
                .iter()
                .flatten()
                .all(|wanted| any(wanted.all().iter().map(|topic| topic.as_slice()).collect()))
    }
}

/// `eth_getLogs`.
pub(super) fn get(shared: &Shared, params: Params<'_>) -> Reply {
    let filter: Filter = params.one()?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let missing = || refuse("there is no such block");
    let (first, last) = match filter.block_hash {
        Some(hash) => {
            let number = snapshot.block_number(hash).map_err(internal)?.ok_or_else(missing)?;
            (number, number)
        }
        None => {
            let head = snapshot.head().map_err(internal)?.unwrap_or(0);
            let number = |which: &Option<BlockRef>| {
                which.clone().unwrap_or_default().resolve(&snapshot).map(|n| n.unwrap_or(head + 1))
            };
            (number(&filter.from_block)?, number(&filter.to_block)?.min(head))
        }
    };
    if last.saturating_sub(first) >= RANGE_MAX {
        return Err(invalid(format!("the range covers more than {RANGE_MAX} blocks")));
    }
    let mut found: Vec<Value> = Vec::new();
    for number in first..=last {
        let block = eth::require(&snapshot, number)?;
        if !filter.may_hold(&block.header().logs_bloom) {
            continue;
        }
        let receipts = snapshot.receipts(number).map_err(internal)?.unwrap_or_default();
        let mut count = 0;
        for ((index, tx), receipt) in (0u64..).zip(block.transactions()).zip(&receipts) {
            let place = Place { block: &block, tx: *tx.tx_hash(), index };
            for log in &receipt.logs {
                if filter.admits(log) {
                    found.push(types::log(log, &place, count));
                }
                count += 1;
            }
        }
        if found.len() > LOGS_MAX {
            return Err(refuse(format!("more than {LOGS_MAX} logs; ask for fewer blocks")));
        }
    }
    Ok(json!(found))
}
