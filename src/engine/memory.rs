//! The memory of one device in the terms of a server, each saying how it is known; and the rules by which engines take it.

use serde::Serialize;

use super::Double;
use crate::units::{Bytes, named};

named! {
    /// How a figure is known.
    #[derive(Serialize)]
    #[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
    #[serde(rename_all = "snake_case")]
    pub enum Known {
        /// The user said so.
        Given = "given",
        /// Read where it is: from a driver, or from the headers of files.
        Measured = "measured",
        /// From the catalogue, which names its source.
        Catalogue = "catalogue",
        /// Computed by a rule that may be off.
        Estimated = "estimated",
    }
}

/// Bytes on one device, and how they are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Term {
    /// In bytes.
    pub bytes: Bytes,
    /// How it is known.
    pub known: Known,
    /// Where it was read, or how it is estimated.
    pub source: String,
}

impl Term {
    /// Bytes that the user gave with an option.
    pub fn given(bytes: Bytes, option: &str) -> Self {
        Self { bytes, known: Known::Given, source: option.into() }
    }

    /// Bytes by a rule that may be off.
    pub(super) fn estimated(bytes: Bytes, source: impl Into<String>) -> Self {
        Self { bytes, known: Known::Estimated, source: source.into() }
    }
}

/// What a fraction of the memory applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The total that the engine sees; weights and overhead come out of it.
    OfTotal,
    /// What weights and overhead leave free.
    OfFree,
    /// The engine takes all memory.
    All,
}

/// The part of a device's memory that an engine takes by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// What the fraction applies to.
    pub rule: Rule,
    /// The fraction, as a decimal.
    pub default: &'static str,
    /// Where the default was read.
    pub source: &'static str,
}

impl Share {
    /// The share of the ideal, which has no server.
    pub(super) const IDEAL: Self =
        Self { rule: Rule::OfTotal, default: "0.9", source: "no server's share: nine tenths, as the article takes" };
}

/// The bytes that a fraction of the total is: ⌈visible × fraction⌉ in doubles, as vLLM rounds it (`v1/worker/utils.py`,
/// `request_memory`).
pub fn usable(visible: Bytes, fraction: Double) -> Bytes {
    Bytes(Double::whole(visible.0).times(fraction).ceiling())
}

/// The name of the overhead that a share of the memory replaces, where one is given.
pub const RESERVE: &str = "reserve";

/// A term of the overhead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverheadTerm {
    /// A stable word: `step`, `outside`, `rotary_table`, `latent_copies`, `allocator`, `kernel_layout`, `cuda_graphs`, `margin`, `reserve`.
    pub name: &'static str,
    /// Its bytes.
    pub term: Term,
}

/// What a server's memory holds in addition to weights and cache, on each device of each pipeline stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overhead {
    /// The terms of each stage.
    pub stages: Vec<Vec<OverheadTerm>>,
    /// The logs that calibrate them, and the error.
    pub calibration: Option<&'static Calibration>,
    /// Notes for the reader.
    pub notes: Vec<String>,
}

impl Overhead {
    /// The same term, if there is one, on every stage.
    pub(super) fn uniform(stages: usize, term: Option<OverheadTerm>, note: &str) -> Self {
        let terms = term.into_iter().collect();
        Self { stages: vec![terms; stages], calibration: None, notes: vec![note.into()] }
    }
}

/// The start-up logs that an overhead is calibrated on, and the error of pools computed with it, each model left out of its
/// fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calibration {
    /// The engine.
    pub engine: &'static str,
    /// The version of the logs.
    pub version: &'static str,
    /// The device of the logs.
    pub device: &'static str,
    /// Number of logs.
    pub logs: u32,
    /// Number of models, a model's sizes of parallelism and formats counted once.
    pub models: u32,
    /// The most tensor parallel ranks of any log.
    pub most_ranks: u64,
    /// The error of the pool, with no model left out.
    pub pool: Errors,
    /// The error of the pool.
    pub pool_left_out: Errors,
    /// The error of the requests at once.
    pub concurrency_left_out: Errors,
    /// The error of pools below a tenth of the device, which the others leave out.
    pub small_pool_left_out: Errors,
    /// Number of logs of such pools.
    pub small_pools: u32,
    /// Where the logs are from.
    pub source: &'static str,
}

/// Absolute errors over logs, in hundredths of a percent, each rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errors {
    /// The mean.
    pub mean: u32,
    /// The largest.
    pub max: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_as_the_engine_rounds_it() {
        let of = |text| Double::parse(text).unwrap();
        // In Python: math.ceil(85029158092 * 0.95) and math.ceil(10 * 0.5).
        assert_eq!(usable(Bytes(85_029_158_092), of("0.95")), Bytes(80_777_700_188));
        assert_eq!(usable(Bytes(10), of("0.5")), Bytes(5));
    }
}
