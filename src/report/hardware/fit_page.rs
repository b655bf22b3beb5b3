//! What fits on hardware, for people: the verdict first, in a line, a bar and what would change it.

use super::fit::{AssumedRow, FitDocument, FitRow, WayOutRow};
use super::fit_details::details;
use super::{CostRow, ServerRow};
use crate::fit::Requests;
use crate::report::bar::{Part, bar};
use crate::report::column::{Cell, Column, Table};
use crate::report::grid::{Block, Page};
use crate::report::text::{hanging, pairs};
use crate::report::{Bar, Detail, Medium, Picture, Report};
use crate::units::{ByteUnit, Bytes, fixed_point, group_thousands};

type FitColumn<'a> = Column<'a, FitRow>;

impl Report for FitDocument {
    fn table(&self, unit: ByteUnit) -> Table {
        Table::new(&self.fits, columns(unit))
    }

    fn largest(&self) -> Bytes {
        Bytes(self.fits.iter().map(|row| row.total_bytes).max().unwrap_or_default())
    }

    fn page(&self, unit: ByteUnit, _: Medium) -> Page {
        match self.fits.as_slice() {
            [row] if self.detail == Detail::Verdict => verdict(row, unit),
            [row] => verdict(row, unit).into_iter().chain(details(row, unit)).collect(),
            rows => {
                let (grid, same) = self.table(unit).shown(unit);
                let mut blocks = vec![Block::Grid(grid)];
                blocks.extend(Some(Block::folded([same.join(", ")])).filter(|_| !same.is_empty()));
                for row in rows.iter().filter(|_| self.detail == Detail::Everything) {
                    blocks.extend(verdict(row, unit));
                    blocks.extend(details(row, unit));
                }
                blocks
            }
        }
    }

    fn picture(&self) -> Option<Picture> {
        let bar = |row: &FitRow| Bar {
            label: format!("{} on {}, {}", row.model, row.server.configuration(), row.server.engine),
            answer: format!("{}: {}", verdict_word(row), answer(row, ByteUnit::Gibibytes)),
            parts: drawn(row).map(|(_, name, bytes)| (name, bytes)).collect(),
            limit: row.usable_bytes,
        };
        Some(Picture::Bars(self.fits.iter().map(bar).collect()))
    }

    /// The longest request at the number asked for, and the configuration.
    fn plain(&self, _: ByteUnit) -> Vec<String> {
        let longest = |row: &FitRow| row.longest_seq_len_at_batch.map(|longest| longest.to_string());
        let line = |row: &FitRow| {
            format!("{} {} {}", longest(row).unwrap_or_default(), row.server.configuration(), row.server.stored())
        };
        self.fits.iter().map(line).collect()
    }
}

/// What a row is and holds. What is the same in all rows has no column in a table.
fn columns<'a>(unit: ByteUnit) -> Vec<FitColumn<'a>> {
    let at_once = |index: usize| move |row: &FitRow| row.requests.get(index)?.at_once;
    let balance = |row: &FitRow| match (row.missing_bytes, row.spare_bytes) {
        (Some(missing), _) => {
            Cell::Both(format!("-{}", Bytes(missing).in_unit(ByteUnit::Gibibytes)), missing.to_string())
        }
        (None, Some(spare)) => Cell::Both(format!("+{}", Bytes(spare).in_unit(ByteUnit::Gibibytes)), spare.to_string()),
        (None, None) => Cell::Missing("-"),
    };
    vec![
        FitColumn::left("Fits", |row| Cell::Both(verdict_word(row).into(), row.fits.to_string())).key("fits"),
        FitColumn::left("Model", |row| row.model.clone()).if_differs().key("model"),
        FitColumn::left("GPUs", |row| row.server.configuration()),
        FitColumn::csv("gpu", |row| row.server.gpu.clone()),
        FitColumn::csv("gpus", |row| row.server.gpus),
        FitColumn::left("Engine", |row| row.server.engine_name()).if_differs(),
        FitColumn::csv("engine", |row| row.server.engine.clone()),
        FitColumn::left("Layout", |row| row.server.spread()).if_differs().until(2),
        FitColumn::csv("tp", |row| row.server.tp),
        FitColumn::csv("pp", |row| row.server.pp),
        FitColumn::csv("dp", |row| row.server.dp),
        FitColumn::left("Weights", |row| row.weights_dtype.clone()).if_differs().until(3).key("weights_dtype"),
        FitColumn::left("Cache", |row| row.server.stored().to_owned()).if_differs().key("kv_dtype"),
        FitColumn::right("Tokens", |row| row.seq_len).if_differs().key("seq_len"),
        FitColumn::right("Requests", |row| row.batch).if_differs().key("batch"),
        FitColumn::right("Longest", |row| Cell::or(row.longest_seq_len_at_batch, NO_END))
            .key("longest_seq_len_at_batch"),
        FitColumn::csv("longest_seq_len", |row| row.longest_seq_len),
        FitColumn::right("At once", move |row| Cell::or(at_once(0)(row), NO_END)).key("requests"),
        FitColumn::csv("max_requests", |row| row.max_requests.map(|requests| requests.value().to_string())),
        FitColumn::csv("avg_seq_len", |row| Some(row.requests.get(1)?.seq_len.0)),
        FitColumn::csv("avg_requests", at_once(1)),
        FitColumn::right(format!("{} free", ByteUnit::Gibibytes.name()), balance)
            .when(unit != ByteUnit::Bytes)
            .until(1),
        FitColumn::right("US$/h", |row| row.cost.as_ref().map(CostRow::per_hour)).if_differs().key("usd_per_hour"),
        FitColumn::csv("binding", |row| row.binding),
        FitColumn::csv("pool_tokens", |row| row.pool_tokens),
        FitColumn::csv("bytes", |row| row.bytes),
        FitColumn::csv("bytes_per_gpu", |row| row.bytes_per_gpu),
        FitColumn::csv("bytes_per_token", |row| row.bytes_per_token.to_string()),
        FitColumn::csv("total_bytes", |row| row.total_bytes),
        FitColumn::csv("usable_bytes", |row| row.usable_bytes),
        FitColumn::csv("weights_bytes", |row| row.weights_bytes),
        FitColumn::csv("overhead_bytes", |row| row.overhead_bytes),
        FitColumn::csv("pool_bytes", |row| row.pool_bytes),
        FitColumn::csv("missing_bytes", |row| row.missing_bytes),
        FitColumn::csv("command", |row| row.command.clone()),
    ]
}

/// Of a count: there is none that would be too many.
pub(super) const NO_END: &str = "no limit";

/// A count that may have no end.
pub(super) fn count(count: Option<u64>) -> String {
    count.map_or_else(|| NO_END.into(), group_thousands)
}

fn verdict_word(row: &FitRow) -> &'static str {
    if row.fits { "YES" } else { "NO" }
}

/// Where everything under the first word starts.
const INDENT: usize = 5;

/// The verdict of one row: the answer, what it is about, the bar, what more there is to know, the line to paste.
fn verdict(row: &FitRow, unit: ByteUnit) -> Vec<Block> {
    let mut first = hanging(&format!("{:INDENT$}", verdict_word(row)), &answer(row, unit));
    let of_row = subject(&row.model, &row.server, row.weights_dtype.as_deref(), &row.assumed);
    first.extend(of_row.iter().flat_map(|line| hanging(&format!("{:INDENT$}", ""), line)));
    let mut facts = vec![("longest context".to_owned(), longest(row))];
    facts.extend(
        row.pool_tokens
            .filter(|_| row.fits)
            .map(|tokens| ("cache holds".into(), format!("{} tokens", group_thousands(tokens)))),
    );
    let average = row.requests.get(1);
    facts.extend(
        average.map(|average| (format!("at {} tokens", group_thousands(average.seq_len.0)), in_words(average))),
    );
    facts.extend(if row.fits { Vec::new() } else { ways_out(row) });
    facts.extend(row.error.as_ref().map(|error| ("estimate error".to_owned(), error.brief())));
    let mut blocks = vec![Block::Text(first), Block::Text(picture(row, unit)), Block::Text(pairs(INDENT, &facts))];
    // Not folded: it is there to be copied.
    blocks.extend(row.command.as_ref().map(|command| Block::Text(vec![format!("{:INDENT$}$ {command}", "")])));
    blocks
}

/// The answer in a sentence.
fn answer(row: &FitRow, unit: ByteUnit) -> String {
    let asked = match row.batch {
        1 => format!("{} tokens", group_thousands(row.seq_len)),
        batch => format!("{} x {} tokens", group_thousands(batch), group_thousands(row.seq_len)),
    };
    let at_once = row.requests.first();
    match row.missing_bytes {
        _ if row.fits => match at_once {
            Some(requests) => format!("{asked} fit; {}", in_words(requests)),
            None => format!("{asked} fit"),
        },
        Some(bytes) if row.pool_bytes.is_none() => {
            let without = bytes.saturating_sub(row.bytes_per_gpu);
            format!("weights and overhead exceed the memory by {} per GPU", amount(without, unit))
        }
        Some(bytes) => {
            let most = at_once.and_then(|requests| requests.at_once).filter(|&most| most > 0);
            let verb = if most == Some(1) { "fits" } else { "fit" };
            let fewer = most.map(|most| format!("; {} {verb} at once", group_thousands(most)));
            format!("{asked} need {} more per GPU{}", amount(bytes, unit), fewer.unwrap_or_default())
        }
        None => format!("{asked}: {}", row.binding_reason),
    }
}

/// `27.2 GiB`: to one place, as much as an estimate is worth.
fn amount(bytes: u64, unit: ByteUnit) -> String {
    format!("{} {}", fixed_point(bytes.into(), unit.bytes().into(), 1), unit.name())
}

/// What an answer is about: `Qwen/Qwen3-32B on 2xh100-sxm`, then `vllm@0.33 (assumed), tp 2, bf16 weights, bf16 cache`.
pub(super) fn subject(
    model: &str,
    server: &ServerRow,
    weights_dtype: Option<&str>,
    assumed: &[AssumedRow],
) -> [String; 2] {
    let mark = |option: &str| if assumed.iter().any(|assumed| assumed.option == option) { " (assumed)" } else { "" };
    let layout = Some(server.spread()).filter(|_| server.gpus > 1);
    let weights = weights_dtype.map(|dtype| format!("{dtype} weights{}", mark("--weights-dtype")));
    let engine = format!("{}{}", server.engine, mark("-e"));
    let parts = [Some(engine), layout, weights, Some(format!("{} cache", server.stored()))];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    [format!("{model} on {}", server.configuration()), parts.join(", ")]
}

/// The parts of the fullest GPU: their letters, names and bytes.
fn legend(row: &FitRow) -> [(char, &'static str, u64); 5] {
    let pool = row.pool_bytes.unwrap_or_default();
    let free = row.spare_bytes.unwrap_or_default().min(pool);
    [
        ('W', "weights", row.weights_bytes),
        ('o', "overhead", row.overhead_bytes),
        ('K', "cache", pool.saturating_sub(free)),
        ('.', "free", free),
        ('!', "missing", row.missing_bytes.unwrap_or_default()),
    ]
}

/// The parts that a bar has: where not even the weights fit, what is missing is part of them.
fn drawn(row: &FitRow) -> impl Iterator<Item = (char, &'static str, u64)> {
    let has_pool = row.pool_bytes.is_some();
    legend(row).into_iter().filter(move |(letter, ..)| *letter != '!' || has_pool)
}

/// A bar of the fullest GPU, and under it what its parts are.
fn picture(row: &FitRow, unit: ByteUnit) -> Vec<String> {
    let legend = legend(row);
    let parts: Vec<Part> = drawn(row).map(|(letter, _, bytes)| Part { letter, bytes }).collect();
    let figure = |bytes: u64| fixed_point(bytes.into(), unit.bytes().into(), 1);
    let shown = legend.iter().filter(|(.., bytes)| *bytes > 0);
    let shown: Vec<String> = shown.map(|(letter, name, bytes)| format!("{letter} {name} {}", figure(*bytes))).collect();
    let gpu = if row.stages.is_empty() { "GPU" } else { "fullest GPU" };
    let usable = format!("{} usable per {gpu}", amount(row.usable_bytes, unit));
    let bar = format!("{}   {usable}", bar(&parts, row.usable_bytes));
    [bar, format!("{}   {}", shown.join("   "), unit.name())].map(|line| format!("{:INDENT$}{line}", "")).to_vec()
}

/// `131,072 alone (the model's maximum); 4,416 for 50`
fn longest(row: &FitRow) -> String {
    let alone = match (row.longest_seq_len, row.model_max_seq_len) {
        (Some(longest), Some(maximum)) if longest == maximum => {
            format!("{} tokens (the model's maximum)", group_thousands(longest))
        }
        (longest, _) => format!("{} tokens", count(longest)),
    };
    match row.batch {
        1 => alone,
        batch => format!("{alone}; {} x {}", group_thousands(batch), count(row.longest_seq_len_at_batch)),
    }
}

/// Each way out on a line of its own.
fn ways_out(row: &FitRow) -> Vec<(String, String)> {
    let heads = std::iter::once("ways out").chain(std::iter::repeat(""));
    let widest = row.ways_out.iter().map(|out| out.change.len()).max().unwrap_or_default();
    let way = |(head, out): (&str, &WayOutRow)| {
        let requests = match out.max_requests {
            Some(1) => "1 request at once".into(),
            most => format!("{} requests at once", count(most)),
        };
        (head.to_owned(), format!("{:widest$}   {requests}", out.change))
    };
    if row.ways_out.is_empty() {
        return vec![("ways out".into(), "no single change is enough; see kvsize plan".into())];
    }
    heads.zip(&row.ways_out).map(way).collect()
}

/// `37 requests at once (room for 37.47)`
fn in_words(requests: &Requests) -> String {
    let room = count(requests.room);
    let noun = if requests.at_once == Some(1) { "request" } else { "requests" };
    match (requests.bound_by, requests.max_concurrency) {
        (Some(name), _) => format!("{} {noun} at once: {name} (room for {room})", count(requests.at_once)),
        // To two places, as engines print it, but never up to a whole request for which there is no room.
        (None, Some(concurrency)) => {
            let micro = concurrency.millionths();
            let rounded = micro.saturating_add(5_000).div_euclid(10_000);
            let most = micro.div_euclid(1_000_000).saturating_mul(100).saturating_add(99);
            let replica = if requests.room == Some(micro.div_euclid(1_000_000)) { "" } else { " in a replica" };
            let places = fixed_point(rounded.min(most).into(), 100, 2);
            format!("{} {noun} at once (room for {places}{replica})", count(requests.at_once))
        }
        (None, None) => format!("{} {noun} at once", count(requests.at_once)),
    }
}
