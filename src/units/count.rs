//! Counts of things and numbers of tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::decimal::Decimal;
use super::{Code, Error, Quantity, group_thousands, too_large};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tokens(pub u64);

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&group_thousands(self.0))
    }
}

impl FromStr for Tokens {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (number, suffix) = Decimal::split(text).ok_or_else(|| Quantity::Tokens.not_a_number(text))?;
        let (multiplier, binary) = match suffix {
            "" => (1, false),
            "k" => (1_000, false),
            "m" => (1_000_000, false),
            "g" => (1_000_000_000, false),
            "K" => (1 << 10, true),
            "M" => (1 << 20, true),
            "G" => (1 << 30, true),
            _ => return Err(Quantity::Tokens.unknown_suffix(text)),
        };
        if binary && number.has_fraction() {
            // As vLLM refuses it (`human_readable_int` in its `engine/arg_utils.py`).
            let problem = "puts a fraction before a power of 1024";
            let remedy = "use k, m, g for a fraction, or write the number out";
            return Err(Error::new(Code::BinaryFraction, "", text, problem, remedy));
        }
        Quantity::Tokens.positive(number.times(multiplier), text).map(Self)
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
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (count, length) = text.split_once('x').ok_or_else(|| {
            let problem = "does not say how many passages of how many tokens";
            Error::new(Code::NotPassages, "", text, problem, "give both, as 20x512")
        })?;
        let passages = Self { count: parse_count(count)?, length: length.parse()? };
        passages.tokens().map(|_| passages).ok_or_else(|| too_large(text))
    }
}

/// Reads a plain count of 1 or more: layers, heads, sequences, devices.
///
/// # Errors
/// [`Error`] for zero, a sign, a fraction, a suffix, or a number past 2⁶⁴ − 1.
pub fn parse_count(text: &str) -> Result<u64, Error> {
    let number = Decimal::parse(text).ok_or_else(|| Quantity::Count.not_a_number(text))?;
    Quantity::Count.positive(number.times(1), text)
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
        assert_eq!("512".parse::<Passages>().unwrap_err().code, Code::NotPassages);
        for text in ["", "x", "x512", "20x", "0x512", "20x0", "20x512x2", "-1x5", "2x18446744073709551615"] {
            assert!(text.parse::<Passages>().is_err(), "{text}");
        }
    }

    #[test]
    fn tokens_that_fail() {
        for (text, code) in [
            ("", Code::NotANumber),
            ("-1", Code::NotANumber),
            ("+1", Code::NotANumber),
            ("NaN", Code::NotANumber),
            (".5k", Code::NotANumber),
            ("1.k", Code::NotANumber),
            (" 1", Code::NotANumber),
            ("0", Code::Zero),
            ("0k", Code::Zero),
            ("0.5", Code::NotWhole),
            ("1.2345k", Code::NotWhole),
            ("1.5K", Code::BinaryFraction),
            ("1e3", Code::UnknownSuffix),
            ("1kk", Code::UnknownSuffix),
            ("1 k", Code::UnknownSuffix),
            ("128Ki", Code::UnknownSuffix),
            ("1,000", Code::UnknownSuffix),
            ("٣", Code::NotANumber),
            ("18446744073709551616", Code::TooLarge),
            ("18446744073709552k", Code::TooLarge),
        ] {
            let refused = text.parse::<Tokens>().unwrap_err();
            assert_eq!((refused.code, refused.found.as_deref()), (code, Some(text)), "{text}");
        }
        let long = "9".repeat(100);
        assert_eq!(long.parse::<Tokens>().unwrap_err().code, Code::TooLarge);
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
