//! The layers of a model by what SGLang keeps for them.

use std::ops::Range;

use super::arguments::Arguments;
use crate::engine::Engine;
use crate::model::{CacheKind, KeyValue, LayerCache, LayerGroup, Model};
use crate::units::{Error, Exact};

/// What to do about a model that these rules do not cover.
pub(super) const IDEAL: &str = "use --engine ideal";

/// Layers with windows or chunks, which may get a pool of their own.
pub(super) const SLIDING: &[CacheKind] = &[CacheKind::Sliding, CacheKind::Chunked];

/// A layer group without the layers of a drafter.
pub(super) struct OwnGroup<'a> {
    pub(super) cache: &'a LayerCache,
    layers: &'a [u32],
}

impl OwnGroup<'_> {
    /// How many of its layers a pipeline stage holds.
    pub(super) fn layers_within(&self, stage: &Range<u32>) -> u64 {
        self.layers.iter().filter(|layer| stage.contains(layer)).map(|_| 1).sum()
    }
}

/// The groups of the model's own layers.
pub(super) fn own_groups(model: &Model) -> impl Iterator<Item = OwnGroup<'_>> {
    let first = model.drafter.as_ref().map_or(u32::MAX, |drafter| drafter.first_layer);
    let own = move |group: &LayerGroup| group.layers.partition_point(|&layer| layer < first);
    model.layer_groups.iter().filter_map(move |group| {
        let layers = group.layers.get(..own(group)).filter(|layers| !layers.is_empty())?;
        Some(OwnGroup { cache: &group.cache, layers })
    })
}

/// The model's own groups of these kinds.
pub(super) fn groups_of<'a>(model: &'a Model, kinds: &'a [CacheKind]) -> impl Iterator<Item = OwnGroup<'a>> {
    own_groups(model).filter(|group| kinds.contains(&group.cache.cache_kind()))
}

pub(super) fn has(model: &Model, kinds: &[CacheKind]) -> bool {
    groups_of(model, kinds).next().is_some()
}

/// A pipeline stage of a model, whose ranks get pools.
pub(super) struct Stage<'a> {
    pub(super) model: &'a Model,
    pub(super) arguments: &'a Arguments,
    pub(super) engine: &'a Engine,
    pub(super) layers: Range<u32>,
}

impl Stage<'_> {
    /// Layers of these kinds.
    pub(super) fn count(&self, kinds: &[CacheKind]) -> u64 {
        groups_of(self.model, kinds).map(|group| group.layers_within(&self.layers)).sum()
    }

    /// Refuses the model unless the condition holds.
    pub(super) fn require(&self, condition: bool, reason: &str) -> Result<(), Error> {
        self.engine.require(condition, "MODEL", &self.model.name, reason, IDEAL)
    }
}

/// Elements of an index key; 0 without an index.
pub(super) fn index_head_dim(model: &Model) -> u64 {
    let dim = |group: OwnGroup<'_>| match *group.cache {
        LayerCache::Indexer { index_head_dim, .. } => Some(index_head_dim),
        _ => None,
    };
    groups_of(model, &[CacheKind::Indexer]).find_map(dim).unwrap_or_default()
}

/// Bytes of an index key of N elements: in fp8, with the scale of each 128.
pub(super) fn index_key(elements: u64) -> Exact {
    Exact::from(elements / 128) * 4u64 + elements
}

/// Whether some layer has heads of K that are not as wide as those of V.
pub(super) fn has_uneven_heads(model: &Model) -> bool {
    let uneven = |key_value: KeyValue| key_value.head_dims().is_some_and(|(k, v)| k != v);
    own_groups(model).filter_map(|group| group.cache.key_value()).any(uneven)
}
