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
    /// What was taken for granted in reading it.
    pub assumptions: Vec<Assumption>,
    /// What may make the answer wrong.
    pub warnings: Vec<Warning>,
}

impl Model {
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
