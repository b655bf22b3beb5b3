//! An engine's answer for a workload.

use std::fmt::Display;

use serde::Serialize;

use super::{Details, Double};
use crate::estimate::Estimate;
use crate::units::{Error, Exact};

/// What a workload takes in an engine, and why it is not the ideal figure.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The bytes.
    pub estimate: Estimate,
    /// The engine's own figures.
    pub details: Option<Details>,
    /// What fits in the memory given.
    pub capacity: Option<Capacity>,
    /// The steps from the ideal figure to this one: they add up to the difference.
    pub gaps: Vec<Gap>,
    /// What the engine's rules took for granted.
    pub assumptions: Vec<String>,
    /// What may make the answer wrong.
    pub warnings: Vec<String>,
}

impl Answer {
    /// Bytes and nothing else to say.
    pub fn of(estimate: Estimate) -> Self {
        let (gaps, assumptions, warnings) = (Vec::new(), Vec::new(), Vec::new());
        Self { estimate, details: None, capacity: None, gaps, assumptions, warnings }
    }
}

/// One reason why an engine's bytes are not the ideal ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Gap {
    /// A stable word: `pages`, `page_padding`, `grouping`, `in_flight_reserve`, `state_copies`, `padding`, `preallocation`, …
    pub kind: &'static str,
    /// What it adds, over all devices of one replica; negative where the engine keeps less.
    pub bytes: i128,
    /// One line that says why.
    pub reason: String,
}

impl Gap {
    /// The step from one figure to the next; `None` where they are the same.
    ///
    /// # Errors
    /// [`Code::TooLarge`](crate::units::Code::TooLarge).
    pub fn step(
        kind: &'static str,
        from: impl Into<Exact>,
        to: impl Into<Exact>,
        reason: impl Display,
    ) -> Result<Option<Self>, Error> {
        let (from, to) = (from.into().wide()?, to.into().wide()?);
        // A reason is put into words only where there is a step.
        if from == to {
            return Ok(None);
        }
        let signed = |bytes: u128| i128::try_from(bytes).map_err(|_| Error::too_large());
        let bytes = signed(to)?.checked_sub(signed(from)?).ok_or_else(Error::too_large)?;
        Ok(Some(Self { kind, bytes, reason: reason.to_string() }))
    }

    /// Adds it to the one of the same kind and reason, if there is one.
    pub(super) fn join(self, gaps: &mut Vec<Self>) -> Result<(), Error> {
        match gaps.iter_mut().find(|known| (known.kind, &known.reason) == (self.kind, &self.reason)) {
            Some(known) => known.bytes = known.bytes.checked_add(self.bytes).ok_or_else(Error::too_large)?,
            None => gaps.push(self),
        }
        Ok(())
    }
}

/// The steps from one figure through others.
pub(super) struct Steps {
    at: Exact,
    pub(super) gaps: Vec<Gap>,
}

impl Steps {
    pub(super) fn from(bytes: impl Into<Exact>) -> Self {
        Self { at: bytes.into(), gaps: Vec::new() }
    }

    /// The step to a figure, for a reason.
    pub(super) fn to(mut self, kind: &'static str, to: impl Into<Exact>, reason: impl Display) -> Result<Self, Error> {
        let before = std::mem::replace(&mut self.at, to.into());
        self.gaps.extend(Gap::step(kind, before, self.at, reason)?);
        Ok(self)
    }
}

/// What an engine makes of the memory that it may use for the cache on each device.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Capacity {
    /// Bytes on each device.
    pub memory: u64,
    /// Whether the engine starts: one request of the length asked for fits, or, in `SGLang`, the pools can be made.
    pub fits: bool,
    /// Whether all requests of a batch fit at once, each of the length asked for; none for a batch of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds_batch: Option<bool>,
    /// Blocks of the pool, where there are blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<u64>,
    /// Tokens, as this version prints them; null when not one request fits.
    pub tokens: Option<u64>,
    /// Requests of the length asked for; null when not one fits.
    pub max_concurrency: Option<Double>,
    /// The longest request that fits, no longer than the one asked for.
    pub max_seq_len: u64,
}

/// The blocks of a pool that all stages have the same number of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    /// Bytes of a block on each pipeline stage.
    pub bytes_by_stage: Vec<u64>,
    /// Bytes of the one block that holds nothing, where the engine keeps one.
    pub null_block_bytes: u64,
}

/// The most requests at once, and the setting that limits them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimit {
    /// The setting.
    pub setting: &'static str,
    /// Requests.
    pub most: u64,
}

/// The longest length up to `most` that `fits`, 0 if not one token does; the shorter, the less it takes.
pub(super) fn longest(most: u64, fits: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = high.saturating_sub(high.saturating_sub(low) / 2);
        if fits(middle) {
            low = middle;
        } else {
            high = middle.saturating_sub(1);
        }
    }
    low
}
