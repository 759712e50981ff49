//! The witness file: what it accepts, what it refuses with which words, and a frozen one.

use hanse_trail::merkle::{Hash, consistency, leaf_hash, root};
use hanse_trail::{Checkpoint, Seen, Witness, WitnessError};

use crate::notes::{checkpoint, frozen, key};

fn leaves(name: &str, size: u64) -> Vec<Hash> {
    (1..=size).map(|number| leaf_hash(format!("{name} {number}").as_bytes())).collect()
}

/// What a replica with these leaves answers to a witness that saw `old`.
fn answer(leaves: &[Hash], old: u64) -> Seen {
    let size = leaves.len() as u64;
    let root = root(leaves, size).unwrap();
    let it = Checkpoint { size, root, chain: leaves.last().copied().unwrap_or_default(), ..checkpoint() };
    Seen { note: it.sign(&key()), proof: consistency(leaves, old, size).unwrap_or_default() }
}

fn file(sizes: &[u64]) -> (Witness, String) {
    let mut witness = Witness::new(key().public().clone());
    let (mut text, mut old) = (witness.head_line(), 0);
    for size in sizes {
        let seen = answer(&leaves("a", *size), old);
        witness.accept(&seen).unwrap();
        text += &seen.line();
        old = *size;
    }
    (witness, text)
}

#[test]
fn a_growing_trail_is_followed_and_the_file_is_the_frozen_one() {
    let (witness, text) = file(&[0, 1, 7, 7, 20]);
    let frozen = frozen("witness.jsonl", &text);
    assert_eq!(text, frozen);
    let read = Witness::read(&frozen).unwrap();
    assert_eq!(read.seen(), witness.seen());
    assert_eq!(read.key(), key().public());
}

#[test]
fn what_does_not_continue_is_refused_and_changes_nothing() {
    let (mut witness, _) = file(&[7, 20]);
    let refused = |witness: &mut Witness, seen: &Seen| {
        let error = witness.accept(seen).unwrap_err();
        assert_eq!(witness.seen().len(), 2);
        error
    };
    assert_eq!(refused(&mut witness, &answer(&leaves("a", 19), 20)), WitnessError::CutOff { found: 19, seen: 20 });
    let mut forged = leaves("a", 25);
    forged[3] = leaf_hash(b"forged");
    assert_eq!(refused(&mut witness, &answer(&forged, 20)), WitnessError::Changed { seen: 20 });
    assert_eq!(refused(&mut witness, &answer(&leaves("b", 20), 20)), WitnessError::Changed { seen: 20 });
    assert_eq!(refused(&mut witness, &answer(&leaves("b", 40), 20)), WitnessError::Changed { seen: 20 });
    let honest = answer(&leaves("a", 25), 20);
    assert_eq!(
        refused(&mut witness, &Seen { proof: Vec::new(), ..honest.clone() }),
        WitnessError::Changed { seen: 20 }
    );
    let unsigned = Seen { note: honest.note.replace("\n25\n", "\n26\n"), ..honest.clone() };
    assert!(matches!(refused(&mut witness, &unsigned), WitnessError::Checkpoint(_)));
    let same = leaves("a", 20);
    let other_chain = Checkpoint { size: 20, root: root(same.as_slice(), 20).unwrap(), chain: [9; 32], ..checkpoint() };
    let other_chain = Seen { note: other_chain.sign(&key()), proof: Vec::new() };
    assert_eq!(refused(&mut witness, &other_chain), WitnessError::Changed { seen: 20 });
    let foreign = Checkpoint { size: 25, cluster: "another".into(), ..checkpoint() };
    let foreign = Seen { note: foreign.sign(&key()), proof: Vec::new() };
    assert!(matches!(refused(&mut witness, &foreign), WitnessError::Foreign { .. }));
    witness.accept(&honest).unwrap();
}

#[test]
fn a_file_that_somebody_changed_is_not_read() {
    let (_, text) = file(&[3, 9, 20]);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for (what, bad) in [
        ("empty", String::new()),
        ("no head", lines[1..].concat()),
        ("another version", text.replacen("\"version\":1", "\"version\":2", 1)),
        ("a line in between is gone", [lines[0], lines[1], lines[3]].concat()),
        ("two lines changed places", [lines[0], lines[2], lines[1], lines[3]].concat()),
        ("cut off", text[..text.len() - 1].to_owned()),
        ("another proof", text.replace("\"proof\":[\"", "\"proof\":[\"00")),
        ("an unknown key", text.replacen("\"proof\":", "\"more\":1,\"proof\":", 1)),
    ] {
        assert!(Witness::read(&bad).is_err(), "{what}");
    }
    // Its end may be missing: that is why a copy of the file, or a second witness, is worth having.
    assert_eq!(Witness::read(&lines[..3].concat()).unwrap().seen().len(), 2);
}
