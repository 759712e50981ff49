//! Frames as they are written for ever, and what becomes of calls and answers on a connection.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use tokio::io::DuplexStream;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn call_to(target: u64) -> Call {
    Call { cluster: "test".into(), sender: 1, target, body: vec![1, 0xc0], ..Call::default() }
}

fn answer_of(replica: u64) -> Answer {
    Answer { replica, body: vec![1, 0xc2], incarnation: "one".into(), speaks_oldest: 1, speaks_newest: 4 }
}

fn refusal() -> Refusal {
    Refusal { code: Code::FailedPrecondition.into(), message: "no".into(), verdict: "too-old".into() }
}

#[test]
fn frames_are_frozen() {
    let frames = [
        Frame::<Call>::Ping.encode(),
        Frame::Message(call_to(2)).encode(),
        Frame::Message(answer_of(2)).encode(),
        Frame::<Answer>::Refusal(refusal()).encode(),
    ];
    let lines: Vec<String> = frames.iter().map(hex::encode).collect();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/raft-v1/peer-frames.hex");
    // A new version has a name of its own and adds a file; this one is never written again.
    if std::env::var_os("HANSE_FREEZE").is_some() && !path.exists() {
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(lines, kept.lines().collect::<Vec<_>>());

    let bytes: Vec<BytesMut> = kept.lines().map(|line| BytesMut::from(&hex::decode(line).unwrap()[..])).collect();
    assert_eq!(Frame::<Call>::decode(bytes[0].clone()), Ok(Frame::Ping));
    assert_eq!(Frame::decode(bytes[1].clone()), Ok(Frame::Message(call_to(2))));
    assert_eq!(Frame::decode(bytes[2].clone()), Ok(Frame::Message(answer_of(2))));
    assert_eq!(Frame::<Answer>::decode(bytes[3].clone()), Ok(Frame::Refusal(refusal())));
}

#[test]
fn what_is_no_frame_is_refused() {
    for bytes in [&b""[..], &[0, 1], &[3], &[1, 0xff], &[2, 0xff]] {
        assert!(Frame::<Call>::decode(BytesMut::from(bytes)).is_err(), "{bytes:?}");
    }
}

/// A peer that answers each call, with the target's number plus ten, and refuses the call to 9.
fn serve(stream: DuplexStream, silence: Duration) -> tokio::task::JoinHandle<()> {
    let (calls, called) = calls(stream, silence);
    let answers = calls.map(|call| match call {
        Ok(call) if call.target == 9 => {
            let mut status = Status::failed_precondition("not nine");
            status.metadata_mut().insert(VERDICT, MetadataValue::from_static("removed"));
            Err(status)
        }
        Ok(call) => Ok(answer_of(call.target + 10)),
        Err(status) => Err(status),
    });
    tokio::spawn(called.answer(answers))
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_calls_and_a_refusal_is_the_last() {
    let (here, there) = tokio::io::duplex(64);
    let serving = serve(there, PATIENCE);
    let answers = call(here, stream::iter([1, 2, 3, 9, 4].map(call_to)), PATIENCE);
    tokio::pin!(answers);
    for replica in [11, 12, 13] {
        assert_eq!(answers.next().await.unwrap().unwrap(), answer_of(replica));
    }
    let status = answers.next().await.unwrap().unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "not nine"));
    assert_eq!(status.metadata().get(VERDICT).unwrap(), "removed");
    assert!(answers.next().await.is_none());
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_calls_lives_as_long_as_both_say_that_they_are_there() {
    let (here, there) = tokio::io::duplex(64);
    let serving = serve(there, Duration::from_secs(4));
    let (sender, receiver) = mpsc::channel(1);
    let calls = stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|call| (call, receiver)));
    let answers = call(here, calls, Duration::from_secs(1));
    tokio::pin!(answers);
    assert!(tokio::time::timeout(Duration::from_secs(600), answers.next()).await.is_err(), "nothing was asked");
    sender.send(call_to(1)).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap(), answer_of(11));
    assert!(!serving.is_finished());
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_has_gone() {
    // A peer that takes everything and says nothing.
    let (here, _there) = tokio::io::duplex(1 << 20);
    let answers = call(here, stream::pending(), Duration::from_secs(1));
    tokio::pin!(answers);
    let begun = tokio::time::Instant::now();
    let status = answers.next().await.unwrap().unwrap_err();
    assert_eq!((status.code(), begun.elapsed().as_secs()), (Code::Unavailable, 2), "{status}");
    // A caller that is connected and says nothing.
    let (_here, there) = tokio::io::duplex(64);
    let begun = tokio::time::Instant::now();
    serve(there, Duration::from_secs(4)).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 4);
}

#[tokio::test]
async fn a_frame_longer_than_a_message_may_be_ends_the_connection() {
    let (mut here, there) = tokio::io::duplex(64);
    let serving = serve(there, PATIENCE);
    let length = u32::try_from(MESSAGE_BYTES_MAX + 2).unwrap();
    here.write_all(&length.to_be_bytes()).await.unwrap();
    let (mut reading, _writing) = halves(here);
    let Some(Ok(Frame::Refusal(refusal))) = next_frame::<_, Answer>(&mut reading, PATIENCE).await else {
        panic!("no refusal")
    };
    assert!(refusal.message.contains("broke"), "{refusal:?}");
    serving.await.unwrap();
}
