//! What an hour of a device was offered for: a snapshot with a date and a source to each line, and no claim to be today's.

use serde::Deserialize;

use super::line_naming;

const PRICES: &str = include_str!("prices.jsonl");

/// A price of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceEntry {
    /// The device, by its own name in the catalogue.
    pub device: String,
    /// US cents of one GPU in one hour.
    pub cents_per_gpu_hour: u64,
    /// The day of the data.
    pub as_of: String,
    /// `on demand`, `spot` or `reserved`.
    pub kind: String,
    /// Whose offer it is.
    pub provider: String,
    /// Where it was read.
    pub source: String,
}

/// The price of a device, if the snapshot has one.
pub fn price(device: &str) -> Option<PriceEntry> {
    line_naming(PRICES, device, |line| {
        serde_json::from_str(line).ok().filter(|entry: &PriceEntry| entry.device == device)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_dated_price_of_a_device_known_here() {
        for line in PRICES.lines() {
            let entry: PriceEntry = serde_json::from_str(line).unwrap();
            assert_eq!(super::super::device(&entry.device).unwrap().names[0], entry.device);
            assert_eq!(price(&entry.device), Some(entry.clone()), "once each");
            assert!(entry.cents_per_gpu_hour > 0 && entry.as_of.len() == 10 && !entry.source.is_empty());
        }
        assert_eq!(price("gb300"), None);
    }
}
