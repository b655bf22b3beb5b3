//! What an hour of a device costs: always with a date or as given, never assumed.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::units::{Code, Error, dollars, named, parse_dollars};

/// A price. In JSON it is the offer alone: documents have the amount in units of their own.
#[cfg_attr(feature = "cli", serde_with::skip_serializing_none)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Price {
    /// Millionths of a US dollar for one GPU in one hour.
    #[serde(skip)]
    pub micro_dollars_per_gpu_hour: u64,
    /// The day of the data; absent for one that was given.
    pub as_of: Option<String>,
    /// `on demand`, `spot` or `reserved`.
    #[cfg_attr(feature = "cli", schemars(extend("enum" = ["on demand", "spot", "reserved"])))]
    pub kind: Option<String>,
    /// Whose offer it is.
    pub provider: Option<String>,
    /// Where it was read.
    pub source: String,
}

impl Price {
    /// Millionths of a dollar for `gpus` in an hour; `None` past 2⁶⁴ − 1.
    pub fn per_hour(&self, gpus: u64) -> Option<u64> {
        self.micro_dollars_per_gpu_hour.checked_mul(gpus)
    }

    /// The days from the day of the data to `today`, both since 1970-01-01; `None` for a price without a date.
    pub fn age_in_days(&self, today: u64) -> Option<u64> {
        today.checked_sub(day(self.as_of.as_deref()?)?)
    }

    /// What is said under a table: `US$ 3.90 per GPU-hour, Crusoe on demand, as of 2026-08-19 (where it was read)`.
    pub fn words(&self) -> String {
        let offer =
            [&self.provider, &self.kind].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ");
        let as_of = self.as_of.as_ref().map(|as_of| format!("as of {as_of}"));
        let said: Vec<String> = Some(offer).filter(|offer| !offer.is_empty()).into_iter().chain(as_of).collect();
        let said = if said.is_empty() { String::new() } else { format!(", {}", said.join(", ")) };
        format!("US$ {} per GPU-hour{said} ({})", dollars(self.micro_dollars_per_gpu_hour), self.source)
    }
}

/// The days from 1970-01-01 to a day written as `2026-08-19`; `None` for any other text.
///
/// ```
/// use kvsize::hardware::day;
/// assert_eq!(day("1970-03-01"), Some(59));
/// assert_eq!(day("2026-02-29"), None);
/// ```
pub fn day(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| {
        text.get(range).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?.parse::<u64>().ok()
    };
    let hyphens = text.len() == 10 && text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month.checked_sub(1)?).ok()?;
    if !hyphens || year < 1970 || day == 0 || day > *months.get(before)? {
        return None;
    }
    let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    years.checked_add(months.iter().take(before).sum())?.checked_add(day)?.checked_sub(1)
}

/// A price as it is typed: `2.49/gpu-h`, or `19.92/node-h` for all GPUs of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    micro_dollars: u64,
    per: Per,
}

named! {
    enum Per {
        Gpu = "gpu-h",
        Node = "node-h",
    }
}

const FIELD: &str = "--price";

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unit = || {
            let problem = "does not say an hour of what it pays for";
            let remedy = "give US dollars a GPU-hour, as 2.49/gpu-h, or an hour of a whole node, as 19.92/node-h";
            Error::new(Code::PriceUnit, FIELD, text, problem, remedy)
        };
        let (amount, per) = text.split_once('/').ok_or_else(unit)?;
        let per = Per::named(&per.to_ascii_lowercase().replace("-hour", "-h")).ok_or_else(unit)?;
        let micro_dollars = parse_dollars(amount.strip_prefix('$').unwrap_or(amount)).map_err(|error| {
            let Error { problem, remedy, .. } = error;
            Error::new(Code::Price, FIELD, text, problem, format!("{remedy}/gpu-h"))
        })?;
        Ok(Self { micro_dollars, per })
    }
}

impl Rate {
    /// The price of one GPU of a node of `gpus`.
    ///
    /// # Errors
    /// [`Code::PriceNode`] where that is unknown, or is no whole number of millionths.
    pub fn price(self, gpus: Option<u64>) -> Result<Price, Error> {
        let refused = |problem: String, remedy| Error::new(Code::PriceNode, FIELD, self.to_string(), problem, remedy);
        let micro_dollars_per_gpu_hour = match (self.per, gpus) {
            (Per::Gpu, _) => self.micro_dollars,
            (Per::Node, None) => {
                let problem = "is of a node of an unknown number of GPUs";
                return Err(refused(problem.into(), "give their number, as --gpu 8xh100, or a price in /gpu-h"));
            }
            (Per::Node, Some(gpus)) => {
                let each = self.micro_dollars.checked_div(gpus).filter(|_| self.micro_dollars.is_multiple_of(gpus));
                let problem = || format!("does not divide by {gpus} GPUs to a millionth of a dollar");
                each.ok_or_else(|| refused(problem(), "give a price in /gpu-h"))?
            }
        };
        Ok(Price { micro_dollars_per_gpu_hour, as_of: None, kind: None, provider: None, source: "--price".into() })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", dollars(self.micro_dollars), self.per.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn prices_are_of_a_gpu_or_of_a_node() {
        let each = |text: &str, gpus| rate(text).price(gpus).map(|price| price.micro_dollars_per_gpu_hour);
        assert_eq!(each("2.49/gpu-h", None), Ok(2_490_000));
        assert_eq!(each("$2.49/GPU-hour", Some(8)), Ok(2_490_000));
        assert_eq!(each("19.92/node-h", Some(8)), Ok(2_490_000));
        for (text, gpus, message) in [
            (
                "19.92/node-h",
                None,
                "--price: 19.92/node-h is of a node of an unknown number of GPUs; give their number, as --gpu 8xh100, or a \
                 price in /gpu-h",
            ),
            (
                "10/node-h",
                Some(3),
                "--price: 10.00/node-h does not divide by 3 GPUs to a millionth of a dollar; give a price in /gpu-h",
            ),
            (
                "1/node-h",
                Some(0),
                "--price: 1.00/node-h does not divide by 0 GPUs to a millionth of a dollar; give a price in /gpu-h",
            ),
        ] {
            assert_eq!(each(text, gpus).unwrap_err().to_string(), message);
        }
        let price = rate("2.5/gpu-h").price(None).unwrap();
        assert_eq!((price.per_hour(8), price.per_hour(u64::MAX)), (Some(20_000_000), None));
        assert_eq!(price.words(), "US$ 2.50 per GPU-hour (--price)");
    }

    #[test]
    fn what_is_no_price_is_refused() {
        let code = |text: &str| text.parse::<Rate>().unwrap_err().code;
        for text in ["2.49", "2.49/h", "", "$2.49", "2.49/gpu", "2.49 per gpu-h"] {
            assert_eq!(code(text), Code::PriceUnit, "{text}");
        }
        for text in
            ["/gpu-h", "0/gpu-h", "-1/gpu-h", "NaN/gpu-h", "inf/gpu-h", "2.4900001/gpu-h", "1e2/gpu-h", "$/gpu-h"]
        {
            assert_eq!(code(text), Code::Price, "{text}");
        }
    }

    #[test]
    fn days_are_counted() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("1970-12-31", 364),
            ("1972-02-29", 789),
            ("2000-03-01", 11_017),
            ("2026-08-19", 20_684),
            ("2100-03-01", 47_541),
        ] {
            assert_eq!(day(text), Some(days), "{text}");
        }
        for text in [
            "",
            "2026-8-19",
            "2026-13-01",
            "2026-00-10",
            "2026-01-00",
            "1969-01-01",
            "2100-02-29",
            "2026/08/19",
            "+026-08-19",
        ] {
            assert_eq!(day(text), None, "{text}");
        }
        let price = Price { as_of: Some("2026-08-19".into()), ..rate("1/gpu-h").price(None).unwrap() };
        assert_eq!((price.age_in_days(20_700), price.age_in_days(20_000)), (Some(16), None));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = text.parse::<Rate>();
            let _ = day(&text);
        }
    }
}
