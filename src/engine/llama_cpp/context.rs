//! The context: how many cells for how many sequences (`src/llama-context.cpp`, `llama_context::llama_context`).
#![allow(clippy::similar_names, reason = "`n_batch` and `n_ubatch` are llama.cpp's own names")]

use super::Options;
use crate::engine::Engine;
use crate::estimate::Workload;
use crate::model::Model;
use crate::units::{Error, Exact};

/// Cell counts are padded to a multiple of this (`GGML_PAD(…, 256)`).
const PAD: u64 = 256;
/// `LLAMA_MAX_SEQ` in `src/llama-cparams.h`.
const MAX_SEQUENCES: u64 = 256;
/// `n_ctx` is an `int32_t` in `common/common.h`.
const MAX_CONTEXT: u64 = i32::MAX.unsigned_abs() as u64;

/// The sizes of a context.
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
    /// The context of a workload, or of the sizes set instead.
    pub(super) fn new(options: &Options, workload: &Workload, model: &Model, engine: &Engine) -> Result<Self, Error> {
        let n_seq_max = options.parallel.unwrap_or(workload.batch);
        let reason = format_args!("is more sequences than a context may have ({MAX_SEQUENCES})");
        engine.require(n_seq_max <= MAX_SEQUENCES, options.flags.parallel, n_seq_max, reason, "ask for fewer")?;
        let asked = match options.ctx_size {
            Some(0) => model.max_position_embeddings.map(|tokens| tokens.0).ok_or_else(|| {
                let reason = "is the length the model was made for, which is unknown";
                engine.refusal(options.flags.context, 0, reason, "give it")
            })?,
            Some(asked) => asked,
            None => (Exact::from(workload.seq_len) * n_seq_max).get()?,
        };
        Self::sized(asked, n_seq_max, options, engine)
    }

    /// The context of `asked` tokens for `n_seq_max` sequences.
    pub(super) fn sized(asked: u64, n_seq_max: u64, options: &Options, engine: &Engine) -> Result<Self, Error> {
        let reason = format_args!("is past the largest context, {MAX_CONTEXT} tokens over all sequences");
        let remedy = "ask for fewer tokens or sequences";
        engine.require(asked <= MAX_CONTEXT, options.flags.context, asked, reason, remedy)?;
        // The log says that it rounds down; it rounds up.
        let padded = pad(asked.into()).get()?;
        let n_batch = options.batch_size.min(asked);
        let n_ubatch = n_batch.min(if options.ubatch_size == 0 { options.batch_size } else { options.ubatch_size });
        let unified = options.kv_unified;
        let n_ctx_seq = if unified { padded } else { pad(Exact::from(padded) / n_seq_max.max(1)).get()? };
        let n_ctx = if unified { padded } else { (Exact::from(n_ctx_seq) * n_seq_max).get()? };
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

    /// Cells of a window that `sequences` share (`src/llama-kv-cache-iswa.cpp`).
    pub(super) fn window_cells(&self, window: u64, sequences: u64) -> Result<u64, Error> {
        pad((Exact::from(window) * sequences + self.n_ubatch).min(self.n_ctx_seq)).get()
    }

    /// Cells of compressed entries (`src/llama-kv-cache-dsv4.cpp`).
    pub(super) fn compressed_cells(&self, ratio: u64) -> Result<u64, Error> {
        pad(Exact::from(self.n_ctx_seq.div_ceil(ratio.max(1)).max(1))).get()
    }
}

/// Up to the next multiple of [`PAD`].
fn pad(cells: Exact) -> Exact {
    cells.round_up_to(PAD)
}
