//! Text on its way to the screen: cleaning, widths, numbers, ages, times.
//!
//! Everything that came from a server passes `clean` before it is drawn, because names, log lines and chain data are
//! written by others: an escape sequence, a bidi override or a zero-width character in them must never reach the
//! terminal. Widths are display columns, never bytes or chars. Nothing here reads a clock or a locale.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Longest text that `clean` lets through, in characters: no field of a screen is longer, and a hostile one may be.
pub const TEXT_CHARS_MAX: usize = 4_096;

/// Returns `text` without control, bidi, zero-width, private-use and variation characters; tabs and line ends become
/// one blank. What was dropped is not replaced, so that widths stay honest.
pub fn clean(text: &str) -> String {
    text.chars()
        .take(TEXT_CHARS_MAX)
        .filter_map(|c| match c {
            '\t' | '\n' | '\r' => Some(' '),
            c if c.is_control() || is_invisible(c) => None,
            c => Some(c),
        })
        .collect()
}

/// True for characters that change direction, join, tag or hide, and for those that draw as an emoji.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
        | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}'
        | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}'
        | '\u{E000}'..='\u{F8FF}' | '\u{1F000}'..='\u{1FAFF}' | '\u{E0000}'..='\u{E0FFF}'
        | '\u{F0000}'..='\u{10FFFF}')
}

/// Returns the display columns of `text`.
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// Returns `text` cut to at most `columns` display columns; a cut text ends in `..`, and a wide character is never halved.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (room, tail) = if columns > 4 { (columns - 2, "..") } else { (columns, "") };
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w > room {
            break;
        }
        used += w;
        out.push(c);
    }
    out.push_str(tail);
    out
}

/// Returns `text` cut and filled with blanks to exactly `columns` display columns.
pub fn fit(text: &str, columns: usize, right: bool) -> String {
    let mut short = cut(text, columns);
    let blank = " ".repeat(columns.saturating_sub(width(&short)));
    if right {
        format!("{blank}{short}")
    } else {
        short.push_str(&blank);
        short
    }
}

/// Returns `text` broken into lines of at most `columns` display columns, at blanks where there are any.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(4);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        let w = width(word.trim_end());
        if used > 0 && used + w > columns {
            lines.push(std::mem::take(&mut line).trim_end().to_owned());
            used = 0;
        }
        for c in word.chars() {
            let w = c.width().unwrap_or(0);
            if used + w > columns && c != ' ' {
                lines.push(std::mem::take(&mut line).trim_end().to_owned());
                used = 0;
            }
            line.push(c);
            used += w;
        }
    }
    if !line.trim_end().is_empty() || lines.is_empty() {
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// Returns `n` with a comma between thousands: `1,204,331`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Returns micro units of `currency` as an exact amount of two to six decimals: `41,200.00 CNY`, `0.125 CNY`.
pub fn money(micro: i128, currency: &str) -> String {
    let sign = if micro < 0 { "-" } else { "" };
    let whole = u64::try_from(micro.unsigned_abs() / 1_000_000).unwrap_or(u64::MAX);
    let part = format!("{:06}", micro.unsigned_abs() % 1_000_000);
    let part = format!("{:0<2}", part.trim_end_matches('0'));
    format!("{sign}{}.{part} {currency}", number(whole)).trim_end().to_owned()
}

/// Returns a length of time of `ms` milliseconds in its two largest units at most: `0.4s`, `12s`, `3m05s`, `2h58m`, `12d4h`.
pub fn span(ms: i64) -> String {
    let ms = ms.max(0);
    let s = ms / 1_000;
    match s {
        0..=9 => format!("{}.{}s", s, ms % 1_000 / 100),
        10..=59 => format!("{s}s"),
        60..=3_599 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..=86_399 => format!("{}h{:02}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d{}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// Returns the whole seconds of an age: `0s`, `12s`, `3m`, `2h`, `12d`.
pub fn age(ms: i64) -> String {
    let s = ms.max(0) / 1_000;
    match s {
        0..=59 => format!("{s}s"),
        60..=3_599 => format!("{}m", s / 60),
        3_600..=86_399 => format!("{}h", s / 3_600),
        _ => format!("{}d", s / 86_400),
    }
}

/// Returns the UTC clock of `ms` since the epoch: `12:04:31`; `-` for zero, which stands for "never".
pub fn clock(ms: i64) -> String {
    strftime(ms, "%H:%M:%S")
}

/// Returns the UTC date and time of `ms` since the epoch: `2026-11-23 12:04:31`; `-` for zero.
pub fn date_time(ms: i64) -> String {
    strftime(ms, "%Y-%m-%d %H:%M:%S")
}

/// Returns the UTC month of `ms` since the epoch as invoices name it: `2026-11`.
pub fn month(ms: i64) -> String {
    strftime(ms, "%Y-%m")
}

fn strftime(ms: i64, form: &str) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(t) if ms > 0 => t.to_zoned_datetime(jiff::tz::TimeZone::UTC).strftime(form).to_string(),
        _ => "-".to_owned(),
    }
}

/// Returns a hash or address short enough for a column, head and tail kept: `0x12345678..9abcdef0`.
pub fn short_hash(hash: &str) -> String {
    let chars: Vec<char> = hash.chars().collect();
    if chars.len() <= 22 {
        return hash.to_owned();
    }
    let head: String = chars[..10].iter().collect();
    let tail: String = chars[chars.len() - 8..].iter().collect();
    format!("{head}..{tail}")
}

/// Returns `wei` (a decimal string) in whole units of 10^18 with up to six decimals; anything else comes back as it is.
pub fn ether(wei: &str) -> String {
    let Ok(n) = wei.parse::<u128>() else { return wei.to_owned() };
    const UNIT: u128 = 1_000_000_000_000_000_000;
    let micro = n % UNIT / 1_000_000_000_000;
    let whole = u64::try_from(n / UNIT).unwrap_or(u64::MAX);
    if micro == 0 && !n.is_multiple_of(UNIT) {
        return format!("{wei} wei");
    }
    let decimals = format!("{micro:06}");
    let decimals = decimals.trim_end_matches('0');
    if decimals.is_empty() { number(whole) } else { format!("{}.{decimals}", number(whole)) }
}

/// Maps what a Chinese input method sends for ASCII (U+FF01 to U+FF5E, the ideographic comma and blank) to ASCII.
pub fn half_width(c: char) -> char {
    match c {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(c as u32 - 0xFEE0).unwrap_or(c),
        '、' => '/',
        '。' => '.',
        '\u{3000}' => ' ',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_drops_what_moves_hides_or_escapes() {
        assert_eq!(clean("a\x1b[31mred\x07"), "a[31mred");
        assert_eq!(clean("\u{202E}evil\u{2066}\u{200B}x\u{FE0F}"), "evilx");
        assert_eq!(clean("two\nlines\there\r"), "two lines here ");
        assert_eq!(clean("\u{9b}31m \u{1F600}供应链"), "31m 供应链");
        assert_eq!(clean(&"x".repeat(9_000)).len(), TEXT_CHARS_MAX);
    }

    #[test]
    fn widths_never_halve_a_wide_character() {
        assert_eq!(cut("供应链金融", 7), "供应..");
        assert_eq!(width(&fit("供应链金融", 7, false)), 7);
        assert_eq!(fit("12", 5, true), "   12");
        assert_eq!(cut("abc", 3), "abc");
    }

    #[test]
    fn wrap_breaks_at_blanks_and_inside_long_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 8), [""]);
    }

    #[test]
    fn numbers_ages_and_times() {
        assert_eq!(number(1_204_331), "1,204,331");
        assert_eq!(money(41_200_000_000, "CNY"), "41,200.00 CNY");
        assert_eq!(money(-125_000, "CNY"), "-0.125 CNY");
        assert_eq!(money(7, ""), "0.000007");
        assert_eq!(span(400), "0.4s");
        assert_eq!(span(185_000), "3m05s");
        assert_eq!(age(7_300_000), "2h");
        assert_eq!(clock(1_795_435_471_000), "12:04:31");
        assert_eq!(date_time(0), "-");
        assert_eq!(ether("1500000000000000000"), "1.5");
        assert_eq!(ether("1"), "1 wei");
        assert_eq!(ether("0"), "0");
    }

    #[test]
    fn input_method_punctuation_becomes_ascii() {
        let typed: String = "：ｑ、。链".chars().map(half_width).collect();
        assert_eq!(typed, ":q/.链");
    }
}
