//! A device, as far as memory goes: three totals that are never the same, kept apart.

use crate::units::Bytes;

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accelerator {
    /// Its own name in the catalogue: `h100-sxm`.
    pub id: String,
    /// CUDA's compute capability, major and minor, where it has one.
    pub compute_capability: Option<(u32, u32)>,
    /// What it is sold with.
    pub marketed: Option<Bytes>,
    /// What its driver reports as total.
    pub driver: Option<Bytes>,
    /// The total that an engine is told, of which it takes its share.
    pub visible: Option<Bytes>,
}
