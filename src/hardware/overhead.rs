//! What a server's memory holds beside its weights and its cache.
//!
//! **vLLM** runs one step of `max_num_batched_tokens` tokens (T) and `max_num_seqs` requests (R) before it sizes its pool, and
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
//! Beside the step: the table of rotary positions to the longest position of the *model* (2.5 GiB for Llama 4 Scout), copies of
//! MLA's up-projections, what `PyTorch`'s allocator rounds large tensors up by (to 2 MiB, `c10/cuda/CUDACachingAllocator.cpp`), and
//! what no allocator of its knows: contexts, libraries, communication. What no rule gives is in `calibration`.
//!
//! **llama.cpp** keeps a margin of 1 GiB free on each device (`common/common.h`, `fit_params_target`). **transformers** and the ideal
//! have no server: nothing is counted. **`SGLang`** has a rule for what it leaves, in `reserve`. For **TensorRT-LLM** no figure is
//! known, and it must be given.

use std::ops::Range;

use super::calibration::{Calibration, calibration, charges_graphs};
use super::reserve::reserve;
use super::weights::of_rank;
use super::{Known, Term};
use crate::engine::{Engine, vllm};
use crate::estimate::{Layout, Workload};
use crate::model::{DraftMethod, Model, Tensors, Widths};
use crate::units::{ByteUnit, Bytes, Error};

/// What a server's memory holds beside weights and cache, on each device of each pipeline stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overhead {
    /// The terms of each stage.
    pub stages: Vec<Vec<OverheadTerm>>,
    /// What they are calibrated by, and how far off that is.
    pub calibration: Option<&'static Calibration>,
    /// What there is to say of them.
    pub notes: Vec<String>,
}

/// The name of what `SGLang` leaves, which a share that is given replaces.
pub const RESERVE: &str = "reserve";

/// A term with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverheadTerm {
    /// A stable word: `step`, `outside`, `rotary_table`, `latent_copies`, `allocator`, `kernel_layout`, `cuda_graphs`, `margin`, `reserve`.
    pub name: &'static str,
    /// Its bytes.
    pub term: Term,
}

impl Overhead {
    /// All terms of each stage.
    pub fn by_stage(&self) -> Vec<Bytes> {
        let sum =
            |terms: &Vec<OverheadTerm>| Bytes(terms.iter().map(|term| term.term.bytes.0).fold(0, u64::saturating_add));
        self.stages.iter().map(sum).collect()
    }

    fn same_everywhere(stages: usize, terms: Vec<OverheadTerm>, note: &str) -> Self {
        Self { stages: vec![terms; stages], calibration: None, notes: vec![note.into()] }
    }
}

/// The overhead of `model` in an engine, for requests of the workload's length.
///
/// # Errors
/// [`Code::TooManyStages`](crate::units::Code::TooManyStages), or [`Code::Refused`](crate::units::Code::Refused) where it is not known and must be given.
pub fn overhead(model: &Model, workload: &Workload, engine: &Engine) -> Result<Overhead, Error> {
    overhead_by(model, workload, engine, calibration(engine))
}

/// As [`overhead`], by figures of your own; they count only for engines that are calibrated.
///
/// # Errors
/// As [`overhead`].
pub fn overhead_by(
    model: &Model,
    workload: &Workload,
    engine: &Engine,
    calibration: Option<&'static Calibration>,
) -> Result<Overhead, Error> {
    const MARGIN: u64 = 1 << 30;
    let stages = workload.layout.stages(model.num_hidden_layers)?;
    match engine.profile.name {
        "vllm" => of_vllm(model, workload, engine, &stages, calibration),
        "llama.cpp" | "ollama" => {
            let margin = OverheadTerm {
                name: "margin",
                term: Term {
                    bytes: Bytes(MARGIN),
                    known: Known::Estimated,
                    source: "what llama.cpp leaves free on each device (--fit-target)".into(),
                },
            };
            let note = "buffers of a step are taken to be within llama.cpp's margin of 1 GiB a device";
            Ok(Overhead::same_everywhere(stages.len(), vec![margin], note))
        }
        "sglang" if model.checkpoint.multimodal => {
            Err(unknown(engine, "what it reserves for what sees and hears is not read here"))
        }
        "sglang" => {
            let reserve = OverheadTerm {
                name: RESERVE,
                term: Term {
                    bytes: reserve(model, workload.layout, engine),
                    known: Known::Estimated,
                    source: "sglang 0.5.23: what its default mem_fraction_static is not".into(),
                },
            };
            let note = "what it holds before it measures (contexts, communication) is not counted, and no log says how far \
                        off its rule is";
            Ok(Overhead::same_everywhere(stages.len(), vec![reserve], note))
        }
        "tensorrt-llm" => Err(unknown(engine, "no public start-up logs say what it holds beside weights and cache")),
        _ => {
            let note = "nothing is counted beside weights and cache: there is no server";
            Ok(Overhead::same_everywhere(stages.len(), Vec::new(), note))
        }
    }
}

fn unknown(engine: &Engine, reason: &str) -> Error {
    engine.refusal("--overhead", "it", format!("must be given: {reason}"), "give it, as --overhead 8GiB")
}

fn of_vllm(
    model: &Model,
    workload: &Workload,
    engine: &Engine,
    stages: &[Range<u32>],
    calibration: Option<&'static Calibration>,
) -> Result<Overhead, Error> {
    let widths = &model.checkpoint.widths;
    let missing = |key: &str| unknown(engine, &format!("a step follows from {key}, which is not known of this model"));
    let (Some(calibration), Some(hidden)) = (calibration, widths.hidden_size) else {
        return Err(missing("hidden_size"));
    };
    let vocabulary = widths.vocab_size.ok_or_else(|| missing("vocab_size"))?;
    if widths.intermediate_size.is_none() && widths.experts.is_none() {
        return Err(missing("intermediate_size"));
    }
    let limits = vllm::batch_limits(model, workload.seq_len, engine)?;
    let tokens = limits.max_num_batched_tokens;
    let step = Step {
        widths,
        calibration,
        layout: workload.layout,
        tokens: u128::from(tokens),
        requests: u128::from(limits.max_num_seqs.min(tokens)),
        seq_len: u128::from(workload.seq_len.0),
        hidden: u128::from(hidden),
        vocabulary: u128::from(vocabulary),
    };
    let tensors = model.weights.as_ref().and_then(|weights| weights.tensors.as_ref());
    let last = stages.len().saturating_sub(1);
    let of_stage = |(index, layers): (usize, &Range<u32>)| {
        let calibrated = format!("{} logs of vllm {}", calibration.logs, calibration.version);
        let term = |name, bytes: u128, source: &str| OverheadTerm {
            name,
            term: Term { bytes: narrow(bytes), known: Known::Estimated, source: source.into() },
        };
        let mut terms = vec![
            term("step", step.peak(index == last), &format!("a step of {tokens} tokens; {calibrated}")),
            term("outside", step.outside(), &format!("contexts, libraries, communication; {calibrated}")),
        ];
        if let Some(bytes) = widths.rotary_bytes {
            terms.push(term("rotary_table", u128::from(bytes), "positions of the model"));
        }
        let copies = step.latent_copies(layers);
        let (rounded, packed) = tensors.map_or((0, 0), |tensors| {
            (rounding(tensors, workload.layout.tp, (index == 0, index == last), layers), packed(tensors, &step, layers))
        });
        terms.extend([
            term("latent_copies", copies, "k and v of latents, transposed"),
            term("allocator", rounded, "large tensors rounded up to 2 MiB"),
            term("kernel_layout", packed, "packed experts as their kernels hold them; one log"),
        ]);
        if charges_graphs(engine) {
            let (base, each) = calibration.graphs;
            let layers = u128::from(layers.end.saturating_sub(layers.start));
            let bytes = u128::from(base.0).saturating_add(u128::from(each.0).saturating_mul(layers));
            terms.push(term("cuda_graphs", bytes, &format!("what it expects of them; {calibrated}")));
        }
        terms.retain(|term| term.term.bytes.0 > 0);
        terms
    };
    let mut notes = notes(widths, workload.layout, engine, calibration, tensors.is_some());
    if model.drafter.as_ref().is_some_and(|drafter| drafter.method != DraftMethod::Ngram) {
        notes.push("the weights and the step of what drafts are not counted".into());
    }
    Ok(Overhead { stages: stages.iter().enumerate().map(of_stage).collect(), calibration: Some(calibration), notes })
}

fn notes(widths: &Widths, layout: Layout, engine: &Engine, calibration: &Calibration, known: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if calibration.version != engine.version {
        notes.push(format!(
            "calibrated on logs of vllm {}, as there are none of {}: its step has the same tensors",
            calibration.version, engine.version
        ));
    }
    if charges_graphs(engine) {
        let (mean, most) = calibration.graphs_off;
        let [mean, most] = [mean, most].map(|bytes| bytes.in_unit(ByteUnit::Gibibytes));
        notes.push(format!("its estimate for CUDA graphs is met to {mean} GiB on average, {most} at most"));
    }
    if engine.device.id != calibration.device {
        notes.push(format!("calibrated on {}, not on {}", calibration.device, engine.device.id));
    }
    if layout.tp > calibration.most_ranks {
        notes.push(format!("no log has more than {} tensor parallel ranks", calibration.most_ranks));
    }
    if layout.pp > 1 && layout.tp > 1 {
        notes.push("no log has tensor parallel ranks and pipeline stages at once".into());
    }
    if widths.rotary_bytes.is_none() {
        notes.push("the table of rotary positions is not counted: its size is not known for this configuration".into());
    }
    if !known {
        notes.push("the tensors of this class are not known one by one: weights are divided evenly".into());
    }
    notes
}

/// One step of the profile run.
struct Step<'a> {
    widths: &'a Widths,
    calibration: &'a Calibration,
    layout: Layout,
    tokens: u128,
    requests: u128,
    seq_len: u128,
    hidden: u128,
    vocabulary: u128,
}

/// The product; what passes 128 bits is far past any memory.
fn product(factors: &[u128]) -> u128 {
    factors.iter().fold(1, |product, &factor| product.saturating_mul(factor))
}

fn sum(terms: &[u128]) -> u128 {
    terms.iter().fold(0, |sum, &term| sum.saturating_add(term))
}

fn narrow(bytes: u128) -> Bytes {
    Bytes(u64::try_from(bytes).unwrap_or(u64::MAX))
}

impl Step<'_> {
    fn element(&self) -> u128 {
        u128::from(self.widths.element_bytes.max(1))
    }

    /// Hidden states of all tokens.
    fn states(&self) -> u128 {
        product(&[self.tokens, self.hidden, self.element()])
    }

    /// The share of a width that one rank has.
    fn of_rank(&self, width: u64) -> u128 {
        u128::from(width.div_ceil(self.layout.tp.max(1)))
    }

    fn sampler(&self) -> u128 {
        /// Logits, probabilities and noise in 4 bytes each.
        const FLOATS: u128 = 12;
        /// Multiprocessors of an H100; a row of 4-byte logits each.
        const PROCESSORS: u128 = 132;
        let logits = product(&[self.requests, self.vocabulary, self.element().saturating_add(FLOATS)]);
        let rows = product(&[self.requests.min(PROCESSORS), self.vocabulary, 4]);
        let states = product(&[2, self.requests, self.hidden, self.element()]);
        sum(&[logits, rows, states, self.states()])
    }

    fn feed_forward(&self) -> u128 {
        let width = self.widths.intermediate_size.map_or(0, |width| self.of_rank(width));
        let each = product(&[3, self.element()]).saturating_add(u128::from(self.widths.quantizes_activations));
        let dense = product(&[self.tokens, width, each]);
        let states = product(&[self.states(), u128::from(self.calibration.hidden_states_per_mille)]);
        dense.max(self.expanded_context()).saturating_add(states.checked_div(1000).unwrap_or_default())
    }

    /// K and V of the context that MLA expands at once: eight requests at most and 64 Ki tokens, a block for each request at
    /// least.
    fn expanded_context(&self) -> u128 {
        const BLOCK: u128 = 16;
        const MOST: u128 = 65_536;
        let Some(latent) = self.widths.latent else { return 0 };
        let blocks = product(&[4, self.requests, BLOCK]);
        let tokens = product(&[8, self.seq_len]).max(blocks).min(MOST).max(product(&[self.requests, BLOCK]));
        let heads = self.of_rank(latent.num_attention_heads);
        product(&[tokens, heads, u128::from(latent.up_head_dim), self.element()])
    }

    fn experts(&self) -> u128 {
        let Some(experts) = self.widths.experts.filter(|experts| !experts.packed) else { return 0 };
        let width = self.of_rank(experts.intermediate_size);
        let both = width.saturating_mul(2).max(self.hidden).saturating_add(width.max(self.hidden));
        product(&[self.tokens, u128::from(experts.per_token), both, self.element()])
    }

    fn images(&self) -> u128 {
        let Some(image) = self.widths.image else { return 0 };
        let pixels = product(&[
            self.tokens,
            u128::from(image.patches_per_token),
            u128::from(image.patch_elements),
            self.element(),
        ]);
        pixels.saturating_add(self.states())
    }

    /// The most that the step has allocated on a stage.
    fn peak(&self, last: bool) -> u128 {
        let sampler = if last { self.sampler() } else { 0 };
        let passed_on = if self.layout.pp > 1 { self.states().saturating_mul(2) } else { 0 };
        let constant = u128::from(self.calibration.step.0);
        sum(&[sampler.max(self.feed_forward()), self.experts(), self.images(), passed_on, constant])
    }

    fn outside(&self) -> u128 {
        u128::from(self.calibration.outside(self.layout.tp, self.layout.pp).0)
    }

    fn latent_copies(&self, layers: &Range<u32>) -> u128 {
        let Some(latent) = self.widths.latent else { return 0 };
        let layers = u128::from(layers.end.saturating_sub(layers.start));
        let heads = self.of_rank(latent.num_attention_heads);
        product(&[layers, heads, u128::from(latent.up_head_dim), u128::from(latent.kv_lora_rank), self.element()])
    }
}

/// What the allocator adds to the tensors of a stage: from 10 MiB on it takes memory by 2 MiB for each, and gives what is left
/// over to others only if that is more than 1 MiB.
fn rounding(tensors: &Tensors, tp: u64, ends: (bool, bool), layers: &Range<u32>) -> u128 {
    const LARGE: u64 = 10 << 20;
    const UNIT: u64 = 2 << 20;
    const SPLIT: u64 = 1 << 20;
    let (first, last) = ends;
    let added = |bytes: u64| {
        let left = bytes.checked_next_multiple_of(UNIT).map_or(0, |up| up.saturating_sub(bytes));
        if bytes >= LARGE && left <= SPLIT { left } else { 0 }
    };
    tensors.groups.iter().fold(0, |sum, group| {
        let count = u128::from(group.on_stage(first, last, layers));
        let each = u128::from(added(of_rank(group, tp)));
        sum.saturating_add(count.saturating_mul(each))
    })
}

/// What packed experts take more on a stage.
fn packed(tensors: &Tensors, step: &Step<'_>, layers: &Range<u32>) -> u128 {
    let packed = tensors.groups.iter().filter(|group| group.packed).fold(0u128, |sum, group| {
        let count = u128::from(group.on_stage(false, false, layers));
        let each = u128::from(of_rank(group, step.layout.tp));
        sum.saturating_add(count.saturating_mul(each))
    });
    let more = product(&[packed, u128::from(step.calibration.packed_experts_per_mille)]);
    more.checked_div(1000).unwrap_or_default()
}
