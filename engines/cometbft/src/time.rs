//! Times as CometBFT writes them (RFC 3339, UTC) and milliseconds since 1970. Civil days by Howard Hinnant's "chrono-
//! compatible low-level date algorithms".

const DAY_MS: u64 = 86_400_000;

/// Returns the time as text, whole milliseconds, UTC.
pub(crate) fn text(ms: u64) -> String {
    let (days, rest) = (ms / DAY_MS, ms % DAY_MS);
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}000000Z", rest % 1_000)
}

/// Returns the milliseconds of such a text, `None` if it is none; what is finer is cut off.
pub(crate) fn ms(text: &str) -> Option<u64> {
    let body = text.strip_suffix('Z')?;
    let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
    let (date, clock) = whole.split_once('T')?;
    let numbers = |text: &str, by: char| text.split(by).map(|n| n.parse::<u64>().ok()).collect::<Option<Vec<_>>>();
    let (date, clock) = (numbers(date, '-')?, numbers(clock, ':')?);
    let ([year, month, day], [hour, minute, second]) = (date.as_slice(), clock.as_slice()) else { return None };
    let sane = (1970..10_000).contains(year) && (1..=12).contains(month) && (1..=31).contains(day);
    let digits = fraction.len() <= 9 && fraction.bytes().all(|b| b.is_ascii_digit());
    if !sane || !digits || *hour > 23 || *minute > 59 || *second > 60 {
        return None;
    }
    let year = year - u64::from(*month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted = if *month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(days * DAY_MS + (hour * 3_600 + minute * 60 + second) * 1_000 + millis)
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
            "2026-01-01 00:00:00Z",
            "1969-01-01T00:00:00Z",
            "2026-01-01T00:00:00.x1Z",
        ] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }
}
