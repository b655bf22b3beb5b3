//! How a model is spread over devices.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::error;
use crate::model::{CacheKind as K, KeyValue, LayerCache};
use crate::units::{Code, Error, Exact};

/// Parallel sizes, each at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Layout {
    /// Tensor parallel ranks: each layer's KV heads are divided over them.
    pub tp: u64,
    /// Pipeline stages: the layers are divided over them.
    pub pp: u64,
    /// Replicas; a batch is per replica.
    pub dp: u64,
    /// Ranks, of the tensor parallel ones, that each keep a part of a sequence's tokens (decode context parallel).
    pub dcp: u64,
}

/// `tp 8 (dcp 2) x pp 4 x dp 2`
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tp, pp, dp, dcp } = self;
        let dcp = if *dcp > 1 { format!(" (dcp {dcp})") } else { String::new() };
        write!(f, "tp {tp}{dcp} x pp {pp} x dp {dp}")
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self { tp: 1, pp: 1, dp: 1, dcp: 1 }
    }
}

impl Layout {
    /// Devices in all.
    ///
    /// # Errors
    /// [`Code::TooLarge`] past 2⁶⁴ − 1.
    pub fn gpus(self) -> Result<u64, Error> {
        (Exact::from(self.tp) * self.pp * self.dp).get().map_err(|_| {
            let problem = "times --tp and --pp is past 2^64 - 1 devices";
            Error::new(Code::TooLarge, "--dp", self.dp.to_string(), problem, "give smaller numbers")
        })
    }

    /// KV heads of one rank: `heads` divided over `tp` ranks, and replicated once there are more ranks than heads.
    ///
    /// # Errors
    /// [`Code::UnevenTensorParallel`] when neither divides the other.
    pub fn heads_on_rank(self, heads: u64) -> Result<u64, Error> {
        let tp = self.tp;
        if !heads.is_multiple_of(tp) && !tp.is_multiple_of(heads) {
            return Err(error::uneven_heads(heads, tp));
        }
        Ok(heads.checked_div(tp).unwrap_or_default().max(1))
    }

    /// Ranks that the tokens of a sequence are divided over in one layer: `dcp` where the layer keeps every token, of which
    /// ranks would otherwise hold copies; 1 for windows, states, indexes and encoders' tokens, which every rank keeps whole.
    ///
    /// # Errors
    /// [`Code::DecodeContext`] when `dcp` does not divide `tp`, or is more than the ranks that hold the same KV
    /// head (vLLM 0.33 `config/parallel.py` and `v1/worker`: tp > KV heads, and dcp ≤ tp / KV heads; any divisor for MLA).
    pub(super) fn ranks_of_a_sequence(self, cache: &LayerCache) -> Result<u64, Error> {
        let Self { tp, dcp, .. } = self;
        if dcp <= 1 {
            return Ok(1);
        }
        if !tp.is_multiple_of(dcp) {
            return Err(error::uneven_decode_context(dcp, tp));
        }
        match cache.cache_kind() {
            K::Latent => Ok(dcp),
            K::Full => match cache.key_value().and_then(KeyValue::num_key_value_heads) {
                Some(heads) if tp.checked_div(heads).is_none_or(|copies| copies < dcp) => {
                    Err(error::too_much_decode_context(dcp, tp, heads))
                }
                _ => Ok(dcp),
            },
            K::Sliding | K::Chunked | K::Indexer | K::Compressed | K::Recurrent | K::Cross | K::Shared | K::None => {
                Ok(1)
            }
        }
    }

    /// The layers of each pipeline stage. What is left over after an even split goes one each to the stages before
    /// the last, from behind, so that the first and the last, which also hold the embeddings, get it last
    /// (`get_pp_indices` in vLLM 0.33's `distributed/utils.py`; SGLang has the same).
    ///
    /// # Errors
    /// [`Code::TooManyStages`].
    pub fn stages(self, layers: u32) -> Result<Vec<Range<u32>>, Error> {
        let too_many = || error::too_many_stages(layers, self.pp);
        let pp = u32::try_from(self.pp).ok().filter(|&pp| pp >= 1 && pp <= layers).ok_or_else(too_many)?;
        let base = layers.checked_div(pp).ok_or_else(too_many)?;
        let left_over = layers.checked_rem(pp).ok_or_else(too_many)?;
        let mut stages = Vec::new();
        let mut start = 0u32;
        for stage in 0..pp {
            // Stages pp-2, pp-3, … take one more: as many as are left over.
            let from_behind = pp.saturating_sub(1).saturating_sub(stage);
            let extra = u32::from(from_behind >= 1 && from_behind <= left_over);
            let end = start.saturating_add(base).saturating_add(extra);
            stages.push(start..end);
            start = end;
        }
        Ok(stages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_those_of_the_engines() {
        for (layers, pp, sizes) in [
            (61, 4, vec![15, 15, 16, 15]),
            (61, 2, vec![31, 30]),
            (48, 5, vec![9, 10, 10, 10, 9]),
            (80, 6, vec![13, 13, 13, 14, 14, 13]),
            (48, 1, vec![48]),
            (3, 3, vec![1, 1, 1]),
        ] {
            let stages = Layout { pp, ..Layout::default() }.stages(layers).unwrap();
            assert_eq!(stages.iter().map(ExactSizeIterator::len).collect::<Vec<_>>(), sizes, "{layers}/{pp}");
            assert_eq!(stages.last().unwrap().end, layers);
        }
    }

    #[test]
    fn more_stages_than_layers_is_an_error() {
        let layout = Layout { pp: 49, ..Layout::default() };
        assert_eq!(layout.stages(48), Err(error::too_many_stages(48, 49)));
    }
}
