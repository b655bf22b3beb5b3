//! The core estimator: layer groups × workload → bytes.
//!
//! The **ideal** estimate counts the live bytes: every layer keeps what it can still attend to; no blocks, no padding,
//! no reserve:
//!
//! - full attention keeps S entries, a sliding window min(S, W), a chunk min(S, C), the peak and not the sawtooth;
//! - MLA keeps S entries of `kv_lora_rank + qk_rope_head_dim` elements, an indexer S entries of `index_head_dim` elements;
//! - compressed attention keeps ⌈S/ratio⌉ entries in addition to the window (and ⌈S/ratio⌉ indexer keys where the layer has them),
//!   K and V being one vector there, plus the compressor's partial state in fp32;
//! - recurrent state is `conv_kernel − 1` columns in the model's dtype and the recurrent state in the dtype that the
//!   config names for it, else the model's;
//! - a prefix that the sequences of a batch have in common is kept once, as far as layers still keep it;
//! - cross-attention keeps the encoder tokens given; shared layers and layers without a cache keep nothing.
//!
//! Every cached element is in the chosen format with that format's own block overhead; states are not. Odd bit widths are
//! rounded up to a byte once per layer group and device.
//!
//! An engine's figure is below the ideal only where its own rule drops an entry: [`crate::engine`] names each such rule.

mod entry;
mod error;
mod layout;
mod prefix;

use std::borrow::Cow;
use std::ops::Range;

pub use entry::recurrent_bytes;
pub use layout::Layout;
pub use prefix::{Batch, shared};
use serde::Serialize;

use self::entry::{Entry, StateTensor};
use crate::model::Mechanism::{
    Cca, GatedDeltaNet, Kda, Lightning, Mamba1, Mamba2, Mlstm, RgLru, Rwkv, ShortConvolution,
};
use crate::model::{LayerCache, LayerGroup, Model, RecurrentState};
use crate::units::{Bytes, ElementFormat, Error, Exact, KvDtype, KvFormat, Tokens, least_common_multiple};

/// What is asked of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Workload {
    /// Tokens of each sequence.
    pub seq_len: Tokens,
    /// Sequences.
    pub batch: u64,
    /// The format of cached K and V that is asked for.
    pub kv_dtype: KvDtype,
    /// How the model is spread over devices.
    pub layout: Layout,
    /// Tokens that an encoder gives to cross-attention; without it, the model's own maximum.
    pub encoder_len: Option<Tokens>,
    /// Tokens at the start that all sequences of the batch have in common, and that are kept once.
    pub shared_prefix: Option<Tokens>,
    /// Bytes on each device that the cache may take, already net of all else.
    pub memory: Option<Bytes>,
}

impl Workload {
    /// `batch` sequences of `seq_len` tokens on one device, in the format of `auto`.
    pub fn of(seq_len: Tokens, batch: u64) -> Self {
        Self { seq_len, batch, ..Self::default() }
    }

    /// `answer` for a batch of several sequences, `None` for one.
    pub(crate) fn of_several(&self, answer: bool) -> Option<bool> {
        (self.batch > 1).then_some(answer)
    }
}

/// What a workload takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// Over all devices of one replica, for the whole batch.
    pub bytes: Bytes,
    /// The most that any one device holds.
    pub bytes_per_gpu: Bytes,
    /// One more token of one sequence at this length, over all devices of one replica.
    pub bytes_per_token: BytesPerToken,
    /// The same bytes by layer group.
    pub layer_groups: Vec<GroupEstimate>,
    /// What is stored: the format asked for, or what `auto` came to.
    pub stored: KvFormat,
}

/// The share of one layer group in an [`Estimate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct GroupEstimate {
    /// The kind of cache.
    #[cfg_attr(feature = "cli", schemars(extend("enum" = LayerCache::KINDS)))]
    pub kind: &'static str,
    /// How many layers.
    pub layers: usize,
    /// Entries each keeps of one sequence.
    pub entries: Tokens,
    /// Bytes over all devices of one replica, for the whole batch.
    pub bytes: Bytes,
}

/// An exact number of bytes per token: a fraction, since formats have bits and blocks, and entries may cover several tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BytesPerToken {
    /// Numerator.
    pub numerator: u128,
    /// Denominator, at least 1.
    pub denominator: u128,
}

impl BytesPerToken {
    /// The whole number it is, if it is one.
    pub fn whole(self) -> Option<u64> {
        let whole = self.numerator.checked_div(self.denominator)?;
        u64::try_from(whole).ok().filter(|_| self.numerator.is_multiple_of(self.denominator))
    }

    /// The sum of two fractions, over the least common multiple of their denominators; `None` past 2¹²⁸ − 1.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let denominator = if self.denominator == other.denominator {
            self.denominator
        } else {
            least_common_multiple(self.denominator, other.denominator)?
        };
        let widened = |of: Self| Exact::from(denominator) / of.denominator * of.numerator;
        Some(Self { numerator: (widened(self) + widened(other)).wide().ok()?, denominator })
    }
}

/// What a layer keeps of one sequence under some engine's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retained {
    /// Entries.
    pub entries: Tokens,
    /// Tokens for which one entry more is added at this length; `None` where it has stopped growing.
    pub grows_every: Option<u64>,
    /// State in addition to the entries.
    pub state: State,
}

impl Retained {
    /// Nothing.
    pub const NOTHING: Self = Self { entries: Tokens(0), grows_every: None, state: State::None };
}

/// State in addition to the entries, of fixed size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// None.
    None,
    /// Of a recurrent layer.
    Recurrent {
        /// Its convolution and its memory.
        state: RecurrentState,
        /// Columns that the convolution keeps.
        columns: Exact,
    },
    /// Whole on every rank.
    Replicated {
        /// Elements.
        elements: u64,
        /// Their format.
        format: ElementFormat,
    },
}

/// The ideal estimate of `workload` on `model`.
///
/// ```
/// use kvsize::estimate::{Workload, estimate};
/// use kvsize::model::ModelSpec;
/// use kvsize::units::{Bytes, ElementFormat, Tokens};
///
/// let spec = ModelSpec { layers: Some(32), kv_heads: Some(8), head_dim: Some(128), ..ModelSpec::default() };
/// let workload = Workload { kv_dtype: ElementFormat::BF16.into(), ..Workload::of(Tokens(131_072), 1) };
/// assert_eq!(estimate(&spec.model().unwrap(), &workload).unwrap().bytes, Bytes(17_179_869_184));
/// ```
///
/// # Errors
/// [`Error`] when the layout does not divide the model, or a product passes 2⁶⁴ − 1.
pub fn estimate(model: &Model, workload: &Workload) -> Result<Estimate, Error> {
    let retained = |group: &LayerGroup| ideal(&group.cache, workload);
    sum_sharing(model, &model.layer_groups, workload, retained, |group| shared(&group.cache, workload))
}

/// What the ideal keeps of one sequence in one layer.
///
/// # Errors
/// [`Code::Missing`](crate::units::Code::Missing) when neither the workload nor the model says how long the encoder's output is.
pub fn ideal(cache: &LayerCache, workload: &Workload) -> Result<Retained, Error> {
    let seq_len = workload.seq_len;
    let every = |ratio: u64| {
        let (entries, grows_every) = (Tokens(seq_len.0.div_ceil(ratio.max(1))), Some(ratio.max(1)));
        Retained { entries, grows_every, ..Retained::NOTHING }
    };
    Ok(match *cache {
        LayerCache::FullAttention { .. } | LayerCache::Latent { .. } => every(1),
        LayerCache::SlidingWindow { window: bound, .. } | LayerCache::ChunkedLocal { chunk: bound, .. } => {
            Retained { entries: seq_len.min(bound), grows_every: (seq_len < bound).then_some(1), ..Retained::NOTHING }
        }
        LayerCache::Indexer { ratio, .. } => every(ratio),
        LayerCache::Compressed { ratio, state_elements: elements, .. } => {
            Retained { state: State::Replicated { elements, format: ElementFormat::FP32 }, ..every(ratio) }
        }
        LayerCache::CrossAttention { encoder_tokens, .. } => {
            let entries = workload.encoder_len.or(encoder_tokens).ok_or_else(error::no_encoder_length)?;
            Retained { entries, ..Retained::NOTHING }
        }
        LayerCache::Recurrent(state) => match state.mechanism {
            Mamba1 | Mamba2 | GatedDeltaNet | Kda | Lightning | ShortConvolution | RgLru | Rwkv | Cca | Mlstm => {
                Retained { state: State::Recurrent { state, columns: state.columns() }, ..Retained::NOTHING }
            }
        },
        LayerCache::Shared | LayerCache::None => Retained::NOTHING,
    })
}

/// The sum over devices and a batch of what is retained in `groups`: the layers of `model` as an engine has them. Sequences
/// share nothing.
///
/// # Errors
/// [`Error`], as [`estimate`], or as `retained`.
pub fn sum_groups(
    model: &Model,
    groups: &[LayerGroup],
    workload: &Workload,
    retained: impl Fn(&LayerGroup) -> Result<Retained, Error>,
) -> Result<Estimate, Error> {
    sum_sharing(model, groups, workload, retained, |_| None)
}

/// The same, where a layer may keep some entries once for the whole batch.
fn sum_sharing(
    model: &Model,
    groups: &[LayerGroup],
    workload: &Workload,
    retained: impl Fn(&LayerGroup) -> Result<Retained, Error>,
    shared: impl Fn(&LayerGroup) -> Option<Batch>,
) -> Result<Estimate, Error> {
    let stored = stored(model, workload)?;
    let layout = workload.layout;
    let stages = stages(model, layout)?;
    let mut by_stage = vec![Exact::ZERO; stages.len()];
    let mut layer_groups = Vec::with_capacity(groups.len());
    let mut bytes_per_token = BytesPerToken { numerator: 0, denominator: 8 };
    for group in groups {
        let retained = retained(group)?;
        let entry = group.cache.key_value().map(|key_value| Entry::new(key_value, layout, stored)).transpose()?;
        let ranks = layout.ranks_of_a_sequence(&group.cache)?;
        let batch = shared(group).unwrap_or(Batch { common: 0, own: retained.entries.0 });
        let entries = batch.on_rank(ranks, workload.batch);
        let tensors = StateTensor::of(retained.state, layout.tp)?;
        let mut on_rank = Exact::ZERO;
        for (stage, total) in stages.iter().zip(&mut by_stage) {
            let layers = Exact::from(layers_within(group, stage));
            let of_entries = entry.map_or(Exact::ZERO, |entry| entry.bits(entries * layers));
            let of_states = tensors.iter().flatten().map(|tensor| tensor.bits(layers * workload.batch)).sum::<Exact>();
            let bytes = (of_entries + of_states).div_ceil(8u64);
            *total = *total + bytes;
            on_rank = on_rank + bytes;
        }
        if let (Some(every), Some(entry)) = (retained.grows_every, entry) {
            let layers_and_ranks = Exact::from(group.layers.len()) * layout.tp;
            let of_group = entry.bytes_per_token(layers_and_ranks, ranks, every)?;
            bytes_per_token = bytes_per_token.checked_add(of_group).ok_or_else(Error::too_large)?;
        }
        let (kind, layers, bytes) = (group.cache.kind(), group.layers.len(), (on_rank * layout.tp).bytes()?);
        layer_groups.push(GroupEstimate { kind, layers, entries: retained.entries, bytes });
    }
    Ok(Estimate {
        bytes: layer_groups.iter().map(|group| group.bytes).sum::<Exact>().bytes()?,
        bytes_per_gpu: by_stage.into_iter().fold(Exact::ZERO, Exact::max).bytes()?,
        bytes_per_token,
        layer_groups,
        stored,
    })
}

/// The format that is stored; an engine's packed layout, or a prefix that is too long, is an error.
fn stored(model: &Model, workload: &Workload) -> Result<KvFormat, Error> {
    if let Some(prefix) = workload.shared_prefix.filter(|&prefix| prefix > workload.seq_len) {
        return Err(error::prefix_too_long(prefix, workload.seq_len));
    }
    let stored = workload.kv_dtype.or(model.dtype);
    match [stored.k, stored.v].into_iter().find(|format| format.is_packed()) {
        Some(packed) => Err(error::packed_format(packed)),
        None => Ok(stored),
    }
}

/// The layers of each pipeline stage. Those of a drafter are numbered on from the model's, and sit on the last.
fn stages(model: &Model, layout: Layout) -> Result<Cow<'static, [Range<u32>]>, Error> {
    if layout.pp == 1 && model.num_hidden_layers > 0 {
        return Ok(Cow::Borrowed(std::slice::from_ref(const { &(0..u32::MAX) })));
    }
    let mut stages = layout.stages(model.num_hidden_layers)?;
    if let Some(last) = stages.last_mut() {
        last.end = u32::MAX;
    }
    Ok(Cow::Owned(stages))
}

/// Layers of `group` that a pipeline stage holds.
fn layers_within(group: &LayerGroup, stage: &Range<u32>) -> usize {
    if let (Some(first), Some(last)) = (group.layers.first(), group.layers.last())
        && stage.contains(first)
        && stage.contains(last)
    {
        return group.layers.len();
    }
    let first = group.layers.partition_point(|&layer| layer < stage.start);
    let end = group.layers.partition_point(|&layer| layer < stage.end);
    end.saturating_sub(first)
}

#[cfg(test)]
mod tests;
