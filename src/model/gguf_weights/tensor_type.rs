//! The element types of ggml: blocks, and what takes their place where a block does not divide a row.
//!
//! Read in `ggml/src/ggml-common.h` and in `tensor_type_fallback` of `src/llama-quant.cpp`, llama.cpp v0.5.0.

use crate::units::{Exact, named};

named! {
    /// An element type of tensors in GGUF files.
    #[derive(PartialOrd, Ord)]
    pub enum TensorType {
        /// Single precision.
        F32 = "f32",
        /// Half precision.
        F16 = "f16",
        /// Bfloat16.
        Bf16 = "bf16",
        /// 4 bits, a scale for 32.
        Q4_0 = "q4_0",
        /// 4 bits, a scale and a minimum for 32.
        Q4_1 = "q4_1",
        /// 5 bits, a scale for 32.
        Q5_0 = "q5_0",
        /// 5 bits, a scale and a minimum for 32.
        Q5_1 = "q5_1",
        /// 8 bits, a scale for 32.
        Q8_0 = "q8_0",
        /// 2 bits in blocks of 256.
        Q2K = "q2_K",
        /// 3 bits in blocks of 256.
        Q3K = "q3_K",
        /// 4 bits in blocks of 256.
        Q4K = "q4_K",
        /// 5 bits in blocks of 256.
        Q5K = "q5_K",
        /// 6 bits in blocks of 256.
        Q6K = "q6_K",
        /// A codebook of 1.56 bits.
        Iq1S = "iq1_s",
        /// A codebook of 1.75 bits.
        Iq1M = "iq1_m",
        /// A codebook of 2.06 bits.
        Iq2Xxs = "iq2_xxs",
        /// A codebook of 2.31 bits.
        Iq2Xs = "iq2_xs",
        /// A codebook of 2.56 bits.
        Iq2S = "iq2_s",
        /// A codebook of 3.06 bits.
        Iq3Xxs = "iq3_xxs",
        /// A codebook of 3.44 bits.
        Iq3S = "iq3_s",
        /// 4 bits that are not linear, a scale for 32.
        Iq4Nl = "iq4_nl",
        /// The same in blocks of 256.
        Iq4Xs = "iq4_xs",
        /// Ternary, 1.69 bits.
        Tq1_0 = "tq1_0",
        /// Ternary, 2.06 bits.
        Tq2_0 = "tq2_0",
        /// The microscaling format of 4 bits.
        Mxfp4 = "mxfp4",
        /// 1 bit, a scale for 128.
        Q1_0 = "q1_0",
        /// 2 bits, a scale for 64.
        Q2_0 = "q2_0",
        /// Whole numbers.
        I32 = "i32",
    }
}

/// A block of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Elements of it: consecutive columns of a row.
    pub elements: u64,
    /// Its bytes, scales included.
    pub bytes: u64,
}

impl TensorType {
    /// Its block.
    pub fn block(self) -> Block {
        let (elements, bytes) = match self {
            Self::F32 | Self::I32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 | Self::Iq4Nl => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Mxfp4 => (32, 17),
            Self::Q2_0 => (64, 18),
            Self::Q1_0 => (128, 18),
            Self::Q2K => (256, 84),
            Self::Q3K | Self::Iq3S => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Iq1S => (256, 50),
            Self::Iq1M => (256, 56),
            Self::Iq2Xxs | Self::Tq2_0 => (256, 66),
            Self::Iq2Xs => (256, 74),
            Self::Iq2S => (256, 82),
            Self::Iq3Xxs => (256, 98),
            Self::Iq4Xs => (256, 136),
            Self::Tq1_0 => (256, 54),
        };
        Block { elements, bytes }
    }

    /// Whether its blocks divide a row of `columns` elements.
    pub fn divides(self, columns: u64) -> bool {
        columns.is_multiple_of(self.block().elements)
    }

    /// The type that llama-quantize takes for a row of `columns` elements where this one is wanted; `None` where it stops.
    pub fn or_fallback(self, columns: u64) -> Option<Self> {
        if self.divides(columns) {
            return Some(self);
        }
        let smaller = match self {
            Self::Iq1S
            | Self::Iq1M
            | Self::Iq2Xxs
            | Self::Iq2Xs
            | Self::Iq2S
            | Self::Iq3Xxs
            | Self::Iq3S
            | Self::Iq4Xs => Self::Iq4Nl,
            Self::Q2K | Self::Q3K | Self::Tq1_0 | Self::Tq2_0 | Self::Q2_0 => Self::Q4_0,
            Self::Q4K => Self::Q5_0,
            Self::Q5K => Self::Q5_1,
            Self::Q6K => Self::Q8_0,
            Self::F32
            | Self::F16
            | Self::Bf16
            | Self::I32
            | Self::Q4_0
            | Self::Q4_1
            | Self::Q5_0
            | Self::Q5_1
            | Self::Q8_0
            | Self::Iq4Nl
            | Self::Mxfp4 => self,
            Self::Q1_0 => return None,
        };
        Some(if smaller.divides(columns) { smaller } else { Self::F16 })
    }

    /// Bytes of elements in rows that its blocks divide.
    pub fn bytes(self, elements: Exact) -> Exact {
        let Block { elements: block, bytes } = self.block();
        elements / block * bytes
    }
}
