//! Rules of `update` that no screen shows at once: order of answers, limits, waiting.

use hanse_tui::app::effect::{Effect, Write};
use hanse_tui::app::model::data::{Chain, Failure, FailureKind, Loaded, Payload, Query};
use hanse_tui::app::model::watch::{Sought, Window};
use hanse_tui::app::model::{Link, MESSAGES_MAX, VIEWS_MAX};
use hanse_tui::app::msg::Msg;
use hanse_tui::app::update::{POLL_MS, update};
use hanse_tui::i18n::Lang;
use hanse_tui::keymap::{Code, Key};

use crate::world::{Mood, World};

fn chains(names: &[&str]) -> Box<Loaded> {
    let chain = |n: &&str| Chain { name: format!("consortiums/trade/chains/{n}"), ..Chain::default() };
    Box::new(Loaded { payload: Payload::Chains(names.iter().map(chain).collect()), revision: 81_300 })
}

fn fetches(effects: &[Effect]) -> Vec<&Query> {
    let query = |e: &'_ Effect| matches!(e, Effect::Fetch { .. });
    effects
        .iter()
        .filter(|e| query(e))
        .map(|e| if let Effect::Fetch { query, .. } = e { query } else { unreachable!() })
        .collect()
}

#[test]
fn a_late_answer_does_not_overwrite_a_newer_one() {
    let mut world = World::with((80, 24), Lang::En, Mood::Normal, Some(":chains"));
    let ticket = world.model.slots[&Query::Chains].ticket;
    world.send(Msg::Fetched { query: Query::Chains, ticket: ticket + 5, result: Ok(chains(&["new"])) });
    world.send(Msg::Fetched { query: Query::Chains, ticket, result: Ok(chains(&["old"])) });
    assert!(world.screen().contains("trade/new"));
    let failure = Failure { kind: FailureKind::Unavailable, ..Failure::default() };
    world.send(Msg::Fetched { query: Query::Chains, ticket, result: Err(failure) });
    assert_eq!(world.model.link, Link::Live, "a late failure is no news either");
}

#[test]
fn the_cursor_stays_on_its_resource_or_where_it_was() {
    let mut world = World::with((80, 24), Lang::En, Mood::Normal, Some(":chains"));
    let answer = |world: &mut World, names: &[&str]| {
        let ticket = world.model.slots[&Query::Chains].ticket;
        world.send(Msg::Fetched { query: Query::Chains, ticket, result: Ok(chains(names)) });
    };
    answer(&mut world, &["a", "b", "c"]);
    world.keys("j");
    answer(&mut world, &["a", "aa", "ab", "b", "c"]);
    assert!(world.screen().contains("▶ trade/b"), "{}", world.screen());
    answer(&mut world, &["a", "c"]);
    assert!(world.screen().contains("▶ trade/c"), "{}", world.screen());
    answer(&mut world, &[]);
    assert!(world.screen().contains("No chains yet"));
    world.keys("j k End Enter PgDn");
}

#[test]
fn the_only_cloud_is_offered_for_the_first_machine() {
    let mut world = World::with((120, 40), Lang::En, Mood::Normal, Some(":machines"));
    let mut only = crate::seed_cloud::clouds();
    only.truncate(1);
    for (query, payload) in [(Query::Clouds, Payload::Clouds(only)), (Query::Machines, Payload::Machines(Vec::new()))] {
        let ticket = world.model.slots[&query].ticket;
        world.send(Msg::Fetched { query, ticket, result: Ok(Box::new(Loaded { payload, revision: 81_300 })) });
    }
    world.keys("N");
    assert!(world.screen().contains("east"), "{}", world.screen());
}

#[test]
fn a_burst_of_changes_is_one_question_and_old_news_is_none() {
    let mut world = World::with((80, 24), Lang::En, Mood::Normal, Some(":chains"));
    let now = world.model.now;
    for revision in [81_000, 81_235, 81_236, 81_237] {
        assert!(update(&mut world.model, Msg::Changed { revision }).is_empty());
    }
    assert!(fetches(&update(&mut world.model, Msg::Tick(now + 100))).is_empty(), "too early");
    let effects = update(&mut world.model, Msg::Tick(now + 200));
    let rates = Query::Series(Sought::Chains, Window::Hour);
    assert_eq!(fetches(&effects), [&Query::Status, &Query::Chains, &rates, &Query::Operations]);
    let mut world = World::with((80, 24), Lang::En, Mood::Normal, Some(":chains"));
    update(&mut world.model, Msg::Changed { revision: 81_000 });
    assert!(fetches(&update(&mut world.model, Msg::Tick(now + 1_000))).is_empty(), "it is known already");
}

#[test]
fn figures_that_cannot_be_had_are_told_and_what_was_seen_grows_old_by_the_cluster_s_clock() {
    let chain = "consortiums/trade/chains/supply-1";
    for (first, sought) in [(":ch trade/supply-1", Sought::Own(chain.into())), (":chains", Sought::Chains)] {
        let mut world = World::with((120, 40), Lang::En, Mood::Normal, Some(first));
        let query = Query::Series(sought, Window::Hour);
        let ticket = world.model.slots[&query].ticket;
        let failure = Failure { reason: "EARLIER_PROGRAM".into(), message: "of before".into(), ..Failure::default() };
        assert!(!world.screen().contains("EARLIER_PROGRAM"));
        world.send(Msg::Fetched { query: query.clone(), ticket, result: Err(failure) });
        let screen = world.screen();
        assert!(screen.contains("Figures: EARLIER_PROGRAM of before"), "{screen}");
        assert!(screen.contains("229"), "what was seen stays: {screen}");
        // The operator's clock is of no matter, only the time that has passed since the answer.
        let slot = world.model.slots.get_mut(&query).expect("it was asked");
        slot.at -= 58_000;
        assert!(!screen.contains("- 1m") && world.screen().contains("- 1m"), "{}", world.screen());
    }
}

#[test]
fn a_silent_cluster_is_not_asked_again_and_again() {
    let mut world = World::with((80, 24), Lang::En, Mood::Silent, Some(":nodes"));
    let before = world.fetched;
    world.pass(10 * POLL_MS / 2);
    // The status is answered and polled; the nodes wait for their answer.
    assert!(world.fetched - before <= 6, "{}", world.fetched - before);
    assert!(world.screen().contains("Loading... (10s)"), "{}", world.screen());
}

#[test]
fn waits_for_a_leader_grow_to_a_limit() {
    let mut world = World::with((80, 24), Lang::En, Mood::Normal, Some(":nodes"));
    world.mood = Mood::Lost;
    world.pass(120_000);
    let Link::Lost { attempt, retry_at, .. } = world.model.link else { panic!("{:?}", world.model.link) };
    assert!((6..16).contains(&attempt), "{attempt} attempts in two minutes");
    assert!(retry_at - world.model.now <= 15_200);
    assert!(world.screen().contains("trade/supply-1/n0"), "old data stays");
    // One message, not one a try.
    assert_eq!(world.model.messages.iter().filter(|m| m.failure.is_some()).count(), 1);
}

#[test]
fn the_stream_is_opened_once_and_again_after_its_end() {
    let mut world = World::with((80, 24), Lang::En, Mood::Normal, Some(":nodes"));
    let now = world.model.now;
    let watches = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::Watch { .. })).count();
    assert_eq!(watches(&update(&mut world.model, Msg::Tick(now + 1))), 1);
    assert_eq!(watches(&update(&mut world.model, Msg::Tick(now + 2))), 0);
    update(&mut world.model, Msg::WatchEnded);
    assert_eq!(watches(&update(&mut world.model, Msg::Tick(now + 3))), 0, "not in a tight circle");
    assert_eq!(watches(&update(&mut world.model, Msg::Tick(now + 1_100))), 1);
}

#[test]
fn history_messages_and_answers_are_bounded() {
    let mut world = World::with((80, 24), Lang::En, Mood::Normal, Some(":chains"));
    for height in 1..=150 {
        world.type_text(&format!(":tx trade/supply-1 {height}"));
        world.keys("Enter");
        world.type_text(":nonsense");
        world.keys("Enter");
    }
    for _ in 0..100 {
        world.type_text(":nonsense");
        world.keys("Enter");
    }
    assert!(world.model.views.len() <= VIEWS_MAX);
    assert_eq!(world.model.messages.len(), MESSAGES_MAX);
    assert!(world.model.slots.len() <= 70, "{}", world.model.slots.len());
}

#[test]
fn a_read_only_console_says_so_and_writes_nothing() {
    let mut world = World::with((120, 40), Lang::En, Mood::Normal, Some(":nodes"));
    world.model.settings.read_only = true;
    world.keys("R");
    assert!(world.model.dialog.is_none());
    let screen = world.screen();
    assert!(screen.contains("[RO]") && screen.contains("read-only console"), "{screen}");
}

#[test]
fn pasted_text_is_never_keys() {
    let mut world = World::with((80, 24), Lang::En, Mood::Normal, Some(":nodes"));
    world.keys("R");
    world.pass(500);
    world.send(Msg::Paste("y\n:q\n".to_owned()));
    assert!(world.writes.is_empty() && !world.quit && world.model.dialog.is_some());
    world.keys("Esc :");
    world.send(Msg::Paste("chains\u{1b}[31m\n".to_owned()));
    assert!(world.screen().contains(":chains[31m"), "{}", world.screen());
}

#[test]
fn esc_and_what_follows_at_once_are_two_keys() {
    let mut world = World::with((80, 24), Lang::En, Mood::Normal, Some(":nodes"));
    world.keys("R");
    world.pass(500);
    assert!(world.model.dialog.is_some());
    // `Esc y` as one: the dialog is left, and nobody has said yes to it.
    world.keys("M-y");
    assert!(world.model.dialog.is_none() && world.writes.is_empty());
    world.keys("Esc M-:");
    world.type_text("chains");
    world.keys("Enter");
    assert!(world.screen().contains("Chains"), "{}", world.screen());
}

#[test]
fn no_binding_is_taken_for_esc_and_a_key() {
    let taken = |keys: &&str| keys.starts_with("M-") && keys.chars().count() == 3;
    let bound: Vec<_> = hanse_tui::keymap::BINDINGS.iter().flat_map(|it| it.keys).filter(|it| taken(it)).collect();
    assert!(bound.is_empty(), "{bound:?}");
}

#[test]
fn the_frame_is_drawn_only_when_something_changed() {
    let mut world = World::with((80, 24), Lang::En, Mood::Normal, Some(":chains"));
    world.pass(1_000);
    world.model.dirty = false;
    let now = world.model.now;
    world.send(Msg::Tick(now + 1));
    assert!(!world.model.dirty, "the same second");
    world.send(Msg::Key(Key::of(Code::Char('j'))));
    assert!(world.model.dirty);
    world.model.dirty = false;
    world.send(Msg::Tick(now + 1_001));
    assert!(world.model.dirty, "the clock moved");
}

#[test]
fn effects_never_print_a_secret() {
    let login = Effect::Write(Write::Login { account: "li@acme".to_owned(), password: "hunter2".to_owned() });
    let write = Write::Bootstrap { code: "CODE-9".to_owned(), account: "a".to_owned(), password: "hunter2".to_owned() };
    let printed = format!("{login:?} {:?}", Effect::Write(write));
    assert!(!printed.contains("hunter2") && !printed.contains("CODE-9"), "{printed}");
}

#[test]
fn an_expired_session_asks_for_the_login_and_keeps_the_view() {
    let mut world = World::with((80, 24), Lang::En, Mood::Normal, Some(":nodes"));
    world.account.expires_at = world.model.now + 1_000;
    world.keys("C-r");
    let ticket = world.model.slots[&Query::Session].ticket;
    let payload = Payload::Session(world.account.clone());
    world.send(Msg::Fetched { query: Query::Session, ticket, result: Ok(Box::new(Loaded { payload, revision: 1 })) });
    world.keys("j j");
    world.pass(1_500);
    assert!(world.screen().contains("Log in"), "{}", world.screen());
    world.account.expires_at = 0;
    world.send(Msg::Wrote(Ok(hanse_tui::app::msg::Written { logged_in: true, ..Default::default() })));
    assert!(world.screen().contains("▶ trade/supply-1/n2"), "{}", world.screen());
}

#[test]
fn a_replica_that_knows_nothing_yet_takes_nobodys_session() {
    let stale = |world: &mut World| {
        let mut status = crate::seed::status(true);
        status.bootstrapped = false;
        let ticket = world.model.slots[&Query::Status].ticket + 1;
        let loaded = Box::new(Loaded { payload: Payload::Status(status), revision: 0 });
        world.send(Msg::Fetched { query: Query::Status, ticket, result: Ok(loaded) });
    };
    let mut world = World::with((80, 24), Lang::En, Mood::Normal, Some(":chains"));
    stale(&mut world);
    assert!(world.model.form.is_none(), "{}", world.screen());
    let mut world = World::with((80, 24), Lang::En, Mood::LoggedOut, Some(":chains"));
    world.keys("a d");
    stale(&mut world);
    assert!(world.screen().contains("ad") && !world.screen().contains("Setup code"), "{}", world.screen());
}
