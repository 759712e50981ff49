//! Software that the platform keeps: it comes to one replica, is soon with all, and is what its name says.

use std::path::PathBuf;

use hanse_proto::v1 as pb;
use hanse_state::Digest;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tonic::Code;

use crate::harness::*;

fn sha256(content: &[u8]) -> String {
    Digest::of(content).to_string()
}

/// Puts a whole file in pieces, going on where the answer says.
async fn put(client: &Client, content: &[u8], step: usize) -> Result<(), tonic::Status> {
    let mut at = 0;
    loop {
        let request = pb::PutContentRequest {
            request_id: request_id(),
            sha256: sha256(content),
            size_bytes: content.len() as u64,
            offset: at as u64,
            data: content[at..content.len().min(at + step)].to_vec(),
        };
        let held = client.artifacts().put_content(request).await?.into_inner().content.unwrap();
        if held.whole {
            return Ok(());
        }
        at = usize::try_from(held.received_bytes).unwrap();
    }
}

fn import(sha256: &str, version: &str, size: u64) -> pb::ImportArtifactRequest {
    pb::ImportArtifactRequest {
        request_id: request_id(),
        validate_only: false,
        sha256: sha256.into(),
        title: "ledgerd".into(),
        version: version.into(),
        kind: pb::ArtifactKind::Program.into(),
        size_bytes: size,
        files: 1,
        program: String::new(),
        publisher: String::new(),
        signature: String::new(),
        unsigned_reason: "a build of our own".into(),
    }
}

async fn copies(client: &Client, sha256: &str) -> Vec<pb::Copy> {
    let request = pb::GetArtifactRequest { sha256: sha256.into() };
    client.artifacts().get_artifact(request).await.unwrap().into_inner().copies
}

async fn all_whole(client: &Client, sha256: &str, files: u32) {
    wait_for("every replica has it", async || {
        let copies = copies(client, sha256).await;
        let whole = |copy: &pb::Copy| copy.state() == pb::CopyState::Whole && copy.files == files;
        (copies.len() == 3 && copies.iter().all(whole)).then_some(())
    })
    .await;
}

fn file(cluster: &Cluster, replica: u64, sha256: &str) -> PathBuf {
    cluster.dir.path().join(format!("artifacts-{replica}")).join(sha256)
}

#[tokio::test]
async fn a_program_comes_to_all_replicas_what_rots_is_found_and_fetched_and_what_is_given_up_goes() {
    let cluster = Cluster::start(3).await;
    let root = cluster.bootstrapped().await;
    // By a follower: pieces go to the leader whichever replica a client found.
    let follower = cluster.client(cluster.follower().await).await.with_token(&root.token);
    let content: Vec<u8> = (0..800_000u32).flat_map(u32::to_le_bytes).collect();
    let (hash, size) = (sha256(&content), content.len() as u64);

    let early = root.artifacts().import_artifact(import(&hash, "1", size)).await.unwrap_err();
    assert_eq!((early.code(), reason(&early).as_str()), (Code::FailedPrecondition, "CONTENT_MISSING"));
    let only_check = pb::ImportArtifactRequest { validate_only: true, ..import(&hash, "1", size) };
    root.artifacts().import_artifact(only_check).await.unwrap();
    put(&follower, &content, 1 << 20).await.unwrap();
    let lie = root.artifacts().import_artifact(import(&hash, "1", size - 1)).await.unwrap_err();
    assert_eq!((lie.code(), metadata(&lie, "field").as_str()), (Code::InvalidArgument, "size_bytes"));
    let made = root.artifacts().import_artifact(import(&hash, "1", size)).await.unwrap().into_inner().artifact.unwrap();
    assert_eq!((made.imported_by.as_str(), made.unsigned_reason.as_str()), ("accounts/root", "a build of our own"));
    all_whole(&root, &hash, 1).await;
    for replica in 1..=3 {
        assert_eq!(std::fs::read(file(&cluster, replica, &hash)).unwrap(), content);
    }

    // One byte of one copy changes on the disk.
    let victim = cluster.follower().await.id;
    let mut rotten = content.clone();
    rotten[1_000_000] ^= 1;
    std::fs::write(file(&cluster, victim, &hash), &rotten).unwrap();
    let check = pb::VerifyArtifactRequest { request_id: request_id(), sha256: hash.clone() };
    let found = wait_for("the comparison", async || {
        let found = root.artifacts().verify_artifact(check.clone()).await.unwrap().into_inner().copies;
        found.iter().all(|copy| copy.state() != pb::CopyState::Checking).then_some(found)
    })
    .await;
    for copy in &found {
        let expected = if copy.replica == victim.to_string() { pb::CopyState::Damaged } else { pb::CopyState::Whole };
        assert_eq!(copy.state(), expected, "{copy:?}");
    }
    all_whole(&root, &hash, 1).await;
    assert_eq!(std::fs::read(file(&cluster, victim, &hash)).unwrap(), content, "fetched anew");

    let delete = pb::DeleteArtifactRequest { request_id: request_id(), validate_only: false, sha256: hash.clone() };
    root.artifacts().delete_artifact(delete).await.unwrap();
    wait_for("every copy is gone", async || {
        (1..=3).all(|replica| !file(&cluster, replica, &hash).exists()).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_signed_bundle_is_taken_on_the_word_of_a_pinned_publisher_only() {
    let cluster = Cluster::start(3).await;
    let root = cluster.bootstrapped().await;
    let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
    let (program, library) = (b"program".as_slice(), b"library".as_slice());
    let manifest = format!(
        r#"{{"version":1,"program":"bin/x","files":{{"bin/x":"{}","lib/y":"{}"}}}}"#,
        sha256(program),
        sha256(library)
    );
    let hash = sha256(manifest.as_bytes());
    let text = format!("hanse artifact v1\nsha256: {hash}\nkind: bundle\nname: injectived\nversion: 1.20.1\n");
    let request = || pb::ImportArtifactRequest {
        title: "injectived".into(),
        kind: pb::ArtifactKind::Bundle.into(),
        files: 2,
        program: "bin/x".into(),
        publisher: "injective-labs".into(),
        signature: hex::encode(pair.sign(text.as_bytes())),
        unsigned_reason: String::new(),
        ..import(&hash, "1.20.1", manifest.len() as u64 + 14)
    };
    for content in [manifest.as_bytes(), program, library] {
        put(&root, content, 5).await.unwrap();
    }
    let unknown = root.artifacts().import_artifact(request()).await.unwrap_err();
    assert_eq!((unknown.code(), metadata(&unknown, "field").as_str()), (Code::NotFound, "publisher"));
    let pin = pb::PinPublisherRequest {
        request_id: request_id(),
        validate_only: false,
        publisher: "injective-labs".into(),
        public_key: hex::encode(pair.public_key()),
    };
    root.artifacts().pin_publisher(pin).await.unwrap();
    let renamed = pb::ImportArtifactRequest { version: "1.20.2".into(), ..request() };
    let renamed = root.artifacts().import_artifact(renamed).await.unwrap_err();
    assert_eq!((renamed.code(), metadata(&renamed, "field").as_str()), (Code::InvalidArgument, "signature"));
    let wordless = pb::ImportArtifactRequest { publisher: String::new(), signature: String::new(), ..request() };
    let wordless = root.artifacts().import_artifact(wordless).await.unwrap_err();
    assert_eq!((wordless.code(), metadata(&wordless, "field").as_str()), (Code::InvalidArgument, "signature"));
    let made = root.artifacts().import_artifact(request()).await.unwrap().into_inner().artifact.unwrap();
    assert_eq!((made.publisher.as_str(), made.files), ("injective-labs", 2));
    all_whole(&root, &hash, 3).await;

    // Content of another hash is refused and leaves nothing.
    let bad = pb::PutContentRequest {
        request_id: request_id(),
        sha256: sha256(b"right"),
        size_bytes: 5,
        offset: 0,
        data: b"wrong".to_vec(),
    };
    let bad = root.artifacts().put_content(bad).await.unwrap_err();
    assert_eq!((bad.code(), metadata(&bad, "field").as_str()), (Code::InvalidArgument, "data"));
    cluster.stop().await;
}
