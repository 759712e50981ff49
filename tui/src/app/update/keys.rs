//! Keys of the screens: movement, history, opening.

use crate::i18n::T;
use crate::keymap::{self, Action, Code, Key};
use crate::screens::page::Page;
use crate::screens::{Screen, page};

use super::super::effect::Effect;
use super::super::input::Input;
use super::super::model::dialog::{Prompt, PromptKind};
use super::super::model::{Model, View};
use super::super::view::body_size;
use super::{INTERRUPT_MS, acts, ask, ask_shown, go, overlay, say};
use crate::app::model::data::Query;

/// Handles a key, wherever it goes.
pub(super) fn key(model: &mut Model, key: Key) -> Vec<Effect> {
    let control = |c| Key { code: Code::Char(c), ctrl: true, alt: false };
    if is_esc_and(key) {
        let mut effects = self::key(model, Key::of(Code::Esc));
        effects.extend(self::key(model, Key { alt: false, ..key }));
        return effects;
    }
    if key == control('l') {
        return vec![Effect::Redraw];
    }
    if key == control('c') {
        return interrupt(model);
    }
    if key == Key::of(Code::F(10)) {
        return vec![Effect::Quit];
    }
    if model.form.is_some() {
        return overlay::form_key(model, key);
    }
    if model.dialog.is_some() {
        return overlay::dialog_key(model, key);
    }
    if model.prompt.is_some() {
        return overlay::prompt_key(model, key);
    }
    if model.prefix {
        model.prefix = false;
        return prefix_key(model, key.half_width());
    }
    model.flash = false;
    match keymap::action(key.half_width(), model.view().screen.kind()) {
        Some(action) => act(model, action),
        None => Vec::new(),
    }
}

/// Whether these are two keys: a terminal sends Esc with what follows at once, as over a slow line, the way it sends Alt with that
/// key. No key of the console is a character with Alt.
fn is_esc_and(key: Key) -> bool {
    key.alt && matches!(key.code, Code::Char(_))
}

fn interrupt(model: &mut Model) -> Vec<Effect> {
    if model.now - model.interrupted_at < INTERRUPT_MS && model.interrupted_at > 0 {
        return vec![Effect::Quit];
    }
    if model.dialog.take().is_some() || model.prompt.take().is_some() || std::mem::take(&mut model.prefix) {
        return Vec::new();
    }
    model.interrupted_at = model.now;
    say(model, model.t(T::AgainToQuit).to_owned());
    Vec::new()
}

fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    match action {
        Action::Open => return open(model),
        Action::Back => return back(model, true),
        Action::HistoryBack => return back(model, false),
        Action::HistoryForward => return forward(model),
        Action::Up => step(model, |i, _, _| i.saturating_sub(1)),
        Action::Down => step(model, |i, _, _| i + 1),
        Action::PageUp => step(model, |i, rows, _| i.saturating_sub(rows)),
        Action::PageDown => step(model, |i, rows, _| i + rows),
        Action::HalfUp => step(model, |i, rows, _| i.saturating_sub(rows / 2)),
        Action::HalfDown => step(model, |i, rows, _| i + rows / 2),
        Action::First => first(model),
        Action::Last => step(model, |_, _, len| len.saturating_sub(1)),
        Action::Describe => return facts(model, false),
        Action::Json => return facts(model, true),
        Action::Preflight => return preflight(model),
        Action::Command => prompt(model, PromptKind::Command, ""),
        Action::Filter => {
            let filter = model.view().filter.clone();
            prompt(model, PromptKind::Filter, &filter);
        }
        Action::Search => prompt(model, PromptKind::Search, ""),
        Action::Prefix => model.prefix = true,
        Action::Help => return go(model, Screen::Help, String::new()),
        Action::Messages => return go(model, Screen::Messages, String::new()),
        Action::Refetch => {
            let mut effects = ask(model, &[Query::Status], true);
            effects.extend(ask_shown(model, true));
            return effects;
        }
        Action::Window => {
            model.window = model.window.next();
            say(model, crate::screens::window_words(model));
            return ask_shown(model, false);
        }
        Action::Redraw => return vec![Effect::Redraw],
        Action::Interrupt => return interrupt(model),
        Action::Quit => return vec![Effect::Quit],
        Action::Vote
        | Action::Restart
        | Action::Cordon
        | Action::Maintain
        | Action::Drain
        | Action::Retire
        | Action::AcceptKey
        | Action::TransferLeader
        | Action::PromoteReplica
        | Action::RemoveReplica
        | Action::RaiseVersion
        | Action::Pause
        | Action::Undelete
        | Action::Roll
        | Action::RollBack
        | Action::Move
        | Action::Repair
        | Action::Reach
        | Action::Import
        | Action::Adopt
        | Action::Forget
        | Action::GiveBack
        | Action::New => return acts::act(model, action),
    }
    Vec::new()
}

fn prompt(model: &mut Model, kind: PromptKind, text: &str) {
    model.prompt = Some(Prompt { kind, input: Input::of(text) });
}

fn prefix_key(model: &mut Model, key: Key) -> Vec<Effect> {
    let Code::Char(c) = key.code else { return Vec::new() };
    match keymap::PREFIX.iter().find(|(k, ..)| *k == c) {
        Some((_, "", _)) => {
            first(model);
            Vec::new()
        }
        Some((_, command, _)) => overlay::run_command(model, command),
        None => Vec::new(),
    }
}

/// Returns the shown page as it is drawn, and the rows it has room for.
fn shown(model: &Model) -> (Page, usize) {
    let (columns, rows) = body_size(model);
    let page = page(model, columns);
    let rows = rows.saturating_sub(page.pinned.len()).max(1);
    (page, rows)
}

/// Returns the number of the line under the cursor: that of its resource, or where the resource was.
pub(crate) fn cursor(view: &View, page: &Page) -> usize {
    let found = view.cursor.as_ref().and_then(|id| page.lines.iter().position(|l| l.id == *id));
    found.unwrap_or(view.index).min(page.lines.len().saturating_sub(1))
}

fn step(model: &mut Model, to: impl Fn(usize, usize, usize) -> usize) {
    let (page, rows) = shown(model);
    let now = cursor(model.view(), &page);
    let next = to(now, rows, page.lines.len()).min(page.lines.len().saturating_sub(1));
    let view = model.view_mut();
    view.index = next;
    view.cursor = page.lines.get(next).map(|l| l.id.clone());
    view.offset = scroll(view.offset, next, rows, page.lines.len());
}

/// Returns the first drawn line so that `cursor` is among `rows` lines.
pub(crate) fn scroll(offset: usize, cursor: usize, rows: usize, len: usize) -> usize {
    let offset = offset.min(len.saturating_sub(rows));
    offset.clamp((cursor + 1).saturating_sub(rows), cursor)
}

/// To the first line, whichever it will be: so an explorer follows the head again.
fn first(model: &mut Model) {
    let view = model.view_mut();
    (view.cursor, view.index, view.offset) = (None, 0, 0);
}

fn open(model: &mut Model) -> Vec<Effect> {
    let (page, _) = shown(model);
    let at = cursor(model.view(), &page);
    let Some(line) = page.lines.get(at) else { return Vec::new() };
    let (id, target) = (line.id.clone(), line.open.clone());
    let view = model.view_mut();
    (view.cursor, view.index) = (Some(id), at);
    target.map_or_else(Vec::new, |screen| go(model, screen, String::new()))
}

/// One level back: Esc takes the filter away first and stops at the last view.
fn back(model: &mut Model, esc: bool) -> Vec<Effect> {
    if esc && !model.view().filter.is_empty() {
        model.view_mut().filter.clear();
        return Vec::new();
    }
    if model.views.len() < 2 {
        return Vec::new();
    }
    let view = model.views.pop();
    model.forward.extend(view);
    ask_shown(model, false)
}

fn forward(model: &mut Model) -> Vec<Effect> {
    let Some(view) = model.forward.pop() else { return Vec::new() };
    model.views.push(view);
    ask_shown(model, false)
}

/// Opens everything about the line under the cursor, or about the screen's own resource.
fn facts(model: &mut Model, json: bool) -> Vec<Effect> {
    if let Screen::Facts { query, id, .. } = model.view().screen.clone() {
        model.view_mut().screen = Screen::Facts { query, id, json };
        return Vec::new();
    }
    let (page, _) = shown(model);
    let at = cursor(model.view(), &page);
    let line = page.lines.get(at).map(|l| l.id.clone()).unwrap_or_default();
    let queries = model.view().screen.queries(model);
    let own = |id: &str| match model.view().screen.clone() {
        Screen::Proposal(name) | Screen::Operation(name) => Some((queries[0].clone(), name)),
        Screen::Consortium(name) if !id.contains("/proposals/") => Some((Query::Consortiums, name)),
        Screen::Chain(name) if !id.contains("/nodes/") => Some((Query::Chains, name)),
        Screen::Replicas => Some((Query::Status, id.to_owned())),
        _ => None,
    };
    let of = own(&line).or_else(|| listed(&line, &queries).map(|q| (q, line.clone())));
    match of {
        Some((query, id)) => go(model, Screen::Facts { query, id, json }, String::new()),
        None => {
            say(model, model.t(T::BlockNothing).to_owned());
            Vec::new()
        }
    }
}

/// Looks at the host under the cursor; it changes nothing there but that our program is put on it.
fn preflight(model: &mut Model) -> Vec<Effect> {
    let page = page(model, body_size(model).0);
    let at = cursor(model.view(), &page);
    let host = page.lines.get(at).map(|l| l.id.clone()).filter(|id| id.starts_with("hosts/"));
    match host {
        Some(host) => go(model, Screen::Preflight(host), String::new()),
        None => {
            say(model, model.t(T::BlockNothing).to_owned());
            Vec::new()
        }
    }
}

/// Returns which of a screen's queries lists the resource of a name.
fn listed(id: &str, queries: &[Query]) -> Option<Query> {
    let fits = |q: &&Query| match q {
        Query::Tenants => id.starts_with("tenants/"),
        Query::Proposals(_) => id.contains("/proposals/"),
        Query::Nodes => id.contains("/nodes/"),
        Query::Chains => id.contains("/chains/") && !id.contains("/nodes/"),
        Query::Consortiums => id.starts_with("consortiums/") && id.matches('/').count() == 1,
        Query::Hosts => id.starts_with("hosts/") && !id.contains(' '),
        Query::Clouds => id.starts_with("clouds/"),
        Query::Machines => id.starts_with("machines/"),
        Query::Findings => id.contains(' '),
        Query::Artifacts => id.starts_with("artifacts/"),
        Query::Operations => id.starts_with("operations/"),
        Query::Audit => id.starts_with("audit/"),
        Query::Recent
        | Query::AuditTree
        | Query::Status
        | Query::Session
        | Query::Proposal(_)
        | Query::Operation(_)
        | Query::Invoice(..)
        | Query::Preflight(_)
        | Query::Governance(_)
        | Query::Plan(_)
        | Query::Series(..)
        | Query::Blocks(_)
        | Query::Find(..) => false,
    };
    queries.iter().find(fits).cloned()
}
