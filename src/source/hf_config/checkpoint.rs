//! What engines read of a configuration in addition to its layers: classes, query heads, and what is declared of its cache;
//! and the widths of a step.

use serde_json::{Map, Value};

use super::attention::{HEADS, HIDDEN, repeated_heads};
use super::keys::{Keys, Lenient};
use super::recurrent::memory_format;
use crate::catalogue::ModelType;
use crate::model::{Checkpoint, ExpertWidths, Image, KvCacheScheme, LatentWidths, Quantization, Widths};
use crate::units::{Error, Exact};

/// Parts that make of a text model one that also sees or hears.
const OTHER_SENSES: &[&str] = &["vision_config", "visual", "vision_encoder", "audio_config", "audio_encoder"];

/// Flags of learned attention sinks.
const SINKS: &[&str] = &["add_swa_attention_sink_bias", "add_full_attention_sink_bias", "attention_sinks"];

/// The facts of the whole configuration, `root`, and of its text model, `keys`.
pub(super) fn checkpoint(root: &Keys<'_>, keys: &Keys<'_>) -> Result<Checkpoint, Error> {
    let transformers_kv_heads = repeated_heads(keys)?;
    let names = root.list("architectures")?.unwrap_or_default();
    let text_model_type = keys.text("model_type")?.filter(|_| !keys.path.is_empty()).map(ToOwned::to_owned);
    let state_format = memory_format(keys)?;
    let (root, keys) = (root.lenient(), keys.lenient());
    let words_and_width = keys.number(&["vocab_size"]).zip(keys.number(HIDDEN));
    let embedding = words_and_width.and_then(|(words, width)| (Exact::from(words) * width).get().ok());
    let linear = keys.inner(&["linear_attn_config"]);
    Ok(Checkpoint {
        architectures: names.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
        text_model_type,
        dtype: None,
        transformers_kv_heads,
        num_attention_heads: keys.number(HEADS),
        hidden_size: keys.number(HIDDEN),
        embedding_parameters: embedding.filter(|_| !keys.has("hidden_size_per_layer_input")),
        multimodal: root.inner(OTHER_SENSES).is_some(),
        reads_images_both_ways: keys.text(&["use_bidirectional_attention"]) == Some("vision")
            || root.flag("is_mm_prefix_lm") == Some(true),
        attention_sinks: SINKS.iter().any(|key| keys.flag(key) == Some(true)),
        qk_nope_head_dim: keys.number(&["qk_nope_head_dim"]),
        v_head_dim: keys.number(&["v_head_dim"]),
        state_format,
        bounded_gates: linear.is_some_and(|linear| linear.get("gate_lower_bound").is_some()),
        quantization: declared_quantization(root.0, keys.0).map(|declared| quantization(Lenient(declared))),
        num_nextn_predict_layers: keys.number(&["num_nextn_predict_layers"]),
        mamba_ssm_dtype: keys.owned("mamba_ssm_dtype"),
        shared_sliding_layers: shared_sliding_layers(keys),
        ..Checkpoint::default()
    })
}

/// The quantisation that a configuration declares.
pub(in crate::source) fn declared_quantization<'a>(
    root: &'a Map<String, Value>,
    text: &'a Map<String, Value>,
) -> Option<&'a Map<String, Value>> {
    [root, text].into_iter().find_map(|keys| keys.get("quantization_config")?.as_object())
}

/// How many of the last `num_kv_shared_layers` layers slide, by the list of kinds.
fn shared_sliding_layers(keys: Lenient<'_>) -> Option<u64> {
    let count = |key: &str| usize::try_from(keys.number(&[key])?).ok();
    let shared = count("num_kv_shared_layers")?;
    let kinds = keys.list("layer_types")?;
    let kinds = kinds.get(..count("num_hidden_layers").unwrap_or(kinds.len()))?;
    let last = kinds.get(kinds.len().checked_sub(shared)?..)?;
    u64::try_from(last.iter().filter(|kind| *kind == "sliding_attention").count()).ok()
}

/// What `hf_quant_config.json` declares.
pub(super) fn beside(value: &Value) -> Option<Quantization> {
    let declared = value.as_object().map(|declared| quantization(Lenient(declared)));
    declared.map(|declared| Quantization { beside: true, ..declared })
}

/// What is declared, at once or under `quantization`. It decides formats and never layers.
fn quantization(declared: Lenient<'_>) -> Quantization {
    let inner = declared.inner(&["quantization"]).unwrap_or(declared);
    let found = |key: &str| inner.get(key).or_else(|| declared.get(key));
    let text = |key: &str| found(key).and_then(Value::as_str).map(ToOwned::to_owned);
    let scheme = found("kv_cache_scheme");
    let scheme_text = text("kv_cache_scheme");
    Quantization {
        quant_method: declared.owned("quant_method"),
        quant_algo: text("quant_algo"),
        producer: declared.inner(&["producer"]).and_then(|producer| producer.owned("name")),
        beside: false,
        kv_cache_scheme: scheme.and_then(Value::as_object).map(Lenient).map(|scheme| KvCacheScheme {
            num_bits: scheme.number(&["num_bits"]),
            kind: scheme.owned("type"),
            dynamic: scheme.flag("dynamic"),
            strategy: scheme.owned("strategy"),
            symmetric: scheme.flag("symmetric"),
        }),
        algo_is_scheme: scheme_text.is_some(),
        kv_cache_quant_algo: scheme_text.or_else(|| text("kv_cache_quant_algo")),
    }
}

// The widths that decide how much memory a step takes. They decide no cache: what is missing or odd is taken as not known.

/// Spellings of the experts of a layer, and of those that a token is sent to.
pub(in crate::source) const EXPERTS: &[&str] =
    &["num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"];
pub(in crate::source) const EXPERTS_PER_TOKEN: &[&str] =
    &["num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_k", "top_k_experts"];

/// A larger number is no width.
const LARGEST: u64 = 1 << 32;

/// The widths of a configuration, `root`, whose text model is `text`, in the format named `dtype`.
pub(super) fn widths(root: &Keys<'_>, text: &Keys<'_>, dtype: Option<&str>) -> Widths {
    let keys = WidthKeys { root: root.lenient(), text: text.lenient(), class: text.model_type };
    Widths {
        element_bytes: if dtype.is_some_and(|name| name.ends_with("float32") || name == "float") { 4 } else { 2 },
        vocab_size: keys.number(&["vocab_size"]),
        hidden_size: keys.number(HIDDEN),
        intermediate_size: keys.dense(),
        experts: keys.experts(),
        latent: keys.latent(),
        quantizes_activations: keys.quantizes_activations(),
        image: keys.image(),
        rotary_bytes: keys.rotary_bytes(),
    }
}

struct WidthKeys<'a> {
    root: Lenient<'a>,
    text: Lenient<'a>,
    class: Option<&'a ModelType>,
}

impl WidthKeys<'_> {
    /// The first of these keys that has a number, in the text model or else by its class.
    fn number(&self, keys: &[&str]) -> Option<u64> {
        let width = |value: &Value| value.as_u64().filter(|&value| value > 0 && value < LARGEST);
        let given = keys.iter().find_map(|key| self.text.get(key).and_then(width));
        given.or_else(|| {
            let absent = |key: &&&str| !self.text.has(key);
            keys.iter().filter(absent).find_map(|key| self.class?.defaults.get(*key).and_then(width))
        })
    }

    /// The width of a dense feed-forward, where there is one: all layers of a model without experts, the first ones or those
    /// between of others.
    fn dense(&self) -> Option<u64> {
        let width = self.number(&["intermediate_size_mlp", "intermediate_size", "ffn_dim", "n_inner"])?;
        let above = |key: &str, least: u64| self.text.number(&[key]).is_some_and(|number| number > least);
        let listed = self.text.list("mlp_only_layers").is_some_and(|list| !list.is_empty());
        let some = above("first_k_dense_replace", 0) || above("interleave_moe_layer_step", 1) || listed;
        (self.experts().is_none() || some).then_some(width)
    }

    fn experts(&self) -> Option<ExpertWidths> {
        self.number(EXPERTS).filter(|&all| all > 1)?;
        let method = self.quantization().and_then(|declared| declared.text(&["quant_method"]));
        Some(ExpertWidths {
            per_token: self.number(EXPERTS_PER_TOKEN)?,
            intermediate_size: self.number(&["moe_intermediate_size", "intermediate_size"])?,
            packed: method == Some("mxfp4"),
        })
    }

    fn latent(&self) -> Option<LatentWidths> {
        let up = Exact::from(self.number(&["qk_nope_head_dim"])?) + self.number(&["v_head_dim"])?;
        let (num_attention_heads, kv_lora_rank) = (self.number(HEADS)?, self.number(&["kv_lora_rank"])?);
        Some(LatentWidths { num_attention_heads, kv_lora_rank, up_head_dim: up.get().ok()? })
    }

    fn quantization(&self) -> Option<Lenient<'_>> {
        declared_quantization(self.root.0, self.text.0).map(Lenient)
    }

    /// FP8 checkpoints and those of compressed-tensors that say so.
    fn quantizes_activations(&self) -> bool {
        let Some(declared) = self.quantization() else { return false };
        let eight = |group: &Value| group["input_activations"]["num_bits"] == 8;
        declared.text(&["quant_method"]) == Some("fp8")
            || declared.inner(&["config_groups"]).is_some_and(|groups| groups.0.values().any(eight))
    }

    /// Read from the image processors and projectors of the classes in `weights/towers.jsonl`; others merge four patches.
    fn image(&self) -> Option<Image> {
        let vision = self.root.inner(&["vision_config"])?;
        let number =
            |object: Lenient<'_>, key: &str| object.number(&[key]).filter(|&value| value > 0 && value < 1 << 16);
        let patch = number(vision, "patch_size")?;
        let side = number(vision, "image_size").and_then(|image| image.checked_div(patch));
        let patches_per_token = match self.root.text(&["model_type"]) {
            Some("gemma3") => {
                let tokens = number(self.root, "mm_tokens_per_image").unwrap_or(256);
                side.and_then(|side| (Exact::from(side) * side / tokens).get().ok())
            }
            Some("llava" | "llava_next") => Some(1),
            _ => {
                let merge = [self.root, vision].into_iter().find_map(|object| number(object, "spatial_merge_size"));
                merge.and_then(|merge| (Exact::from(merge) * merge).get().ok())
            }
        };
        let patch_elements = (Exact::from(patch) * patch * 3u64).get().ok()?;
        Some(Image { patch_elements, patches_per_token: patches_per_token.unwrap_or(4) })
    }

    /// Positions x elements that turn x bytes: what the scalings of vLLM 0.19, `model_executor/layers/rotary_embedding`,
    /// make of the longest position. `DeepSeek`'s is kept in 4 bytes. `None` for a scaling that is not listed.
    fn rotary_bytes(&self) -> Option<u64> {
        let of_heads = || {
            let width = || self.number(HIDDEN)?.checked_div(self.number(HEADS)?);
            let head = self.number(&["head_dim"]).or_else(width)?;
            match self.text.get("partial_rotary_factor") {
                Some(Value::Number(_)) => {
                    self.text.decimal("partial_rotary_factor")?.times_rounded_down(head).get().ok()
                }
                _ => Some(head),
            }
        };
        let turned = self.number(&["qk_rope_head_dim"]).or_else(of_heads)?;
        let longest = self.number(&["max_position_embeddings"])?;
        let scaling = self.text.inner(&["rope_scaling", "rope_parameters"]);
        let named = scaling.and_then(|scaling| scaling.text(&["rope_type", "type"]));
        let scaled = |positions: u64| Some(scaling?.decimal("factor")?.times_rounded_down(positions));
        let original = scaling.and_then(|scaling| scaling.number(&["original_max_position_embeddings"]));
        let original = original.filter(|&positions| positions < LARGEST);
        let (positions, bytes) = match named.unwrap_or("default") {
            "default" | "llama3" => (longest.into(), 2u64),
            "linear" | "dynamic" => (scaled(longest)?, 2),
            "yarn" | "deepseek_yarn" => (scaled(original?)?, if self.text.has("kv_lora_rank") { 4 } else { 2 }),
            "mrope" => (Exact::from(longest) * 4u64, 2),
            "longrope" | "su" => (Exact::from(longest) + original.unwrap_or_default(), 2),
            _ => return None,
        };
        // Gemma 3 has one more for its windows, which are not scaled.
        let local = if self.text.has("rope_local_base_freq") { Exact::from(longest) * 2u64 } else { Exact::ZERO };
        ((positions * bytes + local) * turned).get().ok()
    }
}
