//! Blocks built and validated on a real store, by the rules of Osaka.
#![allow(clippy::unwrap_used)]

use alloy_consensus::{SignableTransaction, TxEip1559, TxEip7702};
use alloy_eips::eip7702::Authorization;
use alloy_primitives::{Signature, TxKind, keccak256};
use k256::ecdsa::SigningKey;

use super::*;
use crate::accounts::tests::{Tagged, rich, signed};
use crate::genesis::GenesisAccount;
use crate::store::Store;

const ETHER: u64 = 1_000_000_000_000_000_000;
const PROPOSER: Address = Address::repeat_byte(0x99);
const OTHER: Address = Address::repeat_byte(0x22);

struct Chain {
    _folder: tempfile::TempDir,
    store: Store,
    rules: ChainRules,
}

impl Chain {
    fn new(edit: impl FnOnce(&mut Genesis)) -> Self {
        let mut genesis = Genesis::from_json(include_str!("../../tests/frozen/genesis_v1.json")).unwrap();
        genesis.chain_id = 7;
        genesis.fork = Fork::Osaka;
        genesis.alloc = [(rich().1, GenesisAccount { balance: U256::from(ETHER), ..Default::default() })].into();
        edit(&mut genesis);
        genesis.check().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db"), Default::default()).unwrap();
        let (block, diff) = genesis_block(&genesis).unwrap();
        store.commit(&block, &[], &[], &diff).unwrap();
        let mut rules = ChainRules::of(&genesis);
        rules.proposers.insert(PROPOSER);
        Self { _folder: folder, store, rules }
    }

    /// Builds the next block and has it validated as another node would.
    fn next(&self, txs: Vec<Tx>) -> (Block, Executed) {
        let snapshot = self.store.snapshot().unwrap();
        let candidates = txs.into_iter().map(|tx| {
            let sender = self.rules.accounts.sender(&tx).unwrap();
            (tx, sender)
        });
        let (block, built) = build(&snapshot, &self.rules, PROPOSER, 0, candidates).unwrap();
        let judged = validate(&snapshot, &self.rules, None, &block).unwrap();
        assert_eq!(judged.receipts, built.receipts);
        self.store.commit(&block, &[1], &built.receipts, &built.diff).unwrap();
        (block, built)
    }

    fn balance(&self, address: Address) -> U256 {
        self.store.snapshot().unwrap().account(address).unwrap().map_or(U256::ZERO, |account| account.balance)
    }

    /// What a call to `to` with `data` returns on the newest state.
    fn ask(&self, to: Address, data: impl Into<Bytes>) -> Bytes {
        let snapshot = self.store.snapshot().unwrap();
        let head = snapshot.head_block().unwrap();
        let tx = TxEnv {
            gas_limit: self.rules.block_gas_limit,
            kind: TxKind::Call(to),
            data: data.into(),
            chain_id: Some(7),
            ..Default::default()
        };
        let result = call(snapshot.latest(), &self.rules, head.header(), tx).unwrap();
        assert!(result.is_success(), "{result:?}");
        result.into_output().unwrap()
    }

    /// Why a block with these transactions, made by a chain of other rules, is refused.
    fn refuses(&self, other: &ChainRules, txs: Vec<Tx>) -> String {
        let snapshot = self.store.snapshot().unwrap();
        let candidates = txs.into_iter().map(|tx| {
            let sender = other.accounts.sender(&tx).unwrap();
            (tx, sender)
        });
        let (block, made) = build(&snapshot, other, PROPOSER, 0, candidates).unwrap();
        assert!(!made.receipts.is_empty(), "the other chain takes it");
        match validate(&snapshot, &self.rules, None, &block) {
            Err(BlockError::Invalid(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }
}

fn transfer(nonce: u64, edit: impl FnOnce(&mut TxEip1559)) -> TxEip1559 {
    let mut tx = TxEip1559 {
        chain_id: 7,
        nonce,
        gas_limit: 100_000,
        to: TxKind::Call(OTHER),
        value: U256::from(1),
        ..Default::default()
    };
    edit(&mut tx);
    tx
}

#[test]
fn contracts_can_read_the_hashes_of_blocks_that_were() {
    let chain = Chain::new(|_| {});
    let hashes: Vec<_> = (0..4).map(|_| chain.next(Vec::new()).0.hash()).collect();
    // The contract of EIP-2935 and the opcode BLOCKHASH: the head is block 4, its own hash is not known in it.
    let read = |number: u64, code: bool| {
        let data = U256::from(number).to_be_bytes::<32>();
        if !code {
            return chain.ask(HISTORY_STORAGE_ADDRESS, data);
        }
        // A call that makes a contract runs the code itself: PUSH1 number, BLOCKHASH, return.
        let snapshot = chain.store.snapshot().unwrap();
        let head = snapshot.head_block().unwrap();
        let init = [&[0x60, number as u8, 0x40, 0x5f, 0x52, 0x60, 0x20, 0x5f, 0xf3][..]].concat();
        let tx = TxEnv {
            gas_limit: 200_000,
            kind: TxKind::Create,
            data: init.into(),
            chain_id: Some(7),
            ..Default::default()
        };
        call(snapshot.latest(), &chain.rules, head.header(), tx).unwrap().into_output().unwrap()
    };
    for (number, hash) in (1u64..4).zip(&hashes) {
        assert_eq!(read(number, false), Bytes::copy_from_slice(hash.as_slice()), "contract, block {number}");
        assert_eq!(read(number, true), Bytes::copy_from_slice(hash.as_slice()), "opcode, block {number}");
    }
    assert_eq!(read(4, true), Bytes::from(vec![0; 32]));
    let old = Chain::new(|genesis| genesis.fork = Fork::Prague);
    assert!(old.store.snapshot().unwrap().account(HISTORY_STORAGE_ADDRESS).unwrap().is_none());
}

#[test]
fn an_account_takes_the_code_it_signed_for() {
    // Returns 42; called through an account that has delegated to it.
    let code: Bytes = hex::decode("602a5f5260205ff3").unwrap().into();
    let contract = Address::repeat_byte(0x44);
    let chain = Chain::new(|genesis| {
        genesis.alloc.insert(contract, GenesisAccount { code, nonce: 1, ..Default::default() });
    });
    let authority = SigningKey::from_slice(&[5; 32]).unwrap();
    let authorization = Authorization { chain_id: U256::from(7), address: contract, nonce: 0 };
    let (signature, recovery) = authority.sign_prehash_recoverable(authorization.signature_hash().as_slice()).unwrap();
    let bytes = signature.to_bytes();
    let (r, s) = (U256::from_be_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..]));
    let authorization = authorization.into_signed(Signature::new(r, s, recovery.is_y_odd()));
    let account = authorization.recover_authority().unwrap();
    let tx = TxEip7702 {
        chain_id: 7,
        gas_limit: 200_000,
        to: OTHER,
        authorization_list: vec![authorization],
        ..Default::default()
    };
    let (signature, recovery) = rich().0.sign_prehash_recoverable(tx.signature_hash().as_slice()).unwrap();
    let bytes = signature.to_bytes();
    let (r, s) = (U256::from_be_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..]));
    let tx: Tx = tx.into_signed(Signature::new(r, s, recovery.is_y_odd())).into();
    let old = ChainRules { fork: Fork::Prague, ..chain.rules.clone() };
    assert!(block::check_form(&tx, 7, old.fork).unwrap_err().contains("osaka"));
    let (_, executed) = chain.next(vec![tx]);
    assert_eq!((executed.receipts.len(), executed.receipts[0].tx_type), (1, 4));
    let stored = chain.store.snapshot().unwrap().account(account).unwrap().unwrap();
    assert_eq!(stored.nonce, 1);
    let code = chain.store.snapshot().unwrap().code(stored.code_hash).unwrap().unwrap();
    assert_eq!(code, Bytes::from([&[0xef, 0x01, 0x00], contract.as_slice()].concat()));
    assert_eq!(U256::from_be_slice(&chain.ask(account, Bytes::new())), U256::from(42));
}

#[test]
fn the_base_fee_is_destroyed_and_the_tip_goes_where_the_genesis_says() {
    let chain = Chain::new(|genesis| (genesis.base_fee, genesis.fee_recipient) = (1000, Some(OTHER)));
    let paid = transfer(0, |tx| (tx.max_fee_per_gas, tx.max_priority_fee_per_gas) = (5000, 30));
    let (block, executed) = chain.next(vec![signed(paid, &rich().0)]);
    let gas = executed.receipts[0].gas_used;
    assert_eq!((gas, block.header().base_fee_per_gas, block.header().beneficiary), (21_000, Some(1000), PROPOSER));
    assert_eq!(chain.balance(OTHER), U256::from(1 + gas * 30));
    assert_eq!(chain.balance(PROPOSER), U256::ZERO);
    assert_eq!(chain.balance(rich().1), U256::from(ETHER - 1 - gas * 1030));
    let free = signed(transfer(1, |tx| tx.max_fee_per_gas = 999), &rich().0);
    assert_eq!(chain.next(vec![free.clone()]).1.receipts.len(), 0);
    let generous = ChainRules { base_fee: 0, ..chain.rules.clone() };
    assert!(chain.refuses(&generous, vec![free]).to_lowercase().contains("gas price is less than basefee"));
}

#[test]
fn a_block_over_a_limit_is_refused() {
    let chain = Chain::new(|_| {});
    let big =
        |nonce| signed(transfer(nonce, |tx| (tx.input, tx.gas_limit) = (vec![0; 90_000].into(), 4_000_000)), &rich().0);
    let small = Chain::new(|genesis| genesis.block_bytes_max = 256 << 10);
    let reason = small.refuses(&chain.rules, vec![big(0), big(1), big(2)]);
    assert!(reason.contains("block_bytes_max"), "{reason}");
    // The builder leaves out what has no room.
    assert_eq!(small.next(vec![big(0), big(1), big(2)]).1.receipts.len(), 2);

    // EIP-7825: at most 2^24 gas a transaction, whatever the block has room for.
    let greedy = signed(transfer(0, |tx| tx.gas_limit = (1 << 24) + 1), &rich().0);
    let before = ChainRules { fork: Fork::Prague, ..chain.rules.clone() };
    let reason = chain.refuses(&before, vec![greedy]);
    assert!(reason.contains("16777217") || reason.contains("gas limit"), "{reason}");
    assert_eq!(chain.rules.transaction_gas_max(), 1 << 24);
    let tight = Chain::new(|genesis| genesis.block_gas_limit = 1_000_000);
    let reason = tight.refuses(&ChainRules { block_gas_limit: 30_000_000, ..tight.rules.clone() }, vec![big(0)]);
    assert!(reason.contains("gas"), "{reason}");
}

#[test]
fn a_chain_of_another_account_scheme_runs_its_own_transactions_and_no_others() {
    let key = U256::from_be_bytes(keccak256(b"a key").0);
    let sender = Tagged.address(&key.to_be_bytes::<32>());
    let mut chain = Chain::new(|genesis| {
        genesis.alloc.insert(sender, GenesisAccount { balance: U256::from(ETHER), ..Default::default() });
    });
    let ours = signed(transfer(0, |_| {}), &rich().0);
    let ethereum = chain.rules.clone();
    chain.rules.accounts = &Tagged;
    assert!(chain.refuses(&ethereum, vec![ours]).contains("no valid signature"));
    let (_, executed) = chain.next(vec![Tagged::sign(transfer(0, |_| {}), key)]);
    assert_eq!(executed.receipts[0].from, sender);
    assert_eq!(chain.balance(OTHER), U256::from(1));
}
