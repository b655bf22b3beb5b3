//! The pools of DeepSeek-V4: its windows, the entries of each ratio, and the states of what is still open
//! (`DSV4PoolConfigurator`; `mem_cache/deepseek_v4_memory_pool.py`, `deepseek_v4_compress_state.py`).

use super::arguments::{Arguments, Format, own_groups, up_to};
use super::share::{Part, Share, Sizes};
use crate::engine::{Double, Engine};
use crate::model::{KeyValue, LayerCache, Model};
use crate::units::Error;

/// Bytes of an entry: 448 elements in fp8 with 8 scales, 64 in bf16.
const ENTRY: u64 = 584;
/// A page's bytes are whole rows of so many.
const ROW: u64 = 576;
/// Tokens of a page.
const PAGE: u64 = 256;
/// Elements of an entry.
const HEAD_DIM: u64 = 512;

/// The pools of one rank.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compressed {
    layers: u64,
    sparse: u64,
    heavy: u64,
    index_dim: u64,
    /// Rows of the rings of both ratios.
    rings: (u64, u64),
    speculative: bool,
    builds: bool,
}

/// Bytes of a page of `entries` entries.
fn page_bytes(entries: u64) -> u64 {
    entries.saturating_mul(ENTRY).div_ceil(ROW).saturating_mul(ROW)
}

impl Compressed {
    pub(super) fn of(
        model: &Model,
        arguments: &Arguments,
        engine: &Engine,
        count: impl Fn(&dyn Fn(&LayerCache) -> bool) -> u64,
    ) -> Result<Self, Error> {
        let refusal = |reason: &str| Err(engine.refusal("MODEL", &model.name, reason, "use --engine ideal"));
        let mut index_dim = 0;
        for (group, _) in own_groups(model) {
            match group.cache {
                LayerCache::Compressed { head_dim: HEAD_DIM, ratio: 4 | 128, .. }
                | LayerCache::SlidingWindow { key_value: KeyValue::Vector { elements: HEAD_DIM }, .. } => {}
                LayerCache::Compressed { .. } => {
                    return refusal(
                        "compresses to other entries or ratios than DeepSeek-V4's, 512 elements for 4 or 128 tokens",
                    );
                }
                LayerCache::Indexer { index_head_dim, .. } => index_dim = index_head_dim,
                _ => return refusal("has layers beside windows and compressed ones"),
            }
        }
        let of_ratio =
            |wanted: u64| count(&|cache| matches!(cache, LayerCache::Compressed { ratio, .. } if *ratio == wanted));
        let speculative = arguments.draft.is_some();
        Ok(Self {
            layers: count(&|cache| matches!(cache, LayerCache::SlidingWindow { .. })),
            sparse: of_ratio(4),
            heavy: of_ratio(128),
            index_dim,
            rings: if speculative { (16, 256) } else { (8, 128) },
            speculative,
            builds: arguments.format == Format::Fp8E4m3,
        })
    }

    /// Whether the pools can be built: the kernels' layout is fp8 only.
    pub(super) fn builds(&self) -> bool {
        self.builds
    }

    /// Bytes of an index key with the scale of each 128 elements.
    fn index_entry(&self) -> u64 {
        self.index_dim.saturating_add((self.index_dim / 128).saturating_mul(4))
    }

    /// Elements of a row of the state of a sparse layer: K and scores of two windows, of attention and of its index.
    fn sparse_state(&self) -> (u64, u64) {
        (HEAD_DIM.saturating_mul(4), self.index_dim.saturating_mul(4))
    }

    /// Bytes of a full token: its entries, and `ratio` window tokens with their states.
    pub(super) fn cell(&self, arguments: &Arguments) -> Double {
        let whole = Double::whole;
        let paged = |entries: u64| Double::ratio(page_bytes(entries), entries);
        let (attention, index) = self.sparse_state();
        let state = whole(attention.saturating_add(index).saturating_mul(4));
        let ring = Double::ratio(self.rings.0, PAGE);
        let window = paged(PAGE).times(whole(self.layers)).plus(ring.times(state).times(whole(self.sparse)));
        let quarter = Double::ratio(1, 4);
        let sparse = quarter.times(paged(PAGE / 4)).plus(quarter.times(whole(self.index_entry())));
        let heavy = Double::ratio(1, 128).times(paged(PAGE / 128));
        let entries = sparse.times(whole(self.sparse)).plus(heavy.times(whole(self.heavy)));
        let cell = arguments.window_ratio.times(window).plus(entries);
        if self.speculative {
            let layers = self.layers.saturating_add(1);
            return cell.times(Double::ratio(layers, self.layers));
        }
        cell
    }

    /// Bytes of the states of heavy layers: a ring for each request.
    fn heavy_states(&self, requests: u64) -> u64 {
        let ring = self.rings.1;
        let rows = requests.saturating_add(1).saturating_mul(ring).saturating_add(ring).saturating_add(1);
        let row = HEAD_DIM.saturating_mul(2).saturating_mul(4);
        up_to(rows, 128).saturating_mul(row).saturating_mul(self.heavy)
    }

    /// How many full tokens a budget holds.
    pub(super) fn tokens(&self, budget: u64, arguments: &Arguments) -> Result<u64, String> {
        let fixed = self.heavy_states(arguments.requests.unwrap_or(256));
        let rest = budget.saturating_sub(fixed);
        let tokens = Double::whole(rest).over(self.cell(arguments)).truncated();
        if tokens < PAGE {
            return Err(format!("Not enough memory: {budget} bytes, of which {fixed} are states of requests"));
        }
        Ok(tokens)
    }

    /// What the pools take.
    pub(super) fn shares(&self, sizes: Sizes, requests: u64) -> Vec<Share> {
        let window = sizes.window.unwrap_or_default();
        let (sparse, heavy) = (sizes.full / 4, sizes.full / 128);
        let pages = |entries: u64, each: u64| entries.saturating_add(PAGE).div_ceil(each);
        let rows =
            up_to((window / PAGE).saturating_mul(self.rings.0).saturating_add(self.rings.0).saturating_add(1), 4);
        let (attention, index) = self.sparse_state();
        let states = |elements: u64| rows.saturating_mul(elements).saturating_mul(4);
        let share = |kind, part, layers: u64, tokens, each: u64| Share {
            kind,
            part,
            layers,
            tokens,
            bytes: u128::from(each).saturating_mul(u128::from(layers)),
        };
        let quarter = PAGE / 4;
        let window_bytes = pages(window, PAGE).saturating_mul(page_bytes(PAGE));
        let sparse_bytes = pages(sparse, quarter).saturating_mul(page_bytes(quarter)).saturating_add(states(attention));
        let index_page = self.index_entry().saturating_mul(quarter);
        let index_bytes =
            pages(heavy.saturating_mul(32), quarter).saturating_mul(index_page).saturating_add(states(index));
        let heavy_state = self.heavy_states(requests).checked_div(self.heavy).unwrap_or_default();
        let heavy_bytes = pages(heavy, PAGE / 128).saturating_mul(page_bytes(PAGE / 128)).saturating_add(heavy_state);
        vec![
            share("sliding_attention", Part::Window, self.layers, window, window_bytes),
            share("compressed_attention", Part::Full, self.sparse, sparse, sparse_bytes),
            share("compressed_attention", Part::Full, self.heavy, heavy, heavy_bytes),
            share("indexer", Part::Full, self.sparse, sparse, index_bytes),
        ]
    }
}
