//! What fits on hardware, for people: the answer first, then the terms it rests on.

use super::fit::{FitDocument, FitRow, StageRow, TermRow};
use super::{CostRow, in_dollars};
use crate::engine::{Double, Known};
use crate::fit::Requests;
use crate::report::column::{Cell, Column, Table, grid};
use crate::report::grid::{Block, Grid, Page};
use crate::report::text::{hanging, in_unit, pairs, ranges};
use crate::report::{Medium, Report, once};
use crate::units::{ByteUnit, Bytes, fixed_point, group_thousands};

type FitColumn<'a> = Column<'a, FitRow>;

impl Report for FitDocument {
    fn table(&self, _: ByteUnit) -> Table {
        let rows = &self.configurations;
        Table::new(rows, columns(rows).into_iter().chain(exact_terms()))
    }

    fn largest(&self) -> Bytes {
        let terms = self.configurations.iter().flat_map(|row| &row.stages).flat_map(|stage| &stage.terms);
        Bytes(terms.map(|term| term.bytes).max().unwrap_or_default())
    }

    fn page(&self, unit: ByteUnit, _: Medium) -> Page {
        let rows = &self.configurations;
        let mut blocks = vec![Block::Title(self.model.name.clone())];
        match rows.as_slice() {
            [row] => blocks.extend(alone(row, unit)),
            rows => {
                blocks.extend(by_format(rows));
                blocks.push(Block::Grid(self.table(unit).grid(unit)));
                blocks.push(Block::Grid(terms_of_all(rows, unit)));
                blocks.push(Block::Text(rows.iter().flat_map(|row| words(row, unit)).collect()));
            }
        }
        blocks.push(Block::folded(basis(rows)));
        blocks
    }

    /// The longest request and the configuration.
    fn plain(&self, _: ByteUnit) -> Vec<String> {
        let longest = |row: &FitRow| row.max_seq_len.map(|longest| longest.to_string()).unwrap_or_default();
        let line = |row: &FitRow| format!("{} {} {}", longest(row), row.server.configuration(), row.server.stored());
        self.configurations.iter().map(line).collect()
    }
}

impl FitRow {
    /// The stage whose pool is the smallest.
    fn tightest(&self) -> Option<&StageRow> {
        self.stages.iter().min_by_key(|stage| stage.pool_bytes.unwrap_or_default())
    }

    fn longest(&self) -> String {
        count(self.max_seq_len)
    }
}

/// What a configuration is and holds. What is the same in all rows has no column in a table.
fn columns(rows: &[FitRow]) -> Vec<FitColumn<'_>> {
    let engines = once(rows.iter().map(|row| &row.server.engine)).len() > 1;
    let priced = rows.iter().any(|row| row.cost.is_some());
    // Where each row has its own longest, one of it fits, and that is all.
    let lengths = once(rows.iter().map(|row| row.requests.first().map(|requests| requests.seq_len.0)));
    let length = <[_; 1]>::try_from(lengths).ok().and_then(|[length]| length);
    let requests = |index: usize| move |row: &FitRow| row.requests.get(index)?.at_once;
    let seq_len = |index: usize| move |row: &FitRow| Some(row.requests.get(index)?.seq_len.0);
    vec![
        FitColumn::left("GPUs", |row| row.server.configuration()),
        FitColumn::left("Layout", |row| row.server.spread()),
        FitColumn::csv("gpu", |row| row.server.gpu.clone()),
        FitColumn::csv("gpus", |row| row.server.gpus),
        FitColumn::left("Engine", |row| row.server.engine.clone()).when(engines).until(2).key("engine"),
        FitColumn::left("Engine", |row| row.server.engine_name()).when(engines).from(2),
        FitColumn::left("Format", |row| row.server.stored().to_owned()).if_differs().until(3).key("kv_dtype"),
        FitColumn::csv("tp", |row| row.server.tp),
        FitColumn::csv("pp", |row| row.server.pp),
        FitColumn::csv("dp", |row| row.server.dp),
        FitColumn::left("Fits", |row| row.fits).key("fits"),
        FitColumn::csv("shortfall_bytes", |row| row.shortfall_bytes),
        FitColumn::csv("binding", |row| row.binding.kind),
        FitColumn::right("Longest", |row| Cell::or(row.max_seq_len, NO_END)).key("max_seq_len"),
        FitColumn::right(format!("At {}", group_thousands(length.unwrap_or_default())), move |row| {
            Cell::or(requests(0)(row), NO_END)
        })
        .when(length.is_some()),
        FitColumn::right("Pool tokens", |row| Cell::or(row.tokens, NO_END)).until(1).key("tokens"),
        FitColumn::csv("seq_len", seq_len(0)),
        FitColumn::csv("requests", requests(0)),
        FitColumn::csv("avg_seq_len", seq_len(1)),
        FitColumn::csv("avg_requests", requests(1)),
        FitColumn::csv("bytes_per_token", |row| row.bytes_per_token.to_string()),
        FitColumn::right("US$/h", |row| Cell::or(row.cost.as_ref().map(CostRow::per_hour), "-")).when(priced),
    ]
}

/// The terms that it rests on.
fn exact_terms<'a>() -> [FitColumn<'a>; 8] {
    let term = |is: fn(&str) -> bool| {
        move |row: &FitRow| {
            let terms = row.tightest().into_iter().flat_map(|stage| &stage.terms).filter(|term| is(term.name));
            terms.fold(0u64, |sum, term| sum.saturating_add(term.bytes))
        }
    };
    let cost =
        |of: fn(&CostRow) -> Option<Double>| move |row: &FitRow| Some(of(row.cost.as_ref()?)?.value().to_string());
    [
        FitColumn::csv("usable_bytes", term(|name| name == "usable")),
        FitColumn::csv("weights_bytes", term(|name| name == "weights")),
        FitColumn::csv("overhead_bytes", term(is_overhead)),
        FitColumn::csv("pool_bytes", |row| row.tightest()?.pool_bytes),
        FitColumn::csv("dollars_per_hour", cost(|cost| Some(cost.dollars_per_hour))),
        FitColumn::csv("dollars_per_million_token_hours", cost(|cost| cost.dollars_per_million_token_hours)),
        FitColumn::csv("as_of", |row| row.cost.as_ref()?.offer.as_of.clone()),
        FitColumn::csv("command", |row| row.command.clone()),
    ]
}

/// Of a count: there is none that would be too many.
pub(super) const NO_END: &str = "no end";

/// The longest request of each format on each configuration, where there are several of both.
fn by_format(rows: &[FitRow]) -> Option<Block> {
    let formats = once(rows.iter().map(|row| row.server.stored()));
    let configurations = once(rows.iter().map(|row| row.server.configuration()));
    let engines = once(rows.iter().map(|row| &row.server.engine));
    if formats.len() < 2 || configurations.len() < 2 || engines.len() > 1 {
        return None;
    }
    let mut columns = vec![Column::left("Longest request, tokens", |configuration: &String| configuration.clone())];
    columns.extend(formats.into_iter().map(|format| {
        Column::right(format, move |configuration: &String| {
            let found =
                rows.iter().find(|row| row.server.configuration() == *configuration && row.server.stored() == format);
            found.map(FitRow::longest)
        })
    }));
    Some(Block::Grid(grid(&configurations, columns, ByteUnit::Bytes)))
}

/// A count that may have no end.
pub(super) fn count(count: Option<u64>) -> String {
    count.map_or_else(|| NO_END.into(), group_thousands)
}

/// The terms of each configuration's tightest stage, overhead in one, each with how it is known.
fn terms_of_all(rows: &[FitRow], unit: ByteUnit) -> Grid {
    type TermColumn<'a> = Column<'a, (&'a FitRow, &'a StageRow)>;
    // How it is known, by its first letter.
    let cell = move |bytes: u64, known: Known| format!("{} {:.1}", Bytes(bytes).in_unit(unit), known.name());
    let term = |name: &'static str| {
        TermColumn::right(name, move |(_, stage)| {
            let term = stage.terms.iter().find(|term| term.name == name);
            term.map(|term| cell(term.bytes, term.known))
        })
    };
    let overhead = move |(_, stage): &(&FitRow, &StageRow)| {
        let terms: Vec<&TermRow> = stage.terms.iter().filter(|term| is_overhead(term.name)).collect();
        // A sum is no better known than what is known least.
        let known = terms.iter().map(|term| term.known).max_by_key(|&known| known == Known::Estimated);
        let bytes = terms.iter().fold(0u64, |sum, term| sum.saturating_add(term.bytes));
        Cell::or(known.map(|known| cell(bytes, known)), "-")
    };
    let columns = [
        TermColumn::left(format!("{} on each GPU", unit.name()), |(row, _)| row.server.configuration()),
        term("total"),
        term("usable"),
        term("weights"),
        TermColumn::right("overhead", overhead),
        TermColumn::right("pool", |(_, stage)| stage.pool_bytes.map_or(Cell::Missing("none"), Cell::Bytes)),
    ];
    let stages: Vec<_> = rows.iter().filter_map(|row| Some((row, row.tightest()?))).collect();
    let grid = grid(&stages, columns, unit);
    Grid { rows: once(grid.rows), ..grid }
}

/// Whether a term is what the engine needs beside weights and cache.
fn is_overhead(name: &str) -> bool {
    !["total", "usable", "weights"].contains(&name)
}

/// One configuration: the answer, then its terms.
fn alone(row: &FitRow, unit: ByteUnit) -> Vec<Block> {
    let longest =
        row.max_seq_len.map_or_else(|| NO_END.into(), |longest| format!("{} tokens", group_thousands(longest)));
    let mut answers =
        vec![("longest request".to_owned(), longest), ("bound by".to_owned(), row.binding.reason.clone())];
    if row.max_seq_len != Some(0) {
        let of_length = |requests: &Requests| {
            (format!("requests of {}", group_thousands(requests.seq_len.0)), requests_in_words(requests))
        };
        answers.extend(row.requests.iter().map(of_length));
        answers.push(("tokens in the pool".to_owned(), count(row.tokens)));
    }
    answers.push(("one more token".to_owned(), format!("{} bytes", row.bytes_per_token.grouped())));
    answers.extend(row.cost.as_ref().map(|cost| ("cost".to_owned(), cost_in_words(cost))));
    let mut blocks = vec![Block::folded([verdict(row, unit)]), Block::Text(pairs(2, &answers))];
    let bytes = |stage: &StageRow| stage.terms.iter().map(|term| (term.name, term.bytes)).collect::<Vec<_>>();
    let alike = |one: &StageRow, other: &StageRow| bytes(one) == bytes(other);
    let all_alike = row.stages.iter().all(|stage| row.stages.first().is_some_and(|first| alike(first, stage)));
    let mut from: Vec<String> = Vec::new();
    for (index, stage) in row.stages.iter().enumerate() {
        // Stages alike are told once.
        if row.stages.iter().take(index).any(|earlier| alike(earlier, stage)) {
            continue;
        }
        let same = (1..).zip(&row.stages).filter(|(_, other)| alike(stage, other)).map(|(number, _)| number);
        let of_stage = if all_alike { String::new() } else { format!(" of stage {}", ranges(same)) };
        blocks.push(Block::Grid(terms(stage, &of_stage, unit)));
        from.extend(sources(stage));
    }
    blocks.push(Block::folded(once(from)));
    blocks.extend(row.pool_error.as_ref().map(|error| Block::folded([error.words()])));
    blocks.extend(row.command.as_ref().map(|command| Block::Text(vec![format!("$ {command}")])));
    blocks
}

fn verdict(row: &FitRow, unit: ByteUnit) -> String {
    let on = format!(
        "{} ({}; {}): {}, cache in {}",
        row.server.configuration(),
        row.server.spread(),
        row.layout,
        row.server.engine,
        row.server.stored()
    );
    match row.shortfall_bytes {
        _ if row.fits => format!("fits on {on}"),
        Some(bytes) => format!("does not fit on {on}; {} short on a GPU", in_unit(bytes, unit)),
        None => format!("does not fit on {on}; {}", row.binding.reason),
    }
}

/// `  requests of 8,000: 27 at once`
pub(super) fn requests_line(requests: &Requests) -> Vec<String> {
    hanging(&format!("  requests of {}: ", group_thousands(requests.seq_len.0)), &requests_in_words(requests))
}

fn requests_in_words(requests: &Requests) -> String {
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
    let each = cost.per_tokens().map(|each| format!("; {each}"));
    format!("US$ {} an hour{}", in_dollars(cost.dollars_per_hour), each.unwrap_or_default())
}

/// The sum on each device of a stage.
fn terms(stage: &StageRow, of_stage: &str, unit: ByteUnit) -> Grid {
    type Line<'a> = (String, Option<u64>, &'a str);
    let sign = |name| if matches!(name, "total" | "usable") { "" } else { "- " };
    let line = |term: &TermRow| (format!("{}{}", sign(term.name), term.name), Some(term.bytes), term.known.name());
    let estimated = stage.terms.iter().any(|term| term.known == Known::Estimated);
    let pool = ("= pool".to_owned(), stage.pool_bytes, if estimated { "estimated" } else { "" });
    let lines: Vec<Line<'_>> = stage.terms.iter().map(line).chain([pool]).collect();
    let columns = [
        Column::left(format!("On each GPU{of_stage}"), |(name, ..): &Line<'_>| name.clone()),
        Column::right(unit.name(), |(_, bytes, _): &Line<'_>| bytes.map_or(Cell::Missing("none"), Cell::Bytes)),
        Column::right("Bytes", |(_, bytes, _): &Line<'_>| Cell::or(*bytes, "-")),
        Column::left("Known", |(.., known): &Line<'_>| *known),
    ];
    grid(&lines, columns, unit)
}

/// Where each term is from.
fn sources(stage: &StageRow) -> Vec<String> {
    stage.terms.iter().map(|term| format!("{}: {}", term.name, term.source)).collect()
}

/// What is said of a configuration among several: what binds, what is short, what a token costs.
fn words(row: &FitRow, unit: ByteUnit) -> Vec<String> {
    let mut said = vec![row.binding.reason.clone()];
    said.extend(row.shortfall_bytes.map(|bytes| format!("{} short on a GPU", in_unit(bytes, unit))));
    said.extend(row.cost.as_ref().and_then(CostRow::per_tokens));
    let mut lines = vec![format!("{}, {} in {}:", row.server.configuration(), row.server.engine, row.server.stored())];
    lines.extend(hanging("  ", &said.join("; ")));
    let worth_a_line = |(index, requests): &(usize, &Requests)| *index > 0 || requests.bound_by.is_some();
    lines
        .extend(row.requests.iter().enumerate().filter(worth_a_line).flat_map(|(_, requests)| requests_line(requests)));
    // Not folded: it is there to be copied.
    lines.extend(row.command.as_ref().map(|command| format!("  $ {command}")));
    lines
}

/// How terms are known, and whose prices these are.
fn basis(rows: &[FitRow]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    if rows.len() > 1 {
        lines.push("g given, m measured, c from the catalogue, e estimated".into());
        lines.extend(rows.iter().filter_map(|row| Some(row.pool_error.as_ref()?.words())));
    }
    lines.extend(rows.iter().filter_map(|row| Some(row.cost.as_ref()?.offer_of(&row.server))));
    once(lines)
}
