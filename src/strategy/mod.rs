//! The levers of the article's "making it fit", each with what it takes: data and pure functions.
//!
//! Every row is an [`estimate`] of the ideal, with a format, a layout or [`Levers`] of its own. How many GPUs a row takes is
//! counted by plain memory, ⌈(cache + weights) / usable⌉, as if bytes could be divided anyhow; a row with a layout takes the
//! GPUs of that layout, if each can hold its share of the cache and an even share of the weights.

pub mod article;
mod floors;
mod levers;

pub use floors::{Floors, Speed, floors};
pub use levers::{Levers, Streaming};

use crate::estimate::{Estimate, Layout, Workload, estimate};
use crate::model::{LayerCache, Model};
use crate::units::{Bytes, ElementFormat, Error, Exact, KvDtype, Passages, Tokens};

/// What weights and cache may take of a GPU's memory: nine tenths, as in the article's table, which was vLLM's default then
/// (`gpu_memory_utilization`); the rest is the engine's own.
///
/// ```
/// use kvsize::units::Bytes;
/// assert_eq!(kvsize::strategy::usable(Bytes(81_559 << 20)), Bytes(76_968_728_985));
/// ```
pub fn usable(memory: Bytes) -> Bytes {
    (Exact::from(memory) * 9u64 / 10u64).bytes().unwrap_or_default()
}

/// What is to be made to fit.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The model.
    pub model: &'a Model,
    /// The baseline: length, batch, 16-bit format.
    pub workload: Workload,
    /// The sinks and the window to try.
    pub streaming: Streaming,
    /// The passages to try in place of the whole text.
    pub retrieval: Passages,
    /// The tokens at the start that the requests of a batch share; half of them without it.
    pub shared_prefix: Option<Tokens>,
    /// Bytes of each GPU that weights and cache may take.
    pub usable: Bytes,
    /// GPUs of a node.
    pub per_node: u64,
    /// What the weights take, where that is known.
    pub weights: Option<Bytes>,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strategy {
    /// A stable word.
    pub kind: &'static str,
    /// The name to print.
    pub name: String,
    /// What is asked.
    pub workload: Workload,
    /// What is done beside.
    pub levers: Levers,
    /// What it costs in quality or time, in one short line.
    pub cost: &'static str,
    /// What it takes, or why this model can't use it.
    pub outcome: Result<Outcome, String>,
}

impl Strategy {
    /// With a note, if it has an outcome.
    fn with_note(mut self, note: impl Into<String>) -> Self {
        if let Ok(outcome) = &mut self.outcome {
            outcome.note = Some(note.into());
        }
        self
    }
}

/// What a row takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The cache, over all GPUs or wherever it is.
    pub bytes: Bytes,
    /// The most that one GPU holds.
    pub bytes_per_gpu: Bytes,
    /// GPUs it takes.
    pub gpus: u64,
    /// Whether a layout's GPUs can hold it; none where bytes are divided anyhow.
    pub fits: Option<bool>,
    /// Bytes that each decoded token moves from the host.
    pub moved: Option<Bytes>,
    /// What there is to say of the layout.
    pub note: Option<String>,
}

/// ⌈a / b⌉, at least 1.
pub(crate) fn ceiling(a: u64, b: u64) -> u64 {
    a.div_ceil(b.max(1)).max(1)
}

/// The rows, the baseline first.
///
/// # Errors
/// [`Error`] when the baseline has no estimate.
pub fn strategies(question: &Question) -> Result<Vec<Strategy>, Error> {
    let baseline = estimate(question.model, &question.workload)?;
    let layouts = Layouts::of(question, baseline.bytes);
    let mut rows = vec![question.row("baseline", format!("baseline, {}", baseline.stored), Ok(question.workload))];
    rows.extend(question.formats(baseline.bytes));
    rows.extend([question.windows(), question.stream()]);
    rows.extend(layouts.rows(question));
    rows.extend([question.prefix(), question.offload(), question.retrieve()]);
    rows.extend(question.combinations(&layouts, baseline.bytes));
    Ok(rows)
}

/// The formats that are tried: a stable word, the name, the format.
const FORMATS: [(&str, &str, ElementFormat); 3] = [
    ("fp8", "FP8", ElementFormat::FP8),
    ("4_bit", "4-bit", ElementFormat::bitwidth(4)),
    ("2_bit", "2-bit", ElementFormat::bitwidth(2)),
];

/// What a kind of row costs in quality or time, in one short line.
fn cost(kind: &str) -> &'static str {
    let mut lines = include_str!("costs.txt").lines();
    lines.find_map(|line| line.strip_prefix(kind)?.strip_prefix(": ")).unwrap_or_default()
}

impl Question<'_> {
    /// A row of what is asked, or of why this model can't use it.
    fn row(&self, kind: &'static str, name: impl Into<String>, asked: Result<Workload, String>) -> Strategy {
        self.levered(Levers::default(), kind, name, asked)
    }

    /// The same with levers.
    fn levered(
        &self,
        levers: Levers,
        kind: &'static str,
        name: impl Into<String>,
        asked: Result<Workload, String>,
    ) -> Strategy {
        let workload = *asked.as_ref().unwrap_or(&self.workload);
        let outcome = asked.and_then(|workload| self.outcome(&workload, &levers));
        Strategy { kind, name: name.into(), workload, levers, cost: cost(kind), outcome }
    }

    /// The workload over a layout.
    fn over(&self, layout: Layout) -> Workload {
        Workload { layout, ..self.workload }
    }

    fn outcome(&self, workload: &Workload, levers: &Levers) -> Result<Outcome, String> {
        let model = levers.applied(self.model, workload.seq_len).map_err(reason)?;
        let Estimate { bytes, bytes_per_gpu, .. } = estimate(&model, workload).map_err(reason)?;
        let weights = self.weights.unwrap_or_default();
        let laid_out = workload.layout != Layout::default();
        let (gpus, fits) = if laid_out {
            let gpus = workload.layout.gpus().map_err(reason)?;
            let share = bytes_per_gpu.checked_add(Bytes(weights.0.div_ceil(gpus.max(1))));
            (gpus, Some(share.is_some_and(|share| share <= self.usable)))
        } else {
            (self.by_memory(bytes)?, None)
        };
        Ok(Outcome { bytes, bytes_per_gpu, gpus, fits, moved: None, note: None })
    }

    /// The fewest GPUs that hold `cache` and the weights, if bytes could be divided anyhow.
    fn by_memory(&self, cache: Bytes) -> Result<u64, String> {
        let all = cache.checked_add(self.weights.unwrap_or_default()).ok_or("cache and weights pass 2^64 - 1 bytes")?;
        Ok(ceiling(all.0, self.usable.0))
    }

    fn formats(&self, baseline: Bytes) -> impl Iterator<Item = Strategy> {
        FORMATS.into_iter().map(move |(kind, name, format)| {
            let workload = Workload { kv_dtype: format.into(), ..self.workload };
            let mut row = self.row(kind, name, Ok(workload));
            if row.outcome.as_ref().is_ok_and(|outcome| outcome.bytes == baseline) {
                row.outcome = Err("nothing is stored in the cache's format: states keep their own".into());
            }
            row
        })
    }

    fn windows(&self) -> Strategy {
        let (kind, name) = ("windows_kept", "windows kept whole");
        let bounded = self.model.layer_groups.iter().any(|group| group.cache.bound().is_some());
        let asked = bounded.then_some(self.workload).ok_or_else(|| "no layer has a window or a chunk".to_owned());
        self.levered(Levers { windows_kept: true, ..Levers::default() }, kind, name, asked)
    }

    fn stream(&self) -> Strategy {
        let Streaming { sinks, window } = self.streaming;
        let name = format!("StreamingLLM {sinks} + {window}");
        let levers = Levers { streaming: Some(self.streaming), ..Levers::default() };
        let within = || format!("{} tokens are within the sinks and the window", self.workload.seq_len);
        let is_past = self.streaming.bound().is_ok_and(|bound| self.workload.seq_len > bound);
        let asked = is_past.then_some(self.workload).ok_or_else(within);
        self.levered(levers, "streaming", name, asked)
    }

    fn prefix(&self) -> Strategy {
        let Workload { seq_len, batch, .. } = self.workload;
        if batch <= 1 {
            let reason = "one request shares with none: -b 2 or more".into();
            return self.row("shared_prefix", "shared prefix", Err(reason));
        }
        let prefix = self.shared_prefix.unwrap_or(Tokens(seq_len.0.div_ceil(2)));
        let workload = Workload { shared_prefix: Some(prefix), ..self.workload };
        self.row("shared_prefix", format!("shared prefix of {prefix}"), Ok(workload))
    }

    /// The cache is on the host; a GPU has one layer's at a time, which is what a pipeline with a stage for each layer holds.
    fn offload(&self) -> Strategy {
        let workload = self.over(Layout { pp: u64::from(self.model.num_hidden_layers), ..Layout::default() });
        let mut row = self.row("offload", "offload to host memory", Ok(workload));
        row.outcome = row.outcome.and_then(|outcome| {
            let gpus = self.by_memory(outcome.bytes_per_gpu)?;
            Ok(Outcome { gpus, fits: None, moved: Some(outcome.bytes), ..outcome })
        });
        row
    }

    fn retrieve(&self) -> Strategy {
        let passages = self.retrieval;
        let name = format!("retrieval, {passages}");
        let whole = self.workload.seq_len;
        let Some(seq_len) = passages.tokens().filter(|&tokens| tokens < whole) else {
            let reason = format!("the text has {whole} tokens, no more than the passages");
            return self.row("retrieval", name, Err(reason));
        };
        let levers = Levers { retrieval: Some(passages), ..Levers::default() };
        let row = self.levered(levers, "retrieval", name, Ok(Workload { seq_len, ..self.workload }));
        row.with_note(format!("{seq_len} tokens in place of {whole}; question and answer on top"))
    }

    /// Formats, each with the fewest GPUs whose layout holds it: tensor parallel ranks that hold no copies, and pipeline stages.
    fn combinations(&self, layouts: &Layouts, baseline: Bytes) -> Vec<Strategy> {
        let mut rows = vec![self.laid_out("baseline_laid_out", "16-bit", self.workload.kv_dtype, layouts)];
        for (kind, (_, name, format)) in ["fp8_laid_out", "4_bit_laid_out"].into_iter().zip(FORMATS) {
            let row = self.laid_out(kind, name, format.into(), layouts);
            // A format that saves nothing is told once, above.
            if row.outcome.as_ref().is_ok_and(|outcome| outcome.bytes != baseline) {
                rows.push(row);
            }
        }
        rows
    }

    fn laid_out(&self, kind: &'static str, name: &str, kv_dtype: KvDtype, layouts: &Layouts) -> Strategy {
        let asked = |tp, pp| Workload { layout: Layout { tp, pp, ..Layout::default() }, kv_dtype, ..self.workload };
        let fits = |tp: u64, pp: u64| {
            let outcome = self.outcome(&asked(tp, pp), &Levers::default());
            // One GPU is no layout: then it fits if plain memory says one.
            outcome.is_ok_and(|outcome| outcome.fits.unwrap_or(outcome.gpus == 1))
        };
        let stages = u64::from(self.model.num_hidden_layers);
        let smallest = |tp: u64| (1..=stages).find(|&pp| fits(tp, pp)).map(|pp| (tp.saturating_mul(pp), tp, pp));
        let fewest = layouts.even.iter().rev().filter_map(|&tp| smallest(tp)).min_by_key(|&(gpus, ..)| gpus);
        let Some((_, tp, pp)) = fewest else {
            let reason = "does not fit even with a stage for each layer on ranks of one node";
            return self.row(kind, format!("{name}, laid out"), Err(reason.into()));
        };
        if tp == 1 && pp == 1 {
            let row = self.row(kind, format!("{name}, one GPU"), Ok(asked(tp, pp)));
            return Strategy { cost: "what its format costs and no more; it fits", ..row };
        }
        self.row(kind, format!("{name}, tp {tp} x pp {pp}"), Ok(asked(tp, pp)))
    }
}

/// An error without its remedy.
fn reason(error: Error) -> String {
    format!("{} {} {}", error.field, error.found.unwrap_or_default(), error.problem).trim_end().to_owned()
}

/// Whether a layer keeps vectors that all heads read, which no rank can have a part of.
fn has_latents(model: &Model) -> bool {
    let vector = |cache: &LayerCache| cache.key_value().is_some_and(|entry| entry.num_key_value_heads().is_none());
    model.layer_groups.iter().any(|group| vector(&group.cache))
}

/// How far a model can be divided.
struct Layouts {
    /// The ranks of a node.
    ranks: u64,
    /// Tensor parallel ranks of a node that hold no copies, fewest first.
    even: Vec<u64>,
    /// Ranks that do hold copies, and what all of them hold.
    copied: Option<(u64, Bytes)>,
}

/// A node, where GPUs are given one by one.
const USUAL_NODE: u64 = 8;

/// More ranks than any node has, and more than any model has KV heads.
const MOST_RANKS: u64 = 128;

impl Layouts {
    fn of(question: &Question, baseline: Bytes) -> Self {
        let ranks = if question.per_node > 1 { question.per_node } else { USUAL_NODE };
        let ranks = ranks.min(MOST_RANKS);
        let taken = |tp: u64| {
            let workload = question.over(Layout { tp, ..Layout::default() });
            estimate(question.model, &workload).ok().map(|estimate| estimate.bytes)
        };
        let even: Vec<u64> = (1..=ranks).filter(|&tp| taken(tp) == Some(baseline)).collect();
        let most = even.last().copied().unwrap_or(1);
        let mut doubled = std::iter::successors(Some(most), |tp| tp.checked_mul(2)).take_while(|&tp| tp <= MOST_RANKS);
        let copies = |tp: u64| Some((tp, taken(tp).filter(|&bytes| bytes > baseline)?));
        let with_copies = if most == 1 { copies(ranks) } else { doubled.find_map(copies) };
        Self { ranks, even, copied: with_copies }
    }

    fn most(&self) -> u64 {
        self.even.last().copied().unwrap_or(1)
    }

    fn rows(&self, question: &Question) -> [Strategy; 4] {
        [self.tensor(question), self.past_heads(question), self.pipeline(question), self.context(question)]
    }

    fn tensor(&self, question: &Question) -> Strategy {
        let tp = self.most();
        if tp == 1 {
            let reason = if has_latents(question.model) {
                "a latent is whole on every rank: more ranks hold copies"
            } else {
                "its KV heads or states do not divide over ranks of a node"
            };
            return question.row("tensor_parallel", "tensor parallel", Err(reason.into()));
        }
        let workload = question.over(Layout { tp, ..Layout::default() });
        question.row("tensor_parallel", format!("tensor parallel, tp {tp}"), Ok(workload))
    }

    fn past_heads(&self, question: &Question) -> Strategy {
        let Some((tp, _)) = self.copied else {
            let reason = "no more ranks divide its heads or states".into();
            return question.row("tensor_parallel_copies", "past the KV heads", Err(reason));
        };
        let heads =
            question.model.layer_groups.iter().filter_map(|group| group.cache.key_value()?.num_key_value_heads()).min();
        let (name, note) = match heads {
            Some(heads) => (
                format!("past the KV heads, tp {tp}"),
                format!("KV heads: {heads}, which do not divide past tp {heads}"),
            ),
            None if has_latents(question.model) => {
                (format!("latents on tp {tp}"), "a latent is whole on every rank".to_owned())
            }
            None => (format!("copies on tp {tp}"), "what the ranks share is copied".to_owned()),
        };
        let workload = question.over(Layout { tp, ..Layout::default() });
        question.row("tensor_parallel_copies", name, Ok(workload)).with_note(note)
    }

    fn pipeline(&self, question: &Question) -> Strategy {
        let layers = question.model.num_hidden_layers;
        let pp = self.ranks.min(u64::from(layers));
        if pp <= 1 {
            return question.row("pipeline_parallel", "pipeline parallel", Err("it has one layer".into()));
        }
        let layout = Layout { pp, ..Layout::default() };
        let name = format!("pipeline parallel, pp {pp}");
        let row = question.row("pipeline_parallel", name, Ok(question.over(layout)));
        let Ok(stages) = layout.stages(layers) else { return row };
        let sizes = || stages.iter().map(ExactSizeIterator::len);
        let (least, most) = (sizes().min().unwrap_or_default(), sizes().max().unwrap_or_default());
        if least == most {
            return row.with_note(format!("stages of {most} layers"));
        }
        let of_size = |wanted: usize| sizes().filter(|&size| size == wanted).count();
        let (full, rest) = (of_size(most), of_size(least));
        row.with_note(format!("uneven stages: {full} of {most} layers, {rest} of {least}"))
    }

    fn context(&self, question: &Question) -> Strategy {
        let (kind, name) = ("decode_context_parallel", "decode context parallel");
        let Some((tp, copies)) = self.copied else {
            return question.row(kind, name, Err("there are no copies to spare".into()));
        };
        let asked = |dcp| question.over(Layout { tp, dcp, ..Layout::default() });
        let saves = |dcp: &u64| {
            let outcome = question.outcome(&asked(*dcp), &Levers::default());
            outcome.is_ok_and(|outcome| outcome.bytes < copies)
        };
        match (2..=tp).rev().find(saves) {
            Some(dcp) => question.row(kind, format!("decode context, dcp {dcp}"), Ok(asked(dcp))),
            None => question.row(kind, name, Err("no layer that keeps every token is copied evenly".into())),
        }
    }
}

#[cfg(test)]
mod tests;
