//! Why a workload has no estimate.

use crate::units::{Diagnose, Diagnosis, ElementFormat, Tokens, display_diagnosis};

/// Why a workload has no estimate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EstimateError {
    /// The product of layers, tokens, batch, width and bits passes 2⁶⁴ − 1 bytes.
    TooLarge,
    /// More devices than 2⁶⁴ − 1.
    TooManyDevices {
        /// Replicas.
        dp: u64,
    },
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
    /// A recurrent state whose heads or channels do not divide over the ranks.
    UnevenState {
        /// The recurrence.
        mechanism: &'static str,
        /// Heads or channels.
        size: u64,
        /// Ranks.
        tp: u64,
    },
    /// An engine's layout of latents, which means nothing without that engine.
    PackedFormat(ElementFormat),
    /// Cross-attention without a length for what the encoder gives.
    NoEncoderLength,
    /// More tokens in common than a sequence has.
    PrefixTooLong {
        /// Tokens in common.
        prefix: Tokens,
        /// Tokens of a sequence.
        seq_len: Tokens,
    },
    /// Ranks that can't share the tokens of a sequence.
    DecodeContext {
        /// Ranks that would share them.
        dcp: u64,
        /// Tensor parallel ranks.
        tp: u64,
        /// KV heads of a layer that stand in the way; none where it is `tp` that does.
        num_key_value_heads: Option<u64>,
    },
    /// What an engine refuses.
    Refused {
        /// The engine.
        engine: &'static str,
        /// The flag.
        field: &'static str,
        /// Its value.
        found: String,
        /// The engine's reason, as the end of a sentence that starts with the value.
        reason: String,
        /// What to do.
        remedy: &'static str,
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
        match self.clone() {
            Self::TooLarge => Diagnosis {
                code: "too_large",
                field: "--seq-len, --batch, --layers, --head-dim or --bitwidth".into(),
                found: "their product".into(),
                problem: "is past 2^64 - 1 bytes".into(),
                remedy: "give smaller numbers".into(),
            },
            Self::TooManyDevices { dp } => diagnosis(
                "too_large",
                "--dp",
                dp,
                "times --tp and --pp is past 2^64 - 1 devices".into(),
                "give smaller numbers",
            ),
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
            Self::UnevenState { mechanism, size, tp } => diagnosis(
                "uneven_tensor_parallel",
                "--tp",
                tp,
                format!("does not divide the {size} heads or channels of the {mechanism} state"),
                "use one that does",
            ),
            Self::Refused { engine, field, found, reason, remedy } => Diagnosis {
                code: "refused",
                field: field.into(),
                found,
                problem: format!("{reason} ({engine})"),
                remedy: remedy.into(),
            },
            Self::PackedFormat(format) => Diagnosis {
                code: "packed_format",
                field: "--kv-dtype".into(),
                found: format.to_string(),
                problem: "is how an engine packs the latents of sparse MLA".into(),
                remedy: "use fp8, or add --engine vllm".into(),
            },
            Self::PrefixTooLong { prefix, seq_len } => Diagnosis {
                code: "prefix_too_long",
                field: "--shared-prefix".into(),
                found: prefix.to_string(),
                problem: format!("is more than the {seq_len} tokens of a sequence"),
                remedy: "give at most --seq-len".into(),
            },
            Self::DecodeContext { dcp, tp, num_key_value_heads: None } => diagnosis(
                "decode_context",
                "--dcp",
                dcp,
                format!("does not divide the {tp} tensor parallel ranks, which share the tokens"),
                "use a divisor of --tp",
            ),
            Self::DecodeContext { dcp, tp, num_key_value_heads: Some(heads) } => {
                let copies = tp.checked_div(heads).unwrap_or_default().max(1);
                let ranks = if copies == 1 { "one rank that holds" } else { "ranks that hold" };
                let number = if copies == 1 { String::new() } else { format!("{copies} ") };
                diagnosis(
                    "decode_context",
                    "--dcp",
                    dcp,
                    format!("is more than the {number}{ranks} each of the {heads} KV heads at --tp {tp}"),
                    "raise --tp to --dcp times the KV heads, or leave it out",
                )
            }
            Self::NoEncoderLength => Diagnosis {
                code: "missing",
                field: "--encoder-len".into(),
                found: "missing".into(),
                problem: "although the model has cross-attention, and its config names no maximum".into(),
                remedy: "give the tokens that the encoder makes".into(),
            },
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
