//! What a replica proves of its trail: roots and proofs are those of the exported lines, also after a start and over damaged files.

use std::path::Path;

use hanse_proto::v1 as pb;
use hanse_server::{Trail, ca};
use hanse_state::billing::Meter;
use hanse_state::{Command, Digest, Record, State};
use hanse_trail::merkle::{self, Hash, leaf_hash, verify_consistency, verify_inclusion};
use hanse_trail::{BLOCK_LEAVES, Checkpoint, VerifierKey};
use tonic::Code;

use crate::harness::*;

/// Records that fill two blocks and begin a third.
const RECORDS: u64 = 2 * BLOCK_LEAVES + 100;
/// Proposed at once.
const AT_ONCE: usize = 64;
/// Bytes of a block in the kept file.
const ENTRY_BYTES: u64 = 72;

async fn fill(one: &One) {
    while one.replica.local().audit.count < RECORDS {
        let meter = || one.system_try(Command::Meter(Meter { until: hanse_state::Millis(0) }));
        futures::future::join_all((0..AT_ONCE).map(|_| meter())).await;
    }
}

async fn leaves(one: &One) -> Vec<Hash> {
    let records = one.replica.history("audit", 0, 10_000).await.unwrap();
    let hash = |record: &Record| match record {
        Record::Audit(it) => leaf_hash(it.hash.as_bytes()),
        Record::Usage(_) | Record::OperationLog(_) => panic!("another kind"),
    };
    records.iter().map(hash).collect()
}

fn open(tls: &Path, data: &Path) -> Trail {
    Trail::open(tls, data, CLUSTER).unwrap()
}

fn public(tls: &Path) -> VerifierKey {
    VerifierKey::parse(&std::fs::read_to_string(tls.join(ca::AUDIT_PUBLIC)).unwrap()).unwrap()
}

#[tokio::test]
async fn roots_and_proofs_are_those_of_the_records() {
    let cluster = Cluster::start(1).await;
    let one = &cluster.members[0];
    fill(one).await;
    let (tls, data) = (cluster.dir.path().join("tls-1"), cluster.dir.path().join("kept"));
    std::fs::create_dir(&data).unwrap();
    let (trail, key) = (open(&tls, &data), public(&tls));
    let (state, leaves) = (one.replica.local(), leaves(one).await);
    let size = state.audit.count;
    let root = |size: u64| merkle::root(&leaves[..size as usize], size).unwrap();
    let proven = trail.checkpoint(&one.replica, &state).await.unwrap();
    let checkpoint = Checkpoint::open(&proven.note, &key).unwrap();
    assert_eq!((checkpoint.size, checkpoint.root), (size, root(size)));
    assert_eq!(&checkpoint.chain, state.audit.head.as_bytes());
    assert_eq!(checkpoint.cluster, state.cluster.as_ref().unwrap().id.to_string());
    assert_eq!(checkpoint.at_ms, state.now.0);
    let places = [1, 2, BLOCK_LEAVES - 1, BLOCK_LEAVES, BLOCK_LEAVES + 1, 2 * BLOCK_LEAVES + 1, size - 1, size];
    for seq in places {
        let proven = trail.inclusion(&one.replica, &state, seq).await.unwrap();
        assert!(verify_inclusion(&leaves[seq as usize - 1], seq - 1, size, &proven.proof, &checkpoint.root), "{seq}");
        let proven = trail.consistency(&one.replica, &state, seq).await.unwrap();
        assert!(verify_consistency(seq, size, &proven.proof, &root(seq), &checkpoint.root), "from {seq}");
    }
    assert!(trail.consistency(&one.replica, &state, 0).await.unwrap().proof.is_empty());
    cluster.stop().await;
}

#[tokio::test]
async fn the_kept_file_is_used_and_never_trusted() {
    let cluster = Cluster::start(1).await;
    let one = &cluster.members[0];
    fill(one).await;
    let (tls, data) = (cluster.dir.path().join("tls-1"), cluster.dir.path().join("kept"));
    std::fs::create_dir(&data).unwrap();
    let state = one.replica.local();
    let note = async || open(&tls, &data).checkpoint(&one.replica, &state).await.unwrap().note;
    let (file, first) = (data.join("audit-tree"), note().await);
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes.len() as u64, 2 * ENTRY_BYTES);
    assert_eq!(note().await, first, "from the file");
    // Really: a sound entry with another root makes another root. Whoever writes such a file is noticed by a witness.
    let mut foreign = bytes[..72].to_vec();
    foreign[0] ^= 1;
    let check = Digest::of_parts(&[b"hanse audit-tree 1", &0_u64.to_be_bytes(), &foreign[..32], &foreign[32..64]]);
    let sound = [&foreign[..64], &check.as_bytes()[..8], &bytes[72..]].concat();
    std::fs::write(&file, sound).unwrap();
    assert_ne!(note().await, first);
    for (what, content) in [
        ("a flipped bit in the first block", [foreign.as_slice(), &bytes[72..]].concat()),
        ("a flipped bit in the second", [&bytes[..72], foreign.as_slice()].concat()),
        ("blocks that changed places", [&bytes[72..], &bytes[..72]].concat()),
        ("the first block twice", [&bytes[..72], &bytes[..72]].concat()),
        ("cut off", bytes[..100].to_vec()),
        ("more than there is", [bytes.as_slice(), b"something else"].concat()),
        ("nothing", Vec::new()),
    ] {
        std::fs::write(&file, content).unwrap();
        assert_eq!(note().await, first, "{what}");
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "{what}: it is mended");
    }
    // Another trail's file, sound in itself.
    let other = Cluster::start(1).await;
    fill(&other.members[0]).await;
    let kept = other.dir.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    let theirs = open(&other.dir.path().join("tls-1"), &kept);
    theirs.checkpoint(&other.members[0].replica, &other.members[0].replica.local()).await.unwrap();
    assert_ne!(std::fs::read(kept.join("audit-tree")).unwrap(), bytes);
    std::fs::copy(kept.join("audit-tree"), &file).unwrap();
    assert_eq!(note().await, first);
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    // A folder that cannot be written to costs the next start its time, and nothing else.
    let gone = open(&tls, &data.join("gone")).checkpoint(&one.replica, &state).await.unwrap();
    assert_eq!(gone.note, first);
    other.stop().await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_replica_signs_nothing_that_the_cluster_did_not_agree_on() {
    let cluster = Cluster::start(1).await;
    let one = &cluster.members[0];
    let tls = cluster.dir.path().join("tls-1");
    let mut state = State::clone(&one.replica.local());
    state.audit.head = Digest::of(b"another trail");
    let refused = open(&tls, &tls).checkpoint(&one.replica, &state).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (Code::DataLoss, "AUDIT_BROKEN"));
    cluster.stop().await;
}

#[tokio::test]
async fn without_a_key_nothing_is_signed_and_a_foreign_key_is_refused() {
    let cluster = Cluster::start(1).await;
    let one = &cluster.members[0];
    let tls = cluster.dir.path().join("tls-1");
    let foreign = Trail::open(&tls, &tls, "another").err().unwrap().to_string();
    assert!(foreign.contains("another.hanse.internal/audit"), "{foreign}");
    std::fs::write(tls.join(ca::AUDIT_KEY), "no key").unwrap();
    assert!(Trail::open(&tls, &tls, CLUSTER).is_err());
    std::fs::remove_file(tls.join(ca::AUDIT_KEY)).unwrap();
    let refused = open(&tls, &tls).checkpoint(&one.replica, &one.replica.local()).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (Code::FailedPrecondition, "NO_AUDIT_KEY"));
    cluster.stop().await;
}

/// Over the API, from any replica: a tenant's auditor gets proofs of its own records only, and both of the trail as a whole.
#[tokio::test]
async fn proofs_over_the_api() {
    let cluster = Cluster::start(3).await;
    let root = cluster.bootstrapped().await;
    let owner = root.tenant("acme").await;
    let key = public(&cluster.dir.path().join("tls-1"));
    let mut last: Option<Checkpoint> = None;
    for one in &cluster.members {
        let mut audit = cluster.client(one).await.with_token(&owner.token).audit();
        let answer = audit.get_audit_checkpoint(pb::GetAuditCheckpointRequest {}).await.unwrap().into_inner();
        let checkpoint = Checkpoint::open(&answer.checkpoint.unwrap().note, &key).unwrap();
        if let Some(last) = &last {
            let old_size = last.size;
            let request = pb::GetAuditConsistencyProofRequest { old_size };
            let answer = audit.get_audit_consistency_proof(request).await.unwrap().into_inner();
            let now = Checkpoint::open(&answer.checkpoint.unwrap().note, &key).unwrap();
            assert!(verify_consistency(old_size, now.size, &hashes(&answer.proof), &last.root, &now.root));
        }
        last = Some(checkpoint);
    }
    let size = last.unwrap().size;
    let mut seen = 0;
    let mut audit = owner.audit();
    for seq in 1..=size {
        match audit.get_audit_record_proof(pb::GetAuditRecordProofRequest { seq }).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let checkpoint = Checkpoint::open(&answer.checkpoint.unwrap().note, &key).unwrap();
                let (number, chain) = hanse_trail::record_of(&answer.line).unwrap();
                assert!(number == seq && answer.line.contains("acme"), "{}", answer.line);
                let proof = hashes(&answer.proof);
                assert!(verify_inclusion(&leaf_hash(&chain), seq - 1, checkpoint.size, &proof, &checkpoint.root));
                seen += 1;
            }
            Err(refused) => assert_eq!(refused.code(), Code::NotFound, "{refused:?}"),
        }
    }
    assert!(seen > 0 && seen < size, "{seen} of {size}");
    let more =
        audit.get_audit_consistency_proof(pb::GetAuditConsistencyProofRequest { old_size: size + 100_000 }).await;
    let more = more.unwrap_err();
    assert_eq!((more.code(), metadata(&more, "field").as_str()), (Code::FailedPrecondition, "old_size"));
    for seq in [0, size + 100_000] {
        let none = audit.get_audit_record_proof(pb::GetAuditRecordProofRequest { seq }).await.unwrap_err();
        assert_eq!(none.code(), Code::NotFound);
    }
    cluster.stop().await;
}

fn hashes(proof: &[String]) -> Vec<Hash> {
    proof.iter().map(|hash| Hash::try_from(hex::decode(hash).unwrap()).unwrap()).collect()
}
