//! The core estimator: layer groups × workload → bytes.
//!
//! The **ideal** estimate counts the live bytes: every layer keeps what it can still attend to; no blocks, no padding,
//! no reserve. In the words of the design:
//!
//! - full attention keeps S entries, a sliding window min(S, W), a chunk min(S, C), the peak and not the sawtooth;
//! - MLA keeps S entries of `kv_lora_rank + qk_rope_head_dim` elements, an indexer S entries of `index_head_dim` elements;
//! - compressed attention keeps ⌈S/ratio⌉ entries beside the window (and ⌈S/ratio⌉ indexer keys where the layer has them),
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

mod error;
mod layout;
mod prefix;
mod state;

use std::borrow::Cow;

use serde::Serialize;

pub use layout::Layout;
pub use prefix::{Batch, shared};
pub use state::recurrent_bytes;

use self::state::StateTensor;
use crate::model::{KeyValue, LayerCache, LayerGroup, Model, RecurrentState};
use crate::units::{Bytes, ElementFormat, Error, KvDtype, KvFormat, Tokens, least_common_multiple};

/// What is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// `batch` sequences of `seq_len` tokens on one device, in the format that `auto` comes to.
    pub fn of(seq_len: Tokens, batch: u64) -> Self {
        Self {
            seq_len,
            batch,
            kv_dtype: KvDtype::Auto,
            layout: Layout::default(),
            encoder_len: None,
            shared_prefix: None,
            memory: None,
        }
    }

    /// `answer` where there are several sequences, none for one.
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
        if !self.numerator.is_multiple_of(self.denominator) {
            return None;
        }
        u64::try_from(self.numerator.checked_div(self.denominator)?).ok()
    }

    /// The sum of two fractions, over the least common multiple of their denominators; none past 2¹²⁸ − 1.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.denominator == other.denominator {
            let numerator = self.numerator.checked_add(other.numerator)?;
            return Some(Self { numerator, denominator: self.denominator });
        }
        let denominator = least_common_multiple(self.denominator, other.denominator)?;
        let widened = |of: Self| of.numerator.checked_mul(denominator.checked_div(of.denominator)?);
        Some(Self { numerator: widened(self)?.checked_add(widened(other)?)?, denominator })
    }
}

/// What a layer keeps of one sequence under some engine's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Entries.
    pub entries: Tokens,
    /// Tokens for which one entry more is added at this length; none where it has stopped growing.
    pub grows_every: Option<u64>,
    /// State beside the entries.
    pub state: State,
}

/// State beside the entries, of fixed size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// None.
    None,
    /// Of a recurrent layer; the columns that its convolution keeps.
    Recurrent(RecurrentState, u64),
    /// So many elements, whole on every rank.
    Replicated(u64, ElementFormat),
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
    sum_sharing(model, workload, |group| ideal(&group.cache, workload), |group| shared(&group.cache, workload))
}

/// What the ideal keeps of one sequence in one layer.
///
/// # Errors
/// [`Code::NoEncoderLength`](crate::units::Code::NoEncoderLength) when neither the workload nor the model says how long the encoder's output is.
pub fn ideal(cache: &LayerCache, workload: &Workload) -> Result<Kept, Error> {
    let seq_len = workload.seq_len;
    let entries = match *cache {
        LayerCache::CrossAttention { encoder_tokens, .. } => {
            workload.encoder_len.or(encoder_tokens).ok_or_else(error::no_encoder_length)?
        }
        LayerCache::Recurrent(_) | LayerCache::Shared | LayerCache::None => Tokens(0),
        _ => Tokens(cache.bound().map_or(seq_len, |bound| seq_len.min(bound)).0.div_ceil(cache.ratio())),
    };
    let grows = cache.follows_the_sequence() && cache.bound().is_none_or(|bound| seq_len < bound);
    let state = match *cache {
        LayerCache::Recurrent(state) => {
            State::Recurrent(state, state.convolution.map_or(0, |convolution| convolution.kernel.saturating_sub(1)))
        }
        LayerCache::Compressed { state_elements, .. } => State::Replicated(state_elements, ElementFormat::FP32),
        _ => State::None,
    };
    Ok(Kept { entries, grows_every: grows.then(|| cache.ratio()), state })
}

/// Sums what `kept` says over layer groups, devices and the batch, whose sequences share nothing.
///
/// # Errors
/// [`Error`], as [`estimate`], or as `kept`.
pub fn sum(
    model: &Model,
    workload: &Workload,
    kept: impl Fn(&LayerGroup) -> Result<Kept, Error>,
) -> Result<Estimate, Error> {
    sum_sharing(model, workload, kept, |_| None)
}

/// The same, where a layer may keep some entries once for the whole batch.
fn sum_sharing(
    model: &Model,
    workload: &Workload,
    kept: impl Fn(&LayerGroup) -> Result<Kept, Error>,
    shared: impl Fn(&LayerGroup) -> Option<Batch>,
) -> Result<Estimate, Error> {
    if let Some(prefix) = workload.shared_prefix.filter(|&prefix| prefix > workload.seq_len) {
        return Err(error::prefix_too_long(prefix, workload.seq_len));
    }
    let layout = workload.layout;
    let format = workload.kv_dtype.or(model.dtype);
    if let Some(packed) = [format.k, format.v].into_iter().find(|format| format.is_packed()) {
        return Err(error::packed_format(packed));
    }
    let stages = match layout.pp {
        1 if model.num_hidden_layers > 0 => Cow::Borrowed(std::slice::from_ref(const { &(0..u32::MAX) })),
        _ => {
            let mut stages = layout.stages(model.num_hidden_layers)?;
            // Layers of a drafter are numbered on from the model's, and sit on the last stage.
            if let Some(last) = stages.last_mut() {
                last.end = u32::MAX;
            }
            Cow::Owned(stages)
        }
    };
    let mut stage_bytes = vec![Bytes(0); stages.len()];
    let mut layer_groups = Vec::with_capacity(model.layer_groups.len());
    let mut bytes_per_token = BytesPerToken { numerator: 0, denominator: 8 };
    for group in &model.layer_groups {
        let kept = kept(group)?;
        let entry = group.cache.key_value().map(|key_value| Entry::of(key_value, layout)).transpose()?;
        let ranks = layout.ranks_of_a_sequence(&group.cache)?;
        let batch = shared(group).unwrap_or(Batch { common: 0, own: kept.entries.0 });
        let entries = batch.over(ranks).entries(workload.batch).ok_or_else(Error::too_large)?;
        let tensors = StateTensor::of(kept.state, layout.tp)?;
        let mut group_bytes = Bytes(0);
        for (stage, total) in stages.iter().zip(&mut stage_bytes) {
            let layers = layers_within(group, stage);
            let of_entries = entry.map_or(Some(0), |entry| entry.bits(layers, entries, format));
            let bits = tensors.iter().flatten().try_fold(of_entries.ok_or_else(Error::too_large)?, |bits, state| {
                bits.checked_add(state.bits(layers, workload.batch)?).ok_or_else(Error::too_large)
            })?;
            let bytes = u64::try_from(bits.div_ceil(8)).map(Bytes).map_err(|_| Error::too_large())?;
            *total = total.checked_add(bytes).ok_or_else(Error::too_large)?;
            group_bytes = group_bytes.checked_add(bytes).ok_or_else(Error::too_large)?;
        }
        if let (Some(every), Some(entry)) = (kept.grows_every, entry) {
            let every = every.checked_mul(ranks).ok_or_else(Error::too_large)?;
            let slope = entry.slope(group.layers.len(), layout.tp, format, every);
            bytes_per_token =
                slope.and_then(|slope| bytes_per_token.checked_add(slope)).ok_or_else(Error::too_large)?;
        }
        let bytes = group_bytes.checked_mul(layout.tp).ok_or_else(Error::too_large)?;
        let (kind, layers) = (group.cache.kind(), group.layers.len());
        layer_groups.push(GroupEstimate { kind, layers, entries: kept.entries, bytes });
    }
    let bytes = layer_groups
        .iter()
        .try_fold(Bytes(0), |sum, group| sum.checked_add(group.bytes))
        .ok_or_else(Error::too_large)?;
    let bytes_per_gpu = stage_bytes.into_iter().max().unwrap_or_default();
    Ok(Estimate { bytes, bytes_per_gpu, bytes_per_token, layer_groups, stored: format })
}

/// Layers of `group` that a pipeline stage holds.
fn layers_within(group: &LayerGroup, stage: &std::ops::Range<u32>) -> usize {
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

/// The elements of K and of V that one rank keeps of one token in one layer.
#[derive(Debug, Clone, Copy)]
struct Entry {
    k: u128,
    v: u128,
    /// Vectors that K is made of, and V: its heads.
    vectors: u128,
}

impl Entry {
    /// KV heads are divided over ranks ([`Layout::heads_on_rank`]); a vector is replicated.
    fn of(key_value: KeyValue, layout: Layout) -> Result<Self, Error> {
        let heads = match key_value {
            KeyValue::Vector { elements } => return Ok(Self { k: u128::from(elements), v: 0, vectors: 1 }),
            KeyValue::Heads { num_key_value_heads, .. } | KeyValue::ArticleShortcut { num_key_value_heads, .. } => {
                num_key_value_heads
            }
        };
        let (own, tp) = (layout.heads_on_rank(heads)?, layout.tp);
        let (heads, (k, v)) = match (key_value.head_dims(), key_value.shortcut_width()) {
            (Some(dims), _) => (own, dims),
            (None, Some(width)) if tp == 1 => (1, (width, width)),
            (None, _) => return Err(error::undivided_shortcut(heads, tp)),
        };
        let elements = |dim: u64| u128::from(heads).checked_mul(u128::from(dim)).ok_or_else(Error::too_large);
        Ok(Self { k: elements(k)?, v: elements(v)?, vectors: u128::from(heads) })
    }

    /// Bits of `entries` entries in each of `layers` layers.
    fn bits(self, layers: usize, entries: u128, format: KvFormat) -> Option<u128> {
        let copies = entries.checked_mul(u128::try_from(layers).ok()?)?;
        let vectors = copies.checked_mul(self.vectors)?;
        let bits = |format: ElementFormat, elements: u128| {
            let vectors = if elements == 0 { 0 } else { vectors };
            format.bits_of_vectors(vectors, copies.checked_mul(elements)?)
        };
        bits(format.k, self.k)?.checked_add(bits(format.v, self.v)?)
    }

    /// Bytes of one entry in each of `layers` layers on all of `tp` ranks, for every `every` tokens:
    /// `layers · tp · (k · k_bits / k_block + v · v_bits / v_block + vectors · their bits) / (8 · every)`
    fn slope(self, layers: usize, tp: u64, format: KvFormat, every: u64) -> Option<BytesPerToken> {
        let KvFormat { k, v, .. } = format;
        let (k_block, v_block) = (u128::from(k.elements_per_block()), u128::from(v.elements_per_block()));
        let bits = |elements: u128, format: ElementFormat, block: u128, other_block: u128| {
            let vectors = if elements == 0 { 0 } else { self.vectors };
            let of_vectors = vectors.checked_mul(u128::from(format.bits_per_vector()))?.checked_mul(block)?;
            let of_blocks = elements.checked_mul(u128::from(format.bits_per_block()))?;
            of_blocks.checked_add(of_vectors)?.checked_mul(other_block)
        };
        let numerator = bits(self.k, k, k_block, v_block)?
            .checked_add(bits(self.v, v, v_block, k_block)?)?
            .checked_mul(u128::try_from(layers).ok()?)?
            .checked_mul(u128::from(tp))?;
        let denominator = k_block.checked_mul(v_block)?.checked_mul(8)?.checked_mul(u128::from(every.max(1)))?;
        Some(BytesPerToken { numerator, denominator })
    }
}

#[cfg(test)]
mod tests;
