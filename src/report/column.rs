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

    fn shown(&self, unit: ByteUnit) -> String {
        match self {
            Self::Text(text) | Self::Both(text, _) => text.clone(),
            Self::Count(count) => group_thousands(*count),
            Self::Bytes(bytes) => Bytes(*bytes).in_unit(unit),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.into(),
            Self::Decimal(value) => format!("{:.2}", value.value()),
            Self::Missing(text) => (*text).into(),
        }
    }

    fn exact(&self) -> String {
        match self {
            Self::Text(text) | Self::Both(_, text) => text.clone(),
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
    head: Head,
    cell: Box<dyn Fn(&R) -> Cell + 'a>,
}

/// What is known of a column without its rows.
struct Head {
    key: Option<&'static str>,
    heading: String,
    align: Align,
    show: Show,
    /// Where a table is too wide, columns go one after the other: this one from here on.
    until: u8,
    /// Shorter columns that come in their place do so from here on.
    from: u8,
}

/// Later than any column goes.
const STAYS: u8 = u8::MAX;

impl<'a, R> Column<'a, R> {
    fn new<C: Into<Cell>>(heading: String, align: Align, cell: impl Fn(&R) -> C + 'a) -> Self {
        let head = Head { key: None, heading, align, show: Show::Always, until: STAYS, from: 0 };
        Self { head, cell: Box::new(move |row: &R| cell(row).into()) }
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
        Self::left(String::new(), cell).key(key).when(false)
    }

    /// The same in CSV, under this name.
    #[must_use]
    pub fn key(self, key: &'static str) -> Self {
        Self { head: Head { key: Some(key), ..self.head }, ..self }
    }

    /// In tables only if the rows differ in it.
    #[must_use]
    pub fn if_differs(self) -> Self {
        Self { head: Head { show: Show::IfDiffers, ..self.head }, ..self }
    }

    /// In tables only under this condition.
    #[must_use]
    pub fn when(self, condition: bool) -> Self {
        Self { head: Head { show: if condition { self.head.show } else { Show::Never }, ..self.head }, ..self }
    }

    /// Left out of a table that is too wide, as the `step`th; a terminal has room for the rest.
    #[must_use]
    pub fn until(self, step: u8) -> Self {
        Self { head: Head { until: step, ..self.head }, ..self }
    }

    /// In tables from the `step`th on: what stands in for something wider.
    #[must_use]
    pub fn from(self, step: u8) -> Self {
        Self { head: Head { from: step, ..self.head }, ..self }
    }
}

/// Rows as cells, column by column.
pub struct Table(Vec<(Head, Vec<Cell>)>);

impl Table {
    /// The cells of these rows.
    pub fn new<'a, R>(rows: &[R], columns: impl IntoIterator<Item = Column<'a, R>>) -> Self {
        let cells = |Column { head, cell }: Column<'a, R>| (head, rows.iter().map(cell).collect());
        Self(columns.into_iter().map(cells).collect())
    }

    /// The widest grid that a terminal has room for, or else the narrowest; and what has no column in it since it is the same
    /// in all rows, each as a part of a sentence: a text, or a number after its heading.
    pub(super) fn shown(&self, unit: ByteUnit) -> (Grid, Vec<String>) {
        let steps = self.0.iter().flat_map(|(head, _)| [head.from, head.until]).filter(|&step| step != STAYS);
        let last = steps.max().unwrap_or_default();
        let mut grids = (0..=last).map(|step| self.at(step, unit));
        grids.find(|(grid, _)| grid.width() <= COLUMNS).unwrap_or_else(|| self.at(last, unit))
    }

    fn at(&self, step: u8, unit: ByteUnit) -> (Grid, Vec<String>) {
        let (mut grid, mut same) = (Grid::default(), Vec::new());
        grid.rows = vec![Vec::new(); self.0.first().map_or(0, |(_, cells)| cells.len())];
        for (head, cells) in self.0.iter().filter(|(head, _)| (head.from..head.until).contains(&step)) {
            let cells: Vec<String> = cells.iter().map(|cell| cell.shown(unit)).collect();
            let first = cells.first().map(String::as_str).unwrap_or_default();
            match head.show {
                Show::Never => continue,
                Show::IfDiffers if cells.iter().all(|cell| cell == first) => {
                    match head.align {
                        Align::Left => same.push(first.to_owned()),
                        Align::Right if ["", "1"].contains(&first) => {}
                        Align::Right => same.push(format!("{} {first}", head.heading.to_lowercase())),
                    }
                    continue;
                }
                Show::Always | Show::IfDiffers => {}
            }
            grid.columns.push((head.heading.clone(), head.align));
            for (row, cell) in grid.rows.iter_mut().zip(cells) {
                row.push(cell);
            }
        }
        (grid, same)
    }

    pub(super) fn grid(&self, unit: ByteUnit) -> Grid {
        self.shown(unit).0
    }

    /// The names of the columns of CSV, then the exact cells of each row.
    pub(super) fn exact(&self) -> impl Iterator<Item = Vec<String>> {
        let columns = || self.0.iter().filter_map(|(head, cells)| Some((head.key?, cells)));
        let rows = self.0.first().map_or(0, |(_, cells)| cells.len());
        let row = move |index: usize| columns().filter_map(|(_, cells)| Some(cells.get(index)?.exact())).collect();
        std::iter::once(columns().map(|(key, _)| key.to_owned()).collect()).chain((0..rows).map(row))
    }
}

/// The grid of these columns.
pub(super) fn grid<'a, R>(rows: &[R], columns: impl IntoIterator<Item = Column<'a, R>>, unit: ByteUnit) -> Grid {
    Table::new(rows, columns).grid(unit)
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
            let (grid, same) = Table::new(&[("a", 1), ("b", 2_000)], columns(width)).shown(ByteUnit::Bytes);
            assert_eq!(same, ["a word", "tp 2"]);
            grid.columns.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(headings(1), ["Name", "Bytes", "Long"]);
        assert_eq!(headings(50), ["Name", "Long"]);
        assert_eq!(headings(70), ["Name", "Short"]);
        assert_eq!(headings(100), ["Name", "Short"]);
        let csv = csv::render(&Table::new(&[("b", 2_000)], columns(1)));
        assert_eq!(
            csv,
            "name,bytes,large
b,2000,true
"
        );
    }
}
