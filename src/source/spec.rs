//! A model as an object of our own: its dimensions under the names of the options, or its layers group by group under the
//! names that our own output has. `kvsize generate schema spec` documents it. A document of ours with such a `model` is read, too.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::catalogue::gguf_architecture_of;
#[cfg(feature = "cli")]
use crate::model::positive;
use crate::model::{
    Checkpoint, Drafter, Fact, GroupDefaults, LayerGroup, LayerGroupJson, LayerNumbers, Model, ModelSpec, Origin,
};
use crate::units::{Code, ElementFormat, Error, Tokens};

/// The name of the shape.
pub const SCHEMA: &str = "kvsize.spec/1";

/// A model for `kvsize -`: its dimensions where all layers are alike, or its `layer_groups`. The model of an estimate's document is one
/// too.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "cli",
    derive(schemars::JsonSchema),
    schemars(transform = positive, extend("anyOf" = [{"required": ["layers"]}, {"required": ["layer_groups"]}]))
)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelObject {
    #[cfg_attr(feature = "cli", schemars(with = "String", extend("const" = SCHEMA)))]
    schema: Option<String>,
    /// A name to print.
    name: Option<String>,
    /// A name of its class; engines treat some classes differently.
    model_type: Option<String>,
    /// The longest sequence it was made for.
    model_max_seq_len: Option<u64>,
    /// The 16-bit element format of the checkpoint: fp16 where it is absent.
    dtype: Option<String>,
    /// All layers, where `layer_groups` do not hold the last ones.
    num_hidden_layers: Option<u32>,
    /// Layers.
    layers: Option<u64>,
    /// Width of the model.
    hidden_size: Option<u64>,
    /// KV heads.
    kv_heads: Option<u64>,
    /// Query heads; with `hidden_size` they give the head dimension.
    heads: Option<u64>,
    /// Elements of K, and of V unless `v_head_dim` is given, in one head.
    head_dim: Option<u64>,
    /// Elements of V in one head.
    v_head_dim: Option<u64>,
    /// The window, if all layers slide.
    sliding_window: Option<u64>,
    /// The layers, by what they cache; a layer with several caches is in several groups.
    #[cfg_attr(feature = "cli", schemars(with = "Vec<shape::Group>", length(min = 1)))]
    layer_groups: Option<Vec<LayerGroupJson>>,
    /// The MTP layers, which cost nothing until they draft; numbered on from `num_hidden_layers`.
    #[cfg_attr(feature = "cli", schemars(with = "Vec<shape::Group>"))]
    mtp_layer_groups: Vec<LayerGroupJson>,
    /// What drafts tokens for it; its layers are among the groups.
    drafter: Option<Drafter>,
    /// What engines read of a checkpoint in addition to its layers.
    checkpoint: Checkpoint,
    /// Of an estimate's document; not used.
    source: Option<Value>,
    /// Of an estimate's document; not used.
    weights: Option<Map<String, Value>>,
}

/// Whether an object is ours and no `config.json`: it says so, or names layers as no configuration does.
pub(super) fn is_spec(object: &Map<String, Value>) -> bool {
    let theirs = ["num_hidden_layers", "architectures", "text_config", "_class_name"];
    model_of_document(object).is_some()
        || object.get("schema").is_some_and(|schema| *schema == SCHEMA)
        || object.contains_key("layer_groups")
        || (object.get("layers").is_some_and(|layers| !layers.is_object() && !layers.is_array())
            && !theirs.iter().any(|key| object.contains_key(*key)))
}

/// The model in a document of ours, under its key: the one of a list, or the one there is.
fn model_of_document(object: &Map<String, Value>) -> Option<(&'static str, &Map<String, Value>)> {
    let is_ours = object.get("schema").and_then(Value::as_str).is_some_and(|schema| schema.starts_with("kvsize."));
    let of_list = || match object.get("models")?.as_array()?.as_slice() {
        [model] => Some(("models[0]", model.as_object()?)),
        _ => None,
    };
    let alone = || Some(("model", object.get("model")?.as_object()?));
    of_list().or_else(alone).filter(|_| is_ours)
}

/// The model of an object, or of the `model` of a document.
///
/// # Errors
/// [`Error`], with the path of the key.
pub fn model(object: &Map<String, Value>, name: &str) -> Result<Model, Error> {
    match model_of_document(object) {
        Some((key, inner)) => read(inner, name).map_err(|error| error.within(key)),
        None => read(object, name),
    }
}

fn read(object: &Map<String, Value>, name: &str) -> Result<Model, Error> {
    if let Some(other) = object.get("schema").filter(|schema| **schema != SCHEMA) {
        let remedy = format!("write {SCHEMA:?}");
        return Err(Error::new(Code::Spec, "schema", other.to_string(), "is not the shape that is read here", remedy));
    }
    if object.contains_key("max_seq_len") {
        let problem = "is model_max_seq_len now";
        return Err(Error::without_value(Code::Spec, "max_seq_len", problem, "write that"));
    }
    if let Some(other) = object.get("layer_groups").filter(|groups| !groups.is_array()) {
        let found: String = other.to_string().chars().take(40).collect();
        return Err(Error::new(Code::Spec, "layer_groups", found, "is not a list", "write a list of objects"));
    }
    let typed: ModelObject = typed(&Value::Object(object.clone()))?;
    let dtype = match &typed.dtype {
        Some(name) => name.parse().map_err(|error: Error| error.at("dtype"))?,
        None => ElementFormat::FP16,
    };
    let model = match &typed.layer_groups {
        None => typed.dimensions(object)?.model_by_keys()?,
        Some(groups) => {
            let alone = ModelSpec { heads: None, hidden_size: None, ..typed.dimensions(object)? };
            Model { facts: facts(object), ..typed.grouped(groups, &alone, dtype)? }
        }
    };
    Ok(typed.described(model, name, dtype))
}

impl ModelObject {
    /// The dimensions of all layers.
    fn dimensions(&self, object: &Map<String, Value>) -> Result<ModelSpec, Error> {
        let Self { layers, hidden_size, kv_heads, heads, head_dim, v_head_dim, sliding_window, .. } = *self;
        if let Some((key, _)) = object.iter().find(|(key, value)| **value == 0 && *key != "model_max_seq_len") {
            return Err(Error::new(Code::Spec, key, "0", "is not a positive count", "write 1 or more"));
        }
        Ok(ModelSpec { name: None, layers, hidden_size, kv_heads, heads, head_dim, v_head_dim, sliding_window })
    }

    /// The model of groups.
    fn grouped(&self, groups: &[LayerGroupJson], alone: &ModelSpec, dtype: ElementFormat) -> Result<Model, Error> {
        if !alone.is_empty() {
            let remedy = "give the dimensions of each group, or those of all layers and no layer_groups";
            let problem = "is given in addition to the dimensions of all layers";
            return Err(Error::without_value(Code::Spec, "layer_groups", problem, remedy));
        }
        if groups.is_empty() {
            return Err(Error::new(Code::Spec, "layer_groups", "[]", "is empty", "give one group or more"));
        }
        let defaults = GroupDefaults { dtype, hidden_size: self.hidden_size.or(self.checkpoint.hidden_size) };
        let mut numbers = LayerNumbers::default();
        let own_groups = layer_groups("layer_groups", groups, defaults, &mut numbers)?;
        let num_hidden_layers = self.num_hidden_layers.unwrap_or(numbers.end());
        if num_hidden_layers < numbers.end() && self.drafter.is_none() {
            let problem = format!("is less than the {} layers of layer_groups", numbers.end());
            let (field, found) = ("num_hidden_layers", num_hidden_layers.to_string());
            return Err(Error::new(Code::Spec, field, found, problem, "count all layers, or leave it out"));
        }
        let mut mtp_numbers = LayerNumbers::from_layer(num_hidden_layers);
        let mtp_groups = layer_groups("mtp_layer_groups", &self.mtp_layer_groups, defaults, &mut mtp_numbers)?;
        let model = Model::new(String::new(), Origin::Spec, dtype, num_hidden_layers, own_groups);
        Ok(Model { mtp_groups, ..model }.with_shortcut_noted())
    }

    /// The model with what else the object says of it.
    fn described(self, model: Model, name: &str, dtype: ElementFormat) -> Model {
        let mut checkpoint = self.checkpoint;
        checkpoint.num_attention_heads = self.heads.or(checkpoint.num_attention_heads);
        checkpoint.hidden_size = self.hidden_size.or(checkpoint.hidden_size);
        if checkpoint.gguf.is_none() {
            let names = [&checkpoint.text_model_type, &self.model_type];
            let known = names.into_iter().flatten().find_map(|name| gguf_architecture_of(name));
            checkpoint.gguf = known.map(|known| known.gguf(model.num_hidden_layers));
        }
        Model {
            name: self.name.unwrap_or_else(|| name.to_owned()),
            origin: Origin::Spec,
            model_type: self.model_type,
            max_position_embeddings: self.model_max_seq_len.filter(|&tokens| tokens > 0).map(Tokens),
            dtype,
            drafter: self.drafter,
            checkpoint,
            ..model
        }
    }
}

/// The groups under `key`.
fn layer_groups(
    key: &str,
    groups: &[LayerGroupJson],
    defaults: GroupDefaults,
    numbers: &mut LayerNumbers,
) -> Result<Vec<LayerGroup>, Error> {
    let group = |(index, group): (usize, &LayerGroupJson)| {
        group.group(defaults, numbers).map_err(|error| error.within(&format!("{key}[{index}]")))
    };
    groups.iter().enumerate().map(group).collect()
}

/// The keys of the groups as they were given.
fn facts(object: &Map<String, Value>) -> Vec<Fact> {
    let groups = object.get("layer_groups").and_then(Value::as_array).into_iter().flatten().enumerate();
    let facts = groups.flat_map(|(index, group)| {
        group.as_object().into_iter().flatten().map(move |(key, value)| Fact {
            key: format!("layer_groups[{index}].{key}"),
            value: value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned).chars().take(24).collect(),
            from: "given".into(),
        })
    });
    facts.collect()
}

/// A value as its type, all keys of which may be absent.
fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(value).map_err(|error| {
        let (path, error) = culprit::<T>(value, &Value::clone).unwrap_or_else(|| (String::new(), error));
        let problem = format!("is not read: {error}");
        Error::without_value(Code::Spec, path, problem, "`kvsize generate schema spec` shows its shape")
    })
}

/// The path in `value` of what is no `T`. The parser names no place, but as all keys may be absent, it is what is refused
/// alone: `within` is the whole of which a part is all there is.
fn culprit<T: DeserializeOwned>(
    value: &Value,
    within: &dyn Fn(&Value) -> Value,
) -> Option<(String, serde_json::Error)> {
    let part = |step: String, inner: &Value, alone: &dyn Fn(&Value) -> Value| {
        let error = T::deserialize(alone(inner)).err()?;
        Some(match culprit::<T>(inner, alone) {
            Some((path, error)) if path.starts_with('[') => (step + &path, error),
            Some((path, error)) => (format!("{step}.{path}"), error),
            None => (step, error),
        })
    };
    match value {
        Value::Object(object) => {
            object.iter().find_map(|(key, inner)| part(key.clone(), inner, &|inner| within(&json!({ key: inner }))))
        }
        Value::Array(list) => {
            let item = |(index, inner)| part(format!("[{index}]"), inner, &|inner| within(&json!([inner])));
            list.iter().enumerate().find_map(item)
        }
        _ => None,
    }
}

/// The shape of groups that are read, for its schema.
#[cfg(feature = "cli")]
mod shape {
    use schemars::{JsonSchema, Schema};
    use serde_json::{Value, json};

    use super::LayerGroupJson;

    /// What a group must have that is read, in addition to what one has that is written.
    #[derive(JsonSchema)]
    #[schemars(transform = as_read)]
    #[expect(dead_code, reason = "read by the derive alone")]
    pub(super) struct Group(LayerGroupJson);

    fn as_read(schema: &mut Schema) {
        schema.insert("allOf".into(), needs());
        super::positive(schema);
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
        if let Some(names) = properties["mechanism"]["enum"].as_array_mut() {
            names.push(Value::Null);
        }
        properties["layers"] = json!({"anyOf": [
            {"type": "integer", "minimum": 1},
            {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
        ], "description": properties["layers"]["description"]});
    }

    /// What groups of each kind must have.
    fn needs() -> Value {
        let needs: [(&str, &[&str]); 6] = [
            ("sliding_attention", &["window"]),
            ("chunked_attention", &["chunk"]),
            ("latent_attention", &["kv_lora_rank"]),
            ("indexer", &["index_head_dim"]),
            ("compressed_attention", &["head_dim", "ratio", "state_elements"]),
            ("recurrent_state", &["mechanism"]),
        ];
        let rule = |(kind, keys): (&str, &[&str])| json!({"if": {"properties": {"kind": {"const": kind}}}, "then": {"required": keys}});
        needs.into_iter().map(rule).collect()
    }
}
