//! From a model to the caches that vLLM makes for it on one rank, with the checks its start-up makes on the way.

use std::cmp::Reverse;

use super::Cache;
use super::backend::{Backend, Query, preferred_block, window_block};
use super::dtype::{self, CacheDtype};
use super::reader::Reader;
use super::spec::{Kind, Spec};
use crate::model::{KeyValue, LayerCache};
use crate::units::{Error, KvDtype};

/// Model types whose window counts the tokens before the current one (`models/commandr.py`, `cohere2_moe.py`).
const WINDOW_AND_ONE: &[&str] = &["cohere2", "cohere2_moe"];

/// Model types of wrappers whose images are read in both directions (`is_mm_prefix_lm`).
const IMAGE_PREFIX_TYPES: &[&str] = &["bagel", "gemma3", "molmo2", "moondream3", "paligemma"];

/// Model types whose attention is not told the format of the cache and so keeps the model's (`models/falcon.py`).
const KEEPS_MODEL_FORMAT: &[&str] = &["falcon"];

/// Model types whose heads of two widths are asked to share `FlashAttention` 4, else Triton (`models/config.py`,
/// `Gemma4Config`).
const TWO_HEAD_SIZES_TYPES: &[&str] = &["gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text"];

/// Model types with learned sinks, whatever their configuration says.
const SINK_TYPES: &[&str] = &["gpt_oss"];

/// A model's caches on one rank.
#[derive(Debug)]
pub(super) struct Layers {
    pub(super) caches: Vec<Cache>,
    /// What attention is stored in.
    pub(super) dtype: CacheDtype,
    /// Whether blocks are outermost in memory, each with the pages of all layers side by side.
    pub(super) block_outermost: bool,
    /// Tokens of a block of full attention.
    pub(super) block_size: u64,
    /// What was taken for granted.
    pub(super) assumptions: Vec<String>,
    /// The backend of the first layer that attends.
    pub(super) backend: Option<&'static str>,
}

/// A cache before its block size is known: its layer, the model's group, and what it attends with.
pub(super) struct Attention {
    pub(super) layer: u32,
    pub(super) source: usize,
    /// Elements of K and of V in one head, and heads on the rank.
    pub(super) dims: (u64, u64, u64),
    pub(super) dtype: CacheDtype,
    pub(super) backend: Backend,
    pub(super) query: Query,
}

impl Reader<'_> {
    /// The caches, in the order of the layers.
    pub(super) fn layers(&self) -> Result<Layers, Error> {
        self.check()?;
        let compressed = self.groups().any(|cache| matches!(cache, LayerCache::Compressed { .. }));
        let dtype = self.dtype(compressed)?;
        let mut layers = if compressed { self.compressed(dtype)? } else { self.attention_and_states(dtype)? };
        layers.assumptions.extend(self.what_auto_is(dtype));
        if self.workload.layout.dcp > 1
            && let Some(cache) = layers.caches.iter().find(|cache| cache.spec.kind.slides())
        {
            let found = self.workload.layout.dcp;
            let reason = format!(
                "is more than 1, with layers that slide (layer {}): DCP not support sliding window",
                cache.layer
            );
            return Err(self.engine.refusal("--dcp", found, reason, "use 1"));
        }
        layers.caches.sort_by_key(|cache| (cache.layer, Reverse(cache.spec.kind.keeps_all())));
        Ok(layers)
    }

    /// What `auto` came to, where it is not simply the model's own format.
    fn what_auto_is(&self, dtype: CacheDtype) -> Option<String> {
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
        Some(match followed {
            CacheDtype::Model => format!("auto is {format}: vLLM does not read the {declared} of this checkpoint"),
            CacheDtype::Named(_) => format!("auto is {format}: the checkpoint declares {declared}"),
        })
    }

    /// The format that `--kv-cache-dtype` comes to before backends have their say.
    fn dtype(&self, compressed: bool) -> Result<CacheDtype, Error> {
        let kv_dtype = self.workload.kv_dtype;
        let refused = |reason: String, remedy| Err(self.engine.refusal("--kv-dtype", kv_dtype, reason, remedy));
        let Some(asked) = CacheDtype::asked(kv_dtype) else {
            return refused(format!("is not one of its formats: {}", dtype::names()), "use one of them");
        };
        let newer = !matches!(asked.name(), "auto" | "fp16" | "bf16" | "fp8" | "fp8_e4m3" | "fp8_e5m2" | "fp8_ds_mla");
        if newer && !self.release.is_newest {
            return refused("is not one of the formats of this version".into(), "use vllm@0.33");
        }
        let resolved = match asked {
            CacheDtype::Model => dtype::declared(self.model.checkpoint.quantization.as_ref()),
            named @ CacheDtype::Named(_) => named,
        };
        let major = self.engine.device.compute_capability.0;
        let resolved = match (self.family(), resolved) {
            ("glm_moe_dsa", CacheDtype::Model) if major == 10 => CacheDtype::named("fp8_e4m3"),
            ("glm5_next" | "glm5_next_text", CacheDtype::Model) if major == 10 => CacheDtype::named("fp8"),
            ("deepseek_v32", named) if named.name() == "bf16" => CacheDtype::Model,
            (_, resolved) => resolved,
        };
        let latent = self.groups().any(|cache| matches!(cache, LayerCache::Latent { .. })) && self.caches_latents();
        if latent && matches!(resolved.name(), "nvfp4" | "nvfp4_4over6") {
            let reason = "is not supported with MLA backends";
            return refused(reason.into(), "use fp8, auto, or nvfp4_ds_mla with a sparse MLA backend");
        }
        if compressed {
            return match resolved.name() {
                "auto" | "fp8" | "fp8_e4m3" | "fp8_e5m2" | "fp8_ds_mla" => Ok(CacheDtype::named("fp8_ds_mla")),
                _ => refused(
                    "is given, but the DeepSeek-V4 fp8_ds_mla layout only supports an fp8 cache".into(),
                    "use fp8 or auto",
                ),
            };
        }
        Ok(resolved)
    }

    /// Caches of attention, of indices beside it, and of states.
    fn attention_and_states(&self, dtype: CacheDtype) -> Result<Layers, Error> {
        let (attention, dtype) = self.attention(dtype)?;
        let indices = self.indices();
        let sizes = Self::backends(&attention, &indices);
        let preferred = match self.options.block_size {
            Some(size) => size,
            None => preferred_block(&sizes).ok_or_else(|| {
                let reason = "is served by attention backends that share no supported KV cache block size";
                self.engine.refusal("MODEL", &self.model.name, reason, "name another device or format")
            })?,
        };
        if let (Some(size), false) =
            (self.options.block_size, sizes.iter().all(|(backend, query)| backend.takes_block(preferred, query)))
        {
            let names = sizes.iter().map(|(backend, _)| backend.name()).collect::<Vec<_>>().join(", ");
            let reason = format!("is not a block size of its attention backends here: {names}");
            let smallest = "use a multiple of 16, or of the kernel's own size";
            return Err(self.engine.refusal("--block-size", size, reason, smallest));
        }
        let states = self.states()?;
        let mut assumptions = Vec::new();
        let mut block_size = preferred;
        let mut shared_page = None;
        let hybrid = !states.is_empty() && !attention.is_empty();
        if hybrid {
            (block_size, shared_page) = self.aligned(preferred, &attention, &states, &sizes)?;
        }
        let (block_size, skipped_page) = Self::with_unquantised_ends(block_size, dtype, &attention)?;
        let mut caches = Vec::new();
        for layer in &attention {
            caches.push(self.attention_cache(layer, block_size, skipped_page)?);
        }
        for &(layer, source, content) in &indices {
            let spec = Spec {
                kind: Kind::Latent,
                block_size,
                heads: 1,
                content,
                tokens_per_entry: 1,
                padded: None,
                shape: (content, 0, 1),
            };
            caches.push(Cache { layer, spec, source });
        }
        let caching = self.caches_prefixes();
        for &(layer, source, content, exports) in &states {
            let speculative = self.model.drafter.as_ref().map_or(0, |drafter| drafter.tokens);
            let held = if caching { 2u64.saturating_add(u64::from(exports)) } else { 1 };
            let spec = Spec {
                kind: Kind::State { copies: held.saturating_add(speculative) },
                block_size: if caching { block_size } else { self.workload.seq_len.0 },
                heads: 1,
                content,
                tokens_per_entry: 1,
                padded: shared_page,
                shape: (content, 0, 0),
            };
            caches.push(Cache { layer, spec, source });
        }
        if hybrid && caching && self.options.prefix_caching.is_none() {
            assumptions
                .push("prefix caching is on, as by default: each state is held at the start and end of a block".into());
        }
        let backend = attention.first().map(|layer| layer.backend.name());
        Ok(Layers { caches, dtype, block_outermost: false, block_size, assumptions, backend })
    }

    /// The layers that attend, each with its backend; and the format as the backends take it.
    fn attention(&self, asked: CacheDtype) -> Result<(Vec<Attention>, CacheDtype), Error> {
        let mut dtype = asked;
        let sparse_latents = self.groups().any(|cache| matches!(cache, LayerCache::Indexer { ratio: 1, .. }))
            && self.groups().any(|cache| matches!(cache, LayerCache::Latent { .. }));
        let sinks = self.model.checkpoint.attention_sinks || SINK_TYPES.contains(&self.family());
        let image_prefix = self.model.checkpoint.multimodal
            && (self.model.checkpoint.reads_images_both_ways
                || self.model.model_type.as_deref().is_some_and(|name| IMAGE_PREFIX_TYPES.contains(&name)));
        let mut found = Vec::new();
        let largest_head_size = self.largest_head_size();
        let head_sizes = self.groups().filter_map(LayerCache::key_value).filter_map(KeyValue::head_dims);
        let two_head_sizes = head_sizes.map(|(k, _)| k).any(|k| k != largest_head_size);
        let wants_flash_attention_4 = two_head_sizes && TWO_HEAD_SIZES_TYPES.contains(&self.family());
        for (source, group) in self.model.layer_groups.iter().enumerate() {
            let Some(key_value) = group.cache.key_value() else { continue };
            let (latent, (k, v, heads)) = match (group.cache, key_value) {
                (LayerCache::Indexer { .. }, _) => continue,
                (LayerCache::Latent { .. }, KeyValue::Vector { elements }) if self.caches_latents() => {
                    (true, (elements, 0, 1))
                }
                (LayerCache::Latent { qk_rope_head_dim, .. }, _) => (false, self.unrolled(qk_rope_head_dim)?),
                (_, KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim }) => {
                    (false, (head_dim, v_head_dim, self.workload.layout.heads_on_rank(num_key_value_heads)?))
                }
                (_, KeyValue::Vector { elements }) => (true, (elements, 0, 1)),
                (_, KeyValue::ArticleShortcut { num_key_value_heads, .. }) => {
                    let (k, v) = key_value.head_dims().ok_or_else(|| {
                        let reason = "gives no whole head dimension, which pages are made of";
                        self.engine.refusal(
                            "--hidden-size",
                            "the article's shortcut",
                            reason,
                            "give --heads or --head-dim",
                        )
                    })?;
                    (false, (k, v, self.workload.layout.heads_on_rank(num_key_value_heads)?))
                }
            };
            let slides = matches!(group.cache, LayerCache::SlidingWindow { .. });
            for &layer in &group.layers {
                let of_layer = if self.is_skipped(layer, asked) { CacheDtype::Model } else { asked };
                let query = Query {
                    head_size: k,
                    largest_head_size,
                    dtype: of_layer,
                    capability: self.engine.device.compute_capability,
                    latent,
                    sparse: latent && sparse_latents,
                    sinks,
                    image_prefix,
                    slides,
                    wants_flash_attention_4: wants_flash_attention_4 && self.release.is_newest,
                    cross: matches!(group.cache, LayerCache::CrossAttention { .. }),
                    heads: self.query_heads().unwrap_or(heads),
                    kv_heads: heads,
                    qk_nope_head_dim: self.model.checkpoint.qk_nope_head_dim,
                    dcp: self.workload.layout.dcp > 1,
                    block_size: self.options.block_size,
                };
                let backend = match found.last() {
                    // Layers of a group are alike: asked once, but where their formats differ.
                    Some(Attention { source: same, dtype: also, backend, .. })
                        if *same == source && *also == of_layer =>
                    {
                        *backend
                    }
                    _ => self.backend(&query, of_layer, source)?,
                };
                found.push(Attention { layer, source, dims: (k, v, heads), dtype: of_layer, backend, query });
            }
        }
        // Sparse MLA's packed layout is what some backends make of any fp8 cache.
        for layer in &mut found {
            let packs = match layer.backend {
                Backend::FlashMlaSparse => layer.dtype.is_quantized() && layer.dtype.name() != "nvfp4_ds_mla",
                Backend::FlashInferMlaSparse120 => true,
                _ => false,
            };
            if packs {
                layer.dtype = CacheDtype::named("fp8_ds_mla");
                dtype = layer.dtype;
            }
        }
        found.sort_by_key(|layer| layer.layer);
        Ok((found, dtype))
    }

    /// The backend of a layer, or vLLM's refusal.
    fn backend(&self, query: &Query, dtype: CacheDtype, source: usize) -> Result<Backend, Error> {
        let indexed = self.model.layer_groups.iter().any(|group| matches!(group.cache, LayerCache::Indexer { .. }));
        if indexed && !query.latent && self.has_index_beside(source) {
            return Ok(Backend::MiniMaxSparse);
        }
        let found = self.workload.kv_dtype;
        let backend = Backend::select(query).map_err(|reasons| {
            if let Some(size) = query.block_size
                && let Ok(other) = Backend::select(&Query { block_size: None, ..*query })
            {
                let (name, base) = (other.name(), other.smallest_block(query));
                let reason =
                    format!("is no block size that an attention backend here takes: {name} takes multiples of {base}");
                return self.engine.refusal("--block-size", size, reason, "use one, or leave it out");
            }
            let device = &self.engine.device.id;
            let reason =
                format!("has no valid attention backend on {device} for head size {}: {reasons}", query.head_size);
            self.engine.refusal("--kv-dtype", found, reason, "name another format or --gpu")
        })?;
        let (major, minor) = query.capability;
        let triton = matches!(backend, Backend::Triton | Backend::TritonMla);
        if triton && dtype.name().starts_with("fp8") && query.capability < (8, 9) {
            let name = if backend == Backend::Triton { "Triton attention" } else { "Triton MLA" };
            let reason = format!(
                "is an FP8 KV cache, which is not supported by the {name} backend on {} (compute capability \
                 {major}.{minor}); native FP8 requires 8.9",
                self.engine.device.id
            );
            return Err(self.engine.refusal("--kv-dtype", found, reason, "use bf16"));
        }
        if backend == Backend::FlashMlaSparse && query.dcp && !dtype.is_quantized() {
            let reason = "is used with DCP, which for FlashMLA sparse requires an fp8_ds_mla cache; the bf16 sparse path is \
                          not supported under DCP";
            return Err(self.engine.refusal("--kv-dtype", found, reason, "use fp8, or --dcp 1"));
        }
        Ok(backend)
    }

    /// Whether the layers of a group have an index beside their heads.
    pub(super) fn has_index_beside(&self, source: usize) -> bool {
        let layers = self.model.layer_groups.get(source).map(|group| group.layers.as_slice()).unwrap_or_default();
        let indexed = self.model.layer_groups.iter().filter(|group| matches!(group.cache, LayerCache::Indexer { .. }));
        indexed.flat_map(|group| &group.layers).any(|layer| layers.binary_search(layer).is_ok())
    }

    fn largest_head_size(&self) -> u64 {
        let size = |cache: &LayerCache| match cache.key_value() {
            Some(KeyValue::Heads { head_dim, .. }) => head_dim,
            Some(KeyValue::Vector { elements }) if !matches!(cache, LayerCache::Indexer { .. }) => elements,
            _ => 0,
        };
        self.groups().map(size).max().unwrap_or_default()
    }

    fn query_heads(&self) -> Option<u64> {
        self.model.checkpoint.num_attention_heads?.checked_div(self.workload.layout.tp)
    }

    /// The full heads that are cached where a class does not cache the latent: K's width for V, too
    /// (`models/minicpm3.py`).
    fn unrolled(&self, qk_rope_head_dim: u64) -> Result<(u64, u64, u64), Error> {
        let missing = || {
            let reason = "is cached by this class as full heads, whose number or width the configuration does not name";
            self.engine.refusal("MODEL", &self.model.name, reason, "name another engine")
        };
        let heads = self.model.checkpoint.num_attention_heads.ok_or_else(missing)?;
        let nope = self.model.checkpoint.qk_nope_head_dim.ok_or_else(missing)?;
        let width = nope.saturating_add(qk_rope_head_dim);
        Ok((width, width, self.workload.layout.heads_on_rank(heads)?))
    }

    /// Index keys beside latents or heads: layer, group and bytes of one token.
    fn indices(&self) -> Vec<(u32, usize, u64)> {
        let latent = self.groups().any(|cache| matches!(cache, LayerCache::Latent { .. }));
        let mut indices = Vec::new();
        for (source, group) in self.model.layer_groups.iter().enumerate() {
            let LayerCache::Indexer { index_head_dim, .. } = group.cache else { continue };
            // DeepSeek's in fp8 with an fp32 scale for each 128 (`DeepseekV32IndexerCache`), MiniMax's in bf16.
            let content = if latent {
                index_head_dim.saturating_add(index_head_dim.div_ceil(128).saturating_mul(4))
            } else {
                index_head_dim.saturating_mul(2)
            };
            indices.extend(group.layers.iter().map(|&layer| (layer, source, content)));
        }
        indices
    }

    /// The different backends, in the order of their layers.
    fn backends(attention: &[Attention], indices: &[(u32, usize, u64)]) -> Vec<(Backend, Query)> {
        let mut backends: Vec<(Backend, Query)> = Vec::new();
        for layer in attention {
            if !backends.iter().any(|(backend, _)| *backend == layer.backend) {
                backends.push((layer.backend, layer.query));
            }
        }
        let latent = backends.iter().find(|(_, query)| query.latent).map(|(_, query)| *query);
        if let (Some(query), false) = (latent, indices.is_empty()) {
            backends.push((Backend::Indexer, query));
        }
        backends
    }

    /// Whether a layer stays in the model's format: `TurboQuant` leaves two at each end of a model that is no hybrid
    /// (`get_boundary_skip_layers`), and some classes never pass the format on.
    fn is_skipped(&self, layer: u32, dtype: CacheDtype) -> bool {
        if KEEPS_MODEL_FORMAT.contains(&self.family()) {
            return true;
        }
        let hybrid = self.groups().any(|cache| matches!(cache, LayerCache::Recurrent(_)));
        let layers = self.model.num_hidden_layers;
        let ends = 2.min(layers / 2);
        dtype.is_turboquant() && !hybrid && (layer < ends || layer >= layers.saturating_sub(ends)) && layer < layers
    }

    /// The block and the page of quantised layers beside some that are not: the block grows until its page covers theirs
    /// (`_align_heterogeneous_kv_block_size`).
    fn with_unquantised_ends(
        block_size: u64,
        dtype: CacheDtype,
        attention: &[Attention],
    ) -> Result<(u64, Option<u64>), Error> {
        let skips = attention.iter().any(|layer| layer.dtype != dtype);
        let Some(first) = attention.first().filter(|_| skips && dtype.is_turboquant()) else {
            return Ok((block_size, None));
        };
        let too_large = Error::too_large;
        let (k, _, heads) = first.dims;
        // The first layer's backend, which is not TurboQuant's, is asked: K and V at a byte an element.
        let quantised = k.checked_mul(2).and_then(|width| width.checked_mul(heads)).ok_or_else(too_large)?;
        let plain = quantised.checked_mul(2).ok_or_else(too_large)?;
        let smallest = first.backend.smallest_block(&first.query);
        let unit = smallest.max(block_size);
        let wanted = plain.checked_mul(smallest).ok_or_else(too_large)?;
        let tokens = wanted.div_ceil(unit.checked_mul(quantised).ok_or_else(too_large)?.max(1));
        let block_size = unit.checked_mul(tokens).ok_or_else(too_large)?.max(block_size);
        Ok((block_size, block_size.checked_mul(quantised)))
    }

    /// The cache of a layer that attends.
    fn attention_cache(&self, layer: &Attention, block_size: u64, skipped_page: Option<u64>) -> Result<Cache, Error> {
        let Attention { layer: index, source, dims: (k, v, heads), dtype, backend, query } = layer;
        let model_cache = self.model.layer_groups.get(*source).map(|group| group.cache);
        let slides = matches!(model_cache, Some(LayerCache::SlidingWindow { .. }));
        // Before 0.33 a window's cache had one width for K and V.
        let v = if slides && !self.release.is_newest { *k } else { *v };
        let content = match (dtype.name(), query.latent) {
            ("fp8_ds_mla", true) => Some(656),
            ("nvfp4_ds_mla", true) => Some(352),
            _ => dtype.content(*k, v, self.model.dtype),
        };
        let content = content.ok_or_else(Error::too_large)?;
        let width = dtype.format(self.model.dtype).k.bits_per_block();
        let plain = Spec {
            kind: if query.latent { Kind::Latent } else { Kind::Full },
            block_size,
            heads: *heads,
            content,
            tokens_per_entry: 1,
            padded: None,
            shape: (*k, v, width),
        };
        let spec = match model_cache {
            Some(LayerCache::SlidingWindow { window, .. }) => {
                let window = window.0.saturating_add(u64::from(WINDOW_AND_ONE.contains(&self.family())));
                let kind = if query.latent {
                    Kind::SlidingLatent { window, extra: self.extra_tokens() }
                } else {
                    Kind::Sliding { window, extra: self.extra_tokens() }
                };
                let block_size = if query.latent || !self.release.is_newest {
                    block_size
                } else {
                    let per_token = heads.checked_mul(content).ok_or_else(Error::too_large)?;
                    let budget = skipped_page.or_else(|| per_token.checked_mul(block_size));
                    window_block(*backend, query, per_token, budget.ok_or_else(Error::too_large)?)
                };
                Spec { kind, block_size, padded: skipped_page, ..plain }
            }
            Some(LayerCache::ChunkedLocal { chunk, .. }) => Spec { kind: Kind::Chunked { chunk: chunk.0 }, ..plain },
            Some(LayerCache::CrossAttention { .. }) => Spec { kind: Kind::Cross, ..plain },
            _ => plain,
        };
        Ok(Cache { layer: *index, spec, source: *source })
    }
}
