//! The attention backends of vLLM 0.33.0, a row each (`v1/attention/backends/`).

use std::ops::RangeInclusive;

use super::backend::Backend as B;
use super::backend::BlockSize::{self, Exactly, MultipleOf};
use super::backend::Entry;
use super::dtype::CacheDtype as D;

/// A compute capability, major and minor.
pub(super) type Capability = (u32, u32);

/// Something that some backends do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feature {
    /// Images read in both directions.
    ImagePrefix,
    CrossAttention,
    SlidingWindow,
    /// Decode context parallelism.
    Dcp,
}

/// A backend.
pub(super) struct Row {
    backend: B,
    /// vLLM's name.
    pub(super) name: &'static str,
    pub(super) entry: Entry,
    pub(super) formats: &'static [D],
    /// The head sizes; empty where they are no list.
    pub(super) head_sizes: &'static [u64],
    pub(super) capabilities: RangeInclusive<Capability>,
    pub(super) features: &'static [Feature],
    /// The block sizes of its kernels, where they don't depend on the layer.
    pub(super) block_sizes: &'static [BlockSize],
}

const LAST: u32 = u32::MAX;
const SM90: RangeInclusive<Capability> = (9, 0)..=(9, LAST);
const SM100: RangeInclusive<Capability> = (10, 0)..=(10, LAST);
const SM120: RangeInclusive<Capability> = (12, 0)..=(12, LAST);

const PLAIN: &[D] = &[D::Model, D::Fp16, D::Bf16];
const E4M3: &[D] = &[D::Model, D::Fp16, D::Bf16, D::Fp8, D::Fp8E4m3];
const FP8: &[D] = &[D::Model, D::Fp16, D::Bf16, D::Fp8, D::Fp8E4m3, D::Fp8E5m2];
const FLASHINFER: &[D] = &[D::Model, D::Fp16, D::Bf16, D::Fp8, D::Fp8E4m3, D::Fp8E5m2, D::Nvfp4, D::Nvfp4FourOverSix];
const TRITON: &[D] = &[
    D::Model,
    D::Fp16,
    D::Bf16,
    D::Fp8,
    D::Fp8E4m3,
    D::Fp8E5m2,
    D::Int4PerTokenHead,
    D::Int8PerTokenHead,
    D::Fp8PerTokenHead,
];
const TURBOQUANT: &[D] = &[D::TurboquantK8v4, D::Turboquant4BitNc, D::TurboquantK3v4Nc, D::Turboquant3BitNc];

const SLIDING: &[Feature] = &[Feature::SlidingWindow];
const SLIDING_DCP: &[Feature] = &[Feature::SlidingWindow, Feature::Dcp];
const IMAGES_SLIDING: &[Feature] = &[Feature::ImagePrefix, Feature::SlidingWindow];
const BLOCKS_16: &[BlockSize] = &[MultipleOf(16)];
const BLOCKS_64: &[BlockSize] = &[MultipleOf(64)];
const BLOCK_64: &[BlockSize] = &[Exactly(64)];
const BLOCK_128: &[BlockSize] = &[Exactly(128)];

/// Those of FlashInfer for several query heads a KV head on compute capability 10.
pub(super) const FLASHINFER_GROUPED: &[BlockSize] =
    &[Exactly(16), Exactly(32), Exactly(64), Exactly(128), Exactly(256), Exactly(512), Exactly(1_024)];

/// A backend of heads that has nothing special.
const HEADS: Row = Row {
    backend: B::FlexAttention,
    name: "FLEX_ATTENTION",
    entry: Entry::Heads,
    formats: PLAIN,
    head_sizes: &[],
    capabilities: (0, 0)..=(LAST, LAST),
    features: IMAGES_SLIDING,
    block_sizes: BLOCKS_16,
};
/// A backend of latents on compute capability 9.
const MLA: Row = Row {
    backend: B::FlashMla,
    name: "FLASHMLA",
    entry: Entry::Latent,
    formats: E4M3,
    head_sizes: &[320, 512, 576],
    capabilities: SM90,
    features: SLIDING_DCP,
    block_sizes: BLOCK_64,
};
/// A backend of sparse latents.
const SPARSE: Row = Row { entry: Entry::SparseLatent, head_sizes: &[512, 576], block_sizes: BLOCKS_64, ..MLA };

/// Every backend, in the order of its enum.
pub(super) const BACKENDS: &[Row] = &[
    Row {
        backend: B::FlashAttention,
        name: "FLASH_ATTN",
        formats: E4M3,
        capabilities: (8, 0)..=(LAST, LAST),
        features: &[Feature::CrossAttention, Feature::SlidingWindow, Feature::Dcp],
        ..HEADS
    },
    Row {
        backend: B::FlashInfer,
        name: "FLASHINFER",
        formats: FLASHINFER,
        head_sizes: &[64, 128, 256, 512],
        capabilities: (8, 0)..=(12, 1),
        features: SLIDING_DCP,
        block_sizes: &[Exactly(16), Exactly(32), Exactly(64)],
        ..HEADS
    },
    Row {
        backend: B::Triton,
        name: "TRITON_ATTN",
        formats: TRITON,
        features: &[Feature::ImagePrefix, Feature::CrossAttention, Feature::SlidingWindow],
        ..HEADS
    },
    Row {
        backend: B::TritonFlashAttention,
        name: "TRITON_FLASH_ATTN",
        formats: E4M3,
        head_sizes: &[256, 512],
        capabilities: SM90,
        ..HEADS
    },
    Row {
        backend: B::TritonFlashInfer,
        name: "TRITON_FLASHINFER",
        formats: FP8,
        head_sizes: &[256, 512],
        capabilities: SM100,
        block_sizes: BLOCK_64,
        ..HEADS
    },
    HEADS,
    Row {
        backend: B::TurboQuant,
        name: "TURBOQUANT",
        formats: TURBOQUANT,
        features: &[],
        block_sizes: &[Exactly(16), Exactly(32), Exactly(64), Exactly(128)],
        ..HEADS
    },
    Row { backend: B::FlashAttentionMla, name: "FLASH_ATTN_MLA", formats: PLAIN, block_sizes: BLOCKS_16, ..MLA },
    MLA,
    Row {
        backend: B::FlashInferMla,
        name: "FLASHINFER_MLA",
        capabilities: SM100,
        block_sizes: &[Exactly(32), Exactly(64)],
        ..MLA
    },
    Row { backend: B::CutlassMla, name: "CUTLASS_MLA", capabilities: SM100, block_sizes: BLOCK_128, ..MLA },
    Row {
        backend: B::TritonMla,
        name: "TRITON_MLA",
        head_sizes: &[],
        capabilities: (0, 0)..=(LAST, LAST),
        block_sizes: BLOCKS_16,
        ..MLA
    },
    Row {
        backend: B::FlashAttentionMlaSparse,
        name: "FLASH_ATTN_MLA_SPARSE",
        formats: PLAIN,
        head_sizes: &[],
        features: SLIDING,
        ..SPARSE
    },
    Row {
        backend: B::FlashAttentionMlaSparse4,
        name: "FLASH_ATTN_MLA_SPARSE_FA4",
        formats: &[D::Model, D::Bf16],
        head_sizes: &[576],
        capabilities: SM100,
        ..SPARSE
    },
    Row {
        backend: B::FlashMlaSparse,
        name: "FLASHMLA_SPARSE",
        formats: &[D::Model, D::Bf16, D::Fp8, D::Fp8DsMla, D::Nvfp4DsMla],
        capabilities: (9, 0)..=(10, LAST),
        ..SPARSE
    },
    Row {
        backend: B::FlashInferMlaSparse,
        name: "FLASHINFER_MLA_SPARSE",
        capabilities: SM100,
        block_sizes: &[MultipleOf(32)],
        ..SPARSE
    },
    Row {
        backend: B::FlashInferMlaSparse90,
        name: "FLASHINFER_MLA_SPARSE_SM90",
        formats: &[D::Model, D::Bf16, D::Fp8, D::Fp8E4m3],
        features: SLIDING,
        ..SPARSE
    },
    Row {
        backend: B::FlashInferMlaSparse120,
        name: "FLASHINFER_MLA_SPARSE_SM120",
        formats: &[D::Model, D::Fp8, D::Fp8E4m3, D::Fp8DsMla],
        capabilities: SM120,
        features: SLIDING,
        ..SPARSE
    },
    Row { backend: B::Indexer, name: "DEEPSEEK_V32_INDEXER", block_sizes: BLOCK_64, ..SPARSE },
    Row { backend: B::MiniMaxSparse, name: "MINIMAX_M3_SPARSE", block_sizes: BLOCK_128, ..HEADS },
    Row { backend: B::DeepSeekV4, name: "DEEPSEEK_V4", block_sizes: &[Exactly(256)], ..SPARSE },
];

const _: () = {
    let mut index = 0;
    while index < BACKENDS.len() {
        assert!(BACKENDS[index].backend as usize == index, "a row is out of order");
        index += 1;
    }
};
