//! Clouds and their machines: the laws that hold whatever comes in whatever order, and frozen bytes of version 5.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use hanse_state::cloud::{MachineState, query};
use hanse_state::cluster::version::Version;
use hanse_state::codec::*;
use hanse_state::{Actor, Request};
use proptest::prelude::*;

use super::parse::{self, Args};
use super::wire::{frozen, read_and_written_alike};
use super::world::{self, World, actor, request_id};

/// What may come: each with the machines `m1`, `m2` and a host that is none.
const LINES: [&str; 24] = [
    "root AddCloud most=1",
    "root AddCloud",
    "root AddCloud cloud=west",
    "root RemoveCloud",
    "oda CreateMachine",
    "oda CreateMachine",
    "oda CreateMachine machine=m2 cloud=west",
    "oda CreateMachine machine=m2 key=B",
    "oda CreateMachine machine=h3",
    "system RecordMachineIntent Create",
    "system RecordMachineIntent Create machine=m2",
    "system RecordMachineFact Launched",
    "system RecordMachineFact Launched machine=m2 instance=i-2",
    "system RecordMachineFact Answers",
    "system RecordMachineFact Answers machine=m2 address=10.1.0.6",
    "system RecordMachineFact Ended",
    "oda DeleteMachine",
    "oda DeleteMachine machine=m2",
    "system RecordMachineIntent Delete",
    "system RecordMachineFact Gone",
    "system RecordMachineFact Gone machine=m2",
    "oda EnrolHost host=m1 address=10.1.0.5 port=30000",
    "root RetireHost host=m1",
    "system RemoveCloudOrphan machine=m1",
];

fn at_version_5() -> World {
    let mut w = World::hosts(hanse_state::consortium::policy::Policy::Majority);
    w.ok(actor("root"), parse::command(&w, &Args::parse("root RaiseClusterVersion version=5")));
    w
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_machine_is_one_host_and_a_token_is_one_machine(steps in prop::collection::vec(0..LINES.len(), 0..60)) {
        let mut w = at_version_5();
        let (mut tokens, mut lives) = (BTreeSet::new(), 0);
        for step in steps {
            let args = Args::parse(LINES[step]);
            let before = w.state.clone();
            let command = parse::command(&w, &args);
            let applied = w.send(actor(args.verb()), command);
            for machine in w.state.machines.values() {
                let was_there = before.machines.get(&machine.id).is_some_and(|old| old.token == machine.token);
                if !was_there {
                    prop_assert!(tokens.insert(machine.token), "a token came twice");
                    lives += 1;
                }
                let host = w.state.hosts.get(&machine.id);
                match machine.state {
                    MachineState::Ready => prop_assert!(host.is_some_and(|it| it.labels.contains_key("cloud"))),
                    MachineState::Requested | MachineState::Creating | MachineState::Starting
                    | MachineState::Deleting => prop_assert!(host.is_none(), "{:?} is a host already", machine.state),
                    MachineState::Ended => {}
                }
                // What the cloud may have is forgotten only by the word that it is gone.
                prop_assert!(w.state.clouds.contains_key(&machine.spec.cloud));
            }
            for old in before.machines.values().filter(|old| !w.state.machines.contains_key(&old.id)) {
                let was_asked = old.state != MachineState::Requested;
                prop_assert!(!was_asked || args.word(2) == "Gone", "{}: {:?}", LINES[step], applied.outcome);
            }
            for cloud in w.state.clouds.values() {
                let count = query::machines_of(&w.state, &cloud.id).count();
                prop_assert!(count <= usize::try_from(cloud.spec.machines_max).unwrap());
            }
        }
        prop_assert_eq!(tokens.len(), lives);
    }
}

#[test]
fn requests_of_version_5_are_read_and_written_alike() {
    let lines = [
        "AddCloud peers-from=10.2.0.0/16 public=yes",
        "RemoveCloud",
        "CreateMachine zone=r1a subnet=subnet-1 disk=20",
        "CreateMachine key=C",
        "DeleteMachine",
        "RecordMachineIntent Create token=a",
        "RecordMachineIntent Delete token=a",
        "RecordMachineFact Launched token=a",
        "RecordMachineFact Answers token=a",
        "RecordMachineFact Waiting token=a",
        "RecordMachineFact Ended token=a",
        "RecordMachineFact Gone token=a",
        "RemoveCloudOrphan",
    ];
    let w = at_version_5();
    let command = |line: &&str| parse::command(&w, &Args::parse(&format!("root {line}")));
    let request = |(n, command)| Request::new(request_id(n), Actor::SetupCode, "192.0.2.1:1", world::START, command);
    let requests: Vec<Request> = (1..).zip(lines.iter().map(command)).map(request).collect();
    assert!(requests.iter().all(|request| request.command.since() == Version(5)));
    read_and_written_alike("v5/cloud_requests.hex", &requests);
}

#[test]
fn a_state_of_version_5_with_machines_is_read_and_written_alike() {
    let made = || {
        let mut w = at_version_5();
        for line in [
            "root AddCloud",
            "oda CreateMachine",
            "oda CreateMachine machine=m2 key=C",
            "system RecordMachineIntent Create",
            "system RecordMachineFact Launched",
            "system RecordMachineFact Answers",
        ] {
            let args = Args::parse(line);
            w.ok(actor(args.verb()), parse::command(&w, &args));
        }
        w.state
    };
    let lines = frozen("v5/cloud_state.hex", || hex::encode(encode_state(&made())) + "\n");
    let decoded = decode_state(&lines[0]).unwrap();
    let states: Vec<MachineState> = decoded.machines.values().map(|it| it.state).collect();
    assert_eq!((decoded.version(), states), (Version(5), vec![MachineState::Ready, MachineState::Requested]));
    assert!(decoded == made() && encode_state(&decoded) == lines[0]);
}

#[test]
fn a_state_of_version_6_with_a_data_disk_is_read_and_written_alike() {
    let made = || {
        let mut w = at_version_5();
        for line in
            ["root RaiseClusterVersion version=6", "root AddCloud", "oda CreateMachine data=100 kind=gp3 keep=yes"]
        {
            let args = Args::parse(line);
            w.ok(actor(args.verb()), parse::command(&w, &args));
        }
        w.state
    };
    let lines = frozen("v6/disk_state.hex", || hex::encode(encode_state(&made())) + "\n");
    let decoded = decode_state(&lines[0]).unwrap();
    let disks: Vec<u32> =
        decoded.machines.values().filter_map(|it| it.spec.data_disk.as_ref()).map(|it| it.gib).collect();
    assert_eq!((decoded.version(), disks), (Version(6), vec![100]));
    assert!(decoded == made() && encode_state(&decoded) == lines[0]);
}
