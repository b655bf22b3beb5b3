//! What was taken for granted, and what may make an answer wrong: said with every answer, never silent.

use std::fmt;

use crate::units::{ElementFormat, Tokens, group_thousands};

/// Something taken for granted that the answer rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assumption {
    /// The article's shortcut stands in for the width.
    ArticleShortcut {
        /// `hidden_size`
        hidden_size: u64,
        /// KV heads
        num_key_value_heads: u64,
        /// Their quotient.
        width: u64,
    },
    /// No KV heads given: as many as query heads.
    MultiHead {
        /// Query heads.
        heads: u64,
        /// Their flag or key.
        field: String,
    },
    /// No head dimension given, and the width is not a multiple of the heads.
    HeadDimRoundedDown {
        /// `hidden_size`
        hidden_size: u64,
        /// Query heads.
        heads: u64,
        /// Their quotient, rounded down.
        head_dim: u64,
    },
    /// A key the configuration leaves out, supplied by the defaults of its `model_type`.
    ClassDefault {
        /// The key.
        key: String,
        /// The default.
        value: String,
        /// The `model_type`.
        model_type: String,
        /// Where the default was read.
        source: String,
    },
    /// Which layers are of which kind was not listed; a rule of the `model_type` supplied it.
    LayerRule {
        /// The rule, in words.
        rule: String,
        /// Where the rule was read.
        source: String,
    },
    /// A window is present but switched off.
    WindowOff {
        /// The key that switches it off.
        key: String,
    },
    /// The text model is in a part whose name is not known to be its place.
    UnknownWrapper {
        /// The part.
        path: String,
    },
    /// Attention in both directions.
    TwoSidedWindow {
        /// The window of both sides.
        window: u64,
        /// What is kept.
        halved: u64,
    },
    /// Chunked layers without a chunk.
    NoChunk {
        /// The key.
        key: String,
        /// Its value.
        found: String,
    },
    /// The checkpoint's element format is not a 16-bit one, or not given.
    Dtype {
        /// What the configuration says, if anything.
        found: Option<String>,
        /// What the cache is counted in unless `--kv-dtype` says otherwise.
        used: ElementFormat,
    },
    /// A key that is missing, whose value no class default tells.
    Unstated {
        /// The key.
        key: String,
        /// What is used.
        value: u64,
        /// Why.
        reason: &'static str,
    },
    /// Attention sinks and a window take the place of every layer's own bound.
    Streaming {
        /// Tokens at the start that stay.
        sinks: u64,
        /// The last tokens, which stay as well.
        window: Tokens,
    },
    /// Windows and chunks are not honoured.
    WindowsKept,
    /// The layer list is longer than the model; its tail belongs to layers that are not part of it.
    LongList {
        /// The key.
        key: String,
        /// Entries found.
        found: usize,
        /// Layers.
        layers: u32,
    },
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ArticleShortcut { hidden_size, num_key_value_heads, width } => write!(
                f,
                "formula: the article's shortcut, 2 x layers x tokens x batch x (hidden_size / kv_heads) x bits/8 with \
                 {hidden_size} / {num_key_value_heads} = {width}; give --heads or --head-dim for the exact width"
            ),
            Self::MultiHead { heads, field } => write!(f, "no KV heads given: {heads}, as many as {field} (MHA)"),
            Self::HeadDimRoundedDown { hidden_size, heads, head_dim } => {
                write!(f, "no head_dim given: {hidden_size} / {heads} = {head_dim}, rounded down as engines do")
            }
            Self::ClassDefault { key, value, model_type, source } => {
                write!(f, "{key} is not in the config: {value}, the default of {model_type} ({source})")
            }
            Self::Unstated { key, value, reason } => write!(f, "{key} is not in the config: {value}, {reason}"),
            Self::LayerRule { rule, source } => write!(f, "layer_types is not in the config: {rule} ({source})"),
            Self::WindowOff { key } => write!(f, "sliding_window is not used: {key} is false"),
            Self::UnknownWrapper { path } => {
                write!(f, "the text model is taken to be {path}, the one part with layers")
            }
            Self::TwoSidedWindow { window, halved } => {
                write!(f, "attention is bidirectional: of a window of {window}, {halved} tokens are kept")
            }
            Self::NoChunk { key, found } => write!(f, "{key} is {found}: chunked layers keep every token"),
            Self::Dtype { found: None, used } => write!(f, "the config names no dtype: {used}"),
            Self::Dtype { found: Some(found), used } => {
                write!(f, "the checkpoint is in {found}; its cache is counted in {used}, as engines keep it")
            }
            Self::Streaming { sinks, window } => write!(
                f,
                "StreamingLLM: a layer keeps the first {sinks} tokens and the last {window}, or its own window where that is \
                 less"
            ),
            Self::WindowsKept => write!(f, "windows and chunks are kept whole: every layer keeps every token"),
            Self::LongList { key, found, layers } => {
                write!(f, "{key} has {found} entries for {layers} layers: the first {layers} are read")
            }
        }
    }
}

/// Something that may make the answer wrong; an error under `--strict`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A `model_type` that is not known here; it was read by its keys.
    UnknownModelType {
        /// The `model_type`.
        model_type: String,
    },
    /// The configuration names no `model_type`; it was read by its keys.
    NoModelType,
    /// The sequence is longer than the model was made for.
    PastMaximum {
        /// The longest length asked for.
        seq_len: Tokens,
        /// `max_position_embeddings`
        max_position_embeddings: Tokens,
    },
    /// The files of its weights are not read.
    Weights {
        /// What is wrong with them.
        reason: String,
    },
    /// `hidden_size / num_key_value_heads` is not a whole number; the article's script drops the rest.
    ShortcutRemainder {
        /// `hidden_size`
        hidden_size: u64,
        /// KV heads
        num_key_value_heads: u64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownModelType { model_type } => write!(
                f,
                "model_type {model_type:?} is not known: read by its keys as plain attention, which is wrong if it has \
                 a mechanism of its own"
            ),
            Self::NoModelType => write!(f, "the config names no model_type: read by its keys as plain attention"),
            Self::PastMaximum { seq_len, max_position_embeddings } => write!(
                f,
                "{seq_len} tokens is past the model's maximum of {max_position_embeddings} (max_position_embeddings)"
            ),
            Self::Weights { reason } => write!(f, "the weights are not told: {reason}"),
            Self::ShortcutRemainder { hidden_size, num_key_value_heads } => write!(
                f,
                "the article's shortcut does not divide evenly: {} / {num_key_value_heads} leaves a remainder, which it drops",
                group_thousands(*hidden_size)
            ),
        }
    }
}
