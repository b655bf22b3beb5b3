//! What fits on hardware: the answer first, then the terms it rests on, each with how it is known.

use serde::Serialize;

use super::document::{BytesPerTokenValue, ModelDescription, describe};
use super::grid::{Align, Block, Grid, Page};
use super::text::{COLUMNS, hanging, wrapped};
use super::{Format, UnitChoice, csv, json, markdown, table};
use crate::engine::{Double, Engine};
use crate::estimate::Layout;
use crate::fit::{Binding, Fit, Requests};
use crate::hardware::{Budget, Calibration, Known, Price, Term};
use crate::model::Model;
use crate::units::{ByteUnit, Bytes, KvDtype, dollars, fixed_point, group_thousands};

/// What a configuration of hardware holds, before it is a document.
#[derive(Debug)]
pub struct Fitted {
    /// The device, by its own name.
    pub gpu: String,
    /// How many.
    pub gpus: u64,
    /// What an hour of one costs, where that is known.
    pub price: Option<Price>,
    /// The engine.
    pub engine: Engine,
    /// The format asked for.
    pub kv_dtype: KvDtype,
    /// How the model is spread.
    pub layout: Layout,
    /// Whether all of the layout was given.
    pub layout_given: bool,
    /// The memory of each stage's devices.
    pub budgets: Vec<Budget>,
    /// What overheads are calibrated by, where they were estimated.
    pub calibration: Option<&'static Calibration>,
    /// What it holds.
    pub fit: Fit,
    /// The line that starts such a server.
    pub command: Option<String>,
}

/// `kvsize.fit/1`: a model, and what configurations of hardware hold of it.
#[derive(Debug, Serialize)]
pub struct FitDocument {
    /// Name and version of this shape.
    pub schema: &'static str,
    /// Version of kvsize.
    pub kvsize: &'static str,
    /// The model.
    pub model: ModelDescription,
    /// Whether all that was asked for fits everywhere.
    pub fits: bool,
    /// A row a configuration, engine and format.
    pub configurations: Vec<FitRow>,
    /// What was taken for granted.
    pub assumptions: Vec<String>,
    /// What may make the answer wrong.
    pub warnings: Vec<String>,
}

/// A configuration of a [`FitDocument`].
#[derive(Debug, Serialize)]
pub struct FitRow {
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
    /// Ranks that each keep a part of a sequence's tokens, where there is more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dcp: Option<u64>,
    /// `given` or `chosen`.
    pub layout: &'static str,
    /// Whether what was asked for fits.
    pub fits: bool,
    /// Bytes that are missing on the device that is full first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortfall_bytes: Option<u64>,
    /// What keeps it from holding more.
    pub binding: BindingDescription,
    /// The longest request, no longer than the model's own maximum.
    pub max_seq_len: u64,
    /// Tokens in the pools of all replicas; absent where there is no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Requests at the length asked for, or at the longest; then at the average.
    pub requests: Vec<RequestsRow>,
    /// One more token of one sequence, over all devices of a replica.
    pub bytes_per_token: BytesPerTokenValue,
    /// The memory of each device, a pipeline stage each.
    pub stages: Vec<StageRow>,
    /// What `--memory` must be for an estimate of the same.
    pub memory_bytes: u64,
    /// How far off pools were that were estimated so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_error: Option<PoolError>,
    /// What it costs, where a price is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostRow>,
    /// The line that starts such a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// What binds.
#[derive(Debug, Serialize)]
pub struct BindingDescription {
    /// A stable word: `weights`, `memory`, `pipeline_stage`, `kv_heads` or `max_seq_len`.
    pub kind: &'static str,
    /// The same in words.
    pub reason: String,
}

/// Requests of a length.
#[derive(Debug, Serialize)]
pub struct RequestsRow {
    /// Tokens of each.
    pub seq_len: u64,
    /// How many there is room for, over all replicas.
    pub room: u64,
    /// How many run at once: no more than the engine allows.
    pub at_once: u64,
    /// The room of one replica, as the engine counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<Double>,
    /// The setting that allows no more, where it binds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_by: Option<&'static str>,
}

/// A term: its bytes on each device, and how they are known.
#[derive(Debug, Serialize)]
pub struct TermRow {
    /// Its name.
    pub name: &'static str,
    /// Bytes.
    pub bytes: u64,
    /// How they are known.
    pub known: Known,
    /// Where from.
    pub source: String,
}

/// The memory of each device of a pipeline stage.
#[derive(Debug, Serialize)]
pub struct StageRow {
    /// Total, usable, weights, and what the engine needs beside.
    pub terms: Vec<TermRow>,
    /// What is left for the cache; absent where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_bytes: Option<u64>,
}

/// How far off pools were that were estimated as this one, each log's model left out of the fit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolError {
    /// The engine of the logs, with its version.
    pub engine: String,
    /// The device of the logs.
    pub gpu: &'static str,
    /// How many logs.
    pub logs: u32,
    /// The mean of the absolute errors.
    pub mean_percent: Double,
    /// The largest.
    pub max_percent: Double,
    /// Whether this pool is below a tenth of the device, and these are the errors of such pools.
    pub small_pool: bool,
}

impl PoolError {
    fn of(calibration: &Calibration, budgets: &[Budget]) -> Self {
        let tenth = |budget: &Budget| budget.pool().unwrap_or_default().0.saturating_mul(10) < budget.total.bytes.0;
        let small_pool = budgets.iter().any(tenth);
        let Calibration { engine, version, device, logs, small_pools, .. } = calibration;
        let (errors, logs) = if small_pool {
            (calibration.small_pool_left_out, *small_pools)
        } else {
            (calibration.pool_left_out, logs.saturating_sub(*small_pools))
        };
        let percent = |hundredths: u32| Double::ratio(hundredths.into(), 100);
        Self {
            engine: format!("{engine}@{version}"),
            gpu: device,
            logs,
            mean_percent: percent(errors.mean),
            max_percent: percent(errors.max),
            small_pool,
        }
    }

    fn words(&self) -> String {
        let small = if self.small_pool { ", pools below a tenth of a GPU" } else { "" };
        format!(
            "pools so estimated were off by {:.2} % on average and {:.2} % at most, over {} logs of {} on {}{small}, each model \
             left out of its fit",
            self.mean_percent.value(),
            self.max_percent.value(),
            self.logs,
            self.engine,
            self.gpu
        )
    }
}

/// What it costs.
#[derive(Debug, Serialize)]
pub struct CostRow {
    /// US dollars for one GPU in one hour.
    pub dollars_per_gpu_hour: Double,
    /// For all of them.
    pub dollars_per_hour: Double,
    /// For each million tokens that the pool can hold; absent where it holds none, or has no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dollars_per_million_token_hours: Option<Double>,
    /// The day of the price; absent of one that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// `on demand`, `spot` or `reserved`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Whose offer it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Where it was read.
    pub source: String,
}

/// Millionths in a dollar.
const MICRO: u64 = 1_000_000;

impl CostRow {
    /// The cost of `gpus` at a price, whose pools hold `tokens`; none past 2⁶⁴ − 1 millionths.
    pub(super) fn of(price: &Price, gpus: u64, tokens: Option<u64>) -> Option<Self> {
        let all = price.micro_dollars_per_gpu_hour.checked_mul(gpus)?;
        let tokens = tokens.filter(|&tokens| tokens > 0);
        Some(Self {
            dollars_per_gpu_hour: Double::ratio(price.micro_dollars_per_gpu_hour, MICRO),
            dollars_per_hour: Double::ratio(all, MICRO),
            // Millionths of a dollar for all tokens, over millions of tokens: the millions cancel.
            dollars_per_million_token_hours: tokens.map(|tokens| Double::ratio(all, tokens)),
            as_of: price.as_of.clone(),
            kind: price.kind.clone(),
            provider: price.provider.clone(),
            source: price.source.clone(),
        })
    }
}

impl FitDocument {
    /// The document of what was asked of a model; `warnings` are those of the question.
    pub fn new(model: &Model, fitted: &[Fitted], assumptions: &[String], warnings: &[String]) -> Self {
        let mut said: Vec<String> = model.assumptions.iter().map(ToString::to_string).collect();
        let mut warned: Vec<String> = model.warnings.iter().map(ToString::to_string).collect();
        let of_rows = |texts: fn(&Fit) -> &Vec<String>| fitted.iter().flat_map(move |fitted| texts(&fitted.fit));
        for text in assumptions.iter().chain(of_rows(|fit| &fit.assumptions)) {
            add_once(&mut said, text);
        }
        for text in warnings.iter().chain(of_rows(|fit| &fit.warnings)) {
            add_once(&mut warned, text);
        }
        Self {
            schema: "kvsize.fit/1",
            kvsize: env!("CARGO_PKG_VERSION"),
            model: describe(model),
            fits: fitted.iter().all(|fitted| fitted.fit.fits),
            configurations: fitted.iter().map(row).collect(),
            assumptions: said,
            warnings: warned,
        }
    }
}

pub(super) fn add_once(texts: &mut Vec<String>, text: &str) {
    if !texts.iter().any(|known| known == text) {
        texts.push(text.to_owned());
    }
}

fn row(fitted: &Fitted) -> FitRow {
    let Fitted { gpu, gpus, price, engine, kv_dtype, layout, layout_given, budgets, calibration, fit, command } =
        fitted;
    let resolved = (KvDtype::Given(fit.stored) != *kv_dtype).then(|| fit.stored.to_string());
    FitRow {
        gpu: gpu.clone(),
        gpus: *gpus,
        engine: engine.to_string(),
        kv_dtype: kv_dtype.to_string(),
        kv_dtype_resolved: resolved,
        tp: layout.tp,
        pp: layout.pp,
        dp: layout.dp,
        dcp: Some(layout.dcp).filter(|&dcp| dcp > 1),
        layout: if *layout_given { "given" } else { "chosen" },
        fits: fit.fits,
        shortfall_bytes: fit.shortfall.map(|bytes| bytes.0),
        binding: described(&fit.binding),
        max_seq_len: fit.longest.0,
        tokens: fit.tokens,
        requests: fit.requests.iter().map(requests).collect(),
        bytes_per_token: fit.bytes_per_token.into(),
        stages: budgets.iter().map(stage).collect(),
        memory_bytes: fit.memory.0,
        pool_error: calibration.map(|calibration| PoolError::of(calibration, budgets)),
        cost: price.as_ref().and_then(|price| CostRow::of(price, *gpus, fit.tokens)),
        command: command.clone(),
    }
}

fn requests(requests: &Requests) -> RequestsRow {
    let bound_by = requests.at_most.filter(|&(_, most)| most < requests.room).map(|(name, _)| name);
    RequestsRow {
        seq_len: requests.seq_len.0,
        room: requests.room,
        at_once: requests.at_once(),
        max_concurrency: requests.max_concurrency,
        bound_by,
    }
}

fn stage(budget: &Budget) -> StageRow {
    let row = |name, term: &Term| TermRow { name, bytes: term.bytes.0, known: term.known, source: term.source.clone() };
    let Budget { total, usable, weights, overhead } = budget;
    let terms = [("total", total), ("usable", usable), ("weights", weights)].into_iter();
    let terms = terms.chain(overhead.iter().map(|(name, term)| (*name, term)));
    StageRow {
        terms: terms.map(|(name, term)| row(name, term)).collect(),
        pool_bytes: budget.pool().ok().map(|bytes| bytes.0),
    }
}

fn described(binding: &Binding) -> BindingDescription {
    let (kind, reason) = match *binding {
        Binding::Weights => ("weights", "weights and overhead leave nothing for the cache".into()),
        Binding::Memory => ("memory", "the memory of each GPU".into()),
        Binding::Stage { index, stages } => {
            ("pipeline_stage", format!("the memory of pipeline stage {} of {stages}", index.saturating_add(1)))
        }
        Binding::KvHeads { num_key_value_heads, tp } => {
            let copies = tp.checked_div(num_key_value_heads).unwrap_or(1);
            let reason =
                format!("memory, and tp: {num_key_value_heads} KV heads on {tp} ranks are kept {copies} times");
            ("kv_heads", reason)
        }
        Binding::Maximum => ("max_seq_len", "the model's own maximum".into()),
    };
    BindingDescription { kind, reason }
}

/// Fits in `format`; plain is the longest request and the configuration.
pub fn fit(document: &FitDocument, format: Format, unit: UnitChoice) -> String {
    let largest = document.configurations.iter().flat_map(|row| &row.stages).flat_map(|stage| &stage.terms);
    let unit = unit.resolve(Bytes(largest.map(|term| term.bytes).max().unwrap_or_default()));
    match format {
        Format::Table => table::render(&page(document, unit)),
        Format::Markdown => markdown::render(&page(document, unit)),
        Format::Json => json::pretty(document),
        Format::Jsonl => json::lines(std::slice::from_ref(document)),
        Format::Csv => csv::grid(&exact(document)),
        Format::Plain => document
            .configurations
            .iter()
            .map(|row| format!("{} {}x{} {}\n", row.max_seq_len, row.gpus, row.gpu, row.stored()))
            .collect(),
    }
}

impl FitRow {
    fn stored(&self) -> &str {
        self.kv_dtype_resolved.as_deref().unwrap_or(&self.kv_dtype)
    }

    fn configuration(&self) -> String {
        format!("{}x{}", self.gpus, self.gpu)
    }

    /// `tp 8 x pp 4`
    fn spread(&self) -> String {
        let sizes = [("tp", self.tp), ("pp", self.pp), ("dp", self.dp)];
        let told = sizes.iter().filter(|(name, size)| *size > 1 || *name == "tp");
        told.map(|(name, size)| format!("{name} {size}")).collect::<Vec<_>>().join(" x ")
    }

    /// The stage whose pool is the smallest.
    fn tightest(&self) -> Option<&StageRow> {
        self.stages.iter().min_by_key(|stage| stage.pool_bytes.unwrap_or_default())
    }

    fn longest(&self) -> String {
        group_thousands(self.max_seq_len)
    }
}

/// Every figure, for a spreadsheet.
fn exact(document: &FitDocument) -> Grid {
    let names = [
        "gpu",
        "gpus",
        "engine",
        "kv_dtype",
        "tp",
        "pp",
        "dp",
        "fits",
        "shortfall_bytes",
        "binding",
        "max_seq_len",
        "tokens",
        "seq_len",
        "requests",
        "bytes_per_token",
        "usable_bytes",
        "weights_bytes",
        "overhead_bytes",
        "pool_bytes",
        "dollars_per_hour",
        "dollars_per_million_token_hours",
        "as_of",
        "command",
    ];
    let columns = names.iter().map(|name| ((*name).to_owned(), Align::Left)).collect();
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let rows = document.configurations.iter().map(|row| {
        let stage = row.tightest();
        let term = |wanted: &dyn Fn(&str) -> bool| {
            let terms = stage.into_iter().flat_map(|stage| &stage.terms).filter(|term| wanted(term.name));
            terms.fold(0u64, |sum, term| sum.saturating_add(term.bytes)).to_string()
        };
        let cost = |of: fn(&CostRow) -> Option<Double>| {
            row.cost.as_ref().and_then(of).map(|dollars| dollars.value().to_string()).unwrap_or_default()
        };
        let first = row.requests.first();
        vec![
            row.gpu.clone(),
            row.gpus.to_string(),
            row.engine.clone(),
            row.stored().to_owned(),
            row.tp.to_string(),
            row.pp.to_string(),
            row.dp.to_string(),
            row.fits.to_string(),
            number(row.shortfall_bytes),
            row.binding.kind.to_owned(),
            row.max_seq_len.to_string(),
            number(row.tokens),
            number(first.map(|requests| requests.seq_len)),
            number(first.map(|requests| requests.at_once)),
            row.bytes_per_token.to_string(),
            term(&|name| name == "usable"),
            term(&|name| name == "weights"),
            term(&is_overhead),
            number(stage.and_then(|stage| stage.pool_bytes)),
            cost(|cost| Some(cost.dollars_per_hour)),
            cost(|cost| cost.dollars_per_million_token_hours),
            row.cost.as_ref().and_then(|cost| cost.as_of.clone()).unwrap_or_default(),
            row.command.clone().unwrap_or_default(),
        ]
    });
    Grid { columns, rows: rows.collect() }
}

fn page(document: &FitDocument, unit: ByteUnit) -> Page {
    let rows = &document.configurations;
    let mut blocks = vec![Block::Title(document.model.name.clone())];
    match rows.as_slice() {
        [row] => blocks.extend(alone(row, unit)),
        rows => {
            blocks.extend(by_format(rows));
            blocks.push(Block::Grid(summary(rows)));
            blocks.push(Block::Grid(terms_of_all(rows, unit)));
            blocks.push(Block::Text(rows.iter().flat_map(|row| words(row, unit)).collect()));
        }
    }
    blocks.push(Block::Text(basis(rows)));
    Page { blocks }
}

/// The longest request of each format on each configuration, where there are several of both.
fn by_format(rows: &[FitRow]) -> Option<Block> {
    let once = |of: &dyn Fn(&FitRow) -> String| {
        let mut kept: Vec<String> = Vec::new();
        for value in rows.iter().map(of) {
            add_once(&mut kept, &value);
        }
        kept
    };
    let formats = once(&|row| row.stored().to_owned());
    let configurations = once(&FitRow::configuration);
    let engines = once(&|row| row.engine.clone());
    if formats.len() < 2 || configurations.len() < 2 || engines.len() > 1 {
        return None;
    }
    let first = [("Longest request, tokens".to_owned(), Align::Left)];
    let columns = first.into_iter().chain(formats.iter().map(|format| (format.clone(), Align::Right))).collect();
    let cells = |configuration: &String| {
        let of = |format: &String| {
            let found = rows.iter().find(|row| row.configuration() == *configuration && row.stored() == format);
            found.map(FitRow::longest).unwrap_or_default()
        };
        [configuration.clone()].into_iter().chain(formats.iter().map(of)).collect()
    };
    Some(Block::Grid(Grid { columns, rows: configurations.iter().map(cells).collect() }))
}

/// A row a configuration; what is the same in all rows, or too wide, has no column.
fn summary(rows: &[FitRow]) -> Grid {
    let differ =
        |of: &dyn Fn(&FitRow) -> String| rows.iter().any(|row| rows.first().is_some_and(|first| of(first) != of(row)));
    let [engines, formats] =
        [differ(&|row: &FitRow| row.engine.clone()), differ(&|row: &FitRow| row.stored().to_owned())];
    let priced = rows.iter().any(|row| row.cost.is_some());
    let lengths = differ(&|row: &FitRow| format!("{:?}", row.requests.first().map(|requests| requests.seq_len)));
    let asked = rows.first().and_then(|row| row.requests.first()).filter(|_| !lengths);
    let requests =
        asked.map_or_else(|| "Requests".to_owned(), |asked| format!("At {}", group_thousands(asked.seq_len)));
    let grid = |tokens: bool, versions: bool, format: bool| {
        let engine = |row: &FitRow| {
            let whole = &row.engine;
            if versions { whole.clone() } else { whole.split('@').next().unwrap_or_default().to_owned() }
        };
        let mut columns = vec![("GPUs".to_owned(), Align::Left), ("Layout".to_owned(), Align::Left)];
        columns.extend(engines.then(|| ("Engine".to_owned(), Align::Left)));
        columns.extend((formats && format).then(|| ("Format".to_owned(), Align::Left)));
        columns.extend([("Fits".to_owned(), Align::Left), ("Longest".to_owned(), Align::Right)]);
        columns.push((requests.clone(), Align::Right));
        columns.extend(tokens.then(|| ("Pool tokens".to_owned(), Align::Right)));
        columns.extend(priced.then(|| ("US$/h".to_owned(), Align::Right)));
        let cells = |row: &FitRow| {
            let mut cells = vec![row.configuration(), row.spread()];
            cells.extend(engines.then(|| engine(row)));
            cells.extend((formats && format).then(|| row.stored().to_owned()));
            cells.extend([if row.fits { "yes" } else { "no" }.to_owned(), row.longest()]);
            cells.push(row.requests.first().map(|requests| count(requests.at_once)).unwrap_or_default());
            cells.extend(tokens.then(|| row.tokens.map_or_else(|| "no end".into(), group_thousands)));
            let cost = |cost: &CostRow| in_dollars(cost.dollars_per_hour);
            cells.extend(priced.then(|| row.cost.as_ref().map_or_else(|| "-".into(), cost)));
            cells
        };
        Grid { columns, rows: rows.iter().map(cells).collect() }
    };
    // What a terminal has no room for is said under the rows.
    let shapes = [(true, true, true), (false, true, true), (false, false, true)];
    let mut fitting = shapes.into_iter().map(|(tokens, versions, format)| grid(tokens, versions, format));
    fitting.find(|grid| grid.width() <= COLUMNS).unwrap_or_else(|| grid(false, false, false))
}

/// A count of requests; the largest number stands for no end.
fn count(requests: u64) -> String {
    if requests == u64::MAX { "no end".into() } else { group_thousands(requests) }
}

/// How a term is known, in one letter.
fn letter(known: Known) -> char {
    match known {
        Known::Given => 'g',
        Known::Measured => 'm',
        Known::Catalogue => 'c',
        Known::Estimated => 'e',
    }
}

/// The terms of each configuration's tightest stage, overhead in one, each with how it is known.
fn terms_of_all(rows: &[FitRow], unit: ByteUnit) -> Grid {
    let right = |name: &str| (name.to_owned(), Align::Right);
    let mut columns = vec![(format!("{} on each GPU", unit.name()), Align::Left)];
    columns.extend(["total", "usable", "weights", "overhead", "pool"].map(right));
    let mut lines: Vec<Vec<String>> = Vec::new();
    for row in rows {
        let Some(stage) = row.tightest() else { continue };
        let cell = |bytes: u64, known: Known| format!("{} {}", Bytes(bytes).in_unit(unit), letter(known));
        let of = |name: &str| {
            let term = stage.terms.iter().find(|term| term.name == name);
            term.map(|term| cell(term.bytes, term.known)).unwrap_or_default()
        };
        let beside: Vec<&TermRow> = stage.terms.iter().filter(|term| is_overhead(term.name)).collect();
        // A sum is no better known than what is known least.
        let known = beside.iter().map(|term| term.known).max_by_key(|&known| known == Known::Estimated);
        let bytes = beside.iter().fold(0u64, |sum, term| sum.saturating_add(term.bytes));
        let overhead = known.map_or_else(|| "-".into(), |known| cell(bytes, known));
        let pool = stage.pool_bytes.map_or_else(|| "none".into(), |pool| Bytes(pool).in_unit(unit));
        let line = vec![row.configuration(), of("total"), of("usable"), of("weights"), overhead, pool];
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    Grid { columns, rows: lines }
}

/// Whether a term is what the engine needs beside weights and cache.
fn is_overhead(name: &str) -> bool {
    !["total", "usable", "weights"].contains(&name)
}

/// One configuration: the answer, then its terms.
fn alone(row: &FitRow, unit: ByteUnit) -> Vec<Block> {
    let mut answers = vec![("longest request".to_owned(), format!("{} tokens: {}", row.longest(), row.binding.reason))];
    answers.extend(
        row.requests.iter().map(|requests| {
            (format!("requests of {}", group_thousands(requests.seq_len)), requests_in_words(requests))
        }),
    );
    answers.push(("tokens in the pool".to_owned(), row.tokens.map_or_else(|| "no end".into(), group_thousands)));
    answers.push(("one more token".to_owned(), format!("{} bytes", row.bytes_per_token)));
    answers.extend(row.cost.as_ref().map(|cost| ("cost".to_owned(), cost_in_words(cost))));
    let verdict = wrapped(&verdict(row, unit), COLUMNS);
    let mut blocks = vec![Block::Text(verdict), Block::Text(super::text::pairs(2, &answers))];
    let bytes = |stage: &StageRow| stage.terms.iter().map(|term| (term.name, term.bytes)).collect::<Vec<_>>();
    let alike = |one: &StageRow, other: &StageRow| bytes(one) == bytes(other);
    let all_alike = row.stages.iter().all(|stage| row.stages.first().is_some_and(|first| alike(first, stage)));
    let mut from: Vec<String> = Vec::new();
    for (index, stage) in row.stages.iter().enumerate() {
        // Stages alike are told once.
        if row.stages.iter().take(index).any(|earlier| alike(earlier, stage)) {
            continue;
        }
        let same = row.stages.iter().enumerate().filter(|(_, other)| alike(stage, other));
        let numbers: Vec<String> = same.map(|(index, _)| index.saturating_add(1).to_string()).collect();
        let of_stage = if all_alike { String::new() } else { format!(" of stage {}", numbers.join(", ")) };
        blocks.push(Block::Grid(terms(stage, &of_stage, unit)));
        sources(stage).iter().for_each(|line| add_once(&mut from, line));
    }
    blocks.push(Block::Text(from.iter().flat_map(|line| wrapped(line, COLUMNS)).collect()));
    blocks.extend(row.pool_error.as_ref().map(|error| Block::Text(wrapped(&error.words(), COLUMNS))));
    blocks.extend(row.command.as_ref().map(|command| Block::Text(vec![format!("$ {command}")])));
    blocks
}

fn verdict(row: &FitRow, unit: ByteUnit) -> String {
    let on = format!(
        "{} ({}, {}): {}, cache in {}",
        row.configuration(),
        row.spread(),
        row.layout,
        row.engine,
        row.stored()
    );
    match row.shortfall_bytes {
        _ if row.fits => format!("fits on {on}"),
        Some(bytes) => {
            format!("does not fit on {on}; {} {} short on a GPU", Bytes(bytes).in_unit(unit), unit.name())
        }
        None => format!("does not fit on {on}"),
    }
}

fn requests_in_words(requests: &RequestsRow) -> String {
    let room = count(requests.room);
    match requests.bound_by {
        Some(name) => format!("{} at once: {name}; there is room for {room}", count(requests.at_once)),
        None => match requests.max_concurrency {
            Some(concurrency) => format!("{room} at once ({:.2} in a replica)", concurrency.value()),
            None => format!("{room} at once"),
        },
    }
}

fn cost_in_words(cost: &CostRow) -> String {
    let each = cost.dollars_per_million_token_hours;
    let each = each.map(|each| format!("; US$ {} to hold a million tokens for an hour", in_dollars(each)));
    format!("US$ {} an hour{}", in_dollars(cost.dollars_per_hour), each.unwrap_or_default())
}

/// Dollars to the cent, or, of less than one, to four places.
pub(super) fn in_dollars(dollars: Double) -> String {
    let micro = u128::from(dollars.millionths());
    fixed_point(micro, MICRO.into(), if micro < MICRO.into() { 4 } else { 2 })
}

/// The sum on each device of a stage.
fn terms(stage: &StageRow, of_stage: &str, unit: ByteUnit) -> Grid {
    let columns = vec![
        (format!("On each GPU{of_stage}"), Align::Left),
        (unit.name().to_owned(), Align::Right),
        ("Bytes".to_owned(), Align::Right),
        ("Known".to_owned(), Align::Left),
    ];
    let sign = |name| if matches!(name, "total" | "usable") { "" } else { "- " };
    let mut rows: Vec<Vec<String>> = stage
        .terms
        .iter()
        .map(|term| {
            vec![
                format!("{}{}", sign(term.name), term.name),
                Bytes(term.bytes).in_unit(unit),
                group_thousands(term.bytes),
                term.known.name().to_owned(),
            ]
        })
        .collect();
    let pool = stage.pool_bytes;
    rows.push(vec![
        "= pool".to_owned(),
        pool.map_or_else(|| "none".into(), |pool| Bytes(pool).in_unit(unit)),
        pool.map_or_else(|| "-".into(), group_thousands),
        if stage.terms.iter().any(|term| term.known == Known::Estimated) { "estimated" } else { "summed" }.to_owned(),
    ]);
    Grid { columns, rows }
}

/// Where each term is from.
fn sources(stage: &StageRow) -> Vec<String> {
    stage.terms.iter().map(|term| format!("{}: {}", term.name, term.source)).collect()
}

/// What is said of a configuration among several: what binds, what is short, what a token costs.
fn words(row: &FitRow, unit: ByteUnit) -> Vec<String> {
    let mut said = vec![row.binding.reason.clone()];
    said.extend(
        row.shortfall_bytes.map(|bytes| format!("{} {} short on a GPU", Bytes(bytes).in_unit(unit), unit.name())),
    );
    let each = row.cost.as_ref().and_then(|cost| cost.dollars_per_million_token_hours);
    said.extend(each.map(|each| format!("US$ {} to hold a million tokens for an hour", in_dollars(each))));
    let mut lines = vec![format!("{}, {} in {}:", row.configuration(), row.engine, row.stored())];
    lines.extend(hanging("  ", &said.join("; ")));
    let worth_a_line = |(index, requests): &(usize, &RequestsRow)| *index > 0 || requests.bound_by.is_some();
    lines.extend(row.requests.iter().enumerate().filter(worth_a_line).flat_map(|(_, requests)| {
        hanging(&format!("  requests of {}: ", group_thousands(requests.seq_len)), &requests_in_words(requests))
    }));
    // Not folded: it is there to be copied.
    lines.extend(row.command.as_ref().map(|command| format!("  $ {command}")));
    lines
}

/// How terms are known, and whose prices these are.
fn basis(rows: &[FitRow]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    if rows.len() > 1 {
        lines.push("g given, m measured, c from the catalogue, e estimated".into());
        for error in rows.iter().filter_map(|row| row.pool_error.as_ref()) {
            add_once(&mut lines, &error.words());
        }
    }
    for cost in rows.iter().filter_map(|row| Some((&row.gpu, row.cost.as_ref()?))) {
        add_once(&mut lines, &price_in_words(cost.0, cost.1));
    }
    lines.iter().flat_map(|line| wrapped(line, COLUMNS)).collect()
}

/// `h100-sxm: US$ 3.90 per GPU-hour, Crusoe on demand, as of 2026-08-19 (dstackai/gpuhunt)`
pub(super) fn price_in_words(gpu: &str, cost: &CostRow) -> String {
    let offer = [&cost.provider, &cost.kind].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ");
    let parts = [Some(offer).filter(|offer| !offer.is_empty()), cost.as_of.as_ref().map(|day| format!("as of {day}"))];
    let said: String = parts.into_iter().flatten().map(|part| format!(", {part}")).collect();
    format!("{gpu}: US$ {} per GPU-hour{said} ({})", dollars(cost.dollars_per_gpu_hour.millionths()), cost.source)
}
