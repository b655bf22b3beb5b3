//! Why a configuration is not a model.

use crate::model::ModelError;
use crate::units::{Diagnose, Diagnosis, display_diagnosis};

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
        /// Path of the key that would give it.
        field: String,
        /// The kind of layer.
        kind: &'static str,
    },
    /// A mechanism that is not read.
    Mechanism {
        /// Path of the key.
        field: String,
        /// What it stands for.
        mechanism: &'static str,
    },
    /// A model with no cache of its own tokens.
    NotADecoder {
        /// Path of the key that says so.
        field: String,
        /// What it is.
        found: String,
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
    fn diagnosis(&self) -> Diagnosis {
        let diagnosis = |code, field: &str, found: String, problem: String, remedy: &str| Diagnosis {
            code,
            field: field.into(),
            found,
            problem,
            remedy: remedy.into(),
        };
        match self {
            Self::Syntax(error) => diagnosis(
                "syntax",
                "",
                "the text".into(),
                format!("is not JSON: {error}"),
                "give a config.json as it is published",
            ),
            Self::NotAnObject(found) => {
                diagnosis("not_an_object", "", found.clone(), "is not an object of keys".into(), "give a config.json")
            }
            Self::WrongType { field, found, expected } => diagnosis(
                "wrong_type",
                field,
                found.clone(),
                format!("is not {expected}"),
                &format!("write {expected}"),
            ),
            Self::NotPositive { field, found } => {
                diagnosis("not_positive", field, found.clone(), "is not a positive count".into(), "write 1 or more")
            }
            Self::ShortList { field, found, layers } => diagnosis(
                "short_list",
                field,
                format!("{found} entries"),
                format!("do not cover the {layers} layers"),
                "give one entry a layer",
            ),
            Self::UnknownLayerType { field, found } => diagnosis(
                "unknown_layer_type",
                field,
                found.clone(),
                "is a layer type that is not known here".into(),
                "known are full_attention, sliding_attention and chunked_attention",
            ),
            Self::NoBound { field, kind } => diagnosis(
                "missing",
                field,
                "missing".into(),
                format!("although layers are {kind}"),
                "add it: without it their cache has no size",
            ),
            Self::Mechanism { field, mechanism } => diagnosis(
                "unsupported_mechanism",
                field,
                "the key".into(),
                format!("stands for {mechanism}, which is not read yet"),
                "only full, sliding and chunked attention are",
            ),
            Self::NotADecoder { field, found } => diagnosis(
                "not_a_decoder",
                field,
                found.clone(),
                "is not a decoder-only language model".into(),
                "give the config.json of one",
            ),
            Self::Model(error) => error.diagnosis(),
        }
    }
}

display_diagnosis!(ConfigError);
