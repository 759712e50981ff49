//! Transactions that wait for a block.
//!
//! Bounded by count, by sender, by size and by age; ordered by sender and nonce. A transaction is admitted only if it
//! could run now or after its sender's earlier ones: signature, chain, nonce, balance, gas. One that cannot run yet (a
//! gap before its nonce) makes room for one that can when the pool is full, and whatever has not run for
//! [`BLOCKS_WAITING_MAX`] blocks is dropped, so that nobody can fill the pool for ever, not even where gas is free. What
//! clients handed in is kept over a restart (`journal`), the rest is in peers' pools. It never decides what a block holds; execution checks everything
//! once more.

mod check;
pub(crate) mod journal;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::{Mutex, MutexGuard};

use alloy_consensus::Transaction;
use alloy_primitives::{Address, B256, U256};

pub(crate) use check::AdmitError;
use check::cost;

use crate::NodeError;
use crate::block::Tx;
use crate::config::MempoolConfig;
use crate::exec::ChainRules;
use crate::governance;
use crate::state::AccountRecord;
use crate::store::{Snapshot, Store};

/// How far a nonce may lie ahead of the account's; a larger gap is hardly ever closed.
const NONCE_GAP_MAX: u64 = 256;
/// A transaction that has not run for so many blocks is dropped; a quarter of an hour at a block a second. A full pool of
/// the default size that can run needs far fewer.
const BLOCKS_WAITING_MAX: u64 = 1_000;

/// The pool. Shared by RPC, peers and consensus.
pub(crate) struct Mempool {
    limits: MempoolConfig,
    inner: Mutex<Inner>,
}

/// Every waiting transaction is in the first three maps.
#[derive(Default)]
struct Inner {
    /// By sender, none without a transaction. Holds at most `transactions_max` in all.
    by_sender: BTreeMap<Address, Sender>,
    /// Sender and nonce by hash.
    by_hash: BTreeMap<B256, (Address, u64)>,
    /// Sender and nonce by arrival, oldest first.
    by_arrival: BTreeMap<u64, (Address, u64)>,
    /// Those with a gap before them: the lowest tip first, then the oldest, which are the least likely to run.
    gapped: BTreeSet<Gapped>,
    /// Next number of arrival.
    next: u64,
}

/// Tip, arrival, sender, nonce.
type Gapped = (u128, u64, Address, u64);

struct Sender {
    /// The account's nonce at the newest block.
    account_nonce: u64,
    /// The nonce after the gapless ones.
    end: u64,
    /// What all may cost together; the sender's balance covered it when the last one came.
    cost: U256,
    /// By nonce, at most `per_sender_max`.
    waiting: BTreeMap<u64, Waiting>,
}

impl Sender {
    fn new(account_nonce: u64) -> Self {
        Self { account_nonce, end: account_nonce, cost: U256::ZERO, waiting: BTreeMap::new() }
    }

    /// What all but the transaction with this nonce may cost together.
    fn cost_besides(&self, nonce: u64) -> U256 {
        self.waiting.get(&nonce).map_or(self.cost, |own| self.cost.saturating_sub(cost(&own.tx)))
    }
}

struct Waiting {
    tx: Tx,
    arrival: u64,
    hash: B256,
    /// Height of the newest block when it arrived.
    since: u64,
}

impl Waiting {
    fn gapped(&self, sender: Address, nonce: u64) -> Gapped {
        (tip(&self.tx), self.arrival, sender, nonce)
    }
}

impl Mempool {
    pub(crate) fn new(limits: MempoolConfig) -> Self {
        Self { limits, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the pool's lock panics")
    }

    /// Whether the transaction waits here.
    pub(crate) fn contains(&self, hash: B256) -> bool {
        self.lock().by_hash.contains_key(&hash)
    }

    /// Admits a transaction and returns its hash.
    ///
    /// # Errors
    /// The first rule it breaks; the pool is unchanged.
    pub(crate) fn admit(&self, tx: Tx, store: &Store, rules: &ChainRules) -> Result<B256, AdmitError> {
        let hash = rules.accounts.transaction_hash(&tx);
        if self.contains(hash) {
            return Err(AdmitError::Known);
        }
        check::check(&tx, rules, &self.limits)?;
        let sender = rules.accounts.sender(&tx).ok_or(AdmitError::Signature)?;
        let mut inner = self.lock();
        // Read under the lock: a block that is stored after this is settled after the transaction is in.
        let snapshot = store.snapshot().map_err(AdmitError::Node)?;
        let account = snapshot.account(sender).map_err(AdmitError::Node)?;
        let since = snapshot.head().map_err(AdmitError::Node)?.unwrap_or(0);
        if inner.by_hash.contains_key(&hash) {
            return Err(AdmitError::Known);
        }
        if rules.governance.is_some() {
            let (state, anchor) = (snapshot.latest(), rules.anchor.as_deref());
            let admitted = governance::admit(state, anchor, &tx, sender, since + 1).map_err(AdmitError::Node)?;
            admitted.map_err(AdmitError::NotListed)?;
        }
        inner.check(&tx, sender, account.as_ref())?;
        inner.make_room(&tx, sender, account_nonce(account.as_ref()), &self.limits)?;
        inner.insert(Waiting { tx, hash, arrival: 0, since }, sender, account_nonce(account.as_ref()));
        Ok(hash)
    }

    /// The senders of those transactions that wait here; they were found out when these came in.
    pub(crate) fn senders(&self, hashes: &[B256]) -> Vec<Option<Address>> {
        let inner = self.lock();
        hashes.iter().map(|hash| inner.by_hash.get(hash).map(|(sender, _)| *sender)).collect()
    }

    /// A waiting transaction and its sender.
    pub(crate) fn get(&self, hash: B256) -> Option<(Tx, Address)> {
        let inner = self.lock();
        let (sender, nonce) = inner.by_hash.get(&hash)?;
        Some((inner.by_sender.get(sender)?.waiting.get(nonce)?.tx.clone(), *sender))
    }

    /// How many can run, and how many have a gap before them.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.by_hash.len() - inner.gapped.len(), inner.gapped.len())
    }

    /// What waits, by sender and nonce, and whether it can run; of one sender if `only` names one.
    pub(crate) fn content(&self, only: Option<Address>) -> Vec<(Address, Tx, bool)> {
        let inner = self.lock();
        let mut all = Vec::new();
        for (sender, own) in &inner.by_sender {
            if only.is_none_or(|only| only == *sender) {
                let end = own.end;
                all.extend(own.waiting.iter().map(|(nonce, waiting)| (*sender, waiting.tx.clone(), *nonce < end)));
            }
        }
        all
    }

    /// The nonce after the sender's gapless waiting transactions.
    pub(crate) fn next_nonce(&self, sender: Address, account_nonce: u64) -> u64 {
        self.lock().by_sender.get(&sender).map_or(account_nonce, |own| own.end.max(account_nonce))
    }

    /// Up to `limit` transactions that can run one after the other, best tip first, then oldest.
    pub(crate) fn ready(&self, limit: usize) -> Vec<(Tx, Address)> {
        let inner = self.lock();
        let mut heads = BinaryHeap::new();
        for (sender, own) in &inner.by_sender {
            if let Some(waiting) = own.waiting.get(&own.account_nonce) {
                heads.push(rank(waiting, *sender, own.account_nonce));
            }
        }
        let mut ready = Vec::new();
        while let Some((_, _, sender, nonce)) = heads.pop() {
            let own = &inner.by_sender[&sender].waiting;
            ready.push((own[&nonce].tx.clone(), sender));
            if ready.len() >= limit {
                break;
            }
            if let Some(waiting) = own.get(&(nonce + 1)) {
                heads.push(rank(waiting, sender, nonce + 1));
            }
        }
        ready
    }

    /// Removes what will not run after a new block: nonces that its senders have used, and what waited too long.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn settle(&self, snapshot: &Snapshot, senders: &BTreeSet<Address>) -> Result<(), NodeError> {
        let mut inner = self.lock();
        for sender in senders {
            if inner.by_sender.contains_key(sender) {
                let next = account_nonce(snapshot.account(*sender)?.as_ref());
                inner.use_up(*sender, next);
            }
        }
        inner.expire(snapshot.head()?.unwrap_or(0));
        Ok(())
    }
}

fn account_nonce(account: Option<&AccountRecord>) -> u64 {
    account.map_or(0, |account| account.nonce)
}

impl Inner {
    /// Checks what follows from the sender's account and its other transactions.
    fn check(&self, tx: &Tx, sender: Address, account: Option<&AccountRecord>) -> Result<(), AdmitError> {
        let (next, nonce) = (account_nonce(account), tx.nonce());
        let own = self.by_sender.get(&sender);
        if nonce < next {
            return Err(AdmitError::NonceTooLow { next, nonce });
        }
        let gapless = own.map_or(next, |own| own.end);
        // A key costs nothing: with a gap, one could fill the pool without ever owning an account.
        if account.is_none() && nonce > gapless {
            return Err(AdmitError::NewAccountGap { next: gapless, nonce });
        }
        if nonce - next > NONCE_GAP_MAX {
            return Err(AdmitError::NonceTooHigh { next, nonce });
        }
        let balance = account.map_or(U256::ZERO, |account| account.balance);
        // All together: after the first has spent the balance, the others could not run.
        let (cost, waiting) = (cost(tx), own.map_or(U256::ZERO, |own| own.cost_besides(nonce)));
        if cost.saturating_add(waiting) > balance {
            return Err(AdmitError::Funds { balance, cost, waiting });
        }
        Ok(())
    }

    /// Makes room for `tx`: removes the one that it replaces, or one with a gap if it has none itself.
    fn make_room(&mut self, tx: &Tx, sender: Address, next: u64, limits: &MempoolConfig) -> Result<(), AdmitError> {
        let nonce = tx.nonce();
        let own = self.by_sender.get(&sender);
        if let Some(old) = own.and_then(|own| own.waiting.get(&nonce)) {
            if !outbids(tx, &old.tx) {
                return Err(AdmitError::Underpriced);
            }
            self.remove(sender, nonce);
            return Ok(());
        }
        let can_run = nonce == own.map_or(next, |own| own.end);
        let last = own.and_then(|own| own.waiting.last_key_value()).map(|(last, _)| *last);
        if own.is_some_and(|own| own.waiting.len() >= limits.per_sender_max) {
            // Its own last one has a gap before it, which this one is about to close.
            let Some(last) = last.filter(|last| can_run && *last > nonce) else {
                return Err(AdmitError::SenderFull { limit: limits.per_sender_max });
            };
            self.remove(sender, last);
        } else if self.by_hash.len() >= limits.transactions_max {
            let Some((.., other, gapped)) = self.gapped.first().copied().filter(|_| can_run) else {
                return Err(AdmitError::Full { limit: limits.transactions_max });
            };
            tracing::debug!(sender = %other, nonce = gapped, "a transaction that cannot run makes room for one that can");
            self.remove(other, gapped);
        }
        Ok(())
    }

    /// Puts one in; its arrival is numbered here.
    fn insert(&mut self, waiting: Waiting, sender: Address, account_nonce: u64) {
        let (hash, nonce, arrival) = (waiting.hash, waiting.tx.nonce(), self.next);
        self.next += 1;
        let own = self.by_sender.entry(sender).or_insert_with(|| Sender::new(account_nonce));
        own.cost = own.cost.saturating_add(cost(&waiting.tx));
        own.waiting.insert(nonce, Waiting { arrival, ..waiting });
        self.by_hash.insert(hash, (sender, nonce));
        self.by_arrival.insert(arrival, (sender, nonce));
        self.regrade(sender);
    }

    /// Removes one from everywhere; what comes after it has a gap then, until [`Inner::regrade`] says so.
    fn remove(&mut self, sender: Address, nonce: u64) {
        let Some(own) = self.by_sender.get_mut(&sender) else { return };
        let Some(waiting) = own.waiting.remove(&nonce) else { return };
        own.cost = own.cost.saturating_sub(cost(&waiting.tx));
        own.end = own.end.min(nonce.max(own.account_nonce));
        if own.waiting.is_empty() {
            self.by_sender.remove(&sender);
        }
        self.by_hash.remove(&waiting.hash);
        self.by_arrival.remove(&waiting.arrival);
        self.gapped.remove(&waiting.gapped(sender, nonce));
    }

    /// Notes anew which transactions of a sender have a gap before them, from where it has changed on.
    fn regrade(&mut self, sender: Address) {
        let Some(own) = self.by_sender.get_mut(&sender) else { return };
        let begin = own.end.max(own.account_nonce);
        let mut end = begin;
        while let Some(waiting) = own.waiting.get(&end) {
            self.gapped.remove(&waiting.gapped(sender, end));
            end += 1;
        }
        own.end = end;
        for (nonce, waiting) in own.waiting.range(end..) {
            self.gapped.insert(waiting.gapped(sender, *nonce));
        }
    }

    /// The account's nonce is `next` now.
    fn use_up(&mut self, sender: Address, next: u64) {
        let Some(own) = self.by_sender.get_mut(&sender) else { return };
        own.account_nonce = next;
        let used: Vec<_> = own.waiting.range(..next).map(|(nonce, _)| *nonce).collect();
        for nonce in used {
            self.remove(sender, nonce);
        }
        self.regrade(sender);
    }

    /// Drops what has waited for more than [`BLOCKS_WAITING_MAX`] blocks at `height`.
    fn expire(&mut self, height: u64) {
        let mut shortened = BTreeSet::new();
        while let Some((_, &(sender, nonce))) = self.by_arrival.first_key_value() {
            let waiting = &self.by_sender[&sender].waiting[&nonce];
            if height.saturating_sub(waiting.since) <= BLOCKS_WAITING_MAX {
                break;
            }
            tracing::debug!(%sender, nonce, "a transaction has waited too long and is dropped");
            self.remove(sender, nonce);
            shortened.insert(sender);
        }
        for sender in shortened {
            self.regrade(sender);
        }
    }
}

/// Best first: higher tip, then earlier arrival. Then where to find it.
fn rank(waiting: &Waiting, sender: Address, nonce: u64) -> (u128, Reverse<u64>, Address, u64) {
    (tip(&waiting.tx), Reverse(waiting.arrival), sender, nonce)
}

/// What the proposer gets for a unit of gas.
fn tip(tx: &Tx) -> u128 {
    tx.effective_tip_per_gas(0).unwrap_or(0)
}

/// A tenth more of fee and tip, as other clients ask, so that replacing cannot be had for nothing.
fn outbids(new: &Tx, old: &Tx) -> bool {
    let raised = |new: u128, old: u128| new > 0 && new.saturating_mul(10) >= old.saturating_mul(11);
    raised(new.max_fee_per_gas(), old.max_fee_per_gas()) && raised(tip(new), tip(old))
}
