//! llama.cpp, the copy in llama-cpp-sys-2 0.1.161 (ggml 0.26.0): what its context allocates. That copy carries no build
//! number, so the version here is ggml's.
//!
//! - **Everything is allocated at once**, for the whole context (`src/llama-context.cpp`). `n_ctx` (0: the length the model
//!   was made for) is padded up to 256 cells. Unified, all sequences share them; else each sequence has its own stream
//!   of `n_ctx / n_seq_max` cells, padded up to 256 again. `n_batch` is at most `n_ctx`, `n_ubatch` at most `n_batch`.
//! - **A row** of a layer is `head_count_kv × key_length` elements of K and `× value_length` of V, in whole blocks of the
//!   format (`src/llama-kv-cache.cpp`, `ggml_row_size`). No padding between tensors, as on the CPU; GPUs may add some.
//! - **Windows and chunks** are in a cache of their own of `min(n_ctx_seq, W × (unified ? n_seq_max : 1) + n_ubatch)` cells,
//!   padded up to 256 (`src/llama-kv-cache-iswa.cpp`); with `--swa-full` it is as long as the other. Architectures that know no
//!   window keep every token (Mistral, Qwen 2, Phi-3, whose window is read and not used: `src/models/phi3.cpp`); Llama 4's
//!   is 8,192 whatever the file says (`src/models/llama4.cpp`).
//! - **MLA** with the keys for it is one row of `key_length` elements and no V; a file without them keeps full heads.
//! - **An index** of sparse attention is a cache of K alone (`src/llama-kv-cache-dsa.cpp`); `MiniMax`-M3's has a V that nothing
//!   reads (`src/llama-kv-cache-msa.cpp`).
//! - **DeepSeek-V4** has a window, compressed entries, an index and compressor states, with a stream for each sequence even
//!   when unified: then each has the whole context (`src/llama-kv-cache-dsv4.cpp`).
//! - **Recurrent states** are in single precision, one row a sequence, and `1 + n_rs_seq` rows where the architecture can go
//!   back (`src/llama-memory-recurrent.cpp`, `llm_arch_supports_rs_rollback`).
//! - **MTP layers** and layers that read another's cache have none; nor has cross-attention.
//! - **Without flash attention** V is stored transposed: if its width differs between layers, all get the widest, and a
//!   quantised V is refused (`llama_init_from_model`). `auto` allocates as `on` does, and is `on` for a quantised V.
//! - A quantised format must divide the size of a head; without flash attention the program stops at K when it does not
//!   (`llama_kv_cache::get_k`). With MLA, and with DeepSeek-V4, K and V must be in one format.
//! - **Layers on the GPU** are the last `n_gpu_layers − 1` ones, since the output counts as one (`load_tensors` in
//!   `src/llama-model.cpp`); with `--no-kv-offload` the whole cache stays on the host. MTP layers
//!   are counted only where a file has them.
//!
//! Defaults are the command-line tools' (`common/common.h`): `--swa-full` off, which the library has on; 2,048 and 512 tokens a
//! batch; f16; not unified. A server without `--parallel` picks its slots itself and unifies them (`common/arg.cpp`; four
//! of them, by its logs); here the number of sequences is always given. What `--fit`, on by default, would take from the context is not modelled.
//!
//! LM Studio runs this engine: its context length is `--ctx-size`, its concurrent predictions `--parallel`, its unified KV cache
//! `--kv-unified`, its flash attention `--flash-attn`, its K and V cache quantization types `--cache-type-k` and `-v`, its GPU offload
//! `--n-gpu-layers`, its "offload KV cache to GPU memory" `--kv-offload`, its evaluation batch size `--batch-size`.

mod context;
mod gaps;
mod memory;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use self::context::Context;
use self::memory::{CachedGroup, GroupMemory, Layers, Memory};
use super::setting::settings;
use super::{
    Answer, Capacity, Details, Double, Engine, Overhead, OverheadTerm, OwnLengths, Profile, Rule, Served, Share,
    Spread, Term, is_one_of, longest,
};
use crate::estimate::{BytesPerToken, Estimate, GroupEstimate, Workload};
use crate::model::{DraftMethod, Gguf, GgufFeature, GgufWindow, Model};
use crate::units::{Bytes, ElementFormat, Error, Exact, KvDtype, KvFormat, Tokens};

pub use self::memory::Part;

pub(super) const PROFILE: Profile = Profile {
    name: "llama.cpp",
    versions: &["ggml-0.26"],
    about: "what its context allocates, all of it at once",
    replayed: "1,573 runs of 48 models in libllama itself, bytes, cells and refusals equal",
    heading: "Settings of llama.cpp",
    settings: settings! {
        "ctx-size" CountOrZero "Tokens of all sequences together; 0: what the model was made for",
            with_hardware: Some("give --seq-len and --batch instead");
        "parallel" Count "Sequences", with_hardware: Some("give --batch instead");
        "kv-unified" Switch "One cache for all sequences";
        "batch-size" Count "Tokens of a batch (n_batch)";
        "ubatch-size" CountOrZero "Tokens worked on at once (n_ubatch)";
        "swa-full" Switch "Windows as long as the context";
        "flash-attn" Choice(&["on", "off", "auto"]) "Flash attention";
        "rs-seq" CountOrZero "Tokens that a recurrent state can go back (n_rs_seq)";
        "n-gpu-layers" CountOrZero "Layers on the GPU, the output being one",
            alias: "gpu-layers", with_hardware: Some("leave it out: here all layers are on the GPUs");
        "kv-offload" Switch
            "The cache of those layers on the GPU, too [default]; --no-kv-offload keeps it all on the host",
            with_hardware: Some("leave it out: here the cache is on the GPUs");
    },
    defaults: &[
        ("ctx-size", "--seq-len times the sequences"),
        ("parallel", "--batch"),
        ("kv-unified", "off, as where --parallel is given"),
        ("batch-size", "2048"),
        ("ubatch-size", "512"),
        ("swa-full", "off"),
        ("flash-attn", "auto"),
        ("rs-seq", "0"),
        ("n-gpu-layers", "all"),
        ("kv-offload", "on"),
    ],
    formats: FORMATS,
    spread: Spread::Layers,
    weight_files: crate::engine::WeightFiles::Gguf,
    answer: |model, workload, engine| {
        answer_with(model, workload, engine, Options::new(model, workload, engine), Details::LlamaCpp)
    },
    own_lengths,
    share: |_| Ok(LEFT_FREE),
    overhead: |model, workload, _| margin(model, workload),
    serve,
    ..Profile::DEFAULT
};

/// It takes what is free but its margin.
pub(super) const LEFT_FREE: Share =
    Share { rule: Rule::All, default: "1", source: "llama.cpp: what is free but its margin" };

/// The margin of 1 GiB that it leaves free on each device (`common/common.h`, `fit_params_target`).
pub(super) fn margin(model: &Model, workload: &Workload) -> Result<Overhead, Error> {
    let term = Term::estimated(Bytes(1 << 30), "what llama.cpp leaves free on each device (--fit-target)");
    let note = "buffers of a step are taken to be within llama.cpp's margin of 1 GiB a device";
    let stages = workload.layout.stages(model.num_hidden_layers)?.len();
    Ok(Overhead::uniform(stages, Some(OverheadTerm { name: "margin", term }), note))
}

/// `llama-server`, whose context is that of all its slots.
fn serve(served: &Served) -> Option<String> {
    let parallel = served.batch.unwrap_or(1).div_ceil(served.layout.dp.max(1));
    let ctx_size = (Exact::from(served.seq_len) * parallel).get().ok()?;
    let mut words = vec![format!("llama-server -m {} --ctx-size {ctx_size} --parallel {parallel}", served.file())];
    if let KvDtype::Given(KvFormat { k, v, .. }) = served.kv_dtype
        && [k, v] != [ElementFormat::FP16; 2]
    {
        let [k, v] = [k, v].map(|format| match format.to_string().as_str() {
            "fp16" => "f16".to_owned(),
            "fp32" => "f32".to_owned(),
            name => name.to_owned(),
        });
        words.push(format!("--cache-type-k {k} --cache-type-v {v}"));
    }
    served.line(words, &["rs-seq"], served.layout.dp)
}

/// The copy whose rules these are.
const VERSION: &str = "ggml 0.26.0 (llama-cpp-sys-2 0.1.161)";

/// What its answer adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Facts {
    /// The copy whose rules these are.
    pub version: &'static str,
    /// Cells of all sequences.
    pub n_ctx: u64,
    /// Cells of one.
    pub n_ctx_seq: u64,
    /// Sequences.
    pub n_seq_max: u64,
    /// Whether all sequences share one cache.
    pub kv_unified: bool,
    /// Tokens of a batch.
    pub n_batch: u64,
    /// Tokens worked on at once.
    pub n_ubatch: u64,
    /// The buffers.
    pub parts: BTreeMap<&'static str, Part>,
    /// On the GPU.
    pub gpu_bytes: u64,
    /// On the host.
    pub host_bytes: u64,
}

/// What is asked of llama.cpp, under whatever names.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "as many switches as llama.cpp has")]
pub(super) struct Options {
    pub(super) ctx_size: Option<u64>,
    pub(super) parallel: Option<u64>,
    pub(super) kv_unified: bool,
    pub(super) batch_size: u64,
    pub(super) ubatch_size: u64,
    pub(super) swa_full: bool,
    pub(super) flash_attention: bool,
    pub(super) rs_seq: u64,
    pub(super) n_gpu_layers: Option<u64>,
    pub(super) kv_offload: bool,
    pub(super) format: KvFormat,
    pub(super) flags: Flags,
}

/// The flags that errors name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flags {
    pub(super) context: &'static str,
    pub(super) parallel: &'static str,
    pub(super) flash_attention: &'static str,
    pub(super) format: &'static str,
}

/// What `--ctx-size` and `--parallel` fix instead of `--seq-len` and `--batch`.
fn own_lengths(engine: &Engine, model: &Model, batch: u64) -> OwnLengths {
    let parallel = engine.settings.count("parallel");
    let ctx_size = match engine.settings.count("ctx-size") {
        Some(0) => model.max_position_embeddings.map(|tokens| tokens.0),
        given => given,
    };
    let each = |ctx_size: u64| Tokens(ctx_size.div_ceil(parallel.unwrap_or(batch).max(1)));
    let sequences = parallel.map(|count| ("--parallel", count));
    OwnLengths { sequences, seq_len: ctx_size.map(|ctx_size| ("--ctx-size", each(ctx_size))) }
}

impl Options {
    pub(super) fn new(model: &Model, workload: &Workload, engine: &Engine) -> Self {
        let settings = &engine.settings;
        let on = |name| settings.switch(name).unwrap_or_default();
        let asked_off = settings.choice("flash-attn") == Some("off");
        Self {
            ctx_size: settings.count("ctx-size"),
            parallel: settings.count("parallel"),
            kv_unified: on("kv-unified"),
            batch_size: settings.count("batch-size").unwrap_or(2048),
            ubatch_size: settings.count("ubatch-size").unwrap_or(512),
            swa_full: on("swa-full"),
            flash_attention: !asked_off && !has(model, GgufFeature::NoFlashAttention),
            rs_seq: settings.count("rs-seq").unwrap_or_default(),
            n_gpu_layers: settings.count("n-gpu-layers"),
            kv_offload: settings.switch("kv-offload").unwrap_or(true),
            format: workload.kv_dtype.or(ElementFormat::FP16),
            flags: Flags {
                context: "--ctx-size",
                parallel: "--parallel",
                flash_attention: "--flash-attn",
                format: "--kv-dtype",
            },
        }
    }
}

pub(super) fn has(model: &Model, feature: GgufFeature) -> bool {
    model.checkpoint.gguf.as_ref().is_some_and(|gguf| gguf.has(feature))
}

/// What a workload on a model takes with these options.
pub(super) fn answer_with(
    model: &Model,
    workload: &Workload,
    engine: &Engine,
    options: Options,
    details: fn(Box<Facts>) -> Details,
) -> Result<Answer, Error> {
    let rollback = has(model, GgufFeature::Rollback);
    let options = Options { rs_seq: if rollback { options.rs_seq } else { 0 }, ..options };
    refuse_layout(model, workload, engine)?;
    let layers = Layers::new(model, engine)?;
    refuse_formats(model, &layers, &options, engine)?;
    let context = Context::new(&options, workload, model, engine)?;
    let streams = context.streams();
    let runs = streams <= 1 || !has(model, GgufFeature::EncoderDecoder);
    let reason = "streams stop an encoder-decoder model";
    engine.require(runs, options.flags.parallel, streams, reason, "add --kv-unified")?;
    let memory = layers.memory(&context, &options)?;
    let facts = Facts {
        version: VERSION,
        n_ctx: context.n_ctx,
        n_ctx_seq: context.n_ctx_seq,
        n_seq_max: context.n_seq_max,
        kv_unified: context.unified,
        n_batch: context.n_batch,
        n_ubatch: context.n_ubatch,
        parts: memory.parts.clone(),
        gpu_bytes: memory.gpu_bytes,
        host_bytes: (Exact::from(memory.bytes) - memory.gpu_bytes).get()?,
    };
    let allocated = Allocated { model, workload, engine, options: &options, layers: &layers, context, memory: &memory };
    let answer = Answer {
        capacity: workload.memory.map(|bytes| allocated.capacity(bytes.0)),
        gaps: allocated.gaps()?,
        details: Some(details(facts.into())),
        ..Answer::of(allocated.estimate()?)
    };
    Ok(with_notes(answer, model, engine, &options))
}

/// What a context allocates for a workload.
struct Allocated<'a> {
    model: &'a Model,
    workload: &'a Workload,
    engine: &'a Engine,
    options: &'a Options,
    layers: &'a Layers<'a>,
    context: Context,
    memory: &'a Memory,
}

fn refuse_layout(model: &Model, workload: &Workload, engine: &Engine) -> Result<(), Error> {
    let layout = workload.layout;
    for (field, size) in [("--tp", layout.tp), ("--pp", layout.pp), ("--dcp", layout.dcp)] {
        let reason = "is not how it divides a model: it splits by layers, over the devices it finds";
        let remedy = "leave it out; --n-gpu-layers (Ollama: --num-gpu) tells what is on the GPU";
        engine.require(size <= 1, field, size, reason, remedy)?;
    }
    let drafts = model.drafter.as_ref().is_some_and(|drafter| drafter.method != DraftMethod::Ngram);
    let reason = "drafts in a context of its own, which is not modelled";
    let remedy = "leave it out, or ask for that model alone";
    engine.require(!drafts, "--speculative-method", "a draft model", reason, remedy)
}

/// The formats that `--cache-type-k` and `-v` take (`common/arg.cpp`, `kv_cache_types`).
const FORMATS: &[&str] = &["fp32", "fp16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"];

fn refuse_formats(model: &Model, layers: &Layers<'_>, options: &Options, engine: &Engine) -> Result<(), Error> {
    let KvFormat { k, v, .. } = options.format;
    let flags = options.flags;
    for format in [k, v] {
        let remedy = "use f16, bf16, f32, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl";
        engine.require(is_one_of(format, FORMATS), flags.format, format, "is not a format of its cache", remedy)?;
    }
    let reason = "are two formats, and this model's V is a part of K";
    let alike = k == v || !layers.one_vector();
    engine.require(alike, flags.format, format_args!("{k} and {v}"), reason, "use one for both")?;
    let quantised = |format: ElementFormat| format.elements_per_block() > 1;
    if quantised(v) && !options.flash_attention {
        let (why, remedy) = if has(model, GgufFeature::NoFlashAttention) {
            ("without which this architecture runs", "use f16 for V")
        } else {
            ("which is off", "switch it on, or use f16 for V")
        };
        let reason = format!("as V needs flash attention ({}), {why}", flags.flash_attention);
        return Err(engine.refusal(flags.format, v, reason, remedy));
    }
    let sides = [(k, "K"), (v, "V")];
    for (k_dim, v_dim) in layers.head_dims() {
        for ((format, side), dim) in sides.into_iter().zip([k_dim, v_dim]) {
            let block = format.elements_per_block();
            let reason = format_args!("packs blocks of {block}, which do not divide heads of {dim} elements of {side}");
            engine.require(dim.is_multiple_of(block), flags.format, format, reason, "use f16, bf16 or f32")?;
        }
    }
    Ok(())
}

/// The layers that each of `devices` equal devices has, the output counted as one more (`load_tensors` in
/// `llama-model.cpp`: by whole layers, in proportion to free memory).
pub fn layers_by_device(layers: u64, devices: u64) -> Vec<Range<u32>> {
    let first = |device: u64| {
        let start = ((Exact::from(layers) + 1u64) * device).div_ceil(devices.max(1)).min(layers);
        start.get().ok().and_then(|start| u32::try_from(start).ok()).unwrap_or(u32::MAX)
    };
    (0..devices).map(|device| first(device)..first(device.saturating_add(1))).collect()
}

impl Allocated<'_> {
    /// The estimate, group by group.
    fn estimate(&self) -> Result<Estimate, Error> {
        let memory = self.memory;
        let group = |(cached, memory): (&CachedGroup, &GroupMemory)| {
            Ok(GroupEstimate {
                kind: cached.group.cache.kind(),
                layers: cached.group.layers.len(),
                entries: Tokens(memory.cells),
                bytes: memory.bytes(|_| true).bytes()?,
            })
        };
        Ok(Estimate {
            bytes: Bytes(memory.bytes),
            bytes_per_gpu: Bytes(memory.gpu_bytes),
            bytes_per_token: BytesPerToken { numerator: memory.bytes_per_128_tokens, denominator: 128 },
            layer_groups: self.layers.groups.iter().zip(&memory.groups).map(group).collect::<Result<_, Error>>()?,
            stored: self.options.format,
        })
    }

    /// All is allocated before the first token: it fits if it is no more than the memory. The longest that fits is looked for
    /// below the length asked for, the number of sequences being the same.
    fn capacity(&self, bytes: u64) -> Capacity {
        let Context { n_ctx, n_seq_max, .. } = self.context;
        let fits = self.memory.gpu_bytes <= bytes;
        let holds = |seq_len: u64| -> Result<bool, Error> {
            let asked = (Exact::from(seq_len) * n_seq_max).min(self.context.asked).get()?;
            let sized = Context::sized(asked, n_seq_max, self.options, self.engine)?;
            Ok(self.layers.memory(&sized, self.options)?.gpu_bytes <= bytes)
        };
        let asked = self.context.seq_len();
        let max_seq_len =
            if fits { asked } else { longest(asked, |seq_len| seq_len < asked && holds(seq_len) == Ok(true)) };
        Capacity {
            memory: bytes,
            fits,
            holds_batch: (n_seq_max > 1).then_some(fits),
            blocks: None,
            tokens: fits.then_some(n_ctx),
            max_concurrency: fits.then_some(Double::whole(n_seq_max)),
            max_seq_len,
        }
    }
}

/// What was taken for granted, and what may make it wrong.
fn with_notes(mut answer: Answer, model: &Model, engine: &Engine, options: &Options) -> Answer {
    let Some(Gguf { architecture, window, file, .. }) = &model.checkpoint.gguf else {
        match &model.model_type {
            Some(name) => {
                let text = format!("no architecture is known for model_type {name}: taken by its layers as they are");
                answer.warnings.push(text);
            }
            None => answer.assumptions.push("taken to know an architecture with these layers, windows included".into()),
        }
        return answer;
    };
    let mut assume = |text: String| answer.assumptions.push(text);
    if file.is_none() {
        assume(format!("read as a GGUF that its own converter made: architecture {architecture}"));
    }
    let mut bounds = model.layer_groups.iter().filter_map(|group| group.cache.bound());
    match window {
        GgufWindow::Unknown if bounds.next().is_some() => {
            assume(format!("no window is known in {architecture}: every token is kept"));
        }
        GgufWindow::Fixed(fixed) if bounds.any(|bound| bound != *fixed) => {
            assume(format!("the window of {architecture} is {fixed} tokens, whatever the model says"));
        }
        GgufWindow::Unknown | GgufWindow::Fixed(_) | GgufWindow::Kept => {}
    }
    if options.rs_seq == 0 && engine.settings.count("rs-seq").is_some_and(|count| count > 0) {
        assume(format!("--rs-seq has no effect: {architecture} keeps no states to go back to"));
    }
    answer
}
