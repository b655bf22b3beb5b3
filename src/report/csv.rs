//! Comma-separated values after RFC 4180, with line feeds.

use super::Report;
use super::column::Column;
use crate::units::ByteUnit;

/// Every figure of the rows, exact.
pub(super) fn render(report: &impl Report, unit: ByteUnit) -> String {
    let columns = report.columns(unit);
    [header(&columns)].into_iter().chain(report.rows().iter().map(|row| line(&columns, row))).collect()
}

/// The names of the columns.
pub(super) fn header<R>(columns: &[Column<'_, R>]) -> String {
    record(columns.iter().filter_map(Column::name).map(quote))
}

/// The figures of a row.
pub(super) fn line<R>(columns: &[Column<'_, R>], row: &R) -> String {
    let columns = columns.iter().filter(|column| column.name().is_some());
    record(columns.map(|column| quote(&column.exact(row))))
}

fn record(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(",") + "\n"
}

fn quote(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_when_they_must_be() {
        let cells = ["a", "1,000", "say \"x\"", "two\nlines"];
        assert_eq!(record(cells.into_iter().map(quote)), "a,\"1,000\",\"say \"\"x\"\"\",\"two\nlines\"\n");
    }
}
