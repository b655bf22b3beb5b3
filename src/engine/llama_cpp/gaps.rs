//! The steps from the live bytes to what a context allocates.

use std::borrow::Cow;

use super::Allocated;
use super::memory::{GroupMemory, Piece};
use crate::engine::Gap;
use crate::estimate::{Workload, estimate};
use crate::model::{CacheKind as Kind, LayerCache};
use crate::units::{Error, Exact, KvDtype, Tokens};

impl Allocated<'_> {
    /// The steps from the ideal figure; none where the ideal has no answer.
    pub(super) fn gaps(&self) -> Result<Vec<Gap>, Error> {
        let context = &self.context;
        let asked = Workload { kv_dtype: KvDtype::Given(self.options.format), ..*self.workload };
        let apart = Workload { shared_prefix: None, ..asked };
        let held = Workload { seq_len: Tokens(context.seq_len()), batch: context.n_seq_max, ..apart };
        let ideal = |workload| estimate(self.model, &workload);
        let (Ok(ideal_apart), Ok(ideal_held)) = (ideal(apart), ideal(held)) else { return Ok(Vec::new()) };
        let shared = asked.shared_prefix.map(|_| ideal(asked).map(|ideal| ideal.bytes)).transpose();
        let Ok(shared) = shared else { return Ok(Vec::new()) };
        let mut gaps = Vec::new();
        let mut step = |kind, from: Exact, to: Exact, reason: &str| {
            Gap::step(kind, from, to, reason)?.map_or(Ok(()), |gap| gap.join(&mut gaps))
        };
        let [apart, held] = [ideal_apart.bytes, ideal_held.bytes].map(Exact::from);
        let reason = "cells are set aside for every sequence, whatever they have in common";
        step("shared_prefix", shared.map_or(apart, Exact::from), apart, reason)?;
        step("context", apart, held, "the context is not --seq-len times --batch")?;
        for (index, (cached, of_group)) in self.layers.groups.iter().zip(&self.memory.groups).enumerate() {
            if !cached.mtp {
                let live = ideal_held.layer_groups.get(index).map_or(Exact::ZERO, |group| group.bytes.into());
                let (kind, reason) = self.rule(&cached.group.cache, of_group);
                let is_base = |piece| EXTRAS.iter().all(|(extra, ..)| *extra != piece);
                step(kind, live, of_group.bytes(is_base), &reason)?;
            }
            for (piece, kind, reason) in EXTRAS {
                step(kind, Exact::ZERO, of_group.bytes(|own| own == *piece), reason)?;
            }
        }
        Ok(gaps)
    }

    /// The rule by which the entries or states of a group are not the live ones: its stable word, and the reason.
    fn rule(&self, cache: &LayerCache, of_group: &GroupMemory) -> (&'static str, Cow<'static, str>) {
        let context = &self.context;
        let knows_no_window = of_group.bytes(|piece| piece == Piece::NoWindow) != Exact::ZERO;
        match cache.cache_kind() {
            Kind::Cross => ("no_cross_cache", "what an encoder gives is not cached".into()),
            Kind::Recurrent => ("f32_states", "states are in single precision".into()),
            Kind::Sliding | Kind::Chunked if knows_no_window => {
                ("no_window", "this architecture knows no window there: every token is kept".into())
            }
            Kind::Sliding | Kind::Chunked if self.options.swa_full => {
                ("swa_full", "windows are as long as the context".into())
            }
            Kind::Sliding | Kind::Chunked => {
                let sequences = if context.unified { " of all sequences" } else { "" };
                let n_ubatch = context.n_ubatch;
                let reason = format!("a batch of {n_ubatch} tokens beside the window{sequences}, padded to 256 cells");
                ("window_batch", reason.into())
            }
            Kind::Full | Kind::Latent | Kind::Indexer | Kind::Compressed | Kind::Shared | Kind::None => {
                let streams = context.unified && context.n_seq_max > 1 && self.memory.parts.contains_key("kv.csa");
                let whole = ("streams", "each sequence has a cache of the whole context".into());
                if streams { whole } else { ("padding", "cells are padded to 256".into()) }
            }
        }
    }
}

/// What is there in addition to entries and states.
const EXTRAS: &[(Piece, &str, &str)] = &[
    (Piece::WidestValue, "widest_value", "without flash attention V is as wide in every layer as in the widest"),
    (Piece::IndexExtra, "index_extra", "an index keeps more than its keys"),
    (Piece::Rollback, "rollback", "states are kept to go back to"),
    (Piece::Mtp, "nextn_layers", "MTP layers have a cache, too"),
];
