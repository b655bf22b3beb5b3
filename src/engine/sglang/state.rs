//! Slots for the states of recurrent layers, and how these are kept for the prefix cache (`configs/mamba_utils.py`, `Mamba2StateShape`, `KimiLinearStateShape`;
//! `mem_cache/kv_cache_configurator.py`, `_handle_max_mamba_cache`).

use super::arguments::{Arguments, Resolver, States};
use super::classes::Trait;
use super::layers::{Stage, groups_of};
use super::pools::refused;
use crate::engine::Double;
use crate::model::{CacheKind, LayerCache, Mechanism, RecurrentState};
use crate::units::{Error, Exact, named};

/// Bytes of an element of a convolution's inputs, whatever the model's format (`environ.py`, `SGLANG_MAMBA_CONV_DTYPE`).
const CONVOLUTION: u64 = 2;

/// Bytes of a slot on a rank of a stage, in all its layers.
pub(super) fn slot_bytes(stage: &Stage<'_>) -> Result<u64, Error> {
    let Some(states) = stage.arguments.states else { return Ok(0) };
    let mut bytes = Exact::ZERO;
    for group in groups_of(stage.model, &[CacheKind::Recurrent]) {
        let LayerCache::Recurrent(recurrent) = *group.cache else { continue };
        bytes = bytes + layer_bytes(stage, recurrent, states)? * group.layers_within(&stage.layers);
    }
    bytes.get()
}

/// Bytes of a state in one layer on one rank.
fn layer_bytes(stage: &Stage<'_>, recurrent: RecurrentState, states: States) -> Result<Exact, Error> {
    let tp = stage.arguments.ranks.attention_tp;
    let on_rank = |size: Exact| {
        let size = size.get()?;
        let reason = format_args!("does not divide the {size} heads or channels of the state");
        stage.engine.require(size.is_multiple_of(tp), "--tp", tp, reason, "use one that does")?;
        Ok::<_, Error>(Exact::from(size) / tp)
    };
    let convolution = match recurrent.convolution {
        None => Exact::ZERO,
        Some(convolution) => {
            // Groups that do not divide are made as many as there are ranks.
            let groups = if convolution.groups.is_multiple_of(tp) { convolution.groups } else { tp };
            let channels = Exact::from(groups) * convolution.channels_per_group + convolution.channels;
            on_rank(channels)? * convolution.columns()
        }
    };
    // Compressed convolutional attention keeps the last token's hidden state whole instead of a memory.
    if recurrent.mechanism == Mechanism::Cca {
        return Ok((convolution + stage.model.checkpoint.hidden_size.unwrap_or_default()) * CONVOLUTION);
    }
    let memory = match recurrent.memory {
        None => Exact::ZERO,
        Some(memory) => on_rank(memory.heads.into())? * memory.elements_per_head,
    };
    Ok(convolution * CONVOLUTION + memory * (states.memory_format.bits_per_block() / 8))
}

/// States that verification keeps: of each drafted token, for each request and for padding.
pub(super) fn verified(requests: u64, arguments: &Arguments) -> Exact {
    (Exact::from(requests) + 1u64) * arguments.drafted_tokens()
}

/// The slots of a budget.
pub(super) struct SlotBudget {
    /// `None` without states.
    pub(super) slots: Option<u64>,
    /// Bytes that are left for tokens.
    pub(super) left: u64,
}

/// The slots of `memory` bytes, and what they leave of it.
pub(super) fn slots(memory: u64, slot: u64, arguments: &Arguments) -> Result<SlotBudget, Error> {
    let Some(states) = arguments.states else { return Ok(SlotBudget { slots: None, left: memory }) };
    let slots = match states.fixed {
        Some(slots) => slots,
        None => slots_by_ratio(memory, slot, states, arguments)?,
    };
    if slots == 0 {
        return refused(format!("not enough memory for one state of {slot} bytes in addition to the cache"));
    }
    // Requests are no more than have slots.
    let have = slots.checked_div(states.slots_per_request).unwrap_or_default();
    let running = arguments.schedule.requests.unwrap_or(have).min(have);
    let taken = (Exact::from(slots) + 1u64 + verified(running, arguments)) * slot;
    match Exact::from(memory).less(taken).get()? {
        0 => refused(format!("{slots} slots of {slot} bytes for states leave no memory for tokens")),
        left => Ok(SlotBudget { slots: Some(slots), left }),
    }
}

/// The slots in the states' part of the memory, in doubles as SGLang counts.
fn slots_by_ratio(memory: u64, slot: u64, states: States, arguments: &Arguments) -> Result<u64, Error> {
    let whole = Double::whole;
    let gib = whole(1 << 30);
    let available = whole(memory).over(gib);
    let budget = available.times(states.ratio).over(whole(1).plus(states.ratio)).times(gib);
    let drafted = arguments.drafted_tokens();
    let share = Double::ratio(drafted, states.slots_per_request);
    let first = (Exact::from(drafted) + 1u64) * slot;
    let each = whole(slot).times(whole(1).plus(share));
    Ok(budget.minus(whole(first.get()?)).floor_div(each).truncated())
}

// How states are kept for the prefix cache, and so how many slots a request takes.

named! {
    /// How the prefix cache keeps states (`mamba-radix-cache-strategy`).
    pub(super) enum Strategy {
        Auto = "auto", NoBuffer = "no_buffer", ExtraBuffer = "extra_buffer", ExtraBufferLazy = "extra_buffer_lazy",
    }
}

impl Strategy {
    /// Whether snapshots of states take extra slots.
    pub(super) fn takes_snapshots(self) -> bool {
        matches!(self, Self::ExtraBuffer | Self::ExtraBufferLazy)
    }
}

/// How states are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Snapshots {
    /// One state a request: prefixes are not cached.
    Uncached,
    /// Without snapshots, by a class that caches no states.
    Unsupported,
    /// Without snapshots, which excludes overlap scheduling.
    NoBuffer,
    /// Snapshots in extra slots.
    ExtraBuffer,
    /// Snapshots in one extra slot.
    ExtraBufferLazy,
}

const FIELD: &str = "--mamba-radix-cache-strategy";

impl Resolver<'_> {
    /// How states are kept; `None` without states.
    pub(super) fn snapshots(&self) -> Result<Option<Snapshots>, Error> {
        let given = self.choice("mamba-radix-cache-strategy", Strategy::named);
        let given = given.filter(|&strategy| strategy != Strategy::Auto);
        let caches = self.has_states && self.class.is(Trait::StatePrefixes);
        if self.radix() && caches {
            return self.strategy(given).map(Some);
        }
        if let Some(given) = given.filter(|strategy| strategy.takes_snapshots() && self.radix()) {
            let reason = if self.has_states { "needs a model that caches states" } else { "needs mamba state" };
            return Err(self.engine.refusal(FIELD, given.name(), reason, "leave it out"));
        }
        let snapshots = if self.radix() { Snapshots::Unsupported } else { Snapshots::Uncached };
        Ok(self.has_states.then_some(snapshots))
    }

    /// The strategy given, or the default, where the class and the other settings take it.
    fn strategy(&self, given: Option<Strategy>) -> Result<Snapshots, Error> {
        let engine = self.engine;
        let page = self.count("page-size").unwrap_or(1);
        let overlap = !self.is_on("disable-overlap-schedule");
        let supports = self.class.is(Trait::StateSnapshots);
        let default = if (overlap || page > 1) && supports { Strategy::ExtraBuffer } else { Strategy::NoBuffer };
        let strategy = given.unwrap_or(default);
        if !strategy.takes_snapshots() {
            engine.require(page == 1, "--page-size", page, "is not taken by no_buffer", "use 1")?;
            let reason = "does not support overlap scheduling";
            let remedy = "add --disable-overlap-schedule";
            engine.require(given.is_none() || !overlap, FIELD, strategy.name(), reason, remedy)?;
            let backend = engine.settings.choice("attention-backend").unwrap_or_default();
            let taken = backend != "trtllm_mha";
            engine.require(taken, "--attention-backend", backend, "is not taken by no_buffer", "use another")?;
            return Ok(Snapshots::NoBuffer);
        }
        let reason = format_args!("is not supported for {}", self.class.name);
        engine.require(supports, FIELD, strategy.name(), reason, "use no_buffer")?;
        let lazy = strategy == Strategy::ExtraBufferLazy;
        let eager = !overlap || self.workload.layout.pp > 1;
        let reason = "requires the overlap schedule";
        engine.require(!(lazy && eager), FIELD, strategy.name(), reason, "use extra_buffer")?;
        let divides = 256u64.checked_rem(page) == Some(0);
        let reason = "does not divide the 256 tokens between snapshots";
        engine.require(divides, "--page-size", page, reason, "use one that does")?;
        Ok(if lazy { Snapshots::ExtraBufferLazy } else { Snapshots::ExtraBuffer })
    }
}
