//! Comma-separated values after RFC 4180, with line feeds.

use super::column::Table;

/// Every figure of the rows, exact.
pub(super) fn render(table: &Table) -> String {
    table.exact().map(|cells| record(&cells)).collect()
}

/// One line.
pub(super) fn record(cells: &[String]) -> String {
    cells.iter().map(|cell| quote(cell)).collect::<Vec<_>>().join(",") + "\n"
}

fn quote(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_when_they_must_be() {
        let cells = ["a", "1,000", "say \"x\"", "two\nlines"].map(String::from);
        assert_eq!(record(&cells), "a,\"1,000\",\"say \"\"x\"\"\",\"two\nlines\"\n");
    }
}
