//! What `SGLang` leaves of a device for its steps and graphs: one rule, from which its `mem_fraction_static` follows.
//!
//! Read in sglang 0.5.23, `arg_groups/memory_hook.py` (`handle_gpu_memory_settings`, `reserve_for_graph_mb`) and
//! `arg_groups/cuda_graph_hook.py`. It is measured before weights are loaded; pools get what is free afterwards less this
//! (`mem_cache/kv_cache_configurator.py`, `_profile_available_bytes`). No public start-up logs say how far off that is.

use crate::engine::{Engine, sglang};
use crate::estimate::Layout;
use crate::model::Model;
use crate::units::Bytes;

/// Decoding batches that graphs are captured for, by memory below so many GiB, with fewer than four ranks and from four on.
const DECODED: &[(u64, u64, u64)] = &[(20, 8, 8), (35, 48, 160), (60, 32, 160), (160, 256, 512)];
const DECODED_ABOVE: u64 = 512;

/// Tokens of prefills that graphs are captured for: from, up to, in steps of.
const PREFILLED: &[(u64, u64, u64)] = &[(4, 32, 4), (48, 256, 16), (288, 512, 32), (576, 1024, 64), (1280, 4096, 256)];
const PREFILLED_ABOVE: (u64, u64) = (4608, 512);

/// The share of the device's memory that is not static, rounded as its fraction of three decimals is.
pub(super) fn reserve(model: &Model, layout: Layout, engine: &Engine) -> Bytes {
    let memory = engine.device.memory_mib;
    // All of it in halves of a MiB: a token of a chunk is taken for one and a half.
    let chunk = match sglang::chunked_prefill_size(engine) {
        // Without chunks it is `max_prefill_tokens`.
        0 => 16_384,
        chunk => chunk,
    };
    let devices = layout.tp.saturating_mul(layout.pp);
    let halves = 1_024u64
        .saturating_add(chunk.max(2_048).saturating_mul(3))
        .saturating_add(devices.saturating_mul(256))
        .saturating_add(graphs(model, chunk, layout, memory).saturating_mul(2));
    let least = if memory > 60 * 1_024 { 2 * 10 * 1_024 } else { 0 };
    let whole = u128::from(memory).saturating_mul(2).max(1);
    let left = whole.saturating_sub(u128::from(halves.max(least)));
    // round((memory - reserved) / memory, 3)
    let thousandths = left.saturating_mul(2_000).saturating_add(whole).checked_div(whole.saturating_mul(2));
    let reserved = 1_000u128.saturating_sub(thousandths.unwrap_or_default());
    let bytes = (u128::from(memory) << 20).saturating_mul(reserved).checked_div(1_000).unwrap_or_default();
    Bytes(u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// MiB for graphs: 2 for each decoding batch, and 8 for each size of prefill, which pipeline stages do not capture; of a
/// latent 1,536 for all of these.
fn graphs(model: &Model, chunk: u64, layout: Layout, memory_mib: u64) -> u64 {
    let row = DECODED.iter().find(|(below, ..)| memory_mib < below.saturating_mul(1_024));
    let decoded = row.map_or(DECODED_ABOVE, |(_, few, many)| if layout.tp < 4 { *few } else { *many });
    let sizes = |most: u64| {
        let below = PREFILLED.iter().map(|(from, to, step)| {
            let to = most.min(*to);
            to.checked_sub(*from).and_then(|range| range.checked_div(*step)).map_or(0, |steps| steps.saturating_add(1))
        });
        let (from, step) = PREFILLED_ABOVE;
        let above = most.checked_sub(from).and_then(|range| range.checked_div(step)).map_or(0, |n| n.saturating_add(1));
        below.fold(above, u64::saturating_add)
    };
    let prefilled = match (layout.pp, model.checkpoint.widths.latent) {
        (1, None) => sizes(chunk).saturating_mul(8),
        (1, Some(_)) => 1_536,
        _ => 0,
    };
    decoded.saturating_mul(2).saturating_add(prefilled)
}
