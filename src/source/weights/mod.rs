//! The weights of a model: of the files that hold them, of the catalogue, or computed from a configuration.
//!
//! Computed are the classes whose tensors are listed in `classes.jsonl`, with the blocks of `blocks.jsonl` and the vision
//! towers of `towers.jsonl`. A class that is not listed has no figure: nothing is guessed. MTP layers are not counted.

mod block_configs;
pub(super) mod files;
mod gguf;
mod known;
mod layers;
mod rows;
mod scheme;
mod tensors;

#[cfg(test)]
mod gguf_tests;
#[cfg(test)]
mod hub_tests;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use serde_json::{Map, Value};

pub use self::gguf::Extra;
pub(super) use self::gguf::gguf_tensors;
pub use self::known::Known;
pub(super) use self::known::{OF_THE_CACHE, of_entry};
use self::layers::{Layers, MtpLayers};
use self::rows::{CLASSES, Class, Scope, Storage, TOWERS};
use self::tensors::{Format, Shape};
use super::hf_config::{
    EXPERTS, EXPERTS_PER_TOKEN, Keys, LAYERS, Read, declared_quantization, listed_layers, text_model,
};
use crate::catalogue::{ModelType, model_type};
use crate::model::{Experts, MAX_LAYERS, Tensors, Weights, WeightsOrigin};
use crate::units::{Error, Exact};

const TOO_LARGE: &str = "the weights exceed 2^64 - 1 bytes";
const CONDITIONAL: &str = "ForConditionalGeneration";
const UNKNOWN_PARTS: &str = "the config has parts beside the text model, whose tensors are not known here";

/// The experts of a configuration, if it has any.
pub(super) fn experts(config: &Value) -> Option<Experts> {
    let (object, _) = text_model(config.as_object()?).ok()?;
    let first = |names: &[&str]| names.iter().find_map(|key| object.get(*key)?.as_u64());
    let all = first(EXPERTS).filter(|&all| all > 1)?;
    Some(Experts { all, per_token: first(EXPERTS_PER_TOKEN).filter(|&chosen| chosen > 0)? })
}

/// The MTP layers of a configuration, if it has any.
pub(super) fn mtp_layers(config: &Value) -> Option<u64> {
    let (object, _) = text_model(config.as_object()?).ok()?;
    let layers =
        ["num_nextn_predict_layers", "mtp_num_hidden_layers"].iter().find_map(|key| object.get(*key)?.as_u64());
    layers.filter(|&layers| layers > 0)
}

/// Weights computed from a configuration, or why they cannot be. `quant_file` names a file next to it that declares a
/// quantization.
pub(super) fn computed(config: &Value, quant_file: Option<&str>) -> Result<Weights, String> {
    let text = TextModel::new(config)?;
    if text.object.get("expert_dtype").is_some_and(|dtype| *dtype == "fp4") {
        return Err("its experts are in fp4, whose bytes in a checkpoint are not computed here".into());
    }
    let tower = tower(text.root, text.outer, &text.path)?;
    text.check_architecture(tower.as_ref())?;
    let read = RefCell::default();
    let known = model_type(text.named);
    let keys = text.keys(known.as_ref(), &read);
    let root_keys = Keys { object: text.root, path: String::new(), model_type: None, read: &read };
    let scope = text.scope(&keys, &root_keys)?;
    let count = layer_count(&keys)?;
    let layers = || Layers::new(&text.class, &keys, count);
    let mut shapes = scope.shapes(&layers()?, Storage::Checkpoint)?;
    shapes.extend(block_configs::shapes(&scope, &keys, count)?);
    let sum = |shapes: &[Shape]| shapes.iter().map(Shape::parameters).sum::<Exact>();
    let of_text = sum(&shapes);
    let of_mtp = match text.class.mtp_layers(&keys)? {
        0 => None,
        _ => Some(sum(&scope.shapes(&layers()?.with_mtp(&text.class, &keys, count)?, Storage::Checkpoint)?) - of_text),
    };
    if let (Some(tower), Some(vision)) = (&tower, vision(text.root)) {
        let keys = Keys { object: vision, path: "vision_config.".into(), model_type: None, read: &read };
        let scope = Scope::new(tower, &keys, &root_keys).with("text", scope.size("hidden_size")?.to_string());
        scope.check(text.outer.unwrap_or_default())?;
        shapes.extend(scope.shapes(&Layers::default(), Storage::Checkpoint)?);
    }
    let format = Format::new(text.object, text.root, text.named);
    let mut weights = weights(&shapes, &format, experts(config)).map_err(|_| TOO_LARGE)?;
    let part = |part: Exact| part.get().map_err(|_| TOO_LARGE);
    weights.tower_parameters = tower.is_some().then(|| part(sum(&shapes) - of_text)).transpose()?;
    weights.mtp_parameters = of_mtp.map(part).transpose()?;
    let groups = format.groups(&shapes).map_err(|_| TOO_LARGE)?;
    weights.tensors = Some(Tensors { groups, tied: text.tied });
    let declared = declared_quantization(text.root, text.object);
    let method = declared.map(|declared| declared.get("quant_method").and_then(Value::as_str).unwrap_or("unnamed"));
    if let (Some(method), [share]) = (method.or(quant_file), weights.by_dtype.as_slice()) {
        let dtype = &share.dtype;
        weights.notes.push(format!(
            "the checkpoint is quantised ({method}): its bytes are counted in {dtype}, which is more than its files take"
        ));
    }
    if let Some(layers) = mtp_layers(config) {
        weights.notes.push(format!("what predicts further tokens (MTP layers: {layers}) is not counted"));
    } else if text.class.mtp.as_ref().is_some_and(MtpLayers::is_unlisted) {
        weights.notes.push("what predicts further tokens (MTP) is not counted: its config tells nothing of it".into());
    }
    Ok(weights)
}

/// The text model of a configuration, of a class whose tensors are listed.
struct TextModel<'a> {
    root: &'a Map<String, Value>,
    object: &'a Map<String, Value>,
    path: String,
    /// `model_type` of the whole configuration.
    outer: Option<&'a str>,
    /// `model_type` of the text model.
    named: &'a str,
    class: Class,
    tied: bool,
}

impl<'a> TextModel<'a> {
    fn new(config: &'a Value) -> Result<Self, String> {
        let root = config.as_object().ok_or("the config is no object")?;
        let (object, path) = text_model(root).map_err(|error| error.to_string())?;
        let outer = root.get("model_type").and_then(Value::as_str);
        let named =
            object.get("model_type").and_then(Value::as_str).or(outer).ok_or("the config names no model_type")?;
        let class = Class::load(CLASSES, named)
            .ok_or_else(|| format!("the tensors of model_type {named:?} are not known here one by one"))?;
        let tied =
            [object, root].iter().find_map(|keys| keys.get("tie_word_embeddings")?.as_bool()).unwrap_or(class.tied);
        Ok(Self { root, object, path, outer, named, class, tied })
    }

    /// Refuses a class of model that has other tensors than a causal language model has.
    fn check_architecture(&self, tower: Option<&Class>) -> Result<(), String> {
        let first = self.root.get("architectures").and_then(|names| names.as_array()?.first()?.as_str());
        let is_known = |name: &&str| {
            let of_tower = tower.is_some_and(|tower| tower.is_named(name, CONDITIONAL));
            self.class.is_named(name, "ForCausalLM") || of_tower
        };
        match first.filter(|name| !is_known(name)) {
            Some(other) => Err(format!("the tensors of {other} are not known here one by one")),
            None => Ok(()),
        }
    }

    fn keys<'b>(&self, known: Option<&'b ModelType>, read: &'b RefCell<Read>) -> Keys<'b>
    where
        'a: 'b,
    {
        Keys { object: self.object, path: self.path.clone(), model_type: known, read }
    }

    fn scope<'b>(&'b self, keys: &'b Keys<'b>, root_keys: &'b Keys<'b>) -> Result<Scope<'b>, String> {
        let scope = Scope::new(&self.class, keys, root_keys).with("tied", self.tied.to_string());
        scope.check(self.named)?;
        Ok(scope)
    }
}

fn vision(root: &Map<String, Value>) -> Option<&Map<String, Value>> {
    root.get("vision_config")?.as_object()
}

/// The vision tower of a configuration whose text model is at `path`; `None` for a text model alone.
fn tower(root: &Map<String, Value>, model_type: Option<&str>, path: &str) -> Result<Option<Class>, String> {
    let others = ["visual", "vision_encoder", "audio_config", "audio_encoder"];
    let other = others.iter().any(|part| root.get(*part).is_some_and(Value::is_object));
    match vision(root) {
        None if path.is_empty() && !other => Ok(None),
        Some(_) if !other => {
            model_type.and_then(|name| Class::load(TOWERS, name)).map(Some).ok_or_else(|| UNKNOWN_PARTS.into())
        }
        _ => Err(UNKNOWN_PARTS.into()),
    }
}

fn layer_count(keys: &Keys<'_>) -> Result<u32, String> {
    let given = keys.count_or_default(LAYERS).map_err(|error| error.to_string())?;
    let layers = given.map(|layers| layers.value).or_else(|| listed_layers(keys).map(|(_, layers)| layers));
    let layers = layers.ok_or_else(|| rows::missing(keys, "num_hidden_layers"))?;
    let known = u32::try_from(layers).ok().filter(|&layers| layers <= MAX_LAYERS);
    known.ok_or_else(|| format!("{layers} is more layers than any model has"))
}

fn weights(shapes: &[Shape], format: &Format, experts: Option<Experts>) -> Result<Weights, Error> {
    let by_dtype = format.by_dtype(shapes)?;
    let bytes: Exact = by_dtype.iter().filter_map(|share| share.bytes).sum();
    let parameters = shapes.iter().map(Shape::parameters).sum::<Exact>().get()?;
    let routed = shapes.iter().filter(|shape| shape.is_routed()).map(Shape::parameters).sum::<Exact>().get()?;
    Ok(Weights {
        by_dtype,
        bytes: Some(bytes.bytes()?),
        parameters: Some(parameters),
        active_parameters: experts.and_then(|experts| experts.active(parameters, routed)),
        ..Weights::new(WeightsOrigin::Config)
    })
}
