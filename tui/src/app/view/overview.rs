//! The overview's panels: tiles, what needs the person, replicas, last changes.

use ratatui::layout::Rect;

use crate::app::model::Model;
use crate::format::{fit, number};
use crate::i18n::{T, state as word};
use crate::screens::page::{Line, Page, State, bar};
use crate::screens::{Tile, recent, tiles};
use crate::theme::{Level, Role};
use crate::widgets::Canvas;

use super::{FOOTER, body, header_rows};

/// Tiles stand in two rows of this many.
const TILES: u16 = 3;
/// Rows of a tile with its border.
const TILE_ROWS: u16 = 4;
/// Narrowest screen on which the replicas stand beside "needs you".
const WIDE: u16 = 80;

/// Returns the rows of tiles, of "needs you", of "recent changes" for a terminal of so many rows.
fn split(rows: u16) -> [u16; 3] {
    let body = rows.saturating_sub(header_rows(rows) + FOOTER);
    // Small terminals get one row of flat tiles, so that what needs a person still has room.
    let tiles = if body >= 22 { 2 * TILE_ROWS } else { 2 * (TILE_ROWS - 1) };
    let rest = body.saturating_sub(tiles);
    let needs = rest.div_ceil(2).max(5);
    [tiles, needs, rest.saturating_sub(needs)]
}

/// Returns the rows inside "needs you".
pub(super) fn needs_rows(rows: u16) -> u16 {
    split(rows)[1].saturating_sub(2)
}

/// Draws the overview.
pub(super) fn draw(model: &Model, canvas: &mut Canvas<'_>, area: Rect, page: &Page) {
    let [tile_rows, needs_rows, recent_rows] = split(canvas.buffer.area.height);
    let (width, rest) = (area.width / TILES, area.width % TILES);
    for (i, tile) in (0..).zip(tiles(model)) {
        let (column, row) = (i % TILES, i / TILES);
        let height = tile_rows / 2;
        // The last column takes what is left over, so that the right edges meet.
        let extra = if column == TILES - 1 { rest } else { 0 };
        let at = Rect { x: area.x + column * width, y: area.y + row * height, width: width + extra, height };
        draw_tile(model, canvas, at, tile);
    }
    let side = if area.width >= WIDE { (area.width / 3).max(34) } else { 0 };
    let y = area.y + tile_rows;
    let left = Rect { x: area.x, y, width: area.width - side, height: needs_rows };
    let inside = canvas.panel(left, model.t(T::NeedsYou), Role::Dim);
    match (&page.state, page.total) {
        (State::Ready, 0) => body::reason(model, canvas, inside, &State::Empty(T::EmptyNeeds)),
        (State::Ready, _) => body::lines(model, canvas, inside, page),
        (state, _) => body::reason(model, canvas, inside, state),
    }
    let right = Rect { x: area.x + left.width, width: side, ..left };
    replicas(model, canvas, right);
    if recent_rows >= 3 {
        let at = Rect { y: y + needs_rows, height: recent_rows, ..area };
        let inside = canvas.panel(at, model.t(T::Recent), Role::Dim);
        let page = recent(model, usize::from(inside.width));
        if page.state != State::Ready {
            body::reason(model, canvas, inside, &page.state);
        }
        rows(canvas, inside, &page.lines);
    }
}

fn rows(canvas: &mut Canvas<'_>, area: Rect, lines: &[Line]) {
    for (line, y) in lines.iter().zip(area.y..area.bottom()) {
        let mut x = area.x + 1;
        for span in &line.spans {
            let style = canvas.theme.style(span.role, canvas.stale);
            x = canvas.put(x, y, area.right().saturating_sub(x), &span.text, style);
        }
    }
}

fn draw_tile(model: &Model, canvas: &mut Canvas<'_>, area: Rect, tile: Tile) {
    let title = match tile.counts {
        Some(counts) => format!("{} {}", model.t(tile.title), counts.iter().sum::<usize>()),
        None => format!("{} -", model.t(tile.title)),
    };
    let inside = canvas.panel(area, &title, Role::Dim);
    let Some(counts) = tile.counts else { return };
    let mut x = inside.x + 1;
    let words = [(T::TileOk, Role::Ok), (T::TileWarn, Role::Working), (T::TileBad, Role::Danger)];
    for (n, (text, role)) in counts.iter().zip(words) {
        let role = if *n == 0 { Role::Dim } else { role };
        let style = canvas.theme.style(role, canvas.stale);
        x = canvas.put(x, inside.y, inside.right().saturating_sub(x), &format!("{n} {}", model.t(text)), style) + 2;
    }
    let whole = counts.iter().sum::<usize>() as u64;
    let shown = bar(model, counts[0] as u64, whole, usize::from(inside.width.saturating_sub(2)));
    if inside.height > 1 {
        let style = canvas.theme.style(if counts[2] > 0 { Role::Danger } else { Role::Dim }, canvas.stale);
        canvas.put(inside.x + 1, inside.y + 1, inside.width.saturating_sub(2), &shown, style);
    }
}

fn replicas(model: &Model, canvas: &mut Canvas<'_>, area: Rect) {
    let inside = canvas.panel(area, model.t(T::Replicas), Role::Dim);
    let list = model.status().map(|s| s.replicas.as_slice()).unwrap_or_default();
    let lines: Vec<_> = list
        .iter()
        .map(|r| {
            let level = Level::of(&r.role);
            let role = format!("{} {}", canvas.theme.glyph(level), word(model.settings.lang, &r.role));
            let (lag, lag_role) = match r.lag {
                Some(lag) => {
                    (format!("{} {}", model.t(T::Lag), number(lag)), if lag > 0 { Role::Warn } else { Role::Dim })
                }
                None => (String::new(), Role::Dim),
            };
            Line::of(format!("{} ", fit(&r.id, 3, false)), Role::Strong)
                .and(format!("{} ", fit(&role, 14, false)), level.role())
                .and(lag, lag_role)
        })
        .collect();
    rows(canvas, inside, &lines);
}
