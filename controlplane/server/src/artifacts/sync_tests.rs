#![allow(clippy::unwrap_used)]

use std::time::SystemTime;

use hanse_state::Millis;
use hanse_state::artifact::Word;

use super::*;
use crate::artifacts::Held;

fn digest(content: &[u8]) -> Digest {
    Digest::of(content)
}

/// Puts all of `content` in pieces of `step`.
fn put(store: &ArtifactStore, content: &[u8], step: usize) -> Digest {
    let sha256 = digest(content);
    let mut held = store.held(&sha256).unwrap();
    while !held.whole {
        let from = usize::try_from(held.bytes).unwrap();
        let piece = &content[from..content.len().min(from + step)];
        held = store.put(&sha256, content.len() as u64, held.bytes, piece).unwrap();
    }
    sha256
}

fn artifact(sha256: Digest, kind: ArtifactKind) -> Artifact {
    Artifact {
        sha256,
        name: "ledgerd".into(),
        version: "1".into(),
        kind,
        size_bytes: 1,
        files: 1,
        program: String::new(),
        word: Word::Unsigned { reason: "a test".into() },
        imported_by: "accounts/root".into(),
        imported_at: Millis(1),
    }
}

fn naming(artifacts: &[Artifact]) -> State {
    State { artifacts: artifacts.iter().map(|it| (it.sha256, it.clone())).collect(), ..State::default() }
}

#[test]
fn a_file_comes_in_pieces_goes_on_after_a_restart_and_is_named_only_with_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let (sha256, size) = (digest(&content), content.len() as u64);
    let store = ArtifactStore::open(dir.path(), 0).unwrap();
    assert_eq!(store.put(&sha256, size, 0, &content[..1_000]).unwrap(), Held { bytes: 1_000, whole: false });
    // A piece from elsewhere is not taken: the answer says where to go on.
    assert_eq!(store.put(&sha256, size, 5_000, &content[5_000..6_000]).unwrap().bytes, 1_000);
    assert_eq!(store.put(&sha256, size, 0, &content[..1_000]).unwrap().bytes, 1_000);
    assert!(matches!(store.path(&sha256), Err(StoreError::Missing(_))));
    // Another process goes on; the hash of the beginning is read from the disk.
    let store = ArtifactStore::open(dir.path(), 0).unwrap();
    assert_eq!(put(&store, &content, 70_001), sha256);
    assert_eq!(std::fs::read(store.path(&sha256).unwrap()).unwrap(), content);
    let (total, piece) = store.read(&sha256, size - 10).unwrap();
    assert_eq!((total, piece.as_slice()), (size, &content[content.len() - 10..]));
}

#[test]
fn content_with_another_hash_is_dropped_and_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(dir.path(), 0).unwrap();
    let sha256 = digest(b"right");
    assert!(matches!(store.put(&sha256, 5, 0, b"wrong"), Err(StoreError::Hash { .. })));
    assert_eq!(store.held(&sha256).unwrap(), Held { bytes: 0, whole: false });
    assert!(store.put(&sha256, 5, 0, b"right").unwrap().whole);
    assert!(matches!(store.put(&digest(b"x"), 1, 0, b"xy"), Err(StoreError::Size(_))));
    assert!(matches!(store.put(&digest(b"x"), ARTIFACT_BYTES_MAX + 1, 0, b"x"), Err(StoreError::Size(_))));
}

#[test]
fn what_rots_on_the_disk_is_found_and_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(dir.path(), 0).unwrap();
    let sha256 = put(&store, b"a program", 4);
    let one = artifact(sha256, ArtifactKind::Program);
    assert_eq!(look(&store, &one, true), Found::Whole { files: 1 });
    std::fs::write(store.path(&sha256).unwrap(), b"a progrbm").unwrap();
    assert_eq!(look(&store, &one, false), Found::Whole { files: 1 }, "without reading nobody can know");
    let Found::Damaged { files: 0, reason } = look(&store, &one, true) else { panic!("not found") };
    assert!(reason.contains(&sha256.to_string()), "{reason}");
    assert!(matches!(look(&store, &one, true), Found::Partial { files: 0, .. }), "it is dropped, to be fetched again");
}

#[test]
fn the_last_of_the_disk_is_the_logs() {
    let dir = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(dir.path(), u64::MAX / 2).unwrap();
    let refused = store.put(&digest(b"x"), 1, 0, b"x").unwrap_err();
    assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was written");
}

#[test]
fn a_bundle_is_known_by_its_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(dir.path(), 0).unwrap();
    let (program, library) = (put(&store, b"program", 9), digest(b"library"));
    let text = format!(
        r#"{{"version":1,"program":"bin/x","files":{{"bin/x":"{program}","lib/y":"{library}","lib/z":"{library}"}}}}"#
    );
    let manifest = put(&store, text.as_bytes(), 50);
    let bundle = artifact(manifest, ArtifactKind::Bundle);
    assert!(matches!(look(&store, &bundle, false), Found::Partial { files: 2, .. }));
    assert!(
        matches!(store.measure(&manifest, ArtifactKind::Bundle), Err(StoreError::Missing(hash)) if hash == library)
    );
    put(&store, b"library", 9);
    assert_eq!(look(&store, &bundle, true), Found::Whole { files: 3 });
    let bytes = text.len() as u64 + 14;
    assert_eq!(store.measure(&manifest, ArtifactKind::Bundle).unwrap(), (bytes, 3, "bin/x".to_owned()));
    assert!(matches!(store.measure(&program, ArtifactKind::Bundle), Err(StoreError::Manifest { .. })));
}

#[test]
fn only_what_no_artifact_names_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(dir.path(), 0).unwrap();
    let (kept, given_up, fresh, stale) =
        (put(&store, b"kept", 9), put(&store, b"given up", 9), put(&store, b"fresh", 9), put(&store, b"stale", 9));
    let both = [artifact(kept, ArtifactKind::Program), artifact(given_up, ArtifactKind::Program)];
    let wanted = clear(&store, &naming(&both), &BTreeSet::new()).unwrap();
    assert_eq!(wanted, [kept, given_up].into(), "everything is fresh, nothing goes");
    let long_ago = SystemTime::now() - KEEP - Duration::from_secs(60);
    for sha256 in [kept, stale] {
        std::fs::File::options()
            .append(true)
            .open(store.path(&sha256).unwrap())
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
    std::fs::write(dir.path().join("a note of somebody"), "stays").unwrap();
    clear(&store, &naming(&both[..1]), &wanted).unwrap();
    assert!(store.path(&kept).is_ok() && store.path(&fresh).is_ok());
    assert!(store.path(&given_up).is_err(), "what was named a moment ago goes at once");
    assert!(store.path(&stale).is_err(), "what nobody imported goes after a day");
    assert!(dir.path().join("a note of somebody").exists());
}
