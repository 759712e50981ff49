//! Machines of a hypervisor with libvirt, by the same commands as those of a cloud: what it must show comes before any credential,
//! each machine is made once whatever happens to the leader, and nothing is left of what is deleted.
//!
//! What this does not show: a guest that becomes a host. Guests are emulated here and start from an empty disk; that they
//! start, are leased addresses and find their seed is the adapter's own tests'.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use hanse_fixtures::libvirtd::{BLANK, Libvirtd};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::people::PASSWORD;
use crate::wait::until;

/// Longest wait for anything on a busy two-core machine.
const LONG: Duration = Duration::from_secs(180);

struct Story {
    cluster: Cluster,
    hypervisor: Libvirtd,
    endpoint: String,
}

#[test]
fn a_hypervisors_machines_are_made_once_each_and_nothing_is_left_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut story = Story::begin(dir.path());
    story.is_given_no_credential_unless_it_shows_its_key();
    story.is_looked_at();
    story.a_killed_leader_makes_no_second_machine();
    story.what_nobody_asked_for_is_removed();
    story.what_is_deleted_is_gone();
}

impl Story {
    fn begin(dir: &Path) -> Self {
        let hypervisor = Libvirtd::spawn(&dir.join("hypervisor")).unwrap();
        let endpoint = hypervisor.endpoint("qemu", "system");
        let folder = dir.join("clouds");
        std::fs::create_dir(&folder).unwrap();
        let identity = hypervisor.sshd.identity_path.display();
        let config = format!("ssh_identity = \"{identity}\"\ncloud_credentials = \"{}\"", folder.display());
        let mut cluster = Cluster::prepare(dir, "test", &config);
        cluster.add_timing("orphan_grace_ms = 3000");
        (1..=3).for_each(|id| cluster.start_replica(id));
        cluster.bootstrap(PASSWORD);
        Self { cluster, hypervisor, endpoint }
    }

    fn credentials(&self, host_key: &str) {
        let identity = self.hypervisor.sshd.identity_path.display();
        let text = format!("identity = \"{identity}\"\nhost_key = \"{host_key}\"\n");
        let file = self.cluster.dir.join("clouds/rack1.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn ask(&self, args: &[&str]) -> Result<Value, String> {
        self.cluster.ask("admin", args).map_err(|(_, words)| words)
    }

    /// Names of all machines that libvirt's own client shows.
    fn domains(&self) -> Vec<String> {
        let told = self.hypervisor.virsh(&["list", "--all", "--name"]).unwrap();
        told.lines().filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    /// What volumes there are of a machine: `root`, `data`, `seed`, sorted.
    fn volumes(&self, machine: &str) -> Vec<String> {
        let end = format!("-{machine}");
        let all = self.hypervisor.volumes().unwrap();
        let ours = all.iter().filter_map(|name| name.strip_prefix("hanse-")?.strip_suffix(&end)?.rsplit('-').next());
        let mut parts: Vec<String> = ours.map(str::to_owned).collect();
        parts.sort();
        parts
    }

    fn is_given_no_credential_unless_it_shows_its_key(&self) {
        self.credentials(&format!("SHA256:{}", "A".repeat(43)));
        let how = ["--credentials-file", "rack1.toml", "--ssh-from", "10.77.0.1/32", "--user", "debian"];
        let where_at = ["cloud", "add", "cellar", "--region", "rack1", "--root", "/srv/hanse", "--url"];
        let typed = self.endpoint.replace("+ssh", "+tcp");
        let refused = self.ask(&[&where_at[..], &[&typed, "--kind", "libvirt"], &how].concat()).unwrap_err();
        assert!(refused.contains("endpoint") && refused.contains("qemu+ssh://USER@HOST"), "{refused}");
        let typed = self.endpoint.replace('@', ":hush@");
        let refused = self.ask(&[&where_at[..], &[&typed], &how].concat()).unwrap_err();
        assert!(refused.contains("spec.endpoint") && refused.contains("password"), "{refused}");
        assert!(!refused.contains("hush"), "{refused}");
        self.cluster.tell("admin", &[&where_at[..], &[&self.endpoint], &how].concat());
        let shown = self.cluster.tell("admin", &["cloud", "get", "cellar"]);
        assert_eq!(shown["cloud"]["spec"]["kind"], "LIBVIRT", "{shown}");

        let found = self.cluster.tell("admin", &["cloud", "check", "cellar"]).to_string();
        assert!(found.contains("host key") && found.contains(&self.hypervisor.sshd.fingerprint), "{found}");
        let log = self.hypervisor.sshd.log();
        assert!(log.contains("Connection from") && !log.contains("userauth"), "{log}");
    }

    fn is_looked_at(&self) {
        self.credentials(&self.hypervisor.sshd.fingerprint);
        let like = ["--image", BLANK, "--type", "1x64", "--subnet", "lab"];
        let found = self.cluster.tell("admin", &[&["cloud", "check", "cellar"][..], &like].concat());
        let all = found["findings"].as_array().unwrap_or_else(|| panic!("{found}"));
        let checks: Vec<&str> = all.iter().filter_map(|it| it["check"].as_str()).collect();
        assert_eq!(checks, ["credentials", "machines", "firewall", "type", "image", "space", "subnet"], "{found}");
        let missing = ["cloud", "check", "cellar", "--image", "base/none.img", "--type", "900x64", "--subnet", "away"];
        let found = self.cluster.tell("admin", &missing);
        let all = found["findings"].as_array().unwrap_or_else(|| panic!("{found}"));
        let wrong = |it: &&Value| it["severity"] == "ERROR";
        let checks: Vec<&str> = all.iter().filter(wrong).filter_map(|it| it["check"].as_str()).collect();
        assert_eq!(checks, ["type", "image", "subnet"], "{found}");
    }

    /// The hypervisor hangs when the machine's first disk is there, and the leader is killed before it hears of anything.
    fn a_killed_leader_makes_no_second_machine(&mut self) {
        let leader = self.cluster.leader("admin");
        let like = ["--cloud", "cellar", "--image", BLANK, "--type", "1x64", "--subnet", "lab", "--slots", "2"];
        let disk = ["--data-disk-gib", "1"];
        self.cluster.tell("admin", &[&["cloud", "machine", "create", "m1"][..], &like, &disk].concat());
        until("the first disk is there", LONG, || {
            if self.volumes("m1").is_empty() { Err(format!("{:?}", self.hypervisor.volumes())) } else { Ok(()) }
        });
        self.hypervisor.hang().unwrap();
        self.cluster.kill(leader);
        let other = self.cluster.leader("admin");
        assert_ne!(other, leader);
        self.hypervisor.go_on().unwrap();
        let machine = until("it is started", LONG, || {
            let seen = self.ask(&["cloud", "machine", "get", "m1"])?;
            if seen["machine"]["state"] == "STARTING" { Ok(seen["machine"].clone()) } else { Err(seen.to_string()) }
        });
        let domains = self.domains();
        assert_eq!(domains.len(), 1, "one machine: {domains:?}");
        let id = self.hypervisor.virsh(&["domuuid", &domains[0]]).unwrap();
        assert_eq!(machine["instance"].as_str(), Some(id.as_str()), "{machine}");
        assert_eq!(self.hypervisor.virsh(&["domstate", &id]).unwrap(), "running");
        assert_eq!(self.volumes("m1"), ["data", "root", "seed"]);
        self.cluster.start_replica(leader);
    }

    /// A machine of ours that no order knows is ended; one without our mark is not looked at.
    fn what_nobody_asked_for_is_removed(&self) {
        let define = |xml: &str| {
            let file = self.cluster.dir.join("planted.xml");
            std::fs::write(&file, xml).unwrap();
            self.hypervisor.virsh(&["define", &file.display().to_string()]).unwrap();
        };
        let domain = |name: &str, mark: &str| {
            format!(
                "<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
                 <os><type arch='x86_64'>hvm</type></os>{mark}</domain>"
            )
        };
        let ours = self.hypervisor.virsh(&["dumpxml", &self.domains()[0]]).unwrap();
        let (from, to) = (ours.find("<metadata>").unwrap(), ours.find("</metadata>").unwrap());
        let root = self.hypervisor.volumes().unwrap().into_iter().find(|name| name.ends_with("-root-m1")).unwrap();
        let token = root.split('-').nth(2).unwrap();
        assert!(token.len() == 64 && ours[from..to].contains(token), "{root}: {ours}");
        let mark = ours[from..to].replace(token, &"0".repeat(64)) + "</metadata>";
        define(&domain("theirs", ""));
        define(&domain("planted", &mark));
        until("what was planted is gone", LONG, || {
            let left = self.domains();
            if left.iter().any(|name| name == "planted") { Err(format!("{left:?}")) } else { Ok(()) }
        });
        assert!(self.domains().contains(&"theirs".to_owned()) && self.domains().len() == 2, "{:?}", self.domains());
        let log = self.cluster.tell("admin", &["audit", "list", "--filter", "RemoveCloudOrphan"]);
        let records = log["records"].as_array().unwrap_or_else(|| panic!("{log}"));
        assert!(records.len() == 1 && records[0]["actor"] == "system" && records[0]["outcome"] == "ok", "{log}");
    }

    fn what_is_deleted_is_gone(&self) {
        let refused = self.ask(&["cloud", "remove", "cellar", "--yes"]).unwrap_err();
        assert!(refused.contains("machines are of it"), "{refused}");
        self.cluster.tell("admin", &["cloud", "machine", "delete", "m1", "--reason", "the story ends", "--yes"]);
        until("no machine is left", LONG, || {
            let list = self.ask(&["cloud", "machine", "list"])?;
            if list["machines"].as_array().is_none_or(Vec::is_empty) { Ok(()) } else { Err(list.to_string()) }
        });
        assert_eq!(self.domains(), ["theirs"]);
        assert_eq!(self.volumes("m1"), Vec::<String>::new());
        until("its packet filter is gone with the last machine", LONG, || {
            let left = self.hypervisor.virsh(&["nwfilter-list"]).unwrap();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        self.cluster.tell("admin", &["cloud", "remove", "cellar", "--yes"]);
        let words: String = (1..=3).map(|id| self.cluster.words(id)).collect();
        assert!(!words.contains("PRIVATE KEY"), "a replica wrote a secret");
    }
}
