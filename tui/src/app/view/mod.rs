//! `view`: draws a model. Reads nothing else, changes nothing.

use ratatui::Frame;
use ratatui::layout::Rect;

use crate::i18n::T;
use crate::screens::page::Page;
use crate::screens::{chart, chart_of, page};
use crate::theme::Role;
use crate::widgets::Canvas;

use super::model::{Model, SIZE_MIN};
use super::update::cursor;

mod body;
mod dialogs;
mod header;
mod overview;

/// Rows under the body: prompt line and hint bar.
const FOOTER: u16 = 2;
/// Columns left of a line for the cursor.
const GUTTER: usize = 2;

/// Draws the model.
pub fn view(model: &Model, frame: &mut Frame<'_>) {
    let area = frame.area();
    let mut canvas = Canvas { buffer: frame.buffer_mut(), theme: model.settings.theme, stale: model.stale() };
    if area.width < SIZE_MIN.0 || area.height < SIZE_MIN.1 {
        header::first_row(model, &mut canvas, Rect { height: 1, ..area });
        canvas.text(0, area.height / 2, area.width, model.t(T::TooSmall), Role::Warn);
        return;
    }
    let top = header_rows(area.height);
    let body = Rect { y: top, height: area.height - top - FOOTER, ..area };
    let page = page(model, usize::from(area.width) - GUTTER);
    header::header(model, &mut canvas, Rect { height: top, ..area }, &page);
    let mut caret = None;
    if let Some(form) = &model.form {
        caret = dialogs::form(model, &mut canvas, body, form);
    } else {
        if model.view().screen.paneled() {
            overview::draw(model, &mut canvas, body, &page);
        } else {
            let rows = chart::rows(model);
            let chart = Rect { y: body.bottom() - rows, height: rows, ..body };
            body::draw(model, &mut canvas, Rect { height: body.height - rows, ..body }, &page);
            draw_chart(model, &mut canvas, chart, &page);
        }
        if let Some(dialog) = &model.dialog {
            caret = dialogs::dialog(model, &mut canvas, body, dialog);
        } else if model.prefix {
            dialogs::which_key(model, &mut canvas, body);
        }
    }
    let foot = Rect { y: area.height - FOOTER, height: FOOTER, ..area };
    let prompt = header::footer(model, &mut canvas, foot);
    // The terminal's own cursor stands where text is typed, so that an input method opens there; else it is hidden.
    if let Some(position) = prompt.or(caret) {
        frame.set_cursor_position(position);
    }
}

/// Draws the figure under the cursor over time, where the screen gives room to it.
fn draw_chart(model: &Model, canvas: &mut Canvas<'_>, area: Rect, page: &Page) {
    let line = page.lines.get(cursor(model.view(), page)).filter(|_| area.height > 2);
    let size = (area.width.saturating_sub(2), area.height.saturating_sub(2));
    let Some((title, lines)) = line.and_then(|line| chart_of(model, &line.id, size)) else { return };
    let inside = canvas.panel(area, &title, Role::Dim);
    for (line, y) in lines.iter().zip(inside.y..inside.bottom()) {
        let style = canvas.theme.style(Role::Text, canvas.stale);
        canvas.put(inside.x, y, inside.width, line, style);
    }
}

/// Returns the rows of the header; small terminals get the first two in one.
fn header_rows(height: u16) -> u16 {
    if height < 24 { 2 } else { 3 }
}

/// Returns the columns of a line and the rows of the body, as `update` needs them to move the cursor.
pub fn body_size(model: &Model) -> (usize, usize) {
    let (columns, rows) = model.size;
    let rows = match model.view().screen.paneled() {
        true => overview::needs_rows(rows),
        false => rows.saturating_sub(header_rows(rows) + FOOTER + chart::rows(model)),
    };
    (usize::from(columns).saturating_sub(GUTTER), usize::from(rows))
}
