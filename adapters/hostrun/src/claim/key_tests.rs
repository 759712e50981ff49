//! A key whose program makes a new one where it finds none: its place is never empty, and what stands there is not taken for a key.

use super::*;

const WORDS: &str = "the platform runs this node";

fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.claim.in_place = Some(WORDS.into());
    stage
}

fn aside(stage: &Stage) -> Option<String> {
    stage.read(&format!("keys/node.key{SET_ASIDE}"))
}

#[test]
fn something_else_stands_in_the_place_of_the_key_until_it_is_given_back() {
    let stage = stage();
    stage.write("settings.toml", "by hand");
    fs::create_dir_all(stage.home().join("wallet/deep")).unwrap();
    stage.write("wallet/deep/operator", "another secret");
    stage.seize(2, None).unwrap();
    let key = || (stage.read("keys/node.key").unwrap(), aside(&stage));
    assert_eq!(key(), (WORDS.into(), Some("secret".into())));
    stage.seize(2, None).unwrap();
    assert_eq!(key(), (WORDS.into(), Some("secret".into())), "once more changes nothing");
    stage.take(2).unwrap();
    let ours = |path: &str| fs::read_to_string(stage.ours().join(path)).ok();
    assert_eq!(ours("keys/node.key").as_deref(), Some("secret"), "and not what stands in its place");
    assert_eq!((ours("settings.toml").as_deref(), ours("wallet/deep/operator")), (Some("by hand"), None));
    stage.goes_on(3);
    fs::write(stage.ours().join("settings.toml"), "ours").unwrap();
    stage.give_back(4).unwrap();
    assert_eq!(key(), ("secret".into(), None));
    assert_eq!(stage.read("data/ledger").as_deref(), Some("block 9"));
    assert_eq!(stage.read("settings.toml").as_deref(), Some("by hand"), "what the driver changed stays behind");
    assert_eq!(stage.read("wallet/deep/operator").as_deref(), Some("another secret"));
    stage.give_back(4).unwrap();
    assert_eq!(key(), ("secret".into(), None), "the answer was lost");
}

/// Between the key's second name and what replaces the first one.
#[test]
fn it_is_gone_on_with_wherever_it_was_cut_off() {
    let cut = || {
        let stage = stage();
        let home = Home::open(&stage.layout, &stage.claim).unwrap().unwrap();
        instance::fence(&stage.layout, &stage.key, 2, Duration::ZERO).unwrap();
        home.write_mark(&stage.key, 2, true).unwrap();
        fs::hard_link(&home.key_file, &home.set_aside).unwrap();
        fs::write(temp_of(&home.key_file), "the pla").unwrap();
        stage
    };
    let stage = cut();
    stage.seize(2, None).unwrap();
    assert_eq!((stage.read("keys/node.key").as_deref(), aside(&stage).as_deref()), (Some(WORDS), Some("secret")));
    stage.take(2).unwrap();
    // It goes back instead.
    let stage = cut();
    stage.give_back(3).unwrap();
    assert_eq!((stage.read("keys/node.key").as_deref(), aside(&stage)), (Some("secret"), None));
    // Somebody removed what stood there.
    let stage = cut();
    stage.seize(2, None).unwrap();
    fs::remove_file(stage.home().join("keys/node.key")).unwrap();
    stage.seize(3, None).unwrap();
    assert_eq!(stage.read("keys/node.key").as_deref(), Some(WORDS));
}

/// Nothing is guessed if there are two keys, or none.
#[test]
fn another_key_in_its_place_is_refused_and_so_is_none() {
    let stage = stage();
    stage.seize(2, None).unwrap();
    stage.write("keys/node.key", "a new secret");
    refused(stage.seize(3, None), "keep the right one of both");
    refused(stage.give_back(4), "keep the right one of both");
    let read = |path: &str| stage.read(path).unwrap();
    assert_eq!((read("keys/node.key"), aside(&stage).unwrap()), ("a new secret".into(), "secret".into()));

    let stage = self::stage();
    stage.seize(2, None).unwrap();
    fs::remove_file(stage.home().join(format!("keys/node.key{SET_ASIDE}"))).unwrap();
    refused(stage.seize(3, None), "is not there");
    refused(stage.give_back(4), "bring the file back");
    assert_eq!(stage.read("keys/node.key").as_deref(), Some(WORDS));
}
