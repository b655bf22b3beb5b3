//! SGLang 0.5.23: pools of tokens and of states, sized from a memory budget and allocated at once, on each rank.
//!
//! Paths below are of `python/sglang/srt/` in its source. CUDA devices; one environment, with nothing of it set.
//!
//! - **One pool** (`model_executor/pool_configurator.py`, `DefaultPoolConfigurator`): a token costs `cell_size` bytes, all
//!   layers alike, whatever they attend to: windows, layers that share a cache and cross-attention are priced as full ones.
//!   KV heads are divided by the ranks and rounded down, to one at least. Latents are whole on every rank; with an index
//!   (DeepSeek sparse attention) fp8 latents have a scale for each 128 elements and a rotary part in bf16, unless the kernel
//!   takes them raw; index keys are in fp8 with scales, on the layers that pick for themselves.
//!   `tokens = budget / cell_size`, in whole pages.
//! - **Two pools** (`HybridSWAPoolConfigurator`) for some classes with windows: `full = budget // (full layers' bytes + ratio ×
//!   window layers' bytes)`, in doubles; `window = ratio × full`. Without the radix cache and with `max-running-requests` the
//!   window's pool holds what so many requests may have alive, and the rest is full (`SWARequestCapPoolConfigurator`).
//! - **States** (`mem_cache/kv_cache_configurator.py`, `_handle_max_mamba_cache`; `configs/mamba_utils.py`): slots for
//!   0.9 / 1.9 of the budget, or as many as given, and one more; what they leave is for tokens. A request takes 5 slots with
//!   overlap scheduling (3, and 2 for snapshots), 3 for classes without snapshots, 1 without the radix cache.
//!   Convolutions are in bf16; memory is in fp32 unless `mamba_ssm_dtype` says otherwise.
//! - **DeepSeek-V4** (`DSV4PoolConfigurator`): see `compressed.rs`.
//! - Every pool has one page more than it counts, for padding: the pools are slightly larger than the budget.
//! - **Requests** (`resolve_max_num_reqs`): 2,048 to 4,096 by tokens and context, at most half the tokens; 256 for
//!   DeepSeek-V4, 48 with speculation; at most as many as have slots.
//! - The **request table** (`mem_cache/allocation_sizing.py`) is on top of the budget: 4 bytes for each request and token of
//!   the context.
//!
//! With `--memory` the pools are those of that budget, and `fits` is whether a server starts with them: one whose pool is
//! shorter than the length asked for does, and takes requests up to `max_seq_len`. `bytes` is what the workload needs
//! whatever the budget: the smallest such pools that hold it, in whole pages, with the padding page, and the slots that its
//! requests take.

mod arguments;
mod classes;
mod compressed;
mod pools;
mod reserve;
mod share;
mod state;

use serde::{Serialize, Serializer};

use self::arguments::Arguments;
use self::pools::{Tokens, full_for, tokens_of, window_share};
use self::share::{Part, Share, Sizes};
use super::{
    Allocation, Answer, Capacity, Details, Double, Engine, Gap, Profile, RequestLimit, Setting, ValueKind, serve,
};
use crate::estimate::{BytesPerToken, Estimate, GroupEstimate, Workload, estimate};
use crate::model::Model;
use crate::units::{Bytes, Error, group_thousands};

const fn count(name: &'static str, about: &'static str) -> Setting {
    Setting::new(name, ValueKind::Count, about)
}

const fn switch(name: &'static str, off: &'static str, about: &'static str) -> Setting {
    Setting::new(name, ValueKind::Switch { off }, about)
}

const fn choice(name: &'static str, words: &'static [&'static str], about: &'static str) -> Setting {
    Setting::new(name, ValueKind::Choice(words), about)
}

const ATTENTION_BACKENDS: &[&str] = &[
    "triton",
    "torch_native",
    "flex_attention",
    "dsa",
    "dsv4",
    "fa3",
    "fa4",
    "flashinfer",
    "flashmla",
    "trtllm_mla",
    "cutedsl_mla",
    "trtllm_mha",
    "hpc_ops",
];

const DSA_BACKENDS: &[&str] = &[
    "flashmla_sparse",
    "flashmla_sparse_q8",
    "flashmla_kv",
    "flashmla_auto",
    "flashinfer_sparse_mla",
    "triton_sparse_mla",
    "fa3",
    "tilelang",
    "trtllm",
];

pub(super) const PROFILE: Profile = Profile {
    name: "sglang",
    versions: &["0.5.23"],
    about: "its pools of tokens and states, sized from a budget",
    replayed: "309 runs of its own pool configurator and builders, every number equal",
    heading: "Settings of SGLang",
    settings: &[
        count("page-size", "Tokens of a page"),
        count("context-length", "The longest request; the sequence length unless given")
            .not_with_hardware("give --seq-len instead"),
        count("max-running-requests", "Requests at once"),
        count("max-total-tokens", "Tokens of the pool at most"),
        count("max-mamba-cache-size", "Slots for states"),
        Setting::new("chunked-prefill-size", ValueKind::CountOrZero, "Tokens of a prefill chunk; 0 for no chunks"),
        Setting::new("swa-full-tokens-ratio", ValueKind::Ratio, "Window tokens for each full token"),
        Setting::new("mamba-full-memory-ratio", ValueKind::Ratio, "Bytes of states for each byte of all else"),
        Setting::new("mem-fraction-static", ValueKind::Ratio, "Refused: --memory is what is left for the cache"),
        switch("disable-radix-cache", "no-disable-radix-cache", "Cache no prefixes"),
        switch("disable-overlap-schedule", "no-disable-overlap-schedule", "Schedule between batches, not beside them"),
        switch("disable-hybrid-swa-memory", "no-disable-hybrid-swa-memory", "One pool, windows priced as full layers"),
        switch("enable-unified-memory", "no-enable-unified-memory", "One buffer for all pools"),
        switch("enable-dp-attention", "no-enable-dp-attention", "Groups of ranks with requests of their own"),
        switch("enable-multimodal", "no-enable-multimodal", "Serve images; no pool changes with it"),
        count("dp-size", "Groups of data parallel attention"),
        choice("attention-backend", ATTENTION_BACKENDS, "Kernels of attention; they decide the page"),
        choice("dsa-prefill-backend", DSA_BACKENDS, "Kernels of sparse attention for prefill"),
        choice("dsa-decode-backend", DSA_BACKENDS, "Kernels of sparse attention for decode"),
        choice("mamba-ssm-dtype", &["float32", "bfloat16", "float16"], "Format of a state's memory"),
        choice(
            "mamba-radix-cache-strategy",
            &["auto", "no_buffer", "extra_buffer", "extra_buffer_lazy"],
            "Slots for snapshots of states",
        )
        .or("mamba-scheduler-strategy"),
        choice("speculative-algorithm", &["EAGLE", "EAGLE3", "NEXTN", "STANDALONE", "NGRAM"], "How tokens are drafted"),
        count("speculative-num-steps", "Steps of drafting"),
        count("speculative-eagle-topk", "Branches of a step"),
        count("speculative-num-draft-tokens", "Tokens to verify"),
    ],
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
    formats: arguments::FORMATS,
    allocation: Allocation::Pool,
    share_setting: Some("mem-fraction-static"),
    answer,
    share: |_| Ok(reserve::SHARE),
    overhead: reserve::overhead,
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

/// Bytes that SGLang leaves outside of weights and pools at the least, which the request table is paid from
/// (`arg_groups/memory_hook.py`).
const RESERVED: u64 = 10_240 * 1024 * 1024;

/// Its own figures, on one rank.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Facts {
    /// The version whose rules these are.
    pub version: &'static str,
    /// Whether the pools can be built from the memory given.
    #[serde(skip_serializing_if = "Option::is_none")]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_total_num_tokens: Option<u64>,
    /// Tokens of the pool of layers that keep every token, where windowed ones have their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_max_total_num_tokens: Option<u64>,
    /// Tokens of the window's pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swa_max_total_num_tokens: Option<u64>,
    /// Requests at once, of one group of ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_running_requests: Option<u64>,
    /// Bytes of the token pools, padding included; absent where it is one buffer with others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_bytes: Option<u64>,
    /// The slots for states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mamba: Option<Slots>,
    /// Bytes of the request table, on top of the budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub req_to_token_bytes: Option<u64>,
}

/// Slots for states, on one rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Slots {
    /// Slots, without the padding one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots_max_mamba_cache_size: Option<u64>,
    /// Bytes of a slot in all layers.
    pub bytes_per_slot_all_layers: u64,
    /// Bytes of all slots, the padding one included; absent where they are one buffer with others.
    #[serde(skip_serializing_if = "Option::is_none")]
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

/// Tokens of a prefill chunk of `engine`, an `SGLang`: given, or by the device's memory; 0 for no chunks.
pub fn chunked_prefill_size(engine: &Engine) -> u64 {
    engine.settings.count("chunked-prefill-size").unwrap_or_else(|| arguments::chunk_of(engine.device.memory_mib))
}

fn answer(model: &Model, workload: &Workload, engine: &Engine) -> Result<Answer, Error> {
    let arguments = Arguments::resolve(model, workload, engine)?;
    let layout = workload.layout;
    let stages = layout.stages(model.num_hidden_layers)?;
    let mut ranks = Vec::with_capacity(stages.len());
    for stage in &stages {
        let tokens = Tokens::of(model, &arguments, engine, stage)?;
        let slot = state::slot_bytes(model, &arguments, engine, stage)?;
        ranks.push(Rank { tokens, slot });
    }
    // Slots are as many on every stage as the one with the most states allows.
    let slot = ranks.iter().map(|rank| rank.slot).max().unwrap_or_default();
    let server = Server { model, workload, arguments: &arguments, ranks, slot };
    server.answer(engine)
}

/// The pools of a pipeline stage's rank.
#[derive(Debug)]
struct Rank {
    tokens: Tokens,
    /// Bytes of a slot for states.
    slot: u64,
}

/// A server that could be started.
struct Server<'a> {
    model: &'a Model,
    workload: &'a Workload,
    arguments: &'a Arguments,
    ranks: Vec<Rank>,
    /// Bytes of a slot on the stage with the most states.
    slot: u64,
}

/// What a server makes of its memory.
#[derive(Debug, Clone, Copy)]
struct Built {
    sizes: Sizes,
    slots: Option<u64>,
    requests: u64,
}

/// How a workload is counted on the way from the ideal to what is allocated.
#[derive(Debug, Clone, Copy)]
struct Counting {
    /// In whole pages, with one more for padding.
    pages: bool,
    /// With the slots that requests take, and one more for padding.
    slots: bool,
    /// The shared prefix once.
    prefix: bool,
}

const ALLOCATED: Counting = Counting { pages: true, slots: true, prefix: true };

fn too_large(bytes: u128) -> Result<u64, Error> {
    u64::try_from(bytes).map_err(|_| Error::too_large())
}

impl Server<'_> {
    fn answer(self, engine: &Engine) -> Result<Answer, Error> {
        let arguments = self.arguments;
        let cell = self.cell();
        let estimate = self.need(cell)?;
        let mut answer = Answer {
            assumptions: arguments.assumptions.clone(),
            warnings: arguments.warnings.clone(),
            ..Answer::of(estimate)
        };
        let built = self.workload.memory.map(|memory| (memory.0, self.build(memory.0)));
        let slots = |slots: Option<u64>| Slots {
            slots_max_mamba_cache_size: slots,
            bytes_per_slot_all_layers: self.slot,
            pool_bytes: slots
                .filter(|_| !arguments.unified)
                .map(|slots| slots.saturating_add(1).saturating_mul(self.slot)),
        };
        let mut facts = Facts {
            version: VERSION,
            fits: built.as_ref().map(|(_, built)| built.is_ok()),
            attention_backend: arguments.backend,
            kv_cache_dtype: arguments.format.tensor(),
            page_size: arguments.page,
            cell_size: CellSize(cell),
            max_total_num_tokens: None,
            full_max_total_num_tokens: None,
            swa_max_total_num_tokens: None,
            max_running_requests: None,
            pool_bytes: None,
            mamba: arguments.states.map(|_| slots(None)),
            req_to_token_bytes: None,
        };
        match &built {
            Some((memory, Ok(built))) => {
                let two = built.sizes.window.is_some();
                facts.max_total_num_tokens = Some(built.sizes.total);
                facts.full_max_total_num_tokens = two.then_some(built.sizes.full);
                facts.swa_max_total_num_tokens = built.sizes.window;
                facts.max_running_requests = Some(built.requests);
                facts.pool_bytes = self.pool_bytes(built)?;
                facts.mamba = arguments.states.map(|_| slots(built.slots));
                facts.req_to_token_bytes = Some(self.table(built.requests));
                answer.capacity = Some(self.capacity(*memory, built));
            }
            Some((memory, Err(reason))) => {
                answer.warnings.push(format!("the server does not start: {reason}"));
                answer.capacity = Some(Capacity {
                    memory: *memory,
                    fits: false,
                    holds_batch: self.workload.of_several(false),
                    blocks: None,
                    tokens: None,
                    max_concurrency: None,
                    max_seq_len: 0,
                });
            }
            None => {}
        }
        self.say_table(built.and_then(|(_, built)| built.ok()).map(|built| built.requests), &mut answer);
        if !self.builds() {
            answer.warnings.push(
                "DeepSeek-V4's pools are sized alike in bf16, and then fail an assertion when they are built: use fp8_e4m3".into(),
            );
        }
        answer.details = Some(Details::Sglang(facts));
        answer.gaps = self.gaps(engine, answer.estimate.bytes)?;
        Ok(answer)
    }

    /// Whether the pools can be built at all.
    fn builds(&self) -> bool {
        self.ranks.iter().all(|rank| match &rank.tokens {
            Tokens::Compressed(pools) => pools.builds(),
            _ => true,
        })
    }

    /// The costliest stage's bytes of a token.
    fn cell(&self) -> Double {
        let cells = self.ranks.iter().map(|rank| rank.tokens.cell(self.arguments));
        cells.fold(Double::whole(0), |most, cell| if cell > most { cell } else { most })
    }

    /// The pools of a budget; why there are none.
    fn build(&self, memory: u64) -> Result<Built, String> {
        let arguments = self.arguments;
        let (slots, rest) = match arguments.states {
            None => (None, memory),
            Some(states) => {
                let (slots, rest) = state::slots(memory, self.slot, states, arguments)?;
                (Some(slots), rest)
            }
        };
        let mut least: Option<Sizes> = None;
        for rank in &self.ranks {
            let sizes = rank.tokens.sizes(rest, arguments)?;
            least = Some(least.filter(|least| least.total <= sizes.total).unwrap_or(sizes));
        }
        let Some(mut sizes) = least else { return Err("there is no stage".into()) };
        let limit = arguments.max_tokens.filter(|&limit| limit < sizes.total);
        if let (Some(limit), Some(rank)) = (limit, self.ranks.first()) {
            sizes = rank.tokens.of_tokens(limit, arguments)?;
            if sizes.total == 0 {
                return Err(format!("--max-total-tokens {limit} is less than one page of {}", arguments.page));
            }
        }
        let requests = self.requests(sizes.total, slots)?;
        Ok(Built { sizes, slots, requests })
    }

    /// Requests at once with so many tokens and slots.
    fn requests(&self, tokens: u64, slots: Option<u64>) -> Result<u64, String> {
        let half = tokens / 2;
        let by_length = Double::ratio(tokens, self.arguments.context).times(Double::whole(512)).truncated();
        let requests = self.arguments.requests.unwrap_or(by_length.clamp(2_048, 4_096)).min(half);
        let Some((states, slots)) = self.arguments.states.zip(slots) else { return Ok(requests) };
        let each = states.slots_per_request;
        match requests.min(slots.checked_div(each).unwrap_or_default()) {
            0 if requests == 0 => Err(format!("{tokens} tokens are too few for one request")),
            0 => Err(format!("{slots} slots for states are too few for one request, which takes {each}")),
            requests => Ok(requests),
        }
    }

    /// Bytes of the model's own token pools on the costliest rank.
    fn pool_bytes(&self, built: &Built) -> Result<Option<u64>, Error> {
        let arguments = self.arguments;
        if arguments.unified || arguments.unpacks || !self.builds() {
            return Ok(None);
        }
        let of = |rank: &Rank| {
            let shares = rank.tokens.shares(built.sizes, arguments.page, built.requests, arguments);
            let own = shares.iter().filter(|share| share.part != Part::Draft);
            own.fold(0u128, |sum, share| sum.saturating_add(share.bytes))
        };
        too_large(self.ranks.iter().map(of).max().unwrap_or_default()).map(Some)
    }

    /// Bytes of the request table for so many requests.
    fn table(&self, requests: u64) -> u64 {
        let columns = self.arguments.context.saturating_add(self.arguments.table_extra());
        requests.saturating_add(1).saturating_mul(columns).saturating_mul(4)
    }

    /// What is said of the request table: without memory that of the smallest pool.
    fn say_table(&self, requests: Option<u64>, answer: &mut Answer) {
        let seq_len = self.workload.seq_len.0;
        let (batch, page) = (self.workload.batch, self.arguments.page);
        let of_states =
            |states: arguments::States| states.fixed.unwrap_or(batch.saturating_mul(states.slots_per_request));
        let slots = self.arguments.states.map(of_states);
        let least = || self.requests(tokens_of(batch, seq_len, 0, page), slots).unwrap_or_default();
        let requests = requests.unwrap_or_else(least);
        let bytes = self.table(requests);
        let (rows, columns) =
            (requests.saturating_add(1), self.arguments.context.saturating_add(self.arguments.table_extra()));
        let [rows, columns, bytes_grouped] = [rows, columns, bytes].map(group_thousands);
        let text = format!("{rows} rows of {columns} columns of 4 bytes: {bytes_grouped} bytes on each GPU");
        if bytes > RESERVED {
            answer.warnings.push(format!(
                "the request table comes on top of the cache and is larger than the 10 GiB it leaves for all else, {text}; \
                 --max-running-requests or a shorter --context-length shrinks it"
            ));
        } else {
            answer.assumptions.push(format!("the request table comes on top of the cache, {text}"));
        }
    }

    fn capacity(&self, memory: u64, built: &Built) -> Capacity {
        let (seq_len, total) = (self.workload.seq_len.0, built.sizes.total);
        let groups = self.arguments.attention_dp;
        let each = arguments::up_to(seq_len, self.arguments.page);
        let least = |a: Double, b: Double| if a > b { b } else { a };
        let mut concurrency = least(Double::ratio(total, each), Double::whole(built.requests));
        if let (Some(pool), Some(window)) = (built.sizes.window, self.arguments.window) {
            let live = window.min(seq_len).saturating_add(self.arguments.page);
            concurrency = least(concurrency, Double::ratio(pool, live));
        }
        Capacity {
            memory,
            fits: true,
            holds_batch: self.workload.of_several(
                total >= seq_len && concurrency.times(Double::whole(groups)) >= Double::whole(self.workload.batch),
            ),
            blocks: None,
            tokens: Some(total),
            max_concurrency: (total >= seq_len).then(|| concurrency.times(Double::whole(groups))),
            max_seq_len: seq_len.min(total),
        }
    }

    /// Requests of each group of ranks: how many groups have how many.
    fn groups(&self) -> [(u64, u64); 2] {
        let groups = self.arguments.attention_dp.max(1);
        let batch = self.workload.batch;
        let (each, more) =
            (batch.checked_div(groups).unwrap_or_default(), batch.checked_rem(groups).unwrap_or_default());
        [(more, each.saturating_add(1)), (groups.saturating_sub(more), each)]
    }

    /// What `requests` requests take on a rank of a stage.
    fn shares(&self, rank: &Rank, requests: u64, counting: Counting) -> Vec<Share> {
        let arguments = self.arguments;
        let seq_len = self.workload.seq_len.0;
        let page = if counting.pages { arguments.page } else { 1 };
        let shared = self.workload.shared_prefix.filter(|_| counting.prefix && arguments.radix);
        let tokens = tokens_of(requests, seq_len, shared.map_or(0, |shared| shared.0), page);
        let sizes = match &rank.tokens {
            Tokens::One { .. } => Sizes { full: tokens, window: None, total: tokens },
            Tokens::Two { full, .. } if full.layers == 0 => Sizes { full: 0, window: Some(tokens), total: tokens },
            Tokens::Two { .. } | Tokens::Compressed(_) => match arguments.window_cap() {
                Some(cap) => Sizes { full: tokens, window: Some(cap), total: tokens },
                None => self.by_ratio(requests, tokens, counting),
            },
        };
        let padding = if counting.pages { arguments.page } else { 0 };
        let running = arguments.requests.unwrap_or(requests);
        let mut pools = rank.tokens.shares(sizes, padding, running, arguments);
        if let Some(states) = arguments.states {
            let slots = match (counting.slots, states.fixed) {
                (false, _) => requests,
                (true, Some(slots)) => slots.saturating_add(1).saturating_add(state::verified(requests, arguments)),
                (true, None) => requests
                    .saturating_mul(states.slots_per_request)
                    .saturating_add(1)
                    .saturating_add(state::verified(requests, arguments)),
            };
            let layers = state::layers(self.model);
            let bytes = u128::from(slots).saturating_mul(u128::from(rank.slot));
            pools.push(Share { kind: "recurrent_state", part: Part::State, layers, tokens: 0, bytes });
        }
        pools
    }

    /// The smallest two pools that hold `requests` requests of `tokens` tokens in all: a window's pool that is too small for
    /// theirs makes both larger, as the ratio has it.
    fn by_ratio(&self, requests: u64, tokens: u64, counting: Counting) -> Sizes {
        let arguments = self.arguments;
        let pages = counting.pages || arguments.compressed;
        let page = if pages { arguments.page } else { 1 };
        let live = arguments.window.map_or(self.workload.seq_len.0, |window| window.min(self.workload.seq_len.0));
        // A request is let in where there is more than its window and a page (`validate_swa_pool_size`).
        let each = if pages { live.saturating_add(page) } else { live };
        let floor =
            arguments.window.filter(|_| pages).map_or(0, |window| window.saturating_add(page).saturating_add(1));
        let window = each.saturating_mul(requests).max(floor);
        let total = tokens.max(full_for(arguments::up_to(window, page), page, arguments));
        Sizes { full: total, window: Some(window_share(total, page, arguments)), total }
    }

    /// The bytes of each share over all devices of a replica.
    fn total(&self, counting: Counting) -> Vec<Share> {
        let mut total: Vec<Share> = Vec::new();
        for rank in &self.ranks {
            for (groups, requests) in self.groups() {
                let devices = u128::from(groups).saturating_mul(u128::from(self.arguments.attention_tp));
                if groups == 0 {
                    continue;
                }
                for share in self.shares(rank, requests, counting) {
                    let bytes = share.bytes.saturating_mul(devices);
                    let same = |known: &&mut Share| {
                        (known.kind, known.part) == (share.kind, share.part) && known.layers == share.layers
                    };
                    match total.iter_mut().find(same) {
                        Some(known) => known.bytes = known.bytes.saturating_add(bytes),
                        None => total.push(Share { bytes, ..share }),
                    }
                }
            }
        }
        total
    }

    /// What the workload needs.
    fn need(&self, cell: Double) -> Result<Estimate, Error> {
        let shares = self.total(ALLOCATED);
        let bytes = sum(&shares, |_| true);
        let most = self.groups().iter().filter(|(groups, _)| *groups > 0).map(|(_, requests)| *requests).max();
        let of_rank = |rank: &Rank| sum(&self.shares(rank, most.unwrap_or_default(), ALLOCATED), |_| true);
        let bytes_per_gpu = self.ranks.iter().map(of_rank).max().unwrap_or_default();
        let groups = shares.iter().map(|share| {
            let entries =
                crate::units::Tokens(share.tokens.checked_div(self.workload.batch.max(1)).unwrap_or_default());
            let layers = usize::try_from(share.layers).unwrap_or(usize::MAX);
            Ok(GroupEstimate { kind: share.kind, layers, entries, bytes: Bytes(too_large(share.bytes)?) })
        });
        let slopes = self.ranks.iter().map(|rank| u128::from(rank.tokens.cell(self.arguments).millionths()));
        let slope = if self.ranks.len() == 1 { u128::from(cell.millionths()) } else { slopes.sum() };
        Ok(Estimate {
            bytes: Bytes(too_large(bytes)?),
            bytes_per_gpu: Bytes(too_large(bytes_per_gpu)?),
            bytes_per_token: BytesPerToken {
                numerator: slope.saturating_mul(u128::from(self.arguments.attention_tp)),
                denominator: 1_000_000,
            },
            layer_groups: groups.collect::<Result<_, Error>>()?,
            stored: self.arguments.format.stored(),
        })
    }

    /// The steps from the ideal bytes to these; none where the ideal has no answer.
    fn gaps(&self, engine: &Engine, bytes: Bytes) -> Result<Vec<Gap>, Error> {
        let asked =
            Workload { kv_dtype: crate::units::KvDtype::Given(self.arguments.format.stored()), ..*self.workload };
        let Ok(asked_bytes) = estimate(self.model, &asked).map(|live| i128::from(live.bytes.0)) else {
            return Ok(Vec::new());
        };
        let Ok(live) = estimate(self.model, &Workload { shared_prefix: None, ..asked }) else { return Ok(Vec::new()) };
        let live_of = |kinds: &[&str]| {
            let of_kind = live.layer_groups.iter().filter(|group| kinds.contains(&group.kind));
            of_kind.fold(0i128, |sum, group| sum.saturating_add(i128::from(group.bytes.0)))
        };
        let of = |counting: Counting, part: Option<Part>| {
            let shares = self.total(counting);
            i128::try_from(sum(&shares, |share| part.is_none_or(|part| share.part == part)))
                .map_err(|_| Error::too_large())
        };
        let exact = Counting { pages: false, slots: false, prefix: false };
        let paged = Counting { pages: true, ..exact };
        let slotted = Counting { slots: true, ..paged };
        let two = !self.ranks.iter().any(|rank| matches!(rank.tokens, Tokens::One { .. }));
        let windows = live_of(&["sliding_attention", "chunked_attention"]);
        let states = live_of(&["recurrent_state"]);
        let live_total = i128::from(live.bytes.0);
        let others = live_total.saturating_sub(states).saturating_sub(if two { windows } else { 0 });
        let full = of(exact, Some(Part::Full))?.saturating_add(of(exact, Some(Part::Draft))?);
        let at = [of(exact, None)?, of(paged, None)?, of(slotted, None)?, of(ALLOCATED, None)?];
        let between = |from: i128, to: i128| to.saturating_sub(from);
        let reason_of_full = if self.arguments.compressed {
            "entries in padded pages, and the open states of every request that may run"
        } else if !two && windows > 0 {
            "all layers are priced alike: windows keep every token"
        } else if self.arguments.indexed {
            "scales beside fp8 latents and index keys, and index keys in fp8 whatever the format"
        } else {
            "every layer is priced as full attention in this layout"
        };
        let groups = match self.arguments.attention_dp {
            1 => "",
            _ => "; data parallel attention keeps a request on one group of ranks",
        };
        let reason_of_full = format!("{reason_of_full}{groups}");
        let reason_of_window = match self.arguments.window_cap() {
            Some(cap) => format!("a window pool of {cap} tokens, for all requests that may run"),
            None => format!("a window pool of {} tokens for each full token", self.arguments.window_ratio.value()),
        };
        // What sharing saves here, against what it saves of the live bytes.
        let shared = live_total.saturating_add(between(at[2], at[3]));
        let steps = [
            (
                "shared_prefix",
                between(asked_bytes, shared),
                "whole pages of the prefix are kept once, and no windows".into(),
            ),
            ("layout", between(others, full), reason_of_full),
            ("window_pool", if two { between(windows, of(exact, Some(Part::Window))?) } else { 0 }, reason_of_window),
            (
                "state_format",
                between(states, of(exact, Some(Part::State))?),
                "convolutions in bf16, memory in its own format".into(),
            ),
            ("page_padding", between(at[0], at[1]), self.reason_of_pages()),
            ("state_copies", between(at[1], at[2]), self.reason_of_slots()),
        ];
        let gaps: Vec<Gap> = steps
            .into_iter()
            .filter(|(_, bytes, _)| *bytes != 0)
            .map(|(kind, bytes, reason)| Gap { kind, bytes, reason })
            .collect();
        let added = gaps.iter().fold(asked_bytes, |sum, gap| sum.saturating_add(gap.bytes));
        debug_assert_eq!(added, i128::from(bytes.0), "{}", engine.profile.name);
        Ok(gaps)
    }

    fn reason_of_pages(&self) -> String {
        match self.arguments.page {
            1 => "one token more in every pool, for padding".into(),
            page => format!("whole pages of {page} tokens, and one more in every pool"),
        }
    }

    fn reason_of_slots(&self) -> String {
        let Some(states) = self.arguments.states else { return String::new() };
        let slots = match states.fixed {
            Some(slots) => format!("{slots} slots for states"),
            None => format!("{} slots for states of each request", states.slots_per_request),
        };
        let drafted = match self.arguments.draft {
            Some(draft) => format!(", {} more to verify drafted tokens", draft.tokens),
            None => String::new(),
        };
        format!("{slots}{drafted}, and one for padding")
    }
}

fn sum(shares: &[Share], wanted: impl Fn(&Share) -> bool) -> u128 {
    shares.iter().filter(|share| wanted(share)).fold(0, |sum, share| sum.saturating_add(share.bytes))
}
