//! The rows of a sweep: each as soon as it is known where the format allows it.

use serde::Serialize;

use super::bar::{Part, bar_of};
use super::batch::OPENING;
use super::column::Table;
use super::document::{AnsweredEstimate, EstimateRow};
use super::figures::{Figure, table};
use super::grid::{Block, Page};
use super::{BatchFrame, Format, Medium, Picture, Report, Series, UnitChoice, clean, csv, json, render};
use crate::model::Model;
use crate::units::{ByteUnit, Bytes, Error, Notes, group_thousands};

/// How a row that stands alone begins, and a document.
const ROW: &str = "{\"schema\":\"kvsize.estimate/1\"";

/// Turns estimates into rows of a format.
#[derive(Debug)]
pub struct Sweep {
    format: Format,
    unit: UnitChoice,
    /// What is kept until the end: formats whose columns depend on all rows.
    kept: Vec<Row>,
    begun: bool,
}

#[derive(Debug, Serialize)]
struct Row {
    model: String,
    #[serde(flatten)]
    estimate: EstimateRow,
}

impl Sweep {
    /// Without a row.
    pub fn new(format: Format, unit: UnitChoice) -> Self {
        Self { format, unit, kept: Vec::new(), begun: false }
    }

    /// Takes an estimate with what was assumed and warned of. What can be written now.
    ///
    /// # Errors
    /// [`Code::TooLarge`](crate::units::Code::TooLarge) when the devices can't be counted.
    pub fn add(&mut self, model: &Model, estimate: &AnsweredEstimate, notes: &Notes) -> Result<Vec<u8>, Error> {
        let begins = !std::mem::replace(&mut self.begun, true);
        let AnsweredEstimate { workload, engine, answer, .. } = estimate;
        let write = |out: &mut Vec<u8>| {
            let notes = [&*notes.assumptions, &*notes.warnings];
            BatchFrame::new(model, engine, workload)
                .map(|frame| frame.write(out, (None, None), workload, answer, notes))
        };
        let mut out = Vec::new();
        match (self.format, self.unit) {
            (Format::Json, _) => {
                write(&mut out)?;
                out.pop();
                // Of a document's rows none has a schema of its own.
                let between: &[u8] = if begins { b"" } else { b",\n" };
                out.splice(..=OPENING.len(), between.iter().copied().chain(*b"{"));
                if begins {
                    out.splice(..0, Self::opening().into_bytes());
                }
            }
            (Format::Jsonl, _) => {
                write(&mut out)?;
                out.splice(..OPENING.len(), ROW.bytes());
            }
            (Format::Csv, UnitChoice::Fixed(unit)) => {
                let (model, row) = (clean(&model.name), EstimateRow::new(estimate)?);
                let table = table(&[Figure { model: &model, row: &row }], unit);
                for record in table.exact().skip(usize::from(!begins)) {
                    out.extend_from_slice(csv::record(&record).as_bytes());
                }
            }
            _ => self.kept.push(Row { model: clean(&model.name), estimate: EstimateRow::new(estimate)? }),
        }
        Ok(out)
    }

    /// How a document begins.
    fn opening() -> String {
        format!("{ROW},\"kvsize\":\"{}\",\"estimates\":[\n", env!("CARGO_PKG_VERSION"))
    }

    /// What is left to be written after the last row.
    pub fn end(self, notes: &Notes) -> String {
        match (self.format, self.unit) {
            (Format::Json, _) => {
                let opening = if self.begun { String::new() } else { Self::opening() };
                let notes = json::lines(std::slice::from_ref(notes));
                format!("{opening}\n],{}", notes.trim_start_matches('{'))
            }
            (Format::Jsonl, _) | (Format::Csv, UnitChoice::Fixed(_)) => String::new(),
            (format, unit) => render(&Rows(self.kept), format, unit),
        }
    }
}

/// The rows of a format whose columns depend on all of them.
#[derive(Serialize)]
#[serde(transparent)]
struct Rows(Vec<Row>);

impl Report for Rows {
    fn table(&self, unit: ByteUnit) -> Table {
        let figures = self.0.iter().map(|Row { model, estimate }| Figure { model, row: estimate });
        table(&figures.collect::<Vec<_>>(), unit)
    }

    fn largest(&self) -> Bytes {
        Bytes(self.0.iter().map(|row| row.estimate.bytes).max().unwrap_or_default())
    }

    fn page(&self, unit: ByteUnit, _: Medium) -> Page {
        let (grid, same) = self.table(unit).shown(unit);
        let chart = match self.picture() {
            Some(Picture::Lines { series, limit }) if series.len() == 1 => {
                series.first().and_then(|one| chart(one, limit))
            }
            _ => None,
        };
        [Block::Grid(grid)]
            .into_iter()
            .chain(chart.map(Block::Text))
            .chain([Block::folded([same.join(", ")])])
            .collect()
    }

    fn picture(&self) -> Option<Picture> {
        picture(self.0.iter().map(|Row { model, estimate }| (&**model, estimate)))
    }

    fn plain(&self, unit: ByteUnit) -> Vec<String> {
        self.table(unit).grid(unit).rows.iter().map(|row| row.join("\t")).collect()
    }
}

/// Bytes over context, a line for each model, engine, format, batch and layout; `None` with fewer than two lengths.
fn picture<'a>(rows: impl Iterator<Item = (&'a str, &'a EstimateRow)>) -> Option<Picture> {
    let mut series: Vec<Series> = Vec::new();
    let mut limit = None;
    for (model, row) in rows {
        let sizes = [("tp", row.tp), ("pp", row.pp), ("dp", row.dp), ("batch", row.batch)];
        let sizes = sizes.iter().filter(|(_, size)| *size > 1).map(|(name, size)| format!(", {name} {size}"));
        let name = format!("{model}, {}, {}{}", row.engine, row.stored(), sizes.collect::<String>());
        limit = limit.max(row.capacity.as_ref().map(|capacity| capacity.memory));
        let point = (row.seq_len, row.bytes_per_gpu);
        match series.iter_mut().find(|known| known.name == name) {
            Some(known) => known.points.push(point),
            None => series.push(Series { name, points: vec![point] }),
        }
    }
    for line in &mut series {
        line.points.sort_unstable();
    }
    let is_line = series.iter().any(|series| series.points.len() > 1);
    is_line.then_some(Picture::Lines { series, limit })
}

/// The lengths that a chart in a terminal has at most.
const MOST_LENGTHS: usize = 24;

/// The line of a series in letters: a bar a length, with a mark where the memory ends.
fn chart(series: &Series, limit: Option<u64>) -> Option<Vec<String>> {
    if !(2..=MOST_LENGTHS).contains(&series.points.len()) {
        return None;
    }
    let most = series.points.iter().map(|(_, bytes)| *bytes).chain(limit).max()?;
    let line = |(tokens, bytes): &(u64, u64)| {
        let bar = bar_of(&[Part { letter: 'K', bytes: *bytes }], limit.unwrap_or(most), most);
        let bar = if limit.is_some() { bar } else { bar.trim_end_matches('|').to_owned() };
        format!("  {:>13}   {}", group_thousands(*tokens), bar.trim_end())
    };
    Some(series.points.iter().map(line).collect())
}
