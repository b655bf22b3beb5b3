//! What a model weighs, as a document.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use crate::model::Weights;

/// The weights of a model. What is not known is absent.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct WeightsDescription {
    /// How they are known: `headers`, `index`, `catalogue`, or `computed` from the configuration.
    #[schemars(extend("enum" = ["headers", "index", "catalogue", "computed"]))]
    pub origin: &'static str,
    /// All bytes, as engines hold them.
    pub bytes: Option<u64>,
    /// Those of the files, where they are computed and differ.
    pub stored_bytes: Option<u64>,
    /// All parameters.
    pub parameters: Option<u64>,
    /// Parameters that one token passes through, of a mixture of experts.
    pub active_parameters: Option<u64>,
    /// Parameters of what sees or hears, of those counted.
    pub tower_parameters: Option<u64>,
    /// Parameters of MTP layers, which are not counted.
    pub mtp_parameters: Option<u64>,
    /// Their bytes in the files, if these hold them.
    pub mtp_bytes: Option<u64>,
    /// The same by element type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_dtype: Vec<DtypeDescription>,
    /// What there is to say of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The weights of one element type.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct DtypeDescription {
    /// Its name where the weights are.
    pub dtype: String,
    /// Tensors of it, where they are listed.
    pub tensors: Option<u64>,
    /// Elements as stored.
    pub parameters: u64,
    /// Their bytes.
    pub bytes: Option<u64>,
}

impl From<&Weights> for WeightsDescription {
    fn from(weights: &Weights) -> Self {
        let by_dtype = weights.by_dtype.iter().map(|share| DtypeDescription {
            dtype: super::clean(&share.dtype),
            tensors: share.tensors,
            parameters: share.parameters,
            bytes: share.bytes.map(|bytes| bytes.0),
        });
        Self {
            origin: weights.origin.name(),
            bytes: weights.bytes.map(|bytes| bytes.0),
            stored_bytes: weights.stored.map(|bytes| bytes.0),
            parameters: weights.parameters,
            active_parameters: weights.active_parameters,
            tower_parameters: weights.tower_parameters,
            mtp_parameters: weights.mtp_parameters,
            mtp_bytes: weights.mtp_bytes.map(|bytes| bytes.0),
            by_dtype: by_dtype.collect(),
            notes: weights.notes.iter().map(|note| super::clean(note)).collect(),
        }
    }
}
