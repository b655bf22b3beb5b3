//! Counts of things and numbers of tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::decimal::{Decimal, Product};
use super::{Quantity, UnitError, group_thousands};

/// A number of tokens.
///
/// The suffixes are vLLM's: `k`, `m`, `g` are powers of 1000 and may follow a fraction; `K`, `M`, `G` are powers of
/// 1024 and may not (`human_readable_int` in vLLM 0.33's `engine/arg_utils.py`).
///
/// ```
/// use kvsize::units::Tokens;
/// assert_eq!("25.6k".parse(), Ok(Tokens(25_600)));
/// assert_eq!("128K".parse(), Ok(Tokens(131_072)));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Tokens(pub u64);

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&group_thousands(self.0))
    }
}

impl FromStr for Tokens {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let found = || text.to_owned();
        let (number, suffix) = Decimal::split(text).ok_or_else(|| UnitError::NotANumber(Quantity::Tokens, found()))?;
        let (multiplier, binary) = match suffix {
            "" => (1, false),
            "k" => (1_000, false),
            "m" => (1_000_000, false),
            "g" => (1_000_000_000, false),
            "K" => (1 << 10, true),
            "M" => (1 << 20, true),
            "G" => (1 << 30, true),
            _ => return Err(UnitError::UnknownSuffix(Quantity::Tokens, found())),
        };
        if binary && number.has_fraction() {
            return Err(UnitError::BinaryFraction(found()));
        }
        match number.times(multiplier) {
            Product::Whole(0) => Err(UnitError::Zero(Quantity::Tokens, found())),
            Product::Whole(tokens) => Ok(Self(tokens)),
            Product::Fraction(_) => Err(UnitError::NotWhole(Quantity::Tokens, found())),
            Product::TooLarge => Err(UnitError::TooLarge(Quantity::Tokens, found())),
        }
    }
}

/// Passages of a text that a prompt is given in its place, as `20x512`: how many, and the tokens of each.
///
/// ```
/// use kvsize::units::{Passages, Tokens};
/// let passages: Passages = "20x512".parse().unwrap();
/// assert_eq!(passages.tokens(), Some(Tokens(10_240)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passages {
    /// How many.
    pub count: u64,
    /// Tokens of each.
    pub length: Tokens,
}

impl Passages {
    /// Tokens of all of them; none past 2⁶⁴ − 1.
    pub fn tokens(self) -> Option<Tokens> {
        self.count.checked_mul(self.length.0).map(Tokens)
    }
}

impl fmt::Display for Passages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.count, self.length.0)
    }
}

impl FromStr for Passages {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (count, length) = text.split_once('x').ok_or_else(|| UnitError::NotPassages(text.to_owned()))?;
        let passages = Self { count: parse_count(count)?, length: length.parse()? };
        match passages.tokens() {
            Some(_) => Ok(passages),
            None => Err(UnitError::TooLarge(Quantity::Tokens, text.to_owned())),
        }
    }
}

/// Reads a plain count of 1 or more: layers, heads, sequences, devices.
///
/// # Errors
/// [`UnitError`] for zero, a sign, a fraction, a suffix, or a number past 2⁶⁴ − 1.
pub fn parse_count(text: &str) -> Result<u64, UnitError> {
    let found = || text.to_owned();
    match Decimal::split(text) {
        Some((number, "")) => match number.times(1) {
            Product::Whole(0) => Err(UnitError::Zero(Quantity::Count, found())),
            Product::Whole(count) => Ok(count),
            Product::Fraction(_) => Err(UnitError::NotWhole(Quantity::Count, found())),
            Product::TooLarge => Err(UnitError::TooLarge(Quantity::Count, found())),
        },
        _ => Err(UnitError::NotANumber(Quantity::Count, found())),
    }
}

/// The least number that both divide; none past 2¹²⁸ − 1, or of 0.
///
/// ```
/// assert_eq!(kvsize::units::least_common_multiple(64, 48), Some(192));
/// ```
pub fn least_common_multiple(a: u128, b: u128) -> Option<u128> {
    let (mut divisor, mut rest) = (a, b);
    while rest != 0 {
        (divisor, rest) = (rest, divisor.checked_rem(rest)?);
    }
    a.checked_div(divisor)?.checked_mul(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_that_pass() {
        for (text, tokens) in [
            ("1", 1),
            ("131072", 131_072),
            ("128k", 128_000),
            ("128K", 131_072),
            ("25.6k", 25_600),
            ("25.60k", 25_600),
            ("0.001k", 1),
            ("10m", 10_000_000),
            ("10M", 10_485_760),
            ("1.5m", 1_500_000),
            ("1g", 1_000_000_000),
            ("1G", 1_073_741_824),
            ("1.0K", 1_024),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Tokens(tokens)), "{text}");
        }
    }

    #[test]
    fn passages_have_a_count_and_a_length() {
        assert_eq!("20x512".parse(), Ok(Passages { count: 20, length: Tokens(512) }));
        assert_eq!("3x1k".parse::<Passages>().unwrap().tokens(), Some(Tokens(3_000)));
        assert_eq!("512".parse::<Passages>(), Err(UnitError::NotPassages("512".into())));
        for text in ["", "x", "x512", "20x", "0x512", "20x0", "20x512x2", "-1x5", "2x18446744073709551615"] {
            assert!(text.parse::<Passages>().is_err(), "{text}");
        }
    }

    #[test]
    fn tokens_that_fail() {
        use Quantity::Tokens as T;
        for (text, error) in [
            ("", UnitError::NotANumber(T, String::new())),
            ("-1", UnitError::NotANumber(T, "-1".into())),
            ("+1", UnitError::NotANumber(T, "+1".into())),
            ("NaN", UnitError::NotANumber(T, "NaN".into())),
            (".5k", UnitError::NotANumber(T, ".5k".into())),
            ("1.k", UnitError::NotANumber(T, "1.k".into())),
            (" 1", UnitError::NotANumber(T, " 1".into())),
            ("0", UnitError::Zero(T, "0".into())),
            ("0k", UnitError::Zero(T, "0k".into())),
            ("0.5", UnitError::NotWhole(T, "0.5".into())),
            ("1.2345k", UnitError::NotWhole(T, "1.2345k".into())),
            ("1.5K", UnitError::BinaryFraction("1.5K".into())),
            ("1e3", UnitError::UnknownSuffix(T, "1e3".into())),
            ("1kk", UnitError::UnknownSuffix(T, "1kk".into())),
            ("1 k", UnitError::UnknownSuffix(T, "1 k".into())),
            ("128Ki", UnitError::UnknownSuffix(T, "128Ki".into())),
            ("1,000", UnitError::UnknownSuffix(T, "1,000".into())),
            ("٣", UnitError::NotANumber(T, "٣".into())),
            ("18446744073709551616", UnitError::TooLarge(T, "18446744073709551616".into())),
            ("18446744073709552k", UnitError::TooLarge(T, "18446744073709552k".into())),
        ] {
            assert_eq!(text.parse::<Tokens>(), Err(error), "{text}");
        }
        let long = "9".repeat(100);
        assert_eq!(long.parse::<Tokens>(), Err(UnitError::TooLarge(T, long)));
    }

    #[test]
    fn counts() {
        assert_eq!(parse_count("48"), Ok(48));
        for text in ["", "0", "-1", "1.5", "1k", "1e3", "NaN", "18446744073709551616"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_plain_is_read_back(tokens in 1u64..) {
            prop_assert_eq!(tokens.to_string().parse(), Ok(Tokens(tokens)));
        }

        #[test]
        fn k_is_a_thousand(tokens in 1..u64::MAX / 1000) {
            prop_assert_eq!(format!("{tokens}k").parse(), Ok(Tokens(tokens * 1000)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = text.parse::<Tokens>();
            let _ = parse_count(&text);
        }
    }
}
