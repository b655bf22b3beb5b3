//! What each layer caches, by the keys of the architecture and its rules.

use super::keys::Keys;
use crate::catalogue::{GgufArchitecture, ReadingRule, RecurrentRule, WindowKey, WindowLayers, WindowRule};
use crate::model::{Dimension, GgufFeature, KeyValue, LayerCache, layer_count};
use crate::source::hf_config::{add, share_from};
use crate::units::{Error, Exact, Tokens, once};

/// What was read of the layers.
pub(super) struct Layers {
    /// The caches of each layer, MTP layers at the end.
    pub(super) caches: Vec<Vec<LayerCache>>,
    /// How many are the model's own, and not MTP layers.
    pub(super) own: usize,
    /// The head dimensions of the model's own layers, each pair once.
    pub(super) head_dims: Vec<HeadDims>,
    /// The widest V of all layers.
    pub(super) widest_value: u64,
}

/// Elements of K and V in one head.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadDims {
    pub(super) k: u64,
    pub(super) v: u64,
}

/// How many layers there are, and the heads of each.
pub(super) struct Counts {
    /// With MTP layers.
    pub(super) all: usize,
    /// Of the model itself.
    pub(super) own: usize,
    pub(super) heads: Vec<u64>,
    pub(super) kv_heads: Vec<u64>,
}

/// The heads and kinds of the layers, before they are turned into caches.
pub(super) struct LayerKeys<'a> {
    pub(super) keys: &'a Keys<'a>,
    pub(super) rules: &'a GgufArchitecture,
    pub(super) counts: Counts,
    /// Of full layers, and of those that slide.
    pub(super) full: HeadDims,
    pub(super) sliding: HeadDims,
    pub(super) slides: Vec<bool>,
    pub(super) window: Option<Tokens>,
    pub(super) recurs: Vec<bool>,
    pub(super) attends: Vec<bool>,
    latent: bool,
}

/// The layers of a file.
pub(super) fn layers(keys: &Keys<'_>, rules: &GgufArchitecture) -> Result<Layers, Error> {
    let layers = LayerKeys::new(keys, rules)?;
    let mut caches = layers.attention()?;
    if let Some(rule) = &rules.indexer {
        layers.index(rule, &mut caches)?;
    }
    if rules.reads(ReadingRule::Compressed) {
        layers.compressed(&mut caches)?;
    }
    if let Some(rule) = rules.state.filter(|_| layers.recurs.contains(&true)) {
        add(LayerCache::Recurrent(layers.state(rule)?), layers.recurs.iter().copied(), &mut caches);
        if rules.reads(ReadingRule::NgramState) {
            layers.ngram_state(&mut caches)?;
        }
    }
    if caches.iter().all(Vec::is_empty) {
        // Without heads none of its layers attends; most likely the key is missing.
        keys.needed("attention.head_count")?;
    }
    layers.share(&mut caches)?;
    let head_dims = once((0..layers.counts.own).map(|layer| layers.dims(layer)));
    let widths = layers.counts.kv_heads.iter().enumerate();
    let widths = widths.map(|(layer, kv_heads)| Exact::from(layers.dims(layer).v) * *kv_heads);
    let widest_value = keys.elements(widths.fold(Exact::ZERO, Exact::max))?;
    Ok(Layers { caches, own: layers.counts.own, head_dims, widest_value })
}

impl Counts {
    fn read(keys: &Keys<'_>, rules: &GgufArchitecture) -> Result<Self, Error> {
        const KEY: &str = "block_count";
        let layer_count = |value: u64| layer_count(Dimension { field: keys.field(KEY), value });
        let written = usize_of(layer_count(keys.needed(KEY)?)?.into());
        if written == 0 {
            return Err(keys.wrong(KEY, "a positive count"));
        }
        let mtp = usize_of(keys.number_or_zero("nextn_predict_layers")?);
        let own = written.checked_sub(mtp);
        let own = own.ok_or_else(|| keys.wrong("nextn_predict_layers", "a part of the layers"))?;
        let absent = rules.nextn_tensor.as_ref().is_some_and(|name| !keys.has_mtp_tensor(&format!("blk.{own}.{name}")));
        let heads = keys.per_layer("attention.head_count", written)?.unwrap_or_else(|| vec![0; written]);
        let kv_heads = keys.per_layer("attention.head_count_kv", written)?.unwrap_or_else(|| heads.clone());
        let own = if absent || own == 0 { written } else { own };
        let mut counts = Self { all: written, own, heads, kv_heads };
        if let Some(key) = &rules.loops_key {
            let loops = keys.number(key)?.unwrap_or(1);
            if loops == 0 {
                return Err(keys.wrong(key, "a positive count"));
            }
            let all = usize_of(layer_count((Exact::from(written) * loops).get()?)?.into());
            let repeated = |heads: Vec<u64>| heads.into_iter().cycle().take(all).collect();
            let Self { heads, kv_heads, .. } = counts;
            counts = Self { all, own: all, heads: repeated(heads), kv_heads: repeated(kv_heads) };
        }
        if rules.reads(ReadingRule::RouterLayer) {
            counts.all = counts.all.saturating_add(1);
            counts.own = counts.own.saturating_add(1);
            counts.heads.push(1);
            counts.kv_heads.push(1);
        }
        Ok(counts)
    }

    /// The head dimensions of full and of sliding layers.
    fn head_dims(&self, keys: &Keys<'_>, rules: &GgufArchitecture) -> Result<(HeadDims, HeadDims), Error> {
        let first = self.heads.first().copied().unwrap_or_default();
        let quotient = keys.needed("embedding_length")?.checked_div(first).unwrap_or_default();
        let with_heads = first > 0 || rules.reads(ReadingRule::OwnHeadDims);
        let dim = |key: &str| -> Result<u64, Error> {
            if with_heads { Ok(keys.number(key)?.unwrap_or(quotient)) } else { Ok(0) }
        };
        let full = HeadDims { k: dim("attention.key_length")?, v: dim("attention.value_length")? };
        let sliding = HeadDims {
            k: keys.number("attention.key_length_swa")?.unwrap_or(full.k),
            v: keys.number("attention.value_length_swa")?.unwrap_or(full.v),
        };
        Ok((full, sliding))
    }
}

impl<'a> LayerKeys<'a> {
    fn new(keys: &'a Keys<'a>, rules: &'a GgufArchitecture) -> Result<Self, Error> {
        let counts = Counts::read(keys, rules)?;
        let (full, sliding) = counts.head_dims(keys, rules)?;
        let latent = rules.features.contains(&GgufFeature::Latent)
            && keys.number_or_zero("attention.key_length_mla")? > 0
            && keys.number_or_zero("attention.value_length_mla")? > 0;
        let (slides, recurs, attends) = (vec![false; counts.all], vec![false; counts.all], vec![true; counts.all]);
        let mut layers = Self { keys, rules, counts, full, sliding, slides, window: None, recurs, attends, latent };
        layers.recurrent()?;
        if let Some(rule) = &rules.window {
            layers.window(rule)?;
        }
        Ok(layers)
    }

    fn slides(&self, layer: usize) -> bool {
        self.slides.get(layer).copied().unwrap_or_default()
    }

    fn dims(&self, layer: usize) -> HeadDims {
        if self.slides(layer) { self.sliding } else { self.full }
    }

    /// The entries of the layers that attend.
    fn attention(&self) -> Result<Vec<Vec<LayerCache>>, Error> {
        let layers = self.attends.iter().zip(&self.counts.kv_heads).enumerate();
        let entry = |(layer, (attends, kv_heads)): (usize, (&bool, &u64))| {
            let kv_heads = if *attends { *kv_heads } else { 0 };
            self.entry(layer, kv_heads).map(|entry| entry.into_iter().collect())
        };
        layers.map(entry).collect()
    }

    /// The entry of a layer that attends; `None` without heads.
    fn entry(&self, layer: usize, kv_heads: u64) -> Result<Option<LayerCache>, Error> {
        let HeadDims { k, v } = self.dims(layer);
        if kv_heads == 0 || (k == 0 && v == 0) {
            return Ok(None);
        }
        let width = self.keys.elements(Exact::from(k) * kv_heads)?;
        let key_value = if self.latent || self.rules.reads(ReadingRule::Compressed) {
            KeyValue::Vector { elements: width }
        } else {
            KeyValue::Heads { num_key_value_heads: kv_heads, head_dim: k, v_head_dim: v }
        };
        Ok(Some(match self.window.filter(|_| self.slides(layer)) {
            Some(chunk) if self.rules.window.as_ref().is_some_and(|rule| rule.chunked) => {
                LayerCache::ChunkedLocal { key_value, chunk }
            }
            Some(window) => LayerCache::sliding(key_value, window),
            None if self.latent => {
                let kv_lora_rank = self.keys.needed("attention.kv_lora_rank")?.min(width);
                LayerCache::Latent { kv_lora_rank, qk_rope_head_dim: (Exact::from(width) - kv_lora_rank).get()? }
            }
            None => LayerCache::FullAttention { key_value },
        }))
    }

    /// Layers at the end that read an earlier one's cache.
    fn share(&self, caches: &mut [Vec<LayerCache>]) -> Result<(), Error> {
        let own = match (&self.rules.layers_with_cache, &self.rules.shared_key) {
            (Some(own), _) => usize_of((*own).into()),
            (None, Some(key)) => {
                let shared = usize_of(self.keys.number_or_zero(key)?);
                self.counts.all.checked_sub(shared).ok_or_else(|| self.keys.wrong(key, "a part of the layers"))?
            }
            (None, None) => return Ok(()),
        };
        share_from(own, caches);
        Ok(())
    }

    /// Which layers are recurrent, and which attend.
    pub(super) fn recurrent(&mut self) -> Result<(), Error> {
        let Some(rule) = self.rules.recurrent else { return Ok(()) };
        let all = self.counts.all;
        let by_width = rule == RecurrentRule::NoKvHeadsNorFeedForward;
        let widths = if by_width { self.keys.per_layer("feed_forward_length", all)? } else { None };
        let widths = widths.unwrap_or_else(|| vec![0; all]);
        let without_heads = self.counts.kv_heads.iter().map(|heads| *heads == 0);
        let recurs: Vec<bool> = match rule {
            RecurrentRule::All | RecurrentRule::Beside => vec![true; all],
            RecurrentRule::NoKvHeads => without_heads.collect(),
            RecurrentRule::NoKvHeadsNorFeedForward => {
                without_heads.zip(&widths).map(|(without, width)| without && *width == 0).collect()
            }
            RecurrentRule::Interval => self.recurrent_by_interval()?,
        };
        self.recurs = recurs.into_iter().enumerate().map(|(layer, recurs)| recurs && layer < self.counts.own).collect();
        let others = self.recurs.iter().map(|recurs| !recurs);
        self.attends = match rule {
            RecurrentRule::All => vec![false; all],
            RecurrentRule::Beside => vec![true; all],
            RecurrentRule::NoKvHeads | RecurrentRule::Interval => others.collect(),
            RecurrentRule::NoKvHeadsNorFeedForward => {
                others.zip(&widths).map(|(other, width)| other && *width == 0).collect()
            }
        };
        Ok(())
    }

    fn recurrent_by_interval(&self) -> Result<Vec<bool>, Error> {
        if let Some(flags) = self.keys.per_layer("attention.recurrent_layers", self.counts.all)? {
            return Ok(flags.iter().map(|flag| *flag != 0).collect());
        }
        let given = self.keys.number("full_attention_interval")?.or(self.rules.interval);
        let interval = usize_of(given.unwrap_or(1));
        if interval == 0 {
            return Err(self.keys.wrong("full_attention_interval", "a positive count"));
        }
        Ok((1..=self.counts.all).map(|number| !number.is_multiple_of(interval)).collect())
    }

    /// Which layers slide, and by how much.
    pub(super) fn window(&mut self, rule: &WindowRule) -> Result<(), Error> {
        const KEY: &str = "attention.sliding_window";
        const PATTERN: &str = "attention.sliding_window_pattern";
        let given = self.keys.number(KEY)?;
        if rule.only_layers.is_some_and(|only| usize_of(only.into()) != self.counts.own) {
            return Ok(());
        }
        let window = match rule.key {
            WindowKey::Required => Some(given.ok_or_else(|| self.keys.missing(KEY))?),
            WindowKey::Optional => given.or(rule.default),
            WindowKey::OnIfPositive | WindowKey::Ignored => given.filter(|&window| window > 0),
            WindowKey::OffIfZero => Some(given.unwrap_or(1)).filter(|&window| window > 0),
        };
        let Some(window) = window.map(|window| rule.fixed.unwrap_or(window)) else { return Ok(()) };
        if window == 0 {
            return Err(self.keys.wrong(KEY, "a positive count"));
        }
        self.window = Some(Tokens(window));
        let listed = || self.keys.layers_listed(PATTERN, self.counts.all);
        self.slides = match rule.layers {
            WindowLayers::All => vec![true; self.counts.all],
            WindowLayers::Attention => {
                (0..self.counts.all).zip(&self.recurs).map(|(i, recurs)| i < self.counts.own && !recurs).collect()
            }
            WindowLayers::Listed => listed()?.ok_or_else(|| self.keys.missing(PATTERN))?,
            WindowLayers::Pattern => {
                if let Some(flags) = listed()? {
                    flags
                } else {
                    let n = usize_of(self.keys.number(PATTERN)?.or(rule.pattern).unwrap_or_default());
                    let full_at = if rule.dense_first { 0 } else { n.saturating_sub(1) };
                    let slides =
                        |i: usize| i < self.counts.own && i.checked_rem(n).is_none_or(|place| place != full_at);
                    (0..self.counts.all).map(slides).collect()
                }
            }
        };
        Ok(())
    }
}

/// A number of layers; no file has more than memory has bytes.
pub(super) fn usize_of(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

// Which layers slide, and which are recurrent, by the rules of the architecture.
