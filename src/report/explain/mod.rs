//! Where every byte comes from: each layer group, its formula with the symbols and with the numbers, and the keys behind them.

mod formula;
mod tensors;

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::{DisplayFromStr, serde_as, skip_serializing_none};

use self::formula::Formula;
pub use self::tensors::ExplainedTensors;
use super::column::{Column, Table, grid};
use super::document::notes_of;
use super::estimates::whose;
use super::grid::{Block, Page};
use super::text::{folded, ranges};
use super::{BytesPerTokenValue, Medium, Report, clean, details, gaps, table};
use crate::engine::{Answer, Capacity, Details, Engine, Gap};
use crate::estimate::{GroupEstimate, Layout, Workload, estimate};
use crate::model::{Fact, LayerCache, LayerGroup, Model};
use crate::units::{ByteUnit, Bytes, ElementFormat, Error, KvDtype, KvFormat, Notes, group_thousands};

/// `kvsize.explain/1`: where the bytes of an estimate come from.
#[serde_as]
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
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
    /// Tensor parallel ranks, pipeline stages, replicas, and ranks that share the tokens of a sequence.
    #[serde(flatten)]
    pub layout: Layout,
    /// The live bytes, over all devices of one replica: the sum of the groups'.
    pub bytes: u64,
    /// One more token of one sequence.
    pub bytes_per_token: BytesPerTokenValue,
    /// The layer groups.
    pub layer_groups: Vec<ExplainedGroup>,
    /// The engine.
    #[serde_as(as = "DisplayFromStr")]
    #[schemars(with = "String")]
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
    #[schemars(with = "crate::engine::DetailsByEngine")]
    pub details: Option<Details>,
    /// What the engine makes of the memory given.
    pub capacity: Option<Capacity>,
    /// The tensors of a GGUF file of the file type that was asked about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<ExplainedTensors>,
    /// The numbers, and where each came from.
    pub facts: Vec<ExplainedFact>,
    /// What there is to say of it.
    #[serde(flatten)]
    pub notes: Notes,
}

/// A layer group of an [`Explanation`].
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct ExplainedGroup {
    /// The kind of cache.
    #[schemars(extend("enum" = LayerCache::KINDS))]
    pub kind: &'static str,
    /// The recurrence, of a state.
    #[schemars(extend("enum" = crate::model::Mechanism::NAMES))]
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
#[derive(Debug, Clone, Serialize, JsonSchema)]
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
    let mut notes = notes_of(model, warnings);
    notes.add(&assumptions, &of_answer);
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
        explained_group(group, share, formula.over_ranks(share.layers, on_one.bytes.0, share.bytes.0), &live)
    });
    let facts = model.facts.iter().map(|Fact { key, value, from }| ExplainedFact {
        key: clean(key),
        value: clean(value),
        from: clean(from),
    });
    Ok(Explanation {
        schema: "kvsize.explain/1",
        kvsize: env!("CARGO_PKG_VERSION"),
        model: clean(&model.name),
        seq_len: workload.seq_len.0,
        batch: workload.batch,
        kv_dtype: of_engine.stored.to_string(),
        layout: workload.layout,
        bytes: ideal.bytes.0,
        bytes_per_token: ideal.bytes_per_token.into(),
        layer_groups: groups.collect(),
        engine: engine.clone(),
        engine_bytes: of_engine.bytes.0,
        engine_bytes_per_gpu: of_engine.bytes_per_gpu.0,
        gaps,
        details,
        capacity,
        tensors: Vec::new(),
        facts: facts.collect(),
        notes,
    })
}

fn explained_group(group: &LayerGroup, share: &GroupEstimate, formula: Formula, live: &Workload) -> ExplainedGroup {
    let state = match group.cache {
        LayerCache::Compressed { state_elements, .. } => state_elements.saturating_mul(4),
        _ => 0,
    };
    let layers = u64::try_from(share.layers).unwrap_or(u64::MAX);
    let states = [layers, live.batch, live.layout.tp].into_iter().fold(state, u64::saturating_mul);
    ExplainedGroup {
        kind: share.kind,
        mechanism: match group.cache {
            LayerCache::Recurrent(state) => Some(state.mechanism.name()),
            _ => None,
        },
        layers: ranges(group.layers.iter().copied()),
        layer_count: share.layers,
        entries: share.entries.0,
        formula: formula.symbols,
        numbers: formula.numbers,
        bytes: share.bytes.0,
        fixed_bytes: if group.cache.follows_the_sequence() { states } else { share.bytes.0 },
    }
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

impl Report for Explanation {
    /// The numbers behind it.
    fn table(&self, _: ByteUnit) -> Table {
        Table::new(&self.facts, fact_columns())
    }

    fn largest(&self) -> Bytes {
        Bytes(self.engine_bytes)
    }

    fn page(&self, _: ByteUnit, _: Medium) -> Page {
        let Explanation { model, seq_len, batch, kv_dtype, bytes, bytes_per_token, engine, engine_bytes, .. } = self;
        let number = |number: u64| group_thousands(number);
        let sequences = if *batch == 1 { "sequence" } else { "sequences" };
        let asked = format!("{} tokens x {} {sequences} in {kv_dtype}", number(*seq_len), number(*batch));
        let all_live = engine.is_ideal() && self.gaps.is_empty();
        let mut answer = if all_live {
            vec![format!("{} B: {asked}", number(*bytes))]
        } else {
            vec![
                format!("{} B in {engine}: {asked}", number(*engine_bytes)),
                format!("{} B live (ideal): what the layers below keep", number(*bytes)),
            ]
        };
        let per_gpu = self.engine_bytes_per_gpu;
        if per_gpu != *engine_bytes {
            answer.push(format!("{} B at most on one of {}", number(per_gpu), self.layout));
        }
        answer.push(format!("{} B for one more token", bytes_per_token.grouped()));
        let mut blocks = vec![Block::Title(model.clone()), Block::folded(answer)];
        for group in &self.layer_groups {
            let mechanism = group.mechanism.map(|mechanism| format!(" ({mechanism})")).unwrap_or_default();
            let mut lines = vec![
                format!("{}{mechanism}: {} B", group.kind, number(group.bytes)),
                format!("  layers {} ({})", group.layers, group.layer_count),
                format!("  = {}", group.formula),
                format!("  = {}", group.numbers),
            ];
            if group.fixed_bytes > 0 {
                lines.push(format!("  of them fixed: {} B", number(group.fixed_bytes)));
            }
            blocks.push(Block::folded(lines));
        }
        let sum = self.layer_groups.iter().map(|group| number(group.bytes)).collect::<Vec<_>>().join(" + ");
        blocks.push(Block::folded([format!("total: {sum} = {} B", number(*bytes))]));
        if !all_live {
            let steps = gaps::steps(*engine_bytes, &self.gaps, ByteUnit::Bytes, &engine.to_string());
            let lines = folded(whose(engine)).into_iter().chain(steps).collect();
            blocks.push(Block::Text(lines));
            blocks.extend(details::blocks(&engine.to_string(), &self.details));
            blocks.extend(details::blocks("capacity", &self.capacity));
        }
        if !self.tensors.is_empty() {
            blocks.push(tensors::table(&self.tensors));
        }
        blocks.extend(fact_tables(self));
        blocks
    }

    /// The page: what is explained is no row.
    fn plain(&self, _: ByteUnit) -> Vec<String> {
        table::render(&self.page(ByteUnit::Bytes, Medium::Terminal)).lines().map(ToOwned::to_owned).collect()
    }
}

/// The key, the value, and, where there is room for it, the place it came from.
fn fact_columns() -> [Column<'static, ExplainedFact>; 3] {
    [
        Column::left("Key", |fact: &ExplainedFact| fact.key.clone()).key("key"),
        Column::right("Value", |fact: &ExplainedFact| fact.value.clone()).key("value"),
        Column::left("From", |fact: &ExplainedFact| fact.from.clone()).until(1).key("from"),
    ]
}

/// The numbers in one table; where that is too wide, one for each place they came from.
fn fact_tables(explanation: &Explanation) -> Vec<Block> {
    let whole = explanation.table(ByteUnit::Bytes).grid(ByteUnit::Bytes);
    if explanation.facts.is_empty() {
        return Vec::new();
    }
    let columns = whole.columns.len();
    if columns == fact_columns().len() {
        return vec![Block::Grid(whole)];
    }
    let mut places: Vec<&str> = explanation.facts.iter().map(|fact| fact.from.as_str()).collect();
    places.sort_unstable();
    places.dedup();
    // Each table has the place above it.
    let of_place = |place: &str| {
        let facts: Vec<_> = explanation.facts.iter().filter(|fact| fact.from == place).cloned().collect();
        let grid = grid(&facts, fact_columns().into_iter().take(columns), ByteUnit::Bytes);
        [Block::folded([format!("{place}:")]), Block::Grid(grid)]
    };
    places.into_iter().flat_map(of_place).collect()
}
