//! Machines that are made, run, are reached, and are gone, with what they had.

use std::time::Duration;

use hanse_adapters_core::AdapterError;
use hanse_adapters_core::cloud::{Cloud, Disk, MachinePhase, Owner};
use hanse_adapters_core::preflight::{Finding, Severity};
use hanse_fixtures::libvirtd::{IMAGE, Libvirtd};
use hanse_fixtures::wait::within;

use crate::{block_on, cloud, owner, wish, with_disk};

/// How long an emulated guest may take to ask for its address.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// Names of volumes and of machines, as libvirt's own client shows them.
fn shown(daemon: &Libvirtd) -> (Vec<String>, Vec<String>) {
    let first = |table: String| -> Vec<String> {
        table.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    };
    let volumes = first(daemon.virsh(&["vol-list", "base"]).unwrap());
    let ours = volumes.into_iter().filter(|name| name.starts_with("hanse-")).map(|name| {
        let parts: Vec<&str> = name.split('-').collect();
        format!("{} {}", parts[4], parts[3])
    });
    (ours.collect(), first(daemon.virsh(&["list", "--all", "--name"]).unwrap()))
}

#[test]
fn a_machine_is_made_once_runs_at_an_address_and_is_gone_with_what_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Libvirtd::spawn(&dir.path().join("h")).unwrap();
    let cloud = cloud(dir.path(), &daemon);
    block_on(async {
        let mut booted = with_disk("m1", false);
        booted.image = IMAGE.into();
        let first = cloud.ensure(&booted).await.unwrap();
        assert_eq!((first.phase, first.machine.as_str(), first.zone.as_str()), (MachinePhase::Running, "m1", "rack1"));
        let again = cloud.ensure(&booted).await.unwrap();
        assert_eq!(again.id, first.id);
        let second = cloud.ensure(&with_disk("m2", true)).await.unwrap();
        let (volumes, machines) = shown(&daemon);
        assert_eq!(volumes, ["m1 data", "m1 root", "m1 seed", "m2 kept", "m2 root", "m2 seed"].map(str::to_owned));
        assert_eq!(machines.len(), 2, "{machines:?}");

        // It really starts from the image, and is really leased an address by the network.
        let is_reached = within(BOOT_LIMIT, || {
            let table = daemon.virsh(&["domifaddr", &first.id]).unwrap();
            table.contains("10.77.0.")
        });
        assert!(is_reached, "{}", daemon.log());
        let seen = cloud.find(&wish("m1").key, Some(&first.id)).await.unwrap();
        assert!(seen.len() == 1 && seen[0].address.as_deref().unwrap().starts_with("10.77.0."), "{seen:?}");
        let mut all: Vec<String> = cloud.list(&owner()).await.unwrap().into_iter().map(|it| it.machine).collect();
        all.sort();
        assert_eq!(all, ["m1", "m2"]);

        // What its first start is told is on a disk of the name that cloud-init looks for.
        let seed = dir.path().join("seed.iso");
        let name = format!("hanse-{}", seed_of(&daemon, "m1"));
        daemon.virsh(&["vol-download", "--pool", "base", &name, &seed.display().to_string()]).unwrap();
        let read = |file: &str| {
            let output = std::process::Command::new("bsdtar").arg("-xOf").arg(&seed).arg(file).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(read("user-data"), wish("m1").user_data);
        let told = read("meta-data");
        assert!(told.contains("local-hostname: \"m1\"") && told.contains(&wish("m1").login_key), "{told}");

        firewall_lets_in_what_is_wished(&daemon);

        // Ended by a person on the hypervisor: it is there, stopped.
        daemon.virsh(&["destroy", &second.id]).unwrap();
        let seen = cloud.find(&wish("m2").key, None).await.unwrap();
        assert!(seen[0].phase == MachinePhase::Stopped && seen[0].reason.contains("destroyed"), "{seen:?}");

        cloud.delete(&owner(), &first.id).await.unwrap();
        cloud.delete(&owner(), &first.id).await.expect("it is gone");
        cloud.delete(&owner(), &second.id).await.unwrap();
        assert!(cloud.find(&wish("m1").key, Some(&first.id)).await.unwrap().is_empty());
        assert_eq!(shown(&daemon), (vec!["m2 kept".into()], vec![]), "the one that is kept and no other");
        the_kept_disk_stays(&cloud.disks(&owner()).await.unwrap());
        let gone = cloud.clear(&owner()).await.unwrap();
        assert!(gone.len() == 1 && gone[0].contains("packet filter hanse-"), "{gone:?}");
        assert_eq!(
            (shown(&daemon).0, daemon.virsh(&["nwfilter-list"]).unwrap()),
            (vec!["m2 kept".into()], String::new())
        );
    });
}

fn seed_of(daemon: &Libvirtd, machine: &str) -> String {
    let table = daemon.virsh(&["vol-list", "base"]).unwrap();
    let mut names = table.lines().filter_map(|line| line.split_whitespace().next());
    let end = format!("-seed-{machine}");
    names.find(|name| name.ends_with(&end)).unwrap().strip_prefix("hanse-").unwrap().to_owned()
}

fn firewall_lets_in_what_is_wished(daemon: &Libvirtd) {
    let rules = daemon.rules().unwrap();
    // `FO-` is libvirt's chain for what goes to a guest.
    let to_guests: Vec<&str> = rules.lines().filter(|line| line.starts_with("-A FO-")).collect();
    let of = |words: &str| to_guests.iter().filter(|line| line.contains(words)).count();
    assert_eq!(of("-s 10.9.0.0/16 -p tcp -m tcp --dport 22 "), 2, "each of the two: {rules}");
    assert_eq!(of("--dport 30000:30099"), 4, "each of the two, from each: {rules}");
    assert_eq!(of("--mac-source"), 4, "{rules}");
    assert_eq!(to_guests.iter().filter(|line| line.ends_with("-j DROP")).count(), 2, "{rules}");
}

fn the_kept_disk_stays(disks: &[Disk]) {
    let [disk] = disks else { panic!("{disks:?}") };
    let token = wish("m2").key.token;
    let expected = Disk {
        id: disk.id.clone(),
        machine: "m2".into(),
        token,
        gib: 1,
        is_free: true,
        kept: true,
        zone: "rack1".into(),
    };
    assert_eq!(*disk, expected);
}

#[test]
fn nothing_without_our_mark_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Libvirtd::spawn(&dir.path().join("h")).unwrap();
    let cloud = cloud(dir.path(), &daemon);
    let file = dir.path().join("theirs.xml");
    let uuid = "c7a5fdbd-edaf-9455-926a-d65c16db1809";
    let theirs = format!(
        "<domain type='qemu'><name>theirs</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64'>hvm</type></os></domain>"
    );
    std::fs::write(&file, theirs).unwrap();
    daemon.virsh(&["define", &file.display().to_string()]).unwrap();
    daemon.virsh(&["vol-create-as", "base", "theirs.img", "1M"]).unwrap();
    block_on(async {
        let machine = cloud.ensure(&with_disk("m1", true)).await.unwrap();
        let other = Owner { cloud: "attic".into(), ..owner() };
        for (owner, id) in [(owner(), uuid), (other.clone(), machine.id.as_str()), (owner(), "theirs")] {
            let error = cloud.delete(&owner, id).await.unwrap_err();
            assert!(
                matches!(error, AdapterError::Denied { .. }) && error.to_string().contains("not ours"),
                "{error:?}"
            );
        }
        let disks = cloud.disks(&owner()).await.unwrap();
        assert!(disks.len() == 3 && disks.iter().all(|it| !it.is_free && it.id.starts_with("base/")), "{disks:?}");
        let root = disks.iter().find(|it| it.id.contains("-root-")).unwrap();
        let kept = disks.iter().find(|it| it.kept).unwrap();
        for (owner, id, words) in [
            (&owner(), "base/theirs.img", "not ours"),
            (&other, &root.id, "not ours"),
            (&owner(), &kept.id, "to be kept"),
        ] {
            let error = cloud.delete_disk(owner, id).await.unwrap_err();
            assert!(matches!(error, AdapterError::Denied { .. }) && error.to_string().contains(words), "{error:?}");
        }
        let error = cloud.delete_disk(&owner(), &root.id).await.unwrap_err();
        assert!(
            matches!(error, AdapterError::Transient { .. }) && error.to_string().contains("a machine has it"),
            "{error:?}"
        );
        assert!(cloud.list(&other).await.unwrap().is_empty() && cloud.disks(&other).await.unwrap().is_empty());
        assert!(cloud.clear(&other).await.unwrap().is_empty() && cloud.clear(&owner()).await.unwrap().is_empty());
        assert_eq!(cloud.list(&owner()).await.unwrap().len(), 1);

        // Left behind by an order that was lost: no machine has it.
        let lost = root.id[5..].replace(&root.token, &"9".repeat(64));
        daemon.virsh(&["vol-create-as", "base", &lost, "1M"]).unwrap();
        let free = cloud.disks(&owner()).await.unwrap().into_iter().find(|it| it.is_free).unwrap();
        cloud.delete_disk(&owner(), &free.id).await.unwrap();
        cloud.delete_disk(&owner(), &free.id).await.expect("it is gone");
        assert_eq!(cloud.disks(&owner()).await.unwrap().len(), 3);
        cloud.delete(&owner(), &machine.id).await.unwrap();
    });
    assert!(daemon.virsh(&["dominfo", "theirs"]).is_ok() && daemon.virsh(&["vol-info", "theirs.img", "base"]).is_ok());
}

#[test]
fn preflight_names_what_is_wrong_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Libvirtd::spawn(&dir.path().join("h")).unwrap();
    let cloud = cloud(dir.path(), &daemon);
    let of = |all: &[Finding], check: &str| all.iter().find(|it| it.check == check).unwrap().clone();
    block_on(async {
        let all = cloud.preflight(&wish("m1")).await.unwrap();
        for check in ["credentials", "firewall", "type", "image", "space", "subnet"] {
            assert_eq!(of(&all, check).severity, Severity::Fine, "{all:?}");
        }
        assert!(of(&all, "machines").found.contains("without KVM"), "{all:?}");
        daemon.virsh(&["net-destroy", "lab"]).unwrap();
        let mut wrong = wish("m1");
        wrong.image = "base/none.qcow2".into();
        wrong.machine_type = "1x99999999".into();
        let all = cloud.preflight(&wrong).await.unwrap();
        for (check, words) in [("image", "not found"), ("type", "of the hypervisor's"), ("subnet", "net-start lab")] {
            let it = of(&all, check);
            assert!(it.severity == Severity::Error && format!("{} {}", it.found, it.advice).contains(words), "{it:?}");
        }
        wrong.machine_type = "t3.micro".into();
        assert!(of(&cloud.preflight(&wrong).await.unwrap(), "type").found.contains("2x4096"));
    });
    assert_eq!(shown(&daemon), (vec![], vec![]));
}
