//! Layers that cache alike, and how much each kind of layer keeps.

use crate::units::Tokens;

/// Layers that cache alike.
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
    },
    /// The current chunk, counted at its fullest: min(S, C) entries, the peak and not the sawtooth (Llama 4;
    /// transformers 5.23 `modeling_llama4.py`, `attention_chunk_size`).
    ChunkedLocal {
        /// An entry.
        key_value: KeyValue,
        /// C (`attention_chunk_size`).
        chunk: Tokens,
    },
}

impl LayerCache {
    /// The kind's name in output.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::FullAttention { .. } => "full_attention",
            Self::SlidingWindow { .. } => "sliding_attention",
            Self::ChunkedLocal { .. } => "chunked_attention",
        }
    }

    /// What one entry holds.
    pub fn key_value(&self) -> KeyValue {
        match *self {
            Self::FullAttention { key_value }
            | Self::SlidingWindow { key_value, .. }
            | Self::ChunkedLocal { key_value, .. } => key_value,
        }
    }

    /// The most entries it keeps, if there is a bound: its window or chunk.
    pub fn bound(&self) -> Option<Tokens> {
        match *self {
            Self::FullAttention { .. } => None,
            Self::SlidingWindow { window: bound, .. } | Self::ChunkedLocal { chunk: bound, .. } => Some(bound),
        }
    }

    /// Entries kept of a sequence of `seq_len` tokens.
    pub fn entries(&self, seq_len: Tokens) -> Tokens {
        self.bound().map_or(seq_len, |bound| seq_len.min(bound))
    }

    /// Whether one more token after `seq_len` makes it larger.
    pub fn grows_at(&self, seq_len: Tokens) -> bool {
        self.bound().is_none_or(|bound| seq_len < bound)
    }
}

/// The elements of one entry: K and V of one token in one layer.
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
    /// The heads that tensor parallelism divides.
    pub fn num_key_value_heads(self) -> u64 {
        match self {
            Self::Heads { num_key_value_heads, .. } | Self::ArticleShortcut { num_key_value_heads, .. } => {
                num_key_value_heads
            }
        }
    }

    /// Elements of K and of V in one head. `None` for a shortcut whose width is not a whole number of heads.
    pub fn head_dims(self) -> Option<(u64, u64)> {
        match self {
            Self::Heads { head_dim, v_head_dim, .. } => Some((head_dim, v_head_dim)),
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
            Self::Heads { .. } => None,
            Self::ArticleShortcut { hidden_size, num_key_value_heads } => hidden_size.checked_div(num_key_value_heads),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: KeyValue = KeyValue::Heads { num_key_value_heads: 8, head_dim: 128, v_head_dim: 128 };

    #[test]
    fn each_kind_keeps_what_it_can_still_attend_to() {
        let full = LayerCache::FullAttention { key_value: HEADS };
        let sliding = LayerCache::SlidingWindow { key_value: HEADS, window: Tokens(4096) };
        let chunked = LayerCache::ChunkedLocal { key_value: HEADS, chunk: Tokens(8192) };
        for (seq_len, in_full, in_window, in_chunk) in
            [(1, 1, 1, 1), (4095, 4095, 4095, 4095), (4096, 4096, 4096, 4096), (8193, 8193, 4096, 8192)]
        {
            assert_eq!(full.entries(Tokens(seq_len)), Tokens(in_full));
            assert_eq!(sliding.entries(Tokens(seq_len)), Tokens(in_window));
            assert_eq!(chunked.entries(Tokens(seq_len)), Tokens(in_chunk));
        }
        assert!(full.grows_at(Tokens(u64::MAX)));
        assert!(sliding.grows_at(Tokens(4095)) && !sliding.grows_at(Tokens(4096)));
        assert!(chunked.grows_at(Tokens(8191)) && !chunked.grows_at(Tokens(8192)));
    }

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
