//! What SGLang resolves from its arguments, the checkpoint and the device before it sizes anything
//! (`arg_groups/pipeline.py`).

use serde::Deserialize;

use super::attention_backend::Attention;
use super::classes::{Class, Trait};
use super::draft::{Algorithm, Draft};
use super::layers::{IDEAL, SLIDING, groups_of, has, own_groups};
use super::state::Snapshots;
use crate::engine::{Double, Engine};
use crate::estimate::Workload;
use crate::model::{CacheKind as Kind, LayerCache, Mechanism as M, Model, RecurrentState};
use crate::units::{ElementFormat, Error, Exact, Notes};

/// Every argument that a pool depends on.
pub(super) struct Arguments {
    pub(super) attention: Attention,
    pub(super) ranks: Ranks,
    pub(super) schedule: Schedule,
    pub(super) entries: Entries,
    pub(super) window: Window,
    /// Whether one buffer holds all pools.
    pub(super) unified: bool,
    pub(super) draft: Option<Draft>,
    /// How states are kept; `None` without recurrent layers.
    pub(super) states: Option<States>,
    pub(super) notes: Notes,
}

/// How the tensor parallel ranks are used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranks {
    /// Ranks that divide the heads of a request.
    pub(super) attention_tp: u64,
    /// Groups of such ranks, each with its own requests (data parallel attention).
    pub(super) attention_dp: u64,
}

impl Ranks {
    /// The share of one group.
    fn of_group(self, total: u64) -> u64 {
        total.checked_div(self.attention_dp).unwrap_or(total)
    }
}

/// The limits that requests are scheduled within, on one group of ranks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// Tokens of the longest request.
    pub(super) context: u64,
    /// The most requests at once, where given or set by a rule.
    pub(super) requests: Option<u64>,
    /// The most tokens, where given.
    pub(super) max_tokens: Option<u64>,
    /// Whether prefixes are cached.
    pub(super) radix: bool,
    /// Whether the next batch is scheduled while the current one runs.
    overlap: bool,
    /// Tokens of a prefill chunk; `None` without chunks.
    chunk: Option<u64>,
}

/// What the model's attention keeps of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entries {
    /// K and V of each head, and MiniMax-M3's index in elements of `index_element` bytes.
    Heads { index_element: Option<u64> },
    /// Latents (MLA).
    Latents,
    /// Latents and an index (DeepSeek sparse attention); `raw` fp8 latents have no scales.
    IndexedLatents { raw: bool },
    /// The entries of DeepSeek-V4.
    Compressed,
}

/// The pool of windowed layers.
pub(super) struct Window {
    /// Window tokens for each full token.
    pub(super) ratio: Double,
    /// The runner's window, where windowed layers get a pool.
    pub(super) tokens: Option<u64>,
    /// Tokens of the pool, where requests limit it; `None` where the ratio sizes it.
    pub(super) cap: Option<u64>,
}

/// How states are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct States {
    /// Slots of a running request.
    pub(super) slots_per_request: u64,
    /// Slots in all, where they are given: `max-mamba-cache-size`, or a slot a request without the radix cache.
    pub(super) fixed: Option<u64>,
    /// Bytes of states for each byte of everything else.
    pub(super) ratio: Double,
    /// The format of a state's memory.
    pub(super) memory_format: ElementFormat,
}

impl States {
    /// Slots for the requests, unless they are given.
    pub(super) fn slots(self, requests: u64) -> Exact {
        self.fixed.map_or(Exact::from(requests) * self.slots_per_request, Exact::from)
    }
}

impl Arguments {
    pub(super) fn resolve(model: &Model, workload: &Workload, engine: &Engine) -> Result<Self, Error> {
        let mut resolver = Resolver::new(model, workload, engine);
        resolver.check_covered()?;
        resolver.check_states()?;
        resolver.note_latents();
        let ranks = resolver.ranks()?;
        resolver.algorithm = resolver.draft_algorithm()?;
        let requested = resolver.requested_format()?;
        let snapshots = resolver.snapshots()?;
        let attention = resolver.attention(requested)?;
        let window = resolver.window_tokens()?;
        let draft = resolver.draft(window)?;
        let schedule = resolver.schedule(ranks, snapshots);
        let states = snapshots.map(|snapshots| resolver.states(snapshots, ranks, schedule));
        let unified = resolver.unified(window, states)?;
        if engine.settings.switch("enable-multimodal").is_some() {
            resolver.notes.assume("--enable-multimodal does not change what the pools hold");
        }
        let window = Window { ratio: resolver.window_ratio()?, tokens: window, cap: None };
        let entries = resolver.entries(attention)?;
        let mut arguments =
            Self { attention, ranks, schedule, entries, window, unified, draft, states, notes: resolver.notes };
        arguments.window.cap = arguments.window_cap()?;
        Ok(arguments)
    }

    /// Window tokens that are live at most with `requests` requests, in whole pages
    /// (`model_executor/pool_configurator.py`, `compute_swa_request_cap`); `None` where the pool is sized by ratio.
    fn window_cap(&self) -> Result<Option<u64>, Error> {
        /// Tokens after which the window's tail is given back (`environ.py`, `SGLANG_SWA_EVICTION_INTERVAL`).
        const EVICTION_INTERVAL: u64 = 128;
        let Schedule { requests, radix, overlap, chunk, .. } = self.schedule;
        let (Some(window), Some(requests), Some(chunk)) = (self.window.tokens, requests, chunk) else {
            return Ok(None);
        };
        if radix || self.entries == Entries::Compressed {
            return Ok(None);
        }
        let page = self.attention.page;
        let drafted = self.draft.map_or(1, |draft| draft.tree.tokens);
        let trailing = Exact::from(EVICTION_INTERVAL) * drafted + window + page;
        let decode = match self.draft {
            None => Exact::from(page),
            Some(draft) if overlap => draft.allocation(page) * 2u64,
            Some(draft) => draft.allocation_without_overlap(page),
        };
        let chunks = Exact::from(chunk) * if overlap { 2u64 } else { 1 };
        let live = (trailing + decode) * requests + chunks + page;
        live.round_up_to(page).get().map(Some)
    }

    /// Columns of the request table (`mem_cache/allocation_sizing.py`, `get_req_to_token_extra_context_len`).
    pub(super) fn table_columns(&self) -> Exact {
        let context = Exact::from(self.schedule.context);
        let Some(draft) = self.draft else { return context + 4u64 };
        let plain = Exact::from(draft.tree.tokens) + 4u64;
        let page = self.attention.page;
        if page == 1 {
            return context + plain;
        }
        context + plain.max(draft.allocation(page) * 2u64 + page - 1u64)
    }

    /// Drafted tokens that a request verifies at a time; 0 without speculation.
    pub(super) fn drafted_tokens(&self) -> u64 {
        self.draft.map_or(0, |draft| draft.tree.tokens)
    }
}

impl<'a> Resolver<'a> {
    fn ranks(&self) -> Result<Ranks, Error> {
        const FIELD: &str = "--dp-size";
        let tp = self.workload.layout.tp;
        let groups = self.count("dp-size").unwrap_or(1);
        if !self.is_on("enable-dp-attention") {
            let remedy = "add --enable-dp-attention, or use --dp";
            let reason = "makes replicas unless attention is data parallel";
            self.engine.require(groups <= 1, FIELD, groups, reason, remedy)?;
            return Ok(Ranks { attention_tp: tp, attention_dp: 1 });
        }
        let reason = format_args!("does not divide --tp {tp}");
        self.engine.require(tp.is_multiple_of(groups), FIELD, groups, reason, "use one that does")?;
        Ok(Ranks { attention_tp: tp.checked_div(groups).unwrap_or(tp), attention_dp: groups })
    }

    fn schedule(&self, ranks: Ranks, snapshots: Option<Snapshots>) -> Schedule {
        let requests = self.count("max-running-requests").or(match self.algorithm {
            _ if self.class.is(Trait::Compressed) => Some(256),
            Some(_) => Some(48),
            None => None,
        });
        let chunk = ranks.of_group(super::chunked_prefill_size(self.engine));
        Schedule {
            context: self.count("context-length").unwrap_or(self.workload.seq_len.0),
            requests: requests.map(|requests| ranks.of_group(requests).max(1)),
            max_tokens: self.count("max-total-tokens"),
            radix: self.radix(),
            overlap: !self.is_on("disable-overlap-schedule")
                && self.workload.layout.pp <= 1
                && snapshots != Some(Snapshots::NoBuffer),
            chunk: Some(chunk).filter(|&chunk| chunk > 0),
        }
    }

    fn states(&self, snapshots: Snapshots, ranks: Ranks, schedule: Schedule) -> States {
        let given = self.count("max-mamba-cache-size").map(|slots| ranks.of_group(slots));
        States {
            slots_per_request: match snapshots {
                Snapshots::Uncached => 1,
                Snapshots::Unsupported | Snapshots::NoBuffer => 3,
                Snapshots::ExtraBuffer if schedule.overlap => 5,
                Snapshots::ExtraBuffer | Snapshots::ExtraBufferLazy => 4,
            },
            fixed: given.or(schedule.requests.filter(|_| !schedule.radix)),
            ratio: self.engine.settings.ratio("mamba-full-memory-ratio").unwrap_or(Double::ratio(9, 10)),
            memory_format: self.memory_format(),
        }
    }

    /// The format of the memory of a state (`configs/mamba_utils.py`, `mamba2_state_dtype`).
    fn memory_format(&self) -> ElementFormat {
        let declared = self.model.checkpoint.mamba_ssm_dtype.as_deref().filter(|_| self.class.is(Trait::StateDtype));
        match self.engine.settings.choice("mamba-ssm-dtype").or(declared) {
            Some("bfloat16") => ElementFormat::BF16,
            Some("float16") => ElementFormat::FP16,
            _ => ElementFormat::FP32,
        }
    }

    /// The runner's window, where windowed layers have a pool.
    fn window_tokens(&self) -> Result<Option<u64>, Error> {
        let less = self.class.window_less.filter(|_| !self.is_on("disable-hybrid-swa-memory"));
        let bound = groups_of(self.model, SLIDING).find_map(|group| group.cache.bound());
        less.zip(bound).map(|(less, bound)| Exact::from(bound).less(less).get()).transpose()
    }

    fn window_ratio(&self) -> Result<Double, Error> {
        let default = if self.class.is(Trait::Compressed) { Double::ratio(1, 10) } else { Double::ratio(8, 10) };
        let ratio = self.engine.settings.ratio("swa-full-tokens-ratio").unwrap_or(default);
        let remedy = "give a ratio above 0 and up to 1";
        let field = "--swa-full-tokens-ratio";
        self.engine.require(ratio <= Double::whole(1), field, ratio.value(), "is above 1", remedy)?;
        Ok(ratio)
    }

    /// Whether one buffer holds all pools, of which there must be more than one kind.
    fn unified(&self, window: Option<u64>, states: Option<States>) -> Result<bool, Error> {
        let unified = self.is_on("enable-unified-memory");
        let supported = (window.is_some() || states.is_some()) && !self.class.is(Trait::Compressed);
        let reason = "only supports hybrid Mamba and hybrid sliding-window models, DeepSeek-V4 excluded";
        self.engine.require(!unified || supported, "--enable-unified-memory", "it", reason, "leave it out")?;
        Ok(unified)
    }

    fn entries(&self, attention: Attention) -> Result<Entries, Error> {
        let raw = self.keeps_raw_latents(attention.format)?;
        Ok(if self.class.is(Trait::Compressed) {
            Entries::Compressed
        } else if self.indexed {
            Entries::IndexedLatents { raw }
        } else if self.latent {
            Entries::Latents
        } else {
            Entries::Heads { index_element: self.head_index_element(attention) }
        })
    }

    pub(super) fn new(model: &'a Model, workload: &'a Workload, engine: &'a Engine) -> Self {
        let class = Class::of_model(model);
        let latent = has(model, &[Kind::Latent]);
        let index = groups_of(model, &[Kind::Indexer]).any(|group| group.cache.ratio() == 1);
        Self {
            indexed: latent && index && (class.name.is_empty() || class.is(Trait::LatentIndex)),
            latent,
            has_states: false,
            algorithm: None,
            notes: Notes::default(),
            model,
            workload,
            engine,
            class,
        }
    }

    /// Whether the GPU is of a generation.
    pub(super) fn gpu_is(&self, generation: Generation) -> bool {
        let major = self.engine.device.compute_capability.0;
        match generation {
            Generation::SinceAmpere => major >= 8,
            Generation::Hopper => major == 9,
            Generation::Sm100 => major == 10,
            Generation::Sm120 => major == 12,
            Generation::Blackwell => (10..=12).contains(&major),
            Generation::SinceBlackwell => major >= 10,
        }
    }

    /// A setting that takes one word of several.
    pub(super) fn choice<T>(&self, name: &str, named: fn(&str) -> Option<T>) -> Option<T> {
        named(self.engine.settings.choice(name)?)
    }

    pub(super) fn count(&self, name: &str) -> Option<u64> {
        self.engine.settings.count(name)
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        self.engine.settings.switch(name).unwrap_or_default()
    }

    /// Whether prefixes are cached.
    pub(super) fn radix(&self) -> bool {
        !self.is_on("disable-radix-cache")
    }

    /// Refuses what these rules do not cover.
    pub(super) fn check_covered(&self) -> Result<(), Error> {
        let (engine, model, workload) = (self.engine, self.model, self.workload);
        if let Some(reason) = self.class.not_covered {
            return Err(engine.refusal("MODEL", self.class.name, reason, IDEAL));
        }
        let is_compressed = self.class.is(Trait::Compressed);
        for group in own_groups(model) {
            let (covered, reason) = match *group.cache {
                LayerCache::CrossAttention { optional, .. } => {
                    (optional, "is an encoder-decoder, whose cache is not modelled")
                }
                LayerCache::Compressed { .. } => {
                    let alone = "has compressed attention, which these rules cover for DeepseekV4ForCausalLM alone";
                    (is_compressed, alone)
                }
                LayerCache::FullAttention { .. }
                | LayerCache::SlidingWindow { .. }
                | LayerCache::ChunkedLocal { .. }
                | LayerCache::Latent { .. }
                | LayerCache::Indexer { .. }
                | LayerCache::Recurrent(_)
                | LayerCache::Shared
                | LayerCache::None => continue,
            };
            engine.require(covered, "MODEL", &model.name, reason, IDEAL)?;
        }
        if let Some(context) = self.count("context-length") {
            let reason = format_args!("is shorter than the sequences ({})", workload.seq_len);
            let remedy = "give at least --seq-len, or leave it out";
            engine.require(context >= workload.seq_len.0, "--context-length", context, reason, remedy)?;
        }
        if let Some(fraction) = engine.settings.ratio("mem-fraction-static") {
            let reason = "is of a device's whole memory, weights included, and --memory is what is left for the cache";
            let remedy = "leave it out and give --memory";
            return Err(engine.refusal("--mem-fraction-static", fraction.value(), reason, remedy));
        }
        let one_pool = is_compressed && self.is_on("disable-hybrid-swa-memory");
        let reason = "is not modelled for DeepSeek-V4, whose pools need it";
        engine.require(!one_pool, "--disable-hybrid-swa-memory", "it", reason, "leave it out")?;
        let dcp = workload.layout.dcp;
        let reason = "is not modelled: its pools span the tokens of all ranks";
        engine.require(dcp <= 1, "--dcp", dcp, reason, "leave it out")
    }

    /// Whether recurrent layers get a pool of states. A class that SGLang does not know is wrapped as transformers has it,
    /// and sized as if each layer attended.
    pub(super) fn check_states(&mut self) -> Result<(), Error> {
        let first = groups_of(self.model, &[Kind::Recurrent]).next();
        let Some(LayerCache::Recurrent(RecurrentState { mechanism, .. })) = first.map(|group| *group.cache) else {
            return Ok(());
        };
        self.has_states = self.class.is(Trait::State) && has_shape(mechanism);
        if self.has_states {
            return Ok(());
        }
        let name = self.class.name_or(mechanism.name());
        let attends = has(self.model, &[Kind::Full]);
        let reason = "has recurrent layers that SGLang 0.5.23 keeps no states for";
        self.engine.require(attends, "MODEL", name, reason, IDEAL)?;
        self.notes.warn(format!(
            "{name} {reason}: sized as its transformers wrapper is, every layer as full attention; whether it can be \
             served is not known"
        ));
        Ok(())
    }

    pub(super) fn note_latents(&mut self) {
        if self.latent && !self.class.is(Trait::Latent) {
            let class = self.class.name_or("a model of no class that SGLang 0.5.23 is known to have");
            let text = format!("{class} is taken to keep its latents, as MLA classes do");
            self.notes.warn(text);
        }
    }
}

// What arguments are resolved from: the model and its class, the workload, the settings and the GPU.

/// What every argument is resolved from, and what is noted on the way.
pub(super) struct Resolver<'a> {
    pub(super) model: &'a Model,
    pub(super) workload: &'a Workload,
    pub(super) engine: &'a Engine,
    pub(super) class: Class<'a>,
    /// Whether latents are kept.
    pub(super) latent: bool,
    /// Whether latents have an index (DeepSeek sparse attention).
    pub(super) indexed: bool,
    /// Whether recurrent layers get a pool of states.
    pub(super) has_states: bool,
    /// What drafts tokens.
    pub(super) algorithm: Option<Algorithm>,
    pub(super) notes: Notes,
}

/// Generations of GPUs that SGLang's rules distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Generation {
    SinceAmpere,
    Hopper,
    /// Data-centre Blackwell.
    Sm100,
    /// Blackwell of workstations.
    Sm120,
    /// Compute capabilities 10 to 12.
    Blackwell,
    SinceBlackwell,
}

/// Whether SGLang has a shape for the states of a recurrence (`configs/mamba_utils.py`).
fn has_shape(mechanism: M) -> bool {
    match mechanism {
        M::Mamba1 | M::Mamba2 | M::GatedDeltaNet | M::Kda | M::Lightning | M::ShortConvolution | M::Cca => true,
        M::RgLru | M::Rwkv | M::Mlstm => false,
    }
}
