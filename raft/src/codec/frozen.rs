//! What replicas say to each other, frozen: two builds in one cluster must read each other's bytes.

#![allow(clippy::unwrap_used)]

use std::fmt::Debug;
use std::path::PathBuf;

use super::*;

/// Checks that a value is encoded as ever and reads back as itself.
fn frozen<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, values: &[T]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../fixtures/raft-v1/peer-{name}.hex"));
    let lines: Vec<String> = values.iter().map(|value| hex::encode(encode(value))).collect();
    // A new message adds a file; an existing one is never written again.
    if std::env::var_os("HANSE_FREEZE").is_some() && !path.exists() {
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(lines, kept.lines().collect::<Vec<_>>(), "{name} is encoded otherwise than {}", path.display());
    for (line, value) in kept.lines().zip(values) {
        assert_eq!(&decode::<T>(&hex::decode(line).unwrap()).unwrap(), value, "{name}");
    }
}

#[test]
fn messages_between_replicas_are_frozen() {
    let (at, vote) = (LogIdV1 { term: 3, leader: 2, index: 41 }, VoteV1 { term: 3, replica: 2, committed: true });
    let next = LogIdV1 { index: 42, ..at };
    let entries = vec![
        EntryV1 { id: at, payload: PayloadV1::Blank },
        EntryV1 { id: next, payload: PayloadV1::Request(Bytes::from_static(b"request")) },
    ];
    frozen(
        "append",
        &[
            AppendV1 { vote, previous: Some(at), entries, commit: Some(at) },
            AppendV1 { vote, previous: None, entries: Vec::new(), commit: None },
        ],
    );
    let answers = [
        AppendAnswerV1::Success,
        AppendAnswerV1::Partial(Some(at)),
        AppendAnswerV1::Conflict,
        AppendAnswerV1::HigherVote(vote),
    ];
    frozen("append-answer", &answers);
    let answers = [StreamAnswerV1::Matching(Some(at)), StreamAnswerV1::Conflict(at), StreamAnswerV1::HigherVote(vote)];
    frozen("stream-answer", &answers);
    frozen("vote", &[VoteCallV1 { vote, last: Some(at), transfer: true }]);
    frozen("vote-answer", &[VoteAnswerV1 { vote, granted: true, last: Some(at) }]);
    frozen("transfer", &[TransferV1 { from: vote, to: 3, last: Some(at) }]);
    let answers = [
        TransferAnswerV1::Accepted,
        TransferAnswerV1::VoteChanged { expected: vote, actual: vote },
        TransferAnswerV1::LogNotFlushed { expected: Some(next), actual: Some(at) },
    ];
    frozen("transfer-answer", &answers);
    frozen("heads", &[HeadsV1 { last: BTreeMap::from([("audit".to_owned(), 40)]) }]);
    frozen("hello", &[HelloV1 { holds_data: true }]);
}
