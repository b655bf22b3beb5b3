//! The rows of a sweep: each as soon as it is known where the format allows it.

use super::batch::BatchFrame;
use super::document::{AnsweredEstimate, EstimateRow, row};
use super::grid::{Align, Block, Grid, Page};
use super::text::{COLUMNS, wrapped};
use super::{Format, UnitChoice, csv, markdown, table};
use crate::engine::Capacity;
use crate::model::Model;
use crate::units::{ByteUnit, Bytes, Error, group_thousands};

/// Turns estimates into rows of a format.
#[derive(Debug)]
pub struct Sweep {
    format: Format,
    unit: UnitChoice,
    /// What is kept until the end: formats whose columns depend on all rows.
    kept: Vec<Row>,
    begun: bool,
}

#[derive(Debug)]
struct Row {
    model: String,
    estimate: EstimateRow<'static>,
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
    pub fn add(&mut self, model: &Model, estimate: AnsweredEstimate, said: [&[String]; 2]) -> Result<Vec<u8>, Error> {
        let begins = !self.begun;
        let mut out = Vec::new();
        match (self.format, self.unit) {
            (Format::Json | Format::Jsonl, _) => {
                let AnsweredEstimate { workload, engine, answer } = &estimate;
                let frame = BatchFrame::new(model, engine, workload)?;
                if self.format == Format::Json {
                    out.extend_from_slice(if begins { b"[\n" } else { b",\n" });
                }
                frame.write(&mut out, (None, None), workload, answer, said);
                if self.format == Format::Json {
                    out.pop();
                }
            }
            (Format::Csv, UnitChoice::Fixed(unit)) => {
                if begins {
                    out.extend_from_slice(csv::header(unit).as_bytes());
                }
                out.extend_from_slice(csv::estimate(&super::clean(&model.name), &row(&estimate)?, unit).as_bytes());
            }
            _ => self.kept.push(Row { model: super::clean(&model.name), estimate: row(&estimate)? }),
        }
        self.begun = true;
        Ok(out)
    }

    /// What is left to be written after the last row.
    pub fn end(self) -> String {
        let largest = self.kept.iter().map(|row| row.estimate.bytes).max().unwrap_or_default();
        let unit = self.unit.resolve(Bytes(largest));
        let page = || {
            let (grid, same) = grid(&self.kept, unit);
            Page { blocks: vec![Block::Grid(grid), Block::Text(wrapped(&same, COLUMNS))] }
        };
        match self.format {
            Format::Json if self.begun => "\n]\n".into(),
            Format::Json => "[]\n".into(),
            Format::Jsonl => String::new(),
            Format::Csv if self.kept.is_empty() => String::new(),
            Format::Csv => {
                let rows = self.kept.iter().map(|row| csv::estimate(&row.model, &row.estimate, unit));
                [csv::header(unit)].into_iter().chain(rows).collect()
            }
            Format::Table => table::render(&page()),
            Format::Markdown => markdown::render(&page()),
            Format::Plain => grid(&self.kept, unit).0.rows.iter().map(|row| row.join("\t") + "\n").collect(),
        }
    }
}

/// What a column is made of.
struct Column {
    name: String,
    align: Align,
    /// Whether it is there; where nothing says so, if the rows differ in it.
    shown: Option<bool>,
    cell: Box<dyn Fn(&Row) -> String>,
}

/// A row an estimate, a column for each thing that they differ in; and what is the same in all of them.
fn grid(rows: &[Row], unit: ByteUnit) -> (Grid, String) {
    let column = |name: &str, align, shown, cell: fn(&Row) -> String| Column {
        name: name.into(),
        align,
        shown,
        cell: Box::new(cell),
    };
    let amount = |name: String, shown, bytes: fn(&Row) -> Option<u64>| {
        let cell = move |row: &Row| bytes(row).map(|bytes| Bytes(bytes).in_unit(unit)).unwrap_or_default();
        Column { name, align: Align::Right, shown, cell: Box::new(cell) }
    };
    let capable = rows.iter().any(|row| row.estimate.capacity.is_some());
    let of = |name: &str, align, figure: fn(&Capacity) -> Option<String>| Column {
        name: name.into(),
        align,
        shown: Some(capable),
        cell: Box::new(move |row| row.estimate.capacity.as_ref().and_then(figure).unwrap_or_default()),
    };
    let spread = rows.iter().any(|row| row.estimate.bytes_per_gpu != row.estimate.bytes);
    let columns = [
        column("Model", Align::Left, None, |row| row.model.clone()),
        column("Tokens", Align::Right, Some(true), |row| group_thousands(row.estimate.seq_len)),
        column("Batch", Align::Right, None, |row| group_thousands(row.estimate.batch)),
        column("Engine", Align::Left, None, |row| row.estimate.engine.to_string()),
        column("Format", Align::Left, None, |row| row.estimate.stored().to_string()),
        column("TP", Align::Right, None, |row| row.estimate.tp.to_string()),
        column("PP", Align::Right, None, |row| row.estimate.pp.to_string()),
        column("DP", Align::Right, None, |row| row.estimate.dp.to_string()),
        column("DCP", Align::Right, None, |row| row.estimate.dcp.unwrap_or(1).to_string()),
        amount(unit.name().into(), Some(true), |row| Some(row.estimate.bytes)),
        amount(format!("{}/GPU", unit.name()), Some(spread), |row| Some(row.estimate.bytes_per_gpu)),
        amount(format!("Memory {}", unit.name()), None, |row| Some(row.estimate.capacity.as_ref()?.memory)),
        of("Fits", Align::Left, |capacity| Some(if capacity.fits { "yes" } else { "no" }.into())),
        of("Pool tokens", Align::Right, |capacity| capacity.tokens.map(group_thousands)),
        of("Requests", Align::Right, |capacity| Some(format!("{:.2}", capacity.max_concurrency?.value()))),
        of("Longest", Align::Right, |capacity| Some(group_thousands(capacity.max_seq_len))),
    ];
    let (mut shown, mut same) = (Vec::new(), Vec::new());
    for column in columns {
        let first = rows.first().map(|row| (column.cell)(row)).unwrap_or_default();
        let differ = || rows.iter().any(|row| (column.cell)(row) != first);
        match column.shown {
            Some(false) => {}
            Some(true) => shown.push(column),
            None if differ() => shown.push(column),
            None if ["Model", "Engine", "Format"].contains(&column.name.as_str()) => same.push(first),
            None if ["", "1"].contains(&first.as_str()) => {}
            None => same.push(format!("{} {first}", column.name.to_lowercase())),
        }
    }
    let cells = |row: &Row| shown.iter().map(|column| (column.cell)(row)).collect();
    let rows = rows.iter().map(cells).collect();
    let columns = shown.iter().map(|column| (column.name.clone(), column.align)).collect();
    (Grid { columns, rows }, same.join(", "))
}
