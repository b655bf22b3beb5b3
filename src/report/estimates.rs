//! Estimates: the table first, then what it is of.

use serde::{Serialize, Serializer};

use super::ModelDescription;
use super::column::Table;
use super::document::{Document, EstimateDocument, EstimateRow, largest};
use super::figures;
use super::grid::{Block, Page};
use super::text::COLUMNS;
use super::{Medium, Report, gaps, json, once};
use crate::engine::Engine;
use crate::estimate::Layout;
use crate::model::LayerGroupJson;
use crate::units::{ByteUnit, Bytes, group_thousands};

/// The estimates of models.
#[derive(Debug, Clone, Copy)]
pub struct Estimates<'a>(pub &'a [Document]);

impl Serialize for Estimates<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        EstimateDocument::new(self.0).serialize(serializer)
    }
}

impl Report for Estimates<'_> {
    fn table(&self, unit: ByteUnit) -> Table {
        figures::table(&figures::given(self.0), unit)
    }

    fn largest(&self) -> Bytes {
        largest(self.0)
    }

    fn page(&self, unit: ByteUnit, _: Medium) -> Page {
        let mut blocks = Vec::new();
        let all = figures::figures(self.0);
        if all.iter().any(|figure| figure.row.total_bytes.is_some()) {
            let (grid, same) = figures::table(&all, unit).shown(unit);
            return vec![Block::Grid(grid), Block::folded([same.join(", ")]), Block::folded(basis(self.0))];
        }
        let several = (self.0.len() > 1).then(|| figures::long(&all, unit));
        if let Some(together) = several.filter(|grid| grid.width() <= COLUMNS) {
            blocks.push(Block::Grid(together));
            blocks.extend(figures::capacities(&all, unit));
        } else {
            for document in self.0 {
                let own = figures::figures(std::slice::from_ref(document));
                blocks.push(Block::Title(document.model.name.clone()));
                blocks.extend(figures::bytes(&own, unit));
                blocks.extend(figures::capacities(&own, unit));
            }
        }
        let mut text = Vec::new();
        if let [document] = self.0 {
            blocks.extend(gaps::of(document, unit).into_iter().map(Block::Text));
            text.push(layers_in_words(&document.model));
        }
        text.extend(basis(self.0));
        blocks.push(Block::folded(text));
        blocks
    }

    /// What the article's script prints, to the byte: a block for each format; of each engine, named, where there are
    /// several.
    fn plain(&self, unit: ByteUnit) -> Vec<String> {
        let mut blocks: Vec<Vec<String>> = self.0.iter().flat_map(|document| plain_blocks(document, unit)).collect();
        for block in blocks.iter_mut().skip(1) {
            block.insert(0, String::new());
        }
        blocks.concat()
    }

    fn json_lines(&self) -> String {
        json::lines(&EstimateDocument::new(self.0).into_rows())
    }
}

fn plain_blocks(document: &Document, unit: ByteUnit) -> Vec<Vec<String>> {
    let first = document.estimates.first().map(|row| &row.engine);
    let several = document.estimates.iter().any(|row| Some(&row.engine) != first);
    let heading = |row: &EstimateRow| {
        let format = row.stored().to_string().to_uppercase();
        let engine = if several { format!(", {}", row.engine) } else { String::new() };
        format!("KV-Cache Memory Estimates for {} ({format}{engine}):", document.model.name)
    };
    let block = |of: String| {
        let rows = document.estimates.iter().filter(|row| heading(row) == of).map(|row| plain_line(row, unit));
        [of.clone()].into_iter().chain(rows).collect()
    };
    once(document.estimates.iter().map(heading)).into_iter().map(block).collect()
}

fn plain_line(row: &EstimateRow, unit: ByteUnit) -> String {
    let batch = if row.batch == 1 { String::new() } else { format!(" x {}", group_thousands(row.batch)) };
    let amount = Bytes(row.bytes).in_unit(unit);
    format!("{:>12} tokens{batch} → {amount:>7} {}", group_thousands(row.seq_len), unit.name())
}

/// Whose bytes these are, with which settings, and of which devices: each said once.
fn basis(documents: &[Document]) -> Vec<String> {
    let engines = once(documents.iter().flat_map(|document| &document.estimates).map(|row| &row.engine));
    let mut lines: Vec<String> = engines.into_iter().map(whose).collect();
    let row = documents.iter().flat_map(|document| &document.estimates).find(|row| row.gpus > 1);
    lines.extend(row.map(|row| {
        let replicas = if row.dp > 1 { "; the bytes are one replica's" } else { "" };
        let layout = Layout { tp: row.tp, pp: row.pp, dp: row.dp, dcp: row.dcp.unwrap_or(1) };
        format!("{layout} = {} GPUs{replicas}", row.gpus)
    }));
    lines
}

/// `tensorrt-llm@00043967 (tokens-per-block 64): blocks of its window pools, …`
pub(super) fn whose(engine: &Engine) -> String {
    let given = engine.settings.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ");
    let given = if given.is_empty() { given } else { format!(" ({given})") };
    format!("{engine}{given}: {}", engine.profile.about)
}

/// `12 full + 36 chunked (8,192) layers, 8 KV heads x 128`
pub(super) fn layers_in_words(model: &ModelDescription) -> String {
    let kinds = model.layer_groups.iter().map(|group| {
        let kind = group.mechanism.as_deref().unwrap_or_else(|| group.kind.trim_end_matches("_attention"));
        let bound = group.window.or(group.chunk).map(|tokens| format!(" ({})", group_thousands(tokens)));
        let ratio = group.ratio.map(|ratio| format!(" 1/{ratio}"));
        format!("{} {kind}{}{}", group.layers.count(), bound.unwrap_or_default(), ratio.unwrap_or_default())
    });
    let kinds = kinds.collect::<Vec<_>>().join(" + ");
    let entries = once(model.layer_groups.iter().filter_map(entry_in_words));
    if entries.is_empty() { format!("{kinds} layers") } else { format!("{kinds} layers, {}", entries.join("; ")) }
}

/// `8 KV heads x 128`
fn entry_in_words(group: &LayerGroupJson) -> Option<String> {
    match group {
        LayerGroupJson { formula: Some(_), .. } => {
            Some("width by the article's shortcut, hidden_size / kv_heads".into())
        }
        LayerGroupJson { kv_heads: Some(heads), k_dim: Some(k), v_dim: Some(v), .. } if k != v => {
            Some(format!("{heads} KV heads x ({k} + {v})"))
        }
        LayerGroupJson { kv_heads: Some(heads), k_dim: Some(k), .. } => Some(format!("{heads} KV heads x {k}")),
        LayerGroupJson { kv_lora_rank: Some(rank), qk_rope_head_dim: Some(rope), .. } => {
            Some(format!("latents of {rank} + {rope}"))
        }
        LayerGroupJson { index_head_dim: Some(dim), .. } => Some(format!("index keys of {dim}")),
        LayerGroupJson { head_dim: Some(dim), .. } => Some(format!("vectors of {dim}")),
        _ => None,
    }
}
