//! What fits on hardware, for people: the answer first, then the terms it rests on.

use super::fit::{FitDocument, FitRow, RequestsRow, StageRow, TermRow};
use super::{CostRow, add_once, differ, in_dollars, spread};
use crate::engine::Double;
use crate::hardware::Known;
use crate::report::document::BytesPerTokenValue;
use crate::report::grid::{Align, Block, Grid, Page};
use crate::report::text::{COLUMNS, hanging, pairs, wrapped};
use crate::report::{Format, UnitChoice, json, markdown, table};
use crate::units::{ByteUnit, Bytes, fixed_point, group_thousands};

/// Fits in `format`; plain is the longest request and the configuration.
pub fn fit(document: &FitDocument, format: Format, unit: UnitChoice) -> String {
    let largest = document.configurations.iter().flat_map(|row| &row.stages).flat_map(|stage| &stage.terms);
    let unit = unit.resolve(Bytes(largest.map(|term| term.bytes).max().unwrap_or_default()));
    match format {
        Format::Table => table::render(&page(document, unit)),
        Format::Markdown => markdown::render(&page(document, unit)),
        Format::Json => json::pretty(document),
        Format::Jsonl => json::lines(std::slice::from_ref(document)),
        Format::Csv => exact(document).csv(),
        Format::Plain => document
            .configurations
            .iter()
            .map(|row| format!("{} {} {}\n", number(row.max_seq_len), row.configuration(), row.stored()))
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

    fn spread(&self) -> String {
        spread(self.tp, self.pp, self.dp)
    }

    /// The stage whose pool is the smallest.
    fn tightest(&self) -> Option<&StageRow> {
        self.stages.iter().min_by_key(|stage| stage.pool_bytes.unwrap_or_default())
    }

    fn longest(&self) -> String {
        count(self.max_seq_len)
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
        "avg_seq_len",
        "avg_requests",
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
    let rows = document.configurations.iter().map(|row| {
        let stage = row.tightest();
        let term = |wanted: &dyn Fn(&str) -> bool| {
            let terms = stage.into_iter().flat_map(|stage| &stage.terms).filter(|term| wanted(term.name));
            terms.fold(0u64, |sum, term| sum.saturating_add(term.bytes)).to_string()
        };
        let cost = |of: fn(&CostRow) -> Option<Double>| {
            row.cost.as_ref().and_then(of).map(|dollars| dollars.value().to_string()).unwrap_or_default()
        };
        let (first, average) = (row.requests.first(), row.requests.get(1));
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
            number(row.max_seq_len),
            number(row.tokens),
            number(first.map(|requests| requests.seq_len)),
            number(first.and_then(|requests| requests.at_once)),
            number(average.map(|requests| requests.seq_len)),
            number(average.and_then(|requests| requests.at_once)),
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
    let [engines, formats] = [differ(rows, |row| row.engine.clone()), differ(rows, |row| row.stored().to_owned())];
    let priced = rows.iter().any(|row| row.cost.is_some());
    let lengths = differ(rows, |row| format!("{:?}", row.requests.first().map(|requests| requests.seq_len)));
    let asked = rows.first().and_then(|row| row.requests.first()).filter(|_| !lengths);
    // Where each row has its own longest, one of it fits, and that is all.
    let requests = asked.map(|asked| format!("At {}", group_thousands(asked.seq_len)));
    let grid = |tokens: bool, versions: bool, format: bool| {
        let engine = |row: &FitRow| {
            let whole = &row.engine;
            if versions { whole.clone() } else { whole.split('@').next().unwrap_or_default().to_owned() }
        };
        let mut columns = vec![("GPUs".to_owned(), Align::Left), ("Layout".to_owned(), Align::Left)];
        columns.extend(engines.then(|| ("Engine".to_owned(), Align::Left)));
        columns.extend((formats && format).then(|| ("Format".to_owned(), Align::Left)));
        columns.extend([("Fits".to_owned(), Align::Left), ("Longest".to_owned(), Align::Right)]);
        columns.extend(requests.clone().map(|requests| (requests, Align::Right)));
        columns.extend(tokens.then(|| ("Pool tokens".to_owned(), Align::Right)));
        columns.extend(priced.then(|| ("US$/h".to_owned(), Align::Right)));
        let cells = |row: &FitRow| {
            let mut cells = vec![row.configuration(), row.spread()];
            cells.extend(engines.then(|| engine(row)));
            cells.extend((formats && format).then(|| row.stored().to_owned()));
            cells.extend([if row.fits { "yes" } else { "no" }.to_owned(), row.longest()]);
            let first = row.requests.first().filter(|_| requests.is_some());
            cells.extend(first.map(|requests| count(requests.at_once)));
            cells.extend(tokens.then(|| count(row.tokens)));
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

/// A count that may have no end.
pub(super) fn count(count: Option<u64>) -> String {
    count.map_or_else(|| "no end".into(), group_thousands)
}

/// A figure that may be absent.
fn number(value: Option<u64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
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
    let longest =
        row.max_seq_len.map_or_else(|| "no end".into(), |longest| format!("{} tokens", group_thousands(longest)));
    let mut answers =
        vec![("longest request".to_owned(), longest), ("bound by".to_owned(), row.binding.reason.clone())];
    if row.max_seq_len != Some(0) {
        let of_length = |requests: &RequestsRow| {
            (format!("requests of {}", group_thousands(requests.seq_len)), requests_in_words(requests))
        };
        answers.extend(row.requests.iter().map(of_length));
        answers.push(("tokens in the pool".to_owned(), count(row.tokens)));
    }
    answers.push(("one more token".to_owned(), format!("{} bytes", grouped(row.bytes_per_token))));
    answers.extend(row.cost.as_ref().map(|cost| ("cost".to_owned(), cost_in_words(cost))));
    let verdict = wrapped(&verdict(row, unit), COLUMNS);
    let mut blocks = vec![Block::Text(verdict), Block::Text(pairs(2, &answers))];
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
        let numbers: Vec<usize> = same.map(|(index, _)| index.saturating_add(1)).collect();
        let of_stage = if all_alike { String::new() } else { format!(" of stage {}", ranges(&numbers)) };
        blocks.push(Block::Grid(terms(stage, &of_stage, unit)));
        for line in &sources(stage) {
            add_once(&mut from, line);
        }
    }
    blocks.push(Block::Text(from.iter().flat_map(|line| wrapped(line, COLUMNS)).collect()));
    blocks.extend(row.pool_error.as_ref().map(|error| Block::Text(wrapped(&error.words(), COLUMNS))));
    blocks.extend(row.command.as_ref().map(|command| Block::Text(vec![format!("$ {command}")])));
    blocks
}

/// Bytes of a token, with their thousands apart where they are whole.
fn grouped(bytes: BytesPerTokenValue) -> String {
    match bytes {
        BytesPerTokenValue::Whole(bytes) => group_thousands(bytes),
        BytesPerTokenValue::Decimal(_) => bytes.to_string(),
    }
}

fn verdict(row: &FitRow, unit: ByteUnit) -> String {
    let on = format!(
        "{} ({}; {}): {}, cache in {}",
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
        None => format!("does not fit on {on}; {}", row.binding.reason),
    }
}

pub(super) fn requests_in_words(requests: &RequestsRow) -> String {
    let room = count(requests.room);
    match requests.bound_by {
        Some(name) => format!("{} at once: {name}; there is room for {room}", count(requests.at_once)),
        None => match requests.max_concurrency {
            // To two places, as engines print it, but never up to a whole request for which there is no room.
            Some(concurrency) => {
                let micro = concurrency.millionths();
                let rounded = micro.saturating_add(5_000).div_euclid(10_000);
                let most = micro.div_euclid(1_000_000).saturating_mul(100).saturating_add(99);
                format!("{room} at once ({} in a replica)", fixed_point(rounded.min(most).into(), 100, 2))
            }
            None => format!("{room} at once"),
        },
    }
}

fn cost_in_words(cost: &CostRow) -> String {
    let each = cost.dollars_per_million_token_hours;
    let each = each.map(|each| format!("; US$ {} to hold a million tokens for an hour", in_dollars(each)));
    format!("US$ {} an hour{}", in_dollars(cost.dollars_per_hour), each.unwrap_or_default())
}

/// `1-3, 5`
fn ranges(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.saturating_add(1) == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let words =
        ranges.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    words.collect::<Vec<_>>().join(", ")
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
        if stage.terms.iter().any(|term| term.known == Known::Estimated) { "estimated" } else { "" }.to_owned(),
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
    for (gpu, cost) in rows.iter().filter_map(|row| Some((&row.gpu, row.cost.as_ref()?))) {
        add_once(&mut lines, &format!("{gpu}: {}", cost.price));
    }
    lines.iter().flat_map(|line| wrapped(line, COLUMNS)).collect()
}
