//! What the sequences of a batch have in common, and so is kept once.

use super::Workload;
use crate::model::LayerCache;

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
    /// All entries of `batch` sequences.
    pub(super) fn entries(self, batch: u64) -> Option<u128> {
        u128::from(self.own).checked_mul(u128::from(batch))?.checked_add(u128::from(self.common))
    }

    /// What the fullest of `ranks` ranks has of them, where tokens go to one rank after the other.
    pub(super) fn over(self, ranks: u64) -> Self {
        if ranks <= 1 {
            return self;
        }
        let common = self.common.div_ceil(ranks.max(1));
        let all = self.common.saturating_add(self.own).div_ceil(ranks.max(1));
        Self { common, own: all.saturating_sub(common) }
    }
}

/// What one layer keeps of a batch whose sequences have their first N tokens (`shared_prefix`) in common; none where
/// nothing is shared: states, and what an encoder gives, are each sequence's own.
///
/// - Without a bound all N tokens are common, or the ⌊N / ratio⌋ entries that cover nothing else.
/// - Of a window, those of the last W tokens that are among the first N.
/// - Of a chunk, as many as are common when the batch takes the most: while the prefix is read, at the end of the chunk that
///   the prefix ends in, or in a later chunk, where nothing is common.
pub fn shared(cache: &LayerCache, workload: &Workload) -> Option<Batch> {
    let prefix = workload.shared_prefix?.0;
    let seq_len = workload.seq_len.0;
    if !cache.follows_the_sequence() {
        return None;
    }
    let own_tokens = seq_len.saturating_sub(prefix);
    match *cache {
        LayerCache::SlidingWindow { window, .. } => {
            let kept = seq_len.min(window.0);
            let own = kept.min(own_tokens);
            Some(Batch { common: kept.saturating_sub(own), own })
        }
        LayerCache::ChunkedLocal { chunk, .. } => {
            let into_chunk = prefix.checked_rem(chunk.0)?;
            let left = chunk.0.saturating_sub(into_chunk);
            let moments = [
                Batch { common: prefix.min(chunk.0), own: 0 },
                Batch { common: into_chunk, own: own_tokens.min(left) },
                Batch { common: 0, own: own_tokens.saturating_sub(left).min(chunk.0) },
            ];
            moments.into_iter().max_by_key(|moment| moment.entries(workload.batch))
        }
        _ => {
            let ratio = cache.ratio();
            let common = prefix.checked_div(ratio)?;
            Some(Batch { common, own: seq_len.div_ceil(ratio).saturating_sub(common) })
        }
    }
}
