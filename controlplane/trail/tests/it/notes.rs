//! Notes and checkpoints: others' examples, a frozen one of ours, and every changed byte.

use std::path::Path;

use hanse_trail::{Checkpoint, CheckpointError, NoteError, SigningKey, VerifierKey, note};

/// The example in the documentation of Go's `golang.org/x/mod/sumdb/note`.
const GO_PRIVATE: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const GO_PUBLIC: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const GO_TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const GO_SIGNATURE: &str = "\u{2014} PeterNeumann \
    x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

/// A file of version 1, which every later build must read and write alike; written once, with `UPDATE_GOLDEN` set, if it is missing.
pub(crate) fn frozen(name: &str, fresh: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/audit-v1").join(name);
    if !path.exists() && std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, fresh).unwrap();
    }
    std::fs::read_to_string(path).unwrap()
}

pub(crate) fn key() -> SigningKey {
    SigningKey::parse(&note::private_text(&hanse_trail::origin("test"), &[7; 32])).unwrap()
}

pub(crate) fn checkpoint() -> Checkpoint {
    Checkpoint {
        origin: hanse_trail::origin("test"),
        size: 3,
        root: [1; 32],
        chain: [2; 32],
        cluster: "019aa000-0000-7000-8000-000000000001".into(),
        at_ms: 1_780_000_000_000,
    }
}

#[test]
fn notes_are_those_of_go() {
    let key = SigningKey::parse(GO_PRIVATE).unwrap();
    assert_eq!(key.public().to_string(), GO_PUBLIC);
    let note = key.sign(GO_TEXT);
    assert_eq!(note, format!("{GO_TEXT}\n{GO_SIGNATURE}"));
    let public = VerifierKey::parse(GO_PUBLIC).unwrap();
    assert_eq!(public.open(&note), Ok(GO_TEXT));
    // A witness adds its signature; ours still counts, and theirs is not looked at.
    let cosigned = format!("{note}\u{2014} witness.example AAAAAAAAAA==\n");
    assert_eq!(public.open(&cosigned), Ok(GO_TEXT));
    // A key whose id is not its own, and a text that a terminal would not show as it is, though it is signed.
    assert!(matches!(VerifierKey::parse(&GO_PUBLIC.replace("c74f", "c74e")), Err(NoteError::Key(_))));
    assert!(matches!(public.open(&key.sign("two\r\nlines\n")), Err(NoteError::Format(_))));
    // The key's own name with another id is another key.
    assert_eq!(public.open(&note.replace("x08go", "y08go")), Err(NoteError::Unsigned(GO_PUBLIC.into())));
    assert_eq!(public.open(&note.replace("ZJku", "ZJkv")), Err(NoteError::Forged("PeterNeumann".into())));
}

#[test]
fn a_private_key_is_written_and_read() {
    let text = note::private_text("x", &[9; 32]);
    let key = SigningKey::parse(&text).unwrap();
    assert_eq!(format!("{key:?}"), "SigningKey(x)");
    assert_eq!(VerifierKey::parse(&key.public().to_string()).as_ref(), Ok(key.public()));
    for bad in ["", "x", &text[12..], &text.replace("+x+", "+y+"), &text[..text.len() - 4], &text.replace("+x+", "++")]
    {
        assert!(matches!(SigningKey::parse(bad), Err(NoteError::Key(_))), "{bad}");
    }
}

#[test]
fn a_checkpoint_is_the_frozen_one_and_every_changed_byte_is_found() {
    let note = checkpoint().sign(&key());
    let frozen = frozen("checkpoint.txt", &note);
    assert_eq!(note, frozen);
    let public = key().public().clone();
    assert_eq!(Checkpoint::open(&frozen, &public), Ok(checkpoint()));
    assert_eq!(Checkpoint::open_unverified(&frozen), Ok(checkpoint()));
    for at in 0..frozen.len() {
        for bit in 0..8 {
            let mut bytes = frozen.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            // What is no text cannot even be asked about.
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            assert!(Checkpoint::open(&changed, &public).is_err(), "byte {at} bit {bit}: {changed}");
        }
    }
    for at in 0..frozen.len() {
        let cut = frozen.get(..at).is_none_or(|cut| Checkpoint::open(cut, &public).is_err());
        assert!(cut, "cut at {at}");
    }
}

#[test]
fn a_text_that_is_signed_but_no_checkpoint_is_refused() {
    let (key, good) = (key(), checkpoint().text());
    let public = key.public().clone();
    let more = key.sign(&format!("{good}something newer\n"));
    assert_eq!(Checkpoint::open(&more, &public), Ok(checkpoint()));
    for (from, to) in [
        ("\n3\n", "\n03\n"),
        ("\n3\n", "\n+3\n"),
        ("\n3\n", "\n\n"),
        ("AQEB", "AQE"),
        ("chain 02", "chain 0"),
        ("chain 02", "chain 0G"),
        ("cluster", "klaster"),
        ("time 1", "time -1"),
    ] {
        let bad = key.sign(&good.replacen(from, to, 1));
        let found = Checkpoint::open(&bad, &public);
        assert!(matches!(found, Err(CheckpointError::Format(_))), "{from:?} as {to:?}: {found:?}");
    }
    let foreign = SigningKey::parse(GO_PRIVATE).unwrap();
    let note = checkpoint().sign(&foreign);
    assert!(matches!(Checkpoint::open(&note, &public), Err(CheckpointError::Note(NoteError::Unsigned(_)))));
    assert!(matches!(Checkpoint::open(&note, foreign.public()), Err(CheckpointError::Format(_))));
}
