//! The levers to make it fit: a row each, and under the rows what each costs and the command that repeats it.

mod command;
mod page;

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

pub use self::command::Typed;
use super::ModelDescription;
use super::document::notes_of;
use super::text::decimal;
use crate::engine::Double;
use crate::hardware::{Price, exact_size};
use crate::strategy::{Floors, Outcome, Question, Speed, Strategy, floors};
use crate::units::{Bytes, Notes, group_thousands};

/// `kvsize.strategies/1`: a model, a workload, and what each lever makes of it.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct Strategies {
    /// Name and version of this shape.
    pub schema: &'static str,
    /// Version of kvsize.
    pub kvsize: &'static str,
    /// The model.
    pub model: ModelDescription,
    /// Tokens of each sequence.
    pub seq_len: u64,
    /// Sequences.
    pub batch: u64,
    /// The GPUs.
    pub gpu: Gpu,
    /// Bytes of each GPU that weights and cache may take.
    pub usable_bytes_per_gpu: u64,
    /// How GPUs are counted, in words.
    pub rule: String,
    /// What the weights take, if that is known.
    pub weights_bytes: Option<u64>,
    /// The rows, the baseline first.
    pub strategies: Vec<StrategyRow>,
    /// The hardware's figures that floors rest on, where they were asked for.
    pub floors: Option<Speed>,
    /// What the article says, where this is its model or the one it stands for.
    pub article: Option<ArticleStatement>,
    /// What there is to say of it.
    #[serde(flatten)]
    pub notes: Notes,
}

/// The GPUs that are asked about.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct Gpu {
    /// Their name in the catalogue.
    pub name: String,
    /// How many are in a node.
    pub per_node: u64,
    /// Memory that is counted of each, which the driver reports, in whole MiB.
    pub memory_mib: u64,
    /// The same in bytes.
    #[serde(skip)]
    pub memory: Bytes,
    /// The price, if one is known.
    pub price: Option<PriceFigures>,
}

/// Millionths of a dollar, written as cents: a whole number where it is one, else a decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
pub struct Cents(#[schemars(with = "f64")] pub u64);

impl Cents {
    const MILLIONTHS: u64 = 10_000;

    fn text(self) -> String {
        decimal(self.0, Self::MILLIONTHS, 4)
    }
}

impl Serialize for Cents {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.checked_rem(Self::MILLIONTHS) {
            Some(0) => serializer.serialize_u64(self.0.div_euclid(Self::MILLIONTHS)),
            _ => Double::ratio(self.0, Self::MILLIONTHS).serialize(serializer),
        }
    }
}

/// What an hour was offered for, or is said to cost.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PriceFigures {
    /// US cents of one GPU in one hour.
    pub cents_per_gpu_hour: Cents,
    /// The offer.
    #[serde(flatten)]
    pub offer: Price,
}

impl From<&Price> for PriceFigures {
    fn from(price: &Price) -> Self {
        Self { cents_per_gpu_hour: Cents(price.micro_dollars_per_gpu_hour), offer: price.clone() }
    }
}

/// A lever. One that the model can't use has a reason in place of bytes.
#[skip_serializing_none]
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct StrategyRow {
    /// A stable word.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Whether this model can use it.
    pub usable: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Tokens of each sequence.
    pub seq_len: Option<u64>,
    /// The format that is stored.
    pub kv_dtype: Option<String>,
    /// Tensor parallel ranks.
    pub tp: Option<u64>,
    /// Pipeline stages.
    pub pp: Option<u64>,
    /// Ranks that each keep a part of a sequence's tokens.
    pub dcp: Option<u64>,
    /// The cache, over all GPUs or wherever it is.
    pub bytes: Option<u64>,
    /// The most that one GPU holds, as laid out.
    pub bytes_per_gpu: Option<u64>,
    /// Bytes less than the baseline; negative for more.
    pub saved_bytes: Option<i128>,
    /// GPUs it takes: of a layout all of its GPUs, else the fewest by memory.
    pub gpus: Option<u64>,
    /// Nodes that these GPUs fill or begin.
    pub nodes: Option<u64>,
    /// Of a layout: whether each GPU can hold its share.
    pub fits: Option<bool>,
    /// Bytes that each decoded token moves from the host.
    pub bytes_moved_per_token: Option<u64>,
    /// US cents of an hour of these GPUs, if there is a price and they suffice.
    pub cents_per_hour: Option<Cents>,
    /// The least time it takes, where that was asked for.
    pub floors: Option<Floors>,
    /// What it costs in quality or time.
    pub cost: &'static str,
    /// What there is to say of the layout.
    pub note: Option<String>,
    /// The command whose estimate has the same bytes.
    pub command: Option<String>,
}

/// What the article says of its own model, or of the real one, beside its own rule.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct ArticleStatement {
    /// What the article's formula counts.
    pub bytes: Bytes,
    /// What a GPU is sold with, in decimal gigabytes.
    pub marketed_gb: u64,
    /// The GPUs that its table's own rule asks for.
    pub gpus: u64,
    /// GPUs of a node.
    pub per_node: u64,
    /// Whether the article names a cluster for just this: 10,000,000 tokens on H100.
    pub named: bool,
    /// Of the real model, cache and GPUs by the article's rule, with all weights: windows honoured, and kept whole.
    #[schemars(with = "Vec<ByItsRule>")]
    pub real: Option<[ByItsRule; 2]>,
}

/// A cache, and the GPUs that the article's rule asks for.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct ByItsRule {
    /// The cache.
    pub bytes: Bytes,
    /// The GPUs.
    pub gpus: u64,
}

impl Strategies {
    /// The document of `rows`; `warnings` are those of the question, the model's come first.
    pub fn new(
        question: &Question,
        rows: &[Strategy],
        typed: &Typed,
        gpu: Gpu,
        figures: Option<Speed>,
        article: Option<ArticleStatement>,
        warnings: &[String],
    ) -> Self {
        let model = question.model;
        let baseline = rows.first().and_then(|row| row.outcome.as_ref().ok()).map(|outcome| outcome.bytes);
        let mebibytes = gpu.memory.0.checked_rem(1 << 20) == Some(0);
        let memory =
            if mebibytes { format!("{} MiB", group_thousands(gpu.memory.0 >> 20)) } else { exact_size(gpu.memory) };
        let counted = if question.weights.is_some() { "(cache + weights)" } else { "cache" };
        let rule = format!(
            "GPUs: {counted} / (0.9 x {memory} of {}), rounded up, as if bytes could be divided anyhow; a row with tp, pp \
             or dcp takes the GPUs of its layout, if each can hold its share",
            gpu.name
        );
        let mut notes = notes_of(model, warnings);
        if question.weights.is_none() {
            notes.assume("the weights are not known, and GPUs are counted for the cache alone; --weights adds them");
        }
        let row_with_floors = |strategy: &Strategy| StrategyRow {
            floors: figures.as_ref().and_then(|figures| floors(question, strategy, figures)),
            ..row(strategy, baseline, typed, &gpu)
        };
        let mut levers: Vec<StrategyRow> = rows.iter().map(row_with_floors).collect();
        // Best first, after the baseline; the article's are in the article's order.
        let order = |row: &StrategyRow| (!row.usable, row.kind != "baseline", row.bytes.filter(|_| article.is_none()));
        levers.sort_by_key(order);
        Self {
            schema: "kvsize.strategies/1",
            kvsize: env!("CARGO_PKG_VERSION"),
            model: ModelDescription::new(model),
            seq_len: question.workload.seq_len.0,
            batch: question.workload.batch,
            usable_bytes_per_gpu: question.usable.0,
            rule,
            weights_bytes: question.weights.map(|weights| weights.0),
            strategies: levers,
            floors: figures,
            gpu,
            article,
            notes,
        }
    }
}

fn row(strategy: &Strategy, baseline: Option<Bytes>, typed: &Typed, gpu: &Gpu) -> StrategyRow {
    let Strategy { kind, name, cost, outcome, workload, .. } = strategy;
    let shared = StrategyRow { kind, name: super::clean(name), cost, ..StrategyRow::default() };
    let Outcome { bytes, bytes_per_gpu, gpus, fits, moved, note } = match outcome {
        Ok(outcome) => outcome.clone(),
        Err(reason) => return StrategyRow { reason: Some(super::clean(reason)), ..shared },
    };
    let saved = baseline.and_then(|baseline| i128::from(baseline.0).checked_sub(i128::from(bytes.0)));
    let price = gpu.price.as_ref().filter(|_| fits != Some(false));
    let cents = price.and_then(|price| price.cents_per_gpu_hour.0.checked_mul(gpus)).map(Cents);
    StrategyRow {
        usable: true,
        seq_len: Some(workload.seq_len.0),
        kv_dtype: Some(workload.kv_dtype.to_string()),
        tp: Some(workload.layout.tp),
        pp: Some(workload.layout.pp),
        dcp: Some(workload.layout.dcp).filter(|&dcp| dcp > 1),
        bytes: Some(bytes.0),
        bytes_per_gpu: (fits.is_some() || moved.is_some()).then_some(bytes_per_gpu.0),
        saved_bytes: saved,
        gpus: Some(gpus),
        nodes: Some(gpus.div_ceil(gpu.per_node.max(1))),
        fits,
        bytes_moved_per_token: moved.map(|moved| moved.0),
        cents_per_hour: cents,
        note,
        command: Some(command::command(strategy, typed)),
        ..shared
    }
}
