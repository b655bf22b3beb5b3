//! Two pools: one for layers that keep every token, one for those that slide (`HybridSWAPoolConfigurator`,
//! `SWARequestCapPoolConfigurator`).

use std::ops::Range;

use super::arguments::Arguments;
use super::geometry::heads;
use super::layers::{Role, count};
use super::pools::Pooled;
use super::share::{NoPools, Sizes, refused, whole_pages};
use crate::engine::{Double, Engine};
use crate::model::Model;
use crate::units::{Error, Exact};

/// A pool for layers that keep every token and one for those that slide.
#[derive(Debug, Clone, Copy)]
pub(super) struct TwoPools {
    pub(super) full: Pooled,
    pub(super) window: Pooled,
    /// Bytes of a token in the draft layers of each pool.
    pub(super) full_draft: u64,
    pub(super) window_draft: u64,
}

impl TwoPools {
    pub(super) fn new(
        model: &Model,
        arguments: &Arguments,
        engine: &Engine,
        stage: &Range<u32>,
    ) -> Result<Self, Error> {
        // Layers that share another's cache get their own; the list of kinds says of which kind.
        let shared = count(model, stage, Role::Shared);
        let listed = model.checkpoint.shared_sliding_layers;
        let reason = "has layers that share a cache, and no list that says which of them slide";
        engine.require(shared == 0 || listed.is_some(), "MODEL", &model.name, reason, "use --engine ideal")?;
        let shared_sliding = listed.unwrap_or_default().min(shared);
        let token = |role| -> Result<Exact, Error> {
            Ok(heads(model, engine, role)?.map_or(Exact::ZERO, |heads| heads.bytes_in_two_pools(arguments)))
        };
        let (full_token, window_token) = (token(Role::Full)?, token(Role::Sliding)?);
        let pooled = |kind, layers: Exact, token: Exact| -> Result<_, Error> {
            Ok(Pooled { kind, layers: layers.get()?, token: (layers * token).get()? })
        };
        let full = Exact::from(count(model, stage, Role::Full)) + shared - shared_sliding;
        let window = Exact::from(count(model, stage, Role::Sliding)) + shared_sliding;
        let (layers, sliding) = arguments.draft.map_or((0, 0), |draft| (draft.layers, draft.sliding));
        Ok(Self {
            full: pooled("full_attention", full, full_token)?,
            window: pooled("sliding_attention", window, window_token)?,
            full_draft: ((Exact::from(layers) - sliding) * full_token).get()?,
            window_draft: (Exact::from(sliding) * window_token).get()?,
        })
    }

    pub(super) fn has_full_layers(&self) -> bool {
        self.full.layers > 0
    }

    fn full_token(&self) -> Result<u64, Error> {
        (Exact::from(self.full.token) + self.full_draft).get()
    }

    fn window_token(&self) -> Result<u64, Error> {
        (Exact::from(self.window.token) + self.window_draft).get()
    }

    /// Bytes of a full token and `ratio` window tokens; of a window token where all layers slide.
    pub(super) fn cell(&self, arguments: &Arguments) -> Result<Double, Error> {
        let (full, window) = (self.full_token()?, self.window_token()?);
        Ok(if self.has_full_layers() {
            Double::whole(full).plus(arguments.window.ratio.times(Double::whole(window)))
        } else {
            Double::whole((Exact::from(full) + window).get()?)
        })
    }

    /// A window's pool of `cap` tokens, and as many full tokens as the rest of the budget holds.
    pub(super) fn sizes_with_cap(&self, cap: u64, budget: u64, arguments: &Arguments) -> Result<Sizes, NoPools> {
        let fixed = Exact::from(cap) * self.window_token()?;
        let tokens = Exact::from(budget).less(fixed).get()?.checked_div(self.full_token()?).unwrap_or_default();
        match whole_pages(tokens, arguments.attention.page) {
            0 => refused(format!(
                "SWA pool cap ({cap} tokens, {} bytes) leaves no room for the full KV pool within the available \
                 {budget} bytes; reduce --max-running-requests",
                fixed.wide()?
            )),
            full => Ok(Sizes { full, window: Some(cap), total: full }),
        }
    }

    /// The most tokens whose two pools fit into one buffer, in whole pages (`_max_unified_full_tokens`).
    pub(super) fn unified_tokens(&self, budget: u64, arguments: &Arguments) -> Result<u64, Error> {
        let page = arguments.attention.page;
        let most = budget.checked_div(self.full.token).and_then(|tokens| tokens.checked_div(page)).unwrap_or_default();
        let (mut fits, mut fails) = (0u64, (Exact::from(most) + 1u64).get()?);
        while fits.abs_diff(fails) > 1 {
            let middle = fits.midpoint(fails);
            let tokens = (Exact::from(middle) * page).get()?;
            if self.unified_bytes(tokens, arguments).wide()? <= u128::from(budget) {
                fits = middle;
            } else {
                fails = middle;
            }
        }
        (Exact::from(fits) * page).get()
    }

    /// Bytes of one buffer for `tokens` full tokens and their window tokens. A draft pool spans the ids of the whole buffer.
    fn unified_bytes(&self, tokens: u64, arguments: &Arguments) -> Exact {
        let page = arguments.attention.page;
        let window = window_share(tokens, page, arguments);
        let own = Exact::from(tokens) * self.full.token + Exact::from(window) * self.window.token;
        let span = (own / self.full.token).less(1u64).round_up_to(page) + page;
        own + span * (Exact::from(self.full_draft) + self.window_draft)
    }
}

/// Refuses a window's pool of `tokens` tokens that cannot hold one request (`validate_swa_pool_size`).
pub(super) fn check_holds_a_request(tokens: u64, arguments: &Arguments) -> Result<(), NoPools> {
    let (Some(window), page) = (arguments.window.tokens, arguments.attention.page) else { return Ok(()) };
    if tokens > (Exact::from(window) + page).get()? {
        return Ok(());
    }
    refused(format!(
        "SWA pool ({tokens} tokens) cannot hold even one request: the prefill admission floor is sliding_window_size \
         ({window}) + page_size ({page}); increase --swa-full-tokens-ratio or --memory"
    ))
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
