//! A host that shows another key than the pinned one: who may trust it, and what everyone sees until then.

use hanse_proto::v1 as pb;
use hanse_state::Command;
use hanse_state::host::RecordHostKeyChanged;
use tonic::Code;

use crate::harness::*;

fn fingerprint(letter: &str) -> String {
    format!("SHA256:{}", letter.repeat(43))
}

fn accept(letter: &str) -> pb::AcceptHostKeyRequest {
    let fingerprint = fingerprint(letter);
    pb::AcceptHostKeyRequest { request_id: request_id(), validate_only: false, host: "h1".into(), fingerprint }
}

fn pinned(host: &pb::Host) -> String {
    match &host.reach {
        Some(pb::host::Reach::Ssh(ssh)) => ssh.fingerprint.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_new_host_key_is_shown_and_only_the_platform_trusts_it() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let owner = root.tenant("acme").await;
    let reach = pb::SshReach {
        address: "10.0.0.5".into(),
        port: 22,
        user: "hanse".into(),
        fingerprint: fingerprint("A"),
        root: "/var/lib/hanse".into(),
        ..Default::default()
    };
    let enrol = pb::EnrolHostRequest {
        request_id: request_id(),
        validate_only: false,
        host: "h1".into(),
        reach: Some(pb::enrol_host_request::Reach::Ssh(reach)),
        peer_address: "10.0.0.5".into(),
        port_first: 30_000,
        port_count: 100,
        slots: 4,
        ..Default::default()
    };
    root.hosts().enrol_host(enrol).await.unwrap();
    let early = root.hosts().accept_host_key(accept("B")).await.unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition, "{early:?}");

    let changed = RecordHostKeyChanged { host: "h1".parse().unwrap(), seen: fingerprint("B"), jump: None };
    cluster.leader().await.system(Command::RecordHostKeyChanged(changed)).await;
    let seen = root.hosts().get_host(pb::GetHostRequest { host: "h1".into() }).await.unwrap();
    let seen = seen.into_inner().host.unwrap();
    assert_eq!(
        (seen.state(), pinned(&seen), &seen.seen_fingerprint),
        (pb::HostState::Distrusted, fingerprint("A"), &fingerprint("B"))
    );
    let denied = owner.hosts().accept_host_key(accept("B")).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");
    let other = root.hosts().accept_host_key(accept("C")).await.unwrap_err();
    assert!(matches!(other.code(), Code::FailedPrecondition | Code::InvalidArgument), "{other:?}");

    let only_checked = pb::AcceptHostKeyRequest { validate_only: true, ..accept("B") };
    // The answer of a check is what would be; what is has not changed.
    let would = root.hosts().accept_host_key(only_checked).await.unwrap().into_inner().host.unwrap();
    let is = root.hosts().get_host(pb::GetHostRequest { host: "h1".into() }).await.unwrap().into_inner().host.unwrap();
    assert_eq!((would.state(), is.state()), (pb::HostState::Ready, pb::HostState::Distrusted));
    let trusted = root.hosts().accept_host_key(accept("B")).await.unwrap().into_inner().host.unwrap();
    assert_eq!(
        (trusted.state(), pinned(&trusted), trusted.seen_fingerprint.as_str()),
        (pb::HostState::Ready, fingerprint("B"), "")
    );
    cluster.stop().await;
}

/// A host behind two machines, by a certificate: the second machine's key changes, and later the whole way.
#[tokio::test]
async fn the_way_to_a_host_is_shown_and_changed_by_the_platform_alone() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let owner = root.tenant("acme").await;
    let jump = |address: &str, letter: &str| pb::SshJump {
        address: address.into(),
        port: 0,
        user: "ops".into(),
        fingerprint: fingerprint(letter),
    };
    let reach = pb::SshReach {
        address: "10.0.0.5".into(),
        port: 22,
        user: "hanse".into(),
        fingerprint: fingerprint("A"),
        root: "/var/lib/hanse".into(),
        jumps: vec![jump("bastion", "C"), jump("inner", "D")],
        pins_authority: true,
        login: pb::SshLogin::Certificate.into(),
        sudo: true,
    };
    let enrol = pb::EnrolHostRequest {
        request_id: request_id(),
        host: "h1".into(),
        reach: Some(pb::enrol_host_request::Reach::Ssh(reach.clone())),
        peer_address: "10.0.0.5".into(),
        port_first: 30_000,
        port_count: 100,
        slots: 4,
        ..Default::default()
    };
    let ssh = |host: pb::Host| match host.reach {
        Some(pb::host::Reach::Ssh(ssh)) => ssh,
        other => panic!("{other:?}"),
    };
    let enrolled = root.hosts().enrol_host(enrol).await.unwrap().into_inner().host.unwrap();
    let filled = |it: pb::SshJump| pb::SshJump { port: 22, ..it };
    let shown = pb::SshReach { jumps: reach.jumps.clone().into_iter().map(filled).collect(), ..reach };
    assert_eq!(ssh(enrolled), shown);

    let changed = RecordHostKeyChanged { host: "h1".parse().unwrap(), seen: fingerprint("E"), jump: Some(1) };
    cluster.leader().await.system(Command::RecordHostKeyChanged(changed)).await;
    let seen =
        root.hosts().get_host(pb::GetHostRequest { host: "h1".into() }).await.unwrap().into_inner().host.unwrap();
    assert_eq!((seen.state(), seen.seen_machine.as_str()), (pb::HostState::Distrusted, "ops@inner:22"));
    let trusted = root.hosts().accept_host_key(accept("E")).await.unwrap().into_inner().host.unwrap();
    assert_eq!(ssh(trusted.clone()).jumps[1].fingerprint, fingerprint("E"));
    assert_eq!((trusted.seen_machine.as_str(), pinned(&trusted)), ("", fingerprint("A")));

    let change = || pb::SetHostReachRequest { request_id: request_id(), host: "h1".into(), ..Default::default() };
    let straight = pb::SetHostReachRequest {
        set_jumps: true,
        login: Some(pb::SshLogin::Agent.into()),
        fingerprint: Some(fingerprint("B")),
        ..change()
    };
    let denied = owner.hosts().set_host_reach(straight.clone()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");
    let looked = pb::SetHostReachRequest { preflight: true, ..straight.clone() };
    let unreached = root.hosts().set_host_reach(looked).await.unwrap_err();
    assert!(unreached.message().contains("no hosts in this test"), "{unreached:?}");
    let now = ssh(root.hosts().set_host_reach(straight).await.unwrap().into_inner().host.unwrap());
    assert_eq!((now.jumps.len(), now.pins_authority, now.login()), (0, false, pb::SshLogin::Agent));
    assert!(now.sudo && now.fingerprint == fingerprint("B"), "what is not named stays: {now:?}");
    for (bad, field) in [
        (pb::SetHostReachRequest { jumps: vec![jump("bastion", "C")], ..change() }, "jumps"),
        (pb::SetHostReachRequest { pins_authority: true, ..change() }, "pins_authority"),
        (pb::SetHostReachRequest { login: Some(9), ..change() }, "login"),
        (pb::SetHostReachRequest { port: Some(70_000), ..change() }, "port"),
    ] {
        let refused = root.hosts().set_host_reach(bad).await.unwrap_err();
        assert!(refused.code() == Code::InvalidArgument && refused.message().contains(field), "{field}: {refused:?}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn zone_labels_and_tenancy_are_set_by_operators_and_read_by_all_who_see_hosts() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let owner = root.tenant("acme").await;
    let enrol = pb::EnrolHostRequest {
        request_id: request_id(),
        host: "h1".into(),
        reach: Some(pb::enrol_host_request::Reach::Local(pb::LocalReach { root: "/var/lib/hanse".into() })),
        peer_address: "10.0.0.5".into(),
        port_first: 30_000,
        port_count: 100,
        slots: 4,
        zone: "rack-1".into(),
        labels: [("disk".to_owned(), "ssd".to_owned())].into(),
        ..Default::default()
    };
    root.hosts().enrol_host(enrol).await.unwrap();
    let change = || pb::SetHostPropertiesRequest { request_id: request_id(), host: "h1".into(), ..Default::default() };

    let dedicated = pb::SetHostPropertiesRequest { dedicated_to: Some("acme".into()), slots: Some(2), ..change() };
    let denied = owner.hosts().set_host_properties(dedicated.clone()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");
    let checked = pb::SetHostPropertiesRequest { validate_only: true, ..dedicated.clone() };
    root.hosts().set_host_properties(checked).await.unwrap();
    let before = root.hosts().get_host(pb::GetHostRequest { host: "h1".into() }).await.unwrap().into_inner();
    assert_eq!(before.host.unwrap().dedicated_to, "", "only checked");
    root.hosts().set_host_properties(dedicated).await.unwrap();

    let labels = [("site".to_owned(), "north".to_owned())].into();
    let relabel = pb::SetHostPropertiesRequest { set_labels: labels, remove_labels: vec!["disk".into()], ..change() };
    root.hosts().set_host_properties(relabel).await.unwrap();
    let host =
        root.hosts().get_host(pb::GetHostRequest { host: "h1".into() }).await.unwrap().into_inner().host.unwrap();
    assert_eq!((host.zone.as_str(), host.dedicated_to.as_str(), host.slots), ("rack-1", "acme", 2));
    assert_eq!(host.labels.into_iter().collect::<Vec<_>>(), [("site".to_owned(), "north".to_owned())]);

    let twice = pb::SetHostPropertiesRequest {
        set_labels: [("site".to_owned(), "south".to_owned())].into(),
        remove_labels: vec!["site".into()],
        ..change()
    };
    let error = root.hosts().set_host_properties(twice).await.unwrap_err();
    assert!(error.code() == Code::InvalidArgument && error.message().contains("remove_labels"), "{error:?}");
    let nobody = pb::SetHostPropertiesRequest { dedicated_to: Some("nobody".into()), ..change() };
    let error = root.hosts().set_host_properties(nobody).await.unwrap_err();
    assert!(error.code() == Code::NotFound && error.message().contains("tenants/nobody"), "{error:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_host_goes_through_maintenance_and_drain_and_is_retired_once() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let enrol = |preflight| pb::EnrolHostRequest {
        request_id: request_id(),
        host: "h1".into(),
        reach: Some(pb::enrol_host_request::Reach::Local(pb::LocalReach { root: "/var/lib/hanse".into() })),
        peer_address: "10.0.0.5".into(),
        port_first: 30_000,
        port_count: 100,
        slots: 4,
        preflight,
        ..Default::default()
    };
    // A host that cannot be looked at is not enrolled; nothing is left of the try.
    let unseen = root.hosts().enrol_host(enrol(true)).await.unwrap_err();
    assert_eq!(unseen.code(), Code::Unavailable, "{unseen:?}");
    let get = || pb::GetHostRequest { host: "h1".into() };
    assert_eq!(root.hosts().get_host(get()).await.unwrap_err().code(), Code::NotFound);
    root.hosts().enrol_host(enrol(false)).await.unwrap();

    let maintain = |reason: &str| pb::BeginHostMaintenanceRequest {
        request_id: request_id(),
        host: "h1".into(),
        reason: reason.into(),
        ..Default::default()
    };
    let unsaid = root.hosts().begin_host_maintenance(maintain("")).await.unwrap_err();
    assert!(unsaid.code() == Code::InvalidArgument && unsaid.message().contains("reason"), "{unsaid:?}");
    let host = root.hosts().begin_host_maintenance(maintain("new disk")).await.unwrap().into_inner().host.unwrap();
    assert_eq!((host.state(), host.state_reason.as_str()), (pb::HostState::Maintenance, "new disk"));

    let drain = |validate_only| pb::DrainHostRequest {
        request_id: request_id(),
        validate_only,
        host: "h1".into(),
        reason: "it is sold".into(),
        accept_outage: false,
    };
    let plan = root.hosts().drain_host(drain(true)).await.unwrap().into_inner();
    assert!(plan.nodes.is_empty());
    let is = root.hosts().get_host(get()).await.unwrap().into_inner().host.unwrap();
    assert_eq!(is.state(), pb::HostState::Maintenance, "only checked");
    let drained = root.hosts().drain_host(drain(false)).await.unwrap().into_inner().host.unwrap();
    assert_eq!(drained.state(), pb::HostState::Draining);

    let retire = pb::RetireHostRequest {
        request_id: request_id(),
        host: "h1".into(),
        reason: "it is sold".into(),
        ..Default::default()
    };
    root.hosts().retire_host(retire.clone()).await.unwrap();
    assert_eq!(root.hosts().get_host(get()).await.unwrap_err().code(), Code::NotFound);
    // The answer was lost and the call is made again: the same id, the same answer.
    root.hosts().retire_host(retire.clone()).await.unwrap();
    let again = pb::RetireHostRequest { request_id: request_id(), ..retire };
    assert_eq!(root.hosts().retire_host(again).await.unwrap_err().code(), Code::NotFound);
    cluster.stop().await;
}
