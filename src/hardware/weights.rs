//! What of its weights each device of each pipeline stage holds.
//!
//! Read in vLLM 0.19: `model_executor/layers/linear.py` (`QKVParallelLinear` repeats KV heads once there are more ranks than
//! heads), `vocab_parallel_embedding.py`, and the models of the classes that `source` lists. Its padding of the vocabulary to
//! 64 words is not counted: at most a megabyte or two.

use std::ops::Range;

use crate::estimate::Layout;
use crate::model::{Model, Place, TensorGroup, Tensors};
use crate::units::{Bytes, Error};

/// Bytes of `weights` on each device of each stage: the ranks of a stage hold the same.
///
/// Where the tensors of the model's class are known, layers are told one by one; the embedding is on the first stage and the
/// head on the last (one that is tied on both), and what every rank holds is whole on each. If they come to another sum than
/// `weights`, what is in layers is scaled, and embedding and head are not, which quantisation leaves alone. Else all is divided
/// evenly by layers and ranks. Without anything repeated, the devices together hold `weights`, each rounded up to a byte.
///
/// # Errors
/// [`Code::TooManyStages`](crate::units::Code::TooManyStages).
pub fn weights_by_stage(model: &Model, weights: Bytes, layout: Layout) -> Result<Vec<Bytes>, Error> {
    Ok(divided(model, weights, layout.tp, &layout.stages(model.num_hidden_layers)?, true))
}

/// The same of an engine that gives each device whole layers, and keeps the embedding of the vocabulary on the host
/// (llama.cpp, `load_tensors` in `llama-model.cpp`).
pub fn weights_by_device(model: &Model, weights: Bytes, devices: &[Range<u32>]) -> Vec<Bytes> {
    divided(model, weights, 1, devices, false)
}

fn divided(model: &Model, weights: Bytes, tp: u64, stages: &[Range<u32>], embeds: bool) -> Vec<Bytes> {
    let tensors = model.weights.as_ref().and_then(|weights| weights.tensors.as_ref());
    let Some(tensors) = tensors else {
        let even = |stage: &Range<u32>| {
            let layers = u128::from(stage.end.saturating_sub(stage.start));
            let all = u128::from(model.num_hidden_layers).saturating_mul(u128::from(tp)).max(1);
            Bytes(narrow(u128::from(weights.0).saturating_mul(layers).div_ceil(all)))
        };
        return stages.iter().map(even).collect();
    };
    let shape = Division::of(tensors, weights);
    let last = stages.len().saturating_sub(1);
    let of_stage = |(index, stage): (usize, &Range<u32>)| {
        let ends = (embeds && index == 0, index == last);
        // An embedding that is tied is the head of the last stage, too, where that does not have it already.
        Bytes(narrow(shape.on_rank(tensors, tp, ends, stage)))
    };
    stages.iter().enumerate().map(of_stage).collect()
}

fn narrow(bytes: u128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// How the tensors that are known make up the weights that are.
struct Division {
    /// What the groups in layers come to in `weights`, over what they come to by themselves.
    numerator: u128,
    denominator: u128,
    /// Whether even embedding and head must be scaled: they are more than there is.
    all: bool,
}

impl Division {
    fn of(tensors: &Tensors, weights: Bytes) -> Self {
        let sum = |fixed: bool| {
            tensors
                .groups
                .iter()
                .filter(|group| is_fixed(group) == fixed)
                .map(|group| {
                    let count = group.on_stage(true, true, &(0..u32::MAX));
                    u128::from(group.bytes()).saturating_mul(u128::from(count))
                })
                .fold(0u128, u128::saturating_add)
        };
        let (fixed, rest) = (sum(true), sum(false));
        let weights = u128::from(weights.0);
        match weights.checked_sub(fixed) {
            Some(left) if rest > 0 => Self { numerator: left, denominator: rest, all: false },
            _ => Self { numerator: weights, denominator: fixed.saturating_add(rest).max(1), all: true },
        }
    }

    fn on_rank(&self, tensors: &Tensors, tp: u64, ends: (bool, bool), layers: &Range<u32>) -> u128 {
        let (first, last) = ends;
        let mut fixed = 0u128;
        let mut rest = 0u128;
        for group in &tensors.groups {
            let again = tensors.tied && last && !first && group.place == Place::Embedding;
            let count = u128::from(group.on_stage(first || again, last, layers));
            let bytes = u128::from(of_rank(group, tp)).saturating_mul(count);
            let sum = if is_fixed(group) && !self.all { &mut fixed } else { &mut rest };
            *sum = sum.saturating_add(bytes);
        }
        let scaled = match (self.numerator, self.denominator) {
            (numerator, denominator) if numerator == denominator => rest,
            (numerator, denominator) => times(rest, numerator, denominator),
        };
        fixed.saturating_add(scaled)
    }
}

/// `value * numerator / denominator`, rounded up; all are below 2⁷⁰ or so, so a product that passes 128 bits is no weight.
fn times(value: u128, numerator: u128, denominator: u128) -> u128 {
    value.checked_mul(numerator).map_or(u128::MAX, |product| product.div_ceil(denominator.max(1)))
}

/// Whether quantisation leaves a group alone.
fn is_fixed(group: &TensorGroup) -> bool {
    matches!(group.place, Place::Embedding | Place::Head)
}

/// Bytes of one tensor of a group on one rank.
pub(super) fn of_rank(group: &TensorGroup, tp: u64) -> u64 {
    let heads = tp.min(group.num_key_value_heads).max(1);
    let divided = group.divided.div_ceil(tp.max(1));
    divided.saturating_add(group.by_kv_heads.div_ceil(heads)).saturating_add(group.whole)
}
