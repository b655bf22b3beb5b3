//! The levers to make it fit: a row each, and under the rows what each costs and the command that repeats it.

use serde::Serialize;

use super::ModelDescription;
use super::grid::{Align, Block, Grid, Page};
use super::text::{COLUMNS, hanging, wrapped};
use super::{Format, UnitChoice, csv, json, markdown, table};
use crate::engine::Double;
use crate::hardware::{Price, exact_size};
use crate::strategy::{Floors, Outcome, Question, Speed, Strategy, article, floors};
use crate::units::{ByteUnit, Bytes, ElementFormat, KvDtype, fixed_point, group_thousands};

/// `kvsize.strategies/1`: a model, a workload, and what each lever makes of it.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Strategies {
    /// Name and version of this shape.
    #[cfg_attr(feature = "cli", schemars(extend("const" = "kvsize.strategies/1")))]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_bytes: Option<u64>,
    /// The rows, the baseline first.
    pub strategies: Vec<StrategyRow>,
    /// The hardware's figures that floors rest on, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floors: Option<SpeedFigures>,
    /// What the article says, where this is its model or the one it stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub article: Option<ArticleStatement>,
    /// What was taken for granted.
    pub assumptions: Vec<String>,
    /// What may make the answer wrong.
    pub warnings: Vec<String>,
}

/// The GPUs that are asked about.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Gpu {
    /// Their name in the catalogue.
    pub name: String,
    /// How many are in a node.
    pub per_node: u64,
    /// Memory that is counted of each, which the driver reports, in whole MiB.
    #[serde(rename = "memory_mib", serialize_with = "as_mebibytes")]
    #[cfg_attr(feature = "cli", schemars(with = "u64"))]
    pub memory: Bytes,
    /// The price, if one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceFigures>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn as_mebibytes<S: serde::Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(bytes.0 >> 20)
}

/// Millionths of a dollar, written as cents: a whole number where it is one, else a decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Cents(#[cfg_attr(feature = "cli", schemars(with = "f64"))] pub u64);

impl Cents {
    const MILLIONTHS: u64 = 10_000;

    fn text(self) -> String {
        let text = fixed_point(u128::from(self.0), u128::from(Self::MILLIONTHS), 4);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
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
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct PriceFigures {
    /// US cents of one GPU in one hour.
    pub cents_per_gpu_hour: Cents,
    /// The day of the data; none of a price that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// `on demand`, `spot` or `reserved`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", schemars(extend("enum" = ["on demand", "spot", "reserved"])))]
    pub kind: Option<String>,
    /// Whose offer it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Where it was read.
    pub source: String,
    /// The price in words.
    #[serde(skip)]
    words: String,
}

impl From<&Price> for PriceFigures {
    fn from(price: &Price) -> Self {
        let clean = |text: &Option<String>| text.as_deref().map(super::clean);
        Self {
            cents_per_gpu_hour: Cents(price.micro_dollars_per_gpu_hour),
            as_of: price.as_of.clone(),
            kind: price.kind.clone(),
            provider: clean(&price.provider),
            source: super::clean(&price.source),
            words: super::clean(&price.words()),
        }
    }
}

/// What one GPU does at most; what has no source is absent.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct SpeedFigures {
    /// Memory bandwidth, in decimal gigabytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_gb_s: Option<u64>,
    /// Where it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_source: Option<String>,
    /// Peak dense rate in bf16, in 10⁹ operations a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bf16_gflops: Option<u64>,
    /// Where it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bf16_source: Option<String>,
}

impl SpeedFigures {
    fn speed(&self) -> Speed {
        Speed { bandwidth: self.bandwidth_gb_s, operations: self.bf16_gflops }
    }
}

/// Lower bounds of a row in nanoseconds: no engine is faster. What is not known is absent.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct FloorTimes {
    /// To read the cache once, for each decoded token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_ns: Option<u64>,
    /// To read the weights that a token passes through once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_read_ns: Option<u64>,
    /// The linear part of the prefill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_linear_ns: Option<u64>,
    /// The attention of the prefill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_attention_ns: Option<u64>,
}

/// How the question was typed, for the commands that repeat a row.
#[derive(Debug)]
pub struct Typed {
    /// What an estimate of it begins with: `kvsize MODEL`.
    pub estimate: String,
    /// The value of `--seq-len`.
    pub seq_len: String,
    /// Options that are the same in every command.
    pub extra: Vec<(&'static str, String)>,
}

/// A lever. One that the model can't use has a reason in place of bytes.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct StrategyRow {
    /// A stable word.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Whether this model can use it.
    pub usable: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Tokens of each sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_len: Option<u64>,
    /// The format that is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_dtype: Option<String>,
    /// Tensor parallel ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tp: Option<u64>,
    /// Pipeline stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pp: Option<u64>,
    /// Ranks that each keep a part of a sequence's tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dcp: Option<u64>,
    /// The cache, over all GPUs or wherever it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The most that one GPU holds, as laid out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_gpu: Option<u64>,
    /// Bytes less than the baseline; negative for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved_bytes: Option<i128>,
    /// GPUs it takes: of a layout all of its GPUs, else the fewest by memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u64>,
    /// Nodes that these GPUs fill or begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u64>,
    /// Of a layout: whether each GPU can hold its share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fits: Option<bool>,
    /// Bytes that each decoded token moves from the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_moved_per_token: Option<u64>,
    /// US cents of an hour of these GPUs, if there is a price and they suffice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cents_per_hour: Option<Cents>,
    /// The least time it takes, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floors: Option<FloorTimes>,
    /// What it costs in quality or time.
    pub cost: &'static str,
    /// What there is to say of the layout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The command whose estimate has the same bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// What the article says of its own model, or of the real one, beside its own rule.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct ArticleStatement {
    /// What the article's formula counts.
    #[serde(serialize_with = "as_number")]
    #[cfg_attr(feature = "cli", schemars(with = "u64"))]
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
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_numbers")]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<Count>"))]
    pub real: Option<[(Bytes, u64); 2]>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn as_number<S: serde::Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(bytes.0)
}

/// Bytes and GPUs of a count by the article's rule.
#[derive(Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
struct Count {
    bytes: u64,
    gpus: u64,
}

#[allow(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn as_numbers<S: serde::Serializer>(real: &Option<[(Bytes, u64); 2]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(real.iter().flatten().map(|&(Bytes(bytes), gpus)| Count { bytes, gpus }))
}

impl Strategies {
    /// The document of `rows`; `warnings` are those of the question, the model's come first.
    pub fn new(
        question: &Question,
        rows: &[Strategy],
        typed: &Typed,
        gpu: Gpu,
        floors: Option<SpeedFigures>,
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
        let mut assumptions: Vec<String> = model.assumptions.iter().map(ToString::to_string).collect();
        if question.weights.is_none() {
            assumptions.push(
                "the weights are not known, and GPUs are counted for the cache alone; --weights adds them".into(),
            );
        }
        Self {
            schema: "kvsize.strategies/1",
            kvsize: env!("CARGO_PKG_VERSION"),
            model: ModelDescription::new(model),
            seq_len: question.workload.seq_len.0,
            batch: question.workload.batch,
            usable_bytes_per_gpu: question.hardware.usable.0,
            rule,
            weights_bytes: question.weights.map(|weights| weights.0),
            strategies: rows
                .iter()
                .map(|strategy| StrategyRow {
                    floors: floors.as_ref().and_then(|figures| floor_times(question, strategy, figures)),
                    ..row(strategy, baseline, typed, &gpu)
                })
                .collect(),
            floors,
            gpu,
            article,
            assumptions,
            warnings: model.warnings.iter().map(ToString::to_string).chain(warnings.iter().cloned()).collect(),
        }
    }
}

fn floor_times(question: &Question, strategy: &Strategy, figures: &SpeedFigures) -> Option<FloorTimes> {
    let Floors { cache_read, weights_read, prefill_linear, prefill_attention } =
        floors(question, strategy, figures.speed())?;
    Some(FloorTimes {
        cache_read_ns: cache_read,
        weights_read_ns: weights_read,
        prefill_linear_ns: prefill_linear,
        prefill_attention_ns: prefill_attention,
    })
}

fn row(strategy: &Strategy, baseline: Option<Bytes>, typed: &Typed, gpu: &Gpu) -> StrategyRow {
    let Strategy { kind, name, cost, outcome, workload, .. } = strategy;
    let shared = StrategyRow { kind, name: super::clean(name), cost, ..StrategyRow::default() };
    let Outcome { bytes, bytes_per_gpu, gpus, fits, moved, note } = match outcome {
        Ok(outcome) => outcome.clone(),
        Err(reason) => return StrategyRow { reason: Some(super::clean(reason)), ..shared },
    };
    let saved = baseline.and_then(|baseline| i128::from(baseline.0).checked_sub(i128::from(bytes.0)));
    let suffices = fits != Some(false);
    let cents = gpu
        .price
        .as_ref()
        .filter(|_| suffices)
        .and_then(|price| price.cents_per_gpu_hour.0.checked_mul(gpus))
        .map(Cents);
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
        command: Some(command(strategy, typed)),
        ..shared
    }
}

/// The command whose estimate has the bytes of a row.
fn command(strategy: &Strategy, typed: &Typed) -> String {
    let Strategy { workload, levers, .. } = strategy;
    let mut words = vec![typed.estimate.clone()];
    let mut option = |name: &str, value: &str| words.extend([name.to_owned(), quoted(value)]);
    match levers.retrieval {
        Some(passages) => option("--retrieve", &passages.to_string()),
        None => option("-s", &typed.seq_len),
    }
    if workload.batch > 1 {
        option("-b", &workload.batch.to_string());
    }
    let bits = (1..=16).find(|&bits| workload.kv_dtype == KvDtype::from(ElementFormat::bitwidth(bits)));
    match bits {
        Some(bits) => option("--bitwidth", &bits.to_string()),
        None => option("-d", &workload.kv_dtype.to_string()),
    }
    if levers.windows_kept {
        option("--windows", "kept");
    }
    if let Some(streaming) = levers.streaming {
        option("--sinks", &streaming.sinks.to_string());
        option("--window", &streaming.window.0.to_string());
    }
    let layout = workload.layout;
    for (name, size) in [("--tp", layout.tp), ("--pp", layout.pp), ("--dcp", layout.dcp)] {
        if size > 1 {
            option(name, &size.to_string());
        }
    }
    if let Some(prefix) = workload.shared_prefix {
        option("--shared-prefix", &prefix.0.to_string());
    }
    for (name, value) in &typed.extra {
        option(name, value);
    }
    words.join(" ")
}

/// A word of a command, in quotes where a shell would take it apart.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@:+,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Strategies in `format`; plain is exact bytes and the stable word of each.
pub fn strategies(document: &Strategies, format: Format, unit: UnitChoice) -> String {
    let largest = document.strategies.iter().filter_map(|row| row.bytes).max().unwrap_or_default();
    let unit = unit.resolve(Bytes(largest));
    match format {
        Format::Table => table::render(&page(document, unit)),
        Format::Markdown => markdown::render(&page(document, unit)),
        Format::Json => json::pretty(document),
        Format::Jsonl => json::lines(std::slice::from_ref(document)),
        Format::Csv => csv::grid(&exact(document)),
        Format::Plain => {
            document.strategies.iter().filter_map(|row| Some(format!("{} {}\n", row.bytes?, row.kind))).collect()
        }
    }
}

/// Every figure of the rows, for a spreadsheet.
fn exact(document: &Strategies) -> Grid {
    let names = [
        "kind",
        "name",
        "bytes",
        "bytes_per_gpu",
        "saved_bytes",
        "gpus",
        "nodes",
        "fits",
        "cents_per_hour",
        "command",
        "reason",
    ];
    let columns = names.iter().map(|name| ((*name).to_owned(), Align::Left)).collect();
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let rows = document.strategies.iter().map(|row| {
        vec![
            row.kind.to_owned(),
            row.name.clone(),
            number(row.bytes),
            number(row.bytes_per_gpu),
            row.saved_bytes.map(|saved| saved.to_string()).unwrap_or_default(),
            number(row.gpus),
            number(row.nodes),
            row.fits.map(|fits| fits.to_string()).unwrap_or_default(),
            row.cents_per_hour.map(Cents::text).unwrap_or_default(),
            row.command.clone().unwrap_or_default(),
            row.reason.clone().unwrap_or_default(),
        ]
    });
    Grid { columns, rows: rows.collect() }
}

fn page(document: &Strategies, unit: ByteUnit) -> Page {
    let sequences = if document.batch == 1 { String::new() } else { format!(" x {}", document.batch) };
    let title = format!("{}, {} tokens{sequences}", document.model.name, group_thousands(document.seq_len));
    let mut grid = rows(document, unit, document.gpu.per_node > 1);
    if grid.width() > COLUMNS {
        // Nodes are told by the GPUs.
        grid = rows(document, unit, false);
    }
    let mut blocks = vec![Block::Title(title), Block::Grid(grid)];
    if let Some(figures) = &document.floors {
        blocks.extend([Block::Grid(floor_grid(document)), Block::Text(floor_words(figures, &document.gpu.name))]);
    }
    blocks.extend([
        Block::Text(document.strategies.iter().flat_map(|row| words(row, unit)).collect()),
        Block::Text(basis(document, unit)),
    ]);
    Page { blocks }
}

fn rows(document: &Strategies, unit: ByteUnit, nodes: bool) -> Grid {
    let priced = document.gpu.price.is_some();
    let mut columns = vec![
        ("Strategy".to_owned(), Align::Left),
        (unit.name().to_owned(), Align::Right),
        ("Saved".to_owned(), Align::Right),
        ("GPUs".to_owned(), Align::Right),
    ];
    columns.extend(nodes.then(|| ("Nodes".to_owned(), Align::Right)));
    columns.extend(priced.then(|| ("US$/h".to_owned(), Align::Right)));
    let baseline = document.strategies.first().and_then(|row| row.bytes).unwrap_or_default();
    let rows = document.strategies.iter().map(|row| {
        let suffices = row.fits != Some(false);
        let bytes = row.bytes.map(|bytes| Bytes(bytes).in_unit(unit));
        let gpus = row.gpus.filter(|_| suffices).map(group_thousands);
        let of_nodes = row.nodes.filter(|_| suffices).map(group_thousands);
        let cents = row.cents_per_hour.map(|Cents(millionths)| fixed_point(u128::from(millionths), 1_000_000, 2));
        let saved = row.saved_bytes.map(|saved| percent(saved, baseline));
        let mut cells = vec![Some(row.name.clone()), bytes, saved, gpus];
        cells.extend(nodes.then_some(of_nodes));
        cells.extend(priced.then_some(cents));
        cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".into())).collect()
    });
    Grid { columns, rows: rows.collect() }
}

/// The least time of each row that has one.
fn floor_grid(document: &Strategies) -> Grid {
    let columns = ["Floor, no prediction", "cache ms", "weights ms", "prefill s", "+ attention s"];
    let align = |index| if index == 0 { Align::Left } else { Align::Right };
    let columns = columns.iter().enumerate().map(|(index, name)| ((*name).to_owned(), align(index))).collect();
    let of = |time: Option<u64>, unit: u128| time.map_or_else(|| "-".into(), |time| fixed_point(time.into(), unit, 3));
    let rows = document.strategies.iter().filter_map(|row| {
        let floors = row.floors.as_ref()?;
        Some(vec![
            row.name.clone(),
            of(floors.cache_read_ns, 1_000_000),
            of(floors.weights_read_ns, 1_000_000),
            of(floors.prefill_linear_ns, 1_000_000_000),
            of(floors.prefill_attention_ns, 1_000_000_000),
        ])
    });
    Grid { columns, rows: rows.collect() }
}

/// What the floors rest on.
fn floor_words(figures: &SpeedFigures, gpu: &str) -> Vec<String> {
    let figure = |value: Option<u64>, unit: &str, source: &Option<String>| match (value, source) {
        (Some(value), Some(source)) => format!("{} {unit} ({source})", group_thousands(value)),
        _ => format!("not known of {gpu} from any source, and so absent"),
    };
    let bandwidth = figure(figures.bandwidth_gb_s, "GB/s", &figures.bandwidth_source);
    let operations = figure(figures.bf16_gflops, "GFLOP/s", &figures.bf16_source);
    [
        "a floor is what no engine beats, not what one reaches; what is not known is absent".to_owned(),
        format!("cache, weights: each byte read once a step / (GPUs x bandwidth); bandwidth: {bandwidth}"),
        format!(
            "prefill: 2 operations a parameter and token, and for attention 2 an element of K and V, query head and pair of \
             tokens that a layer sees / (GPUs x peak in bf16); peak: {operations}"
        ),
        "the input embedding is not counted, nor the output in prefill; in other formats the peak is another".to_owned(),
    ]
    .iter()
    .flat_map(|line| wrapped(line, COLUMNS))
    .collect()
}

/// `50.00 %` of the baseline; `-299.02 %` where it is more.
fn percent(saved: i128, baseline: u64) -> String {
    let hundredfold = saved.unsigned_abs().saturating_mul(100);
    let sign = if saved < 0 { "-" } else { "" };
    format!("{sign}{} %", fixed_point(hundredfold, u128::from(baseline), 2))
}

/// Under the rows: what a lever costs, what its layout comes to, and its command.
fn words(row: &StrategyRow, unit: ByteUnit) -> Vec<String> {
    let amount = |bytes: u64| format!("{} {}", Bytes(bytes).in_unit(unit), unit.name());
    let mut lines = vec![row.name.clone()];
    if let Some(reason) = &row.reason {
        lines.extend(hanging("  ", &format!("not usable: {reason}")));
        return lines;
    }
    lines.extend(hanging("  ", row.cost));
    let each = row.bytes_per_gpu.map(|bytes| match (row.bytes_moved_per_token, row.fits) {
        (Some(moved), _) => {
            format!("{} from the host for each token; a GPU has one layer at a time, {}", amount(moved), amount(bytes))
        }
        (_, Some(false)) => format!("{} on each GPU: does not fit", amount(bytes)),
        _ => format!("{} at most on each GPU", amount(bytes)),
    });
    let said: Vec<String> = row.note.iter().cloned().chain(each).collect();
    if !said.is_empty() {
        lines.extend(hanging("  ", &said.join("; ")));
    }
    // Not folded: it is there to be copied.
    lines.extend(row.command.as_ref().map(|command| format!("  $ {command}")));
    lines
}

/// How GPUs are counted, whose the price is, and what the article says.
fn basis(document: &Strategies, unit: ByteUnit) -> Vec<String> {
    let amount = |bytes: Bytes| format!("{} {}", bytes.in_unit(unit), unit.name());
    let mut lines = vec![document.rule.clone()];
    lines.extend(document.weights_bytes.map(|weights| format!("weights: {}", amount(Bytes(weights)))));
    lines.push(match &document.gpu.price {
        Some(price) => format!("price: {}", price.words),
        None => format!("price: none is known of {}", document.gpu.name),
    });
    if let Some(statement) = &document.article {
        lines.extend(said_by_the_article(statement, document, unit));
    }
    lines.iter().flat_map(|line| wrapped(line, COLUMNS)).collect()
}

fn said_by_the_article(statement: &ArticleStatement, document: &Strategies, unit: ByteUnit) -> Vec<String> {
    let ArticleStatement { bytes, marketed_gb, gpus, per_node, named, real } = statement;
    let amount = |bytes: Bytes| format!("{} {}", bytes.in_unit(unit), unit.name());
    let nodes = |gpus: u64| match per_node {
        0 | 1 => String::new(),
        _ => format!(", {} nodes of {per_node}", gpus.div_ceil(*per_node)),
    };
    let mut lines = Vec::new();
    if *named {
        let (claimed, each) = (article::NODES, article::GPUS_PER_NODE);
        lines.push(format!(
            "the article says: at least {claimed} nodes of {each} H100 ({} GPUs, about US$ {} an hour in \
             April 2025) for {} tokens in 16 bits",
            claimed.saturating_mul(each),
            article::DOLLARS_PER_HOUR,
            article::SEQ_LEN
        ));
    }
    lines.push(format!(
        "by the article's own rule, (cache + {} of weights) / (0.9 x {marketed_gb} GB as sold): {gpus} GPUs{}",
        amount(article::WEIGHTS),
        nodes(*gpus)
    ));
    if let Some(ours) = document.strategies.first().and_then(|row| row.gpus).filter(|_| real.is_none()) {
        lines.push(format!("by the rule here, with the memory that the driver reports: {ours} GPUs{}", nodes(ours)));
    }
    if let Some([(honoured, by_rule), (whole, by_rule_whole)]) = real {
        let weights = document.weights_bytes.map_or(article::REAL_WEIGHTS, Bytes);
        lines.push(format!(
            "why it differs: the article counts {}, with hidden_size / kv_heads = 640 elements for K and for V where 8 heads x \
             128 are 1,024: {} if every layer kept every token; 36 of the 48 layers keep a chunk of 8,192: {}",
            amount(*bytes),
            amount(*whole),
            amount(*honoured)
        ));
        lines.push(format!(
            "its {} of weights are the 17 billion parameters of one token; all 109 billion take about {}; with them its rule \
             asks for {by_rule} GPUs{} ({by_rule_whole} GPUs{} if every layer kept every token)",
            amount(article::WEIGHTS),
            amount(weights),
            nodes(*by_rule),
            nodes(*by_rule_whole)
        ));
    }
    lines
}
