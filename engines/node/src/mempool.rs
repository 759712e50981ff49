//! Transactions that wait for a block.
//!
//! Bounded by count, by sender and by size; ordered by sender and nonce. A transaction is admitted
//! only if it could run now or after its sender's earlier ones: signature, chain, nonce, balance,
//! gas. Not kept over a restart: senders and peers send again. It never decides what a block
//! holds; execution checks everything once more.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::{Mutex, MutexGuard};

use alloy_consensus::Transaction;
use alloy_consensus::transaction::SignerRecoverable;
use alloy_eips::Encodable2718;
use alloy_primitives::{Address, B256, U256};
use revm::context_interface::cfg::gas::calculate_initial_tx_gas;
use revm::primitives::hardfork::SpecId;

use crate::NodeError;
use crate::block::{self, Tx};
use crate::config::MempoolConfig;
use crate::exec::ChainRules;
use crate::store::Snapshot;

/// How far a nonce may lie ahead of the account's; a larger gap is hardly ever closed.
const NONCE_GAP_MAX: u64 = 256;

/// Why a transaction is not admitted. The texts are those of Ethereum clients where one exists.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error("invalid signature")]
    Signature,
    #[error("{0}")]
    Form(String),
    #[error("oversized data: {bytes} bytes, limit {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("already known")]
    Known,
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow { next: u64, nonce: u64 },
    #[error("nonce too high: next nonce {next}, tx nonce {nonce}")]
    NonceTooHigh { next: u64, nonce: u64 },
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}")]
    Funds { balance: U256, cost: U256 },
    #[error("intrinsic gas too low: have {gas}, want {want}")]
    Gas { gas: u64, want: u64 },
    #[error("exceeds block gas limit")]
    BlockGas,
    #[error("max priority fee per gas higher than max fee per gas")]
    Tip,
    #[error("replacement transaction underpriced")]
    Underpriced,
    #[error("txpool is full")]
    Full,
    #[error("this node cannot read its state")]
    Node(#[source] NodeError),
}

/// The pool. Shared by RPC, peers and consensus.
pub(crate) struct Mempool {
    limits: MempoolConfig,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// By sender, then nonce. Holds at most `transactions_max` in all.
    by_sender: BTreeMap<Address, BTreeMap<u64, Waiting>>,
    /// Sender and nonce by hash, the same transactions.
    by_hash: BTreeMap<B256, (Address, u64)>,
    /// Order of arrival.
    next: u64,
}

struct Waiting {
    tx: Tx,
    arrival: u64,
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
    pub(crate) fn admit(&self, tx: Tx, snapshot: &Snapshot, rules: &ChainRules) -> Result<B256, AdmitError> {
        let hash = *tx.tx_hash();
        if self.contains(hash) {
            return Err(AdmitError::Known);
        }
        block::check_form(&tx, rules.chain_id).map_err(AdmitError::Form)?;
        let bytes = tx.encode_2718_len();
        if bytes > self.limits.transaction_bytes_max {
            return Err(AdmitError::TooLarge { bytes, limit: self.limits.transaction_bytes_max });
        }
        check_gas(&tx, rules)?;
        let sender = tx.recover_signer().map_err(|_| AdmitError::Signature)?;
        let account = snapshot.account(sender).map_err(AdmitError::Node)?;
        let (next, balance) = account.map_or((0, U256::ZERO), |a| (a.nonce, a.balance));
        let nonce = tx.nonce();
        if nonce < next {
            return Err(AdmitError::NonceTooLow { next, nonce });
        }
        if nonce - next > NONCE_GAP_MAX {
            return Err(AdmitError::NonceTooHigh { next, nonce });
        }
        let cost =
            U256::from(tx.gas_limit()).saturating_mul(U256::from(tx.max_fee_per_gas())).saturating_add(tx.value());
        if cost > balance {
            return Err(AdmitError::Funds { balance, cost });
        }
        self.insert(tx, hash, sender)?;
        Ok(hash)
    }

    fn insert(&self, tx: Tx, hash: B256, sender: Address) -> Result<(), AdmitError> {
        let mut inner = self.lock();
        let full = inner.by_hash.len() >= self.limits.transactions_max;
        let arrival = inner.next;
        let own = inner.by_sender.entry(sender).or_default();
        let replaced = match own.get(&tx.nonce()) {
            // A tenth more, as other clients ask, so that replacing cannot be had for nothing.
            Some(old) if tx.max_fee_per_gas() * 10 < old.tx.max_fee_per_gas() * 11 || tx.max_fee_per_gas() == 0 => {
                return Err(AdmitError::Underpriced);
            }
            Some(old) => Some(*old.tx.tx_hash()),
            None if full || own.len() >= self.limits.per_sender_max => {
                if own.is_empty() {
                    inner.by_sender.remove(&sender);
                }
                return Err(AdmitError::Full);
            }
            None => None,
        };
        let nonce = tx.nonce();
        own.insert(nonce, Waiting { tx, arrival });
        inner.next += 1;
        if let Some(old) = replaced {
            inner.by_hash.remove(&old);
        }
        inner.by_hash.insert(hash, (sender, nonce));
        Ok(())
    }

    /// A waiting transaction and its sender.
    pub(crate) fn get(&self, hash: B256) -> Option<(Tx, Address)> {
        let inner = self.lock();
        let (sender, nonce) = inner.by_hash.get(&hash)?;
        Some((inner.by_sender.get(sender)?.get(nonce)?.tx.clone(), *sender))
    }

    /// The nonce after the sender's gapless waiting transactions.
    pub(crate) fn next_nonce(&self, sender: Address, account_nonce: u64) -> u64 {
        let inner = self.lock();
        let Some(own) = inner.by_sender.get(&sender) else { return account_nonce };
        let mut next = account_nonce;
        while own.contains_key(&next) {
            next += 1;
        }
        next
    }

    /// Up to `limit` transactions that can run one after the other, best tip first, then oldest.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn ready(&self, snapshot: &Snapshot, limit: usize) -> Result<Vec<(Tx, Address)>, NodeError> {
        let inner = self.lock();
        let mut heads = BinaryHeap::new();
        for (sender, own) in &inner.by_sender {
            let next = snapshot.account(*sender)?.map_or(0, |account| account.nonce);
            if let Some(waiting) = own.get(&next) {
                heads.push(rank(waiting, *sender, next));
            }
        }
        let mut ready = Vec::new();
        while let Some((_, _, sender, nonce)) = heads.pop() {
            let own = &inner.by_sender[&sender];
            ready.push((own[&nonce].tx.clone(), sender));
            if ready.len() >= limit {
                break;
            }
            if let Some(waiting) = own.get(&(nonce + 1)) {
                heads.push(rank(waiting, sender, nonce + 1));
            }
        }
        Ok(ready)
    }

    /// Any `limit` waiting transactions, encoded, for a peer that has just connected.
    pub(crate) fn sample(&self, limit: usize) -> Vec<Tx> {
        let inner = self.lock();
        inner.by_sender.values().flat_map(|own| own.values()).take(limit).map(|w| w.tx.clone()).collect()
    }

    /// Removes what can no longer run after a block: nonces that its senders have used.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn forget_used(&self, snapshot: &Snapshot, senders: &BTreeSet<Address>) -> Result<(), NodeError> {
        let mut inner = self.lock();
        for sender in senders {
            let next = snapshot.account(*sender)?.map_or(0, |account| account.nonce);
            let Some(own) = inner.by_sender.get_mut(sender) else { continue };
            let kept = own.split_off(&next);
            let used = std::mem::replace(own, kept);
            if own.is_empty() {
                inner.by_sender.remove(sender);
            }
            for waiting in used.values() {
                inner.by_hash.remove(waiting.tx.tx_hash());
            }
        }
        Ok(())
    }
}

/// Best first: higher tip, then earlier arrival. Then where to find it.
fn rank(waiting: &Waiting, sender: Address, nonce: u64) -> (u128, std::cmp::Reverse<u64>, Address, u64) {
    let tip = waiting.tx.effective_tip_per_gas(0).unwrap_or(0);
    (tip, std::cmp::Reverse(waiting.arrival), sender, nonce)
}

fn check_gas(tx: &Tx, rules: &ChainRules) -> Result<(), AdmitError> {
    if tx.gas_limit() > rules.block_gas_limit {
        return Err(AdmitError::BlockGas);
    }
    if tx.max_priority_fee_per_gas().is_some_and(|tip| tip > tx.max_fee_per_gas()) {
        return Err(AdmitError::Tip);
    }
    let (accounts, slots) = tx
        .access_list()
        .map_or((0, 0), |list| (list.len() as u64, list.iter().map(|item| item.storage_keys.len() as u64).sum()));
    let gas = calculate_initial_tx_gas(SpecId::PRAGUE, tx.input(), tx.is_create(), accounts, slots, 0, None);
    let want = (gas.initial_regular_gas + gas.initial_state_gas).max(gas.floor_gas);
    if tx.gas_limit() < want {
        return Err(AdmitError::Gas { gas: tx.gas_limit(), want });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::genesis::{Genesis, GenesisAccount};
    use crate::store::Store;
    use alloy_consensus::{SignableTransaction, TxEip1559};
    use alloy_primitives::Signature;

    const GAS: u64 = 30_000;

    /// A transaction whose sender is whoever the signature happens to give.
    fn tx(nonce: u64, fee: u128, edit: impl FnOnce(&mut TxEip1559)) -> Tx {
        let mut tx = TxEip1559 {
            chain_id: 7,
            nonce,
            gas_limit: GAS,
            to: Address::ZERO.into(),
            max_fee_per_gas: fee,
            max_priority_fee_per_gas: fee,
            ..Default::default()
        };
        edit(&mut tx);
        // s = 1 and r = the generator's x: a signature that recovers to some key for any message.
        let r = U256::from_be_slice(
            &hex::decode("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").unwrap(),
        );
        tx.into_signed(Signature::new(r, U256::from(1), false)).into()
    }

    struct World {
        _folder: tempfile::TempDir,
        store: Store,
        rules: ChainRules,
        pool: Mempool,
    }

    /// A store in which the senders of `funded` have a balance.
    fn world(funded: &[&Tx], limits: MempoolConfig) -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db")).unwrap();
        let mut genesis = Genesis::from_json(include_str!("../tests/frozen/genesis_v1.json")).unwrap();
        genesis.alloc.clear();
        for tx in funded {
            let account = GenesisAccount { balance: U256::from(1_000_000_000u64), ..Default::default() };
            genesis.alloc.insert(tx.recover_signer().unwrap(), account);
        }
        let (block, diff) = crate::exec::genesis_block(&genesis).unwrap();
        store.commit(&block, &[], &[], &diff).unwrap();
        let rules = ChainRules { chain_id: 7, block_gas_limit: 1_000_000, proposers: BTreeSet::new() };
        World { _folder: folder, store, rules, pool: Mempool::new(limits) }
    }

    impl World {
        fn admit(&self, tx: &Tx) -> Result<B256, String> {
            let snapshot = self.store.snapshot().unwrap();
            self.pool.admit(tx.clone(), &snapshot, &self.rules).map_err(|e| e.to_string())
        }
    }

    #[test]
    fn each_rule_refuses_with_its_own_words() {
        let poor = tx(0, 0, |t| t.value = U256::from(1));
        let good = tx(0, 0, |_| {});
        let world = world(&[&good], MempoolConfig::default());
        let cases = [
            (poor, "insufficient funds"),
            (tx(0, 0, |t| t.chain_id = 8), "for chain 8"),
            (tx(0, 0, |t| t.gas_limit = 20_000), "intrinsic gas too low: have 20000, want 21000"),
            (tx(0, 0, |t| t.gas_limit = 2_000_000), "exceeds block gas limit"),
            (tx(0, 1, |t| t.max_priority_fee_per_gas = 2), "max priority fee"),
            (tx(300, 0, |_| {}), "nonce too high"),
            (tx(0, 0, |t| t.input = vec![0; 200_000].into()), "oversized data"),
        ];
        for (tx, expected) in cases {
            let refused = world.admit(&tx).unwrap_err();
            assert!(refused.contains(expected), "{refused} / {expected}");
        }
        world.admit(&good).unwrap();
        assert_eq!(world.admit(&good).unwrap_err(), "already known");
    }

    #[test]
    fn the_pool_is_bounded_and_prefers_higher_tips() {
        // Different contents recover to different senders, so each is its own sender's first.
        let all: Vec<_> = (0..4u128).map(|fee| tx(0, fee * 10, |_| {})).collect();
        let limits = MempoolConfig { transactions_max: 3, ..Default::default() };
        let world = world(&all.iter().collect::<Vec<_>>(), limits);
        for tx in &all[..3] {
            world.admit(tx).unwrap();
        }
        assert_eq!(world.admit(&all[3]).unwrap_err(), "txpool is full");
        let snapshot = world.store.snapshot().unwrap();
        let ready = world.pool.ready(&snapshot, 10).unwrap();
        let fees: Vec<_> = ready.iter().map(|(tx, _)| tx.max_fee_per_gas()).collect();
        assert_eq!(fees, [20, 10, 0]);
        assert_eq!(world.pool.ready(&snapshot, 2).unwrap().len(), 2);
    }
}
