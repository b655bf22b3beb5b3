//! The weights of a model: of the files that hold them, of the catalogue, or computed from a configuration.
//!
//! Computed are the classes whose tensors are listed in `classes.jsonl`, with the blocks of `blocks.jsonl` and the vision
//! towers of `towers.jsonl`. A class that is not listed has no figure: nothing is guessed. MTP layers are not counted.

mod block_configs;
pub(super) mod files;
mod gguf;
mod known;
mod layers;
mod quantizer;
mod rows;

#[cfg(test)]
mod format_tests;
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
use super::hf_config::{
    EXPERTS, EXPERTS_PER_TOKEN, Keys, LAYERS, Read, declared_quantization, listed_layers, text_model,
};
use crate::catalogue::{ModelType, model_type};
use crate::model::{CheckpointTensors, Experts, MAX_LAYERS, Place, PlainDtype, Shape, Weights};
use crate::units::Exact;

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

/// Weights computed from a configuration, or why they cannot be. `hf_quant_config` is what a file of that name next to it
/// declares.
pub(super) fn computed(config: &Value, hf_quant_config: Option<&Value>) -> Result<Weights, String> {
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
    let of_text = sum(&shapes);
    let mut mtp = Vec::new();
    if text.class.mtp_layers(&keys)? > 0 {
        let all = scope.shapes(&layers()?.with_mtp(&text.class, &keys, count)?, Storage::Checkpoint)?;
        mtp.extend(all.into_iter().filter_map(|shape| from_layer(shape, count)));
    }
    if let (Some(tower), Some(vision)) = (&tower, vision(text.root)) {
        let keys = Keys { object: vision, path: "vision_config.".into(), model_type: None, read: &read };
        let scope = Scope::new(tower, &keys, &root_keys).with("text", scope.size("hidden_size")?.to_string());
        scope.check(text.outer.unwrap_or_default())?;
        shapes.extend(scope.shapes(&Layers::default(), Storage::Checkpoint)?);
    }
    let part = |part: Exact| part.get().map_err(|_| TOO_LARGE);
    let tower_parameters = tower.is_some().then(|| part(sum(&shapes) - of_text)).transpose()?;
    let mtp_parameters = (!mtp.is_empty()).then(|| part(sum(&mtp))).transpose()?;
    let plain = CheckpointTensors { dtype: text.dtype(), shapes: merged(shapes), mtp: merged(mtp) };
    let (tensors, note) = text.quantized(plain, hf_quant_config);
    let mut weights = Weights::from_tensors(tensors, text.tied, experts(config)).map_err(|_| TOO_LARGE)?;
    weights.tower_parameters = tower_parameters;
    weights.mtp_parameters = mtp_parameters;
    weights.notes.extend(note);
    if let Some(layers) = mtp_layers(config) {
        weights.notes.push(format!("what predicts further tokens (MTP layers: {layers}) is not counted"));
    } else if text.class.mtp.as_ref().is_some_and(MtpLayers::is_unlisted) {
        weights.notes.push("what predicts further tokens (MTP) is not counted: its config tells nothing of it".into());
    }
    Ok(weights)
}

fn sum(shapes: &[Shape]) -> Exact {
    shapes.iter().map(Shape::parameters).sum()
}

/// Of tensors those on layers from this one on.
fn from_layer(mut shape: Shape, first: u32) -> Option<Shape> {
    let Place::Layers(layers) = &mut shape.place else { return None };
    layers.retain(|&layer| layer >= first);
    (!layers.is_empty()).then_some(shape)
}

/// The tensors as checkpoints have them: K and V out of a latent are one matrix.
fn merged(shapes: Vec<Shape>) -> Vec<Shape> {
    let mut all: Vec<Shape> = Vec::with_capacity(shapes.len());
    for shape in shapes {
        let is = |shape: &Shape, name: &str| shape.gguf.as_deref() == Some(name);
        match all.last_mut() {
            Some(last) if is(last, "attn_k_b") && is(&shape, "attn_v_b") && last.place == shape.place => {
                last.divided = last.divided.saturating_add(shape.divided);
            }
            _ => all.push(shape),
        }
    }
    all
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

    /// The dtype of what is not quantized.
    fn dtype(&self) -> PlainDtype {
        let dtype = [self.object, self.root]
            .iter()
            .find_map(|keys| ["torch_dtype", "dtype"].iter().find_map(|key| keys.get(*key)?.as_str()));
        PlainDtype::new(dtype)
    }

    /// The tensors as the configuration, or a file next to it, declares them to be stored; and a note where that is not known.
    fn quantized(
        &self,
        tensors: CheckpointTensors,
        hf_quant_config: Option<&Value>,
    ) -> (CheckpointTensors, Option<String>) {
        let own = declared_quantization(self.root, self.object);
        let declared = own.or_else(|| quantizer::in_file(hf_quant_config?));
        let known = declared.map(|declared| quantizer::quantizer(declared, self.named));
        let reason = match (known, hf_quant_config) {
            (Some(Ok(quantizer)), _) => return (tensors.quantized(&quantizer), None),
            (Some(Err(reason)), _) => reason,
            (None, Some(_)) => "its hf_quant_config.json declares none".into(),
            (None, None) => return (tensors, None),
        };
        let method = own.map(|own| own.get("quant_method").and_then(Value::as_str).unwrap_or("unnamed"));
        let method = method.unwrap_or("hf_quant_config.json");
        let dtype = tensors.dtype.name;
        let note = format!(
            "the checkpoint is quantised ({method}): its bytes are counted in {dtype}, which is more than its files take: \
             {reason}"
        );
        (tensors, Some(note))
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
