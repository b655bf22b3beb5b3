//! A model as an object of our own: its dimensions under the names of the options, or its layers group by group under the
//! names that our own output has. `kvsize schema spec` documents it.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model::{
    Checkpoint, Convolution, Dimension, Fact, KeyValue, LayerCache, LayerGroup, MAX_LAYERS, Mechanism, Memory, Model,
    ModelSpec, Origin, RecurrentState, layer_count,
};
use crate::units::{Code, ElementFormat, Error, Tokens};

/// The name of the shape.
pub const SCHEMA: &str = "kvsize.spec/1";

/// What is at the top of the object, beside the dimensions.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(default)]
struct Top {
    /// A name to print.
    name: Option<String>,
    /// A name of its class; it decides nothing.
    model_type: Option<String>,
    /// The longest sequence it was made for.
    max_seq_len: Option<u64>,
    /// The 16-bit element format of the checkpoint: fp16 where it is not said.
    dtype: Option<String>,
    /// Query heads; with `hidden_size` they give the head dimension.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    heads: Option<u64>,
    /// Width of the model.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    hidden_size: Option<u64>,
}

/// What the object may say beside the dimensions of [`ModelSpec`]; `source` and `weights` are what our output says of a
/// model, and are not used.
const TOP: &[&str] = &["schema", "model_type", "max_seq_len", "dtype", "layer_groups", "source", "weights"];

/// A group of layers.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli",
    derive(schemars::JsonSchema),
    schemars(extend("required" = ["kind", "layers"], "allOf" = shape::needs()))
)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names that our output has")]
struct Group {
    /// What its layers cache.
    #[cfg_attr(feature = "cli", schemars(extend("enum" = LayerCache::KINDS)))]
    kind: String,
    /// How many layers, which are the next ones, or a list of them, counted from 0; an indexer and compressed attention stand
    /// beside other layers and are numbered from 0 each by themselves.
    #[cfg_attr(feature = "cli", schemars(with = "Layers"))]
    layers: Option<Layers>,
    /// KV heads.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    kv_heads: Option<u64>,
    /// Elements of K in one head.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    k_dim: Option<u64>,
    /// Elements of V in one head; as K where it is not said.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    v_dim: Option<u64>,
    /// Elements of the one vector that is K and V; beside `kv_heads` another name for `k_dim`.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    head_dim: Option<u64>,
    /// Tokens of a sliding window, the current one included.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    window: Option<u64>,
    /// Tokens of a chunk.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    chunk: Option<u64>,
    /// Elements of a latent.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    kv_lora_rank: Option<u64>,
    /// Rotary elements beside a latent.
    qk_rope_head_dim: Option<u64>,
    /// Elements of an index key.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    index_head_dim: Option<u64>,
    /// Tokens of a compressed entry, or of an index key.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    ratio: Option<u64>,
    /// The most tokens that an encoder gives.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    encoder_tokens: Option<u64>,
    /// Whether the encoder's input may be absent.
    optional: bool,
    /// The recurrence.
    #[cfg_attr(feature = "cli", schemars(extend("enum" = shape::or_null(Mechanism::names()))))]
    mechanism: Option<String>,
    /// Channels of a recurrence's convolution, without those of its groups.
    conv_channels: Option<u64>,
    /// Channels of each group of it (Mamba-2's B and C).
    conv_channels_per_group: Option<u64>,
    /// Groups of it.
    conv_groups: Option<u64>,
    /// Its width, the current token included: one column less is kept.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    conv_kernel: Option<u64>,
    /// Element format of its columns.
    conv_dtype: Option<String>,
    /// Heads of a recurrent state.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    state_heads: Option<u64>,
    /// Elements of each head's state; of a compressed layer, elements of its compressor's state.
    state_elements: Option<u64>,
    /// Element format of the state.
    state_dtype: Option<String>,
    /// Of an estimate's document: refused, as it gives no head dimension.
    #[cfg_attr(feature = "cli", schemars(skip))]
    formula: Option<String>,
}

/// How many layers, or which.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(untagged)]
enum Layers {
    Count(#[cfg_attr(feature = "cli", schemars(range(min = 1)))] u64),
    List(#[cfg_attr(feature = "cli", schemars(length(min = 1)))] Vec<u32>),
}

/// Whether an object is ours and no `config.json`: it says so, or names layers as no configuration does.
pub(super) fn is_spec(object: &Map<String, Value>) -> bool {
    let theirs = ["num_hidden_layers", "architectures", "text_config", "_class_name"];
    object.get("schema").is_some_and(|schema| *schema == SCHEMA)
        || object.contains_key("layer_groups")
        || (object.get("layers").is_some_and(|layers| !layers.is_object() && !layers.is_array())
            && !theirs.iter().any(|key| object.contains_key(*key)))
}

/// The model of an object.
///
/// # Errors
/// [`Error`], with the path of the key.
pub fn model(object: &Map<String, Value>, name: &str) -> Result<Model, Error> {
    if let Some(other) = object.get("schema").filter(|schema| **schema != SCHEMA) {
        return Err(wrong(
            "schema",
            other.to_string(),
            "is not the shape that is read here",
            &format!("write {SCHEMA:?}"),
        ));
    }
    let top: Top = typed("", &Value::Object(object.clone()))?;
    let dtype = match &top.dtype {
        Some(text) => format("dtype", text)?,
        None => ElementFormat::FP16,
    };
    let rest = object.iter().filter(|(key, _)| !TOP.contains(&key.as_str()));
    let rest: Map<String, Value> = rest.map(|(key, value)| (key.clone(), value.clone())).collect();
    if let Some((key, _)) = rest.iter().find(|(_, value)| **value == 0) {
        return Err(wrong(key, "0".into(), "is not a positive count", "write 1 or more"));
    }
    let spec: ModelSpec = typed("", &Value::Object(rest))?;
    let model = match object.get("layer_groups") {
        None => spec.model_by_keys()?,
        Some(Value::Array(groups)) => {
            let alone = ModelSpec { heads: None, hidden_size: None, ..spec.clone() };
            if !alone.is_empty() {
                let remedy = "give the dimensions of each group, or those of all layers and no layer_groups";
                return Err(wrong("layer_groups", "it".into(), "is given beside the dimensions of all layers", remedy));
            }
            of_groups(groups, &top, dtype)?
        }
        Some(other) => {
            let remedy = "write a list of objects";
            return Err(wrong("layer_groups", other.to_string().chars().take(40).collect(), "is not a list", remedy));
        }
    };
    Ok(Model {
        name: top.name.unwrap_or_else(|| name.to_owned()),
        origin: Origin::Spec,
        model_type: top.model_type,
        max_position_embeddings: top.max_seq_len.filter(|&tokens| tokens > 0).map(Tokens),
        dtype,
        ..model
    })
}

fn of_groups(groups: &[Value], top: &Top, dtype: ElementFormat) -> Result<Model, Error> {
    let mut layer_groups: Vec<LayerGroup> = Vec::with_capacity(groups.len());
    let mut facts = Vec::new();
    // The next layer of groups that only say how many they have: of those that stand beside others, of each kind by itself.
    let (mut next, mut next_indexer, mut next_compressed) = (0u32, 0u32, 0u32);
    let mut all = 0;
    for (index, value) in groups.iter().enumerate() {
        let path = format!("layer_groups[{index}]");
        let group: Group = typed(&path, value)?;
        if let Some(object) = value.as_object() {
            facts.extend(object.iter().map(|(key, value)| Fact {
                key: format!("{path}.{key}"),
                value: value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned).chars().take(24).collect(),
                from: "given".into(),
            }));
        }
        let cache = group.cache(&path, dtype)?;
        let field = format!("{path}.layers");
        let next = match cache {
            LayerCache::Indexer { .. } => &mut next_indexer,
            LayerCache::Compressed { .. } => &mut next_compressed,
            _ => &mut next,
        };
        let layers = match &group.layers {
            None => return Err(missing(&path, "layers", "say how many layers it has, or list them")),
            Some(Layers::Count(0)) => {
                return Err(wrong(&field, "0".into(), "is not a positive count", "write 1 or more"));
            }
            Some(Layers::Count(count)) => {
                let count = layer_count(Dimension { field: field.clone(), value: *count })?;
                (*next..next.saturating_add(count)).collect()
            }
            Some(Layers::List(list)) => {
                let mut list = list.clone();
                list.sort_unstable();
                list.dedup();
                list
            }
        };
        let Some(&last) = layers.last() else {
            return Err(wrong(&field, "[]".into(), "is empty", "list the layers, counted from 0"));
        };
        if last >= MAX_LAYERS {
            layer_count(Dimension { field, value: u64::from(last).saturating_add(1) })?;
        }
        *next = (*next).max(last.saturating_add(1));
        all = all.max(*next);
        layer_groups.push(LayerGroup { layers, cache });
    }
    if layer_groups.is_empty() {
        return Err(wrong("layer_groups", "[]".into(), "is empty", "give one group or more"));
    }
    Ok(Model {
        name: String::new(),
        origin: Origin::Spec,
        model_type: None,
        max_position_embeddings: None,
        dtype,
        num_hidden_layers: all,
        layer_groups,
        transformers_heads: None,
        mtp_groups: Vec::new(),
        drafter: None,
        weights: None,
        checkpoint: Checkpoint {
            num_attention_heads: top.heads,
            hidden_size: top.hidden_size,
            ..Checkpoint::default()
        },
        facts,
        assumptions: Vec::new(),
        warnings: Vec::new(),
    })
}

impl Group {
    fn cache(&self, path: &str, dtype: ElementFormat) -> Result<LayerCache, Error> {
        let need = |key: &str, value: Option<u64>| match value {
            Some(0) => Err(wrong(&format!("{path}.{key}"), "0".into(), "is not a positive count", "write 1 or more")),
            Some(value) => Ok(value),
            None => Err(missing(path, key, "add it")),
        };
        Ok(match self.kind.as_str() {
            "full_attention" => LayerCache::FullAttention { key_value: self.key_value(path)? },
            "sliding_attention" => {
                let window = Tokens(need("window", self.window)?);
                LayerCache::SlidingWindow {
                    key_value: self.key_value(path)?,
                    window,
                    transformers_window: Some(window),
                }
            }
            "chunked_attention" => {
                LayerCache::ChunkedLocal { key_value: self.key_value(path)?, chunk: Tokens(need("chunk", self.chunk)?) }
            }
            "latent_attention" => LayerCache::Latent {
                kv_lora_rank: need("kv_lora_rank", self.kv_lora_rank)?,
                qk_rope_head_dim: self.qk_rope_head_dim.unwrap_or_default(),
            },
            "indexer" => LayerCache::Indexer {
                index_head_dim: need("index_head_dim", self.index_head_dim)?,
                ratio: need("ratio", Some(self.ratio.unwrap_or(1)))?,
            },
            "compressed_attention" => LayerCache::Compressed {
                head_dim: need("head_dim", self.head_dim)?,
                ratio: need("ratio", self.ratio)?,
                state_elements: self.state_elements.ok_or_else(|| missing(path, "state_elements", "add it"))?,
            },
            "recurrent_state" => LayerCache::Recurrent(self.state(path, dtype)?),
            "cross_attention" => LayerCache::CrossAttention {
                key_value: self.key_value(path)?,
                encoder_tokens: self.encoder_tokens.map(Tokens),
                optional: self.optional,
            },
            "shared" => LayerCache::Shared,
            "none" => LayerCache::None,
            other => {
                let remedy = format!("use one of {}", LayerCache::KINDS.join(", "));
                if other.is_empty() {
                    return Err(missing(path, "kind", &remedy));
                }
                let found = other.chars().take(40).collect();
                return Err(wrong(&format!("{path}.kind"), found, "is not a kind of layers known here", &remedy));
            }
        })
    }

    /// Heads, or one vector where no heads are given.
    fn key_value(&self, path: &str) -> Result<KeyValue, Error> {
        if let Some(formula) = &self.formula {
            let remedy = "give layers, hidden_size and kv_heads in place of layer_groups";
            let found = formula.chars().take(40).collect();
            return Err(wrong(&format!("{path}.formula"), found, "is not read of a group", remedy));
        }
        let positive = |key: &str, value: Option<u64>| match value {
            Some(0) => Err(wrong(&format!("{path}.{key}"), "0".into(), "is not a positive count", "write 1 or more")),
            value => Ok(value),
        };
        let kv_heads = positive("kv_heads", self.kv_heads)?;
        let k_dim = positive("k_dim", self.k_dim)?.or(positive("head_dim", self.head_dim)?);
        let v_dim = positive("v_dim", self.v_dim)?;
        match (kv_heads, k_dim) {
            (Some(num_key_value_heads), Some(head_dim)) => {
                Ok(KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim: v_dim.unwrap_or(head_dim) })
            }
            (None, Some(elements)) if self.k_dim.is_none() => Ok(KeyValue::Vector { elements }),
            (None, _) => Err(missing(path, "kv_heads", "add it")),
            (Some(_), None) => Err(missing(path, "k_dim", "add it")),
        }
    }

    fn state(&self, path: &str, dtype: ElementFormat) -> Result<RecurrentState, Error> {
        let names = || Mechanism::names().join(", ");
        let Some(name) = &self.mechanism else {
            return Err(missing(path, "mechanism", &format!("use one of {}", names())));
        };
        let Some(&mechanism) = Mechanism::ALL.iter().find(|mechanism| mechanism.name() == name) else {
            let found = name.chars().take(40).collect();
            let remedy = format!("use one of {}", names());
            return Err(wrong(&format!("{path}.mechanism"), found, "is not a recurrence known here", &remedy));
        };
        let stored = |key: &str, text: &Option<String>| match text {
            Some(text) => format(&format!("{path}.{key}"), text),
            None => Ok(dtype),
        };
        let convolution = match (self.conv_channels, self.conv_kernel) {
            (None, None) => None,
            (Some(channels), Some(kernel)) => Some(Convolution {
                channels,
                channels_per_group: self.conv_channels_per_group.unwrap_or_default(),
                groups: self.conv_groups.unwrap_or_default(),
                kernel,
                format: stored("conv_dtype", &self.conv_dtype)?,
            }),
            (None, Some(_)) => return Err(missing(path, "conv_channels", "add it")),
            (Some(_), None) => return Err(missing(path, "conv_kernel", "add it")),
        };
        let memory = match (self.state_heads, self.state_elements) {
            (None, None) => None,
            (heads, Some(elements_per_head)) => Some(Memory {
                heads: heads.unwrap_or(1),
                elements_per_head,
                format: stored("state_dtype", &self.state_dtype)?,
            }),
            (Some(_), None) => return Err(missing(path, "state_elements", "add it")),
        };
        if convolution.is_none() && memory.is_none() {
            let remedy = "add it, or conv_channels and conv_kernel";
            return Err(missing(path, "state_elements", remedy));
        }
        Ok(RecurrentState { mechanism, convolution, memory })
    }
}

fn typed<T: for<'de> Deserialize<'de>>(path: &str, value: &Value) -> Result<T, Error> {
    T::deserialize(value).map_err(|error| {
        // The parser names no place: it is the key that is refused by itself.
        let alone = value.as_object().into_iter().flatten().find_map(|(key, inner)| {
            let object = Value::Object([(key.clone(), inner.clone())].into_iter().collect());
            Some((key, T::deserialize(&object).err()?))
        });
        let (path, error) = match alone {
            Some((key, error)) if path.is_empty() => (key.clone(), error),
            Some((key, error)) => (format!("{path}.{key}"), error),
            None => (path.to_owned(), error),
        };
        let found = if path.is_empty() { "the object" } else { "it" };
        wrong(&path, found.into(), &format!("is not read: {error}"), "`kvsize schema spec` tells its shape")
    })
}

fn format(field: &str, text: &str) -> Result<ElementFormat, Error> {
    text.parse().map_err(|error: Error| error.at(field))
}

fn missing(path: &str, key: &str, remedy: &str) -> Error {
    Error { code: Code::Spec, ..Error::missing(format!("{path}.{key}"), remedy) }
}

fn wrong(field: &str, found: String, problem: &str, remedy: &str) -> Error {
    Error::new(Code::Spec, field, found, problem, remedy)
}

/// The shape, for its schema.
#[cfg(feature = "cli")]
pub(crate) mod shape {
    use schemars::JsonSchema;
    use serde_json::{Map, Value, json};

    use super::{Group, ModelSpec, Top};

    /// A model for `kvsize -`: its dimensions where all layers are alike, or its `layer_groups`. The model of an estimate's document is one
    /// too.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields, extend("anyOf" = [{"required": ["layers"]}, {"required": ["layer_groups"]}]))]
    #[expect(dead_code, reason = "read by the derive alone")]
    pub(crate) struct Object {
        #[schemars(default, extend("const" = super::SCHEMA))]
        schema: String,
        #[schemars(flatten)]
        dimensions: ModelSpec,
        #[schemars(flatten)]
        top: Top,
        /// The layers, by what they cache; a layer with several caches is in several groups.
        #[schemars(default, length(min = 1))]
        layer_groups: Vec<Group>,
        /// Of an estimate's document; not used.
        source: Option<Value>,
        /// Of an estimate's document; not used.
        weights: Option<Map<String, Value>>,
    }

    /// What groups of each kind must have.
    pub(super) fn needs() -> Vec<Value> {
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

    /// Words of which there may be none.
    pub(super) fn or_null(words: Vec<&str>) -> Vec<Value> {
        words.into_iter().map(Value::from).chain([Value::Null]).collect()
    }
}
