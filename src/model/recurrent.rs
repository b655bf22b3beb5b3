//! States of fixed size: what recurrent layers keep in place of entries.

use crate::units::{ElementFormat, Exact, named};

/// The state of a recurrent layer: the last inputs of its convolution, and what it remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecurrentState {
    /// Whose state it is.
    pub mechanism: Mechanism,
    /// The inputs that the convolution will read again.
    pub convolution: Option<Convolution>,
    /// What is remembered of the sequence.
    pub memory: Option<Memory>,
}

impl RecurrentState {
    /// The columns that its convolution keeps; 0 without one.
    pub fn columns(self) -> Exact {
        self.convolution.map_or(Exact::ZERO, Convolution::columns)
    }
}

/// `kernel − 1` columns of the convolution's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Channels that are divided over tensor parallel ranks.
    pub channels: u64,
    /// Channels of each group (Mamba-2's B and C), which are replicated when the ranks outnumber the groups.
    pub channels_per_group: u64,
    /// Groups.
    pub groups: u64,
    /// Width of the convolution, the current token included.
    pub kernel: u64,
    /// The model's format.
    pub format: ElementFormat,
}

/// A matrix or vector for each head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Heads, or channels, that are divided over tensor parallel ranks.
    pub heads: u64,
    /// Elements of each.
    pub elements_per_head: u64,
    /// The format that the configuration names for it, else the model's.
    pub format: ElementFormat,
}

named! {
    /// The recurrence of a layer.
    pub enum Mechanism {
        /// Mamba, arXiv:2312.00752: `d_inner × d_state`, after a convolution over `d_inner`.
        Mamba1 = "mamba1",
        /// Mamba-2, arXiv:2405.21060: `heads × head_dim × d_state`, after a convolution over `d_inner` and B and C of each group.
        Mamba2 = "mamba2",
        /// Gated delta net, arXiv:2412.06464: `value_heads × value_dim × key_dim`, after a convolution over q, k and v.
        GatedDeltaNet = "gated_delta_net",
        /// Kimi delta attention, arXiv:2510.26692: `heads × dim × dim`, after convolutions over q, k and v.
        Kda = "kda",
        /// Lightning attention (`MiniMax`-01, arXiv:2501.08313): `heads × dim × dim`, no convolution.
        Lightning = "lightning",
        /// A short convolution and no memory (LFM2).
        ShortConvolution = "short_conv",
        /// RG-LRU (Griffin, arXiv:2402.19427): one number a channel, after a convolution.
        RgLru = "rg_lru",
        /// RWKV-4, arXiv:2305.13048: three numbers a channel, and the last token's input twice.
        Rwkv = "rwkv",
        /// Compressed convolutional attention (Zaya): two convolutions over q and k beside the cached K and V, and the half of
        /// each V that waits for the next token.
        Cca = "cca",
        /// mLSTM (xLSTM 7B, arXiv:2503.13427): `heads × (qk_dim × v_dim + qk_dim + 1)`, no convolution.
        Mlstm = "mlstm",
    }
}

impl Convolution {
    /// The columns that are kept: all but the current token's, in every mechanism.
    pub fn columns(self) -> Exact {
        Exact::from(self.kernel).less(1u64)
    }
}
