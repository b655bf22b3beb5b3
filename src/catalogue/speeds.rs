//! How fast devices are on paper: only figures that have a source.

use serde::Deserialize;

use super::line_naming;

const SPEEDS: &str = include_str!("speeds.jsonl");

/// The figures of a device. What has no source is absent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeedEntry {
    /// The device, by its own name in the catalogue.
    pub device: String,
    /// Memory bandwidth, in decimal gigabytes a second.
    pub bandwidth_gb_s: Option<u64>,
    /// Where it was read.
    pub bandwidth_source: Option<String>,
    /// Peak dense rate in bf16, in 10⁹ operations a second.
    pub bf16_gflops: Option<u64>,
    /// Where it was read.
    pub bf16_source: Option<String>,
}

/// The figures of a device, if any has a source.
pub fn speed(device: &str) -> Option<SpeedEntry> {
    line_naming(SPEEDS, device, |line| {
        serde_json::from_str(line).ok().filter(|entry: &SpeedEntry| entry.device == device)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_of_a_device_known_here_and_has_a_source() {
        for line in SPEEDS.lines() {
            let entry: SpeedEntry = serde_json::from_str(line).unwrap();
            assert_eq!(super::super::device(&entry.device).unwrap().names[0], entry.device);
            assert_eq!(entry.bandwidth_gb_s.is_some(), entry.bandwidth_source.is_some(), "{line}");
            assert_eq!(entry.bf16_gflops.is_some(), entry.bf16_source.is_some(), "{line}");
            assert_eq!(speed(&entry.device), Some(entry));
        }
        assert_eq!(speed("h100-sxm").unwrap().bandwidth_gb_s, Some(3350));
        // Known from memory alone.
        assert_eq!(speed("h20"), None);
    }
}
