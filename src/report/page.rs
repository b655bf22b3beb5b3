//! What people see of an answer: the table first, then what it is of.

use super::FitDocument;
use super::ModelDescription;
use super::document::{BytesPerTokenValue, Document};
use super::grid::{Align, Block, Grid, Page};
use super::text::{COLUMNS, wrapped};
use super::{figures, gaps};
use crate::engine::Engine;
use crate::model::LayerGroupJson;
use crate::strategy::article;
use crate::units::{ByteUnit, Bytes, KvFormat, fixed_point, group_thousands};

/// What people see of estimates: the bytes, what fits, why an engine's are not the live ones, and what they are of.
pub(super) fn estimates(documents: &[Document], unit: ByteUnit) -> Page {
    let mut blocks = Vec::new();
    let all = figures::figures(documents);
    let several = (documents.len() > 1).then(|| figures::long(&all, unit));
    if let Some(together) = several.filter(|grid| grid.width() <= COLUMNS) {
        blocks.push(Block::Grid(together));
        blocks.extend(figures::capacities(&all, unit));
    } else {
        for document in documents {
            let own = figures::figures(std::slice::from_ref(document));
            blocks.push(Block::Title(document.model.name.clone()));
            blocks.extend(figures::bytes(&own, unit));
            blocks.extend(figures::capacities(&own, unit));
        }
    }
    let mut text = Vec::new();
    if let [document] = documents {
        blocks.extend(gaps::of(document, unit).into_iter().map(Block::Text));
        text.extend(wrapped(&layers_in_words(&document.model), COLUMNS));
    }
    text.extend(basis(documents));
    blocks.push(Block::Text(text));
    Page { blocks }
}

/// Whose bytes these are, with which settings, and of which devices: each said once.
fn basis(documents: &[Document]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut engines: Vec<&Engine> = Vec::new();
    for row in documents.iter().flat_map(|document| &document.estimates) {
        if !engines.contains(&&row.engine) {
            engines.push(&row.engine);
            lines.push(whose(&row.engine));
        }
    }
    let row = documents.iter().flat_map(|document| &document.estimates).find(|row| row.gpus > 1);
    lines.extend(row.map(|row| {
        let replicas = if row.dp > 1 { "; the bytes are one replica's" } else { "" };
        let dcp = row.dcp.map_or_else(String::new, |dcp| format!(" (dcp {dcp})"));
        format!("tp {}{dcp} x pp {} x dp {} = {} GPUs{replicas}", row.tp, row.pp, row.dp, row.gpus)
    }));
    lines.iter().flat_map(|line| wrapped(line, COLUMNS)).collect()
}

/// `tensorrt-llm@00043967 (tokens-per-block 64): blocks of its window pools, …`
pub(super) fn whose(engine: &Engine) -> String {
    let given = engine.settings.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ");
    let given = if given.is_empty() { given } else { format!(" ({given})") };
    format!("{engine}{given}: {}", engine.profile.about)
}

/// `12 full + 36 chunked (8,192) layers, 8 KV heads x 128`
fn layers_in_words(model: &ModelDescription) -> String {
    let kinds = model.layer_groups.iter().map(|group| {
        let kind = group.mechanism.as_deref().unwrap_or_else(|| group.kind.trim_end_matches("_attention"));
        let bound = group.window.or(group.chunk).map(|tokens| format!(" ({})", group_thousands(tokens)));
        let ratio = group.ratio.map(|ratio| format!(" 1/{ratio}"));
        format!("{} {kind}{}{}", group.layers.count(), bound.unwrap_or_default(), ratio.unwrap_or_default())
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

/// The article's numbers beside the real ones: `article` and `real` have the same lengths, `whole` is the real model
/// with every layer keeping every token.
pub(super) fn article(
    article: &Document,
    real: &Document,
    whole: &Document,
    hardware: &[(String, FitDocument); 4],
    unit: ByteUnit,
) -> Page {
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
        ]
        .into_iter()
        .chain(article_hardware(hardware))
        .collect(),
    }
}

/// The article's table of hardware, its rule, and the same with real figures.
fn article_hardware(hardware: &[(String, FitDocument); 4]) -> Vec<Block> {
    let right = |name: &str| (name.to_owned(), Align::Right);
    let left = |name: &str| (name.to_owned(), Align::Left);
    let tokens = |of: &(String, FitDocument), index: usize| {
        of.1.configurations.get(index).and_then(|row| row.tokens).unwrap_or_default()
    };
    let [by_rule, ..] = hardware;
    let said = article::HARDWARE.iter().enumerate().map(|(index, row)| {
        let fitting = tokens(by_rule, index);
        vec![
            format!("{}x{}", row.gpus, row.device),
            group_thousands(row.marketed_gb),
            group_thousands(row.tokens),
            row.dollars_per_hour.to_string(),
            group_thousands(fitting),
            group_thousands(article::rounded(fitting)),
        ]
    });
    let real = article::HARDWARE.iter().enumerate().map(|(index, row)| {
        let cells = hardware.iter().skip(1).map(|of| group_thousands(tokens(of, index)));
        [format!("{}x{}", row.gpus, row.device)].into_iter().chain(cells).collect()
    });
    let said = Grid {
        columns: vec![
            left("GPUs"),
            right("GB sold"),
            right("article"),
            right("US$/h"),
            right("by its rule"),
            right("rounded"),
        ],
        rows: said.collect(),
    };
    let real = Grid {
        columns: vec![
            left("Tokens with 218 GB"),
            right("article's bytes"),
            right("real, all kept"),
            right("real, chunked"),
        ],
        rows: real.collect(),
    };
    let rule = "its rule: (0.9 x GB sold - 34 GB of weights) / bytes of a token in 16 bits, to half a million and no more \
                than ten; the dollars are of April 2025. All 109 billion parameters take 218 GB. Each column again:";
    let commands = hardware.iter().map(|(command, _)| format!("  $ {command}"));
    vec![
        Block::Grid(said),
        Block::Grid(real),
        Block::Text(wrapped(rule, COLUMNS).into_iter().chain(commands).collect()),
    ]
}

/// A row of the rule of thumb: the slope of the first format at the longest length.
fn rule(name: &str, document: &Document) -> Option<Vec<String>> {
    let row = document.longest()?;
    let BytesPerTokenValue::Whole(slope) = row.bytes_per_token else { return None };
    let tokens = fixed_point(1_000_000_000, u128::from(slope), 0);
    Some(vec![name.into(), group_thousands(slope), group_thousands(tokens.parse().ok()?)])
}
