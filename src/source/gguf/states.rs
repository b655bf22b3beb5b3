//! What layers keep in addition to the entries of attention: index keys, compressed entries and recurrent states.

use super::FORMAT;
use super::layers::{LayerKeys, usize_of};
use crate::catalogue::{IndexerLayers, IndexerRule, StateRule};
use crate::model::{Convolution, LayerCache, Mechanism, Memory, RecurrentState};
use crate::source::hf_config::{OVERLAPPING_RATIO, add};
use crate::units::{Error, Exact};

impl LayerKeys<'_> {
    /// The index keys of sparse attention.
    pub(super) fn index(&self, rule: &IndexerRule, caches: &mut [Vec<LayerCache>]) -> Result<(), Error> {
        if let Some(key) = &rule.only_if
            && self.keys.number_or_zero(key)? == 0
        {
            return Ok(());
        }
        let index_head_dim = self.keys.needed("attention.indexer.key_length")?;
        let own = |layer: usize| layer < self.counts.own;
        let on: Vec<bool> = match rule.layers {
            IndexerLayers::All => self.attends.iter().enumerate().map(|(i, attends)| own(i) && *attends).collect(),
            IndexerLayers::AfterDense => {
                let dense = usize_of(self.keys.number_or_zero("leading_dense_block_count")?);
                (0..self.counts.all).map(|layer| layer >= dense).collect()
            }
            IndexerLayers::Listed => {
                let listed = self.listed_indices(rule)?;
                let on = |(i, (on, attends)): (usize, (bool, &bool))| own(i) && on && *attends;
                listed.into_iter().zip(&self.attends).enumerate().map(on).collect()
            }
        };
        add(LayerCache::Indexer { index_head_dim, ratio: 1 }, on, caches);
        Ok(())
    }

    /// The layers of the list, or of its default.
    fn listed_indices(&self, rule: &IndexerRule) -> Result<Vec<bool>, Error> {
        const KEY: &str = "attention.indexer.types";
        if let Some(flags) = self.keys.layers_listed(KEY, self.counts.all)? {
            return Ok(flags);
        }
        if let Some(all) = self.keys.number(KEY)? {
            return Ok(vec![all != 0; self.counts.all]);
        }
        let Some(all) = rule.unlisted else { return Err(self.keys.missing(KEY)) };
        let layers = 0..u32::try_from(self.counts.all).unwrap_or(u32::MAX);
        if let Some(long) = rule.long_context
            && self.keys.number_or_zero("context_length")? >= long.from
        {
            let on = |layer: u32| match layer.checked_sub(long.all_until) {
                None => true,
                Some(past) => layer < long.before && past.is_multiple_of(long.then_every),
            };
            return Ok(layers.map(on).collect());
        }
        Ok(vec![all; self.counts.all])
    }

    /// The compressed entries next to the windows, and the index of those that overlap.
    pub(super) fn compressed(&self, caches: &mut [Vec<LayerCache>]) -> Result<(), Error> {
        const KEY: &str = "attention.compress_ratios";
        let ratios = self.keys.list(KEY)?.ok_or_else(|| self.keys.missing(KEY))?;
        if ratios.len() < self.counts.all {
            return Err(self.keys.wrong(KEY, "one entry for each layer"));
        }
        let index_head_dim = self.keys.needed("attention.indexer.key_length")?;
        let head_dim = self.sliding.k;
        for (caches, ratio) in caches.iter_mut().zip(ratios).filter(|(_, ratio)| *ratio > 1) {
            // The rule of `llama-kv-cache-dsv4.cpp`: rows that are still open, and a score for each: two windows of them, twice as wide, where windows overlap.
            let overlaps = ratio == OVERLAPPING_RATIO;
            let dim = Exact::from(head_dim);
            let width = if overlaps { (dim + index_head_dim) * 8u64 } else { dim * 2u64 };
            let state_elements = self.keys.elements(width * ratio)?;
            caches.push(LayerCache::Compressed { head_dim, ratio, state_elements });
            if overlaps {
                caches.push(LayerCache::Indexer { index_head_dim, ratio });
            }
        }
        Ok(())
    }

    /// What a recurrent layer keeps (`llama_hparams::n_embd_r` and `n_embd_s`).
    pub(super) fn state(&self, rule: StateRule) -> Result<RecurrentState, Error> {
        let keys = self.keys;
        let heads = self.counts.heads.first().copied().unwrap_or_default();
        let (mechanism, convolution, memory) = match rule {
            StateRule::Mamba1 => return self.ssm(Mechanism::Mamba1, 0),
            StateRule::Mamba2 => return self.ssm(Mechanism::Mamba2, keys.needed("ssm.group_count")?),
            StateRule::GatedDeltaNet => return self.ssm(Mechanism::GatedDeltaNet, keys.needed("ssm.group_count")?),
            StateRule::Kda => {
                let dim = keys.needed("kda.head_dim")?;
                let channels = keys.elements(Exact::from(heads) * dim * 3u64)?;
                let kernel = keys.needed("ssm.conv_kernel")?;
                let convolution = Convolution::new(channels, if kernel > 0 { kernel } else { 4 }, FORMAT);
                (Mechanism::Kda, Some(convolution), Some(self.memory(heads, Exact::from(dim) * dim)?))
            }
            StateRule::Lightning => {
                let memory = self.memory(heads, Exact::from(self.full.k) * self.full.k)?;
                (Mechanism::Lightning, None, Some(memory))
            }
            StateRule::ShortConv => {
                let (width, kernel) = (keys.needed("embedding_length")?, keys.needed("shortconv.l_cache")?);
                let convolution = Convolution::new(width, kernel, FORMAT);
                (Mechanism::ShortConvolution, Some(convolution), None)
            }
            StateRule::Rwkv => {
                let width = keys.needed("embedding_length")?;
                let size = keys.needed("wkv.head_size")?;
                let shifts = keys.number("token_shift_count")?.unwrap_or(2);
                let convolution = Convolution::new(width, (Exact::from(shifts) + 1u64).get()?, FORMAT);
                (Mechanism::Rwkv, Some(convolution), Some(self.memory(width, size.into())?))
            }
        };
        Ok(RecurrentState { mechanism, convolution, memory })
    }

    /// The state of Mamba and its kin, whose keys begin with `ssm.`.
    fn ssm(&self, mechanism: Mechanism, groups: u64) -> Result<RecurrentState, Error> {
        let keys = self.keys;
        let inner = keys.needed("ssm.inner_size")?;
        let state = keys.needed("ssm.state_size")?;
        let kernel = keys.needed("ssm.conv_kernel")?;
        // Heads, where they divide what is kept.
        let rank = keys.number_or_zero("ssm.time_step_rank")?;
        let heads = Some(rank).filter(|&rank| rank > 0 && inner.is_multiple_of(rank)).unwrap_or(inner.max(1));
        let channels_per_group = keys.elements(Exact::from(state) * 2u64)?;
        Ok(RecurrentState {
            mechanism,
            convolution: Some(Convolution { channels_per_group, groups, ..Convolution::new(inner, kernel, FORMAT) }),
            memory: Some(self.memory(heads, Exact::from(inner) / heads * state)?),
        })
    }

    fn memory(&self, heads: u64, elements_per_head: Exact) -> Result<Memory, Error> {
        Ok(Memory { heads, elements_per_head: self.keys.elements(elements_per_head)?, format: FORMAT })
    }

    /// The n-grams that a layer keeps of the past (`llama_hparams::ple_conv_state`).
    pub(super) fn ngram_state(&self, caches: &mut [Vec<LayerCache>]) -> Result<(), Error> {
        let keys = self.keys;
        let Some(layers) = keys.list("ple.layers")? else { return Ok(()) };
        let width = Exact::from(keys.needed("embedding_length")?);
        let channels = width * keys.needed("ple.ngram_size")? * keys.needed("hyper_connection.count")?;
        let convolution = Convolution::new(keys.elements(channels)?, keys.needed("ple.conv_kernel")?, FORMAT);
        let mechanism = Mechanism::ShortConvolution;
        let state = RecurrentState { mechanism, convolution: Some(convolution), memory: None };
        for layer in layers {
            let caches = caches.get_mut(usize_of(layer)).ok_or_else(|| keys.wrong("ple.layers", "layers it has"))?;
            caches.push(LayerCache::Recurrent(state));
        }
        Ok(())
    }
}
