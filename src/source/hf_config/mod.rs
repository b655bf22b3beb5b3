//! A Hugging Face `config.json` to a [`Model`], by its keys.
//!
//! Read are the keys of the text model (`text_config` and its kin where a model wraps one). A key that is missing or
//! null falls through to the next rule, as engines do; a key of the wrong type is an error. What a class supplies for
//! keys that files leave out is data of the catalogue, and is listed as an assumption.

mod error;
mod keys;
mod layer_kinds;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

pub use self::error::ConfigError;
use self::keys::{Keys, wrong_type};
use self::layer_kinds::{LayerKind, layer_kinds, window_gate};
use crate::catalogue::model_type;
use crate::model::{
    Assumption, Dimension, Dimensions, KeyValue, LayerCache, LayerGroup, Model, ModelError, Origin, Warning,
    layer_count,
};
use crate::units::{ElementFormat, Tokens};

/// Where models that wrap a text model keep it, tried in order.
const WRAPPERS: &[&[&str]] =
    &[&["text_config"], &["language_config"], &["llm_config"], &["thinker_config", "text_config"]];

/// Spellings of the same key, tried in order (vLLM 0.33 `transformers_utils/config.py`, `CONFIG_FIELD_ALIASES`;
/// transformers' attribute maps).
const LAYERS: &[&str] = &["num_hidden_layers", "n_layer", "num_layers", "n_layers"];
const HIDDEN: &[&str] = &["hidden_size", "n_embd", "d_model"];
const HEADS: &[&str] = &["num_attention_heads", "n_head", "num_heads", "n_heads"];
const KV_HEADS: &[&str] =
    &["n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups"];
const HEAD_DIM: &[&str] = &["head_dim", "hidden_size_per_head", "attention_head_dim"];
const MAX_TOKENS: &[&str] = &["max_position_embeddings", "n_positions", "max_seq_len", "seq_length"];

/// Keys of mechanisms that are not read yet: such a model is refused, since plain attention would be wrong for it.
const MECHANISMS: &[(&str, &str)] = &[
    ("kv_lora_rank", "latent attention"),
    ("index_topk", "a sparse-attention index"),
    ("sparse_attention_config", "sparse attention"),
    ("compress_ratios", "compressed attention"),
    ("num_kv_shared_layers", "layers that share a cache"),
    ("global_head_dim", "heads that differ by layer"),
    ("per_layer_config", "layers that differ"),
    ("block_configs", "layers that differ"),
    ("hybrid_layer_pattern", "layers that differ"),
    ("attention_other_setting", "layers that differ"),
    ("hybrid_override_pattern", "recurrent layers"),
    ("layers_block_type", "recurrent layers"),
    ("attn_layer_period", "recurrent layers"),
    ("attn_type_list", "linear attention"),
    ("linear_attn_config", "linear attention"),
    ("linear_num_value_heads", "linear attention"),
    ("full_attention_interval", "linear attention"),
    ("mamba_num_heads", "recurrent state"),
    ("mamba_n_heads", "recurrent state"),
    ("mamba_d_state", "recurrent state"),
    ("ssm_state_size", "recurrent state"),
    ("state_size", "recurrent state"),
    ("lru_width", "recurrent state"),
    ("qk_dim_factor", "recurrent state"),
    ("rescale_every", "recurrent state"),
    ("conv_L_cache", "short convolutions"),
    ("cross_attention_layers", "cross-attention"),
    ("cla_share_factor", "layers that share a cache"),
    ("multi_query", "a key that changes the KV heads"),
    ("attn_config", "attention described in a nested object"),
];

/// The JSON of a text. `NaN` and `Infinity`, which are no JSON but are published (Python writes them), become texts.
///
/// # Errors
/// [`ConfigError::Syntax`] with line and column.
pub fn parse(text: &str) -> Result<Value, ConfigError> {
    serde_json::from_str(text)
        .or_else(|error| serde_json::from_str(&quote_python_numbers(text)).map_err(|_| ConfigError::Syntax(error)))
}

/// `text` with quotes around each `NaN` and `Infinity` that stands outside a string.
fn quote_python_numbers(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for (index, part) in text.split('"').enumerate() {
        if index > 0 {
            quoted.push('"');
        }
        // Between an even number of quotes is outside a string; an escaped quote only shifts a text that then fails.
        if index.is_multiple_of(2) {
            let part = part.replace("-Infinity", "Infinity");
            quoted.push_str(&part.replace("Infinity", "\"Infinity\"").replace("NaN", "\"NaN\""));
        } else {
            quoted.push_str(part);
        }
    }
    quoted
}

/// The model of a configuration.
///
/// ```
/// use kvsize::source::hf_config;
/// let config = r#"{"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096,
///                  "num_attention_heads": 32, "num_key_value_heads": 8, "torch_dtype": "bfloat16"}"#;
/// let model = hf_config::model(hf_config::parse(config).unwrap(), "a model".into()).unwrap();
/// assert_eq!(model.layer_groups[0].layers.len(), 32);
/// ```
///
/// # Errors
/// [`ConfigError`], with the path of the key.
pub fn model(config: Value, name: String) -> Result<Model, ConfigError> {
    let Value::Object(root) = config else {
        return Err(ConfigError::NotAnObject(config.to_string().chars().take(40).collect()));
    };
    let root_keys = Keys { object: &root, path: "", model_type: None };
    if root_keys.flag("is_encoder_decoder")? {
        let field = "is_encoder_decoder".into();
        return Err(ConfigError::NotADecoder { field, found: "an encoder-decoder".into() });
    }
    let (object, path) = text_model(&root)?;
    let outer_type = root_keys.text("model_type")?;
    let inner_type = Keys { object, path: &path, model_type: None }.text("model_type")?;
    let known = [inner_type, outer_type].into_iter().flatten().find_map(model_type);
    let keys = Keys { object, path: &path, model_type: known.as_ref() };
    refuse_mechanisms(&keys)?;

    let mut assumptions = Vec::new();
    let mut warnings = Vec::new();
    if known.is_none() {
        warnings.push(match inner_type.or(outer_type) {
            Some(name) => Warning::UnknownModelType { model_type: name.into() },
            None => Warning::NoModelType,
        });
    }
    let layers = keys.count(LAYERS)?.ok_or(ModelError::Missing("num_hidden_layers", "add it"))?;
    let num_hidden_layers = layer_count(layers)?;
    let key_value = key_value(&keys, &mut assumptions)?;
    let layer_groups = layer_groups(&keys, num_hidden_layers, key_value, &mut assumptions)?;
    let max_position_embeddings =
        keys.count(MAX_TOKENS)?.or_else(|| keys.default("max_position_embeddings", &mut assumptions));
    let dtype = dtype(&[&keys, &root_keys], &mut assumptions)?;
    Ok(Model {
        name,
        origin: Origin::Config,
        model_type: outer_type.or(inner_type).map(Into::into),
        max_position_embeddings: max_position_embeddings.map(|dimension| Tokens(dimension.value)),
        dtype,
        num_hidden_layers,
        layer_groups,
        assumptions,
        warnings,
    })
}

/// The object of the text model and the path that leads to it.
fn text_model(root: &Map<String, Value>) -> Result<(&Map<String, Value>, String), ConfigError> {
    for wrapper in WRAPPERS {
        let mut object = root;
        let mut path = String::new();
        let found = wrapper.iter().all(|key| match object.get(*key) {
            Some(Value::Object(inner)) => {
                object = inner;
                path.push_str(key);
                path.push('.');
                true
            }
            _ => false,
        });
        if found {
            return Ok((object, path));
        }
        if let [key] = wrapper
            && let Some(other) = root.get(*key).filter(|value| !value.is_null())
        {
            return Err(wrong_type((*key).into(), other, "an object"));
        }
    }
    Ok((root, String::new()))
}

/// Refuses a model whose keys name a mechanism that is not read. Null, false and zero switch a mechanism off.
fn refuse_mechanisms(keys: &Keys<'_>) -> Result<(), ConfigError> {
    let on = |key: &str| keys.get(key).is_some_and(|value| *value != Value::Bool(false) && value.as_u64() != Some(0));
    match MECHANISMS.iter().find(|(key, _)| on(key)) {
        Some((key, mechanism)) => Err(ConfigError::Mechanism { field: keys.field(key), mechanism }),
        None => Ok(()),
    }
}

fn key_value(keys: &Keys<'_>, assumptions: &mut Vec<Assumption>) -> Result<KeyValue, ConfigError> {
    let mut or_default = |given: Option<Dimension>, key| given.or_else(|| keys.default(key, assumptions));
    let dimensions = Dimensions {
        hidden_size: keys.count(HIDDEN)?,
        num_attention_heads: or_default(keys.count(HEADS)?, "num_attention_heads"),
        num_key_value_heads: or_default(keys.count(KV_HEADS)?, "num_key_value_heads"),
        head_dim: or_default(keys.count_or_off(HEAD_DIM)?, "head_dim"),
        v_head_dim: keys.count_or_off(&["v_head_dim"])?,
    };
    Ok(dimensions.key_value(
        ("num_attention_heads", "head_dim"),
        "add head_dim, or hidden_size and num_attention_heads",
        assumptions,
    )?)
}

/// Layers by kind, full attention first.
fn layer_groups(
    keys: &Keys<'_>,
    layers: u32,
    key_value: KeyValue,
    assumptions: &mut Vec<Assumption>,
) -> Result<Vec<LayerGroup>, ConfigError> {
    let given = keys.count_or_off(&["sliding_window"])?;
    let switched_off = match window_gate(keys) {
        Some(gate) => !keys.flag(gate)?,
        None => false,
    };
    let window = if switched_off {
        if given.is_some() {
            let key = keys.field(window_gate(keys).unwrap_or_default());
            assumptions.push(Assumption::WindowOff { key });
        }
        None
    } else {
        given.or_else(|| keys.default("sliding_window", assumptions))
    };
    let kinds = layer_kinds(keys, layers, window.is_some(), assumptions)?;
    let mut groups = Vec::new();
    for kind in [LayerKind::Full, LayerKind::Sliding, LayerKind::Chunked] {
        let of_kind: Vec<u32> =
            (0..layers).zip(&kinds).filter(|(_, of)| **of == kind).map(|(layer, _)| layer).collect();
        if of_kind.is_empty() {
            continue;
        }
        let missing = |key: &str, kind| ConfigError::NoBound { field: keys.field(key), kind };
        let cache = match kind {
            LayerKind::Full => LayerCache::FullAttention { key_value },
            LayerKind::Sliding => {
                let window = window.as_ref().ok_or_else(|| missing("sliding_window", "sliding_attention"))?;
                LayerCache::SlidingWindow { key_value, window: Tokens(window.value) }
            }
            LayerKind::Chunked => {
                let chunk = keys
                    .count_or_off(&["attention_chunk_size"])?
                    .or_else(|| keys.default("attention_chunk_size", assumptions))
                    .ok_or_else(|| missing("attention_chunk_size", "chunked_attention"))?;
                LayerCache::ChunkedLocal { key_value, chunk: Tokens(chunk.value) }
            }
        };
        groups.push(LayerGroup { layers: of_kind, cache });
    }
    Ok(groups)
}

/// The checkpoint's 16-bit format: `torch_dtype` or `dtype`, of the text model or of what wraps it.
fn dtype(places: &[&Keys<'_>], assumptions: &mut Vec<Assumption>) -> Result<ElementFormat, ConfigError> {
    for keys in places {
        for key in ["torch_dtype", "dtype"] {
            match keys.text(key)?.map(|name| name.strip_prefix("torch.").unwrap_or(name)) {
                Some("bfloat16") => return Ok(ElementFormat::BF16),
                Some("float16" | "half") => return Ok(ElementFormat::FP16),
                Some(other) => {
                    let used = ElementFormat::BF16;
                    assumptions.push(Assumption::Dtype { found: Some(other.into()), used });
                    return Ok(used);
                }
                None => {}
            }
        }
    }
    assumptions.push(Assumption::Dtype { found: None, used: ElementFormat::BF16 });
    Ok(ElementFormat::BF16)
}
