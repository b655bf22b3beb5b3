//! The answer as a document: the JSON that others build on, and the page that people see.
#![allow(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    reason = "floats only for printing: every one is computed from exact integers kept beside it"
)]

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::{DisplayFromStr, serde_as, skip_serializing_none};

use super::ModelDescription;
use crate::engine::{Answer, Capacity, Details, Engine, Gap};
use crate::estimate::{BytesPerToken, GroupEstimate, Workload};
use crate::model::Model;
use crate::units::{Bytes, ElementFormat, Error, Exact, KvDtype, KvFormat, Notes, group_thousands};

/// An estimate and what was asked for.
#[derive(Debug)]
pub struct AnsweredEstimate {
    /// What was asked.
    pub workload: Workload,
    /// Of which engine.
    pub engine: Engine,
    /// The answer.
    pub answer: Answer,
    /// The weights that the engine loads, where a total was asked for.
    pub weights: Option<Bytes>,
}

/// A model and its estimates.
#[derive(Debug)]
pub struct Document {
    /// The model.
    pub model: ModelDescription,
    /// The estimates, in the order asked for.
    pub estimates: Vec<EstimateRow>,
    /// What there is to say of it.
    pub notes: Notes,
}

/// `kvsize.estimate/1`: models and their estimates. Bytes are integers; what is unknown is absent.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EstimateDocument<'a> {
    /// Name and version of this shape.
    #[schemars(extend("const" = "kvsize.estimate/1"))]
    pub schema: &'static str,
    /// Version of kvsize.
    pub kvsize: &'static str,
    /// The models; absent where rows are written as they are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<&'a ModelDescription>,
    /// Their estimates, in the order asked for.
    pub estimates: Vec<NamedEstimate<'a>>,
    /// What there is to say of them.
    #[serde(flatten)]
    pub notes: Notes,
}

/// An estimate with the name of its model.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct NamedEstimate<'a> {
    /// Name and version of this shape, where the row stands alone.
    pub schema: Option<&'static str>,
    /// The model's name.
    pub model: &'a str,
    /// The estimate.
    #[serde(flatten)]
    pub row: &'a EstimateRow,
}

const SCHEMA: &str = "kvsize.estimate/1";

impl<'a> EstimateDocument<'a> {
    /// The document of models with their estimates; of several models each note names its own.
    pub fn new(documents: &'a [Document]) -> Self {
        let mut notes = Notes::default();
        for Document { model, notes: own, .. } in documents {
            let named = |texts: &[String]| -> Vec<String> {
                let name =
                    |text: &String| if documents.len() > 1 { format!("{}: {text}", model.name) } else { text.clone() };
                texts.iter().map(name).collect()
            };
            notes.add(&named(&own.assumptions), &named(&own.warnings));
        }
        let rows = |document: &'a Document| {
            document.estimates.iter().map(|row| NamedEstimate { schema: None, model: &document.model.name, row })
        };
        Self {
            schema: SCHEMA,
            kvsize: env!("CARGO_PKG_VERSION"),
            models: documents.iter().map(|document| &document.model).collect(),
            estimates: documents.iter().flat_map(rows).collect(),
            notes,
        }
    }

    /// The rows, each alone.
    pub(super) fn into_rows(self) -> Vec<NamedEstimate<'a>> {
        self.estimates.into_iter().map(|row| NamedEstimate { schema: Some(SCHEMA), ..row }).collect()
    }
}

/// An estimate of a [`Document`].
#[serde_as]
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct EstimateRow {
    /// Tokens of each sequence.
    pub seq_len: u64,
    /// Sequences.
    pub batch: u64,
    /// The format asked for; `K/V` where they differ.
    #[serde_as(as = "DisplayFromStr")]
    #[schemars(with = "String")]
    pub kv_dtype: KvDtype,
    /// What is stored, where that is not what was asked for.
    #[serde_as(as = "Option<DisplayFromStr>")]
    #[schemars(with = "Option<String>")]
    pub kv_dtype_resolved: Option<KvFormat>,
    /// The format of K, where it differs from that of V.
    #[schemars(with = "Option<String>")]
    pub k_dtype: Option<ElementFormat>,
    /// The format of V, where it differs from that of K.
    #[schemars(with = "Option<String>")]
    pub v_dtype: Option<ElementFormat>,
    /// The engine.
    #[serde_as(as = "DisplayFromStr")]
    #[schemars(with = "String")]
    pub engine: Engine,
    /// Tensor parallel ranks.
    pub tp: u64,
    /// Pipeline stages.
    pub pp: u64,
    /// Replicas.
    pub dp: u64,
    /// Ranks that each keep a part of a sequence's tokens, where there is more than one.
    pub dcp: Option<u64>,
    /// Devices of all replicas.
    pub gpus: u64,
    /// Bytes over all devices of one replica, for the whole batch.
    pub bytes: u64,
    /// The most that any one device holds.
    pub bytes_per_gpu: u64,
    /// `bytes` in 10⁹, for reading; `bytes` is exact.
    pub gb: f64,
    /// The weights of one replica, where a total was asked for.
    pub weights_bytes: Option<u64>,
    /// `bytes` and `weights_bytes`.
    pub total_bytes: Option<u64>,
    /// One more token of one sequence at this length.
    pub bytes_per_token: BytesPerTokenValue,
    /// The same bytes by layer group.
    pub layer_groups: Vec<GroupEstimate>,
    /// The steps from the ideal figure to this one, of an engine that allocates more or less.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// The engine's own figures, under its name.
    #[serde(flatten)]
    #[schemars(with = "crate::engine::DetailsByEngine")]
    pub details: Option<Details>,
    /// What the engine makes of the memory given.
    pub capacity: Option<Capacity>,
}

impl EstimateRow {
    /// The row of an estimate.
    ///
    /// # Errors
    /// [`Code::TooLarge`](crate::units::Code::TooLarge) when the devices can't be counted.
    pub fn new(answered: &AnsweredEstimate) -> Result<Self, Error> {
        let Answer { estimate, details, capacity, gaps, .. } = &answered.answer;
        let Workload { seq_len, batch, kv_dtype, layout, .. } = answered.workload;
        let KvFormat { k, v, .. } = estimate.stored;
        let total = answered.weights.map(|weights| (Exact::from(weights) + estimate.bytes).get());
        Ok(Self {
            seq_len: seq_len.0,
            batch,
            kv_dtype,
            kv_dtype_resolved: (kv_dtype != KvDtype::Given(estimate.stored)).then_some(estimate.stored),
            k_dtype: (k != v).then_some(k),
            v_dtype: (k != v).then_some(v),
            engine: answered.engine.clone(),
            tp: layout.tp,
            pp: layout.pp,
            dp: layout.dp,
            dcp: (layout.dcp > 1).then_some(layout.dcp),
            gpus: layout.gpus()?,
            bytes: estimate.bytes.0,
            bytes_per_gpu: estimate.bytes_per_gpu.0,
            gb: estimate.bytes.0 as f64 / 1e9,
            weights_bytes: answered.weights.map(|weights| weights.0),
            total_bytes: total.transpose()?,
            bytes_per_token: estimate.bytes_per_token.into(),
            layer_groups: estimate.layer_groups.clone(),
            gaps: gaps.clone(),
            details: details.clone(),
            capacity: capacity.clone(),
        })
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
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
    /// With its thousands apart where it is whole.
    pub(super) fn grouped(self) -> String {
        match self {
            Self::Whole(whole) => group_thousands(whole),
            Self::Decimal(decimal) => decimal.to_string(),
        }
    }

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
    pub fn new(model: &Model, answers: &[AnsweredEstimate], warnings: &[String]) -> Result<Self, Error> {
        let mut notes = notes_of(model, warnings);
        for AnsweredEstimate { answer, .. } in answers {
            notes.add(&answer.assumptions, &answer.warnings);
        }
        Ok(Self {
            model: ModelDescription::new(model),
            estimates: answers.iter().map(EstimateRow::new).collect::<Result<_, _>>()?,
            notes,
        })
    }

    /// The estimate of the first engine and format at the longest length.
    pub fn longest(&self) -> Option<&EstimateRow> {
        self.longest_of(&self.estimates.first()?.engine)
    }

    /// The estimate of an engine's first format at the longest length.
    pub fn longest_of(&self, engine: &Engine) -> Option<&EstimateRow> {
        let of_engine = || self.estimates.iter().filter(|row| row.engine == *engine);
        let first = of_engine().next()?;
        of_engine().filter(|row| row.kv_dtype == first.kv_dtype).max_by_key(|row| (row.seq_len, row.batch))
    }
}

/// What is said of a model; `warnings` are those of the question.
pub fn notes_of(model: &Model, warnings: &[String]) -> Notes {
    let mut notes = Notes::default();
    notes.add(&model.assumptions, &model.warnings);
    notes.add(&[], warnings);
    notes
}

/// The largest figure of all documents.
pub(super) fn largest(documents: &[Document]) -> Bytes {
    let rows = documents.iter().flat_map(|document| &document.estimates);
    Bytes(rows.map(|row| row.bytes).max().unwrap_or_default())
}
