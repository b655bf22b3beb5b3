//! The context: how many cells for how many sequences (`src/llama-context.cpp`, `llama_context::llama_context`).
#![allow(clippy::similar_names, reason = "`n_batch` and `n_ubatch` are llama.cpp's own names")]

use super::Options;
use crate::engine::Engine;
use crate::estimate::Workload;
use crate::model::Model;
use crate::units::Error;

/// Cells come in so many (`GGML_PAD(…, 256)`).
const PAD: u64 = 256;
/// `LLAMA_MAX_SEQ` in `src/llama-cparams.h`.
const MAX_SEQUENCES: u64 = 256;
/// `n_ctx` is an `int32_t` in `common/common.h`.
const MAX_CONTEXT: u64 = i32::MAX.unsigned_abs() as u64;

/// The sizes of a context.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    /// What was asked for, before it is padded.
    pub(super) asked: u64,
    /// Cells of all sequences.
    pub(super) n_ctx: u64,
    /// Cells of one.
    pub(super) n_ctx_seq: u64,
    /// Sequences.
    pub(super) n_seq_max: u64,
    /// Whether all sequences share one cache.
    pub(super) unified: bool,
    /// Tokens of a batch.
    pub(super) n_batch: u64,
    /// Tokens worked on at once.
    pub(super) n_ubatch: u64,
}

impl Context {
    /// The context of a workload, or of the sizes set in its place.
    pub(super) fn new(options: &Options, workload: &Workload, model: &Model, engine: &Engine) -> Result<Self, Error> {
        let n_seq_max = options.parallel.unwrap_or(workload.batch);
        if n_seq_max > MAX_SEQUENCES {
            let reason = format!("is more sequences than a context may have ({MAX_SEQUENCES})");
            return Err(engine.refusal(options.flags.parallel, n_seq_max, reason, "ask for fewer"));
        }
        let asked = match options.ctx_size {
            Some(0) => model.max_position_embeddings.map(|tokens| tokens.0).ok_or_else(|| {
                let reason = "is the length the model was made for, which is not known";
                engine.refusal(options.flags.context, 0, reason, "give it")
            })?,
            Some(asked) => asked,
            None => workload.seq_len.0.checked_mul(n_seq_max).ok_or_else(Error::too_large)?,
        };
        Self::sized(asked, n_seq_max, options, engine)
    }

    /// The context of `asked` tokens for so many sequences.
    pub(super) fn sized(asked: u64, n_seq_max: u64, options: &Options, engine: &Engine) -> Result<Self, Error> {
        if asked > MAX_CONTEXT {
            let reason = format!("is past the largest context, {MAX_CONTEXT} tokens over all sequences");
            return Err(engine.refusal(options.flags.context, asked, reason, "ask for fewer tokens or sequences"));
        }
        // The log says that it rounds down; it rounds up.
        let padded = pad(asked);
        let n_batch = options.batch_size.min(asked);
        let n_ubatch = n_batch.min(if options.ubatch_size == 0 { options.batch_size } else { options.ubatch_size });
        let unified = options.kv_unified;
        let n_ctx_seq = if unified { padded } else { pad(padded.checked_div(n_seq_max).unwrap_or_default()) };
        let n_ctx = if unified { padded } else { n_ctx_seq.saturating_mul(n_seq_max) };
        Ok(Self { asked, n_ctx, n_ctx_seq, n_seq_max, unified, n_batch, n_ubatch })
    }

    /// Caches side by side.
    pub(super) fn streams(&self) -> u64 {
        if self.unified { 1 } else { self.n_seq_max }
    }

    /// Tokens of each sequence.
    pub(super) fn seq_len(&self) -> u64 {
        self.asked.div_ceil(self.n_seq_max.max(1))
    }

    /// Cells of a window (`src/llama-kv-cache-iswa.cpp`), `unified` or not.
    pub(super) fn window_cells(&self, window: u64, unified: bool) -> u64 {
        let sequences = if unified { self.n_seq_max } else { 1 };
        pad(window.saturating_mul(sequences).saturating_add(self.n_ubatch).min(self.n_ctx_seq))
    }

    /// Cells of compressed entries (`src/llama-kv-cache-dsv4.cpp`).
    pub(super) fn compressed_cells(&self, ratio: u64) -> u64 {
        pad(self.n_ctx_seq.div_ceil(ratio.max(1)).max(1))
    }
}

/// Up to the next multiple of [`PAD`].
fn pad(cells: u64) -> u64 {
    cells.div_ceil(PAD).saturating_mul(PAD)
}
