//! The token pools of one rank: what a token costs in each, how many a budget holds, and their bytes
//! (`model_executor/pool_configurator.py`; `mem_cache/kv_cache_configurator.py`).

use std::ops::Range;

use super::arguments::{Arguments, Entries};
use super::compressed::Compressed;
use super::geometry::{heads, index_bytes, latent_bytes};
use super::layers::{Role, count, index_head_dim};
use super::share::{NoPools, Part, Share, Sizes, refused, whole_pages};
use super::window_pool::{TwoPools, check_holds_a_request, window_share};
use crate::engine::{Double, Engine};
use crate::model::Model;
use crate::units::{Error, Exact};

/// Layers of one kind in a pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pooled {
    /// The kind, as among layer groups.
    pub(super) kind: &'static str,
    pub(super) layers: u64,
    /// Bytes of a token in all of them.
    pub(super) token: u64,
}

/// The pools of tokens.
#[derive(Debug, Clone)]
pub(super) enum TokenPools {
    /// One pool for all layers.
    One(OnePool),
    /// A pool for layers that keep every token and one for those that slide.
    Two(TwoPools),
    /// The pools of `DeepSeek`-V4.
    Compressed(Compressed),
}

/// One pool for all layers.
#[derive(Debug, Clone)]
pub(super) struct OnePool {
    main: Pooled,
    index: Option<Pooled>,
    /// Bytes of a token in draft layers.
    draft: u64,
}

impl OnePool {
    fn new(model: &Model, arguments: &Arguments, engine: &Engine, stage: &Range<u32>) -> Result<Self, Error> {
        let all = u64::from(stage.end.abs_diff(stage.start));
        // Without states every layer is priced alike, whatever it keeps.
        let layers = |roles: &[Role]| match arguments.states {
            Some(_) => roles.iter().map(|&role| count(model, stage, role)).sum(),
            None => all,
        };
        let indexers = count(model, stage, Role::Index);
        let index = |element: Exact| -> Result<_, Error> {
            Ok(Some(Pooled { kind: "indexer", layers: indexers, token: (element * indexers).get()? }))
        };
        let (main, index) = match arguments.entries {
            Entries::Heads { index_element } => {
                let first = |roles: &[Role]| roles.iter().find_map(|&role| heads(model, engine, role).transpose());
                let heads = first(&[Role::Full, Role::Sliding, Role::CrossAttention]).transpose()?;
                let layers = layers(&[Role::Full, Role::Sliding]);
                let token = heads.map_or(Exact::ZERO, |heads| heads.bytes(layers, arguments));
                let element = index_element.map(|element| Exact::from(index_head_dim(model)) * element);
                let main = Pooled { kind: "full_attention", layers, token: token.get()? };
                (main, element.map_or(Ok(None), index)?)
            }
            Entries::Latents | Entries::IndexedLatents { .. } | Entries::Compressed => {
                let layers = layers(&[Role::Latent]);
                let token = latent_bytes(model, layers, arguments).get()?;
                let main = Pooled { kind: "latent_attention", layers, token };
                let indexed = matches!(arguments.entries, Entries::IndexedLatents { .. });
                (main, if indexed { index(index_bytes(model))? } else { None })
            }
        };
        let pool = Self { main, index, draft: 0 };
        Ok(Self { draft: pool.draft_bytes(arguments)?, ..pool })
    }

    /// Bytes of a token in draft layers: as much as each of the model's own, and an index of each.
    fn draft_bytes(&self, arguments: &Arguments) -> Result<u64, Error> {
        let layers = arguments.draft.map_or(0, |draft| draft.layers);
        if layers == 0 || self.main.layers == 0 {
            return Ok(0);
        }
        let index = self.index.filter(|_| matches!(arguments.entries, Entries::IndexedLatents { .. }));
        // MiniMax-M3's index is spread with everything else.
        let spread = if index.is_some() { self.main.token.into() } else { self.own_bytes() };
        let spread = Double::whole((spread * layers).get()?).over(Double::whole(self.main.layers)).truncated();
        let of_index = index.and_then(|index| index.token.checked_div(index.layers)).unwrap_or_default();
        (Exact::from(of_index) * layers + spread).get()
    }

    fn own_bytes(&self) -> Exact {
        Exact::from(self.main.token) + self.index.map_or(0, |index| index.token)
    }

    fn token(&self) -> Result<u64, Error> {
        (self.own_bytes() + self.draft).get()
    }
}

impl TokenPools {
    /// The pools on a rank of a pipeline stage.
    pub(super) fn new(
        model: &Model,
        arguments: &Arguments,
        engine: &Engine,
        stage: &Range<u32>,
    ) -> Result<Self, Error> {
        if arguments.entries == Entries::Compressed {
            Compressed::new(model, arguments, engine, stage).map(Self::Compressed)
        } else if arguments.window.tokens.is_some() {
            TwoPools::new(model, arguments, engine, stage).map(Self::Two)
        } else {
            OnePool::new(model, arguments, engine, stage).map(Self::One)
        }
    }

    /// Bytes of a token of the most tokens, as SGLang divides its budget by them.
    pub(super) fn cell(&self, arguments: &Arguments) -> Result<Double, Error> {
        match self {
            Self::One(pool) => pool.token().map(Double::whole),
            Self::Two(pools) => pools.cell(arguments),
            Self::Compressed(pools) => pools.cell(arguments),
        }
    }

    /// How many tokens a budget holds.
    pub(super) fn sizes(&self, budget: u64, arguments: &Arguments) -> Result<Sizes, NoPools> {
        let by_cell = || Ok::<_, Error>(Double::whole(budget).floor_div(self.cell(arguments)?).truncated());
        let tokens = match self {
            // Where nothing grows: as many as asked for.
            Self::One(pool) => {
                let schedule = arguments.schedule;
                budget.checked_div(pool.token()?).unwrap_or(schedule.max_tokens.unwrap_or(schedule.context))
            }
            Self::Two(pools) if !pools.has_full_layers() => by_cell()?,
            Self::Two(pools) => match arguments.window.cap {
                Some(cap) => return pools.sizes_with_cap(cap, budget, arguments),
                None if arguments.unified => pools.unified_tokens(budget, arguments)?,
                None => by_cell()?,
            },
            Self::Compressed(pools) => pools.tokens(budget, arguments)?,
        };
        let sizes = self.sizes_of_tokens(tokens, arguments)?;
        if sizes.total == 0 { refused("not enough memory for one page of the cache") } else { Ok(sizes) }
    }

    /// The pools of `tokens` tokens, in whole pages.
    pub(super) fn sizes_of_tokens(&self, tokens: u64, arguments: &Arguments) -> Result<Sizes, NoPools> {
        let page = arguments.attention.page;
        let total = whole_pages(tokens, page);
        match self {
            Self::One(_) => return Ok(Sizes { full: total, window: None, total }),
            Self::Two(pools) if !pools.has_full_layers() => return Ok(Sizes { full: 0, window: Some(total), total }),
            Self::Two(_) | Self::Compressed(_) => {}
        }
        let window = match arguments.window.cap {
            Some(cap) => cap.min(tokens),
            None => window_share(total, page, arguments),
        };
        if arguments.window.cap.is_none() && !arguments.unified {
            check_holds_a_request(window, arguments)?;
        }
        Ok(Sizes { full: total, window: Some(window), total })
    }

    /// Bytes of pools of these sizes, each with `padding` more tokens; `requests` may run.
    pub(super) fn shares(&self, sizes: Sizes, padding: u64, requests: u64, arguments: &Arguments) -> Vec<Share> {
        let share = |pooled: Pooled, part: Part, tokens: u64| Share {
            kind: pooled.kind,
            part,
            layers: pooled.layers,
            tokens,
            bytes: (Exact::from(tokens) + padding) * pooled.token,
        };
        let draft = |kind: &'static str, token: u64, tokens: u64| {
            let layers = arguments.draft.map_or(0, |draft| draft.layers);
            (token > 0).then(|| share(Pooled { kind, layers, token }, Part::Draft, tokens))
        };
        let shares = match self {
            Self::One(pool) => {
                let own = |pooled: Pooled| (pooled.layers > 0).then(|| share(pooled, Part::Full, sizes.full));
                let draft = draft(pool.main.kind, pool.draft, sizes.full);
                vec![own(pool.main), pool.index.and_then(own), draft]
            }
            Self::Two(pools) => {
                let of_window = sizes.window.unwrap_or_default();
                let full = pools.has_full_layers().then(|| share(pools.full, Part::Full, sizes.full));
                let drafts = [
                    draft(pools.full.kind, pools.full_draft, sizes.full),
                    draft(pools.window.kind, pools.window_draft, of_window),
                ];
                [full, Some(share(pools.window, Part::Window, of_window))].into_iter().chain(drafts).collect()
            }
            Self::Compressed(pools) => return pools.shares(sizes, requests),
        };
        shares.into_iter().flatten().collect()
    }
}
