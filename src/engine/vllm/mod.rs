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
mod compressed;
mod dtype;
mod groups;
mod hybrid;
mod layers;
mod overhead;
mod planner;
mod pool;
mod release;

use std::borrow::Cow;
use std::ops::Range;

use serde::Serialize;

use self::groups::{Gathered, Group, GroupError, Grouping, Groups, Pages, Spec, gathered};
use self::layers::Layers;
pub use self::overhead::{FITTED, FittedMemory, overhead_by};
use self::planner::Planner;
pub use self::planner::{BatchLimits, batch_limits};
use self::pool::Pool;
use self::release::{ModelType, Release};
use super::setting::settings;
use super::{Allocation, Answer, Blocks, Details, Engine, Profile, RequestLimit, Setting, serve};
use crate::estimate::Workload;
use crate::model::{CacheKind, LayerCache, Model};
use crate::units::{Code, ElementFormat, Error, Exact, KvFormat};

pub(super) const PROFILE: Profile = Profile {
    name: "vllm",
    versions: release::VERSIONS,
    about: "what its planner reserves: pages, groups, the reserve in flight",
    replayed: "0.33: 786 requests of its own planner, every number and refusal equal; 0.19: 37 start-up logs",
    heading: "Settings of vllm",
    settings: SETTINGS,
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
    answer: |model, workload, engine| Shape::of(model, workload, engine)?.answer(model, workload, engine),
    prepare: |model, workload, engine| {
        let shape = Shape::of_any_length(model, workload, engine)?;
        Some(Box::new(move |model, workload, engine| shape.answer(model, workload, engine)))
    },
    share: overhead::share,
    overhead: overhead::overhead,
    blocks,
    request_limit: |_, model, seq_len, engine| {
        let most = batch_limits(model, seq_len, engine)?.max_num_seqs;
        Ok(Some(RequestLimit { setting: "max_num_seqs", most }))
    },
    serve: |served| served.with(&SERVE),
    ..Profile::DEFAULT
};

const SETTINGS: &[Setting] = settings! {
    "block-size" Count "Block size in tokens [default: chosen by the attention backend]";
    "async-scheduling" Switch
        "Schedule the next batch while one runs; --no-async-scheduling turns it off [default: on]";
    "max-num-batched-tokens" Count "Maximum tokens per batch [default: by GPU]";
    "max-num-seqs" Count "Maximum sequences per batch [default: by GPU]";
    "enable-prefix-caching" Switch
        "Keep prefixes for later requests; --no-enable-prefix-caching turns it off [default: on]";
    "disable-hybrid-kv-cache-manager" Switch "Keep every token in layers with sliding windows or chunks";
    "usage" Choice(&["server", "offline"])
        "Use the defaults of the API server or of an offline LLM [default: server]";
    "mamba-cache-dtype" Choice(STATE_FORMATS) "Format of convolution states [default: auto]";
    "mamba-ssm-cache-dtype" Choice(STATE_FORMATS) "Format of recurrent states [default: auto]";
};

const STATE_FORMATS: &[&str] = &["auto", "float32", "float16", "bfloat16"];

/// The format that a setting for states names; `None` for `auto`.
fn state_format(engine: &Engine, name: &str) -> Option<ElementFormat> {
    engine.settings.choice(name)?.parse().ok()
}

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
    let bytes_by_stage = plan.stages.iter().map(|stage| stage.bytes_per_block).collect();
    Some(Blocks { bytes_by_stage, null_block_bytes: plan.null_block_bytes })
}

/// A cache of a layer on one rank, and the layer group of the model that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cache {
    layer: u32,
    spec: Spec,
    source: usize,
}

/// What decides how many blocks a request reserves.
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

/// What its answer adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Plan {
    /// The version whose sources were read.
    pub version: &'static str,
    /// The device class.
    pub gpu: Cow<'static, str>,
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

/// A model's caches and their groups: what does not depend on the request.
pub(super) struct Shape {
    release: Release,
    model_type: ModelType,
    layers: Layers,
    stored: KvFormat,
    groups: Groups,
    alike: Vec<Alike>,
    /// Bytes of a block on each pipeline stage.
    bytes_per_block: Vec<u64>,
    /// The groups and the stages as they are reported, blocks of a request aside.
    pool_groups: Vec<PoolGroup>,
    stages: Vec<Stage>,
}

/// The caches of one spec and layer group, which are counted together.
struct Alike {
    spec: Spec,
    source: usize,
    cache: LayerCache,
    /// Bytes of one entry, of a page and of an unpadded page of all of them.
    entry: Exact,
    page: Exact,
    unpadded_page: Exact,
}

impl Shape {
    fn of(model: &Model, workload: &Workload, engine: &Engine) -> Result<Self, Error> {
        let planner = Planner::new(model, workload, engine)?;
        let mut layers = planner.layers()?;
        let caches = std::mem::take(&mut layers.caches);
        let block_outermost = layers.block_outermost;
        let grouping = Grouping { block_outermost, windows_off: planner.keeps_windows_whole() };
        let groups = Groups::of(caches, grouping).map_err(|error| refusal(error, model, engine))?;
        let mut stages = workload.layout.stages(model.num_hidden_layers)?;
        if let Some(last) = stages.last_mut() {
            // A drafter's layers are on the last stage.
            last.end = u32::MAX;
        }
        let stages = stages.iter().map(|layers| stage(&groups, layers)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            release: planner.release,
            model_type: planner.model_type,
            stored: layers.dtype.format(model.dtype),
            layers,
            alike: alike(&groups, model),
            bytes_per_block: stages.iter().map(|stage| stage.bytes_per_block).collect(),
            pool_groups: pool_groups(&groups)?,
            stages: if stages.len() > 1 { stages } else { Vec::new() },
            groups,
        })
    }

    /// The shape, if it is the same for requests of any length: a state that is cached without prefixes has one block, which
    /// is as long as the request.
    pub(super) fn of_any_length(model: &Model, workload: &Workload, engine: &Engine) -> Option<Self> {
        let planner = Planner::new(model, workload, engine).ok()?;
        if model.has(CacheKind::Recurrent) && !planner.caches_prefixes() {
            return None;
        }
        Self::of(model, workload, engine).ok()
    }

    pub(super) fn answer(&self, model: &Model, workload: &Workload, engine: &Engine) -> Result<Answer, Error> {
        let (release, model_type) = (self.release, self.model_type);
        let planner = Planner { model, workload, engine, release, model_type };
        Pool::new(&planner, self)?.answer()
    }
}

/// Why caches can't be grouped.
fn refusal(error: GroupError, model: &Model, engine: &Engine) -> Error {
    match error {
        GroupError::TooLarge(error) => error,
        GroupError::Indivisible => {
            let reason = "has latents whose page does not divide the largest page and can't be padded";
            engine.refusal("MODEL", &model.name, reason, "name another format or block size")
        }
        GroupError::NotOneType => {
            let reason = "the KV caches of this model can't be promoted to one unified type (vllm)";
            Error::without_value(Code::Refused, "--disable-hybrid-kv-cache-manager", reason, "leave it out")
        }
    }
}

fn stage(groups: &Groups, layers: &Range<u32>) -> Result<Stage, Error> {
    let caches = groups.caches.iter().filter(|cache| layers.contains(&cache.layer)).count();
    Ok(Stage { caches, bytes_per_block: groups.bytes_per_block(|layer| layers.contains(&layer)).get()? })
}

fn pool_groups(groups: &Groups) -> Result<Vec<PoolGroup>, Error> {
    let reported = |group: &Group| {
        let Spec { kind, block_size, .. } = *group.specs.first()?;
        let kind = if group.pages == Pages::Mixed { "UniformTypeKVCacheSpecs" } else { kind.name() };
        let of_page = |page_size| PoolGroup { layers: group.members.len(), kind, block_size, page_size, blocks: 0 };
        Some(groups.page(group).get().map(of_page))
    };
    groups.groups.iter().filter_map(reported).collect()
}

/// The caches, those of one spec and layer group as one.
fn alike(groups: &Groups, model: &Model) -> Vec<Alike> {
    let caches = groups.caches.iter().map(|cache| ((cache.spec, cache.source), ()));
    let total = |Gathered { key: (spec, source), members }: Gathered<(Spec, usize), ()>| {
        let cache = model.layer_groups.get(source)?.cache;
        let count = members.len();
        let entry = Exact::from(spec.heads) * spec.content * count;
        let (page, unpadded_page) = (spec.page() * count, spec.unpadded_page() * count);
        Some(Alike { spec, source, cache, entry, page, unpadded_page })
    };
    gathered(caches, PartialEq::eq).into_iter().filter_map(total).collect()
}
