//! What a model and a workload are asked while the caches are made.

use super::Request;
use super::models::{ModelType, Trait};
use super::release::{Release, Rule};
use crate::engine::Engine;
use crate::estimate::Workload;
use crate::model::{CacheKind, DraftMethod, Drafter, LayerCache, Model};
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

    /// The text model's type.
    pub(super) fn family(&self) -> &'a str {
        model_type(self.model)
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
            !self.has(Trait::ATTENTION_FREE) && !has(CacheKind::Cross) && (hybrids || !has(CacheKind::Recurrent))
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
}

/// A checkpoint's own layers that draft.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mtp {
    /// Tokens drafted at a time.
    pub(super) tokens: u64,
    pub(super) layers: u64,
}

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
