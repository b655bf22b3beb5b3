//! What each layer caches, by the keys of the architecture and its rules.

use super::GgufError;
use super::keys::Keys;
use crate::catalogue::{
    FeatureName, GgufArchitecture, IndexerDefault, IndexerLayers, IndexerRule, RecurrentRule, StateRule, WindowKey,
    WindowLayers, WindowRule,
};
use crate::model::{
    Convolution, Dimension, KeyValue, LayerCache, MAX_LAYERS, Mechanism, Memory, ModelError, RecurrentState,
    layer_count,
};
use crate::units::{ElementFormat, Tokens};

/// Ratios of compressed attention whose windows overlap, and which have an index (`llama-kv-cache-dsv4.cpp`).
const OVERLAPPING_RATIO: u64 = 4;

/// What was read of the layers.
pub(super) struct Layers {
    /// The caches of each layer, those that predict further tokens at the end.
    pub(super) caches: Vec<Vec<LayerCache>>,
    /// How many predict further tokens.
    pub(super) nextn: usize,
    /// The sizes of K and V in a head of the model's own layers, each pair once.
    pub(super) head_dims: Vec<(u64, u64)>,
    /// The widest V of all layers.
    pub(super) widest_value: u64,
}

/// The heads and kinds of the layers, before they are turned into caches.
struct Reader<'a> {
    keys: &'a Keys<'a>,
    rules: &'a GgufArchitecture,
    format: ElementFormat,
    /// All layers, and those of the model itself.
    all: usize,
    own: usize,
    heads: Vec<u64>,
    kv_heads: Vec<u64>,
    /// K and V of a head: of full layers, and of those that slide.
    full: (u64, u64),
    sliding: (u64, u64),
    slides: Vec<bool>,
    window: Option<Tokens>,
    recurs: Vec<bool>,
    attends: Vec<bool>,
    latent: bool,
}

/// The layers of a file; `has_tensor` says whether there is a tensor of that name.
pub(super) fn layers(
    keys: &Keys<'_>,
    rules: &GgufArchitecture,
    format: ElementFormat,
    has_tensor: impl Fn(&str) -> bool,
) -> Result<Layers, GgufError> {
    let reader = Reader::new(keys, rules, format, has_tensor)?;
    let mut caches = reader.attention()?;
    if let Some(rule) = &rules.indexer {
        reader.index(rule, &mut caches)?;
    }
    if rules.has(FeatureName::Compressed) {
        reader.compressed(&mut caches)?;
    }
    if let Some(rule) = rules.state.filter(|_| reader.recurs.contains(&true)) {
        let state = LayerCache::Recurrent(reader.state(rule)?);
        for (caches, _) in caches.iter_mut().zip(&reader.recurs).filter(|(_, recurs)| **recurs) {
            caches.push(state);
        }
        if rules.has(FeatureName::History) {
            reader.history(&mut caches)?;
        }
    }
    if caches.iter().all(Vec::is_empty) {
        // Without heads none of its layers attends; that they are not told is the more likely reason.
        keys.needed("attention.head_count")?;
    }
    reader.share(&mut caches)?;
    let mut head_dims = Vec::new();
    for slides in reader.slides.iter().take(reader.own) {
        let dims = if *slides { reader.sliding } else { reader.full };
        if !head_dims.contains(&dims) {
            head_dims.push(dims);
        }
    }
    let widths = reader.slides.iter().zip(&reader.kv_heads).map(|(slides, kv_heads)| {
        let (_, v) = if *slides { reader.sliding } else { reader.full };
        v.saturating_mul(*kv_heads)
    });
    let widest_value = widths.max().unwrap_or_default();
    Ok(Layers { caches, nextn: reader.all.saturating_sub(reader.own), head_dims, widest_value })
}

impl<'a> Reader<'a> {
    fn new(
        keys: &'a Keys<'a>,
        rules: &'a GgufArchitecture,
        format: ElementFormat,
        has_tensor: impl Fn(&str) -> bool,
    ) -> Result<Self, GgufError> {
        let counted = keys.needed("block_count")?;
        let too_many = |value: u64| ModelError::TooManyLayers(Dimension { field: keys.field("block_count"), value });
        let written = usize_of(layer_count(Dimension { field: keys.field("block_count"), value: counted })?.into());
        if written == 0 {
            return Err(keys.wrong("block_count", "a positive count"));
        }
        let nextn = usize_of(keys.number_or_zero("nextn_predict_layers")?);
        let own = written.checked_sub(nextn);
        let mut own = own.ok_or_else(|| keys.wrong("nextn_predict_layers", "a part of the layers"))?;
        let absent = rules.nextn_tensor.as_ref().is_some_and(|name| !has_tensor(&format!("blk.{own}.{name}")));
        if absent || own == 0 {
            own = written;
        }
        let mut heads = keys.per_layer("attention.head_count", written)?.unwrap_or_else(|| vec![0; written]);
        let mut kv_heads = keys.per_layer("attention.head_count_kv", written)?.unwrap_or_else(|| heads.clone());
        let mut all = written;
        if let Some(key) = &rules.loops_key {
            let loops = keys.number(key)?.unwrap_or(1);
            let total = counted.checked_mul(loops).filter(|&total| total <= u64::from(MAX_LAYERS) && total > 0);
            all = usize_of(total.ok_or_else(|| too_many(counted.saturating_mul(loops)))?);
            own = all;
            heads = heads.into_iter().cycle().take(all).collect();
            kv_heads = kv_heads.into_iter().cycle().take(all).collect();
        }
        if rules.has(FeatureName::RouterLayer) {
            all = all.saturating_add(1);
            own = own.saturating_add(1);
            heads.push(1);
            kv_heads.push(1);
        }
        let first = heads.first().copied().unwrap_or_default();
        let quotient = keys.needed("embedding_length")?.checked_div(first).unwrap_or_default();
        let with_heads = first > 0 || rules.has(FeatureName::OwnHeadDims);
        let dim = |key: &str| -> Result<u64, GgufError> {
            if with_heads { Ok(keys.number(key)?.unwrap_or(quotient)) } else { Ok(0) }
        };
        let full = (dim("attention.key_length")?, dim("attention.value_length")?);
        let sliding = (
            keys.number("attention.key_length_swa")?.unwrap_or(full.0),
            keys.number("attention.value_length_swa")?.unwrap_or(full.1),
        );
        let is_latent = rules.has(FeatureName::Latent)
            && keys.number_or_zero("attention.key_length_mla")? > 0
            && keys.number_or_zero("attention.value_length_mla")? > 0;
        let mut reader = Self {
            keys,
            rules,
            format,
            all,
            own,
            heads,
            kv_heads,
            full,
            sliding,
            slides: vec![false; all],
            window: None,
            recurs: vec![false; all],
            attends: vec![true; all],
            latent: is_latent,
        };
        reader.recurrent()?;
        if let Some(rule) = &rules.window {
            reader.window(rule)?;
        }
        Ok(reader)
    }

    /// Which layers are recurrent, and which attend.
    fn recurrent(&mut self) -> Result<(), GgufError> {
        let (all, own) = (self.all, self.own);
        let is_own = |layer: usize| layer < own;
        match self.rules.recurrent {
            None => {}
            Some(RecurrentRule::All) => {
                self.recurs = (0..all).map(is_own).collect();
                self.attends = vec![false; all];
            }
            Some(RecurrentRule::Beside) => self.recurs = (0..all).map(is_own).collect(),
            Some(RecurrentRule::NoKvHeads) => {
                self.recurs = self.kv_heads.iter().enumerate().map(|(i, heads)| is_own(i) && *heads == 0).collect();
                self.attends = self.recurs.iter().map(|recurs| !recurs).collect();
            }
            Some(RecurrentRule::NoKvHeadsNorFeedForward) => {
                let widths = self.keys.per_layer("feed_forward_length", all)?.unwrap_or_else(|| vec![0; all]);
                let layers = self.kv_heads.iter().zip(&widths).enumerate();
                self.recurs =
                    layers.clone().map(|(i, (heads, width))| is_own(i) && *heads == 0 && *width == 0).collect();
                let recurs = &self.recurs;
                self.attends = widths.iter().zip(recurs).map(|(width, recurs)| !recurs && *width == 0).collect();
            }
            Some(RecurrentRule::Interval) => {
                self.recurs = if let Some(flags) = self.keys.per_layer("attention.recurrent_layers", all)? {
                    flags.iter().enumerate().map(|(i, flag)| is_own(i) && *flag != 0).collect()
                } else {
                    let given = self.keys.number("full_attention_interval")?.or(self.rules.interval);
                    let interval = usize_of(given.unwrap_or(1));
                    if interval == 0 {
                        return Err(self.keys.wrong("full_attention_interval", "a positive count"));
                    }
                    (0..all).map(|i| is_own(i) && !i.saturating_add(1).is_multiple_of(interval)).collect()
                };
                self.attends = self.recurs.iter().map(|recurs| !recurs).collect();
            }
        }
        Ok(())
    }

    /// Which layers slide, and by how much.
    fn window(&mut self, rule: &WindowRule) -> Result<(), GgufError> {
        const KEY: &str = "attention.sliding_window";
        const PATTERN: &str = "attention.sliding_window_pattern";
        let given = self.keys.number(KEY)?;
        if rule.only_layers.is_some_and(|only| usize_of(only.into()) != self.own) {
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
        let listed = || self.keys.layers_listed(PATTERN, self.all);
        self.slides = match rule.layers {
            WindowLayers::All => vec![true; self.all],
            WindowLayers::Attention => {
                (0..self.all).zip(&self.recurs).map(|(i, recurs)| i < self.own && !recurs).collect()
            }
            WindowLayers::Listed => listed()?.ok_or_else(|| self.keys.missing(PATTERN))?,
            WindowLayers::Pattern => {
                if let Some(flags) = listed()? {
                    flags
                } else {
                    let n = usize_of(self.keys.number(PATTERN)?.or(rule.pattern).unwrap_or_default());
                    let full_at = if rule.dense_first { 0 } else { n.saturating_sub(1) };
                    let slides = |i: usize| i < self.own && i.checked_rem(n).is_none_or(|place| place != full_at);
                    (0..self.all).map(slides).collect()
                }
            }
        };
        Ok(())
    }

    /// The entries of the layers that attend.
    fn attention(&self) -> Result<Vec<Vec<LayerCache>>, GgufError> {
        let layers = self.slides.iter().zip(&self.attends).zip(&self.kv_heads);
        layers.map(|((slides, attends), kv_heads)| self.entry(*slides, *attends, *kv_heads)).collect()
    }

    fn entry(&self, slides: bool, attends: bool, kv_heads: u64) -> Result<Vec<LayerCache>, GgufError> {
        let (k, v) = if slides { self.sliding } else { self.full };
        let width = k.saturating_mul(kv_heads);
        if !attends || width.saturating_add(v.saturating_mul(kv_heads)) == 0 {
            return Ok(Vec::new());
        }
        let key_value = if self.latent || self.rules.has(FeatureName::Compressed) {
            KeyValue::Vector { elements: width }
        } else {
            KeyValue::Heads { num_key_value_heads: kv_heads, head_dim: k, v_head_dim: v }
        };
        Ok(vec![match self.window.filter(|_| slides) {
            Some(chunk) if self.rules.window.as_ref().is_some_and(|rule| rule.chunked) => {
                LayerCache::ChunkedLocal { key_value, chunk }
            }
            Some(window) => LayerCache::SlidingWindow { key_value, window, transformers_window: Some(window) },
            None if self.latent => {
                let kv_lora_rank = self.keys.needed("attention.kv_lora_rank")?.min(width);
                LayerCache::Latent { kv_lora_rank, qk_rope_head_dim: width.saturating_sub(kv_lora_rank) }
            }
            None => LayerCache::FullAttention { key_value },
        }])
    }

    /// The index keys of sparse attention.
    fn index(&self, rule: &IndexerRule, caches: &mut [Vec<LayerCache>]) -> Result<(), GgufError> {
        if let Some(key) = &rule.only_if
            && self.keys.number_or_zero(key)? == 0
        {
            return Ok(());
        }
        let index_head_dim = self.keys.needed("attention.indexer.key_length")?;
        let own = |layer: usize| layer < self.own;
        let on: Vec<bool> = match rule.layers {
            IndexerLayers::All => self.attends.iter().enumerate().map(|(i, attends)| own(i) && *attends).collect(),
            IndexerLayers::AfterDense => {
                let dense = usize_of(self.keys.number_or_zero("leading_dense_block_count")?);
                (0..self.all).map(|layer| layer >= dense).collect()
            }
            IndexerLayers::Listed => {
                let listed = self.listed_indices(rule)?;
                listed
                    .iter()
                    .zip(&self.attends)
                    .enumerate()
                    .map(|(i, (on, attends))| own(i) && *on && *attends)
                    .collect()
            }
        };
        for (caches, _) in caches.iter_mut().zip(on).filter(|(_, on)| *on) {
            caches.push(LayerCache::Indexer { index_head_dim, ratio: 1 });
        }
        Ok(())
    }

    /// The layers of the list, or of its default.
    fn listed_indices(&self, rule: &IndexerRule) -> Result<Vec<bool>, GgufError> {
        const KEY: &str = "attention.indexer.types";
        if let Some(flags) = self.keys.layers_listed(KEY, self.all)? {
            return Ok(flags);
        }
        if let Some(all) = self.keys.number(KEY)? {
            return Ok(vec![all != 0; self.all]);
        }
        let Some(default) = rule.default else { return Err(self.keys.missing(KEY)) };
        let long = match rule.long_context {
            Some(from) => self.keys.number_or_zero("context_length")? >= from,
            None => false,
        };
        let layers = 0..u32::try_from(self.all).unwrap_or(u32::MAX);
        Ok(if long {
            let on = |layer: u32| match layer.checked_sub(rule.long_first) {
                None => true,
                Some(past) => layer < rule.long_last && past.is_multiple_of(rule.long_every),
            };
            layers.map(on).collect()
        } else {
            vec![default == IndexerDefault::All; self.all]
        })
    }

    /// The compressed entries beside the windows, and the index of those that overlap.
    fn compressed(&self, caches: &mut [Vec<LayerCache>]) -> Result<(), GgufError> {
        const KEY: &str = "attention.compress_ratios";
        let ratios = self.keys.list(KEY)?.ok_or_else(|| self.keys.missing(KEY))?;
        if ratios.len() < self.all {
            return Err(self.keys.wrong(KEY, "one entry for each layer"));
        }
        let index_head_dim = self.keys.needed("attention.indexer.key_length")?;
        let head_dim = self.sliding.0;
        for (caches, ratio) in caches.iter_mut().zip(ratios).filter(|(_, ratio)| *ratio > 1) {
            // Rows that are still open, and a score for each: two windows of them, twice as wide, where windows overlap.
            let overlaps = ratio == OVERLAPPING_RATIO;
            let (dims, times) = if overlaps { (head_dim.saturating_add(index_head_dim), 8) } else { (head_dim, 2) };
            let state_elements = dims.saturating_mul(ratio).saturating_mul(times);
            caches.push(LayerCache::Compressed { head_dim, ratio, state_elements });
            if overlaps {
                caches.push(LayerCache::Indexer { index_head_dim, ratio });
            }
        }
        Ok(())
    }

    /// What a recurrent layer keeps (`llama_hparams::n_embd_r` and `n_embd_s`).
    fn state(&self, rule: StateRule) -> Result<RecurrentState, GgufError> {
        let keys = self.keys;
        let convolution = |channels: u64, kernel: u64, groups: u64, channels_per_group: u64| {
            Some(Convolution { channels, channels_per_group, groups, kernel, format: self.format })
        };
        let memory =
            |heads: u64, elements_per_head: u64| Some(Memory { heads, elements_per_head, format: self.format });
        let heads = self.heads.first().copied().unwrap_or_default();
        let of_ssm = |mechanism, groups: u64| {
            let inner = keys.needed("ssm.inner_size")?;
            let state = keys.needed("ssm.state_size")?;
            // Heads, where they divide what is kept.
            let rank = keys.number_or_zero("ssm.time_step_rank")?;
            let heads = Some(rank).filter(|&rank| rank > 0 && inner.is_multiple_of(rank)).unwrap_or(inner.max(1));
            let each = inner.checked_div(heads).unwrap_or_default().saturating_mul(state);
            Ok::<_, GgufError>(RecurrentState {
                mechanism,
                convolution: convolution(inner, keys.needed("ssm.conv_kernel")?, groups, state.saturating_mul(2)),
                memory: memory(heads, each),
            })
        };
        Ok(match rule {
            StateRule::Mamba1 => of_ssm(Mechanism::Mamba1, 0)?,
            StateRule::Mamba2 => of_ssm(Mechanism::Mamba2, keys.needed("ssm.group_count")?)?,
            StateRule::GatedDeltaNet => of_ssm(Mechanism::GatedDeltaNet, keys.needed("ssm.group_count")?)?,
            StateRule::Kda => {
                let dim = keys.needed("kda.head_dim")?;
                let channels = heads.saturating_mul(dim).saturating_mul(3);
                let kernel = keys.needed("ssm.conv_kernel")?;
                RecurrentState {
                    mechanism: Mechanism::Kda,
                    convolution: convolution(channels, if kernel > 0 { kernel } else { 4 }, 0, 0),
                    memory: memory(heads, dim.saturating_mul(dim)),
                }
            }
            StateRule::Lightning => RecurrentState {
                mechanism: Mechanism::Lightning,
                convolution: None,
                memory: memory(heads, self.full.0.saturating_mul(self.full.0)),
            },
            StateRule::ShortConv => RecurrentState {
                mechanism: Mechanism::ShortConvolution,
                convolution: convolution(keys.needed("embedding_length")?, keys.needed("shortconv.l_cache")?, 0, 0),
                memory: None,
            },
            StateRule::Rwkv => {
                let width = keys.needed("embedding_length")?;
                let size = keys.needed("wkv.head_size")?;
                let shifts = keys.number("token_shift_count")?.unwrap_or(2);
                RecurrentState {
                    mechanism: Mechanism::Rwkv,
                    convolution: convolution(width, shifts.saturating_add(1), 0, 0),
                    memory: memory(width, size),
                }
            }
        })
    }

    /// The n-grams that a layer keeps of the past (`llama_hparams::ple_conv_state`).
    fn history(&self, caches: &mut [Vec<LayerCache>]) -> Result<(), GgufError> {
        let Some(layers) = self.keys.list("ple.layers")? else { return Ok(()) };
        let width = self.keys.needed("embedding_length")?;
        let channels = width
            .saturating_mul(self.keys.needed("ple.ngram_size")?)
            .saturating_mul(self.keys.needed("hyper_connection.count")?);
        let kernel = self.keys.needed("ple.conv_kernel")?;
        let convolution = Convolution { channels, channels_per_group: 0, groups: 0, kernel, format: self.format };
        let mechanism = Mechanism::ShortConvolution;
        let state = RecurrentState { mechanism, convolution: Some(convolution), memory: None };
        for layer in layers {
            let caches =
                caches.get_mut(usize_of(layer)).ok_or_else(|| self.keys.wrong("ple.layers", "layers it has"))?;
            caches.push(LayerCache::Recurrent(state));
        }
        Ok(())
    }

    /// Layers at the end that read an earlier one's cache.
    fn share(&self, caches: &mut [Vec<LayerCache>]) -> Result<(), GgufError> {
        let own = match (&self.rules.own_layers, &self.rules.shared_key) {
            (Some(own), _) => usize_of((*own).into()),
            (None, Some(key)) => {
                let shared = usize_of(self.keys.number_or_zero(key)?);
                self.all.checked_sub(shared).ok_or_else(|| self.keys.wrong(key, "a part of the layers"))?
            }
            (None, None) => return Ok(()),
        };
        for caches in caches.iter_mut().skip(own).filter(|caches| !caches.is_empty()) {
            *caches = vec![LayerCache::Shared];
        }
        Ok(())
    }
}

/// A number of layers; no file has more than memory has bytes.
fn usize_of(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
