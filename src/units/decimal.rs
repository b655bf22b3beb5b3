//! Decimal text to exact integers and back, without a float on the way.

use super::Exact;

/// A non-negative decimal number as it was typed: `digits / divisor`, a power of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decimal {
    digits: Exact,
    divisor: Exact,
}

/// A byte of a terabyte is the twelfth; past this many digits a text is no quantity of ours.
const MAX_FRACTION_DIGITS: usize = 30;

/// How a [`Decimal`] times a multiplier came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Product {
    /// A whole number.
    Whole(u64),
    /// Not a whole number; its integer part.
    Fraction(u64),
    /// Past `u64`.
    TooLarge,
}

impl Decimal {
    /// Splits `text` into its leading decimal number and what follows. `None` unless it starts with a digit, and a
    /// point has digits on both sides, [`MAX_FRACTION_DIGITS`] of them at most after it.
    pub(super) fn split(text: &str) -> Option<(Self, &str)> {
        let digits = |text: &str| text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        let (whole, rest) = text.split_at(digits(text));
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(after) => after.split_at_checked(digits(after)).filter(|(fraction, _)| !fraction.is_empty())?,
            None => ("", rest),
        };
        if whole.is_empty() {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > MAX_FRACTION_DIGITS {
            return None;
        }
        let divisor = fraction.bytes().fold(Exact::ONE, |power, _| power * 10u64);
        let append = |number, digit: u8| number * 10u64 + digit.wrapping_sub(b'0');
        let digits = fraction.bytes().fold(whole.bytes().fold(Exact::ZERO, append), append);
        Some((Self { digits, divisor }, rest))
    }

    /// A text that is a decimal number and nothing else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::split(text).filter(|(_, rest)| rest.is_empty()).map(|(decimal, _)| decimal)
    }

    /// Whether a fraction was written (`1.50` has one, `1.0` has not).
    pub(super) fn has_fraction(self) -> bool {
        self.divisor != Exact::ONE
    }

    /// `self × multiplier`, exactly.
    pub(crate) fn times(self, multiplier: u64) -> Product {
        let product = self.digits * multiplier;
        match ((product / self.divisor).get(), product % self.divisor) {
            (Err(_), _) => Product::TooLarge,
            (Ok(whole), Exact::ZERO) => Product::Whole(whole),
            (Ok(whole), _) => Product::Fraction(whole),
        }
    }

    /// `self × multiplier`, rounded down.
    pub(crate) fn times_rounded_down(self, multiplier: u64) -> Exact {
        self.digits * multiplier / self.divisor
    }
}

/// `numerator / denominator` with `decimals` digits after the point, rounded half away from zero; both below 2¹²⁸ − 1. A denominator of
/// zero is taken as one.
///
/// ```
/// assert_eq!(kvsize::units::fixed_point(1_228_800_000_000, 1_000_000_000, 3), "1228.800");
/// assert_eq!(kvsize::units::fixed_point(1, 8, 2), "0.13");
/// ```
pub fn fixed_point(numerator: u128, denominator: u128, decimals: u32) -> String {
    let (numerator, denominator) = (Exact::from(numerator), Exact::from(denominator.max(1)));
    // Long division digit by digit: no intermediate exceeds ten times the denominator.
    let (mut remainder, mut fraction, mut one) = (numerator % denominator, Exact::ZERO, Exact::ONE);
    for _ in 0..decimals {
        let scaled = remainder * 10u64;
        fraction = fraction * 10u64 + scaled / denominator;
        remainder = scaled % denominator;
        one = one * 10u64;
    }
    let fraction = fraction + remainder * 2u64 / denominator;
    let whole = (numerator / denominator + fraction / one).wide().unwrap_or_default();
    match usize::try_from(decimals) {
        Ok(0) | Err(_) => whole.to_string(),
        Ok(width) => format!("{whole}.{:0width$}", (fraction % one).wide().unwrap_or_default()),
    }
}

/// Digits in groups of three, as the article prints its tokens.
///
/// ```
/// assert_eq!(kvsize::units::group_thousands(10_485_760), "10,485,760");
/// ```
pub fn group_thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len().saturating_add(6));
    // The first group has what is left over, one digit at least.
    let first = digits.len().saturating_sub(1) % 3;
    let (head, mut rest) = digits.split_at(first.saturating_add(1));
    grouped.push_str(head);
    while let Some((group, after)) = rest.split_at_checked(3) {
        grouped.push(',');
        grouped.push_str(group);
        rest = after;
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rounds_half_away_from_zero_and_carries() {
        for (numerator, denominator, decimals, text) in [
            (0, 1_000_000_000, 3, "0.000"),
            (122_880_000, 1_000_000_000, 3, "0.123"),
            (61_440_000, 1_000_000_000, 3, "0.061"),
            (499_999, 1_000_000_000, 3, "0.000"),
            (500_000, 1_000_000_000, 3, "0.001"),
            (999_999_500_000, 1_000_000_000, 3, "1000.000"),
            (999_500, 1_000, 0, "1000"),
            (5, 2, 0, "3"),
            (7, 0, 1, "7.0"),
            (u128::MAX - 1, 1, 1, "340282366920938463463374607431768211454.0"),
        ] {
            assert_eq!(fixed_point(numerator, denominator, decimals), text, "{numerator}/{denominator}");
        }
    }

    #[test]
    fn groups_by_three() {
        for (value, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (10_000_000, "10,000,000")] {
            assert_eq!(group_thousands(value), text);
        }
        assert_eq!(group_thousands(u64::MAX), "18,446,744,073,709,551,615");
    }

    proptest! {
        #[test]
        fn a_fixed_point_is_within_half_a_unit_of_the_quotient(numerator in 0u64.., denominator in 1u64..) {
            let text = fixed_point(u128::from(numerator), u128::from(denominator), 3);
            let thousandths: u128 = text.replace('.', "").parse().unwrap();
            let exact = u128::from(numerator) * 1000;
            prop_assert!((thousandths * u128::from(denominator)).abs_diff(exact) * 2 <= u128::from(denominator));
        }

        #[test]
        fn splitting_any_text_never_panics(text in ".*") {
            let _ = Decimal::split(&text);
        }
    }
}
