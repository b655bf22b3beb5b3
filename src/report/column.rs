//! The columns of a document: each is given once, and tables and CSV are made of it.

use super::grid::{Align, Grid};
use super::text::COLUMNS;
use crate::engine::Double;
use crate::units::{ByteUnit, Bytes, group_thousands};

/// A figure of a row: people read it rounded and with its thousands apart, programs read it exact.
#[derive(Debug)]
pub enum Cell {
    /// The same for both.
    Text(String),
    /// A count.
    Count(u64),
    /// Bytes, which people read in the unit of the answer.
    Bytes(u64),
    /// `yes` for people, `true` for programs.
    Flag(bool),
    /// A number that people read to two places.
    Decimal(Double),
    /// What people read, and what programs do.
    Both(String, String),
    /// Nothing for programs; this for people.
    Missing(&'static str),
}

impl Cell {
    /// The cell of a value that may be missing, for which people read `missing`.
    pub fn or(value: Option<impl Into<Self>>, missing: &'static str) -> Self {
        value.map_or(Self::Missing(missing), Into::into)
    }

    /// Bytes that may be missing.
    pub fn bytes(bytes: impl Into<Option<u64>>) -> Self {
        bytes.into().map_or(Self::Missing(""), Self::Bytes)
    }

    fn shown(self, unit: ByteUnit) -> String {
        match self {
            Self::Text(text) | Self::Both(text, _) => text,
            Self::Count(count) => group_thousands(count),
            Self::Bytes(bytes) => Bytes(bytes).in_unit(unit),
            Self::Flag(flag) => if flag { "yes" } else { "no" }.into(),
            Self::Decimal(value) => format!("{:.2}", value.value()),
            Self::Missing(text) => text.into(),
        }
    }

    fn exact(self) -> String {
        match self {
            Self::Text(text) | Self::Both(_, text) => text,
            Self::Count(number) | Self::Bytes(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Decimal(value) => value.value().to_string(),
            Self::Missing(_) => String::new(),
        }
    }
}

macro_rules! cells {
    ($($value:ty => $cell:ident,)*) => {
        $(impl From<$value> for Cell {
            fn from(value: $value) -> Self {
                Self::$cell(value)
            }
        })*
    };
}

cells! {
    u64 => Count,
    bool => Flag,
    Double => Decimal,
    String => Text,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        Self::or(value, "")
    }
}

/// When a table has a column. CSV has all that have a key, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    Always,
    Never,
    /// If the rows differ in it.
    IfDiffers,
}

/// A column of rows `R`.
pub struct Column<'a, R> {
    key: Option<&'static str>,
    heading: String,
    align: Align,
    show: Show,
    /// Where a table is too wide, columns go one after the other: this one from here on.
    until: u8,
    /// Shorter columns that come in their place do so from here on.
    from: u8,
    cell: Box<dyn Fn(&R) -> Cell + 'a>,
}

/// Later than any column goes.
const STAYS: u8 = u8::MAX;

impl<'a, R> Column<'a, R> {
    fn new<C: Into<Cell>>(heading: String, align: Align, cell: impl Fn(&R) -> C + 'a) -> Self {
        let cell = Box::new(move |row: &R| cell(row).into());
        Self { key: None, heading, align, show: Show::Always, until: STAYS, from: 0, cell }
    }

    /// A column of text in tables.
    pub fn left<C: Into<Cell>>(heading: impl Into<String>, cell: impl Fn(&R) -> C + 'a) -> Self {
        Self::new(heading.into(), Align::Left, cell)
    }

    /// A column of numbers in tables.
    pub fn right<C: Into<Cell>>(heading: impl Into<String>, cell: impl Fn(&R) -> C + 'a) -> Self {
        Self::new(heading.into(), Align::Right, cell)
    }

    /// A column of CSV alone.
    pub fn csv<C: Into<Cell>>(key: &'static str, cell: impl Fn(&R) -> C + 'a) -> Self {
        Self { key: Some(key), show: Show::Never, ..Self::new(String::new(), Align::Left, cell) }
    }

    /// The same in CSV, under this name.
    #[must_use]
    pub fn key(self, key: &'static str) -> Self {
        Self { key: Some(key), ..self }
    }

    /// In tables only if the rows differ in it.
    #[must_use]
    pub fn if_differs(self) -> Self {
        Self { show: Show::IfDiffers, ..self }
    }

    /// In tables only under this condition.
    #[must_use]
    pub fn when(self, condition: bool) -> Self {
        Self { show: if condition { self.show } else { Show::Never }, ..self }
    }

    /// Left out of a table that is too wide, as the `step`th; a terminal has room for the rest.
    #[must_use]
    pub fn until(self, step: u8) -> Self {
        Self { until: step, ..self }
    }

    /// In tables from the `step`th on: what stands in for something wider.
    #[must_use]
    pub fn from(self, step: u8) -> Self {
        Self { from: step, ..self }
    }

    /// Its name in CSV, if it is there.
    pub(super) fn name(&self) -> Option<&'static str> {
        self.key
    }

    /// The exact cell of a row.
    pub(super) fn exact(&self, row: &R) -> String {
        (self.cell)(row).exact()
    }
}

/// A table of rows, and what has no column in it since it is the same in all of them.
pub(super) struct Table {
    pub(super) grid: Grid,
    /// Each as a part of a sentence: a text, or a number after its heading.
    pub(super) same: Vec<String>,
}

/// The widest table of these columns that a terminal has room for, or else the narrowest.
pub(super) fn table<R>(rows: &[R], columns: &[Column<'_, R>], unit: ByteUnit) -> Table {
    let steps = columns.iter().flat_map(|column| [column.from, column.until]).filter(|&step| step != STAYS);
    let last = steps.max().unwrap_or_default();
    let mut tables = (0..=last).map(|step| table_at(step, rows, columns, unit));
    let fitting = tables.find(|table| table.grid.width() <= COLUMNS);
    fitting.unwrap_or_else(|| table_at(last, rows, columns, unit))
}

fn table_at<R>(step: u8, rows: &[R], columns: &[Column<'_, R>], unit: ByteUnit) -> Table {
    let mut table = Table { grid: Grid::default(), same: Vec::new() };
    table.grid.rows = vec![Vec::new(); rows.len()];
    for column in columns.iter().filter(|column| (column.from..column.until).contains(&step)) {
        let cells: Vec<String> = rows.iter().map(|row| (column.cell)(row).shown(unit)).collect();
        let first = cells.first().map(String::as_str).unwrap_or_default();
        match column.show {
            Show::Never => continue,
            Show::IfDiffers if cells.iter().all(|cell| cell == first) => {
                match column.align {
                    Align::Left => table.same.push(first.to_owned()),
                    Align::Right if ["", "1"].contains(&first) => {}
                    Align::Right => table.same.push(format!("{} {first}", column.heading.to_lowercase())),
                }
                continue;
            }
            Show::Always | Show::IfDiffers => {}
        }
        table.grid.columns.push((column.heading.clone(), column.align));
        for (row, cell) in table.grid.rows.iter_mut().zip(cells) {
            row.push(cell);
        }
    }
    table
}

/// The grid of these columns.
pub(super) fn grid<R>(rows: &[R], columns: &[Column<'_, R>], unit: ByteUnit) -> Grid {
    table(rows, columns, unit).grid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::csv;

    #[test]
    fn columns_go_step_by_step_where_a_table_is_too_wide() {
        type Row = (&'static str, u64);
        let columns = |width: usize| {
            [
                Column::left("Name", move |(name, _): &Row| name.repeat(width)).key("name"),
                Column::right("Bytes", |(_, bytes): &Row| Cell::Bytes(*bytes)).until(1).key("bytes"),
                Column::left("Long", |(name, _): &Row| name.repeat(20)).until(2),
                Column::left("Short", |(name, _): &Row| *name).from(2),
                Column::left("Alike", |_: &Row| "a word").if_differs(),
                Column::right("TP", |_: &Row| 2u64).if_differs(),
                Column::csv("large", |(_, bytes): &Row| *bytes > 1),
            ]
        };
        let headings = |width| -> Vec<String> {
            let columns = columns(width);
            let table = table(&[("a", 1), ("b", 2_000)], &columns, ByteUnit::Bytes);
            assert_eq!(table.same, ["a word", "tp 2"]);
            table.grid.columns.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(headings(1), ["Name", "Bytes", "Long"]);
        assert_eq!(headings(50), ["Name", "Long"]);
        assert_eq!(headings(70), ["Name", "Short"]);
        assert_eq!(headings(100), ["Name", "Short"]);
        assert_eq!(
            csv::header(&columns(1)) + &csv::line(&columns(1), &("b", 2_000)),
            "name,bytes,large\nb,2000,true\n"
        );
    }
}
