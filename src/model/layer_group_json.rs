//! A layer group as JSON: the one shape in which groups are written and read.

use serde::{Deserialize, Serialize};

use super::json_object::json_object;
use super::{CacheKind as K, Convolution, Dimension, KeyValue, LayerCache, LayerGroup, Mechanism, Memory};
use super::{RecurrentState, layer_count};
use crate::units::{Code, ElementFormat, Error, Tokens};

/// The one `formula` there is.
const ARTICLE_SHORTCUT: &str = "article_shortcut";

json_object! {
    /// A layer group: its kind, and the figures that this kind has.
    #[cfg_attr(feature = "cli", schemars(extend("required" = ["kind", "layers"])))]
    pub struct LayerGroupJson {
        /// The kind of cache.
        #[cfg_attr(feature = "cli", schemars(extend("enum" = LayerCache::KINDS)))]
        pub kind: String,
        /// How many layers. When read: the next ones, or a list of them, counted from 0; an indexer and compressed attention
        /// stand next to other layers and are numbered from 0 each by themselves.
        #[cfg_attr(feature = "cli", schemars(with = "u64"))]
        pub layers: Layers,
        /// KV heads.
        pub kv_heads: Option<u64>,
        /// Elements of K in one head; absent where the article's shortcut gives no whole number of them.
        pub k_dim: Option<u64>,
        /// Elements of V in one head; as K where it is absent.
        pub v_dim: Option<u64>,
        /// `article_shortcut` where the article's formula supplied the width.
        #[cfg_attr(feature = "cli", schemars(extend("const" = ARTICLE_SHORTCUT)))]
        pub formula: Option<String>,
        /// Tokens of a sliding window, the current one included.
        pub window: Option<u64>,
        /// Tokens of a chunk.
        pub chunk: Option<u64>,
        /// Elements of a latent.
        pub kv_lora_rank: Option<u64>,
        /// Rotary elements next to a latent.
        pub qk_rope_head_dim: Option<u64>,
        /// Elements of an index key.
        pub index_head_dim: Option<u64>,
        /// Elements of the one vector that is K and V; next to `kv_heads` another name for `k_dim`.
        pub head_dim: Option<u64>,
        /// Tokens of a compressed entry, or of an index key.
        pub ratio: Option<u64>,
        /// The recurrence.
        #[cfg_attr(feature = "cli", schemars(extend("enum" = Mechanism::NAMES)))]
        pub mechanism: Option<String>,
        /// Channels of a recurrence's convolution, without those of its groups.
        pub conv_channels: Option<u64>,
        /// Channels of each group of it (Mamba-2's B and C).
        pub conv_channels_per_group: Option<u64>,
        /// Groups of it.
        pub conv_groups: Option<u64>,
        /// Its width, the current token included: one column less is kept.
        pub conv_kernel: Option<u64>,
        /// The format of its columns; the model's where it is absent.
        pub conv_dtype: Option<String>,
        /// Heads of a recurrent state.
        pub state_heads: Option<u64>,
        /// Elements of each; of a compressed layer, elements of its compressor's state.
        pub state_elements: Option<u64>,
        /// Their format; the model's where it is absent.
        pub state_dtype: Option<String>,
        /// Whether the encoder's input may be absent.
        pub optional: bool,
        /// The most tokens an encoder gives.
        pub encoder_tokens: Option<u64>,
        /// The window as transformers' configuration class reads it, where that differs; 0 where it knows none and keeps every
        /// token.
        pub transformers_window: Option<u64>,
        /// Which layers, counted from 0, where they are not the next ones.
        pub layer_indices: Option<Vec<u32>>,
    }
}

/// How many layers, or which.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Layers {
    /// So many, which are the next ones.
    Count(u64),
    /// These.
    List(Vec<u32>),
    /// The key is missing.
    #[default]
    #[serde(skip)]
    Missing,
}

impl Layers {
    /// How many.
    pub fn count(&self) -> usize {
        match self {
            Self::Count(count) => usize::try_from(*count).unwrap_or(usize::MAX),
            Self::List(list) => list.len(),
            Self::Missing => 0,
        }
    }
}

/// The next layer of groups that only count theirs. An indexer and compressed attention stand next to other layers: each has
/// numbers of its own.
#[derive(Debug, Default)]
pub struct LayerNumbers {
    indexer: u32,
    compressed: u32,
    other: u32,
}

impl LayerNumbers {
    /// Counted from `first` on.
    pub fn from_layer(first: u32) -> Self {
        Self { indexer: first, compressed: first, other: first }
    }

    /// The number past all layers so far.
    pub fn end(&self) -> u32 {
        self.other.max(self.indexer).max(self.compressed)
    }

    fn next(&mut self, cache: &LayerCache) -> &mut u32 {
        match cache.cache_kind() {
            K::Indexer => &mut self.indexer,
            K::Compressed => &mut self.compressed,
            K::Full | K::Sliding | K::Chunked | K::Latent | K::Recurrent | K::Cross | K::Shared | K::None => {
                &mut self.other
            }
        }
    }

    /// Whether `layers` of `cache` are the next ones; from now on those after them are.
    fn follow(&mut self, cache: &LayerCache, layers: &[u32]) -> bool {
        let next = self.next(cache);
        let are_next = layers.iter().zip(0u32..).all(|(layer, offset)| layer.checked_sub(*next) == Some(offset));
        *next = layers.last().map_or(*next, |last| last.saturating_add(1).max(*next));
        are_next
    }
}

/// What a group that is read takes from its model.
#[derive(Debug, Clone, Copy)]
pub struct GroupDefaults {
    /// The format of states that name none.
    pub dtype: ElementFormat,
    /// The model's width, for the article's shortcut.
    pub hidden_size: Option<u64>,
}

impl LayerGroupJson {
    /// The JSON of a group, which lists its layers where `numbers` does not give them.
    pub fn new(group: &LayerGroup, numbers: &mut LayerNumbers) -> Self {
        let are_next = numbers.follow(&group.cache, &group.layers);
        Self {
            kind: group.cache.kind().into(),
            layers: Layers::Count(u64::try_from(group.layers.len()).unwrap_or(u64::MAX)),
            layer_indices: (!are_next).then(|| group.layers.clone()),
            ..Self::from_cache(group.cache)
        }
    }

    fn from_cache(cache: LayerCache) -> Self {
        match cache {
            LayerCache::FullAttention { key_value } => Self::from_key_value(key_value),
            LayerCache::SlidingWindow { key_value, window: Tokens(window), transformers_window } => {
                let transformers_window = transformers_window.map_or(0, |tokens| tokens.0);
                let transformers_window = Some(transformers_window).filter(|&tokens| tokens != window);
                Self { window: Some(window), transformers_window, ..Self::from_key_value(key_value) }
            }
            LayerCache::ChunkedLocal { key_value, chunk: Tokens(chunk) } => {
                Self { chunk: Some(chunk), ..Self::from_key_value(key_value) }
            }
            LayerCache::Latent { kv_lora_rank, qk_rope_head_dim } => {
                Self { kv_lora_rank: Some(kv_lora_rank), qk_rope_head_dim: Some(qk_rope_head_dim), ..Self::default() }
            }
            LayerCache::Indexer { index_head_dim: dim, ratio } => {
                let ratio = Some(ratio).filter(|&ratio| ratio > 1);
                Self { index_head_dim: Some(dim), ratio, ..Self::default() }
            }
            LayerCache::Compressed { head_dim, ratio, state_elements } => {
                let state_elements = Some(state_elements);
                Self { head_dim: Some(head_dim), ratio: Some(ratio), state_elements, ..Self::default() }
            }
            LayerCache::Recurrent(state) => Self::from_state(state),
            LayerCache::CrossAttention { key_value, encoder_tokens, optional } => {
                let encoder_tokens = encoder_tokens.map(|tokens| tokens.0);
                Self { optional, encoder_tokens, ..Self::from_key_value(key_value) }
            }
            LayerCache::Shared | LayerCache::None => Self::default(),
        }
    }

    fn from_key_value(key_value: KeyValue) -> Self {
        let (k_dim, v_dim) = key_value.head_dims().unzip();
        let heads = Self { kv_heads: key_value.num_key_value_heads(), k_dim, v_dim, ..Self::default() };
        match key_value {
            KeyValue::Heads { .. } => heads,
            KeyValue::Vector { elements } => Self { head_dim: Some(elements), ..heads },
            KeyValue::ArticleShortcut { .. } => Self { formula: Some(ARTICLE_SHORTCUT.into()), ..heads },
        }
    }

    fn from_state(RecurrentState { mechanism, convolution, memory }: RecurrentState) -> Self {
        let mut json = Self { mechanism: Some(mechanism.name().into()), ..Self::default() };
        if let Some(Convolution { channels, channels_per_group, groups, kernel, format }) = convolution {
            (json.conv_channels, json.conv_kernel) = (Some(channels), Some(kernel));
            json.conv_channels_per_group = Some(channels_per_group).filter(|&channels| channels > 0);
            json.conv_groups = Some(groups).filter(|&groups| groups > 0);
            json.conv_dtype = Some(format.to_string());
        }
        if let Some(Memory { heads, elements_per_head, format }) = memory {
            (json.state_heads, json.state_elements) = (Some(heads), Some(elements_per_head));
            json.state_dtype = Some(format.to_string());
        }
        json
    }

    /// The group of this JSON.
    ///
    /// # Errors
    /// [`Code::Spec`] or [`Code::TooManyLayers`], with the key.
    pub fn group(&self, defaults: GroupDefaults, numbers: &mut LayerNumbers) -> Result<LayerGroup, Error> {
        let cache = self.cache(defaults)?;
        let layers = self.numbered(*numbers.next(&cache))?;
        numbers.follow(&cache, &layers);
        Ok(LayerGroup { layers, cache })
    }

    /// The numbers of the layers, where `next` is the next one.
    fn numbered(&self, next: u32) -> Result<Vec<u32>, Error> {
        let count = match &self.layers {
            Layers::Missing => return Err(missing("layers", "say how many layers it has, or list them")),
            Layers::Count(0) => return Err(not_positive("layers")),
            Layers::Count(count) => layer_count(dimension("layers", *count))?,
            Layers::List(list) => return listed("layers", list),
        };
        let Some(indices) = &self.layer_indices else {
            let end = u64::from(next).saturating_add(u64::from(count));
            let end = layer_count(dimension("layers", end))?;
            return Ok((next..end).collect());
        };
        let layers = listed("layer_indices", indices)?;
        if u32::try_from(layers.len()) != Ok(count) {
            let problem = format!("layers differ from {count}, the number under layers");
            return Err(spec_error("layer_indices", &layers.len().to_string(), &problem, "list each layer once"));
        }
        Ok(layers)
    }

    fn cache(&self, defaults: GroupDefaults) -> Result<LayerCache, Error> {
        let kind = K::named(&self.kind);
        let unknown = || unknown("kind", &self.kind, "is not a kind of layers known here", LayerCache::KINDS);
        Ok(match kind.ok_or_else(unknown)? {
            K::Full => LayerCache::FullAttention { key_value: self.key_value(defaults)? },
            K::Sliding => {
                let window = required("window", self.window)?;
                let transformers_window = self.transformers_window.unwrap_or(window);
                LayerCache::SlidingWindow {
                    key_value: self.key_value(defaults)?,
                    window: Tokens(window),
                    transformers_window: Some(Tokens(transformers_window)).filter(|tokens| tokens.0 > 0),
                }
            }
            K::Chunked => {
                let key_value = self.key_value(defaults)?;
                LayerCache::ChunkedLocal { key_value, chunk: Tokens(required("chunk", self.chunk)?) }
            }
            K::Latent => {
                let kv_lora_rank = required("kv_lora_rank", self.kv_lora_rank)?;
                LayerCache::latent(kv_lora_rank, self.qk_rope_head_dim.unwrap_or_default())?
            }
            K::Indexer => LayerCache::Indexer {
                index_head_dim: required("index_head_dim", self.index_head_dim)?,
                ratio: required("ratio", Some(self.ratio.unwrap_or(1)))?,
            },
            K::Compressed => LayerCache::Compressed {
                head_dim: required("head_dim", self.head_dim)?,
                ratio: required("ratio", self.ratio)?,
                state_elements: self.state_elements.ok_or_else(|| missing("state_elements", "add it"))?,
            },
            K::Recurrent => LayerCache::Recurrent(self.state(defaults)?),
            K::Cross => LayerCache::CrossAttention {
                key_value: self.key_value(defaults)?,
                encoder_tokens: self.encoder_tokens.map(Tokens),
                optional: self.optional,
            },
            K::Shared => LayerCache::Shared,
            K::None => LayerCache::None,
        })
    }

    /// Heads, or one vector where there are no heads.
    fn key_value(&self, defaults: GroupDefaults) -> Result<KeyValue, Error> {
        let kv_heads = positive("kv_heads", self.kv_heads)?;
        if let Some(formula) = &self.formula {
            return self.shortcut(formula, defaults.hidden_size);
        }
        let k_dim = positive("k_dim", self.k_dim)?.or(positive("head_dim", self.head_dim)?);
        let v_dim = positive("v_dim", self.v_dim)?;
        match (kv_heads, k_dim) {
            (Some(num_key_value_heads), Some(head_dim)) => {
                Ok(KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim: v_dim.unwrap_or(head_dim) })
            }
            (None, Some(elements)) if self.k_dim.is_none() => Ok(KeyValue::Vector { elements }),
            (None, _) => Err(missing("kv_heads", "add it")),
            (Some(_), None) => Err(missing("k_dim", "add it")),
        }
    }

    fn shortcut(&self, formula: &str, hidden_size: Option<u64>) -> Result<KeyValue, Error> {
        if formula != ARTICLE_SHORTCUT {
            return Err(unknown("formula", formula, "is not a formula known here", &[ARTICLE_SHORTCUT]));
        }
        let num_key_value_heads = required("kv_heads", self.kv_heads)?;
        let Some(hidden_size) = hidden_size.filter(|&width| width >= num_key_value_heads) else {
            let problem = "needs a hidden_size of at least kv_heads";
            return Err(spec_error("formula", formula, problem, "add hidden_size to the model"));
        };
        Ok(KeyValue::ArticleShortcut { hidden_size, num_key_value_heads })
    }

    fn state(&self, defaults: GroupDefaults) -> Result<RecurrentState, Error> {
        let name = self.mechanism.as_deref().unwrap_or_default();
        let Some(mechanism) = Mechanism::named(name) else {
            return Err(unknown("mechanism", name, "is not a recurrence known here", Mechanism::NAMES));
        };
        let format = |key: &str, name: &Option<String>| match name {
            Some(name) => name.parse().map_err(|error: Error| error.at(key)),
            None => Ok(defaults.dtype),
        };
        let convolution = match (self.conv_channels, self.conv_kernel) {
            (None, None) => None,
            (Some(channels), Some(kernel)) => Some(Convolution {
                channels,
                channels_per_group: self.conv_channels_per_group.unwrap_or_default(),
                groups: self.conv_groups.unwrap_or_default(),
                kernel,
                format: format("conv_dtype", &self.conv_dtype)?,
            }),
            (None, Some(_)) => return Err(missing("conv_channels", "add it")),
            (Some(_), None) => return Err(missing("conv_kernel", "add it")),
        };
        let memory = match (self.state_heads, self.state_elements) {
            (None, None) => None,
            (heads, Some(elements_per_head)) => Some(Memory {
                heads: heads.unwrap_or(1),
                elements_per_head,
                format: format("state_dtype", &self.state_dtype)?,
            }),
            (Some(_), None) => return Err(missing("state_elements", "add it")),
        };
        if convolution.is_none() && memory.is_none() {
            return Err(missing("state_elements", "add it, or conv_channels and conv_kernel"));
        }
        Ok(RecurrentState { mechanism, convolution, memory })
    }
}

/// Layers that are listed, in order, each once.
fn listed(key: &str, indices: &[u32]) -> Result<Vec<u32>, Error> {
    let mut layers = indices.to_vec();
    layers.sort_unstable();
    layers.dedup();
    let Some(last) = layers.last() else {
        return Err(spec_error(key, "[]", "is empty", "list the layers, counted from 0"));
    };
    layer_count(dimension(key, u64::from(*last).saturating_add(1)))?;
    Ok(layers)
}

fn dimension(field: &str, value: u64) -> Dimension {
    Dimension { field: field.into(), value }
}

fn required(key: &str, value: Option<u64>) -> Result<u64, Error> {
    positive(key, value)?.ok_or_else(|| missing(key, "add it"))
}

fn positive(key: &str, value: Option<u64>) -> Result<Option<u64>, Error> {
    if value == Some(0) { Err(not_positive(key)) } else { Ok(value) }
}

fn not_positive(key: &str) -> Error {
    spec_error(key, "0", "is not a positive count", "write 1 or more")
}

fn missing(key: &str, remedy: &str) -> Error {
    Error::without_value(Code::Spec, key, "missing", remedy)
}

/// A word that is none of `known`, or is missing.
fn unknown(key: &str, found: &str, problem: &str, known: &[&str]) -> Error {
    let remedy = format!("use one of {}", known.join(", "));
    if found.is_empty() {
        return missing(key, &remedy);
    }
    spec_error(key, &found.chars().take(40).collect::<String>(), problem, &remedy)
}

fn spec_error(key: &str, found: &str, problem: &str, remedy: &str) -> Error {
    Error::new(Code::Spec, key, found, problem, remedy)
}
