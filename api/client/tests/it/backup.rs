//! A backup over replicas that are down, not leading, or lost half-way: whole in the end, and not tried for ever.

use std::time::Duration;

use hanse_client::{BackupPart, Client, ClientError, Code, pb};
use tonic::Status;

use crate::replica::{Authority, LONG, Replica, Script, client, client_with, header, nobody};

type Message = Result<pb::CreateBackupResponse, Status>;

fn part(content: &str) -> Message {
    Ok(pb::CreateBackupResponse { header: header(7), content: content.as_bytes().to_vec() })
}

fn away() -> Message {
    Err(Status::unavailable("this replica is not the leader"))
}

/// What came, begun anew where the client says so.
async fn create(client: &Client) -> Result<String, ClientError> {
    let mut content = Vec::new();
    let made = client.create_backup::<ClientError>(pb::CreateBackupRequest::default(), |part| {
        match part {
            BackupPart::Begin => content.clear(),
            BackupPart::Content(bytes) => content.extend_from_slice(bytes),
        }
        Ok(())
    });
    tokio::time::timeout(LONG, made).await.expect("the test hangs")?;
    Ok(String::from_utf8(content).unwrap())
}

#[tokio::test]
async fn more_replicas_that_are_down_or_do_not_lead_than_tries_do_not_matter() {
    let authority = Authority::new();
    let script = Script::of([]);
    let lists = [vec![away()], vec![away()], vec![part("whole "), part("backup")]];
    script.backups.lock().unwrap().extend(lists);
    let replica = Replica::start(&authority, &script).await;
    let down = [nobody().await, nobody().await, nobody().await];
    let client = client(&authority, &[&down[0], &down[1], &down[2], &replica.address]);

    assert_eq!(create(&client).await.unwrap(), "whole backup");
}

#[tokio::test]
async fn a_lost_connection_begins_anew_and_five_that_brought_something_are_enough() {
    let authority = Authority::new();
    let script = Script::of([]);
    let lost = || vec![part("half "), away()];
    script.backups.lock().unwrap().extend([lost(), lost(), vec![part("whole")]]);
    let replica = Replica::start(&authority, &script).await;
    let client = client(&authority, &[&replica.address]);
    assert_eq!(create(&client).await.unwrap(), "whole");

    script.backups.lock().unwrap().extend((0..6).map(|_| lost()));
    let error = create(&client).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::Unavailable, "this replica is not the leader"));
    assert_eq!(script.backups.lock().unwrap().len(), 1, "five were begun");
}

#[tokio::test]
async fn without_any_leader_the_overall_time_ends_it_and_a_replicas_word_is_told() {
    let authority = Authority::new();
    let script = Script::of([]);
    script.backups.lock().unwrap().extend((0..100).map(|_| vec![away()]));
    let replica = Replica::start(&authority, &script).await;
    let client = client_with(&authority, &[&replica.address, &nobody().await], |timeouts| {
        timeouts.overall = Duration::from_secs(2);
    });

    let error = create(&client).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::Unavailable, "this replica is not the leader"));
}
