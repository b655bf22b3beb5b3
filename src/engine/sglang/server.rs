//! A server as it starts from a budget: its pools, the requests it runs at once, the request table, and what it leaves of
//! the device.

use super::arguments::{Arguments, Entries};
use super::format::Format;
use super::layers::Stage;
use super::need::{gaps, need};
use super::pools::{Part, Sizes, TokenPools, refused};
use super::state::SlotBudget;
use super::{CellSize, Facts, Slots, VERSION, chunked_prefill_size, state};
use crate::engine::{Answer, Capacity, Details, Double, Engine, Overhead, OverheadTerm, RESERVE, Rule, Share, Term};
use crate::estimate::{Layout, Workload};
use crate::model::Model;
use crate::units::{Bytes, Code, Error, Exact, group_thousands};

/// Bytes that SGLang leaves outside of weights and pools at the least, which the request table is paid from
/// (`arg_groups/memory_hook.py`).
const RESERVED: u64 = 10_240 * 1024 * 1024;

/// The pools on a rank of one pipeline stage.
pub(super) struct Rank {
    pub(super) tokens: TokenPools,
    /// Bytes of a slot for states.
    pub(super) slot: u64,
}

/// A server that could be started.
pub(super) struct Server<'a> {
    pub(super) model: &'a Model,
    pub(super) workload: &'a Workload,
    pub(super) arguments: &'a Arguments,
    pub(super) ranks: Vec<Rank>,
    /// Bytes of a slot on the stage with the most states: every stage has as many slots as it allows.
    slot: u64,
}

/// The pools of a budget.
#[derive(Debug, Clone, Copy)]
struct Built {
    sizes: Sizes,
    /// Slots for states.
    slots: Option<u64>,
    /// Requests at once on one group of ranks.
    requests: u64,
}

impl<'a> Server<'a> {
    pub(super) fn new(
        model: &'a Model,
        workload: &'a Workload,
        arguments: &'a Arguments,
        engine: &Engine,
    ) -> Result<Self, Error> {
        let rank = |layers| {
            let stage = Stage { model, arguments, engine, layers };
            Ok(Rank { tokens: TokenPools::new(&stage)?, slot: state::slot_bytes(&stage)? })
        };
        let stages = workload.layout.stages(model.num_hidden_layers)?;
        let ranks = stages.into_iter().map(rank).collect::<Result<Vec<_>, Error>>()?;
        let slot = ranks.iter().map(|rank| rank.slot).max().unwrap_or_default();
        Ok(Self { model, workload, arguments, ranks, slot })
    }

    pub(super) fn answer(&self) -> Result<Answer, Error> {
        let mut answer = Answer::of(need(self)?);
        answer.assumptions.clone_from(&self.arguments.notes.assumptions);
        answer.warnings.clone_from(&self.arguments.notes.warnings);
        let mut built = None;
        if let Some(memory) = self.workload.memory {
            match self.build(memory.0) {
                Ok(pools) => built = Some(pools),
                Err(error) if error.code == Code::Refused => {
                    answer.warnings.push(format!("the server does not start: {}", error.problem));
                }
                Err(error) => return Err(error),
            }
            answer.capacity = Some(self.capacity(memory.0, built)?);
        }
        self.note_request_table(built, &mut answer)?;
        if !self.builds() {
            let text = "DeepSeek-V4's pools are sized alike in bf16, and then fail an assertion when they are built: use fp8_e4m3";
            answer.warnings.push(text.into());
        }
        answer.details = Some(Details::Sglang(self.facts(built)?.into()));
        answer.gaps = gaps(self)?;
        Ok(answer)
    }

    fn facts(&self, built: Option<Built>) -> Result<Facts, Error> {
        let attention = self.arguments.attention;
        let sizes = built.map(|built| built.sizes);
        let window = sizes.and_then(|sizes| sizes.window);
        let slots = built.and_then(|built| built.slots);
        let slot_bytes = |slots: u64| ((Exact::from(slots) + 1u64) * self.slot).get();
        let slots = Slots {
            slots_max_mamba_cache_size: slots,
            bytes_per_slot_all_layers: self.slot,
            pool_bytes: slots.filter(|_| !self.arguments.unified).map(slot_bytes).transpose()?,
        };
        Ok(Facts {
            version: VERSION,
            fits: self.workload.memory.map(|_| built.is_some()),
            attention_backend: attention.backend.name(),
            kv_cache_dtype: attention.format.tensor(),
            page_size: attention.page,
            cell_size: CellSize(self.cell()?),
            max_total_num_tokens: sizes.map(|sizes| sizes.total),
            full_max_total_num_tokens: sizes.filter(|_| window.is_some()).map(|sizes| sizes.full),
            swa_max_total_num_tokens: window,
            max_running_requests: built.map(|built| built.requests),
            pool_bytes: built.map_or(Ok(None), |built| self.pool_bytes(built))?,
            mamba: self.arguments.states.map(|_| slots),
            req_to_token_bytes: built.map(|built| self.table_bytes(built.requests)).transpose()?,
        })
    }

    /// Whether the pools can be built at all: the layout of DeepSeek-V4's kernels is fp8 only.
    fn builds(&self) -> bool {
        self.arguments.entries != Entries::Compressed || self.arguments.attention.format == Format::Fp8E4m3
    }

    /// Bytes of a token on the stage where they are the most.
    fn cell(&self) -> Result<Double, Error> {
        self.ranks.iter().try_fold(Double::whole(0), |most, rank| {
            let cell = rank.tokens.cell(self.arguments)?;
            Ok(if cell > most { cell } else { most })
        })
    }

    fn build(&self, memory: u64) -> Result<Built, Error> {
        let arguments = self.arguments;
        let SlotBudget { slots, left } = state::slots(memory, self.slot, arguments)?;
        let mut least: Option<Sizes> = None;
        for rank in &self.ranks {
            let sizes = rank.tokens.sizes(left, arguments)?;
            least = Some(least.filter(|least| least.total <= sizes.total).unwrap_or(sizes));
        }
        let Some(mut sizes) = least else { return refused("there is no stage") };
        let limit = arguments.schedule.max_tokens.filter(|&limit| limit < sizes.total);
        if let (Some(limit), Some(rank)) = (limit, self.ranks.first()) {
            sizes = rank.tokens.sizes_of_tokens(limit, arguments)?;
            if sizes.total == 0 {
                let page = arguments.attention.page;
                return refused(format!("--max-total-tokens {limit} is less than one page of {page}"));
            }
        }
        Ok(Built { sizes, slots, requests: self.requests(sizes.total, slots)? })
    }

    /// Requests at once with `tokens` tokens and `slots` slots (`resolve_max_num_reqs`).
    fn requests(&self, tokens: u64, slots: Option<u64>) -> Result<u64, Error> {
        let schedule = self.arguments.schedule;
        let by_length = Double::ratio(tokens, schedule.context).times(Double::whole(512)).truncated();
        let requests = schedule.requests.unwrap_or(by_length.clamp(2_048, 4_096)).min(tokens / 2);
        let Some((states, slots)) = self.arguments.states.zip(slots) else { return Ok(requests) };
        let each = states.slots_per_request;
        match requests.min(slots.checked_div(each).unwrap_or_default()) {
            0 if requests == 0 => refused(format!("{tokens} tokens are too few for one request")),
            0 => refused(format!("{slots} slots for states are too few for one request, which takes {each}")),
            requests => Ok(requests),
        }
    }

    /// Bytes of the model's own token pools on the rank where they are the most.
    fn pool_bytes(&self, built: Built) -> Result<Option<u64>, Error> {
        let arguments = self.arguments;
        let attention = arguments.attention;
        if arguments.unified || attention.nvfp4.unpacked || !self.builds() {
            return Ok(None);
        }
        let of_rank = |rank: &Rank| -> Exact {
            let shares = rank.tokens.shares(built.sizes, attention.page, built.requests, arguments);
            shares.iter().filter(|share| share.part != Part::Draft).map(|share| share.bytes).sum()
        };
        self.ranks.iter().map(of_rank).fold(Exact::ZERO, Exact::max).get().map(Some)
    }

    fn table_bytes(&self, requests: u64) -> Result<u64, Error> {
        ((Exact::from(requests) + 1u64) * self.arguments.table_columns() * 4u64).get()
    }

    /// Notes the size of the request table; without pools, that of the smallest ones.
    fn note_request_table(&self, built: Option<Built>, answer: &mut Answer) -> Result<(), Error> {
        let requests = built.map_or_else(|| self.least_requests(), |built| Ok(built.requests))?;
        let bytes = self.table_bytes(requests)?;
        let rows = (Exact::from(requests) + 1u64).get()?;
        let [rows, columns, bytes_grouped] = [rows, self.arguments.table_columns().get()?, bytes].map(group_thousands);
        let text = format!("{rows} rows of {columns} columns of 4 bytes: {bytes_grouped} bytes on each GPU");
        if bytes > RESERVED {
            answer.warnings.push(format!(
                "the request table comes on top of the cache and is larger than the 10 GiB it leaves for all else, {text}; \
                 --max-running-requests or a shorter --context-length shrinks it"
            ));
        } else {
            answer.assumptions.push(format!("the request table comes on top of the cache, {text}"));
        }
        Ok(())
    }

    /// Requests at once of the smallest pool that holds the workload; 0 where the server would not start with it.
    fn least_requests(&self) -> Result<u64, Error> {
        let Workload { seq_len, batch, .. } = *self.workload;
        let tokens = (Exact::from(seq_len).round_up_to(self.arguments.attention.page) * batch).get()?;
        let slots = self.arguments.states.map(|states| states.slots(batch).get()).transpose()?;
        match self.requests(tokens, slots) {
            Err(error) if error.code == Code::Refused => Ok(0),
            requests => requests,
        }
    }

    /// What the pools hold; nothing where the server does not start.
    fn capacity(&self, memory: u64, built: Option<Built>) -> Result<Capacity, Error> {
        let seq_len = self.workload.seq_len.0;
        let tokens = built.map(|built| built.sizes.total);
        let fitting = built.filter(|built| built.sizes.total >= seq_len);
        let concurrency = fitting.map(|built| self.concurrency(built)).transpose()?;
        let batch = Double::whole(self.workload.batch);
        Ok(Capacity {
            memory,
            fits: built.is_some(),
            holds_batch: self.workload.of_several(concurrency.is_some_and(|requests| requests >= batch)),
            blocks: None,
            tokens,
            max_concurrency: concurrency,
            max_seq_len: tokens.unwrap_or_default().min(seq_len),
        })
    }

    /// Requests of the length asked for that run at once.
    fn concurrency(&self, built: Built) -> Result<Double, Error> {
        let (seq_len, page) = (self.workload.seq_len.0, self.arguments.attention.page);
        let least = |a: Double, b: Double| if a > b { b } else { a };
        let each = Exact::from(seq_len).round_up_to(page).get()?;
        let mut requests = least(Double::ratio(built.sizes.total, each), Double::whole(built.requests));
        if let (Some(pool), Some(window)) = (built.sizes.window, self.arguments.window.tokens) {
            let live = (Exact::from(window.min(seq_len)) + page).get()?;
            requests = least(requests, Double::ratio(pool, live));
        }
        Ok(requests.times(Double::whole(self.arguments.ranks.attention_dp)))
    }
}

// What `SGLang` leaves of a device for its steps and graphs: one rule, from which its `mem_fraction_static` follows.
//
// Read in sglang 0.5.23, `arg_groups/memory_hook.py` (`handle_gpu_memory_settings`, `reserve_for_graph_mb`) and
// `arg_groups/cuda_graph_hook.py`. It is measured before weights are loaded; pools get what is free afterwards less this
// (`mem_cache/kv_cache_configurator.py`, `_profile_available_bytes`). No public start-up logs say how far off that is.

/// It takes all memory but its reserve.
pub(super) const SHARE: Share = Share { rule: Rule::All, default: "1", source: "sglang: what its reserve leaves" };

/// Decoding batches that graphs are captured for, by GiB of memory: with fewer than four ranks, and from four on.
fn decoding_batches(memory_gib: u64, ranks: u64) -> u64 {
    let few = ranks < 4;
    match memory_gib {
        0..20 => 8,
        20..35 if few => 48,
        35..60 if few => 32,
        20..60 => 160,
        60..160 if few => 256,
        _ => 512,
    }
}

/// Sizes of prefills, in tokens, that graphs are captured for.
struct Prefills {
    from: u64,
    up_to: u64,
    step: u64,
}

const PREFILLS: &[Prefills] = &[
    Prefills { from: 4, up_to: 32, step: 4 },
    Prefills { from: 48, up_to: 256, step: 16 },
    Prefills { from: 288, up_to: 512, step: 32 },
    Prefills { from: 576, up_to: 1024, step: 64 },
    Prefills { from: 1280, up_to: 4096, step: 256 },
    Prefills { from: 4608, up_to: u64::MAX, step: 512 },
];

/// MiB of graphs for a latent, whatever the sizes of prefills.
const LATENT_MIB: u64 = 1_536;

/// The overhead of `model`.
pub(super) fn overhead(model: &Model, workload: &Workload, engine: &Engine) -> Result<Overhead, Error> {
    if model.checkpoint.multimodal {
        return Err(engine.unknown_overhead("what it reserves for what sees and hears is not read here"));
    }
    let bytes = reserve(model, workload.layout, engine)?;
    let term = Term::estimated(bytes, "sglang 0.5.23: what its default mem_fraction_static is not");
    let note = "what it holds before it measures (contexts, communication) is not counted, and no log says how far off its \
                rule is";
    let stages = workload.layout.stages(model.num_hidden_layers)?.len();
    Ok(Overhead::uniform(stages, Some(OverheadTerm { name: RESERVE, term }), note))
}

/// The part of the device's memory that is not static, rounded as its fraction of three decimals is.
fn reserve(model: &Model, layout: Layout, engine: &Engine) -> Result<Bytes, Error> {
    let memory = engine.device.memory_mib;
    let chunk = match chunked_prefill_size(engine) {
        // Without chunks it is `max_prefill_tokens`.
        0 => 16_384,
        chunk => chunk,
    };
    // All of it in halves of a MiB: a token of a chunk is taken for one and a half.
    let steps = Exact::from(chunk.max(2_048)) * 3u64 + 1_024u64;
    let devices = Exact::from(layout.tp) * layout.pp;
    let halves = steps + devices * 256u64 + graphs(model, chunk, layout, memory) * 2u64;
    let least: u64 = if memory > 60 * 1_024 { 2 * 10 * 1_024 } else { 0 };
    let whole = (Exact::from(memory) * 2u64).max(1u64);
    let left = whole.less(halves.max(least));
    // round((memory - reserved) / memory, 3)
    let thousandths = (left * 2_000u64 + whole) / (whole * 2u64);
    (Exact::from(memory) * (1u64 << 20) * (Exact::from(1_000u64) - thousandths) / 1_000u64).bytes()
}

/// MiB for graphs: 2 for each decoding batch, and 8 for each size of prefill, which pipeline stages do not capture.
fn graphs(model: &Model, chunk: u64, layout: Layout, memory_mib: u64) -> Exact {
    let sizes = |row: &Prefills| match chunk.min(row.up_to).checked_sub(row.from) {
        Some(range) => Exact::from(range) / row.step + 1u64,
        None => Exact::ZERO,
    };
    let prefills = match (layout.pp, model.checkpoint.widths.latent) {
        (1, None) => PREFILLS.iter().map(sizes).sum::<Exact>() * 8u64,
        (1, Some(_)) => LATENT_MIB.into(),
        _ => Exact::ZERO,
    };
    Exact::from(decoding_batches(memory_mib / 1_024, layout.tp)) * 2u64 + prefills
}
