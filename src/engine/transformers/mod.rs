//! Hugging Face transformers 5.23.0: what its own cache tensors hold (`cache_utils.py`, and the caches of single models).
//!
//! - **Dynamic** is the cache a model makes for itself: entries grow with the sequence. A sliding or chunked layer keeps
//!   W − 1 entries, since the current token brings its own: the one rule by which it is below the ideal
//!   (`DynamicSlidingWindowLayer`).
//! - **Static** is `StaticCache` with `max_cache_len` = the sequence length: W entries, allocated at once.
//! - **Quantised** is `QuantizedCache`, whose rules are in `quantized.rs`.
//! - Convolutions keep all of their kernel's columns, but for RG-LRU, RWKV and CCA, which keep one less (`LinearAttentionLayer`).
//! - Memory is fp32 whatever the model's format, but for lightning attention, CCA and mLSTM, which keep the model's.
//! - An index key is in the model's format, and so is DeepSeek-V4's compressor state, of which only the tokens that no entry
//!   covers yet are kept: that is below the ideal, too (`modeling_deepseek_v4.py`). Its layers without compression keep the
//!   one vector twice, as K and as V.
//! - A model whose class knows no window keeps every token (GPT-Neo).
//! - Cross-attention to images keeps nothing without an image (Mllama).
//! - Falcon's new architecture and MPT repeat each KV head for the query heads that share it, and cache all of them.
//! - It is one process a model: tensor and pipeline parallelism are not modelled.

mod quantized;

use serde::Serialize;

pub use self::quantized::{Groups, Quantized};
use super::setting::settings;
use super::{Answer, Details, Engine, Gap, Profile, Spread, Steps, is_one_of};
use crate::estimate::{Retained, State, Workload, ideal, sum_groups};
use crate::model::{
    CacheKind, KeyValue, LayerCache, LayerGroup, Mechanism as M, Memory, Model, Quantization, RecurrentState,
};
use crate::units::{Bytes, ElementFormat, Error, Exact, KvDtype, Tokens, named};

pub(super) const PROFILE: Profile = Profile {
    name: "transformers",
    versions: &["5.23"],
    about: "the tensors of its dynamic, static or quantised cache",
    replayed: "1,202 runs of 118 configurations and 119 of quantised caches, every byte equal",
    heading: "Settings of transformers",
    settings: settings! {
        "cache" Choice(Cache::NAMES) "Which of its caches";
        "cache-backend" Choice(&["quanto", "hqq", "fp8"]) "What quantises (backend)";
        "nbits" Count "Bits of a quantised element";
        "axis-key" Choice(&["0", "1", "-1"]) "Axis along which K is grouped";
        "axis-value" Choice(&["0", "1", "-1"]) "Axis along which V is grouped";
        "q-group-size" Count "Elements that share a scale and a zero";
        "residual-length" CountOrZero "Decoded tokens at which all are quantised anew";
        "decoded" CountOrZero "Of the sequence's tokens, those decoded after its prompt";
    },
    defaults: &[
        ("cache", "dynamic"),
        ("cache-backend", "quanto"),
        ("nbits", "4"),
        ("axis-key, axis-value", "0"),
        ("q-group-size", "64"),
        ("residual-length", "128"),
        ("decoded", "0: the whole sequence is a prompt"),
    ],
    formats: FORMATS,
    spread: Spread::Whole,
    answer,
    ..Profile::DEFAULT
};

/// The formats that a model may be loaded in, and its plain caches with it.
const MODEL_FORMATS: &[&str] = &["fp32", "fp16", "bf16"];

/// Those, and the formats of its quantised caches.
const FORMATS: &[&str] = &[
    "fp32",
    "fp16",
    "bf16",
    "fp8_e4m3",
    "quanto_int4",
    "quanto_int2",
    "hqq_int8",
    "hqq_int4",
    "hqq_int3",
    "hqq_int2",
    "hqq_int1",
];

/// The version whose rules these are.
const VERSION: &str = "5.23.0";

/// What its answer adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Facts {
    /// The version whose rules these are.
    pub version: &'static str,
    /// `dynamic`, `static` or `quantized`.
    pub cache: &'static str,
    /// Of a quantised cache, how it is.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub quantized: Option<Quantized>,
}

impl Facts {
    fn details(cache: Cache, quantized: Option<Quantized>) -> Details {
        Details::Transformers(Self { version: VERSION, cache: cache.name(), quantized }.into())
    }
}

fn answer(model: &Model, workload: &Workload, engine: &Engine) -> Result<Answer, Error> {
    refuse_layout(workload, engine)?;
    if let Some(answer) = quantized::answer(model, workload, engine)? {
        return Ok(answer);
    }
    let cache = engine.settings.choice("cache").and_then(Cache::named).unwrap_or(Cache::Dynamic);
    refuse(model, workload, cache, engine)?;
    let rules = Rules { model, workload, cache };
    let groups: Vec<LayerGroup> = model.layer_groups.iter().flat_map(|group| rules.as_seen(group)).collect();
    let estimate = sum_groups(model, &groups, workload, |group| rules.retained(&group.cache))?;
    let declared = model.checkpoint.quantization.as_ref().and_then(Quantization::declared_kv);
    let assumptions = declared.filter(|_| workload.kv_dtype == KvDtype::Auto).map(|declared| {
        format!("auto is {}: transformers does not read the {declared} of this checkpoint", model.dtype)
    });
    Ok(Answer {
        details: Some(Facts::details(cache, None)),
        gaps: rules.gaps()?,
        assumptions: assumptions.into_iter().collect(),
        ..Answer::of(estimate)
    })
}

named! {
    /// Which of its caches.
    pub(super) enum Cache {
        /// Grows with the sequence.
        Dynamic = "dynamic",
        /// Allocated at once for the whole sequence.
        Static = "static",
        /// Packed in fewer bits.
        Quantized = "quantized",
    }
}

/// Refuses what would spread a model or share its cache.
fn refuse_layout(workload: &Workload, engine: &Engine) -> Result<(), Error> {
    let layout = workload.layout;
    for (field, size) in [("--tp", layout.tp), ("--pp", layout.pp), ("--dcp", layout.dcp)] {
        let reason = "divides a model that transformers keeps whole here";
        engine.require(size <= 1, field, size, reason, "leave it out, or name another engine")?;
    }
    let (prefix, remedy) = (workload.shared_prefix, "leave it out, or name another engine");
    let reason = "is not shared: each row of a batch has its own entries";
    engine.require(prefix.is_none(), "--shared-prefix", prefix.unwrap_or_default().0, reason, remedy)
}

fn refuse(model: &Model, workload: &Workload, cache: Cache, engine: &Engine) -> Result<(), Error> {
    let format = workload.kv_dtype.or(model.dtype);
    for format in [format.k, format.v] {
        let (reason, remedy) = ("is not a format of its plain caches", "use bf16, fp16 or fp32, or --cache quantized");
        engine.require(is_one_of(format, MODEL_FORMATS), "--kv-dtype", format, reason, remedy)?;
    }
    let taken = cache == Cache::Dynamic || !model.has(CacheKind::Compressed);
    engine.require(taken, "--cache", "static", "is not supported for compressed attention", "use dynamic")
}

/// Why a full window or chunk of the dynamic cache is below the ideal.
const DROPPED: &str = "one entry less of a full window or chunk: the next token brings its own";

const REPEATED: &str = "KV heads are repeated for the query heads that share them";

/// The rules of one of its plain caches, for a workload on a model.
struct Rules<'a> {
    model: &'a Model,
    workload: &'a Workload,
    cache: Cache,
}

impl Rules<'_> {
    /// The steps from the live bytes, those of all layer groups with one reason in one.
    fn gaps(&self) -> Result<Vec<Gap>, Error> {
        let mut gaps = Vec::new();
        for group in &self.model.layer_groups {
            self.steps(group)?.gaps.into_iter().try_for_each(|gap| gap.join(&mut gaps))?;
        }
        Ok(gaps)
    }

    /// The steps of one layer group: each takes up one more rule, the last all of them.
    fn steps(&self, group: &LayerGroup) -> Result<Steps, Error> {
        let live = |cache: &LayerCache| ideal(cache, self.workload);
        let alone = |cache| [LayerGroup { layers: group.layers.clone(), cache }];
        let steps = Steps::from(self.bytes(&alone(group.cache), &live)?);
        let all_rules = self.bytes(&self.as_seen(group), &|cache| self.retained(cache))?;
        match group.cache {
            LayerCache::SlidingWindow { key_value, transformers_window: Some(window), .. } => {
                let sliding = LayerCache::SlidingWindow { key_value, window, transformers_window: Some(window) };
                let as_read = self.bytes(&alone(sliding), &live)?;
                let whole = self.bytes(&Self { cache: Cache::Static, ..*self }.as_seen(group), &live)?;
                let twice = "layers without compression keep their one vector as K and as V";
                steps
                    .to("window", as_read, "its configuration class reads another window")?
                    .to("vector_twice", whole, twice)?
                    .to("entries_dropped", all_rules, DROPPED)
            }
            LayerCache::SlidingWindow { transformers_window: None, .. } => {
                steps.to("windows", all_rules, "its class knows no window: every token is kept")
            }
            LayerCache::ChunkedLocal { .. } => steps.to("entries_dropped", all_rules, DROPPED),
            LayerCache::Recurrent(state) => {
                let (_, format) = self.stored(state);
                let in_its_format = |_: &LayerCache| Ok(of_state(state, state.columns(), format));
                let stored = self.bytes(&alone(group.cache), &in_its_format)?;
                steps
                    .to("state_format", stored, "states are in fp32 or the model's format, whatever the file names")?
                    .to("convolution", all_rules, "convolutions keep all columns of their kernel, not one less")
            }
            LayerCache::Compressed { .. } | LayerCache::Indexer { .. } => steps.to(
                "compressor_state",
                all_rules,
                "only whole entries, and of a compressor the tokens that none covers, in the model's format",
            ),
            LayerCache::CrossAttention { .. } => {
                steps.to("no_encoder_input", all_rules, "without an image there is nothing to keep")
            }
            LayerCache::FullAttention { .. } => steps.to("repeated_heads", all_rules, REPEATED),
            LayerCache::Latent { .. } | LayerCache::Shared | LayerCache::None => Ok(steps),
        }
    }

    fn bytes(
        &self,
        groups: &[LayerGroup],
        retained: &dyn Fn(&LayerCache) -> Result<Retained, Error>,
    ) -> Result<Bytes, Error> {
        Ok(sum_groups(self.model, groups, self.workload, |group| retained(&group.cache))?.bytes)
    }

    /// The group as transformers caches it.
    fn as_seen(&self, group: &LayerGroup) -> Vec<LayerGroup> {
        let bound = |bound: Tokens| match self.cache {
            Cache::Dynamic => Tokens(bound.0.saturating_sub(1)),
            Cache::Static | Cache::Quantized => bound,
        };
        let with = |cache| vec![LayerGroup { layers: group.layers.clone(), cache }];
        match group.cache {
            LayerCache::FullAttention { key_value: KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim } } => {
                let num_key_value_heads = self.model.checkpoint.transformers_kv_heads.unwrap_or(num_key_value_heads);
                let key_value = KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim };
                with(LayerCache::FullAttention { key_value })
            }
            cache @ LayerCache::SlidingWindow { transformers_window: None, .. } => with(cache.keeping_every_token()),
            LayerCache::SlidingWindow { key_value, transformers_window: Some(window), .. } => {
                let (transformers_window, window) = (Some(window), bound(window));
                let sliding = |key_value| LayerCache::SlidingWindow { key_value, window, transformers_window };
                match key_value {
                    KeyValue::Vector { elements } if self.model.has(CacheKind::Compressed) => {
                        vectors_twice(self.model, group, elements, sliding)
                    }
                    _ => with(sliding(key_value)),
                }
            }
            LayerCache::ChunkedLocal { key_value, chunk } => {
                with(LayerCache::ChunkedLocal { key_value, chunk: bound(chunk) })
            }
            cache => with(cache),
        }
    }

    /// What one layer keeps of one sequence: the ideal, but for states.
    fn retained(&self, cache: &LayerCache) -> Result<Retained, Error> {
        match *cache {
            LayerCache::CrossAttention { optional: true, .. } if self.workload.encoder_len.is_none() => {
                Ok(Retained::NOTHING)
            }
            LayerCache::Recurrent(state) => {
                let (columns, format) = self.stored(state);
                Ok(of_state(state, columns, format))
            }
            LayerCache::Compressed { head_dim, ratio, state_elements } => {
                // Two scores and two halves for each row of a window that overlaps: the ideal's state says whether it does.
                let plain = (Exact::from(ratio) * head_dim * 2u64).wide()?;
                let overlap = if u128::from(state_elements) > plain { 2 } else { 1 };
                self.whole_entries(ratio, head_dim, overlap)
            }
            LayerCache::Indexer { index_head_dim, ratio } if ratio > 1 => self.whole_entries(ratio, index_head_dim, 2),
            LayerCache::FullAttention { .. }
            | LayerCache::SlidingWindow { .. }
            | LayerCache::ChunkedLocal { .. }
            | LayerCache::Latent { .. }
            | LayerCache::Indexer { .. }
            | LayerCache::CrossAttention { .. }
            | LayerCache::Shared
            | LayerCache::None => ideal(cache, self.workload),
        }
    }

    /// The entries that cover `ratio` tokens, and the rows of tokens that none covers yet, each with a score.
    fn whole_entries(&self, ratio: u64, dim: u64, overlap: u64) -> Result<Retained, Error> {
        let (seq_len, ratio_or_one) = (Exact::from(self.workload.seq_len), ratio.max(1));
        let open = seq_len % ratio_or_one * dim * overlap;
        // The half of the last window that the next one overlaps.
        let overlapped = if overlap > 1 && self.workload.seq_len.0 >= ratio { ratio } else { 0 };
        let elements = ((open + Exact::from(overlapped) * dim) * 2u64).get()?;
        Ok(Retained {
            entries: (seq_len / ratio_or_one).tokens()?,
            grows_every: Some(ratio_or_one),
            state: State::Replicated { elements, format: self.model.dtype },
        })
    }

    /// The columns that a convolution keeps, and the format of the memory.
    fn stored(&self, state: RecurrentState) -> (Exact, ElementFormat) {
        let kernel = Exact::from(state.convolution.map_or(0, |convolution| convolution.kernel));
        match state.mechanism {
            M::RgLru | M::Rwkv => (state.columns(), ElementFormat::FP32),
            M::Cca => (state.columns(), self.model.dtype),
            M::Lightning | M::Mlstm => (kernel, self.model.dtype),
            M::Mamba1 | M::Mamba2 | M::GatedDeltaNet | M::Kda | M::ShortConvolution => (kernel, ElementFormat::FP32),
        }
    }
}

fn of_state(state: RecurrentState, columns: Exact, format: ElementFormat) -> Retained {
    let memory = state.memory.map(|memory| Memory { format, ..memory });
    let state = State::Recurrent { state: RecurrentState { memory, ..state }, columns };
    Retained { state, ..Retained::NOTHING }
}

/// The layers of a group that also compress, which keep one vector, and those that do not, which keep it as K and as V.
fn vectors_twice(
    model: &Model,
    group: &LayerGroup,
    elements: u64,
    sliding: impl Fn(KeyValue) -> LayerCache,
) -> Vec<LayerGroup> {
    let once = KeyValue::Vector { elements };
    let twice = KeyValue::Heads { num_key_value_heads: 1, head_dim: elements, v_head_dim: elements };
    let others = model.layer_groups.iter().filter(|group| group.cache.cache_kind() == CacheKind::Compressed);
    let compresses = |layer: &&u32| others.clone().any(|group| group.layers.binary_search(layer).is_ok());
    let (single, double) = group.layers.iter().partition::<Vec<u32>, _>(compresses);
    let parts = [(single, once), (double, twice)].into_iter().filter(|(layers, _)| !layers.is_empty());
    parts.map(|(layers, key_value)| LayerGroup { layers, cache: sliding(key_value) }).collect()
}
