//! vLLM 0.33.0, and 0.19.0 where it differs: what its planner reserves for a request and makes of a pool.
//!
//! Read in the sources of both wheels; replayed against the planner of 0.33.0 run on the real model classes.
//!
//! - A cache of a layer has **pages**: block size × KV heads of the rank × bytes of an entry, K and V of their own widths.
//!   KV heads are divided over tensor parallel ranks and replicated past their number; a latent (MLA), an index and
//!   DeepSeek-V4's entries are whole on every rank (`v1/kv_cache_interface.py`).
//! - The **block size** is 16 where every attention backend takes that, else the smallest that all take; the backend follows
//!   from device, format and head size (`backend`). A hybrid's block grows until its page covers one state, and the state is
//!   padded to that page (`platforms/interface.py`).
//! - A request **reserves** ⌈len / block⌉ blocks of full attention (tokens divided over decode context parallel ranks);
//!   ⌈min(W − 1 + F, len) / block⌉ + 1 of a window; ⌈min(C + F, len) / block⌉ of a chunk, where F is every token in flight:
//!   batches at a time × `max_num_batched_tokens`, and batches are stages + 1 under async scheduling; of a state one block, or
//!   with prefix caching 2 and one for a checkpoint inside a prefill, and one for each speculative token; of cross-attention
//!   the scheduler's encoder budget.
//! - Layers make **groups** that share block ids (`groups`); the groups alias one pool, so a block has the bytes of the widest
//!   group and every group's blocks cost that much.
//! - **Pipeline** stages hold their part of each group; the number of blocks is the least of all stages.
//! - `auto` follows the checkpoint's declared KV scheme (`dtype`); sparse MLA's packed layout stores 656 bytes a token.
//! - **Capacity**: blocks = memory / block bytes; one request fits if it does beside the null block; concurrency = blocks /
//!   blocks a request; 0.33 prints ⌊concurrency × length⌋ tokens, 0.19 ⌊blocks / groups⌋ × block size.
//! - Requests with one prefix share its whole blocks in groups that keep every token.

mod backend;
mod calibration;
mod checks;
mod compressed;
mod defaults;
mod dtype;
mod gaps;
mod groups;
mod hybrid;
mod layers;
mod overhead;
mod reader;
mod spec;

use serde::Serialize;

pub use self::calibration::{FITTED, FittedMemory};
use self::defaults::Release;
use self::groups::{GroupError, Groups};
use self::layers::Layers;
pub use self::overhead::overhead_by;
use self::reader::Reader;
use self::spec::{Kind, Spec};
use super::{
    Allocation, Answer, AnyLength, Blocks, Capacity, Details, Double, Engine, Profile, RequestLimit, Setting,
    ValueKind, longest, serve,
};
use crate::estimate::{BytesPerToken, Estimate, GroupEstimate, Workload};
use crate::model::{LayerCache, Model};
use crate::units::{Bytes, ElementFormat, Error, Tokens};

pub(super) const PROFILE: Profile = Profile {
    name: "vllm",
    versions: &["0.33", "0.19"],
    about: "what its planner reserves: pages, groups, the reserve in flight",
    replayed: "0.33: 786 requests of its own planner, every number and refusal equal; 0.19: 37 start-up logs",
    heading: "Settings of vllm",
    settings: &[
        Setting::new("block-size", ValueKind::Count, "Tokens of a block, in place of what the backend prefers"),
        Setting::new(
            "async-scheduling",
            ValueKind::Switch { off: "no-async-scheduling" },
            "Schedule a batch while the one before it runs; --no-async-scheduling switches it off [default: on]",
        ),
        Setting::new("max-num-batched-tokens", ValueKind::Count, "Tokens of a batch [default: by device class]"),
        Setting::new("max-num-seqs", ValueKind::Count, "Sequences of a batch [default: by device class]"),
        Setting::new(
            "enable-prefix-caching",
            ValueKind::Switch { off: "no-enable-prefix-caching" },
            "Keep prefixes for later requests; --no-enable-prefix-caching switches it off [default: on]",
        ),
        Setting::new(
            "disable-hybrid-kv-cache-manager",
            ValueKind::Switch { off: "no-disable-hybrid-kv-cache-manager" },
            "Windows and chunks keep every token",
        ),
        Setting::new("usage", ValueKind::Choice(&["server", "offline"]), "Whose defaults: the API server's or LLM's"),
        Setting::new(
            "mamba-cache-dtype",
            ValueKind::Choice(&["auto", "float32", "float16", "bfloat16"]),
            "Format of convolution states",
        ),
        Setting::new(
            "mamba-ssm-cache-dtype",
            ValueKind::Choice(&["auto", "float32", "float16", "bfloat16"]),
            "Format of recurrent states",
        ),
    ],
    defaults: &[
        ("gpu", "h100-sxm"),
        ("usage", "server"),
        ("block-size", "16, or what the attention backend prefers"),
        (
            "max-num-batched-tokens",
            "16384 from 160 GiB; 8192 from 70 GiB, 16384 offline; else, and A100, 2048, 8192 offline",
        ),
        ("max-num-seqs", "1024 from 70 GiB; else, and A100, 256"),
        ("async-scheduling", "on: batches in flight = stages + 1"),
        ("enable-prefix-caching", "on but for attention-free models and encoders (0.19: and hybrids)"),
    ],
    formats: dtype::NAMES,
    allocation: Allocation::Pool,
    separate_replicas: Some(
        "replicas are servers of their own, each with all experts: vLLM's --data-parallel-size would divide experts over them",
    ),
    answer,
    prepare: |model, workload, engine| Some(Box::new(Shape::of_any_length(model, workload, engine)?)),
    share: |engine| Ok(overhead::share(engine)),
    overhead: overhead::overhead,
    blocks,
    request_limit: |_, model, seq_len, engine| {
        let most = batch_limits(model, seq_len, engine).max_num_seqs;
        Ok(Some(RequestLimit { setting: "max_num_seqs", most }))
    },
    serve: |served| served.with(&SERVE),
    ..Profile::DEFAULT
};

const SERVE: serve::Options = serve::Options {
    program: "vllm serve",
    tp: "--tensor-parallel-size",
    pp: "--pipeline-parallel-size",
    dp: Some("--data-parallel-size"),
    dcp: Some("--decode-context-parallel-size"),
    seq_len: "--max-model-len",
    utilization: "--gpu-memory-utilization",
    kv_dtype: "--kv-cache-dtype",
    formats: &[("bf16", "bfloat16"), ("fp16", "float16")],
    without_option: &["usage"],
};

/// The blocks of the pools of all stages.
fn blocks(answer: &Answer) -> Option<Blocks> {
    let Some(Details::Vllm(plan)) = &answer.details else { return None };
    Some(Blocks {
        bytes_by_stage: plan.stages.iter().map(|stage| stage.bytes_per_block).collect(),
        null_block_bytes: plan.null_block_bytes,
    })
}

impl AnyLength for Shape {
    fn answer(&self, model: &Model, workload: &Workload, engine: &Engine) -> Result<Answer, Error> {
        self.answer(model, workload, engine)
    }
}

/// A cache of a layer on one rank, and the layer group of the model that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cache {
    layer: u32,
    spec: Spec,
    source: usize,
}

/// What decides how many blocks a request reserves.
#[derive(Debug, Clone, Copy)]
struct Request {
    /// `max_model_len`
    len: u64,
    /// Tokens scheduled and not yet settled.
    in_flight: u64,
    /// Decode context parallel ranks.
    dcp: u64,
    /// `max_num_encoder_input_tokens`
    encoder_budget: u64,
}

/// The settings, typed; what is not given is left to its default.
#[derive(Debug)]
struct Options {
    block_size: Option<u64>,
    async_scheduling: bool,
    max_num_batched_tokens: Option<u64>,
    max_num_seqs: Option<u64>,
    prefix_caching: Option<bool>,
    windows_off: bool,
    offline: bool,
    state_format: Option<ElementFormat>,
    memory_format: Option<ElementFormat>,
}

impl Options {
    fn of(engine: &Engine) -> Self {
        let settings = &engine.settings;
        let format = |name| settings.choice(name).and_then(|word: &str| word.parse().ok());
        Self {
            block_size: settings.count("block-size"),
            async_scheduling: settings.switch("async-scheduling").unwrap_or(true),
            max_num_batched_tokens: settings.count("max-num-batched-tokens"),
            max_num_seqs: settings.count("max-num-seqs"),
            prefix_caching: settings.switch("enable-prefix-caching"),
            windows_off: settings.switch("disable-hybrid-kv-cache-manager").unwrap_or(false),
            offline: settings.choice("usage") == Some("offline"),
            state_format: format("mamba-cache-dtype"),
            memory_format: format("mamba-ssm-cache-dtype"),
        }
    }

    /// The request at full length: its reserve in flight follows from device, scheduler and stages.
    fn request(&self, model: &Model, workload: &Workload, engine: &Engine, release: &Release) -> Request {
        let len = workload.seq_len.0;
        let batched = self.batch(model, len, engine, release).max_num_batched_tokens;
        let stages = workload.layout.pp;
        let at_once = match (release.reserves_all_in_flight, self.async_scheduling) {
            (false, _) => 1,
            (true, true) => stages.saturating_add(1),
            (true, false) => stages,
        };
        let in_flight = batched.saturating_mul(at_once);
        Request { len, in_flight, dcp: workload.layout.dcp, encoder_budget: batched }
    }

    /// The limits of a batch for requests of `len` tokens.
    fn batch(&self, model: &Model, len: u64, engine: &Engine, release: &Release) -> BatchLimits {
        let class = release.class(&engine.device);
        let sequences = self.max_num_seqs.unwrap_or(class.sequences);
        let batched = self.max_num_batched_tokens.unwrap_or_else(|| {
            let tokens = if self.offline { class.offline_tokens } else { class.server_tokens };
            let crosses = |cache: &LayerCache| matches!(cache, LayerCache::CrossAttention { .. });
            let encodes = model.layer_groups.iter().any(|group| crosses(&group.cache));
            // Without chunked prefill a whole prompt is one batch.
            let tokens = if encodes { tokens.max(len) } else { tokens };
            // Gemma 4 reads a video of 32 frames of 78 tokens at once (`models/gemma4_mm.py`).
            let reads_video = model.checkpoint.multimodal && model.checkpoint.reads_images_both_ways;
            let tokens = if reads_video { tokens.max(32 * 78) } else { tokens };
            tokens.min(sequences.saturating_mul(len))
        });
        BatchLimits { max_num_batched_tokens: batched, max_num_seqs: sequences }
    }
}

/// The limits of a batch, given or by device class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Tokens of a batch.
    pub max_num_batched_tokens: u64,
    /// Sequences of a batch.
    pub max_num_seqs: u64,
}

/// The limits of a batch of `engine`, a vLLM, for requests of `len` tokens.
pub fn batch_limits(model: &Model, len: Tokens, engine: &Engine) -> BatchLimits {
    Options::of(engine).batch(model, len.0, engine, Release::of(engine.version))
}

/// What its answer adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Plan {
    /// The version whose sources were read.
    pub version: &'static str,
    /// The device class.
    pub gpu: String,
    /// The attention backend of the first layer that attends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_backend: Option<&'static str>,
    /// Tokens of a block of full attention.
    pub block_size: u64,
    /// Bytes of the one block of a pool that holds nothing, where the version keeps one.
    #[serde(skip)]
    pub null_block_bytes: u64,
    /// Tokens in flight that windows and chunks reserve for.
    pub in_flight_tokens: u64,
    /// Bytes of a block of the pool on the widest stage.
    pub bytes_per_block: u64,
    /// Blocks that one request reserves.
    pub blocks_per_request: u64,
    /// The pool groups.
    pub groups: Vec<PoolGroup>,
    /// What each pipeline stage holds, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
}

/// A pool group of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct PoolGroup {
    /// Caches in it; a layer may have several.
    pub layers: usize,
    /// vLLM's name for its kind.
    pub kind: &'static str,
    /// Tokens of a block.
    pub block_size: u64,
    /// Bytes of a layer's page, or of the group's where its pages differ.
    pub page_size: u64,
    /// Blocks that one request reserves in it.
    pub blocks: u64,
}

/// A pipeline stage of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Stage {
    /// Caches on it.
    pub caches: usize,
    /// Bytes of a block of its pool.
    pub bytes_per_block: u64,
}

fn answer(model: &Model, workload: &Workload, engine: &Engine) -> Result<Answer, Error> {
    Shape::of(model, workload, engine)?.answer(model, workload, engine)
}

/// A model's caches and their groups: what does not depend on the request.
#[derive(Debug)]
pub(super) struct Shape {
    layers: Layers,
    groups: Groups,
    /// The caches, those of one spec and layer group as one, with their number.
    alike: Vec<(Cache, u64)>,
    /// The layers of each stage, the drafter's on the last.
    stages: Vec<std::ops::Range<u32>>,
    /// Bytes of a block on each stage.
    bytes_per_block: Vec<u64>,
}

impl Shape {
    fn of(model: &Model, workload: &Workload, engine: &Engine) -> Result<Self, Error> {
        let release = Release::of(engine.version);
        let reader = Reader { model, workload, engine, options: &Options::of(engine), release };
        let mut layers = reader.layers()?;
        let caches = std::mem::take(&mut layers.caches);
        let groups =
            Groups::of(caches, layers.block_outermost, reader.keeps_windows_whole()).map_err(|error| match error {
                GroupError::TooLarge => Error::too_large(),
                GroupError::Indivisible => {
                    let reason = "has latents whose page does not divide the largest page and can't be padded";
                    engine.refusal("MODEL", &model.name, reason, "name another format or block size")
                }
                GroupError::NotOneType => {
                    let reason = "is on, but the KV caches of this model can't be promoted to one unified type";
                    engine.refusal("--disable-hybrid-kv-cache-manager", "it", reason, "leave it out")
                }
            })?;
        let mut stages = workload.layout.stages(model.num_hidden_layers)?;
        if let Some(last) = stages.last_mut() {
            last.end = u32::MAX;
        }
        let block = |stage: &std::ops::Range<u32>| {
            groups.bytes_per_block(|layer| stage.contains(&layer)).ok_or_else(Error::too_large)
        };
        let bytes_per_block = stages.iter().map(block).collect::<Result<_, _>>()?;
        Ok(Self { layers, alike: groups.alike(), groups, stages, bytes_per_block })
    }

    /// The shape, if it is the same for requests of any length: a state that is cached without prefixes has one block, which
    /// is as long as the request.
    pub(super) fn of_any_length(model: &Model, workload: &Workload, engine: &Engine) -> Option<Self> {
        let shape = Self::of(model, workload, engine).ok()?;
        let state = |cache: &Cache| matches!(cache.spec.kind, Kind::State { .. });
        (!shape.groups.caches.iter().any(state)).then_some(shape)
    }

    pub(super) fn answer(&self, model: &Model, workload: &Workload, engine: &Engine) -> Result<Answer, Error> {
        let options = Options::of(engine);
        let release = Release::of(engine.version);
        let reader = Reader { model, workload, engine, options: &options, release };
        let request = options.request(model, workload, engine, release);
        Pool { reader: &reader, shape: self, request }.answer()
    }
}

/// The groups over the pipeline stages, for a request.
struct Pool<'a> {
    reader: &'a Reader<'a>,
    shape: &'a Shape,
    request: Request,
}

impl Pool<'_> {
    fn widest_block(&self) -> u64 {
        self.shape.bytes_per_block.iter().copied().max().unwrap_or_default()
    }

    /// Blocks of all requests of the batch: a prefix that they share is kept once, in whole blocks, where every token is
    /// kept.
    fn blocks_of_batch(&self) -> Result<u64, Error> {
        let too_large = Error::too_large;
        let each = self.shape.groups.blocks_per_request(&self.request);
        let all = each.checked_mul(self.reader.workload.batch).ok_or_else(too_large)?;
        let Some(prefix) = self.reader.workload.shared_prefix else { return Ok(all) };
        if prefix > self.reader.workload.seq_len {
            let reason = format!("is longer than the sequences ({})", self.reader.workload.seq_len);
            return Err(self.reader.engine.refusal("--shared-prefix", prefix, reason, "give at most --seq-len"));
        }
        if !self.reader.caches_prefixes() {
            let reason = "is shared only with prefix caching, which is off";
            return Err(self.reader.engine.refusal("--shared-prefix", prefix, reason, "give --enable-prefix-caching"));
        }
        let tokens = prefix.0.checked_div(self.request.dcp.max(1)).unwrap_or_default();
        let shared = self.shape.groups.groups.iter().filter_map(|group| {
            let spec = group.specs.first()?;
            spec.kind.keeps_all().then(|| tokens.checked_div(spec.block_size)).flatten()
        });
        let shared: u64 = shared.fold(0, u64::saturating_add);
        let saved = shared.checked_mul(self.reader.workload.batch.saturating_sub(1)).ok_or_else(too_large)?;
        Ok(all.saturating_sub(saved))
    }

    fn answer(&self) -> Result<Answer, Error> {
        let too_large = Error::too_large;
        let layers = &self.shape.layers;
        let tp = self.reader.workload.layout.tp;
        let blocks = self.blocks_of_batch()?;
        let bytes_per_gpu = blocks.checked_mul(self.widest_block()).ok_or_else(too_large)?;
        let over_stages =
            self.shape.bytes_per_block.iter().try_fold(0u64, |sum, block| sum.checked_add(block.checked_mul(blocks)?));
        let bytes = over_stages.and_then(|bytes| bytes.checked_mul(tp)).ok_or_else(too_large)?;
        let stored = layers.dtype.format(self.reader.model.dtype);
        let estimate = Estimate {
            bytes: Bytes(bytes),
            bytes_per_gpu: Bytes(bytes_per_gpu),
            bytes_per_token: self.bytes_per_token()?,
            layer_groups: self.layer_groups()?,
            stored,
        };
        let plan = self.plan()?;
        Ok(Answer {
            capacity: self.reader.workload.memory.map(|memory| self.capacity(memory, blocks)),
            gaps: self.gaps(Bytes(bytes))?,
            details: Some(Details::Vllm(plan)),
            assumptions: layers.assumptions.clone(),
            ..Answer::of(estimate)
        })
    }

    fn plan(&self) -> Result<Plan, Error> {
        let Shape { layers, stages, bytes_per_block, .. } = self.shape;
        let groups = self.shape.groups.groups.iter().map(|group| {
            let first = group.specs.first();
            Ok(PoolGroup {
                layers: group.members.len(),
                kind: if group.mixed { "UniformTypeKVCacheSpecs" } else { first.map_or("", |spec| spec.kind.name()) },
                block_size: first.map_or(0, |spec| spec.block_size),
                page_size: self.shape.groups.page(group).ok_or_else(Error::too_large)?,
                blocks: group.blocks(&self.request),
            })
        });
        let several = stages.len() > 1;
        let stages = stages.iter().zip(bytes_per_block).map(|(stage, &bytes_per_block)| Stage {
            caches: self.shape.groups.caches.iter().filter(|cache| stage.contains(&cache.layer)).count(),
            bytes_per_block,
        });
        Ok(Plan {
            version: self.reader.release.read,
            gpu: self.reader.engine.device.id.clone(),
            attention_backend: layers.backend,
            block_size: layers.block_size,
            null_block_bytes: if self.reader.release.keeps_null_block { self.widest_block() } else { 0 },
            in_flight_tokens: self.request.in_flight,
            bytes_per_block: self.widest_block(),
            blocks_per_request: self.shape.groups.blocks_per_request(&self.request),
            groups: groups.collect::<Result<_, Error>>()?,
            stages: if several { stages.collect() } else { Vec::new() },
        })
    }

    /// What the pool makes of `memory` bytes on each device; the batch takes `of_batch` blocks.
    fn capacity(&self, memory: Bytes, of_batch: u64) -> Capacity {
        let bytes_per_block = &self.shape.bytes_per_block;
        let blocks = bytes_per_block.iter().filter_map(|&block| memory.0.checked_div(block)).min();
        // A model whose stage caches nothing is not bound by it.
        let blocks = blocks.unwrap_or_default();
        let holds = |blocks: u64| {
            bytes_per_block.iter().all(|&block| {
                let usable =
                    if self.reader.release.keeps_null_block { memory.0.saturating_sub(block) } else { memory.0 };
                block.checked_mul(blocks).is_some_and(|needed| needed <= usable)
            })
        };
        let fits = |len: u64| holds(self.shape.groups.blocks_per_request(&Request { len, ..self.request }));
        let len = self.request.len;
        let whole = fits(len);
        let max_seq_len = if whole { len } else { longest(len, fits) };
        let each = self.shape.groups.blocks_per_request(&self.request);
        let concurrency = Double::ratio(blocks, each);
        let tokens = if self.reader.release.tokens_by_concurrency {
            concurrency.times(Double::whole(len)).truncated()
        } else {
            self.tokens_by_groups(blocks)
        };
        Capacity {
            memory: memory.0,
            fits: whole,
            holds_batch: self.reader.workload.of_several(holds(of_batch)),
            blocks: Some(blocks),
            tokens: whole.then_some(tokens),
            max_concurrency: whole.then_some(concurrency),
            max_seq_len,
        }
    }

    /// ⌊blocks / groups⌋ × the smallest block, on all context parallel ranks.
    fn tokens_by_groups(&self, blocks: u64) -> u64 {
        let groups = u64::try_from(self.shape.groups.groups.len()).unwrap_or(1);
        let sizes = self.shape.groups.groups.iter().filter_map(|group| Some(group.specs.first()?.block_size));
        let each = blocks.checked_div(groups).unwrap_or_default();
        each.saturating_mul(sizes.min().unwrap_or_default()).saturating_mul(self.request.dcp)
    }

    /// One more token of one sequence, over all devices, before blocks.
    fn bytes_per_token(&self) -> Result<BytesPerToken, Error> {
        let too_large = Error::too_large;
        let mut slope = BytesPerToken { numerator: 0, denominator: 1 };
        for (cache, count) in &self.shape.alike {
            let Some(source) = self.source(cache) else { continue };
            let bound = source.bound().filter(|_| !cache.spec.kind.keeps_all());
            let state = matches!(source, LayerCache::Compressed { .. } | LayerCache::Indexer { .. })
                && cache.spec.kind.slides();
            let grows = source.follows_the_sequence() && !state && bound.is_none_or(|bound| self.request.len < bound.0);
            if !grows {
                continue;
            }
            let Spec { heads, content, tokens_per_entry, .. } = cache.spec;
            let dcp = if cache.spec.kind.keeps_all() { self.request.dcp } else { 1 };
            let numerator = u128::from(heads)
                .checked_mul(u128::from(content))
                .and_then(|bytes| bytes.checked_mul(u128::from(self.reader.workload.layout.tp)))
                .and_then(|bytes| bytes.checked_mul(u128::from(*count)));
            let denominator = u128::from(tokens_per_entry).checked_mul(u128::from(dcp)).ok_or_else(too_large)?;
            let of_layers = BytesPerToken { numerator: numerator.ok_or_else(too_large)?, denominator };
            slope = slope.checked_add(of_layers).ok_or_else(too_large)?;
        }
        Ok(slope)
    }

    fn source(&self, cache: &Cache) -> Option<LayerCache> {
        self.reader.model.layer_groups.get(cache.source).map(|group| group.cache)
    }

    /// The pages of each of the model's layer groups; what blocks have beyond them is in the gaps.
    fn layer_groups(&self) -> Result<Vec<GroupEstimate>, Error> {
        let too_large = Error::too_large;
        let copies = self.reader.workload.batch.checked_mul(self.reader.workload.layout.tp).ok_or_else(too_large)?;
        let of_group = |(index, group): (usize, &crate::model::LayerGroup)| {
            let caches = self.shape.alike.iter().filter(|(cache, _)| cache.source == index);
            let bytes = caches.clone().try_fold(0u64, |sum, (cache, count)| {
                let pages = cache.spec.page()?.checked_mul(cache.spec.blocks(&self.request))?.checked_mul(*count)?;
                sum.checked_add(pages.checked_mul(copies)?)
            });
            let entries = caches.map(|(cache, _)| cache).filter(|cache| !matches!(cache.spec.kind, Kind::State { .. }));
            let entries = entries.map(|cache| cache.spec.reserved(&self.request).div_ceil(cache.spec.tokens_per_entry));
            Ok(GroupEstimate {
                kind: group.cache.kind(),
                layers: group.layers.len(),
                entries: Tokens(entries.max().unwrap_or_default()),
                bytes: Bytes(bytes.ok_or_else(too_large)?),
            })
        };
        self.reader.model.layer_groups.iter().enumerate().map(of_group).collect()
    }
}
