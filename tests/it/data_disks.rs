//! Data disks of a cloud's machines. The machines of ministack are containers without block devices and without cloud-init, so the
//! story does both parts' work: it runs, word for word, what the cloud was told to have the machine's first start run, on a real
//! block device, and brings that into the machine. What is then seen of it is seen by the platform alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use hanse_fixtures::dockerd::Dockerd;
use hanse_fixtures::ec2::Server;
use serde_json::Value;

/// What a machine is told to run first, of what is ordered as its user data, as a YAML reader of another make takes it: its words,
/// `sh` first.
pub(crate) fn first_start(cloud: &Server, user_data: &str) -> Vec<String> {
    let script = format!(
        "import base64, urllib.parse, yaml\ntold = base64.b64decode(urllib.parse.unquote('{user_data}')).decode()\n\
         assert told.startswith('#cloud-config\\n'), told\ntold = yaml.safe_load(told)\n\
         assert told['bootcmd'] == told['runcmd'], told\nprint(json.dumps(told['bootcmd']))"
    );
    let mut all: Vec<Vec<String>> = serde_json::from_str(&cloud.boto(&script).unwrap()).unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// A file as a block device, which ends with the value.
pub(crate) struct Device {
    name: String,
    dir: PathBuf,
}

impl Device {
    /// One that holds nothing.
    pub(crate) fn empty(dir: &Path, bytes: u64) -> Self {
        let file = dir.join("disk");
        std::fs::File::create(&file).unwrap().set_len(bytes).unwrap();
        let name = said(Command::new("losetup").args(["-f", "--show"]).arg(&file));
        Self { name, dir: dir.to_owned() }
    }

    /// Runs what the first start runs, where its root folder and its table of mounts are nobody else's.
    pub(crate) fn prepared_by(&self, words: &[String]) {
        let table = self.dir.join("fstab");
        std::fs::write(&table, "").unwrap();
        let head =
            "set -e; mount --make-rprivate /; mount -t tmpfs none /srv; mount --bind \"$0\" /etc/fstab; exec \"$@\"";
        let mut command = Command::new("unshare");
        said(command.args(["-m", "sh", "-c", head]).arg(&table).args(words).arg("loop"));
        let table = std::fs::read_to_string(&table).unwrap();
        assert!(table.starts_with("UUID=") && table.contains(" /srv/hanse ext4 "), "{table}");
    }

    /// Mounts it in a machine, as its table of mounts says.
    pub(crate) fn mounted_in(&self, engine: &Dockerd, instance: &str) {
        let id = engine.docker(&["ps", "-q", "--filter", &format!("label=instance_id={instance}")]).unwrap();
        let pid = engine.docker(&["inspect", "-f", "{{.State.Pid}}", &id]).unwrap();
        let inside = PathBuf::from(format!("/proc/{pid}/root"));
        let number = self.name.trim_start_matches("/dev/loop");
        said(Command::new("mknod").arg(inside.join("dev/data")).args(["b", "7", number]));
        std::fs::create_dir_all(inside.join("srv/hanse")).unwrap();
        said(Command::new("mount").args(["-N", &pid, "-t", "ext4", "/dev/data", "/srv/hanse"]));
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // It is let go when the last that has it mounted is gone.
        let _ = Command::new("losetup").args(["-d", &self.name]).status();
    }
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Puts a disk without a machine into a cloud, with more tags than the mark of `cluster`.
pub(crate) fn plant(cloud: &Server, cluster: &str, more: &str) -> String {
    let script = format!(
        "T = lambda k, v: {{'Key': k, 'Value': v}}\nprint(ec2.create_volume(AvailabilityZone='us-east-1a', Size=5, \
         TagSpecifications=[{{'ResourceType': 'volume', 'Tags': [T('hanse:cluster', '{cluster}'), T('hanse:cloud', 'east'), \
         T('hanse:machine', 'old'), T('hanse:token', 'none'){more}]}}])['VolumeId'])"
    );
    cloud.boto(&script).unwrap()
}

/// Disks that are there, by the cloud's names of them.
pub(crate) fn there(cloud: &Server) -> Vec<String> {
    let names =
        cloud.boto("print(' '.join(sorted(v['VolumeId'] for v in ec2.describe_volumes()['Volumes'])))").unwrap();
    names.split_whitespace().map(str::to_owned).collect()
}

/// What of `disk` is shown with a cloud.
pub(crate) fn shown(cloud: &Value, disk: &str) -> Option<Value> {
    cloud["cloud"]["orphans"].as_array()?.iter().find(|it| it["instance"] == disk).cloned()
}
