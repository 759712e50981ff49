//! Runs `tests/scripts/*.txt`: keys in, text out. One order a line:
//! `start MOOD COLUMNSxROWS LANG COMMAND`, `key WORDS`, `type TEXT`, `pass MS`, `mood MOOD`, `size CxR`, `see TEXT`,
//! `miss TEXT`, `wants WRITE` (the last write), `wants nothing`, `wrote RESOURCE`, `refused REASON`, `quit`.

use std::path::{Path, PathBuf};

use hanse_tui::app::model::data::Failure;
use hanse_tui::app::msg::Msg;
use hanse_tui::i18n::Lang;

use crate::world::{Mood, World};

#[test]
fn scripts() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 5, "scripts are missing");
    for path in paths {
        run(&path);
    }
}

fn mood(word: &str) -> Mood {
    match word {
        "normal" => Mood::Normal,
        "lost" => Mood::Lost,
        "silent" => Mood::Silent,
        "empty" => Mood::Empty,
        "denied" => Mood::Denied,
        "error" => Mood::Error,
        "out" => Mood::LoggedOut,
        "fresh" => Mood::Fresh,
        other => panic!("{other} is no mood"),
    }
}

fn size(word: &str) -> (u16, u16) {
    let (columns, rows) = word.split_once('x').unwrap();
    (columns.parse().unwrap(), rows.parse().unwrap())
}

fn run(path: &Path) {
    let script = std::fs::read_to_string(path).unwrap();
    let mut world = None;
    for (i, line) in script.lines().enumerate() {
        let at = format!("{}:{}: {line}", path.display(), i + 1);
        let (order, rest) = line.split_once(' ').unwrap_or((line, ""));
        if order.is_empty() || order.starts_with('#') {
            continue;
        }
        if order == "start" {
            let mut words = rest.splitn(4, ' ');
            let (mood, size) = (mood(words.next().unwrap()), size(words.next().unwrap()));
            let lang = Lang::of(words.next().unwrap());
            world = Some(World::with(size, lang, mood, words.next()));
            continue;
        }
        step(world.as_mut().expect("start comes first"), order, rest, &at);
    }
}

fn step(world: &mut World, order: &str, rest: &str, at: &str) {
    match order {
        "key" => world.keys(rest),
        "type" => world.type_text(rest),
        "pass" => world.pass(rest.parse().unwrap()),
        "mood" => world.mood = mood(rest),
        "size" => {
            let (columns, rows) = size(rest);
            world.send(Msg::Resize(columns, rows));
        }
        "account" => {
            let words: Vec<_> = rest.split(' ').collect();
            world.account = crate::seed::session(words[0], words[1], words.get(2).unwrap_or(&""));
            world.keys("C-r");
            world.pass(100);
            world.send(Msg::Wrote(Ok(hanse_tui::app::msg::Written { logged_in: true, ..Default::default() })));
        }
        "see" => assert!(world.screen().contains(rest), "{at}: not on\n{}", world.screen()),
        "miss" => assert!(!world.screen().contains(rest), "{at}: is on\n{}", world.screen()),
        "wants" if rest == "nothing" => assert!(world.writes.is_empty(), "{at}: {:?}", world.writes),
        "wants" => {
            let last = world.writes.last().map(|w| format!("{w:?}")).unwrap_or_default();
            assert!(last.contains(rest), "{at}: wanted was {last:?}");
        }
        "wrote" => world.wrote(rest),
        "refused" => {
            let failure = Failure {
                reason: rest.to_owned(),
                message: "the log refused it".to_owned(),
                advice: "Look at the resource again.".to_owned(),
                request_id: "0197b5a0-req".into(),
                ..Failure::default()
            };
            world.send(Msg::Wrote(Err(failure)));
        }
        "quit" => assert!(world.quit, "{at}"),
        other => panic!("{at}: {other} is no order"),
    }
}
