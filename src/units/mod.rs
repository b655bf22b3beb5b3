//! Bytes, token counts and element formats: checked integers, parsed and printed without a float on the way.

mod bytes;
mod count;
mod decimal;
mod element_format;
mod error;
mod exact;
mod money;
mod named;
mod notes;
mod percentage;
mod series;

pub use bytes::{ByteUnit, Bytes};
pub use count::{Passages, Tokens, least_common_multiple, parse_count};
pub use decimal::{fixed_point, group_thousands};
pub use element_format::{ElementFormat, FORMATS, FormatEntry, KvDtype, KvFormat, PAIRS, PairEntry};
pub use error::{Code, Error};
pub use exact::Exact;
pub use money::{dollars, parse_dollars};
pub use notes::Notes;
pub use percentage::{Margin, parse_percentage};
pub use series::Series;

pub(crate) use decimal::{Decimal, Product};
pub(crate) use named::named;

/// What a text was to be read as; it decides the wording of errors.
#[derive(Clone, Copy)]
pub(crate) enum Quantity {
    /// A plain number of things: layers, heads, sequences.
    Count,
    Tokens,
    Bytes,
    Dollars,
}

impl Quantity {
    fn noun(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Tokens => "number of tokens",
            Self::Bytes => "number of bytes",
            Self::Dollars => "number of dollars",
        }
    }

    fn error(self, code: Code, found: &str, problem: impl Into<String>) -> Error {
        let remedy = match self {
            Self::Count => "give a whole number of 1 or more",
            Self::Tokens => "give a whole number, or one with k, m, g (powers of 1000) or K, M, G (powers of 1024)",
            Self::Bytes => "give bytes, or a number with kB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB",
            Self::Dollars => "give US dollars above 0 with at most 6 decimals, as 2.49",
        };
        Error::new(code, "", found, problem, remedy)
    }

    fn not_a_number(self, found: &str) -> Error {
        self.error(Code::NotANumber, found, format!("is not a {}", self.noun()))
    }

    pub(crate) fn zero(self, found: &str) -> Error {
        self.error(Code::Zero, found, format!("is not a positive {}", self.noun()))
    }

    fn not_whole(self, found: &str) -> Error {
        match self {
            Self::Dollars => self.error(Code::TooPrecise, found, "is finer than a millionth of a dollar"),
            _ => self.error(Code::NotWhole, found, format!("is not a whole {}", self.noun())),
        }
    }

    pub(crate) fn unknown_suffix(self, found: &str) -> Error {
        self.error(Code::UnknownSuffix, found, format!("is a {} with an unknown suffix", self.noun()))
    }

    /// A number that was typed as `found`: whole, and 1 or more.
    fn positive(self, product: Product, found: &str) -> Result<u64, Error> {
        match product {
            Product::Whole(0) => Err(self.zero(found)),
            Product::Whole(number) => Ok(number),
            Product::Fraction(_) => Err(self.not_whole(found)),
            Product::TooLarge => Err(too_large(found)),
        }
    }
}

/// Each item once, in the order of its first appearance.
pub(crate) fn once<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut kept = Vec::new();
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

fn too_large(found: &str) -> Error {
    Error::new(Code::TooLarge, "", found, "is past 2^64 - 1", "give a smaller number")
}
