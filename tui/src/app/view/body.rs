//! The body of a screen: pinned header, lines with the cursor, or why there are none.

use ratatui::layout::Rect;

use crate::app::model::Model;
use crate::app::update::{cursor, scroll};
use crate::format::{span, wrap};
use crate::i18n::{T, fill};
use crate::screens::page::{Page, State};
use crate::theme::Role;
use crate::widgets::Canvas;

/// Draws a page into an area.
pub(super) fn draw(model: &Model, canvas: &mut Canvas<'_>, area: Rect, page: &Page) {
    let mut area = area;
    for line in &page.pinned {
        canvas.line(Rect { height: 1, ..area }, line, false);
        area = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    }
    if page.state == State::Ready {
        lines(model, canvas, area, page);
    } else {
        reason(model, canvas, area, &page.state);
    }
}

/// Draws the lines round the cursor.
pub(super) fn lines(model: &Model, canvas: &mut Canvas<'_>, area: Rect, page: &Page) {
    let view = model.view();
    let at = cursor(view, page);
    let rows = usize::from(area.height).max(1);
    let offset = scroll(view.offset, at, rows, page.lines.len());
    for (i, line) in page.lines.iter().enumerate().skip(offset).take(rows) {
        let y = area.y + u16::try_from(i - offset).unwrap_or(0);
        canvas.line(Rect { y, height: 1, ..area }, line, i == at);
    }
}

/// Draws why there are no lines.
pub(super) fn reason(model: &Model, canvas: &mut Canvas<'_>, area: Rect, state: &State) {
    let filter = &model.view().filter;
    let (texts, role) = match state {
        State::Ready => return,
        State::Loading(asked) => {
            let waited = if *asked > 0 { span(model.now - asked) } else { span(0) };
            (vec![fill(model.t(T::Loading), &waited)], Role::Working)
        }
        State::Empty(text) => (vec![model.t(*text).to_owned()], Role::Dim),
        State::NoMatch(hidden) => {
            let more = fill(model.t(T::Hidden), &hidden.to_string());
            (vec![format!("{} {more}", fill(model.t(T::NoMatch), filter))], Role::Dim)
        }
        State::Denied(f) => (vec![fill(model.t(T::DeniedLine), &f.message), f.advice.clone()], Role::Warn),
        State::Failed(f) => {
            let why = format!("{} {}", f.reason, f.message);
            let next = format!("{} {}", f.advice, model.t(T::FailedNext));
            (vec![fill(model.t(T::FailedLine), why.trim()), next.trim().to_owned()], Role::Danger)
        }
    };
    let mut y = area.y + u16::from(area.height > 2);
    for text in texts.iter().filter(|t| !t.is_empty()) {
        for piece in wrap(text, usize::from(area.width.saturating_sub(4))) {
            if y < area.bottom() {
                canvas.text(area.x + 2, y, area.width.saturating_sub(2), &piece, role);
                y += 1;
            }
        }
    }
}
