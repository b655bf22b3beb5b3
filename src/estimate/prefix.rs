//! What the sequences of a batch have in common, and so is kept once.

use super::Workload;
use crate::model::LayerCache;
use crate::units::Exact;

/// The entries that one layer keeps of a batch: those that all of its sequences have in common, kept once, and those that
/// each has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Kept once.
    pub common: u64,
    /// Kept of each sequence.
    pub own: u64,
}

impl Batch {
    /// Entries of `batch` sequences on the fullest of `ranks` ranks, where tokens go to one rank after the other.
    pub(super) fn on_rank(self, ranks: u64, batch: u64) -> Exact {
        let common = Exact::from(self.common).div_ceil(ranks);
        let own = (Exact::from(self.common) + self.own).div_ceil(ranks) - common;
        own * batch + common
    }
}

/// What one layer keeps of a batch whose sequences have their first N tokens (`shared_prefix`) in common; `None` where
/// nothing is shared: states, and what an encoder gives, are each sequence's own.
///
/// - Without a bound all N tokens are common, or the ⌊N / ratio⌋ entries that cover nothing else.
/// - Of a window, those of the last W tokens that are among the first N.
/// - Of a chunk, as many as are common when the batch takes the most: while the prefix is read, at the end of the chunk that
///   the prefix ends in, or in a later chunk, where nothing is common.
pub fn shared(cache: &LayerCache, workload: &Workload) -> Option<Batch> {
    let prefix = workload.shared_prefix?.0;
    let seq_len = workload.seq_len.0;
    let own_tokens = seq_len.checked_sub(prefix)?;
    match *cache {
        LayerCache::FullAttention { .. }
        | LayerCache::Latent { .. }
        | LayerCache::Indexer { .. }
        | LayerCache::Compressed { .. } => {
            let ratio = cache.ratio();
            let common = prefix.checked_div(ratio)?;
            Some(Batch { common, own: seq_len.div_ceil(ratio).checked_sub(common)? })
        }
        LayerCache::SlidingWindow { window, .. } => {
            let kept = seq_len.min(window.0);
            let own = kept.min(own_tokens);
            Some(Batch { common: kept.checked_sub(own)?, own })
        }
        LayerCache::ChunkedLocal { chunk, .. } => {
            let into_chunk = prefix.checked_rem(chunk.0)?;
            let left = chunk.0.checked_sub(into_chunk)?;
            let moments = [
                Batch { common: prefix.min(chunk.0), own: 0 },
                Batch { common: into_chunk, own: own_tokens.min(left) },
                Batch { common: 0, own: own_tokens.checked_sub(left).map_or(0, |later| later.min(chunk.0)) },
            ];
            moments.into_iter().max_by_key(|moment| moment.on_rank(1, workload.batch).wide().ok())
        }
        LayerCache::Recurrent(_) | LayerCache::CrossAttention { .. } | LayerCache::Shared | LayerCache::None => None,
    }
}
