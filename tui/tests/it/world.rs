//! A console without a terminal and a cluster: keys go in, effects are answered from the seed, text comes out.

use hanse_tui::app::effect::{Effect, Write};
use hanse_tui::app::model::data::{Failure, FailureKind, Loaded, Payload, Query};
use hanse_tui::app::model::{Model, Settings};
use hanse_tui::app::msg::{Msg, Written};
use hanse_tui::app::update::{start, update};
use hanse_tui::app::view::view;
use hanse_tui::i18n::Lang;
use hanse_tui::keymap::{Code, Key};
use hanse_tui::theme::Theme;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use crate::seed;

/// How the fake cluster answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Normal,
    /// No leader: only the status is answered.
    Lost,
    Silent,
    Empty,
    Denied,
    Error,
    /// The session has ended.
    LoggedOut,
    /// Nobody has set the cluster up.
    Fresh,
}

pub(crate) struct World {
    pub(crate) model: Model,
    pub(crate) mood: Mood,
    pub(crate) account: hanse_tui::app::model::data::Session,
    pub(crate) writes: Vec<Write>,
    pub(crate) quit: bool,
    pub(crate) fetched: usize,
}

impl World {
    pub(crate) fn new(size: (u16, u16), lang: Lang) -> Self {
        Self::with(size, lang, Mood::Normal, None)
    }

    pub(crate) fn with(size: (u16, u16), lang: Lang, mood: Mood, first: Option<&str>) -> Self {
        let settings = Settings {
            lang,
            theme: Theme { ascii: false, color: true },
            read_only: false,
            start: first.map(str::to_owned),
            key_path: String::new(),
        };
        let mut world = Self {
            model: Model::new(settings, size, seed::NOW),
            mood,
            account: seed::session("wu@bocom", "TENANT_OWNER", "bocom"),
            writes: Vec::new(),
            quit: false,
            fetched: 0,
        };
        let effects = start(&mut world.model);
        world.answer(effects);
        world
    }

    pub(crate) fn send(&mut self, msg: Msg) {
        let effects = update(&mut self.model, msg);
        self.answer(effects);
    }

    /// Presses keys given as words: `Enter`, `C-r`, `a`.
    pub(crate) fn keys(&mut self, words: &str) {
        for word in words.split_whitespace() {
            let key = Key::parse(word).unwrap_or_else(|| panic!("{word} is no key"));
            self.send(Msg::Key(key));
        }
    }

    /// Types a text as keys.
    pub(crate) fn type_text(&mut self, text: &str) {
        for c in text.chars() {
            self.send(Msg::Key(Key::of(Code::Char(c))));
        }
    }

    /// Lets time pass in tenths of a second, as the runtime does.
    pub(crate) fn pass(&mut self, ms: i64) {
        let end = self.model.now + ms;
        while self.model.now < end {
            let next = (self.model.now + 100).min(end);
            self.send(Msg::Tick(next));
        }
    }

    pub(crate) fn answer(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Fetch { query, ticket } => {
                    self.fetched += 1;
                    if let Some(result) = self.result(&query) {
                        let result = result.map(|payload| Box::new(Loaded { payload, revision: 81_234 }));
                        self.send(Msg::Fetched { query, ticket, result });
                    }
                }
                Effect::Write(write) => self.writes.push(write),
                Effect::Quit => self.quit = true,
                Effect::Watch { .. } | Effect::Redraw => {}
            }
        }
    }

    fn result(&self, query: &Query) -> Option<Result<Payload, Failure>> {
        let fail = |kind, reason: &str, message: &str, advice: &str| {
            Some(Err(Failure {
                kind,
                reason: reason.to_owned(),
                message: message.to_owned(),
                advice: advice.to_owned(),
                ..Failure::default()
            }))
        };
        match (self.mood, query) {
            (Mood::Fresh, Query::Status) => {
                let mut status = seed::status(true);
                status.bootstrapped = false;
                Some(Ok(Payload::Status(status)))
            }
            (Mood::Fresh | Mood::LoggedOut, q) if *q != Query::Status => {
                fail(FailureKind::Unauthenticated, "SESSION_ENDED", "the session has ended", "Log in again.")
            }
            (Mood::Lost, Query::Status) => Some(Ok(Payload::Status(seed::status(false)))),
            (Mood::Lost, _) => fail(FailureKind::Unavailable, "NO_LEADER", "no leader is known", ""),
            (Mood::Silent, q) if !matches!(q, Query::Status | Query::Session) => None,
            (Mood::Denied, q) if !matches!(q, Query::Status | Query::Session) => fail(
                FailureKind::Denied,
                "PERMISSION_DENIED",
                "needs chains.list in consortium trade",
                "Ask the tenant's owner.",
            ),
            (Mood::Error, q) if !matches!(q, Query::Status | Query::Session) => {
                fail(FailureKind::Other, "INTERNAL", "the history could not be read", "See the replica's log.")
            }
            (Mood::Empty, q) => Some(seed::empty(q, &self.account)),
            (_, q) => Some(seed::answer(q, &self.account)),
        }
    }

    pub(crate) fn wrote(&mut self, resource: &str) {
        let written = Written { resource: resource.to_owned(), ..Written::default() };
        self.send(Msg::Wrote(Ok(written)));
    }

    pub(crate) fn buffer(&self) -> Buffer {
        let (columns, rows) = self.model.size;
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| view(&self.model, frame)).unwrap();
        terminal.backend().buffer().clone()
    }

    /// Returns the screen as text, without blanks at the ends of lines.
    pub(crate) fn screen(&self) -> String {
        text(&self.buffer())
    }
}

/// Returns the text of a buffer; a wide character takes the place of the cell after it.
pub(crate) fn text(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut skip = 0;
        for x in 0..buffer.area.width {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let symbol = buffer[(x, y)].symbol();
            skip = hanse_tui::format::width(symbol).saturating_sub(1);
            line.push_str(symbol);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
