//! DeepSeek-V4's caches.

use super::Cache;
use super::backend::Backend;
use super::dtype::CacheDtype;
use super::layers::Layers;
use super::reader::Reader;
use super::spec::{Kind, Spec};
use crate::model::LayerCache;
use crate::units::Error;

impl Reader<'_> {
    /// DeepSeek-V4's caches (`models/deepseek_v4/attention.py`, `compressor.py`, `mla/sparse_swa.py`): a window in every
    /// layer, compressed entries, index keys, and the compressors' states, which are windows of their own.
    pub(super) fn compressed(&self, dtype: CacheDtype) -> Result<Layers, Error> {
        // 448 elements in fp8, 64 rotary ones in bf16, and 8 bytes of scales; pages are aligned to 576 bytes.
        const ENTRY: u64 = 584;
        const ALIGNMENT: u64 = 576;
        const BLOCK: u64 = 256;
        const WINDOW_BLOCK: u64 = 64;
        let too_large = Error::too_large;
        let block_size = self.options.block_size.unwrap_or(BLOCK);
        if !block_size.is_multiple_of(BLOCK) {
            let reason = "is not a block size of DeepSeek-V4's kernels";
            return Err(self.engine.refusal("--block-size", block_size, reason, "use a multiple of 256"));
        }
        let page = |spec: Spec| {
            let page = spec.unpadded_page().and_then(|page| page.checked_next_multiple_of(ALIGNMENT));
            Ok::<_, Error>(Spec { padded: Some(page.ok_or_else(too_large)?), ..spec })
        };
        let spec = |kind, block_size, content, tokens_per_entry| Spec {
            kind,
            block_size,
            heads: 1,
            content,
            tokens_per_entry,
            padded: None,
            shape: (content, 0, 1),
        };
        let mut caches = Vec::new();
        for (source, group) in self.model.layer_groups.iter().enumerate() {
            let mut of_group: Vec<Spec> = Vec::new();
            match group.cache {
                LayerCache::SlidingWindow { window, .. } => {
                    let kind = Kind::SlidingLatent { window: window.0, extra: self.extra_tokens() };
                    of_group.push(page(spec(kind, WINDOW_BLOCK, ENTRY, 1))?);
                }
                LayerCache::Compressed { head_dim, ratio, .. } => {
                    of_group.push(page(spec(Kind::Latent, block_size, ENTRY, ratio))?);
                    of_group.push(page(self.compressor_state(head_dim, ratio, &spec)?)?);
                }
                LayerCache::Indexer { index_head_dim, ratio } => {
                    let content = index_head_dim.saturating_add(index_head_dim.div_ceil(128).saturating_mul(4));
                    of_group.push(page(spec(Kind::Latent, block_size, content, ratio))?);
                    of_group.push(page(self.compressor_state(index_head_dim, ratio, &spec)?)?);
                }
                _ => {}
            }
            for &layer in &group.layers {
                caches.extend(of_group.iter().map(|&spec| Cache { layer, spec, source }));
            }
        }
        let backend = Some(Backend::DeepSeekV4.name());
        Ok(Layers { caches, dtype, block_outermost: true, block_size, assumptions: Vec::new(), backend })
    }

    /// The rows that a compressor has not closed, in fp32: keys and scores, twice as wide where windows overlap.
    pub(super) fn compressor_state(
        &self,
        dim: u64,
        ratio: u64,
        spec: &impl Fn(Kind, u64, u64, u64) -> Spec,
    ) -> Result<Spec, Error> {
        let (overlap, block_size) = if ratio == 4 { (2, 4) } else { (1, 8) };
        let content = dim.checked_mul(2 * 4).and_then(|content| content.checked_mul(overlap));
        let kind = Kind::SlidingLatent { window: ratio.saturating_mul(overlap), extra: self.extra_tokens() };
        Ok(spec(kind, block_size, content.ok_or_else(Error::too_large)?, 1))
    }
}
