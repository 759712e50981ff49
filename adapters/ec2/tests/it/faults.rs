//! What happens when answers are lost, late, throttled or wrong: one machine, whatever it takes.

use std::time::{Duration, Instant};

use hanse_adapters_core::AdapterError;
use hanse_adapters_core::cloud::{Cloud, MachinePhase};
use hanse_fixtures::ec2::Server;
use hanse_fixtures::ec2::proxy::{Fault, Proxy, field};

use crate::{block_on, cloud, owner, wish};

#[test]
fn no_fault_makes_a_second_machine() {
    let dir = tempfile::tempdir().unwrap();
    let moto = Server::moto(dir.path(), &[], &[]).unwrap();
    let proxy = Proxy::before(moto.port);
    let cloud = cloud(dir.path(), &proxy.endpoint);
    block_on(async {
        // The order was carried out and nobody heard of it: unknown, and then found by its tag.
        proxy.next("RunInstances", Fault::LoseReply);
        let error = cloud.ensure(&wish("lost")).await.unwrap_err();
        assert!(matches!(error, AdapterError::Unknown { .. }), "{error:?}");
        let lost = cloud.ensure(&wish("lost")).await.unwrap();
        assert_eq!(proxy.seen("RunInstances").len(), 1, "it was looked for, not ordered again");

        // The same, said to have failed; and the cloud does not show it yet: ordered again with the same token.
        proxy.next("RunInstances", Fault::AnswerAfter(500, "InternalError"));
        let error = cloud.ensure(&wish("hidden")).await.unwrap_err();
        assert!(matches!(error, AdapterError::Unknown { .. }), "{error:?}");
        proxy.next("DescribeInstances", Fault::ShowNothing);
        let hidden = cloud.ensure(&wish("hidden")).await.unwrap();
        let orders = proxy.seen("RunInstances");
        assert_eq!(orders.len(), 3);
        assert_eq!(orders[1], orders[2], "the same order to the last parameter, or EC2 refuses its token");
        assert_ne!(field(&orders[0], "ClientToken"), field(&orders[1], "ClientToken"));

        // Found again after that, and there are two machines in all.
        assert_eq!(cloud.find(&wish("hidden").key, None).await.unwrap()[0].id, hidden.id);
        let mut all = cloud.list(&owner()).await.unwrap();
        all.sort_by(|a, b| a.machine.cmp(&b.machine));
        let ids: Vec<&str> = all.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, [hidden.id.as_str(), lost.id.as_str()]);

        // A lost answer to a deletion is looked at again as well.
        proxy.next("TerminateInstances", Fault::LoseReply);
        let error = cloud.delete(&owner(), &lost.id).await.unwrap_err();
        assert!(matches!(error, AdapterError::Unknown { .. }), "{error:?}");
        cloud.delete(&owner(), &lost.id).await.unwrap();
        let seen = cloud.find(&wish("lost").key, Some(&lost.id)).await.unwrap();
        assert!(seen.iter().all(|it| it.phase == MachinePhase::Ended), "{seen:?}");
    });
}

#[test]
fn what_is_throttled_waits_and_what_is_asked_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let moto = Server::moto(dir.path(), &[], &[]).unwrap();
    let proxy = Proxy::before(moto.port);
    let cloud = cloud(dir.path(), &proxy.endpoint);
    block_on(async {
        (0..2).for_each(|_| proxy.next("RunInstances", Fault::Refuse(503, "RequestLimitExceeded")));
        proxy.next("DescribeSubnets", Fault::AnswerAfter(500, "InternalError"));
        proxy.next("DescribeInstances", Fault::LoseReply);
        let begin = Instant::now();
        cloud.ensure(&wish("patient")).await.unwrap();
        // Two pauses of at least 100 and 200 ms, and one each for what was asked again.
        assert!(begin.elapsed() >= Duration::from_millis(300 + 100 + 100), "{:?}", begin.elapsed());
        assert_eq!(proxy.seen("RunInstances").len(), 3);
        assert_eq!(cloud.list(&owner()).await.unwrap().len(), 1);

        // For ever is too long: nothing was done, and it says so.
        (0..6).for_each(|_| proxy.next("TerminateInstances", Fault::Refuse(400, "Throttling")));
        let id = cloud.list(&owner()).await.unwrap()[0].id.clone();
        let error = cloud.delete(&owner(), &id).await.unwrap_err();
        let words = error.to_string();
        assert!(matches!(error, AdapterError::Transient { .. }) && words.contains("tried again later"), "{words}");
        assert_eq!(cloud.list(&owner()).await.unwrap().len(), 1);

        // A limit is a person's to raise.
        proxy.next("RunInstances", Fault::Refuse(400, "VcpuLimitExceeded"));
        let error = cloud.ensure(&wish("too-many")).await.unwrap_err();
        let words = error.to_string();
        assert!(
            matches!(error, AdapterError::Denied { .. }) && words.contains("have the provider raise it"),
            "{words}"
        );
    });
}

#[test]
fn where_nobody_listens_nothing_was_done() {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cloud = cloud(dir.path(), &format!("http://127.0.0.1:{port}"));
    let error = block_on(cloud.delete(&owner(), "i-0123456789abcdef0")).unwrap_err();
    assert!(matches!(error, AdapterError::Transient { .. }), "{error:?}");
}
