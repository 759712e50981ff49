//! Time as the log knows it: milliseconds since 1970 (UTC), stamped by the leader, never read from a clock here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::rejection::Rejection;

/// One second.
pub const SECOND_MS: u64 = 1_000;
/// One minute.
pub const MINUTE_MS: u64 = 60 * SECOND_MS;
/// One hour.
pub const HOUR_MS: u64 = 60 * MINUTE_MS;
/// One day (UTC has no leap seconds here, as Unix time has none).
pub const DAY_MS: u64 = 24 * HOUR_MS;

/// A moment: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// The moment `ms` later, held at the end of time.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment, zero if it is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The UTC month of this moment.
    pub fn month(self) -> Month {
        let (year, month) = civil(self.0 / DAY_MS);
        Month { year, month }
    }
}

/// A calendar month in UTC, written `2026-11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month {
    year: u32,
    month: u32,
}

impl Month {
    /// Returns the month of `YYYY-MM`.
    ///
    /// # Errors
    /// `InvalidName` if the text is not one or lies before 1970.
    pub fn parse(text: &str) -> Result<Self, Rejection> {
        let bad = || Rejection::InvalidName {
            field: "month".into(),
            value: text.chars().take(20).collect(),
            rule: "YYYY-MM from 1970-01 on".into(),
        };
        let (year, month) = text.split_once('-').ok_or_else(bad)?;
        let this = Self { year: year.parse().map_err(|_| bad())?, month: month.parse().map_err(|_| bad())? };
        let valid = (1970..=9999).contains(&this.year) && (1..=12).contains(&this.month) && this.to_string() == text;
        if valid { Ok(this) } else { Err(bad()) }
    }

    /// The first moment of the month.
    pub fn start(self) -> Millis {
        Millis(days(self.year, self.month) * DAY_MS)
    }

    /// The first moment of the next month.
    pub fn end(self) -> Millis {
        let next = if self.month == 12 {
            Self { year: self.year + 1, month: 1 }
        } else {
            Self { year: self.year, month: self.month + 1 }
        };
        next.start()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl FromStr for Month {
    type Err = Rejection;
    fn from_str(text: &str) -> Result<Self, Rejection> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Month {
    type Error = Rejection;
    fn try_from(text: String) -> Result<Self, Rejection> {
        Self::parse(&text)
    }
}

impl From<Month> for String {
    fn from(month: Month) -> String {
        month.to_string()
    }
}

/// Year and month of a day since 1970 (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil(days: u64) -> (u32, u32) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    // A moment of 64 bits of milliseconds reaches the year 584,556,019, which fits.
    (u32::try_from(year).unwrap_or(u32::MAX), u32::try_from(month).unwrap_or(12))
}

/// Days from 1970 to the first of a month (same source, `days_from_civil`).
fn days(year: u32, month: u32) -> u64 {
    let y = u64::from(year) - u64::from(month <= 2);
    let m = u64::from(month);
    let era = y / 400;
    let yoe = y % 400;
    let mp = if m > 2 { m - 3 } else { m + 9 };
    let doy = (153 * mp + 2) / 5;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn months_meet_without_gap_from_1970_on() {
        let mut month = Month::parse("1970-01").unwrap();
        assert_eq!(month.start(), Millis(0));
        for _ in 0..12 * 200 {
            let next = month.end().month();
            assert_eq!(next.start(), month.end());
            assert_eq!(Millis(month.end().0 - 1).month(), month);
            month = next;
        }
        assert_eq!(Month::parse("2026-11").unwrap().start(), Millis(1_793_491_200_000));
        assert_eq!(Month::parse("2028-02").unwrap().end().since(Month::parse("2028-02").unwrap().start()), 29 * DAY_MS);
    }

    #[test]
    fn what_is_not_a_month_is_refused() {
        for text in ["2026-13", "2026-00", "2026-1", "26-01", "1969-12", "", "2026", "2026-11-01", "+2026-01"] {
            assert!(Month::parse(text).is_err(), "{text}");
        }
    }
}
