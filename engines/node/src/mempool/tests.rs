#![allow(clippy::unwrap_used)]
use super::*;
use crate::genesis::{Genesis, GenesisAccount};
use crate::store::Store;
use alloy_consensus::transaction::SignerRecoverable;
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
    let r =
        U256::from_be_slice(&hex::decode("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").unwrap());
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
    let store = Store::open(&folder.path().join("db"), Default::default()).unwrap();
    let mut genesis = Genesis::from_json(include_str!("../../tests/frozen/genesis_v1.json")).unwrap();
    genesis.alloc.clear();
    for tx in funded {
        let account = GenesisAccount { balance: U256::from(1_000_000_000u64), ..Default::default() };
        genesis.alloc.insert(tx.recover_signer().unwrap(), account);
    }
    let (block, diff) = crate::exec::genesis_block(&genesis).unwrap();
    store.commit(&block, &[], &[], &diff).unwrap();
    let genesis = Genesis { chain_id: 7, block_gas_limit: 1_000_000, ..genesis };
    let rules = ChainRules::of(&genesis);
    World { _folder: folder, store, rules, pool: Mempool::new(limits) }
}

impl World {
    fn admit(&self, tx: &Tx) -> Result<B256, String> {
        self.pool.admit(tx.clone(), &self.store, &self.rules).map_err(|e| e.to_string())
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
    assert_eq!(world.admit(&all[3]).unwrap_err(), "txpool is full: 3 transactions wait; send it again later");
    let ready = world.pool.ready(10);
    let fees: Vec<_> = ready.iter().map(|(tx, _)| tx.max_fee_per_gas()).collect();
    assert_eq!(fees, [20, 10, 0]);
    assert_eq!(world.pool.ready(2).len(), 2);
}

/// Transactions of one known sender; gas is free.
struct Wallet(k256::ecdsa::SigningKey);

impl Wallet {
    fn new(seed: u8) -> Self {
        Self(k256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap())
    }

    fn tx(&self, nonce: u64, edit: impl FnOnce(&mut TxEip1559)) -> Tx {
        let mut tx = TxEip1559 { chain_id: 7, nonce, gas_limit: GAS, to: Address::ZERO.into(), ..Default::default() };
        edit(&mut tx);
        let (signature, recovery) = self.0.sign_prehash_recoverable(tx.signature_hash().as_slice()).unwrap();
        tx.into_signed(Signature::from((signature, recovery))).into()
    }

    fn free(&self, nonce: u64) -> Tx {
        self.tx(nonce, |_| {})
    }
}

#[test]
fn what_cannot_run_makes_room_for_what_can() {
    let (gaps, honest) = (Wallet::new(1), Wallet::new(2));
    let limits = MempoolConfig { transactions_max: 3, per_sender_max: 3, ..Default::default() };
    let world = world(&[&gaps.free(0), &honest.free(0)], limits);
    for nonce in 1..4 {
        world.admit(&gaps.free(nonce)).unwrap();
    }
    let refused = world.admit(&honest.free(1)).unwrap_err();
    assert!(refused.contains("txpool is full"), "one gap does not drive out another: {refused}");
    for nonce in 0..3 {
        world.admit(&honest.free(nonce)).unwrap();
    }
    assert_eq!(world.pool.ready(10).len(), 3);
    assert!(world.pool.get(*gaps.free(3).tx_hash()).is_none());
    assert!(world.admit(&gaps.free(0)).unwrap_err().contains("txpool is full"), "what can run is not driven out");
    let inner = world.pool.lock();
    assert_eq!((inner.by_hash.len(), inner.by_arrival.len(), inner.gapped.len(), inner.by_sender.len()), (3, 3, 0, 1));
}

#[test]
fn a_sender_at_its_limit_may_still_close_its_gap() {
    let own = Wallet::new(1);
    let limits = MempoolConfig { per_sender_max: 2, ..Default::default() };
    let world = world(&[&own.free(0)], limits);
    world.admit(&own.free(1)).unwrap();
    world.admit(&own.free(2)).unwrap();
    assert!(world.admit(&own.free(3)).unwrap_err().contains("full for this sender"));
    world.admit(&own.free(0)).unwrap();
    let nonces: Vec<_> = world.pool.ready(10).iter().map(|(tx, _)| tx.nonce()).collect();
    assert_eq!(nonces, [0, 1]);
}

#[test]
fn an_account_that_does_not_exist_begins_at_nonce_0_without_gaps() {
    let new = Wallet::new(9);
    let world = world(&[], MempoolConfig::default());
    assert!(world.admit(&new.free(1)).unwrap_err().contains("next nonce 0, tx nonce 1"));
    world.admit(&new.free(0)).unwrap();
    world.admit(&new.free(1)).unwrap();
    assert!(world.admit(&new.free(3)).unwrap_err().contains("next nonce 2, tx nonce 3"));
    assert_eq!(world.pool.ready(10).len(), 2);
}

#[test]
fn what_has_not_run_for_too_many_blocks_is_dropped() {
    let own = Wallet::new(1);
    let world = world(&[&own.free(0)], MempoolConfig::default());
    world.admit(&own.free(0)).unwrap();
    world.admit(&own.free(1)).unwrap();
    world.admit(&own.free(3)).unwrap();
    let expire = |height| world.pool.lock().expire(height);
    expire(BLOCKS_WAITING_MAX);
    assert_eq!(world.pool.ready(10).len(), 2);
    world.pool.lock().by_sender.values_mut().for_each(|s| s.waiting.get_mut(&1).unwrap().since = 1);
    expire(BLOCKS_WAITING_MAX + 1);
    assert!(world.pool.ready(10).is_empty(), "nonce 1 waits behind a gap now");
    assert_eq!(world.pool.lock().gapped.len(), 2);
    expire(BLOCKS_WAITING_MAX + 2);
    let inner = world.pool.lock();
    assert!(inner.by_sender.is_empty() && inner.by_hash.is_empty() && inner.gapped.is_empty());
}

#[test]
fn used_nonces_go_and_later_ones_can_run() {
    let own = Wallet::new(1);
    let world = world(&[&own.free(0)], MempoolConfig::default());
    for nonce in [0, 2] {
        world.admit(&own.free(nonce)).unwrap();
    }
    let sender = own.free(0).recover_signer().unwrap();
    // As after blocks that held nonces 0 and 1, the second of which came by another node.
    world.pool.lock().use_up(sender, 2);
    assert_eq!(world.pool.ready(10).iter().map(|(tx, _)| tx.nonce()).collect::<Vec<_>>(), [2]);
    assert!(world.pool.lock().gapped.is_empty());
}

#[test]
fn a_replacement_raises_fee_and_tip_by_a_tenth() {
    let own = Wallet::new(1);
    let world = world(&[&own.free(0)], MempoolConfig::default());
    let priced = |fee: u128, tip: u128| {
        own.tx(0, |t| {
            t.max_fee_per_gas = fee;
            t.max_priority_fee_per_gas = tip;
        })
    };
    world.admit(&own.free(0)).unwrap();
    let again = own.tx(0, |t| t.value = U256::from(1));
    assert!(world.admit(&again).unwrap_err().contains("underpriced"));
    world.admit(&priced(100, 10)).unwrap();
    assert!(world.admit(&priced(109, 11)).unwrap_err().contains("underpriced"));
    assert!(world.admit(&priced(200, 10)).unwrap_err().contains("underpriced"));
    world.admit(&priced(110, 11)).unwrap();
    assert_eq!(world.pool.lock().by_hash.len(), 1);
}

#[test]
fn a_sender_cannot_spend_its_balance_twice() {
    let own = Wallet::new(1);
    let world = world(&[&own.free(0)], MempoolConfig::default());
    let all = |nonce| own.tx(nonce, |t| t.value = U256::from(1_000_000_000u64));
    world.admit(&all(0)).unwrap();
    assert!(world.admit(&all(1)).unwrap_err().contains("insufficient funds"));
    world.admit(&own.free(1)).unwrap();
    let big = own.tx(2, |t| {
        t.to = alloy_primitives::TxKind::Create;
        t.input = vec![0; 50_000].into();
        t.gas_limit = 1_000_000;
    });
    assert!(world.admit(&big).unwrap_err().contains("max initcode size exceeded"));
}
