//! Machines of a cloud, which are containers that a real server with EC2's interface makes: they become hosts behind SSH with a
//! pinned key, one each whatever happens to the leader, and are deleted; what nobody asked for is found and removed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hanse_fixtures::dockerd::Dockerd;
use hanse_fixtures::ec2::proxy::{Fault, Proxy, field};
use hanse_fixtures::ec2::{IMAGE_USER, Server, sshd_image};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::data_disks::{self, Device, first_start};
use crate::people::PASSWORD;
use crate::wait::until;

/// Longest wait for anything on a busy two-core machine.
const LONG: Duration = Duration::from_secs(180);

struct Story<'a> {
    cluster: Cluster,
    engine: &'a Dockerd,
    cloud: Server,
    proxy: Proxy,
    /// The cloud's name of the image that starts sshd, and the key that it shows.
    image: String,
    fingerprint: String,
    /// The disk that a machine has mounted.
    device: Option<Device>,
}

#[test]
fn a_clouds_machines_become_hosts_once_each_and_nothing_is_left_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Dockerd::spawn(&dir.path().join("engine")).unwrap();
    let identity = dir.path().join("id");
    let made = Command::new("ssh-keygen").args(["-qt", "ed25519", "-N", "", "-f"]).arg(&identity).status().unwrap();
    assert!(made.success());
    let fingerprint = sshd_image(&dir.path().join("image"), &engine, "debian-sshd", &identity).unwrap();
    // Replicas, cloud and machines share the engine's network, as they do where machines have addresses.
    engine.enter(|| {
        let mut story = Story::begin(dir.path(), &engine, &identity, fingerprint.clone());
        story.is_added_and_checked();
        story.a_machine_becomes_a_host();
        story.a_killed_leader_makes_no_second_machine();
        story.a_machine_with_another_key_is_given_nothing();
        story.what_nobody_asked_for_is_removed();
        story.a_machine_with_a_data_disk_is_a_host_once_its_folder_is_on_it();
        story.disks_that_nobody_asked_for_are_removed_and_kept_ones_are_not();
        story.what_is_deleted_is_gone();
    });
}

impl<'a> Story<'a> {
    fn begin(dir: &Path, engine: &'a Dockerd, identity: &Path, fingerprint: String) -> Self {
        let cloud = Server::ministack(&dir.join("ministack"), engine).unwrap();
        let proxy = Proxy::before(cloud.port);
        let image = cloud
            .boto(
                "print(ec2.register_image(Name='sshd', ImageLocation='debian-sshd', Architecture='x86_64')['ImageId'])",
            )
            .unwrap();
        let folder = dir.join("clouds");
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("east.toml");
        std::fs::write(&file, "access_key_id = \"test\"\nsecret_access_key = \"very-hush-hush\"\n").unwrap();
        let config = format!("ssh_identity = \"{}\"\ncloud_credentials = \"{}\"", identity.display(), folder.display());
        let mut cluster = Cluster::prepare(dir, "test", &config);
        cluster.add_timing("orphan_grace_ms = 3000");
        (1..=3).for_each(|id| cluster.start_replica(id));
        cluster.bootstrap(PASSWORD);
        Self { cluster, engine, cloud, proxy, image, fingerprint, device: None }
    }

    fn machine(&self, name: &str) -> Result<Value, String> {
        let seen = self.cluster.ask("admin", &["cloud", "machine", "get", name]).map_err(|(_, words)| words)?;
        Ok(seen["machine"].clone())
    }

    fn wait_for(&self, name: &str, state: &str) -> Value {
        until(&format!("{name} is {state}"), LONG, || {
            let seen = self.machine(name)?;
            if seen["state"] == state { Ok(seen) } else { Err(seen.to_string()) }
        })
    }

    fn create(&self, name: &str, key: &str) {
        self.create_with(name, key, &[]);
    }

    fn create_with(&self, name: &str, key: &str, more: &[&str]) {
        let what = ["--cloud", "east", "--image", &self.image, "--type", "t3.micro", "--slots", "2"];
        let args = ["cloud", "machine", "create", name, "--host-key", key, "--no-preflight"];
        self.cluster.tell("admin", &[&args[..], &what, more].concat());
    }

    /// Running machines of the cloud by the tag of their name, as AWS's own client shows them.
    fn running(&self, name: &str) -> Vec<String> {
        let script = format!(
            "print(' '.join(i['InstanceId'] for r in ec2.describe_instances(Filters=[{{'Name': 'tag:hanse:machine', 'Values': \
             ['{name}']}}])['Reservations'] for i in r['Instances'] if i['State']['Name'] == 'running'))"
        );
        self.cloud.boto(&script).unwrap().split_whitespace().map(str::to_owned).collect()
    }

    fn is_added_and_checked(&self) {
        let file = self.cluster.dir.join("clouds/east.toml");
        let which = ["cloud", "add", "east", "--url", &self.proxy.endpoint, "--region", "us-east-1"];
        let how = ["--credentials-file", "east.toml", "--ssh-from", "10.203.0.0/24", "--user", IMAGE_USER];
        self.cluster.tell("admin", &[&which[..], &how, &["--root", "/srv/hanse"]].concat());
        // A file that others may read is refused, by what it is and what to do.
        let check = ["cloud", "check", "east", "--image", &self.image, "--type", "t3.micro"];
        let mode = |mode: &str| assert!(Command::new("chmod").arg(mode).arg(&file).status().unwrap().success());
        mode("644");
        let refused = self.cluster.tell("admin", &check).to_string();
        assert!(refused.contains("chmod 600") && !refused.contains("hush"), "{refused}");
        mode("600");
        let found = self.cluster.tell("admin", &check);
        let checks: Vec<&str> =
            found["findings"].as_array().unwrap().iter().filter_map(|it| it["check"].as_str()).collect();
        assert_eq!(checks, ["credentials", "zone", "image", "type", "limit", "subnet", "rights"], "{found}");
    }

    fn a_machine_becomes_a_host(&self) {
        self.create("m1", &self.fingerprint);
        let machine = self.wait_for("m1", "READY");
        let host = until("the host says what it is", LONG, || {
            let seen = self.cluster.ask("admin", &["host", "get", "m1"]).map_err(|(_, words)| words)?;
            if seen["host"]["facts"]["cpus"].as_u64() > Some(0) { Ok(seen) } else { Err(seen.to_string()) }
        });
        let ssh = &host["host"]["ssh"];
        assert_eq!((&ssh["address"], &ssh["fingerprint"]), (&machine["address"], &machine["fingerprint"]), "{host}");
        assert_eq!((&host["host"]["labels"]["cloud"], &host["host"]["slots"]), (&"east".into(), &2.into()), "{host}");
        assert_eq!(self.running("m1"), [machine["instance"].as_str().unwrap()]);
        let refused = self.cluster.ask("admin", &["host", "retire", "m1", "--reason", "x", "--yes"]).unwrap_err().1;
        assert!(refused.contains("delete the machine"), "{refused}");
    }

    /// The cloud carries the order out, and the leader is killed before it hears of that.
    fn a_killed_leader_makes_no_second_machine(&mut self) {
        let leader = self.cluster.leader("admin");
        self.proxy.next("RunInstances", Fault::Hold);
        self.create("m3", &self.fingerprint);
        until("the order was carried out", LONG, || {
            if self.proxy.held() > 0 { Ok(()) } else { Err(self.machine("m3")?.to_string()) }
        });
        assert_eq!(self.machine("m3").unwrap()["state"], "CREATING");
        self.cluster.kill(leader);
        let machine = self.wait_for("m3", "READY");
        assert_eq!(self.running("m3"), [machine["instance"].as_str().unwrap()], "one machine");
        assert_eq!(self.proxy.seen("RunInstances").iter().filter(|form| form.contains("Value=m3&")).count(), 1);
        self.cluster.start_replica(leader);
    }

    fn a_machine_with_another_key_is_given_nothing(&self) {
        let other = format!("SHA256:{}", "A".repeat(43));
        self.create("m2", &other);
        let machine = until("what is wrong is shown", LONG, || {
            let seen = self.machine("m2")?;
            let reason = seen["state_reason"].as_str().unwrap_or_default();
            if reason.contains("must show") { Ok(seen) } else { Err(seen.to_string()) }
        });
        assert_eq!(machine["state"], "STARTING", "{machine}");
        assert!(self.cluster.ask("admin", &["host", "get", "m2"]).is_err(), "it is no host");
        let instance = machine["instance"].as_str().unwrap();
        let id = self.engine.docker(&["ps", "-q", "--filter", &format!("label=instance_id={instance}")]).unwrap();
        // sshd writes to standard error, as does whoever reads its log.
        let output = Command::new("docker").env("DOCKER_HOST", self.engine.endpoint()).args(["logs", &id]).output();
        let log = String::from_utf8_lossy(&output.unwrap().stderr).into_owned();
        assert!(log.contains("Server listening") && !log.contains("Accepted"), "{log}");
    }

    fn what_nobody_asked_for_is_removed(&self) {
        let status = self.cluster.tell("admin", &["cluster", "status"]);
        let cluster = status["cluster_id"].as_str().unwrap_or_else(|| panic!("{status}"));
        let plant = |cluster: &str| {
            let tags = format!(
                "[{{'Key': 'hanse:cluster', 'Value': '{cluster}'}}, {{'Key': 'hanse:cloud', 'Value': 'east'}}, \
                 {{'Key': 'hanse:machine', 'Value': 'planted'}}, {{'Key': 'hanse:token', 'Value': 'none'}}]"
            );
            let script = format!(
                "print(ec2.run_instances(ImageId='{}', MinCount=1, MaxCount=1, TagSpecifications=[{{'ResourceType': 'instance', \
                 'Tags': {tags}}}])['Instances'][0]['InstanceId'])",
                self.image
            );
            self.cloud.boto(&script).unwrap()
        };
        let (planted, stranger) = (plant(cluster), plant("another"));
        until("it is shown", LONG, || {
            let seen = self.cluster.ask("admin", &["cloud", "get", "east"]).map_err(|(_, words)| words)?;
            let is_shown =
                seen["cloud"]["orphans"].as_array().is_some_and(|all| all.iter().any(|it| it["instance"] == *planted));
            if is_shown { Ok(()) } else { Err(seen.to_string()) }
        });
        until("it is removed", LONG, || {
            let left = self.running("planted");
            if left == [stranger.as_str()] { Ok(()) } else { Err(format!("{left:?}")) }
        });
        let log = self.cluster.tell("admin", &["audit", "list", "--filter", "RemoveCloudOrphan"]);
        let records = log["records"].as_array().unwrap_or_else(|| panic!("{log}"));
        assert!(records.len() == 1 && records[0]["actor"] == "system" && records[0]["outcome"] == "ok", "{log}");
        assert!(!log.to_string().contains("hush"), "{log}");
    }

    fn a_machine_with_a_data_disk_is_a_host_once_its_folder_is_on_it(&mut self) {
        self.create_with("m4", &self.fingerprint, &["--data-disk-gib", "1", "--data-disk-kind", "gp3"]);
        let machine = until("what is missing is shown", LONG, || {
            let seen = self.machine("m4")?;
            let reason = seen["state_reason"].as_str().unwrap_or_default();
            if reason.contains("data disk is not in use yet") { Ok(seen) } else { Err(seen.to_string()) }
        });
        assert!(machine["state"] == "STARTING" && machine["spec"]["data_disk"]["gib"] == 1, "{machine}");
        assert!(self.cluster.ask("admin", &["host", "get", "m4"]).is_err(), "it is no host");

        let instance = machine["instance"].as_str().unwrap();
        let device = Device::empty(&self.cluster.dir, 1 << 30);
        // ministack does not tell what it was told, so it is read on its way there.
        let orders = self.proxy.seen("RunInstances");
        let order = orders.iter().find(|form| form.contains("Value=m4&")).unwrap();
        device.prepared_by(&first_start(&self.cloud, field(order, "UserData")));
        device.mounted_in(self.engine, instance);
        self.wait_for("m4", "READY");
        let findings = until("the host is looked at", LONG, || {
            let seen = self.cluster.ask("admin", &["host", "preflight", "m4"]).map_err(|(_, words)| words)?;
            let of = |it: &&Value| it["check"] == "data disk";
            seen["findings"].as_array().and_then(|all| all.iter().find(of)).cloned().ok_or_else(|| seen.to_string())
        });
        let found = findings["found"].as_str().unwrap_or_default();
        assert!(findings["severity"] == "FINE" && found.ends_with("is mounted at /srv/hanse"), "{findings}");
        self.device = Some(device);
    }

    fn disks_that_nobody_asked_for_are_removed_and_kept_ones_are_not(&self) {
        let status = self.cluster.tell("admin", &["cluster", "status"]);
        let cluster = status["cluster_id"].as_str().unwrap_or_else(|| panic!("{status}"));
        let kept = data_disks::plant(&self.cloud, cluster, ", T('hanse:keep', 'yes')");
        let stranger = data_disks::plant(&self.cloud, "another", "");
        let planted = data_disks::plant(&self.cloud, cluster, "");
        let get = || self.cluster.ask("admin", &["cloud", "get", "east"]).map_err(|(_, words)| words);
        until("the planted disk is shown", LONG, || {
            let seen = get()?;
            data_disks::shown(&seen, &planted).ok_or_else(|| seen.to_string())
        });
        let mut left = vec![kept.clone(), stranger.clone()];
        left.sort();
        until("the planted disk is removed", LONG, || {
            let there = data_disks::there(&self.cloud);
            if there == left { Ok(()) } else { Err(format!("{there:?}")) }
        });
        // The kept one was there at every look before, and still is: listed, with what to do, and not removed.
        let seen = get().unwrap();
        let shown = data_disks::shown(&seen, &kept).unwrap_or_else(|| panic!("{seen}"));
        assert!(shown["kept_reason"].as_str().is_some_and(|it| it.contains("5 GiB of old")), "{shown}");
        assert!(data_disks::shown(&seen, &stranger).is_none(), "{seen}");
        let log = self.cluster.tell("admin", &["audit", "list", "--filter", &planted]);
        let records = log["records"].as_array().unwrap_or_else(|| panic!("{log}"));
        assert!(records.len() == 1 && records[0]["actor"] == "system" && records[0]["outcome"] == "ok", "{log}");
        let log = self.cluster.tell("admin", &["audit", "list", "--filter", &kept]);
        assert!(log["records"].as_array().is_none_or(Vec::is_empty), "{log}");
    }

    fn what_is_deleted_is_gone(&self) {
        let kept = data_disks::there(&self.cloud);
        let refused = self.cluster.ask("admin", &["cloud", "remove", "east", "--yes"]).unwrap_err().1;
        assert!(refused.contains("machines are of it"), "{refused}");
        for name in ["m1", "m2", "m3", "m4"] {
            self.cluster.tell("admin", &["cloud", "machine", "delete", name, "--reason", "the story ends", "--yes"]);
            assert!(self.cluster.ask("admin", &["host", "get", name]).is_err(), "{name} is no host any more");
        }
        until("no machine is left", LONG, || {
            let list = self.cluster.ask("admin", &["cloud", "machine", "list"]).map_err(|(_, words)| words)?;
            if list["machines"].as_array().is_none_or(Vec::is_empty) { Ok(()) } else { Err(list.to_string()) }
        });
        assert!(["m1", "m2", "m3", "m4"].iter().all(|name| self.running(name).is_empty()));
        // Not the key pair: ministack keeps no tags of one, and without our tag nothing is deleted (moto keeps them).
        let groups = self.cloud.boto(
            "print([g['GroupName'] for g in ec2.describe_security_groups()['SecurityGroups'] if g['GroupName'].startswith('hanse')])",
        );
        assert_eq!(groups.unwrap(), "[]");
        assert_eq!(
            (kept.len(), data_disks::there(&self.cloud)),
            (2, kept.clone()),
            "what is kept stays with the last machine's end"
        );
        self.cluster.tell("admin", &["cloud", "remove", "east", "--yes"]);
        let words: String = (1..=3).map(|id| self.cluster.words(id)).collect();
        assert!(!words.contains("hush-hush"), "a replica wrote a secret");
    }
}
