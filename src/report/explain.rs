//! Where every byte comes from: each layer group, its formula with the symbols and with the numbers, and the keys behind them.

use std::fmt;

use serde::Serialize;

use super::estimates::whose;
use super::grid::{Align, Block, Grid, Page};
use super::text::{COLUMNS, wrapped};
use super::{BytesPerTokenValue, Format, clean, details, gaps, json, markdown, table};
use crate::engine::{Answer, Capacity, Details, Engine, Gap};
use crate::estimate::{Batch, Layout, Workload, estimate, shared};
use crate::model::{KeyValue, LayerCache, LayerGroup, Model, RecurrentState};
use crate::units::{ByteUnit, ElementFormat, Error, KvDtype, KvFormat, fixed_point, group_thousands};

/// `kvsize.explain/1`: where the bytes of an estimate come from.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Explanation {
    /// Name and version of this shape.
    #[cfg_attr(feature = "cli", schemars(extend("const" = "kvsize.explain/1")))]
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
    /// Tensor parallel ranks, pipeline stages, replicas, and ranks that share the tokens of a sequence.
    #[serde(flatten)]
    pub layout: ExplainedLayout,
    /// The live bytes, over all devices of one replica: the sum of the groups'.
    pub bytes: u64,
    /// One more token of one sequence.
    pub bytes_per_token: BytesPerTokenValue,
    /// The layer groups.
    pub layer_groups: Vec<ExplainedGroup>,
    /// The engine.
    #[serde(serialize_with = "super::document::as_text")]
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub engine: Engine,
    /// What the engine takes.
    pub engine_bytes: u64,
    /// The most of it that any one device holds.
    pub engine_bytes_per_gpu: u64,
    /// The steps from the live bytes to the engine's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// The engine's own figures, under its name.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", schemars(with = "crate::engine::DetailsByEngine"))]
    pub details: Option<Details>,
    /// What the engine makes of the memory given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// The numbers, and where each came from.
    pub facts: Vec<ExplainedFact>,
    /// What was taken for granted.
    pub assumptions: Vec<String>,
    /// What may make the answer wrong.
    pub warnings: Vec<String>,
}

/// The layout of an [`Explanation`].
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct ExplainedLayout {
    /// Tensor parallel ranks.
    pub tp: u64,
    /// Pipeline stages.
    pub pp: u64,
    /// Replicas.
    pub dp: u64,
    /// Ranks that each keep a part of a sequence's tokens.
    pub dcp: u64,
}

/// A layer group of an [`Explanation`].
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct ExplainedGroup {
    /// The kind of cache.
    #[cfg_attr(feature = "cli", schemars(extend("enum" = LayerCache::KINDS)))]
    pub kind: &'static str,
    /// The recurrence, of a state.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", schemars(extend("enum" = crate::model::Mechanism::names())))]
    pub mechanism: Option<&'static str>,
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
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct ExplainedFact {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Where it came from.
    pub from: String,
}

/// The explanation of an engine's answer, which starts from the live bytes in the format that the engine stores.
///
/// # Errors
/// [`Error`] where there are no live bytes to start from.
pub fn explanation(
    model: &Model,
    workload: &Workload,
    engine: &Engine,
    answer: Answer,
    warnings: &[String],
) -> Result<Explanation, Error> {
    let Answer { estimate: of_engine, details, capacity, mut gaps, assumptions, warnings: of_answer } = answer;
    let Layout { tp, pp, dp, dcp } = workload.layout;
    let live = Workload { kv_dtype: KvDtype::Given(unpacked(of_engine.stored)), ..*workload };
    let ideal = estimate(model, &live)?;
    let on_one = estimate(model, &Workload { layout: Layout::default(), ..live })?;
    if of_engine.stored != ideal.stored {
        // How an engine packs a latent is a step of its own, unless it is among the engine's steps.
        let led_to = gaps.iter().fold(i128::from(ideal.bytes.0), |sum, gap| sum.saturating_add(gap.bytes));
        let left = i128::from(of_engine.bytes.0).saturating_sub(led_to);
        let reason = format!("{} has a layout of its own", of_engine.stored);
        gaps.extend(Some(Gap { kind: "packed_format", bytes: left, reason }).filter(|gap| gap.bytes != 0));
    }
    let shares = ideal.layer_groups.iter().zip(&on_one.layer_groups);
    let groups = model.layer_groups.iter().zip(shares).map(|(group, (share, on_one))| {
        let formula = Formula::of(&group.cache, &live, ideal.stored);
        let formula = formula.over_ranks(share.layers, on_one.bytes.0, share.bytes.0);
        let state = match group.cache {
            LayerCache::Compressed { state_elements, .. } => state_elements.saturating_mul(4),
            _ => 0,
        };
        let states = [count(group), workload.batch, tp].into_iter().fold(state, u64::saturating_mul);
        ExplainedGroup {
            kind: share.kind,
            mechanism: match group.cache {
                LayerCache::Recurrent(state) => Some(state.mechanism.name()),
                _ => None,
            },
            layers: ranges(&group.layers),
            layer_count: share.layers,
            entries: share.entries.0,
            formula: formula.symbols,
            numbers: formula.numbers,
            bytes: share.bytes.0,
            fixed_bytes: if group.cache.follows_the_sequence() { states } else { share.bytes.0 },
        }
    });
    Ok(Explanation {
        schema: "kvsize.explain/1",
        kvsize: env!("CARGO_PKG_VERSION"),
        model: clean(&model.name),
        seq_len: workload.seq_len.0,
        batch: workload.batch,
        kv_dtype: of_engine.stored.to_string(),
        layout: ExplainedLayout { tp, pp, dp, dcp },
        bytes: ideal.bytes.0,
        bytes_per_token: ideal.bytes_per_token.into(),
        layer_groups: groups.collect(),
        engine: engine.clone(),
        engine_bytes: of_engine.bytes.0,
        engine_bytes_per_gpu: of_engine.bytes_per_gpu.0,
        gaps,
        details,
        capacity,
        facts: model
            .facts
            .iter()
            .map(|fact| ExplainedFact { key: clean(&fact.key), value: clean(&fact.value), from: clean(&fact.from) })
            .collect(),
        assumptions: model.assumptions.iter().map(ToString::to_string).chain(assumptions).collect(),
        warnings: warnings.iter().cloned().chain(of_answer).collect(),
    })
}

/// The format, or the plain width of one that only an engine's own rules can count.
fn unpacked(format: KvFormat) -> KvFormat {
    let plain = |format: ElementFormat| match format.is_packed() {
        true if format.bits_per_block() == 8 => ElementFormat::FP8,
        true => ElementFormat::bitwidth(format.bits_per_block()),
        false => format,
    };
    if format.k.is_packed() || format.v.is_packed() { KvFormat::new(plain(format.k), plain(format.v)) } else { format }
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
    let Explanation { model, seq_len, batch, kv_dtype, bytes, bytes_per_token, engine, engine_bytes, .. } = explanation;
    let number = |number: u64| group_thousands(number);
    let sequences = if *batch == 1 { "sequence" } else { "sequences" };
    let asked = format!("{} tokens x {} {sequences} in {kv_dtype}", number(*seq_len), number(*batch));
    let all_live = engine.is_ideal() && explanation.gaps.is_empty();
    let mut answer = if all_live {
        vec![format!("{} B: {asked}", number(*bytes))]
    } else {
        vec![
            format!("{} B in {engine}: {asked}", number(*engine_bytes)),
            format!("{} B live (ideal): what the layers below keep", number(*bytes)),
        ]
    };
    let per_gpu = explanation.engine_bytes_per_gpu;
    if per_gpu != *engine_bytes {
        answer.push(format!("{} B at most on one of {}", number(per_gpu), explanation.layout));
    }
    answer.push(format!("{} B for one more token", slope(*bytes_per_token)));
    let answer = answer.iter().flat_map(|line| wrapped(line, COLUMNS)).collect();
    let mut blocks = vec![Block::Title(model.clone()), Block::Text(answer)];
    for group in &explanation.layer_groups {
        let mechanism = group.mechanism.map(|mechanism| format!(" ({mechanism})")).unwrap_or_default();
        let mut lines = vec![format!("{}{mechanism}: {} B", group.kind, number(group.bytes))];
        lines.extend(wrapped(&format!("  layers {} ({})", group.layers, group.layer_count), COLUMNS));
        lines.extend(wrapped(&format!("  = {}", group.formula), COLUMNS));
        lines.extend(wrapped(&format!("  = {}", group.numbers), COLUMNS));
        if group.fixed_bytes > 0 {
            lines.push(format!("  of them fixed: {} B", number(group.fixed_bytes)));
        }
        blocks.push(Block::Text(lines));
    }
    let sum = explanation.layer_groups.iter().map(|group| number(group.bytes)).collect::<Vec<_>>().join(" + ");
    blocks.push(Block::Text(wrapped(&format!("total: {sum} = {} B", number(*bytes)), COLUMNS)));
    if !all_live {
        let steps = gaps::steps(*engine_bytes, &explanation.gaps, ByteUnit::Bytes, &engine.to_string());
        let lines = wrapped(&whose(engine), COLUMNS).into_iter().chain(steps).collect();
        blocks.push(Block::Text(lines));
        blocks.extend(details::blocks(&engine.to_string(), &explanation.details));
        blocks.extend(details::blocks("capacity", &explanation.capacity));
    }
    blocks.extend(fact_tables(&explanation.facts));
    Page { blocks }
}

/// The numbers in one table; where that is too wide, one for each place they came from.
fn fact_tables(facts: &[ExplainedFact]) -> Vec<Block> {
    let column = |name: &str, align| (name.to_owned(), align);
    let named = |fact: &ExplainedFact| vec![fact.key.clone(), fact.value.clone()];
    let columns = vec![column("Key", Align::Left), column("Value", Align::Right)];
    let whole = Grid {
        columns: columns.iter().cloned().chain([column("From", Align::Left)]).collect(),
        rows: facts.iter().map(|fact| [named(fact), vec![fact.from.clone()]].concat()).collect(),
    };
    if facts.is_empty() {
        return Vec::new();
    }
    if whole.width() <= COLUMNS {
        return vec![Block::Grid(whole)];
    }
    let mut places: Vec<&str> = facts.iter().map(|fact| fact.from.as_str()).collect();
    places.sort_unstable();
    places.dedup();
    let table = |place: &str| {
        let rows = facts.iter().filter(|fact| fact.from == place).map(named).collect();
        let columns = columns.clone();
        [Block::Text(wrapped(&format!("{place}:"), COLUMNS)), Block::Grid(Grid { columns, rows })]
    };
    places.into_iter().flat_map(table).collect()
}

impl fmt::Display for ExplainedLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tp, pp, dp, dcp } = self;
        let dcp = if *dcp > 1 { format!(" (dcp {dcp})") } else { String::new() };
        write!(f, "tp {tp}{dcp} x pp {pp} x dp {dp}")
    }
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
        let (symbols, numbers) = match shared(cache, workload) {
            // Where nothing is in common the prefix changes nothing to be told.
            Some(Batch { common, own }) if common > 0 => {
                ("(in common + batch x own)".to_owned(), format!("({common} + {batch} x {own})"))
            }
            _ => (format!("{symbols} x batch"), format!("{numbers} x {batch}")),
        };
        let entry = Self::of_entry(cache, format);
        let mut formula = Self {
            symbols: format!("{symbols} x {}", entry.symbols),
            numbers: format!("{numbers} x {}", entry.numbers),
        };
        if let LayerCache::Compressed { state_elements, .. } = cache {
            formula.symbols = format!("({} + batch x state x 32/8)", formula.symbols);
            formula.numbers = format!("({} + {batch} x {state_elements} x 32/8)", formula.numbers);
        }
        formula
    }

    /// Over all ranks of the layout: what is held more than once, by ranks that outnumber heads or keep a vector whole.
    fn over_ranks(self, layers: usize, on_one: u64, on_all: u64) -> Self {
        let Self { symbols, numbers } = self;
        let (symbols, numbers) = (format!("layers x {symbols}"), format!("{layers} x {numbers}"));
        let copies = on_all.checked_div(on_one).filter(|&copies| copies.checked_mul(on_one) == Some(on_all));
        match copies {
            _ if on_all == on_one => Self { symbols, numbers },
            Some(copies) => {
                Self { symbols: format!("{symbols} x copies on ranks"), numbers: format!("{numbers} x {copies}") }
            }
            None => Self {
                symbols: format!("{symbols} + what ranks hold twice or round up"),
                numbers: format!("{numbers} + {}", on_all.saturating_sub(on_one)),
            },
        }
    }

    fn of_entry(cache: &LayerCache, format: KvFormat) -> Self {
        let KvFormat { k, v, .. } = format;
        let text = |symbols: String, numbers: String| Self { symbols, numbers };
        // A format with bits for each vector, its scale, has them beside the elements.
        let vector = |symbol: &str, number: &str, format: ElementFormat, name: &str| match format.bits_per_vector() {
            0 => (format!("{symbol} x {name}/8"), format!("{number} x {}/8", bits(format))),
            scale => (format!("({symbol} x {name} + scale)/8"), format!("({number} x {} + {scale})/8", bits(format))),
        };
        let one = |symbol: &str, number: String| {
            let (symbols, numbers) = vector(symbol, &number, k, "bits");
            text(symbols, numbers)
        };
        match (cache, cache.key_value()) {
            (LayerCache::Latent { kv_lora_rank, qk_rope_head_dim }, _) => {
                one("(kv_lora_rank + qk_rope_head_dim)", format!("({kv_lora_rank} + {qk_rope_head_dim})"))
            }
            (LayerCache::Indexer { index_head_dim, .. }, _) => one("index_head_dim", index_head_dim.to_string()),
            (_, Some(KeyValue::Vector { elements })) => one("head_dim", elements.to_string()),
            (_, Some(KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim }))
                if bits(k) == bits(v) && (k.bits_per_vector(), v.bits_per_vector()) == (0, 0) =>
            {
                text(
                    "kv_heads x (k_dim + v_dim) x bits/8".into(),
                    format!("{num_key_value_heads} x ({head_dim} + {v_head_dim}) x {}/8", bits(k)),
                )
            }
            (_, Some(KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim })) => {
                let (k_symbols, k_numbers) = vector("k_dim", &head_dim.to_string(), k, "k_bits");
                let (v_symbols, v_numbers) = vector("v_dim", &v_head_dim.to_string(), v, "v_bits");
                text(
                    format!("kv_heads x ({k_symbols} + {v_symbols})"),
                    format!("{num_key_value_heads} x ({k_numbers} + {v_numbers})"),
                )
            }
            (_, Some(KeyValue::ArticleShortcut { hidden_size, num_key_value_heads })) => text(
                "(hidden_size / kv_heads) x (k_bits + v_bits)/8".into(),
                format!("({hidden_size} / {num_key_value_heads}) x ({} + {})/8", bits(k), bits(v)),
            ),
            (_, None) => text("0".into(), "0".into()),
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
        let symbols = format!("batch x ({})", symbols.join(" + "));
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
