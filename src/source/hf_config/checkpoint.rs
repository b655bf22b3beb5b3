//! What engines read of a configuration in addition to its layers: classes, query heads, and what is declared of its cache.

use serde_json::{Map, Value};

use super::attention::{HEADS, HIDDEN, repeated_heads};
use super::keys::Keys;
use super::lenient::Lenient;
use super::recurrent::memory_format;
use crate::model::{Checkpoint, KvCacheScheme, Quantization};
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
