//! Levers on what a model keeps and on what it reads, beside the format and the layout of a workload.

use crate::model::{Assumption, LayerCache, Model};
use crate::units::{Code, Diagnose, Error, Passages, Tokens, display_diagnosis};

/// `StreamingLLM` (Xiao et al. 2023, arXiv:2309.17453, section 3.2): the first tokens of a sequence, which attention leans
/// on, and the last ones are kept; what lies between is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streaming {
    /// Tokens at the start that stay.
    pub sinks: u64,
    /// The last tokens, which stay as well.
    pub window: Tokens,
}

impl Streaming {
    /// The most tokens a layer keeps.
    fn bound(self) -> Tokens {
        Tokens(self.sinks.saturating_add(self.window.0))
    }
}

/// What is done beside choosing a format and a layout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Levers {
    /// Attention sinks and a window.
    pub streaming: Option<Streaming>,
    /// Windows and chunks are not honoured: every layer keeps every token.
    pub windows_kept: bool,
    /// Passages that are read in place of the whole text: they are the sequence then.
    pub retrieval: Option<Passages>,
}

/// Why a lever can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeverError {
    /// More sinks than a sequence has tokens.
    Sinks {
        /// Sinks.
        sinks: u64,
        /// Tokens of a sequence.
        seq_len: Tokens,
    },
    /// A cache that `StreamingLLM` is not defined for.
    StreamingKind {
        /// Sinks.
        sinks: u64,
        /// The kind of layers.
        kind: &'static str,
    },
    /// No layer keeps more than the sinks and the window.
    NothingToStream {
        /// Sinks.
        sinks: u64,
    },
}

impl Diagnose for LeverError {
    fn diagnosis(&self) -> Error {
        let (code, sinks, problem, remedy) = match self {
            Self::Sinks { sinks, seq_len } => (
                Code::Sinks,
                sinks,
                format!("is more than the {seq_len} tokens of a sequence"),
                "give fewer, 4 as published",
            ),
            Self::StreamingKind { sinks, kind } => (
                Code::Streaming,
                sinks,
                format!("is of StreamingLLM, which is published for K and V of heads and not for {kind} layers"),
                "leave --sinks and --window out",
            ),
            Self::NothingToStream { sinks } => (
                Code::Streaming,
                sinks,
                "changes nothing: no layer keeps more than the sinks and the window".into(),
                "leave --sinks and --window out",
            ),
        };
        Error { code, field: "--sinks".into(), found: Some(sinks.to_string()), problem, remedy: remedy.into() }
    }
}

display_diagnosis!(LeverError);

impl Levers {
    /// The model as it is with these levers, for sequences of `seq_len` tokens at the least.
    ///
    /// # Errors
    /// [`LeverError`] when one can't be used on this model or length.
    pub fn applied(&self, model: &Model, seq_len: Tokens) -> Result<Model, LeverError> {
        let mut model = if self.windows_kept {
            let mut whole = model.keeping_every_token();
            whole.assumptions.push(Assumption::WindowsKept);
            whole
        } else {
            model.clone()
        };
        let Some(streaming) = self.streaming else { return Ok(model) };
        let Streaming { sinks, window } = streaming;
        if sinks > seq_len.0 {
            return Err(LeverError::Sinks { sinks, seq_len });
        }
        let mut changed = false;
        for group in &mut model.layer_groups {
            let bounded = bounded(group.cache, streaming)?;
            changed |= bounded != group.cache;
            group.cache = bounded;
        }
        if !changed {
            return Err(LeverError::NothingToStream { sinks });
        }
        model.assumptions.push(Assumption::Streaming { sinks, window });
        Ok(model)
    }
}

/// The layer with no more than the sinks and the window. Its own window or chunk stays where it is shorter.
fn bounded(cache: LayerCache, streaming: Streaming) -> Result<LayerCache, LeverError> {
    let bound = streaming.bound();
    match cache {
        LayerCache::FullAttention { key_value }
        | LayerCache::SlidingWindow { key_value, .. }
        | LayerCache::ChunkedLocal { key_value, .. }
            if cache.bound().is_none_or(|own| own > bound) =>
        {
            Ok(LayerCache::SlidingWindow { key_value, window: bound, transformers_window: Some(bound) })
        }
        LayerCache::Latent { .. } | LayerCache::Indexer { .. } | LayerCache::Compressed { .. } => {
            Err(LeverError::StreamingKind { sinks: streaming.sinks, kind: cache.kind() })
        }
        other => Ok(other),
    }
}
