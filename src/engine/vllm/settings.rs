//! vLLM's settings: as they are declared, and resolved for a model.

use super::Request;
use super::release::Release;
use crate::engine::{Engine, Setting, ValueKind};
use crate::estimate::Workload;
use crate::model::{LayerCache, Model};
use crate::units::{ElementFormat, Error, Exact};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new("block-size", ValueKind::Count, "Block size in tokens (default: chosen by the attention backend)"),
    Setting::new(
        "async-scheduling",
        ValueKind::Switch { off: "no-async-scheduling" },
        "Schedule the next batch while one runs (default: on); --no-async-scheduling turns it off",
    ),
    Setting::new("max-num-batched-tokens", ValueKind::Count, "Maximum tokens per batch (default: by GPU)"),
    Setting::new("max-num-seqs", ValueKind::Count, "Maximum sequences per batch (default: by GPU)"),
    Setting::new(
        "enable-prefix-caching",
        ValueKind::Switch { off: "no-enable-prefix-caching" },
        "Keep prefixes for later requests (default: on); --no-enable-prefix-caching turns it off",
    ),
    Setting::new(
        "disable-hybrid-kv-cache-manager",
        ValueKind::Switch { off: "no-disable-hybrid-kv-cache-manager" },
        "Keep every token in layers with sliding windows or chunks",
    ),
    Setting::new(
        "usage",
        ValueKind::Choice(&["server", "offline"]),
        "Use the defaults of the API server or of an offline LLM (default: server)",
    ),
    Setting::new("mamba-cache-dtype", ValueKind::Choice(STATE_FORMATS), "Format of convolution states (default: auto)"),
    Setting::new(
        "mamba-ssm-cache-dtype",
        ValueKind::Choice(STATE_FORMATS),
        "Format of recurrent states (default: auto)",
    ),
];

const STATE_FORMATS: &[&str] = &["auto", "float32", "float16", "bfloat16"];

/// The settings, typed; `None` leaves the default.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) block_size: Option<u64>,
    async_scheduling: bool,
    max_num_batched_tokens: Option<u64>,
    max_num_seqs: Option<u64>,
    pub(super) prefix_caching: Option<bool>,
    pub(super) windows_off: bool,
    offline: bool,
    pub(super) convolution_format: Option<ElementFormat>,
    pub(super) memory_format: Option<ElementFormat>,
}

impl Options {
    pub(super) fn of(engine: &Engine) -> Self {
        let settings = &engine.settings;
        let format = |name| match settings.choice(name)? {
            "float32" => Some(ElementFormat::FP32),
            "float16" => Some(ElementFormat::FP16),
            "bfloat16" => Some(ElementFormat::BF16),
            _ => None,
        };
        Self {
            block_size: settings.count("block-size"),
            async_scheduling: settings.switch("async-scheduling").unwrap_or(true),
            max_num_batched_tokens: settings.count("max-num-batched-tokens"),
            max_num_seqs: settings.count("max-num-seqs"),
            prefix_caching: settings.switch("enable-prefix-caching"),
            windows_off: settings.switch("disable-hybrid-kv-cache-manager").unwrap_or(false),
            offline: settings.choice("usage") == Some("offline"),
            convolution_format: format("mamba-cache-dtype"),
            memory_format: format("mamba-ssm-cache-dtype"),
        }
    }

    /// The request at full length: its reserve in flight follows from device, scheduler and stages.
    pub(super) fn request(
        &self,
        model: &Model,
        workload: &Workload,
        engine: &Engine,
        release: Release,
    ) -> Result<Request, Error> {
        let len = workload.seq_len.0;
        let batched = self.batch(model, len, engine, release)?.max_num_batched_tokens;
        let batches = match (release.has(super::release::Rule::EVERY_BATCH_IN_FLIGHT), self.async_scheduling) {
            (false, _) => Exact::ONE,
            (true, true) => Exact::from(workload.layout.pp) + 1u64,
            (true, false) => Exact::from(workload.layout.pp),
        };
        let in_flight = (batches * batched).get()?;
        Ok(Request { len, in_flight, dcp: workload.layout.dcp, encoder_budget: batched })
    }

    /// The limits of a batch for requests of `len` tokens.
    fn batch(&self, model: &Model, len: u64, engine: &Engine, release: Release) -> Result<BatchLimits, Error> {
        let class = release.class(&engine.device);
        let max_num_seqs = self.max_num_seqs.unwrap_or(class.sequences);
        let default = || {
            let tokens = if self.offline { class.offline_tokens } else { class.server_tokens };
            let crosses = |cache: &LayerCache| matches!(cache, LayerCache::CrossAttention { .. });
            let encodes = model.layer_groups.iter().any(|group| crosses(&group.cache));
            // Without chunked prefill a whole prompt is one batch.
            let tokens = if encodes { tokens.max(len) } else { tokens };
            // Gemma 4 reads a video of 32 frames of 78 tokens at once (`models/gemma4_mm.py`).
            let reads_video = model.checkpoint.multimodal && model.checkpoint.reads_images_both_ways;
            let tokens = if reads_video { tokens.max(32 * 78) } else { tokens };
            (Exact::from(max_num_seqs) * len).min(tokens).get()
        };
        let max_num_batched_tokens = self.max_num_batched_tokens.map_or_else(default, Ok)?;
        Ok(BatchLimits { max_num_batched_tokens, max_num_seqs })
    }
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
pub fn batch_limits(model: &Model, len: crate::units::Tokens, engine: &Engine) -> Result<BatchLimits, Error> {
    Options::of(engine).batch(model, len.0, engine, Release::of(engine)?)
}
