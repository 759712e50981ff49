//! A watch over lost streams, dead replicas and silence.

use std::time::Duration;

use hanse_client::{Client, Code, Watch, WatchUpdate, pb};
use tonic::Status;

use crate::replica::{Authority, LONG, Replica, Script, client, client_with, header};

fn event(revision: u64) -> pb::Event {
    pb::Event { revision, resource: "tenants/acme".to_owned(), change: pb::ChangeKind::Updated.into() }
}

fn message(reached: u64, revisions: &[u64]) -> Result<pb::WatchResponse, Status> {
    let events = revisions.iter().copied().map(event).collect();
    Ok(pb::WatchResponse { header: header(reached), events, resync: false })
}

async fn next(watch: &mut Watch) -> WatchUpdate {
    tokio::time::timeout(LONG, watch.next()).await.expect("the test hangs").unwrap()
}

fn told(update: &WatchUpdate) -> String {
    match update {
        WatchUpdate::Connected { .. } => "connected".to_owned(),
        WatchUpdate::Changes { revision, events } => {
            format!("{revision}: {:?}", events.iter().map(|event| event.revision).collect::<Vec<_>>())
        }
        WatchUpdate::Heartbeat { revision } => format!("{revision}: alive"),
        WatchUpdate::Resync { revision } => format!("{revision}: resync"),
        WatchUpdate::Lost { .. } => "lost".to_owned(),
    }
}

#[tokio::test]
async fn resumes_after_the_last_revision_without_telling_twice() {
    let authority = Authority::new();
    let script = Script::of([]);
    script.watches.lock().unwrap().extend([
        vec![message(5, &[4, 5]), message(6, &[]), message(7, &[7])],
        vec![message(8, &[7, 8]), Err(Status::unavailable("going down"))],
        vec![Ok(pb::WatchResponse { header: header(900), events: vec![], resync: true })],
    ]);
    let replica = Replica::start(&authority, &script).await;
    let mut watch = client(&authority, &[&replica.address]).watch(3, "tenants/");

    let mut story = Vec::new();
    let end = loop {
        match tokio::time::timeout(LONG, watch.next()).await.expect("the test hangs") {
            Ok(update) => story.push(told(&update)),
            Err(error) => break error,
        }
    };

    assert_eq!(
        story,
        [
            "connected",
            "5: [4, 5]",
            "6: alive",
            "7: [7]",
            "lost",
            "connected",
            "8: [8]",
            "lost",
            "connected",
            "900: resync",
            "lost"
        ]
    );
    assert_eq!(end.code, Code::Unauthenticated, "an ended session is final");
    assert_eq!(*script.watched.lock().unwrap(), [3, 7, 8, 900]);
}

#[tokio::test]
async fn goes_to_another_replica_when_one_dies() {
    let authority = Authority::new();
    let (first, second) = (Script::of([]), Script::of([]));
    first.watches.lock().unwrap().push_back(vec![message(5, &[5])]);
    second.watches.lock().unwrap().push_back(vec![message(6, &[6])]);
    let one = Replica::start(&authority, &first).await;
    let two = Replica::start(&authority, &second).await;
    let client: Client = client(&authority, &[&one.address, &two.address]);
    let mut watch = client.watch(4, "");
    assert_eq!(next(&mut watch).await, WatchUpdate::Connected { address: one.address.clone() });
    assert_eq!(told(&next(&mut watch).await), "5: [5]");

    drop(one);

    assert_eq!(told(&next(&mut watch).await), "lost");
    while !matches!(next(&mut watch).await, WatchUpdate::Connected { address } if address == two.address) {}
    assert_eq!(told(&next(&mut watch).await), "6: [6]");
    assert_eq!(watch.revision(), 6);
}

#[tokio::test]
async fn silence_is_a_loss() {
    let authority = Authority::new();
    // A peer that takes the connection and never says a word.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = client_with(&authority, &[&address], |timeouts| {
        timeouts.attempt = Duration::from_millis(300);
    });
    let mut watch = client.watch(0, "");

    assert_eq!(told(&next(&mut watch).await), "lost");
    drop(listener);
}
