//! The tables of estimates: bytes first, and what an engine makes of the memory given.

use super::column::{Cell, Column, Table, grid};
use super::document::{Document, EstimateRow};
use super::grid::{Block, Grid};
use super::once;
use super::text::{COLUMNS, in_unit};
use crate::engine::{Capacity, Engine};
use crate::units::{ByteUnit, Bytes};

/// An estimate and the model it is of.
#[derive(Debug, Clone, Copy)]
pub struct Figure<'a> {
    pub(super) model: &'a str,
    pub(super) row: &'a EstimateRow,
}

impl Figure<'_> {
    fn capacity<T>(&self, of: impl FnOnce(&Capacity) -> T) -> Option<T> {
        self.row.capacity.as_ref().map(of)
    }
}

/// The estimates of some documents, in their order.
pub(super) fn given<'a>(documents: &'a [Document]) -> Vec<Figure<'a>> {
    let of_document =
        |document: &'a Document| document.estimates.iter().map(|row| Figure { model: &document.model.name, row });
    documents.iter().flat_map(of_document).collect()
}

/// The same; those of several models all at one length, then at the next.
pub(super) fn figures(documents: &[Document]) -> Vec<Figure<'_>> {
    let mut figures = given(documents);
    if documents.len() > 1 {
        figures.sort_by_key(|figure| (figure.row.seq_len, figure.row.batch));
    }
    figures
}

type FigureColumn<'a> = Column<'a, Figure<'a>>;

/// Every column of an estimate: a row an estimate in CSV, and, of a sweep, in tables.
pub(super) fn table(figures: &[Figure<'_>], unit: ByteUnit) -> Table {
    let capable = figures.iter().any(|figure| figure.row.capacity.is_some());
    let has_total = figures.iter().any(|figure| figure.row.total_bytes.is_some());
    let [pool_tokens, requests, longest] = of_capacity();
    let memory = |figure: &Figure<'_>| Cell::bytes(figure.capacity(|capacity| capacity.memory));
    let columns = [
        FigureColumn::left("Model", |figure| figure.model).if_differs().key("model"),
        tokens().key("seq_len"),
        batch().if_differs().key("batch"),
        FigureColumn::csv("kv_dtype", |figure| figure.row.kv_dtype.to_string()),
        FigureColumn::csv("k_dtype", |figure| figure.row.stored().k.to_string()),
        FigureColumn::csv("v_dtype", |figure| figure.row.stored().v.to_string()),
        FigureColumn::left("Engine", |figure| figure.row.engine.to_string()).if_differs().key("engine"),
        format().if_differs(),
        FigureColumn::right("TP", |figure| figure.row.tp).if_differs().key("tp"),
        FigureColumn::right("PP", |figure| figure.row.pp).if_differs().key("pp"),
        FigureColumn::right("DP", |figure| figure.row.dp).if_differs().key("dp"),
        FigureColumn::right("DCP", |figure| figure.row.dcp.unwrap_or(1)).if_differs().key("dcp"),
        FigureColumn::csv("gpus", |figure| figure.row.gpus),
        bytes_column(unit).key("bytes"),
        per_gpu(figures, unit).key("bytes_per_gpu"),
        FigureColumn::right(format!("Weights {}", unit.name()), |figure| Cell::bytes(figure.row.weights_bytes))
            .when(has_total)
            .key("weights_bytes"),
        FigureColumn::right(format!("Total {}", unit.name()), |figure| Cell::bytes(figure.row.total_bytes))
            .when(has_total)
            .key("total_bytes"),
        FigureColumn::csv("bytes_per_token", |figure| figure.row.bytes_per_token.to_string()),
        FigureColumn::right(format!("Memory {}", unit.name()), memory).if_differs().key("memory"),
        FigureColumn::left("Fits", |figure| figure.capacity(|capacity| capacity.fits)).when(capable).key("fits"),
        FigureColumn::csv("holds_batch", |figure| figure.capacity(|capacity| capacity.holds_batch).flatten()),
        FigureColumn::csv("blocks", |figure| figure.capacity(|capacity| capacity.blocks).flatten()),
        pool_tokens.when(capable).key("pool_tokens"),
        requests.when(capable).key("max_concurrency"),
        longest.when(capable).key("max_seq_len"),
        FigureColumn::csv(unit.name(), move |figure| match unit {
            ByteUnit::Bytes => figure.row.bytes.to_string(),
            unit => Bytes(figure.row.bytes).in_unit(unit),
        }),
    ];
    Table::new(figures, columns)
}

fn tokens<'a>() -> FigureColumn<'a> {
    FigureColumn::right("Tokens", |figure| figure.row.seq_len)
}

fn batch<'a>() -> FigureColumn<'a> {
    FigureColumn::right("Batch", |figure| figure.row.batch)
}

fn format<'a>() -> FigureColumn<'a> {
    FigureColumn::left("Format", |figure| figure.row.stored().to_string())
}

fn bytes_column<'a>(unit: ByteUnit) -> FigureColumn<'a> {
    FigureColumn::right(unit.name(), |figure| Cell::Bytes(figure.row.bytes))
}

/// Where a device holds less than all.
fn per_gpu<'a>(figures: &[Figure<'_>], unit: ByteUnit) -> FigureColumn<'a> {
    let bytes = |figure: &Figure<'_>| Cell::Bytes(figure.row.bytes_per_gpu);
    FigureColumn::right(format!("{}/GPU", unit.name()), bytes).when(is_spread(figures))
}

/// What an engine makes of the memory given.
fn of_capacity<'a>() -> [FigureColumn<'a>; 3] {
    [
        FigureColumn::right("Pool tokens", |figure| figure.capacity(|capacity| capacity.tokens).flatten()),
        FigureColumn::right("Requests", |figure| figure.capacity(|capacity| capacity.max_concurrency).flatten()),
        FigureColumn::right("Longest", |figure| figure.capacity(|capacity| capacity.max_seq_len)),
    ]
}

/// Whether a device holds less than all.
fn is_spread(figures: &[Figure<'_>]) -> bool {
    figures.iter().any(|figure| figure.row.bytes_per_gpu != figure.row.bytes)
}

/// What tells figures apart.
fn keys<'a>(figures: &[Figure<'_>]) -> Vec<FigureColumn<'a>> {
    let batch = batch().when(figures.iter().any(|figure| figure.row.batch != 1));
    [tokens(), batch].into_iter().chain(names(figures)).collect()
}

/// The models and engines, where there are several; of an engine the version, too, where there are two of it.
fn names<'a>(figures: &[Figure<'_>]) -> [FigureColumn<'a>; 2] {
    let engines = engines(figures);
    let names = once(engines.iter().map(|engine| engine.profile.name));
    let versions = once(engines.iter().map(|engine| (engine.profile.name, engine.version)));
    let by_version = versions.len() > names.len();
    let engine = move |figure: &Figure<'_>| match &figure.row.engine {
        engine if by_version => engine.to_string(),
        engine => engine.profile.name.to_owned(),
    };
    [
        FigureColumn::left("Model", |figure| figure.model).if_differs(),
        FigureColumn::left("Engine", engine).when(engines.len() > 1),
    ]
}

/// Each engine once, in the order of its first appearance.
fn engines<'a>(figures: &[Figure<'a>]) -> Vec<&'a Engine> {
    once(figures.iter().map(|figure| &figure.row.engine))
}

/// A table of figures; where it is wider than a terminal, one for each engine.
fn fitted(figures: &[Figure<'_>], grid: &dyn Fn(&[Figure<'_>]) -> Grid) -> Vec<Block> {
    let whole = grid(figures);
    let engines = engines(figures);
    if whole.width() <= COLUMNS || engines.len() < 2 {
        return vec![Block::Grid(whole)];
    }
    let of_engine = |engine: &Engine| {
        let own: Vec<Figure<'_>> = figures.iter().filter(|figure| figure.row.engine == *engine).copied().collect();
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

/// A row for each length, batch and engine, a column a format: empty where the engine does not store it.
fn wide<'a>(figures: &[Figure<'a>], unit: ByteUnit) -> Grid {
    let key = |figure: &Figure<'a>| (figure.row.seq_len, figure.row.batch, &figure.row.engine);
    let formats = once(figures.iter().map(|figure| figure.row.stored()));
    let spread = is_spread(figures);
    let mut columns = keys(figures);
    for name in formats {
        let find = move |figure: &Figure<'a>, bytes: fn(&EstimateRow) -> u64| {
            let alike = |other: &&Figure<'a>| key(other) == key(figure) && other.row.stored() == name;
            Cell::bytes(figures.iter().find(alike).map(|found| bytes(found.row)))
        };
        columns.extend([
            Column::<Figure<'a>>::right(format!("{name} {}", unit.name()), move |figure| find(figure, |row| row.bytes)),
            Column::right(format!("{name} {}/GPU", unit.name()), move |figure| find(figure, |row| row.bytes_per_gpu))
                .when(spread),
        ]);
    }
    let keys = once(figures.iter().map(key));
    let first = |wanted| figures.iter().find(|figure| key(figure) == wanted).copied();
    let rows: Vec<Figure<'a>> = keys.into_iter().filter_map(first).collect();
    grid(&rows, columns, unit)
}

/// A row an estimate.
pub(super) fn long(figures: &[Figure<'_>], unit: ByteUnit) -> Grid {
    let mut columns = keys(figures);
    columns.extend([format(), bytes_column(unit), per_gpu(figures, unit)]);
    grid(figures, columns, unit)
}

/// What the engines make of the memory given, under a line that says how much it is.
pub(super) fn capacities(figures: &[Figure<'_>], unit: ByteUnit) -> Vec<Block> {
    let capable: Vec<Figure<'_>> = figures.iter().filter(|figure| figure.row.capacity.is_some()).copied().collect();
    let Some(memory) = capable.iter().find_map(|figure| figure.capacity(|capacity| capacity.memory)) else {
        return Vec::new();
    };
    // What the rows of this table have no column for, since it is the same in all of them, is said above it.
    let models = |figures: &[Figure<'_>]| once(figures.iter().map(|figure| figure.model.to_owned()));
    let same = capable.first().map_or_else(String::new, |first| {
        let engine = engines(figures).len() > 1 && engines(&capable).len() == 1;
        let model = models(figures).len() > 1 && models(&capable).len() == 1;
        let engine = engine.then(|| first.row.engine.to_string());
        engine.into_iter().chain(model.then(|| first.model.to_owned())).map(|name| format!(", {name}")).collect()
    });
    let of = format!("In {} on each GPU{same}:", in_unit(memory, unit));
    let tables = fitted(&capable, &|capable| capacity(capable, unit));
    [Block::folded([of])].into_iter().chain(tables).collect()
}

fn capacity<'a>(figures: &[Figure<'a>], unit: ByteUnit) -> Grid {
    let fits = |figure: &Figure<'a>| {
        figure.capacity(|capacity| capacity.holds_batch.unwrap_or(capacity.max_seq_len >= figure.row.seq_len))
    };
    let distinct = |mut columns: Vec<FigureColumn<'a>>| {
        columns.extend([format(), FigureColumn::left("Fits", fits)]);
        columns.extend(of_capacity());
        let grid = grid(figures, columns, unit);
        Grid { rows: once(grid.rows), ..grid }
    };
    // It is one request that fits or not: batches have a column only where an engine answers them differently.
    let each = distinct(keys(figures));
    let alike = distinct([tokens()].into_iter().chain(names(figures)).collect());
    let batches = once(figures.iter().map(|figure| figure.row.batch)).len();
    if alike.rows.len().saturating_mul(batches) == each.rows.len() { alike } else { each }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::Workload;
    use crate::model::ModelSpec;
    use crate::report::{Align, AnsweredEstimate};
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
                answers.push(AnsweredEstimate { workload, engine: engine.clone(), answer, weights: None });
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
