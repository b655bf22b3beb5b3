//! What engines read of a configuration beside its layers: classes, query heads, and what is declared of its cache.

use serde_json::{Map, Value};

use super::ConfigError;
use super::attention::{HEADS, HIDDEN};
use super::keys::Keys;
use super::recurrent::memory_format;
use crate::model::{Checkpoint, KvCacheScheme, Quantization};

/// Parts that make of a text model one that also sees or hears.
const OTHER_SENSES: &[&str] = &["vision_config", "visual", "vision_encoder", "audio_config", "audio_encoder"];

/// Flags of learned attention sinks.
const SINKS: &[&str] = &["add_swa_attention_sink_bias", "add_full_attention_sink_bias", "attention_sinks"];

/// The facts of the whole configuration, `root`, and of its text model, `keys`.
pub(super) fn checkpoint(root: &Keys<'_>, keys: &Keys<'_>) -> Result<Checkpoint, ConfigError> {
    let names = root.list("architectures")?.unwrap_or_default();
    let first = |names: &[&str]| names.iter().find_map(|key| keys.object.get(*key).and_then(Value::as_u64));
    Ok(Checkpoint {
        architectures: names.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
        text_model_type: keys.text("model_type")?.filter(|_| !keys.path.is_empty()).map(ToOwned::to_owned),
        dtype: None,
        num_attention_heads: first(HEADS),
        hidden_size: first(HIDDEN),
        embedding_parameters: first(&["vocab_size"])
            .zip(first(HIDDEN))
            .filter(|_| !keys.object.contains_key("hidden_size_per_layer_input"))
            .and_then(|(words, width)| words.checked_mul(width)),
        multimodal: OTHER_SENSES.iter().any(|key| root.object.get(*key).is_some_and(Value::is_object)),
        reads_images_both_ways: keys.object.get("use_bidirectional_attention").is_some_and(|value| *value == "vision")
            || root.object.get("is_mm_prefix_lm") == Some(&Value::Bool(true)),
        attention_sinks: SINKS.iter().any(|key| keys.object.get(*key) == Some(&Value::Bool(true))),
        qk_nope_head_dim: first(&["qk_nope_head_dim"]),
        v_head_dim: first(&["v_head_dim"]),
        state_format: memory_format(keys)?,
        bounded_gates: keys
            .object
            .get("linear_attn_config")
            .is_some_and(|linear| !linear["gate_lower_bound"].is_null()),
        quantization: [root, keys]
            .iter()
            .find_map(|keys| keys.object.get("quantization_config")?.as_object())
            .map(|declared| quantization(declared, false)),
        num_nextn_predict_layers: first(&["num_nextn_predict_layers"]),
        mamba_ssm_dtype: keys.object.get("mamba_ssm_dtype").and_then(Value::as_str).map(ToOwned::to_owned),
        shared_sliding_layers: shared_sliding_layers(keys),
        ..Checkpoint::default()
    })
}

/// How many of the last `num_kv_shared_layers` layers slide, by the list of kinds.
fn shared_sliding_layers(keys: &Keys<'_>) -> Option<u64> {
    let shared = usize::try_from(keys.object.get("num_kv_shared_layers")?.as_u64()?).ok()?;
    let kinds = keys.object.get("layer_types")?.as_array()?;
    let layers = keys.object.get("num_hidden_layers").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let kinds = kinds.get(..layers.unwrap_or(kinds.len()))?;
    let last = kinds.get(kinds.len().checked_sub(shared)?..)?;
    u64::try_from(last.iter().filter(|kind| *kind == "sliding_attention").count()).ok()
}

/// What `hf_quant_config.json` declares.
pub(super) fn beside(value: &Value) -> Option<Quantization> {
    value.as_object().map(|declared| quantization(declared, true))
}

/// What is declared, at once or under `quantization`. It decides formats and never layers, so a value of another type is
/// taken as not there, as engines take it.
fn quantization(declared: &Map<String, Value>, beside: bool) -> Quantization {
    let inner = declared.get("quantization").and_then(Value::as_object).unwrap_or(declared);
    let found = |key: &str| [inner, declared].into_iter().find_map(|object| object.get(key).filter(|v| !v.is_null()));
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(ToOwned::to_owned);
    let scheme = found("kv_cache_scheme");
    let scheme_text = text(scheme);
    Quantization {
        quant_method: text(declared.get("quant_method")),
        quant_algo: text(found("quant_algo")),
        producer: text(declared.get("producer").and_then(|producer| producer.get("name"))),
        beside,
        kv_cache_scheme: scheme.and_then(Value::as_object).map(|scheme| KvCacheScheme {
            num_bits: scheme.get("num_bits").and_then(Value::as_u64),
            kind: text(scheme.get("type")),
            dynamic: scheme.get("dynamic").and_then(Value::as_bool),
            strategy: text(scheme.get("strategy")),
            symmetric: scheme.get("symmetric").and_then(Value::as_bool),
        }),
        algo_is_scheme: scheme_text.is_some(),
        kv_cache_quant_algo: scheme_text.or_else(|| text(found("kv_cache_quant_algo"))),
    }
}
