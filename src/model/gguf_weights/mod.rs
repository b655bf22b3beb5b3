//! The weights of a model in a GGUF file: its tensors by name, and the type that llama-quantize gives each of them.

mod file;
mod file_type;
mod table;
mod tensor_type;
mod walk;

pub use file::GgufFileWeights;
pub use file_type::{FileType, Imatrix, Release};
pub use table::Condition;
pub use tensor_type::{Block, TensorType};
pub use walk::{Reason, Typed};

/// The names of embeddings, which stay on the host.
const TOKEN_EMBEDDING: &str = "token_embd";
const PER_LAYER_EMBEDDING: &str = "per_layer_token_embd";

/// The tensors of a model as llama.cpp's converter writes them, and what else decides their types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufTensors {
    /// `general.architecture`
    pub architecture: String,
    /// All layers, MTP layers included.
    pub layers: u32,
    /// Query heads for each KV head of the first layer; 0 where that has none.
    pub gqa: u64,
    /// Experts of a layer that tokens are sent to; 0 without.
    pub experts: u64,
    /// The tensors.
    pub tensors: Vec<GgufTensor>,
    /// What other files hold of the model, or this one does not.
    pub notes: Vec<String>,
}

impl GgufTensors {
    /// Whether the embedding is the output as well.
    pub fn is_tied(&self) -> bool {
        self.tensors.iter().all(|tensor| tensor.name != "output")
    }

    /// Tokens of the vocabulary.
    pub fn vocabulary(&self) -> Option<u64> {
        let embedding = self.tensors.iter().find(|tensor| tensor.name == TOKEN_EMBEDDING)?;
        embedding.elements.checked_div(embedding.columns)
    }
}

/// Tensors of one name, in each of their layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufTensor {
    /// The name, without the layer and `.weight`; of vectors empty.
    pub name: String,
    /// The layers that have it; `None` outside of layers.
    pub layers: Option<Vec<u32>>,
    /// Elements of a row: `ne[0]`; 1 for a vector.
    pub columns: u64,
    /// All its elements.
    pub elements: u64,
    /// Whether it has a third dimension.
    pub is_stacked: bool,
}
