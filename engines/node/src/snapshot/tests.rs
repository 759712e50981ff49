//! Chains made offline by the keys of all validators, exported, spoiled, imported and joined.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use alloy_consensus::TxEip1559;
use alloy_primitives::TxKind;
use arc_malachitebft_core_types::{CommitCertificate, CommitSignature, NilOrVal, Round, VoteType};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::accounts::tests::{rich, signed};
use crate::config::{CONFIG_FILE, NodeConfig, PeerConfig};
use crate::consensus::context::{Cx, Height, Vote};
use crate::consensus::wire::CertificateForm;
use crate::exec::ChainRules;
use crate::genesis::{GENESIS_FILE, GenesisAccount, GenesisValidator};
use crate::keys::NodeKey;
use crate::node;

/// Blocks of the short test; the long one is `HANSE_JOIN_BLOCKS=100000 cargo nextest run --release -p hanse-node joins`.
const BLOCKS: u64 = 300;

fn keys() -> Vec<NodeKey> {
    (1..=4).map(|n| NodeKey::from_seed([n; 32])).collect()
}

fn genesis() -> Genesis {
    let mut genesis = Genesis::from_json(include_str!("../../tests/frozen/genesis_v1.json")).unwrap();
    (genesis.chain_id, genesis.fork, genesis.genesis_time_ms) = (7, Fork::Osaka, 1_700_000_000_000);
    genesis.validators = keys().iter().map(|k| GenesisValidator { public_key: k.public_key(), power: 1 }).collect();
    genesis.alloc = (0..50u8)
        .map(|n| (Address::repeat_byte(n + 1), GenesisAccount { balance: U256::from(n + 1), ..Default::default() }))
        .collect();
    let balance = U256::from(10).pow(U256::from(20));
    genesis.alloc.insert(rich().1, GenesisAccount { balance, ..Default::default() });
    let code = Bytes::from(vec![0x60, 0x01, 0x60, 0x00, 0x55]);
    let storage = [(B256::repeat_byte(1), B256::repeat_byte(2)), (B256::repeat_byte(3), B256::repeat_byte(4))].into();
    genesis.alloc.insert(Address::repeat_byte(0xcc), GenesisAccount { code, nonce: 1, storage, ..Default::default() });
    genesis
}

fn certificate(chain: B256, block: &Block, signers: &[NodeKey]) -> Bytes {
    let (height, round, value) = (Height(block.number()), Round::new(0), NilOrVal::Val(block.hash()));
    let signatures = signers.iter().map(|key| {
        let vote = Vote { height, round, value, kind: VoteType::Precommit, voter: key.node_id() };
        CommitSignature::new(key.node_id(), key.signing().sign(&vote.sign_bytes(&chain)))
    });
    let certificate: CommitCertificate<Cx> =
        CommitCertificate { height, round, value_id: block.hash(), commit_signatures: signatures.collect() };
    CertificateForm::from(&certificate).encode()
}

/// A chain of `count` blocks, a transfer in each hundredth; returns the chain's identity.
fn make_chain(store: &Store, count: u64) -> B256 {
    let genesis = genesis();
    let (first, diff) = exec::genesis_block(&genesis).unwrap();
    store.commit(&first, &[], &[], &diff).unwrap();
    let (rules, keys) = (ChainRules::of(&genesis), keys());
    // Only the last block has to survive a power cut.
    store.set_lazy(true);
    for number in 1..=count {
        store.set_lazy(number < count);
        let snapshot = store.snapshot().unwrap();
        let transaction = match number {
            // Makes a contract whose code is no one's in the genesis: 6001.
            1 => Some((0, TxKind::Create, Bytes::from(vec![0x61, 0x60, 1, 0x5f, 0x52, 0x60, 2, 0x60, 30, 0xf3]))),
            number if number % 100 == 0 => {
                let to = Address::from_slice(&number.to_be_bytes().repeat(3)[..20]);
                Some((number / 100, TxKind::Call(to), Bytes::new()))
            }
            _ => None,
        };
        let transaction = transaction.map(|(nonce, to, input)| {
            let value = if to.is_create() { U256::ZERO } else { U256::from(number) };
            let tx = TxEip1559 { chain_id: 7, nonce, gas_limit: 100_000, to, value, input, ..Default::default() };
            (signed(tx, &rich().0), rich().1)
        });
        let proposer = keys[(number % 4) as usize].node_id().0;
        let time = genesis.genesis_time_ms + number * 1000;
        let (block, made) = exec::build(&snapshot, &rules, proposer, time, transaction.into_iter()).unwrap();
        assert_eq!(made.receipts.iter().filter(|receipt| !receipt.success).count(), 0);
        let certificate = certificate(first.hash(), &block, &keys[..3]);
        store.commit(&block, &certificate, &made.receipts, &made.diff).unwrap();
    }
    first.hash()
}

struct World {
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
    summary: Summary,
    chain: B256,
}

fn world(blocks: u64) -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("db"), Default::default()).unwrap();
    let chain = make_chain(&store, blocks);
    let mut bytes = Vec::new();
    let summary = export(&store.snapshot().unwrap(), &genesis(), &mut bytes).unwrap();
    World { folder, bytes, summary, chain }
}

impl World {
    fn import(&self, name: &str, bytes: &[u8], trusted: Option<B256>) -> (PathBuf, Result<Summary, String>) {
        let home = self.folder.path().join(name);
        let taken = import(&home, &genesis(), &Default::default(), trusted, &mut &bytes[..]);
        (home, taken.map_err(|error| error.chain()))
    }

    /// The snapshot with records changed by `edit`; one that it makes `None` is left out.
    fn spoil(&self, mut edit: impl FnMut(&mut Record) -> bool) -> Vec<u8> {
        let mut input = &self.bytes[MAGIC.len()..];
        let mut out = MAGIC.to_vec();
        let mut changed = false;
        loop {
            let mut record = next(&mut input).unwrap();
            let before = rmp_serde::to_vec(&record).unwrap();
            let kept = edit(&mut record);
            changed |= !kept || before != rmp_serde::to_vec(&record).unwrap();
            if kept {
                put(&mut out, &record).unwrap();
            }
            if matches!(record, Record::End) {
                assert!(changed, "nothing was spoiled");
                return out;
            }
        }
    }
}

#[test]
fn a_snapshot_gives_the_same_state_and_says_what_it_lacks() {
    let world = world(BLOCKS);
    let (home, taken) = world.import("new", &world.bytes, None);
    assert_eq!(taken.unwrap(), world.summary);
    assert_eq!((world.summary.height, world.summary.slots > 250), (BLOCKS, true));
    let old_store = Store::open(&world.folder.path().join("db"), Default::default()).unwrap();
    let new_store = Store::open(&home.join("data/ledger.redb"), Default::default()).unwrap();
    let (old, new) = (old_store.snapshot().unwrap(), new_store.snapshot().unwrap());
    assert_eq!(new.head_block().unwrap(), old.head_block().unwrap());
    old.each_account(|address, record| {
        assert_eq!(new.account(address).unwrap(), Some(record));
        Ok(())
    })
    .unwrap();
    // All proofs are there, older states and blocks are not, and hashes reach as far back as the opcode.
    let contract = Address::repeat_byte(0xcc);
    let slots = [U256::from_be_bytes([1; 32]), U256::ZERO];
    let (a, b) = (old.latest().prove(contract, &slots).unwrap(), new.latest().prove(contract, &slots).unwrap());
    assert_eq!((a.nodes, a.storage[0].nodes.clone()), (b.nodes, b.storage[0].nodes.clone()));
    assert_eq!((new.oldest_state().unwrap(), new.oldest_block().unwrap()), (BLOCKS, BLOCKS));
    assert!(new.state_at(BLOCKS - 1).unwrap().is_none() && new.block(BLOCKS - 1).unwrap().is_none());
    for number in BLOCKS - 256..=BLOCKS {
        assert_eq!(new.block_hash(number).unwrap(), old.block_hash(number).unwrap());
    }
    drop((old, new, old_store, new_store));
    // A home with a chain is not touched.
    let refused = world.import("new", &world.bytes, None).1.unwrap_err();
    assert!(refused.contains("it holds a chain already"), "{refused}");
}

/// Frozen: a snapshot of five blocks as version 1 writes it must stay readable.
#[test]
fn the_frozen_snapshot_of_version_1_is_read() {
    let frozen = include_bytes!("../../tests/frozen/snapshot_v1.bin");
    let folder = tempfile::tempdir().unwrap();
    let taken = import(folder.path(), &genesis(), &Default::default(), None, &mut frozen.as_slice()).unwrap();
    assert_eq!((taken.height, taken.accounts, taken.slots), (5, 54, 7));
    assert_eq!(taken.hash.to_string(), "0x0a7efcc4504a70df26bd57edc6936e99670a29092c6fbd0171011125c9c4104c");
}

#[test]
fn a_false_snapshot_is_refused_and_leaves_nothing() {
    let world = world(5);
    let flip = |bytes: &mut Bytes, at: usize| {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        *bytes = changed.into();
    };
    let head = |edit: &dyn Fn(&mut Bytes, &mut Bytes)| {
        world.spoil(|record| {
            if let Record::Head { block, certificate, .. } = record {
                edit(block, certificate);
            }
            true
        })
    };
    let made = Block::decode(head_block(&world)).unwrap();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "account",
            world.spoil(|r| {
                if let Record::Accounts(bytes) = r {
                    flip(bytes, 20 + 39);
                }
                true
            }),
        ),
        (
            "slot",
            world.spoil(|r| {
                if let Record::Slots(bytes) = r {
                    flip(bytes, SLOT_BYTES - 1);
                }
                true
            }),
        ),
        ("code", world.spoil(|r| !matches!(r, Record::Code(_)))),
        ("accounts left out", world.spoil(|r| !matches!(r, Record::Accounts(_)))),
        (
            "chain",
            world.spoil(|r| {
                if let Record::Head { chain, .. } = r {
                    *chain = B256::ZERO;
                }
                true
            }),
        ),
        (
            "receipts",
            world.spoil(|r| {
                if let Record::Head { receipts, .. } = r {
                    receipts.push(StoredReceipt {
                        tx_type: 2,
                        success: true,
                        gas_used: 1,
                        cumulative_gas_used: 1,
                        from: Address::ZERO,
                        contract: None,
                        logs: Vec::new(),
                    });
                }
                true
            }),
        ),
        ("two signers of four", head(&|_, c| *c = certificate(world.chain, &made, &keys()[..2]))),
        (
            "strangers",
            head(&|_, c| {
                let strangers: Vec<_> = (50..54).map(|n| NodeKey::from_seed([n; 32])).collect();
                *c = certificate(world.chain, &made, &strangers);
            }),
        ),
        ("another chain's signatures", head(&|_, c| *c = certificate(B256::ZERO, &made, &keys()))),
        ("cut", world.bytes[..world.bytes.len() - 1].to_vec()),
        ("flipped", {
            let mut bytes = world.bytes.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        }),
        ("nothing", Vec::new()),
        ("other version", [b"HSNP\x02".as_slice(), &world.bytes[5..]].concat()),
    ];
    for (n, (what, bytes)) in cases.iter().enumerate() {
        let (home, taken) = world.import(&format!("spoiled{n}"), bytes, None);
        let error = taken.expect_err(what);
        assert!(error.contains("snapshot") || error.contains("the state"), "{what}: {error}");
        let store = Store::open(&home.join("data/ledger.redb"), Default::default()).unwrap();
        assert_eq!(store.snapshot().unwrap().head().unwrap(), None, "{what}");
        assert!(!home.join("data/ledger.redb.part").exists(), "{what}");
    }
}

fn head_block(world: &World) -> Bytes {
    match next(&mut &world.bytes[MAGIC.len()..]).unwrap() {
        Record::Head { block, .. } => block,
        _ => panic!("a snapshot begins with its block"),
    }
}

#[test]
fn a_trusted_hash_stands_for_the_genesis_validators_but_not_for_the_certificate() {
    let world = world(5);
    let hash = world.summary.hash;
    assert!(world.import("right", &world.bytes, Some(hash)).1.is_ok());
    let refused = world.import("wrong", &world.bytes, Some(B256::ZERO)).1.unwrap_err();
    assert!(refused.contains("not the trusted"), "{refused}");
    let made = Block::decode(head_block(&world)).unwrap();
    let weak = world.spoil(|record| {
        if let Record::Head { certificate: c, .. } = record {
            *c = certificate(world.chain, &made, &keys()[..2]);
        }
        true
    });
    let refused = world.import("weak", &weak, Some(hash)).1.unwrap_err();
    assert!(refused.contains("does not prove block 5"), "{refused}");
}

/// Writes key, genesis and configuration of one of two nodes that know each other.
fn home(
    folder: &Path,
    me: &NodeKey,
    seed: u8,
    ports: (SocketAddr, SocketAddr),
    peer: (&NodeKey, SocketAddr),
) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let home = folder.join(me.node_id().to_string());
    std::fs::create_dir_all(home.join("keys")).unwrap();
    let key = home.join("keys/node.key");
    std::fs::write(&key, hex::encode([seed; 32])).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(home.join(GENESIS_FILE), serde_json::to_string(&genesis()).unwrap()).unwrap();
    let config = NodeConfig {
        version: 1,
        chain: String::new(),
        p2p_listen: ports.0,
        rpc_listen: ports.1,
        log: "info".to_owned(),
        mempool: Default::default(),
        fast_join: true,
        history: Default::default(),
        rpc: Default::default(),
        metrics: Default::default(),
        peers: vec![PeerConfig { node_id: peer.0.node_id(), public_key: peer.0.public_key(), address: peer.1 }],
    };
    std::fs::write(home.join(CONFIG_FILE), config.to_toml().unwrap()).unwrap();
    home
}

fn ports() -> [SocketAddr; 4] {
    let held: Vec<_> = (0..4).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    std::array::from_fn(|n| held[n].local_addr().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_joins_by_a_peers_snapshot() {
    let blocks = std::env::var("HANSE_JOIN_BLOCKS").map_or(BLOCKS, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32]));
    let [a, b, c, d] = ports();
    let old_home = home(folder.path(), &old, 1, (a, b), (&new, c));
    let new_home = home(folder.path(), &new, 2, (c, d), (&old, a));
    let made = Instant::now();
    std::fs::create_dir_all(old_home.join("data")).unwrap();
    {
        let store = Store::open(&old_home.join("data/ledger.redb"), Default::default()).unwrap();
        make_chain(&store, blocks);
    }
    println!("{blocks} blocks made in {:?}", made.elapsed());
    let stop = CancellationToken::new();
    let run = |home: PathBuf| {
        let stop = stop.clone();
        tokio::spawn(async move { node::run(&home, stop).await })
    };
    let running = run(old_home);
    wait_connect(b).await;
    let start = Instant::now();
    let joined = run(new_home.clone());
    wait_connect(d).await;
    let took = start.elapsed();
    println!("joined a chain of {blocks} blocks in {took:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
    stop.cancel();
    running.await.unwrap().unwrap();
    joined.await.unwrap().unwrap();
    let store = Store::open(&new_home.join("data/ledger.redb"), Default::default()).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!((snapshot.head().unwrap(), snapshot.oldest_block().unwrap()), (Some(blocks), blocks));
}

/// Waits until JSON-RPC answers, which it does only after the join.
async fn wait_connect(address: SocketAddr) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        if let Ok(mut stream) = tokio::net::TcpStream::connect(address).await {
            let body = r#"{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}"#;
            let request = format!(
                "POST / HTTP/1.1\r\nHost: n\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let mut answer = [0u8; 64];
            if stream.write_all(request.as_bytes()).await.is_ok()
                && matches!(tokio::time::timeout(Duration::from_secs(1), stream.read(&mut answer)).await, Ok(Ok(1..)))
            {
                return;
            }
        }
        assert!(Instant::now() < until, "{address} does not answer");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
