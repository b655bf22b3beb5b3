//! The steps from the live bytes to those that vLLM reserves.

use super::Alike;
use super::pool::Pool;
use super::spec::{Kind, Spec};
use crate::engine::{Gap, Steps};
use crate::estimate::{Workload, estimate, ideal};
use crate::model::LayerCache;
use crate::units::{Bytes, ElementFormat, Error, Exact, KvDtype, group_thousands};

impl Pool<'_> {
    /// The steps from the ideal figure to `bytes`.
    pub(super) fn gaps(&self, bytes: Bytes) -> Result<Vec<Gap>, Error> {
        let workload = self.planner.workload;
        let layers = &self.shape.layers;
        // The ideal figure has no packed layouts.
        let format = layers.dtype.packed_latent().map_or(self.shape.stored, |_| ElementFormat::FP8.into());
        let asked = Workload { kv_dtype: KvDtype::Given(format), ..*workload };
        let ideal_of = |workload: &Workload| Ok::<_, Error>(Exact::from(estimate(self.planner.model, workload)?.bytes));
        let shared = ideal_of(&asked)?;
        let apart = match asked.shared_prefix {
            Some(_) => ideal_of(&Workload { shared_prefix: None, ..asked })?,
            None => shared,
        };
        let mut levels = [Exact::ZERO; 6];
        for alike in &self.shape.alike {
            for (level, of_alike) in levels.iter_mut().zip(self.levels(alike)?) {
                *level = *level + of_alike;
            }
        }
        let ranks = Exact::from(workload.batch) * workload.layout.tp;
        let [live, unbounded, reserved, copied, blocked, padded] = levels.map(|of_request| of_request * ranks);
        let of_all_stages: Exact = self.shape.bytes_per_block.iter().copied().sum();
        let unshared = of_all_stages * self.blocks_per_request * ranks;
        // What sharing saves of the blocks is taken off first, against what it saves of the live bytes.
        let saved = unshared - bytes;
        let (in_flight, groups) = (self.request.in_flight, self.shape.groups.groups.len());
        let of_flight =
            format_args!("windows, chunks and encoders reserve for {} tokens in flight", group_thousands(in_flight));
        let of_pages = format_args!("whole blocks of {} tokens and more", layers.block_size);
        let steps = Steps::from(shared + saved)
            .to("shared_prefix", apart, "of the prefix whole blocks are kept once, and no windows")?
            .to("format", live, "scales, packed layouts and the formats of states")?
            .to("windows", unbounded, "windows and chunks keep every token")?
            .to("in_flight_reserve", reserved, of_flight)?
            .to("state_copies", copied, "states held for prefix caching, checkpoints and drafts")?
            .to("pages", blocked, of_pages)?
            .to("page_padding", padded, "pages padded to one size or alignment")?
            .to("grouping", unshared, format_args!("{groups} groups share blocks as wide as the widest"))?;
        Ok(steps.gaps)
    }

    /// What one request takes of caches that are alike, as each rule leaves it: the live entries as they are stored; with
    /// windows and chunks that keep every token; with room for what is in flight; with every copy of a state; in whole blocks;
    /// in pages as they are padded.
    fn levels(&self, alike: &Alike) -> Result<[Exact; 6], Error> {
        let Alike { spec, entry, page, unpadded_page, .. } = *alike;
        let blocks = spec.blocks(&self.request);
        let (blocked, padded) = (unpadded_page * blocks, page * blocks);
        if let Kind::State { copies } = spec.kind {
            return Ok([entry, entry, entry, entry * copies, blocked, padded]);
        }
        let bytes = |tokens: Exact| entry * tokens.div_ceil(spec.tokens_per_entry);
        let (live, reserved) =
            (bytes(self.live_tokens(&spec, &alike.cache)?.into()), bytes(spec.reserved(&self.request)));
        let unbounded = if spec.kind.keeps_all() { reserved } else { live };
        Ok([live, unbounded, reserved, reserved, blocked, padded])
    }

    /// Tokens of a cache that can still be attended to.
    fn live_tokens(&self, spec: &Spec, cache: &LayerCache) -> Result<u64, Error> {
        let compressed = matches!(cache, LayerCache::Compressed { .. } | LayerCache::Indexer { .. });
        Ok(match spec.kind {
            // A compressor's open rows.
            Kind::SlidingLatent { window, .. } if compressed => window,
            kind if kind.keeps_all() && cache.bound().is_none() => self.request.len.div_ceil(self.request.dcp.max(1)),
            _ if compressed => self.request.len,
            _ => ideal(cache, self.planner.workload)?.entries.0,
        })
    }
}
