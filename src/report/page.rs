//! What people see of an answer: the table first, then what it is of.

use super::document::{BytesPerTokenValue, Document, EstimateRow, GroupDescription, ModelDescription};
use super::grid::{Align, Block, Grid, Page};
use crate::engine::Details;
use crate::units::{ByteUnit, Bytes, KvFormat, fixed_point, group_thousands};

/// The width of a terminal that tables are made for.
pub(super) const COLUMNS: usize = 80;

/// What people see of estimates: the table, and what it is of.
pub(super) fn estimates(documents: &[Document], unit: ByteUnit) -> Page {
    let [document] = documents else { return several(documents, unit) };
    let wide = wide_grid(document, unit);
    let grid = if wide.width() > COLUMNS { long_grid(documents, unit) } else { wide };
    let mut text = wrapped(&layers_in_words(&document.model), COLUMNS);
    text.extend(document.estimates.first().into_iter().flat_map(basis));
    Page { blocks: vec![Block::Title(document.model.name.clone()), Block::Grid(grid), Block::Text(text)] }
}

/// Several models in one table, in their order.
fn several(documents: &[Document], unit: ByteUnit) -> Page {
    let grid = long_grid(documents, unit);
    let first = documents.first().and_then(|document| document.estimates.first());
    Page { blocks: vec![Block::Grid(grid), Block::Text(first.into_iter().flat_map(basis).collect())] }
}

/// Whose bytes these are, and of which devices.
fn basis(row: &EstimateRow) -> Vec<String> {
    let engine = match &row.details {
        None => "live bytes (ideal): no blocks, no padding, no reserve".to_owned(),
        Some(Details::LlamaCpp(facts) | Details::Ollama(facts)) => {
            format!("{}: {} cells over all sequences, allocated at once", row.engine, group_thousands(facts.n_ctx))
        }
        Some(Details::Transformers(facts)) => format!("transformers {}, {} cache", facts.version, facts.cache),
    };
    if row.gpus == 1 {
        return vec![engine];
    }
    let replicas = if row.dp > 1 { "; the bytes are one replica's" } else { "" };
    vec![engine, format!("tp {} x pp {} x dp {} = {} GPUs{replicas}", row.tp, row.pp, row.dp, row.gpus)]
}

/// A row a length and batch, a column a format.
fn wide_grid(document: &Document, unit: ByteUnit) -> Grid {
    let formats = document.formats();
    let (batched, spread) = (is_batched(document), is_spread(document));
    let mut grid = Grid::default();
    let mut column = |name: String| grid.columns.push((name, Align::Right));
    column("Tokens".into());
    if batched {
        column("Batch".into());
    }
    for name in &formats {
        column(format!("{name} {}", unit.name()));
        if spread {
            column(format!("{name} {}/GPU", unit.name()));
        }
    }
    // Estimates come a length, a batch, a format at a time.
    for of_batch in document.estimates.chunks(formats.len().max(1)) {
        let Some(first) = of_batch.first() else { continue };
        let mut cells = vec![group_thousands(first.seq_len)];
        if batched {
            cells.push(group_thousands(first.batch));
        }
        for row in of_batch {
            cells.push(Bytes(row.bytes).in_unit(unit));
            if spread {
                cells.push(Bytes(row.bytes_per_gpu).in_unit(unit));
            }
        }
        grid.rows.push(cells);
    }
    grid
}

/// A row an estimate: all models at one length, then at the next.
fn long_grid(documents: &[Document], unit: ByteUnit) -> Grid {
    let (batched, spread) = (documents.iter().any(is_batched), documents.iter().any(is_spread));
    let named = documents.len() > 1;
    let mut columns = vec![("Tokens".into(), Align::Right)];
    let mut rows: Vec<(u64, u64, Vec<String>)> = Vec::new();
    if batched {
        columns.push(("Batch".into(), Align::Right));
    }
    if named {
        columns.push(("Model".into(), Align::Left));
    }
    columns.push(("Format".into(), Align::Left));
    columns.push((unit.name().into(), Align::Right));
    if spread {
        columns.push((format!("{}/GPU", unit.name()), Align::Right));
    }
    for document in documents {
        for row in &document.estimates {
            let mut cells = vec![group_thousands(row.seq_len)];
            if batched {
                cells.push(group_thousands(row.batch));
            }
            if named {
                cells.push(document.model.name.clone());
            }
            cells.push(row.stored().to_string());
            cells.push(Bytes(row.bytes).in_unit(unit));
            if spread {
                cells.push(Bytes(row.bytes_per_gpu).in_unit(unit));
            }
            rows.push((row.seq_len, row.batch, cells));
        }
    }
    if named {
        rows.sort_by_key(|(seq_len, batch, _)| (*seq_len, *batch));
    }
    Grid { columns, rows: rows.into_iter().map(|(.., cells)| cells).collect() }
}

fn is_batched(document: &Document) -> bool {
    document.estimates.iter().any(|row| row.batch != 1)
}

fn is_spread(document: &Document) -> bool {
    document.estimates.iter().any(|row| row.bytes_per_gpu != row.bytes)
}

/// `text` in lines of at most `columns` characters, broken at spaces; its indent is kept.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let indent = text.len().saturating_sub(text.trim_start().len());
    let mut lines: Vec<String> = Vec::new();
    for word in text.trim_start().split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count().saturating_add(word.chars().count()) < columns => {
                line.push(' ');
                line.push_str(word);
            }
            // What goes on stands two further in than what it goes on from.
            Some(_) => lines.push(format!("{:1$}{word}", "", indent.saturating_add(2))),
            None => lines.push(format!("{:indent$}{word}", "")),
        }
    }
    lines
}

/// `12 full + 36 chunked (8,192) layers, 8 KV heads x 128`
fn layers_in_words(model: &ModelDescription) -> String {
    let kinds = model.layer_groups.iter().map(|group| {
        let kind = group.mechanism.unwrap_or_else(|| group.kind.trim_end_matches("_attention"));
        let bound = group.window.or(group.chunk).map(|tokens| format!(" ({})", group_thousands(tokens)));
        let ratio = group.ratio.map(|ratio| format!(" 1/{ratio}"));
        format!("{} {kind}{}{}", group.layers, bound.unwrap_or_default(), ratio.unwrap_or_default())
    });
    let kinds = kinds.collect::<Vec<_>>().join(" + ");
    let mut entries: Vec<String> = Vec::new();
    for entry in model.layer_groups.iter().filter_map(entry_in_words) {
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    if entries.is_empty() { format!("{kinds} layers") } else { format!("{kinds} layers, {}", entries.join("; ")) }
}

/// `8 KV heads x 128`
fn entry_in_words(group: &GroupDescription) -> Option<String> {
    match group {
        GroupDescription { formula: Some(_), .. } => {
            Some("width by the article's shortcut, hidden_size / kv_heads".into())
        }
        GroupDescription { kv_heads: Some(heads), k_dim: Some(k), v_dim: Some(v), .. } if k != v => {
            Some(format!("{heads} KV heads x ({k} + {v})"))
        }
        GroupDescription { kv_heads: Some(heads), k_dim: Some(k), .. } => Some(format!("{heads} KV heads x {k}")),
        GroupDescription { kv_lora_rank: Some(rank), qk_rope_head_dim: Some(rope), .. } => {
            Some(format!("latents of {rank} + {rope}"))
        }
        GroupDescription { index_head_dim: Some(dim), .. } => Some(format!("index keys of {dim}")),
        GroupDescription { head_dim: Some(dim), .. } => Some(format!("vectors of {dim}")),
        _ => None,
    }
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
    lengths.sort_unstable();
    lengths.dedup();
    for seq_len in lengths {
        let cells = columns.iter().map(|(document, format)| {
            let row = document.estimates.iter().find(|row| row.seq_len == seq_len && row.stored() == *format);
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
        rows: [("article", article), ("real, if every layer kept all", whole), ("real, windows honoured", real)]
            .into_iter()
            .filter_map(|(name, document)| rule(name, document))
            .collect(),
    };
    let described = [("article", article), ("real", real)].into_iter();
    let described = described
        .flat_map(|(name, document)| wrapped(&format!("{name}: {}", layers_in_words(&document.model)), COLUMNS));
    Page {
        blocks: vec![
            Block::Title(format!("{} and {}", article.model.name, real.model.name)),
            Block::Grid(grid),
            Block::Grid(rule_of_thumb),
            Block::Text(described.collect()),
        ],
    }
}

/// A row of the rule of thumb: the slope of the first format at the longest length.
fn rule(name: &str, document: &Document) -> Option<Vec<String>> {
    let row = document.longest()?;
    let BytesPerTokenValue::Whole(slope) = row.bytes_per_token else { return None };
    let tokens = fixed_point(1_000_000_000, u128::from(slope), 0);
    Some(vec![name.into(), group_thousands(slope), group_thousands(tokens.parse().ok()?)])
}
