//! What the article says of the GPUs that its model needs, and the one rule that its table follows.

use super::ceiling;
use crate::units::{Bytes, Exact, Tokens};

/// The weights it counts: 17 billion parameters in 16 bits.
pub const WEIGHTS: Bytes = Bytes(34_000_000_000);

/// What all 109 billion parameters of the real model take in 16 bits, rounded: the 17 billion are those of one token.
pub const REAL_WEIGHTS: Bytes = Bytes(218_000_000_000);

/// The length that it names a cluster for, in 16 bits.
pub const SEQ_LEN: Tokens = Tokens(10_000_000);

/// The device of that cluster, and what is sold as its memory.
pub const DEVICE: &str = "h100-sxm";

/// The nodes, "at least", and the GPUs of each.
pub const NODES: u64 = 4;

/// What these nodes cost an hour, in US dollars of April 2025.
pub const DOLLARS_PER_HOUR: u64 = 115;

/// GPUs of a node.
pub const GPUS_PER_NODE: u64 = 8;

/// A row of its table of hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HardwareRow {
    /// GPUs.
    pub gpus: u64,
    /// The device, by its name in the catalogue.
    pub device: &'static str,
    /// What all of them are sold with, in decimal gigabytes.
    pub marketed_gb: u64,
    /// Tokens that it says fit, in 16 bits.
    pub tokens: u64,
    /// What they cost an hour, in US dollars of April 2025.
    pub dollars_per_hour: u64,
}

/// Its table of hardware.
pub const HARDWARE: [HardwareRow; 4] = [
    HardwareRow { gpus: 8, device: "h100-sxm", marketed_gb: 640, tokens: 4_500_000, dollars_per_hour: 28 },
    HardwareRow { gpus: 8, device: "h200-sxm", marketed_gb: 1128, tokens: 8_000_000, dollars_per_hour: 47 },
    HardwareRow { gpus: 32, device: "h100-sxm", marketed_gb: 2560, tokens: 10_000_000, dollars_per_hour: 115 },
    HardwareRow { gpus: 32, device: "a100-sxm4-80gb", marketed_gb: 2560, tokens: 10_000_000, dollars_per_hour: 72 },
];

/// The share of the memory as sold that its table takes as usable, in thousandths: what was vLLM's default then.
pub const USABLE_THOUSANDTHS: u64 = 900;

/// What its table makes of the tokens that fit: to the nearest half million, and no more than ten.
///
/// ```
/// use kvsize::strategy::article;
/// assert_eq!(article::rounded(4_410_807), 4_500_000);
/// assert_eq!(article::rounded(18_473_307), 10_000_000);
/// ```
pub fn rounded(tokens: u64) -> u64 {
    const STEP: u64 = 500_000;
    ((Exact::from(tokens) + STEP / 2) / STEP * STEP).min(SEQ_LEN).get().unwrap_or(SEQ_LEN.0)
}

/// The GPUs that its table's own rule asks for: cache and weights over nine tenths of the memory a GPU is sold with, in
/// decimal gigabytes.
///
/// ```
/// use kvsize::strategy::article;
/// use kvsize::units::Bytes;
/// assert_eq!(article::gpus(Bytes(1_228_800_000_000), article::WEIGHTS, 80), Some(18));
/// assert_eq!(article::gpus(Bytes(1_228_800_000_000), article::WEIGHTS, 141), Some(10));
/// ```
pub fn gpus(cache: Bytes, weights: Bytes, marketed_gb: u64) -> Option<u64> {
    let usable = marketed_gb.checked_mul(900_000_000)?;
    Some(ceiling(cache.checked_add(weights)?.0, usable))
}
