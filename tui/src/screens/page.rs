//! What a screen says, before it is drawn: lines of spans, some of them resources.
//!
//! A screen is a pure function from the model to a `Page`. The same lines answer the arrow keys, the filter, the
//! snapshots and, later, a plain-text mode; drawing adds only the place on the terminal.

use crate::app::model::data::Failure;
use crate::format::{clean, fit, width};
use crate::i18n::T;
use crate::theme::{Level, Role};

use super::Screen;

/// Text with a meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Text.
    pub text: String,
    /// Meaning.
    pub role: Role,
}

/// One line of a screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Resource name, or a number that is unique in the page.
    pub id: String,
    /// Parts from the left.
    pub spans: Vec<Span>,
    /// Where Enter goes.
    pub open: Option<Screen>,
}

impl Line {
    /// Returns a line of one span.
    pub fn of(text: impl Into<String>, role: Role) -> Self {
        Self { spans: vec![Span { text: text.into(), role }], ..Self::default() }
    }

    /// Returns this line with one more span.
    pub fn and(mut self, text: impl Into<String>, role: Role) -> Self {
        self.spans.push(Span { text: text.into(), role });
        self
    }

    /// Returns this line as a resource that Enter opens.
    pub fn opens(mut self, id: &str, screen: Screen) -> Self {
        self.id = id.to_owned();
        self.open = Some(screen);
        self
    }

    /// Returns the whole text.
    pub fn text(&self) -> String {
        self.spans.iter().map(|s| s.text.as_str()).collect()
    }
}

/// Why the lines are as they are. The five states of a list never look alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There are lines.
    Ready,
    /// Nothing came yet; asked at this time.
    Loading(i64),
    /// There is nothing; the text says how to make the first.
    Empty(T),
    /// The filter hides this many.
    NoMatch(usize),
    /// The account may not see it.
    Denied(Failure),
    /// It could not be had.
    Failed(Failure),
}

/// A screen's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Lines that stay at the top: a table's header.
    pub pinned: Vec<Line>,
    /// Lines that scroll, after the filter.
    pub lines: Vec<Line>,
    /// How many there were before the filter.
    pub total: usize,
    /// Why.
    pub state: State,
}

impl Page {
    /// Returns a page of lines; lines without an id get their number as id.
    pub fn of(mut lines: Vec<Line>) -> Self {
        for (i, line) in lines.iter_mut().enumerate() {
            if line.id.is_empty() {
                line.id = format!("#{i}");
            }
        }
        Self { pinned: Vec::new(), total: lines.len(), lines, state: State::Ready }
    }

    /// Returns a page of a state without lines.
    pub fn bare(state: State) -> Self {
        Self { pinned: Vec::new(), lines: Vec::new(), total: 0, state }
    }

    /// Keeps the lines that match `filter`: a substring in any case, or with `!` before it the lines without it.
    pub fn filter(&mut self, filter: &str) {
        let needle = filter.to_lowercase();
        let (not, needle) = match needle.strip_prefix('!') {
            Some(rest) => (true, rest.to_owned()),
            None => (false, needle),
        };
        if needle.is_empty() {
            return;
        }
        self.lines
            .retain(|l| (l.text().to_lowercase().contains(&needle) || l.id.to_lowercase().contains(&needle)) != not);
        if self.lines.is_empty() && self.state == State::Ready && self.total > 0 {
            self.state = State::NoMatch(self.total);
        }
    }
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Title.
    pub title: T,
    /// Numbers stand right.
    pub right: bool,
    /// Widest it grows.
    pub max: usize,
    /// 0 stays; the highest is left out first where there is no room.
    pub spare: u8,
}

/// Returns a left-aligned column.
pub const fn col(title: T, max: usize, spare: u8) -> Column {
    Column { title, right: false, max, spare }
}

/// Returns a right-aligned column.
pub const fn num(title: T, max: usize, spare: u8) -> Column {
    Column { title, right: true, max, spare }
}

/// A table before it is laid out.
#[derive(Clone, Debug)]
pub struct Table {
    /// Columns from the left.
    pub columns: &'static [Column],
    /// Rows: id, cells, where Enter goes.
    pub rows: Vec<Row>,
}

/// A row of a table.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Resource name.
    pub id: String,
    /// One a column.
    pub cells: Vec<Span>,
    /// Where Enter goes.
    pub open: Option<Screen>,
}

/// Narrowest a column gets that must stay.
const COLUMN_MIN: usize = 8;
/// Narrowest a column gets before it is left out.
const SPARE_MIN: usize = 16;

impl Table {
    /// Returns the header and the lines of this table in `columns` display columns.
    pub fn layout(self, columns: usize, title: impl Fn(T) -> &'static str) -> (Line, Vec<Line>) {
        let widths = self.widths(columns, &title);
        let mut header = Line::default();
        for (i, c) in self.columns.iter().enumerate() {
            if widths[i] > 0 {
                header = header.and(fit(title(c.title), widths[i], c.right), Role::Dim).and("  ", Role::Dim);
            }
        }
        let lines = self.rows.into_iter().map(|row| {
            let mut line = Line { id: row.id, spans: Vec::new(), open: row.open };
            for (i, cell) in row.cells.into_iter().enumerate() {
                if widths[i] > 0 {
                    let text = fit(&clean(&cell.text), widths[i], self.columns[i].right);
                    line = line.and(text, cell.role).and("  ", Role::Text);
                }
            }
            line
        });
        let lines = lines.collect();
        (header, lines)
    }

    /// Returns the width of each column, 0 for those left out.
    fn widths(&self, room: usize, title: &impl Fn(T) -> &'static str) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, c)| {
                let cells = self.rows.iter().filter_map(|r| r.cells.get(i)).map(|s| width(&clean(&s.text)));
                cells.max().unwrap_or(0).min(c.max).max(width(title(c.title)))
            })
            .collect();
        let total = |w: &[usize]| w.iter().filter(|w| **w > 0).map(|w| w + 2).sum::<usize>();
        loop {
            let over = total(&widths).saturating_sub(room + 2);
            if over == 0 {
                return widths;
            }
            // First what explains gives way, then it goes, and only then the names: a cut name is another name.
            let text = |spare: bool| move |i: &usize| !self.columns[*i].right && (self.columns[*i].spare > 0) == spare;
            let widest = |spare| (0..widths.len()).filter(text(spare)).max_by_key(|i| widths[*i]);
            if let Some(i) = widest(true).filter(|i| widths[*i] > SPARE_MIN) {
                widths[i] -= over.min(widths[i] - SPARE_MIN);
                continue;
            }
            let spare = (0..widths.len()).filter(|i| widths[*i] > 0 && self.columns[*i].spare > 0);
            match (spare.max_by_key(|i| self.columns[*i].spare), widest(false)) {
                (Some(i), _) => widths[i] = 0,
                (None, Some(i)) if widths[i] > COLUMN_MIN => widths[i] -= over.min(widths[i] - COLUMN_MIN),
                _ => return widths,
            }
        }
    }
}

/// Returns a span of ordinary text.
pub fn text(text: impl Into<String>) -> Span {
    Span { text: text.into(), role: Role::Text }
}

/// Returns a span of dim text.
pub fn dim(text: impl Into<String>) -> Span {
    Span { text: text.into(), role: Role::Dim }
}

/// Returns a state word with its glyph, in the role of its level.
pub fn state(model: &crate::app::model::Model, word: &str) -> Span {
    let level = Level::of(word);
    let glyph = model.settings.theme.glyph(level);
    Span { text: format!("{glyph} {}", crate::i18n::state(model.settings.lang, word)), role: level.role() }
}

/// Returns the state of work: what runs is on its way, unlike a chain or node that runs.
pub fn work(model: &crate::app::model::Model, word: &str) -> Span {
    let level = if word == "RUNNING" { Level::Working } else { Level::of(word) };
    let glyph = model.settings.theme.glyph(level);
    Span { text: format!("{glyph} {}", crate::i18n::state(model.settings.lang, word)), role: level.role() }
}

/// Returns the bar of a share in `cells` columns, filled from the left; nothing of nothing is empty.
pub fn bar(model: &crate::app::model::Model, part: u64, whole: u64, cells: usize) -> String {
    let [full, empty] = model.settings.theme.marks().bar;
    let filled = (part.min(whole) * cells as u64).checked_div(whole).unwrap_or(0) as usize;
    format!("{}{}", full.repeat(filled), empty.repeat(cells - filled))
}
