//! What vLLM's start-up says no to before it makes a cache.

use super::reader::{LATENT_TYPES, Reader};
use crate::model::{DraftMethod, KeyValue, LayerCache, Mechanism};
use crate::units::Error;

/// Classes that vLLM 0.33 registers (`model_executor/models/registry.py`), and, after a `~`, those of transformers 5.23 that
/// it leaves to its Transformers backend: whose modules look attention up by its name (`is_backend_compatible`,
/// `_can_set_attn_implementation`). Those that can't be split into pipeline stages (`SupportsPP`) say so.
const ARCHITECTURES: &str = concat!("\n", include_str!("architectures.txt"));

/// The mark of a class that has one pipeline stage.
const ONE_STAGE: &str = " one-stage";

/// Model types whose modules in transformers 5.23 attend in their own way, so that no class is found for those that name
/// none.
const EAGER_TYPES: &[&str] =
    &["codegen", "cpmant", "gpt_neo", "gpt_neox_japanese", "mpt", "openai-gpt", "rwkv", "xglm", "xlnet"];

/// Model types whose checkpoint's own layers vLLM drafts with (`config/speculative.py`, `hf_config_override`).
const MTP_TYPES: &[&str] = &[
    "bailing_hybrid",
    "deepseek_v3",
    "deepseek_v32",
    "deepseek_v4",
    "dots3_note",
    "dots3_note_text",
    "ernie4_5_moe",
    "exaone4_5",
    "exaone4_5_text",
    "exaone_moe",
    "glm4_moe",
    "glm4_moe_lite",
    "glm5_next",
    "glm5_next_text",
    "glm_moe_dsa",
    "glm_ocr",
    "glm_ocr_text",
    "hy_v3",
    "hy_v4",
    "inkling_text",
    "kimi_linear",
    "longcat_flash",
    "mimo",
    "mimo_v2",
    "mimo_v2_flash",
    "minimax_m3_vl",
    "minimax_m3_vl_text",
    "nemotron_h",
    "nemotron_h_puzzle",
    "pangu_ultra_moe",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_5_moe_text",
    "qwen3_5_text",
    "qwen3_next",
    "qwen4_exp",
    "qwen4_exp_text",
    "step3p5",
    "step3p7",
    "step5",
];

/// Model types with caches in vLLM 0.33 that are not covered here: better no answer than one that leaves them out.
const NOT_COVERED_TYPES: &[&str] = &["qwen4_exp", "qwen4_exp_text", "unlimited_ocr"];

/// Whose code runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ModelClass {
    /// vLLM's own.
    Own,
    /// That of transformers, through vLLM's Transformers backend.
    Transformers,
    /// Nobody's.
    Unknown,
}

/// The line that begins with `start`, a newline and the whole name of a class.
fn line_after(start: &str) -> Option<&'static str> {
    memchr::memmem::find_iter(ARCHITECTURES.as_bytes(), start).find_map(|at| {
        let line = ARCHITECTURES.get(at.saturating_add(1)..)?.lines().next()?;
        let name = start.strip_prefix('\n')?;
        (line.trim_end_matches(ONE_STAGE) == name).then_some(line)
    })
}

impl Reader<'_> {
    /// What start-up refuses of the model and of how it is divided.
    pub(super) fn check(&self) -> Result<(), Error> {
        let listed = self.listed();
        self.check_architecture(listed)?;
        self.check_parallel(listed)
    }

    /// The class that vLLM runs the model with. A configuration that names none is of the class that its type is named
    /// for, if that is known.
    fn class(&self, listed: Option<(&str, ModelClass)>) -> ModelClass {
        let default = if EAGER_TYPES.contains(&self.family()) { ModelClass::Unknown } else { ModelClass::Own };
        match listed {
            Some((_, class)) => class,
            None if self.model.checkpoint.architectures.is_empty() => default,
            None => ModelClass::Unknown,
        }
    }

    /// The line of its class, less the mark of whose it is.
    fn listed(&self) -> Option<(&'static str, ModelClass)> {
        let architectures = &self.model.checkpoint.architectures;
        let marks = [("\n", ModelClass::Own), ("\n~", ModelClass::Transformers)];
        let found = marks.iter().find_map(|(mark, class)| {
            architectures.iter().find_map(|name| line_after(&format!("{mark}{name}"))).map(|line| (line, *class))
        });
        if found.is_some() || !architectures.is_empty() {
            return found.map(|(line, class)| (line.trim_start_matches('~'), class));
        }
        let family = self.family().replace(['_', '-'], "");
        let of_family = |family: &str| {
            ARCHITECTURES.lines().find(|line| {
                let name = line.strip_prefix('~').unwrap_or(line);
                name.split_at_checked(family.len()).is_some_and(|(start, rest)| {
                    start.eq_ignore_ascii_case(family)
                        && matches!(
                            rest.strip_suffix(ONE_STAGE).unwrap_or(rest),
                            "ForCausalLM" | "LMHeadModel" | "ForConditionalGeneration"
                        )
                })
            })
        };
        let line = of_family(&family).or_else(|| of_family(family.strip_suffix("text")?))?;
        Some(line.strip_prefix('~').map_or((line, ModelClass::Own), |name| (name, ModelClass::Transformers)))
    }

    /// What vLLM has no class for.
    fn check_architecture(&self, listed: Option<(&str, ModelClass)>) -> Result<(), Error> {
        let refused = |reason: &str| {
            let architectures = &self.model.checkpoint.architectures;
            let found = architectures.first().cloned().or_else(|| self.model.model_type.clone());
            let found = found.unwrap_or_else(|| self.model.name.clone());
            Err(self.engine.refusal("MODEL", found, reason, "name another engine"))
        };
        if NOT_COVERED_TYPES.contains(&self.family()) {
            return refused("has caches in vLLM that are not covered here");
        }
        match self.class(listed) {
            ModelClass::Unknown => return refused("is not a model architecture that is supported for now"),
            ModelClass::Transformers if self.groups().any(|cache| matches!(cache, LayerCache::Recurrent(_))) => {
                return refused(
                    "has layers that do not dispatch through the Transformers attention interface, and vLLM has no \
                     other way to handle them",
                );
            }
            ModelClass::Transformers | ModelClass::Own => {}
        }
        let unknown = |cache: &LayerCache| match cache {
            LayerCache::Recurrent(state) => {
                matches!(state.mechanism, Mechanism::RgLru | Mechanism::Rwkv | Mechanism::Cca | Mechanism::Mlstm)
            }
            LayerCache::CrossAttention { optional, .. } => *optional || self.family() != "whisper",
            LayerCache::Compressed { .. } => !self.release.is_newest,
            _ => false,
        };
        if self.groups().any(unknown) {
            return refused("has layers that this version has no class for");
        }
        Ok(())
    }

    /// How heads divide over ranks (`ModelConfig.verify_with_parallel_config`).
    fn check_parallel(&self, listed: Option<(&str, ModelClass)>) -> Result<(), Error> {
        let layout = self.workload.layout;
        if layout.pp > 1 && self.release.is_newest && listed.is_some_and(|(line, _)| line.ends_with(ONE_STAGE)) {
            let reason = "is more than 1, and pipeline parallelism is not supported for this model's class";
            return Err(self.engine.refusal("--pp", layout.pp, reason, "use 1"));
        }
        let attends = self.groups().any(|cache| cache.key_value().is_some());
        let heads = self.model.checkpoint.num_attention_heads.filter(|_| attends);
        if let Some(heads) = heads.filter(|heads| !heads.is_multiple_of(layout.tp)) {
            let reason = format!("does not divide the total number of attention heads ({heads})");
            return Err(self.engine.refusal("--tp", layout.tp, reason, "use a size that does"));
        }
        let latent =
            self.groups().any(|cache| matches!(cache, LayerCache::Latent { .. } | LayerCache::Compressed { .. }));
        let latent = latent && LATENT_TYPES.contains(&self.family());
        let key_value_heads =
            self.groups().filter_map(LayerCache::key_value).filter_map(KeyValue::num_key_value_heads).max();
        if layout.dcp > 1 {
            let refused =
                |reason: String| Err(self.engine.refusal("--dcp", layout.dcp, reason, "use a smaller size, or 1"));
            if !layout.tp.is_multiple_of(layout.dcp) {
                return refused(format!("does not divide the tensor parallel size ({})", layout.tp));
            }
            if let Some(kv) = key_value_heads.filter(|_| !latent) {
                if layout.tp <= kv {
                    return refused(format!(
                        "requires, for GQA/MQA, a tensor parallel size ({}) greater than the model's total number of \
                         KV heads ({kv})",
                        layout.tp
                    ));
                }
                let most = layout.tp.checked_div(kv).unwrap_or(1);
                if layout.dcp > most {
                    return refused(format!(
                        "exceeds the maximum supported value ({most}) for tp {} and {kv} KV heads",
                        layout.tp
                    ));
                }
                let group = heads.and_then(|heads| heads.checked_div(kv)).unwrap_or(layout.dcp);
                if !group.is_multiple_of(layout.dcp) {
                    return refused(format!("does not divide the number of query heads per KV head ({group})"));
                }
            }
        }
        if self.family() == "gpt_oss" && key_value_heads.is_some_and(|heads| layout.tp > heads) {
            let reason = "is more than the KV heads, which this model's class does not replicate";
            return Err(self.engine.refusal("--tp", layout.tp, reason, "use at most as many as there are KV heads"));
        }
        if let Some(drafter) = &self.model.drafter
            && drafter.method == DraftMethod::Mtp
        {
            if self.release.is_newest && !MTP_TYPES.contains(&self.family()) {
                let reason = format!("is an unsupported speculative method for layers of {}", self.family());
                return Err(self.engine.refusal("--speculative-method", "mtp", reason, "name a --draft model"));
            }
            let last =
                self.model.layer_groups.iter().flat_map(|group| &group.layers).max().copied().unwrap_or_default();
            let modules = u64::from(last.saturating_add(1).saturating_sub(drafter.first_layer)).max(1);
            if drafter.tokens > modules && !drafter.tokens.is_multiple_of(modules) {
                let reason = format!("is not a multiple of the {modules} tokens that the model's own layers draft");
                return Err(self.engine.refusal("--num-speculative-tokens", drafter.tokens, reason, "use one that is"));
            }
        }
        Ok(())
    }
}
