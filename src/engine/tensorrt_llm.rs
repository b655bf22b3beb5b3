//! TensorRT-LLM, as it was **read and not run**: `tensorrt_llm/_torch/pyexecutor/_util.py` and
//! `kv_cache/kv_cache_manager_v2.py` at commit 00043967, `resource_manager.py` at commit 001541ba, and the published page of
//! `KvCacheConfig`. They are snapshots, not a release, and no figure of it was there to compare with.
//!
//! - A block holds `tokens_per_block` tokens of every layer of its pool, 32 unless set, a power of two. A request takes
//!   ⌈tokens / `tokens_per_block`⌉ of them (`KVCacheManager`).
//! - A token costs `kv_factor · heads · head_dim` elements a layer: `kv_factor` is 2, and 1 for MLA, whose `head_dim` is
//!   `kv_lora_rank + qk_rope_head_dim`. fp8 and int8 are a byte, nvfp4 half a byte and a byte for 16, others two bytes
//!   (`get_cache_bytes_per_token`).
//! - KV heads are divided over the tensor parallel ranks; MLA is not. Its own *estimate* of a token divides `heads · head_dim`
//!   as integers, which is too little once there are more ranks than heads (`get_cache_size_per_token`).
//! - With `enable_attention_dp` each rank counts as one of one: it has a pool and requests of its own.
//! - Layers with one window share a pool. The window is `max_attention_window`, else the model's where `layer_types` says
//!   which layers slide; layers keep every token otherwise. A request takes ⌈min(S, W) / `tokens_per_block`⌉ blocks of the pool.
//! - `sink_token_length` tokens are kept beside the window, and the rest of their last block stays empty (the bubble).
//! - A pool of `memory` bytes has ⌊⌊memory / token⌋ / `tokens_per_block`⌋ blocks; all ranks take the least of them.
//!
//! What was not read is refused: state pools, index keys and compressed entries, cross-attention's share, shared layers,
//! drafters, an uneven pipeline, context parallel ranks, prefixes held in common, and what `auto` makes of a checkpoint's
//! own KV scheme. Several pools share the memory by a rule that was not read: then there is no capacity.

use serde::Serialize;

use super::serve::Options;
use super::setting::settings;
use super::{Allocation, Answer, Capacity, Details, Double, Engine, Profile, Rule, Share, Steps, is_one_of, longest};
use crate::estimate::{Estimate, Layout, Retained, Workload, estimate, sum_groups};
use crate::model::Mechanism::{
    Cca, GatedDeltaNet, Kda, Lightning, Mamba1, Mamba2, Mlstm, RgLru, Rwkv, ShortConvolution,
};
use crate::model::{LayerCache, LayerGroup, Model, Quantization};
use crate::units::{Bytes, Error, Exact, KvDtype, Tokens};

pub(super) const PROFILE: Profile = Profile {
    name: "tensorrt-llm",
    versions: &["00043967"],
    about: "blocks of its window pools, as its source was read",
    replayed: "nothing: rules read from its source at commits 00043967 and 001541ba (no release), not replayed",
    heading: "Settings of TensorRT-LLM",
    settings: settings! {
        "tokens-per-block" Count "Tokens of a block, a power of two [default: 32]";
        "max-attention-window" Count
            "Tokens that every layer keeps [default: the model's windows where its layer_types name them]";
        "sink-token-length" CountOrZero "Tokens kept beside --max-attention-window [default: 0]";
        "enable-attention-dp" Switch "Each tensor parallel rank keeps whole requests of its own";
    },
    defaults: &[
        ("tokens-per-block", "32"),
        ("max-attention-window", "the model's windows where its layer_types name them"),
        ("sink-token-length", "0"),
        ("enable-attention-dp", "off"),
        ("free_gpu_memory_fraction", "0.9, not applied: --memory is what the cache gets"),
    ],
    formats: FORMATS,
    allocation: Allocation::Pool,
    answer,
    share: |_| Ok(SHARE),
    overhead: |_, _, engine| {
        Err(engine.unknown_overhead("no public start-up logs say what it holds beside weights and cache"))
    },
    pools_per_replica: |engine, layout| if attention_dp(engine) { layout.tp } else { 1 },
    serve: |served| served.with(&OPTIONS),
    ..Profile::DEFAULT
};

const SHARE: Share = Share {
    rule: Rule::OfFree,
    default: "0.9",
    source: "free_gpu_memory_fraction of TensorRT-LLM, llmapi/llm_args.py, KvCacheConfig",
};

const OPTIONS: Options = Options {
    program: "trtllm-serve",
    tp: "--tp_size",
    pp: "--pp_size",
    dp: None,
    dcp: None,
    seq_len: "--max_seq_len",
    utilization: "--kv_cache_free_gpu_memory_fraction",
    kv_dtype: "--kv_cache_dtype",
    formats: &[],
    // They are given in a file.
    without_option: &["tokens-per-block", "max-attention-window", "sink-token-length", "enable-attention-dp"],
};

fn attention_dp(engine: &Engine) -> bool {
    engine.settings.switch("enable-attention-dp").unwrap_or_default()
}

/// Said with every answer.
const NOT_REPLAYED: &str =
    "rules read from its source (commits 00043967 and 001541ba, no release), not replayed against it";

/// What its answer adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Facts {
    /// The snapshot whose rules these are.
    pub version: &'static str,
    /// False: the rules were read, and never compared with a run.
    pub replayed: bool,
    /// Tokens of a block.
    pub tokens_per_block: u64,
    /// Tokens kept beside the window, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink_token_length: Option<u64>,
    /// Whether each tensor parallel rank has requests of its own.
    pub attention_dp: bool,
    /// The pools, one a window.
    pub pools: Vec<Pool>,
}

/// Layers that share a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Pool {
    /// Its window; absent where layers keep every token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// How many layers.
    pub layers: usize,
    /// Blocks of one request.
    pub blocks_per_request: u64,
    /// A block of all its layers, on the device that holds the most.
    pub bytes_per_block: u64,
}

/// The formats whose bytes are known, by our names.
const FORMATS: &[&str] = &["fp16", "bf16", "fp8", "fp8_e4m3", "int8", "nvfp4"];

fn answer(model: &Model, workload: &Workload, engine: &Engine) -> Result<Answer, Error> {
    refuse_layout(model, workload, engine)?;
    refuse_formats(model, workload, engine)?;
    refuse_layers(model, engine)?;
    let rules = Rules::new(model, engine)?;
    let layout = workload.layout;
    let groups = &model.layer_groups;
    let blocks = rules.sum(model, groups, workload, |window| rules.in_blocks(window, workload.seq_len))?;
    let attention_dp = rules.attention_dp && layout.tp > 1;
    let total = if attention_dp { rules.by_request(model, workload)? } else { blocks.clone() };

    let ideal = estimate(model, workload)?;
    let kept = rules.sum(model, groups, workload, |window| rules.kept(window, workload.seq_len))?;
    let gaps = Steps::from(ideal.bytes)
        .to("windows", kept.bytes, rules.why_kept())?
        .to("pages", blocks.bytes, rules.why_blocks())?
        .to("attention_dp", total.bytes, "a request is whole on one rank, and on no other")?
        .gaps;
    let pools = rules.pools(model, workload)?;
    let mut warnings = Vec::new();
    let capacity = match (workload.memory, pools.as_slice()) {
        (None, _) => None,
        (Some(memory), [pool]) => Some(rules.capacity(memory, pool, workload)?),
        (Some(_), pools) => {
            let count = pools.len();
            warnings.push(format!("no capacity: how the memory is divided over {count} window pools was not read"));
            None
        }
    };
    let mut kv_heads = groups.iter().filter_map(|group| group.cache.key_value()?.num_key_value_heads());
    if workload.memory.is_some() && !attention_dp && kv_heads.any(|heads| heads < layout.tp) {
        let text = "more ranks than KV heads: its own estimate of a token is below what it stores; the capacity is \
                    counted from what it stores";
        warnings.push(text.into());
    }
    let facts = Facts {
        version: engine.version,
        replayed: false,
        tokens_per_block: rules.tokens_per_block,
        sink_token_length: Some(rules.sinks).filter(|&sinks| sinks > 0),
        attention_dp: rules.attention_dp,
        pools,
    };
    Ok(Answer {
        details: Some(Details::TensorrtLlm(facts.into())),
        capacity,
        gaps,
        assumptions: [NOT_REPLAYED.to_owned()].into_iter().chain(rules.assumptions(model)).collect(),
        warnings,
        ..Answer::of(total)
    })
}

/// Ways to spread and to speed up a model whose rules were not read.
fn refuse_layout(model: &Model, workload: &Workload, engine: &Engine) -> Result<(), Error> {
    let Layout { pp, dcp, .. } = workload.layout;
    let layers = model.num_hidden_layers;
    engine.require(dcp <= 1, "--dcp", dcp, "is a split of tokens whose rule was not read", "leave it out")?;
    let reason = format_args!("does not divide the {layers} layers, and how it splits them was not read");
    engine.require(u64::from(layers).is_multiple_of(pp), "--pp", pp, reason, "use one that divides them")?;
    let prefix = workload.shared_prefix;
    let reason = "is a sharing of blocks whose rule was not read";
    engine.require(prefix.is_none(), "--shared-prefix", prefix.unwrap_or_default().0, reason, "leave it out")?;
    if let Some(drafter) = &model.drafter {
        let reason = "has a cache manager of its own whose rules were not read";
        let remedy = "leave it out, or name another engine";
        return Err(engine.refusal("--speculative-method", drafter.method.name(), reason, remedy));
    }
    Ok(())
}

/// Formats that it does not take, and the checkpoint's own scheme, whose rule was not read.
fn refuse_formats(model: &Model, workload: &Workload, engine: &Engine) -> Result<(), Error> {
    let declared = model.checkpoint.quantization.as_ref().and_then(Quantization::declared_kv);
    let decides = declared.is_some() && workload.kv_dtype == KvDtype::Auto;
    let reason = "on a checkpoint with a KV scheme of its own is a choice whose rule was not read";
    engine.require(!decides, "--kv-dtype", "auto", reason, "name the format: fp8, nvfp4 or bf16")?;
    let stored = workload.kv_dtype.or(model.dtype);
    let taken = stored.k == stored.v && is_one_of(stored.k, FORMATS);
    let remedy = "use bf16, fp16, fp8, int8 or nvfp4";
    engine.require(taken, "--kv-dtype", stored, "is not a format of its cache", remedy)
}

/// Layers whose rules were not read.
fn refuse_layers(model: &Model, engine: &Engine) -> Result<(), Error> {
    let refusal = |reason: &str| Err(engine.refusal("MODEL", &model.name, reason, "name another engine"));
    for group in &model.layer_groups {
        return refusal(match group.cache {
            LayerCache::FullAttention { .. } | LayerCache::SlidingWindow { .. } | LayerCache::ChunkedLocal { .. } => {
                continue;
            }
            LayerCache::Latent { .. } | LayerCache::None => continue,
            LayerCache::Recurrent(state) => match state.mechanism {
                Mamba1 | Mamba2 | GatedDeltaNet | Kda | Lightning | ShortConvolution | RgLru | Rwkv | Cca | Mlstm => {
                    "has recurrent states, whose pool's rules were not read"
                }
            },
            LayerCache::Indexer { .. } => "has index keys, whose layout was not read",
            LayerCache::Compressed { .. } => "has compressed entries, whose layout was not read",
            LayerCache::CrossAttention { .. } => "has cross-attention, whose share of the pool was not read",
            LayerCache::Shared => "has layers without a cache of their own, whose rule was not read",
        });
    }
    let dims = model.layer_groups.iter().filter_map(|group| group.cache.key_value()?.head_dims());
    let mut dims = dims.flat_map(|(k, v)| [k, v]);
    let first = dims.next();
    if dims.any(|dim| Some(dim) != first) {
        let differ =
            "has head dimensions that differ, between K and V or between layers; the rules that were read have one";
        return refusal(differ);
    }
    Ok(())
}

/// The rules in force.
struct Rules {
    tokens_per_block: u64,
    /// `max_attention_window`
    window: Option<u64>,
    sinks: u64,
    attention_dp: bool,
    /// Whether the configuration says which layers slide.
    windows_named: bool,
}

impl Rules {
    fn new(model: &Model, engine: &Engine) -> Result<Self, Error> {
        let settings = &engine.settings;
        let tokens_per_block = settings.count("tokens-per-block").unwrap_or(32);
        let (reason, remedy) = ("is not a power of two", "use 16, 32, 64 or 128");
        engine.require(tokens_per_block.is_power_of_two(), "--tokens-per-block", tokens_per_block, reason, remedy)?;
        let window = settings.count("max-attention-window");
        let sinks = settings.count("sink-token-length").unwrap_or_default();
        let reason = "keeps tokens in addition to a window that is not given";
        let has_window = sinks == 0 || window.is_some();
        engine.require(has_window, "--sink-token-length", sinks, reason, "add --max-attention-window")?;
        let windows_named = model.checkpoint.lists_layer_types;
        Ok(Self { tokens_per_block, window, sinks, attention_dp: attention_dp(engine), windows_named })
    }

    /// The window of a layer's pool; `None` where it keeps every token.
    fn window_of(&self, cache: &LayerCache) -> Option<u64> {
        let own = if let LayerCache::SlidingWindow { window, .. } = *cache { Some(window.0) } else { None };
        self.window.or(own.filter(|_| self.windows_named))
    }

    /// Tokens that a layer keeps of one sequence at most, sinks included.
    fn bound(&self, window: Option<u64>) -> Option<Exact> {
        window.map(|window| Exact::from(window) + self.sinks)
    }

    /// Tokens that a layer keeps of one sequence.
    fn kept(&self, window: Option<u64>, seq_len: Tokens) -> Exact {
        self.bound(window).map_or(seq_len.into(), |bound| bound.min(seq_len))
    }

    /// Blocks of one request in the pool of a window: the sinks fill theirs with a bubble, once there are tokens past them.
    fn blocks(&self, window: Option<u64>, seq_len: Tokens) -> Exact {
        let in_last_block = Exact::from(self.sinks) % self.tokens_per_block;
        let has_bubble = in_last_block != Exact::ZERO && seq_len.0 > self.sinks;
        let bubble = if has_bubble { Exact::from(self.tokens_per_block) - in_last_block } else { Exact::ZERO };
        (self.kept(window, seq_len) + bubble).div_ceil(self.tokens_per_block)
    }

    /// Tokens of those blocks.
    fn in_blocks(&self, window: Option<u64>, seq_len: Tokens) -> Exact {
        self.blocks(window, seq_len) * self.tokens_per_block
    }

    /// The bytes of the `entries` that each layer keeps of one sequence in the pool of its window.
    fn sum(
        &self,
        model: &Model,
        groups: &[LayerGroup],
        workload: &Workload,
        entries: impl Fn(Option<u64>) -> Exact,
    ) -> Result<Estimate, Error> {
        sum_groups(model, groups, workload, |group| {
            if !group.cache.follows_the_sequence() {
                return Ok(Retained::NOTHING);
            }
            let window = self.window_of(&group.cache);
            let grows = match self.bound(window) {
                Some(bound) => u128::from(workload.seq_len.0) < bound.wide()?,
                None => true,
            };
            Ok(Retained { entries: entries(window).tokens()?, grows_every: grows.then_some(1), ..Retained::NOTHING })
        })
    }

    /// With attention DP: every request whole on one of the ranks, as even as they go.
    fn by_request(&self, model: &Model, workload: &Workload) -> Result<Estimate, Error> {
        let whole = Workload { layout: Layout { tp: 1, ..workload.layout }, ..*workload };
        let fullest = Workload { batch: workload.batch.div_ceil(workload.layout.tp.max(1)), ..whole };
        let of = |workload: &Workload| {
            self.sum(model, &model.layer_groups, workload, |window| self.in_blocks(window, workload.seq_len))
        };
        Ok(Estimate { bytes_per_gpu: of(&fullest)?.bytes_per_gpu, ..of(&whole)? })
    }

    /// The pools, in the order of the layer groups: their blocks are summed as one request of one block.
    fn pools(&self, model: &Model, workload: &Workload) -> Result<Vec<Pool>, Error> {
        let layout = Layout { tp: if self.attention_dp { 1 } else { workload.layout.tp }, ..workload.layout };
        let one = Workload { batch: 1, layout, ..*workload };
        let mut pools: Vec<(Option<u64>, Vec<LayerGroup>)> = Vec::new();
        for group in model.layer_groups.iter().filter(|group| group.cache.follows_the_sequence()) {
            let window = self.window_of(&group.cache);
            match pools.iter_mut().find(|(known, _)| *known == window) {
                Some((_, groups)) => groups.push(group.clone()),
                None => pools.push((window, vec![group.clone()])),
            }
        }
        let pool = |(window, groups): (Option<u64>, Vec<LayerGroup>)| {
            let block = self.sum(model, &groups, &one, |_| self.tokens_per_block.into())?;
            Ok(Pool {
                window,
                layers: groups.iter().map(|group| group.layers.len()).sum(),
                blocks_per_request: self.blocks(window, workload.seq_len).get()?,
                bytes_per_block: block.bytes_per_gpu.0,
            })
        };
        pools.into_iter().map(pool).collect()
    }

    /// What `memory` bytes on each device make: the rank with the largest blocks has the fewest.
    fn capacity(&self, memory: Bytes, pool: &Pool, workload: &Workload) -> Result<Capacity, Error> {
        // ⌊⌊memory / token⌋ / tokens_per_block⌋ = ⌊memory / block⌋
        let blocks = memory.0.checked_div(pool.bytes_per_block).unwrap_or_default();
        let holds = |seq_len| self.blocks(pool.window, Tokens(seq_len)).get().is_ok_and(|needed| needed <= blocks);
        let max_seq_len = longest(workload.seq_len.0, holds);
        let fits = max_seq_len == workload.seq_len.0;
        let ranks = if self.attention_dp { workload.layout.tp } else { 1 };
        let of_rank = blocks.checked_div(pool.blocks_per_request).unwrap_or_default();
        let requests = (Exact::from(of_rank) * ranks).get()?;
        let tokens = (Exact::from(blocks) * self.tokens_per_block).get()?;
        Ok(Capacity {
            memory: memory.0,
            fits,
            holds_batch: workload.of_several(fits && requests >= workload.batch),
            blocks: Some(blocks),
            tokens: fits.then_some(tokens),
            max_concurrency: fits.then(|| Double::whole(requests)),
            max_seq_len,
        })
    }

    fn why_kept(&self) -> String {
        match (self.window, self.sinks) {
            (Some(window), 0) => format!("max_attention_window {window} instead of the model's own windows"),
            (Some(window), sinks) => format!("max_attention_window {window} and {sinks} sinks, in every layer"),
            (None, _) => "every token is kept: no layer_types name the windows".into(),
        }
    }

    fn why_blocks(&self) -> String {
        let bubble = if self.sinks > 0 { ", and the bubble after the sinks" } else { "" };
        format!("blocks of {} tokens, the last of each request not full{bubble}", self.tokens_per_block)
    }

    /// What the answer takes for granted.
    fn assumptions(&self, model: &Model) -> Option<String> {
        let is_unread = |cache: &LayerCache| cache.bound().is_some() && self.window_of(cache).is_none();
        model.layer_groups.iter().any(|group| is_unread(&group.cache)).then(|| {
            "layers with a window keep every token: no layer_types name it; --max-attention-window sets one".into()
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::{SettingValue, setting_named};
    use crate::model::ModelSpec;
    use crate::units::ElementFormat;

    fn engine(settings: &[(&str, &str)]) -> Engine {
        let mut engine: Engine = "tensorrt-llm".parse().unwrap();
        for (name, value) in settings {
            let setting = setting_named(name).unwrap();
            engine.settings.set(setting.name, setting.read(value).unwrap());
        }
        engine
    }

    /// `layers` layers of 8 KV heads of 128: those of Llama 3.1 8B are 32.
    fn llama(layers: u64) -> Model {
        let spec = ModelSpec { layers: Some(layers), kv_heads: Some(8), head_dim: Some(128), ..ModelSpec::default() };
        spec.model().unwrap()
    }

    fn workload(seq_len: u64, format: ElementFormat) -> Workload {
        Workload { kv_dtype: format.into(), ..Workload::of(Tokens(seq_len), 1) }
    }

    fn bytes(settings: &[(&str, &str)], seq_len: u64) -> u64 {
        let answer = engine(settings).answer(&llama(32), &workload(seq_len, ElementFormat::BF16)).unwrap();
        answer.estimate.bytes.0
    }

    #[test]
    fn a_token_costs_what_the_reference_has() {
        let nvfp4 = "nvfp4".parse().unwrap();
        let per_token = |layers, format| {
            let answer = engine(&[]).answer(&llama(layers), &workload(64, format)).unwrap();
            (answer.estimate.bytes_per_token.whole().unwrap(), answer.estimate.bytes.0)
        };
        assert_eq!(per_token(32, nvfp4), (36_864, 64 * 36_864));
        assert_eq!(per_token(32, ElementFormat::FP8), (65_536, 64 * 65_536));
        assert_eq!(per_token(48, ElementFormat::BF16), (196_608, 64 * 196_608));
    }

    #[test]
    fn requests_take_whole_blocks() {
        let token = 131_072;
        for (settings, seq_len, tokens) in [
            (&[] as &[_], 1, 32),
            (&[], 32, 32),
            (&[], 33, 64),
            (&[("tokens-per-block", "64")], 33, 64),
            (&[("max-attention-window", "100")], 99, 128),
            (&[("max-attention-window", "100")], 1_000_000, 128),
            // 4 sinks, 28 tokens of bubble, 100 tokens.
            (&[("max-attention-window", "100"), ("sink-token-length", "4")], 1_000_000, 160),
            (&[("max-attention-window", "100"), ("sink-token-length", "64")], 1_000_000, 192),
            (&[("max-attention-window", "100"), ("sink-token-length", "4")], 4, 32),
            (&[("max-attention-window", "100"), ("sink-token-length", "4")], 5, 64),
        ] {
            assert_eq!(bytes(settings, seq_len), tokens * token, "{settings:?} {seq_len}");
        }
    }

    #[test]
    fn attention_dp_keeps_requests_whole() {
        let latent = LayerCache::Latent { kv_lora_rank: 512, qk_rope_head_dim: 64 };
        let model = Model { layer_groups: vec![LayerGroup { layers: vec![0], cache: latent }], ..llama(1) };
        let layout = Layout { tp: 8, ..Layout::default() };
        let workload = Workload { batch: 9, layout, ..workload(32, ElementFormat::BF16) };
        let of = |settings| {
            let answer = engine(settings).answer(&model, &workload).unwrap();
            (answer.estimate.bytes.0, answer.estimate.bytes_per_gpu.0)
        };
        let request = 32 * 1152;
        assert_eq!(of(&[]), (8 * 9 * request, 9 * request));
        assert_eq!(of(&[("enable-attention-dp", "true")]), (9 * request, 2 * request));
    }

    #[test]
    fn capacity_is_in_whole_blocks() {
        let with = |settings: &[_], seq_len, memory| {
            let workload = Workload { memory: Some(Bytes(memory)), ..workload(seq_len, ElementFormat::BF16) };
            engine(settings).answer(&llama(32), &workload).unwrap().capacity.unwrap()
        };
        let block = 32 * 131_072;
        let capacity = with(&[], 100, 10 * block - 1);
        assert_eq!(
            (capacity.fits, capacity.blocks, capacity.tokens, capacity.max_seq_len),
            (true, Some(9), Some(288), 100)
        );
        assert_eq!(capacity.max_concurrency, Some(Double::whole(2)));
        let capacity = with(&[], 1000, 10 * block);
        assert_eq!((capacity.fits, capacity.tokens, capacity.max_seq_len), (false, None, 320));
        assert_eq!(with(&[("max-attention-window", "100")], 1_000_000, 4 * block).max_seq_len, 1_000_000);
        let sinks = [("max-attention-window", "1000"), ("sink-token-length", "4")];
        assert_eq!(with(&sinks, 1_000_000, 10 * block).max_seq_len, 320 - 28);
    }

    /// 2⁵⁷ blocks on each of 1,024 ranks, of one request each.
    #[test]
    fn requests_past_64_bits_are_an_error() {
        let spec = ModelSpec { layers: Some(1), kv_heads: Some(1), head_dim: Some(1), ..ModelSpec::default() };
        let layout = Layout { tp: 1024, ..Layout::default() };
        let memory = Some(Bytes(u64::MAX));
        let workload = Workload { layout, memory, ..workload(1, ElementFormat::BF16) };
        let answer = engine(&[("enable-attention-dp", "true")]).answer(&spec.model().unwrap(), &workload);
        assert_eq!(answer.unwrap_err(), Error::too_large());
    }

    #[test]
    fn gaps_add_up() {
        let model = llama(32);
        for settings in [&[] as &[_], &[("max-attention-window", "100"), ("sink-token-length", "4")]] {
            let workload = workload(1001, ElementFormat::FP8);
            let answer = engine(settings).answer(&model, &workload).unwrap();
            let ideal = estimate(&model, &workload).unwrap().bytes.0;
            let gaps: i128 = answer.gaps.iter().map(|gap| gap.bytes).sum();
            assert_eq!(i128::from(answer.estimate.bytes.0) - i128::from(ideal), gaps, "{settings:?}");
            assert!(!answer.gaps.is_empty());
        }
    }

    fn any_answer(seq_len: u64, power: u32, window: u64, sinks: u64, tp: u64, memory: u64) -> Option<Answer> {
        let mut engine = engine(&[]);
        engine.settings.set("tokens-per-block", SettingValue::Count(1 << power));
        engine.settings.set("max-attention-window", SettingValue::Count(window));
        engine.settings.set("sink-token-length", SettingValue::Count(sinks));
        let layout = Layout { tp, ..Layout::default() };
        let workload = Workload { layout, memory: Some(Bytes(memory)), ..workload(seq_len, ElementFormat::FP8) };
        engine.answer(&llama(2), &workload).ok()
    }

    proptest! {
        #[test]
        fn more_tokens_never_take_less(
            seq_len in 1u64..100_000, power in 0u32..10, window in 1u64..100_000, sinks in 0u64..1000, tp in 0u32..6,
            memory in 0u64..1 << 30,
        ) {
            let at = |seq_len| any_answer(seq_len, power, window, sinks, 1 << tp, memory).unwrap();
            let (less, more) = (at(seq_len), at(seq_len + 1));
            prop_assert!(less.estimate.bytes <= more.estimate.bytes);
            let capacity = more.capacity.unwrap();
            prop_assert_eq!(capacity.fits, capacity.max_seq_len == seq_len + 1);
            // The longest that fits is the longest.
            let fits = |seq_len: u64| seq_len == 0 || at(seq_len).capacity.unwrap().fits;
            prop_assert!(fits(capacity.max_seq_len) && (capacity.fits || !fits(capacity.max_seq_len + 1)));
        }

        #[test]
        fn any_numbers_are_an_answer_or_an_error(
            seq_len in 1u64.., power in 0u32..63, window in 1u64.., sinks in 0u64.., tp in 1u64.., memory in 0u64..,
        ) {
            let _ = any_answer(seq_len, power, window, sinks, tp, memory);
        }
    }
}
