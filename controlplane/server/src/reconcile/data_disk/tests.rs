#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::*;

/// A file as a disk. It ends with the value.
struct Disk {
    file: PathBuf,
    device: String,
}

impl Disk {
    /// One of `bytes` that holds nothing, or what `fill` puts there. Sizes tell disks apart, so each test has its own.
    fn new(dir: &Path, name: &str, bytes: u64, fill: impl Fn(&Path)) -> Self {
        let file = dir.join(name);
        File::create(&file).unwrap().set_len(bytes).unwrap();
        fill(&file);
        let output = Command::new("losetup").args(["-f", "--show"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { file, device: String::from_utf8_lossy(&output.stdout).trim().to_owned() }
    }

    fn hash(&self) -> Vec<u8> {
        ring::digest::digest(&ring::digest::SHA256, &fs::read(&self.file).unwrap()).as_ref().to_vec()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
    }
}

/// A machine between two starts: its folder and its table of mounts.
struct Rig {
    dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("fstab"), "# as the image has it\n").unwrap();
        fs::write(dir.path().join("script"), SCRIPT).unwrap();
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn fstab(&self) -> String {
        fs::read_to_string(self.dir.path().join("fstab")).unwrap()
    }

    /// One start of the machine: what is mounted in it ends with it. `$DISK` is what cloud-init runs, for disks of `bytes`.
    fn start(&self, bytes: u64, commands: &str) -> Output {
        let dir = self.dir.path().display();
        let disk = format!("sh {dir}/script {dir}/root {bytes} nobody loop");
        let head = format!(
            "set -e; mount --make-rprivate /; mount --bind '{dir}/fstab' /etc/fstab; cd '{dir}'; DISK=\"{disk}\""
        );
        Command::new("unshare").args(["-m", "sh", "-c", &format!("{head}; {commands}")]).output().unwrap()
    }

    fn well(&self, bytes: u64, commands: &str) -> String {
        let output = self.start(bytes, commands);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What is said against a disk or a folder.
    fn refused(&self, bytes: u64) -> String {
        let output = self.start(bytes, "$DISK");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && words.contains("hanse: data disk for"), "{words}");
        assert_eq!(self.fstab(), "# as the image has it\n");
        words
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(self.root()).output();
    }
}

const MIB: u64 = 1 << 20;

#[test]
fn an_empty_disk_is_formatted_once_and_the_folder_is_on_it_after_each_start() {
    let (machine, bytes) = (Rig::new(), 67 * MIB + 512);
    let disk = Disk::new(machine.dir.path(), "disk", bytes, |_| {});
    let seen =
        machine.well(bytes, "$DISK; findmnt -no SOURCE,FSTYPE root; stat -c '%U %a' root; echo kept > root/file");
    assert_eq!(seen, format!("{} ext4\nnobody 755", disk.device));
    let table = machine.fstab();
    let line = table.lines().last().unwrap();
    assert!(line.starts_with("UUID=") && line.contains(" ext4 defaults,nofail,"), "{table}");

    // As systemd does it at a start, and then cloud-init once more.
    assert_eq!(machine.well(bytes, "mount root; $DISK; $DISK; cat root/file"), "kept");
    // It was not mounted in time: then by what cloud-init runs.
    assert_eq!(machine.well(bytes, "$DISK; cat root/file"), "kept");
    assert_eq!(machine.fstab(), table);
    // Without its disk the folder takes nothing, from nobody.
    let output = machine.start(bytes, "echo lost > root/file");
    assert!(!output.status.success() && fs::read_dir(machine.root()).unwrap().next().is_none());
    assert_eq!(fs::metadata(machine.root()).unwrap().mode() & 0o777, 0);
}

#[test]
fn nothing_that_holds_anything_is_formatted() {
    let machine = Rig::new();
    let format = |program: &'static str| {
        move |file: &Path| assert!(Command::new(program).args(["-q"]).arg(file).output().unwrap().status.success())
    };
    type Fill = Box<dyn Fn(&Path)>;
    let kinds: [(&str, Fill); 4] = [
        ("another's file system", Box::new(format("mkfs.ext4"))),
        ("swap", Box::new(|file| assert!(Command::new("mkswap").arg(file).output().unwrap().status.success()))),
        (
            "a table of partitions",
            Box::new(|file| {
                // The mark of an MBR with one partition.
                let file = File::options().write(true).open(file).unwrap();
                file.write_all_at(&[0, 0, 2, 0, 0x83, 0, 8, 0, 1, 0, 0, 0, 0, 0x40, 0, 0], 446).unwrap();
                file.write_all_at(&[0x55, 0xaa], 510).unwrap();
            }),
        ),
        (
            "bytes without any mark",
            Box::new(|file| {
                File::options().write(true).open(file).unwrap().write_all_at(b"x", 9 * MIB + 17).unwrap();
            }),
        ),
    ];
    for (n, (kind, fill)) in (0..).zip(kinds) {
        let bytes = 68 * MIB + 512 * n;
        let disk = Disk::new(machine.dir.path(), kind, bytes, fill);
        let before = disk.hash();
        let words = machine.refused(bytes);
        assert!(words.contains(&format!("not empty: {}", disk.device)), "{kind}: {words}");
        assert_eq!(disk.hash(), before, "{kind}");
    }
}

#[test]
fn what_cannot_be_told_apart_is_left_to_a_person() {
    let (machine, bytes) = (Rig::new(), 69 * MIB + 512);
    assert!(machine.refused(bytes).contains("no empty disk of"));
    let other = Disk::new(machine.dir.path(), "smaller", bytes - 512, |_| {});
    assert!(machine.refused(bytes).contains("no empty disk of"), "one of another size is not it");
    let one = Disk::new(machine.dir.path(), "one", bytes, |_| {});
    let two = Disk::new(machine.dir.path(), "two", bytes, |_| {});
    let before = [other.hash(), one.hash(), two.hash()];
    let words = machine.refused(bytes);
    assert!(words.contains("more than one empty disk") && words.contains(&two.device), "{words}");
    assert_eq!([other.hash(), one.hash(), two.hash()], before);
    drop(two);
    fs::create_dir(machine.root()).unwrap();
    fs::write(machine.root().join("passwd"), "").unwrap();
    assert!(machine.refused(bytes).contains("holds"), "what is there would be hidden");
    fs::remove_file(machine.root().join("passwd")).unwrap();
    machine.well(bytes, "$DISK");
}

#[test]
fn cloud_init_is_told_the_script_as_it_is_beside_the_host_key() {
    let spec = CloudSpec {
        kind: hanse_state::cloud::CloudKind::Ec2,
        endpoint: "https://ec2.example".into(),
        region: "r1".into(),
        credentials: "east.toml".into(),
        public: false,
        ssh_from: Vec::new(),
        peers_from: Vec::new(),
        user: "admin".into(),
        root: "/srv/hanse".into(),
        port_first: 30_000,
        port_count: 100,
        machines_max: 2,
    };
    let disk = DataDisk { gib: 3, kind: String::new(), keep: false };
    let (key, _) = super::super::host_key::cloud_config(&[7; 32]);
    for before in ["", key.as_str()] {
        let user_data = told(before, &spec, &disk);
        let rest = user_data.strip_prefix(if before.is_empty() { HEAD } else { before }).unwrap();
        let (head, block) = rest.split_once("    - |\n").unwrap();
        assert_eq!(head, "bootcmd:\n  - &data_disk\n    - sh\n    - -c\n");
        let script: String =
            block.lines().map_while(|line| line.strip_prefix("      ")).map(|line| format!("{line}\n")).collect();
        assert_eq!(script, SCRIPT);
        let tail: Vec<&str> = block.lines().skip(SCRIPT.lines().count()).map(str::trim).collect();
        let words = ["- hanse-data-disk", "- \"/srv/hanse\"", "- \"3221225472\"", "- \"admin\""];
        assert_eq!(tail, [&words[..], &["runcmd:", "- *data_disk"]].concat());
        // EC2 takes 16 KiB of it.
        assert!(user_data.len() < 16_000, "{}", user_data.len());
    }
}

#[test]
fn what_is_in_the_way_is_told() {
    let fine = Finding::fine(DATA_DISK, "there");
    let bad = Finding::error(DATA_DISK, "the root folder is on /dev/sda1", "look at the log");
    let unreached = Finding::error("connection", "no", "see that sshd runs");
    assert_eq!(judge(&[Finding::error("memory", "little", "add some"), fine]), Ok(()));
    assert!(judge(&[unreached.clone(), bad]).unwrap_err().contains("/dev/sda1: look at the log"));
    assert!(judge(&[unreached]).unwrap_err().contains("see that sshd runs"));
    assert!(judge(&[]).unwrap_err().contains("could not be looked at"));
}
