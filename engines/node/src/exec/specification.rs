//! Blocks as Ethereum's executable specification runs them: `tests/vectors/make.py` wrote what comes
//! out of each, from the reference that the protocol's own tests are filled with. Every opcode and
//! precompile, random programs, delegations, and transactions that no block may hold.
#![allow(clippy::unwrap_used)]

use alloy_eips::Decodable2718;
use serde::Deserialize;

use super::*;
use crate::genesis::GenesisAccount;
use crate::store::Store;

#[derive(Deserialize)]
struct Vectors {
    chain_id: u64,
    base_fee: u64,
    gas_limit: u64,
    timestamp: u64,
    parent_hash: B256,
    coinbase: Address,
    blocks: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    alloc: std::collections::BTreeMap<Address, GenesisAccount>,
    transactions: Vec<Bytes>,
    invalid: Vec<Invalid>,
    state_root: B256,
    receipts_root: B256,
    transactions_root: B256,
    bloom: Bloom,
    gas_used: u64,
}

#[derive(Deserialize)]
struct Invalid {
    /// So many transactions of the block stand before it.
    after: usize,
    raw: Bytes,
    why: String,
}

fn run(vectors: &Vectors, case: &Case) {
    let mut genesis = Genesis::from_json(include_str!("../../tests/frozen/genesis_v1.json")).unwrap();
    (genesis.chain_id, genesis.base_fee, genesis.block_gas_limit) =
        (vectors.chain_id, vectors.base_fee, vectors.gas_limit);
    (genesis.fork, genesis.alloc) = (Fork::Osaka, case.alloc.clone());
    // Who signs has money, unless the case says otherwise.
    let signers = case.transactions.iter().chain(case.invalid.iter().map(|invalid| &invalid.raw));
    for raw in signers {
        let sender = Ethereum.sender(&Tx::decode_2718_exact(raw).unwrap()).unwrap();
        let rich = || GenesisAccount { balance: U256::from(10).pow(U256::from(21)), ..Default::default() };
        genesis.alloc.entry(sender).or_insert_with(rich);
    }
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("db"), Default::default()).unwrap();
    let (block, diff) = genesis_block(&genesis).unwrap();
    store.commit(&block, &[], &[], &diff).unwrap();

    let rules = ChainRules::of(&genesis);
    let limits = (vectors.gas_limit, vectors.base_fee);
    let mut header = block::open_header(vectors.parent_hash, 1, vectors.coinbase, vectors.timestamp * 1000, limits);
    let snapshot = store.snapshot().unwrap();
    let mut run = Run::new(&snapshot, &rules, &header).unwrap();
    let mut transactions = Vec::new();
    for index in 0..=case.transactions.len() {
        for invalid in case.invalid.iter().filter(|invalid| invalid.after == index) {
            let tx = Tx::decode_2718_exact(&invalid.raw).unwrap();
            let refused = run.transact(&tx, Ethereum.sender(&tx).unwrap());
            assert!(matches!(refused, Err(BlockError::Invalid(_))), "{}: {}: {refused:?}", case.name, invalid.why);
        }
        let Some(raw) = case.transactions.get(index) else { break };
        let tx = Tx::decode_2718_exact(raw).unwrap();
        run.transact(&tx, Ethereum.sender(&tx).unwrap())
            .unwrap_or_else(|error| panic!("{}: transaction {index}: {error}", case.name));
        transactions.push(tx);
    }
    header.transactions_root = calculate_transaction_root(&transactions);
    run.finish(&mut header).unwrap();
    assert_eq!(header.gas_used, case.gas_used, "{}: gas", case.name);
    assert_eq!(header.receipts_root, case.receipts_root, "{}: receipts root", case.name);
    assert_eq!(header.logs_bloom, case.bloom, "{}: bloom", case.name);
    assert_eq!(header.transactions_root, case.transactions_root, "{}: transactions root", case.name);
    assert_eq!(header.state_root, case.state_root, "{}: state root", case.name);
}

#[test]
fn blocks_do_what_the_specification_says() {
    let own = include_str!("../../tests/vectors/osaka.json").to_owned();
    let text = std::env::var("HANSE_VECTORS").map_or(own, |path| std::fs::read_to_string(path).unwrap());
    let vectors: Vectors = serde_json::from_str(&text).unwrap();
    assert!(vectors.blocks.len() > 100, "{} blocks", vectors.blocks.len());
    for case in &vectors.blocks {
        run(&vectors, case);
    }
    let transactions: usize = vectors.blocks.iter().map(|case| case.transactions.len()).sum();
    let refused: usize = vectors.blocks.iter().map(|case| case.invalid.len()).sum();
    println!("{} blocks, {transactions} transactions, {refused} refused", vectors.blocks.len());
}
