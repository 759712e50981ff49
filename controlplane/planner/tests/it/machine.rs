//! Machines of clouds: what is done with one, at every step of its life.

use hanse_planner::{Act, Step, plan_machine};
use hanse_state::cloud::*;
use hanse_state::cluster::version::{RaiseClusterVersion, Version};
use hanse_state::consortium::policy::Policy;
use hanse_state::ids::HostId;
use hanse_state::{Actor, Command};

use crate::world::{World, actor};

fn wanted() -> World {
    let mut w = World::hosts(Policy::Majority);
    w.ok(actor("root"), Command::RaiseClusterVersion(RaiseClusterVersion { version: Version(5) }));
    let spec = CloudSpec {
        kind: CloudKind::Ec2,
        endpoint: "https://ec2.example".into(),
        region: "r1".into(),
        credentials: "east.toml".into(),
        public: false,
        ssh_from: vec!["10.0.0.0/24".into()],
        peers_from: Vec::new(),
        user: "admin".into(),
        root: "/srv/hanse".into(),
        port_first: 30_000,
        port_count: 100,
        machines_max: 2,
    };
    let cloud: hanse_state::ids::CloudId = "east".parse().unwrap();
    w.ok(actor("root"), Command::AddCloud(AddCloud { cloud: cloud.clone(), spec }));
    let spec = MachineSpec {
        cloud,
        image: "ami-1".into(),
        machine_type: "t3.micro".into(),
        zone: String::new(),
        subnet: String::new(),
        disk_gib: 0,
        slots: 2,
        host_key: HostKey::Made,
        data_disk: None,
    };
    w.ok(actor("oda"), Command::CreateMachine(CreateMachine { machine: id(), spec }));
    w
}

fn id() -> HostId {
    "m1".parse().unwrap()
}

fn fact(w: &mut World, fact: MachineFact) {
    let token = w.state.machines[&id()].token;
    w.ok(Actor::System, Command::RecordMachineFact(RecordMachineFact { machine: id(), token, fact }));
}

fn intent(w: &mut World, act: MachineAct) {
    let token = w.state.machines[&id()].token;
    w.ok(Actor::System, Command::RecordMachineIntent(RecordMachineIntent { machine: id(), token, act }));
}

#[test]
fn each_step_of_a_life_follows_from_the_log_alone() {
    let mut w = wanted();
    let create = Step::Do(Act::CreateMachine { machine: id() });
    assert_eq!(plan_machine(&w.state, &id()), create);
    intent(&mut w, MachineAct::Create);
    // Whoever leads now does not know whether the order went out, and orders again by the same token.
    assert_eq!(plan_machine(&w.state, &id()), create);
    let fingerprint = format!("SHA256:{}", "A".repeat(43));
    fact(&mut w, MachineFact::Launched { instance: "i-1".into(), fingerprint });
    assert_eq!(plan_machine(&w.state, &id()), Step::Do(Act::LookMachine { machine: id() }));
    fact(&mut w, MachineFact::Answers { address: "10.1.0.5".into(), zone: "r1a".into() });
    assert_eq!(plan_machine(&w.state, &id()), Step::Done);
    fact(&mut w, MachineFact::Ended { reason: "spot".into() });
    assert!(matches!(plan_machine(&w.state, &id()), Step::Wait { .. }), "it is not made again by itself");
    w.ok(actor("oda"), Command::DeleteMachine(DeleteMachine { machine: id(), reason: "gone".into() }));
    assert_eq!(plan_machine(&w.state, &id()), Step::Do(Act::DeleteMachine { machine: id() }));
    intent(&mut w, MachineAct::Delete);
    assert_eq!(plan_machine(&w.state, &id()), Step::Do(Act::DeleteMachine { machine: id() }));
    fact(&mut w, MachineFact::Gone);
    assert_eq!(plan_machine(&w.state, &id()), Step::Done);
}
