//! The device class, as far as an engine's defaults depend on it.

use std::borrow::Cow;

/// A device, as an engine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name in the catalogue: `h100-sxm`.
    pub id: Cow<'static, str>,
    /// CUDA's compute capability, major and minor: 9.0 is (9, 0).
    pub compute_capability: (u32, u32),
    /// Memory that the driver reports, in MiB.
    pub memory_mib: u64,
}

impl Default for Device {
    /// H100 SXM 80GB: the device assumed without `--gpu`.
    fn default() -> Self {
        Self { id: "h100-sxm".into(), compute_capability: (9, 0), memory_mib: 81_559 }
    }
}
