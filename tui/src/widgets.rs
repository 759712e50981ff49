//! The few things that are drawn: text, lines, boxes. All text reaches the terminal through `put`, which cleans it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::format::{clean, cut, width};
use crate::screens::page::Line;
use crate::theme::{Role, Theme};

/// Where and how to draw.
pub struct Canvas<'a> {
    /// Cells.
    pub buffer: &'a mut Buffer,
    /// Colours and glyphs.
    pub theme: Theme,
    /// Content is old and drawn dim.
    pub stale: bool,
}

impl Canvas<'_> {
    /// Draws `text` cleaned and cut to `room` columns; returns the column after it.
    pub fn put(&mut self, x: u16, y: u16, room: u16, text: &str, style: Style) -> u16 {
        let area = self.buffer.area;
        if y >= area.bottom() || x >= area.right() {
            return x;
        }
        let room = room.min(area.right() - x);
        let text = cut(&clean(text), usize::from(room));
        self.buffer.set_stringn(x, y, &text, usize::from(room), style);
        x + u16::try_from(width(&text)).unwrap_or(room)
    }

    /// Draws text in a role of the frame, which is never dimmed.
    pub fn text(&mut self, x: u16, y: u16, room: u16, text: &str, role: Role) -> u16 {
        self.put(x, y, room, text, self.theme.style(role, false))
    }

    /// Draws a line of content; the selected one is reversed over its whole width, with a mark in front.
    pub fn line(&mut self, area: Rect, line: &Line, selected: bool) {
        let mark = if selected { self.theme.marks().cursor } else { " " };
        let base = if selected { self.theme.style(Role::Selected, false) } else { Style::new() };
        if selected {
            self.buffer.set_style(Rect { height: 1, ..area }, base);
        }
        self.put(area.x, area.y, 1, mark, base);
        let mut x = area.x + 2;
        for span in &line.spans {
            let style = base.patch(self.theme.style(span.role, self.stale));
            x = self.put(x, area.y, area.right().saturating_sub(x), &span.text, style);
        }
    }

    /// Draws a box with a title and empties what is inside; returns the inside.
    pub fn panel(&mut self, area: Rect, title: &str, role: Role) -> Rect {
        let marks = self.theme.marks();
        let [tl, tr, bl, br] = marks.corners;
        let style = self.theme.style(role, false);
        let inner = usize::from(area.width.saturating_sub(2));
        let top = format!("{tl}{}{tr}", marks.horizontal.repeat(inner));
        let bottom = format!("{bl}{}{br}", marks.horizontal.repeat(inner));
        self.put(area.x, area.y, area.width, &top, style);
        self.put(area.x, area.bottom().saturating_sub(1), area.width, &bottom, style);
        for y in area.y + 1..area.bottom().saturating_sub(1) {
            self.put(area.x, y, area.width, &format!("{0}{1}{0}", marks.vertical, " ".repeat(inner)), style);
            self.buffer
                .set_style(Rect { x: area.x + 1, y, width: area.width.saturating_sub(2), height: 1 }, Style::reset());
        }
        if !title.is_empty() {
            let title = format!(" {} ", cut(&clean(title), inner.saturating_sub(4)));
            self.put(area.x + 1, area.y, area.width.saturating_sub(2), &title, style);
        }
        Rect {
            x: area.x + 1,
            y: area.y + 1,
            width: area.width.saturating_sub(2),
            height: area.height.saturating_sub(2),
        }
    }
}

/// Returns a box of a size in the middle of an area, cut to it.
pub fn centered(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}
