//! What the article says of the GPUs that its model needs, and the one rule that its table follows.

use super::ceiling;
use crate::units::{Bytes, Tokens};

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
