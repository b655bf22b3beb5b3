//! The least time that the hardware's own figures leave: lower bounds, never predictions.
//!
//! - **cache**: every byte of the cache is read once for each decoded token of each sequence: bytes / (GPUs × bandwidth).
//!   Not where layers pick what they read (an index, compressed entries), and not where the cache is not on GPUs.
//! - **weights**: every parameter that a token passes through is read once a step, but for the input embedding, of which a
//!   row is read: it is taken off, whether or not it is the output's as well.
//! - **prefill, linear part**: 2 operations for each such parameter and token / (GPUs × peak rate); embedding and output are
//!   both taken off, since only the last token needs the output.
//! - **prefill, attention**: each query head takes 2 operations for each element of K and of V of each earlier token that its
//!   layer still sees: the sum of min(i, W), or of each chunk. Where layers differ in KV heads only those that keep every
//!   token are counted, since query heads may differ too.
//!
//! A part whose inputs are not known is absent.

use super::{Question, Strategy};
use crate::estimate::Workload;
use crate::model::{KeyValue, LayerCache, LayerGroup, Model, WeightsOrigin};
use crate::units::Exact;

/// What one GPU does at most; what has no source is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", serde_with::skip_serializing_none, derive(serde::Serialize, schemars::JsonSchema))]
pub struct Speed {
    /// Memory bandwidth, in decimal gigabytes a second.
    pub bandwidth_gb_s: Option<u64>,
    /// Where it was read.
    pub bandwidth_source: Option<String>,
    /// Peak dense rate in bf16, in 10⁹ operations a second.
    pub bf16_gflops: Option<u64>,
    /// Where it was read.
    pub bf16_source: Option<String>,
}

/// Lower bounds of a row in nanoseconds, rounded down: no engine is faster. What is not known is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", serde_with::skip_serializing_none, derive(serde::Serialize, schemars::JsonSchema))]
pub struct Floors {
    /// To read the cache once, for each decoded token.
    pub cache_read_ns: Option<u64>,
    /// To read the weights that a token passes through once.
    pub weights_read_ns: Option<u64>,
    /// The linear part of the prefill.
    pub prefill_linear_ns: Option<u64>,
    /// The attention of the prefill.
    pub prefill_attention_ns: Option<u64>,
}

/// The parameters that a token passes through without the embedding, and what they take; what is left without the output too.
fn active(model: &Model) -> Option<(Exact, Exact)> {
    let weights = model.weights.as_ref()?;
    let [share] = weights.by_dtype.as_slice() else { return None };
    // Read from a configuration, quantised weights are counted as more than they are.
    if weights.origin == WeightsOrigin::Config && model.checkpoint.quantization.is_some() || model.checkpoint.multimodal
    {
        return None;
    }
    let crosses = |group: &LayerGroup| matches!(group.cache, LayerCache::CrossAttention { .. });
    if model.layer_groups.iter().any(crosses) {
        return None;
    }
    let all = weights.parameters?;
    let passed = weights.active_parameters.unwrap_or(all);
    let embedding = model.checkpoint.embedding_parameters?;
    let read = Exact::from(passed) - embedding;
    Some((read * share.bytes? / all, read.less(embedding)))
}

/// The floors of a row; none of one that is not usable or does not fit.
pub fn floors(question: &Question, row: &Strategy, speed: &Speed) -> Option<Floors> {
    let outcome = row.outcome.as_ref().ok().filter(|outcome| outcome.fits != Some(false))?;
    let model = row.levers.applied(question.model, row.workload.seq_len).ok()?;
    // A gigabyte a second is a byte a nanosecond.
    let time = |amount: Exact, each: Option<u64>| (amount / (Exact::from(outcome.gpus) * each?)).get().ok();
    let picks = |group: &LayerGroup| matches!(group.cache, LayerCache::Indexer { .. } | LayerCache::Compressed { .. });
    let reads_all = !model.layer_groups.iter().any(picks);
    let cache = Some(Exact::from(outcome.bytes)).filter(|_| reads_all && outcome.moved.is_none());
    let active = active(&model);
    let linear = active.map(|(_, parameters)| parameters * 2u64 * once_and_each(&row.workload, Exact::from));
    let attention = if reads_all { attention(&model, &row.workload) } else { None };
    Some(Floors {
        cache_read_ns: cache.and_then(|bytes| time(bytes, speed.bandwidth_gb_s)),
        weights_read_ns: active.and_then(|(bytes, _)| time(bytes, speed.bandwidth_gb_s)),
        prefill_linear_ns: linear.and_then(|operations| time(operations, speed.bf16_gflops)),
        prefill_attention_ns: attention.and_then(|operations| time(operations, speed.bf16_gflops)),
    })
}

/// Of all sequences, those of a shared prefix once.
fn once_and_each(workload: &Workload, of: impl Fn(u64) -> Exact) -> Exact {
    let common = workload.shared_prefix.map_or(Exact::ZERO, |prefix| of(prefix.0));
    (of(workload.seq_len.0) - common) * workload.batch + common
}

fn attention(model: &Model, workload: &Workload) -> Option<Exact> {
    let heads = model.checkpoint.num_attention_heads?;
    let kv_heads = |group: &LayerGroup| group.cache.key_value().and_then(KeyValue::num_key_value_heads);
    let mut known = model.layer_groups.iter().filter_map(kv_heads);
    let first = known.next();
    let alike = known.all(|heads| Some(heads) == first);
    let mut sum = Exact::ZERO;
    for group in &model.layer_groups {
        let (k, v) = match group.cache {
            LayerCache::FullAttention { key_value } => key_value.head_dims()?,
            LayerCache::SlidingWindow { key_value, .. } | LayerCache::ChunkedLocal { key_value, .. } if alike => {
                key_value.head_dims()?
            }
            LayerCache::Latent { qk_rope_head_dim, .. } => {
                let nope = model.checkpoint.qk_nope_head_dim?;
                (nope.checked_add(qk_rope_head_dim)?, model.checkpoint.v_head_dim?)
            }
            LayerCache::CrossAttention { .. } => return None,
            LayerCache::SlidingWindow { .. }
            | LayerCache::ChunkedLocal { .. }
            | LayerCache::Indexer { .. }
            | LayerCache::Compressed { .. }
            | LayerCache::Recurrent(_)
            | LayerCache::Shared
            | LayerCache::None => continue,
        };
        let pairs = once_and_each(workload, |tokens| pairs(&group.cache, tokens));
        sum = sum + pairs * 2u64 * heads * (Exact::from(k) + v) * group.layers.len();
    }
    Some(sum)
}

/// Pairs of a token and one that it sees, itself included.
fn pairs(cache: &LayerCache, tokens: u64) -> Exact {
    let triangle = |side: Exact| side * (side + 1u64) / 2u64;
    let all = Exact::from(tokens);
    match *cache {
        LayerCache::SlidingWindow { window, .. } => {
            let within = all.min(window);
            triangle(within) + (all - within) * window
        }
        LayerCache::ChunkedLocal { chunk, .. } => triangle(chunk.into()) * (all / chunk) + triangle(all % chunk),
        LayerCache::FullAttention { .. }
        | LayerCache::Latent { .. }
        | LayerCache::Indexer { .. }
        | LayerCache::Compressed { .. }
        | LayerCache::Recurrent(_)
        | LayerCache::CrossAttention { .. }
        | LayerCache::Shared
        | LayerCache::None => triangle(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Tokens;

    #[test]
    fn pairs_are_those_that_a_layer_sees() {
        let key_value = KeyValue::Heads { num_key_value_heads: 1, head_dim: 1, v_head_dim: 1 };
        for tokens in 0..40 {
            let brute = |sees: &dyn Fn(u64, u64) -> bool| {
                (0..tokens).flat_map(|i| (0..=i).map(move |j| (i, j))).filter(|&(i, j)| sees(i, j)).count() as u128
            };
            for bound in 1..12 {
                let window = Tokens(bound);
                let sliding = LayerCache::SlidingWindow { key_value, window, transformers_window: None };
                assert_eq!(pairs(&sliding, tokens), brute(&|i, j| i - j < bound).into());
                let chunked = LayerCache::ChunkedLocal { key_value, chunk: Tokens(bound) };
                assert_eq!(pairs(&chunked, tokens), brute(&|i, j| i / bound == j / bound).into());
            }
            assert_eq!(pairs(&LayerCache::FullAttention { key_value }, tokens), brute(&|_, _| true).into());
        }
    }
}
