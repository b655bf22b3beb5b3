//! How llama.cpp takes a model: what its architecture there decides in addition to the layers.

use serde::{Deserialize, Serialize};

use super::json_object::json_object;
use crate::units::Tokens;

json_object! {
    /// A model in the eyes of llama.cpp.
    pub struct Gguf {
        /// `general.architecture`, of the file or of the file that the converter would write.
        pub architecture: String,
        /// What becomes of windows and chunks.
        pub window: GgufWindow,
        /// What else only some architectures do.
        pub features: Vec<GgufFeature>,
        /// Keys of an index that are kept for each token.
        pub index_slots: u64,
        /// What a file says; absent for a model that was not read from one.
        pub file: Option<GgufFile>,
    }
}

impl Gguf {
    /// Whether its architecture has this feature.
    pub fn has(&self, feature: GgufFeature) -> bool {
        self.features.contains(&feature)
    }
}

/// What an architecture makes of windows and chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GgufWindow {
    /// It keeps them.
    #[default]
    Kept,
    /// It knows none, and keeps every token.
    Unknown,
    /// One size, whatever the model says.
    Fixed(#[cfg_attr(feature = "cli", schemars(with = "u64"))] Tokens),
}

/// What only some architectures do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GgufFeature {
    /// A latent is kept as it is, without V.
    Latent,
    /// An index has V of the width of a head, which nothing reads.
    IndexValues,
    /// States are kept for every token that may be rolled back.
    Rollback,
    /// It runs without flash attention.
    NoFlashAttention,
    /// An encoder's output is not cached, and more than one stream is not supported.
    EncoderDecoder,
}

json_object! {
    /// What a file says that llama.cpp's rules need in addition to the layers.
    pub struct GgufFile {
        /// All layers, MTP layers included: they count when layers are put on a GPU.
        pub block_count: u32,
        /// Whether the cache of the model itself has the MTP layers, too.
        pub keeps_nextn: bool,
        /// The sizes of K and V in a head, each pair once: quantised formats must divide them.
        #[cfg_attr(feature = "cli", schemars(with = "Vec<[u64; 2]>"))]
        pub head_dims: Vec<(u64, u64)>,
        /// The widest V of all layers, those without a cache included.
        pub widest_value: u64,
    }
}
