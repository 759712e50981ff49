//! The whole state of the console. `update` alone changes it, `view` alone draws it.

use std::collections::{BTreeMap, VecDeque};

use crate::i18n::{Lang, T};
use crate::screens::Screen;
use crate::theme::Theme;

use data::{Failure, Loaded, Payload, Query, Session, Status};
use dialog::{Dialog, Form, Prompt};

pub mod cloud;
pub mod data;
pub mod dialog;
pub mod edit;
mod governance;
mod host;
pub mod order;
pub mod plan;
mod query;
pub mod watch;

/// Smallest terminal that is drawn.
pub const SIZE_MIN: (u16, u16) = (80, 20);
/// Messages kept for F9; older ones are of no use in a session.
pub const MESSAGES_MAX: usize = 200;
/// Views kept for "back".
pub const VIEWS_MAX: usize = 50;

/// How this console was started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Language.
    pub lang: Lang,
    /// Colours and glyphs.
    pub theme: Theme,
    /// Writes are off whatever the role.
    pub read_only: bool,
    /// First screen as a command, e.g. `:chains`.
    pub start: Option<String>,
    /// Path offered for the member key of a ballot.
    pub key_path: String,
}

/// The state of the console.
#[derive(Clone, Debug)]
pub struct Model {
    /// Fixed settings.
    pub settings: Settings,
    /// Milliseconds since the epoch, as last told.
    pub now: i64,
    /// Columns and rows.
    pub size: (u16, u16),
    /// Whether a leader answers.
    pub link: Link,
    /// Answers by question.
    pub slots: BTreeMap<Query, Slot>,
    /// Shown view last; never empty.
    pub views: Vec<View>,
    /// Views left by "back".
    pub forward: Vec<View>,
    /// What lies over the screen.
    pub dialog: Option<Dialog>,
    /// Login or first run, over everything.
    pub form: Option<Form>,
    /// The prompt line.
    pub prompt: Option<Prompt>,
    /// The `g` prefix was pressed.
    pub prefix: bool,
    /// Newest last, bounded by `MESSAGES_MAX`.
    pub messages: VecDeque<Message>,
    /// The last message is still shown.
    pub flash: bool,
    /// A write is under way.
    pub writing: bool,
    /// When Ctrl-C was last pressed.
    pub interrupted_at: i64,
    /// Number of the next fetch.
    pub ticket: u64,
    /// When to fetch the visible screen again.
    pub refetch_at: i64,
    /// The stream of changes is open, or being opened.
    pub watching: bool,
    /// When to open it again.
    pub watch_at: i64,
    /// How far back figures are shown.
    pub window: watch::Window,
    /// The next frame differs from the last.
    pub dirty: bool,
}

/// The way to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nothing was answered yet.
    Connecting,
    /// A leader answers.
    Live,
    /// No leader answers.
    Lost {
        /// Since when.
        since: i64,
        /// Next try.
        retry_at: i64,
        /// Number of that try.
        attempt: u32,
    },
}

/// One answer with its freshness.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// Last good answer; stays while newer ones fail.
    pub loaded: Option<Box<Loaded>>,
    /// When it came.
    pub at: i64,
    /// Why the last try failed.
    pub failure: Option<Failure>,
    /// When the running fetch began, 0 if none runs.
    pub asked_at: i64,
    /// Ticket of the newest fetch.
    pub ticket: u64,
}

/// A screen with where the person stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Which screen.
    pub screen: Screen,
    /// Line under the cursor by its id, so that it stays on the resource when the list changes.
    pub cursor: Option<String>,
    /// Where the cursor was, for when the resource is gone.
    pub index: usize,
    /// First line drawn.
    pub offset: usize,
    /// Filter text.
    pub filter: String,
}

impl View {
    /// Returns a view of `screen` with the cursor at the top.
    pub fn of(screen: Screen) -> Self {
        Self { screen, cursor: None, index: 0, offset: 0, filter: String::new() }
    }
}

/// A message of this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// When.
    pub at: i64,
    /// Text.
    pub text: String,
    /// The failure behind it.
    pub failure: Option<Failure>,
}

impl Model {
    /// Returns a console that has seen nothing yet.
    pub fn new(settings: Settings, size: (u16, u16), now: i64) -> Self {
        Self {
            settings,
            now,
            size,
            link: Link::Connecting,
            slots: BTreeMap::new(),
            views: vec![View::of(Screen::Overview)],
            forward: Vec::new(),
            dialog: None,
            form: None,
            prompt: None,
            prefix: false,
            messages: VecDeque::new(),
            flash: false,
            writing: false,
            interrupted_at: 0,
            ticket: 0,
            refetch_at: 0,
            watching: false,
            watch_at: 0,
            window: watch::Window::default(),
            dirty: true,
        }
    }

    /// Returns the shown view.
    pub fn view(&self) -> &View {
        self.views.last().expect("views is never empty")
    }

    /// Returns the shown view to change it.
    pub fn view_mut(&mut self) -> &mut View {
        self.views.last_mut().expect("views is never empty")
    }

    /// Returns the text of a key in this console's language.
    pub fn t(&self, text: T) -> &'static str {
        text.of(self.settings.lang)
    }

    /// Returns the last good answer to a query.
    pub fn payload(&self, query: &Query) -> Option<&Payload> {
        self.slots.get(query)?.loaded.as_deref().map(|l| &l.payload)
    }

    /// Returns the last status.
    pub fn status(&self) -> Option<&Status> {
        match self.payload(&Query::Status)? {
            Payload::Status(status) => Some(status),
            _ => None,
        }
    }

    /// Returns who is logged in.
    pub fn session(&self) -> Option<&Session> {
        match self.payload(&Query::Session)? {
            Payload::Session(session) => Some(session),
            _ => None,
        }
    }

    /// Returns what was answered to the question what a change would do, and why there is no answer.
    pub fn plan(&self, query: &Query) -> Option<Result<&plan::Plan, &Failure>> {
        match self.payload(query) {
            Some(Payload::Plan(plan)) => Some(Ok(plan)),
            _ => self.slots.get(query)?.failure.as_ref().map(Err),
        }
    }

    /// Returns whether the shown data may be old because no leader answers.
    pub fn stale(&self) -> bool {
        matches!(self.link, Link::Lost { .. })
    }

    /// Returns whether an answer only stands beside what the shown screen is about: figures on a page. It says nothing of how
    /// fresh the page is, and that it cannot be had nothing of the cluster.
    pub fn is_beside(&self, query: &Query) -> bool {
        matches!(query, Query::Series(..)) && self.view().screen.queries(self).len() > 1
    }

    /// Returns when the oldest data of the shown screen came, none before all of it did.
    pub fn data_at(&self) -> Option<i64> {
        let queries = self.view().screen.queries(self);
        let times = queries
            .iter()
            .filter(|q| !self.is_beside(q))
            .map(|q| self.slots.get(q).filter(|s| s.loaded.is_some()).map(|s| s.at));
        times.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// Returns the oldest revision of the shown screen's data.
    pub fn data_revision(&self) -> Option<u64> {
        let queries = self.view().screen.queries(self);
        queries
            .iter()
            .filter(|q| !self.is_beside(q))
            .filter_map(|q| self.slots.get(q)?.loaded.as_ref().map(|l| l.revision))
            .min()
    }

    /// Returns why nothing can be changed now, none if it can.
    pub fn write_block(&self) -> Option<T> {
        if self.settings.read_only {
            return Some(T::BlockReadOnly);
        }
        if self.link != Link::Live {
            return Some(T::BlockNoLeader);
        }
        if self.writing {
            return Some(T::BlockBusy);
        }
        match self.session() {
            None => Some(T::BlockNoSession),
            Some(s) if s.role.contains("AUDITOR") => Some(T::BlockRole),
            Some(_) => None,
        }
    }
}

/// Returns the named list of a payload, empty for another payload. One macro line a list keeps the screens short.
macro_rules! lists {
    ($($method:ident, $variant:ident, $item:ty, $doc:literal;)*) => {
        impl Model {
            $(
                #[doc = $doc]
                pub fn $method(&self, query: &Query) -> &[$item] {
                    match self.payload(query) {
                        Some(Payload::$variant(list)) => list,
                        _ => &[],
                    }
                }
            )*
        }
    };
}

lists! {
    tenants, Tenants, data::Tenant, "Returns the tenants of an answer, none if there is no answer.";
    consortiums, Consortiums, data::Consortium, "Returns the consortiums of an answer, none if there is no answer.";
    proposals, Proposals, data::Proposal, "Returns the proposals of an answer, none if there is no answer.";
    chains, Chains, data::Chain, "Returns the chains of an answer, none if there is no answer.";
    nodes, Nodes, data::Node, "Returns the nodes of an answer, none if there is no answer.";
    hosts, Hosts, data::Host, "Returns the hosts of an answer, none if there is no answer.";
    clouds, Clouds, cloud::Cloud, "Returns the clouds of an answer, none if there is no answer.";
    machines, Machines, cloud::Machine, "Returns the machines of an answer, none if there is no answer.";
    operations, Operations, data::Operation, "Returns the operations of an answer, none if there is no answer.";
    audit, Audit, data::Audit, "Returns the audit entries of an answer, none if there is no answer.";
    findings, Findings, watch::Finding, "Returns the findings of an answer, none if there is no answer.";
    series, Series, watch::Series, "Returns the series of an answer, none if there is no answer.";
    artifacts, Artifacts, watch::Artifact, "Returns the artifacts of an answer, none if there is no answer.";
    blocks, Blocks, data::Block, "Returns the blocks of an answer, none if there is no answer.";
}
