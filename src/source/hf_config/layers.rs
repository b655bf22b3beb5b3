//! What each layer caches, from its kind and the keys of its mechanism.

use serde_json::Value;

use super::keys::{Keys, wrong_type};
use super::layer_kinds::{LayerKind, layer_kinds, window_gate};
use super::{attention, recurrent};
use crate::catalogue::MtpKind;
use crate::model::{CacheKind as Kind, Dimension, KeyValue, LayerCache, LayerGroup, layer_count};
use crate::units::{Code, ElementFormat, Error, Exact, Tokens};

/// What is known when the layers are read.
pub(super) struct LayerKeys<'a> {
    pub(super) keys: &'a Keys<'a>,
    pub(super) root: &'a Keys<'a>,
    pub(super) layers: u32,
    pub(super) dtype: ElementFormat,
    pub(super) encoder_decoder: bool,
}

impl LayerKeys<'_> {
    /// What each layer caches.
    pub(super) fn layers(&self) -> Result<Vec<Vec<LayerCache>>, Error> {
        let keys = self.keys;
        let window = self.window()?;
        let sliding = if window.is_some() { LayerKind::Sliding } else { LayerKind::Full };
        let kinds = layer_kinds(keys, self.layers, sliding)?;
        let mut layers: Vec<Vec<LayerCache>> = vec![Vec::new(); kinds.len()];
        if kinds.contains(&LayerKind::Compressed) {
            // K and V are one vector.
            let entry = KeyValue::Vector { elements: keys.needed(&["head_dim"])? };
            let beside = compressed_caches(keys, &kinds)?;
            for (caches, beside) in layers.iter_mut().zip(beside) {
                caches.push(self.sliding(entry, window)?);
                caches.extend(beside);
            }
        } else if let Some(latent) = attention::latent(keys)? {
            let vector = latent.key_value().unwrap_or(KeyValue::Vector { elements: 0 });
            for (caches, kind) in layers.iter_mut().zip(&kinds).filter(|(_, kind)| kind.attends()) {
                caches.push(if kind.slides() { self.sliding(vector, window)? } else { latent });
            }
        } else if kinds.iter().any(|kind| kind.attends() || *kind == LayerKind::Cross) {
            let entries = attention::key_values(keys, &kinds)?;
            let bounds = [window, self.chunk(&kinds)?];
            for ((caches, kind), entry) in layers.iter_mut().zip(&kinds).zip(entries) {
                let Some(key_value) = entry else { continue };
                caches.push(self.attention(*kind, key_value, bounds)?);
                if self.encoder_decoder {
                    let encoder_tokens = self.encoder_tokens()?;
                    caches.push(LayerCache::CrossAttention { key_value, encoder_tokens, optional: false });
                }
            }
        }
        if let Some((cache, on)) = attention::index(keys, &kinds)? {
            add(cache, on, &mut layers);
        }
        if kinds.iter().any(|kind| kind.recurs()) {
            let state = LayerCache::Recurrent(recurrent::state(keys, self.dtype)?);
            add(state, kinds.iter().map(|kind| kind.recurs()), &mut layers);
        }
        add(LayerCache::Shared, kinds.iter().map(|kind| *kind == LayerKind::Shared), &mut layers);
        self.share(&mut layers)?;
        Ok(layers)
    }

    /// The cache of a layer with attention of this kind.
    fn attention(&self, kind: LayerKind, key_value: KeyValue, bound: [Option<Tokens>; 2]) -> Result<LayerCache, Error> {
        use LayerKind as L;
        let [window, chunk] = bound;
        let full = LayerCache::FullAttention { key_value };
        Ok(match kind {
            L::Sliding | L::HybridSliding => self.sliding(key_value, window)?,
            L::Chunked => chunk.map_or(full, |chunk| LayerCache::ChunkedLocal { key_value, chunk }),
            L::Cross => LayerCache::CrossAttention { key_value, encoder_tokens: self.image_tokens()?, optional: true },
            L::Full | L::Hybrid | L::Compressed | L::Recurrent | L::Shared | L::None => full,
        })
    }

    /// The MTP layers: of the model's own attention, with their own index where the model has one; of compressed attention only the window (vLLM 0.33 `models/deepseek_v2.py`, `transformers_utils/deepseek_v4_utils.py`).
    pub(super) fn mtp_groups(&self, layers: &[Vec<LayerCache>]) -> Result<Vec<LayerGroup>, Error> {
        let rule = self.keys.model_type.and_then(|class| class.mtp.as_ref());
        let keys = ["num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules", "num_mtp_layers"];
        let counted = self.keys.count_or_off(&keys)?;
        let unsaid = |_: &_| keys.iter().all(|key| self.keys.get(key).is_none());
        let count = match (rule.and_then(|rule| rule.layers), counted) {
            (None, Some(counted)) => layer_count(counted)?,
            (built, _) => {
                let built = built.or_else(|| rule?.uncounted.filter(unsaid)).unwrap_or_default();
                u32::try_from(built).unwrap_or_default()
            }
        };
        let listed = |key| self.keys.list(key).map(Option::unwrap_or_default);
        // Lists that are longer than the model go on with these layers (Step).
        let kinds: Vec<&Value> =
            listed("mtp_layer_types")?.iter().chain(listed("layer_types")?.iter().skip(layers.len())).collect();
        let attends = |cache: &&LayerCache| cache.key_value().is_some() || matches!(cache, LayerCache::Latent { .. });
        let caches = layers.iter().flatten();
        let of_kind = |wanted: fn(&LayerCache) -> bool| caches.clone().rev().find(|cache| wanted(cache)).copied();
        let sliding = || of_kind(|cache| matches!(cache, LayerCache::SlidingWindow { .. }));
        let full = || of_kind(|cache| matches!(cache, LayerCache::FullAttention { .. } | LayerCache::Latent { .. }));
        let compressed = caches.clone().any(|cache| matches!(cache, LayerCache::Compressed { .. }));
        let index = of_kind(|cache| matches!(cache, LayerCache::Indexer { ratio: 1, .. }));
        let of_layer = |layer: usize| {
            let attention = match (kinds.get(layer).and_then(|kind| kind.as_str()), rule.and_then(|rule| rule.kind)) {
                (Some("sliding_attention"), _) | (None, Some(MtpKind::SlidingAttention)) => sliding(),
                (None, Some(MtpKind::SameIndex)) => layers.get(layer).and_then(|of| of.iter().find(attends)).copied(),
                _ if compressed => sliding(),
                _ => full(),
            };
            attention.into_iter().chain(index).collect()
        };
        Ok(grouped(self.layers, &(0..count as usize).map(of_layer).collect::<Vec<Vec<LayerCache>>>()))
    }

    /// W, unless it is switched off.
    fn window(&self) -> Result<Option<Tokens>, Error> {
        let keys = self.keys;
        let given = match keys.count_or_off(&["sliding_window", "window_size", "attention_window_size"])? {
            // ModernBERT's is two-sided; a decoder looks back by half of it.
            None => keys.count_or_off(&["local_attention"])?.map(|both| Dimension { value: both.value / 2, ..both }),
            given => given,
        };
        if let Some(gate) = window_gate(keys)
            && !keys.flag(gate)?
        {
            if given.is_some() {
                keys.assume(format!("sliding_window is not used: {} is false", keys.field(gate)));
            }
            return Ok(None);
        }
        let window = given.or_else(|| keys.default("sliding_window"));
        // Attention in both directions sees half of the window on each side (transformers 5.23 `configuration_gemma3.py`).
        let both_ways = [Value::Bool(true), Value::from("all")];
        if keys.get("use_bidirectional_attention").is_some_and(|value| both_ways.contains(value))
            && let Some(window) = &window
        {
            let (both, halved) = (window.value, (Exact::from(window.value / 2) + 1u64).get()?);
            keys.assume(format!("attention is bidirectional: of a window of {both}, {halved} tokens are kept"));
            return Ok(Some(Tokens(halved)));
        }
        Ok(window.map(|window| Tokens(window.value)))
    }

    fn sliding(&self, key_value: KeyValue, window: Option<Tokens>) -> Result<LayerCache, Error> {
        let keys = self.keys;
        let window = window.ok_or_else(|| self.no_window())?;
        let transformers_window = if keys.get("window_size").is_some() {
            None
        } else if let Some(size) = keys.count_or_off(&["sliding_window_size"])? {
            // It counts the tokens before the current one (transformers 5.23 `configuration_mimo_v2_flash.py`).
            Some((Exact::from(size.value) + 1u64).tokens()?)
        } else {
            Some(window)
        };
        Ok(LayerCache::SlidingWindow { key_value, window, transformers_window })
    }

    /// Why layers that slide have no window: the key that switches it off, or the one that would give it.
    fn no_window(&self) -> Error {
        let keys = self.keys;
        let off = window_gate(keys).filter(|gate| keys.get(gate) == Some(&Value::Bool(false)));
        let key = off.unwrap_or("sliding_window");
        let found = keys.object.get(key).map(Value::to_string);
        let problem = if found.is_some() { "although" } else { "missing although" };
        let problem = format!("{problem} layers are sliding_attention");
        let remedy = "give sliding_window, and do not switch it off: without it their cache has no size";
        Error { found, ..Error::without_value(Code::NoWindow, keys.field(key), problem, remedy) }
    }

    /// C, where layers are chunked; none where it is switched off and they keep every token (vLLM 0.33 `models/llama4.py`).
    fn chunk(&self, kinds: &[LayerKind]) -> Result<Option<Tokens>, Error> {
        const KEY: &str = "attention_chunk_size";
        if !kinds.contains(&LayerKind::Chunked) {
            return Ok(None);
        }
        let chunk = self.keys.count_or_default(&[KEY])?;
        if chunk.is_none() {
            let found = self.keys.object.get(KEY).map_or_else(|| "missing".into(), Value::to_string);
            self.keys.assume(format!("{} is {found}: chunked layers keep every token", self.keys.field(KEY)));
        }
        Ok(chunk.map(|chunk| Tokens(chunk.value)))
    }

    /// The most tokens an encoder gives: its positions.
    fn encoder_tokens(&self) -> Result<Option<Tokens>, Error> {
        let positions =
            ["max_source_positions", "max_encoder_position_embeddings", "max_position_embeddings", "n_positions"];
        Ok(self.keys.count_or_off(&positions)?.map(|positions| Tokens(positions.value)))
    }

    /// The tokens of an image of the most tiles: `((image_size / patch_size)² + 1) × max_num_tiles` (Llama 3.2 Vision).
    fn image_tokens(&self) -> Result<Option<Tokens>, Error> {
        let Some(vision) = self.root.inner("vision_config")? else { return Ok(None) };
        let size = vision.needed(&["image_size"])?;
        let patch = vision.needed(&["patch_size"])?;
        let tiles = vision.needed(&["max_num_tiles"])?;
        let across = Exact::from(size) / patch;
        ((across * across + 1u64) * tiles).tokens().map(Some)
    }

    /// Layers that read an earlier layer's cache: the last ones (Gemma 3n and 4), or all but the first of each few
    /// (cross-layer attention).
    fn share(&self, layers: &mut [Vec<LayerCache>]) -> Result<(), Error> {
        let count = layers.len();
        let keys = self.keys;
        if let Some(shared) = keys.count_or_off(&["num_kv_shared_layers"])? {
            let own = usize::try_from(shared.value).ok().and_then(|shared| count.checked_sub(shared));
            let own = own.ok_or_else(|| {
                let problem = format!("is more than the {} layers", self.layers);
                let found = shared.value.to_string();
                Error::new(Code::TooManyShared, shared.field.clone(), found, problem, "give fewer")
            })?;
            share_from(own, layers);
        }
        if keys.flag("use_cla")? {
            let factor = keys.needed(&["cla_share_factor"])?;
            let step = usize::try_from(factor).unwrap_or(usize::MAX).max(1);
            for (_, caches) in layers.iter_mut().enumerate().filter(|(layer, _)| !layer.is_multiple_of(step)) {
                *caches = vec![LayerCache::Shared];
            }
        }
        Ok(())
    }
}

/// Layers with the same cache together, numbered from `first`; a layer without any is in a group of its own kind.
pub(in crate::source) fn grouped(first: u32, layers: &[Vec<LayerCache>]) -> Vec<LayerGroup> {
    let mut groups: Vec<LayerGroup> = Vec::new();
    for (layer, caches) in (first..).zip(layers) {
        let none = [LayerCache::None];
        for cache in if caches.is_empty() { none.as_slice() } else { caches.as_slice() } {
            match groups.iter_mut().find(|group| group.cache == *cache) {
                Some(group) => group.layers.push(layer),
                None => groups.push(LayerGroup { layers: vec![layer], cache: *cache }),
            }
        }
    }
    let first = [Kind::Full, Kind::Latent, Kind::Sliding, Kind::Chunked, Kind::Compressed];
    let place = |kind| first.iter().position(|known| *known == kind).unwrap_or(first.len());
    groups.sort_by_key(|group| (place(group.cache.cache_kind()), group.cache.cache_kind() as usize));
    groups
}

/// Adds a cache to each layer that has it.
pub(in crate::source) fn add(cache: LayerCache, on: impl IntoIterator<Item = bool>, layers: &mut [Vec<LayerCache>]) {
    layers.iter_mut().zip(on).filter(|(_, on)| *on).for_each(|(caches, _)| caches.push(cache));
}

/// From this layer on all that cache read an earlier layer's cache.
pub(in crate::source) fn share_from(first: usize, layers: &mut [Vec<LayerCache>]) {
    let sharing = layers.iter_mut().skip(first).filter(|caches| !caches.is_empty());
    sharing.for_each(|caches| *caches = vec![LayerCache::Shared]);
}

// DeepSeek-V4's layers: a window, one vector for every few tokens before it, and an index of those (vLLM 0.33
// `models/deepseek_v4/attention.py`, `compressor.py`; `transformers_utils/deepseek_v4_utils.py`).

/// Layers that compress by this ratio overlap their windows, and have an index.
pub(in crate::source) const OVERLAPPING_RATIO: u64 = 4;

/// The caches of each layer in addition to its window.
fn compressed_caches(keys: &Keys<'_>, kinds: &[LayerKind]) -> Result<Vec<Vec<LayerCache>>, Error> {
    let head_dim = keys.needed(&["head_dim"])?;
    let index_head_dim = keys.count_or_off(&["index_head_dim"])?.map(|dimension| dimension.value);
    let of_layer = |ratio: Option<u64>| {
        let Some(ratio) = ratio else { return Ok(Vec::new()) };
        let index = index_head_dim.filter(|_| ratio == OVERLAPPING_RATIO);
        let states = [Some(head_dim), index].into_iter().flatten().map(|dim| state_elements(ratio, dim));
        let too_wide = |_| wrong_type(keys.field("head_dim"), &Value::from(head_dim), "a possible width");
        let state_elements = states.sum::<Exact>().get().map_err(too_wide)?;
        let compressed = LayerCache::Compressed { head_dim, ratio, state_elements };
        let index = index.map(|index_head_dim| LayerCache::Indexer { index_head_dim, ratio });
        Ok([Some(compressed), index].into_iter().flatten().collect())
    };
    ratios(keys, kinds.len())?.into_iter().map(of_layer).collect()
}

/// Rows of the input that the compressor has not closed yet: two windows of it where windows overlap, and each row twice as
/// wide; and as many scores.
fn state_elements(ratio: u64, dim: u64) -> Exact {
    let overlap: u64 = if ratio == OVERLAPPING_RATIO { 2 } else { 1 };
    Exact::from(overlap) * ratio * 2u64 * overlap * dim
}

/// The ratio of each layer that compresses.
fn ratios(keys: &Keys<'_>, layers: usize) -> Result<Vec<Option<u64>>, Error> {
    // A list of ratios has said its length when the kinds were read from it.
    let said = keys.get("layer_types").is_none();
    let list = if said { Keys::per_layer_unsaid } else { Keys::per_layer };
    if let Some(list) = list(keys, "compress_ratios", layers)? {
        let ratio = |value: &Value| match value.as_u64() {
            Some(ratio) => Ok(Some(ratio).filter(|&ratio| ratio > 1)),
            None => Err(wrong_type(keys.field("compress_ratios"), value, "a list of whole numbers")),
        };
        return list.iter().map(ratio).collect();
    }
    let rates = keys.inner("compress_rates")?;
    let names = keys.list("layer_types")?.unwrap_or_default();
    let rate = |name: &'static str, value: u64| -> Result<u64, Error> {
        if let Some(given) = rates.as_ref().map(|rates| rates.count(&[name])).transpose()?.flatten() {
            return Ok(given.value);
        }
        if names.iter().any(|kind| *kind == name) {
            let key = keys.field(&format!("compress_rates.{name}"));
            keys.assume(format!("{key} is not in the config: {value}, the ratio of such layers in DeepSeek-V4"));
        }
        Ok(value)
    };
    let sparse = rate("compressed_sparse_attention", 4)?;
    let heavy = rate("heavily_compressed_attention", 128)?;
    let ratio = |layer: usize| match names.get(layer).and_then(Value::as_str) {
        Some("compressed_sparse_attention") => Some(sparse),
        Some("heavily_compressed_attention") => Some(heavy),
        _ => None,
    };
    Ok((0..layers).map(ratio).collect())
}
