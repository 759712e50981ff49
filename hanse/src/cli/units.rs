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
    let seconds = ms.div_euclid(1_000);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

/// Returns year, month and day of a number of days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms", civil_from_days).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
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
