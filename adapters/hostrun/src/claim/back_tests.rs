//! The way back: what ours has become, what is left as it is, and what goes on after a failure.

use super::*;

#[test]
fn what_was_signed_since_goes_back_before_the_key_does() {
    let stage = Stage::new();
    stage.seize(2, None).unwrap();
    stage.take(2).unwrap();
    stage.goes_on(3);
    stage.give_back(4).unwrap();
    let kept = [CLAIM_MARK, "config.toml", "data/ledger", "data/more", "keys/node.key"];
    assert_eq!(stage.names(), kept, "as ours was, with the owner's settings");
    let read = |path: &str| stage.read(path).unwrap();
    assert_eq!(
        (read("data/ledger"), read("config.toml"), read("keys/node.key")),
        ("block 9".into(), "by hand".into(), "secret".into())
    );
    // The answer was lost and the owner has gone on: nothing is written over it.
    stage.write("data/ledger", "block 11");
    stage.give_back(4).unwrap();
    assert_eq!(read("data/ledger"), "block 11");
}

/// Cut off anywhere, the same request goes on; until the key has its name again ours is whole.
#[test]
fn a_way_back_that_was_cut_off_is_gone_on_with() {
    let stage = Stage::new();
    stage.seize(2, None).unwrap();
    stage.take(2).unwrap();
    stage.goes_on(3);
    let home = Home::open(&stage.layout, &stage.claim).unwrap().unwrap();
    let dir = stage.layout.instance(&stage.key).unwrap();
    let taken = listed(&home.path, &stage.claim).unwrap();
    back::put_back(&home, &dir, &stage.claim, &taken, &disk_free).unwrap();
    stage.write("data/ledger", "torn");
    stage.give_back(4).unwrap();
    assert_eq!(stage.read("data/ledger").as_deref(), Some("block 9"));
    // After the mark and before the name.
    let stage = Stage::new();
    stage.seize(2, None).unwrap();
    Home::open(&stage.layout, &stage.claim).unwrap().unwrap().write_mark(&stage.key, 3, false).unwrap();
    stage.give_back(3).unwrap();
    assert!(stage.read("keys/node.key").is_some());
}

/// Its owner has second thoughts, or his process does not end when it is asked to.
#[test]
fn one_whose_process_never_ended_is_given_back_while_it_runs() {
    let stage = Stage::new();
    let mut node = stage.run();
    waits(stage.seize(2, None), "waits until its owner has stopped process");
    stage.give_back(3).unwrap();
    assert!(node.try_wait().unwrap().is_none(), "it was not touched");
    assert_eq!(stage.read("keys/node.key").as_deref(), Some("secret"));
    refused(stage.seize(2, STOP), "was marked by generation 3");
    assert!(node.try_wait().unwrap().is_none() && stage.read("keys/node.key").is_some());
    node.kill().unwrap();
    node.wait().unwrap();
    // Where ours has run nothing is written below a process that would not see it.
    let stage = gone_on();
    let mut node = stage.run();
    waits(stage.give_back(4), "is held by process");
    assert_eq!((stage.read("keys/node.key"), stage.read("data/ledger").as_deref()), (None, Some("block 7")));
    node.kill().unwrap();
    node.wait().unwrap();
}

/// An order of the time before the way back that comes after it, though nothing had been taken by then.
#[test]
fn whoever_is_late_takes_nothing_of_a_home_that_went_back() {
    let stage = Stage::new();
    stage.give_back(3).unwrap();
    refused(stage.seize(2, STOP), "was marked by generation 3");
    stage.seize(4, None).unwrap();
    stage.give_back(5).unwrap();
    stage.give_back(8).unwrap();
    refused(stage.seize(7, STOP), "was marked by generation 8");
    assert_eq!(stage.read("keys/node.key").as_deref(), Some("secret"));
}

/// A home that was taken over, and in which ours went on.
fn gone_on() -> Stage {
    let stage = Stage::new();
    stage.seize(2, None).unwrap();
    stage.take(2).unwrap();
    stage.goes_on(3);
    stage
}

/// Bytes of every file below a folder, what is half copied with them.
fn used(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { used(&path) } else { fs::metadata(&path).unwrap().len() }).sum()
}

/// Names of what is half copied below a folder.
fn halves(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let is_half = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(TEMP_PREFIX);
    entries
        .flat_map(|path| if path.is_dir() { halves(&path) } else { Some(path).filter(is_half).into_iter().collect() })
        .collect()
}

/// On a disk with room for one copy and no more.
#[test]
fn a_copy_that_broke_off_goes_on_where_there_is_room_for_one() {
    let stage = Stage::new();
    stage.seize(2, None).unwrap();
    let all = ["block 7", "signed 7", "secret"].map(|it| it.len() as u64).iter().sum::<u64>();
    let take = |capacity: u64| {
        let free = |_: &Path| Ok((capacity + ROOM_BYTES).saturating_sub(used(&stage.ours())));
        take_within(&stage.layout, &stage.key, 2, &stage.claim, &free)
    };
    waits(take(all - 1), "free space on the host");
    assert_eq!(used(&stage.ours()), 0);
    fs::create_dir_all(stage.ours().join("data")).unwrap();
    fs::copy(stage.home().join("data/ledger"), stage.ours().join("data/ledger")).unwrap();
    fs::write(stage.ours().join("data").join(format!("{TEMP_PREFIX}wal")), "half of it").unwrap();
    // What was copied before its owner had it run once more.
    fs::write(stage.ours().join("data/old"), "gone since").unwrap();
    take(all).unwrap();
    assert_eq!((used(&stage.ours()), halves(&stage.ours())), (all, Vec::new()));
    // Its answer was lost.
    take(all).unwrap();
    assert_eq!(carry::list_in(&stage.ours()).unwrap().len(), 3);
}

/// Its owner's disk is full, something is in the way, or what copied was killed.
#[test]
fn a_way_back_that_fails_leaves_nothing_half_in_the_owners_home() {
    let stage = gone_on();
    fs::create_dir(stage.home().join("data/more")).unwrap();
    assert!(stage.give_back(4).is_err());
    assert_eq!(halves(&stage.home()), Vec::<PathBuf>::new());
    let stage = gone_on();
    stage.write(&format!("data/{TEMP_PREFIX}more"), "half of it");
    let order = |free: u64| {
        let free = |_: &Path| Ok(free);
        back::give_back_within(&stage.layout, &stage.key, 4, &stage.claim, true, &free)
    };
    // The store alone would fit.
    waits(order(9), "9 bytes are free and 10 are needed: free space on the host");
    assert_eq!((stage.read("data/ledger").as_deref(), stage.read("data/more")), (Some("block 7"), None));
    assert_eq!(halves(&stage.home()), Vec::<PathBuf>::new());
    order(10).unwrap();
    assert_eq!(stage.read("data/more").as_deref(), Some("a new file"));
}

/// What failed after the mark was seen to by a person, or the platform was restored from before: the order has another generation.
#[test]
fn a_newer_order_goes_on_with_a_way_back_that_was_marked() {
    let marked = || {
        let stage = gone_on();
        let home = Home::open(&stage.layout, &stage.claim).unwrap().unwrap();
        let dir = stage.layout.instance(&stage.key).unwrap();
        let taken = theirs(&home, &stage.claim).unwrap();
        back::put_back(&home, &dir, &stage.claim, &taken, &disk_free).unwrap();
        home.write_mark(&stage.key, 4, false).unwrap();
        stage
    };
    let order = |stage: &Stage, generation| give_back(&stage.layout, &stage.key, generation, &stage.claim, true);
    let stage = marked();
    order(&stage, 5).unwrap();
    let read = |path: &str| stage.read(path);
    assert_eq!((read("keys/node.key").as_deref(), read("data/ledger").as_deref()), (Some("secret"), Some("block 9")));
    assert!(!stage.ours().exists());
    // Ours is gone, and the record is of when it ran.
    order(&stage, 9).unwrap();
    assert_eq!(stage.read("keys/node.key").as_deref(), Some("secret"));
    // The platform, restored from before, has tried to start it where nothing is.
    stage.layout.instance(&stage.key).unwrap().make_home().unwrap();
    stage.starts(1_000);
    order(&stage, 1_001).unwrap();
    assert!(!stage.ours().exists());
    // Cut off while ours was removed: the home goes before the record of its generation.
    let stage = marked();
    back::remove_home(&stage.layout.instance(&stage.key).unwrap()).unwrap();
    assert!(!stage.ours().exists() && dir_file(&stage, "spec.json").exists());
    order(&stage, 6).unwrap();
    // It ran since, or nobody knows whether it did.
    let stage = marked();
    stage.starts(5);
    kept(&stage, 6, true, "older way back");
    fs::remove_file(dir_file(&stage, "spec.json")).unwrap();
    kept(&stage, 6, true, "older way back");
}

/// Refused with these words, and neither home is changed.
fn kept(stage: &Stage, generation: u64, was_started: bool, words: &str) {
    let both = || (carry::list_in(&stage.home()).unwrap(), carry::list_in(&stage.ours()).unwrap());
    let before = both();
    refused(give_back(&stage.layout, &stage.key, generation, &stage.claim, was_started), words);
    assert_eq!(both(), before, "{words}");
}

#[test]
fn the_only_copy_is_never_removed() {
    let stage = gone_on();
    fs::rename(stage.home(), stage.dir.path().join("moved")).unwrap();
    kept(&stage, 4, true, "is gone");
    fs::create_dir(stage.home()).unwrap();
    kept(&stage, 4, true, "bears no mark");
    fs::remove_dir(stage.home()).unwrap();
    fs::rename(stage.dir.path().join("moved"), stage.home()).unwrap();
    fs::remove_file(stage.home().join(CLAIM_MARK)).unwrap();
    kept(&stage, 4, true, "bears no mark");
    let home = Home::open(&stage.layout, &stage.claim).unwrap().unwrap();
    home.write_mark(&stage.key, 1, false).unwrap();
    kept(&stage, 4, true, "older way back");
    // It was copied and never started, and its owner has deleted what was copied.
    let stage = Stage::new();
    stage.seize(2, None).unwrap();
    stage.take(2).unwrap();
    fs::remove_file(stage.home().join("data/ledger")).unwrap();
    kept(&stage, 3, false, "has no data/ledger any more");
    fs::remove_dir_all(stage.home()).unwrap();
    kept(&stage, 3, false, "is gone");
}

#[test]
fn a_home_of_ours_that_is_not_whole_goes_nowhere() {
    for (path, words) in [("keys/node.key", "has no keys/node.key"), ("data/ledger", "has no data/ledger")] {
        let stage = gone_on();
        fs::remove_file(stage.ours().join(path)).unwrap();
        kept(&stage, 4, true, words);
    }
    let stage = gone_on();
    fs::write(stage.ours().join("keys/node.key"), "another").unwrap();
    kept(&stage, 4, true, "has another key");
    let stage = gone_on();
    fs::remove_dir_all(stage.ours()).unwrap();
    kept(&stage, 4, true, "has no keys/node.key");
    // Whoever started it knows better than a record that is gone.
    let stage = gone_on();
    let dir = stage.layout.instance(&stage.key).unwrap();
    fs::remove_file(dir.spec()).unwrap();
    kept(&stage, 4, true, "its record of that is gone");
    let stage = gone_on();
    fs::remove_file(dir_file(&stage, "taken.json")).unwrap();
    kept(&stage, 4, true, "the list of what was copied is gone");
}

fn dir_file(stage: &Stage, name: &str) -> PathBuf {
    stage.layout.instance(&stage.key).unwrap().path.join(name)
}

#[test]
fn it_is_not_given_back_before_the_key_can_be() {
    let stage = gone_on();
    stage.write("keys/node.key", "secret");
    kept(&stage, 4, true, "keep the right one of both");
    assert!(stage.read(CLAIM_MARK).unwrap().contains("\"taken\": true"));
    fs::remove_file(stage.home().join("keys/node.key")).unwrap();
    // Gone under both names: it comes from ours, with its mode.
    fs::remove_dir_all(stage.home().join("keys")).unwrap();
    stage.give_back(4).unwrap();
    assert_eq!(stage.read("keys/node.key").as_deref(), Some("secret"));
    let mode = fs::metadata(stage.home().join("keys/node.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let stage = Stage::new();
    stage.seize(2, None).unwrap();
    fs::remove_file(stage.home().join("keys/node.key.taken-by-hanse")).unwrap();
    kept(&stage, 3, false, "no copy of the key");
}

#[test]
fn what_is_the_owners_stays() {
    let stage = Stage::new();
    stage.write("data/same", "as it was");
    stage.seize(2, None).unwrap();
    stage.take(2).unwrap();
    stage.goes_on(3);
    stage.write("notes", "made since");
    stage.write("data/same", "by its owner since");
    stage.give_back(4).unwrap();
    let read = |path: &str| stage.read(path);
    assert_eq!(read("notes").as_deref(), Some("made since"));
    assert_eq!(read("data/same").as_deref(), Some("by its owner since"));
    assert_eq!((read("data/ledger").as_deref(), read("data/wal")), (Some("block 9"), None));
}

/// As root the files are given to whom they belonged; whoever else runs this writes as himself.
#[test]
fn what_is_written_belongs_to_the_owner() {
    let stage = Stage::new();
    let is_root = rustix::process::geteuid().is_root();
    let (folder, file) = if is_root { (4_711, 4_712) } else { (rustix::process::geteuid().as_raw(), 0) };
    if is_root {
        let give =
            |path: &str, id: u32| std::os::unix::fs::lchown(stage.home().join(path), Some(id), Some(id)).unwrap();
        ["", "data", "keys", "keys/node.key"].into_iter().for_each(|path| give(path, folder));
        give("data/ledger", file);
    }
    stage.seize(2, None).unwrap();
    stage.take(2).unwrap();
    stage.goes_on(3);
    fs::create_dir(stage.ours().join("data/deep")).unwrap();
    fs::write(stage.ours().join("data/deep/file"), "new").unwrap();
    stage.give_back(4).unwrap();
    let of = |path: &str| fs::metadata(stage.home().join(path)).unwrap().uid();
    for path in [CLAIM_MARK, "keys/node.key", "data/more", "data/deep", "data/deep/file"] {
        assert_eq!(of(path), folder, "{path}");
    }
    assert_eq!(of("data/ledger"), if is_root { file } else { folder });
}
