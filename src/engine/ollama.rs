//! Ollama, which runs llama.cpp: its own names for [`super::llama_cpp`]'s settings.
//!
//! It starts `llama-server` with `-c num_ctx × num_parallel`, `-np num_parallel`, and `-b` and `-ub` of `num_batch`
//! (`llm/llama_server.go` at 00f6d62043); `num_ctx` is the length of one sequence. Its defaults: one request at a time,
//! an f16 cache, flash attention where the device has it (`docs/faq.mdx` at 00182b504e), 512 tokens a batch
//! (`num_batch` of its API). Versions that did not start that server had caches of their own and are not modelled.
//!
//! Without `--num-ctx` the length is `--seq-len`; Ollama itself takes 4,096 tokens, or more on a GPU with more memory
//! (`docs/context-length.mdx`: 32k from 24 GiB, 256k from 48 GiB).

use super::llama_cpp::{Flags, LEFT_FREE, Options, answer_with, has, margin};
use super::setting::settings;
use super::{Answer, Details, Engine, OwnLengths, Profile, Spread, is_one_of};
use crate::estimate::Workload;
use crate::model::{GgufFeature, Model};
use crate::units::{ElementFormat, Error, Exact, KvDtype, KvFormat, Tokens};

pub(super) const PROFILE: Profile = Profile {
    name: "ollama",
    versions: &[],
    about: "llama.cpp's context, under Ollama's names",
    replayed: "not replayed itself: it starts llama.cpp's server with these sizes",
    heading: "Settings of Ollama",
    settings: settings! {
        "num-ctx" Count "Tokens of each sequence (num_ctx, OLLAMA_CONTEXT_LENGTH)",
            with_hardware: Some("give --seq-len instead");
        "num-parallel" Count "Sequences (OLLAMA_NUM_PARALLEL)", with_hardware: Some("give --batch instead");
        "num-batch" Count "Tokens of a batch (num_batch)";
        "num-gpu" CountOrZero "Layers on the GPU, the output being one (num_gpu)",
            with_hardware: Some("leave it out: here all layers are on the GPUs");
        "kv-cache-type" Choice(&["f16", "q8_0", "q4_0"]) "Format of K and V (OLLAMA_KV_CACHE_TYPE)";
        "flash-attention" Switch "Flash attention (OLLAMA_FLASH_ATTENTION)";
    },
    defaults: &[
        ("num-ctx", "--seq-len"),
        ("num-parallel", "--batch"),
        ("num-batch", "512"),
        ("num-gpu", "all"),
        ("kv-cache-type", "f16"),
        ("flash-attention", "where the device has it"),
    ],
    formats: FORMATS,
    spread: Spread::Layers,
    weight_files: crate::engine::WeightFiles::Gguf,
    answer,
    own_lengths: |engine, _, _| {
        let count = |name| engine.settings.count(name);
        OwnLengths {
            sequences: count("num-parallel").map(|count| ("--num-parallel", count)),
            seq_len: count("num-ctx").map(|num_ctx| ("--num-ctx", Tokens(num_ctx))),
        }
    },
    share: |_| Ok(LEFT_FREE),
    overhead: |model, workload, _| margin(model, workload),
    ..Profile::DEFAULT
};

/// Tokens of a batch where nothing else is said.
const NUM_BATCH: u64 = 512;

fn answer(model: &Model, workload: &Workload, engine: &Engine) -> Result<Answer, Error> {
    let settings = &engine.settings;
    let parallel = settings.count("num-parallel");
    let batch = settings.count("num-batch").unwrap_or(NUM_BATCH);
    let of_all = |num_ctx: u64| (Exact::from(num_ctx) * parallel.unwrap_or(workload.batch)).get();
    let flash_attention = settings.switch("flash-attention").unwrap_or(true);
    let options = Options {
        ctx_size: settings.count("num-ctx").map(of_all).transpose()?,
        parallel,
        batch_size: batch,
        ubatch_size: batch,
        flash_attention: flash_attention && !has(model, GgufFeature::NoFlashAttention),
        n_gpu_layers: settings.count("num-gpu"),
        format: format(workload, engine)?,
        flags: Flags {
            context: "--num-ctx",
            parallel: "--num-parallel",
            flash_attention: "--flash-attention",
            format: "--kv-cache-type",
        },
        // What it has no setting for.
        ..Options::new(model, workload, engine)
    };
    answer_with(model, workload, engine, options, Details::Ollama)
}

/// The formats of `OLLAMA_KV_CACHE_TYPE`.
const FORMATS: &[&str] = &["fp16", "q8_0", "q4_0"];

/// One format for K and V, of those that it takes.
fn format(workload: &Workload, engine: &Engine) -> Result<KvFormat, Error> {
    let set = engine.settings.choice("kv-cache-type").and_then(|word| word.parse::<ElementFormat>().ok());
    let KvDtype::Given(asked) = workload.kv_dtype else { return Ok(set.unwrap_or(ElementFormat::FP16).into()) };
    if let Some(set) = set {
        let reason = format_args!("is not the {set} of --kv-cache-type");
        engine.require(asked == set.into(), "--kv-dtype", asked, reason, "leave one of them out")?;
    }
    let taken = asked.k == asked.v && is_one_of(asked.k, FORMATS);
    let remedy = "use f16, q8_0 or q4_0 for both K and V";
    engine.require(taken, "--kv-dtype", asked, "is not a format it takes", remedy)?;
    Ok(asked)
}
