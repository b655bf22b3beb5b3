//! The token pools of one rank: how many tokens a budget holds, the bytes of pools of given sizes, and what a token costs
//! (`model_executor/pool_configurator.py`: `DefaultPoolConfigurator`, `HybridSWAPoolConfigurator`,
//! `SWARequestCapPoolConfigurator`).

use super::arguments::{Arguments, Entries};
use super::compressed::Compressed;
use super::format::Format;
use super::layers::{SLIDING, Stage, groups_of, index_head_dim, index_key};
use crate::engine::Double;
use crate::model::{CacheKind as Kind, KeyValue, LayerCache, Model};
use crate::units::{Code, Error, Exact};

/// Layers of one kind in a pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pooled {
    /// The kind, as among layer groups.
    pub(super) kind: &'static str,
    pub(super) layers: u64,
    /// Bytes of a token in all of them.
    pub(super) token: u64,
}

/// A pool of tokens.
pub(super) struct Pool {
    /// The layers that attend, and their index if they have one.
    pub(super) layers: Vec<Pooled>,
    /// Bytes of a token in draft layers.
    pub(super) draft: u64,
}

impl Pool {
    /// Bytes of a token in the model's own layers.
    fn own_token(&self) -> Exact {
        self.layers.iter().map(|pooled| pooled.token).sum()
    }

    fn token(&self) -> Result<u64, Error> {
        (self.own_token() + self.draft).get()
    }

    fn own_layers(&self) -> impl Iterator<Item = Pooled> {
        self.layers.iter().copied().filter(|pooled| pooled.layers > 0)
    }

    /// The draft layers, `layers` in number.
    fn draft_layers(&self, layers: u64) -> Option<Pooled> {
        let kind = self.layers.first().map(|pooled| pooled.kind)?;
        (self.draft > 0).then_some(Pooled { kind, layers, token: self.draft })
    }
}

/// The pools of tokens.
pub(super) enum TokenPools {
    /// One pool for all layers; it is the window's where all layers slide and windows have a pool.
    One { pool: Pool, part: Part },
    /// A pool that every token is in, and one for windowed layers.
    Two { full: Pool, window: Pool },
    /// The pools of `DeepSeek`-V4.
    Compressed(Compressed),
}

impl TokenPools {
    /// The pools on a rank of a pipeline stage.
    pub(super) fn new(stage: &Stage<'_>) -> Result<Self, Error> {
        if stage.arguments.entries == Entries::Compressed {
            return Compressed::new(stage).map(Self::Compressed);
        }
        let full = full_layers(stage)?;
        Ok(match window_layers(stage)? {
            None => Self::One { pool: full, part: Part::Full },
            Some(window) if full.own_layers().next().is_none() => Self::One { pool: window, part: Part::Window },
            Some(window) => Self::Two { full, window },
        })
    }

    /// Bytes of a token of the most tokens, as SGLang divides its budget by them.
    pub(super) fn cell(&self, arguments: &Arguments) -> Result<Double, Error> {
        match self {
            Self::One { pool, .. } => pool.token().map(Double::whole),
            Self::Two { full, window } => {
                let window = arguments.window.ratio.times(Double::whole(window.token()?));
                Ok(Double::whole(full.token()?).plus(window))
            }
            Self::Compressed(pools) => pools.cell(arguments),
        }
    }

    /// How many tokens a budget holds.
    pub(super) fn sizes(&self, budget: u64, arguments: &Arguments) -> Result<Sizes, Error> {
        let schedule = arguments.schedule;
        let tokens = match self {
            // Where nothing grows: as many as asked for.
            Self::One { pool, .. } => {
                budget.checked_div(pool.token()?).unwrap_or(schedule.max_tokens.unwrap_or(schedule.context))
            }
            Self::Two { full, window } => match arguments.window.cap {
                Some(cap) => return sizes_with_cap(full, window, cap, budget, arguments),
                None if arguments.unified => unified_tokens(full, window, budget, arguments)?,
                None => Double::whole(budget).floor_div(self.cell(arguments)?).truncated(),
            },
            Self::Compressed(pools) => pools.tokens(budget, arguments)?,
        };
        let sizes = self.sizes_of_tokens(tokens, arguments)?;
        if sizes.total == 0 { refused("not enough memory for one page of the cache") } else { Ok(sizes) }
    }

    /// The pools of `tokens` tokens, in whole pages.
    pub(super) fn sizes_of_tokens(&self, tokens: u64, arguments: &Arguments) -> Result<Sizes, Error> {
        let page = arguments.attention.page;
        let total = whole_pages(tokens, page);
        if let Self::One { part, .. } = self {
            return Ok(Sizes::one(*part, total));
        }
        if let Some(cap) = arguments.window.cap {
            return Ok(Sizes::two(total, cap.min(tokens)));
        }
        let window = window_share(total, page, arguments);
        // What admits one request (`validate_swa_pool_size`).
        let runner = arguments.window.tokens.filter(|_| !arguments.unified);
        if let Some(runner) = runner
            && window <= (Exact::from(runner) + page).get()?
        {
            return refused(format!(
                "SWA pool ({window} tokens) cannot hold even one request: the prefill admission floor is \
                 sliding_window_size ({runner}) + page_size ({page}); increase --swa-full-tokens-ratio or --memory"
            ));
        }
        Ok(Sizes::two(total, window))
    }

    /// Bytes of pools of these sizes, each with `padding` more tokens; `requests` may run.
    pub(super) fn shares(&self, sizes: Sizes, padding: u64, requests: u64, arguments: &Arguments) -> Vec<Share> {
        let pools: &[_] = match self {
            Self::One { pool, part } => &[(pool, *part, sizes.total)],
            Self::Two { full, window } => {
                &[(full, Part::Full, sizes.full), (window, Part::Window, sizes.window.unwrap_or_default())]
            }
            Self::Compressed(pools) => return pools.shares(sizes, requests),
        };
        let share = |pooled: Pooled, part: Part, tokens: u64| Share {
            kind: pooled.kind,
            part,
            layers: pooled.layers,
            tokens,
            bytes: (Exact::from(tokens) + padding) * pooled.token,
        };
        let layers = arguments.draft.map_or(0, |draft| draft.layers);
        let own = pools
            .iter()
            .flat_map(|&(pool, part, tokens)| pool.own_layers().map(move |pooled| share(pooled, part, tokens)));
        let drafts =
            pools.iter().filter_map(|&(pool, _, tokens)| Some(share(pool.draft_layers(layers)?, Part::Draft, tokens)));
        own.chain(drafts).collect()
    }
}

/// A window's pool of the tokens that requests limit it to, and as many full tokens as the rest of the budget holds.
fn sizes_with_cap(full: &Pool, window: &Pool, cap: u64, budget: u64, arguments: &Arguments) -> Result<Sizes, Error> {
    let fixed = Exact::from(cap) * window.token()?;
    let tokens = Exact::from(budget).less(fixed).get()?.checked_div(full.token()?).unwrap_or_default();
    match whole_pages(tokens, arguments.attention.page) {
        0 => refused(format!(
            "SWA pool cap ({cap} tokens, {} bytes) leaves no room for the full KV pool within the available {budget} \
             bytes; reduce --max-running-requests",
            fixed.wide()?
        )),
        full => Ok(Sizes::two(full, cap)),
    }
}

/// The most tokens whose two pools fit into one buffer, in whole pages (`_max_unified_full_tokens`).
fn unified_tokens(full: &Pool, window: &Pool, budget: u64, arguments: &Arguments) -> Result<u64, Error> {
    let page = arguments.attention.page;
    let drafts = Exact::from(full.draft) + window.draft;
    let (full, window) = (full.own_token().get()?, window.own_token());
    // A draft pool spans the ids of the whole buffer.
    let bytes = |tokens: u64| {
        let own = Exact::from(tokens) * full + window * window_share(tokens, page, arguments);
        let span = (own / full).less(1u64).round_up_to(page) + page;
        own + span * drafts
    };
    let most = budget.checked_div(full).and_then(|tokens| tokens.checked_div(page)).unwrap_or_default();
    let (mut fits, mut fails) = (0u64, (Exact::from(most) + 1u64).get()?);
    while fits.abs_diff(fails) > 1 {
        let middle = fits.midpoint(fails);
        let within = bytes((Exact::from(middle) * page).get()?).wide()? <= u128::from(budget);
        if within { fits = middle } else { fails = middle }
    }
    (Exact::from(fits) * page).get()
}

/// Window tokens for `tokens` full ones, by the ratio.
pub(super) fn window_share(tokens: u64, page: u64, arguments: &Arguments) -> u64 {
    whole_pages(arguments.window.ratio.times(Double::whole(tokens)).truncated(), page)
}

/// The least full tokens, in whole pages, whose window tokens are at least `window`.
pub(super) fn full_for(window: u64, page: u64, arguments: &Arguments) -> Result<u64, Error> {
    let by_ratio = Double::whole(window).over(arguments.window.ratio).truncated();
    let mut full = Exact::from(by_ratio).round_up_to(page);
    while window_share(full.get()?, page, arguments) < window {
        full = full + page;
    }
    full.get()
}

// Pool sizes in tokens and bytes, one shape for every kind of pool.

/// Tokens of the pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Of the pool that every token is in.
    pub(super) full: u64,
    /// Of the window's pool, where there is one.
    pub(super) window: Option<u64>,
    /// What counts as the most tokens: the window's where nothing else is.
    pub(super) total: u64,
}

impl Sizes {
    /// One pool.
    pub(super) fn one(part: Part, total: u64) -> Self {
        match part {
            Part::Window => Self { full: 0, window: Some(total), total },
            Part::Full | Part::State | Part::Draft => Self { full: total, window: None, total },
        }
    }

    /// A pool that every token is in, and one for windows.
    pub(super) fn two(full: u64, window: u64) -> Self {
        Self { full, window: Some(window), total: full }
    }
}

/// Bytes of pools, by kind of layer.
pub(super) struct Share {
    /// The kind, as among layer groups.
    pub(super) kind: &'static str,
    pub(super) part: Part,
    pub(super) layers: u64,
    /// Tokens of the pool.
    pub(super) tokens: u64,
    /// On one rank.
    pub(super) bytes: Exact,
}

/// What a share is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Entries that every token has.
    Full,
    /// Entries of windows.
    Window,
    /// States.
    State,
    /// Drafting layers.
    Draft,
}

/// The server does not start with a budget, for this reason.
pub(super) fn refused<T>(reason: impl Into<String>) -> Result<T, Error> {
    Err(Error::without_value(Code::Refused, "--memory", reason, "give more memory"))
}

/// `tokens` in whole pages, rounded down.
pub(super) fn whole_pages(tokens: u64, page: u64) -> u64 {
    tokens.checked_div(page).and_then(|pages| pages.checked_mul(page)).unwrap_or(tokens)
}

// What a token costs in the layers of a pool: heads divided over ranks, whole latents, and their indices
// (`mem_cache/kv_cache_configurator.py`).

/// The heads of layers of one role, which SGLang takes to be alike.
#[derive(Debug, Clone, Copy)]
struct Heads {
    number: u64,
    k_dim: u64,
    v_dim: u64,
}

/// The layers of the pool that every token is in; without a pool for windows those are all layers, priced alike.
pub(super) fn full_layers(stage: &Stage<'_>) -> Result<Pool, Error> {
    let (model, arguments) = (stage.model, stage.arguments);
    if arguments.window.tokens.is_some() {
        let layers = Exact::from(stage.count(&[Kind::Full, Kind::Shared])) - shared_sliding(stage)?;
        let drafting = arguments.draft.map_or(Exact::ZERO, |draft| Exact::from(draft.layers) - draft.sliding);
        return two_pools_layers(stage, &[Kind::Full], layers, drafting);
    }
    let all = u64::from(stage.layers.end.abs_diff(stage.layers.start));
    // Next to states, only layers that attend are in the pool.
    let in_pool = |kinds: &[Kind]| arguments.states.map_or(all, |_| stage.count(kinds));
    let (main, index_element) = match arguments.entries {
        Entries::Heads { index_element } => {
            let layers = in_pool(&[Kind::Full, Kind::Sliding, Kind::Chunked]);
            let mut kinds = [&[Kind::Full], SLIDING, &[Kind::Cross]].into_iter();
            let heads = kinds.find_map(|kinds| heads(stage, kinds).transpose()).transpose()?;
            let token = heads.map_or(Exact::ZERO, |heads| heads.bytes(layers, arguments));
            let element = index_element.map(|element| Exact::from(index_head_dim(model)) * element);
            (Pooled { kind: "full_attention", layers, token: token.get()? }, element)
        }
        Entries::Latents | Entries::IndexedLatents { .. } | Entries::Compressed => {
            let layers = in_pool(&[Kind::Latent]);
            let token = latent_bytes(model, layers, arguments).get()?;
            let is_indexed = matches!(arguments.entries, Entries::IndexedLatents { .. });
            let element = is_indexed.then(|| index_key(index_head_dim(model)));
            (Pooled { kind: "latent_attention", layers, token }, element)
        }
    };
    let mut layers = vec![main];
    if let Some(element) = index_element {
        let indexers = stage.count(&[Kind::Indexer]);
        layers.push(Pooled { kind: "indexer", layers: indexers, token: (element * indexers).get()? });
    }
    Ok(Pool { draft: draft_bytes(&layers, arguments)?, layers })
}

/// The layers of the window's pool, where windowed layers have one.
pub(super) fn window_layers(stage: &Stage<'_>) -> Result<Option<Pool>, Error> {
    if stage.arguments.window.tokens.is_none() {
        return Ok(None);
    }
    let layers = Exact::from(stage.count(SLIDING)) + shared_sliding(stage)?;
    let drafting = stage.arguments.draft.map_or(0, |draft| draft.sliding);
    two_pools_layers(stage, SLIDING, layers, drafting.into()).map(Some)
}

/// Of the layers that read another's cache and get their own all the same, those that the list of kinds says slide.
fn shared_sliding(stage: &Stage<'_>) -> Result<u64, Error> {
    let (shared, listed) = (stage.count(&[Kind::Shared]), stage.model.checkpoint.shared_sliding_layers);
    let reason = "has layers that share a cache, and no list that says which of them slide";
    stage.require(shared == 0 || listed.is_some(), reason)?;
    Ok(listed.unwrap_or_default().min(shared))
}

/// `layers` layers of these kinds, and `drafting` draft layers like them, in one of two pools.
fn two_pools_layers(stage: &Stage<'_>, kinds: &[Kind], layers: Exact, drafting: Exact) -> Result<Pool, Error> {
    let token = heads(stage, kinds)?.map_or(Exact::ZERO, |heads| heads.bytes_in_two_pools(stage.arguments));
    let kind = kinds.first().map_or("", |kind| kind.name());
    let pooled = Pooled { kind, layers: layers.get()?, token: (layers * token).get()? };
    Ok(Pool { layers: vec![pooled], draft: (drafting * token).get()? })
}

/// Bytes of a token in draft layers of one pool: as much as each of the model's own, and an index of each.
fn draft_bytes(layers: &[Pooled], arguments: &Arguments) -> Result<u64, Error> {
    let drafting = arguments.draft.map_or(0, |draft| draft.layers);
    let Some(main) = layers.first().filter(|main| main.layers > 0 && drafting > 0) else { return Ok(0) };
    let index = layers.get(1).filter(|_| matches!(arguments.entries, Entries::IndexedLatents { .. }));
    // MiniMax-M3's index is spread with everything else.
    let all = layers.iter().map(|pooled| pooled.token).sum::<Exact>();
    let spread = if index.is_some() { Exact::from(main.token) } else { all };
    let own = Double::whole((spread * drafting).get()?).over(Double::whole(main.layers)).truncated();
    let of_index = index.and_then(|index| index.token.checked_div(index.layers)).unwrap_or_default();
    (Exact::from(of_index) * drafting + own).get()
}

/// The heads of the layers of these kinds, if there are any.
fn heads(stage: &Stage<'_>, kinds: &[Kind]) -> Result<Option<Heads>, Error> {
    let mut entries = groups_of(stage.model, kinds).filter_map(|group| group.cache.key_value());
    let Some(first) = entries.next() else { return Ok(None) };
    let reason = "has layers of different heads, which SGLang 0.5.23 does not support";
    stage.require(entries.all(|other| other == first), reason)?;
    let dims = match first {
        KeyValue::Vector { elements } => Some((elements, 0)),
        KeyValue::Heads { .. } | KeyValue::ArticleShortcut { .. } => first.head_dims(),
    };
    let (k_dim, v_dim) = dims.ok_or_else(|| {
        let reason = "is no whole number of heads wide (the article's shortcut)";
        stage.engine.refusal("MODEL", &stage.model.name, reason, "give --heads or --head-dim")
    })?;
    Ok(Some(Heads { number: first.num_key_value_heads().unwrap_or(1), k_dim, v_dim }))
}

impl Heads {
    /// Heads on a rank: divided and rounded down, to one at least.
    fn on_rank(self, arguments: &Arguments) -> Exact {
        (Exact::from(self.number) / arguments.ranks.attention_tp).max(1u64)
    }

    /// Bytes of a token in one layer of two pools, which are priced without the scales of 4 bits.
    fn bytes_in_two_pools(self, arguments: &Arguments) -> Exact {
        let elements = self.on_rank(arguments) * (Exact::from(self.k_dim) + self.v_dim);
        match arguments.attention.format {
            Format::Mxfp8 => elements + elements / 32u64,
            format => elements * format.element_bytes(),
        }
    }

    /// Bytes of a token in `layers` layers of one pool.
    fn bytes(self, layers: u64, arguments: &Arguments) -> Exact {
        let rank = self.on_rank(arguments);
        let elements = rank * (Exact::from(self.k_dim) + self.v_dim) * layers;
        let k_and_v = Exact::from(layers) * 2u64;
        let packed = rank * (self.k_dim / 2) * k_and_v;
        match arguments.attention.format {
            Format::Fp4MxBlock16 => packed + rank * self.k_dim / 16u64 * k_and_v,
            Format::Nvfp4 => {
                let nvfp4 = arguments.attention.nvfp4;
                let scales = rank * (self.k_dim / 16) * k_and_v;
                let native = if nvfp4.native { scales } else { Exact::ZERO };
                let workspace = rank * self.k_dim * 2u64;
                packed + native + if nvfp4.unpacked { scales + workspace } else { Exact::ZERO }
            }
            Format::Mxfp8 => elements + elements / 32u64,
            format @ (Format::Fp16 | Format::Bf16 | Format::Fp8E4m3 | Format::Fp8E5m2) => {
                elements * format.element_bytes()
            }
        }
    }
}

/// Bytes of the latents of a token in `layers` layers.
fn latent_bytes(model: &Model, layers: u64, arguments: &Arguments) -> Exact {
    let dims = groups_of(model, &[Kind::Latent]).find_map(|group| match *group.cache {
        LayerCache::Latent { kv_lora_rank, qk_rope_head_dim } => Some((kv_lora_rank, qk_rope_head_dim)),
        _ => None,
    });
    let (kv_lora_rank, qk_rope_head_dim) = dims.unwrap_or_default();
    let format = arguments.attention.format;
    let raw = Exact::from(kv_lora_rank) + qk_rope_head_dim;
    if arguments.entries == (Entries::IndexedLatents { raw: false }) && format == Format::Fp8E4m3 {
        // In fp8 with the scale of each 128 elements, the rotary part in bf16.
        let rope = Exact::from(qk_rope_head_dim) * 2u64;
        return (Exact::from(kv_lora_rank / 128) * 4u64 + kv_lora_rank + rope) * layers;
    }
    match format {
        Format::Nvfp4 | Format::Fp4MxBlock16 => raw * layers / 2u64 + raw / 16u64 * layers,
        format => raw * layers * format.element_bytes(),
    }
}
