//! A Hugging Face `config.json` to a [`Model`], by its keys.
//!
//! Read are the keys of the text model (`text_config` and its kin where a model wraps one). A key that is missing or
//! null falls through to the next rule, as engines do; a key of the wrong type is an error. What a class supplies for
//! keys that files leave out is data of the catalogue, and is listed as an assumption.

mod attention;
mod checkpoint;
mod keys;
mod layer_kinds;
mod layers;
mod recurrent;

#[cfg(test)]
mod tests;

use std::cell::RefCell;

use serde_json::{Map, Value};

pub(super) use self::attention::{HEAD_DIM, HEADS, HIDDEN, KV_HEADS, owned_indices};
pub(super) use self::checkpoint::{EXPERTS, EXPERTS_PER_TOKEN, declared_quantization};
use self::keys::wrong_type;
pub(super) use self::keys::{Keys, Read};
pub(super) use self::layer_kinds::{LayerKind, layer_kinds, listed_layers};
use self::layers::LayerKeys;
pub(super) use self::layers::{OVERLAPPING_RATIO, add, grouped, share_from};
use crate::catalogue::{ModelType, gguf_architecture_of, model_type};
use crate::model::{Checkpoint, Dimension, Model, Origin, layer_count, unknown_model_type};
use crate::units::{Code, ElementFormat, Error, Exact, Tokens};

/// Where models that wrap a text model keep it, tried in order.
const WRAPPERS: &[&[&str]] =
    &[&["text_config"], &["language_config"], &["llm_config"], &["thinker_config", "text_config"]];

/// Spellings of the number of layers; of an encoder-decoder, the decoder's.
pub(super) const LAYERS: &[&str] =
    &["num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_transformer_layers"];
const DECODER_LAYERS: &[&str] = &["num_decoder_layers", "decoder_layers"];
const MAX_TOKENS: &[&str] = &[
    "max_position_embeddings",
    "n_positions",
    "max_target_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
];

/// The JSON of a text. `NaN` and `Infinity`, which are no JSON but are published (Python writes them), become texts.
///
/// # Errors
/// [`Code::Syntax`] with line and column.
pub fn parse(text: &str) -> Result<Value, Error> {
    // Some editors mark UTF-8.
    let text = text.trim_start_matches('\u{feff}');
    serde_json::from_str(text).or_else(|error| {
        serde_json::from_str(&quote_python_numbers(text)).map_err(|_| {
            let remedy = "give a config.json as it is published";
            Error::new(Code::Syntax, "", "the text", format!("is not JSON: {error}"), remedy)
        })
    })
}

/// `text` with quotes around each `NaN` and `Infinity` that stands outside a string.
fn quote_python_numbers(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    let (mut inside, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let number = ["-Infinity", "Infinity", "NaN"].into_iter().find(|number| !inside && rest.starts_with(number));
        if let Some(number) = number {
            quoted.push('"');
            quoted.push_str(number);
            quoted.push('"');
            rest = rest.get(number.len()..).unwrap_or_default();
            continue;
        }
        inside ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        quoted.push(c);
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    quoted
}

/// The model of a configuration.
///
/// ```
/// use kvsize::source::hf_config;
/// let config = r#"{"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096,
///                  "num_attention_heads": 32, "num_key_value_heads": 8, "torch_dtype": "bfloat16"}"#;
/// let model = hf_config::model(&hf_config::parse(config).unwrap(), "a model".into()).unwrap();
/// assert_eq!(model.layer_groups[0].layers.len(), 32);
/// ```
///
/// # Errors
/// [`Error`], with the path of the key.
pub fn model(config: &Value, name: String) -> Result<Model, Error> {
    let Value::Object(root) = config else {
        let found: String = config.to_string().chars().take(40).collect();
        return Err(Error::new(Code::NotAnObject, "", found, "is not an object of keys", "give a config.json"));
    };
    let read = RefCell::default();
    let root_keys = Keys { object: root, path: String::new(), model_type: None, read: &read };
    refuse_without_cache(&root_keys)?;
    let (object, path) = text_model(root)?;
    // The type that decides is the text model's, or that of what wraps it; the architecture's only where none is named.
    let outer = root_keys.text("model_type")?;
    let inner = Keys { object, path: path.clone(), model_type: None, read: &read }.text("model_type")?;
    let spelled = named_by_architecture(&root_keys)?.filter(|_| inner.or(outer).is_none());
    let types = || [inner, outer, spelled.as_deref()].into_iter().flatten();
    let known = types().find_map(model_type);
    if let Some(ModelType { no_cache: Some(reason), names, .. }) = &known {
        return Err(no_cache(names.first().map_or("", String::as_str), reason));
    }
    let keys = Keys { object, path, model_type: known.as_ref(), read: &read };

    if !keys.path.is_empty() && !WRAPPERS.iter().any(|wrapper| keys.path.starts_with(wrapper[0])) {
        let path = keys.path.trim_end_matches('.');
        keys.assume(format!("the text model is taken to be {path}, the one part with layers"));
    }
    let encoder_decoder = root_keys.flag("is_encoder_decoder")? || keys.flag_or_default("is_encoder_decoder")?;
    let of_decoder = if encoder_decoder { keys.count(DECODER_LAYERS)? } else { None };
    let num_hidden_layers = layer_count(of_decoder.map_or_else(|| layers(&keys), Ok)?)?;
    let dtype_name = dtype_name(&keys, &root_keys)?;
    let dtype = dtype(&keys, dtype_name);
    let reader = LayerKeys { keys: &keys, root: &root_keys, layers: num_hidden_layers, dtype, encoder_decoder };
    let layers = reader.layers()?;
    if layers.iter().all(Vec::is_empty) {
        return Err(no_cache(outer.or(inner).unwrap_or("the model"), "none of its layers attends or remembers"));
    }
    let mtp_groups = reader.mtp_groups(&layers)?;
    let longest = keys.count_or_off(MAX_TOKENS)?.or_else(|| keys.default("max_position_embeddings"));
    let layer_groups = grouped(0, &layers);
    let checkpoint = checkpoint::checkpoint(&root_keys, &keys)?;
    let unnamed = || "the config names no model_type: read by its keys as plain attention".into();
    let warnings =
        if known.is_some() { vec![] } else { vec![inner.or(outer).map_or_else(unnamed, unknown_model_type)] };
    let Read { facts, assumptions } = read.take();
    Ok(Model {
        model_type: outer.or(inner).map(Into::into),
        max_position_embeddings: longest.map(|dimension| Tokens(dimension.value)),
        mtp_groups,
        checkpoint: Checkpoint {
            dtype: Some(dtype_name.unwrap_or("float32").into()),
            lists_layer_types: facts.iter().any(|fact| fact.key.rsplit('.').next() == Some("layer_types")),
            gguf: types().find_map(gguf_architecture_of).map(|known| known.gguf(num_hidden_layers)),
            widths: checkpoint::widths(&root_keys, &keys, dtype_name),
            ..checkpoint
        },
        facts,
        assumptions,
        warnings,
        ..Model::new(name, Origin::Config, dtype, num_hidden_layers, layer_groups)
    })
}

/// Refuses what generates no text: parts of diffusion pipelines, and encoders.
fn refuse_without_cache(root: &Keys<'_>) -> Result<(), Error> {
    if let Some(class) = root.text("_class_name")? {
        return Err(no_cache(class, "it is a part of a diffusion pipeline"));
    }
    let encodes = |name: &&str| ["ForMaskedLM", "EncoderModel"].iter().any(|end| name.ends_with(end));
    let mut architectures = root.list("architectures")?.unwrap_or_default().iter().filter_map(Value::as_str);
    match architectures.find(encodes) {
        Some(name) => Err(no_cache(name, "it is an encoder, which reads its whole input at once")),
        None => Ok(()),
    }
}

fn no_cache(found: &str, reason: &str) -> Error {
    let problem = format!("has no KV cache: {reason}");
    Error::new(Code::NoCache, "model_type", found, problem, "give the config.json of a model that generates text")
}

/// The model, with what the `hf_quant_config.json` beside its configuration declares. Engines ask that file only where the
/// configuration declares nothing itself.
pub fn with_quantization(mut model: Model, beside: Option<&Value>) -> Model {
    let quantization = &mut model.checkpoint.quantization;
    *quantization = quantization.take().or_else(|| checkpoint::beside(beside?));
    model
}

/// The `model_type` that the name of the architecture spells: `LongcatFlashForCausalLM` is `longcat_flash`.
fn named_by_architecture(root: &Keys<'_>) -> Result<Option<String>, Error> {
    let Some(name) = root.list("architectures")?.and_then(|names| names.first()?.as_str()) else { return Ok(None) };
    let mut words = String::new();
    for c in name.split("For").next().unwrap_or_default().chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.push(c.to_ascii_lowercase());
    }
    Ok(Some(words))
}

/// The object of the text model and the path that leads to it.
pub(super) fn text_model(root: &Map<String, Value>) -> Result<(&Map<String, Value>, String), Error> {
    for wrapper in WRAPPERS {
        if let Some(object) = wrapper.iter().try_fold(root, |object, key| object.get(*key)?.as_object()) {
            return Ok((object, format!("{}.", wrapper.join("."))));
        }
        if let [key] = wrapper
            && let Some(other) = root.get(*key).filter(|value| !value.is_null())
        {
            return Err(wrong_type((*key).into(), other, "an object"));
        }
    }
    // A wrapper not known here: the one part that says how many layers it has and is not made for images or sound.
    if LAYERS.iter().all(|key| root.get(*key).is_none()) {
        let other = ["vision", "visual", "image", "audio", "speech"];
        let mut parts = root.iter().filter_map(|(key, value)| Some((key, value.as_object()?))).filter(|(key, part)| {
            LAYERS.iter().any(|layers| part.get(*layers).is_some_and(Value::is_u64))
                && !other.iter().any(|word| key.contains(word))
        });
        if let (Some((key, part)), None) = (parts.next(), parts.next()) {
            return Ok((part, format!("{key}.")));
        }
    }
    Ok((root, String::new()))
}

/// The number of layers, or the length of the list that names them.
fn layers(keys: &Keys<'_>) -> Result<Dimension, Error> {
    if let Some(layers) = keys.count(LAYERS)? {
        let blocks = keys.get("num_hidden_layers").is_none();
        let each = keys.model_type.and_then(|model_type| model_type.caches_per_block).filter(|_| blocks).unwrap_or(1);
        return Ok(Dimension { value: (Exact::from(layers.value) * each).get()?, ..layers });
    }
    let listed = listed_layers(keys).filter(|(_, layers)| *layers > 0);
    let (field, value) = listed.ok_or_else(|| keys.missing("num_hidden_layers"))?;
    Ok(Dimension { field, value })
}

/// The name of the checkpoint's format, of the text model or of what wraps it.
fn dtype_name<'a>(keys: &Keys<'a>, root: &Keys<'a>) -> Result<Option<&'a str>, Error> {
    // What wraps the text model of a wrapper's part (Omni models) has the format of that.
    let between = root.inner("thinker_config")?;
    for keys in [Some(keys), between.as_ref(), Some(root)].into_iter().flatten() {
        for key in ["torch_dtype", "dtype"] {
            if let Some(name) = keys.text(key)? {
                return Ok(Some(name.strip_prefix("torch.").unwrap_or(name)));
            }
        }
    }
    Ok(None)
}

/// The checkpoint's 16-bit format.
fn dtype(keys: &Keys<'_>, name: Option<&str>) -> ElementFormat {
    let used = ElementFormat::BF16;
    match name {
        Some("bfloat16") => {}
        Some("float16" | "half") => return ElementFormat::FP16,
        None => keys.assume(format!("the config names no dtype: {used}")),
        Some(found) => {
            keys.assume(format!("the checkpoint is in {found}; its cache is counted in {used}, as engines keep it"));
        }
    }
    used
}
