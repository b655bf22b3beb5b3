//! What a model is, as far as its cache goes: a list of layer groups. Everything else follows from it.

mod checkpoint;
mod checkpoint_weights;
mod dimensions;
mod gguf_weights;
mod json_object;
mod layer_group;
mod layer_group_json;
mod weights;

use std::ops::Range;

pub use checkpoint::{
    Checkpoint, DraftMethod, Drafter, ExpertWidths, Gguf, GgufFeature, GgufFile, GgufWindow, Image, KvCacheScheme,
    LatentWidths, Quantization, Widths,
};
pub use checkpoint_weights::{CHECKPOINT_FORMATS, CheckpointFormat, FormatRow};
pub(crate) use checkpoint_weights::{
    CheckpointTensors, EightBits, Encoding, Holder, Kind, Pattern, PlainDtype, Quantizer, Rule, Shape, Takes,
};
#[cfg(feature = "cli")]
pub(crate) use dimensions::positive;
pub use dimensions::{Dimension, Dimensions, MAX_LAYERS, ModelSpec, layer_count};
pub use gguf_weights::{
    Block, Condition, FileType, GgufFileWeights, GgufTensor, GgufTensors, Imatrix, Reason, Release, TensorType, Typed,
};
pub use layer_group::{CacheKind, Convolution, KeyValue, LayerCache, LayerGroup, Mechanism, Memory, RecurrentState};
pub use layer_group_json::{GroupDefaults, LayerGroupJson, LayerNumbers, Layers};
pub use weights::{DtypeWeights, Experts, Place, TensorGroup, Tensors, Weights, WeightsOrigin};

use crate::units::{ElementFormat, Tokens, group_thousands, named};

/// A model, reduced to what decides the size of its cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Model {
    /// The name to print.
    pub name: String,
    /// Where it was read from.
    pub origin: Origin,
    /// `model_type` of its configuration, if it has one.
    pub model_type: Option<String>,
    /// The longest sequence the model was made for (`max_position_embeddings`).
    pub max_position_embeddings: Option<Tokens>,
    /// The 16-bit format of the checkpoint.
    pub dtype: ElementFormat,
    /// All layers, those without a cache included: what pipeline stages divide.
    pub num_hidden_layers: u32,
    /// The layers, by what they cache.
    pub layer_groups: Vec<LayerGroup>,
    /// The layers that predict further tokens (MTP), which cost nothing until they are used. Numbered on from the model's.
    pub mtp_groups: Vec<LayerGroup>,
    /// What drafts tokens for it; its layers are among the groups.
    pub drafter: Option<Drafter>,
    /// How the name that it was found by says that its weights are stored: a name of `--weights-dtype`, or a method.
    pub named_weights: Option<String>,
    /// What its weights come to, where that was asked for and is known.
    pub weights: Option<Weights>,
    /// Its tensors in a GGUF file, where they were asked for, or why they are unknown.
    pub gguf_tensors: Option<Result<GgufTensors, String>>,
    /// What engines read beside the layers.
    pub checkpoint: Checkpoint,
    /// The numbers it was made of, and where each came from.
    pub facts: Vec<Fact>,
    /// What was taken for granted in reading it.
    pub assumptions: Vec<String>,
    /// What may make the answer wrong.
    pub warnings: Vec<String>,
}

impl Model {
    /// A model of these layers, of which nothing else is known.
    pub fn new(
        name: String,
        origin: Origin,
        dtype: ElementFormat,
        num_hidden_layers: u32,
        layer_groups: Vec<LayerGroup>,
    ) -> Self {
        Self {
            name,
            origin,
            model_type: None,
            max_position_embeddings: None,
            dtype,
            num_hidden_layers,
            layer_groups,
            mtp_groups: Vec::new(),
            drafter: None,
            named_weights: None,
            weights: None,
            gguf_tensors: None,
            checkpoint: Checkpoint::default(),
            facts: Vec::new(),
            assumptions: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// `model_type` of its text model.
    pub fn text_model_type(&self) -> Option<&str> {
        self.checkpoint.text_model_type.as_deref().or(self.model_type.as_deref())
    }

    /// The model with what drafts `tokens` tokens at a time for it: its own MTP layers, those of a `draft` model numbered
    /// on from its own, or none at all.
    pub fn drafted(mut self, method: DraftMethod, tokens: u64, draft: Option<&Self>) -> Self {
        let first_layer = self.num_hidden_layers;
        let (groups, offset) = match (method, draft) {
            (DraftMethod::Mtp, _) => (std::mem::take(&mut self.mtp_groups), 0),
            (DraftMethod::Ngram, _) | (_, None) => (Vec::new(), 0),
            (_, Some(draft)) => (draft.layer_groups.clone(), first_layer),
        };
        self.layer_groups.extend(groups.into_iter().map(|mut group| {
            group.layers.iter_mut().for_each(|layer| *layer = layer.saturating_add(offset));
            group
        }));
        self.warnings.extend(draft.iter().flat_map(|draft| draft.warnings.iter().cloned()));
        let checkpoint = draft.map(|draft| draft.checkpoint.clone());
        self.drafter = Some(Drafter { method, tokens, first_layer, checkpoint });
        self
    }

    /// The layers of its drafter: those from its first one on.
    pub fn drafter_layers(&self) -> u64 {
        let first = self.drafter.as_ref().map(|drafter| drafter.first_layer);
        let last = self.layer_groups.iter().flat_map(|group| &group.layers).max();
        let past_first = last.zip(first).and_then(|(last, first)| last.checked_sub(first));
        past_first.map_or(0, |layers| u64::from(layers).saturating_add(1))
    }

    /// What a device holds of it that has these layers, by their numbers in the whole.
    pub fn of_layers(&self, layers: &Range<u32>) -> Self {
        let mut layer_groups = self.layer_groups.clone();
        for group in &mut layer_groups {
            group.layers.retain(|layer| layers.contains(layer));
        }
        Self {
            model_type: self.model_type.clone(),
            max_position_embeddings: self.max_position_embeddings,
            drafter: self.drafter.clone(),
            checkpoint: self.checkpoint.clone(),
            ..Self::new(self.name.clone(), self.origin, self.dtype, self.num_hidden_layers, layer_groups)
        }
    }

    /// Whether some of its layers cache so.
    pub fn has(&self, kind: CacheKind) -> bool {
        self.layer_groups.iter().any(|group| group.cache.cache_kind() == kind)
    }

    /// Notes where the width of its entries is the article's shortcut, and what that drops.
    pub(crate) fn with_shortcut_noted(mut self) -> Self {
        let shortcut = self.layer_groups.iter().filter_map(|group| group.cache.key_value()).find_map(|key_value| {
            let KeyValue::ArticleShortcut { hidden_size, num_key_value_heads } = key_value else { return None };
            Some((hidden_size, num_key_value_heads, key_value.shortcut_width()?))
        });
        if let Some((hidden_size, num_key_value_heads, width)) = shortcut {
            self.assumptions.push(format!(
                "formula: the article's shortcut, 2 x layers x tokens x batch x (hidden_size / kv_heads) x bits/8 with \
                 {hidden_size} / {num_key_value_heads} = {width}; give --heads or --head-dim for the exact width"
            ));
            if !hidden_size.is_multiple_of(num_key_value_heads) {
                let hidden_size = group_thousands(hidden_size);
                self.warnings.push(format!(
                    "the article's shortcut does not divide evenly: {hidden_size} / {num_key_value_heads} leaves a remainder, which it drops"
                ));
            }
        }
        self
    }

    /// The same model, had every layer to keep every token: what an engine takes that honours no window or chunk.
    pub fn keeping_every_token(&self) -> Self {
        let mut model = self.clone();
        for group in &mut model.layer_groups {
            group.cache = group.cache.keeping_every_token();
        }
        model
    }
}

/// The warning of a `model_type`, or an architecture of a GGUF file, that is not known here.
pub(crate) fn unknown_model_type(name: &str) -> String {
    format!(
        "model_type {name:?} is not known: read by its keys as plain attention, which is wrong if it has a mechanism of its own"
    )
}

/// A number, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The flag or the path of the key.
    pub key: String,
    /// The value, shortened if it is a list.
    pub value: String,
    /// The file, the flags, or the default that supplied it.
    pub from: String,
}

named! {
    /// Where a model was read from.
    pub enum Origin {
        /// Dimensions given one by one.
        Flags = "flags",
        /// An object of our own.
        Spec = "spec",
        /// A Hugging Face `config.json`.
        Config = "config",
        /// The header of a GGUF file.
        Gguf = "gguf",
        /// The embedded catalogue.
        Catalogue = "catalogue",
    }
}
