//! Ranges with a step: `1K..1M*2` doubles from 1,024 to 1,048,576, `8..32+8` is 8, 16, 24, 32.

use super::{Code, Error, parse_count};

/// A value, or a range of them in equal steps; its end is a part of it where a step meets it.
///
/// ```
/// use kvsize::units::{Series, Tokens};
/// let tokens = |text: &str| text.parse().map(|Tokens(tokens)| tokens);
/// let series = Series::parse("1K..6K*2", tokens).unwrap();
/// assert_eq!(series.values().collect::<Vec<_>>(), [1_024, 2_048, 4_096]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    first: u64,
    last: u64,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Of a single value.
    None,
    Times(u64),
    Plus(u64),
}

impl Series {
    /// Reads a value, `a..b*k` or `a..b+k`; `read` reads `a`, `b`, and the `k` that is added.
    ///
    /// # Errors
    /// [`Error`] of `read`, or for a range that has no step or does not get from its start to its end.
    pub fn parse(text: &str, read: impl Fn(&str) -> Result<u64, Error>) -> Result<Self, Error> {
        // A byte is found sooner than a text, and most values have none.
        let range = if text.contains('.') { text.split_once("..") } else { None };
        let Some((start, rest)) = range else {
            return read(text).map(|value| Self { first: value, last: value, step: Step::None });
        };
        let wrong = |problem| {
            let remedy = "write a..b*k to multiply by k, or a..b+k to add it, from a up to b";
            Error::new(Code::NotARange, "", text, problem, remedy)
        };
        let (first, last, step) = if let Some((end, factor)) = rest.split_once('*') {
            let (first, last, factor) = (read(start)?, read(end)?, parse_count(factor)?);
            if factor < 2 || first == 0 {
                return Err(wrong("does not grow by its factor"));
            }
            (first, last, Step::Times(factor))
        } else if let Some((end, increment)) = rest.split_once('+') {
            let (first, last, increment) = (read(start)?, read(end)?, read(increment)?);
            if increment == 0 {
                return Err(wrong("does not grow by its step"));
            }
            (first, last, Step::Plus(increment))
        } else {
            return Err(wrong("is a range without a step"));
        };
        if first > last {
            return Err(wrong("ends before it starts"));
        }
        Ok(Self { first, last, step })
    }

    /// How many values it has.
    pub fn count(&self) -> u64 {
        match self.step {
            Step::None => 1,
            Step::Plus(increment) => {
                let steps = self.last.saturating_sub(self.first).checked_div(increment);
                steps.unwrap_or_default().saturating_add(1)
            }
            Step::Times(_) => u64::try_from(self.values().count()).unwrap_or(u64::MAX),
        }
    }

    /// Its values, from the first on.
    pub fn values(self) -> impl Iterator<Item = u64> {
        let next = move |&value: &u64| {
            let next = match self.step {
                Step::None => None,
                Step::Times(factor) => value.checked_mul(factor),
                Step::Plus(increment) => value.checked_add(increment),
            };
            next.filter(|&next| next <= self.last)
        };
        std::iter::successors(Some(self.first), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Bytes, Tokens};
    use proptest::prelude::*;

    fn tokens(text: &str) -> Result<Vec<u64>, Error> {
        Series::parse(text, |text| text.parse().map(|Tokens(tokens)| tokens)).map(|series| series.values().collect())
    }

    #[test]
    fn ends_are_included_when_they_are_met() {
        for (text, values) in [
            ("128K", vec![131_072]),
            ("1K..8K*2", vec![1_024, 2_048, 4_096, 8_192]),
            ("1k..8k*2", vec![1_000, 2_000, 4_000, 8_000]),
            ("1..100*10", vec![1, 10, 100]),
            ("1..99*10", vec![1, 10]),
            ("5..5*2", vec![5]),
            ("8..32+8", vec![8, 16, 24, 32]),
            ("1K..3K+1K", vec![1_024, 2_048, 3_072]),
            ("1..10+4", vec![1, 5, 9]),
            ("18446744073709551614..18446744073709551615+1", vec![u64::MAX - 1, u64::MAX]),
            ("9223372036854775808..18446744073709551615*2", vec![1 << 63]),
        ] {
            assert_eq!(tokens(text), Ok(values), "{text}");
        }
        let memory = Series::parse("16GiB..64GiB+16GiB", |text| text.parse().map(|Bytes(bytes)| bytes)).unwrap();
        assert_eq!(memory.count(), 4);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for (text, problem) in [
            ("1..8", "is a range without a step"),
            ("8..1*2", "ends before it starts"),
            ("8..1+2", "ends before it starts"),
            ("1..8*1", "does not grow by its factor"),
        ] {
            assert_eq!(tokens(text).unwrap_err().problem, problem, "{text}");
        }
        let memory = |text: &str| Series::parse(text, |text| text.parse().map(|Bytes(bytes)| bytes));
        assert!(memory("0..8*2").is_err() && memory("1..8+0").is_err() && memory("0..8+4").is_ok());
        for text in [
            "",
            "..",
            "1..",
            "..8*2",
            "1..8*",
            "1..8*0",
            "1..8*-2",
            "1..8*2.5",
            "1..8*2*2",
            "1..8+",
            "1..8*2+1",
            "1..8..2",
            "1...8*2",
            "a..b*2",
            "0..8*2",
            "1-8*2",
            "1..8/2",
            "8*2",
            "1..8 * 2",
            "1..99999999999999999999*2",
        ] {
            assert!(tokens(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn as_many_as_counted_all_within_and_growing(first in 1u64..1000, more in 0u64..5000, step in 2u64..50, times: bool) {
            let last = first + more;
            let text = format!("{first}..{last}{}{step}", if times { '*' } else { '+' });
            let values = tokens(&text).unwrap();
            let series = Series::parse(&text, parse_count).unwrap();
            prop_assert_eq!(values.len() as u64, series.count());
            prop_assert_eq!(values[0], first);
            prop_assert!(values.windows(2).all(|pair| pair[0] < pair[1]) && *values.last().unwrap() <= last);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9KM.*+]{0,12}") {
            if let Ok(series) = Series::parse(&text, parse_count) {
                let _ = (series.count(), series.values().take(3).count());
            }
        }
    }
}
