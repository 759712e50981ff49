//! What happens when an order is cut off, refused or cannot be: one machine, whatever it takes, and no credential where it does not belong.

use hanse_adapters_core::AdapterError;
use hanse_adapters_core::cloud::{Cloud, MachinePhase};
use hanse_adapters_libvirt::{LibvirtCloud, LibvirtTarget};
use hanse_fixtures::libvirtd::Libvirtd;

use crate::{block_on, cloud, cloud_at, credentials, owner, wish, with_disk};

#[test]
fn an_order_that_was_cut_off_anywhere_is_finished_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Libvirtd::spawn(&dir.path().join("h")).unwrap();
    let cloud = cloud(dir.path(), &daemon);
    block_on(async {
        let wish = with_disk("m1", false);
        // Refused in the middle: the network is down when it is to start.
        daemon.virsh(&["net-destroy", "lab"]).unwrap();
        let error = cloud.ensure(&wish).await.unwrap_err();
        assert!(matches!(error, AdapterError::Invalid { .. }) && error.to_string().contains("network"), "{error:?}");
        let left = cloud.find(&wish.key, None).await.unwrap();
        assert!(left.len() == 1 && left[0].phase == MachinePhase::Stopped, "{left:?}");
        daemon.virsh(&["net-start", "lab"]).unwrap();
        // What a later step had made is taken away, some of it and then all; the next order makes it again.
        let disks = cloud.disks(&owner()).await.unwrap();
        for count in [1, disks.len()] {
            for disk in &disks[..count] {
                daemon.virsh(&["vol-delete", "--pool", "base", &disk.id[5..]]).unwrap();
            }
            let made = cloud.ensure(&wish).await.unwrap();
            assert_eq!((&made.id, made.phase), (&left[0].id, MachinePhase::Running));
            assert_eq!(cloud.disks(&owner()).await.unwrap(), disks);
            daemon.virsh(&["destroy", &made.id]).unwrap();
        }
        assert_eq!(daemon.virsh(&["list", "--all", "--name"]).unwrap().lines().count(), 1);

        // Its end, cut off: some of its volumes are gone already.
        daemon.virsh(&["vol-delete", "--pool", "base", &disks[0].id[5..]]).unwrap();
        cloud.delete(&owner(), &left[0].id).await.unwrap();
        assert!(cloud.list(&owner()).await.unwrap().is_empty() && cloud.disks(&owner()).await.unwrap().is_empty());
    });
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Libvirtd::spawn(&dir.path().join("h")).unwrap();
    let cloud = cloud(dir.path(), &daemon);
    block_on(async {
        let mut none = wish("m1");
        none.image = "base/it's; touch $(id) `id` none".replace(' ', "_");
        let error = cloud.ensure(&none).await.unwrap_err();
        assert!(matches!(error, AdapterError::Invalid { .. }) && error.to_string().contains("not found"), "{error:?}");

        // libvirt's own test driver: a hypervisor without packet filters, with a machine of somebody's.
        let test = cloud_at(dir.path(), &daemon, daemon.endpoint("test", "default"));
        let mut open = wish("m1");
        open.image = "default-pool/none".into();
        assert!(test.list(&owner()).await.unwrap().is_empty());
        let theirs = "6695eb01-f6a4-8304-79aa-97f2502e193f";
        let error = test.delete(&owner(), theirs).await.unwrap_err();
        assert!(matches!(error, AdapterError::Denied { .. }), "{error:?}");
        let findings = test.preflight(&open).await.unwrap();
        let firewall = findings.iter().find(|it| it.check == "firewall").unwrap();
        assert!(firewall.found.contains("not supported"), "{findings:?}");

        // Somebody else's key, and nobody there.
        let target = LibvirtTarget { endpoint: daemon.endpoint("qemu", "system"), region: "rack1".into() };
        let pinned = credentials(dir.path(), &daemon, &format!("SHA256:{}", "A".repeat(43)));
        let before = daemon.sshd.log().matches("userauth-request for user").count();
        let error = LibvirtCloud::new(&target, pinned).unwrap().list(&owner()).await.unwrap_err();
        assert!(
            matches!(error, AdapterError::Denied { .. }) && error.to_string().contains("no credential was sent"),
            "{error:?}"
        );
        assert_eq!(daemon.sshd.log().matches("userauth-request for user").count(), before, "not even a name was sent");
        let nowhere = daemon.endpoint("qemu", "system").replace("libvirt-sock", "no-sock");
        let error = cloud_at(dir.path(), &daemon, nowhere).list(&owner()).await.unwrap_err();
        assert!(matches!(error, AdapterError::Transient { .. }), "{error:?}");
    });
    assert_eq!(daemon.virsh(&["list", "--all", "--name"]).unwrap(), "");
}
