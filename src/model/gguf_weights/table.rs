//! llama.cpp's rule for the type of every tensor, as data: of each file type the default, what embeddings and output are,
//! and the categories that differ, the first condition that holds deciding.
//!
//! Read in `llama_tensor_get_type_impl` of `src/llama-quant.cpp`, llama.cpp v0.5.0 (the same since b8390), and held against
//! its own dry runs; the older rule up to b8179 against b7347 and b3995.

use std::fmt;

use super::tensor_type::TensorType::{
    self, Bf16, F16, F32, Iq1M, Iq1S, Iq2S, Iq2Xs, Iq2Xxs, Iq3S, Iq3Xxs, Iq4Nl, Iq4Xs, Mxfp4, Q1_0, Q2_0, Q2K, Q3K,
    Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Tq1_0, Tq2_0,
};
use Category::{Down, FusedQkv, Gate, K, O, Q, Up, V};
use Condition::{
    All, Always, Eighth, Experts8, Falcon, FirstTensors, Gqa4, Gqa4OrExperts4, Imatrix, Middle, More, Not,
    OrdinalEighth, Sixteenth,
};

/// What a tensor is to llama.cpp, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Category {
    Output,
    Embedding,
    /// `attn_qkv`: taken as V, in the older rule on its own.
    FusedQkv,
    V,
    K,
    Q,
    O,
    Up,
    Gate,
    Down,
    Other,
}

impl Category {
    /// The category of a name without its layer and `.weight`, the first that fits.
    pub(super) fn from_name(name: &str) -> Self {
        match name {
            "output" => Self::Output,
            "token_embd" | "per_layer_token_embd" => Self::Embedding,
            _ if name.ends_with("attn_qkv") => Self::FusedQkv,
            _ if name.ends_with("attn_kv_b") || name.ends_with("attn_v") => Self::V,
            _ if name.ends_with("attn_k") => Self::K,
            _ if name.ends_with("attn_q") => Self::Q,
            _ if name.ends_with("attn_output") => Self::O,
            _ if name.contains("ffn_up") => Self::Up,
            _ if name.contains("ffn_gate") => Self::Gate,
            _ if name.contains("ffn_down") => Self::Down,
            _ => Self::Other,
        }
    }
}

/// When a tensor has another type than the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// For all tensors of the kind.
    Always,
    /// 4 query heads or more for each KV head.
    Gqa4,
    /// The same, or 4 experts or more.
    Gqa4OrExperts4,
    /// Exactly 8 experts.
    Experts8,
    /// The first eighth, the last eighth, and every third between (`use_more_bits`).
    More,
    /// The first eighth of the layers.
    Eighth,
    /// The first eighth by the tensor's ordinal, whatever its layer is.
    OrdinalEighth,
    /// The first sixteenth of the layers.
    Sixteenth,
    /// Neither the first nor the last eighth.
    Middle,
    /// The first tensors of the category.
    FirstTensors(u64),
    /// With an importance matrix.
    Imatrix,
    /// The architecture `falcon`.
    Falcon,
    /// Where another does not hold.
    Not(&'static Condition),
    /// Where all of these hold.
    All(&'static [Condition]),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("tensors of this kind"),
            Self::Gqa4 => f.write_str("4 query heads or more per KV head"),
            Self::Gqa4OrExperts4 => f.write_str("4 query heads or more per KV head, or 4 experts or more"),
            Self::Experts8 => f.write_str("8 experts"),
            Self::More => f.write_str("first and last eighth, every third between"),
            Self::Eighth => f.write_str("first eighth of the layers"),
            Self::OrdinalEighth => f.write_str("first eighth of these tensors"),
            Self::Sixteenth => f.write_str("first sixteenth of the layers"),
            Self::Middle => f.write_str("neither the first nor the last eighth"),
            Self::FirstTensors(count) => write!(f, "first {count} of these tensors"),
            Self::Imatrix => f.write_str("with an imatrix"),
            Self::Falcon => f.write_str("falcon"),
            Self::Not(condition) => write!(f, "not: {condition}"),
            Self::All(conditions) => {
                // What does not hold goes without saying, next to what does.
                let said = conditions.iter().filter(|condition| !matches!(condition, Self::Not(_)));
                f.write_str(&said.map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
        }
    }
}

/// Which steps follow on V, and what K is with 8 experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Steps {
    /// V of 70B is raised to `q5_K`, V and K with 8 experts to `q8_0`.
    Raised,
    /// No step (1 and 2 bits).
    Plain,
    /// Stacked tensors have the default, all others `q8_0`.
    Experts,
    /// One type for all: nothing is quantised.
    Unquantized,
}

/// Whether a file type is made with an importance matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matrix {
    /// It cannot be made without one.
    Needed,
    /// It usually is made with one.
    Usual,
    /// It usually is made without one.
    Unusual,
}

/// A file type: its name, and the types of its tensors.
#[derive(Debug)]
pub(super) struct FileTypeRow {
    pub(super) name: &'static str,
    pub(super) default: TensorType,
    /// Embeddings that are not the output as well.
    pub(super) embedding: TensorType,
    /// The output, or embeddings that are the output.
    pub(super) output: TensorType,
    pub(super) steps: Steps,
    pub(super) matrix: Matrix,
    pub(super) rows: &'static [(Category, Condition, TensorType)],
}

const fn row(
    name: &'static str,
    default: TensorType,
    output: TensorType,
    rows: &'static [(Category, Condition, TensorType)],
) -> FileTypeRow {
    FileTypeRow { name, default, embedding: default, output, steps: Steps::Raised, matrix: Matrix::Unusual, rows }
}

impl FileTypeRow {
    const fn embedding(self, embedding: TensorType) -> Self {
        Self { embedding, ..self }
    }

    const fn steps(self, steps: Steps) -> Self {
        Self { steps, ..self }
    }

    const fn matrix(self, matrix: Matrix) -> Self {
        Self { matrix, ..self }
    }
}

const fn unquantized(name: &'static str, only: TensorType) -> FileTypeRow {
    row(name, only, only, &[]).steps(Steps::Unquantized)
}

/// One of the types of 1 and 2 bits. `raised` is what embeddings, V and early layers are raised to.
const fn low(
    name: &'static str,
    default: TensorType,
    raised: TensorType,
    rows: &'static [(Category, Condition, TensorType)],
) -> FileTypeRow {
    row(name, default, Q5K, rows).embedding(raised).steps(Steps::Plain).matrix(Matrix::Needed)
}

/// Every file type.
pub(super) const FILE_TYPES: &[FileTypeRow] = &[
    unquantized("F32", F32),
    unquantized("F16", F16),
    unquantized("BF16", Bf16),
    row("Q4_0", Q4_0, Q6K, &[(Down, All(&[Imatrix, Eighth]), Q4_1)]),
    row("Q4_1", Q4_1, Q6K, &[]),
    row("Q5_0", Q5_0, Q6K, &[(Down, All(&[Imatrix, Eighth]), Q5_1)]),
    row("Q5_1", Q5_1, Q6K, &[]),
    row("Q8_0", Q8_0, Q8_0, &[]),
    row(
        "Q2_K",
        Q2K,
        Q6K,
        &[(V, Gqa4, Q4K), (V, Always, Q3K), (Down, Always, Q3K), (O, EXPERTS, Q5K), (O, PLAIN_O, Q3K)],
    ),
    row("Q2_K_S", Q2K, Q6K, &[(V, Gqa4, Q4K), (Down, Eighth, Q4K)]).matrix(Matrix::Needed),
    row("Q3_K_S", Q3K, Q6K, &[(O, EXPERTS, Q5K)]),
    row("Q3_K_M", Q3K, Q6K, Q3_K_M),
    row("Q3_K_L", Q3K, Q6K, Q3_K_L),
    row("Q4_K_S", Q4K, Q6K, &[(V, FirstTensors(4), Q5K), (Down, All(&[Not(&Falcon), Eighth]), Q5K), (O, EXPERTS, Q5K)]),
    row("Q4_K_M", Q4K, Q6K, Q4_K_M),
    row("Q5_K_S", Q5K, Q6K, &[]),
    row("Q5_K_M", Q5K, Q6K, &[(V, More, Q6K), (FusedQkv, Always, Q6K), (Down, More, Q6K)]),
    row("Q6_K", Q6K, Q6K, &[]),
    low("IQ1_S", Iq1S, Q2K, IQ1),
    low("IQ1_M", Iq1M, Q2K, IQ1),
    low("IQ2_XXS", Iq2Xxs, Q2K, IQ2_XS),
    low("IQ2_XS", Iq2Xs, Q2K, IQ2_XS),
    low("IQ2_S", Iq2Xs, Iq3S, IQ2_S),
    low("IQ2_M", Iq2S, Iq3S, IQ2_S),
    row("IQ3_XXS", Iq3Xxs, Q5K, IQ3_XXS).embedding(Iq3S).matrix(Matrix::Needed),
    row("IQ3_XS", Iq3S, Q6K, IQ3_XS).matrix(Matrix::Usual),
    row("IQ3_S", Iq3S, Q6K, &[(V, Gqa4, Q4K), (O, EXPERTS, Q5K)]).matrix(Matrix::Usual),
    row("IQ3_M", Iq3S, Q6K, IQ3_M).matrix(Matrix::Usual),
    row("IQ4_NL", Iq4Nl, Q6K, IQ4).matrix(Matrix::Usual),
    row("IQ4_XS", Iq4Xs, Q6K, IQ4).matrix(Matrix::Usual),
    row("TQ1_0", Tq1_0, Q6K, &[]).embedding(Q4K),
    row("TQ2_0", Tq2_0, Q6K, &[]).embedding(Q4K),
    row("MXFP4_MOE", Mxfp4, Q8_0, &[]).embedding(Q8_0).steps(Steps::Experts),
    row("Q1_0", Q1_0, Q6K, &[]),
    row("Q2_0", Q2_0, Q6K, &[]).embedding(Q4K),
];

/// 8 experts; Falcon has no such step.
const EXPERTS: Condition = All(&[Experts8, Not(&Falcon)]);
/// The output of attention in all others.
const PLAIN_O: Condition = All(&[Not(&Experts8), Not(&Falcon)]);

const Q3_K_M: &[(Category, Condition, TensorType)] = &[
    (V, FirstTensors(2), Q5K),
    (V, Always, Q4K),
    (FusedQkv, Always, Q4K),
    (Down, Sixteenth, Q5K),
    (Down, All(&[Falcon, Not(&More)]), Q3K),
    (Down, Always, Q4K),
    (O, EXPERTS, Q5K),
    (O, PLAIN_O, Q4K),
];

const Q3_K_L: &[(Category, Condition, TensorType)] = &[
    (V, Always, Q5K),
    (FusedQkv, Always, Q4K),
    (Down, Falcon, Q4K),
    (Down, Always, Q5K),
    (O, Falcon, Q4K),
    (O, PLAIN_O, Q5K),
];

const Q4_K_M: &[(Category, Condition, TensorType)] = &[
    (V, More, Q6K),
    (FusedQkv, Always, Q5K),
    (Down, All(&[Falcon, Sixteenth]), Q6K),
    (Down, All(&[Falcon, More]), Q5K),
    (Down, All(&[Not(&Falcon), More]), Q6K),
    (O, EXPERTS, Q5K),
];

const IQ1: &[(Category, Condition, TensorType)] = &[
    (V, Gqa4OrExperts4, Q4K),
    (V, Always, Q2K),
    (K, Experts8, Q4K),
    (Down, OrdinalEighth, Q2K),
    (O, Experts8, Q5K),
    (O, Always, Iq2Xxs),
];

const IQ2_XS: &[(Category, Condition, TensorType)] =
    &[(V, Gqa4OrExperts4, Q4K), (V, Always, Q2K), (K, Experts8, Q4K), (Down, OrdinalEighth, Q2K), (O, Experts8, Q5K)];

const IQ2_S: &[(Category, Condition, TensorType)] = &[
    (V, Gqa4OrExperts4, Q4K),
    (V, Always, Iq3S),
    (K, Experts8, Q4K),
    (Down, OrdinalEighth, Iq3S),
    (O, Experts8, Q5K),
    (O, Always, Iq3S),
];

const IQ3_XXS: &[(Category, Condition, TensorType)] = &[
    (V, Gqa4, Q4K),
    (V, Not(&Imatrix), Iq3S),
    (K, Always, Iq2S),
    (Q, Always, Iq2S),
    (Down, All(&[Not(&Imatrix), Eighth]), Q4K),
    (Down, Not(&Imatrix), Q3K),
    (O, EXPERTS, Q5K),
    (O, PLAIN_O, Iq3S),
];

const IQ3_XS: &[(Category, Condition, TensorType)] = &[
    (V, Gqa4, Q4K),
    (K, Always, Iq3Xxs),
    (Q, Always, Iq3Xxs),
    (Gate, Middle, Iq3Xxs),
    (Up, Middle, Iq3Xxs),
    (O, EXPERTS, Q5K),
];

const IQ3_M: &[(Category, Condition, TensorType)] = &[
    (V, Always, Q4K),
    (FusedQkv, Always, Q4K),
    (Down, Eighth, Q4K),
    (Down, All(&[Experts8, More]), Q4K),
    (O, EXPERTS, Q5K),
    (O, PLAIN_O, Q4K),
];

const IQ4: &[(Category, Condition, TensorType)] =
    &[(V, Gqa4, Q5K), (Down, All(&[Not(&Imatrix), Eighth]), Q5K), (O, EXPERTS, Q5K)];

/// Models that llama.cpp takes for Llama 2 70B: architecture, layers, and whether they must have fewer KV heads than heads.
pub(super) const SEVENTY_BILLION: &[(&str, u32, Grouped)] = &[
    ("llama", 80, Grouped::Needed),
    ("qwen2", 80, Grouped::Any),
    ("deci", 80, Grouped::Any),
    ("olmo", 80, Grouped::Any),
    ("jais2", 68, Grouped::Any),
];

/// Whether fewer KV heads than heads are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grouped {
    Needed,
    Any,
}

/// Parts of names of matrices that stay as they are in single precision.
pub(super) const KEPT: &[&str] = &[
    "_norm",
    "ffn_gate_inp",
    "ssm_conv1d",
    "shortconv.conv",
    "position_embd",
    "token_types",
    "altup_correct",
    "altup_predict",
];
/// Of those in the 16-bit format that the converter wrote.
pub(super) const KEPT_16_BIT: &[&str] =
    &["altup", "laurel", "per_layer_model_proj", "indexer.k_proj", "indexer.q_proj"];
/// The table from tokens to experts.
pub(super) const INTEGERS: &str = "ffn_gate_tid2eid";
