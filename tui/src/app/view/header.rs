//! The frame round a screen: cluster and person above, prompt and hints below.

use ratatui::layout::{Position, Rect};

use crate::app::model::dialog::PromptKind;
use crate::app::model::{Link, Model};
use crate::format::{age, clock, fit, number, width};
use crate::i18n::{T, fill, state as word};
use crate::keymap::{Action, Binding, Key, hints};
use crate::screens::command::complete;
use crate::screens::page::{Page, State};
use crate::theme::{Level, Role};
use crate::widgets::Canvas;

/// Completions shown beside the prompt.
const COMPLETIONS_MAX: usize = 8;

/// Draws the rows above the body.
pub(super) fn header(model: &Model, canvas: &mut Canvas<'_>, area: Rect, page: &Page) {
    first_row(model, canvas, area);
    if area.height > 2 {
        second_row(model, canvas, Rect { y: 1, ..area });
    }
    crumbs(model, canvas, Rect { y: area.height - 1, ..area }, page);
}

/// Draws cluster, leader and replicas, in one band; on a small terminal with the freshness of the second row.
pub(super) fn first_row(model: &Model, canvas: &mut Canvas<'_>, area: Rect) {
    let band = canvas.theme.style(Role::Header, false);
    canvas.buffer.set_style(Rect { height: 1, ..area }, band);
    let replicas = replicas(model, canvas);
    let right = match canvas.buffer.area.height < 24 {
        true => format!("{} {}", freshness(model).0, account(model)),
        false => String::new(),
    };
    let room = area.width.saturating_sub(columns(&right) + 1);
    // The replicas are told whole; what they repeat or what stands below gives way.
    let texts = [cluster(model, true, true), cluster(model, false, true), cluster(model, false, false)];
    let texts = texts.map(|c| format!(" {c}  {} {replicas}", canvas.theme.marks().vertical));
    let text = texts.iter().find(|t| columns(t) <= room).unwrap_or(&texts[2]);
    canvas.put(0, 0, room, text, band);
    canvas.put(area.width.saturating_sub(columns(&right)), 0, area.width, &right, band);
}

/// Returns the cluster's name with leader, term and revision; that there is no leader is never left out.
fn cluster(model: &Model, leader: bool, revision: bool) -> String {
    let Some(s) = model.status() else { return model.t(T::Connecting).to_owned() };
    let mut parts = vec![s.cluster.clone()];
    match &s.leader {
        Some(id) if !model.stale() && leader => parts.push(format!("{} {id}", model.t(T::Leader))),
        Some(_) if !model.stale() => {}
        _ => parts.push(model.t(T::NoLeader).to_owned()),
    }
    parts.push(format!("{} {}", model.t(T::Term), s.term));
    if revision {
        parts.push(format!("{} {}", model.t(T::Revision), number(s.revision)));
    }
    parts.join("  ")
}

/// Returns each replica with glyph and word, and its lag if it has one.
fn replicas(model: &Model, canvas: &Canvas<'_>) -> String {
    let list = model.status().map(|s| s.replicas.as_slice()).unwrap_or_default();
    let texts = list.iter().map(|r| {
        let (glyph, role) = (canvas.theme.glyph(Level::of(&r.role)), word(model.settings.lang, &r.role));
        let lag = match r.lag {
            Some(lag) if lag > 0 => format!(" {} {}", model.t(T::Lag), number(lag)),
            _ => String::new(),
        };
        format!("{} {glyph} {role}{lag}", r.id)
    });
    texts.collect::<Vec<_>>().join("  ")
}

fn columns(text: &str) -> u16 {
    u16::try_from(width(text)).unwrap_or(u16::MAX)
}

fn account(model: &Model) -> String {
    let read_only = if model.settings.read_only { format!(" {}", model.t(T::ReadOnly)) } else { String::new() };
    match model.session() {
        None => format!("{}{read_only} ", model.t(T::NotLoggedIn)),
        Some(s) => {
            format!("{}  {} {}{read_only} ", s.account, model.t(T::RoleWord), word(model.settings.lang, &s.role))
        }
    }
}

/// Returns how old the shown data is and whether it is live.
fn freshness(model: &Model) -> (String, Role) {
    let data = model.data_at().map(|at| fill(model.t(T::DataAge), &age(model.now - at))).unwrap_or_default();
    match model.link {
        Link::Connecting => (model.t(T::Connecting).to_owned(), Role::Working),
        Link::Live => (format!("{data}  {}", model.t(T::Live)).trim_start().to_owned(), Role::Ok),
        Link::Lost { since, .. } => {
            (format!("{data}  {} {}", model.t(T::Stale), age(model.now - since)).trim_start().to_owned(), Role::Warn)
        }
    }
}

fn second_row(model: &Model, canvas: &mut Canvas<'_>, area: Rect) {
    let (fresh, role) = freshness(model);
    let now = format!("   {} UTC ", clock(model.now));
    let off = match model.stale() {
        true => format!("   {}", model.t(T::WritesOff)),
        false if model.writing => format!("   {}", model.t(T::Busy)),
        false => String::new(),
    };
    let x = area.width.saturating_sub(columns(&fresh) + columns(&off) + columns(&now));
    // How old the data is matters more than who looks at it.
    let account = fit(&format!(" {}", account(model)), usize::from(x.saturating_sub(2)), false);
    canvas.text(0, area.y, x, &account, Role::Text);
    let x = canvas.text(x, area.y, area.width, &fresh, role);
    let x = canvas.text(x, area.y, area.width, &off, Role::Warn);
    canvas.text(x, area.y, area.width, &now, Role::Dim);
}

/// Draws where the person is, the filter, and for tables the revision, age and number of lines.
fn crumbs(model: &Model, canvas: &mut Canvas<'_>, area: Rect, page: &Page) {
    let crumb = format!(" {} ", canvas.theme.marks().crumb);
    let path = format!(" {}", model.view().screen.crumbs(model).join(&crumb));
    let mut right = String::new();
    let filter = &model.view().filter;
    if !filter.is_empty() {
        right.push_str(&format!("{} /{filter}   ", model.t(T::FilterWord)));
    }
    if let (Some(revision), Some(at)) = (model.data_revision(), model.data_at()) {
        right.push_str(&format!("{} {}  {}   ", model.t(T::Revision), number(revision), age(model.now - at)));
    }
    // Panels are no list whose lines could be counted.
    if matches!(page.state, State::Ready | State::NoMatch(_)) && !model.view().screen.paneled() {
        right.push_str(&format!("{}/{} ", page.lines.len(), page.total));
    }
    let left = area.width.saturating_sub(columns(&right));
    canvas.text(0, area.y, left.saturating_sub(1), &path, Role::Strong);
    canvas.text(left, area.y, area.width, &right, Role::Dim);
}

/// Draws the prompt line and the hint bar; returns the place of the caret while something is typed.
pub(super) fn footer(model: &Model, canvas: &mut Canvas<'_>, area: Rect) -> Option<Position> {
    let caret = prompt(model, canvas, area);
    let mut x = 1;
    let y = area.y + 1;
    if model.form.is_some() || model.dialog.is_some() {
        return caret;
    }
    let hints: Vec<_> = hints(model.view().screen.kind())
        .into_iter()
        .filter_map(|hint| Some((hint, hint.keys.first().and_then(|word| Key::parse(word))?)))
        .collect();
    let room = |(hint, key): &(&Binding, Key)| columns(&format!("{key} {}", model.t(hint.text)));
    // The help has all the others, so it is the one that always finds room.
    let help = hints.iter().find(|(hint, _)| hint.action == Action::Help).map_or(0, &room);
    let (mut kept_for_help, mut full) = (help + 2, false);
    for it in &hints {
        let (hint, key) = it;
        let blocked = hint.action.writes() && model.write_block().is_some();
        if hint.action == Action::Help {
            kept_for_help = 0;
        }
        full |= x + room(it) + kept_for_help > area.width;
        if full && hint.action != Action::Help {
            continue;
        }
        let (strong, plain) = if blocked { (Role::Disabled, Role::Disabled) } else { (Role::Strong, Role::Dim) };
        x = canvas.text(x, y, area.width, &key.to_string(), strong);
        x = canvas.text(x + 1, y, area.width.saturating_sub(x + 1), model.t(hint.text), plain);
        x += 2;
    }
    caret
}

/// Draws what is typed, or that no leader answers, or the last message.
fn prompt(model: &Model, canvas: &mut Canvas<'_>, area: Rect) -> Option<Position> {
    if let Some(prompt) = &model.prompt {
        let before = match prompt.kind {
            PromptKind::Command => ":".to_owned(),
            PromptKind::Filter => "/".to_owned(),
            PromptKind::Search => model.t(T::SearchPrompt).to_owned(),
        };
        let x = canvas.text(0, area.y, area.width, &before, Role::Strong);
        let end = canvas.text(x, area.y, area.width - x, &prompt.input.shown(), Role::Text);
        if prompt.kind == PromptKind::Command {
            let list = complete(model, &prompt.input.text());
            let list: Vec<_> = list.into_iter().take(COMPLETIONS_MAX).collect();
            canvas.text(end + 3, area.y, area.width.saturating_sub(end + 3), &list.join("  "), Role::Dim);
        }
        let column = x + columns(&prompt.input.before_caret());
        return Some(Position { x: column.min(area.width - 1), y: area.y });
    }
    let last = model.messages.back().filter(|_| model.flash);
    match (model.link, last) {
        (Link::Lost { retry_at, attempt, .. }, None) => {
            let revision = model.data_revision().map_or_else(|| "-".to_owned(), number);
            let lost = fill(model.t(T::LostLine), &revision);
            // Whole seconds, rounded up, so that the last thing shown is not "0 s" while it still waits.
            let wait = age(retry_at - model.now + 999);
            let retry = format!("{} {attempt}{}", fill(model.t(T::Retrying), &wait), model.t(T::RetryEnd));
            canvas.text(1, area.y, area.width - 1, &format!("{lost} {retry}"), Role::Warn);
        }
        (_, Some(message)) => {
            let role = if message.failure.is_some() { Role::Warn } else { Role::Text };
            canvas.text(1, area.y, area.width - 1, &message.text, role);
        }
        (Link::Live | Link::Connecting, None) => {}
    }
    None
}
