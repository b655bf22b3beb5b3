//! What the memory of a vLLM server holds in addition to weights and cache.
//!
//! It runs one step of `max_num_batched_tokens` tokens (T) and `max_num_seqs` requests (R) before it sizes its pool, and
//! takes the most that the step had allocated. Its tensors are counted one by one (0.19.0; 0.33.0 has the same ones):
//!
//! - The **sampler** (`v1/worker/gpu_model_runner.py` `_dummy_sampler_run`, `v1/sample/sampler.py`, `ops/topk_topp_*.py`): R × vocabulary
//!   logits in the model's format and, in 4 bytes each, logits, probabilities and noise; a row for each multiprocessor; T hidden
//!   states, and R of them twice. Only the last stage samples.
//! - The **feed-forward**: T × (gate, up and their product), and the product in 8 bits where the weights take that; of MLA
//!   instead the cached context it expands (`model_executor/layers/attention/mla_attention.py`), whichever is more; and some
//!   hidden states.
//!   It and the sampler do not stand at once: the larger counts.
//! - What **stays**: the workspace of experts (`fused_moe/fused_moe.py` `workspace_shapes`), T × experts a token × (max(width,
//!   hidden) + max(2 × width, hidden)); what an encoder of images made of T tokens, and their pixels; the hidden states and
//!   residuals that pipeline stages pass on.
//!
//! In addition to the step: the table of rotary positions to the longest position of the *model* (2.5 GiB for Llama 4 Scout), copies of
//! MLA's up-projections, what `PyTorch`'s allocator rounds large tensors up by (to 2 MiB, `c10/cuda/CUDACachingAllocator.cpp`), and
//! what no allocator of its knows: contexts, libraries, communication. What no rule gives is in [`FITTED`].

use super::batch_limits;
use super::release::{Release, Rule as Since};
use crate::engine::weights::{Stage, of_rank, stages};
use crate::engine::{Calibration, Engine, Errors, Overhead, OverheadTerm, Rule, Share, Term};
use crate::estimate::{Layout, Workload};
use crate::model::{DraftMethod, Model, TensorGroup, Tensors, Widths};
use crate::units::{ByteUnit, Bytes, Error, Exact};

/// The share of the memory that it takes by default.
pub(super) fn share(engine: &Engine) -> Result<Share, Error> {
    let (default, source) = if Release::of(engine)?.has(Since::LARGER_SHARE) {
        ("0.92", "vllm 0.33.0, config/cache.py")
    } else {
        ("0.9", "vllm 0.19.0, config/cache.py")
    };
    Ok(Share { rule: Rule::OfTotal, default, source })
}

/// The overhead of `model`, for requests of the workload's length.
pub(super) fn overhead(model: &Model, workload: &Workload, engine: &Engine) -> Result<Overhead, Error> {
    let fitted = FittedMemory::of_version(engine.version);
    let fitted = fitted.ok_or_else(|| engine.unknown_overhead("no start-up logs are known"))?;
    overhead_by(model, workload, engine, fitted)
}

/// As [`Engine::overhead`], with other constants.
///
/// # Errors
/// [`Code::TooManyStages`](crate::units::Code::TooManyStages), or [`Code::Refused`](crate::units::Code::Refused) where a width of the model is unknown.
pub fn overhead_by(
    model: &Model,
    workload: &Workload,
    engine: &Engine,
    fitted: &'static FittedMemory,
) -> Result<Overhead, Error> {
    let stages = stages(&workload.layout.stages(model.num_hidden_layers)?);
    let step = Step::new(model, workload, engine, fitted)?;
    let tensors = model.weights.as_ref().and_then(|weights| weights.tensors.as_ref());
    let charges_graphs = Release::of(engine)?.has(Since::GRAPHS_OUT_OF_POOL);
    let terms = stages.iter().map(|stage| {
        let mut terms = step.terms(stage)?;
        terms.extend(tensors.map(|tensors| of_tensors(tensors, &step, stage)).transpose()?.unwrap_or_default());
        terms.extend(charges_graphs.then(|| step.graphs(stage)).transpose()?);
        terms.retain(|term| term.term.bytes.0 > 0);
        Ok(terms)
    });
    Ok(Overhead {
        stages: terms.collect::<Result<_, Error>>()?,
        calibration: Some(&fitted.calibration),
        notes: notes(model, workload.layout, engine, fitted)?,
    })
}

fn notes(model: &Model, layout: Layout, engine: &Engine, fitted: &FittedMemory) -> Result<Vec<String>, Error> {
    let calibration = &fitted.calibration;
    let mut notes = Vec::new();
    if calibration.version != engine.version {
        let (of, here) = (calibration.version, engine.version);
        notes.push(format!(
            "calibrated on logs of vllm {of}, as there are none of {here}: its step has the same tensors"
        ));
    }
    if Release::of(engine)?.has(Since::GRAPHS_OUT_OF_POOL) {
        let [mean, most] = [fitted.graphs_mean_error, fitted.graphs_max_error];
        let [mean, most] = [mean, most].map(|bytes| bytes.in_unit(ByteUnit::Gibibytes));
        notes.push(format!("its estimate for CUDA graphs is met to {mean} GiB on average, {most} at most"));
    }
    if engine.device.id != calibration.device {
        notes.push(format!("calibrated on {}, not on {}", calibration.device, engine.device.id));
    }
    if layout.tp > calibration.most_ranks {
        notes.push(format!("no log has more than {} tensor parallel ranks", calibration.most_ranks));
    }
    let mut note = |applies: bool, text: &str| notes.extend(applies.then(|| text.to_owned()));
    note(layout.pp > 1 && layout.tp > 1, "no log has tensor parallel ranks and pipeline stages at once");
    let no_rotary = model.checkpoint.widths.rotary_bytes.is_none();
    note(no_rotary, "the table of rotary positions is not counted: its size is unknown for this configuration");
    let no_tensors = model.weights.as_ref().is_none_or(|weights| weights.tensors.is_none());
    note(no_tensors, "the tensors of this class are not known one by one: weights are divided evenly");
    let drafts = model.drafter.as_ref().is_some_and(|drafter| drafter.method != DraftMethod::Ngram);
    note(drafts, "the weights and the step of the drafter are not counted");
    Ok(notes)
}

/// One step of the profile run.
struct Step<'a> {
    widths: &'a Widths,
    fitted: &'a FittedMemory,
    layout: Layout,
    tokens: u64,
    requests: u64,
    seq_len: u64,
    hidden: u64,
    vocabulary: u64,
}

impl<'a> Step<'a> {
    fn new(model: &'a Model, workload: &Workload, engine: &Engine, fitted: &'a FittedMemory) -> Result<Self, Error> {
        let widths = &model.checkpoint.widths;
        let missing =
            |key: &str| engine.unknown_overhead(&format!("a step follows from {key}, which is unknown for this model"));
        let hidden = widths.hidden_size.ok_or_else(|| missing("hidden_size"))?;
        let vocabulary = widths.vocab_size.ok_or_else(|| missing("vocab_size"))?;
        if widths.intermediate_size.is_none() && widths.experts.is_none() {
            return Err(missing("intermediate_size"));
        }
        let limits = batch_limits(model, workload.seq_len, engine)?;
        let (layout, seq_len, tokens) = (workload.layout, workload.seq_len.0, limits.max_num_batched_tokens);
        let requests = limits.max_num_seqs.min(tokens);
        Ok(Self { widths, fitted, layout, tokens, requests, seq_len, hidden, vocabulary })
    }

    /// The terms that follow from the widths of the model.
    fn terms(&self, stage: &Stage) -> Result<Vec<OverheadTerm>, Error> {
        let logs = self.logs();
        let tokens = self.tokens;
        let outside = self.fitted.outside(self.layout.tp, self.layout.pp);
        Ok(vec![
            term("step", self.peak(stage), &format!("a step of {tokens} tokens; {logs}"))?,
            term("outside", outside, &format!("contexts, libraries, communication; {logs}"))?,
            term("rotary_table", self.widths.rotary_bytes.unwrap_or_default(), "positions of the model")?,
            term("latent_copies", self.latent_copies(stage), "k and v of latents, transposed")?,
        ])
    }

    /// The engine's own estimate for its CUDA graphs.
    fn graphs(&self, stage: &Stage) -> Result<OverheadTerm, Error> {
        let bytes = stage.layers() * self.fitted.graphs_per_layer + self.fitted.graphs;
        term("cuda_graphs", bytes, &format!("what it expects of them; {}", self.logs()))
    }

    fn logs(&self) -> String {
        let calibration = &self.fitted.calibration;
        format!("{} logs of vllm {}", calibration.logs, calibration.version)
    }

    fn element(&self) -> u64 {
        self.widths.element_bytes.max(1)
    }

    /// Hidden states of all tokens.
    fn states(&self) -> Exact {
        Exact::from(self.tokens) * self.hidden * self.element()
    }

    /// The share of a width that one rank has.
    fn of_rank(&self, width: u64) -> u64 {
        width.div_ceil(self.layout.tp.max(1))
    }

    fn sampler(&self) -> Exact {
        /// Logits, probabilities and noise in 4 bytes each.
        const FLOATS: u64 = 12;
        /// Multiprocessors of an H100; a row of 4-byte logits each.
        const PROCESSORS: u64 = 132;
        let element = Exact::from(self.element());
        let logits = (element + FLOATS) * self.requests * self.vocabulary;
        let rows = Exact::from(self.requests.min(PROCESSORS)) * self.vocabulary * 4u64;
        logits + rows + element * 2u64 * self.requests * self.hidden + self.states()
    }

    fn feed_forward(&self) -> Exact {
        let width = self.widths.intermediate_size.map_or(0, |width| self.of_rank(width));
        let each = Exact::from(self.element()) * 3u64 + u64::from(self.widths.quantizes_activations);
        let dense = each * self.tokens * width;
        dense.max(self.expanded_context()) + self.states() * self.fitted.hidden_states_per_mille / 1000u64
    }

    /// K and V of the context that MLA expands at once: eight requests at most and 64 Ki tokens, a block for each request at
    /// least.
    fn expanded_context(&self) -> Exact {
        const BLOCK: u64 = 16;
        const MOST: u64 = 65_536;
        let Some(latent) = self.widths.latent else { return Exact::ZERO };
        let block_each = Exact::from(self.requests) * BLOCK;
        let tokens = (Exact::from(self.seq_len) * 8u64).max(block_each * 4u64).min(MOST).max(block_each);
        tokens * self.of_rank(latent.num_attention_heads) * latent.up_head_dim * self.element()
    }

    fn experts(&self) -> Exact {
        let Some(experts) = self.widths.experts.filter(|experts| !experts.packed) else { return Exact::ZERO };
        let width = Exact::from(self.of_rank(experts.intermediate_size));
        let both = (width * 2u64).max(self.hidden) + width.max(self.hidden);
        both * self.tokens * experts.per_token * self.element()
    }

    fn images(&self) -> Exact {
        let Some(image) = self.widths.image else { return Exact::ZERO };
        let pixels = Exact::from(self.tokens) * image.patches_per_token * image.patch_elements * self.element();
        pixels + self.states()
    }

    /// The most that the step has allocated on a stage.
    fn peak(&self, stage: &Stage) -> Exact {
        let sampler = if stage.last { self.sampler() } else { Exact::ZERO };
        let passed_on = if self.layout.pp > 1 { self.states() * 2u64 } else { Exact::ZERO };
        sampler.max(self.feed_forward()) + self.experts() + self.images() + passed_on + self.fitted.step
    }

    fn latent_copies(&self, stage: &Stage) -> Exact {
        let Some(latent) = self.widths.latent else { return Exact::ZERO };
        let heads = self.of_rank(latent.num_attention_heads);
        stage.layers() * heads * latent.up_head_dim * latent.kv_lora_rank * self.element()
    }
}

fn term(name: &'static str, bytes: impl Into<Exact>, source: &str) -> Result<OverheadTerm, Error> {
    Ok(OverheadTerm { name, term: Term::estimated(bytes.into().bytes()?, source) })
}

/// The terms that follow from the tensors of the model's class.
fn of_tensors(tensors: &Tensors, step: &Step<'_>, stage: &Stage) -> Result<Vec<OverheadTerm>, Error> {
    let tp = step.layout.tp;
    let sum = |each: &dyn Fn(&TensorGroup) -> Exact| -> Exact {
        tensors.groups.iter().map(|group| each(group) * stage.tensors(group)).sum()
    };
    let packed = sum(&|group| if group.packed { of_rank(group, tp) } else { Exact::ZERO });
    let more = packed * step.fitted.packed_experts_per_mille / 1000u64;
    Ok(vec![
        term("allocator", sum(&|group| rounding(of_rank(group, tp))), "large tensors rounded up to 2 MiB")?,
        term("kernel_layout", more, "packed experts as their kernels hold them; one log")?,
    ])
}

/// What the allocator adds to a tensor: from 10 MiB on it takes memory by 2 MiB, and gives what is left over to others only
/// if that is more than 1 MiB.
fn rounding(tensor: Exact) -> Exact {
    const LARGE: u64 = 10 << 20;
    const UNIT: u64 = 2 << 20;
    const SPLIT: u64 = 1 << 20;
    let left = tensor.round_up_to(UNIT) - tensor;
    let is_large = tensor.max(LARGE) == tensor;
    let is_kept = left.min(SPLIT) == left;
    if is_large && is_kept { left } else { Exact::ZERO }
}

// What start-up logs of real servers say of memory that no rule gives, by version. `tests/pool.rs` works all of it out again
// from the logs.

/// Constants fitted to the start-up logs of one version.
#[derive(Debug, PartialEq, Eq)]
pub struct FittedMemory {
    /// The logs, and how far off pools computed with these constants are.
    pub calibration: Calibration,
    /// What a step takes beyond the tensors that its rules count.
    pub step: Bytes,
    /// Hidden states in addition to a feed-forward's own tensors, in thousandths of one for each token.
    pub hidden_states_per_mille: u64,
    /// What is allocated outside the engine's allocator (contexts, libraries, communication), by the least number of tensor
    /// parallel ranks.
    pub outside: &'static [(u64, Bytes)],
    /// The same with pipeline stages of one rank each.
    pub outside_of_stages: Bytes,
    /// What experts packed in four bits take more in the layout of the kernels, in thousandths; of one log.
    pub packed_experts_per_mille: u64,
    /// The engine's own estimate for its CUDA graphs, whatever the layers.
    pub graphs: Bytes,
    /// The same for each layer of a stage.
    pub graphs_per_layer: Bytes,
    /// The mean absolute error of that estimate.
    pub graphs_mean_error: Bytes,
    /// Its largest absolute error.
    pub graphs_max_error: Bytes,
}

/// The versions with logs.
///
/// The rules of `overhead` were read in the engine's source with these logs at hand, so what leaving models out tests is the
/// constants above and not the rules; the one log of a version between (0.17.0, of a model in none of these) is 0.3 % off.
/// Two logs, of Granite 3.1 and 3.3 8B, report 0.21 GiB more outside the allocator than all others of one device. Nothing in
/// model or options explains it: they are in the fit and in the errors, and are the largest of those with all models in.
/// What packed experts take more is of the one log that has them, and left out it is nothing: the largest error then.
pub static FITTED: &[FittedMemory] = &[FittedMemory {
    calibration: Calibration {
        engine: "vllm",
        version: "0.19",
        device: "h100-sxm",
        logs: 37,
        models: 21,
        most_ranks: 4,
        pool: Errors { mean: 7, max: 35 },
        pool_left_out: Errors { mean: 12, max: 136 },
        concurrency_left_out: Errors { mean: 14, max: 137 },
        small_pool_left_out: Errors { mean: 53, max: 58 },
        small_pools: 2,
        source: "start-up logs of vLLM 0.19.0 in pull request 205 of llm-d-incubation/llm-d-planner",
    },
    step: Bytes(36_206_775),
    hidden_states_per_mille: 3_676,
    outside: &[(1, Bytes(285_138_106)), (2, Bytes(2_235_172_563)), (4, Bytes(2_330_019_758))],
    outside_of_stages: Bytes(75_161_927),
    packed_experts_per_mille: 85,
    graphs: Bytes(345_309_609),
    graphs_per_layer: Bytes(17_330_016),
    graphs_mean_error: Bytes(166_287_031),
    graphs_max_error: Bytes(679_476_662),
}];

impl FittedMemory {
    /// The constants of a version, or else those there are.
    pub(super) fn of_version(version: &str) -> Option<&'static Self> {
        FITTED.iter().find(|fitted| fitted.calibration.version == version).or(FITTED.first())
    }

    /// What is allocated outside the engine's allocator.
    pub(super) fn outside(&self, tp: u64, pp: u64) -> Bytes {
        if tp == 1 && pp > 1 {
            return self.outside_of_stages;
        }
        let rows = self.outside.iter().take_while(|(ranks, _)| *ranks <= tp);
        rows.last().map_or(Bytes(0), |(_, bytes)| *bytes)
    }
}
