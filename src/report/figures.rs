//! The tables of estimates: bytes first, and what an engine makes of the memory given.

use super::document::{Document, EstimateRow};
use super::grid::{Align, Block, Grid};
use super::once;
use super::text::{COLUMNS, wrapped};
use crate::engine::{Capacity, Engine};
use crate::units::{ByteUnit, Bytes, KvFormat, group_thousands};

/// An estimate and the model it is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure<'a> {
    model: &'a str,
    row: &'a EstimateRow<'static>,
}

/// The estimates of some documents; those of several models all at one length, then at the next.
pub(super) fn figures(documents: &[Document]) -> Vec<Figure<'_>> {
    let mut figures = Vec::new();
    for document in documents {
        let model = document.model.name.as_str();
        figures.extend(document.estimates.iter().map(|row| Figure { model, row }));
    }
    if documents.len() > 1 {
        figures.sort_by_key(|figure| (figure.row.seq_len, figure.row.batch));
    }
    figures
}

/// What tells figures apart, and so has a column.
#[derive(Debug, Clone, Copy)]
struct Keys {
    batch: bool,
    model: bool,
    engine: Engines,
}

/// How engines are named in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engines {
    /// Not at all: there is one.
    One,
    /// By name.
    ByName,
    /// By name and version: there are two versions of one.
    ByVersion,
}

impl Keys {
    fn of(figures: &[Figure<'_>]) -> Self {
        let engines = engines(figures);
        let differ = |same: fn(&Engine, &Engine) -> bool| {
            engines.iter().any(|one| engines.iter().any(|other| !same(one, other)))
        };
        let versions =
            |one: &Engine, other: &Engine| one.profile.name != other.profile.name || one.version == other.version;
        let first = figures.first();
        Self {
            batch: figures.iter().any(|figure| figure.row.batch != 1),
            model: figures.iter().any(|figure| first.is_some_and(|first| first.model != figure.model)),
            engine: match (differ(|one, other| one == other), differ(versions)) {
                (_, true) => Engines::ByVersion,
                (true, false) => Engines::ByName,
                (false, false) => Engines::One,
            },
        }
    }

    fn columns(self) -> Vec<(String, Align)> {
        [
            (true, "Tokens", Align::Right),
            (self.batch, "Batch", Align::Right),
            (self.model, "Model", Align::Left),
            (self.engine != Engines::One, "Engine", Align::Left),
        ]
        .into_iter()
        .filter(|(shown, ..)| *shown)
        .map(|(_, name, align)| (name.to_owned(), align))
        .collect()
    }

    fn cells(self, Figure { model, row }: Figure<'_>) -> Vec<String> {
        let engine = match self.engine {
            Engines::ByVersion => row.engine.to_string(),
            Engines::One | Engines::ByName => row.engine.profile.name.to_owned(),
        };
        [
            (true, group_thousands(row.seq_len)),
            (self.batch, group_thousands(row.batch)),
            (self.model, model.to_owned()),
            (self.engine != Engines::One, engine),
        ]
        .into_iter()
        .filter_map(|(shown, cell)| shown.then_some(cell))
        .collect()
    }
}

/// Each engine once, in the order of its first appearance.
fn engines<'a>(figures: &[Figure<'a>]) -> Vec<&'a Engine> {
    once(figures.iter().map(|figure| &*figure.row.engine))
}

/// A table of figures; where it is wider than a terminal, one for each engine.
fn fitted(figures: &[Figure<'_>], grid: &dyn Fn(&[Figure<'_>]) -> Grid) -> Vec<Block> {
    let whole = grid(figures);
    let engines = engines(figures);
    if whole.width() <= COLUMNS || engines.len() < 2 {
        return vec![Block::Grid(whole)];
    }
    let of_engine = |engine: &Engine| {
        let own: Vec<Figure<'_>> = figures.iter().filter(|figure| *figure.row.engine == *engine).copied().collect();
        [Block::Text(vec![format!("{engine}:")]), Block::Grid(grid(&own))]
    };
    engines.into_iter().flat_map(of_engine).collect()
}

/// The bytes of one model: a column a format where that is not too wide, and each engine stores all of them.
pub(super) fn bytes(figures: &[Figure<'_>], unit: ByteUnit) -> Vec<Block> {
    let wide = wide(figures, unit);
    let filled = wide.rows.iter().flatten().all(|cell| !cell.is_empty());
    if filled && wide.width() <= COLUMNS {
        vec![Block::Grid(wide)]
    } else {
        fitted(figures, &|figures| long(figures, unit))
    }
}

/// Whether a device holds less than all.
fn is_spread(figures: &[Figure<'_>]) -> bool {
    figures.iter().any(|figure| figure.row.bytes_per_gpu != figure.row.bytes)
}

/// A row for each length, batch and engine, a column a format: empty where the engine does not store it.
fn wide(figures: &[Figure<'_>], unit: ByteUnit) -> Grid {
    let (keys, spread) = (Keys::of(figures), is_spread(figures));
    let mut formats: Vec<KvFormat> = Vec::new();
    for figure in figures {
        if !formats.contains(&figure.row.stored()) {
            formats.push(figure.row.stored());
        }
    }
    let mut grid = Grid { columns: keys.columns(), rows: Vec::new() };
    for name in &formats {
        grid.columns.push((format!("{name} {}", unit.name()), Align::Right));
        if spread {
            grid.columns.push((format!("{name} {}/GPU", unit.name()), Align::Right));
        }
    }
    let alike = |one: &EstimateRow, other: &EstimateRow| {
        (one.seq_len, one.batch, &one.engine) == (other.seq_len, other.batch, &other.engine)
    };
    let mut seen: Vec<&EstimateRow> = Vec::new();
    for &figure in figures {
        if seen.iter().any(|row| alike(row, figure.row)) {
            continue;
        }
        seen.push(figure.row);
        let mut cells = keys.cells(figure);
        for format in &formats {
            let found = figures.iter().find(|other| alike(other.row, figure.row) && other.row.stored() == *format);
            let amount = |bytes: fn(&EstimateRow) -> u64| {
                found.map(|found| Bytes(bytes(found.row)).in_unit(unit)).unwrap_or_default()
            };
            cells.push(amount(|row| row.bytes));
            if spread {
                cells.push(amount(|row| row.bytes_per_gpu));
            }
        }
        grid.rows.push(cells);
    }
    grid
}

/// A row an estimate.
pub(super) fn long(figures: &[Figure<'_>], unit: ByteUnit) -> Grid {
    let (keys, spread) = (Keys::of(figures), is_spread(figures));
    let mut columns = keys.columns();
    columns.push(("Format".into(), Align::Left));
    columns.push((unit.name().into(), Align::Right));
    if spread {
        columns.push((format!("{}/GPU", unit.name()), Align::Right));
    }
    let row = |&figure: &Figure<'_>| {
        let mut cells = keys.cells(figure);
        cells.push(figure.row.stored().to_string());
        cells.push(Bytes(figure.row.bytes).in_unit(unit));
        if spread {
            cells.push(Bytes(figure.row.bytes_per_gpu).in_unit(unit));
        }
        cells
    };
    Grid { columns, rows: figures.iter().map(row).collect() }
}

/// What the engines make of the memory given, under a line that says how much it is.
pub(super) fn capacities(figures: &[Figure<'_>], unit: ByteUnit) -> Vec<Block> {
    let capable: Vec<Figure<'_>> = figures.iter().filter(|figure| figure.row.capacity.is_some()).copied().collect();
    let Some(memory) = capable.iter().find_map(|figure| Some(figure.row.capacity.as_ref()?.memory)) else {
        return Vec::new();
    };
    // What the rows of this table have no column for, since it is the same in all of them, is said above it.
    let (all, shown) = (Keys::of(figures), Keys::of(&capable));
    let same = capable.first().map_or_else(String::new, |first| {
        let engine = (all.engine != Engines::One && shown.engine == Engines::One).then(|| first.row.engine.to_string());
        let model = (all.model && !shown.model).then(|| first.model.to_owned());
        engine.into_iter().chain(model).map(|name| format!(", {name}")).collect()
    });
    let of = format!("In {} {} on each GPU{same}:", Bytes(memory).in_unit(unit), unit.name());
    [Block::Text(wrapped(&of, COLUMNS))].into_iter().chain(fitted(&capable, &capacity)).collect()
}

fn capacity(figures: &[Figure<'_>]) -> Grid {
    let keys = Keys::of(figures);
    let rows = |keys: Keys| -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for &figure in figures {
            let Some(capacity) = &figure.row.capacity else { continue };
            let row = [keys.cells(figure), capacity_cells(figure.row, capacity)].concat();
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        rows
    };
    // It is one request that fits or not: batches have a column only where an engine answers them differently.
    let (once, each) = (Keys { batch: false, ..keys }, keys);
    let batches: std::collections::BTreeSet<u64> = figures.iter().map(|figure| figure.row.batch).collect();
    let alike = rows(once).len().saturating_mul(batches.len()) == rows(each).len();
    let keys = if alike { once } else { each };
    let mut columns = keys.columns();
    columns.extend(
        [
            ("Format", Align::Left),
            ("Fits", Align::Left),
            ("Pool tokens", Align::Right),
            ("Requests", Align::Right),
            ("Longest", Align::Right),
        ]
        .map(|(name, align)| (name.to_owned(), align)),
    );
    Grid { columns, rows: rows(keys) }
}

fn capacity_cells(row: &EstimateRow, capacity: &Capacity) -> Vec<String> {
    let Capacity { holds_batch, tokens, max_concurrency, max_seq_len, .. } = capacity;
    vec![
        row.stored().to_string(),
        if holds_batch.unwrap_or(*max_seq_len >= row.seq_len) { "yes" } else { "no" }.into(),
        tokens.map(group_thousands).unwrap_or_default(),
        max_concurrency.map(|requests| format!("{:.2}", requests.value())).unwrap_or_default(),
        group_thousands(*max_seq_len),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::Workload;
    use crate::model::ModelSpec;
    use crate::report::AnsweredEstimate;
    use crate::units::{ElementFormat, Tokens};

    /// One length in the versions of one engine, and in the ideal.
    fn document(versions: &[&'static str], formats: &[&str]) -> Document {
        let spec = ModelSpec { layers: Some(2), kv_heads: Some(1), head_dim: Some(64), ..ModelSpec::default() };
        let model = spec.model().unwrap();
        let transformers: Engine = "transformers".parse().unwrap();
        let of_versions = versions.iter().map(|version| Engine { version, ..transformers.clone() });
        let mut answers = Vec::new();
        for engine in [Engine::ideal()].into_iter().chain(of_versions) {
            for format in formats {
                let kv_dtype = format.parse::<ElementFormat>().unwrap().into();
                let workload = Workload { kv_dtype, ..Workload::of(Tokens(10), 1) };
                // Whose figure it is does not matter here.
                let answer = Engine::ideal().answer(&model, &workload).unwrap();
                answers.push(AnsweredEstimate { workload, engine: engine.clone(), answer });
            }
        }
        Document::new(&model, &answers, &[]).unwrap()
    }

    fn grids(document: &Document) -> Vec<Grid> {
        let blocks = bytes(&figures(std::slice::from_ref(document)), ByteUnit::Bytes);
        blocks.into_iter().filter_map(|block| if let Block::Grid(grid) = block { Some(grid) } else { None }).collect()
    }

    #[test]
    fn engines_are_named_as_far_as_they_differ() {
        let names =
            |versions: &[&'static str]| -> Vec<Vec<String>> { grids(&document(versions, &["bf16"])).remove(0).rows };
        assert_eq!(names(&[]), [["10", "5,120"]]);
        assert_eq!(names(&["1"]), [["10", "ideal", "5,120"], ["10", "transformers", "5,120"]]);
        assert_eq!(names(&["1", "2"])[2], ["10", "transformers@2", "5,120"]);
    }

    #[test]
    fn columns_become_rows_and_then_tables_where_they_are_too_wide() {
        let formats = ["fp32", "bf16", "fp16", "fp8", "int8", "int4", "int2", "nvfp4"];
        let rows =
            |formats: &[&str]| grids(&document(&["1"], formats)).iter().map(|grid| grid.rows.len()).collect::<Vec<_>>();
        assert_eq!(rows(&formats[..2]), [2]);
        assert_eq!(rows(&formats), [16]);
        let wide = document(&["1"], &["int8_per_token_head", "fp8_per_token_head", "int4_per_token_head"]);
        let all = figures(std::slice::from_ref(&wide));
        let padded = |figures: &[Figure<'_>]| {
            let mut grid = long(figures, ByteUnit::Bytes);
            grid.columns.push(("x".repeat(40), Align::Left));
            grid
        };
        let tables = fitted(&all, &padded).into_iter().filter(|block| matches!(block, Block::Grid(_))).count();
        assert_eq!(tables, 2);
    }
}
