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
use super::{Allocation, Answer, Details, Engine, Gap, Profile, Setting, Spread, ValueKind};
use crate::estimate::{Estimate, Kept, State, Workload, ideal, sum};
use crate::model::{KeyValue, LayerCache, LayerGroup, Mechanism, Model, Quantization, RecurrentState};
use crate::units::{ElementFormat, Error, KvDtype, Tokens};

pub(super) const PROFILE: Profile = Profile {
    name: "transformers",
    versions: &["5.23"],
    about: "the tensors of its dynamic, static or quantised cache",
    replayed: "1,202 runs of 118 configurations and 119 of quantised caches, every byte equal",
    heading: "Settings of transformers",
    settings: &[
        Setting::new("cache", ValueKind::Choice(&["dynamic", "static", "quantized"]), "Which of its caches"),
        Setting::new("cache-backend", ValueKind::Choice(&["quanto", "hqq", "fp8"]), "What quantises (backend)"),
        Setting::new("nbits", ValueKind::Count, "Bits of a quantised element"),
        Setting::new("axis-key", ValueKind::Choice(&["0", "1", "-1"]), "Axis along which K is grouped"),
        Setting::new("axis-value", ValueKind::Choice(&["0", "1", "-1"]), "Axis along which V is grouped"),
        Setting::new("q-group-size", ValueKind::Count, "Elements that share a scale and a zero"),
        Setting::new("residual-length", ValueKind::CountOrZero, "Decoded tokens at which all are quantised anew"),
        Setting::new("decoded", ValueKind::CountOrZero, "Of the sequence's tokens, those decoded after its prompt"),
    ],
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
    allocation: Allocation::Workload,
    spread: Spread::Whole,
    answer,
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

fn answer(model: &Model, workload: &Workload, engine: &Engine) -> Result<Answer, Error> {
    let cache = match engine.settings.choice("cache") {
        Some("static") => Cache::Static,
        _ => Cache::Dynamic,
    };
    refuse_layout(workload, engine)?;
    if let Some((answer, quantized)) = quantized::answer(model, workload, engine)? {
        let facts = Facts { version: VERSION, cache: "quantized", quantized: Some(quantized) };
        return Ok(Answer { details: Some(Details::Transformers(facts)), ..answer });
    }
    let facts = Facts { version: VERSION, cache: cache.name(), quantized: None };
    let declared = model.checkpoint.quantization.as_ref().and_then(Quantization::declared_kv);
    let assumptions = declared.filter(|_| workload.kv_dtype == KvDtype::Auto).map(|declared| {
        format!("auto is {}: transformers does not read the {declared} of this checkpoint", model.dtype)
    });
    let estimate = estimate(model, workload, cache, engine)?;
    let gaps = gaps(model, workload, cache)?;
    Ok(Answer {
        details: Some(Details::Transformers(facts)),
        gaps,
        assumptions: assumptions.into_iter().collect(),
        ..Answer::of(estimate)
    })
}

/// Which of its caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cache {
    /// Grows with the sequence.
    #[default]
    Dynamic,
    /// Allocated at once for the whole sequence.
    Static,
}

impl Cache {
    /// The name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dynamic => "dynamic",
            Self::Static => "static",
        }
    }
}

/// What `workload` on `model` takes; what it has no cache for is refused.
fn estimate(model: &Model, workload: &Workload, cache: Cache, engine: &Engine) -> Result<Estimate, Error> {
    refuse(model, workload, cache, engine)?;
    let seen = Model {
        layer_groups: model.layer_groups.iter().flat_map(|group| as_seen(model, group, cache)).collect(),
        ..model.clone()
    };
    sum(&seen, workload, |group| kept(model.dtype, &group.cache, workload))
}

/// Refuses what would spread a model or share its cache.
fn refuse_layout(workload: &Workload, engine: &Engine) -> Result<(), Error> {
    let layout = workload.layout;
    for (field, size) in [("--tp", layout.tp), ("--pp", layout.pp), ("--dcp", layout.dcp)] {
        if size > 1 {
            let reason = "divides a model that transformers keeps whole here";
            return Err(engine.refusal(field, size, reason, "leave it out, or name another engine"));
        }
    }
    if let Some(prefix) = workload.shared_prefix {
        let reason = "is shared by no two rows of a batch, each of which has entries of its own";
        return Err(engine.refusal("--shared-prefix", prefix.0, reason, "leave it out, or name another engine"));
    }
    Ok(())
}

fn refuse(model: &Model, workload: &Workload, cache: Cache, engine: &Engine) -> Result<(), Error> {
    let format = workload.kv_dtype.or(model.dtype);
    let is_plain = |format: &ElementFormat| format.name().is_some_and(|name| MODEL_FORMATS.contains(&name));
    if let Some(format) = [format.k, format.v].into_iter().find(|format| !is_plain(format)) {
        let reason = "is not a format of its plain caches";
        return Err(engine.refusal("--kv-dtype", format, reason, "use bf16, fp16 or fp32, or --cache quantized"));
    }
    let compresses = model.layer_groups.iter().any(|group| matches!(group.cache, LayerCache::Compressed { .. }));
    if compresses && cache == Cache::Static {
        return Err(engine.refusal("--cache", "static", "is not supported for compressed attention", "use dynamic"));
    }
    Ok(())
}

/// The steps from the live bytes, those of all layer groups with one reason in one.
fn gaps(model: &Model, workload: &Workload, cache: Cache) -> Result<Vec<Gap>, Error> {
    let mut gaps: Vec<Gap> = Vec::new();
    for group in &model.layer_groups {
        for gap in group_gaps(model, group, workload, cache)? {
            match gaps.iter_mut().find(|known| (known.kind, &known.reason) == (gap.kind, &gap.reason)) {
                Some(known) => known.bytes = known.bytes.saturating_add(gap.bytes),
                None => gaps.push(gap),
            }
        }
    }
    Ok(gaps)
}

/// The steps of one layer group: each takes up one more rule, the last all of them.
fn group_gaps(model: &Model, group: &LayerGroup, workload: &Workload, cache: Cache) -> Result<Vec<Gap>, Error> {
    let bytes = |layer_groups: Vec<LayerGroup>, kept: &dyn Fn(&LayerCache) -> Result<Kept, Error>| {
        let part = Model { layer_groups, ..model.clone() };
        Ok::<_, Error>(sum(&part, workload, |group| kept(&group.cache))?.bytes)
    };
    let live = |cache: &LayerCache| ideal(cache, workload);
    let alone = |cache| vec![LayerGroup { layers: group.layers.clone(), cache }];
    let all_rules = bytes(as_seen(model, group, cache), &|cache| kept(model.dtype, cache, workload))?;
    let ideal_bytes = bytes(vec![group.clone()], &live)?;
    let step = |kind, from, to, reason: &str| Gap::step(kind, from, to, reason.into());
    let steps = match group.cache {
        LayerCache::SlidingWindow { key_value, transformers_window: Some(window), .. } => {
            let sliding = LayerCache::SlidingWindow { key_value, window, transformers_window: Some(window) };
            let as_read = bytes(alone(sliding), &live)?;
            let whole = bytes(as_seen(model, group, Cache::Static), &live)?;
            vec![
                step("window", ideal_bytes, as_read, "its configuration class reads another window"),
                step("vector_twice", as_read, whole, "layers without compression keep their one vector as K and as V"),
                step("entries_dropped", whole, all_rules, DROPPED),
            ]
        }
        LayerCache::ChunkedLocal { .. } => vec![step("entries_dropped", ideal_bytes, all_rules, DROPPED)],
        LayerCache::SlidingWindow { .. } => {
            vec![step("windows", ideal_bytes, all_rules, "its class knows no window: every token is kept")]
        }
        LayerCache::Recurrent(state) => {
            let in_its_format = |cache: &LayerCache| {
                let kept = ideal(cache, workload)?;
                let State::Recurrent(_, columns) = kept.state else { return Ok(kept) };
                Ok(Kept { state: State::Recurrent(as_stored(state, model.dtype), columns), ..kept })
            };
            let stored = bytes(vec![group.clone()], &in_its_format)?;
            vec![
                step(
                    "state_format",
                    ideal_bytes,
                    stored,
                    "states are in fp32 or the model's format, whatever the file names",
                ),
                step("convolution", stored, all_rules, "convolutions keep all columns of their kernel, not one less"),
            ]
        }
        LayerCache::Compressed { .. } | LayerCache::Indexer { .. } => vec![step(
            "compressor_state",
            ideal_bytes,
            all_rules,
            "only whole entries, and of a compressor the tokens that none covers, in the model's format",
        )],
        LayerCache::CrossAttention { .. } => {
            vec![step("no_encoder_input", ideal_bytes, all_rules, "without an image there is nothing to keep")]
        }
        LayerCache::FullAttention { .. } => vec![step(
            "repeated_heads",
            ideal_bytes,
            all_rules,
            "KV heads are repeated for the query heads that share them",
        )],
        LayerCache::Latent { .. } | LayerCache::Shared | LayerCache::None => Vec::new(),
    };
    Ok(steps.into_iter().flatten().collect())
}

/// Why a full window or chunk of the dynamic cache is below the ideal.
const DROPPED: &str = "one entry less of a full window or chunk: the next token brings its own";

/// The group as transformers caches it.
fn as_seen(model: &Model, group: &LayerGroup, cache: Cache) -> Vec<LayerGroup> {
    let bound = |bound: Tokens| match cache {
        Cache::Dynamic => Tokens(bound.0.saturating_sub(1)),
        Cache::Static => bound,
    };
    let with = |cache| vec![LayerGroup { layers: group.layers.clone(), cache }];
    match group.cache {
        LayerCache::FullAttention { key_value: KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim } } => {
            let num_key_value_heads = model.checkpoint.transformers_kv_heads.unwrap_or(num_key_value_heads);
            with(LayerCache::FullAttention { key_value: KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim } })
        }
        LayerCache::SlidingWindow { key_value, transformers_window: None, .. } => {
            with(LayerCache::FullAttention { key_value })
        }
        LayerCache::SlidingWindow { key_value, transformers_window: Some(window), .. } => {
            let sliding = |key_value| LayerCache::SlidingWindow {
                key_value,
                window: bound(window),
                transformers_window: Some(window),
            };
            let compresses =
                model.layer_groups.iter().any(|group| matches!(group.cache, LayerCache::Compressed { .. }));
            let KeyValue::Vector { elements } = key_value else { return with(sliding(key_value)) };
            if !compresses {
                return with(sliding(key_value));
            }
            let twice = KeyValue::Heads { num_key_value_heads: 1, head_dim: elements, v_head_dim: elements };
            let (once, plain) = group.layers.iter().partition::<Vec<u32>, _>(|layer| is_compressed(model, **layer));
            [(once, key_value), (plain, twice)]
                .into_iter()
                .filter(|(layers, _)| !layers.is_empty())
                .map(|(layers, key_value)| LayerGroup { layers, cache: sliding(key_value) })
                .collect()
        }
        LayerCache::ChunkedLocal { key_value, chunk } => {
            with(LayerCache::ChunkedLocal { key_value, chunk: bound(chunk) })
        }
        other => with(other),
    }
}

fn is_compressed(model: &Model, layer: u32) -> bool {
    let of_layer = |group: &&LayerGroup| group.layers.binary_search(&layer).is_ok();
    model.layer_groups.iter().filter(of_layer).any(|group| matches!(group.cache, LayerCache::Compressed { .. }))
}

/// What one layer keeps of one sequence: the ideal, but for states.
fn kept(model_format: ElementFormat, cache: &LayerCache, workload: &Workload) -> Result<Kept, Error> {
    let seq_len = workload.seq_len.0;
    let whole_entries = |kept: Kept, ratio: u64, dim: u64, overlap: u64| {
        let rows = seq_len.checked_rem(ratio).unwrap_or_default();
        let open = rows.checked_mul(dim)?.checked_mul(overlap)?;
        // The half of the last window that the next one overlaps.
        let overlapped = if overlap > 1 && seq_len >= ratio { ratio.checked_mul(dim)? } else { 0 };
        // Each row has a score.
        let elements = open.checked_add(overlapped)?.checked_mul(2)?;
        let entries = Tokens(seq_len.checked_div(ratio).unwrap_or_default());
        Some(Kept { entries, state: State::Replicated(elements, model_format), ..kept })
    };
    match *cache {
        LayerCache::CrossAttention { optional: true, .. } if workload.encoder_len.is_none() => {
            Ok(Kept { entries: Tokens(0), grows_every: None, state: State::None })
        }
        LayerCache::Recurrent(state) => {
            let kept = ideal(cache, workload)?;
            Ok(Kept { state: State::Recurrent(as_stored(state, model_format), columns(state)), ..kept })
        }
        LayerCache::Compressed { head_dim, ratio, state_elements } => {
            // Two scores and two halves for each row of a window that overlaps: the ideal's state says whether it does.
            let plain = ratio.saturating_mul(head_dim).saturating_mul(2);
            let overlap = if state_elements > plain { 2 } else { 1 };
            whole_entries(ideal(cache, workload)?, ratio, head_dim, overlap).ok_or_else(Error::too_large)
        }
        LayerCache::Indexer { index_head_dim, ratio } if ratio > 1 => {
            whole_entries(ideal(cache, workload)?, ratio, index_head_dim, 2).ok_or_else(Error::too_large)
        }
        _ => ideal(cache, workload),
    }
}

/// Columns that a convolution keeps.
fn columns(state: RecurrentState) -> u64 {
    let kernel = state.convolution.map_or(0, |convolution| convolution.kernel);
    match state.mechanism {
        Mechanism::RgLru | Mechanism::Rwkv | Mechanism::Cca => kernel.saturating_sub(1),
        _ => kernel,
    }
}

/// The state in the formats it is stored in.
fn as_stored(state: RecurrentState, model_format: ElementFormat) -> RecurrentState {
    let format = match state.mechanism {
        Mechanism::Lightning | Mechanism::Mlstm | Mechanism::Cca => model_format,
        _ => ElementFormat::FP32,
    };
    let memory = state.memory.map(|memory| crate::model::Memory { format, ..memory });
    RecurrentState { memory, ..state }
}
