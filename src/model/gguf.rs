//! How llama.cpp takes a model: what its architecture there decides beside the layers.

use crate::units::Tokens;

/// A model in the eyes of llama.cpp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gguf {
    /// `general.architecture`, of the file or of the file that the converter would write.
    pub architecture: String,
    /// What becomes of windows and chunks.
    pub window: GgufWindow,
    /// What else it does in a way of its own.
    pub features: Vec<GgufFeature>,
    /// Keys of an index that are kept for each token.
    pub index_slots: u64,
    /// What a file says; none for a model that was not read from one.
    pub file: Option<GgufFile>,
}

impl Gguf {
    /// Whether its architecture has this feature.
    pub fn has(&self, feature: GgufFeature) -> bool {
        self.features.contains(&feature)
    }
}

/// What an architecture makes of windows and chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GgufWindow {
    /// It keeps them.
    Kept,
    /// It knows none, and keeps every token.
    Unknown,
    /// It has one size of its own, whatever the model says.
    Fixed(Tokens),
}

/// What only some architectures do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GgufFeature {
    /// A latent is kept as it is, and no V beside it.
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

/// What a file says that llama.cpp's rules need beside the layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufFile {
    /// All layers, those that predict further tokens included: they count when layers are put on a GPU.
    pub block_count: u32,
    /// Whether the cache of the model itself has the layers that predict further tokens, too.
    pub keeps_nextn: bool,
    /// The sizes of K and V in a head, each pair once: quantised formats must divide them.
    pub head_dims: Vec<(u64, u64)>,
    /// The widest V of all layers, those without a cache included.
    pub widest_value: u64,
}
