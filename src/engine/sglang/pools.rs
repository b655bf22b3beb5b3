//! The token pools of one rank: how many tokens a budget holds, and the bytes of pools of given sizes
//! (`model_executor/pool_configurator.py`: `DefaultPoolConfigurator`, `HybridSWAPoolConfigurator`,
//! `SWARequestCapPoolConfigurator`).

use super::arguments::{Arguments, Entries};
use super::compressed::Compressed;
use super::entries::{full_layers, window_layers};
use super::layers::Stage;
use crate::engine::Double;
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
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone, Copy)]
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
