//! Devices by name, as far as the defaults of engines depend on them.

use serde::Deserialize;

use crate::units::{Diagnose, Diagnosis, display_diagnosis};

const DEVICES: &str = include_str!("devices.jsonl");

/// A device of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceEntry {
    /// Names it is found under, in lower case with hyphens; the first is its own.
    pub names: Vec<String>,
    /// CUDA's compute capability, major and minor.
    pub compute_capability: (u32, u32),
    /// Memory that the driver reports, in MiB.
    pub memory_mib: u64,
    /// What it is sold with, in decimal gigabytes, of the devices that the article counts so.
    #[serde(default)]
    pub marketed_gb: Option<u64>,
    /// Where the figures come from.
    pub source: String,
}

/// A name that is no device here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownDevice {
    name: String,
    nearest: Vec<String>,
}

impl Diagnose for UnknownDevice {
    fn diagnosis(&self) -> Diagnosis {
        let known = || devices().filter_map(|device| device.names.into_iter().next()).collect::<Vec<_>>();
        let (problem, nearest) = match self.nearest.as_slice() {
            [] => ("is not a device known here", known()),
            [_] => ("is not a device known here", self.nearest.clone()),
            _ => ("is not one device", self.nearest.clone()),
        };
        Diagnosis {
            code: "unknown_gpu",
            field: "--gpu".into(),
            found: self.name.clone(),
            problem: problem.into(),
            remedy: format!("name one of {}", nearest.join(", ")),
        }
    }
}

display_diagnosis!(UnknownDevice);

/// Every device.
pub fn devices() -> impl Iterator<Item = DeviceEntry> {
    DEVICES.lines().filter_map(|line| serde_json::from_str(line).ok())
}

/// The device of that name, in any case, with spaces or hyphens.
///
/// # Errors
/// [`UnknownDevice`] with the names it could mean: all that begin with it, or else the nearest.
pub fn device(name: &str) -> Result<DeviceEntry, UnknownDevice> {
    const ALIKE: f64 = 0.8;
    let wanted = name.to_lowercase().replace([' ', '_'], "-");
    if let Some(device) = devices().find(|device| device.names.contains(&wanted)) {
        return Ok(device);
    }
    let own = |device: DeviceEntry| device.names.into_iter().next();
    let mut nearest: Vec<String> = if wanted.is_empty() {
        Vec::new()
    } else {
        devices().filter(|device| device.names.iter().any(|name| name.starts_with(&wanted))).filter_map(own).collect()
    };
    if nearest.is_empty() {
        let likeness = |name: &str| strsim::jaro_winkler(name, &wanted);
        let mut alike: Vec<(f64, String)> = devices()
            .filter_map(own)
            .map(|name| (likeness(&name), name))
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .collect();
        alike.sort_by(|a, b| b.0.total_cmp(&a.0));
        nearest = alike.into_iter().take(3).map(|(_, name)| name).collect();
    }
    Err(UnknownDevice { name: name.to_owned(), nearest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_device_with_names_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for line in DEVICES.lines() {
            let entry: DeviceEntry = serde_json::from_str(line).unwrap();
            for name in &entry.names {
                assert!(seen.insert(name.clone()), "{name} twice");
                assert_eq!(device(name).unwrap(), entry);
            }
        }
    }

    #[test]
    fn a_name_that_may_be_several_devices_lists_them() {
        assert_eq!(device("H100").unwrap().names[0], "h100-sxm");
        assert_eq!(device("RTX 4090").unwrap().names[0], "rtx-4090");
        assert_eq!(
            device("a100").unwrap_err().to_string(),
            "--gpu: a100 is not one device; name one of a100-pcie-40gb, a100-sxm4-40gb, a100-pcie-80gb, a100-sxm4-80gb"
        );
        assert!(device("h1000").unwrap_err().to_string().contains("h100-sxm"));
        assert!(device("").unwrap_err().to_string().contains("b200-sxm"));
    }
}
