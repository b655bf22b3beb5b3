//! What an hour of an accelerator was offered for: a snapshot, each line with its day and its source.
//!
//! One line a device, by this rule: of the offers that were read, those of known provider, day and kind on demand; of them the
//! newest day; of one day the lowest. Prices that a source calls its own estimate, or that look like another device's, are left out.

use serde::Deserialize;

use super::{overlay, row_naming};
use crate::units::{Code, Error, named, parse_dollars};

const PRICES: &str = include_str!("prices.jsonl");

/// A price of the snapshot, or of a user's own file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceEntry {
    /// The device, by its own name in the catalogue.
    pub device: String,
    /// US dollars of one GPU in one hour, as they are written; 0, which no text gives, where they are missing.
    #[serde(default)]
    pub usd_per_gpu_hour: Dollars,
    /// The day of the data.
    pub as_of: Option<String>,
    /// `on demand`, `spot` or `reserved`.
    pub kind: Option<PriceKind>,
    /// Whose offer it is.
    pub provider: Option<String>,
    /// Where it was read.
    pub source: Option<String>,
}

/// US dollars, written as text so that nothing is rounded: `"2.49"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Dollars {
    /// In millionths of one.
    pub millionths: u64,
}

impl TryFrom<String> for Dollars {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Ok(Self { millionths: parse_dollars(&text)? })
    }
}

named! {
    /// What kind of offer it is.
    #[derive(Deserialize)]
    pub enum PriceKind {
        /// At any time.
        #[serde(rename = "on demand", alias = "on-demand")]
        OnDemand = "on demand",
        /// Until someone pays more.
        #[serde(rename = "spot")]
        Spot = "spot",
        /// For a term.
        #[serde(rename = "reserved")]
        Reserved = "reserved",
    }
}

/// The price of a device, by its own name: of the user's own, or else of the snapshot, if it has one.
pub fn price(device: &str, overlay: &[PriceEntry]) -> Option<PriceEntry> {
    let own = overlay.iter().find(|entry| entry.device == device).cloned();
    own.or_else(|| row_naming(PRICES, device, |entry: &PriceEntry| entry.device == device))
}

/// The prices of a user's own file: a JSON list of entries like the snapshot's, or an object with such a list under `prices`;
/// all but the device and its price can be left out. Devices are named as the caller names them.
///
/// # Errors
/// [`Error`] with the path of what is wrong.
pub fn parse_prices(text: &str) -> Result<Vec<PriceEntry>, Error> {
    let entries: Vec<PriceEntry> = overlay::parse(text, &SHAPE)?;
    match entries.iter().position(|entry| entry.usd_per_gpu_hour.millionths == 0) {
        Some(index) => Err(SHAPE.missing(format!("[{index}].usd_per_gpu_hour"))),
        None => Ok(entries),
    }
}

/// The error about an entry's device.
pub fn wrong_device(index: usize, error: Error) -> Error {
    Error { code: Code::Overlay, ..error.at(format!("[{index}].device")) }
}

const SHAPE: overlay::Shape = overlay::Shape {
    key: "prices",
    required: "device",
    example: r#"[{"device": "h100-sxm", "usd_per_gpu_hour": "2.49", "as_of": "2026-08-19", "kind": "on demand"}]"#,
};

/// The error about the day of an entry.
pub fn wrong_day(index: usize, day: &str) -> Error {
    SHAPE.wrong(format!("[{index}].as_of"), format!("{day:?}"), "is not a date, as 2026-08-19")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_dated_price_of_a_device_known_here() {
        for line in PRICES.lines() {
            let entry: PriceEntry = serde_json::from_str(line).unwrap();
            assert_eq!(super::super::accelerator(&entry.device, &[]).unwrap().names[0], entry.device);
            assert_eq!(price(&entry.device, &[]), Some(entry.clone()), "once each");
            assert!(entry.as_of.is_some_and(|as_of| as_of.len() == 10));
            assert!(entry.kind == Some(PriceKind::OnDemand) && entry.provider.is_some() && entry.source.is_some());
        }
        assert_eq!(price("gb300", &[]), None);
    }

    #[test]
    fn a_user_s_own_prices_shadow_the_snapshot() {
        let own = parse_prices(r#"[{"device": "h100-sxm", "usd_per_gpu_hour": "2.490001", "kind": "spot"}]"#).unwrap();
        assert_eq!(price("h100-sxm", &own).unwrap().usd_per_gpu_hour.millionths, 2_490_001);
        assert_eq!(price("l4", &own), price("l4", &[]));
        for (text, message) in [
            (r#"[{"usd_per_gpu_hour": "1"}]"#, "[0].device: missing"),
            (r#"[{"device": "l4"}]"#, "[0].usd_per_gpu_hour: missing"),
            (r#"[{"device": "l4", "usd_per_gpu_hour": 1.5}]"#, "[0].usd_per_gpu_hour: 1.5 is wrong: invalid type"),
            (
                r#"{"prices": [{"device": "l4", "usd_per_gpu_hour": "0"}]}"#,
                "[0].usd_per_gpu_hour: \"0\" is wrong: 0 is not a positive number of dollars",
            ),
            (
                r#"[{"device": "l4", "usd_per_gpu_hour": "1.1234567"}]"#,
                "[0].usd_per_gpu_hour: \"1.1234567\" is wrong: 1.1234567 is finer than a millionth of a dollar",
            ),
            (
                r#"[{"device": "l4", "usd_per_gpu_hour": "1", "kind": "free"}]"#,
                "[0].kind: \"free\" is wrong: unknown variant `free`",
            ),
            (
                r#"[{"device": "l4", "usd_per_gpu_hour": "1", "price": 2}]"#,
                "[0].price: 2 is wrong: unknown field `price`",
            ),
            (r#"{"prices": 1}"#, "the text is not a list"),
        ] {
            let error = parse_prices(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }
}
