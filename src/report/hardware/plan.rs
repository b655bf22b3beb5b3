//! The layouts that hold a workload: a row each, and under the rows why fewer devices do not.

use serde::Serialize;

use super::fit::{PoolError, RequestsRow, requests as of_length};
use super::fit_page::{count, requests_in_words};
use super::{CostRow, add_once, differ, in_dollars, spread};
use crate::engine::{Double, Engine};
use crate::estimate::Layout;
use crate::fit::{Planned, Smaller};
use crate::hardware::{Calibration, Price};
use crate::model::Model;
use crate::report::ModelDescription;
use crate::report::grid::{Align, Block, Grid, Page};
use crate::report::text::{COLUMNS, hanging, wrapped};
use crate::report::{Format, UnitChoice, csv, json, markdown, table};
use crate::units::{ByteUnit, Bytes, KvDtype, KvFormat, group_thousands};

/// A layout on devices of one kind, before it is a document.
#[derive(Debug)]
pub struct PlannedOn {
    /// The device, by its own name.
    pub gpu: String,
    /// What an hour of one costs, where that is known.
    pub price: Option<Price>,
    /// The engine.
    pub engine: Engine,
    /// The format asked for.
    pub kv_dtype: KvDtype,
    /// What is stored.
    pub stored: KvFormat,
    /// What overheads are calibrated by, where they were estimated.
    pub calibration: Option<&'static Calibration>,
    /// The layout.
    pub planned: Planned,
    /// The line that starts such a server.
    pub command: Option<String>,
}

/// `kvsize.plan/1`: a model, a workload, and the layouts that hold it.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct PlanDocument {
    /// Name and version of this shape.
    #[cfg_attr(feature = "cli", schemars(extend("const" = "kvsize.plan/1")))]
    pub schema: &'static str,
    /// Version of kvsize.
    pub kvsize: &'static str,
    /// The model.
    pub model: ModelDescription,
    /// Tokens of each request.
    pub seq_len: u64,
    /// Requests at once.
    pub batch: u64,
    /// The layouts, cheapest first where prices are known, else by devices.
    pub layouts: Vec<PlanRow>,
    /// The devices of which no number that may be holds it.
    pub too_small: Vec<TooSmallRow>,
    /// What was taken for granted.
    pub assumptions: Vec<String>,
    /// What may make the answer wrong.
    pub warnings: Vec<String>,
}

/// A layout of a [`PlanDocument`].
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct PlanRow {
    /// The device.
    pub gpu: String,
    /// How many.
    pub gpus: u64,
    /// The engine.
    pub engine: String,
    /// The format asked for.
    pub kv_dtype: String,
    /// What is stored, where that is not what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_dtype_resolved: Option<String>,
    /// Tensor parallel ranks.
    pub tp: u64,
    /// Pipeline stages; of an engine that splits by layers, its devices.
    pub pp: u64,
    /// Replicas.
    pub dp: u64,
    /// Whether no layout here has fewer devices.
    pub smallest: bool,
    /// Whether no layout here costs less; false where a price is not known.
    pub cheapest: bool,
    /// Requests of the length asked for, then of the average.
    pub requests: Vec<RequestsRow>,
    /// How far off pools were that were estimated so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_error: Option<PoolError>,
    /// Bytes to spare on the device that is full first.
    pub slack_bytes: u64,
    /// Why fewer devices do not hold it; absent where one is the fewest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smaller: Option<SmallerRow>,
    /// What it costs, where a price is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostRow>,
    /// The line that starts such a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// Why fewer devices do not hold a workload.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct SmallerRow {
    /// Devices.
    pub gpus: u64,
    /// Tensor parallel ranks.
    pub tp: u64,
    /// Pipeline stages.
    pub pp: u64,
    /// Replicas.
    pub dp: u64,
    /// Bytes missing on a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortfall_bytes: Option<u64>,
    /// Requests that run at once, fewer than asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
}

/// What was asked of a plan.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Tokens of each request.
    pub seq_len: u64,
    /// Requests at once.
    pub batch: u64,
}

/// Devices of which no number that may be holds the workload.
#[derive(Debug)]
pub struct TooSmall {
    /// The device, by its own name.
    pub gpu: String,
    /// Devices at the most.
    pub max_gpus: u64,
    /// The layout that comes closest.
    pub closest: Option<Smaller>,
}

/// The same in a [`PlanDocument`].
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct TooSmallRow {
    /// The device.
    pub gpu: String,
    /// Devices at the most.
    pub max_gpus: u64,
    /// The layout that comes closest, and what it lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closest: Option<SmallerRow>,
}

impl PlanDocument {
    /// The document of the layouts that were found.
    pub fn new(
        model: &Model,
        asked: Asked,
        planned: &[PlannedOn],
        too_small: &[TooSmall],
        assumptions: &[String],
        warnings: &[String],
    ) -> Self {
        let mut rows: Vec<PlanRow> = planned.iter().map(row).collect();
        let fewest = rows.iter().map(|row| row.gpus).min();
        let least = rows.iter().filter_map(PlanRow::cents).min();
        for row in &mut rows {
            row.smallest = Some(row.gpus) == fewest;
            row.cheapest = row.cents().is_some() && row.cents() == least;
        }
        // A price that is not known is no reason to be first.
        rows.sort_by_key(|row| (row.cents().is_none(), row.cents(), row.gpus, row.dp));
        let mut said: Vec<String> = model.assumptions.iter().map(ToString::to_string).collect();
        let mut warned: Vec<String> = model.warnings.iter().map(ToString::to_string).collect();
        for text in assumptions {
            add_once(&mut said, text);
        }
        for text in warnings {
            add_once(&mut warned, text);
        }
        Self {
            schema: "kvsize.plan/1",
            kvsize: env!("CARGO_PKG_VERSION"),
            model: ModelDescription::new(model),
            seq_len: asked.seq_len,
            batch: asked.batch,
            layouts: rows,
            too_small: too_small
                .iter()
                .map(|small| TooSmallRow {
                    gpu: small.gpu.clone(),
                    max_gpus: small.max_gpus,
                    closest: small.closest.map(|closest| smaller_row(closest, 1, 1)),
                })
                .collect(),
            assumptions: said,
            warnings: warned,
        }
    }
}

fn row(on: &PlannedOn) -> PlanRow {
    let PlannedOn { gpu, price, engine, kv_dtype, stored, calibration, planned, command } = on;
    let Planned { layout, gpus, requests, at_average, slack, smaller, budgets } = planned;
    PlanRow {
        gpu: gpu.clone(),
        gpus: *gpus,
        engine: engine.to_string(),
        kv_dtype: kv_dtype.to_string(),
        kv_dtype_resolved: (KvDtype::Given(*stored) != *kv_dtype).then(|| stored.to_string()),
        tp: layout.tp,
        pp: layout.pp,
        dp: layout.dp,
        smallest: false,
        cheapest: false,
        requests: [Some(requests), at_average.as_ref()].into_iter().flatten().map(of_length).collect(),
        pool_error: calibration.map(|calibration| PoolError::of(calibration, engine, layout.tp, budgets)),
        slack_bytes: slack.0,
        smaller: smaller.map(|smaller| smaller_row(smaller, layout.tp, layout.pp)),
        cost: price.as_ref().and_then(|price| CostRow::of(price, *gpus, None)),
        command: command.clone(),
    }
}

/// Why fewer devices do not hold it; of replicas, those of `tp` ranks and `pp` stages.
fn smaller_row(smaller: Smaller, tp: u64, pp: u64) -> SmallerRow {
    let of = |Layout { tp, pp, dp, .. }: Layout, shortfall_bytes, requests| SmallerRow {
        gpus: tp.saturating_mul(pp).saturating_mul(dp),
        tp,
        pp,
        dp,
        shortfall_bytes,
        requests,
    };
    match smaller {
        Smaller::Short { layout, bytes } => of(layout, Some(bytes.0), None),
        Smaller::Requests { dp, requests } => of(Layout { tp, pp, dp, dcp: 1 }, None, Some(requests)),
    }
}

impl PlanRow {
    /// What it costs, for putting in order.
    fn cents(&self) -> Option<u64> {
        self.cost.as_ref().map(|cost| cost.dollars_per_hour.millionths())
    }

    fn configuration(&self) -> String {
        format!("{}x{}", self.gpus, self.gpu)
    }

    fn stored(&self) -> &str {
        self.kv_dtype_resolved.as_deref().unwrap_or(&self.kv_dtype)
    }

    /// Requests of the length asked for that run at once.
    fn at_once(&self) -> Option<u64> {
        self.requests.first().and_then(|requests| requests.at_once)
    }
}

/// A plan in `format`; plain is the configurations.
pub fn plan(document: &PlanDocument, format: Format, unit: UnitChoice) -> String {
    let largest = document.layouts.iter().map(|row| row.slack_bytes).max().unwrap_or_default();
    let unit = unit.resolve(Bytes(largest));
    match format {
        Format::Table => table::render(&page(document, unit)),
        Format::Markdown => markdown::render(&page(document, unit)),
        Format::Json => json::pretty(document),
        Format::Jsonl => json::lines(std::slice::from_ref(document)),
        Format::Csv => csv::grid(&exact(document)),
        Format::Plain => {
            let line = |row: &PlanRow| format!("{} {}\n", row.configuration(), spread(row.tp, row.pp, row.dp));
            document.layouts.iter().map(line).collect()
        }
    }
}

/// Every figure, for a spreadsheet.
fn exact(document: &PlanDocument) -> Grid {
    let names = [
        "gpu",
        "gpus",
        "engine",
        "kv_dtype",
        "tp",
        "pp",
        "dp",
        "smallest",
        "cheapest",
        "requests",
        "avg_seq_len",
        "avg_requests",
        "slack_bytes",
        "smaller_gpus",
        "smaller_shortfall_bytes",
        "smaller_requests",
        "dollars_per_hour",
        "as_of",
        "command",
    ];
    let columns = names.iter().map(|name| ((*name).to_owned(), Align::Left)).collect();
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let rows = document.layouts.iter().map(|row| {
        let smaller = row.smaller.as_ref();
        let dollars: Option<Double> = row.cost.as_ref().map(|cost| cost.dollars_per_hour);
        vec![
            row.gpu.clone(),
            row.gpus.to_string(),
            row.engine.clone(),
            row.stored().to_owned(),
            row.tp.to_string(),
            row.pp.to_string(),
            row.dp.to_string(),
            row.smallest.to_string(),
            row.cheapest.to_string(),
            number(row.at_once()),
            number(row.requests.get(1).map(|requests| requests.seq_len)),
            number(row.requests.get(1).and_then(|requests| requests.at_once)),
            row.slack_bytes.to_string(),
            number(smaller.map(|smaller| smaller.gpus)),
            number(smaller.and_then(|smaller| smaller.shortfall_bytes)),
            number(smaller.and_then(|smaller| smaller.requests)),
            dollars.map(|dollars| dollars.value().to_string()).unwrap_or_default(),
            row.cost.as_ref().and_then(|cost| cost.as_of.clone()).unwrap_or_default(),
            row.command.clone().unwrap_or_default(),
        ]
    });
    Grid { columns, rows: rows.collect() }
}

/// Layouts that are told in words, each with its command: of more, only those that are smallest and cheapest.
const TOLD: usize = 8;

fn page(document: &PlanDocument, unit: ByteUnit) -> Page {
    let of = match document.batch {
        1 => String::new(),
        batch => format!(" x {}", group_thousands(batch)),
    };
    if document.layouts.is_empty() {
        // The answer comes first.
        let no = format!("no: none of these GPUs holds {} tokens{of}", group_thousands(document.seq_len));
        let small = document.too_small.iter().take(TOLD).flat_map(|small| wrapped(&small.words(unit), COLUMNS));
        return Page {
            blocks: vec![
                Block::Title(document.model.name.clone()),
                Block::Text([no].into_iter().chain(small).collect()),
            ],
        };
    }
    let title = format!("{}, {} tokens{of}", document.model.name, group_thousands(document.seq_len));
    let layouts = &document.layouts;
    let told: Vec<&PlanRow> =
        layouts.iter().filter(|row| layouts.len() <= TOLD || row.smallest || row.cheapest).collect();
    let mut blocks = vec![Block::Title(title), Block::Grid(rows(document, unit))];
    blocks.push(Block::Text(told.iter().flat_map(|row| words(row, unit)).collect()));
    let mut basis: Vec<String> = Vec::new();
    if told.len() < layouts.len() {
        basis
            .push("slack is to spare on a GPU; what fewer GPUs lack is missing on one, or in requests that run".into());
        basis.push("the commands of all layouts are in --json and -f csv".into());
    }
    for error in told.iter().filter_map(|row| row.pool_error.as_ref()) {
        add_once(&mut basis, &error.words());
    }
    if document.too_small.len() > TOLD {
        let names: Vec<&str> = document.too_small.iter().map(|small| small.gpu.as_str()).collect();
        basis.push(format!("not held by as many as may be of {}", names.join(", ")));
    } else {
        basis.extend(document.too_small.iter().map(|small| small.words(unit)));
    }
    for (gpu, cost) in told.iter().filter_map(|row| Some((&row.gpu, row.cost.as_ref()?))) {
        add_once(&mut basis, &format!("{gpu}: {}", cost.price));
    }
    blocks.push(Block::Text(basis.iter().flat_map(|line| wrapped(line, COLUMNS)).collect()));
    Page { blocks }
}

/// A row a layout; what a terminal has no room for has no column.
fn rows(document: &PlanDocument, unit: ByteUnit) -> Grid {
    let shapes = [(document.batch > 1, true), (false, true)];
    let mut fitting = shapes.into_iter().map(|(requests, fewer)| grid(document, unit, requests, fewer));
    fitting.find(|grid| grid.width() <= COLUMNS).unwrap_or_else(|| grid(document, unit, false, false))
}

fn grid(document: &PlanDocument, unit: ByteUnit, requests: bool, fewer: bool) -> Grid {
    let layouts = &document.layouts;
    let engines = differ(layouts, |row| row.engine.clone());
    let formats = differ(layouts, |row| row.stored().to_owned());
    let priced = layouts.iter().any(|row| row.cost.is_some());
    let mut columns = vec![("GPUs".to_owned(), Align::Left), ("Layout".to_owned(), Align::Left)];
    columns.extend(engines.then(|| ("Engine".to_owned(), Align::Left)));
    columns.extend(formats.then(|| ("Format".to_owned(), Align::Left)));
    columns.extend(requests.then(|| ("Requests".to_owned(), Align::Right)));
    columns.push((format!("Slack {}", unit.name()), Align::Right));
    columns.extend(fewer.then(|| ("Fewer".to_owned(), Align::Right)));
    columns.push((if fewer { "lack" } else { "Lack" }.to_owned(), Align::Right));
    columns.extend(priced.then(|| ("US$/h".to_owned(), Align::Right)));
    let cells = |row: &PlanRow| {
        let engine = row.engine.split('@').next().unwrap_or_default().to_owned();
        let mut cells = vec![row.configuration(), spread(row.tp, row.pp, row.dp)];
        cells.extend(engines.then_some(engine));
        cells.extend(formats.then(|| row.stored().to_owned()));
        cells.extend(requests.then(|| count(row.at_once())));
        cells.push(Bytes(row.slack_bytes).in_unit(unit));
        let smaller = row.smaller.as_ref();
        cells.extend(fewer.then(|| smaller.map(|smaller| group_thousands(smaller.gpus)).unwrap_or_default()));
        cells.push(smaller.map(|smaller| smaller.lack(document.batch, unit)).unwrap_or_default());
        let cost = |cost: &CostRow| in_dollars(cost.dollars_per_hour);
        cells.extend(priced.then(|| row.cost.as_ref().map_or_else(|| "-".into(), cost)));
        cells
    };
    Grid { columns, rows: layouts.iter().map(cells).collect() }
}

impl TooSmallRow {
    fn words(&self, unit: ByteUnit) -> String {
        let closest = self.closest.as_ref().map(|closest| format!(": with {}", closest.words(unit)));
        let most = group_thousands(self.max_gpus);
        format!("not held by up to {most} of {}{}", self.gpu, closest.unwrap_or_default())
    }
}

impl SmallerRow {
    /// `3 (pp 3) 21.116 GB short on a GPU`
    fn words(&self, unit: ByteUnit) -> String {
        let lacks = match (self.shortfall_bytes, self.requests) {
            (Some(bytes), _) => format!("{} {} short on a GPU", Bytes(bytes).in_unit(unit), unit.name()),
            (None, requests) => format!("{} requests at once", group_thousands(requests.unwrap_or_default())),
        };
        format!("{} ({}) {lacks}", self.gpus, spread(self.tp, self.pp, self.dp))
    }

    /// What it lacks on a GPU, or in requests.
    fn lack(&self, batch: u64, unit: ByteUnit) -> String {
        match (self.shortfall_bytes, self.requests) {
            (Some(bytes), _) => Bytes(bytes).in_unit(unit),
            (None, requests) => {
                format!("{} runs", group_thousands(batch.saturating_sub(requests.unwrap_or_default())))
            }
        }
    }
}

/// Why fewer devices do not hold it, and the line to paste.
fn words(row: &PlanRow, unit: ByteUnit) -> Vec<String> {
    let why = match &row.smaller {
        None if row.gpus == 1 => "one GPU is the fewest".to_owned(),
        None => "no layout has fewer".to_owned(),
        Some(smaller) => format!("with {}", smaller.words(unit)),
    };
    let marks = [("the cheapest", row.cheapest), ("the smallest", row.smallest)];
    let marks = marks.iter().filter(|(_, is)| *is).map(|(mark, _)| (*mark).to_owned());
    let said: Vec<String> = marks.chain([why]).collect();
    let mut lines = vec![format!("{} ({}):", row.configuration(), spread(row.tp, row.pp, row.dp))];
    lines.extend(hanging("  ", &said.join("; ")));
    lines.extend(row.requests.get(1).into_iter().flat_map(|average| {
        hanging(&format!("  requests of {}: ", group_thousands(average.seq_len)), &requests_in_words(average))
    }));
    // Not folded: it is there to be copied.
    lines.extend(row.command.as_ref().map(|command| format!("  $ {command}")));
    lines
}
