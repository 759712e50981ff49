//! The libvirt adapter against a real libvirtd with a real QEMU, reached through a real sshd.
#![allow(clippy::unwrap_used)]

mod faults;
mod machines;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hanse_adapters_core::cloud::{DataDisk, Ingress, MachineKey, MachineWish, Owner, Source};
use hanse_adapters_libvirt::{Credentials, LibvirtCloud, LibvirtTarget};
use hanse_fixtures::libvirtd::{BLANK, Libvirtd};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN5GZtZw6ePxF2ZTkoMt9Tjx8nFJ4jTZ1tZ5z0V0c6Xg replicas";

fn owner() -> Owner {
    Owner { cluster: "7f1c7f0e-0000-4000-8000-000000000001".into(), cloud: "cellar".into() }
}

fn wish(machine: &str) -> MachineWish {
    let hash = machine.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    MachineWish {
        key: MachineKey { owner: owner(), machine: machine.into(), token: format!("{hash:064x}") },
        image: BLANK.into(),
        machine_type: "1x128".into(),
        zone: String::new(),
        subnet: "lab".into(),
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

fn with_disk(machine: &str, keep: bool) -> MachineWish {
    MachineWish { data_disk: Some(DataDisk { gib: 1, kind: String::new(), keep }), ..wish(machine) }
}

/// Credentials as a replica has them, for a hypervisor that shows the key of `fingerprint`.
fn credentials(dir: &Path, daemon: &Libvirtd, fingerprint: &str) -> Credentials {
    let file = dir.join("cellar.toml");
    let identity = daemon.sshd.identity_path.display();
    std::fs::write(&file, format!("identity = \"{identity}\"\nhost_key = \"{fingerprint}\"\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    Credentials::read(&file).unwrap()
}

fn cloud_at(dir: &Path, daemon: &Libvirtd, endpoint: String) -> LibvirtCloud {
    let target = LibvirtTarget { endpoint, region: "rack1".into() };
    LibvirtCloud::new(&target, credentials(dir, daemon, &daemon.sshd.fingerprint)).unwrap()
}

fn cloud(dir: &Path, daemon: &Libvirtd) -> LibvirtCloud {
    cloud_at(dir, daemon, daemon.endpoint("qemu", "system"))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
