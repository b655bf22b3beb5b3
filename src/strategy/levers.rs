//! Levers on what a model keeps and on what it reads, beside the format and the layout of a workload.

use crate::model::{LayerCache, Model};
use crate::units::{Code, Error, Exact, Passages, Tokens};

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
    pub(super) fn bound(self) -> Result<Tokens, Error> {
        (Exact::from(self.sinks) + self.window).tokens()
    }

    fn refused(self, problem: impl Into<String>) -> Error {
        Error::new(Code::Streaming, "--sinks", self.sinks.to_string(), problem, "leave --sinks and --window out")
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

impl Levers {
    /// The model as it is with these levers, for sequences of `seq_len` tokens at the least.
    ///
    /// # Errors
    /// [`Error`] when one can't be used on this model or length.
    pub fn applied(&self, model: &Model, seq_len: Tokens) -> Result<Model, Error> {
        let mut model = if self.windows_kept {
            let mut whole = model.keeping_every_token();
            whole.assumptions.push("windows and chunks are kept whole: every layer keeps every token".into());
            whole
        } else {
            model.clone()
        };
        let Some(streaming) = self.streaming else { return Ok(model) };
        let Streaming { sinks, window } = streaming;
        if sinks > seq_len.0 {
            let problem = format!("is more than the {seq_len} tokens of a sequence");
            return Err(Error::new(Code::Sinks, "--sinks", sinks.to_string(), problem, "give fewer, 4 as published"));
        }
        let mut changed = false;
        for group in &mut model.layer_groups {
            let bounded = bounded(group.cache, streaming)?;
            changed |= bounded != group.cache;
            group.cache = bounded;
        }
        if !changed {
            let problem = "changes nothing: no layer keeps more than the sinks and the window";
            return Err(streaming.refused(problem));
        }
        model.assumptions.push(format!(
            "StreamingLLM: a layer keeps the first {sinks} tokens and the last {window}, or its own window where that is less"
        ));
        Ok(model)
    }
}

/// The layer with no more than the sinks and the window. Its own window or chunk stays where it is shorter.
fn bounded(cache: LayerCache, streaming: Streaming) -> Result<LayerCache, Error> {
    let bound = streaming.bound()?;
    match cache {
        LayerCache::FullAttention { key_value }
        | LayerCache::SlidingWindow { key_value, .. }
        | LayerCache::ChunkedLocal { key_value, .. }
            if cache.bound().is_none_or(|own| own > bound) =>
        {
            Ok(LayerCache::SlidingWindow { key_value, window: bound, transformers_window: Some(bound) })
        }
        LayerCache::Latent { .. } | LayerCache::Indexer { .. } | LayerCache::Compressed { .. } => {
            let kind = cache.kind();
            let problem = "is of StreamingLLM, which is published for K and V of heads and not for";
            Err(streaming.refused(format!("{problem} {kind} layers")))
        }
        LayerCache::FullAttention { .. }
        | LayerCache::SlidingWindow { .. }
        | LayerCache::ChunkedLocal { .. }
        | LayerCache::Recurrent(_)
        | LayerCache::CrossAttention { .. }
        | LayerCache::Shared
        | LayerCache::None => Ok(cache),
    }
}
