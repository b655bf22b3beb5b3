//! The pools of DeepSeek-V4: its windows, the entries of each ratio, and the states of what is still open
//! (`DSV4PoolConfigurator`; `mem_cache/deepseek_v4_memory_pool.py`, `deepseek_v4_compress_state.py`).

use super::arguments::Arguments;
use super::layers::{SLIDING, Stage, groups_of, index_head_dim, index_key, own_groups};
use super::pools::{Part, Share, Sizes, refused};
use crate::engine::Double;
use crate::model::{CacheKind, KeyValue, LayerCache};
use crate::units::{Error, Exact};

/// Bytes of an entry: 448 elements in fp8 with 8 scales, 64 in bf16.
const ENTRY: u64 = 584;
/// Page bytes are rounded up to this.
const ROW: u64 = 576;
/// Tokens of a page.
const PAGE: u64 = 256;
/// Elements of an entry.
const HEAD_DIM: u64 = 512;
/// Tokens of an entry in sparse layers, which have an index.
const SPARSE: u64 = 4;
/// Tokens of an entry in heavy layers.
const HEAVY: u64 = 128;
/// Bytes of an element of a state.
const FP32: u64 = 4;

/// The pools of one rank.
pub(super) struct Compressed {
    /// Layers with a window: all.
    layers: u64,
    sparse: u64,
    heavy: u64,
    index_dim: u64,
    speculative: bool,
}

/// Bytes of a page of `entries` entries.
fn page_bytes(entries: u64) -> Exact {
    (Exact::from(entries) * ENTRY).round_up_to(ROW)
}

impl Compressed {
    pub(super) fn new(stage: &Stage<'_>) -> Result<Self, Error> {
        let model = stage.model;
        for group in own_groups(model) {
            let (covered, reason) = match group.cache {
                LayerCache::Compressed { head_dim, ratio, .. } => (
                    *head_dim == HEAD_DIM && [SPARSE, HEAVY].contains(ratio),
                    "compresses to other entries or ratios than DeepSeek-V4's, 512 elements for 4 or 128 tokens",
                ),
                LayerCache::SlidingWindow { key_value, .. } => (
                    *key_value == KeyValue::Vector { elements: HEAD_DIM },
                    "has windows of other entries than DeepSeek-V4's, one vector of 512 elements",
                ),
                LayerCache::Indexer { .. } => (true, ""),
                _ => (false, "has layers other than windows and compressed ones"),
            };
            stage.require(covered, reason)?;
        }
        let of_ratio = |ratio: u64| -> u64 {
            let groups = groups_of(model, &[CacheKind::Compressed]).filter(|group| group.cache.ratio() == ratio);
            groups.map(|group| group.layers_within(&stage.layers)).sum()
        };
        Ok(Self {
            layers: stage.count(SLIDING),
            sparse: of_ratio(SPARSE),
            heavy: of_ratio(HEAVY),
            index_dim: index_head_dim(model),
            speculative: stage.arguments.draft.is_some(),
        })
    }

    /// Rows of the ring of open entries of a page of sparse layers; speculation doubles it.
    fn sparse_ring(&self) -> u64 {
        if self.speculative { 16 } else { 8 }
    }

    /// Bytes of a full token: its entries, and `ratio` window tokens with their states.
    pub(super) fn cell(&self, arguments: &Arguments) -> Result<Double, Error> {
        let whole = Double::whole;
        let paged = |entries: u64| page_bytes(entries).get().map(|bytes| Double::ratio(bytes, entries));
        // Rows of a sparse layer's state: K and scores of two windows, of attention and of its index.
        let state = whole(((Exact::from(HEAD_DIM) + self.index_dim) * 4u64 * FP32).get()?);
        let ring = Double::ratio(self.sparse_ring(), PAGE);
        let window = paged(PAGE)?.times(whole(self.layers)).plus(ring.times(state).times(whole(self.sparse)));
        let quarter = Double::ratio(1, SPARSE);
        let sparse = quarter.times(paged(PAGE / SPARSE)?).plus(quarter.times(whole(index_key(self.index_dim).get()?)));
        let heavy = Double::ratio(1, HEAVY).times(paged(PAGE / HEAVY)?);
        let entries = sparse.times(whole(self.sparse)).plus(heavy.times(whole(self.heavy)));
        let cell = arguments.window.ratio.times(window).plus(entries);
        if !self.speculative {
            return Ok(cell);
        }
        let with_draft = Exact::from(self.layers) + 1u64;
        Ok(cell.times(Double::ratio(with_draft.get()?, self.layers)))
    }

    /// Bytes of the states of a heavy layer: a ring for each request.
    fn heavy_states(&self, requests: u64) -> Exact {
        // Rows of the ring of open entries of a request; speculation doubles it.
        let ring: u64 = if self.speculative { 256 } else { 128 };
        let rows = (Exact::from(requests) + 2u64) * ring + 1u64;
        rows.round_up_to(128u64) * HEAD_DIM * 2u64 * FP32
    }

    /// How many full tokens a budget holds.
    pub(super) fn tokens(&self, budget: u64, arguments: &Arguments) -> Result<u64, Error> {
        let requests = arguments.schedule.requests.unwrap_or(256);
        let fixed = (self.heavy_states(requests) * self.heavy).get()?;
        let rest = Exact::from(budget).less(fixed).get()?;
        match Double::whole(rest).over(self.cell(arguments)?).truncated() {
            ..PAGE => refused(format!("Not enough memory: {budget} bytes, of which {fixed} are states of requests")),
            tokens => Ok(tokens),
        }
    }

    /// The bytes of the pools.
    pub(super) fn shares(&self, sizes: Sizes, requests: u64) -> Vec<Share> {
        let window = sizes.window.unwrap_or_default();
        let (sparse, heavy) = (sizes.full / SPARSE, sizes.full / HEAVY);
        let pages = |entries: Exact, each: u64| (entries + PAGE).div_ceil(each);
        let ring = self.sparse_ring();
        let rows = ((Exact::from(window / PAGE) + 1u64) * ring + 1u64).round_up_to(4u64);
        let states = |elements: u64| rows * elements * 4u64 * FP32;
        let in_quarters = PAGE / SPARSE;
        let of_window = pages(window.into(), PAGE) * page_bytes(PAGE);
        let of_sparse = pages(sparse.into(), in_quarters) * page_bytes(in_quarters) + states(HEAD_DIM);
        let index_pages = pages(Exact::from(heavy) * (HEAVY / SPARSE), in_quarters);
        let of_index = index_pages * index_key(self.index_dim) * in_quarters + states(self.index_dim);
        let of_heavy = pages(heavy.into(), PAGE / HEAVY) * page_bytes(PAGE / HEAVY) + self.heavy_states(requests);
        let share =
            |kind, part, layers: u64, tokens, bytes: Exact| Share { kind, part, layers, tokens, bytes: bytes * layers };
        vec![
            share("sliding_attention", Part::Window, self.layers, window, of_window),
            share("compressed_attention", Part::Full, self.sparse, sparse, of_sparse),
            share("compressed_attention", Part::Full, self.heavy, heavy, of_heavy),
            share("indexer", Part::Full, self.sparse, sparse, of_index),
        ]
    }
}
