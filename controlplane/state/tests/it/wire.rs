//! Frozen bytes of each cluster version: what a replica wrote at it, every later one must read.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use hanse_state::cluster::version::Version;
use hanse_state::codec::*;
use hanse_state::consortium::policy::Policy;
use hanse_state::consortium::proposal::Action;
use hanse_state::{Actor, Command, Digest, Request};

use super::access::SAMPLES;
use super::parse::{self, Args};
use super::world::{self, World, request_id};

pub(crate) fn frozen(name: &str, fresh: impl Fn() -> String) -> Vec<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wire").join(name);
    if !path.exists() && std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, fresh()).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    text.lines().map(|line| hex::decode(line).unwrap()).collect()
}

/// The samples, as the log would hold them.
fn logged(samples: &[&str]) -> Vec<Request> {
    let w = World::running(4);
    let command = |sample: &&str| parse::command(&w, &Args::parse(&format!("root {sample}")));
    let request =
        |(number, command)| Request::new(request_id(number), Actor::SetupCode, "192.0.2.1:1", world::START, command);
    (1..).zip(samples.iter().map(command)).map(request).collect()
}

fn requests() -> Vec<Request> {
    let mut requests = logged(&SAMPLES);
    requests.retain(|request| request.command.since() == Version::FIRST);
    // The one in a session stands where it was frozen; commands that came later stand after it.
    let at = SAMPLES.iter().position(|sample| sample.starts_with("SetTenantMetadata")).unwrap();
    requests.insert(at + 1, requests[at].clone().in_session(world::hash("token")));
    requests
}

/// What came with version 2.
fn requests_of_version_2() -> Vec<Request> {
    let news: Vec<&str> = SAMPLES.into_iter().filter(|sample| sample.starts_with("RaiseClusterVersion")).collect();
    logged(&[news.as_slice(), &["InitCluster version=2"]].concat())
}

/// What came with version 3.
fn requests_of_version_3() -> Vec<Request> {
    logged(&[
        "RecordTransaction",
        "OpenProposal govern=acme,globex",
        "OpenProposal govern=acme,globex senders=0x1111111111111111111111111111111111111111 deployers=0x2222222222222222222222222222222222222222 nodes-restricted=1",
    ])
}

/// And what came with it for ledgers that need more than keys.
fn ledgers_of_version_3() -> Vec<Request> {
    logged(&[
        "OpenProposal template=cosmos-evm",
        "RecordNodeFact Prepared contribution=signed_claim",
        "RecordNodeFact Signed height=300 round=1 step=3",
    ])
}

/// What came with version 4 for hosts.
fn hosts_of_version_4() -> Vec<Request> {
    logged(&[
        "EnrolHost host=h3 zone=rack-1 labels=disk:ssd tenant=acme",
        "SetHostProperties host=h1 zone=rack-1 labels=disk:ssd,site: tenant=acme slots=3",
        "BeginHostMaintenance host=h1 forced=yes",
        "DrainHost host=h1",
        "RetireHost host=h1",
    ])
}

/// What came with version 4 for software that the platform keeps.
fn artifacts_of_version_4() -> Vec<Request> {
    logged(&[
        "PinPublisher",
        "ImportArtifact",
        "ImportArtifact kind=bundle files=2 program=bin/x unsigned=a_build_of_our_own",
        "DeleteArtifact",
        "UnpinPublisher",
    ])
}

/// What came with version 4: hosts that are Docker Engines.
fn docker_of_version_4() -> Vec<Request> {
    logged(&[
        "EnrolHost host=d1 address=10.0.0.7 docker=unix:///run/docker.sock",
        "EnrolHost host=d2 address=10.0.0.8 docker=tcp://127.0.0.1:2375 memory=0 cpu=0 pids=0",
    ])
}

/// What came with version 4: removal of what no node is.
fn orphans_of_version_4() -> Vec<Request> {
    logged(&["RemoveOrphan host=h1 object=trade.gone.n0 generation=3"])
}

/// What came with version 4 for the life of chains.
fn life_of_version_4() -> Vec<Request> {
    let by_hand = ["PauseChain", "ResumeChain", "UndeleteChain", "PurgeChain"];
    let facts = ["RecordIntent Remove", "RecordNodeFact Stopped", "RecordNodeFact Removed"];
    let votes = [
        "OpenProposal change=pause",
        "OpenProposal change=resume",
        "OpenProposal change=delete",
        "OpenProposal change=undelete",
        "OpenProposal change=add-nodes owners=acme,globex accept=yes",
        "OpenProposal change=remove-nodes nodes=n2,n4",
        "CreateConsortium policy=DeleteByAll",
    ];
    let rolls = ["RollChain", "RollChain accept=yes", "HaltRollout", "ContinueRollout", "RollNode", "ReleaseNode"];
    logged(&[&by_hand[..], &facts, &votes, &rolls].concat())
}

/// What came with version 5 for the life of chains: outages that are agreed to, how often nodes are started again.
fn life_of_version_5() -> Vec<Request> {
    logged(&[
        "RestartNode accept=yes",
        "OpenProposal change=remove-nodes nodes=n2 accept=yes",
        "OpenProposal change=upgrade",
        "OpenProposal change=upgrade program=own limit=60000 accept=yes",
        "RollBackChain",
        "RollBackChain risk=yes",
        "OpenProposal change=reconfigure limit=60000 accept=yes",
        "SetChainRepair restarts=0",
        "SetChainRepair",
    ])
}

/// What came with version 6 for changes of a program at one height.
fn heights_of_version_6() -> Vec<Request> {
    logged(&[
        "OpenProposal change=upgrade at=1200",
        "ExchangeProgram number=2",
        "RecordNodeFact Halted height=1200",
        "RecordUnseated",
    ])
}

/// What came with version 6 for ways back: the rolling change that one was judged for.
fn ways_back_of_version_6() -> Vec<Request> {
    logged(&["RollBackChain number=3", "RollBackChain risk=yes number=4"])
}

/// What came with version 5 for the ways to hosts.
fn ways_of_version_5() -> Vec<Request> {
    logged(&[
        "EnrolHost host=h3 jumps=bastion:C,inner:D login=certificate sudo=yes pin=authority:A",
        "EnrolHost host=h4 login=agent",
        "SetHostReach host=h1 address=10.0.0.9 port=2222 user=ops pin=authority:B jumps= login=key sudo=no",
        "SetHostReach host=h1 jumps=bastion:C",
        "RecordHostKeyChanged host=h1 seen=B jump=1",
        "RecordNodeFact Waiting output=what_was_said",
    ])
}

/// What came with version 5 for nodes that move.
fn moves_of_version_5() -> Vec<Request> {
    logged(&[
        "MoveNode to=h2",
        "MoveNode to=h2 accept=yes lost=yes",
        "RecordEvicted host=h1",
        "RecordIntent Fence",
        "RecordIntent Carry",
        "RecordIntent Clear",
        "RecordNodeFact Fenced",
        "RecordNodeFact Carried",
        "RecordNodeFact Cleared",
        "DrainHost host=h1 accept=yes",
    ])
}

/// What came with it for seats among validators, and for chains of others.
fn seats_of_version_5() -> Vec<Request> {
    logged(&[
        "OpenProposal change=add-validators nodes=n4 accept=yes",
        "OpenProposal change=remove-validators nodes=n4",
        "RecordIntent Seat",
        "RecordNodeFact Seated",
        "RecordNodeFact Seating reason=its_chain_votes",
        "ImportChain",
        "ImportChain template=cosmos-evm endpoints=a:1:2,b:1:2",
        "ForgetChain",
    ])
}

/// What came with it for disks of clouds' machines.
fn disks_of_version_6() -> Vec<Request> {
    logged(&[
        "CreateMachine data=100",
        "CreateMachine machine=m2 data=200 kind=gp3 keep=yes",
        "RemoveCloudOrphan instance=vol-1 disk=yes",
    ])
}

/// What came with version 6 for clouds that are hypervisors.
fn hypervisors_of_version_6() -> Vec<Request> {
    logged(&["AddCloud libvirt=yes endpoint=qemu+ssh://virt@h1:22/system region=rack1"])
}

/// What came with version 6 for chains of others that are taken over.
fn adoption_of_version_6() -> Vec<Request> {
    logged(&[
        "OpenProposal change=adopt owners=acme,globex accept=yes",
        "OpenProposal change=adopt owners=acme",
        "AdoptChain set=history_states:64",
        "AdoptChain nodes=n0:h1:/srv/n0",
        "GiveBackNode",
        "EndAdoption",
        "RecordIntent Return",
        "RecordNodeFact Returned",
        "RecordNodeFact Returned output=what_was_done",
        "ForgetChain lost=n0,n2",
        "AdoptChain nodes=n0:h1:/srv/n0 ports=consensus-rpc,grpc,metrics,websocket signed=90",
    ])
}

pub(crate) fn read_and_written_alike(name: &str, requests: &[Request]) {
    let fresh = || requests.iter().map(|request| hex::encode(encode_request(request)) + "\n").collect();
    let lines = frozen(name, fresh);
    let decoded: Vec<Request> = lines.iter().map(|bytes| decode_request(bytes).unwrap()).collect();
    assert_eq!(decoded, requests);
    let encoded: Vec<Vec<u8>> = decoded.iter().map(encode_request).collect();
    assert_eq!(encoded, lines);
}

#[test]
fn requests_of_each_version_are_read_and_written_alike() {
    read_and_written_alike("v1/requests.hex", &requests());
    read_and_written_alike("v2/requests.hex", &requests_of_version_2());
    read_and_written_alike("v3/requests.hex", &requests_of_version_3());
    read_and_written_alike("v3/ledger_requests.hex", &ledgers_of_version_3());
    read_and_written_alike("v4/host_requests.hex", &hosts_of_version_4());
    read_and_written_alike("v4/artifact_requests.hex", &artifacts_of_version_4());
    read_and_written_alike("v4/docker_requests.hex", &docker_of_version_4());
    read_and_written_alike("v4/orphan_requests.hex", &orphans_of_version_4());
    assert!(docker_of_version_4().iter().all(|request| request.command.since() == Version(4)));
    read_and_written_alike("v4/life_requests.hex", &life_of_version_4());
    read_and_written_alike("v5/life_requests.hex", &life_of_version_5());
    read_and_written_alike("v5/move_requests.hex", &moves_of_version_5());
    assert!(moves_of_version_5().iter().all(|request| request.command.since() == Version(5)));
    assert!(life_of_version_5().iter().all(|request| request.command.since() == Version(5)));
    read_and_written_alike("v5/way_requests.hex", &ways_of_version_5());
    read_and_written_alike("v5/seat_requests.hex", &seats_of_version_5());
    assert!(seats_of_version_5().iter().all(|request| request.command.since() == Version(5)));
    assert!(ways_of_version_5().iter().all(|request| request.command.since() == Version(5)));
    read_and_written_alike("v6/height_requests.hex", &heights_of_version_6());
    assert!(heights_of_version_6().iter().all(|request| request.command.since() == Version(6)));
    read_and_written_alike("v6/rollback_requests.hex", &ways_back_of_version_6());
    assert!(ways_back_of_version_6().iter().all(|request| request.command.since() == Version(6)));
    read_and_written_alike("v6/adoption_requests.hex", &adoption_of_version_6());
    assert!(adoption_of_version_6().iter().all(|request| request.command.since() == Version(6)));
    read_and_written_alike("v6/disk_requests.hex", &disks_of_version_6());
    assert!(disks_of_version_6().iter().all(|request| request.command.since() == Version(6)));
    read_and_written_alike("v6/hypervisor_requests.hex", &hypervisors_of_version_6());
    assert!(hypervisors_of_version_6().iter().all(|request| request.command.since() == Version(6)));
    let newest = logged(&SAMPLES).iter().map(|request| request.command.since()).max().unwrap();
    assert_eq!(newest, Version(6), "commands of a new version need a frozen example of their own");
}

#[test]
fn a_state_of_version_1_is_read_and_written_alike() {
    let state = World::running(4).state;
    let lines = frozen("v1/state.hex", || hex::encode(encode_state(&state)) + "\n");
    let decoded = decode_state(&lines[0]).unwrap();
    assert_eq!(encode_state(&decoded), lines[0]);
    assert_eq!(decoded.chains.len(), 1);
    assert_eq!(decoded.nodes.len(), 4);
    assert_ne!(decoded.digest(), Digest::default());
}

#[test]
fn a_state_of_version_2_is_read_and_written_alike() {
    let raised = || {
        let mut w = World::running(4);
        w.ok(world::actor("root"), parse::command(&w, &Args::parse("root RaiseClusterVersion")));
        w.state
    };
    let lines = frozen("v2/state.hex", || hex::encode(encode_state(&raised())) + "\n");
    let decoded = decode_state(&lines[0]).unwrap();
    assert_eq!(decoded.version(), Version(2));
    assert!(decoded == raised() && encode_state(&decoded) == lines[0]);
}

#[test]
fn a_state_of_version_3_is_read_and_written_alike() {
    let governed = || {
        let mut w = World::hosts(Policy::Majority);
        w.ok(world::actor("root"), parse::command(&w, &Args::parse("root RaiseClusterVersion version=3")));
        let open = "owner@acme OpenProposal govern=acme,globex";
        let Command::OpenProposal(open) = parse::command(&w, &Args::parse(open)) else { panic!("{open}") };
        let Action::CreateChain(spec) = open.action else { panic!("another action") };
        w.order(spec);
        w.state
    };
    let lines = frozen("v3/state.hex", || hex::encode(encode_state(&governed())) + "\n");
    let decoded = decode_state(&lines[0]).unwrap();
    assert_eq!(decoded.version(), Version(3));
    let governance = decoded.chains[&world::chain_key()].spec.governance.as_ref().unwrap();
    assert_eq!((governance.members.len(), governance.threshold), (2, 2));
    assert!(decoded == governed() && encode_state(&decoded) == lines[0]);
}

#[test]
fn a_state_of_version_3_with_a_ledger_that_needs_more_is_read_and_written_alike() {
    let ordered = || {
        let mut w = World::hosts(Policy::Majority);
        w.ok(world::actor("root"), parse::command(&w, &Args::parse("root RaiseClusterVersion version=3")));
        w.order(hanse_state::chain::ChainSpec { template: "cosmos-evm".into(), ..world::spec(4) });
        for step in
            ["RecordIntent Prepare", "RecordNodeFact Prepared contribution=claim", "RecordNodeFact Signed height=7"]
        {
            w.ok(Actor::System, parse::command(&w, &Args::parse(&format!("system {step}"))));
        }
        w.state
    };
    let lines = frozen("v3/ledger_state.hex", || hex::encode(encode_state(&ordered())) + "\n");
    let decoded = decode_state(&lines[0]).unwrap();
    let node = &decoded.nodes[&world::node_key(0)];
    assert_eq!((node.ports.len(), node.signed.unwrap().height), (4, 7));
    assert!(decoded == ordered() && encode_state(&decoded) == lines[0]);
}

#[test]
fn a_state_of_version_4_with_hosts_of_a_zone_is_read_and_written_alike() {
    let ordered = || {
        let mut w = World::hosts(Policy::Majority);
        for line in [
            "root RaiseClusterVersion version=4",
            "root SetHostProperties host=h1 zone=rack-1 labels=disk:ssd tenant=acme",
            "root EnrolHost host=h3 zone=rack-2",
        ] {
            w.ok(world::actor("root"), parse::command(&w, &Args::parse(line)));
        }
        w.state
    };
    let lines = frozen("v4/host_state.hex", || hex::encode(encode_state(&ordered())) + "\n");
    let decoded = decode_state(&lines[0]).unwrap();
    let zones: Vec<&str> = decoded.hosts.values().map(|host| host.zone.as_str()).collect();
    assert_eq!(zones, ["rack-1", "", "rack-2"]);
    assert!(decoded == ordered() && encode_state(&decoded) == lines[0]);
}

#[test]
fn a_state_of_version_4_with_paused_and_deleted_chains_is_read_and_written_alike() {
    let resting = || {
        let mut w = World::running(4);
        w.ok(world::actor("root"), parse::command(&w, &Args::parse("root RaiseClusterVersion version=4")));
        w.ok(world::actor("oda"), parse::command(&w, &Args::parse("oda PauseChain")));
        for step in ["RecordIntent Stop", "RecordNodeFact Stopped"] {
            w.ok(Actor::System, parse::command(&w, &Args::parse(&format!("system {step}"))));
        }
        w.ok(world::actor("owner@acme"), parse::command(&w, &Args::parse("owner@acme OpenProposal change=delete")));
        for name in &world::MEMBERS[..3] {
            let line = format!("owner@{name} CastBallot proposal=trade/p-2");
            w.ok(world::actor(&format!("owner@{name}")), parse::command(&w, &Args::parse(&line)));
        }
        w.state
    };
    let lines = frozen("v4/life_state.hex", || hex::encode(encode_state(&resting())) + "\n");
    let decoded = decode_state(&lines[0]).unwrap();
    assert_eq!(decoded.version(), Version(4));
    let wish = &decoded.chains[&world::chain_key()].wish;
    assert!(
        matches!(wish, hanse_state::chain::life::Wish::Delete { was_paused: true, purging: false, .. }),
        "{wish:?}"
    );
    assert!(decoded == resting() && encode_state(&decoded) == lines[0]);
}

#[test]
fn a_state_of_version_4_with_nodes_that_join_and_leave_is_read_and_written_alike() {
    let growing = || {
        let mut w = World::running(4);
        w.ok(world::actor("root"), parse::command(&w, &Args::parse("root RaiseClusterVersion version=4")));
        let vote = |w: &mut World, proposal: &str, change: &str| {
            w.ok(
                world::actor("owner@acme"),
                parse::command(w, &Args::parse(&format!("owner@acme OpenProposal {change}"))),
            );
            for name in &world::MEMBERS[..3] {
                let line = format!("owner@{name} CastBallot proposal=trade/{proposal}");
                w.ok(world::actor(&format!("owner@{name}")), parse::command(w, &Args::parse(&line)));
            }
        };
        vote(&mut w, "p-2", "change=add-nodes owners=acme,globex");
        w.ok(Actor::System, parse::command(&w, &Args::parse("system RollNode node=1")));
        w.ok(Actor::System, parse::command(&w, &Args::parse("system HaltRollout")));
        vote(&mut w, "p-3", "change=remove-nodes nodes=n4");
        w.state
    };
    let lines = frozen("v4/roll_state.hex", || hex::encode(encode_state(&growing())) + "\n");
    let decoded = decode_state(&lines[0]).unwrap();
    let chain = &decoded.chains[&world::chain_key()];
    assert_eq!((chain.nodes_ever, chain.rollout.as_ref().unwrap().number), (6, 1));
    assert!(decoded.nodes[&world::node_key(4)].leaves && decoded.nodes[&world::node_key(5)].joined == 1);
    assert!(decoded == growing() && encode_state(&decoded) == lines[0]);
}

#[test]
fn records_of_version_1_are_read_and_written_alike() {
    let lines = frozen("v1/records.hex", || {
        let mut w = World::running(4);
        let meter = parse::command(&w, &Args::parse("system Meter"));
        w.ok(Actor::System, meter);
        w.records.iter().rev().take(8).map(|record| hex::encode(encode_record(record)) + "\n").collect()
    });
    for bytes in lines {
        assert_eq!(encode_record(&decode_record(&bytes).unwrap()), bytes);
    }
}

#[test]
fn what_is_not_understood_wholly_is_an_error() {
    let good = encode_request(&requests()[0]);
    let mut other_version = good.clone();
    other_version[2] = 2;
    assert!(matches!(decode_request(&other_version), Err(CodecError::Version { found: 2, .. })));
    assert!(matches!(decode_state(&good), Err(CodecError::NotThis { .. })));
    assert!(matches!(decode_request(&[]), Err(CodecError::NotThis { .. })));
    let mut longer = good.clone();
    longer.push(0xc0);
    assert!(matches!(decode_request(&longer), Err(CodecError::Body { .. })));
    for cut in 0..good.len() {
        assert!(decode_request(&good[..cut]).is_err(), "cut at {cut}");
    }
    // A command of a newer version: the same length, another name.
    let at = good.windows(13).position(|part| part == b"AcceptHostKey").unwrap();
    let mut unknown = good.clone();
    unknown[at..at + 13].copy_from_slice(b"AcceptHostKez");
    assert!(matches!(decode_request(&unknown), Err(CodecError::Body { .. })));
    let at = good.windows(11).position(|part| part == b"fingerprint").unwrap();
    let mut unknown = good;
    unknown[at..at + 11].copy_from_slice(b"fingerprins");
    assert!(matches!(decode_request(&unknown), Err(CodecError::Body { .. })));
}

#[test]
fn artifacts_of_a_state_of_version_4_are_read_and_written_alike() {
    let kept = || {
        let mut w = World::platform();
        for line in ["RaiseClusterVersion version=4", "PinPublisher", "ImportArtifact"] {
            w.ok(world::actor("root"), parse::command(&w, &Args::parse(&format!("root {line}"))));
        }
        w.state
    };
    let lines = frozen("v4/artifact_state.hex", || hex::encode(encode_state(&kept())) + "\n");
    let decoded = decode_state(&lines[0]).unwrap();
    assert_eq!((decoded.version(), decoded.artifacts.len(), decoded.publishers.len()), (Version(4), 1, 1));
    assert!(decoded == kept() && encode_state(&decoded) == lines[0]);
}
