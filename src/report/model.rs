//! A model in our documents, and what reads them again.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::WeightsDescription;
use crate::model::{Checkpoint, Drafter, LayerGroup, LayerGroupJson, LayerNumbers, Model};

/// A model, with all that any engine needs of it: `kvsize -` reads it again.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelDescription {
    /// Its name.
    pub name: String,
    /// Where it was read from.
    #[schemars(extend("enum" = ["flags", "spec", "config", "gguf", "catalogue"]))]
    pub source: &'static str,
    /// Its `model_type`.
    pub model_type: Option<String>,
    /// The longest sequence it was made for.
    pub model_max_seq_len: Option<u64>,
    /// The 16-bit element format of the checkpoint.
    pub dtype: String,
    /// All layers, those without a cache included.
    pub num_hidden_layers: u32,
    /// Its layers, by what they cache.
    pub layer_groups: Vec<LayerGroupJson>,
    /// The MTP layers, which cost nothing until they draft; numbered on from `num_hidden_layers`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mtp_layer_groups: Vec<LayerGroupJson>,
    /// What drafts tokens for it; its layers are among the groups.
    pub drafter: Option<Drafter>,
    /// What engines read of its checkpoint in addition to its layers.
    pub checkpoint: Checkpoint,
    /// What it weighs, where that is known.
    pub weights: Option<WeightsDescription>,
}

impl ModelDescription {
    /// The description of a model.
    pub fn new(model: &Model) -> Self {
        let groups = |groups: &[LayerGroup], mut numbers: LayerNumbers| {
            groups.iter().map(|group| LayerGroupJson::new(group, &mut numbers)).collect()
        };
        Self {
            name: super::clean(&model.name),
            source: model.origin.name(),
            model_type: model.model_type.clone(),
            model_max_seq_len: model.max_position_embeddings.map(|tokens| tokens.0),
            dtype: model.dtype.to_string(),
            num_hidden_layers: model.num_hidden_layers,
            layer_groups: groups(&model.layer_groups, LayerNumbers::default()),
            mtp_layer_groups: groups(&model.mtp_groups, LayerNumbers::from_layer(model.num_hidden_layers)),
            drafter: model.drafter.clone(),
            checkpoint: Checkpoint {
                // Of a model that was not read from a GGUF file its model_type decides.
                gguf: model.checkpoint.gguf.clone().filter(|gguf| gguf.file.is_some()),
                ..model.checkpoint.clone()
            },
            weights: model.weights.as_ref().map(Into::into),
        }
    }
}
