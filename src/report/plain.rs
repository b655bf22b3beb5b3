//! The article's lines: what its script prints, to the byte.

use super::document::{Document, EstimateRow};
use crate::units::{ByteUnit, Bytes, group_thousands};

pub(super) fn render(documents: &[Document], unit: ByteUnit) -> String {
    let blocks = documents.iter().flat_map(|document| {
        document.formats().into_iter().map(move |format| {
            let heading = format!(
                "KV-Cache Memory Estimates for {} ({}):\n",
                document.model.name,
                format.to_string().to_uppercase()
            );
            let rows = document.estimates.iter().filter(|row| row.stored() == format);
            [heading].into_iter().chain(rows.map(|row| line(row, unit))).collect::<String>()
        })
    });
    blocks.collect::<Vec<_>>().join("\n")
}

fn line(row: &EstimateRow, unit: ByteUnit) -> String {
    let batch = if row.batch == 1 { String::new() } else { format!(" x {}", group_thousands(row.batch)) };
    let amount = Bytes(row.bytes).in_unit(unit);
    format!("{:>12} tokens{batch} → {amount:>7} {}\n", group_thousands(row.seq_len), unit.name())
}
