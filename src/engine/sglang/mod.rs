//! SGLang 0.5.23: pools of tokens and of states, sized from a memory budget and allocated at once, on each rank.
//!
//! Paths below are relative to `python/sglang/srt/` in its source. CUDA devices, no environment variables set.
//!
//! - **One pool** (`model_executor/pool_configurator.py`, `DefaultPoolConfigurator`): a token costs `cell_size` bytes, all
//!   layers alike, whatever they attend to: windows, layers that share a cache and cross-attention are priced as full ones.
//!   KV heads are divided by the ranks and rounded down, to one at least. Latents are whole on every rank; with an index
//!   (DeepSeek sparse attention) fp8 latents have a scale for each 128 elements and a rotary part in bf16, unless the kernel
//!   takes them raw; index keys are in fp8 with scales, on the layers that pick for themselves.
//!   `tokens = budget / cell_size`, in whole pages.
//! - **Two pools** (`HybridSWAPoolConfigurator`) for some classes with windows: `full = budget // (full layers' bytes + ratio ×
//!   window layers' bytes)`, in doubles; `window = ratio × full`. Without the radix cache and with `max-running-requests` the
//!   window's pool holds the live windows of that many requests, and the rest is full (`SWARequestCapPoolConfigurator`).
//! - **States** (`mem_cache/kv_cache_configurator.py`, `_handle_max_mamba_cache`; `configs/mamba_utils.py`): slots for
//!   0.9 / 1.9 of the budget, or as many as given, and one more; what they leave is for tokens. A request takes 5 slots with
//!   overlap scheduling (3, and 2 for snapshots), 3 for classes without snapshots, 1 without the radix cache.
//!   Convolutions are in bf16; memory is in fp32 unless `mamba_ssm_dtype` says otherwise.
//! - **DeepSeek-V4** (`DSV4PoolConfigurator`): see `compressed.rs`.
//! - **Classes** differ by the rows of `models.jsonl`.
//! - Every pool has one more page for padding than it counts: the pools are slightly larger than the budget.
//! - **Requests** (`resolve_max_num_reqs`): 2,048 to 4,096 by tokens and context, at most half the tokens; 256 for
//!   DeepSeek-V4, 48 with speculation; limited by the slots for states.
//! - The **request table** (`mem_cache/allocation_sizing.py`) is on top of the budget: 4 bytes for each request and token of
//!   the context.
//!
//! With `--memory` the pools are those of that budget, and `fits` is whether a server starts with them. A server starts with
//! a pool that is shorter than the length asked for, and takes requests up to `max_seq_len`. `bytes` is what the workload
//! needs whatever the budget: the smallest such pools that hold it, in whole pages, with the padding page and the slots that
//! its requests take.

mod arguments;
mod attention_backend;
mod classes;
mod compressed;
mod draft;
mod format;
mod layers;
mod need;
mod pools;
mod server;
mod state;

use serde::{Serialize, Serializer};

use self::arguments::Arguments;
use self::attention_backend::{Backend, DsaBackend};
use self::draft::Algorithm;
use self::server::Server;
use self::state::Strategy;
use super::setting::settings;
use super::{Allocation, Answer, Details, Double, Engine, Profile, RequestLimit, serve};
use crate::estimate::Workload;
use crate::model::Model;
use crate::units::Error;

pub(super) const PROFILE: Profile = Profile {
    name: "sglang",
    versions: &["0.5.23"],
    about: "its pools of tokens and states, sized from a budget",
    replayed: "309 runs of its own pool configurator and builders, every number equal",
    heading: "Settings of SGLang",
    settings: settings! {
        "page-size" Count "Tokens per page of the cache";
        "context-length" Count "Maximum tokens of a request; default: the sequence length",
            with_hardware: Some("give --seq-len instead");
        "max-running-requests" Count "Maximum concurrent requests";
        "max-total-tokens" Count "Maximum tokens of the pool";
        "max-mamba-cache-size" Count "Slots for Mamba states";
        "chunked-prefill-size" CountOrZero "Tokens of a prefill chunk; 0 disables chunked prefill";
        "swa-full-tokens-ratio" Ratio "Ratio of sliding-window tokens to full tokens";
        "mamba-full-memory-ratio" Ratio "Ratio of Mamba state memory to KV memory";
        "mem-fraction-static" Ratio "Refused: give the memory of the cache with --memory";
        "disable-radix-cache" Switch "Disable the prefix cache";
        "disable-overlap-schedule" Switch "Disable the overlap scheduler";
        "disable-hybrid-swa-memory" Switch "Use one pool: windowed layers keep every token";
        "enable-unified-memory" Switch "Share one buffer among all pools";
        "enable-dp-attention" Switch "Enable data-parallel attention";
        "enable-multimodal" Switch "Serve images; does not change the pools";
        "dp-size" Count "Data-parallel groups of attention ranks";
        "attention-backend" Choice(Backend::NAMES) "Attention kernels, which constrain the page size";
        "dsa-prefill-backend" Choice(DsaBackend::NAMES) "Sparse attention kernels for prefill";
        "dsa-decode-backend" Choice(DsaBackend::NAMES) "Sparse attention kernels for decode";
        "mamba-ssm-dtype" Choice(&["float32", "bfloat16", "float16"]) "Format of the SSM state";
        "mamba-radix-cache-strategy" Choice(Strategy::NAMES) "How the prefix cache keeps Mamba states",
            alias: "mamba-scheduler-strategy";
        "speculative-algorithm" Choice(Algorithm::NAMES) "Speculative decoding algorithm";
        "speculative-num-steps" Count "Draft steps";
        "speculative-eagle-topk" Count "Branches per draft step";
        "speculative-num-draft-tokens" Count "Draft tokens to verify per step";
    },
    defaults: &[
        ("page-size", "1; 64 for sparse attention and trtllm, 128 for fa4 on SM100, 256 for DeepSeek-V4"),
        (
            "attention-backend",
            "fa3 on Hopper, trtllm_mha on SM100, else flashinfer; by class where it has rules of its own",
        ),
        ("context-length", "the sequence length asked for"),
        ("max-running-requests", "2048 to 4096 by tokens; 256 for DeepSeek-V4, 48 with speculation"),
        ("chunked-prefill-size", "2048, 4096, 8192 or 16384 by the device's memory"),
        ("swa-full-tokens-ratio", "0.8; 0.1 for DeepSeek-V4"),
        ("mamba-full-memory-ratio", "0.9"),
        ("mamba-radix-cache-strategy", "extra_buffer where the class can, else no_buffer"),
    ],
    formats: format::FORMATS,
    allocation: Allocation::Pool,
    share_setting: Some("mem-fraction-static"),
    answer,
    share: |_| Ok(server::SHARE),
    overhead: server::overhead,
    request_limit: |answer, _, _, _| match &answer.details {
        Some(Details::Sglang(facts)) => {
            Ok(facts.max_running_requests.map(|most| RequestLimit { setting: "max_running_requests", most }))
        }
        _ => Ok(None),
    },
    pools_per_replica: |engine, _| match engine.settings.switch("enable-dp-attention") {
        Some(true) => engine.settings.count("dp-size").unwrap_or(1),
        _ => 1,
    },
    serve: |served| served.with(&SERVE),
    ..Profile::DEFAULT
};

const SERVE: serve::Options = serve::Options {
    program: "python -m sglang.launch_server --model-path",
    tp: "--tp-size",
    pp: "--pp-size",
    dp: Some("--dp-size"),
    dcp: None,
    seq_len: "--context-length",
    utilization: "--mem-fraction-static",
    kv_dtype: "--kv-cache-dtype",
    // It has no plain fp8 (`arg_groups/fields/model.py`).
    formats: &[("fp8", "fp8_e4m3")],
    without_option: &[],
};

/// The version whose rules these are.
const VERSION: &str = "0.5.23";

/// Its own figures, on one rank.
#[cfg_attr(feature = "cli", serde_with::skip_serializing_none)]
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Facts {
    /// The version whose rules these are.
    pub version: &'static str,
    /// Whether the pools can be built from the memory given.
    pub fits: Option<bool>,
    /// Where attention is computed.
    pub attention_backend: &'static str,
    /// The cache's type, as torch names it.
    pub kv_cache_dtype: &'static str,
    /// Tokens of a page.
    pub page_size: u64,
    /// Bytes of a token.
    pub cell_size: CellSize,
    /// Tokens of the pool.
    pub max_total_num_tokens: Option<u64>,
    /// Tokens of the pool of layers that keep every token, where windowed ones have their own.
    pub full_max_total_num_tokens: Option<u64>,
    /// Tokens of the window's pool.
    pub swa_max_total_num_tokens: Option<u64>,
    /// Requests at once, of one group of ranks.
    pub max_running_requests: Option<u64>,
    /// Bytes of the token pools, padding included; absent where it is one buffer with others.
    pub pool_bytes: Option<u64>,
    /// The slots for states.
    pub mamba: Option<Slots>,
    /// Bytes of the request table, on top of the budget.
    pub req_to_token_bytes: Option<u64>,
}

/// Slots for states, on one rank.
#[cfg_attr(feature = "cli", serde_with::skip_serializing_none)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Slots {
    /// Slots, without the padding one.
    pub slots_max_mamba_cache_size: Option<u64>,
    /// Bytes of a slot in all layers.
    pub bytes_per_slot_all_layers: u64,
    /// Bytes of all slots, the padding one included; absent where they are one buffer with others.
    pub pool_bytes: Option<u64>,
}

/// Bytes of a token: a whole number where it is one.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct CellSize(pub Double);

impl Serialize for CellSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_whole() {
            serializer.serialize_u64(self.0.truncated())
        } else {
            serializer.serialize_f64(self.0.value())
        }
    }
}

/// Tokens of a prefill chunk of `engine`, an `SGLang`: given, or by the device's memory (`arg_groups/memory_hook.py`,
/// `handle_gpu_memory_settings`); 0 for no chunks.
pub fn chunked_prefill_size(engine: &Engine) -> u64 {
    engine.settings.count("chunked-prefill-size").unwrap_or(match engine.device.memory_mib / 1024 {
        0..20 => 2_048,
        20..60 => 4_096,
        60..160 => 8_192,
        _ => 16_384,
    })
}

fn answer(model: &Model, workload: &Workload, engine: &Engine) -> Result<Answer, Error> {
    let arguments = Arguments::resolve(model, workload, engine)?;
    Server::new(model, workload, &arguments, engine)?.answer()
}
