//! Parts of a whole in millionths, which are four places of a percent.

use super::decimal::{Decimal, Product};
use super::{Code, Error};

/// Millionths in a hundredth.
const PERCENT: u64 = 10_000;

/// Reads a percentage, `5%` or `2.5%`, as millionths of a whole.
///
/// # Errors
/// [`Code::NotAPercentage`] for anything but a percentage with at most four decimals.
///
/// ```
/// use kvsize::units::parse_percentage;
/// assert_eq!(parse_percentage("2.5%"), Ok(25_000));
/// assert!(parse_percentage("2.5").is_err());
/// ```
pub fn parse_percentage(text: &str) -> Result<u32, Error> {
    let number = text.strip_suffix('%').and_then(Decimal::parse).map(|number| number.times(PERCENT));
    match number {
        Some(Product::Whole(millionths)) => u32::try_from(millionths).ok(),
        _ => None,
    }
    .ok_or_else(|| percentage_error(Code::NotAPercentage, text, "is not a percentage"))
}

pub(crate) fn percentage_error(code: Code, found: &str, problem: &str) -> Error {
    Error::new(code, "", found, problem, "give one with at most 4 decimals, as 5% or 2.5%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_millionths() {
        for (text, expected) in [("5%", 50_000), ("2.5%", 25_000), ("0.0001%", 1), ("250%", 2_500_000), ("0%", 0)] {
            assert_eq!(parse_percentage(text), Ok(expected), "{text}");
        }
        for text in ["5", "%", ".5%", "5.%", "-5%", "+5%", "5 %", "0.00001%", "5e1%", "99999999%", "", "５%"] {
            assert!(parse_percentage(text).is_err(), "{text}");
        }
    }
}
