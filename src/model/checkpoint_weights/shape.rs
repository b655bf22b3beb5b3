//! Tensors of a checkpoint by shape.

use serde::Deserialize;

use super::encoding::Encoding;
use crate::model::Place;
use crate::units::Exact;

/// What a tensor is, as far as quantization goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A linear layer of a block.
    Linear,
    /// The weights of a layer's experts.
    Expert,
    ExpertBias,
    /// What most quantizers leave alone: embedding, head, routers, norms, biases, convolutions, towers.
    #[default]
    Other,
}

/// Tensors of one shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    /// How many there are, in each layer if they are on layers.
    pub(crate) count: u64,
    /// Matrices that are stacked in the rows: the experts of a layer.
    pub(crate) matrices: u64,
    /// Rows that ranks divide, rows that they divide by KV heads, and rows that each rank has.
    pub(crate) divided: u64,
    pub(crate) by_kv_heads: u64,
    pub(crate) whole: u64,
    pub(crate) columns: u64,
    pub(crate) num_key_value_heads: u64,
    /// The name of the matrix in a GGUF file; `None` for a vector.
    pub(crate) gguf: Option<String>,
    /// The name in the checkpoint's layers, where it is not a usual one.
    pub(crate) module: Option<String>,
    /// What engines join it into.
    pub(crate) join: Option<String>,
    /// Columns in a GGUF file where they differ, else 0.
    pub(crate) gguf_columns: u64,
    pub(crate) stacked: bool,
    /// How it is quantized; `None` for the checkpoint's own dtype.
    pub(crate) encoding: Option<Encoding>,
}

impl Shape {
    /// One vector without elements, to be filled in.
    pub(crate) fn vector(place: Place) -> Self {
        Self {
            place,
            kind: Kind::Other,
            count: 1,
            matrices: 1,
            divided: 0,
            by_kv_heads: 0,
            whole: 0,
            columns: 1,
            num_key_value_heads: 1,
            gguf: None,
            module: None,
            join: None,
            gguf_columns: 0,
            stacked: false,
            encoding: None,
        }
    }

    /// How many there are in the model.
    pub(super) fn tensors(&self) -> Exact {
        let places = match &self.place {
            Place::Layers(layers) => layers.len(),
            Place::Embedding | Place::Head | Place::Beside => 1,
        };
        Exact::from(places) * self.count
    }

    /// The rows of one.
    pub(crate) fn rows(&self) -> Exact {
        Exact::from(self.divided) + self.by_kv_heads + self.whole
    }

    /// The parameters of all of them.
    pub(crate) fn parameters(&self) -> Exact {
        self.rows() * self.columns * self.tensors()
    }

    /// Whether engines hold both in one tensor.
    pub(super) fn is_joined_with(&self, other: &Self) -> bool {
        self.join.is_some() && (&self.join, &self.place, self.count) == (&other.join, &other.place, other.count)
    }

    /// Whether a token passes through some of them only: those of its experts.
    pub(crate) fn is_routed(&self) -> bool {
        matches!(self.kind, Kind::Expert | Kind::ExpertBias)
    }

    /// Its names in checkpoints, without the layer.
    pub(super) fn modules(&self) -> Vec<&str> {
        let usual = || {
            let name = self.gguf.as_deref().unwrap_or_default();
            MODULES.iter().find(|(gguf, _)| *gguf == name).map_or_else(Vec::new, |(_, modules)| modules.to_vec())
        };
        self.module.as_deref().map_or_else(usual, |module| vec![module])
    }
}

/// The names of matrices in checkpoints, by that in a GGUF file: `gguf-py/gguf/tensor_mapping.py` of llama.cpp. The matrices
/// of all experts go by those of the first.
const MODULES: &[(&str, &[&str])] = &[
    ("token_embd", &["embed_tokens"]),
    ("output", &["lm_head", "head"]),
    ("attn_q", &["self_attn.q_proj", "attention.wq", "mixer.q_proj"]),
    ("attn_k", &["self_attn.k_proj", "attention.wk", "mixer.k_proj"]),
    ("attn_v", &["self_attn.v_proj", "attention.wv", "mixer.v_proj"]),
    ("attn_output", &["self_attn.o_proj", "attention.wo", "self_attn.out_proj", "mixer.o_proj", "attn.wo_b"]),
    ("attn_qkv", &["self_attn.qkv_proj", "linear_attn.in_proj_qkv", "linear_attn.in_proj_qkvz"]),
    ("attn_gate", &["linear_attn.in_proj_z", "linear_attn.in_proj_qkvz", "self_attn.g_proj"]),
    ("attn_q_a", &["self_attn.q_a_proj", "attn.wq_a"]),
    ("attn_q_b", &["self_attn.q_b_proj", "attn.wq_b"]),
    ("attn_kv_a_mqa", &["self_attn.kv_a_proj_with_mqa", "attn.wkv"]),
    ("attn_k_b", &["self_attn.kv_b_proj"]),
    ("attn_v_b", &["self_attn.kv_b_proj"]),
    ("indexer.attn_q_b", &["self_attn.indexer.wq_b", "attn.indexer.wq_b"]),
    ("indexer.attn_k", &["self_attn.indexer.wk"]),
    ("ffn_gate", &["mlp.gate_proj", "feed_forward.w1"]),
    ("ffn_up", &["mlp.up_proj", "mlp.gate_up_proj", "feed_forward.w3", "mixer.up_proj"]),
    ("ffn_down", &["mlp.down_proj", "feed_forward.w2", "mixer.down_proj"]),
    ("ffn_gate_exps", &["mlp.experts.0.gate_proj", "block_sparse_moe.experts.0.w1", "ffn.experts.0.w1"]),
    (
        "ffn_up_exps",
        &["mlp.experts.0.up_proj", "block_sparse_moe.experts.0.w3", "ffn.experts.0.w3", "mixer.experts.0.up_proj"],
    ),
    (
        "ffn_down_exps",
        &["mlp.experts.0.down_proj", "block_sparse_moe.experts.0.w2", "ffn.experts.0.w2", "mixer.experts.0.down_proj"],
    ),
    ("ffn_gate_shexp", &["mlp.shared_experts.gate_proj", "mlp.shared_expert.gate_proj", "ffn.shared_experts.w1"]),
    (
        "ffn_up_shexp",
        &[
            "mlp.shared_experts.up_proj",
            "mlp.shared_expert.up_proj",
            "ffn.shared_experts.w3",
            "mixer.shared_experts.up_proj",
        ],
    ),
    (
        "ffn_down_shexp",
        &[
            "mlp.shared_experts.down_proj",
            "mlp.shared_expert.down_proj",
            "ffn.shared_experts.w2",
            "mixer.shared_experts.down_proj",
        ],
    ),
    ("ffn_gate_inp", &["mlp.gate", "block_sparse_moe.gate", "mlp.router"]),
    ("ssm_in", &["mamba.in_proj", "mixer.in_proj"]),
    ("ssm_out", &["linear_attn.out_proj", "mamba.out_proj", "mixer.out_proj"]),
    ("ssm_alpha", &["linear_attn.in_proj_a"]),
    ("ssm_beta", &["linear_attn.in_proj_b", "self_attn.b_proj"]),
    ("ssm_ba", &["linear_attn.in_proj_ba"]),
    ("shortconv.in_proj", &["conv.in_proj"]),
    ("shortconv.out_proj", &["conv.out_proj"]),
    ("nextn.eh_proj", &["eh_proj"]),
];
