//! Which attention backend vLLM takes on a CUDA device, and the block sizes that its kernels have (`platforms/cuda.py`,
//! `v1/attention/backends/`): a backend is a row. What is installed is taken to be all that a release image has:
//! `FlashAttention` 2 to 4, `FlashInfer`, `FlashMLA`; not `tokenspeed_mla`.

use std::ops::RangeInclusive;

use self::BlockSize::{Exactly, MultipleOf};
use self::Feature::{Cross, Dcp, Images, Windows};
use super::dtype::CacheDtype::{self, self as D};
use super::groups::Kind;
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

/// A compute capability, major and minor.
type Capability = (u32, u32);

/// What a backend reads of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Heads,
    Latent,
    /// A latent that an index picks.
    Sparse,
}

/// Something that some backends do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feature {
    /// Images read in both directions.
    Images,
    /// Cross-attention.
    Cross,
    /// Sliding windows.
    Windows,
    /// Decode context parallelism.
    Dcp,
}

/// What is known of a backend; what depends on several answers at once is code below.
struct Row {
    /// vLLM's name.
    name: &'static str,
    entry: Entry,
    formats: &'static [CacheDtype],
    /// Empty where they are no list.
    head_sizes: &'static [u64],
    capabilities: RangeInclusive<Capability>,
    features: &'static [Feature],
    /// The block sizes of its kernels, where they don't depend on the layer.
    block_sizes: &'static [BlockSize],
}

const LAST: u32 = u32::MAX;
const EVERY: RangeInclusive<Capability> = (0, 0)..=(LAST, LAST);
const FROM_80: RangeInclusive<Capability> = (8, 0)..=(LAST, LAST);
const TO_121: RangeInclusive<Capability> = (8, 0)..=(12, 1);
const SM90: RangeInclusive<Capability> = (9, 0)..=(9, LAST);
const SM90_100: RangeInclusive<Capability> = (9, 0)..=(10, LAST);
const SM100: RangeInclusive<Capability> = (10, 0)..=(10, LAST);
const SM120: RangeInclusive<Capability> = (12, 0)..=(12, LAST);

const PLAIN: &[D] = &[D::Model, D::Fp16, D::Bf16];
const E4M3: &[D] = &[D::Model, D::Fp16, D::Bf16, D::Fp8, D::Fp8E4m3];
const FP8: &[D] = &[D::Model, D::Fp16, D::Bf16, D::Fp8, D::Fp8E4m3, D::Fp8E5m2];
const FP8_FP4: &[D] = &[D::Model, D::Fp16, D::Bf16, D::Fp8, D::Fp8E4m3, D::Fp8E5m2, D::Nvfp4, D::Nvfp4FourOverSix];
#[rustfmt::skip]
const FP8_SCALED: &[D] = &[
    D::Model, D::Fp16, D::Bf16, D::Fp8, D::Fp8E4m3, D::Fp8E5m2,
    D::Int4PerTokenHead, D::Int8PerTokenHead, D::Fp8PerTokenHead,
];
const TURBO: &[D] = &[D::TurboquantK8v4, D::Turboquant4BitNc, D::TurboquantK3v4Nc, D::Turboquant3BitNc];
const BF16: &[D] = &[D::Model, D::Bf16];
const BF16_E4M3: &[D] = &[D::Model, D::Bf16, D::Fp8, D::Fp8E4m3];
const BF16_PACKED: &[D] = &[D::Model, D::Bf16, D::Fp8, D::Fp8DsMla, D::Nvfp4DsMla];
const E4M3_PACKED: &[D] = &[D::Model, D::Fp8, D::Fp8E4m3, D::Fp8DsMla];

/// Declares the backends, a row each.
macro_rules! backends {
    ($($backend:ident $name:literal $entry:ident $formats:ident $heads:tt $capabilities:ident $features:tt $blocks:tt;)*) => {
        /// An attention backend.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Backend { $($backend,)* }

        /// Every backend, in the order of [`Backend`].
        const BACKENDS: &[Row] = &[$(Row {
            name: $name,
            entry: Entry::$entry,
            formats: $formats,
            head_sizes: &$heads,
            capabilities: $capabilities,
            features: &$features,
            block_sizes: &$blocks,
        },)*];
    };
}

// The last three are of DeepSeek-V3.2's index keys, of MiniMax-M3, and of all caches of DeepSeek-V4: taken without a choice.
backends! {
    FlashAttention "FLASH_ATTN" Heads E4M3 [] FROM_80 [Cross, Windows, Dcp] [MultipleOf(16)];
    FlashInfer "FLASHINFER" Heads FP8_FP4 [64, 128, 256, 512] TO_121 [Windows, Dcp] [Exactly(16), Exactly(32), Exactly(64)];
    Triton "TRITON_ATTN" Heads FP8_SCALED [] EVERY [Images, Cross, Windows] [MultipleOf(16)];
    TritonFlashAttention "TRITON_FLASH_ATTN" Heads E4M3 [256, 512] SM90 [Images, Windows] [MultipleOf(16)];
    TritonFlashInfer "TRITON_FLASHINFER" Heads FP8 [256, 512] SM100 [Images, Windows] [Exactly(64)];
    FlexAttention "FLEX_ATTENTION" Heads PLAIN [] EVERY [Images, Windows] [MultipleOf(16)];
    TurboQuant "TURBOQUANT" Heads TURBO [] EVERY [] [Exactly(16), Exactly(32), Exactly(64), Exactly(128)];
    FlashAttentionMla "FLASH_ATTN_MLA" Latent PLAIN [320, 512, 576] SM90 [Windows, Dcp] [MultipleOf(16)];
    FlashMla "FLASHMLA" Latent E4M3 [320, 512, 576] SM90 [Windows, Dcp] [Exactly(64)];
    FlashInferMla "FLASHINFER_MLA" Latent E4M3 [320, 512, 576] SM100 [Windows, Dcp] [Exactly(32), Exactly(64)];
    CutlassMla "CUTLASS_MLA" Latent E4M3 [320, 512, 576] SM100 [Windows, Dcp] [Exactly(128)];
    TritonMla "TRITON_MLA" Latent E4M3 [] EVERY [Windows, Dcp] [MultipleOf(16)];
    FlashAttentionMlaSparse "FLASH_ATTN_MLA_SPARSE" Sparse PLAIN [] SM90 [Windows] [MultipleOf(64)];
    FlashAttentionMlaSparse4 "FLASH_ATTN_MLA_SPARSE_FA4" Sparse BF16 [576] SM100 [Windows, Dcp] [MultipleOf(64)];
    FlashMlaSparse "FLASHMLA_SPARSE" Sparse BF16_PACKED [512, 576] SM90_100 [Windows, Dcp] [MultipleOf(64)];
    FlashInferMlaSparse "FLASHINFER_MLA_SPARSE" Sparse E4M3 [512, 576] SM100 [Windows, Dcp] [MultipleOf(32)];
    FlashInferMlaSparse90 "FLASHINFER_MLA_SPARSE_SM90" Sparse BF16_E4M3 [512, 576] SM90 [Windows] [MultipleOf(64)];
    FlashInferMlaSparse120 "FLASHINFER_MLA_SPARSE_SM120" Sparse E4M3_PACKED [512, 576] SM120 [Windows] [MultipleOf(64)];
    Indexer "DEEPSEEK_V32_INDEXER" Sparse PLAIN [] EVERY [] [Exactly(64)];
    MiniMaxSparse "MINIMAX_M3_SPARSE" Heads PLAIN [] EVERY [] [Exactly(128)];
    DeepSeekV4 "DEEPSEEK_V4" Sparse PLAIN [] EVERY [] [Exactly(256)];
}

/// What a layer asks of a backend.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "the flags that vLLM asks each backend about, one by one")]
pub(super) struct Query {
    pub(super) kind: Kind,
    /// Elements of K in one head; of a latent all of them.
    pub(super) head_size: u64,
    /// The largest head size of the model.
    pub(super) largest_head_size: u64,
    pub(super) dtype: CacheDtype,
    pub(super) capability: (u32, u32),
    /// An index picks what is read.
    pub(super) sparse: bool,
    pub(super) sinks: bool,
    /// Images are read in both directions.
    pub(super) image_prefix: bool,
    /// The model's class asks for Triton where `FlashAttention` 4 does not run (`Gemma4Config`).
    pub(super) wants_flash_attention_4: bool,
    /// Query heads and KV heads on one rank.
    pub(super) heads: u64,
    pub(super) kv_heads: u64,
    pub(super) qk_nope_head_dim: Option<u64>,
    pub(super) dcp: bool,
    /// The block size that the user chose.
    pub(super) block_size: Option<u64>,
}

impl Query {
    fn entry(&self) -> Entry {
        match (self.kind.is_latent(), self.sparse) {
            (false, _) => Entry::Heads,
            (true, false) => Entry::Latent,
            (true, true) => Entry::Sparse,
        }
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
        let (first, rest): (&[Self], &[Self]) = match (query.entry(), query.major()) {
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
        let sparse = |entry| entry == Entry::Sparse;
        let reasons = candidates.iter().filter(|backend| sparse(backend.row().entry) == sparse(query.entry()));
        let reasons = reasons.filter_map(|backend| Some(format!("{}: {}", backend.name(), backend.refuses(query)?)));
        Err(reasons.collect::<Vec<_>>().join("; "))
    }

    /// Why it does not serve a layer, in vLLM's words for it; none where it does.
    fn refuses(self, query: &Query) -> Option<&'static str> {
        let Row { entry, formats, head_sizes, capabilities, features, .. } = self.row();
        let (latent, sparse) = (query.kind.is_latent(), query.entry() == Entry::Sparse);
        let listed = head_sizes.is_empty() || head_sizes.contains(&query.head_size);
        let has = |feature| features.contains(&feature);
        let takes_block = |size| Choice { backend: self, query: *query }.takes_block(size);
        let images = has(Images) || (self == Self::FlashAttention && query.flash_attention_version() == 4);
        let mla = if latent { "MLA not supported" } else { "non-MLA not supported" };
        let picked = if sparse { "sparse not supported" } else { "non-sparse not supported" };
        let refusals = [
            (!listed || !self.takes_head(query), "head_size not supported"),
            (!formats.contains(&query.dtype), "kv_cache_dtype not supported"),
            (query.block_size.is_some_and(|size| !takes_block(size)), "block_size not supported"),
            (query.image_prefix && !images, "partial multimodal token full attention not supported"),
            (latent != (*entry != Entry::Heads), mla),
            (query.sinks && !self.takes_sinks(query), "attention sinks not supported"),
            (sparse != (*entry == Entry::Sparse), picked),
            (!capabilities.contains(&query.capability), "compute capability not supported"),
            (query.kind == Kind::Cross && !has(Cross), "attention type not supported"),
            (query.kind.slides() && !has(Windows), "sliding window not supported"),
            (query.dcp && !has(Dcp), "DCP not supported"),
        ];
        let found = refusals.into_iter().find(|(refused, _)| *refused).map(|(_, reason)| reason);
        found.or_else(|| self.combination(query))
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
            Self::FlashAttention => query.has_flash_attention_4(),
            Self::FlashInfer => matches!(query.major(), 9 | 10 | 12),
            other => other == Self::Triton,
        }
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
        let grouped = || query.heads.checked_div(query.kv_heads).is_some_and(|group| group > 1);
        let plain = || !query.sinks && !query.image_prefix && !query.dcp && !query.dtype.is_quantized();
        match (self, query.major(), query.head_size) {
            (Self::FlashAttention | Self::TritonFlashAttention, 9, 512) if query.dtype.is_fp8() => &[Exactly(64)],
            (Self::FlashAttention, 10 | 11, 256) if plain() => &[Exactly(128)],
            (Self::FlashInfer, 10, _) if grouped() => {
                &[Exactly(16), Exactly(32), Exactly(64), Exactly(128), Exactly(256), Exactly(512), Exactly(1_024)]
            }
            _ => self.row().block_sizes,
        }
    }
}

/// A backend and what it was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub(super) backend: Backend,
    pub(super) query: Query,
}

impl Choice {
    /// The block sizes that the model as a whole is asked for, whose head size is its largest.
    fn block_sizes(&self) -> impl Iterator<Item = u64> {
        let head_size = self.query.largest_head_size.max(self.query.head_size);
        self.backend.block_sizes(&Query { head_size, ..self.query }).iter().map(|size| size.base())
    }

    /// Whether it takes blocks of a size: multiples of a kernel's own are split.
    pub(super) fn takes_block(&self, size: u64) -> bool {
        self.block_sizes().any(|base| size.is_multiple_of(base))
    }

    /// The smallest block of its kernels.
    pub(super) fn smallest_block(&self) -> u64 {
        self.block_sizes().min().unwrap_or(1)
    }

    /// The largest block of a window whose page fits in `budget` bytes, or the smallest (`_largest_kernel_block_within`).
    pub(super) fn window_block(&self, per_token: u64, budget: u64) -> u64 {
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
            kind: Kind::Full,
            sparse: false,
            sinks: false,
            image_prefix: false,
            wants_flash_attention_4: false,
            heads: 32,
            kv_heads: 8,
            qk_nope_head_dim: Some(128),
            dcp: false,
            block_size: None,
        }
    }

    fn latent(capability: Capability, dtype: &str, entry: Entry) -> Query {
        let sparse = entry == Entry::Sparse;
        Query {
            kind: Kind::Latent,
            head_size: 576,
            largest_head_size: 576,
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
            (latent((9, 0), "auto", Entry::Latent), B::FlashAttentionMla, 16),
            (latent((9, 0), "fp8", Entry::Latent), B::FlashMla, 64),
            (latent((10, 0), "auto", Entry::Latent), B::FlashInferMla, 32),
            (latent((8, 0), "auto", Entry::Latent), B::TritonMla, 16),
            (latent((9, 0), "auto", Entry::Sparse), B::FlashAttentionMlaSparse, 64),
            (latent((9, 0), "fp8", Entry::Sparse), B::FlashMlaSparse, 64),
            (latent((9, 0), "fp8_e4m3", Entry::Sparse), B::FlashInferMlaSparse90, 64),
            (latent((10, 0), "fp8", Entry::Sparse), B::FlashInferMlaSparse, 32),
            (latent((10, 0), "fp8_ds_mla", Entry::Sparse), B::FlashMlaSparse, 64),
        ] {
            let found = Backend::select(&query).unwrap();
            let choice = Choice { backend: found, query };
            assert_eq!((found, choice.smallest_block()), (backend, block), "{query:?}");
        }
    }

    #[test]
    fn what_no_backend_serves_is_refused_with_their_reasons() {
        let reasons = Backend::select(&latent((8, 0), "auto", Entry::Sparse)).unwrap_err();
        assert!(reasons.contains("FLASHMLA_SPARSE: compute capability not supported"), "{reasons}");
        assert!(Backend::select(&latent((9, 0), "fp8_ds_mla", Entry::Latent)).is_err());
        let sinks = Query { sinks: true, head_size: 64, largest_head_size: 64, ..query((9, 0), "turboquant_4bit_nc") };
        assert!(Backend::select(&sinks).is_err());
    }
}
