//! Bytes, token counts and element formats: checked integers, parsed and printed without a float on the way.

mod bytes;
mod count;
mod decimal;
mod element_format;
mod error;
mod exact;
mod money;
mod notes;
mod percentage;
mod series;

pub use bytes::{ByteUnit, Bytes};
pub use count::{Passages, Tokens, least_common_multiple, parse_count};
pub use decimal::{fixed_point, group_thousands};
pub use element_format::{ElementFormat, FORMATS, FormatEntry, KvDtype, KvFormat, PAIRS, PairEntry};
pub use error::{Code, Diagnose, Error};
pub use exact::Exact;
pub use money::{dollars, parse_dollars};
pub use notes::Notes;
pub use percentage::{Margin, parse_percentage};
pub use series::Series;

pub(crate) use error::display_diagnosis;

/// What a text was to be read as; it decides the wording of a [`UnitError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// A plain number of things: layers, heads, sequences.
    Count,
    /// A number of tokens, with an optional suffix.
    Tokens,
    /// A number of bytes, with an optional unit.
    Bytes,
    /// An amount of US dollars.
    Dollars,
}

/// Why a text is not a count, a number of tokens or a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitError {
    /// Not digits with an optional decimal fraction.
    NotANumber(Quantity, String),
    /// Zero, where at least one is meant.
    Zero(Quantity, String),
    /// Not a whole number of things.
    NotWhole(Quantity, String),
    /// A fraction before a binary suffix, which vLLM refuses too (`human_readable_int` in its `engine/arg_utils.py`).
    BinaryFraction(String),
    /// Past 2⁶⁴ − 1.
    TooLarge(Quantity, String),
    /// A suffix or unit that is not known.
    UnknownSuffix(Quantity, String),
    /// Not a part of a whole.
    NotAShare(String),
    /// Not a percentage below all.
    NotAMargin(String),
    /// Not a percentage.
    NotAPercentage(String),
    /// Not a range with a step: what is wrong with it.
    NotSeries(&'static str, String),
    /// Not so many passages of so many tokens.
    NotPassages(String),
    /// An element format that is not known.
    UnknownFormat(String),
    /// A unit of printing that is not known.
    UnknownUnit(String),
}

impl Diagnose for UnitError {
    fn diagnosis(&self) -> Error {
        let example = |quantity: Quantity| match quantity {
            Quantity::Count => "give a whole number of 1 or more",
            Quantity::Tokens => "give a whole number, or one with k, m, g (powers of 1000) or K, M, G (powers of 1024)",
            Quantity::Bytes => "give bytes, or a number with kB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB",
            Quantity::Dollars => "give US dollars above 0 with at most 6 decimals, as 2.49",
        };
        let noun = |quantity: Quantity| match quantity {
            Quantity::Count => "count",
            Quantity::Tokens => "number of tokens",
            Quantity::Bytes => "number of bytes",
            Quantity::Dollars => "number of dollars",
        };
        let (code, found, problem, remedy) = match self {
            Self::NotANumber(q, found) => {
                (Code::NotANumber, found, format!("is not a {}", noun(*q)), example(*q).into())
            }
            Self::Zero(q, found) => (Code::Zero, found, format!("is not a positive {}", noun(*q)), example(*q).into()),
            Self::NotWhole(Quantity::Dollars, found) => (
                Code::TooPrecise,
                found,
                "is finer than a millionth of a dollar".into(),
                example(Quantity::Dollars).into(),
            ),
            Self::NotWhole(q, found) => {
                (Code::NotWhole, found, format!("is not a whole {}", noun(*q)), example(*q).into())
            }
            Self::BinaryFraction(found) => (
                Code::BinaryFraction,
                found,
                "puts a fraction before a power of 1024".into(),
                "use k, m, g for a fraction, or write the number out".into(),
            ),
            Self::TooLarge(_, found) => {
                (Code::TooLarge, found, "is past 2^64 - 1".into(), "give a smaller number".into())
            }
            Self::UnknownSuffix(q, found) => {
                (Code::UnknownSuffix, found, format!("is a {} with an unknown suffix", noun(*q)), example(*q).into())
            }
            Self::NotAMargin(found) => (
                Code::NotAMargin,
                found,
                "is not a percentage below 100".into(),
                "give one with at most 4 decimals, as 5% or 2.5%".into(),
            ),
            Self::NotAPercentage(found) => (
                Code::NotAPercentage,
                found,
                "is not a percentage".into(),
                "give one with at most 4 decimals, as 5% or 2.5%".into(),
            ),
            Self::NotAShare(found) => (
                Code::NotAShare,
                found,
                "is not a share of the whole".into(),
                "give a decimal above 0 and of at most 1, as 0.9".into(),
            ),
            Self::NotSeries(problem, found) => (
                Code::NotARange,
                found,
                (*problem).to_owned(),
                "write a..b*k to multiply by k, or a..b+k to add it, from a up to b".into(),
            ),
            Self::NotPassages(found) => (
                Code::NotPassages,
                found,
                "does not say how many passages of how many tokens".into(),
                "give both, as 20x512".into(),
            ),
            Self::UnknownFormat(found) => (
                Code::UnknownFormat,
                found,
                "is not a known element format".into(),
                format!("use one of {}, or --bitwidth N", element_format::names()),
            ),
            Self::UnknownUnit(found) => (
                Code::UnknownUnit,
                found,
                "is not a unit of bytes".into(),
                "use one of B, kB, KiB, MB, MiB, GB, GiB, TB, TiB or auto".into(),
            ),
        };
        Error { code, field: String::new(), found: Some(found.clone()), problem, remedy }
    }
}

display_diagnosis!(UnitError);
