//! Slots for the states of recurrent layers (`configs/mamba_utils.py`, `Mamba2StateShape`, `KimiLinearStateShape`;
//! `mem_cache/kv_cache_configurator.py`, `_handle_max_mamba_cache`).

use std::ops::Range;

use super::arguments::{Arguments, States, own_groups};
use crate::engine::{Double, Engine};
use crate::model::{LayerCache, Mechanism, Model, RecurrentState};
use crate::units::Error;

/// Bytes of an element of a convolution's inputs, whatever the model's format (`environ.py`, `SGLANG_MAMBA_CONV_DTYPE`).
const CONVOLUTION: u64 = 2;

/// Layers with a state.
pub(super) fn layers(model: &Model) -> u64 {
    own_groups(model)
        .filter(|(group, _)| matches!(group.cache, LayerCache::Recurrent(_)))
        .map(|(_, layers)| u64::try_from(layers).unwrap_or(u64::MAX))
        .sum()
}

/// Bytes of a slot on a rank of a stage, in all its layers.
pub(super) fn slot_bytes(
    model: &Model,
    arguments: &Arguments,
    engine: &Engine,
    stage: &Range<u32>,
) -> Result<u64, Error> {
    let Some(states) = arguments.states else { return Ok(0) };
    let mut bytes = 0u64;
    for (group, own) in own_groups(model) {
        let LayerCache::Recurrent(recurrent) = group.cache else { continue };
        let own = group.layers.get(..own).unwrap_or_default();
        let layers = own.iter().filter(|layer| stage.contains(layer)).count();
        let each = layer_bytes(recurrent, model, states, arguments.attention_tp, engine)?;
        bytes = bytes.saturating_add(each.saturating_mul(u64::try_from(layers).unwrap_or(u64::MAX)));
    }
    Ok(bytes)
}

/// Bytes of a state in one layer on one of `tp` ranks.
fn layer_bytes(state: RecurrentState, model: &Model, states: States, tp: u64, engine: &Engine) -> Result<u64, Error> {
    let divided = |size: u64| {
        let uneven = || {
            engine.refusal(
                "--tp",
                tp,
                format!("does not divide the {size} heads or channels of the state"),
                "use one that does",
            )
        };
        size.checked_div(tp).filter(|_| size.is_multiple_of(tp)).ok_or_else(uneven)
    };
    let convolution = match state.convolution {
        None => 0,
        Some(convolution) => {
            // Groups that do not divide are made as many as there are ranks.
            let groups = if convolution.groups.is_multiple_of(tp) { convolution.groups } else { tp };
            let channels = groups.saturating_mul(convolution.channels_per_group).saturating_add(convolution.channels);
            divided(channels)?.saturating_mul(convolution.kernel.saturating_sub(1))
        }
    };
    // Compressed convolutional attention keeps the last token's hidden state whole in place of a memory.
    if state.mechanism == Mechanism::Cca {
        let hidden = model.checkpoint.hidden_size.unwrap_or_default();
        return Ok(convolution.saturating_add(hidden).saturating_mul(CONVOLUTION));
    }
    let memory = match state.memory {
        None => 0,
        Some(memory) => divided(memory.heads)?.saturating_mul(memory.elements_per_head),
    };
    let width = states.memory_format.bits_per_block() / 8;
    Ok(convolution.saturating_mul(CONVOLUTION).saturating_add(memory.saturating_mul(width)))
}

/// States that verification keeps: of each drafted token, for each request and for padding.
pub(super) fn verified(requests: u64, arguments: &Arguments) -> u64 {
    arguments.draft.map_or(0, |draft| requests.saturating_add(1).saturating_mul(draft.tokens))
}

/// The slots of a budget, and what they leave of it.
pub(super) fn slots(memory: u64, slot: u64, states: States, arguments: &Arguments) -> Result<(u64, u64), String> {
    let drafted = arguments.draft.map_or(0, |draft| draft.tokens);
    let slots = states.fixed.unwrap_or_else(|| {
        let whole = Double::whole;
        let gib = whole(1 << 30);
        let available = whole(memory).over(gib);
        let budget = available.times(states.ratio).over(whole(1).plus(states.ratio)).times(gib);
        let (first, each) = if drafted == 0 {
            (whole(slot), whole(slot))
        } else {
            let share = Double::ratio(drafted, states.slots_per_request);
            (whole(slot.saturating_mul(drafted.saturating_add(1))), whole(slot).times(whole(1).plus(share)))
        };
        budget.minus(first).floor_div(each).truncated()
    });
    if slots == 0 {
        return Err(format!("not enough memory for one state of {slot} bytes beside the cache"));
    }
    // Requests are no more than have slots.
    let have = slots.checked_div(states.slots_per_request).unwrap_or_default();
    let running = arguments.requests.unwrap_or(have).min(have);
    let verified = verified(running, arguments);
    let taken = u128::from(slots.saturating_add(1).saturating_add(verified)).saturating_mul(u128::from(slot));
    let left = u64::try_from(taken).ok().and_then(|taken| memory.checked_sub(taken)).filter(|&left| left > 0);
    left.map(|left| (slots, left))
        .ok_or_else(|| format!("{slots} slots of {slot} bytes for states leave no memory for tokens"))
}
