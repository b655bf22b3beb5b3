//! The widths that decide how much memory a step takes. They decide no cache: what is missing or odd is taken as not known.

use serde_json::{Map, Value};

use super::attention::{HEADS, HIDDEN};
use crate::catalogue::ModelType;
use crate::model::{ExpertWidths, Image, LatentWidths, Widths};

/// Spellings of the experts of a layer, and of those that a token is sent to.
pub(in crate::source) const EXPERTS: &[&str] =
    &["num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"];
pub(in crate::source) const EXPERTS_PER_TOKEN: &[&str] =
    &["num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_k", "top_k_experts"];

/// Larger numbers than any width has would pass 64 bits when they are multiplied.
const LARGEST: u64 = 1 << 32;

/// The widths of a configuration, `root`, whose text model is `text`.
pub(super) fn widths(root: &Map<String, Value>, text: &Map<String, Value>, class: Option<&ModelType>) -> Widths {
    let reader = Reader { root, text, class };
    let format = [text, root]
        .iter()
        .find_map(|object| ["torch_dtype", "dtype"].iter().find_map(|key| object.get(*key)?.as_str()));
    Widths {
        element_bytes: if format.is_some_and(|name| name.ends_with("float32") || name == "float") { 4 } else { 2 },
        vocab_size: reader.number(&["vocab_size"]),
        hidden_size: reader.number(HIDDEN),
        intermediate_size: reader.dense(),
        experts: reader.experts(),
        latent: reader.latent(),
        quantizes_activations: reader.quantizes_activations(),
        image: reader.image(),
        rotary_bytes: reader.rotary_bytes(),
    }
}

struct Reader<'a> {
    root: &'a Map<String, Value>,
    text: &'a Map<String, Value>,
    class: Option<&'a ModelType>,
}

impl Reader<'_> {
    /// The first of these keys that has a number, in the text model or else by its class.
    fn number(&self, keys: &[&str]) -> Option<u64> {
        let positive = |value: &Value| value.as_u64().filter(|&value| value > 0 && value < LARGEST);
        let given = keys.iter().find_map(|key| self.text.get(*key).and_then(positive));
        given.or_else(|| {
            let absent = |key: &&&str| !self.text.contains_key(**key);
            keys.iter().filter(absent).find_map(|key| self.class?.defaults.get(*key).and_then(positive))
        })
    }

    /// The width of a dense feed-forward, where there is one: all layers of a model without experts, the first ones or those
    /// between of others.
    fn dense(&self) -> Option<u64> {
        let width = self.number(&["intermediate_size_mlp", "intermediate_size", "ffn_dim", "n_inner"])?;
        let first = self.text.get("first_k_dense_replace").and_then(Value::as_u64);
        let step = self.text.get("interleave_moe_layer_step").and_then(Value::as_u64);
        let only = self.text.get("mlp_only_layers").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        let some = first.is_some_and(|layers| layers > 0) || step.is_some_and(|step| step > 1) || only;
        (self.experts().is_none() || some).then_some(width)
    }

    fn experts(&self) -> Option<ExpertWidths> {
        self.number(EXPERTS).filter(|&all| all > 1)?;
        let method = self.quantization().and_then(|declared| declared.get("quant_method")?.as_str());
        Some(ExpertWidths {
            per_token: self.number(EXPERTS_PER_TOKEN)?,
            intermediate_size: self.number(&["moe_intermediate_size", "intermediate_size"])?,
            packed: method == Some("mxfp4"),
        })
    }

    fn latent(&self) -> Option<LatentWidths> {
        let up = self.number(&["qk_nope_head_dim"])?.checked_add(self.number(&["v_head_dim"])?)?;
        Some(LatentWidths {
            num_attention_heads: self.number(HEADS)?,
            kv_lora_rank: self.number(&["kv_lora_rank"])?,
            up_head_dim: up,
        })
    }

    fn quantization(&self) -> Option<&Map<String, Value>> {
        [self.root, self.text].iter().find_map(|object| object.get("quantization_config")?.as_object())
    }

    /// FP8 checkpoints and those of compressed-tensors that say so.
    fn quantizes_activations(&self) -> bool {
        let Some(declared) = self.quantization() else { return false };
        let groups = declared.get("config_groups").and_then(Value::as_object);
        let eight = |group: &Value| group["input_activations"]["num_bits"] == 8;
        declared.get("quant_method").is_some_and(|method| *method == "fp8")
            || groups.is_some_and(|groups| groups.values().any(eight))
    }

    /// Read from the image processors and projectors of the same classes as in `weights/towers.jsonl`; others merge four patches.
    fn image(&self) -> Option<Image> {
        let vision = self.root.get("vision_config")?.as_object()?;
        let number = |object: &Map<String, Value>, key: &str| {
            object.get(key).and_then(Value::as_u64).filter(|&value| value > 0 && value < 1 << 16)
        };
        let patch = number(vision, "patch_size")?;
        let side = number(vision, "image_size").and_then(|image| image.checked_div(patch));
        let patches_per_token = match self.root.get("model_type").and_then(Value::as_str) {
            Some("gemma3") => {
                let tokens = number(self.root, "mm_tokens_per_image").unwrap_or(256);
                side.and_then(|side| side.checked_mul(side)?.checked_div(tokens))
            }
            Some("llava" | "llava_next") => Some(1),
            _ => {
                let merge = [self.root, vision].iter().find_map(|object| number(object, "spatial_merge_size"));
                merge.and_then(|merge| merge.checked_mul(merge))
            }
        };
        Some(Image {
            patch_elements: patch.checked_mul(patch)?.checked_mul(3)?,
            patches_per_token: patches_per_token.unwrap_or(4),
        })
    }

    /// Positions x elements that turn x bytes: what the scalings of vLLM 0.19, `model_executor/layers/rotary_embedding`,
    /// make of the longest position. `DeepSeek`'s is kept in 4 bytes. None for a scaling that is not listed.
    fn rotary_bytes(&self) -> Option<u64> {
        let of_heads = || {
            let width = || self.number(HIDDEN)?.checked_div(self.number(HEADS)?);
            let head = self.number(&["head_dim"]).or_else(width)?;
            match self.text.get("partial_rotary_factor").and_then(Value::as_number) {
                Some(factor) => scaled(head, &factor.to_string()),
                None => Some(head),
            }
        };
        let turned = self.number(&["qk_rope_head_dim"]).or_else(of_heads)?;
        let longest = self.number(&["max_position_embeddings"])?;
        let scaling = ["rope_scaling", "rope_parameters"].iter().find_map(|key| self.text.get(*key)?.as_object());
        let named =
            scaling.and_then(|scaling| ["rope_type", "type"].iter().find_map(|key| scaling.get(*key)?.as_str()));
        let factor = scaling.and_then(|scaling| scaling.get("factor")?.as_number()).map(ToString::to_string);
        let original = scaling
            .and_then(|scaling| scaling.get("original_max_position_embeddings")?.as_u64())
            .filter(|&positions| positions < LARGEST);
        let latent = self.text.contains_key("kv_lora_rank");
        let (positions, bytes) = match named.unwrap_or("default") {
            "default" | "llama3" => (longest, 2),
            "linear" | "dynamic" => (scaled(longest, &factor?)?, 2),
            "yarn" | "deepseek_yarn" => (scaled(original?, &factor?)?, if latent { 4 } else { 2 }),
            "mrope" => (longest.checked_mul(4)?, 2),
            "longrope" | "su" => (longest.checked_add(original.unwrap_or_default())?, 2),
            _ => return None,
        };
        let table = positions.checked_mul(turned)?.checked_mul(bytes)?;
        // Gemma 3 has one more for its windows, which are not scaled.
        let local = if self.text.contains_key("rope_local_base_freq") {
            longest.checked_mul(turned)?.checked_mul(2)?
        } else {
            0
        };
        table.checked_add(local)
    }
}

/// `value` times a decimal, rounded down.
fn scaled(value: u64, factor: &str) -> Option<u64> {
    let (whole, fraction) = factor.split_once('.').unwrap_or((factor, ""));
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let power = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    u64::try_from(u128::from(value).checked_mul(digits)?.checked_div(power)?).ok()
}
