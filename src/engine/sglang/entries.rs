//! What a token costs in the layers of a pool: heads divided over ranks, whole latents, and their indices
//! (`mem_cache/kv_cache_configurator.py`).

use super::arguments::{Arguments, Entries};
use super::format::Format;
use super::layers::{SLIDING, Stage, groups_of, index_head_dim, index_key};
use super::pools::{Pool, Pooled};
use crate::engine::Double;
use crate::model::{CacheKind as Kind, KeyValue, LayerCache, Model};
use crate::units::{Error, Exact};

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
