//! Parts of a whole in millionths, which are four places of a percent.

use std::str::FromStr;

use super::{Bytes, UnitError};

/// Reads a percentage, `5%` or `2.5%`, as millionths of a whole; none of what is no such text, or is finer than that.
///
/// ```
/// use kvsize::units::parse_percentage;
/// assert_eq!(parse_percentage("2.5%"), Some(25_000));
/// assert_eq!(parse_percentage("2.5"), None);
/// ```
pub fn parse_percentage(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 4 || !digits(whole) || !digits(fraction) || number.ends_with('.') {
        return None;
    }
    format!("{whole}{fraction:0<4}").parse().ok()
}

/// A part that is kept free, in millionths of a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Margin(pub u32);

impl FromStr for Margin {
    type Err = UnitError;

    /// `5%` or `2.5%`, below all of it.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        const ALL: u32 = 1_000_000;
        let margin = parse_percentage(text).filter(|&millionths| millionths < ALL);
        margin.map(Self).ok_or_else(|| UnitError::NotAMargin(text.to_owned()))
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
        let kept = u128::from(budget.0).saturating_mul(self.0.into()).div_ceil(1_000_000);
        Bytes(u64::try_from(u128::from(budget.0).saturating_sub(kept)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_millionths() {
        for (text, expected) in [
            ("5%", Some(50_000)),
            ("2.5%", Some(25_000)),
            ("0.0001%", Some(1)),
            ("250%", Some(2_500_000)),
            ("0%", Some(0)),
        ] {
            assert_eq!(parse_percentage(text), expected, "{text}");
        }
        for text in ["5", "%", ".5%", "5.%", "-5%", "+5%", "5 %", "0.00001%", "5e1%", "99999999%", "", "５%"] {
            assert_eq!(parse_percentage(text), None, "{text}");
        }
    }
}
