//! The steps from the live bytes to those that vLLM reserves.

use super::spec::{Kind, Spec};
use super::{Cache, Pool, Shape};
use crate::engine::Gap;
use crate::estimate::{Workload, estimate, ideal};
use crate::model::LayerCache;
use crate::units::{Bytes, ElementFormat, Error, KvDtype, group_thousands};

/// What one request takes of all layers on one rank, as each rule leaves it.
#[derive(Debug, Default)]
struct Levels {
    /// The live entries, as they are stored.
    live: u128,
    /// With windows and chunks that keep every token.
    kept: u128,
    /// With room for what is in flight.
    reserved: u128,
    /// With every copy of a state.
    held: u128,
    /// In whole blocks.
    blocked: u128,
    /// In pages as they are padded.
    padded: u128,
}

impl Pool<'_> {
    /// The steps from the ideal figure to `bytes`.
    pub(super) fn gaps(&self, bytes: Bytes) -> Result<Vec<Gap>, Error> {
        let too_large = Error::too_large;
        let Shape { layers, groups, .. } = self.shape;
        let packed = layers.dtype.name().ends_with("_ds_mla");
        let format = if packed { ElementFormat::FP8.into() } else { layers.dtype.format(self.reader.model.dtype) };
        let asked = Workload { kv_dtype: KvDtype::Given(format), ..*self.reader.workload };
        let ideal_of = |workload: &Workload| Ok::<_, Error>(i128::from(estimate(self.reader.model, workload)?.bytes.0));
        let shared = ideal_of(&asked)?;
        let apart = match asked.shared_prefix {
            Some(_) => ideal_of(&Workload { shared_prefix: None, ..asked })?,
            None => shared,
        };
        let Levels { live, kept, reserved, held, blocked, padded } = self.levels()?;
        let copies = u128::from(self.reader.workload.batch).checked_mul(u128::from(self.reader.workload.layout.tp));
        let copies = copies.ok_or_else(too_large)?;
        let blocks = self.shape.bytes_per_block.iter().map(|&block| u128::from(block)).sum::<u128>();
        let unshared = blocks.checked_mul(u128::from(groups.blocks_per_request(&self.request)));
        let scaled =
            |value: u128| value.checked_mul(copies).and_then(|value| i128::try_from(value).ok()).ok_or_else(too_large);
        let unshared = scaled(unshared.ok_or_else(too_large)?)?;
        // What sharing saves of the blocks is taken off first, against what it saves of the live bytes.
        let saved = unshared.saturating_sub(i128::from(bytes.0));
        // A reason is put into words only where there is a step.
        let steps: [(_, _, &dyn Fn() -> String); 8] = [
            ("shared_prefix", apart, &|| "of the prefix whole blocks are kept once, and no windows".into()),
            ("format", scaled(live)?, &|| "scales, packed layouts and the formats of states".into()),
            ("windows", scaled(kept)?, &|| "windows and chunks keep every token".into()),
            ("in_flight_reserve", scaled(reserved)?, &|| {
                let in_flight = group_thousands(self.request.in_flight);
                format!("windows, chunks and encoders reserve for {in_flight} tokens in flight")
            }),
            ("state_copies", scaled(held)?, &|| "states held for prefix caching, checkpoints and drafts".into()),
            ("pages", scaled(blocked)?, &|| format!("whole blocks of {} tokens and more", layers.block_size)),
            ("page_padding", scaled(padded)?, &|| "pages padded to one size or alignment".into()),
            ("grouping", unshared, &|| format!("{} groups share blocks as wide as the widest", groups.groups.len())),
        ];
        let mut gaps = Vec::new();
        let mut before = shared;
        for (kind, level, reason) in steps {
            let after = level.saturating_sub(saved);
            if after != before {
                gaps.push(Gap { kind, bytes: after.saturating_sub(before), reason: reason() });
            }
            before = after;
        }
        Ok(gaps)
    }

    fn levels(&self) -> Result<Levels, Error> {
        let mut levels = Levels::default();
        for (cache, count) in &self.shape.alike {
            let own = self.levels_of(cache)?;
            let sum = |total: &mut u128, bytes: u128| {
                *total = total.saturating_add(bytes.saturating_mul(u128::from(*count)));
            };
            sum(&mut levels.live, own.live);
            sum(&mut levels.kept, own.kept);
            sum(&mut levels.reserved, own.reserved);
            sum(&mut levels.held, own.held);
            sum(&mut levels.blocked, own.blocked);
            sum(&mut levels.padded, own.padded);
        }
        Ok(levels)
    }

    fn levels_of(&self, cache: &Cache) -> Result<Levels, Error> {
        let too_large = Error::too_large;
        let Spec { kind, heads, content, tokens_per_entry, .. } = cache.spec;
        let entry = u128::from(heads).saturating_mul(u128::from(content));
        let blocks = u128::from(cache.spec.blocks(&self.request));
        let in_blocks =
            |page: Option<u64>| Ok::<_, Error>(u128::from(page.ok_or_else(too_large)?).saturating_mul(blocks));
        let (blocked, padded) = (in_blocks(cache.spec.unpadded_page())?, in_blocks(cache.spec.page())?);
        if let Kind::State { copies } = kind {
            let held = entry.saturating_mul(u128::from(copies));
            return Ok(Levels { live: entry, kept: entry, reserved: entry, held, blocked, padded });
        }
        let bytes = |tokens: u64| u128::from(tokens.div_ceil(tokens_per_entry)).saturating_mul(entry);
        let (live, reserved) = (bytes(self.live_tokens(cache)?), bytes(cache.spec.reserved(&self.request)));
        let kept = if kind.keeps_all() { reserved } else { live };
        Ok(Levels { live, kept, reserved, held: reserved, blocked, padded })
    }

    /// Tokens of a cache that can still be attended to.
    fn live_tokens(&self, cache: &Cache) -> Result<u64, Error> {
        let Some(source) = self.source(cache) else { return Ok(0) };
        Ok(match (cache.spec.kind, source) {
            // A compressor's open rows.
            (Kind::SlidingLatent { window, .. }, LayerCache::Compressed { .. } | LayerCache::Indexer { .. }) => window,
            (kind, _) if kind.keeps_all() && source.bound().is_none() => {
                self.request.len.div_ceil(self.request.dcp.max(1))
            }
            (_, LayerCache::Compressed { .. } | LayerCache::Indexer { .. }) => self.request.len,
            _ => ideal(&source, self.reader.workload)?.entries.0,
        })
    }
}
