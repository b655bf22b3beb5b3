//! What one cache of one layer asks of the pool on one rank (`v1/kv_cache_interface.py`).

use super::Request;
use crate::units::Exact;

/// The kind of a cache, by vLLM's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `FullAttentionSpec`
    Full,
    /// `MLAAttentionSpec`: latents, indices and compressed entries.
    Latent,
    /// `SlidingWindowSpec`; `extra` trailing tokens are kept below the window for chained draft modules.
    Sliding { window: u64, extra: u64 },
    /// `SlidingWindowMLASpec`
    SlidingLatent { window: u64, extra: u64 },
    /// `ChunkedLocalAttentionSpec`
    Chunked { chunk: u64 },
    /// `MambaSpec`: a whole block for each copy of the state that a request holds.
    State { copies: u64 },
    /// `CrossAttentionSpec`
    Cross,
}

impl Kind {
    /// vLLM's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Full => "FullAttentionSpec",
            Self::Latent => "MLAAttentionSpec",
            Self::Sliding { .. } => "SlidingWindowSpec",
            Self::SlidingLatent { .. } => "SlidingWindowMLASpec",
            Self::Chunked { .. } => "ChunkedLocalAttentionSpec",
            Self::State { .. } => "MambaSpec",
            Self::Cross => "CrossAttentionSpec",
        }
    }

    /// Whether every token is kept.
    pub(super) fn keeps_all(self) -> bool {
        matches!(self, Self::Full | Self::Latent)
    }

    pub(super) fn is_latent(self) -> bool {
        matches!(self, Self::Latent | Self::SlidingLatent { .. })
    }

    /// The kind of a cache that has latents for heads.
    pub(super) fn of_latents(self) -> Self {
        match self {
            Self::Full => Self::Latent,
            Self::Sliding { window, extra } => Self::SlidingLatent { window, extra },
            other => other,
        }
    }

    /// Whether it slides.
    pub(super) fn slides(self) -> bool {
        matches!(self, Self::Sliding { .. } | Self::SlidingLatent { .. })
    }
}

/// A cache of a layer on one rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) kind: Kind,
    /// Tokens of a block.
    pub(super) block_size: u64,
    /// Heads on the rank; 1 for a latent and a state.
    pub(super) heads: u64,
    /// Bytes of one head's entry; of a state all its bytes.
    pub(super) content: u64,
    /// Tokens of an entry.
    pub(super) tokens_per_entry: u64,
    /// Bytes that the page is padded to.
    pub(super) padded: Option<u64>,
    pub(super) entry: EntryShape,
}

/// Head dimensions and the bits of an element: caches that differ in these are never one spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryShape {
    pub(super) k: u64,
    pub(super) v: u64,
    pub(super) bits: u64,
}

impl Spec {
    /// A cache of one vector or state of `content` bytes for each token.
    pub(super) fn vector(kind: Kind, block_size: u64, content: u64) -> Self {
        let entry = EntryShape { k: content, v: 0, bits: 1 };
        Self { kind, block_size, heads: 1, content, tokens_per_entry: 1, padded: None, entry }
    }

    /// Bytes of a page before padding.
    pub(super) fn unpadded_page(&self) -> Exact {
        let content = Exact::from(self.content);
        match (self.kind, self.tokens_per_entry) {
            (Kind::State { .. }, _) => content,
            // A division of 128 bits is slow, and most have an entry for each token.
            (_, 1) => content * self.heads * self.block_size,
            (_, tokens) => content * self.heads * (Exact::from(self.block_size) / tokens),
        }
    }

    /// Bytes of a page.
    pub(super) fn page(&self) -> Exact {
        self.unpadded_page().max(self.padded.unwrap_or_default())
    }

    /// Tokens that one request reserves room for, before they are rounded to blocks; of a state, its copies.
    pub(super) fn reserved(&self, request: &Request) -> Exact {
        let in_flight = |tokens: Exact| (tokens + request.in_flight).min(request.len);
        match self.kind {
            Kind::Full | Kind::Latent => Exact::from(request.len).div_ceil(request.dcp.max(1)),
            Kind::Sliding { window, extra } | Kind::SlidingLatent { window, extra } => {
                in_flight(Exact::from(window.max(1)) + extra - 1u64)
            }
            Kind::Chunked { chunk } => in_flight(chunk.into()),
            Kind::State { copies } => copies.into(),
            Kind::Cross => request.encoder_budget.into(),
        }
    }

    /// Blocks that one request reserves. A window may begin inside a block, so it takes one more.
    pub(super) fn blocks(&self, request: &Request) -> Exact {
        match self.kind {
            Kind::State { copies } => copies.into(),
            kind => self.reserved(request).div_ceil(self.block_size.max(1)) + u64::from(kind.slides()),
        }
    }

    /// Whether the two need the same token slots at all times, so that they can be one group with pages of different
    /// sizes (`is_uniform_with_collection`).
    pub(super) fn uniform_with(&self, other: &Self) -> bool {
        if self.block_size != other.block_size {
            return false;
        }
        match (self.kind, other.kind) {
            (Kind::Full | Kind::Latent, Kind::Full | Kind::Latent) | (Kind::Cross, Kind::Cross) => true,
            (
                Kind::Sliding { window, .. } | Kind::SlidingLatent { window, .. },
                Kind::Sliding { window: other, .. } | Kind::SlidingLatent { window: other, .. },
            ) => window == other,
            (Kind::Chunked { chunk }, Kind::Chunked { chunk: other }) => chunk == other,
            (Kind::State { copies }, Kind::State { copies: others }) => copies == others && self.page() == other.page(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: Kind) -> Spec {
        Spec { heads: 8, ..Spec::vector(kind, 16, 512) }
    }

    fn request(len: u64) -> Request {
        Request { len, in_flight: 16_384, dcp: 1, encoder_budget: 8_192 }
    }

    /// Figures of vLLM's own planner.
    #[test]
    fn blocks_are_those_of_the_planner() {
        for (kind, len, blocks) in [
            (Kind::Full, 131_072, 8_192),
            (Kind::Full, 17, 2),
            (Kind::Sliding { window: 128, extra: 0 }, 131_072, 1_033),
            (Kind::Sliding { window: 4_096, extra: 0 }, 32_768, 1_281),
            (Kind::Sliding { window: 512, extra: 2 }, 131_072, 1_058),
            (Kind::Sliding { window: 512, extra: 0 }, 131_072, 1_057),
            (Kind::Chunked { chunk: 8_192 }, 131_072, 1_536),
            (Kind::State { copies: 3 }, 131_072, 3),
            (Kind::Cross, 448, 512),
        ] {
            assert_eq!(spec(kind).blocks(&request(len)).get(), Ok(blocks), "{kind:?} {len}");
        }
    }

    /// A sum past 2⁶⁴ − 1 is all of the request, or no number at all: never 2⁶⁴ − 1 blocks.
    #[test]
    fn what_overflows_is_the_whole_request_or_none() {
        let request = Request { in_flight: u64::MAX, ..request(1_000) };
        assert_eq!(spec(Kind::Sliding { window: 512, extra: 0 }).blocks(&request).get(), Ok(64));
        let endless = Request { len: u64::MAX, ..request };
        let window = Spec { block_size: 1, ..spec(Kind::Sliding { window: 512, extra: 0 }) };
        assert!(window.blocks(&endless).get().is_err());
        assert!(Spec { content: u64::MAX, ..spec(Kind::Full) }.page().get().is_err());
    }

    #[test]
    fn pages_are_padded_and_states_have_one_size() {
        assert_eq!(spec(Kind::Full).page().get(), Ok(65_536));
        assert_eq!(Spec { padded: Some(70_000), ..spec(Kind::Full) }.page().get(), Ok(70_000));
        assert_eq!(Spec { tokens_per_entry: 4, ..spec(Kind::Latent) }.page().get(), Ok(16_384));
        assert_eq!(Spec { content: 4_242, ..spec(Kind::State { copies: 1 }) }.page().get(), Ok(4_242));
    }
}
