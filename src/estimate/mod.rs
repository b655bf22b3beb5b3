//! The core estimator: layer groups × workload → bytes.
//!
//! The **ideal** estimate counts the live bytes: every layer keeps what it can still attend to; no blocks, no padding,
//! no reserve. Full attention keeps S entries, a sliding window min(S, W), a chunk min(S, C), the peak and not the
//! sawtooth. Every cached element is in the chosen format with that format's own block overhead. Odd bit widths are
//! rounded up to a byte once per layer group and device.

mod error;
mod layout;

pub use error::EstimateError;
pub use layout::Layout;

use crate::model::{KeyValue, LayerGroup, Model};
use crate::units::{Bytes, ElementFormat, KvFormat, Tokens};

/// What is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Tokens of each sequence.
    pub seq_len: Tokens,
    /// Sequences.
    pub batch: u64,
    /// Formats of cached K and V.
    pub format: KvFormat,
    /// How the model is spread over devices.
    pub layout: Layout,
}

/// What a workload takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// Over all devices of one replica, for the whole batch.
    pub bytes: Bytes,
    /// The most that any one device holds.
    pub bytes_per_gpu: Bytes,
    /// One more token of one sequence at this length, over all devices of one replica.
    pub bytes_per_token: BytesPerToken,
    /// The same bytes by layer group, in the model's order.
    pub layer_groups: Vec<GroupEstimate>,
}

/// The share of one layer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupEstimate {
    /// Entries each layer keeps of one sequence.
    pub entries: Tokens,
    /// Over all devices of one replica, for the whole batch.
    pub bytes: Bytes,
}

/// An exact number of bytes per token: a fraction, since formats have bits and blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BytesPerToken {
    /// Numerator.
    pub numerator: u128,
    /// Denominator, at least 1.
    pub denominator: u128,
}

impl BytesPerToken {
    /// The whole number it is, if it is one.
    pub fn whole(self) -> Option<u64> {
        if !self.numerator.is_multiple_of(self.denominator) {
            return None;
        }
        u64::try_from(self.numerator.checked_div(self.denominator)?).ok()
    }
}

/// The ideal estimate of `workload` on `model`.
///
/// ```
/// use kvsize::estimate::{Layout, Workload, estimate};
/// use kvsize::model::ModelSpec;
/// use kvsize::units::{Bytes, ElementFormat, Tokens};
///
/// let spec = ModelSpec { layers: Some(32), kv_heads: Some(8), head_dim: Some(128), ..ModelSpec::default() };
/// let workload = Workload {
///     seq_len: Tokens(131_072),
///     batch: 1,
///     format: ElementFormat::BF16.into(),
///     layout: Layout::default(),
/// };
/// assert_eq!(estimate(&spec.model().unwrap(), &workload).unwrap().bytes, Bytes(17_179_869_184));
/// ```
///
/// # Errors
/// [`EstimateError`] when the layout does not divide the model, or a product passes 2⁶⁴ − 1.
pub fn estimate(model: &Model, workload: &Workload) -> Result<Estimate, EstimateError> {
    let layout = workload.layout;
    let stages = layout.stages(model.num_hidden_layers)?;
    let mut stage_bytes = vec![Bytes(0); stages.len()];
    let mut layer_groups = Vec::with_capacity(model.layer_groups.len());
    let mut slope = Slope::new(workload);
    for group in &model.layer_groups {
        let entry = Entry::of(group.cache.key_value(), layout.tp)?;
        let entries = group.cache.entries(workload.seq_len);
        let mut group_bytes = Bytes(0);
        for (stage, total) in stages.iter().zip(&mut stage_bytes) {
            let bytes = entry.bytes(layers_within(group, stage), entries, workload)?;
            *total = total.checked_add(bytes).ok_or(EstimateError::TooLarge)?;
            group_bytes = group_bytes.checked_add(bytes).ok_or(EstimateError::TooLarge)?;
        }
        if group.cache.grows_at(workload.seq_len) {
            slope.add(entry, group.layers.len(), layout.tp)?;
        }
        let bytes = group_bytes.checked_mul(layout.tp).ok_or(EstimateError::TooLarge)?;
        layer_groups.push(GroupEstimate { entries, bytes });
    }
    let bytes = layer_groups
        .iter()
        .try_fold(Bytes(0), |sum, group| sum.checked_add(group.bytes))
        .ok_or(EstimateError::TooLarge)?;
    let bytes_per_gpu = stage_bytes.into_iter().max().unwrap_or_default();
    Ok(Estimate { bytes, bytes_per_gpu, bytes_per_token: slope.total()?, layer_groups })
}

/// Layers of `group` that a pipeline stage holds.
fn layers_within(group: &LayerGroup, stage: &std::ops::Range<u32>) -> usize {
    let first = group.layers.partition_point(|&layer| layer < stage.start);
    let end = group.layers.partition_point(|&layer| layer < stage.end);
    end.saturating_sub(first)
}

/// The elements of K and of V that one rank keeps of one token in one layer.
#[derive(Debug, Clone, Copy)]
struct Entry {
    k: u128,
    v: u128,
}

impl Entry {
    /// KV heads are divided over `tp` ranks, and replicated once there are more ranks than heads.
    fn of(key_value: KeyValue, tp: u64) -> Result<Self, EstimateError> {
        let heads = key_value.num_key_value_heads();
        if !heads.is_multiple_of(tp) && !tp.is_multiple_of(heads) {
            return Err(EstimateError::UnevenTensorParallel { num_key_value_heads: heads, tp });
        }
        let (heads, (k, v)) = match (key_value.head_dims(), key_value.shortcut_width()) {
            (Some(dims), _) => (heads.checked_div(tp).unwrap_or_default().max(1), dims),
            (None, Some(width)) if tp == 1 => (1, (width, width)),
            (None, _) => return Err(EstimateError::ShortcutTensorParallel { num_key_value_heads: heads, tp }),
        };
        let elements = |dim: u64| u128::from(heads).checked_mul(u128::from(dim)).ok_or(EstimateError::TooLarge);
        Ok(Self { k: elements(k)?, v: elements(v)? })
    }

    fn bytes(self, layers: usize, entries: Tokens, workload: &Workload) -> Result<Bytes, EstimateError> {
        let copies = u128::from(entries.0)
            .checked_mul(u128::from(workload.batch))
            .and_then(|copies| copies.checked_mul(u128::try_from(layers).ok()?));
        let bits = |format: ElementFormat, elements: u128| format.bits(copies?.checked_mul(elements)?);
        let bits = bits(workload.format.k, self.k)
            .and_then(|k| k.checked_add(bits(workload.format.v, self.v)?))
            .ok_or(EstimateError::TooLarge)?;
        u64::try_from(bits.div_ceil(8)).map(Bytes).map_err(|_| EstimateError::TooLarge)
    }
}

/// Sums bits per token of the layers that still grow, over a common denominator.
struct Slope {
    format: KvFormat,
    k_elements: u128,
    v_elements: u128,
}

impl Slope {
    fn new(workload: &Workload) -> Self {
        Self { format: workload.format, k_elements: 0, v_elements: 0 }
    }

    fn add(&mut self, entry: Entry, layers: usize, tp: u64) -> Result<(), EstimateError> {
        let times = |elements: u128| {
            elements.checked_mul(u128::try_from(layers).ok()?).and_then(|elements| elements.checked_mul(u128::from(tp)))
        };
        let sum = |total: u128, elements: u128| total.checked_add(times(elements)?);
        self.k_elements = sum(self.k_elements, entry.k).ok_or(EstimateError::TooLarge)?;
        self.v_elements = sum(self.v_elements, entry.v).ok_or(EstimateError::TooLarge)?;
        Ok(())
    }

    /// `(k · k_bits / k_block + v · v_bits / v_block) / 8`
    fn total(&self) -> Result<BytesPerToken, EstimateError> {
        let (k_block, v_block) =
            (u128::from(self.format.k.elements_per_block()), u128::from(self.format.v.elements_per_block()));
        let bits = |elements: u128, format: ElementFormat, other_block: u128| {
            elements.checked_mul(u128::from(format.bits_per_block()))?.checked_mul(other_block)
        };
        let numerator = bits(self.k_elements, self.format.k, v_block)
            .and_then(|k| k.checked_add(bits(self.v_elements, self.format.v, k_block)?));
        let denominator = k_block.checked_mul(v_block).and_then(|blocks| blocks.checked_mul(8));
        match (numerator, denominator) {
            (Some(numerator), Some(denominator)) => Ok(BytesPerToken { numerator, denominator }),
            _ => Err(EstimateError::TooLarge),
        }
    }
}

#[cfg(test)]
mod tests;
