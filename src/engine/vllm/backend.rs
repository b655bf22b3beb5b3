//! Which attention backend vLLM takes on a CUDA device, and the block sizes that its kernels have (`platforms/cuda.py`,
//! `v1/attention/backends/`): a backend is a row of `backends`, what depends on several answers at once is code here. What is installed is taken to be all that a release image has:
//! `FlashAttention` 2 to 4, `FlashInfer`, `FlashMLA`; not `tokenspeed_mla`.

use super::backends::{BACKENDS, Capability, FLASHINFER_GROUPED, Feature, Row};
use super::dtype::CacheDtype;
use crate::units::least_common_multiple;

/// The block that vLLM asks of a backend (`CacheConfig.DEFAULT_BLOCK_SIZE`).
const DEFAULT_BLOCK_SIZE: u64 = 16;

/// A size of blocks that a kernel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockSize {
    /// This one.
    Exactly(u64),
    /// Any multiple.
    MultipleOf(u64),
}

impl BlockSize {
    /// The smallest.
    fn base(self) -> u64 {
        match self {
            Self::Exactly(size) | Self::MultipleOf(size) => size,
        }
    }
}

/// An attention backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backend {
    FlashAttention,
    FlashInfer,
    Triton,
    TritonFlashAttention,
    TritonFlashInfer,
    FlexAttention,
    TurboQuant,
    FlashAttentionMla,
    FlashMla,
    FlashInferMla,
    CutlassMla,
    TritonMla,
    FlashAttentionMlaSparse,
    FlashAttentionMlaSparse4,
    FlashMlaSparse,
    FlashInferMlaSparse,
    FlashInferMlaSparse90,
    FlashInferMlaSparse120,
    /// Of the index keys of DeepSeek-V3.2.
    Indexer,
    /// MiniMax-M3's sparse attention and its index.
    MiniMaxSparse,
    /// All caches of DeepSeek-V4.
    DeepSeekV4,
}

/// What a cache holds of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Heads,
    Latent,
    /// A latent that an index picks.
    SparseLatent,
}

/// What a layer asks of a backend.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "the flags that vLLM asks each backend about, one by one")]
pub(super) struct Query {
    /// Elements of K in one head; of a latent all of them.
    pub(super) head_size: u64,
    /// The largest head size of the model.
    pub(super) largest_head_size: u64,
    pub(super) dtype: CacheDtype,
    pub(super) capability: Capability,
    pub(super) entry: Entry,
    pub(super) sinks: bool,
    /// Images are read in both directions.
    pub(super) image_prefix: bool,
    pub(super) slides: bool,
    /// The model's class asks for Triton where `FlashAttention` 4 does not run (`Gemma4Config`).
    pub(super) wants_flash_attention_4: bool,
    pub(super) cross: bool,
    /// Query heads and KV heads on one rank.
    pub(super) heads: u64,
    pub(super) kv_heads: u64,
    pub(super) qk_nope_head_dim: Option<u64>,
    pub(super) dcp: bool,
    /// The block size that the user chose.
    pub(super) block_size: Option<u64>,
}

impl Query {
    /// The same asked of the model as a whole, whose head size is its largest: block sizes are.
    fn of_model(&self) -> Self {
        Self { head_size: self.largest_head_size.max(self.head_size), ..*self }
    }

    pub(super) fn is_latent(&self) -> bool {
        self.entry != Entry::Heads
    }

    fn major(&self) -> u32 {
        self.capability.0
    }

    /// `FlashAttention` 4 runs there.
    fn has_flash_attention_4(&self) -> bool {
        matches!(self.major(), 9..=11)
    }

    /// The version of `FlashAttention` that this head size gets (`fa_utils.py`).
    fn flash_attention_version(&self) -> u32 {
        match self.major() {
            9 if self.head_size > 256 => 4,
            9 => 3,
            10 | 11 if self.head_size <= 128 || self.head_size == 256 => 4,
            _ => 2,
        }
    }
}

impl Backend {
    fn row(self) -> &'static Row {
        &BACKENDS[self as usize]
    }

    /// vLLM's name.
    pub(super) fn name(self) -> &'static str {
        self.row().name
    }

    /// The backends in the order that vLLM tries them.
    fn priorities(query: &Query) -> Vec<Self> {
        use Backend as B;
        let sm100_sparse: &[Self] = match (query.dtype.is_quantized(), query.heads) {
            (true, _) => &[B::FlashInferMlaSparse, B::FlashMlaSparse],
            (false, ..=16) => &[B::FlashAttentionMlaSparse4, B::FlashInferMlaSparse, B::FlashMlaSparse],
            (false, _) => &[B::FlashMlaSparse, B::FlashInferMlaSparse],
        };
        let (first, rest): (&[Self], &[Self]) = match (query.entry, query.major()) {
            _ if query.wants_flash_attention_4 && !query.has_flash_attention_4() => (&[B::Triton], &[]),
            (Entry::Heads, major) => (
                match (major, query.image_prefix) {
                    (10, true) => &[B::TritonFlashInfer, B::FlashInfer, B::FlashAttention],
                    (10, false) => &[B::FlashInfer, B::FlashAttention],
                    (9, true) => &[B::TritonFlashAttention, B::FlashAttention, B::FlashInfer],
                    _ => &[B::FlashAttention, B::FlashInfer],
                },
                &[B::Triton, B::FlexAttention, B::TurboQuant],
            ),
            (_, 10) => {
                (&[B::FlashInferMla, B::CutlassMla, B::FlashAttentionMla, B::FlashMla, B::TritonMla], sm100_sparse)
            }
            (_, 12) => (&[B::TritonMla], &[B::FlashInferMlaSparse120]),
            _ => (
                &[B::FlashAttentionMla, B::FlashMla, B::FlashInferMla, B::TritonMla],
                match query.head_size {
                    512 => &[B::FlashInferMlaSparse90, B::FlashAttentionMlaSparse, B::FlashMlaSparse],
                    _ => &[B::FlashAttentionMlaSparse, B::FlashMlaSparse, B::FlashInferMlaSparse90],
                },
            ),
        };
        [first, rest].concat()
    }

    /// The backend of a layer, or why none serves it.
    pub(super) fn select(query: &Query) -> Result<Self, String> {
        let candidates = Self::priorities(query);
        if let Some(found) = candidates.iter().find(|backend| backend.refuses(query).is_none()) {
            return Ok(*found);
        }
        let sparse = |entry| entry == Entry::SparseLatent;
        let reasons = candidates.iter().filter(|backend| sparse(backend.row().entry) == sparse(query.entry));
        let reasons = reasons.filter_map(|backend| Some(format!("{}: {}", backend.name(), backend.refuses(query)?)));
        Err(reasons.collect::<Vec<_>>().join("; "))
    }

    /// Why it does not serve a layer, in vLLM's words for it; none where it does.
    fn refuses(self, query: &Query) -> Option<&'static str> {
        let Row { entry, formats, head_sizes, capabilities, features, .. } = self.row();
        let no = |serves: bool, reason: &'static str| (!serves).then_some(reason);
        let serves = |asked: bool, feature| !asked || features.contains(&feature);
        let latent = query.is_latent();
        let sparse = |entry| entry == Entry::SparseLatent;
        no(head_sizes.is_empty() || head_sizes.contains(&query.head_size), "head_size not supported")
            .or(no(self.takes_head(query), "head_size not supported"))
            .or(no(formats.contains(&query.dtype), "kv_cache_dtype not supported"))
            .or(no(query.block_size.is_none_or(|size| self.takes_block(size, query)), "block_size not supported"))
            .or(no(
                serves(query.image_prefix, Feature::ImagePrefix) || self.reads_images_by_flash_attention_4(query),
                "partial multimodal token full attention not supported",
            ))
            .or(no(
                latent == (*entry != Entry::Heads),
                if latent { "MLA not supported" } else { "non-MLA not supported" },
            ))
            .or(no(!query.sinks || self.takes_sinks(query), "attention sinks not supported"))
            .or(no(
                sparse(query.entry) == sparse(*entry),
                if sparse(query.entry) { "sparse not supported" } else { "non-sparse not supported" },
            ))
            .or(no(capabilities.contains(&query.capability), "compute capability not supported"))
            .or(no(serves(query.cross, Feature::CrossAttention), "attention type not supported"))
            .or(no(serves(query.slides, Feature::SlidingWindow), "sliding window not supported"))
            .or(no(serves(query.dcp, Feature::Dcp), "DCP not supported"))
            .or(self.combination(query))
    }

    /// Rules of head sizes that are no list.
    fn takes_head(self, query: &Query) -> bool {
        match self {
            Self::FlashAttention => {
                query.head_size.is_multiple_of(8)
                    && (query.head_size <= 256 || (query.has_flash_attention_4() && query.head_size <= 512))
            }
            Self::Triton => query.head_size >= 32,
            _ => true,
        }
    }

    fn takes_sinks(self, query: &Query) -> bool {
        match self {
            Self::FlashAttention => matches!(query.major(), 9..=11),
            Self::FlashInfer => matches!(query.major(), 9 | 10 | 12),
            other => other == Self::Triton,
        }
    }

    fn reads_images_by_flash_attention_4(self, query: &Query) -> bool {
        self == Self::FlashAttention && query.has_flash_attention_4() && query.flash_attention_version() == 4
    }

    /// What can't be had together.
    fn combination(self, query: &Query) -> Option<&'static str> {
        let fp4 = matches!(query.dtype, CacheDtype::Nvfp4 | CacheDtype::Nvfp4FourOverSix);
        match self {
            Self::FlashAttention | Self::TritonFlashAttention if query.dtype.is_quantized() => {
                let version = query.flash_attention_version();
                let serves = match query.major() {
                    9 => version == 3 || query.head_size == 512,
                    10 => version == 4 && query.head_size != 256,
                    _ => false,
                };
                if !serves {
                    return Some("FP8 KV cache requires FA3 on SM90, FA4 with head_size=512 on SM90, or FA4 on SM100");
                }
                (self == Self::FlashAttention && query.image_prefix && query.major() == 9)
                    .then_some("SM90 FP8 KV with mm_prefix requires Triton")
            }
            Self::FlashInfer if fp4 => match query.major() {
                8 | 9 | 12 if query.dtype == CacheDtype::Nvfp4FourOverSix => Some("kv_cache_dtype not supported"),
                12 if query.head_size == 64 => Some("fa2 prefill misreads an NVFP4 KV cache at head_size 64"),
                12 if query.sinks => Some("the sink prefill wrapper cannot read an NVFP4 KV cache"),
                10 | 12 => None,
                _ => Some("kv_cache_dtype not supported"),
            },
            Self::FlashInferMla => {
                let serves = query.qk_nope_head_dim.is_none_or(|dim| matches!(dim, 64 | 128 | 192));
                (!serves).then_some("FlashInfer MLA kernel requires qk_nope_head_dim in [64, 128, 192]")
            }
            Self::FlashInferMlaSparse => {
                let serves = query.qk_nope_head_dim.is_none_or(|dim| matches!(dim, 128 | 192));
                (!serves).then_some("FlashInfer MLA Sparse kernel requires qk_nope_head_dim in [128, 192]")
            }
            Self::FlashAttentionMlaSparse4 => (!matches!(query.heads, 8 | 16 | 32 | 64 | 128))
                .then_some("FA4 sparse MLA requires 8, 16, 32, 64 or 128 query heads"),
            Self::FlashMlaSparse if query.dtype == CacheDtype::Nvfp4DsMla && query.major() != 10 => {
                Some("FLASHMLA_SPARSE only supports the nvfp4_ds_mla kv-cache dtype on SM100 (Blackwell)")
            }
            _ => None,
        }
    }

    /// The block sizes that its kernels take for a layer.
    fn block_sizes(self, query: &Query) -> &'static [BlockSize] {
        use BlockSize::Exactly;
        let grouped = || query.heads.checked_div(query.kv_heads).is_some_and(|group| group > 1);
        let plain = || !query.sinks && !query.image_prefix && !query.dcp && !query.dtype.is_quantized();
        match (self, query.major(), query.head_size) {
            (Self::FlashAttention | Self::TritonFlashAttention, 9, 512) if query.dtype.is_fp8() => &[Exactly(64)],
            (Self::FlashAttention, 10 | 11, 256) if plain() => &[Exactly(128)],
            (Self::FlashInfer, 10, _) if grouped() => FLASHINFER_GROUPED,
            _ => self.row().block_sizes,
        }
    }

    fn takes_block(self, size: u64, query: &Query) -> bool {
        self.block_sizes(&query.of_model()).iter().any(|kernel| size.is_multiple_of(kernel.base()))
    }

    /// The smallest block of its kernels.
    pub(super) fn smallest_block(self, query: &Query) -> u64 {
        self.block_sizes(&query.of_model()).iter().map(|size| size.base()).min().unwrap_or(1)
    }
}

/// A backend and what it was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub(super) backend: Backend,
    pub(super) query: Query,
}

impl Choice {
    /// Whether it takes blocks of a size: multiples of a kernel's own are split.
    pub(super) fn takes_block(&self, size: u64) -> bool {
        self.backend.takes_block(size, &self.query)
    }

    /// The smallest block of its kernels.
    pub(super) fn smallest_block(&self) -> u64 {
        self.backend.smallest_block(&self.query)
    }

    /// The largest block of a window whose page fits in `budget` bytes, or the smallest (`_largest_kernel_block_within`).
    pub(super) fn window_block(&self, per_token: u64, budget: u64) -> u64 {
        use BlockSize::{Exactly, MultipleOf};
        let most = budget.checked_div(per_token).unwrap_or_default();
        let size = |size: &BlockSize| match *size {
            Exactly(size) => size,
            MultipleOf(base) => {
                most.checked_rem(base).and_then(|rest| most.checked_sub(rest)).unwrap_or_default().max(base)
            }
        };
        let sizes: Vec<u64> = self.backend.block_sizes(&self.query).iter().map(size).collect();
        let fitting = sizes.iter().copied().filter(|size| *size <= most).max();
        fitting.or_else(|| sizes.into_iter().min()).unwrap_or(DEFAULT_BLOCK_SIZE)
    }
}

/// The smallest block that every backend takes (`_preferred_block_size_for_backends`).
pub(super) fn preferred_block(choices: &[Choice]) -> Option<u64> {
    let all_take = |size: u64| choices.iter().all(|choice| choice.takes_block(size));
    if all_take(DEFAULT_BLOCK_SIZE) {
        return Some(DEFAULT_BLOCK_SIZE);
    }
    if let [choice] = choices {
        return Some(choice.smallest_block());
    }
    let mut candidates = vec![1];
    for Choice { backend, query } in choices {
        let sizes = backend.block_sizes(query);
        candidates = candidates.iter().flat_map(|&a| sizes.iter().filter_map(move |b| lcm(a, b.base()))).collect();
    }
    candidates.sort_unstable();
    candidates.into_iter().find(|&size| all_take(size))
}

/// The least common multiple.
pub(super) fn lcm(a: u64, b: u64) -> Option<u64> {
    least_common_multiple(a.into(), b.into())?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(capability: Capability, dtype: &str) -> Query {
        Query {
            head_size: 128,
            largest_head_size: 128,
            dtype: CacheDtype::asked(dtype.parse().unwrap()).unwrap(),
            capability,
            entry: Entry::Heads,
            sinks: false,
            image_prefix: false,
            slides: false,
            wants_flash_attention_4: false,
            cross: false,
            heads: 32,
            kv_heads: 8,
            qk_nope_head_dim: Some(128),
            dcp: false,
            block_size: None,
        }
    }

    fn latent(capability: Capability, dtype: &str, entry: Entry) -> Query {
        Query { head_size: 576, largest_head_size: 576, entry, heads: 128, kv_heads: 1, ..query(capability, dtype) }
    }

    #[test]
    fn backends_are_those_that_vllm_takes() {
        use Backend as B;
        for (query, backend, block) in [
            (query((9, 0), "auto"), B::FlashAttention, 16),
            (query((9, 0), "fp8"), B::FlashAttention, 16),
            (query((8, 0), "fp8"), B::FlashInfer, 16),
            (query((10, 0), "auto"), B::FlashInfer, 16),
            (query((9, 0), "int8_per_token_head"), B::Triton, 16),
            (query((9, 0), "turboquant_k8v4"), B::TurboQuant, 16),
            (query((7, 5), "auto"), B::Triton, 16),
            (Query { wants_flash_attention_4: true, ..query((8, 9), "fp8") }, B::Triton, 16),
            (Query { wants_flash_attention_4: true, ..query((9, 0), "auto") }, B::FlashAttention, 16),
            (latent((9, 0), "auto", Entry::Latent), B::FlashAttentionMla, 16),
            (latent((9, 0), "fp8", Entry::Latent), B::FlashMla, 64),
            (latent((10, 0), "auto", Entry::Latent), B::FlashInferMla, 32),
            (latent((8, 0), "auto", Entry::Latent), B::TritonMla, 16),
            (latent((9, 0), "auto", Entry::SparseLatent), B::FlashAttentionMlaSparse, 64),
            (latent((9, 0), "fp8", Entry::SparseLatent), B::FlashMlaSparse, 64),
            (latent((9, 0), "fp8_e4m3", Entry::SparseLatent), B::FlashInferMlaSparse90, 64),
            (latent((10, 0), "fp8", Entry::SparseLatent), B::FlashInferMlaSparse, 32),
            (latent((10, 0), "fp8_ds_mla", Entry::SparseLatent), B::FlashMlaSparse, 64),
        ] {
            let found = Backend::select(&query).unwrap();
            assert_eq!((found, found.smallest_block(&query)), (backend, block), "{query:?}");
        }
    }

    #[test]
    fn what_no_backend_serves_is_refused_with_their_reasons() {
        let reasons = Backend::select(&latent((8, 0), "auto", Entry::SparseLatent)).unwrap_err();
        assert!(reasons.contains("FLASHMLA_SPARSE: compute capability not supported"), "{reasons}");
        assert!(Backend::select(&latent((9, 0), "fp8_ds_mla", Entry::Latent)).is_err());
        let sinks = Query { sinks: true, head_size: 64, largest_head_size: 64, ..query((9, 0), "turboquant_4bit_nc") };
        assert!(Backend::select(&sinks).is_err());
    }
}
