//! Where every byte comes from: each layer group, its formula with the symbols and with the numbers, and the keys behind them.

use serde::Serialize;

use super::grid::{Align, Block, Grid, Page};
use super::{BytesPerTokenValue, Format, clean, json, markdown, page, table};
use crate::estimate::{Estimate, Workload};
use crate::model::{KeyValue, LayerCache, LayerGroup, Model, RecurrentState};
use crate::units::{ElementFormat, KvFormat, fixed_point, group_thousands};

/// `kvsize.explain/1`
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// Name and version of this shape.
    pub schema: &'static str,
    /// Version of kvsize.
    pub kvsize: &'static str,
    /// The model's name.
    pub model: String,
    /// Tokens of each sequence.
    pub seq_len: u64,
    /// Sequences.
    pub batch: u64,
    /// The format of cached elements.
    pub kv_dtype: String,
    /// All bytes: the sum of the groups'.
    pub bytes: u64,
    /// One more token of one sequence.
    pub bytes_per_token: BytesPerTokenValue,
    /// The layer groups.
    pub layer_groups: Vec<ExplainedGroup>,
    /// The numbers, and where each came from.
    pub facts: Vec<ExplainedFact>,
    /// What was taken for granted.
    pub assumptions: Vec<String>,
    /// What may make the answer wrong.
    pub warnings: Vec<String>,
}

/// A layer group of an [`Explanation`].
#[derive(Debug, Serialize)]
pub struct ExplainedGroup {
    /// The kind of cache.
    pub kind: &'static str,
    /// The layers, as ranges.
    pub layers: String,
    /// How many.
    pub layer_count: usize,
    /// Entries each keeps of one sequence.
    pub entries: u64,
    /// The formula, in symbols.
    pub formula: String,
    /// The formula, with the numbers put in.
    pub numbers: String,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of them that do not grow with the sequence.
    pub fixed_bytes: u64,
}

/// A number of an [`Explanation`].
#[derive(Debug, Serialize)]
pub struct ExplainedFact {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Where it came from.
    pub from: String,
}

/// The explanation of an ideal estimate on one device.
pub fn explanation(model: &Model, workload: &Workload, estimate: &Estimate, warnings: &[String]) -> Explanation {
    let groups = model.layer_groups.iter().zip(&estimate.layer_groups).map(|(group, share)| {
        let formula = Formula::of(&group.cache, workload, estimate.stored);
        let state = match group.cache {
            LayerCache::Compressed { state_elements, .. } => state_elements.saturating_mul(4),
            _ => 0,
        };
        let states = state.saturating_mul(count(group)).saturating_mul(workload.batch);
        ExplainedGroup {
            kind: share.kind,
            layers: ranges(&group.layers),
            layer_count: share.layers,
            entries: share.entries.0,
            formula: formula.symbols,
            numbers: format!("{} x {}", share.layers, formula.numbers),
            bytes: share.bytes.0,
            fixed_bytes: if group.cache.follows_the_sequence() { states } else { share.bytes.0 },
        }
    });
    Explanation {
        schema: "kvsize.explain/1",
        kvsize: env!("CARGO_PKG_VERSION"),
        model: clean(&model.name),
        seq_len: workload.seq_len.0,
        batch: workload.batch,
        kv_dtype: estimate.stored.to_string(),
        bytes: estimate.bytes.0,
        bytes_per_token: estimate.bytes_per_token.into(),
        layer_groups: groups.collect(),
        facts: model
            .facts
            .iter()
            .map(|fact| ExplainedFact { key: clean(&fact.key), value: clean(&fact.value), from: clean(&fact.from) })
            .collect(),
        assumptions: model.assumptions.iter().map(ToString::to_string).collect(),
        warnings: warnings.to_vec(),
    }
}

/// An explanation in `format`; formats made for rows of estimates are not for it and give the table.
pub fn explain(explanation: &Explanation, format: Format) -> String {
    match format {
        Format::Json => json::pretty(explanation),
        Format::Jsonl => json::lines(std::slice::from_ref(explanation)),
        Format::Markdown => markdown::render(&explained_page(explanation)),
        Format::Table | Format::Plain | Format::Csv => table::render(&explained_page(explanation)),
    }
}

fn explained_page(explanation: &Explanation) -> Page {
    let Explanation { model, seq_len, batch, kv_dtype, bytes, bytes_per_token, .. } = explanation;
    let number = |number: u64| group_thousands(number);
    let mut blocks = vec![
        Block::Title(model.clone()),
        Block::Text(vec![
            format!("{} B: {} tokens x {} sequences in {kv_dtype}", number(*bytes), number(*seq_len), number(*batch)),
            format!("{} B for one more token", slope(*bytes_per_token)),
        ]),
    ];
    for group in &explanation.layer_groups {
        let mut lines = vec![format!("{}: {} B", group.kind, number(group.bytes))];
        lines.extend(page::wrapped(&format!("  layers {} ({})", group.layers, group.layer_count), page::COLUMNS));
        lines.extend(page::wrapped(&format!("  = layers x {}", group.formula), page::COLUMNS));
        lines.extend(page::wrapped(&format!("  = {}", group.numbers), page::COLUMNS));
        if group.fixed_bytes > 0 {
            lines.push(format!("  of them fixed: {} B", number(group.fixed_bytes)));
        }
        blocks.push(Block::Text(lines));
    }
    let sum = explanation.layer_groups.iter().map(|group| number(group.bytes)).collect::<Vec<_>>().join(" + ");
    blocks.push(Block::Text(page::wrapped(&format!("total: {sum} = {} B", number(*bytes)), page::COLUMNS)));
    if !explanation.facts.is_empty() {
        let rows = explanation.facts.iter().map(|fact| vec![fact.key.clone(), fact.value.clone(), fact.from.clone()]);
        let column = |name: &str, align| (name.to_owned(), align);
        let columns = vec![column("Key", Align::Left), column("Value", Align::Right), column("From", Align::Left)];
        blocks.push(Block::Grid(Grid { columns, rows: rows.collect() }));
    }
    Page { blocks }
}

/// What one layer takes, in symbols and in numbers.
struct Formula {
    symbols: String,
    numbers: String,
}

impl Formula {
    fn of(cache: &LayerCache, workload: &Workload, format: KvFormat) -> Self {
        let (seq_len, batch) = (workload.seq_len.0, workload.batch);
        let (symbols, numbers) = match *cache {
            LayerCache::FullAttention { .. } | LayerCache::Latent { .. } => ("S".to_owned(), seq_len.to_string()),
            LayerCache::SlidingWindow { window, .. } => {
                ("min(S, window)".into(), format!("min({seq_len}, {})", window.0))
            }
            LayerCache::ChunkedLocal { chunk, .. } => ("min(S, chunk)".into(), format!("min({seq_len}, {})", chunk.0)),
            LayerCache::Indexer { ratio: 1, .. } => ("S".into(), seq_len.to_string()),
            LayerCache::Indexer { ratio, .. } | LayerCache::Compressed { ratio, .. } => {
                ("ceil(S / ratio)".into(), format!("ceil({seq_len} / {ratio})"))
            }
            LayerCache::CrossAttention { encoder_tokens, .. } => {
                let tokens = workload.encoder_len.or(encoder_tokens).map_or(0, |tokens| tokens.0);
                ("encoder tokens".into(), tokens.to_string())
            }
            LayerCache::Recurrent(state) => return Self::of_state(state, batch),
            LayerCache::Shared | LayerCache::None => return Self { symbols: "0".into(), numbers: "0".into() },
        };
        let entry = Self::of_entry(cache, format);
        let mut formula = Self {
            symbols: format!("{symbols} x batch x {}", entry.symbols),
            numbers: format!("{numbers} x {batch} x {}", entry.numbers),
        };
        if let LayerCache::Compressed { state_elements, .. } = cache {
            formula.symbols = format!("({} + batch x state x 32/8)", formula.symbols);
            formula.numbers = format!("({} + {batch} x {state_elements} x 32/8)", formula.numbers);
        }
        formula
    }

    fn of_entry(cache: &LayerCache, format: KvFormat) -> Self {
        let (k, v) = (bits(format.k), bits(format.v));
        let text = |symbols: &str, numbers: String| Self { symbols: symbols.into(), numbers };
        match (cache, cache.key_value()) {
            (LayerCache::Latent { kv_lora_rank, qk_rope_head_dim }, _) => text(
                "(kv_lora_rank + qk_rope_head_dim) x bits/8",
                format!("({kv_lora_rank} + {qk_rope_head_dim}) x {k}/8"),
            ),
            (LayerCache::Indexer { index_head_dim, .. }, _) => {
                text("index_head_dim x bits/8", format!("{index_head_dim} x {k}/8"))
            }
            (_, Some(KeyValue::Vector { elements })) => text("head_dim x bits/8", format!("{elements} x {k}/8")),
            (_, Some(KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim })) if k == v => text(
                "kv_heads x (k_dim + v_dim) x bits/8",
                format!("{num_key_value_heads} x ({head_dim} + {v_head_dim}) x {k}/8"),
            ),
            (_, Some(KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim })) => text(
                "kv_heads x (k_dim x k_bits + v_dim x v_bits)/8",
                format!("{num_key_value_heads} x ({head_dim} x {k} + {v_head_dim} x {v})/8"),
            ),
            (_, Some(KeyValue::ArticleShortcut { hidden_size, num_key_value_heads })) => text(
                "(hidden_size / kv_heads) x (k_bits + v_bits)/8",
                format!("({hidden_size} / {num_key_value_heads}) x ({k} + {v})/8"),
            ),
            (_, None) => text("0", "0".into()),
        }
    }

    fn of_state(state: RecurrentState, batch: u64) -> Self {
        let mut symbols = Vec::new();
        let mut numbers = Vec::new();
        if let Some(convolution) = state.convolution {
            let grouped = match convolution.groups {
                0 => String::new(),
                groups => format!(" + {groups} x {}", convolution.channels_per_group),
            };
            symbols.push("channels x (kernel - 1) x bits/8".to_owned());
            let channels = convolution.channels;
            numbers.push(format!(
                "({channels}{grouped}) x ({} - 1) x {}/8",
                convolution.kernel,
                bits(convolution.format)
            ));
        }
        if let Some(memory) = state.memory {
            symbols.push("heads x state x state_bits/8".to_owned());
            numbers.push(format!("{} x {} x {}/8", memory.heads, memory.elements_per_head, bits(memory.format)));
        }
        let symbols = format!("batch x ({}), {}", symbols.join(" + "), state.mechanism.name());
        Self { symbols, numbers: format!("{batch} x ({})", numbers.join(" + ")) }
    }
}

/// Bits of an element, as short as they can be written.
fn bits(format: ElementFormat) -> String {
    let text = fixed_point(u128::from(format.bits_per_block()), u128::from(format.elements_per_block()), 4);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn slope(value: BytesPerTokenValue) -> String {
    match value {
        BytesPerTokenValue::Whole(whole) => group_thousands(whole),
        decimal @ BytesPerTokenValue::Decimal(_) => decimal.to_string(),
    }
}

fn count(group: &LayerGroup) -> u64 {
    u64::try_from(group.layers.len()).unwrap_or(u64::MAX)
}

/// `0-2, 4, 6-8`
fn ranges(layers: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &layer in layers {
        match runs.last_mut() {
            Some((_, last)) if last.saturating_add(1) == layer => *last = layer,
            _ => runs.push((layer, layer)),
        }
    }
    let text = |(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_layers_are_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 4, 6, 7]), "0-2, 4, 6-7");
        assert_eq!(ranges(&[]), "");
    }
}
