//! From a model to the caches that vLLM makes for it on one rank, with the checks its start-up makes on the way.

use std::cmp::Reverse;

use super::Cache;
use super::backend::{Backend, Choice, Query, preferred_block};
use super::dtype::{self, CacheDtype};
use super::groups::{EntryShape, Kind, Spec};
use super::planner::Planner;
use super::release::{ModelType, Rule, Trait};
use crate::model::{CacheKind, KeyValue, LayerCache};
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
        require(self.release.has(asked.row().rule), reason, "use a newer version, or another format")?;
        let resolved = match asked {
            CacheDtype::Model => dtype::declared(self.model.checkpoint.quantization.as_ref()),
            named => named,
        };
        let sm100 = self.engine.device.compute_capability.0 == 10;
        let resolved = match resolved {
            CacheDtype::Model if sm100 && self.has(Trait::Sm100Fp8E4m3) => CacheDtype::Fp8E4m3,
            CacheDtype::Model if sm100 && self.has(Trait::Sm100Fp8) => CacheDtype::Fp8,
            CacheDtype::Bf16 if self.has(Trait::Bf16IsAuto) => CacheDtype::Model,
            resolved => resolved,
        };
        let latent = self.model.has(CacheKind::Latent) && self.has(Trait::LatentCache);
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

    /// The layers that attend, each with its backend; and the format as the backends take it.
    pub(super) fn attention(&self, asked: CacheDtype) -> Result<(Vec<Attention>, CacheDtype), Error> {
        let mut dtype = asked;
        let keeps_model_format = self.has(Trait::KeepsModelFormat);
        let mut found: Vec<Attention> = Vec::new();
        for (source, group) in self.model.layer_groups.iter().enumerate() {
            let Some(heads) = self.heads(&group.cache)? else { continue };
            let of_group = self.query(heads, asked);
            let start = found.len();
            for &layer in &group.layers {
                let keeps = keeps_model_format || self.is_unquantised_end(layer, asked);
                let dtype = if keeps { CacheDtype::Model } else { asked };
                let query = Query { dtype, ..of_group };
                // Layers of a group are alike: asked once, but where their formats differ.
                let backend = match found.get(start..).unwrap_or_default().last() {
                    Some(before) if before.dtype == dtype => before.choice.backend,
                    _ => self.backend(&query, source)?,
                };
                found.push(Attention { layer, source, heads, dtype, choice: Choice { backend, query } });
            }
        }
        // Sparse MLA's packed layout is what some backends make of any fp8 cache.
        for layer in &mut found {
            let packs = match layer.choice.backend {
                Backend::FlashMlaSparse => layer.dtype.is_quantized() && layer.dtype != CacheDtype::Nvfp4DsMla,
                backend => backend == Backend::FlashInferMlaSparse120,
            };
            if packs {
                layer.dtype = CacheDtype::Fp8DsMla;
                dtype = layer.dtype;
            }
        }
        found.sort_by_key(|layer| layer.layer);
        Ok((found, dtype))
    }

    /// What layers with such heads ask of a backend.
    fn query(&self, heads: Heads, dtype: CacheDtype) -> Query {
        let checkpoint = &self.model.checkpoint;
        let query_heads = checkpoint.num_attention_heads.and_then(|heads| heads.checked_div(self.workload.layout.tp));
        let sparse = || self.groups().any(|cache| matches!(cache, LayerCache::Indexer { ratio: 1, .. }));
        let whole_type = || ModelType::named(self.model.model_type.as_deref().unwrap_or_default());
        let both_ways = || checkpoint.reads_images_both_ways || whole_type().has(Trait::ImagePrefix, self.release);
        let largest_head_size = self.groups().map(head_size).max().unwrap_or_default();
        let head_dims = || self.groups().filter_map(LayerCache::key_value).filter_map(KeyValue::head_dims);
        let two_head_sizes = || head_dims().any(|(k, _)| k != largest_head_size);
        Query {
            kind: heads.kind,
            head_size: heads.k,
            largest_head_size,
            dtype,
            capability: self.engine.device.compute_capability,
            sparse: self.model.has(CacheKind::Latent) && sparse(),
            sinks: checkpoint.attention_sinks || self.has(Trait::Sinks),
            image_prefix: checkpoint.multimodal && both_ways(),
            wants_flash_attention_4: self.has(Trait::FlashAttention4) && two_head_sizes(),
            heads: query_heads.unwrap_or(heads.count),
            kv_heads: heads.count,
            qk_nope_head_dim: checkpoint.qk_nope_head_dim,
            dcp: self.workload.layout.dcp > 1,
            block_size: self.block_size(),
        }
    }

    /// What a layer holds of a token on one rank; none where it does not attend, or is an index.
    fn heads(&self, cache: &LayerCache) -> Result<Option<Heads>, Error> {
        let (kind, key_value) = match *cache {
            LayerCache::FullAttention { key_value } => (Kind::Full, key_value),
            LayerCache::SlidingWindow { key_value, window, .. } => {
                let past_current = u64::from(self.has(Trait::WindowPastCurrent));
                let window = (Exact::from(window) + past_current).get()?;
                (Kind::Sliding { window, extra: self.extra_tokens()? }, key_value)
            }
            LayerCache::ChunkedLocal { key_value, chunk } => (Kind::Chunked { chunk: chunk.0 }, key_value),
            LayerCache::CrossAttention { key_value, .. } => (Kind::Cross, key_value),
            LayerCache::Latent { kv_lora_rank, qk_rope_head_dim } if self.has(Trait::LatentCache) => {
                let elements = (Exact::from(kv_lora_rank) + qk_rope_head_dim).get()?;
                (Kind::Full, KeyValue::Vector { elements })
            }
            LayerCache::Latent { qk_rope_head_dim, .. } => (Kind::Full, self.unrolled(qk_rope_head_dim)?),
            // A model with compressed layers is planned elsewhere, and kinds without a class are refused before.
            LayerCache::Indexer { .. }
            | LayerCache::Compressed { .. }
            | LayerCache::Recurrent(_)
            | LayerCache::Shared
            | LayerCache::None => return Ok(None),
        };
        let (k, v, kv_heads) = match key_value {
            KeyValue::Vector { elements } => {
                return Ok(Some(Heads { kind: kind.of_latents(), k: elements, v: 0, count: 1 }));
            }
            KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim } => {
                (head_dim, v_head_dim, num_key_value_heads)
            }
            KeyValue::ArticleShortcut { hidden_size, num_key_value_heads } => {
                let (k, v) = key_value.head_dims().ok_or_else(|| {
                    let reason =
                        "gives no whole head dimension by the article's shortcut, and pages are made of whole heads";
                    self.engine.refusal("--hidden-size", hidden_size, reason, "give --heads or --head-dim")
                })?;
                (k, v, num_key_value_heads)
            }
        };
        Ok(Some(Heads { kind, k, v, count: self.workload.layout.heads_on_rank(kv_heads)? }))
    }

    /// The full heads that are cached where a class does not cache the latent: K's width for V, too
    /// (`models/minicpm3.py`).
    fn unrolled(&self, qk_rope_head_dim: u64) -> Result<KeyValue, Error> {
        let checkpoint = &self.model.checkpoint;
        let (Some(heads), Some(nope)) = (checkpoint.num_attention_heads, checkpoint.qk_nope_head_dim) else {
            let reason = "is cached by this class as full heads, whose number or width the configuration does not name";
            return Err(self.engine.refusal("MODEL", &self.model.name, reason, "name another engine"));
        };
        let width = (Exact::from(nope) + qk_rope_head_dim).get()?;
        Ok(KeyValue::Heads { num_key_value_heads: heads, head_dim: width, v_head_dim: width })
    }

    /// The backend of a layer, or vLLM's refusal.
    fn backend(&self, query: &Query, source: usize) -> Result<Backend, Error> {
        if !query.kind.is_latent() && self.is_indexed(source) {
            return Ok(Backend::MiniMaxSparse);
        }
        let dtype = query.dtype;
        let refused = |reason, remedy| self.engine.refusal("--kv-dtype", self.workload.kv_dtype, reason, remedy);
        let device = &self.engine.device.id;
        let backend = Backend::select(query).map_err(|reasons| {
            if let Some(size) = query.block_size
                && let Ok(other) = Backend::select(&Query { block_size: None, ..*query })
            {
                let base = Choice { backend: other, query: *query }.smallest_block();
                let name = other.name();
                let reason =
                    format!("is no block size that an attention backend here takes: {name} takes multiples of {base}");
                return self.engine.refusal("--block-size", size, reason, "use one, or leave it out");
            }
            let size = query.head_size;
            let reason = format!("has no valid attention backend on {device} for head size {size}: {reasons}");
            refused(reason, "name another format or --gpu")
        })?;
        let triton = match backend {
            Backend::Triton => Some("Triton attention"),
            Backend::TritonMla => Some("Triton MLA"),
            _ => None,
        };
        let fp8 = dtype.is_fp8() || matches!(dtype, CacheDtype::Fp8DsMla | CacheDtype::Fp8PerTokenHead);
        if let Some(name) = triton.filter(|_| fp8 && query.capability < (8, 9)) {
            let (major, minor) = query.capability;
            let reason = format!(
                "is an FP8 KV cache, which is not supported by the {name} backend on {device} (compute capability \
                 {major}.{minor}); native FP8 requires 8.9"
            );
            return Err(refused(reason, "use bf16"));
        }
        if backend == Backend::FlashMlaSparse && query.dcp && !dtype.is_quantized() {
            let reason = "is used with DCP, which for FlashMLA sparse requires an fp8_ds_mla cache; the bf16 sparse path is \
                          not supported under DCP";
            return Err(refused(reason.into(), "use fp8, or --dcp 1"));
        }
        Ok(backend)
    }

    /// Whether the layers of a group have an index, too.
    fn is_indexed(&self, source: usize) -> bool {
        let layers = self.model.layer_groups.get(source).map(|group| group.layers.as_slice()).unwrap_or_default();
        let indexed = self.model.layer_groups.iter().filter(|group| group.cache.cache_kind() == CacheKind::Indexer);
        indexed.flat_map(|group| &group.layers).any(|layer| layers.binary_search(layer).is_ok())
    }

    /// Whether `TurboQuant` leaves a layer in the model's format: two at each end of a model that is no hybrid
    /// (`get_boundary_skip_layers`).
    fn is_unquantised_end(&self, layer: u32, dtype: CacheDtype) -> bool {
        let layers = self.model.num_hidden_layers;
        let ends = 2.min(layers / 2);
        let is_end = || layer < ends || layers.checked_sub(ends).is_some_and(|last| (last..layers).contains(&layer));
        dtype.is_turboquant() && is_end() && !self.model.has(CacheKind::Recurrent)
    }

    /// The block and the page of quantised layers where some are not: the block grows until its page covers theirs
    /// (`_align_heterogeneous_kv_block_size`).
    pub(super) fn with_plain_ends(block_size: u64, dtype: CacheDtype, attention: &[Attention]) -> Result<Block, Error> {
        let skips = attention.iter().any(|layer| layer.dtype != dtype);
        let Some(first) = attention.first().filter(|_| skips && dtype.is_turboquant()) else {
            return Ok(Block { tokens: block_size, page: None });
        };
        // The first layer's backend, which is not TurboQuant's, is asked: K and V at a byte an element.
        let quantised = Exact::from(first.heads.k) * 2u64 * first.heads.count;
        let smallest = first.choice.smallest_block();
        let unit = smallest.max(block_size);
        let covering = (quantised * 2u64 * smallest).div_ceil((quantised * unit).max(1u64)) * unit;
        let tokens = covering.max(block_size);
        Ok(Block { tokens: tokens.get()?, page: Some((tokens * quantised).get()?) })
    }

    /// The cache of a layer that attends.
    pub(super) fn attention_cache(&self, layer: &Attention, block: Block) -> Result<Cache, Error> {
        let Attention { layer, source, heads: Heads { kind, k, v, count }, dtype, choice } = *layer;
        let heads_slide = matches!(kind, Kind::Sliding { .. });
        let v = if heads_slide && !self.release.has(Rule::WINDOWS_HAVE_V_WIDTH) { k } else { v };
        let content = match dtype.row().packed_latent.filter(|_| kind.is_latent()) {
            Some(bytes) => bytes,
            None => dtype.content(k, v, self.model.dtype)?,
        };
        let block_size = if heads_slide && self.release.has(Rule::WINDOW_BLOCKS_FIT_PAGES) {
            let per_token = Exact::from(count) * content;
            let budget = block.page.map_or(per_token * block.tokens, Exact::from);
            choice.window_block(per_token.get()?, budget.get()?)
        } else {
            block.tokens
        };
        let padded = block.page.filter(|_| kind.slides());
        let entry = EntryShape { k, v, bits: dtype.format(self.model.dtype).k.bits_per_block() };
        let spec = Spec { kind, block_size, heads: count, content, tokens_per_entry: 1, padded, entry };
        Ok(Cache { layer, spec, source })
    }
}

/// Bytes of a DeepSeek index key: in fp8 with an fp32 scale for each 128 elements (`DeepseekV32IndexerCache`).
pub(super) fn index_key(elements: u64) -> Exact {
    Exact::from(elements) + Exact::from(elements).div_ceil(128u64) * 4u64
}

// The layers that attend: what they hold of a token, the backend of each, and their caches.

/// A layer that attends, before its block size is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention {
    pub(super) layer: u32,
    /// The model's layer group.
    source: usize,
    pub(super) heads: Heads,
    pub(super) dtype: CacheDtype,
    pub(super) choice: Choice,
}

/// The heads of a layer on one rank.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    kind: Kind,
    /// Elements of K and of V in one head; of a latent all of them.
    pub(super) k: u64,
    v: u64,
    pub(super) count: u64,
}

/// Elements of K in one head, or of a latent.
fn head_size(cache: &LayerCache) -> u64 {
    match (cache, cache.key_value()) {
        (LayerCache::Indexer { .. }, _) | (_, None | Some(KeyValue::ArticleShortcut { .. })) => 0,
        (_, Some(KeyValue::Heads { head_dim, .. })) => head_dim,
        (_, Some(KeyValue::Vector { elements })) => elements,
    }
}
