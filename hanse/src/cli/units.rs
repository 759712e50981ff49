//! Texts of people into numbers and back: durations, times, hex.

use std::time::Duration;

/// Returns a duration of a text such as `500ms`, `30s`, `5m`, `2h` or `7d`.
///
/// # Errors
/// It is no such text.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let scale: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("a number with ms, s, m, h or d is needed, e.g. 30s".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "a whole number with a unit is needed, e.g. 30s".to_owned())?;
    number.checked_mul(scale).map(Duration::from_millis).ok_or_else(|| "too long".to_owned())
}

/// Returns milliseconds for the wire.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Returns a time as `2026-11-23 19:11:40Z`; `-` for 0, which means never.
pub(crate) fn time(ms: i64) -> String {
    if ms == 0 {
        return "-".to_owned();
    }
    // What no calendar holds is shown as the number that it is.
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.strftime("%F %TZ").to_string())
}

/// Returns bytes of hex digits, with or without `0x`.
///
/// # Errors
/// It is no hex.
pub(crate) fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.trim();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    hex::decode(digits).map_err(|error| format!("not hex: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("90d"), Ok(Duration::from_secs(90 * 86_400)));
        for bad in ["", "5", "s", "-1s", "1.5s", "5 s", "99999999999999999999s", "999999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times() {
        for (ms, text) in [
            (0, "-"),
            (1, "1970-01-01 00:00:00Z"),
            (951_782_400_000, "2000-02-29 00:00:00Z"),
            (1_795_461_100_999, "2026-11-23 19:11:40Z"),
            (-1, "1969-12-31 23:59:59Z"),
        ] {
            assert_eq!(time(ms), text);
        }
    }
}
