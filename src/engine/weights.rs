//! What of its weights each device of each pipeline stage holds.
//!
//! Read in vLLM 0.19: `model_executor/layers/linear.py` (`QKVParallelLinear` repeats KV heads once there are more ranks than
//! heads), `vocab_parallel_embedding.py`, and the models of the classes that `source` lists. Its padding of the vocabulary to
//! 64 words is not counted: at most a megabyte or two.

use std::ops::Range;

use super::{Engine, Spread, llama_cpp};
use crate::estimate::Layout;
use crate::model::{Model, Place, TensorGroup, Tensors};
use crate::units::{Bytes, Error, Exact};

impl Engine {
    /// Bytes of `weights` on each device of each stage, or on each device of an engine that divides models by whole layers.
    ///
    /// # Errors
    /// [`Code::TooManyStages`](crate::units::Code::TooManyStages).
    pub fn weights_by_stage(&self, model: &Model, weights: Bytes, layout: Layout) -> Result<Vec<Bytes>, Error> {
        match self.profile.spread {
            Spread::Ranks | Spread::Whole => weights_by_stage(model, weights, layout),
            // The embedding of the vocabulary stays on the host (llama.cpp, `load_tensors` in `llama-model.cpp`).
            Spread::Layers => {
                let devices = llama_cpp::layers_by_device(model.num_hidden_layers.into(), layout.pp);
                let without_embedding = |stage| Stage { first: false, ..stage };
                let stages: Vec<Stage> = stages(&devices).into_iter().map(without_embedding).collect();
                divided(model, weights, 1, &stages)
            }
        }
    }
}

/// Bytes of `weights` on each device of each stage: the ranks of a stage hold the same.
///
/// Where the tensors of the model's class are known, layers are counted one by one; the embedding is on the first stage and
/// the head on the last (a tied one on both), and what every rank holds is whole on each. If their sum is not `weights`, what
/// is in layers is scaled, and embedding and head are not, which quantisation leaves alone. Else all is divided evenly by
/// layers and ranks. Without anything repeated, the devices together hold `weights`, each rounded up to a byte.
///
/// # Errors
/// [`Code::TooManyStages`](crate::units::Code::TooManyStages).
pub fn weights_by_stage(model: &Model, weights: Bytes, layout: Layout) -> Result<Vec<Bytes>, Error> {
    divided(model, weights, layout.tp, &stages(&layout.stages(model.num_hidden_layers)?))
}

/// The layers of a pipeline stage, and which of the model's ends it holds.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    pub(super) layers: Range<u32>,
    pub(super) first: bool,
    pub(super) last: bool,
}

/// The stages of these layers.
pub(super) fn stages(layers: &[Range<u32>]) -> Vec<Stage> {
    let last = layers.len().saturating_sub(1);
    let stage = |(index, layers): (usize, &Range<u32>)| {
        let (first, last) = (index == 0, index == last);
        Stage { layers: layers.clone(), first, last }
    };
    layers.iter().enumerate().map(stage).collect()
}

impl Stage {
    /// Number of layers.
    pub(super) fn layers(&self) -> Exact {
        Exact::from(self.layers.end) - self.layers.start
    }

    /// Number of tensors of a group on this stage.
    pub(super) fn tensors(&self, group: &TensorGroup) -> Exact {
        let places = match &group.place {
            Place::Embedding | Place::Beside => Exact::from(u64::from(self.first)),
            Place::Head => Exact::from(u64::from(self.last)),
            Place::Layers(numbers) => {
                let below = |end: u32| Exact::from(numbers.partition_point(|&layer| layer < end));
                below(self.layers.end) - below(self.layers.start)
            }
        };
        places * group.count
    }
}

fn divided(model: &Model, weights: Bytes, tp: u64, stages: &[Stage]) -> Result<Vec<Bytes>, Error> {
    let tensors = model.weights.as_ref().and_then(|weights| weights.tensors.as_ref());
    let Some(tensors) = tensors else {
        let all = (Exact::from(model.num_hidden_layers) * tp).max(1u64);
        return stages.iter().map(|stage| (stage.layers() * weights).div_ceil(all).bytes()).collect();
    };
    let scale = Scale::new(tensors, weights)?;
    stages.iter().map(|stage| scale.on_rank(tensors, tp, stage).bytes()).collect()
}

/// How the known tensors make up the weights.
struct Scale {
    /// What the groups in layers take of `weights`, over what they take by themselves.
    numerator: Exact,
    denominator: Exact,
    /// Whether even embedding and head must be scaled, being more than there is.
    scales_ends: bool,
}

impl Scale {
    fn new(tensors: &Tensors, weights: Bytes) -> Result<Self, Error> {
        let whole = Stage { layers: 0..u32::MAX, first: true, last: true };
        let sum = |ends: bool| {
            let groups = tensors.groups.iter().filter(|group| is_end(group) == ends);
            groups.map(|group| group.bytes() * whole.tensors(group)).sum::<Exact>()
        };
        let (ends, layers) = (sum(true), sum(false));
        let scales_ends = layers.wide()? == 0 || ends.wide()? > u128::from(weights.0);
        let weights = Exact::from(weights);
        let (numerator, denominator) =
            if scales_ends { (weights, (ends + layers).max(1u64)) } else { (weights - ends, layers) };
        Ok(Self { numerator, denominator, scales_ends })
    }

    fn on_rank(&self, tensors: &Tensors, tp: u64, stage: &Stage) -> Exact {
        let (mut unscaled, mut scaled) = (Exact::ZERO, Exact::ZERO);
        for group in &tensors.groups {
            // A tied embedding is the head of the last stage, too, where that does not have it already.
            let again = tensors.tied && stage.last && group.place == Place::Embedding;
            let stage = if again { &Stage { first: true, ..stage.clone() } } else { stage };
            let sum = if is_end(group) && !self.scales_ends { &mut unscaled } else { &mut scaled };
            *sum = *sum + of_rank(group, tp) * stage.tensors(group);
        }
        if self.numerator == self.denominator {
            unscaled + scaled
        } else {
            unscaled + (scaled * self.numerator).div_ceil(self.denominator)
        }
    }
}

/// Whether quantisation leaves a group alone.
fn is_end(group: &TensorGroup) -> bool {
    matches!(group.place, Place::Embedding | Place::Head)
}

/// Bytes of one tensor of a group on one rank.
pub(super) fn of_rank(group: &TensorGroup, tp: u64) -> Exact {
    let heads = tp.min(group.num_key_value_heads).max(1);
    Exact::from(group.divided).div_ceil(tp.max(1)) + group.by_kv_heads.div_ceil(heads) + group.whole
}
