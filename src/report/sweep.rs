//! The rows of a sweep: each as soon as it is known where the format allows it.

use serde::Serialize;

use super::column::Table;
use super::document::{AnsweredEstimate, EstimateRow};
use super::figures::{Figure, table};
use super::grid::{Block, Page};
use super::{BatchFrame, Format, Medium, Report, UnitChoice, clean, csv, render};
use crate::model::Model;
use crate::units::{ByteUnit, Bytes, Error, Notes};

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
        let AnsweredEstimate { workload, engine, answer } = estimate;
        let write = |out: &mut Vec<u8>| {
            let notes = [&*notes.assumptions, &*notes.warnings];
            BatchFrame::new(model, engine, workload)
                .map(|frame| frame.write(out, (None, None), workload, answer, notes))
        };
        let mut out = Vec::new();
        match (self.format, self.unit) {
            (Format::Json, _) => {
                out.extend_from_slice(if begins { b"[\n" } else { b",\n" });
                write(&mut out)?;
                out.pop();
            }
            (Format::Jsonl, _) => write(&mut out)?,
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

    /// What is left to be written after the last row.
    pub fn end(self) -> String {
        match (self.format, self.unit) {
            (Format::Json, _) if self.begun => "\n]\n".into(),
            (Format::Json, _) => "[]\n".into(),
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
        vec![Block::Grid(grid), Block::folded([same.join(", ")])]
    }

    fn plain(&self, unit: ByteUnit) -> Vec<String> {
        self.table(unit).grid(unit).rows.iter().map(|row| row.join("\t")).collect()
    }
}
