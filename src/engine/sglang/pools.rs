//! The pools of one rank: what a token costs in each, how many a budget holds, and what they take
//! (`model_executor/pool_configurator.py`; `mem_cache/kv_cache_configurator.py`).

use std::ops::Range;

use super::arguments::{Arguments, Format, down_to, own_groups, up_to};
use super::compressed::Compressed;
use super::share::{Part, Share, Sizes};
use crate::engine::Double;
use crate::model::{KeyValue, LayerCache, Model};
use crate::units::Error;

/// Layers of one kind in a pool, and what all of them keep of one token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pooled {
    /// The kind, as among layer groups.
    pub(super) kind: &'static str,
    /// How many.
    pub(super) layers: u64,
    /// Bytes of a token in all of them.
    pub(super) token: u64,
}

/// What a rank keeps of tokens.
#[derive(Debug, Clone)]
pub(super) enum Tokens {
    /// One pool for all layers.
    One {
        /// The layers.
        parts: Vec<Pooled>,
        /// What drafting layers are taken to keep of a token.
        draft: u64,
    },
    /// A pool for layers that keep every token and one for those that slide.
    Two {
        /// Layers that keep every token.
        full: Pooled,
        /// Layers that slide.
        window: Pooled,
        /// What drafting layers are taken to keep, in each pool.
        draft: (u64, u64),
    },
    /// The pools of `DeepSeek`-V4.
    Compressed(Compressed),
}

/// Layers of `group` within a stage, those of a drafter left out.
fn count(model: &Model, stage: &Range<u32>, wanted: impl Fn(&LayerCache) -> bool) -> u64 {
    let within = |layers: &[u32], own: usize| {
        let own = layers.get(..own).unwrap_or_default();
        own.partition_point(|&layer| layer < stage.end)
            .saturating_sub(own.partition_point(|&layer| layer < stage.start))
    };
    let groups = own_groups(model).filter(|(group, _)| wanted(&group.cache));
    groups.map(|(group, own)| u64::try_from(within(&group.layers, own)).unwrap_or(u64::MAX)).sum()
}

/// The heads of layers of one kind, which SGLang takes to be alike.
struct Geometry {
    heads: u64,
    head_dim: u64,
    v_head_dim: u64,
}

impl Geometry {
    /// Elements of K and of V on a rank: heads are divided and rounded down, to one at least.
    fn elements(&self, tp: u64) -> u64 {
        self.on_rank(tp).saturating_mul(self.head_dim.saturating_add(self.v_head_dim))
    }

    fn on_rank(&self, tp: u64) -> u64 {
        self.heads.checked_div(tp).unwrap_or_default().max(1)
    }
}

/// The heads of the layers that are wanted, if there are any.
fn heads(
    model: &Model,
    engine: &super::Engine,
    wanted: impl Fn(&LayerCache) -> bool,
) -> Result<Option<Geometry>, Error> {
    let mut entries =
        own_groups(model).filter(|(group, _)| wanted(&group.cache)).filter_map(|(group, _)| group.cache.key_value());
    let Some(first) = entries.next() else { return Ok(None) };
    if entries.any(|other| other != first) {
        let reason = "has layers of different heads, which SGLang 0.5.23 does not support";
        return Err(engine.refusal("MODEL", &model.name, reason, "use --engine ideal"));
    }
    match (first, first.head_dims()) {
        (
            KeyValue::Heads { num_key_value_heads: heads, .. }
            | KeyValue::ArticleShortcut { num_key_value_heads: heads, .. },
            Some((head_dim, v_head_dim)),
        ) => Ok(Some(Geometry { heads, head_dim, v_head_dim })),
        (KeyValue::Vector { elements }, _) => Ok(Some(Geometry { heads: 1, head_dim: elements, v_head_dim: 0 })),
        _ => {
            let reason = "is no whole number of heads wide (the article's shortcut)";
            Err(engine.refusal("MODEL", &model.name, reason, "give --heads or --head-dim"))
        }
    }
}

impl Tokens {
    /// What a rank of this stage keeps.
    pub(super) fn of(
        model: &Model,
        arguments: &Arguments,
        engine: &super::Engine,
        stage: &Range<u32>,
    ) -> Result<Self, Error> {
        if arguments.compressed {
            return Compressed::of(model, arguments, engine, |wanted| count(model, stage, wanted))
                .map(Self::Compressed);
        }
        let slides =
            |cache: &LayerCache| matches!(cache, LayerCache::SlidingWindow { .. } | LayerCache::ChunkedLocal { .. });
        let full = |cache: &LayerCache| matches!(cache, LayerCache::FullAttention { .. });
        if arguments.window.is_some() {
            return Self::two(model, arguments, engine, stage, full, slides);
        }
        let recurs = arguments.states.is_some();
        let all = u64::from(stage.end.saturating_sub(stage.start));
        let mut parts = if arguments.latent {
            latents(model, arguments, stage, if recurs { None } else { Some(all) })
        } else {
            let of_full = heads(model, engine, full)?;
            let found = match of_full {
                Some(heads) => Some(heads),
                None => match heads(model, engine, slides)? {
                    Some(heads) => Some(heads),
                    None => heads(model, engine, |cache| matches!(cache, LayerCache::CrossAttention { .. }))?,
                },
            };
            let attends = |cache: &LayerCache| full(cache) || slides(cache);
            let layers = if recurs { count(model, stage, attends) } else { all };
            let token = found.map_or(0, |heads| plain(&heads, layers, arguments));
            vec![Pooled { kind: "full_attention", layers, token }]
        };
        if arguments.index_element > 0 {
            let index = |cache: &LayerCache| matches!(cache, LayerCache::Indexer { .. });
            let elements = own_groups(model).find_map(|(group, _)| match group.cache {
                LayerCache::Indexer { index_head_dim, .. } => Some(index_head_dim),
                _ => None,
            });
            let layers = count(model, stage, index);
            let token = layers.saturating_mul(elements.unwrap_or_default()).saturating_mul(arguments.index_element);
            parts.push(Pooled { kind: "indexer", layers, token });
        }
        let draft = draft_of_one(&parts, arguments);
        Ok(Self::One { parts, draft })
    }

    fn two(
        model: &Model,
        arguments: &Arguments,
        engine: &super::Engine,
        stage: &Range<u32>,
        full: impl Fn(&LayerCache) -> bool,
        slides: impl Fn(&LayerCache) -> bool,
    ) -> Result<Self, Error> {
        // Layers that share another's cache are given their own; of which kind, the list of kinds says.
        let shared = count(model, stage, |cache| matches!(cache, LayerCache::Shared));
        let shared_sliding = if shared == 0 {
            0
        } else {
            let listed = model.checkpoint.shared_sliding_layers;
            listed
                .ok_or_else(|| {
                    let reason = "has layers that share a cache, and no list that says which of them slide";
                    engine.refusal("MODEL", &model.name, reason, "use --engine ideal")
                })?
                .min(shared)
        };
        let token = |heads: Option<Geometry>| {
            heads.map_or(0, |heads| {
                let elements = heads.elements(arguments.attention_tp);
                let scales = if arguments.format == Format::Mxfp8 { elements / 32 } else { 0 };
                elements.saturating_mul(arguments.format.element()).saturating_add(scales)
            })
        };
        let full_token = token(heads(model, engine, &full)?);
        let window_token = token(heads(model, engine, &slides)?);
        let full = count(model, stage, full).saturating_add(shared.saturating_sub(shared_sliding));
        let window = count(model, stage, slides).saturating_add(shared_sliding);
        let (of_full, of_window) =
            arguments.draft.map_or((0, 0), |draft| (draft.layers.saturating_sub(draft.sliding), draft.sliding));
        Ok(Self::Two {
            full: Pooled { kind: "full_attention", layers: full, token: full.saturating_mul(full_token) },
            window: Pooled { kind: "sliding_attention", layers: window, token: window.saturating_mul(window_token) },
            draft: (of_full.saturating_mul(full_token), of_window.saturating_mul(window_token)),
        })
    }

    /// Bytes of a token of the most tokens, as SGLang divides its budget by them.
    pub(super) fn cell(&self, arguments: &Arguments) -> Double {
        match self {
            Self::One { parts, draft } => Double::whole(sum(parts).saturating_add(*draft)),
            Self::Two { full, window, draft } if full.layers == 0 => {
                Double::whole(window.token.saturating_add(draft.0).saturating_add(draft.1))
            }
            Self::Two { full, window, draft } => {
                let window = Double::whole(window.token.saturating_add(draft.1));
                Double::whole(full.token.saturating_add(draft.0)).plus(arguments.window_ratio.times(window))
            }
            Self::Compressed(pools) => pools.cell(arguments),
        }
    }

    /// How many tokens a budget holds.
    pub(super) fn sizes(&self, budget: u64, arguments: &Arguments) -> Result<Sizes, String> {
        let tokens = match self {
            // Where nothing grows: as many as asked for.
            Self::One { parts, draft } => budget
                .checked_div(sum(parts).saturating_add(*draft))
                .unwrap_or(arguments.max_tokens.unwrap_or(arguments.context)),
            Self::Two { full, window, draft } if full.layers > 0 => {
                if let Some(cap) = arguments.window_cap() {
                    let token = full.token.saturating_add(draft.0);
                    let full = Self::beside(cap, window.token.saturating_add(draft.1), token, budget, arguments)?;
                    return Ok(Sizes { full, window: Some(cap), total: full });
                }
                if arguments.unified {
                    self.unified(budget, arguments)
                } else {
                    Double::whole(budget).floor_div(self.cell(arguments)).truncated()
                }
            }
            Self::Two { .. } => Double::whole(budget).floor_div(self.cell(arguments)).truncated(),
            Self::Compressed(pools) => pools.tokens(budget, arguments)?,
        };
        let sizes = self.of_tokens(tokens, arguments)?;
        if sizes.total == 0 { Err("not enough memory for one page of the cache".into()) } else { Ok(sizes) }
    }

    /// Full tokens beside a window's pool of `cap` tokens.
    fn beside(cap: u64, window: u64, full: u64, budget: u64, arguments: &Arguments) -> Result<u64, String> {
        let fixed = u128::from(cap).saturating_mul(u128::from(window));
        let rest = u128::from(budget).checked_sub(fixed);
        let tokens = rest.and_then(|rest| rest.checked_div(u128::from(full))).unwrap_or_default();
        match down_to(u64::try_from(tokens).unwrap_or(u64::MAX), arguments.page) {
            0 => Err(format!(
                "SWA pool cap ({cap} tokens, {fixed} bytes) leaves no room for the full KV pool within the available \
                 {budget} bytes; reduce --max-running-requests"
            )),
            tokens => Ok(tokens),
        }
    }

    /// The pools of so many tokens, in whole pages.
    pub(super) fn of_tokens(&self, tokens: u64, arguments: &Arguments) -> Result<Sizes, String> {
        let total = down_to(tokens, arguments.page);
        let window = match self {
            Self::One { .. } => None,
            Self::Two { full, .. } if full.layers == 0 => {
                return Ok(Sizes { full: 0, window: Some(total), total });
            }
            Self::Two { .. } | Self::Compressed(_) => match arguments.window_cap() {
                Some(cap) => Some(cap.min(tokens)),
                None => Some(window_share(total, arguments.page, arguments)),
            },
        };
        let by_ratio = arguments.window_cap().is_none() && !arguments.unified;
        let too_small = window.filter(|_| by_ratio).and_then(|window| Self::holds_no_request(window, arguments));
        too_small.map_or(Ok(Sizes { full: total, window, total }), Err)
    }

    /// Why a window's pool of so many tokens can't hold one request (`validate_swa_pool_size`).
    fn holds_no_request(tokens: u64, arguments: &Arguments) -> Option<String> {
        let (window, page) = (arguments.window?, arguments.page);
        (window.saturating_add(page) >= tokens).then(|| {
            format!(
                "SWA pool ({tokens} tokens) cannot hold even one request: the prefill admission floor is \
                 sliding_window_size ({window}) + page_size ({page}); increase --swa-full-tokens-ratio or --memory"
            )
        })
    }

    /// The most tokens whose two pools fit into one buffer, in whole pages (`_max_unified_full_tokens`).
    fn unified(&self, budget: u64, arguments: &Arguments) -> u64 {
        let Self::Two { full, window, draft } = self else { return 0 };
        let takes = |tokens: u64| {
            let of_window = window_share(tokens, arguments.page, arguments);
            let own = u128::from(tokens)
                .saturating_mul(u128::from(full.token))
                .saturating_add(u128::from(of_window).saturating_mul(u128::from(window.token)));
            let draft = u128::from(draft.0.saturating_add(draft.1));
            // A draft pool spans the ids of the whole buffer.
            let span = own.checked_div(u128::from(full.token)).unwrap_or_default().saturating_sub(1);
            let page = u128::from(arguments.page.max(1));
            let pages = span.div_ceil(page).saturating_add(1).saturating_mul(page);
            own.saturating_add(pages.saturating_mul(draft))
        };
        let page = arguments.page.max(1);
        let most = budget.checked_div(full.token).unwrap_or_default().checked_div(page).unwrap_or_default();
        let (mut fits, mut fails) = (0u64, most.saturating_add(1));
        while fails.saturating_sub(fits) > 1 {
            let middle = fits.midpoint(fails);
            let within = takes(middle.saturating_mul(page)) <= u128::from(budget);
            if within { fits = middle } else { fails = middle }
        }
        fits.saturating_mul(page)
    }

    /// Bytes of pools of these sizes, each with `padding` more tokens; `requests` may run.
    pub(super) fn shares(&self, sizes: Sizes, padding: u64, requests: u64, arguments: &Arguments) -> Vec<Share> {
        let share = |layers: &Pooled, part: Part, tokens: u64| Share {
            kind: layers.kind,
            part,
            layers: layers.layers,
            tokens,
            bytes: u128::from(tokens.saturating_add(padding)).saturating_mul(u128::from(layers.token)),
        };
        let draft = |kind: &'static str, token: u64, tokens: u64| {
            let layers = Pooled { kind, layers: arguments.draft.map_or(0, |draft| draft.layers), token };
            (token > 0).then(|| share(&layers, Part::Draft, tokens))
        };
        match self {
            Self::One { parts, draft: token } => {
                let kind = parts.first().map_or("full_attention", |part| part.kind);
                let parts = parts.iter().filter(|part| part.layers > 0).map(|part| share(part, Part::Full, sizes.full));
                parts.chain(draft(kind, *token, sizes.full)).collect()
            }
            Self::Two { full, window, draft: (of_full, of_window) } => {
                let of_pool = sizes.window.unwrap_or_default();
                let full = Some(full).filter(|full| full.layers > 0).map(|full| share(full, Part::Full, sizes.full));
                let own = full.into_iter().chain([share(window, Part::Window, of_pool)]);
                let drafts =
                    [draft("full_attention", *of_full, sizes.full), draft("sliding_attention", *of_window, of_pool)];
                own.chain(drafts.into_iter().flatten()).collect()
            }
            Self::Compressed(pools) => pools.shares(sizes, requests),
        }
    }
}

fn sum(parts: &[Pooled]) -> u64 {
    parts.iter().fold(0, |sum, part| sum.saturating_add(part.token))
}

/// What `layers` layers with these heads keep of a token.
fn plain(heads: &Geometry, layers: u64, arguments: &Arguments) -> u64 {
    let elements = heads.elements(arguments.attention_tp).saturating_mul(layers);
    let rank = heads.on_rank(arguments.attention_tp);
    let twice = layers.saturating_mul(2);
    let packed = rank.saturating_mul(heads.head_dim / 2).saturating_mul(twice);
    match arguments.format {
        Format::Fp4MxBlock16 => packed.saturating_add((rank.saturating_mul(heads.head_dim) / 16).saturating_mul(twice)),
        Format::Nvfp4 => {
            let scales = rank.saturating_mul(heads.head_dim / 16).saturating_mul(twice);
            let (linear, workspace) = if arguments.unpacks {
                (scales, rank.saturating_mul(heads.head_dim).saturating_mul(2))
            } else {
                (0, 0)
            };
            let native = if arguments.native_scales { scales } else { 0 };
            packed.saturating_add(linear).saturating_add(native).saturating_add(workspace)
        }
        Format::Mxfp8 => elements.saturating_add(elements / 32),
        format => elements.saturating_mul(format.element()),
    }
}

/// The latents, and the index beside them: `all` layers of a model without states, else those that have a latent.
fn latents(model: &Model, arguments: &Arguments, stage: &Range<u32>, all: Option<u64>) -> Vec<Pooled> {
    let is_latent = |cache: &LayerCache| matches!(cache, LayerCache::Latent { .. });
    let dims = own_groups(model).find_map(|(group, _)| match group.cache {
        LayerCache::Latent { kv_lora_rank, qk_rope_head_dim } => Some((kv_lora_rank, qk_rope_head_dim)),
        _ => None,
    });
    let (rank, rope) = dims.unwrap_or_default();
    let layers = all.unwrap_or_else(|| count(model, stage, is_latent));
    let raw = rank.saturating_add(rope);
    // In fp8 with the scale of each 128 elements, the rotary part in bf16.
    let scaled = rank.saturating_add((rank / 128).saturating_mul(4)).saturating_add(rope.saturating_mul(2));
    let width =
        if arguments.indexed && !arguments.raw_latents && arguments.format == Format::Fp8E4m3 { scaled } else { raw };
    let plain = width.saturating_mul(layers).saturating_mul(arguments.format.element());
    let token =
        if arguments.format.is_fp4() { (plain / 2).saturating_add((raw / 16).saturating_mul(layers)) } else { plain };
    let mut parts = vec![Pooled { kind: "latent_attention", layers, token }];
    if arguments.indexed {
        let layers = count(model, stage, |cache| matches!(cache, LayerCache::Indexer { .. }));
        parts.push(Pooled { kind: "indexer", layers, token: layers.saturating_mul(index_token(model)) });
    }
    parts
}

/// An index key in fp8 with the scale of each 128 elements.
fn index_token(model: &Model) -> u64 {
    let dim = own_groups(model).find_map(|(group, _)| match group.cache {
        LayerCache::Indexer { index_head_dim, .. } => Some(index_head_dim),
        _ => None,
    });
    let dim = dim.unwrap_or_default();
    dim.saturating_add((dim / 128).saturating_mul(4))
}

/// What drafting layers are taken to keep of a token: as much as each of the model's own; an index of each.
fn draft_of_one(parts: &[Pooled], arguments: &Arguments) -> u64 {
    let Some(draft) = arguments.draft.filter(|draft| draft.layers > 0) else { return 0 };
    let Some(main) = parts.first().filter(|main| main.layers > 0) else { return 0 };
    let index = parts.get(1).filter(|_| arguments.indexed);
    // MiniMax-M3's is spread with all else.
    let spread = if arguments.indexed { main.token } else { sum(parts) };
    let own = Double::whole(spread.saturating_mul(draft.layers)).over(Double::whole(main.layers)).truncated();
    let of_index = index.and_then(|index| index.token.checked_div(index.layers)).unwrap_or_default();
    own.saturating_add(of_index.saturating_mul(draft.layers))
}

/// Window tokens beside so many full ones, by the ratio.
pub(super) fn window_share(tokens: u64, page: u64, arguments: &Arguments) -> u64 {
    down_to(arguments.window_ratio.times(Double::whole(tokens)).truncated(), page)
}

/// The least full tokens, in whole pages, whose share is at least `window`.
pub(super) fn full_for(window: u64, page: u64, arguments: &Arguments) -> u64 {
    let mut full = up_to(Double::whole(window).over(arguments.window_ratio).truncated(), page);
    while full < u64::MAX / 2 && window_share(full, page, arguments) < window {
        full = full.saturating_add(page.max(1));
    }
    full
}

/// Whole pages of `tokens` tokens of each of some requests, of which `shared` are the same ones.
pub(super) fn tokens_of(requests: u64, seq_len: u64, shared: u64, page: u64) -> u64 {
    let each = up_to(seq_len, page);
    let shared = if requests > 1 { down_to(shared.min(seq_len), page) } else { 0 };
    each.saturating_sub(shared).saturating_mul(requests).saturating_add(shared)
}
