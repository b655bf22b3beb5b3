//! Why a workload has no estimate.

use crate::units::{Diagnose, Diagnosis, display_diagnosis};

/// Why a workload has no estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EstimateError {
    /// The product of layers, tokens, batch, width and bits passes 2⁶⁴ − 1 bytes.
    TooLarge,
    /// KV heads that neither divide over the ranks nor are replicated evenly.
    UnevenTensorParallel {
        /// KV heads.
        num_key_value_heads: u64,
        /// Ranks.
        tp: u64,
    },
    /// The article's shortcut gives a width that is not a whole number of heads, so it can't be divided.
    ShortcutTensorParallel {
        /// KV heads.
        num_key_value_heads: u64,
        /// Ranks.
        tp: u64,
    },
    /// More pipeline stages than layers.
    TooManyStages {
        /// Layers.
        layers: u32,
        /// Stages.
        pp: u64,
    },
}

impl Diagnose for EstimateError {
    fn diagnosis(&self) -> Diagnosis {
        let diagnosis = |code, field: &str, found: u64, problem, remedy: &str| Diagnosis {
            code,
            field: field.into(),
            found: found.to_string(),
            problem,
            remedy: remedy.into(),
        };
        match *self {
            Self::TooLarge => Diagnosis {
                code: "too_large",
                field: "size".into(),
                found: "layers x tokens x batch x width x bits".into(),
                problem: "is past 2^64 - 1 bytes".into(),
                remedy: "give smaller numbers".into(),
            },
            Self::UnevenTensorParallel { num_key_value_heads, tp } => diagnosis(
                "uneven_tensor_parallel",
                "--tp",
                tp,
                format!("neither divides the {num_key_value_heads} KV heads nor is a multiple of them"),
                "use one that does, as engines ask",
            ),
            Self::ShortcutTensorParallel { num_key_value_heads, tp } => diagnosis(
                "shortcut_tensor_parallel",
                "--tp",
                tp,
                format!(
                    "can't divide the article's shortcut: its width is no multiple of the {num_key_value_heads} KV heads"
                ),
                "give --heads or --head-dim",
            ),
            Self::TooManyStages { layers, pp } => diagnosis(
                "too_many_stages",
                "--pp",
                pp,
                format!("is more pipeline stages than the {layers} layers"),
                "use one stage for each layer at most",
            ),
        }
    }
}

display_diagnosis!(EstimateError);
