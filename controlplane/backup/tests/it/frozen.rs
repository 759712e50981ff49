//! Files that version 1 wrote; every later build must read them and seal the same bytes alike.
#![allow(clippy::unwrap_used)]

use hanse_backup::{Protection, Reader};

use super::world::{World, fixtures, key, seal, verify};

/// One whole and one incremental backup with a key, one whole without.
fn fresh() -> Vec<(&'static str, Vec<u8>)> {
    let mut world = World::new();
    world.work(3);
    let whole = world.content(1, None);
    let plain = seal(&whole, Protection::Plain, 3);
    let whole = seal(&whole, Protection::Key(&key()), 1);
    let head = verify(&[&whole], Protection::Key(&key())).unwrap().remove(0).head;
    world.work(2);
    let next = seal(&world.content(2, Some(&head)), Protection::Key(&key()), 2);
    vec![("whole", whole), ("incremental", next), ("plain", plain)]
}

fn frozen(name: &str) -> Vec<u8> {
    let path = fixtures().join(format!("{name}.hex"));
    if !path.exists() && std::env::var_os("UPDATE_GOLDEN").is_some() {
        let bytes = fresh().into_iter().find(|(found, _)| *found == name).unwrap().1;
        std::fs::create_dir_all(fixtures()).unwrap();
        std::fs::write(&path, hex::encode(bytes) + "\n").unwrap();
    }
    hex::decode(std::fs::read_to_string(path).unwrap().trim()).unwrap()
}

#[test]
fn backups_of_version_1_verify() {
    let (whole, next, plain) = (frozen("whole"), frozen("incremental"), frozen("plain"));
    let found = verify(&[&whole, &next], Protection::Key(&key())).unwrap();
    assert_eq!(found.iter().map(|one| one.head.revision).collect::<Vec<_>>(), [6, 9]);
    assert_eq!(found[1].state.audit.count, 9);
    assert_eq!(verify(&[&plain], Protection::Plain).unwrap()[0].head, found[0].head);
}

#[test]
fn the_same_content_is_sealed_to_the_same_bytes() {
    for (name, salt) in [("whole", 1), ("incremental", 2), ("plain", 3)] {
        let (bytes, key) = (frozen(name), key());
        let protection = if name == "plain" { Protection::Plain } else { Protection::Key(&key) };
        let mut reader = Reader::new(bytes.as_slice(), protection).unwrap();
        let mut content = Vec::new();
        while let Some(chunk) = reader.next_chunk().unwrap() {
            content.extend(chunk);
        }
        assert_eq!(seal(&content, protection, salt), bytes, "{name}");
    }
}
