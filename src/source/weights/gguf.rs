//! The tensors of a configuration's text model as llama.cpp's converter names and shapes them.
//!
//! Read in `conversion/` and `gguf-py/gguf/tensor_mapping.py` of llama.cpp 0c1e57098.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::layers::{Layers, On};
use super::rows::{Scope, Storage};
use super::{CONDITIONAL, TOO_LARGE, TextModel, block_configs, layer_count};
use crate::catalogue::{GgufArchitecture, RecurrentRule, gguf_architecture_of, model_type};
use crate::model::{GgufTensor, GgufTensors, Place, Shape};
use crate::source::hf_config::Keys;

/// What some GGUF files hold in addition, and others do not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extra {
    /// MTP layers, which the converter writes by default since mid 2026.
    pub mtp: bool,
    /// The head of a checkpoint that stores it although it is the embedding.
    pub lm_head: bool,
}

/// The tensors of a GGUF file of a configuration, or why they are not known. Towers are in a file of their own.
pub(in crate::source) fn gguf_tensors(config: &Value, extra: Extra) -> Result<GgufTensors, String> {
    let mut text = TextModel::new(config)?;
    text.tied = text.tied && !extra.lm_head;
    let known = gguf_architecture_of(text.named).or_else(|| gguf_architecture_of(text.outer?));
    let architecture =
        known.ok_or_else(|| format!("no architecture of llama.cpp is known here for model_type {:?}", text.named))?;
    if text.path.is_empty() {
        text.check_architecture(None).or_else(|error| conditional(&text).then_some(()).ok_or(error))?;
    }
    let read = RefCell::default();
    let known = model_type(text.named);
    let keys = text.keys(known.as_ref(), &read);
    let root_keys = Keys { object: text.root, path: String::new(), model_type: None, read: &read };
    let scope = text.scope(&keys, &root_keys)?;
    let scope = with_rope(scope, text.object);
    let count = layer_count(&keys)?;
    let without = Layers::new(&text.class, &keys, count)?;
    let layers = if extra.mtp { without.with_mtp(&text.class, &keys, count)? } else { without };
    let mut shapes = scope.shapes(&layers, Storage::Gguf)?;
    shapes.extend(block_configs::shapes(&scope, &keys, count)?);
    Ok(GgufTensors {
        gqa: block_configs::gqa(&scope, &keys)?.map_or_else(|| gqa(&scope, &layers, &architecture), Ok)?,
        experts: if layers.has(On::Sparse) { scope.size("experts")? } else { 0 },
        architecture: name(&architecture, &layers),
        layers: u32::try_from(layers.count()).map_err(|_| TOO_LARGE)?,
        tensors: shapes.iter().map(tensor).collect::<Result<_, _>>()?,
        notes: notes(&text, text.class.mtp_layers(&keys)?, extra),
    })
}

/// What the file does not hold of the model.
fn notes(text: &TextModel<'_>, mtp_layers: u32, extra: Extra) -> Vec<String> {
    let mut notes = Vec::new();
    if mtp_layers > 0 && !extra.mtp {
        notes.push("MTP layers are not counted: files converted since mid 2026 may hold them".into());
    }
    if PARTS.iter().any(|part| text.root.get(*part).is_some_and(Value::is_object)) {
        notes.push("what sees and hears is not counted: it is in a file of its own (mmproj)".into());
    }
    notes
}

/// Parts of a model beside its text model.
const PARTS: &[&str] = &["vision_config", "visual", "vision_encoder", "audio_config", "audio_encoder"];

/// Whether the file is of a model that reads more than text.
fn conditional(text: &TextModel<'_>) -> bool {
    let first = text.root.get("architectures").and_then(|names| names.as_array()?.first()?.as_str());
    first.is_some_and(|name| name.ends_with(CONDITIONAL))
}

/// The architecture: Nemotron-H with experts has one of its own.
fn name(architecture: &GgufArchitecture, layers: &Layers) -> String {
    let is_mixed = architecture.name == "nemotron_h" && layers.has(On::Sparse);
    if is_mixed { format!("{}_moe", architecture.name) } else { architecture.name.clone() }
}

/// Query heads for each KV head of the first layer, as the file says them: a latent has one KV head.
fn gqa(scope: &Scope<'_>, layers: &Layers, architecture: &GgufArchitecture) -> Result<u64, String> {
    let lists_heads = matches!(
        architecture.recurrent,
        Some(RecurrentRule::NoKvHeads | RecurrentRule::NoKvHeadsNorFeedForward | RecurrentRule::All)
    );
    if lists_heads && !layers.has_first(On::Full) {
        return Ok(0);
    }
    let heads = scope.size("heads")?;
    let kv_heads = if scope.has_name("latent") { 1 } else { scope.size("kv_heads")? };
    Ok(heads.checked_div(kv_heads).unwrap_or_default())
}

/// The sizes of what the converter adds for scaled rotary embeddings.
fn with_rope<'a>(scope: Scope<'a>, text: &Map<String, Value>) -> Scope<'a> {
    let objects = ["rope_parameters", "rope_scaling"].map(|key| text.get(key).and_then(Value::as_object));
    let of_full = |rope: &Map<String, Value>, key: &str| -> Option<Value> {
        let full = rope.get("full_attention").and_then(Value::as_object).unwrap_or(rope);
        full.get(key).cloned()
    };
    let find = |key: &str| objects.iter().flatten().find_map(|rope| of_full(rope, key));
    let kind = find("rope_type").or_else(|| find("type"));
    let is_llama3 = kind.is_some_and(|kind| kind.as_str() == Some("llama3"));
    let factors = find("long_factor").and_then(|factors| Some(factors.as_array()?.len())).unwrap_or_default();
    scope.with("llama3_rope", is_llama3.to_string()).with("rope_factors", factors.to_string())
}

fn tensor(shape: &Shape) -> Result<GgufTensor, String> {
    let elements = (shape.rows() * shape.columns * shape.count).get().map_err(|_| TOO_LARGE)?;
    let (name, columns) = match &shape.gguf {
        Some(name) if shape.gguf_columns > 0 => (name.clone(), shape.gguf_columns),
        Some(name) => (name.clone(), shape.columns),
        None => (String::new(), 1),
    };
    let layers = match &shape.place {
        Place::Layers(layers) => Some(layers.clone()),
        Place::Embedding | Place::Head | Place::Beside => None,
    };
    Ok(GgufTensor { name, layers, columns, elements, is_stacked: shape.stacked })
}
