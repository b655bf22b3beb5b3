//! The levers for people: the rows, and under them what each costs and the command that repeats it.

use super::{ArticleStatement, Cents, Strategies, StrategyRow};
use crate::report::column::{Cell, Column, Table, grid};
use crate::report::grid::{Block, Grid, Page};
use crate::report::text::{hanging, in_unit};
use crate::report::{Medium, Report, clean};
use crate::strategy::{Floors, Speed, article};
use crate::units::{ByteUnit, Bytes, fixed_point, group_thousands};

type StrategyColumn<'a> = Column<'a, StrategyRow>;

impl Strategies {
    /// The levers that the model can use; they come first.
    fn usable(&self) -> &[StrategyRow] {
        let count = self.strategies.partition_point(|row| row.usable);
        self.strategies.get(..count).unwrap_or(&self.strategies)
    }

    fn columns<'a>(&self, unit: ByteUnit) -> Vec<StrategyColumn<'a>> {
        let baseline = self.strategies.first().and_then(|row| row.bytes).unwrap_or_default();
        let saved = move |&saved: &i128| Cell::Both(percent(saved, baseline), saved.to_string());
        let dollars = |cents: &Cents| Cell::Both(fixed_point(u128::from(cents.0), 1_000_000, 2), cents.text());
        // People are not shown a number of GPUs that does not suffice.
        let sufficient = |of: fn(&StrategyRow) -> Option<u64>| {
            move |row: &StrategyRow| {
                let shown = of(row).filter(|_| row.fits != Some(false)).map_or_else(|| "-".into(), group_thousands);
                Cell::Both(shown, of(row).map(|count| count.to_string()).unwrap_or_default())
            }
        };
        vec![
            StrategyColumn::csv("kind", |row| row.kind),
            StrategyColumn::left("Strategy", |row| row.name.clone()).key("name"),
            StrategyColumn::right(unit.name(), |row| row.bytes.map_or(Cell::Missing("-"), Cell::Bytes)).key("bytes"),
            StrategyColumn::csv("bytes_per_gpu", |row| row.bytes_per_gpu),
            StrategyColumn::right("Saved", move |row| Cell::or(row.saved_bytes.as_ref().map(saved), "-"))
                .key("saved_bytes"),
            StrategyColumn::right("GPUs", sufficient(|row| row.gpus)).key("gpus"),
            // Nodes are told by the GPUs.
            StrategyColumn::right("Nodes", sufficient(|row| row.nodes))
                .when(self.gpu.per_node > 1)
                .until(1)
                .key("nodes"),
            StrategyColumn::csv("fits", |row| row.fits),
            StrategyColumn::right("US$/h", move |row| Cell::or(row.cents_per_hour.as_ref().map(dollars), "-"))
                .when(self.gpu.price.is_some())
                .key("cents_per_hour"),
            StrategyColumn::csv("command", |row| row.command.clone()),
            StrategyColumn::csv("reason", |row| row.reason.clone()),
        ]
    }
}

impl Report for Strategies {
    fn table(&self, unit: ByteUnit) -> Table {
        Table::new(&self.strategies, self.columns(unit))
    }

    fn largest(&self) -> Bytes {
        Bytes(self.strategies.iter().filter_map(|row| row.bytes).max().unwrap_or_default())
    }

    fn page(&self, unit: ByteUnit, _: Medium) -> Page {
        let sequences = if self.batch == 1 { String::new() } else { format!(" x {}", self.batch) };
        let title = format!("{}, {} tokens{sequences}", self.model.name, group_thousands(self.seq_len));
        let mut blocks =
            vec![Block::Title(title), Block::Grid(Table::new(self.usable(), self.columns(unit)).grid(unit))];
        if let Some(figures) = &self.floors {
            blocks.extend([Block::Grid(floor_grid(self)), Block::folded(floor_words(figures, &self.gpu.name))]);
        }
        blocks.extend([
            Block::Text(self.usable().iter().flat_map(|row| words(row, unit)).collect()),
            Block::folded(basis(self, unit)),
        ]);
        blocks
    }

    /// Exact bytes and the stable word of each.
    fn plain(&self, _: ByteUnit) -> Vec<String> {
        self.strategies.iter().filter_map(|row| Some(format!("{} {}", row.bytes?, row.kind))).collect()
    }
}

/// The least time of each row that has one.
fn floor_grid(document: &Strategies) -> Grid {
    type FloorColumn<'a> = Column<'a, (&'a str, &'a Floors)>;
    let time = |heading, of: fn(&Floors) -> Option<u64>, unit: u128| {
        FloorColumn::right(heading, move |(_, floors)| {
            Cell::or(of(floors).map(|time| fixed_point(time.into(), unit, 3)), "-")
        })
    };
    let (milliseconds, seconds) = (1_000_000, 1_000_000_000);
    let columns = [
        FloorColumn::left("Floor, no prediction", |(name, _)| *name),
        time("cache ms", |floors| floors.cache_read_ns, milliseconds),
        time("weights ms", |floors| floors.weights_read_ns, milliseconds),
        time("prefill s", |floors| floors.prefill_linear_ns, seconds),
        time("+ attention s", |floors| floors.prefill_attention_ns, seconds),
    ];
    let rows = document.strategies.iter().filter_map(|row| Some((row.name.as_str(), row.floors.as_ref()?)));
    grid(&rows.collect::<Vec<_>>(), columns, ByteUnit::Bytes)
}

/// What the floors rest on.
fn floor_words(figures: &Speed, gpu: &str) -> [String; 4] {
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
        "the input embedding is not counted, nor the output in prefill; in other formats the peak is another"
            .to_owned(),
    ]
}

/// `50.00 %` of the baseline; `-299.02 %` where it is more.
fn percent(saved: i128, baseline: u64) -> String {
    let hundredfold = saved.unsigned_abs().saturating_mul(100);
    let sign = if saved < 0 { "-" } else { "" };
    format!("{sign}{} %", fixed_point(hundredfold, u128::from(baseline), 2))
}

/// Under the rows: what a lever costs, what its layout comes to, and its command.
fn words(row: &StrategyRow, unit: ByteUnit) -> Vec<String> {
    let amount = |bytes: u64| in_unit(bytes, unit);
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
    let mut lines = vec![document.rule.clone()];
    lines.extend(document.weights_bytes.map(|weights| format!("weights: {}", in_unit(weights, unit))));
    lines.push(match &document.gpu.price {
        Some(price) => format!("price: {}", clean(&price.offer.words())),
        None => format!("price: none is known of {}", document.gpu.name),
    });
    if let Some(statement) = &document.article {
        lines.extend(said_by_the_article(statement, document, unit));
    }
    lines
}

fn said_by_the_article(statement: &ArticleStatement, document: &Strategies, unit: ByteUnit) -> Vec<String> {
    let ArticleStatement { bytes, marketed_gb, gpus, per_node, named, real } = statement;
    let amount = |bytes: Bytes| in_unit(bytes.0, unit);
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
    if let Some([honoured, whole]) = real {
        let weights = document.weights_bytes.map_or(article::REAL_WEIGHTS, Bytes);
        lines.push(format!(
            "why it differs: the article counts {}, with hidden_size / kv_heads = 640 elements for K and for V where 8 heads x \
             128 are 1,024: {} if every layer kept every token; 36 of the 48 layers keep a chunk of 8,192: {}",
            amount(*bytes),
            amount(whole.bytes),
            amount(honoured.bytes)
        ));
        lines.push(format!(
            "its {} of weights are the 17 billion parameters of one token; all 109 billion take about {}; with them its rule \
             asks for {} GPUs{} ({} GPUs{} if every layer kept every token)",
            amount(article::WEIGHTS),
            amount(weights),
            honoured.gpus,
            nodes(honoured.gpus),
            whole.gpus,
            nodes(whole.gpus)
        ));
    }
    lines
}
