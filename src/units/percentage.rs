//! Parts of a whole in millionths, which are four places of a percent.

use std::str::FromStr;

use super::decimal::{Decimal, Product};
use super::{Bytes, Code, Error, Exact};

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

fn percentage_error(code: Code, found: &str, problem: &str) -> Error {
    Error::new(code, "", found, problem, "give one with at most 4 decimals, as 5% or 2.5%")
}

/// A part that is kept free, in millionths of a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Margin(pub u32);

impl FromStr for Margin {
    type Err = Error;

    /// `5%` or `2.5%`, below all of it.
    fn from_str(text: &str) -> Result<Self, Error> {
        const ALL: u32 = 1_000_000;
        let margin = parse_percentage(text).ok().filter(|&millionths| millionths < ALL);
        margin.map(Self).ok_or_else(|| percentage_error(Code::NotAMargin, text, "is not a percentage below 100"))
    }
}

impl Margin {
    /// What of a budget may be used: the margin rounded up to a byte.
    ///
    /// ```
    /// use kvsize::units::{Bytes, Margin};
    /// assert_eq!(Margin(50_000).allowed(Bytes(1_001)), Bytes(950));
    /// ```
    pub fn allowed(self, budget: Bytes) -> Bytes {
        let kept = (Exact::from(budget) * self.0).div_ceil(1_000_000u64);
        Exact::from(budget).less(kept).bytes().unwrap_or_default()
    }
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
