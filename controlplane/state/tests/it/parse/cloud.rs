//! Lines about clouds and their machines.

use hanse_state::cloud::*;
use hanse_state::{Command, Millis};

use super::Args;
use crate::world::{self, World};

pub(super) fn clouds(w: &World, a: &Args) -> Option<Command> {
    let machine = || a.id("machine", "m1");
    let list = |key: &str, usual: &str| {
        let text = a.text(key, usual);
        text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let number = |key: &str, usual: u64| u32::try_from(a.number(key, usual)).unwrap();
    let port = |key: &str, usual: u64| u16::try_from(a.number(key, usual)).unwrap();
    // The machine's own unless another is named.
    let token = || match a.get("token") {
        Some(word) => world::hash(word),
        None => w.state.machines.get(&machine()).map(|it| it.token).unwrap_or_default(),
    };
    let fact = |fact| Command::RecordMachineFact(RecordMachineFact { machine: machine(), token: token(), fact });
    Some(match a.word(1) {
        "AddCloud" => Command::AddCloud(AddCloud {
            cloud: a.id("cloud", "east"),
            spec: CloudSpec {
                kind: if a.get("libvirt").is_some() { CloudKind::Libvirt } else { CloudKind::Ec2 },
                endpoint: a.text("endpoint", "https://ec2.example"),
                region: a.text("region", "r1"),
                credentials: a.text("credentials", "east.toml"),
                public: a.get("public").is_some(),
                ssh_from: list("ssh-from", "10.0.0.0/24"),
                peers_from: list("peers-from", ""),
                user: a.text("user", "admin"),
                root: a.text("root", "/srv/hanse"),
                port_first: port("port", 30_000),
                port_count: port("ports", 100),
                machines_max: number("most", 2),
            },
        }),
        "RemoveCloud" => Command::RemoveCloud(RemoveCloud { cloud: a.id("cloud", "east") }),
        "CreateMachine" => Command::CreateMachine(CreateMachine {
            machine: machine(),
            spec: MachineSpec {
                cloud: a.id("cloud", "east"),
                image: a.text("image", "ami-1"),
                machine_type: a.text("type", "t3.micro"),
                zone: a.text("zone", ""),
                subnet: a.text("subnet", ""),
                disk_gib: number("disk", 0),
                slots: number("slots", 4),
                host_key: match a.get("key") {
                    None => HostKey::Made,
                    Some(letter) => HostKey::Known(format!("SHA256:{}", letter.repeat(43))),
                },
                data_disk: a.get("data").map(|_| DataDisk {
                    gib: number("data", 0),
                    kind: a.text("kind", ""),
                    keep: a.get("keep").is_some(),
                }),
            },
        }),
        "DeleteMachine" => {
            Command::DeleteMachine(DeleteMachine { machine: machine(), reason: a.text("reason", "no longer needed") })
        }
        "RecordMachineIntent" => Command::RecordMachineIntent(RecordMachineIntent {
            machine: machine(),
            token: token(),
            act: match a.word(2) {
                "Create" => MachineAct::Create,
                "Delete" => MachineAct::Delete,
                other => panic!("no act {other}"),
            },
        }),
        "RecordMachineFact" => match a.word(2) {
            "Launched" => fact(MachineFact::Launched {
                instance: a.text("instance", "i-1"),
                fingerprint: format!("SHA256:{}", a.text("key", "A").repeat(43)),
            }),
            "Answers" => {
                fact(MachineFact::Answers { address: a.text("address", "10.1.0.5"), zone: a.text("zone", "r1a") })
            }
            "Waiting" => fact(MachineFact::Waiting { reason: a.text("reason", "it starts") }),
            "Ended" => fact(MachineFact::Ended { reason: a.text("reason", "spot price") }),
            "Gone" => fact(MachineFact::Gone),
            other => panic!("no fact {other}"),
        },
        "RemoveCloudOrphan" => Command::RemoveCloudOrphan(RemoveCloudOrphan {
            cloud: a.id("cloud", "east"),
            instance: a.text("instance", "i-9"),
            token: a.get("machine").map_or_else(String::new, |_| token().to_string()),
            seen_since: Millis(world::START.0 + a.number("since", 0)),
            disk: a.get("disk").is_some(),
        }),
        _ => return None,
    })
}
