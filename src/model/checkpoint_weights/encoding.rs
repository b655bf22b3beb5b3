//! How a quantized matrix is stored: one formula a line.
//!
//! Read in, and where it could be run held against: autoawq 0.2.7 (`modules/linear/gemm.py`), `auto_gptq` 0.7.1
//! (`qlinear_cuda.py`), compressed-tensors 0.20.1, modelopt 0.47, bitsandbytes 0.50.2, exllamav2 0.3.2, exllamav3 1.6.5,
//! mlx 0.32 with `mlx_lm` 0.32.2, and the settings of hqq. `tests/golden/checkpoint-formats.json` has the values.

use crate::units::Exact;

/// How a quantized matrix is stored. A group of 0 is a whole row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// AWQ, 4 bits with a 16-bit scale and a 4-bit zero point for each group.
    Awq { group: u64 },
    /// GPTQ, the same in other bits, with or without an index of the group of each column.
    Gptq { bits: u64, group: u64, index: bool },
    /// compressed-tensors, `pack-quantized`: integers with their scales, and the shape of the matrix.
    PackedIntegers { bits: u64, group: u64, zero_points: bool, index: bool },
    /// 8 bits with a scale for each row, which engines load in single precision.
    Rows(EightBits),
    /// 8 bits with scalars for the whole matrix, its own scale and perhaps that of its input.
    Whole { scalars: u64, scalar_bytes: u64 },
    /// 8 bits with a scale for each tile, which engines load in single precision.
    Tiles { rows: u64, columns: u64, scale_bytes: u64 },
    /// 4-bit floats with an 8-bit scale for 16 of them, and scalars in single precision.
    Nvfp4 { scalars: u64 },
    /// 4-bit floats with an 8-bit exponent for 32 of them.
    Mxfp4,
    /// 8-bit floats with an 8-bit exponent for 32 of them.
    Mxfp8,
    /// bitsandbytes' 4-bit normal floats, with absolute maxima for 64 of them in 8 bits or in single precision.
    Nf4 { double: bool },
    /// bitsandbytes' `LLM.int8()`, with a scale for each row.
    LlmInt8,
    /// HQQ, with a 16-bit scale and zero point for each group.
    Hqq { bits: u64, group: u64 },
    /// `ExLlamaV2`: a mean over all matrices, overhead included, in thousandths of a bit.
    Exl2 { millibits: u64 },
    /// `ExLlamaV3`: trellis codes of a mean width, and two vectors of scales.
    Exl3 { millibits: u64 },
    /// MLX, with a 16-bit scale and bias for each group.
    Mlx { bits: u64, group: u64 },
}

/// The type of 8-bit elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EightBits {
    Float,
    Integer,
}

/// Where a matrix is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The files of the checkpoint.
    Files,
    /// An engine, after it has loaded them.
    Engine,
}

/// What a matrix is stored as: elements of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) elements: Exact,
    pub(crate) element_bytes: u64,
}

/// Scales that engines load in single precision.
const LOADED_SCALE_BYTES: u64 = 4;

impl Encoding {
    /// What a matrix is stored as.
    pub(crate) fn stored(self, rows: Exact, columns: u64, holder: Holder) -> Vec<Stored> {
        let elements = rows * columns;
        let store = |element_bytes: u64| move |elements: Exact| Stored { elements, element_bytes };
        let (bytes, halves, words, longs) = (store(1), store(2), store(4), store(8));
        let groups = |group: u64| if group == 0 { Exact::ONE } else { Exact::from(columns).div_ceil(group) };
        let scale = |stored: u64| if holder == Holder::Engine { LOADED_SCALE_BYTES } else { stored };
        match self {
            Self::Awq { group } => vec![
                words((elements).div_ceil(8u64)),
                halves(rows * groups(group)),
                words((rows * groups(group)).div_ceil(8u64)),
            ],
            Self::Gptq { bits, group, index } => vec![
                words((elements * bits).div_ceil(32u64)),
                halves(rows * groups(group)),
                words((rows * bits).div_ceil(32u64) * groups(group)),
                words(if index { columns.into() } else { Exact::ZERO }),
            ],
            Self::PackedIntegers { bits, group, zero_points, index } => vec![
                words(rows * (Exact::from(columns) * bits).div_ceil(32u64)),
                halves(rows * groups(group)),
                longs(Exact::from(2u64)),
                words(if zero_points { (rows * bits).div_ceil(32u64) * groups(group) } else { Exact::ZERO }),
                words(if index { columns.into() } else { Exact::ZERO }),
            ],
            Self::Rows(_) => vec![bytes(elements), store(scale(2))(rows)],
            Self::Whole { scalars, scalar_bytes } => vec![bytes(elements), store(scale(scalar_bytes))(scalars.into())],
            Self::Tiles { rows: high, columns: wide, scale_bytes } => vec![
                bytes(elements),
                store(scale(scale_bytes))(rows.div_ceil(high) * Exact::from(columns).div_ceil(wide)),
            ],
            Self::Nvfp4 { scalars } => {
                let scales = rows * Exact::from(columns).div_ceil(16u64);
                vec![bytes(elements.div_ceil(2u64)), bytes(scales), words(scalars.into())]
            }
            Self::Mxfp4 => {
                vec![bytes(elements.div_ceil(2u64)), bytes(rows * Exact::from(columns).div_ceil(32u64))]
            }
            Self::Mxfp8 => vec![bytes(elements), bytes(rows * Exact::from(columns).div_ceil(32u64))],
            // The maps of 16 values and of 256, and the description of the state.
            Self::Nf4 { double: true } => vec![
                bytes(elements.div_ceil(2u64)),
                bytes(elements.div_ceil(64u64)),
                words(elements.div_ceil(16_384u64)),
                words(Exact::from(16u64 + 256)),
                bytes(Exact::from(172u64)),
            ],
            Self::Nf4 { double: false } => vec![
                bytes(elements.div_ceil(2u64)),
                words(elements.div_ceil(64u64)),
                words(Exact::from(16u64)),
                bytes(Exact::from(83u64)),
            ],
            Self::LlmInt8 => vec![bytes(elements), words(rows), bytes(Exact::ONE)],
            Self::Hqq { bits, group } => {
                vec![bytes((elements * bits).div_ceil(8u64)), halves(rows * groups(group) * 2u64)]
            }
            Self::Exl2 { millibits } => vec![bytes((elements * millibits).div_ceil(8000u64))],
            Self::Exl3 { millibits } => vec![bytes((elements * millibits).div_ceil(8000u64)), halves(rows + columns)],
            Self::Mlx { bits, group } => {
                vec![words((elements * bits).div_ceil(32u64)), halves(rows * groups(group) * 2u64)]
            }
        }
    }

    /// The bytes of a matrix.
    pub(crate) fn bytes(self, rows: Exact, columns: u64, holder: Holder) -> Exact {
        let stored = self.stored(rows, columns, holder);
        stored.into_iter().map(|stored| stored.elements * stored.element_bytes).sum()
    }

    /// Whether a matrix of this width can be stored so.
    pub(crate) fn takes(self, columns: u64) -> bool {
        match self {
            Self::Mlx { group, .. } => columns.is_multiple_of(group.max(1)),
            Self::Awq { .. }
            | Self::Gptq { .. }
            | Self::PackedIntegers { .. }
            | Self::Rows(_)
            | Self::Whole { .. }
            | Self::Tiles { .. }
            | Self::Nvfp4 { .. }
            | Self::Mxfp4
            | Self::Mxfp8
            | Self::Nf4 { .. }
            | Self::LlmInt8
            | Self::Hqq { .. }
            | Self::Exl2 { .. }
            | Self::Exl3 { .. } => true,
        }
    }

    /// Its name among the element types of a checkpoint.
    pub(crate) fn dtype(self) -> &'static str {
        match self {
            Self::Awq { .. } => "AWQ",
            Self::Gptq { .. } => "GPTQ",
            Self::PackedIntegers { bits: 8, .. } => "I8 groups",
            Self::PackedIntegers { .. } => "I4 groups",
            Self::Rows(EightBits::Integer) => "I8",
            Self::Rows(EightBits::Float) | Self::Whole { .. } | Self::Tiles { .. } => "F8_E4M3",
            Self::Nvfp4 { .. } => "NVFP4",
            Self::Mxfp4 => "MXFP4",
            Self::Mxfp8 => "MXFP8",
            Self::Nf4 { .. } => "NF4",
            Self::LlmInt8 => "LLM.int8",
            Self::Hqq { .. } => "HQQ",
            Self::Exl2 { .. } => "EXL2",
            Self::Exl3 { .. } => "EXL3",
            Self::Mlx { .. } => "MLX",
        }
    }
}
