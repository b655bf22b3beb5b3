//! A Hugging Face `config.json` to a [`Model`], by its keys.
//!
//! Read are the keys of the text model (`text_config` and its kin where a model wraps one). A key that is missing or
//! null falls through to the next rule, as engines do; a key of the wrong type is an error. What a class supplies for
//! keys that files leave out is data of the catalogue, and is listed as an assumption.

mod attention;
mod compressed;
mod error;
mod keys;
mod layer_kinds;
mod recurrent;

#[cfg(test)]
mod tests;

use std::cell::RefCell;

use serde_json::{Map, Value};

pub use self::error::ConfigError;
use self::keys::{Keys, wrong_type};
use self::layer_kinds::{LayerKind, layer_kinds, listed_layers, window_gate};
use crate::catalogue::model_type;
use crate::model::{Assumption, Dimension, LayerCache, LayerGroup, Model, ModelError, Origin, Warning, layer_count};
use crate::units::{ElementFormat, Tokens};

/// Where models that wrap a text model keep it, tried in order.
const WRAPPERS: &[&[&str]] =
    &[&["text_config"], &["language_config"], &["llm_config"], &["thinker_config", "text_config"]];

/// Spellings of the number of layers; of an encoder-decoder, the decoder's.
const LAYERS: &[&str] = &["num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_transformer_layers"];
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
    let read = RefCell::new(Vec::new());
    let root_keys = Keys { object: &root, path: String::new(), model_type: None, read: &read };
    if let Some(class) = root_keys.text("_class_name")? {
        return Err(ConfigError::NoCache {
            found: class.into(),
            reason: "it is a part of a diffusion pipeline".into(),
        });
    }
    let masked = |name: &Value| name.as_str().is_some_and(|name| name.ends_with("ForMaskedLM"));
    if let Some(name) = root_keys.list("architectures")?.and_then(|names| names.iter().find(|name| masked(name))) {
        let reason = "it fills in masked tokens, reading its whole input at once".into();
        return Err(ConfigError::NoCache { found: name.as_str().unwrap_or_default().into(), reason });
    }
    let (object, path) = text_model(&root)?;
    let outer_type = root_keys.text("model_type")?;
    let inner_type = Keys { object, path: path.clone(), model_type: None, read: &read }.text("model_type")?;
    let known = [inner_type, outer_type].into_iter().flatten().find_map(model_type);
    if let Some((reason, known)) = known.as_ref().and_then(|known| Some((known.no_cache.clone()?, known))) {
        return Err(ConfigError::NoCache { found: known.names.first().cloned().unwrap_or_default(), reason });
    }
    let keys = Keys { object, path, model_type: known.as_ref(), read: &read };
    // What wraps the text model of a wrapper's part (Omni models): their format stands there.
    let between = root_keys.inner("thinker_config")?.unwrap_or_else(|| root_keys.clone());

    let mut assumptions = Vec::new();
    let mut warnings = Vec::new();
    if !keys.path.is_empty() && !WRAPPERS.iter().any(|wrapper| keys.path.starts_with(wrapper[0])) {
        assumptions.push(Assumption::UnknownWrapper { path: keys.path.trim_end_matches('.').into() });
    }
    if known.is_none() {
        warnings.push(match inner_type.or(outer_type) {
            Some(name) => Warning::UnknownModelType { model_type: name.into() },
            None => Warning::NoModelType,
        });
    }
    let encoder_decoder = root_keys.flag("is_encoder_decoder")?;
    let num_hidden_layers = layer_count(layers(&keys, encoder_decoder)?)?;
    let dtype = dtype(&[&keys, &between, &root_keys], &mut assumptions)?;
    let reader = Reader { keys: &keys, root: &root_keys, layers: num_hidden_layers, dtype, encoder_decoder };
    let layers = reader.layers(&mut assumptions)?;
    let layer_groups = grouped(0, &layers);
    let mtp_groups = reader.mtp_groups(&layers)?;
    let max_position_embeddings =
        keys.count_or_off(MAX_TOKENS)?.or_else(|| keys.default("max_position_embeddings", &mut assumptions));
    Ok(Model {
        name,
        origin: Origin::Config,
        model_type: outer_type.or(inner_type).map(Into::into),
        max_position_embeddings: max_position_embeddings.map(|dimension| Tokens(dimension.value)),
        dtype,
        num_hidden_layers,
        layer_groups,
        mtp_groups,
        facts: read.take(),
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
fn layers(keys: &Keys<'_>, encoder_decoder: bool) -> Result<Dimension, ConfigError> {
    if encoder_decoder && let Some(layers) = keys.count(DECODER_LAYERS)? {
        return Ok(layers);
    }
    if let Some(layers) = keys.count(LAYERS)? {
        let blocks = keys.get("num_hidden_layers").is_none();
        let each = keys.model_type.and_then(|model_type| model_type.caches_per_block).filter(|_| blocks).unwrap_or(1);
        return Ok(Dimension { value: layers.value.saturating_mul(each), ..layers });
    }
    let listed = listed_layers(keys).filter(|(_, layers)| *layers > 0);
    let (field, value) = listed.ok_or(ModelError::Missing(keys.field("num_hidden_layers"), "add it"))?;
    Ok(Dimension { field, value })
}

/// What is known when the layers are read.
struct Reader<'a> {
    keys: &'a Keys<'a>,
    root: &'a Keys<'a>,
    layers: u32,
    dtype: ElementFormat,
    encoder_decoder: bool,
}

impl Reader<'_> {
    /// What each layer caches.
    fn layers(&self, assumptions: &mut Vec<Assumption>) -> Result<Vec<Vec<LayerCache>>, ConfigError> {
        let keys = self.keys;
        let window = self.window(assumptions)?;
        let kinds = layer_kinds(keys, self.layers, window.is_some(), assumptions)?;
        let mut layers: Vec<Vec<LayerCache>> = vec![Vec::new(); kinds.len()];
        if kinds.contains(&LayerKind::Compressed) {
            let entry = compressed::window_entry(keys)?;
            let beside = compressed::caches(keys, &kinds, assumptions)?;
            for (caches, beside) in layers.iter_mut().zip(beside) {
                caches.push(self.sliding(entry, window.as_ref())?);
                caches.extend(beside);
            }
        } else if let Some(latent) = attention::latent(keys)? {
            for (caches, _) in layers.iter_mut().zip(&kinds).filter(|(_, kind)| kind.attends()) {
                caches.push(latent);
            }
        } else if kinds.iter().any(|kind| kind.attends() || *kind == LayerKind::Cross) {
            let entries = attention::key_values(keys, &kinds, assumptions)?;
            let chunk = self.chunk(&kinds, assumptions)?;
            for ((caches, kind), entry) in layers.iter_mut().zip(&kinds).zip(entries) {
                let Some(key_value) = entry else { continue };
                caches.push(match kind {
                    LayerKind::Sliding | LayerKind::HybridSliding => self.sliding(key_value, window.as_ref())?,
                    LayerKind::Chunked => match chunk {
                        Some(chunk) => LayerCache::ChunkedLocal { key_value, chunk },
                        None => LayerCache::FullAttention { key_value },
                    },
                    LayerKind::Cross => {
                        LayerCache::CrossAttention { key_value, encoder_tokens: self.image_tokens()?, optional: true }
                    }
                    _ => LayerCache::FullAttention { key_value },
                });
                if self.encoder_decoder {
                    let encoder_tokens = self.encoder_tokens()?;
                    caches.push(LayerCache::CrossAttention { key_value, encoder_tokens, optional: false });
                }
            }
        }
        if let Some((cache, on)) = attention::index(keys, &kinds, assumptions)? {
            for (caches, _) in layers.iter_mut().zip(on).filter(|(_, on)| *on) {
                caches.push(cache);
            }
        }
        if kinds.iter().any(|kind| kind.recurs()) {
            let state = recurrent::state(keys, self.dtype)?;
            for (caches, _) in layers.iter_mut().zip(&kinds).filter(|(_, kind)| kind.recurs()) {
                caches.push(LayerCache::Recurrent(state));
            }
        }
        self.share(&mut layers)?;
        Ok(layers)
    }

    /// The layers that predict further tokens: of the model's own attention, with an index of their own where the model has
    /// one; of compressed attention only the window (vLLM 0.33 `models/deepseek_v2.py`, `transformers_utils/deepseek_v4_utils.py`).
    fn mtp_groups(&self, layers: &[Vec<LayerCache>]) -> Result<Vec<LayerGroup>, ConfigError> {
        let keys = ["num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules", "num_mtp_layers"];
        let Some(count) = self.keys.count_or_off(&keys)? else { return Ok(Vec::new()) };
        let count = layer_count(count)?;
        let caches = layers.iter().flatten();
        let compressed = caches.clone().any(|cache| matches!(cache, LayerCache::Compressed { .. }));
        let of_kind = |wanted: fn(&LayerCache) -> bool| caches.clone().rev().find(|cache| wanted(cache)).copied();
        let attention = if compressed {
            of_kind(|cache| matches!(cache, LayerCache::SlidingWindow { .. }))
        } else {
            of_kind(|cache| matches!(cache, LayerCache::FullAttention { .. } | LayerCache::Latent { .. }))
        };
        let index = of_kind(|cache| matches!(cache, LayerCache::Indexer { ratio: 1, .. }));
        let each: Vec<LayerCache> = attention.into_iter().chain(index).collect();
        Ok(grouped(self.layers, &vec![each; usize::try_from(count).unwrap_or_default()]))
    }

    /// W, unless it is switched off.
    fn window(&self, assumptions: &mut Vec<Assumption>) -> Result<Option<Dimension>, ConfigError> {
        let keys = self.keys;
        let given = match keys.count_or_off(&["sliding_window", "window_size", "attention_window_size"])? {
            // ModernBERT's is two-sided; a decoder looks back by half of it.
            None => keys.count_or_off(&["local_attention"])?.map(|both| Dimension { value: both.value / 2, ..both }),
            given => given,
        };
        if let Some(gate) = window_gate(keys)
            && !keys.flag(gate)?
        {
            if given.is_some() {
                assumptions.push(Assumption::WindowOff { key: keys.field(gate) });
            }
            return Ok(None);
        }
        let window = given.or_else(|| keys.default("sliding_window", assumptions));
        // Attention in both directions sees half of the window on each side (transformers 5.23 `configuration_gemma3.py`).
        let both_ways = [Value::Bool(true), Value::from("all")];
        if keys.get("use_bidirectional_attention").is_some_and(|value| both_ways.contains(value))
            && let Some(window) = window
        {
            let halved = (window.value / 2).saturating_add(1);
            assumptions.push(Assumption::TwoSidedWindow { window: window.value, halved });
            return Ok(Some(Dimension { value: halved, ..window }));
        }
        Ok(window)
    }

    fn sliding(
        &self,
        key_value: crate::model::KeyValue,
        window: Option<&Dimension>,
    ) -> Result<LayerCache, ConfigError> {
        let keys = self.keys;
        let missing = || self.no_window();
        let window = Tokens(window.ok_or_else(missing)?.value);
        let transformers_window = if keys.get("window_size").is_some() {
            None
        } else if let Some(size) = keys.count_or_off(&["sliding_window_size"])? {
            // It counts the tokens before the current one (transformers 5.23 `configuration_mimo_v2_flash.py`).
            Some(Tokens(size.value.saturating_add(1)))
        } else {
            Some(window)
        };
        Ok(LayerCache::SlidingWindow { key_value, window, transformers_window })
    }

    /// Why layers that slide have no window: the key that switches it off, or the one that would give it.
    fn no_window(&self) -> ConfigError {
        let keys = self.keys;
        let (key, found) = match window_gate(keys).filter(|gate| keys.get(gate) == Some(&Value::Bool(false))) {
            Some(gate) => (gate, "false".into()),
            None => ("sliding_window", keys.found("sliding_window")),
        };
        ConfigError::NoBound { field: keys.field(key), found, kind: "sliding_attention" }
    }

    /// C, where layers are chunked; none where it is switched off and they keep every token (vLLM 0.33 `models/llama4.py`).
    fn chunk(&self, kinds: &[LayerKind], assumptions: &mut Vec<Assumption>) -> Result<Option<Tokens>, ConfigError> {
        if !kinds.contains(&LayerKind::Chunked) {
            return Ok(None);
        }
        let chunk = self.keys.count_or_default(&["attention_chunk_size"], assumptions)?;
        if chunk.is_none() {
            let (key, found) = (self.keys.field("attention_chunk_size"), self.keys.found("attention_chunk_size"));
            assumptions.push(Assumption::NoChunk { key, found });
        }
        Ok(chunk.map(|chunk| Tokens(chunk.value)))
    }

    /// The most tokens an encoder gives: its positions.
    fn encoder_tokens(&self) -> Result<Option<Tokens>, ConfigError> {
        let positions = ["max_source_positions", "max_position_embeddings", "n_positions"];
        Ok(self.keys.count_or_off(&positions)?.map(|positions| Tokens(positions.value)))
    }

    /// The tokens of an image of the most tiles: `((image_size / patch_size)² + 1) × max_num_tiles` (Llama 3.2 Vision).
    fn image_tokens(&self) -> Result<Option<Tokens>, ConfigError> {
        let Some(vision) = self.root.inner("vision_config")? else { return Ok(None) };
        let size = vision.needed(&["image_size"])?;
        let patch = vision.needed(&["patch_size"])?;
        let tiles = vision.needed(&["max_num_tiles"])?;
        let across = size.checked_div(patch);
        let tokens = across.and_then(|across| across.checked_mul(across)?.checked_add(1)?.checked_mul(tiles));
        Ok(tokens.map(Tokens))
    }

    /// Layers that read an earlier layer's cache: the last ones (Gemma 3n and 4), or all but the first of each few
    /// (cross-layer attention).
    fn share(&self, layers: &mut [Vec<LayerCache>]) -> Result<(), ConfigError> {
        let count = layers.len();
        let keys = self.keys;
        if let Some(shared) = keys.count_or_off(&["num_kv_shared_layers"])? {
            let own = usize::try_from(shared.value).ok().and_then(|shared| count.checked_sub(shared));
            let own = own.ok_or_else(|| ConfigError::TooManyShared {
                field: shared.field.clone(),
                found: shared.value,
                layers: self.layers,
            })?;
            for caches in layers.iter_mut().skip(own).filter(|caches| !caches.is_empty()) {
                *caches = vec![LayerCache::Shared];
            }
        }
        if keys.flag("use_cla")? {
            let factor = keys.needed(&["cla_share_factor"])?;
            let step = usize::try_from(factor).unwrap_or(usize::MAX).max(1);
            for (_, caches) in layers.iter_mut().enumerate().filter(|(layer, _)| !layer.is_multiple_of(step)) {
                *caches = vec![LayerCache::Shared];
            }
        }
        Ok(())
    }
}

/// Layers with the same cache together, numbered from `first`; a layer without any is in a group of its own kind.
fn grouped(first: u32, layers: &[Vec<LayerCache>]) -> Vec<LayerGroup> {
    let mut groups: Vec<LayerGroup> = Vec::new();
    for (layer, caches) in (first..).zip(layers) {
        let none = [LayerCache::None];
        for cache in if caches.is_empty() { none.as_slice() } else { caches.as_slice() } {
            match groups.iter_mut().find(|group| group.cache == *cache) {
                Some(group) => group.layers.push(layer),
                None => groups.push(LayerGroup { layers: vec![layer], cache: *cache }),
            }
        }
    }
    groups.sort_by_key(|group| match group.cache {
        LayerCache::FullAttention { .. } => 0,
        LayerCache::Latent { .. } => 1,
        LayerCache::SlidingWindow { .. } => 2,
        LayerCache::ChunkedLocal { .. } => 3,
        LayerCache::Compressed { .. } => 4,
        LayerCache::Indexer { .. } => 5,
        LayerCache::Recurrent(_) => 6,
        LayerCache::CrossAttention { .. } => 7,
        LayerCache::Shared => 8,
        LayerCache::None => 9,
    });
    groups
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
