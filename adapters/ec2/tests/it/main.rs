//! The EC2 adapter against real servers with that interface: moto for shapes, rights and limits, ministack for machines
//! that run; and a proxy for the faults that neither has.
#![allow(clippy::unwrap_used)]

mod disks;
mod faults;
mod ministack;
mod moto;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hanse_adapters_core::cloud::{Ingress, MachineKey, MachineWish, Owner, Source};
use hanse_adapters_ec2::{Credentials, Ec2Cloud, Ec2Target};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN5GZtZw6ePxF2ZTkoMt9Tjx8nFJ4jTZ1tZ5z0V0c6Xg replicas";
/// One of the images that moto begins with.
const IMAGE: &str = "ami-12c6146b";

fn owner() -> Owner {
    Owner { cluster: "7f1c7f0e-0000-4000-8000-000000000001".into(), cloud: "east".into() }
}

fn wish(machine: &str) -> MachineWish {
    let hash = machine.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    MachineWish {
        key: MachineKey { owner: owner(), machine: machine.into(), token: format!("{hash:064x}") },
        image: IMAGE.into(),
        machine_type: "t3.micro".into(),
        zone: String::new(),
        subnet: String::new(),
        disk_gib: 0,
        data_disk: None,
        user_data: "#cloud-config\nssh_deletekeys: true\n".into(),
        login_key: KEY.into(),
        ingress: vec![
            Ingress { port_first: 22, port_last: 22, from: Source::Cidr("10.9.0.0/16".into()) },
            Ingress { port_first: 30_000, port_last: 30_099, from: Source::OwnMachines },
        ],
    }
}

fn credentials(dir: &Path, id: &str, secret: &str, ca: Option<&str>) -> Credentials {
    let file = dir.join(format!("{id}.toml"));
    let ca = ca.map_or_else(String::new, |ca| format!("ca_file = \"{ca}\"\n"));
    std::fs::write(&file, format!("access_key_id = \"{id}\"\nsecret_access_key = \"{secret}\"\n{ca}")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    Credentials::read(&file).unwrap()
}

fn cloud(dir: &Path, endpoint: &str) -> Ec2Cloud {
    let target = Ec2Target { endpoint: endpoint.into(), region: "us-east-1".into(), is_public: false };
    Ec2Cloud::new(&target, credentials(dir, "test", "test-secret", None)).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
