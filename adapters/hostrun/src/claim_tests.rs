#![allow(clippy::unwrap_used)]
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use hanse_adapters_core::InstanceSpec;

use super::*;
use crate::instance::StoredSpec;

#[path = "claim/back_tests.rs"]
mod way_back;

#[path = "claim/key_tests.rs"]
mod key;

const STOP: Option<Duration> = Some(Duration::from_secs(10));

/// A host, and a home that somebody made there by hand.
struct Stage {
    dir: tempfile::TempDir,
    layout: Layout,
    key: InstanceKey,
    claim: Claim,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("theirs");
        for folder in ["keys", "data"] {
            fs::create_dir_all(home.join(folder)).unwrap();
        }
        let claim = Claim {
            home: home.display().to_string(),
            key_file: "keys/node.key".into(),
            lock_file: "data/ledger".into(),
            left: vec!["config.toml".into(), "wallet/".into()],
            edited: vec!["settings.toml".into()],
            in_place: None,
        };
        let layout = Layout::new(&dir.path().join("root"));
        let key = InstanceKey::new("c", "trade.theirs.n0").unwrap();
        let stage = Self { dir, layout, key, claim };
        stage.write("keys/node.key", "secret");
        fs::set_permissions(stage.home().join("keys/node.key"), fs::Permissions::from_mode(0o600)).unwrap();
        stage.write("data/ledger", "block 7");
        stage.write("data/wal", "signed 7");
        stage.write("config.toml", "by hand");
        stage
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("theirs")
    }

    fn ours(&self) -> PathBuf {
        self.layout.instance(&self.key).unwrap().home()
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.home().join(path), text).unwrap();
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.home().join(path)).ok()
    }

    /// A process that holds the home, as a node does.
    fn run(&self) -> Child {
        let ledger = File::open(self.home().join("data/ledger")).unwrap();
        let held = ledger.as_fd().try_clone_to_owned().unwrap();
        Command::new("sleep").arg("600").stdin(held).stdout(Stdio::null()).spawn().unwrap()
    }

    fn seize(&self, generation: u64, stop: Option<Duration>) -> Result<(), AdapterError> {
        seize(&self.layout, &self.key, generation, &self.claim, stop)
    }

    fn take(&self, generation: u64) -> Result<(), AdapterError> {
        take(&self.layout, &self.key, generation, &self.claim)
    }

    fn give_back(&self, generation: u64) -> Result<(), AdapterError> {
        give_back(&self.layout, &self.key, generation, &self.claim, false)
    }

    /// As if the platform's process had been started.
    fn starts(&self, generation: u64) {
        let dir = self.layout.instance(&self.key).unwrap();
        let spec = InstanceSpec {
            key: self.key.clone(),
            generation,
            artifact_sha256: String::new(),
            program: None,
            args: Vec::new(),
            env: Default::default(),
            ports: Default::default(),
        };
        let stored = StoredSpec { version: FILE_VERSION, spec, program: "/none".into(), folder: "/".into() };
        write_json(&dir.spec(), &stored).unwrap();
    }

    /// As if the platform's process had run in its home and gone on there.
    fn goes_on(&self, generation: u64) {
        self.starts(generation);
        fs::write(self.ours().join("data/ledger"), "block 9").unwrap();
        fs::write(self.ours().join("data/more"), "a new file").unwrap();
        fs::remove_file(self.ours().join("data/wal")).unwrap();
        fs::write(self.ours().join("config.toml"), "ours").unwrap();
    }

    /// What is there of theirs, by name.
    fn names(&self) -> Vec<String> {
        carry::list_in(&self.home()).unwrap().into_iter().map(|file| file.path).collect()
    }
}

fn refused(done: Result<(), AdapterError>, words: &str) {
    let error = done.unwrap_err();
    let is_final = matches!(error, AdapterError::Invalid { .. });
    assert!(is_final && error.to_string().contains(words), "{error:?}");
}

fn waits(done: Result<(), AdapterError>, words: &str) {
    let error = done.unwrap_err();
    let is_passing = matches!(error, AdapterError::Transient { .. });
    assert!(is_passing && error.to_string().contains(words), "{error:?}");
}

#[test]
fn nothing_is_copied_before_the_owner_has_stopped_it_and_nothing_starts_it_again() {
    let stage = Stage::new();
    let mut node = stage.run();
    waits(stage.seize(2, None), "waits until its owner has stopped process");
    // Whatever would start it now finds no key.
    assert_eq!(
        (stage.read("keys/node.key"), stage.read("keys/node.key.taken-by-hanse")),
        (None, Some("secret".into()))
    );
    assert!(stage.read(CLAIM_MARK).unwrap().contains("trade.theirs.n0"));
    waits(stage.take(2), "is held by process");
    assert!(!stage.ours().exists());
    assert!(node.try_wait().unwrap().is_none(), "it was not touched");
    node.kill().unwrap();
    node.wait().unwrap();
    stage.seize(2, None).unwrap();
    refused(stage.take(3), "is not taken by generation 3");
    stage.take(2).unwrap();
    stage.take(2).unwrap();
    let ours: Vec<_> = carry::list_in(&stage.ours()).unwrap().into_iter().map(|it| (it.path, it.mode)).collect();
    let names: Vec<&str> = ours.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(names, ["data/ledger", "data/wal", "keys/node.key"], "the owner's settings are not ours");
    assert_eq!(ours[2].1, 0o600);
    assert_eq!(stage.read("data/ledger").as_deref(), Some("block 7"), "the owner's home is as it was");
    stage.goes_on(3);
    refused(stage.take(3), "is not taken by generation 3");
    stage.seize(3, None).unwrap();
    refused(stage.take(3), "was started on this host");
}

#[test]
fn the_one_process_that_holds_it_is_asked_to_stop_and_never_one_of_several() {
    let stage = Stage::new();
    let (mut node, mut other) = (stage.run(), stage.run());
    waits(stage.seize(2, STOP), "which is the node is not to be told");
    assert!(node.try_wait().unwrap().is_none() && other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
    stage.seize(2, STOP).unwrap();
    let ended = node.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(15), "asked, and not killed");
    stage.take(2).unwrap();
}

#[test]
fn a_home_that_was_never_started_by_us_is_given_back_as_it_was() {
    let stage = Stage::new();
    let before = carry::list_in(&stage.home()).unwrap();
    let is_taken = || instance::look(&stage.layout, &stage.key).unwrap().map(|status| status.taken);
    stage.seize(2, None).unwrap();
    assert_eq!(is_taken(), Some(false), "nothing of it is here yet");
    stage.take(2).unwrap();
    assert_eq!(is_taken(), Some(true), "whoever finds it must not remove it");
    // Only half of it, as after a crash.
    fs::remove_file(stage.ours().join("data/wal")).unwrap();
    stage.give_back(3).unwrap();
    let mut after = carry::list_in(&stage.home()).unwrap();
    after.retain(|file| file.path != CLAIM_MARK);
    assert_eq!(after, before);
    assert!(!stage.ours().exists());
    assert_eq!(is_taken(), None);
    // What was on its way since before changes nothing, and never asks the owner's process to stop.
    let mut node = stage.run();
    refused(stage.seize(2, STOP), "was marked by generation 3");
    refused(stage.take(2), "was marked by generation 3");
    refused(stage.give_back(2), "was marked by generation 3");
    stage.give_back(3).unwrap();
    assert!(node.try_wait().unwrap().is_none() && stage.read("keys/node.key").is_some());
    node.kill().unwrap();
    node.wait().unwrap();
    // And again, by a newer order.
    stage.seize(4, None).unwrap();
    stage.take(4).unwrap();
    assert_eq!(carry::list_in(&stage.ours()).unwrap().len(), 3);
}

#[test]
fn what_is_no_home_of_others_is_left_alone() {
    let stage = Stage::new();
    let other = InstanceKey::new("other-cluster", "trade.theirs.n0").unwrap();
    let theirs = Home::open(&stage.layout, &stage.claim).unwrap().unwrap();
    theirs.write_mark(&other, 9, true).unwrap();
    refused(stage.seize(2, None), "was taken over by other-cluster");
    refused(stage.give_back(2), "was taken over by other-cluster");
    theirs.write_mark(&other, 9, false).unwrap();
    stage.seize(2, None).unwrap();
    let own = Claim { home: stage.layout.root().join("instances").display().to_string(), ..stage.claim.clone() };
    fs::create_dir_all(&own.home).unwrap();
    refused(seize(&stage.layout, &stage.key, 3, &own, None), "is no home of others");
    let gone = Claim { home: "/nowhere/at/all".into(), ..stage.claim.clone() };
    refused(seize(&stage.layout, &stage.key, 4, &gone, None), "there is no such folder");
    give_back(&stage.layout, &stage.key, 5, &gone, false).unwrap();
    let empty = Stage::new();
    fs::remove_file(empty.home().join("keys/node.key")).unwrap();
    refused(empty.seize(2, None), "it is no home of a node of this ledger");
}

#[test]
fn a_survey_tells_and_changes_nothing() {
    let stage = Stage::new();
    let artifact =
        hanse_adapters_core::Artifact { sha256: file_sha256(Path::new("/bin/ls")).unwrap(), path: "/bin/ls".into() };
    let host = crate::Host::new(stage.layout.root(), Path::new("/bin/false"));
    host.put_artifact(&artifact).unwrap();
    let program = RunSpec {
        artifact_sha256: artifact.sha256,
        program: None,
        args: vec!["{home}".into()],
        env: Default::default(),
        timeout: Duration::from_secs(10),
    };
    let look = || survey(&stage.layout, &stage.claim, &["config.toml".into(), "none".into()], &program).unwrap();
    let before = carry::list_in(&stage.home()).unwrap();
    let mut node = stage.run();
    let seen = look();
    assert_eq!((seen.files, seen.obstacle.as_str(), seen.taken_by.as_deref()), (4, "", None));
    assert_eq!(seen.holders.iter().map(|it| it.pid).collect::<Vec<_>>(), [node.id()]);
    assert_eq!(seen.contents, [("config.toml".to_owned(), b"by hand".to_vec())].into());
    assert!(seen.said.unwrap().stdout.contains("keys") && seen.disk_free_bytes > 0);
    assert_eq!(carry::list_in(&stage.home()).unwrap(), before);
    assert!(!stage.ours().exists() && !stage.layout.cluster_dir("c").exists());
    node.kill().unwrap();
    node.wait().unwrap();
    symlink("/etc/passwd", stage.home().join("data/elsewhere")).unwrap();
    assert!(look().obstacle.contains("is a link"), "{:?}", look().obstacle);
    let gone = Claim { home: "/nowhere/at/all".into(), ..stage.claim.clone() };
    assert_eq!(survey(&stage.layout, &gone, &[], &program).unwrap().home, "");
}
