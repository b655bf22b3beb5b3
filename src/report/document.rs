//! The answer as a document: the JSON that others build on, and the page that people see.
#![allow(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    reason = "floats only for printing: every one is computed from exact integers kept beside it"
)]

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

use super::WeightsDescription;
use crate::engine::{Answer, Capacity, Details, Engine, Gap};
use crate::estimate::{BytesPerToken, GroupEstimate, Workload};
use crate::model::{KeyValue, LayerCache, Model, RecurrentState, Warning};
use crate::units::{Bytes, ElementFormat, Error, KvDtype, KvFormat, Notes};

/// An estimate and what was asked for.
#[derive(Debug)]
pub struct AnsweredEstimate {
    /// What was asked.
    pub workload: Workload,
    /// Of which engine.
    pub engine: Engine,
    /// The answer.
    pub answer: Answer,
}

/// `kvsize.estimate/1`: a model and its estimates. Bytes are integers; what is unknown is absent.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Document {
    /// Name and version of this shape.
    #[cfg_attr(feature = "cli", schemars(extend("const" = "kvsize.estimate/1")))]
    pub schema: &'static str,
    /// Version of kvsize.
    pub kvsize: &'static str,
    /// The model.
    pub model: ModelDescription,
    /// The estimates, in the order asked for.
    pub estimates: Vec<EstimateRow<'static>>,
    /// What there is to say of it.
    #[serde(flatten)]
    pub notes: Notes,
}

/// The model of a [`Document`].
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct ModelDescription {
    /// Its name.
    pub name: String,
    /// Where it was read from.
    #[cfg_attr(feature = "cli", schemars(extend("enum" = ["flags", "spec", "config", "gguf", "catalogue"])))]
    pub source: &'static str,
    /// Its `model_type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_type: Option<String>,
    /// The longest sequence it was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seq_len: Option<u64>,
    /// Its layers, by what they cache.
    pub layer_groups: Vec<GroupDescription>,
    /// What it weighs, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightsDescription>,
}

/// A layer group of a [`ModelDescription`]: its kind, and the figures that this kind has.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct GroupDescription {
    /// The kind of cache.
    #[cfg_attr(feature = "cli", schemars(extend("enum" = LayerCache::KINDS)))]
    pub kind: &'static str,
    /// How many layers.
    pub layers: usize,
    /// KV heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<u64>,
    /// Elements of K in one head; absent where the article's shortcut gives no whole number of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k_dim: Option<u64>,
    /// Elements of V in one head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v_dim: Option<u64>,
    /// `article_shortcut` where the article's formula supplied the width.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", schemars(extend("const" = "article_shortcut")))]
    pub formula: Option<&'static str>,
    /// Tokens of a sliding window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// Tokens of a chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<u64>,
    /// Elements of a latent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_lora_rank: Option<u64>,
    /// Rotary elements beside a latent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qk_rope_head_dim: Option<u64>,
    /// Elements of an index key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_head_dim: Option<u64>,
    /// Elements of the one vector that is K and V.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<u64>,
    /// Tokens of a compressed entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<u64>,
    /// The recurrence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", schemars(extend("enum" = crate::model::Mechanism::names())))]
    pub mechanism: Option<&'static str>,
    /// Channels of a recurrence's convolution, without those of its groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conv_channels: Option<u64>,
    /// Channels of each group of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conv_channels_per_group: Option<u64>,
    /// Groups of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conv_groups: Option<u64>,
    /// Its width, the current token included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conv_kernel: Option<u64>,
    /// The format of its columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conv_dtype: Option<String>,
    /// Heads of a recurrent state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_heads: Option<u64>,
    /// Elements of each; of a compressed layer, elements of its compressor's state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_elements: Option<u64>,
    /// Their format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dtype: Option<String>,
    /// Whether the encoder's input may be absent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// The most tokens an encoder gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder_tokens: Option<u64>,
}

impl GroupDescription {
    /// With the figures of an entry.
    fn with(self, key_value: KeyValue) -> Self {
        let dims = key_value.head_dims();
        Self {
            kv_heads: key_value.num_key_value_heads(),
            k_dim: dims.map(|(k, _)| k),
            v_dim: dims.map(|(_, v)| v),
            formula: key_value.shortcut_width().map(|_| "article_shortcut"),
            head_dim: match key_value {
                KeyValue::Vector { elements } => Some(elements),
                _ => None,
            },
            ..self
        }
    }
}

impl GroupDescription {
    /// With the figures of a state.
    fn with_state(self, state: RecurrentState) -> Self {
        let RecurrentState { mechanism, convolution, memory } = state;
        Self {
            mechanism: Some(mechanism.name()),
            conv_channels: convolution.map(|convolution| convolution.channels),
            conv_channels_per_group: convolution.map(|convolution| convolution.channels_per_group).filter(|&n| n > 0),
            conv_groups: convolution.map(|convolution| convolution.groups).filter(|&n| n > 0),
            conv_kernel: convolution.map(|convolution| convolution.kernel),
            conv_dtype: convolution.map(|convolution| convolution.format.to_string()),
            state_heads: memory.map(|memory| memory.heads),
            state_elements: memory.map(|memory| memory.elements_per_head),
            state_dtype: memory.map(|memory| memory.format.to_string()),
            ..self
        }
    }
}

/// An estimate of a [`Document`].
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct EstimateRow<'a> {
    /// Tokens of each sequence.
    pub seq_len: u64,
    /// Sequences.
    pub batch: u64,
    /// The format asked for; `K/V` where they differ.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub kv_dtype: KvDtype,
    /// What is stored, where that is not what was asked for.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text_if_any")]
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub kv_dtype_resolved: Option<KvFormat>,
    /// The format of K, where it differs from that of V.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text_if_any")]
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub k_dtype: Option<ElementFormat>,
    /// The format of V, where it differs from that of K.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text_if_any")]
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub v_dtype: Option<ElementFormat>,
    /// The engine.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub engine: Cow<'a, Engine>,
    /// Tensor parallel ranks.
    pub tp: u64,
    /// Pipeline stages.
    pub pp: u64,
    /// Replicas.
    pub dp: u64,
    /// Ranks that each keep a part of a sequence's tokens, where there is more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dcp: Option<u64>,
    /// Devices of all replicas.
    pub gpus: u64,
    /// Bytes over all devices of one replica, for the whole batch.
    pub bytes: u64,
    /// The most that any one device holds.
    pub bytes_per_gpu: u64,
    /// `bytes` in 10⁹, for reading; `bytes` is exact.
    pub gb: f64,
    /// One more token of one sequence at this length.
    pub bytes_per_token: BytesPerTokenValue,
    /// The same bytes by layer group.
    pub layer_groups: Cow<'a, [GroupEstimate]>,
    /// The steps from the ideal figure to this one, of an engine that allocates more or less.
    #[serde(skip_serializing_if = "<[Gap]>::is_empty")]
    pub gaps: Cow<'a, [Gap]>,
    /// The engine's own figures, under its name.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", schemars(with = "crate::engine::DetailsByEngine"))]
    pub details: Option<Cow<'a, Details>>,
    /// What the engine makes of the memory given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
}

impl<'a> EstimateRow<'a> {
    /// The row of an engine's answer to `workload`.
    ///
    /// # Errors
    /// [`Code::TooLarge`](crate::units::Code::TooLarge) when the devices can't be counted.
    pub fn new(workload: &Workload, engine: &'a Engine, answer: &'a Answer) -> Result<Self, Error> {
        let Answer { estimate, details, capacity, gaps, .. } = answer;
        let Workload { seq_len, batch, kv_dtype, layout, .. } = *workload;
        let KvFormat { k, v, .. } = estimate.stored;
        Ok(Self {
            seq_len: seq_len.0,
            batch,
            kv_dtype,
            kv_dtype_resolved: (kv_dtype != KvDtype::Given(estimate.stored)).then_some(estimate.stored),
            k_dtype: (k != v).then_some(k),
            v_dtype: (k != v).then_some(v),
            engine: Cow::Borrowed(engine),
            tp: layout.tp,
            pp: layout.pp,
            dp: layout.dp,
            dcp: (layout.dcp > 1).then_some(layout.dcp),
            gpus: layout.gpus()?,
            bytes: estimate.bytes.0,
            bytes_per_gpu: estimate.bytes_per_gpu.0,
            gb: estimate.bytes.0 as f64 / 1e9,
            bytes_per_token: estimate.bytes_per_token.into(),
            layer_groups: Cow::Borrowed(&estimate.layer_groups),
            gaps: Cow::Borrowed(gaps),
            details: details.as_ref().map(Cow::Borrowed),
            capacity: capacity.clone(),
        })
    }

    /// The same without what it borrows.
    pub fn into_owned(self) -> EstimateRow<'static> {
        EstimateRow {
            engine: Cow::Owned(self.engine.into_owned()),
            layer_groups: Cow::Owned(self.layer_groups.into_owned()),
            gaps: Cow::Owned(self.gaps.into_owned()),
            details: self.details.map(|details| Cow::Owned(details.into_owned())),
            ..self
        }
    }

    /// The format stored.
    pub(super) fn stored(&self) -> KvFormat {
        match (self.kv_dtype_resolved, self.kv_dtype) {
            (Some(stored), _) | (None, KvDtype::Given(stored)) => stored,
            (None, KvDtype::Auto) => ElementFormat::BF16.into(),
        }
    }
}

/// A whole number where it is one, else a decimal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum BytesPerTokenValue {
    /// A whole number of bytes.
    Whole(u64),
    /// Bits or blocks leave a fraction.
    Decimal(f64),
}

impl From<BytesPerToken> for BytesPerTokenValue {
    fn from(exact: BytesPerToken) -> Self {
        match exact.whole() {
            Some(whole) => Self::Whole(whole),
            None => Self::Decimal(exact.numerator as f64 / exact.denominator as f64),
        }
    }
}

impl BytesPerTokenValue {
    /// For putting in order.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Decimal(decimal) => decimal,
        }
    }
}

impl fmt::Display for BytesPerTokenValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => whole.fmt(f),
            Self::Decimal(decimal) => decimal.fmt(f),
        }
    }
}

impl Document {
    /// The document of a model and its estimates. `warnings` are those of the question; the model's come first.
    ///
    /// # Errors
    /// [`Code::TooLarge`](crate::units::Code::TooLarge) when the devices can't be counted.
    pub fn new(model: &Model, answers: &[AnsweredEstimate], warnings: &[Warning]) -> Result<Self, Error> {
        let mut notes = notes_of(model, warnings);
        for AnsweredEstimate { answer, .. } in answers {
            notes.add(&answer.assumptions, &answer.warnings);
        }
        Ok(Self {
            schema: "kvsize.estimate/1",
            kvsize: env!("CARGO_PKG_VERSION"),
            model: describe(model),
            estimates: answers.iter().map(row).collect::<Result<_, _>>()?,
            notes,
        })
    }

    /// The estimate of the first engine and format at the longest length.
    pub fn longest(&self) -> Option<&EstimateRow<'static>> {
        self.longest_of(&self.estimates.first()?.engine)
    }

    /// The estimate of an engine's first format at the longest length.
    pub fn longest_of(&self, engine: &Engine) -> Option<&EstimateRow<'static>> {
        let of_engine = || self.estimates.iter().filter(|row| *row.engine == *engine);
        let first = of_engine().next()?;
        of_engine().filter(|row| row.kv_dtype == first.kv_dtype).max_by_key(|row| (row.seq_len, row.batch))
    }
}

/// What is said of a model; `warnings` are those of the question.
pub fn notes_of(model: &Model, warnings: &[Warning]) -> Notes {
    let mut notes = Notes::default();
    for assumption in &model.assumptions {
        notes.assume(assumption.to_string());
    }
    for warning in model.warnings.iter().chain(warnings) {
        notes.warn(warning.to_string());
    }
    notes
}

pub(super) fn as_text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[allow(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn as_text_if_any<S: Serializer>(value: &Option<impl fmt::Display>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// The largest figure of all documents.
pub(super) fn largest(documents: &[Document]) -> Bytes {
    let rows = documents.iter().flat_map(|document| &document.estimates);
    Bytes(rows.map(|row| row.bytes).max().unwrap_or_default())
}

pub(super) fn describe(model: &Model) -> ModelDescription {
    let groups = model.layer_groups.iter().map(|group| {
        let description =
            GroupDescription { kind: group.cache.kind(), layers: group.layers.len(), ..GroupDescription::default() };
        match group.cache {
            LayerCache::FullAttention { key_value } => description.with(key_value),
            LayerCache::SlidingWindow { key_value, window, .. } => {
                GroupDescription { window: Some(window.0), ..description.with(key_value) }
            }
            LayerCache::ChunkedLocal { key_value, chunk } => {
                GroupDescription { chunk: Some(chunk.0), ..description.with(key_value) }
            }
            LayerCache::Latent { kv_lora_rank, qk_rope_head_dim } => GroupDescription {
                kv_lora_rank: Some(kv_lora_rank),
                qk_rope_head_dim: Some(qk_rope_head_dim),
                ..description
            },
            LayerCache::Indexer { index_head_dim, ratio } => GroupDescription {
                index_head_dim: Some(index_head_dim),
                ratio: Some(ratio).filter(|&ratio| ratio > 1),
                ..description
            },
            LayerCache::Compressed { head_dim, ratio, state_elements } => GroupDescription {
                head_dim: Some(head_dim),
                ratio: Some(ratio),
                state_elements: Some(state_elements),
                ..description
            },
            LayerCache::Recurrent(state) => description.with_state(state),
            LayerCache::CrossAttention { key_value, encoder_tokens, optional } => GroupDescription {
                optional,
                encoder_tokens: encoder_tokens.map(|tokens| tokens.0),
                ..description.with(key_value)
            },
            LayerCache::Shared | LayerCache::None => description,
        }
    });
    ModelDescription {
        name: super::clean(&model.name),
        source: model.origin.name(),
        model_type: model.model_type.clone(),
        max_seq_len: model.max_position_embeddings.map(|tokens| tokens.0),
        weights: model.weights.as_ref().map(Into::into),
        layer_groups: groups.collect(),
    }
}

pub(super) fn row(answered: &AnsweredEstimate) -> Result<EstimateRow<'static>, Error> {
    Ok(EstimateRow::new(&answered.workload, &answered.engine, &answered.answer)?.into_owned())
}
