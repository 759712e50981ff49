//! Every screen in both sizes and languages, and every state of a list, against the files in `tests/golden`.
//! `UPDATE_GOLDEN=1` writes them; their diff is what a reviewer reads.

use std::path::PathBuf;

use hanse_tui::app::model::data::{Loaded, Payload, Query};
use hanse_tui::app::msg::Msg;
use hanse_tui::format::width;
use hanse_tui::i18n::Lang;

use crate::seed::{self, CHAIN, PROPOSAL, TX};
use crate::world::{Mood, World};

const SIZES: [(u16, u16); 2] = [(80, 24), (120, 40)];

fn check(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = wanted.lines().zip(actual.lines()).enumerate().find(|(_, (w, a))| w != a);
    assert!(
        wanted == actual,
        "{name} differs from its golden file (UPDATE_GOLDEN=1 writes it), first at {differs:?}\n{actual}"
    );
}

/// Draws a screen in every size and language after `prepare`.
fn shots(name: &str, mood: Mood, command: &str, prepare: impl Fn(&mut World)) {
    let mut all = String::new();
    for lang in [Lang::En, Lang::Zh] {
        for size in SIZES {
            let mut world = World::with(size, lang, mood, Some(command));
            prepare(&mut world);
            let screen = world.screen();
            for line in screen.lines() {
                assert!(width(line) <= usize::from(size.0), "{name}: too wide: {line}");
                assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{name}: not clean: {line:?}");
            }
            all.push_str(&format!("==== {}x{} {lang:?}\n{screen}", size.0, size.1));
        }
    }
    check(name, &all);
}

#[test]
fn screens() {
    let proposal = PROPOSAL.replace("consortiums/", "").replace("proposals/", "");
    let tx = format!(":tx {CHAIN} {TX}");
    let commands = [
        ("overview", ":overview"),
        ("replicas", ":replicas"),
        ("tenants", ":tenants"),
        ("consortiums", ":consortiums"),
        ("consortium", ":co trade"),
        ("proposals", ":proposals"),
        ("proposal", &format!(":pr {proposal}")),
        ("chains", ":chains"),
        ("chain", ":ch trade/supply-1"),
        ("governance", ":gov trade/supply-1"),
        ("nodes", ":nodes"),
        ("hosts", ":hosts"),
        ("clouds", ":clouds"),
        ("machines", ":machines"),
        ("findings", ":findings"),
        ("monitor", ":monitor trade/supply-1"),
        ("artifacts", ":artifacts"),
        ("preflight", ":pf h1"),
        ("operations", ":operations"),
        ("operation", ":op op-3"),
        ("explorer", ":bl trade/supply-1"),
        ("block", ":tx trade/supply-1 1204331"),
        ("transaction", &tx),
        ("account", ":tx trade/supply-1 0xde709f2102306220921060314715629080e2fb77"),
        ("audit", ":audit"),
        ("invoice", ":billing acme"),
        ("help", ":help"),
    ];
    for (name, command) in commands {
        shots(name, Mood::Normal, command, |_| {});
    }
}

#[test]
fn facts_and_json_of_a_line() {
    shots("facts", Mood::Normal, ":nodes", |w| w.keys("Down d"));
    shots("host_page", Mood::Normal, ":hosts", |w| w.keys("Enter"));
    shots("node_never_seen", Mood::Normal, ":nodes", |w| w.keys("End Enter"));
    shots("monitor_day", Mood::Normal, ":monitor trade/supply-1", |w| w.keys("w w"));
    shots("chain_six_hours", Mood::Normal, ":ch trade/supply-1", |w| w.keys("F12"));
    shots("json", Mood::Normal, ":chains", |w| w.keys("Down y"));
    shots("messages", Mood::Normal, ":chains", |w| {
        w.mood = Mood::Lost;
        w.pass(3_000);
        w.mood = Mood::Normal;
        w.pass(3_000);
        w.keys("F9");
    });
}

#[test]
fn states_of_a_list() {
    for (name, mood) in
        [("loading", Mood::Silent), ("empty", Mood::Empty), ("denied", Mood::Denied), ("error", Mood::Error)]
    {
        shots(&format!("state_{name}"), mood, ":chains", |w| w.pass(1_200));
        shots(&format!("state_{name}_overview"), mood, ":overview", |w| w.pass(1_200));
    }
    shots("state_no_match", Mood::Normal, ":chains /foo", |_| {});
    shots("state_stale", Mood::Normal, ":chains", |w| {
        w.mood = Mood::Lost;
        w.pass(9_000);
    });
}

#[test]
fn a_long_name_gives_way_to_how_old_the_data_is() {
    let mut world = World::with((80, 24), Lang::En, Mood::Normal, Some(":chains"));
    let payload = Payload::Session(seed::session("somebody.with-a-long-name", "PLATFORM_ADMINISTRATOR", ""));
    let result = Ok(Box::new(Loaded { payload, revision: 81_234 }));
    world.send(Msg::Fetched { query: Query::Session, ticket: 1_000, result });
    world.mood = Mood::Lost;
    world.pass(9_000);
    let screen = world.screen();
    let row = screen.lines().nth(1).unwrap();
    assert!(row.contains("..  data ") && row.contains("STALE") && row.contains("writes disabled"), "{row}");
}

#[test]
fn dialogs() {
    shots("login", Mood::LoggedOut, ":chains", |w| {
        w.type_text("li@acme");
        w.keys("Tab");
        w.type_text("secret");
    });
    shots("setup", Mood::Fresh, ":chains", |_| {});
    let proposal = PROPOSAL.replace("consortiums/", "").replace("proposals/", "");
    shots("vote", Mood::Normal, &format!(":pr {proposal}"), |w| {
        w.keys("A");
        w.pass(500);
        w.keys("1 Tab");
        w.type_text("/mnt/usb/bocom.pem");
    });
    shots("restart", Mood::Normal, ":nodes", |w| w.keys("R"));
    shots("repair", Mood::Normal, ":ch trade/supply-1", |w| w.keys("E"));
    shots("import", Mood::Normal, ":chains", |w| w.keys("I"));
    shots("adopt", Mood::Normal, ":ch trade/theirs-7", |w| w.keys("O"));
    shots("reach", Mood::Normal, ":hosts", |w| w.keys("Down W"));
    shots("add_cloud", Mood::Normal, ":clouds", |w| {
        w.keys("N");
        w.pass(500);
        for text in ["south", "ec2.south.example", "south-1", "south.toml", "", "10.0.0.0/24 10.1.0.0/24", "", "admin"]
        {
            w.type_text(text);
            w.keys("Tab");
        }
        w.keys("Tab Tab Tab");
    });
    shots("create_machine", Mood::Normal, ":machines", |w| w.keys("N"));
    shots("remove_cloud", Mood::Normal, ":clouds", |w| w.keys("Down X"));
    shots("pause", Mood::Normal, ":chains", |w| w.keys("Down P"));
    shots("undelete", Mood::Normal, ":chains", |w| w.keys("Down Down Down Down U"));
    shots("raise_version", Mood::Normal, ":replicas", |w| {
        w.keys("U");
        w.pass(500);
        w.type_text("bj-pro");
        w.keys("Enter");
    });
    shots("which_key", Mood::Normal, ":nodes", |w| w.keys("g"));
    shots("command", Mood::Normal, ":nodes", |w| {
        w.keys(":");
        w.type_text("c");
    });
}

#[test]
fn ascii_draws_only_ascii() {
    let commands = [
        ":overview",
        ":chains",
        ":nodes",
        ":op op-3",
        ":pr trade/p-2",
        ":help",
        ":replicas",
        ":billing acme",
        ":audit",
    ];
    let mut all = String::new();
    for command in commands {
        let mut world = World::with((100, 30), Lang::En, Mood::Normal, Some(command));
        world.model.settings.theme.ascii = true;
        let screen = world.screen();
        let outside: String =
            screen.chars().filter(|c| !c.is_ascii() && !"供应链交通银行国家电网".contains(*c)).collect();
        let help_aliases = command == ":help";
        assert!(outside.is_empty() || help_aliases, "{command}: {outside}");
        all.push_str(&format!("==== {command}\n{screen}"));
    }
    check("ascii", &all);
}

#[test]
fn too_small_keeps_the_header() {
    let world = World::new((79, 20), Lang::En);
    let screen = world.screen();
    assert!(screen.contains("terminal too small (need 80x20)"), "{screen}");
    assert!(screen.contains("bj-prod"), "{screen}");
    let world = World::new((80, 20), Lang::Zh);
    assert!(!world.screen().contains("终端太小"));
}
