//! Estimates to text: one exporter a format. Each returns text; nothing here writes it anywhere.

mod batch;
mod check;
mod checks;
mod ci;
mod csv;
mod details;
mod document;
mod explain;
mod figures;
mod gaps;
mod grid;
mod hardware;
mod json;
mod markdown;
mod model;
mod page;
mod plain;
mod schema;
mod serve;
mod strategies;
mod sweep;
mod table;
mod text;
mod weights;

use serde::Serialize;

use crate::units::{ByteUnit, Bytes};

pub use batch::BatchFrame;
pub use check::{CheckDocument, HardwareRow, LimitRow, Measured, check};
pub use checks::{ChangeRow, CheckRow, ChecksDocument, ErrorRow, checks};
pub use ci::{CheckFormat, no_check};
pub use document::{AnsweredEstimate, BytesPerTokenValue, Document, EstimateRow, GroupShare};
pub use explain::{ExplainedFact, ExplainedGroup, ExplainedLayout, Explanation, explain, explanation};
pub use grid::{Align, Grid};
pub use hardware::{
    Asked, BindingDescription, CostRow, FitDocument, FitRow, Fitted, PlanDocument, PlanRow, PlannedOn, PoolError,
    RequestsRow, SmallerRow, StageRow, TermRow, TooSmall, TooSmallRow, fit, plan,
};
pub use model::ModelDescription;
pub use schema::{SCHEMAS, Schema, all_schemas};
pub use serve::{Served, serve};
pub use strategies::{
    ArticleStatement, Cents, FloorTimes, Gpu, PriceFigures, SpeedFigures, Strategies, StrategyRow, Typed, quoted,
    strategies,
};
pub use sweep::Sweep;
pub use text::wrapped;
pub use weights::{DtypeDescription, WeightsDescription};

use self::grid::{Block, Page};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people, in a terminal.
    Table,
    /// The article's lines.
    Plain,
    /// One JSON document, or an array of them.
    Json,
    /// One JSON document a line.
    Jsonl,
    /// A row an estimate, with exact bytes.
    Csv,
    /// A table for an issue or a job summary.
    Markdown,
}

/// The unit bytes are printed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitChoice {
    /// This one.
    Fixed(ByteUnit),
    /// The one that fits the largest figure printed.
    Auto,
}

impl UnitChoice {
    /// The unit for figures of which the largest is `largest`.
    pub fn resolve(self, largest: Bytes) -> ByteUnit {
        match self {
            Self::Fixed(unit) => unit,
            Self::Auto => ByteUnit::fitting(largest),
        }
    }
}

/// Estimates in `format`.
pub fn estimates(documents: &[Document], format: Format, unit: UnitChoice) -> String {
    let unit = unit.resolve(document::largest(documents));
    render(documents, |documents| page::estimates(documents, unit), format, unit)
}

/// The article's numbers beside the real ones; `whole` is the real model with every layer keeping every token. `hardware` is
/// what its hardware holds, each with its command: of the article's model, of it with all the weights, of `whole`, and of the
/// real model.
pub fn article(
    documents: &[Document; 2],
    whole: &Document,
    hardware: &[(String, FitDocument); 4],
    format: Format,
    unit: UnitChoice,
) -> String {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Part<'a> {
        Estimates(&'a Document),
        Hardware(&'a FitDocument),
    }
    let parts = || -> Vec<Part> {
        let hardware = hardware.iter().map(|(_, document)| Part::Hardware(document));
        documents.iter().map(Part::Estimates).chain(hardware).collect()
    };
    let unit = unit.resolve(document::largest(documents));
    let [article, real] = &documents;
    match format {
        Format::Json => json::pretty(&parts()),
        Format::Jsonl => json::lines(&parts()),
        _ => render(documents, |_| page::article(article, real, whole, hardware, unit), format, unit),
    }
}

fn render(documents: &[Document], page: impl Fn(&[Document]) -> Page, format: Format, unit: ByteUnit) -> String {
    match format {
        Format::Table => table::render(&page(documents)),
        Format::Markdown => markdown::render(&page(documents)),
        Format::Plain => plain::render(documents, unit),
        Format::Json => match documents {
            [document] => json::pretty(document),
            documents => json::pretty(&documents),
        },
        Format::Jsonl => json::lines(documents),
        Format::Csv => csv::estimates(documents, unit),
    }
}

/// Text from files and arguments, which may hold anything, on one line and without control characters.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A list of things: rows for people, objects for programs.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Listing<T> {
    /// Name and version of the shape.
    pub schema: &'static str,
    /// The things.
    pub items: Vec<T>,
    /// The same as a grid.
    #[serde(skip)]
    pub grid: Grid,
    /// The same as entries, where there is more to say of a thing than a row holds.
    #[serde(skip)]
    pub entries: Vec<Entry>,
    /// What is to be said of the grid as a whole, under it.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// What there is to say of a thing.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What is said of each such thing, by name.
    pub about: Vec<(String, String)>,
    /// What its properties are called.
    pub heading: &'static str,
    /// Its properties, by name.
    pub properties: Vec<(String, String)>,
}

impl Entry {
    fn blocks(&self) -> [Block; 2] {
        let heading = (!self.properties.is_empty()).then(|| format!("  {}:", self.heading));
        let lines =
            text::pairs(2, &self.about).into_iter().chain(heading).chain(text::pairs(4, &self.properties)).collect();
        [Block::Title(self.name.clone()), Block::Text(lines)]
    }
}

/// A listing in `format`; plain is the first column.
pub fn listing<T: Serialize>(listing: &Listing<T>, format: Format) -> String {
    let page = || match listing.entries.as_slice() {
        [] => {
            let notes = listing.notes.iter().flat_map(|note| wrapped(note, text::COLUMNS));
            let notes = Some(Block::Text(notes.collect())).filter(|_| !listing.notes.is_empty());
            Page { blocks: [Block::Grid(listing.grid.clone())].into_iter().chain(notes).collect() }
        }
        entries => Page { blocks: entries.iter().flat_map(Entry::blocks).collect() },
    };
    match format {
        Format::Table => table::render(&page()),
        Format::Markdown => markdown::render(&page()),
        Format::Plain => {
            listing.grid.rows.iter().filter_map(|row| row.first()).map(|name| format!("{name}\n")).collect()
        }
        Format::Json => json::pretty(listing),
        Format::Jsonl => json::lines(&listing.items),
        Format::Csv => csv::grid(&listing.grid),
    }
}
