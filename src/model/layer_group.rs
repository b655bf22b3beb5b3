//! Layers that cache alike, and how much each kind of layer keeps, states included.

use crate::units::{ElementFormat, Error, Exact, Tokens, named};

/// Layers that cache alike. A layer that has several caches (attention beside a recurrent state, a latent beside its
/// index) is in several groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerGroup {
    /// Indices of the layers, from 0, ascending.
    pub layers: Vec<u32>,
    /// What each of them caches.
    pub cache: LayerCache,
}

/// What one layer keeps of a sequence of S tokens. One variant, one formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerCache {
    /// Every token: S entries (Vaswani et al. 2017, arXiv:1706.03762; cached K and V of all positions).
    FullAttention {
        /// An entry.
        key_value: KeyValue,
    },
    /// The last `window` tokens: min(S, W) entries (Mistral 7B, arXiv:2310.06825, section 2).
    SlidingWindow {
        /// An entry.
        key_value: KeyValue,
        /// W, the current token included (`sliding_window`).
        window: Tokens,
        /// W as transformers' configuration class reads it; none where that class knows no window and keeps every token.
        transformers_window: Option<Tokens>,
    },
    /// The current chunk, counted at its fullest: min(S, C) entries, the peak and not the sawtooth (Llama 4;
    /// transformers 5.23 `modeling_llama4.py`, `attention_chunk_size`).
    ChunkedLocal {
        /// An entry.
        key_value: KeyValue,
        /// C (`attention_chunk_size`).
        chunk: Tokens,
    },
    /// One latent vector a token, no heads and no separate V: S entries of `kv_lora_rank + qk_rope_head_dim` elements,
    /// whole on every rank (MLA; DeepSeek-V2, arXiv:2405.04434, section 2.1). [`LayerCache::latent`] checks their sum.
    Latent {
        /// The compressed K and V.
        kv_lora_rank: u64,
        /// The rotary part of K that all heads share.
        qk_rope_head_dim: u64,
    },
    /// One key a token, or one for every `ratio` tokens, that picks what attention reads: ⌈S / ratio⌉ entries of
    /// `index_head_dim` elements, whole on every rank (DeepSeek-V3.2, "lightning indexer"; MiniMax-M3's index).
    Indexer {
        /// Elements of a key.
        index_head_dim: u64,
        /// Tokens of an entry.
        ratio: u64,
    },
    /// One vector for every `ratio` tokens, K and V in one: ⌈S / ratio⌉ entries of `head_dim` elements, whole on every rank,
    /// and the part of the compressor's input that is still open, in fp32 (DeepSeek-V4; vLLM 0.33
    /// `models/deepseek_v4/compressor.py`).
    Compressed {
        /// Elements of an entry.
        head_dim: u64,
        /// Tokens of an entry.
        ratio: u64,
        /// Elements of the compressor's state, its index's included.
        state_elements: u64,
    },
    /// A state of fixed size, whatever the length.
    Recurrent(RecurrentState),
    /// K and V of what an encoder made of text, sound or images: its tokens, whatever the length.
    CrossAttention {
        /// An entry.
        key_value: KeyValue,
        /// The most tokens the encoder gives, if the configuration says.
        encoder_tokens: Option<Tokens>,
        /// Whether the encoder's input may be absent, as an image may; then there is nothing to keep.
        optional: bool,
    },
    /// Nothing of its own: reads the cache of an earlier layer.
    Shared,
    /// Nothing: no attention and no state.
    None,
}

named! {
    /// The kinds of [`LayerCache`].
    pub enum CacheKind {
        /// [`LayerCache::FullAttention`]
        Full = "full_attention",
        /// [`LayerCache::SlidingWindow`]
        Sliding = "sliding_attention",
        /// [`LayerCache::ChunkedLocal`]
        Chunked = "chunked_attention",
        /// [`LayerCache::Latent`]
        Latent = "latent_attention",
        /// [`LayerCache::Indexer`]
        Indexer = "indexer",
        /// [`LayerCache::Compressed`]
        Compressed = "compressed_attention",
        /// [`LayerCache::Recurrent`]
        Recurrent = "recurrent_state",
        /// [`LayerCache::CrossAttention`]
        Cross = "cross_attention",
        /// [`LayerCache::Shared`]
        Shared = "shared",
        /// [`LayerCache::None`]
        None = "none",
    }
}

impl LayerCache {
    /// The names of the kinds in output.
    pub const KINDS: &[&str] = CacheKind::NAMES;

    /// What kind of cache it is.
    pub fn cache_kind(&self) -> CacheKind {
        match self {
            Self::FullAttention { .. } => CacheKind::Full,
            Self::SlidingWindow { .. } => CacheKind::Sliding,
            Self::ChunkedLocal { .. } => CacheKind::Chunked,
            Self::Latent { .. } => CacheKind::Latent,
            Self::Indexer { .. } => CacheKind::Indexer,
            Self::Compressed { .. } => CacheKind::Compressed,
            Self::Recurrent(_) => CacheKind::Recurrent,
            Self::CrossAttention { .. } => CacheKind::Cross,
            Self::Shared => CacheKind::Shared,
            Self::None => CacheKind::None,
        }
    }

    /// The kind's name in output.
    pub fn kind(&self) -> &'static str {
        self.cache_kind().name()
    }

    /// A latent of these parts.
    ///
    /// # Errors
    /// [`Error`] where their sum is past 2⁶⁴ − 1.
    pub fn latent(kv_lora_rank: u64, qk_rope_head_dim: u64) -> Result<Self, Error> {
        (Exact::from(kv_lora_rank) + qk_rope_head_dim).get()?;
        Ok(Self::Latent { kv_lora_rank, qk_rope_head_dim })
    }

    /// A window that every reader of the configuration sees alike.
    pub fn sliding(key_value: KeyValue, window: Tokens) -> Self {
        Self::SlidingWindow { key_value, window, transformers_window: Some(window) }
    }

    fn entries(&self) -> Option<Entries> {
        let entries = |key_value| Entries { key_value, bound: None, ratio: 1 };
        let vector = |elements| entries(KeyValue::Vector { elements });
        Some(match *self {
            Self::FullAttention { key_value } | Self::CrossAttention { key_value, .. } => entries(key_value),
            Self::SlidingWindow { key_value, window: bound, .. } | Self::ChunkedLocal { key_value, chunk: bound } => {
                Entries { bound: Some(bound), ..entries(key_value) }
            }
            Self::Latent { kv_lora_rank, qk_rope_head_dim } => vector(kv_lora_rank.checked_add(qk_rope_head_dim)?),
            Self::Indexer { index_head_dim, ratio } => Entries { ratio: ratio.max(1), ..vector(index_head_dim) },
            Self::Compressed { head_dim, ratio, .. } => Entries { ratio: ratio.max(1), ..vector(head_dim) },
            Self::Recurrent(_) | Self::Shared | Self::None => return None,
        })
    }

    /// What one entry holds; none where there are no entries.
    pub fn key_value(&self) -> Option<KeyValue> {
        self.entries().map(|entries| entries.key_value)
    }

    /// The most entries it keeps, if there is a bound: its window or chunk.
    pub fn bound(&self) -> Option<Tokens> {
        self.entries()?.bound
    }

    /// Tokens of an entry: 1 but for compressed layers.
    pub fn ratio(&self) -> u64 {
        self.entries().map_or(1, |entries| entries.ratio)
    }

    /// The same layer, had it to keep every token.
    #[must_use]
    pub fn keeping_every_token(self) -> Self {
        match self.entries() {
            Some(Entries { key_value, bound: Some(_), .. }) => Self::FullAttention { key_value },
            _ => self,
        }
    }

    /// Whether its entries are those of the sequence's own tokens, and so grow with it, up to a bound if it has one.
    pub fn follows_the_sequence(&self) -> bool {
        self.key_value().is_some() && self.cache_kind() != CacheKind::Cross
    }
}

/// The entries of a layer.
struct Entries {
    key_value: KeyValue,
    /// The most there are.
    bound: Option<Tokens>,
    /// Tokens of each.
    ratio: u64,
}

/// The elements of one entry: what one layer keeps of one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyValue {
    /// `num_key_value_heads × (head_dim + v_head_dim)` elements: MHA, GQA (Ainslie et al. 2023, arXiv:2305.13245) and MQA.
    Heads {
        /// KV heads: as many as query heads in MHA, one in MQA.
        num_key_value_heads: u64,
        /// Elements of K in one head.
        head_dim: u64,
        /// Elements of V in one head.
        v_head_dim: u64,
    },
    /// One vector that all heads read, so that it is whole on every rank.
    Vector {
        /// Its elements.
        elements: u64,
    },
    /// The article's shortcut: `2 × (hidden_size / num_key_value_heads)` elements, an integer division. It equals
    /// [`KeyValue::Heads`] only where `num_attention_heads = num_key_value_heads²`.
    ArticleShortcut {
        /// The model's width.
        hidden_size: u64,
        /// KV heads.
        num_key_value_heads: u64,
    },
}

impl KeyValue {
    /// The heads that tensor parallelism divides; none for a vector.
    pub fn num_key_value_heads(self) -> Option<u64> {
        match self {
            Self::Heads { num_key_value_heads, .. } | Self::ArticleShortcut { num_key_value_heads, .. } => {
                Some(num_key_value_heads)
            }
            Self::Vector { .. } => None,
        }
    }

    /// Elements of K and of V in one head. `None` for a vector, and for a shortcut whose width is not a whole number of heads.
    pub fn head_dims(self) -> Option<(u64, u64)> {
        match self {
            Self::Heads { head_dim, v_head_dim, .. } => Some((head_dim, v_head_dim)),
            Self::Vector { .. } => None,
            Self::ArticleShortcut { num_key_value_heads, .. } => {
                let width = self.shortcut_width()?;
                let head_dim = width.checked_div(num_key_value_heads)?;
                (head_dim.checked_mul(num_key_value_heads)? == width).then_some((head_dim, head_dim))
            }
        }
    }

    /// The width of K, and of V, that the article's shortcut gives: `hidden_size / num_key_value_heads`.
    pub fn shortcut_width(self) -> Option<u64> {
        match self {
            Self::Heads { .. } | Self::Vector { .. } => None,
            Self::ArticleShortcut { hidden_size, num_key_value_heads } => hidden_size.checked_div(num_key_value_heads),
        }
    }
}

// States of fixed size: what recurrent layers keep in place of entries.

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
    /// Without groups.
    pub fn new(channels: u64, kernel: u64, format: ElementFormat) -> Self {
        Self { channels, channels_per_group: 0, groups: 0, kernel, format }
    }

    /// The columns that are kept: all but the current token's, in every mechanism.
    pub fn columns(self) -> Exact {
        Exact::from(self.kernel).less(1u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortcut_divides_as_integers_do() {
        let shortcut =
            |hidden_size, num_key_value_heads| KeyValue::ArticleShortcut { hidden_size, num_key_value_heads };
        assert_eq!(shortcut(5120, 8).shortcut_width(), Some(640));
        assert_eq!(shortcut(5120, 8).head_dims(), Some((80, 80)));
        assert_eq!(shortcut(5120, 6).shortcut_width(), Some(853));
        assert_eq!(shortcut(5120, 6).head_dims(), None);
    }
}
