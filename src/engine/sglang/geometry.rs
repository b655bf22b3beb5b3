//! Bytes of a token in the layers of one pool: heads divided over ranks, whole latents, and their indices.

use super::arguments::{Arguments, Entries};
use super::format::Format;
use super::layers::{Role, groups_of, index_head_dim};
use crate::engine::Engine;
use crate::model::{KeyValue, LayerCache, Model};
use crate::units::{Error, Exact};

/// The heads of layers of one kind, which SGLang takes to be alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    heads: u64,
    head_dim: u64,
    v_head_dim: u64,
}

/// The heads of the layers of a role, if there are any.
pub(super) fn heads(model: &Model, engine: &Engine, role: Role) -> Result<Option<Heads>, Error> {
    const IDEAL: &str = "use --engine ideal";
    let mut entries = groups_of(model, role).filter_map(|group| group.cache.key_value());
    let Some(first) = entries.next() else { return Ok(None) };
    let reason = "has layers of different heads, which SGLang 0.5.23 does not support";
    engine.require(entries.all(|other| other == first), "MODEL", &model.name, reason, IDEAL)?;
    match (first, first.head_dims()) {
        (
            KeyValue::Heads { num_key_value_heads: heads, .. }
            | KeyValue::ArticleShortcut { num_key_value_heads: heads, .. },
            Some((head_dim, v_head_dim)),
        ) => Ok(Some(Heads { heads, head_dim, v_head_dim })),
        (KeyValue::Vector { elements }, _) => Ok(Some(Heads { heads: 1, head_dim: elements, v_head_dim: 0 })),
        (KeyValue::Heads { .. } | KeyValue::ArticleShortcut { .. }, None) => {
            let reason = "is no whole number of heads wide (the article's shortcut)";
            Err(engine.refusal("MODEL", &model.name, reason, "give --heads or --head-dim"))
        }
    }
}

impl Heads {
    /// Heads on a rank: divided and rounded down, to one at least.
    fn on_rank(&self, arguments: &Arguments) -> Exact {
        (Exact::from(self.heads) / arguments.ranks.attention_tp).max(1u64)
    }

    /// Elements of K and of V of a token in one layer.
    fn elements(&self, arguments: &Arguments) -> Exact {
        self.on_rank(arguments) * (Exact::from(self.head_dim) + self.v_head_dim)
    }

    /// Bytes of a token in one layer of a pool of two, which is priced without the scales of 4 bits.
    pub(super) fn bytes_in_two_pools(&self, arguments: &Arguments) -> Exact {
        let elements = self.elements(arguments);
        match arguments.attention.format {
            Format::Mxfp8 => elements + elements / 32u64,
            format => elements * format.element(),
        }
    }

    /// Bytes of a token in `layers` layers of one pool.
    pub(super) fn bytes(&self, layers: u64, arguments: &Arguments) -> Exact {
        let elements = self.elements(arguments) * layers;
        let rank = self.on_rank(arguments);
        let k_and_v = Exact::from(layers) * 2u64;
        let packed = rank * (self.head_dim / 2) * k_and_v;
        let format = arguments.attention.format;
        match format {
            Format::Fp4MxBlock16 => packed + rank * self.head_dim / 16u64 * k_and_v,
            Format::Nvfp4 => {
                let nvfp4 = arguments.attention.nvfp4;
                let scales = rank * (self.head_dim / 16) * k_and_v;
                let native = if nvfp4.native { scales } else { Exact::ZERO };
                let workspace = rank * self.head_dim * 2u64;
                packed + native + if nvfp4.unpacked { scales + workspace } else { Exact::ZERO }
            }
            Format::Mxfp8 => elements + elements / 32u64,
            Format::Fp16 | Format::Bf16 | Format::Fp8E4m3 | Format::Fp8E5m2 => elements * format.element(),
        }
    }
}

/// An index key in fp8 with the scale of each 128 elements.
pub(super) fn index_bytes(model: &Model) -> Exact {
    let dim = index_head_dim(model);
    Exact::from(dim) + Exact::from(dim / 128) * 4u64
}

/// Bytes of the latents of a token in `layers` layers.
pub(super) fn latent_bytes(model: &Model, layers: u64, arguments: &Arguments) -> Exact {
    let dims = groups_of(model, Role::Latent).find_map(|group| match *group.cache {
        LayerCache::Latent { kv_lora_rank, qk_rope_head_dim } => Some((kv_lora_rank, qk_rope_head_dim)),
        _ => None,
    });
    let (kv_lora_rank, qk_rope_head_dim) = dims.unwrap_or_default();
    let format = arguments.attention.format;
    let raw = Exact::from(kv_lora_rank) + qk_rope_head_dim;
    let scaled = arguments.entries == (Entries::IndexedLatents { raw: false }) && format == Format::Fp8E4m3;
    if scaled {
        // In fp8 with the scale of each 128 elements, the rotary part in bf16.
        let scales = Exact::from(kv_lora_rank / 128) * 4u64;
        return (scales + kv_lora_rank + Exact::from(qk_rope_head_dim) * 2u64) * layers;
    }
    if format.is_fp4() {
        return raw * layers / 2u64 + raw / 16u64 * layers;
    }
    raw * layers * format.element()
}
