//! What a model is, as far as its cache goes: a list of layer groups. Everything else follows from it.

mod dimensions;
mod layer_group;
mod note;
mod recurrent;
mod spec;

pub use dimensions::{Dimension, Dimensions, MAX_LAYERS, ModelError, layer_count};
pub use layer_group::{KeyValue, LayerCache, LayerGroup};
pub use note::{Assumption, Warning};
pub use recurrent::{Convolution, Mechanism, Memory, RecurrentState};
pub use spec::ModelSpec;

use crate::units::{ElementFormat, Tokens};

/// A model, reduced to what decides the size of its cache.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// KV heads as transformers caches them, where it repeats each for the query heads that share it.
    pub transformers_heads: Option<u64>,
    /// The layers that predict further tokens (MTP), which cost nothing until they are used. Numbered on from the model's.
    pub mtp_groups: Vec<LayerGroup>,
    /// The numbers it was made of, and where each came from.
    pub facts: Vec<Fact>,
    /// What was taken for granted in reading it.
    pub assumptions: Vec<Assumption>,
    /// What may make the answer wrong.
    pub warnings: Vec<Warning>,
}

impl Model {
    /// The model with `groups` of a drafter beside its own: MTP layers, or those of a draft model.
    #[must_use]
    pub fn drafted_by(&self, groups: &[LayerGroup]) -> Self {
        let mut model = self.clone();
        let first = model.layer_groups.iter().chain(groups).flat_map(|group| &group.layers).max();
        let offset = if groups == self.mtp_groups { 0 } else { first.map_or(0, |last| last.saturating_add(1)) };
        model.layer_groups.extend(groups.iter().map(|group| LayerGroup {
            layers: group.layers.iter().map(|layer| layer.saturating_add(offset)).collect(),
            cache: group.cache,
        }));
        model
    }

    /// The same model, had every layer to keep every token: what an engine takes that honours no window or chunk.
    #[must_use]
    pub fn keeping_every_token(&self) -> Self {
        let mut model = self.clone();
        for group in &mut model.layer_groups {
            group.cache = group.cache.keeping_every_token();
        }
        model
    }
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

/// Where a model was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Dimensions given one by one.
    Flags,
    /// A Hugging Face `config.json`.
    Config,
    /// The embedded catalogue.
    Catalogue,
}

impl Origin {
    /// The name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flags => "flags",
            Self::Config => "config",
            Self::Catalogue => "catalogue",
        }
    }
}
