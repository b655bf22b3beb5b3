//! What a budget says of a workload: the verdict first, then the limits.

use serde::Serialize;

use super::document::{ModelDescription, describe};
use super::grid::{Align, Block, Grid, Page};
use super::text::{COLUMNS, wrapped};
use super::{Format, UnitChoice, csv, json, markdown, table};
use crate::check::{Checked, Limit};
use crate::engine::Engine;
use crate::estimate::Workload;
use crate::model::Model;
use crate::units::{ByteUnit, Bytes, KvDtype, group_thousands};

/// `kvsize.check/1`: a workload, and whether it stays within its budget.
#[derive(Debug, Serialize)]
pub struct CheckDocument {
    /// Name and version of this shape.
    pub schema: &'static str,
    /// Version of kvsize.
    pub kvsize: &'static str,
    /// The model.
    pub model: ModelDescription,
    /// Whether all limits hold.
    pub within: bool,
    /// Tokens of each sequence.
    pub seq_len: u64,
    /// Sequences.
    pub batch: u64,
    /// The engine, with its version.
    pub engine: String,
    /// The format asked for.
    pub kv_dtype: String,
    /// What is stored, where that is not what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_dtype_resolved: Option<String>,
    /// Tensor parallel ranks.
    pub tp: u64,
    /// Pipeline stages.
    pub pp: u64,
    /// The limits.
    pub limits: Vec<LimitRow>,
    /// The longest request within all limits, no longer than the model's own maximum; absent where there is no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seq_len: Option<u64>,
    /// What was taken for granted.
    pub assumptions: Vec<String>,
    /// What may make the answer wrong.
    pub warnings: Vec<String>,
}

/// A limit of a [`CheckDocument`].
#[derive(Debug, Serialize)]
pub struct LimitRow {
    /// `bytes`, over all devices of a replica, or `bytes_per_gpu`.
    pub kind: &'static str,
    /// The budget.
    pub budget: u64,
    /// The budget less its margin.
    pub allowed: u64,
    /// What the workload takes.
    pub taken: u64,
    /// Bytes that are left; absent where there are too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
    /// Bytes that are too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over: Option<u64>,
}

impl LimitRow {
    fn of(limit: &Limit) -> Self {
        let Limit { kind, budget, allowed, taken } = *limit;
        let (left, over) = match limit.left() {
            Ok(left) => (Some(left.0), None),
            Err(over) => (None, Some(over.0)),
        };
        Self { kind, budget: budget.0, allowed: allowed.0, taken: taken.0, left, over }
    }

    fn of_what(&self) -> &'static str {
        if self.kind == "bytes" { "in all" } else { "on each GPU" }
    }
}

impl CheckDocument {
    /// The document of a check; `warnings` are those of the question.
    pub fn new(model: &Model, workload: &Workload, engine: &Engine, checked: &Checked, warnings: &[String]) -> Self {
        let said = |texts: Vec<String>, more: &[String]| texts.into_iter().chain(more.iter().cloned()).collect();
        let of_model = model.warnings.iter().map(ToString::to_string).chain(warnings.iter().cloned()).collect();
        Self {
            schema: "kvsize.check/1",
            kvsize: env!("CARGO_PKG_VERSION"),
            model: describe(model),
            within: checked.is_within(),
            seq_len: workload.seq_len.0,
            batch: workload.batch,
            engine: engine.to_string(),
            kv_dtype: workload.kv_dtype.to_string(),
            kv_dtype_resolved: (KvDtype::Given(checked.stored) != workload.kv_dtype)
                .then(|| checked.stored.to_string()),
            tp: workload.layout.tp,
            pp: workload.layout.pp,
            limits: checked.limits.iter().map(LimitRow::of).collect(),
            max_seq_len: checked.longest.map(|longest| longest.0),
            assumptions: said(model.assumptions.iter().map(ToString::to_string).collect(), &checked.assumptions),
            warnings: said(of_model, &checked.warnings),
        }
    }

    /// The limit that is exceeded most, or else has least left.
    fn tightest(&self) -> Option<&LimitRow> {
        let signed = |limit: &&LimitRow| match (limit.left, limit.over) {
            (_, Some(over)) => i128::from(over).saturating_neg(),
            (left, None) => i128::from(left.unwrap_or_default()),
        };
        self.limits.iter().min_by_key(signed)
    }

    /// `over by 2.416 GB: the largest context within the budget is 120,832 tokens`
    fn verdict(&self, unit: ByteUnit) -> String {
        let amount = |bytes: u64| format!("{} {}", Bytes(bytes).in_unit(unit), unit.name());
        let longest = match self.max_seq_len {
            Some(0) => "no context is within the budget".into(),
            Some(longest) => format!("the largest context within the budget is {} tokens", group_thousands(longest)),
            None => "a context of any length is within the budget".into(),
        };
        let margin = match self.tightest() {
            Some(LimitRow { over: Some(over), .. }) => format!("over by {}", amount(*over)),
            Some(limit) => {
                format!("within the budget: {} left {}", amount(limit.left.unwrap_or_default()), limit.of_what())
            }
            None => "no budget".into(),
        };
        let join = if self.within { ";" } else { ":" };
        format!("{margin}{join} {longest}")
    }
}

/// A check in `format`; plain is the verdict.
pub fn check(document: &CheckDocument, format: Format, unit: UnitChoice) -> String {
    let largest = document.limits.iter().map(|limit| limit.budget.max(limit.taken)).max();
    let unit = unit.resolve(Bytes(largest.unwrap_or_default()));
    match format {
        Format::Table => table::render(&page(document, unit)),
        Format::Markdown => markdown::render(&page(document, unit)),
        Format::Json => json::pretty(document),
        Format::Jsonl => json::lines(std::slice::from_ref(document)),
        Format::Csv => csv::grid(&exact(document)),
        Format::Plain => format!("{}\n", document.verdict(unit)),
    }
}

fn page(document: &CheckDocument, unit: ByteUnit) -> Page {
    let amount = |bytes: u64| Bytes(bytes).in_unit(unit);
    let right = |name: String| (name, Align::Right);
    let columns = vec![
        (unit.name().to_owned(), Align::Left),
        right("budget".into()),
        right("less margin".into()),
        right("taken".into()),
        right("left".into()),
    ];
    let row = |limit: &LimitRow| {
        let left = match (limit.left, limit.over) {
            (_, Some(over)) => format!("-{}", amount(over)),
            (left, None) => amount(left.unwrap_or_default()),
        };
        vec![limit.of_what().to_owned(), amount(limit.budget), amount(limit.allowed), amount(limit.taken), left]
    };
    let of = format!(
        "{}, {} tokens x {} in {}: {}",
        document.model.name,
        group_thousands(document.seq_len),
        group_thousands(document.batch),
        document.kv_dtype_resolved.as_deref().unwrap_or(&document.kv_dtype),
        document.engine
    );
    Page {
        blocks: vec![
            Block::Text(wrapped(&document.verdict(unit), COLUMNS)),
            Block::Grid(Grid { columns, rows: document.limits.iter().map(row).collect() }),
            Block::Text(wrapped(&of, COLUMNS)),
        ],
    }
}

/// Every figure, for a spreadsheet.
fn exact(document: &CheckDocument) -> Grid {
    let names = ["limit", "budget", "allowed", "taken", "left", "over", "within", "max_seq_len"];
    let columns = names.iter().map(|name| ((*name).to_owned(), Align::Left)).collect();
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let row = |limit: &LimitRow| {
        vec![
            limit.kind.to_owned(),
            limit.budget.to_string(),
            limit.allowed.to_string(),
            limit.taken.to_string(),
            number(limit.left),
            number(limit.over),
            document.within.to_string(),
            number(document.max_seq_len),
        ]
    };
    Grid { columns, rows: document.limits.iter().map(row).collect() }
}
