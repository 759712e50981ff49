//! `update`: what a message changes, and what is wanted of the world then.
//!
//! Reading goes by itself: the shown screen's queries are asked when it opens, when the stream says that something
//! changed (after a short wait, so that a burst is one question), and every `POLL_MS`, because heights live in the
//! leader's memory and make no events. When no leader answers, old data stays, marked, until one does.

use crate::i18n::{T, fill};
use crate::screens::Screen;

use super::effect::Effect;
use super::model::data::{Failure, FailureKind, Loaded, Query};
use super::model::dialog::{Dialog, Form};
use super::model::{Link, MESSAGES_MAX, Message, Model, Slot, VIEWS_MAX, View};
use super::msg::{Msg, Written};

mod acts;
mod keys;
mod overlay;

pub(crate) use keys::{cursor, scroll};

/// The shown screen is asked again after this long.
pub const POLL_MS: i64 = 2_000;
/// Changes of the stream within this time are one question.
pub const DEBOUNCE_MS: i64 = 150;
/// A question without an answer for this long is asked again.
const ASK_AGAIN_MS: i64 = 15_000;
/// First and longest wait for a leader.
const RETRY_MS: (i64, i64) = (500, 15_000);
/// Wait before a lost stream is opened again.
const WATCH_AGAIN_MS: i64 = 1_000;
/// Two interrupts within this time leave the console.
const INTERRUPT_MS: i64 = 2_000;
/// Answers kept besides those of open views.
const SLOTS_MAX: usize = 64;

/// Returns the first effects of a console: who leads, who am I, and the first screen.
pub fn start(model: &mut Model) -> Vec<Effect> {
    if let Some(command) = model.settings.start.take() {
        overlay::run_command(model, &command);
        model.views.drain(..model.views.len() - 1);
    }
    let mut effects = ask(model, &[Query::Status, Query::Session], true);
    effects.extend(ask_shown(model, true));
    model.refetch_at = model.now + POLL_MS;
    effects
}

/// Changes the model by a message and returns what is wanted of the world.
pub fn update(model: &mut Model, msg: Msg) -> Vec<Effect> {
    match msg {
        Msg::Tick(now) => tick(model, now),
        Msg::Key(key) => {
            model.dirty = true;
            keys::key(model, key)
        }
        Msg::Paste(text) => {
            model.dirty = true;
            overlay::paste(model, &text);
            Vec::new()
        }
        Msg::Resize(columns, rows) => {
            model.size = (columns, rows);
            model.dirty = true;
            Vec::new()
        }
        Msg::Fetched { query, ticket, result } => match result {
            Ok(loaded) => fetched(model, query, ticket, loaded),
            Err(failure) => not_fetched(model, &query, ticket, failure),
        },
        Msg::Changed { revision } => {
            if model.data_revision().is_none_or(|seen| seen < revision) {
                model.refetch_at = model.refetch_at.min(model.now + DEBOUNCE_MS);
            }
            Vec::new()
        }
        Msg::WatchEnded => {
            model.watching = false;
            model.watch_at = model.now + WATCH_AGAIN_MS;
            Vec::new()
        }
        Msg::Wrote(result) => {
            model.dirty = true;
            wrote(model, result)
        }
    }
}

fn tick(model: &mut Model, now: i64) -> Vec<Effect> {
    let before = model.now;
    model.now = now.max(before);
    // The clock and the ages change once a second; nothing else on the screen moves by itself.
    model.dirty |= before / 1_000 != model.now / 1_000;
    if model.session().is_some_and(|s| s.expires_at > 0 && s.expires_at <= now) && model.form.is_none() {
        log_out(model);
    }
    let mut effects = Vec::new();
    match model.link {
        Link::Lost { since, retry_at, attempt } if now >= retry_at => {
            effects.extend(ask(model, &[Query::Status], false));
            effects.extend(ask_shown(model, false));
            // Nothing was asked when the last questions still wait for their time-out: that is no new attempt.
            let attempt = if effects.is_empty() { attempt } else { attempt + 1 };
            model.link = Link::Lost { since, retry_at: now + retry_wait(attempt, now), attempt };
            model.dirty = true;
        }
        Link::Live | Link::Connecting if now >= model.refetch_at => {
            effects.extend(ask(model, &[Query::Status], false));
            effects.extend(ask_shown(model, false));
            model.refetch_at = now + POLL_MS;
        }
        _ => {}
    }
    if !model.watching && model.link == Link::Live && model.session().is_some() && now >= model.watch_at {
        model.watching = true;
        effects.push(Effect::Watch { after: model.data_revision().unwrap_or(0) });
    }
    effects
}

/// Returns the wait before a try: doubling, with a little of the clock so that consoles do not come all at once.
fn retry_wait(attempt: u32, now: i64) -> i64 {
    let wait = RETRY_MS.0.saturating_mul(1 << attempt.min(8)).min(RETRY_MS.1);
    wait + now % 200
}

/// Returns the questions of the shown screen; `force` asks even if one is on its way.
fn ask_shown(model: &mut Model, force: bool) -> Vec<Effect> {
    if model.form.is_some() {
        return Vec::new();
    }
    let mut queries = model.view().screen.queries(model);
    // A chain's progress is its operation's, and the explorer's commands need the chains' names.
    if matches!(model.view().screen, Screen::Chains) {
        queries.push(Query::Operations);
    }
    if model.session().is_none() {
        queries.push(Query::Session);
    }
    ask(model, &queries, force)
}

/// Asks these questions, each unless its answer is on the way; `force` asks all the same.
pub(super) fn ask(model: &mut Model, queries: &[Query], force: bool) -> Vec<Effect> {
    let mut effects = Vec::new();
    for query in queries {
        let now = model.now;
        model.ticket += 1;
        let ticket = model.ticket;
        let slot = model.slots.entry(query.clone()).or_default();
        if !force && slot.asked_at > 0 && now - slot.asked_at < ASK_AGAIN_MS {
            continue;
        }
        slot.asked_at = now.max(1);
        slot.ticket = ticket;
        effects.push(Effect::Fetch { query: query.clone(), ticket });
    }
    effects
}

fn fetched(model: &mut Model, query: Query, ticket: u64, loaded: Box<Loaded>) -> Vec<Effect> {
    let now = model.now;
    let slot = model.slots.entry(query.clone()).or_default();
    if ticket < slot.ticket {
        return Vec::new();
    }
    let same = slot.failure.is_none() && slot.loaded.as_ref() == Some(&loaded);
    *slot = Slot { loaded: Some(loaded), at: now, failure: None, asked_at: 0, ticket };
    model.dirty |= !same;
    if query == Query::Status {
        status_came(model);
    } else {
        link_back(model);
    }
    prune(model);
    Vec::new()
}

/// A status is answered by any replica, so it brings the link back only where nothing else is asked.
fn status_came(model: &mut Model) {
    let Some(status) = model.status() else { return };
    let (leader, bootstrapped) = (status.leader.is_some(), status.bootstrapped);
    // A replica that has just started may not know yet that the platform was set up, so its word never takes a session
    // or what was typed away: who has no session is told by the leader (`log_out`), and only then this chooses the form.
    match &model.form {
        Some(form) if !bootstrapped && *form == Form::login() => model.form = Some(Form::setup()),
        Some(form) if bootstrapped && form.setup && !form.busy => model.form = Some(Form::login()),
        _ => {}
    }
    if !leader {
        let message = model.t(T::NoLeader).to_owned();
        link_lost(model, &Failure { reason: "NO_LEADER".to_owned(), message, ..Failure::default() });
    } else if model.form.is_some() || model.view().screen.queries(model).iter().all(|q| *q == Query::Status) {
        link_back(model);
    }
}

fn not_fetched(model: &mut Model, query: &Query, ticket: u64, failure: Failure) -> Vec<Effect> {
    let is_beside = model.is_beside(query);
    let slot = model.slots.entry(query.clone()).or_default();
    if ticket < slot.ticket {
        return Vec::new();
    }
    model.dirty = true;
    slot.asked_at = 0;
    match failure.kind {
        FailureKind::Denied | FailureKind::OutcomeUnknown | FailureKind::Other if is_beside => {}
        FailureKind::Unauthenticated => {
            log_out(model);
            if model.status().is_some_and(|status| status.leader.is_some()) {
                link_back(model);
            }
            return Vec::new();
        }
        FailureKind::Unavailable => link_lost(model, &failure),
        FailureKind::Denied | FailureKind::OutcomeUnknown | FailureKind::Other => {
            let known = slot.failure.as_ref() == Some(&failure);
            // A screen without data says it itself; over old data it is a message, once.
            if slot.loaded.is_some() && !known {
                let text = fill(model.t(T::FailedLine), &failure.message);
                say_failure(model, text, failure.clone());
            }
            link_back(model);
        }
    }
    if let Some(slot) = model.slots.get_mut(query) {
        slot.failure = Some(failure);
    }
    Vec::new()
}

/// Asks for a login in place; the views stay.
fn log_out(model: &mut Model) {
    let had = model.session().is_some();
    model.slots.remove(&Query::Session);
    model.watching = false;
    if model.form.is_none() {
        let first_run = model.status().is_some_and(|s| !s.bootstrapped);
        model.form = Some(if first_run { Form::setup() } else { Form::login() });
        model.dialog = None;
        model.prompt = None;
        model.prefix = false;
        if had {
            say(model, model.t(T::SessionEnded).to_owned());
        }
    }
    model.dirty = true;
}

fn link_lost(model: &mut Model, failure: &Failure) {
    if matches!(model.link, Link::Lost { .. }) {
        return;
    }
    let now = model.now;
    model.link = Link::Lost { since: now, retry_at: now + retry_wait(0, now), attempt: 1 };
    let why = if failure.message.is_empty() { &failure.reason } else { &failure.message };
    let text = fill(model.t(T::LinkLost), why);
    remember(model, Message { at: now, text, failure: Some(failure.clone()) });
    model.dirty = true;
}

fn link_back(model: &mut Model) {
    if model.link == Link::Live {
        return;
    }
    if matches!(model.link, Link::Lost { .. }) {
        say(model, model.t(T::LinkBack).to_owned());
        model.refetch_at = model.now;
        model.watch_at = model.now;
    }
    model.link = Link::Live;
    model.dirty = true;
}

fn wrote(model: &mut Model, result: Result<Written, Failure>) -> Vec<Effect> {
    model.writing = false;
    match result {
        Ok(written) if written.logged_in => {
            model.form = None;
            // Another account may see other things: nothing of the last one stays.
            model.slots.retain(|q, _| *q == Query::Status);
            model.watching = false;
            say(model, fill(model.t(T::LoggedIn), &written.resource));
        }
        Ok(written) => {
            model.dialog = None;
            say(model, fill(model.t(T::Done), &written.resource));
        }
        Err(failure) => {
            write_failed(model, failure);
            return Vec::new();
        }
    }
    let mut effects = ask(model, &[Query::Status, Query::Session], true);
    effects.extend(ask_shown(model, true));
    effects
}

fn write_failed(model: &mut Model, failure: Failure) {
    let form_text = [failure.message.as_str(), failure.advice.as_str()].join(" ");
    if let Some(form) = &mut model.form {
        form.busy = false;
        form.error = Some(form_text.trim().to_owned());
        return;
    }
    match failure.kind {
        FailureKind::Unauthenticated => log_out(model),
        FailureKind::Unavailable => link_lost(model, &failure),
        FailureKind::Denied | FailureKind::OutcomeUnknown | FailureKind::Other => {}
    }
    let text = if failure.kind == FailureKind::OutcomeUnknown { T::UnknownOutcome } else { T::FailedWrite };
    let text = fill(model.t(text), &failure.message);
    model.dialog = Some(Dialog::Failure { failure: failure.clone(), opened_at: model.now });
    say_failure(model, text, failure);
}

/// Shows a message on the prompt line and keeps it for F9.
fn say(model: &mut Model, text: String) {
    let at = model.now;
    model.flash = true;
    remember(model, Message { at, text, failure: None });
}

fn say_failure(model: &mut Model, text: String, failure: Failure) {
    let at = model.now;
    model.flash = true;
    remember(model, Message { at, text, failure: Some(failure) });
}

fn remember(model: &mut Model, message: Message) {
    if model.messages.len() >= MESSAGES_MAX {
        model.messages.pop_front();
    }
    model.messages.push_back(message);
    model.dirty = true;
}

/// Opens a screen and asks for its data.
fn go(model: &mut Model, screen: Screen, filter: String) -> Vec<Effect> {
    if model.view().screen != screen {
        model.views.push(View::of(screen));
        model.forward.clear();
    }
    if model.views.len() > VIEWS_MAX {
        model.views.remove(0);
    }
    model.view_mut().filter = filter;
    ask_shown(model, false)
}

/// Drops answers that no view needs, the explorer's most of all, so that a long session does not grow.
fn prune(model: &mut Model) {
    if model.slots.len() <= SLOTS_MAX {
        return;
    }
    let views = model.views.iter().chain(&model.forward);
    let mut needed: Vec<Query> = views.flat_map(|v| v.screen.queries(model)).collect();
    needed.extend([Query::Status, Query::Session, Query::Chains, Query::Operations]);
    model.slots.retain(|q, _| needed.contains(q));
}
