//! US dollars in millionths: prices are sums of them, exact like bytes.

use super::decimal::Decimal;
use super::{Error, Quantity};

const MILLION: u64 = 1_000_000;

/// Reads US dollars, `2.49`, as millionths of one: more than nothing, and no finer than that.
///
/// # Errors
/// [`Error`] for zero, a sign, a unit, more than six decimals, or a number past 2⁶⁴ − 1.
///
/// ```
/// assert_eq!(kvsize::units::parse_dollars("2.49"), Ok(2_490_000));
/// ```
pub fn parse_dollars(text: &str) -> Result<u64, Error> {
    let amount = Decimal::parse(text).ok_or_else(|| Quantity::Dollars.not_a_number(text))?;
    Quantity::Dollars.positive(amount.times(MILLION), text)
}

/// Millionths of a dollar as dollars, with two decimals, or as many as are needed.
///
/// ```
/// assert_eq!(kvsize::units::dollars(2_500_000), "2.50");
/// assert_eq!(kvsize::units::dollars(2_490_001), "2.490001");
/// ```
pub fn dollars(millionths: u64) -> String {
    let text = super::fixed_point(u128::from(millionths), u128::from(MILLION), 6);
    let shortest = text.len().saturating_sub(4);
    let trimmed = text.trim_end_matches('0');
    text.get(..trimmed.len().max(shortest)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_exact_to_a_millionth() {
        for (text, millionths) in
            [("2.49", 2_490_000), ("19.92", 19_920_000), ("0.000001", 1), ("3", 3_000_000), ("1.2000000", 1_200_000)]
        {
            assert_eq!(parse_dollars(text), Ok(millionths), "{text}");
            assert_eq!(parse_dollars(&dollars(millionths)), Ok(millionths), "{text}");
        }
        for text in ["", "0", "0.00", "-1", "NaN", "inf", "2.4900001", "1e3", "2,49", "2.49 ", "$2", "99999999999999"] {
            assert!(parse_dollars(text).is_err(), "{text}");
        }
    }
}
