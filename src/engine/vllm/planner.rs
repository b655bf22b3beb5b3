//! What a model and a workload are asked while the caches are made, and what start-up says no to.

use std::fmt;

use super::Request;
use super::release::{ModelType, Release, Rule, Trait};
use crate::engine::Engine;
use crate::estimate::Workload;
use crate::model::{CacheKind, CacheKind as Kind, DraftMethod, Drafter, KeyValue, LayerCache, Mechanism as M, Model};
use crate::units::{Error, Exact, Tokens};

/// What is known while the caches are made.
pub(super) struct Planner<'a> {
    pub(super) model: &'a Model,
    pub(super) workload: &'a Workload,
    pub(super) engine: &'a Engine,
    pub(super) release: Release,
    pub(super) model_type: ModelType,
}

impl<'a> Planner<'a> {
    pub(super) fn new(model: &'a Model, workload: &'a Workload, engine: &'a Engine) -> Result<Self, Error> {
        let release = Release::of(engine)?;
        let model_type = ModelType::named(model_type(model));
        Ok(Self { model, workload, engine, release, model_type })
    }

    /// The request at full length: its reserve in flight follows from device, scheduler and stages.
    pub(super) fn request(&self) -> Result<Request, Error> {
        let encoder_budget = self.batch_limits()?.max_num_batched_tokens;
        let stages = Exact::from(self.workload.layout.pp);
        let schedules_ahead = self.engine.settings.switch("async-scheduling").unwrap_or(true);
        let batches = match (self.release.has(Rule::EVERY_BATCH_IN_FLIGHT), schedules_ahead) {
            (false, _) => Exact::ONE,
            (true, true) => stages + 1u64,
            (true, false) => stages,
        };
        let in_flight = (batches * encoder_budget).get()?;
        Ok(Request { len: self.workload.seq_len.0, in_flight, dcp: self.workload.layout.dcp, encoder_budget })
    }

    /// The limits of a batch of such requests.
    fn batch_limits(&self) -> Result<BatchLimits, Error> {
        let class = self.release.class(&self.engine.device);
        let settings = &self.engine.settings;
        let max_num_seqs = settings.count("max-num-seqs").unwrap_or(class.sequences);
        if let Some(max_num_batched_tokens) = settings.count("max-num-batched-tokens") {
            return Ok(BatchLimits { max_num_batched_tokens, max_num_seqs });
        }
        let len = self.workload.seq_len.0;
        let offline = settings.choice("usage") == Some("offline");
        let tokens = if offline { class.offline_tokens } else { class.server_tokens };
        // Without chunked prefill a whole prompt is one batch.
        let tokens = if self.model.has(CacheKind::Cross) { tokens.max(len) } else { tokens };
        // Gemma 4 reads a video of 32 frames of 78 tokens at once (`models/gemma4_mm.py`).
        let reads_video = self.model.checkpoint.multimodal && self.model.checkpoint.reads_images_both_ways;
        let tokens = if reads_video { tokens.max(32 * 78) } else { tokens };
        let max_num_batched_tokens = (Exact::from(max_num_seqs) * len).min(tokens).get()?;
        Ok(BatchLimits { max_num_batched_tokens, max_num_seqs })
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &LayerCache> {
        self.model.layer_groups.iter().map(|group| &group.cache)
    }

    /// Whether this version does something for the model's type.
    pub(super) fn has(&self, of_type: Trait) -> bool {
        self.model_type.has(of_type, self.release)
    }

    /// Whether windows and chunks keep every token: asked for, or with a drafter that reads hidden states and chunks.
    pub(super) fn keeps_windows_whole(&self) -> bool {
        let reads_hidden_states = |drafter: &Drafter| match drafter.method {
            DraftMethod::Mtp | DraftMethod::Eagle => true,
            DraftMethod::DraftModel | DraftMethod::Ngram => false,
        };
        let chunks = || self.model.has(CacheKind::Chunked);
        let asked = self.engine.settings.switch("disable-hybrid-kv-cache-manager").unwrap_or_default();
        asked || (self.model.drafter.as_ref().is_some_and(reads_hidden_states) && chunks())
    }

    /// Whether prefixes are cached: by default unless the model has no attention or has an encoder.
    pub(super) fn caches_prefixes(&self) -> bool {
        self.engine.settings.switch("enable-prefix-caching").unwrap_or_else(|| {
            let hybrids = self.release.has(Rule::HYBRIDS_CACHE_PREFIXES);
            let has = |kind| self.model.has(kind);
            !self.has(Trait::AttentionFree) && !has(CacheKind::Cross) && (hybrids || !has(CacheKind::Recurrent))
        })
    }

    /// Tokens of a block, where they are given.
    pub(super) fn block_size(&self) -> Option<u64> {
        self.engine.settings.count("block-size")
    }

    pub(super) fn drafted_tokens(&self) -> u64 {
        self.model.drafter.as_ref().map_or(0, |drafter| drafter.tokens)
    }

    /// The model's drafter where it is the checkpoint's own layers, and how many of these there are.
    pub(super) fn mtp(&self) -> Option<Mtp> {
        let drafter = self.model.drafter.as_ref().filter(|drafter| drafter.method == DraftMethod::Mtp)?;
        Some(Mtp { tokens: drafter.tokens, layers: self.model.drafter_layers() })
    }

    /// Tokens that a window keeps below itself for draft modules that are chained (`num_prefill_lookahead_tokens`).
    pub(super) fn extra_tokens(&self) -> Result<u64, Error> {
        let chained = self.mtp().filter(|mtp| mtp.tokens.min(mtp.layers) > 1);
        chained.map_or(Ok(0), |mtp| (Exact::from(mtp.tokens) - 1u64).get())
    }

    /// What start-up refuses of the model and of how it is divided.
    pub(super) fn check(&self) -> Result<(), Error> {
        let listed = self.listed();
        self.check_architecture(listed)?;
        self.check_stages(listed)?;
        self.check_heads()?;
        self.check_mtp()
    }

    /// The line of its class. A configuration that names none is of the class that its type is named for, if that is known.
    fn listed(&self) -> Option<&'static str> {
        let architectures = &self.model.checkpoint.architectures;
        if !architectures.is_empty() {
            let marked = |mark: &str| architectures.iter().find_map(|name| line_after(&format!("\n{mark}{name}")));
            return marked("").or_else(|| marked("~"));
        }
        let family = model_type(self.model).replace(['_', '-'], "");
        let of_family = |family: &str| ARCHITECTURES.split('\n').find(|line| is_named_for(line, family));
        of_family(&family).or_else(|| of_family(family.strip_suffix("text")?))
    }

    /// What vLLM has no class for.
    fn check_architecture(&self, listed: Option<&str>) -> Result<(), Error> {
        let model = self.model;
        let architectures = &model.checkpoint.architectures;
        let found = architectures.first().or(model.model_type.as_ref()).unwrap_or(&model.name);
        let require = |condition: bool, reason: &str| {
            self.engine.require(condition, "MODEL", found, reason, "name another engine")
        };
        require(!self.has(Trait::NotCovered), "has caches in vLLM that are not covered here")?;
        let is_known = listed.is_some() || (architectures.is_empty() && !self.has(Trait::Eager));
        require(is_known, "is not a model architecture that is supported for now")?;
        let of_transformers = listed.is_some_and(|line| line.starts_with('~'));
        let reason = "has layers that do not dispatch through the Transformers attention interface, and vLLM has no other \
                      way to handle them";
        require(!of_transformers || !self.model.has(Kind::Recurrent), reason)?;
        require(self.groups().all(|cache| self.has_class_for(cache)), "has layers that this version has no class for")
    }

    /// Whether this version has a class for layers of a kind.
    fn has_class_for(&self, cache: &LayerCache) -> bool {
        match cache {
            LayerCache::Compressed { .. } => self.release.has(Rule::COMPRESSED_ATTENTION),
            LayerCache::CrossAttention { optional, .. } => !optional && self.has(Trait::CrossAttention),
            LayerCache::Recurrent(state) => match state.mechanism {
                M::Mamba1 | M::Mamba2 | M::GatedDeltaNet | M::Kda | M::Lightning | M::ShortConvolution => true,
                M::RgLru | M::Rwkv | M::Cca | M::Mlstm => false,
            },
            LayerCache::FullAttention { .. }
            | LayerCache::SlidingWindow { .. }
            | LayerCache::ChunkedLocal { .. }
            | LayerCache::Latent { .. }
            | LayerCache::Indexer { .. }
            | LayerCache::Shared
            | LayerCache::None => true,
        }
    }

    fn check_stages(&self, listed: Option<&str>) -> Result<(), Error> {
        let pp = self.workload.layout.pp;
        let one_stage =
            listed.is_some_and(|line| line.ends_with(ONE_STAGE)) && self.release.has(Rule::ONE_STAGE_CLASSES);
        let reason = "is more than 1, and pipeline parallelism is not supported for this model's class";
        self.engine.require(pp <= 1 || !one_stage, "--pp", pp, reason, "use 1")
    }

    /// How heads divide over ranks (`ModelConfig.verify_with_parallel_config`).
    fn check_heads(&self) -> Result<(), Error> {
        let tp = self.workload.layout.tp;
        let attends = self.groups().any(|cache| cache.key_value().is_some());
        let heads = self.model.checkpoint.num_attention_heads.filter(|_| attends);
        let total = heads.unwrap_or_default();
        let reason = format_args!("does not divide the total number of attention heads ({total})");
        self.engine.require(total.is_multiple_of(tp), "--tp", tp, reason, "use a size that does")?;
        let kv_heads = self.groups().filter_map(LayerCache::key_value).filter_map(KeyValue::num_key_value_heads).max();
        self.check_decode_context(heads, kv_heads)?;
        let replicates = !self.has(Trait::OwnKvHeads) || kv_heads.is_none_or(|kv_heads| tp <= kv_heads);
        let reason = "is more than the KV heads, which this model's class does not replicate";
        self.engine.require(replicates, "--tp", tp, reason, "use at most as many as there are KV heads")
    }

    fn check_decode_context(&self, heads: Option<u64>, kv_heads: Option<u64>) -> Result<(), Error> {
        let (tp, dcp) = (self.workload.layout.tp, self.workload.layout.dcp);
        if dcp <= 1 {
            return Ok(());
        }
        let require = |condition: bool, reason: fmt::Arguments<'_>| {
            self.engine.require(condition, "--dcp", dcp, reason, "use a smaller size, or 1")
        };
        require(tp.is_multiple_of(dcp), format_args!("does not divide the tensor parallel size ({tp})"))?;
        let latent = self.model.has(Kind::Latent) || self.model.has(Kind::Compressed);
        let Some(kv) = kv_heads.filter(|_| !latent || !self.has(Trait::LatentCache)) else { return Ok(()) };
        let reason = format_args!(
            "requires, for GQA/MQA, a tensor parallel size ({tp}) greater than the model's total number of KV heads ({kv})"
        );
        require(tp > kv, reason)?;
        let most = tp.checked_div(kv).unwrap_or(1);
        let reason = format_args!("exceeds the maximum supported value ({most}) for tp {tp} and {kv} KV heads");
        require(dcp <= most, reason)?;
        let group = heads.and_then(|heads| heads.checked_div(kv)).unwrap_or(dcp);
        let reason = format_args!("does not divide the number of query heads per KV head ({group})");
        require(group.is_multiple_of(dcp), reason)
    }

    /// What the checkpoint's own layers draft.
    fn check_mtp(&self) -> Result<(), Error> {
        let Some(Mtp { tokens, layers }) = self.mtp() else { return Ok(()) };
        let drafts = !self.release.has(Rule::MTP_TYPES) || self.has(Trait::Mtp);
        let reason = format_args!("is an unsupported speculative method for layers of {}", model_type(self.model));
        self.engine.require(drafts, "--speculative-method", "mtp", reason, "name a --draft model")?;
        let layers = layers.max(1);
        let divides = tokens <= layers || tokens.is_multiple_of(layers);
        let reason = format_args!("is not a multiple of the {layers} tokens that the model's own layers draft");
        self.engine.require(divides, "--num-speculative-tokens", tokens, reason, "use one that is")
    }
}

/// A checkpoint's own layers that draft.
pub(super) struct Mtp {
    /// Tokens drafted at a time.
    pub(super) tokens: u64,
    pub(super) layers: u64,
}

/// The text model's type.
fn model_type(model: &Model) -> &str {
    model.checkpoint.text_model_type.as_deref().or(model.model_type.as_deref()).unwrap_or_default()
}

/// The limits of a batch, given or by device class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// `max_num_batched_tokens`
    pub max_num_batched_tokens: u64,
    /// `max_num_seqs`
    pub max_num_seqs: u64,
}

/// The limits of a batch of `engine`, a vLLM, for requests of `len` tokens.
///
/// # Errors
/// [`Code::UnknownEngine`](crate::units::Code::UnknownEngine) for a version whose rules are not known.
pub fn batch_limits(model: &Model, len: Tokens, engine: &Engine) -> Result<BatchLimits, Error> {
    Planner::new(model, &Workload::of(len, 1), engine)?.batch_limits()
}

// What vLLM's start-up says no to before it makes a cache.

/// Classes that vLLM 0.33 registers (`model_executor/models/registry.py`), and, after a `~`, those of transformers 5.23 that
/// it leaves to its Transformers backend: whose modules look attention up by its name (`is_backend_compatible`,
/// `_can_set_attn_implementation`). Those that can't be split into pipeline stages (`SupportsPP`) say so.
const ARCHITECTURES: &str = concat!("\n", include_str!("architectures.txt"));

/// The mark of a class that has one pipeline stage.
const ONE_STAGE: &str = " one-stage";

/// Whether the class of a line has the name of a model type, less its separators.
fn is_named_for(line: &str, family: &str) -> bool {
    let name = line.strip_prefix('~').unwrap_or(line);
    name.split_at_checked(family.len()).is_some_and(|(start, rest)| {
        let rest = || rest.strip_suffix(ONE_STAGE).unwrap_or(rest);
        start.eq_ignore_ascii_case(family)
            && matches!(rest(), "ForCausalLM" | "LMHeadModel" | "ForConditionalGeneration")
    })
}

/// The line that begins with `start`, a newline and the whole name of a class with its mark.
fn line_after(start: &str) -> Option<&'static str> {
    memchr::memmem::find_iter(ARCHITECTURES.as_bytes(), start).find_map(|at| {
        let line = ARCHITECTURES.get(at.saturating_add(1)..)?.lines().next()?;
        (line.strip_suffix(ONE_STAGE).unwrap_or(line) == start.strip_prefix('\n')?).then_some(line)
    })
}
