//! What people see of an answer: the table first, then what it is of.

use super::document::{BytesPerTokenValue, Document, ModelDescription};
use super::grid::{Align, Block, Grid, Page};
use crate::units::{ByteUnit, Bytes, KvFormat, fixed_point, group_thousands};

/// More value columns than this, and each estimate gets a row of its own: the table stays within 80 columns.
const MAX_VALUE_COLUMNS: usize = 4;

/// What people see of a model's estimates: its name, the table, and what the table is of.
pub(super) fn estimates(document: &Document, unit: ByteUnit) -> Page {
    let formats = document.formats();
    let batched = document.estimates.iter().any(|row| row.batch != 1);
    let spread = document.estimates.iter().any(|row| row.bytes_per_gpu != row.bytes);
    let figures: usize = if spread { 2 } else { 1 };
    let grid = if formats.len().saturating_mul(figures) > MAX_VALUE_COLUMNS {
        long_grid(document, unit, batched, spread)
    } else {
        wide_grid(document, &formats, unit, batched, spread)
    };
    let mut text = vec![layers_in_words(&document.model)];
    if let Some(row) = document.estimates.first() {
        text.push(match row.gpus {
            1 => "live bytes (ideal): no blocks, no padding, no reserve".into(),
            gpus => format!("live bytes (ideal); tp {} x pp {} x dp {} = {gpus} GPUs", row.tp, row.pp, row.dp),
        });
    }
    Page { blocks: vec![Block::Title(document.model.name.clone()), Block::Grid(grid), Block::Text(text)] }
}

/// A row a length and batch, a column a format.
fn wide_grid(document: &Document, formats: &[KvFormat], unit: ByteUnit, batched: bool, spread: bool) -> Grid {
    let mut grid = Grid::default();
    let mut column = |name: String| grid.columns.push((name, Align::Right));
    column("Tokens".into());
    if batched {
        column("Batch".into());
    }
    for name in formats {
        column(format!("{name} {}", unit.name()));
        if spread {
            column(format!("{name} {}/GPU", unit.name()));
        }
    }
    let mut keys: Vec<(u64, u64)> = Vec::new();
    for row in &document.estimates {
        if !keys.contains(&(row.seq_len, row.batch)) {
            keys.push((row.seq_len, row.batch));
        }
    }
    for key in keys {
        let mut cells = vec![group_thousands(key.0)];
        if batched {
            cells.push(group_thousands(key.1));
        }
        for format in formats {
            let row = document.estimates.iter().find(|row| (row.seq_len, row.batch) == key && row.kv_dtype == *format);
            let cell = |bytes: Option<u64>| bytes.map(|bytes| Bytes(bytes).in_unit(unit)).unwrap_or_default();
            cells.push(cell(row.map(|row| row.bytes)));
            if spread {
                cells.push(cell(row.map(|row| row.bytes_per_gpu)));
            }
        }
        grid.rows.push(cells);
    }
    grid
}

/// A row an estimate.
fn long_grid(document: &Document, unit: ByteUnit, batched: bool, spread: bool) -> Grid {
    let mut columns = vec![("Tokens".into(), Align::Right)];
    if batched {
        columns.push(("Batch".into(), Align::Right));
    }
    columns.push(("Format".into(), Align::Left));
    columns.push((unit.name().into(), Align::Right));
    if spread {
        columns.push((format!("{}/GPU", unit.name()), Align::Right));
    }
    let rows = document.estimates.iter().map(|row| {
        let mut cells = vec![group_thousands(row.seq_len)];
        if batched {
            cells.push(group_thousands(row.batch));
        }
        cells.push(row.kv_dtype.to_string());
        cells.push(Bytes(row.bytes).in_unit(unit));
        if spread {
            cells.push(Bytes(row.bytes_per_gpu).in_unit(unit));
        }
        cells
    });
    Grid { rows: rows.collect(), columns }
}

/// `12 full + 36 chunked (8,192) layers, 8 KV heads x 128`
fn layers_in_words(model: &ModelDescription) -> String {
    let kinds = model.layer_groups.iter().map(|group| {
        let bound = group.window.or(group.chunk).map(|tokens| format!(" ({})", group_thousands(tokens)));
        let kind = group.kind.trim_end_matches("_attention");
        format!("{} {kind}{}", group.layers, bound.unwrap_or_default())
    });
    let kinds = kinds.collect::<Vec<_>>().join(" + ");
    let Some(group) = model.layer_groups.first() else { return kinds };
    let entry = match (group.formula, group.k_dim, group.v_dim) {
        (Some(_), ..) => "width by the article's shortcut, hidden_size / kv_heads".into(),
        (None, Some(k), Some(v)) if k != v => format!("{} KV heads x ({k} + {v})", group.kv_heads),
        (None, Some(k), _) => format!("{} KV heads x {k}", group.kv_heads),
        (None, None, _) => format!("{} KV heads", group.kv_heads),
    };
    format!("{kinds} layers, {entry}")
}

/// The article's numbers beside the real ones: `article` and `real` have the same lengths, `whole` is the real model
/// with every layer keeping every token.
pub(super) fn article(article: &Document, real: &Document, whole: &Document, unit: ByteUnit) -> Page {
    let sides = [("article", article), ("real", real)];
    let mut grid = Grid { columns: vec![("Tokens".into(), Align::Right)], rows: Vec::new() };
    let columns: Vec<(&Document, KvFormat)> = sides
        .iter()
        .flat_map(|(_, document)| document.formats().into_iter().map(|format| (*document, format)))
        .collect();
    for (side, document) in sides {
        let names = document.formats().into_iter();
        grid.columns.extend(names.map(|format| (format!("{side} {format} {}", unit.name()), Align::Right)));
    }
    let mut lengths: Vec<u64> = article.estimates.iter().map(|row| row.seq_len).collect();
    lengths.dedup();
    lengths.sort_unstable();
    lengths.dedup();
    for seq_len in lengths {
        let cells = columns.iter().map(|(document, format)| {
            let row = document.estimates.iter().find(|row| row.seq_len == seq_len && row.kv_dtype == *format);
            row.map(|row| Bytes(row.bytes).in_unit(unit)).unwrap_or_default()
        });
        grid.rows.push([group_thousands(seq_len)].into_iter().chain(cells).collect());
    }
    let rule_of_thumb = Grid {
        columns: vec![
            ("Rule of thumb, 16-bit".into(), Align::Left),
            ("B/token".into(), Align::Right),
            ("tokens per GB".into(), Align::Right),
        ],
        rows: [
            ("article: hidden_size / kv_heads, all 48 layers", article),
            ("real: 8 KV heads x 128, if every layer kept all", whole),
            ("real: 12 layers keep all, 36 at most 8,192", real),
        ]
        .into_iter()
        .filter_map(|(name, document)| rule(name, document))
        .collect(),
    };
    let text = |line: &str| line.to_owned();
    Page {
        blocks: vec![
            Block::Title(format!("{} and {}", article.model.name, real.model.name)),
            Block::Grid(grid),
            Block::Grid(rule_of_thumb),
            Block::Text(vec![
                text("The article takes hidden_size / kv_heads = 5120 / 8 = 640 for kv_heads x head_dim;"),
                text("the real model has 8 x 128 = 1024, and only 12 of its 48 layers keep every token."),
            ]),
        ],
    }
}

/// A row of the rule of thumb: the slope of the first format at the longest length.
fn rule(name: &str, document: &Document) -> Option<Vec<String>> {
    let format = document.estimates.first()?.kv_dtype;
    let row = document.estimates.iter().filter(|row| row.kv_dtype == format).max_by_key(|row| row.seq_len)?;
    let BytesPerTokenValue::Whole(slope) = row.bytes_per_token else { return None };
    let tokens = fixed_point(1_000_000_000, u128::from(slope), 0);
    Some(vec![name.into(), group_thousands(slope), group_thousands(tokens.parse().ok()?)])
}
