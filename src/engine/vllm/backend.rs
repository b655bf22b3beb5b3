//! Which attention backend vLLM takes on a CUDA device, and the block sizes that its kernels have (`platforms/cuda.py`,
//! `v1/attention/backends/`). What is installed is taken to be all that a release image has:
//! `FlashAttention` 2 to 4, `FlashInfer`, `FlashMLA`; not `tokenspeed_mla`.

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
    pub(super) fn base(self) -> u64 {
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
    /// `DEEPSEEK_V32_INDEXER`
    Indexer,
    /// MiniMax-M3's sparse attention and its index.
    MiniMaxSparse,
    /// All caches of DeepSeek-V4.
    DeepSeekV4,
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
    pub(super) capability: (u32, u32),
    pub(super) latent: bool,
    pub(super) sparse: bool,
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
    /// The backends in the order that vLLM tries them.
    fn priorities(query: &Query) -> Vec<Self> {
        if query.wants_flash_attention_4 && !query.has_flash_attention_4() {
            return vec![Self::Triton];
        }
        if query.latent {
            return match query.major() {
                10 => {
                    let sparse: &[Self] = if query.dtype.is_quantized() {
                        &[Self::FlashInferMlaSparse, Self::FlashMlaSparse]
                    } else if query.heads <= 16 {
                        &[Self::FlashAttentionMlaSparse4, Self::FlashInferMlaSparse, Self::FlashMlaSparse]
                    } else {
                        &[Self::FlashMlaSparse, Self::FlashInferMlaSparse]
                    };
                    let dense = [
                        Self::FlashInferMla,
                        Self::CutlassMla,
                        Self::FlashAttentionMla,
                        Self::FlashMla,
                        Self::TritonMla,
                    ];
                    dense.iter().chain(sparse).copied().collect()
                }
                12 => vec![Self::TritonMla, Self::FlashInferMlaSparse120],
                _ => {
                    let dense = [Self::FlashAttentionMla, Self::FlashMla, Self::FlashInferMla, Self::TritonMla];
                    let sparse = [Self::FlashAttentionMlaSparse, Self::FlashMlaSparse];
                    let mut all: Vec<Self> = dense.to_vec();
                    if query.head_size == 512 {
                        all.push(Self::FlashInferMlaSparse90);
                        all.extend(sparse);
                    } else {
                        all.extend(sparse);
                        all.push(Self::FlashInferMlaSparse90);
                    }
                    all
                }
            };
        }
        let rest = [Self::Triton, Self::FlexAttention, Self::TurboQuant];
        let first: &[Self] = match (query.major(), query.image_prefix) {
            (10, true) => &[Self::TritonFlashInfer, Self::FlashInfer, Self::FlashAttention],
            (10, false) => &[Self::FlashInfer, Self::FlashAttention],
            (9, true) => &[Self::TritonFlashAttention, Self::FlashAttention, Self::FlashInfer],
            _ => &[Self::FlashAttention, Self::FlashInfer],
        };
        first.iter().chain(&rest).copied().collect()
    }

    /// The backend of a layer, or why none serves it.
    pub(super) fn select(query: &Query) -> Result<Self, String> {
        let candidates = Self::priorities(query);
        let serves = |backend: &Self| backend.refuses(query).is_none();
        if let Some(found) = candidates.iter().find(|backend| serves(backend)) {
            return Ok(*found);
        }
        let reasons = candidates.iter().filter(|backend| backend.is_sparse() == query.sparse);
        let reasons: Vec<String> =
            reasons.filter_map(|backend| Some(format!("{}: {}", backend.name(), backend.refuses(query)?))).collect();
        Err(reasons.join("; "))
    }

    /// vLLM's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FlashAttention => "FLASH_ATTN",
            Self::FlashInfer => "FLASHINFER",
            Self::Triton => "TRITON_ATTN",
            Self::TritonFlashAttention => "TRITON_FLASH_ATTN",
            Self::TritonFlashInfer => "TRITON_FLASHINFER",
            Self::FlexAttention => "FLEX_ATTENTION",
            Self::TurboQuant => "TURBOQUANT",
            Self::FlashAttentionMla => "FLASH_ATTN_MLA",
            Self::FlashMla => "FLASHMLA",
            Self::FlashInferMla => "FLASHINFER_MLA",
            Self::CutlassMla => "CUTLASS_MLA",
            Self::TritonMla => "TRITON_MLA",
            Self::FlashAttentionMlaSparse => "FLASH_ATTN_MLA_SPARSE",
            Self::FlashAttentionMlaSparse4 => "FLASH_ATTN_MLA_SPARSE_FA4",
            Self::FlashMlaSparse => "FLASHMLA_SPARSE",
            Self::FlashInferMlaSparse => "FLASHINFER_MLA_SPARSE",
            Self::FlashInferMlaSparse90 => "FLASHINFER_MLA_SPARSE_SM90",
            Self::FlashInferMlaSparse120 => "FLASHINFER_MLA_SPARSE_SM120",
            Self::Indexer => "DEEPSEEK_V32_INDEXER",
            Self::MiniMaxSparse => "MINIMAX_M3_SPARSE",
            Self::DeepSeekV4 => "DEEPSEEK_V4",
        }
    }

    /// Whether it is for sparse attention.
    fn is_sparse(self) -> bool {
        matches!(
            self,
            Self::FlashAttentionMlaSparse
                | Self::FlashAttentionMlaSparse4
                | Self::FlashMlaSparse
                | Self::FlashInferMlaSparse
                | Self::FlashInferMlaSparse90
                | Self::FlashInferMlaSparse120
        )
    }

    /// The formats of cached elements it takes.
    fn takes(self, dtype: CacheDtype) -> bool {
        let name = dtype.name();
        let plain = matches!(name, "auto" | "fp16" | "bf16");
        let e4m3 = matches!(name, "fp8" | "fp8_e4m3");
        match self {
            Self::FlashAttention
            | Self::FlashMla
            | Self::FlashInferMla
            | Self::CutlassMla
            | Self::TritonMla
            | Self::FlashInferMlaSparse => plain || e4m3,
            Self::FlashInfer => plain || dtype.is_fp8() || name == "nvfp4" || name == "nvfp4_4over6",
            Self::Triton => plain || dtype.is_fp8() || name.ends_with("_per_token_head"),
            Self::TritonFlashAttention => Self::Triton.takes(dtype) && Self::FlashAttention.takes(dtype),
            Self::TritonFlashInfer => Self::Triton.takes(dtype) && Self::FlashInfer.takes(dtype),
            Self::FlexAttention | Self::FlashAttentionMla | Self::FlashAttentionMlaSparse => plain,
            Self::FlashAttentionMlaSparse4 => matches!(name, "auto" | "bf16"),
            Self::TurboQuant => dtype.is_turboquant(),
            Self::FlashMlaSparse => matches!(name, "auto" | "bf16" | "fp8" | "fp8_ds_mla" | "nvfp4_ds_mla"),
            Self::FlashInferMlaSparse90 => matches!(name, "auto" | "bf16") || e4m3,
            Self::FlashInferMlaSparse120 => name == "auto" || e4m3 || name == "fp8_ds_mla",
            Self::Indexer | Self::MiniMaxSparse | Self::DeepSeekV4 => true,
        }
    }

    /// Why it does not serve a layer, in vLLM's words for it; none where it does.
    fn refuses(self, query: &Query) -> Option<&'static str> {
        let capability = query.capability;
        let no = |serves: bool, reason: &'static str| (!serves).then_some(reason);
        let head_sizes: &[u64] = match self {
            Self::FlashInfer => &[64, 128, 256, 512],
            Self::TritonFlashAttention | Self::TritonFlashInfer => &[256, 512],
            Self::FlashAttentionMla | Self::FlashMla | Self::FlashInferMla | Self::CutlassMla => &[320, 512, 576],
            Self::FlashMlaSparse
            | Self::FlashInferMlaSparse
            | Self::FlashInferMlaSparse90
            | Self::FlashInferMlaSparse120 => &[512, 576],
            Self::FlashAttentionMlaSparse4 => &[576],
            _ => &[],
        };
        let runs = match self {
            Self::FlashAttention => capability >= (8, 0),
            Self::FlashInfer => ((8, 0)..=(12, 1)).contains(&capability),
            Self::TritonFlashAttention
            | Self::FlashAttentionMla
            | Self::FlashMla
            | Self::FlashAttentionMlaSparse
            | Self::FlashInferMlaSparse90 => query.major() == 9,
            Self::TritonFlashInfer
            | Self::FlashInferMla
            | Self::CutlassMla
            | Self::FlashInferMlaSparse
            | Self::FlashAttentionMlaSparse4 => query.major() == 10,
            Self::FlashMlaSparse => matches!(query.major(), 9 | 10),
            Self::FlashInferMlaSparse120 => query.major() == 12,
            _ => true,
        };
        let prefix = match self {
            Self::FlashAttention => query.has_flash_attention_4() && query.flash_attention_version() == 4,
            Self::Triton | Self::TritonFlashAttention | Self::TritonFlashInfer | Self::FlexAttention => true,
            _ => false,
        };
        let sinks = match self {
            Self::FlashAttention => matches!(query.major(), 9..=11),
            Self::FlashInfer => matches!(query.major(), 9 | 10 | 12),
            Self::Triton => true,
            _ => false,
        };
        no(head_sizes.is_empty() || head_sizes.contains(&query.head_size), "head_size not supported")
            .or(no(self.takes_head(query), "head_size not supported"))
            .or(no(self.takes(query.dtype), "kv_cache_dtype not supported"))
            .or(no(query.block_size.is_none_or(|size| self.takes_block(size, query)), "block_size not supported"))
            .or(no(!query.image_prefix || prefix, "partial multimodal token full attention not supported"))
            .or(no(
                query.latent == self.is_latent(),
                if query.latent { "MLA not supported" } else { "non-MLA not supported" },
            ))
            .or(no(!query.sinks || sinks, "attention sinks not supported"))
            .or(no(
                query.sparse == self.is_sparse(),
                if query.sparse { "sparse not supported" } else { "non-sparse not supported" },
            ))
            .or(no(runs, "compute capability not supported"))
            .or(no(!query.cross || matches!(self, Self::FlashAttention | Self::Triton), "attention type not supported"))
            .or(no(!query.slides || self != Self::TurboQuant, "sliding window not supported"))
            .or(no(!query.dcp || self.takes_dcp(), "DCP not supported"))
            .or(self.combination(query))
    }

    /// Rules of head sizes that are no list.
    fn takes_head(self, query: &Query) -> bool {
        match self {
            Self::FlashAttention => {
                query.head_size.is_multiple_of(8)
                    && (query.head_size <= 256 || (query.has_flash_attention_4() && query.head_size <= 512))
            }
            Self::Triton | Self::TritonFlashAttention | Self::TritonFlashInfer => query.head_size >= 32,
            _ => true,
        }
    }

    /// Whether it is for latents.
    fn is_latent(self) -> bool {
        self.is_sparse()
            || matches!(
                self,
                Self::FlashAttentionMla | Self::FlashMla | Self::FlashInferMla | Self::CutlassMla | Self::TritonMla
            )
    }

    fn takes_dcp(self) -> bool {
        !matches!(
            self,
            Self::Triton
                | Self::TritonFlashAttention
                | Self::TritonFlashInfer
                | Self::FlexAttention
                | Self::TurboQuant
                | Self::FlashAttentionMlaSparse
                | Self::FlashInferMlaSparse90
                | Self::FlashInferMlaSparse120
        )
    }

    /// What can't be had together.
    fn combination(self, query: &Query) -> Option<&'static str> {
        let fp4 = matches!(query.dtype.name(), "nvfp4" | "nvfp4_4over6");
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
            Self::FlashInfer | Self::TritonFlashInfer if fp4 => match query.major() {
                8 | 9 | 12 if query.dtype.name() == "nvfp4_4over6" => Some("kv_cache_dtype not supported"),
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
            Self::FlashMlaSparse if query.dtype.name() == "nvfp4_ds_mla" && query.major() != 10 => {
                Some("FLASHMLA_SPARSE only supports the nvfp4_ds_mla kv-cache dtype on SM100 (Blackwell)")
            }
            _ => None,
        }
    }

    /// The block sizes that its kernels take for a layer.
    pub(super) fn block_sizes(self, query: &Query) -> Vec<BlockSize> {
        use BlockSize::{Exactly, MultipleOf};
        match self {
            Self::FlashAttention | Self::TritonFlashAttention
                if query.major() == 9 && query.dtype.is_fp8() && query.head_size == 512 =>
            {
                vec![Exactly(64)]
            }
            Self::FlashAttention
                if query.head_size == 256
                    && matches!(query.major(), 10 | 11)
                    && !query.sinks
                    && !query.image_prefix
                    && !query.dtype.is_quantized()
                    && !query.dcp =>
            {
                vec![Exactly(128)]
            }
            Self::FlashAttention
            | Self::TritonFlashAttention
            | Self::Triton
            | Self::FlexAttention
            | Self::TritonMla
            | Self::FlashAttentionMla => vec![MultipleOf(16)],
            Self::FlashInfer => {
                let grouped =
                    query.kv_heads > 0 && query.heads.checked_div(query.kv_heads).is_some_and(|group| group > 1);
                let large: &[u64] = if query.major() == 10 && grouped { &[128, 256, 512, 1024] } else { &[] };
                [16, 32, 64].iter().chain(large).map(|&size| Exactly(size)).collect()
            }
            Self::TritonFlashInfer | Self::FlashMla | Self::Indexer => vec![Exactly(64)],
            Self::TurboQuant => [16, 32, 64, 128].map(Exactly).to_vec(),
            Self::FlashInferMla => [32, 64].map(Exactly).to_vec(),
            Self::CutlassMla | Self::MiniMaxSparse => vec![Exactly(128)],
            Self::FlashInferMlaSparse => vec![MultipleOf(32)],
            Self::FlashAttentionMlaSparse
            | Self::FlashAttentionMlaSparse4
            | Self::FlashMlaSparse
            | Self::FlashInferMlaSparse90
            | Self::FlashInferMlaSparse120 => vec![MultipleOf(64)],
            Self::DeepSeekV4 => vec![Exactly(256)],
        }
    }

    /// Whether it takes blocks of a size: multiples of a kernel's own are split.
    pub(super) fn takes_block(self, size: u64, query: &Query) -> bool {
        // The size is asked of the model as a whole, whose head size is its largest.
        let whole = Query { head_size: query.largest_head_size.max(query.head_size), ..*query };
        self.block_sizes(&whole).iter().any(|kernel| size.is_multiple_of(kernel.base()))
    }

    /// The smallest block of its kernels.
    pub(super) fn smallest_block(self, query: &Query) -> u64 {
        let whole = Query { head_size: query.largest_head_size.max(query.head_size), ..*query };
        self.block_sizes(&whole).into_iter().map(BlockSize::base).min().unwrap_or(1)
    }
}

/// The largest block of a window's backend whose page fits in `budget` bytes, or its smallest
/// (`_largest_kernel_block_within`).
pub(super) fn window_block(backend: Backend, query: &Query, per_token: u64, budget: u64) -> u64 {
    use BlockSize::{Exactly, MultipleOf};
    let most = budget.checked_div(per_token).unwrap_or_default();
    let size = |size| match size {
        Exactly(size) => size,
        MultipleOf(base) => base.max(most.checked_div(base).unwrap_or_default().saturating_mul(base)),
    };
    let sizes: Vec<u64> = backend.block_sizes(query).into_iter().map(size).collect();
    let fitting = sizes.iter().copied().filter(|size| *size <= most).max();
    fitting.or_else(|| sizes.into_iter().min()).unwrap_or(DEFAULT_BLOCK_SIZE)
}

/// The smallest block that every backend takes (`_preferred_block_size_for_backends`).
pub(super) fn preferred_block(backends: &[(Backend, Query)]) -> Option<u64> {
    let all_take = |size: u64| backends.iter().all(|(backend, query)| backend.takes_block(size, query));
    if all_take(DEFAULT_BLOCK_SIZE) {
        return Some(DEFAULT_BLOCK_SIZE);
    }
    if let [(backend, query)] = backends {
        return Some(backend.smallest_block(query));
    }
    let mut candidates = vec![1];
    for (backend, query) in backends {
        let sizes: Vec<u64> = backend.block_sizes(query).iter().map(|size| size.base()).collect();
        candidates = candidates.iter().flat_map(|&a| sizes.iter().filter_map(move |&b| lcm(a, b))).collect();
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

    fn query(capability: (u32, u32), dtype: &str) -> Query {
        Query {
            head_size: 128,
            largest_head_size: 128,
            dtype: CacheDtype::named(dtype),
            capability,
            latent: false,
            sparse: false,
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

    fn latent(capability: (u32, u32), dtype: &str, sparse: bool) -> Query {
        Query {
            head_size: 576,
            largest_head_size: 576,
            latent: true,
            sparse,
            heads: 128,
            kv_heads: 1,
            ..query(capability, dtype)
        }
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
            (latent((9, 0), "auto", false), B::FlashAttentionMla, 16),
            (latent((9, 0), "fp8", false), B::FlashMla, 64),
            (latent((10, 0), "auto", false), B::FlashInferMla, 32),
            (latent((8, 0), "auto", false), B::TritonMla, 16),
            (latent((9, 0), "auto", true), B::FlashAttentionMlaSparse, 64),
            (latent((9, 0), "fp8", true), B::FlashMlaSparse, 64),
            (latent((9, 0), "fp8_e4m3", true), B::FlashInferMlaSparse90, 64),
            (latent((10, 0), "fp8", true), B::FlashInferMlaSparse, 32),
            (latent((10, 0), "fp8_ds_mla", true), B::FlashMlaSparse, 64),
        ] {
            let found = Backend::select(&query).unwrap();
            assert_eq!((found, found.smallest_block(&query)), (backend, block), "{query:?}");
        }
    }

    #[test]
    fn what_no_backend_serves_is_refused_with_their_reasons() {
        let reasons = Backend::select(&latent((8, 0), "auto", true)).unwrap_err();
        assert!(reasons.contains("FLASHMLA_SPARSE: compute capability not supported"), "{reasons}");
        assert!(Backend::select(&latent((9, 0), "fp8_ds_mla", false)).is_err());
        let sinks = Query { sinks: true, head_size: 64, largest_head_size: 64, ..query((9, 0), "turboquant_4bit_nc") };
        assert!(Backend::select(&sinks).is_err());
    }
}
