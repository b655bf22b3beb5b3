//! Why a configuration is not a model.

use crate::model::ModelError;
use crate::units::{Code, Diagnose, Error, display_diagnosis};

/// Why a text is no configuration of a model with a cache.
#[derive(Debug)]
pub enum ConfigError {
    /// Not JSON.
    Syntax(serde_json::Error),
    /// JSON, but not an object.
    NotAnObject(String),
    /// A value of the wrong type.
    WrongType {
        /// Path of the key.
        field: String,
        /// The value, shortened.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A count below 1.
    NotPositive {
        /// Path of the key.
        field: String,
        /// The value.
        found: String,
    },
    /// A list with fewer entries than layers.
    ShortList {
        /// Path of the key.
        field: String,
        /// Entries.
        found: usize,
        /// Layers.
        layers: u32,
    },
    /// A layer type that is not read.
    UnknownLayerType {
        /// Path of the entry.
        field: String,
        /// The layer type.
        found: String,
    },
    /// Layers of a kind whose size the file does not give.
    NoBound {
        /// Path of the key that would give it, or that switches it off.
        field: String,
        /// Its value.
        found: String,
        /// The kind of layer.
        kind: &'static str,
    },
    /// A key that nothing else supplies.
    Missing {
        /// Path of the key.
        field: String,
    },
    /// More layers that share than layers.
    TooManyShared {
        /// Path of the key.
        field: String,
        /// Layers that share.
        found: u64,
        /// Layers.
        layers: u32,
    },
    /// A layer that two lists claim, or none.
    UnclearLayer {
        /// Path of one of the lists.
        field: String,
        /// The layer, counted from 1.
        layer: u64,
    },
    /// An override of one layer that is not read.
    UnknownOverride {
        /// Path of the key.
        field: String,
        /// Its value.
        found: String,
    },
    /// Recurrent layers, but no keys that tell the size of their state.
    NoState,
    /// A model without a cache.
    NoCache {
        /// The `model_type`, or what else says so.
        found: String,
        /// Why it has none.
        reason: String,
    },
    /// Dimensions that make no model.
    Model(ModelError),
}

impl From<ModelError> for ConfigError {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
}

impl Diagnose for ConfigError {
    fn diagnosis(&self) -> Error {
        match self {
            Self::Syntax(error) => Error::new(
                Code::Syntax,
                "",
                "the text",
                format!("is not JSON: {error}"),
                "give a config.json as it is published",
            ),
            Self::NotAnObject(found) => {
                Error::new(Code::NotAnObject, "", found.clone(), "is not an object of keys", "give a config.json")
            }
            Self::WrongType { field, found, expected } => Error::new(
                Code::WrongType,
                field,
                found.clone(),
                format!("is not {expected}"),
                &format!("write {expected}"),
            ),
            Self::NotPositive { field, found } => {
                Error::new(Code::NotPositive, field, found.clone(), "is not a positive count", "write 1 or more")
            }
            Self::ShortList { field, found, layers } => Error::new(
                Code::ShortList,
                field,
                format!("{found} entries"),
                format!("do not cover the {layers} layers"),
                "give one entry a layer",
            ),
            Self::UnknownLayerType { field, found } => Error::new(
                Code::UnknownLayerType,
                field,
                found.clone(),
                "is a layer type that is not known here",
                "known are full_attention, sliding_attention, chunked_attention, linear_attention and their older names",
            ),
            Self::NoBound { field, found, kind } => Error::new(
                Code::NoWindow,
                field,
                found.clone(),
                format!("although layers are {kind}"),
                "give sliding_window, and do not switch it off: without it their cache has no size",
            ),
            Self::Missing { field } => Error::missing(field, "add it"),
            Self::TooManyShared { field, found, layers } => Error::new(
                Code::TooManyShared,
                field,
                found.to_string(),
                format!("is more than the {layers} layers"),
                "give fewer",
            ),
            Self::UnclearLayer { field, layer } => Error::new(
                Code::UnclearLayer,
                field,
                format!("layer {layer}"),
                "is in both lists of layers, or in neither",
                "name each layer, counted from 1, in one of kda_layers and full_attn_layers",
            ),
            Self::UnknownOverride { field, found } => Error::new(
                Code::UnknownOverride,
                field,
                found.clone(),
                "overrides what is not read layer by layer",
                "read are the heads, the KV heads and the head dimensions of layers that the model has",
            ),
            Self::NoState => Error::new(
                Code::Missing,
                "layer_types",
                "recurrent layers",
                "are there, but no keys of a mechanism known here tell the size of their state",
                "known are Mamba, Mamba-2, gated delta nets, KDA, lightning attention, short convolutions, RG-LRU, RWKV-4 and mLSTM",
            ),
            Self::NoCache { found, reason } => Error::new(
                Code::NoCache,
                "model_type",
                found.clone(),
                format!("has no KV cache: {reason}"),
                "give the config.json of a model that generates text",
            ),
            Self::Model(error) => error.diagnosis(),
        }
    }
}

display_diagnosis!(ConfigError);
