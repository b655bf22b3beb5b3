//! Which model classes SGLang 0.5.23 treats in a way of their own: data, each list as one of its sources has it.

use crate::model::{Mechanism, Model};

/// The class that serves a model of this `model_type`, for models whose source names no class (`models/registry.py`, and the
/// `EntryClass` of each file): only those that are in a list below.
const TYPES: &[(&str, &str)] = &[
    ("llama", "LlamaForCausalLM"),
    ("llama4", "Llama4ForConditionalGeneration"),
    ("llama4_text", "Llama4ForConditionalGeneration"),
    ("gpt_oss", "GptOssForCausalLM"),
    ("gemma2", "Gemma2ForCausalLM"),
    ("gemma3", "Gemma3ForConditionalGeneration"),
    ("gemma3_text", "Gemma3ForCausalLM"),
    ("gemma3n", "Gemma3nForConditionalGeneration"),
    ("gemma3n_text", "Gemma3nForCausalLM"),
    ("gemma4", "Gemma4ForConditionalGeneration"),
    ("gemma4_text", "Gemma4ForCausalLM"),
    ("mimo_v2_flash", "MiMoV2FlashForCausalLM"),
    ("step3p5", "Step3p5ForCausalLM"),
    ("step3p7", "Step3p7ForConditionalGeneration"),
    ("laguna", "LagunaForCausalLM"),
    ("mellum", "MellumForCausalLM"),
    ("olmo2", "Olmo2ForCausalLM"),
    ("exaone4", "Exaone4ForCausalLM"),
    ("deepseek_v2", "DeepseekV2ForCausalLM"),
    ("deepseek_v3", "DeepseekV3ForCausalLM"),
    ("deepseek_v32", "DeepseekV32ForCausalLM"),
    ("deepseek_v4", "DeepseekV4ForCausalLM"),
    ("kimi_k2", "DeepseekV3ForCausalLM"),
    ("kimi_k25", "KimiK25ForConditionalGeneration"),
    ("kimi_linear", "KimiLinearForCausalLM"),
    ("kimi_k3", "KimiK3ForConditionalGeneration"),
    ("glm_moe_dsa", "GlmMoeDsaForCausalLM"),
    ("glm4_moe_lite", "Glm4MoeLiteForCausalLM"),
    ("longcat_flash", "LongcatFlashForCausalLM"),
    ("minicpm3", "MiniCPM3ForCausalLM"),
    ("hy_v4", "HYV4ForCausalLM"),
    ("minimax_m3", "MiniMaxM3SparseForCausalLM"),
    ("minimax_m3_vl", "MiniMaxM3SparseForConditionalGeneration"),
    ("qwen3_next", "Qwen3NextForCausalLM"),
    ("qwen3_5", "Qwen3_5ForConditionalGeneration"),
    ("qwen3_5_text", "Qwen3_5ForCausalLM"),
    ("qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration"),
    ("qwen3_5_moe_text", "Qwen3_5MoeForCausalLM"),
    ("nemotron_h", "NemotronHForCausalLM"),
    ("falcon_h1", "FalconH1ForCausalLM"),
    ("granitemoehybrid", "GraniteMoeHybridForCausalLM"),
    ("lfm2", "Lfm2ForCausalLM"),
    ("lfm2_moe", "Lfm2MoeForCausalLM"),
    ("lfm2_vl", "Lfm2VlForConditionalGeneration"),
    ("zaya", "ZayaForCausalLM"),
    ("mamba", "MambaForCausalLM"),
    ("mamba2", "Mamba2ForCausalLM"),
    ("falcon_mamba", "FalconMambaForCausalLM"),
];

/// The class that serves the model; empty where none is known, which is then in no list.
pub(super) fn class_of(model: &Model) -> &str {
    let of_type = |name: &str| TYPES.iter().find(|(known, _)| *known == name).map(|(_, class)| *class);
    match model.checkpoint.architectures.first() {
        Some(class) => class,
        None => model.model_type.as_deref().and_then(of_type).unwrap_or_default(),
    }
}

/// Classes whose windowed layers get a pool of their own (`configs/model_config.py`, `is_hybrid_swa_model`), and whether
/// the runner's window is one token less than the configured one (`models/*.py`, `get_attention_sliding_window_size`).
const WINDOW_POOLS: &[(&str, bool)] = &[
    ("BeamForCausalLM", true),
    ("Llama4ForConditionalGeneration", false),
    ("DeepseekV4ForCausalLM", false),
    ("GptOssForCausalLM", true),
    ("GraniteSWAForCausalLM", false),
    ("GraniteMoeSWAForCausalLM", false),
    ("IQuestQ1ForCausalLM", false),
    ("MiMoV2ForCausalLM", false),
    ("MiMoV2FlashForCausalLM", false),
    ("Step3p5ForCausalLM", false),
    ("Step3p7ForConditionalGeneration", false),
    ("Gemma4ForCausalLM", true),
    ("Gemma4ForConditionalGeneration", true),
    ("Gemma4UnifiedForConditionalGeneration", true),
    ("DiffusionGemmaForBlockDiffusion", true),
    ("LagunaForCausalLM", false),
    ("MellumForCausalLM", true),
    ("MuseGlimmerForCausalLM", true),
    ("MuseGlimmerForConditionalGeneration", true),
];

/// Whether windowed layers of the class get a pool, and whether the runner's window is one token less.
pub(super) fn window_pool(class: &str) -> Option<bool> {
    WINDOW_POOLS.iter().find(|(known, _)| *known == class).map(|(_, less)| *less)
}

/// Classes that keep latents (`configs/model_config.py`, `_derive_model_shapes`).
pub(super) const LATENT: &[&str] = &[
    "DeepseekV2ForCausalLM",
    "DeepseekV32ForCausalLM",
    "DeepseekV3ForCausalLM",
    "Glm4MoeLiteForCausalLM",
    "GlmMoeDsaForCausalLM",
    "Glm5NextForConditionalGeneration",
    "LongcatFlashForCausalLM",
    "HYV4ForCausalLM",
    "DotsVLMForCausalLM",
    "MistralLarge3ForCausalLM",
    "PixtralForConditionalGeneration",
    "KimiK25ForConditionalGeneration",
    "GigaChat35ForCausalLM",
    "MiniCPM3ForCausalLM",
    "DeepseekVL2ForCausalLM",
    "KimiVLForConditionalGeneration",
    "KimiLinearForCausalLM",
    "KimiK3LinearForCausalLM",
    "KimiK3ForConditionalGeneration",
    "BailingMoeV2_5ForCausalLM",
    "BailingMoeV3ForCausalLM",
    "BailingMoeV3VLForConditionalGeneration",
    "SarvamMLAForCausalLM",
];

/// Classes whose latents have an index beside them, where the checkpoint has one (`configs/model_config.py`,
/// `is_deepseek_dsa`).
pub(super) const INDEXED: &[&str] = &[
    "DeepseekV3ForCausalLM",
    "DeepseekV32ForCausalLM",
    "MistralLarge3ForCausalLM",
    "PixtralForConditionalGeneration",
    "GlmMoeDsaForCausalLM",
    "Glm5NextForConditionalGeneration",
    "LongcatFlashForCausalLM",
    "HYV4ForCausalLM",
];

/// Classes of DeepSeek's family (`arg_groups/model_overrides/deepseek_v2.py`).
pub(super) const DEEPSEEK_FAMILY: &[&str] = &[
    "DeepseekV3ForCausalLM",
    "DeepseekV32ForCausalLM",
    "KimiK25ForConditionalGeneration",
    "MistralLarge3ForCausalLM",
    "PixtralForConditionalGeneration",
    "GlmMoeDsaForCausalLM",
    "Glm5NextForConditionalGeneration",
    "HYV4ForCausalLM",
    "LongcatFlashForCausalLM",
];

/// `DeepSeek`-V4's class.
pub(super) const COMPRESSED: &str = "DeepseekV4ForCausalLM";

/// MiniMax-M3's classes: heads with an index beside them (`configs/model_config.py`, `is_minimax_sparse`).
pub(super) const INDEXED_HEADS: &[&str] = &["MiniMaxM3SparseForCausalLM", "MiniMaxM3SparseForConditionalGeneration"];

/// MiMo-V2's classes (`configs/model_config.py`, `MIMO_V2_MODEL_ARCHS`).
pub(super) const MIMO_V2: &[&str] = &["MiMoV2ForCausalLM", "MiMoV2FlashForCausalLM"];

/// Classes with learned attention sinks, which flashinfer does not take (`_detect_attention_sinks`).
pub(super) const SINKS: &[&str] = &[
    "GptOssForCausalLM",
    "GraniteSWAForCausalLM",
    "GraniteMoeSWAForCausalLM",
    "IQuestQ1ForCausalLM",
    "MiMoV2ForCausalLM",
    "MiMoV2FlashForCausalLM",
];

/// Gemma 4's classes (`arg_groups/model_overrides/gemma4.py`).
pub(super) const GEMMA4: &[&str] =
    &["Gemma4ForConditionalGeneration", "Gemma4ForCausalLM", "Gemma4UnifiedForConditionalGeneration"];

/// Classes that these rules do not cover, and why.
pub(super) const NOT_COVERED: &[(&str, &str)] = &[
    ("InklingForConditionalGeneration", "keeps convolution states beside both of its pools"),
    ("Dots3NoteForCausalLM", "keeps latents of two widths"),
    ("MuseSparkForConditionalGeneration", "has a window pool of its own kind"),
    ("UnlimitedOCRForCausalLM", "keeps the prompt beside its windows"),
    ("Glm5NextForConditionalGeneration", "pools its index keys"),
    ("Qwen4ExpForConditionalGeneration", "keeps compressed index keys and n-gram states"),
    ("MiniCPMSALAForCausalLM", "mixes sparse and lightning layers"),
    ("GigaChat35ForCausalLM", "mixes latents and gated delta nets"),
    ("WhisperForConditionalGeneration", "is given a cache for each layer of its encoder, too"),
];

/// How a class with recurrent layers is served.
#[derive(Debug, Clone, Copy)]
pub(super) struct StateClass {
    name: &'static str,
    /// Whether it caches states of prefixes (`arg_groups/overrides.py`, `_MAMBA_RADIX_CACHE_ARCHS`).
    pub(super) radix: bool,
    /// Whether it can take snapshots into extra slots (`_MAMBA_EXTRA_BUFFER_ARCHS`).
    pub(super) extra_buffer: bool,
    /// Whether it reads `mamba_ssm_dtype` of its configuration (`configs/*.py`, `mamba2_cache_params`).
    pub(super) reads_format: bool,
}

const fn state(name: &'static str, radix: bool, extra_buffer: bool, reads_format: bool) -> StateClass {
    StateClass { name, radix, extra_buffer, reads_format }
}

const STATES: &[StateClass] = &[
    state("KimiLinearForCausalLM", true, true, false),
    state("KimiK3ForConditionalGeneration", true, true, false),
    state("KimiK3LinearForCausalLM", false, false, false),
    state("BailingMoeV2_5ForCausalLM", true, true, false),
    state("BailingMoeV3ForCausalLM", true, true, false),
    state("BailingMoeV3VLForConditionalGeneration", true, true, false),
    state("Qwen3NextForCausalLM", true, true, true),
    state("Qwen3_5ForConditionalGeneration", true, true, true),
    state("Qwen3_5MoeForConditionalGeneration", true, true, true),
    state("Qwen3_5ForCausalLM", true, true, true),
    state("Qwen3_5MoeForCausalLM", true, true, true),
    state("InternS2PreviewForConditionalGeneration", true, true, true),
    state("InternS2MobiusForConditionalGeneration", true, false, true),
    state("NemotronHForCausalLM", true, true, true),
    state("NemotronHPuzzleForCausalLM", true, true, true),
    state("NemotronH_Omni_Reasoning_V3", true, true, true),
    state("FalconH1ForCausalLM", true, true, true),
    state("JetNemotronForCausalLM", true, false, true),
    state("JetVLMForConditionalGeneration", true, false, true),
    state("GraniteMoeHybridForCausalLM", true, true, false),
    state("Lfm2ForCausalLM", true, false, true),
    state("Lfm2MoeForCausalLM", true, false, false),
    state("Lfm2VlForConditionalGeneration", false, false, true),
    state("ZayaForCausalLM", true, false, true),
    state("MambaForCausalLM", false, false, false),
    state("MambaLMHeadModel", false, false, false),
    state("Mamba2ForCausalLM", false, false, false),
    state("FalconMambaForCausalLM", false, false, false),
];

/// How the class is served, if its recurrent layers get a pool (`configs/hybrid_arch.py`).
pub(super) fn state_class(class: &str) -> Option<StateClass> {
    STATES.iter().find(|known| known.name == class).copied()
}

/// Recurrences whose states SGLang has a shape for (`configs/mamba_utils.py`).
pub(super) fn has_shape(mechanism: Mechanism) -> bool {
    !matches!(mechanism, Mechanism::RgLru | Mechanism::Rwkv | Mechanism::Mlstm)
}
