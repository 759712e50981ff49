//! Money in millionths of a currency unit: whole numbers, never floats.

use crate::time::HOUR_MS;

/// Highest rate a plan may have: a billion units an hour in millionths.
pub const RATE_MICRO_MAX: u64 = 1_000_000_000_000_000;

/// Returns the price of `ms` milliseconds at `rate_micro_per_hour`, rounded half up to a millionth.
///
/// It cannot overflow: two 64-bit numbers make at most 2^128 - 2^65 + 1, and the hour's divisor brings that under 2^107.
pub fn price_micro(ms: u64, rate_micro_per_hour: u64) -> i128 {
    let hour = u128::from(HOUR_MS);
    let micro = (u128::from(ms) * u128::from(rate_micro_per_hour) + hour / 2) / hour;
    i128::try_from(micro).expect("below 2^107 by the bound above")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn price_rounds_half_up_and_never_overflows() {
        assert_eq!(price_micro(0, 5), 0);
        assert_eq!(price_micro(3_600_000, 5), 5);
        assert_eq!(price_micro(1_800_000, 1), 1);
        assert_eq!(price_micro(1_799_999, 1), 0);
        assert_eq!(price_micro(u64::MAX, u64::MAX), 94_522_879_700_260_684_285_133_644_245_653);
    }
}
