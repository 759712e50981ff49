//! Screens about the console itself: messages and help.

use crate::app::model::Model;
use crate::format::{clock, fit, width, wrap};
use crate::i18n::T;
use crate::keymap::{BINDINGS, PREFIX};
use crate::theme::Role;

use super::command::ALIASES;
use super::page::{Line, Page, State};

pub(super) fn messages(model: &Model, columns: usize) -> Page {
    if model.messages.is_empty() {
        return Page::bare(State::Empty(T::EmptyMessages));
    }
    let mut lines = Vec::new();
    for m in model.messages.iter().rev() {
        let role = if m.failure.is_some() { Role::Warn } else { Role::Text };
        lines.push(Line::of(format!("{}  ", clock(m.at)), Role::Dim).and(&m.text, role));
        let Some(f) = &m.failure else { continue };
        let mut more = vec![f.reason.clone(), f.advice.clone()];
        if !f.request_id.is_empty() {
            more.push(format!("{} {}", model.t(T::ColRequest), f.request_id));
        }
        for text in more.iter().filter(|t| !t.is_empty()) {
            let pieces = wrap(text, columns.saturating_sub(12));
            lines.extend(pieces.into_iter().map(|p| Line::of(format!("          {p}"), Role::Dim)));
        }
    }
    Page::of(lines)
}

pub(super) fn help(model: &Model) -> Page {
    let mut lines = vec![Line::of(model.t(T::HelpRule), Role::Strong), Line::default()];
    for b in BINDINGS {
        let keys: Vec<_> = b.keys.iter().filter_map(|w| crate::keymap::Key::parse(w)).map(|k| k.to_string()).collect();
        let role = if b.action.writes() { Role::Danger } else { Role::Strong };
        let here = b.on.is_none_or(|on| model.views.iter().rev().nth(1).is_none_or(|v| on.contains(&v.screen.kind())));
        let role = if here { role } else { Role::Dim };
        lines.push(Line::of(fit(&keys.join("  "), 18, false), role).and(model.t(b.text), Role::Text));
    }
    lines.push(Line::default());
    lines.push(Line::of(model.t(T::HelpPrefix), Role::Strong));
    for (key, _, text) in PREFIX {
        lines.push(Line::of(fit(&format!("g {key}"), 18, false), Role::Strong).and(model.t(*text), Role::Text));
    }
    lines.push(Line::default());
    lines.push(Line::of(model.t(T::HelpCommands), Role::Strong));
    for (names, text) in ALIASES {
        let names: Vec<String> = names.iter().map(|n| format!(":{n}")).collect();
        let names = names.join(" ");
        let room = width(&names).max(38) + 2;
        lines.push(Line::of(fit(&names, room, false), Role::Strong).and(model.t(*text), Role::Text));
    }
    Page::of(lines)
}
