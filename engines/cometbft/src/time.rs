//! Times as CometBFT writes them (RFC 3339, UTC) and milliseconds since 1970.

use jiff::Timestamp;

/// Returns the time as text, whole milliseconds, UTC; what lies beyond the year 9999 is its end.
pub(crate) fn text(ms: u64) -> String {
    let at = Timestamp::from_millisecond(i64::try_from(ms).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX);
    format!("{at:.9}")
}

/// Returns the milliseconds of such a text, `None` if it is none; what is finer is cut off.
pub(crate) fn ms(text: &str) -> Option<u64> {
    let at: Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for (at, written) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789000000Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999000000Z"),
            (1_795_957_147_036, "2026-11-29T12:59:07.036000000Z"),
        ] {
            assert_eq!(text(at), written);
            assert_eq!(ms(written), Some(at));
        }
        assert_eq!(ms("2026-11-29T12:59:07.036327245Z"), Some(1_795_957_147_036));
        assert_eq!(ms("2026-11-29T12:58:54Z"), Some(1_795_957_134_000));
        assert_eq!(ms("2026-11-29T12:59:07.5Z"), Some(1_795_957_147_500));
        for bad in [
            "",
            "2026",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00:00",
            "1969-01-01T00:00:00Z",
            "2026-01-01T00:00:00.x1Z",
        ] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }
}
