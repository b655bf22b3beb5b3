//! From a model to the caches that vLLM makes for it on one rank, with the checks its start-up makes on the way.

use std::cmp::Reverse;

use super::Cache;
use super::attention::Attention;
use super::backend::{Backend, Choice, preferred_block};
use super::dtype::{self, CacheDtype};
use super::models::Trait;
use super::planner::Planner;
use super::spec::{Kind, Spec};
use crate::model::{CacheKind, LayerCache};
use crate::units::{Error, Exact, KvDtype};

/// A model's caches on one rank.
pub(super) struct Layers {
    pub(super) caches: Vec<Cache>,
    /// What attention is stored in.
    pub(super) dtype: CacheDtype,
    /// Whether blocks are outermost in memory, each with the pages of all layers side by side.
    pub(super) block_outermost: bool,
    /// Tokens of a block of full attention.
    pub(super) block_size: u64,
    pub(super) assumptions: Vec<String>,
    /// The backend of the first layer that attends.
    pub(super) backend: Option<&'static str>,
}

/// The block of full attention, and the page that it is padded to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) tokens: u64,
    pub(super) page: Option<u64>,
}

impl Planner<'_> {
    /// The caches, in the order of the layers.
    pub(super) fn layers(&self) -> Result<Layers, Error> {
        self.check()?;
        let compressed = self.model.has(CacheKind::Compressed);
        let dtype = if compressed { self.compressed_dtype(self.dtype()?)? } else { self.dtype()? };
        let mut layers = if compressed { self.compressed(dtype)? } else { self.attention_and_states(dtype)? };
        layers.assumptions.extend(self.meaning_of_auto(dtype));
        let dcp = self.workload.layout.dcp;
        let sliding = layers.caches.iter().find(|cache| cache.spec.kind.slides()).map(|cache| cache.layer);
        let layer = sliding.unwrap_or_default();
        let reason =
            format_args!("is more than 1, with layers that slide (layer {layer}): DCP not support sliding window");
        self.engine.require(dcp <= 1 || sliding.is_none(), "--dcp", dcp, reason, "use 1")?;
        layers.caches.sort_by_key(|cache| (cache.layer, Reverse(cache.spec.kind.keeps_all())));
        Ok(layers)
    }

    /// What `auto` is, where it is not simply the model's own format.
    fn meaning_of_auto(&self, dtype: CacheDtype) -> Option<String> {
        if self.workload.kv_dtype != KvDtype::Auto {
            return None;
        }
        let quantization = self.model.checkpoint.quantization.as_ref();
        let format = dtype.format(self.model.dtype).k;
        let followed = dtype::declared(quantization);
        if dtype != followed {
            return Some(format!("auto is {format}: vLLM's own choice for this type of model and device"));
        }
        let declared = quantization?.declared_kv()?;
        Some(if followed == CacheDtype::Model {
            format!("auto is {format}: vLLM does not read the {declared} of this checkpoint")
        } else {
            format!("auto is {format}: the checkpoint declares {declared}")
        })
    }

    /// The format that `--kv-cache-dtype` means before backends have their say.
    fn dtype(&self) -> Result<CacheDtype, Error> {
        let kv_dtype = self.workload.kv_dtype;
        let require = |condition: bool, reason: &str, remedy| {
            self.engine.require(condition, "--kv-dtype", kv_dtype, reason, remedy)
        };
        let Some(asked) = CacheDtype::asked(kv_dtype) else {
            let reason = format!("is not one of its formats: auto, {}", dtype::NAMES.join(", "));
            return Err(self.engine.refusal("--kv-dtype", kv_dtype, reason, "use one of them"));
        };
        let reason = "is not one of the formats of this version";
        require(self.release.has(asked.rule()), reason, "use a newer version, or another format")?;
        let resolved = match asked {
            CacheDtype::Model => dtype::declared(self.model.checkpoint.quantization.as_ref()),
            named => named,
        };
        let sm100 = self.engine.device.compute_capability.0 == 10;
        let resolved = match resolved {
            CacheDtype::Model if sm100 && self.has(Trait::SM100_FP8_E4M3) => CacheDtype::Fp8E4m3,
            CacheDtype::Model if sm100 && self.has(Trait::SM100_FP8) => CacheDtype::Fp8,
            CacheDtype::Bf16 if self.has(Trait::BF16_IS_AUTO) => CacheDtype::Model,
            resolved => resolved,
        };
        let latent = self.model.has(CacheKind::Latent) && self.has(Trait::LATENT_CACHE);
        let fp4 = matches!(resolved, CacheDtype::Nvfp4 | CacheDtype::Nvfp4FourOverSix);
        let remedy = "use fp8, auto, or nvfp4_ds_mla with a sparse MLA backend";
        require(!latent || !fp4, "is not supported with MLA backends", remedy)?;
        Ok(resolved)
    }

    /// Caches of attention, of its indices, and of states.
    fn attention_and_states(&self, asked: CacheDtype) -> Result<Layers, Error> {
        let (attention, dtype) = self.attention(asked)?;
        let preferred = self.preferred_block(&self.backends(&attention))?;
        let states = self.states()?;
        let hybrid = !states.is_empty() && !attention.is_empty();
        let plain = Block { tokens: preferred, page: None };
        let aligned = if hybrid { self.aligned(plain, &attention, &states)? } else { plain };
        let block = Self::with_plain_ends(aligned.tokens, dtype, &attention)?;
        let mut caches = Vec::new();
        for layer in &attention {
            caches.push(self.attention_cache(layer, block)?);
        }
        caches.extend(self.index_caches(block.tokens)?);
        let caching = self.caches_prefixes();
        let block_size = if caching { block.tokens } else { self.workload.seq_len.0 };
        for state in &states {
            // The state at the start and at the end of a block, or the one that a request is at.
            let held = if caching { Exact::from(2u64) + u64::from(state.checkpoint) } else { Exact::ONE };
            let copies = (held + self.drafted_tokens()).get()?;
            let spec = Spec::vector(Kind::State { copies }, block_size, state.content);
            let spec = Spec { padded: aligned.page, ..spec };
            caches.push(Cache { layer: state.layer, spec, source: state.source });
        }
        let mut assumptions = Vec::new();
        if hybrid && caching && self.engine.settings.switch("enable-prefix-caching").is_none() {
            let text = "prefix caching is on, as by default: each state is held at the start and end of a block";
            assumptions.push(text.into());
        }
        let backend = attention.first().map(|layer| layer.choice.backend.name());
        Ok(Layers { caches, dtype, block_outermost: false, block_size: block.tokens, assumptions, backend })
    }

    /// The different backends, in the order of their layers.
    pub(super) fn backends(&self, attention: &[Attention]) -> Vec<Choice> {
        let mut backends: Vec<Choice> = Vec::new();
        for Attention { choice, .. } in attention {
            if !backends.iter().any(|known| known.backend == choice.backend) {
                backends.push(*choice);
            }
        }
        let latent =
            backends.iter().find(|choice| choice.query.kind.is_latent()).filter(|_| self.model.has(CacheKind::Indexer));
        backends.extend(latent.copied().map(|choice| Choice { backend: Backend::Indexer, ..choice }));
        backends
    }

    /// The block size that was chosen, or the one that the backends prefer.
    fn preferred_block(&self, backends: &[Choice]) -> Result<u64, Error> {
        let Some(size) = self.block_size() else {
            return preferred_block(backends).ok_or_else(|| {
                let reason = "is served by attention backends that share no supported KV cache block size";
                self.engine.refusal("MODEL", &self.model.name, reason, "name another device or format")
            });
        };
        let taken = backends.iter().all(|choice| choice.takes_block(size));
        let names = backends.iter().map(|choice| choice.backend.name()).collect::<Vec<_>>().join(", ");
        let reason = format_args!("is not a block size of its attention backends here: {names}");
        let remedy = "use a multiple of 16, or of the kernel's own size";
        self.engine.require(taken, "--block-size", size, reason, remedy)?;
        Ok(size)
    }

    /// Index keys, of latents or of heads.
    fn index_caches(&self, block_size: u64) -> Result<Vec<Cache>, Error> {
        let latents = self.model.has(CacheKind::Latent);
        let mut caches = Vec::new();
        for (source, group) in self.model.layer_groups.iter().enumerate() {
            let LayerCache::Indexer { index_head_dim, .. } = group.cache else { continue };
            // DeepSeek's as `index_key` has them, MiniMax's in bf16.
            let content = if latents { index_key(index_head_dim) } else { Exact::from(index_head_dim) * 2u64 };
            let spec = Spec::vector(Kind::Latent, block_size, content.get()?);
            caches.extend(group.layers.iter().map(|&layer| Cache { layer, spec, source }));
        }
        Ok(caches)
    }
}

/// Bytes of a DeepSeek index key: in fp8 with an fp32 scale for each 128 elements (`DeepseekV32IndexerCache`).
pub(super) fn index_key(elements: u64) -> Exact {
    Exact::from(elements) + Exact::from(elements).div_ceil(128u64) * 4u64
}
