//! Why a workload has no estimate: one function a reason.

use crate::units::{Code, ElementFormat, Error, Tokens};

/// KV heads that neither divide over the ranks nor are replicated evenly.
pub(super) fn uneven_heads(num_key_value_heads: u64, tp: u64) -> Error {
    let problem = format!("neither divides the {num_key_value_heads} KV heads nor is a multiple of them");
    Error::new(Code::UnevenTensorParallel, "--tp", tp.to_string(), problem, "use one that does, as engines ask")
}

/// The article's shortcut gives a width that is not a whole number of heads, so it cannot be divided.
pub(super) fn undivided_shortcut(num_key_value_heads: u64, tp: u64) -> Error {
    let problem =
        format!("can't divide the article's shortcut: its width is no multiple of the {num_key_value_heads} KV heads");
    Error::new(Code::ShortcutTensorParallel, "--tp", tp.to_string(), problem, "give --heads or --head-dim")
}

/// An engine's layout of latents, which means nothing without that engine.
pub(super) fn packed_format(format: ElementFormat) -> Error {
    let problem = "is how an engine packs the latents of sparse MLA";
    Error::new(Code::PackedFormat, "--kv-dtype", format.to_string(), problem, "use fp8, or add --engine vllm")
}

/// Cross-attention without a length for what the encoder gives.
pub(super) fn no_encoder_length() -> Error {
    let problem = "missing, although the model has cross-attention and its config names no maximum";
    Error::without_value(Code::Missing, "--encoder-len", problem, "give the tokens that the encoder makes")
}

/// More tokens in common than a sequence has.
pub(super) fn prefix_too_long(prefix: Tokens, seq_len: Tokens) -> Error {
    let problem = format!("is more than the {seq_len} tokens of a sequence");
    Error::new(Code::PrefixTooLong, "--shared-prefix", prefix.to_string(), problem, "give at most --seq-len")
}

/// Decode context parallel ranks that do not divide the tensor parallel ranks.
pub(super) fn uneven_decode_context(dcp: u64, tp: u64) -> Error {
    let problem = format!("does not divide the {tp} tensor parallel ranks, which share the tokens");
    Error::new(Code::DecodeContext, "--dcp", dcp.to_string(), problem, "use a divisor of --tp")
}

/// More decode context parallel ranks than hold the same KV head.
pub(super) fn too_much_decode_context(dcp: u64, tp: u64, num_key_value_heads: u64) -> Error {
    let copies = tp.checked_div(num_key_value_heads).unwrap_or_default().max(1);
    let ranks = if copies == 1 { "one rank that holds".to_owned() } else { format!("{copies} ranks that hold") };
    let problem = format!("is more than the {ranks} each of the {num_key_value_heads} KV heads at --tp {tp}");
    let remedy = "raise --tp to --dcp times the KV heads, or leave it out";
    Error::new(Code::DecodeContext, "--dcp", dcp.to_string(), problem, remedy)
}

/// More pipeline stages than layers.
pub(super) fn too_many_stages(layers: u32, pp: u64) -> Error {
    let problem = format!("is more pipeline stages than the {layers} layers");
    Error::new(Code::TooManyStages, "--pp", pp.to_string(), problem, "use one stage for each layer at most")
}
