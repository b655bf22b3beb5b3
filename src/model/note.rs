//! What was taken for granted, and what may make an answer wrong: said with every answer, never silent.

use std::fmt;

use crate::units::{ElementFormat, Tokens, group_thousands};

/// Declares notes, a row each: when it is said, what it names, and the sentence.
macro_rules! notes {
    ($(#[$about:meta])* pub enum $name:ident {
        $($(#[$doc:meta])* $note:ident $({ $($field:ident: $type:ty),* })? => ($($sentence:tt)*);)*
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $note $({ $(#[doc = concat!("`", stringify!($field), "` in the sentence.")] $field: $type),* })?,)*
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$note $({ $($field),* })? => write!(f, $($sentence)*),)* }
            }
        }
    };
}

notes! {
    /// Something taken for granted that the answer rests on.
    pub enum Assumption {
        /// The article's shortcut stands in for the width.
        ArticleShortcut { hidden_size: u64, num_key_value_heads: u64, width: u64 } => (
            "formula: the article's shortcut, 2 x layers x tokens x batch x (hidden_size / kv_heads) x bits/8 with \
             {hidden_size} / {num_key_value_heads} = {width}; give --heads or --head-dim for the exact width"
        );
        /// No KV heads given: as many as query heads, whose flag or key is `field`.
        MultiHead { heads: u64, field: String } => ("no KV heads given: {heads}, as many as {field} (MHA)");
        /// No head dimension given, and the width is not a multiple of the heads.
        HeadDimRoundedDown { hidden_size: u64, heads: u64, head_dim: u64 } =>
            ("no head_dim given: {hidden_size} / {heads} = {head_dim}, rounded down as engines do");
        /// A key the configuration leaves out, supplied by the defaults of its `model_type`.
        ClassDefault { key: String, value: String, model_type: String, source: String } =>
            ("{key} is not in the config: {value}, the default of {model_type} ({source})");
        /// Which layers are of which kind was not listed; a rule of the `model_type` supplied it.
        LayerRule { rule: String, source: String } => ("layer_types is not in the config: {rule} ({source})");
        /// A window is present but switched off.
        WindowOff { key: String } => ("sliding_window is not used: {key} is false");
        /// The text model is in a part whose name is not known to be its place.
        UnknownWrapper { path: String } => ("the text model is taken to be {path}, the one part with layers");
        /// Attention in both directions.
        TwoSidedWindow { window: u64, halved: u64 } =>
            ("attention is bidirectional: of a window of {window}, {halved} tokens are kept");
        /// Chunked layers without a chunk.
        NoChunk { key: String, found: String } => ("{key} is {found}: chunked layers keep every token");
        /// The checkpoint's element format is not a 16-bit one, or not given.
        Dtype { found: Option<String>, used: ElementFormat } => ("{}", match found {
            None => format!("the config names no dtype: {used}"),
            Some(found) => {
                format!("the checkpoint is in {found}; its cache is counted in {used}, as engines keep it")
            }
        });
        /// A missing key without a class default.
        Unstated { key: String, value: u64, reason: &'static str } => ("{key} is not in the config: {value}, {reason}");
        /// Attention sinks and a window take the place of every layer's own bound.
        Streaming { sinks: u64, window: Tokens } => (
            "StreamingLLM: a layer keeps the first {sinks} tokens and the last {window}, or its own window where that is less"
        );
        /// Windows and chunks are not honoured.
        WindowsKept => ("windows and chunks are kept whole: every layer keeps every token");
        /// The layer list is longer than the model; its tail belongs to layers that are not part of it.
        LongList { key: String, found: usize, layers: u32 } =>
            ("{key} has {found} entries for {layers} layers: the first {layers} are read");
    }
}

notes! {
    /// Something that may make the answer wrong; an error under `--strict`.
    pub enum Warning {
        /// A `model_type` that is not known here; it was read by its keys.
        UnknownModelType { model_type: String } => (
            "model_type {model_type:?} is not known: read by its keys as plain attention, which is wrong if it has a \
             mechanism of its own"
        );
        /// The configuration names no `model_type`; it was read by its keys.
        NoModelType => ("the config names no model_type: read by its keys as plain attention");
        /// The sequence is longer than the model was made for.
        PastMaximum { seq_len: Tokens, max_position_embeddings: Tokens } =>
            ("{seq_len} tokens is past the model's maximum of {max_position_embeddings} (max_position_embeddings)");
        /// The files of its weights are not read.
        Weights { reason: String } => ("the weights are not told: {reason}");
        /// `hidden_size / num_key_value_heads` is not a whole number; the article's script drops the rest.
        ShortcutRemainder { hidden_size: u64, num_key_value_heads: u64 } => (
            "the article's shortcut does not divide evenly: {} / {num_key_value_heads} leaves a remainder, which it drops",
            group_thousands(*hidden_size)
        );
    }
}
