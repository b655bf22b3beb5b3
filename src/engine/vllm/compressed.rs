//! DeepSeek-V4's caches (`models/deepseek_v4/attention.py`, `compressor.py`, `mla/sparse_swa.py`): a window in every layer,
//! compressed entries, index keys, and the compressors' states, which are windows of their own.

use super::Cache;
use super::backend::Backend;
use super::dtype::CacheDtype;
use super::groups::{Kind, Spec};
use super::layers::{Layers, index_key};
use super::planner::Planner;
use crate::model::LayerCache;
use crate::units::{Error, Exact};

/// Bytes of an entry: 448 elements in fp8, 64 rotary ones in bf16, and 8 bytes of scales.
const ENTRY: u64 = 584;
/// Bytes that pages are aligned to.
const ALIGNMENT: u64 = 576;
/// Tokens of a block, and of one of the windows.
const BLOCK: u64 = 256;
const WINDOW_BLOCK: u64 = 64;

impl Planner<'_> {
    /// The one layout that its kernels read, which every 8-bit format means.
    pub(super) fn compressed_dtype(&self, resolved: CacheDtype) -> Result<CacheDtype, Error> {
        let taken = matches!(resolved, CacheDtype::Model | CacheDtype::Fp8DsMla) || resolved.is_fp8();
        let reason = "is given, but the DeepSeek-V4 fp8_ds_mla layout only supports an fp8 cache";
        self.engine.require(taken, "--kv-dtype", self.workload.kv_dtype, reason, "use fp8 or auto")?;
        Ok(CacheDtype::Fp8DsMla)
    }

    pub(super) fn compressed(&self, dtype: CacheDtype) -> Result<Layers, Error> {
        let block_size = self.block_size().unwrap_or(BLOCK);
        let reason = "is not a block size of DeepSeek-V4's kernels";
        let taken = block_size.is_multiple_of(BLOCK);
        self.engine.require(taken, "--block-size", block_size, reason, "use a multiple of 256")?;
        let entries = |content, ratio| {
            aligned(Spec { tokens_per_entry: ratio, ..Spec::vector(Kind::Latent, block_size, content) })
        };
        let mut caches = Vec::new();
        for (source, group) in self.model.layer_groups.iter().enumerate() {
            let specs = match group.cache {
                LayerCache::SlidingWindow { window, .. } => {
                    let kind = Kind::SlidingLatent { window: window.0, extra: self.extra_tokens()? };
                    vec![aligned(Spec::vector(kind, WINDOW_BLOCK, ENTRY))?]
                }
                LayerCache::Compressed { head_dim, ratio, .. } => {
                    vec![entries(ENTRY, ratio)?, self.compressor_state(head_dim, ratio)?]
                }
                LayerCache::Indexer { index_head_dim, ratio } => {
                    let content = index_key(index_head_dim).get()?;
                    vec![entries(content, ratio)?, self.compressor_state(index_head_dim, ratio)?]
                }
                LayerCache::Shared | LayerCache::None => Vec::new(),
                other => {
                    let reason = format!("has layers of {} and of compressed attention", other.kind());
                    return Err(self.engine.refusal("MODEL", &self.model.name, reason, "name another engine"));
                }
            };
            for &layer in &group.layers {
                caches.extend(specs.iter().map(|&spec| Cache { layer, spec, source }));
            }
        }
        let backend = Some(Backend::DeepSeekV4.name());
        Ok(Layers { caches, dtype, block_outermost: true, block_size, assumptions: Vec::new(), backend })
    }

    /// The rows that a compressor has not closed, in fp32: keys and scores, twice as wide where windows overlap.
    fn compressor_state(&self, dim: u64, ratio: u64) -> Result<Spec, Error> {
        let (overlap, block_size) = if ratio == 4 { (2u64, 4) } else { (1, 8) };
        let window = (Exact::from(ratio) * overlap).get()?;
        let content = Exact::from(dim) * 2u64 * 4u64 * overlap;
        let kind = Kind::SlidingLatent { window, extra: self.extra_tokens()? };
        aligned(Spec::vector(kind, block_size, content.get()?))
    }
}

/// The same with its page aligned.
fn aligned(spec: Spec) -> Result<Spec, Error> {
    Ok(Spec { padded: Some(spec.unpadded_page().round_up_to(ALIGNMENT).get()?), ..spec })
}
