//! The article's lines: what its script prints, to the byte.

use super::document::{Document, EstimateRow};
use crate::units::{ByteUnit, Bytes, group_thousands};

/// A block for each format; of each engine, named, where there are several.
pub(super) fn render(documents: &[Document], unit: ByteUnit) -> String {
    documents.iter().flat_map(|document| blocks(document, unit)).collect::<Vec<_>>().join("\n")
}

fn blocks(document: &Document, unit: ByteUnit) -> Vec<String> {
    let first = document.estimates.first().map(|row| &row.engine);
    let several = document.estimates.iter().any(|row| Some(&row.engine) != first);
    let mut blocks: Vec<(String, String)> = Vec::new();
    for row in &document.estimates {
        let format = row.stored().to_string().to_uppercase();
        let engine = if several { format!(", {}", row.engine) } else { String::new() };
        let heading = format!("KV-Cache Memory Estimates for {} ({format}{engine}):\n", document.model.name);
        match blocks.iter_mut().find(|(known, _)| *known == heading) {
            Some((_, lines)) => lines.push_str(&line(row, unit)),
            None => blocks.push((heading, line(row, unit))),
        }
    }
    blocks.into_iter().map(|(heading, lines)| heading + &lines).collect()
}

fn line(row: &EstimateRow, unit: ByteUnit) -> String {
    let batch = if row.batch == 1 { String::new() } else { format!(" x {}", group_thousands(row.batch)) };
    let amount = Bytes(row.bytes).in_unit(unit);
    format!("{:>12} tokens{batch} → {amount:>7} {}\n", group_thousands(row.seq_len), unit.name())
}
