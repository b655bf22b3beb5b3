//! What a model and a workload are asked while the caches are made.

use super::Options;
use super::defaults::Release;
use crate::engine::Engine;
use crate::estimate::Workload;
use crate::model::{DraftMethod, LayerCache, Model};

/// Model types whose latents are cached as latents (`transformers_utils/model_arch_config_convertor.py`,
/// `is_deepseek_mla`); others with a latent cache full heads.
pub(super) const LATENT_TYPES: &[&str] = &[
    "axk1",
    "bailing_hybrid",
    "deepseek_mtp",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "deepseek_v4",
    "deepseek_v41",
    "dots3_note",
    "glm4_moe_lite",
    "glm5_next",
    "glm5_next_text",
    "glm_moe_dsa",
    "hy_v4",
    "kimi_k2",
    "kimi_linear",
    "longcat_flash",
    "pangu_ultra_moe",
];

/// Model types whose class is free of attention, not a hybrid that happens to have none (`IsAttentionFree`).
const ATTENTION_FREE_TYPES: &[&str] = &["falcon_mamba", "mamba", "mamba2"];

/// What is known while the caches are made.
pub(super) struct Reader<'a> {
    pub(super) model: &'a Model,
    pub(super) workload: &'a Workload,
    pub(super) engine: &'a Engine,
    pub(super) options: &'a Options,
    pub(super) release: &'static Release,
}

impl Reader<'_> {
    pub(super) fn groups(&self) -> impl Iterator<Item = &LayerCache> {
        self.model.layer_groups.iter().map(|group| &group.cache)
    }

    /// The text model's type.
    pub(super) fn family(&self) -> &str {
        let checkpoint = &self.model.checkpoint;
        checkpoint.text_model_type.as_deref().or(self.model.model_type.as_deref()).unwrap_or_default()
    }

    /// Whether a latent is cached as one.
    pub(super) fn caches_latents(&self) -> bool {
        LATENT_TYPES.contains(&self.family())
    }

    /// Whether windows and chunks keep every token: asked for, or with a drafter that reads hidden states beside chunks.
    pub(super) fn keeps_windows_whole(&self) -> bool {
        let reads_hidden_states = self
            .model
            .drafter
            .as_ref()
            .is_some_and(|drafter| matches!(drafter.method, DraftMethod::Mtp | DraftMethod::Eagle));
        self.options.windows_off
            || (reads_hidden_states && self.groups().any(|cache| matches!(cache, LayerCache::ChunkedLocal { .. })))
    }

    /// Whether prefixes are cached: by default unless the model has no attention or has an encoder.
    pub(super) fn caches_prefixes(&self) -> bool {
        let attends = !ATTENTION_FREE_TYPES.contains(&self.family());
        let states = self.groups().any(|cache| matches!(cache, LayerCache::Recurrent(_)));
        let encodes = self.groups().any(|cache| matches!(cache, LayerCache::CrossAttention { .. }));
        let default = attends && !encodes && (!states || self.release.hybrids_cache_prefixes);
        self.options.prefix_caching.unwrap_or(default)
    }

    /// Tokens that a window keeps below itself for draft modules that are chained (`num_prefill_lookahead_tokens`).
    pub(super) fn extra_tokens(&self) -> u64 {
        let Some(drafter) = self.model.drafter.as_ref().filter(|drafter| drafter.method == DraftMethod::Mtp) else {
            return 0;
        };
        let layers = self.model.layer_groups.iter().flat_map(|group| &group.layers);
        let last = layers.max().copied().unwrap_or_default();
        let modules = u64::from(last.saturating_add(1).saturating_sub(drafter.first_layer));
        if modules.min(drafter.tokens) > 1 { drafter.tokens.saturating_sub(1) } else { 0 }
    }
}
