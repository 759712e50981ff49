//! What goes to the terminal: aligned tables, JSON, names, and text from servers made harmless.
//!
//! Data goes to stdout, everything else to stderr. A closed pipe (`hanse ... | head`) is an ordinary end.

use std::io::{self, Write as _};

use serde_json::Value;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Columns of one table cell at most; a longer text would tear the table apart.
const CELL_COLUMNS_MAX: usize = 80;
/// Columns between two cells.
const GAP: usize = 2;

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// Only names, one a line.
    Name,
}

/// Rows under headings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// Headings; empty for a table without a heading line.
    pub(crate) headings: Vec<String>,
    /// Rows of as many cells.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// Returns the table as text; every cell is made harmless and cut to a bearable width.
    pub(crate) fn render(&self) -> String {
        let lines: Vec<Vec<String>> = std::iter::once(&self.headings)
            .filter(|headings| !headings.is_empty())
            .chain(&self.rows)
            .map(|row| row.iter().map(|cell| cut(&harmless(cell), CELL_COLUMNS_MAX)).collect())
            .collect();
        let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.width()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for line in &lines {
            let mut row = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                row.push_str(cell);
                row.extend(std::iter::repeat_n(' ', width - cell.width() + GAP));
            }
            text.push_str(row.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Returns a text without anything that could steer a terminal or deceive its reader: control characters (also C1),
/// and the invisible and direction-changing ones (Unicode TR 36, section 3.2; CVE-2021-42574).
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .filter_map(|letter| match letter {
            '\n' | '\r' | '\t' => Some(' '),
            letter if is_harmful(letter) => None,
            letter => Some(letter),
        })
        .collect()
}

fn is_harmful(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Returns a text of at most so many terminal columns; a wide letter is never cut in half.
fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut room = columns - 1;
    let mut short = String::new();
    for letter in text.chars() {
        let width = letter.width().unwrap_or(0);
        if width > room {
            break;
        }
        room -= width;
        short.push(letter);
    }
    short.push('…');
    short
}

/// Says a line on standard error. It may be gone (a closed terminal, a full disk under a log file); whoever speaks goes on
/// without it, above all to stop what was started and to end with the right exit code.
pub(crate) fn say(words: impl std::fmt::Display) {
    let _nobody_listens = writeln!(io::stderr(), "{words}");
}

/// Prints text to stdout.
///
/// # Errors
/// The output cannot be written, other than because its reader has gone.
pub(crate) fn print(text: &str) -> io::Result<()> {
    print_bytes(text.as_bytes())
}

/// Prints bytes to stdout exactly as they are.
///
/// # Errors
/// The output cannot be written, other than because its reader has gone.
pub(crate) fn print_bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints one JSON document to stdout.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_json(value: &Value) -> io::Result<()> {
    print(&format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[&[&str]]) -> String {
        let rows = rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        Table { headings: vec!["TENANT".to_owned(), "NAME".to_owned(), "STATE".to_owned()], rows }.render()
    }

    #[test]
    fn columns_stand_below_each_other_whatever_the_letters() {
        let text = table(&[&["acme", "Acme", "ACTIVE"], &["zhong", "中央銀行", "ACTIVE"], &["e", "Café", "ACTIVE"]]);
        assert_eq!(
            text,
            "TENANT  NAME      STATE\nacme    Acme      ACTIVE\nzhong   中央銀行  ACTIVE\ne       Café      ACTIVE\n"
        );
        let at = |line: &str| line.split("ACTIVE").next().unwrap_or_default().width();
        let columns: Vec<usize> = text.lines().skip(1).map(at).collect();
        assert_eq!(columns, [18, 18, 18]);
    }

    #[test]
    fn a_server_cannot_steer_the_terminal() {
        let text = table(&[&["a\u{1b}[2Jb", "x\u{202e}y\u{9b}z\u{200b}", "1\n2\r3"]]);
        assert_eq!(text.lines().nth(1), Some("a[2Jb   xyz   1 2 3"));
    }

    #[test]
    fn a_long_cell_is_cut_between_letters() {
        let text = table(&[&["a", &"中".repeat(100), "b"]]);
        assert!(text.lines().all(|line| line.width() <= 6 + 2 + CELL_COLUMNS_MAX + 2 + 5), "{text}");
        assert!(text.contains('…'));
    }
}
