//! Filters that clients poll: `eth_newFilter`, `eth_newBlockFilter`, `eth_newPendingTransactionFilter` and what goes with
//! them.
//!
//! A filter remembers how far it was read; the answers come from the store. Filters are bounded in number and forgotten
//! when nobody asks for [`IDLE_MAX`]. They belong to nobody: who knows the id, which cannot be guessed, may read it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde_json::{Value, json};

use super::logs::{self, Criteria, FilterRequest, Range};
use super::types::{Args, BlockRef};
use super::{Handler, Reply, internal, refuse, refuse_for_now, subscribe};
use crate::node::Shared;

/// Filters at once, of all clients.
const FILTERS_MAX: usize = 1_000;
/// A filter that was not asked for so long is forgotten, as other clients do.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// Names and handlers.
pub(super) const METHODS: &[(&str, Handler)] = &[
    ("eth_newFilter", new_logs),
    ("eth_newBlockFilter", new_blocks),
    ("eth_newPendingTransactionFilter", new_pending),
    ("eth_getFilterChanges", changes),
    ("eth_getFilterLogs", all_logs),
    ("eth_uninstallFilter", uninstall),
];

/// All filters by id, at most [`FILTERS_MAX`].
#[derive(Default)]
pub(crate) struct Filters(Mutex<BTreeMap<String, Filter>>);

#[derive(Clone)]
struct Filter {
    asked: Instant,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    /// `next` is the first block that was not looked at.
    Logs {
        range: Range,
        criteria: Criteria,
        next: u64,
    },
    Blocks {
        next: u64,
    },
    /// Number of the first hash that was not read.
    Pending {
        next: u64,
    },
}

impl Filters {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Filter>> {
        self.0.lock().expect("no holder of the filters' lock panics")
    }

    fn add(&self, kind: Kind) -> Reply {
        let (now, id) = (Instant::now(), subscribe::random_id());
        let mut filters = self.lock();
        filters.retain(|_, filter| now.duration_since(filter.asked) < IDLE_MAX);
        if filters.len() >= FILTERS_MAX {
            return Err(refuse_for_now(format!("{FILTERS_MAX} filters are open; uninstall some or subscribe instead")));
        }
        filters.insert(id.clone(), Filter { asked: now, kind });
        Ok(json!(id))
    }

    fn get(&self, id: &str) -> Result<Kind, ErrorObjectOwned> {
        let mut filters = self.lock();
        let now = Instant::now();
        let filter = filters.get_mut(id).filter(|filter| now.duration_since(filter.asked) < IDLE_MAX);
        let filter = filter.ok_or_else(|| refuse("filter not found"))?;
        filter.asked = now;
        Ok(filter.kind.clone())
    }

    fn set(&self, id: &str, kind: Kind) {
        if let Some(filter) = self.lock().get_mut(id) {
            filter.kind = kind;
        }
    }

    fn remove(&self, id: &str) -> bool {
        self.lock().remove(id).is_some()
    }
}

fn head(shared: &Shared) -> Result<u64, ErrorObjectOwned> {
    Ok(shared.store.snapshot().map_err(internal)?.head().map_err(internal)?.unwrap_or(0))
}

fn new_logs(shared: &Shared, params: Params<'_>) -> Reply {
    let request: FilterRequest = Args::new(&params).need("filter")?;
    let (range, criteria) = request.split()?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    // A filter is told of new blocks, and of older ones only if it asks for them by number.
    let next = match range {
        Range::Between(BlockRef::Number(from), _) => from,
        Range::Between(..) => snapshot.head().map_err(internal)?.unwrap_or(0) + 1,
        Range::Block(_) => logs::resolve(range, &snapshot)?.0,
    };
    shared.rpc.filters.add(Kind::Logs { range, criteria, next })
}

fn new_blocks(shared: &Shared, _: Params<'_>) -> Reply {
    shared.rpc.filters.add(Kind::Blocks { next: head(shared)? + 1 })
}

fn new_pending(shared: &Shared, _: Params<'_>) -> Reply {
    shared.rpc.filters.add(Kind::Pending { next: shared.feed.admitted_end() })
}

fn changes(shared: &Shared, params: Params<'_>) -> Reply {
    let id: String = Args::new(&params).need("filter id")?;
    let filters = &shared.rpc.filters;
    let (kind, answer) = match filters.get(&id)? {
        Kind::Logs { range, criteria, next } => new_of(shared, range, criteria, next)?,
        Kind::Blocks { next } => {
            let snapshot = shared.store.snapshot().map_err(internal)?;
            let head = snapshot.head().map_err(internal)?.unwrap_or(0);
            // What is left over comes with the next question.
            let last = head.min(next.saturating_add(shared.rpc.config.log_blocks_max - 1));
            let mut hashes = Vec::new();
            for number in next..=last {
                hashes.extend(snapshot.block_hash(number).map_err(internal)?);
            }
            (Kind::Blocks { next: next.max(last + 1) }, json!(hashes))
        }
        Kind::Pending { next } => match shared.feed.admitted_since(next) {
            Ok((hashes, next)) => (Kind::Pending { next }, json!(hashes)),
            Err(slow) => {
                filters.remove(&id);
                return Err(refuse(format!(
                    "the filter missed {} transactions and is gone; ask more often",
                    slow.missed
                )));
            }
        },
    };
    filters.set(&id, kind);
    Ok(answer)
}

fn new_of(shared: &Shared, range: Range, criteria: Criteria, next: u64) -> Result<(Kind, Value), ErrorObjectOwned> {
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let head = snapshot.head().map_err(internal)?.unwrap_or(0);
    let last = match range {
        Range::Between(_, BlockRef::Number(to)) => to,
        Range::Between(..) => head,
        Range::Block(_) => logs::resolve(range, &snapshot)?.1,
    };
    let last = last.min(head);
    let found = criteria.between(shared, &snapshot, next, last)?;
    Ok((Kind::Logs { range, criteria, next: next.max(last + 1) }, json!(found)))
}

fn all_logs(shared: &Shared, params: Params<'_>) -> Reply {
    let id: String = Args::new(&params).need("filter id")?;
    match shared.rpc.filters.get(&id)? {
        Kind::Logs { range, criteria, .. } => {
            let snapshot = shared.store.snapshot().map_err(internal)?;
            let (first, last) = logs::resolve(range, &snapshot)?;
            Ok(json!(criteria.between(shared, &snapshot, first, last)?))
        }
        Kind::Blocks { .. } | Kind::Pending { .. } => Err(refuse("filter not found: it is no filter of logs")),
    }
}

fn uninstall(shared: &Shared, params: Params<'_>) -> Reply {
    let id: String = Args::new(&params).need("filter id")?;
    Ok(json!(shared.rpc.filters.remove(&id)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn filters_are_bounded_and_forgotten() {
        let filters = Filters::default();
        let first = filters.add(Kind::Blocks { next: 1 }).unwrap();
        for _ in 1..FILTERS_MAX {
            filters.add(Kind::Blocks { next: 1 }).unwrap();
        }
        let error = filters.add(Kind::Blocks { next: 1 }).unwrap_err();
        assert_eq!(error.code(), -32005);
        assert!(filters.remove(first.as_str().unwrap()));
        let second = filters.add(Kind::Blocks { next: 1 }).unwrap();
        let Some(past) = Instant::now().checked_sub(IDLE_MAX) else { return };
        for filter in filters.lock().values_mut() {
            filter.asked = past;
        }
        assert!(filters.get(second.as_str().unwrap()).is_err());
        filters.add(Kind::Blocks { next: 1 }).unwrap();
        assert_eq!(filters.lock().len(), 1);
    }
}
