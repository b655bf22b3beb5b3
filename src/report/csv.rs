//! Comma-separated values after RFC 4180, with line feeds.

use super::document::{Document, EstimateRow};
use super::grid::Grid;
use crate::engine::Capacity;
use crate::units::{ByteUnit, Bytes};

const COLUMNS: [&str; 22] = [
    "model",
    "seq_len",
    "batch",
    "kv_dtype",
    "k_dtype",
    "v_dtype",
    "engine",
    "tp",
    "pp",
    "dp",
    "dcp",
    "gpus",
    "bytes",
    "bytes_per_gpu",
    "bytes_per_token",
    "memory",
    "fits",
    "holds_batch",
    "blocks",
    "pool_tokens",
    "max_concurrency",
    "max_seq_len",
];

/// A row an estimate: exact integers, and the bytes once more in `unit`. The columns are always the same; what an engine
/// makes of memory is empty where there is none.
pub(super) fn estimates(documents: &[Document], unit: ByteUnit) -> String {
    let rows = documents
        .iter()
        .flat_map(|document| document.estimates.iter().map(|row| estimate(&document.model.name, row, unit)));
    [header(unit)].into_iter().chain(rows).collect()
}

/// The names of the columns.
pub(super) fn header(unit: ByteUnit) -> String {
    record(COLUMNS.iter().copied().chain([unit.name()]))
}

/// The row of an estimate.
pub(super) fn estimate(model: &str, row: &EstimateRow, unit: ByteUnit) -> String {
    let capacity = |figure: fn(&Capacity) -> Option<String>| row.capacity.as_ref().and_then(figure).unwrap_or_default();
    let cells = [
        model.to_owned(),
        row.seq_len.to_string(),
        row.batch.to_string(),
        row.kv_dtype.to_string(),
        row.stored().k.to_string(),
        row.stored().v.to_string(),
        row.engine.to_string(),
        row.tp.to_string(),
        row.pp.to_string(),
        row.dp.to_string(),
        row.dcp.unwrap_or(1).to_string(),
        row.gpus.to_string(),
        row.bytes.to_string(),
        row.bytes_per_gpu.to_string(),
        row.bytes_per_token.to_string(),
        capacity(|capacity| Some(capacity.memory.to_string())),
        capacity(|capacity| Some(capacity.fits.to_string())),
        capacity(|capacity| Some(capacity.holds_batch?.to_string())),
        capacity(|capacity| capacity.blocks.map(|blocks| blocks.to_string())),
        capacity(|capacity| capacity.tokens.map(|tokens| tokens.to_string())),
        capacity(|capacity| capacity.max_concurrency.map(|requests| requests.value().to_string())),
        capacity(|capacity| Some(capacity.max_seq_len.to_string())),
        match unit {
            ByteUnit::Bytes => row.bytes.to_string(),
            unit => Bytes(row.bytes).in_unit(unit),
        },
    ];
    record(cells.iter().map(String::as_str))
}

/// A grid as it is.
pub(super) fn grid(grid: &Grid) -> String {
    let header = record(grid.columns.iter().map(|(name, _)| name.as_str()));
    let rows = grid.rows.iter().map(|row| record(row.iter().map(String::as_str)));
    [header].into_iter().chain(rows).collect()
}

fn record<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    cells.map(quote).collect::<Vec<_>>().join(",") + "\n"
}

fn quote(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_when_they_must_be() {
        assert_eq!(
            record(["a", "1,000", "say \"x\"", "two\nlines"].into_iter()),
            "a,\"1,000\",\"say \"\"x\"\"\",\"two\nlines\"\n"
        );
    }
}
