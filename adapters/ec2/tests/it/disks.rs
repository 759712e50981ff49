//! Data disks against moto: made with their machine, gone with it or kept, and never touched if they are not ours.

use hanse_adapters_core::AdapterError;
use hanse_adapters_core::cloud::{Cloud, DataDisk, Disk, MachineWish};
use hanse_fixtures::ec2::Server;
use hanse_fixtures::ec2::proxy::{Fault, Proxy, field};

use crate::{block_on, cloud, owner, wish};

fn with_disk(machine: &str, keep: bool) -> MachineWish {
    MachineWish { data_disk: Some(DataDisk { gib: 30, kind: "gp3".into(), keep }), ..wish(machine) }
}

/// Disks as AWS's own client shows them.
fn shown(moto: &Server) -> String {
    let of = "[v['Size'], v['VolumeType'], v['State'], [a['Device'] for a in v['Attachments']], \
              sorted(t['Key'] + '=' + t['Value'] for t in v.get('Tags', []) if t['Key'] in ('hanse:machine', 'hanse:keep', 'whose'))]";
    moto.boto(&format!("print(json.dumps(sorted({of} for v in ec2.describe_volumes()['Volumes'])))")).unwrap()
}

#[test]
fn a_data_disk_is_made_with_its_machine_and_goes_with_it_or_stays_as_it_was_ordered() {
    let dir = tempfile::tempdir().unwrap();
    let moto = Server::moto(dir.path(), &[], &[]).unwrap();
    let cloud = cloud(dir.path(), &moto.endpoint());
    block_on(async {
        let mut goes = with_disk("goes", false);
        goes.disk_gib = 21;
        let stays = with_disk("stays", true);
        let first = cloud.ensure(&goes).await.unwrap();
        assert_eq!(
            shown(&moto),
            r#"[[21, "gp2", "in-use", ["/dev/sda1"], ["hanse:machine=goes"]], [30, "gp3", "in-use", ["/dev/sdf"], ["hanse:machine=goes"]]]"#
        );
        let second = cloud.ensure(&stays).await.unwrap();
        assert_eq!(cloud.ensure(&stays).await.unwrap().id, second.id);
        let all = cloud.disks(&owner()).await.unwrap();
        assert!(all.len() == 3 && all.iter().all(|it| !it.is_free), "{all:?}");
        let kept = all.into_iter().find(|it| it.kept).unwrap();
        assert_eq!((kept.machine.as_str(), kept.token.as_str(), kept.gib), ("stays", stays.key.token.as_str(), 30));
        let error = cloud.delete_disk(&owner(), &kept.id).await.unwrap_err();
        assert!(matches!(error, AdapterError::Denied { .. }), "{error:?}");

        cloud.delete(&owner(), &first.id).await.unwrap();
        cloud.delete(&owner(), &second.id).await.unwrap();
        let left = r#"[[30, "gp3", "available", [], ["hanse:keep=yes", "hanse:machine=stays"]]]"#;
        assert_eq!(shown(&moto), left, "the one that is kept and no other");
        assert_eq!(cloud.disks(&owner()).await.unwrap(), [Disk { is_free: true, ..kept.clone() }]);
        // Neither by name nor with the last machine.
        let error = cloud.delete_disk(&owner(), &kept.id).await.unwrap_err();
        assert!(matches!(error, AdapterError::Denied { .. }) && error.to_string().contains("kept"), "{error:?}");
        let gone = cloud.clear(&owner()).await.unwrap();
        assert!(gone.iter().all(|it| !it.contains("disk")), "{gone:?}");
        assert_eq!(shown(&moto), left);
    });
}

#[test]
fn only_our_own_disks_without_a_machine_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let moto = Server::moto(dir.path(), &[], &[]).unwrap();
    let cloud = cloud(dir.path(), &moto.endpoint());
    let tags =
        format!("[T('hanse:cluster', '{}'), T('hanse:cloud', 'east'), T('hanse:machine', 'm9')]", owner().cluster);
    let made = moto
        .boto(&format!(
            "T = lambda k, v: {{'Key': k, 'Value': v}}\nmake = lambda tags: ec2.create_volume(AvailabilityZone='us-east-1a', \
             Size=1, TagSpecifications=[{{'ResourceType': 'volume', 'Tags': tags}}])['VolumeId']\n\
             print(make({tags}), make([T('whose', 'another')]))"
        ))
        .unwrap();
    let (ours, theirs) = made.split_once(' ').unwrap();
    block_on(async {
        let machine = cloud.ensure(&with_disk("m1", false)).await.unwrap();
        let used = cloud.disks(&owner()).await.unwrap().into_iter().find(|it| it.machine == "m1").unwrap();
        let error = cloud.delete_disk(&owner(), &used.id).await.unwrap_err();
        assert!(matches!(error, AdapterError::Transient { .. }) && error.to_string().contains("in-use"), "{error:?}");
        let error = cloud.delete_disk(&owner(), theirs).await.unwrap_err();
        assert!(matches!(error, AdapterError::Denied { .. }) && error.to_string().contains("not ours"), "{error:?}");
        cloud.delete_disk(&owner(), ours).await.unwrap();
        cloud.delete_disk(&owner(), ours).await.expect("it is gone");
        let names: Vec<String> = cloud.disks(&owner()).await.unwrap().into_iter().map(|it| it.id).collect();
        assert_eq!(names, [used.id]);
        cloud.delete(&owner(), &machine.id).await.unwrap();
        assert_eq!(shown(&moto), r#"[[1, "gp2", "available", [], ["whose=another"]]]"#);
    });
}

#[test]
fn a_lost_answer_makes_no_second_disk_and_a_limit_on_disks_is_told_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let moto = Server::moto(dir.path(), &[], &[]).unwrap();
    let proxy = Proxy::before(moto.port);
    let cloud = cloud(dir.path(), &proxy.endpoint);
    block_on(async {
        proxy.next("RunInstances", Fault::LoseReply);
        let error = cloud.ensure(&with_disk("lost", false)).await.unwrap_err();
        assert!(matches!(error, AdapterError::Unknown { .. }), "{error:?}");
        cloud.ensure(&with_disk("lost", false)).await.unwrap();
        assert_eq!(proxy.seen("RunInstances").len(), 1);
        assert_eq!(cloud.disks(&owner()).await.unwrap().len(), 1);

        // The cloud does not show it yet: the very same order, its disks included, or EC2 refuses the token.
        proxy.next("RunInstances", Fault::AnswerAfter(500, "InternalError"));
        cloud.ensure(&with_disk("hidden", true)).await.unwrap_err();
        proxy.next("DescribeInstances", Fault::ShowNothing);
        cloud.ensure(&with_disk("hidden", true)).await.unwrap();
        let orders = proxy.seen("RunInstances");
        assert_eq!((orders.len(), &orders[1]), (3, &orders[2]));
        assert_eq!(field(&orders[1], "BlockDeviceMapping.1.Ebs.DeleteOnTermination"), "false");
        assert_eq!(cloud.disks(&owner()).await.unwrap().len(), 2);

        proxy.next("RunInstances", Fault::Refuse(400, "VolumeLimitExceeded"));
        let error = cloud.ensure(&with_disk("many", false)).await.unwrap_err();
        let words = error.to_string();
        assert!(matches!(error, AdapterError::Denied { .. }) && words.contains("delete disks"), "{words}");
    });
}
