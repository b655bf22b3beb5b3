//! Answers to text. A document gives its rows and columns once, and [`render`] writes it in a format; nothing here writes it
//! anywhere.

mod article;
mod bar;
mod batch;
mod check;
mod checks;
mod ci;
mod column;
mod csv;
mod details;
mod document;
mod estimates;
mod explain;
mod figures;
mod gaps;
mod grid;
mod hardware;
mod json;
mod listing;
mod markdown;
mod model;
pub mod schema;
mod strategies;
mod svg;
mod sweep;
mod table;
mod text;
mod weights;

use serde::Serialize;

use crate::units::{ByteUnit, Bytes, named, once};

pub use article::{Article, ArticleDocument, HeldRow};
pub use batch::{BatchFrame, BatchRow};
pub use check::{CheckDocument, Measured};
pub use checks::{CheckRow, ChecksDocument, ErrorRow};
pub use ci::{Case, Cases, CheckFormat, no_check, render_check};
pub use column::{Cell, Column, Table};
pub use document::{
    AnsweredEstimate, BytesPerTokenValue, Document, EstimateDocument, EstimateRow, NamedEstimate, notes_of,
};
pub use estimates::Estimates;
pub use explain::{ExplainedFact, ExplainedGroup, ExplainedTensors, Explanation, explanation};
pub use figures::Figure;
pub use grid::{Align, Block, Grid, Page};
pub use hardware::{
    AssumedRow, CostRow, FitDocument, FitRow, PlanDocument, PlanRow, PoolError, ServerRow, StageRow, TermRow, WayOutRow,
};
pub use listing::{
    DefaultItem, EngineItem, FormatItem, GpuItem, InFormat, Item, Listing, ModelItem, PriceItem, SettingItem, SizeItem,
    WeightsItem,
};
pub use model::ModelDescription;
pub use strategies::{ArticleStatement, ByItsRule, Cents, Gpu, PriceFigures, Strategies, StrategyRow, Typed};
pub use svg::{Bar, Picture, Series};
pub use sweep::Sweep;
pub use text::wrapped;
pub use weights::{DtypeDescription, WeightsDescription};

named! {
    /// How an answer is written.
    pub enum Format {
        /// For people, in a terminal.
        Table = "table",
        /// Lines for scripts; of estimates the article's.
        Plain = "plain",
        /// One JSON document, or an array of them.
        Json = "json",
        /// One JSON document a line.
        Jsonl = "jsonl",
        /// A row an estimate, with exact bytes.
        Csv = "csv",
        /// A table for an issue or a job summary.
        Markdown = "markdown",
        /// A picture: of `fit` a bar for each GPU, of ranges of lengths bytes over context.
        Svg = "svg",
    }
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

/// How much of an answer people read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Detail {
    /// The verdict, and what would change it.
    #[default]
    Verdict,
    /// Each term, error, price and source as well.
    Everything,
}

/// Where a page is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// In a terminal.
    Terminal,
    /// Where a browser lays out Markdown.
    Markdown,
}

/// An answer: its rows and their columns, and what people read around them. Serialised it is its JSON document.
pub trait Report: Serialize {
    /// The rows and their columns, in tables and in CSV.
    fn table(&self, unit: ByteUnit) -> Table;

    /// The largest figure that is printed, to which the unit fits that is called `auto`.
    fn largest(&self) -> Bytes;

    /// What people read.
    fn page(&self, unit: ByteUnit, medium: Medium) -> Page;

    /// Lines for scripts.
    fn plain(&self, unit: ByteUnit) -> Vec<String>;

    /// What is drawn of it, if anything.
    fn picture(&self) -> Option<Picture> {
        None
    }

    /// The document, or each of several, as a line of JSON.
    fn json_lines(&self) -> String
    where
        Self: Sized,
    {
        json::lines(std::slice::from_ref(self))
    }
}

/// An answer in a format.
pub fn render(report: &impl Report, format: Format, unit: UnitChoice) -> String {
    let unit = unit.resolve(report.largest());
    match format {
        Format::Table => table::render(&report.page(unit, Medium::Terminal)),
        Format::Markdown => markdown::render(&report.page(unit, Medium::Markdown)),
        Format::Plain => report.plain(unit).iter().map(|line| format!("{line}\n")).collect(),
        Format::Json => json::pretty(report),
        Format::Jsonl => report.json_lines(),
        Format::Csv => csv::render(&report.table(unit)),
        Format::Svg => report.picture().map(|picture| svg::render(&picture, unit)).unwrap_or_default(),
    }
}

/// Text from files and arguments, which may hold anything, on one line and without control characters.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
