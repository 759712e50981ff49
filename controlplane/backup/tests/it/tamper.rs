//! Whatever is done to a file after it was sealed is found, and so is a file in another's place.
#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use hanse_backup::{BackupError, Head, Key, NewFile, Protection};
use proptest::prelude::*;

use super::world::{World, key, seal, verify};

/// A whole backup of several chunks and one that continues it: with a key, and without.
struct Files {
    key: Key,
    sealed: [Vec<u8>; 2],
    plain: [Vec<u8>; 2],
    head: Head,
}

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let mut world = World::new();
    world.work(800);
    let whole = world.content(1, None);
    assert!(whole.len() > 3 * 64 * 1024, "several chunks: {}", whole.len());
    let head = verify(&[&seal(&whole, Protection::Plain, 1)], Protection::Plain).unwrap().remove(0).head;
    world.work(50);
    let next = world.content(2, Some(&head));
    let key = key();
    let sealed = [seal(&whole, Protection::Key(&key), 1), seal(&next, Protection::Key(&key), 2)];
    let plain = [seal(&whole, Protection::Plain, 3), seal(&next, Protection::Plain, 4)];
    Files { key, sealed, plain, head }
});

impl Files {
    fn of(&self, is_plain: bool) -> (&[Vec<u8>; 2], Protection<'_>) {
        if is_plain { (&self.plain, Protection::Plain) } else { (&self.sealed, Protection::Key(&self.key)) }
    }
}

/// What may be done to a file.
#[derive(Clone, Debug)]
enum Harm {
    Flip { at: prop::sample::Index, bit: u8 },
    Cut { at: prop::sample::Index },
    CutAtChunk { chunk: usize },
    Append { bytes: Vec<u8> },
    SwapChunks { chunk: usize },
    DoubleChunk { chunk: usize },
    DropChunk { chunk: usize },
}

const HEADER: usize = 54;

fn chunk_bytes(is_plain: bool) -> usize {
    64 * 1024 + if is_plain { 32 } else { 16 }
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), 0_u8..8).prop_map(|(at, bit)| Harm::Flip { at, bit }),
        2 => any::<prop::sample::Index>().prop_map(|at| Harm::Cut { at }),
        1 => (0_usize..4).prop_map(|chunk| Harm::CutAtChunk { chunk }),
        1 => prop::collection::vec(any::<u8>(), 1..100).prop_map(|bytes| Harm::Append { bytes }),
        1 => (0_usize..2).prop_map(|chunk| Harm::SwapChunks { chunk }),
        1 => (0_usize..3).prop_map(|chunk| Harm::DoubleChunk { chunk }),
        1 => (0_usize..3).prop_map(|chunk| Harm::DropChunk { chunk }),
    ]
}

fn do_harm(file: &mut Vec<u8>, harm: &Harm, full: usize) {
    let at = |chunk: usize| HEADER + chunk * full;
    match harm {
        Harm::Flip { at, bit } => {
            let at = at.index(file.len());
            file[at] ^= 1 << bit;
        }
        Harm::Cut { at } => file.truncate(at.index(file.len())),
        Harm::CutAtChunk { chunk } => file.truncate(at(*chunk).min(file.len() - 1)),
        Harm::Append { bytes } => file.extend_from_slice(bytes),
        Harm::SwapChunks { chunk } => {
            let (first, second) = file[at(*chunk)..at(chunk + 2)].split_at_mut(full);
            first.swap_with_slice(second);
        }
        Harm::DoubleChunk { chunk } => {
            let copy = file[at(*chunk)..at(chunk + 1)].to_vec();
            file.splice(at(chunk + 1)..at(chunk + 1), copy);
        }
        Harm::DropChunk { chunk } => drop(file.drain(at(*chunk)..at(chunk + 1))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_harm_is_found(harm in harm(), is_plain: bool) {
        let (files, protection) = FILES.of(is_plain);
        let mut harmed = files[0].clone();
        do_harm(&mut harmed, &harm, chunk_bytes(is_plain));
        prop_assert!(harmed != files[0]);
        prop_assert!(verify(&[&harmed], protection).is_err());
    }
}

#[test]
fn untouched_files_verify() {
    for is_plain in [false, true] {
        let (files, protection) = FILES.of(is_plain);
        let found = verify(&[&files[0], &files[1]], protection).unwrap();
        assert_eq!(found[0].head, FILES.head);
        assert_eq!(found[1].state.revision, found[0].state.revision + 51);
        assert!(files[1].len() < files[0].len() * 3 / 4, "the second holds only what is new");
    }
}

#[test]
fn files_must_follow_one_another() {
    let (files, protection) = FILES.of(false);
    let fails = |files: &[&[u8]]| assert!(matches!(verify(files, protection), Err(BackupError::NotAChain(_))));
    fails(&[&files[1]]);
    fails(&[&files[1], &files[0]]);
    fails(&[&files[0], &files[0]]);
    fails(&[&files[0], &files[1], &files[1]]);

    // Another backup of the very same cluster and history in the place of the base.
    let mut world = World::new();
    world.work(800);
    let other = seal(&world.content(9, None), protection, 7);
    assert!(verify(&[&other], protection).is_ok());
    fails(&[&other, &files[1]]);
}

#[test]
fn a_key_opens_its_own_files_only_and_a_plain_file_is_not_taken_for_a_sealed_one() {
    let other = Key::generate().unwrap();
    let (files, protection) = FILES.of(false);
    assert!(matches!(verify(&[&files[0]], Protection::Key(&other)), Err(BackupError::WrongKey)));
    assert!(matches!(verify(&[&files[0]], Protection::Plain), Err(BackupError::Protection { .. })));
    assert!(matches!(verify(&[&FILES.plain[0]], protection), Err(BackupError::Protection { .. })));
    assert!(matches!(verify(&[b"no backup"], protection), Err(BackupError::NotABackup)));
    assert!(matches!(Key::parse("0001"), Err(BackupError::NotAKey)));
    let again = Key::parse(&other.to_text()).unwrap();
    assert_eq!(again.to_text(), other.to_text());
    assert!(!format!("{other:?}").contains(&other.to_text()[19..30]));
    let secret = b"$argon2id$".as_slice();
    assert!(!files[0].windows(secret.len()).any(|part| part == secret));
    assert!(FILES.plain[0].windows(secret.len()).any(|part| part == secret));
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup");
    let mut half = NewFile::create(&path).unwrap();
    half.write_all(b"half").unwrap();
    drop(half);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let mut whole = NewFile::create(&path).unwrap();
    whole.write_all(b"whole").unwrap();
    assert!(!path.exists());
    whole.finish().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"whole");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(NewFile::create(&path).is_err(), "an earlier backup is never overwritten");
}

/// A full disk: no half file under the final name, and the cause is told. `/dev/full` answers every write with ENOSPC.
#[test]
fn a_full_disk_is_told() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let (content, key) = (vec![0; 200_000], key());
    let done = hanse_backup::Writer::new(full, Protection::Key(&key)).and_then(|mut writer| {
        writer.push(&content)?;
        writer.finish()
    });
    assert!(matches!(done, Err(BackupError::Io { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull));
}
