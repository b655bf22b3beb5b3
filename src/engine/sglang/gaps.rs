//! The steps from the live bytes to what SGLang allocates.

use super::arguments::Entries;
use super::layers::SLIDING;
use super::need::{Counting, sum, total};
use super::pools::TokenPools;
use super::server::{Rank, Server};
use super::share::{Part, Share};
use crate::engine::Gap;
use crate::estimate::{Estimate, Workload, estimate};
use crate::model::CacheKind;
use crate::units::{Error, Exact, KvDtype};

/// The steps from the ideal bytes to these; empty where the ideal has no answer.
pub(super) fn gaps(server: &Server<'_>) -> Result<Vec<Gap>, Error> {
    let arguments = server.arguments;
    let asked = Workload { kv_dtype: KvDtype::Given(arguments.attention.format.stored()?), ..*server.workload };
    let without_prefix = Workload { shared_prefix: None, ..asked };
    let (Ok(ideal), Ok(live)) = (estimate(server.model, &asked), estimate(server.model, &without_prefix)) else {
        return Ok(Vec::new());
    };
    let live_total = Exact::from(live.bytes);
    let states = live_bytes(server, &live, &[CacheKind::Recurrent]);
    let windows = live_bytes(server, &live, SLIDING);
    let one_pool = |rank: &Rank| matches!(rank.tokens, TokenPools::One { part: Part::Full, .. });
    let has_window_pool = !server.ranks.iter().any(one_pool);
    let exact = total(server, Counting::Live)?;
    let paged = sum(&total(server, Counting::Pages)?);
    let slotted = sum(&total(server, Counting::Slots)?);
    let allocated = sum(&total(server, Counting::Allocated)?);
    let (apart, with_full) = if has_window_pool { (windows, Exact::ZERO) } else { (Exact::ZERO, windows) };
    let of_full = live_total - states - apart;
    let full = part(&exact, Part::Full) + part(&exact, Part::Draft);
    let window = if has_window_pool { part(&exact, Part::Window) } else { windows };
    let layout = layout_reason(server, with_full);
    let pool = match arguments.window.cap {
        Some(cap) => format!("a window pool of {cap} tokens, for all requests that may run"),
        None => format!("a window pool of {} tokens for each full token", arguments.window.ratio.value()),
    };
    let prefix = "whole pages of the prefix are kept once, and no windows";
    let format = "convolutions in bf16, memory in its own format";
    let steps = [
        // What sharing saves here, against what it saves of the live bytes.
        Gap::step("shared_prefix", slotted + ideal.bytes, live_total + allocated, prefix)?,
        Gap::step("layout", of_full, full, layout)?,
        Gap::step("window_pool", windows, window, pool)?,
        Gap::step("state_format", states, part(&exact, Part::State), format)?,
        Gap::step("page_padding", sum(&exact), paged, pages_reason(server))?,
        Gap::step("state_copies", paged, slotted, slots_reason(server))?,
    ];
    Ok(steps.into_iter().flatten().collect())
}

/// Live bytes of all layers of these kinds. The groups of an estimate are those of the model, one for one.
fn live_bytes(server: &Server<'_>, live: &Estimate, kinds: &[CacheKind]) -> Exact {
    let groups = server.model.layer_groups.iter().zip(&live.layer_groups);
    groups.filter(|(group, _)| kinds.contains(&group.cache.cache_kind())).map(|(_, estimate)| estimate.bytes).sum()
}

fn part(shares: &[Share], part: Part) -> Exact {
    shares.iter().filter(|share| share.part == part).map(|share| share.bytes).sum()
}

/// Why the layers of the full pool take what they do, windows of so many live bytes among them.
fn layout_reason(server: &Server<'_>, windows: Exact) -> String {
    let reason = match server.arguments.entries {
        Entries::Compressed => "entries in padded pages, and the open states of every request that may run",
        _ if windows != Exact::ZERO => "all layers are priced alike: windows keep every token",
        Entries::IndexedLatents { .. } => {
            "fp8 latents and index keys have scales, and index keys are in fp8 whatever the format"
        }
        Entries::Heads { .. } | Entries::Latents => "every layer is priced as full attention in this layout",
    };
    let groups = match server.arguments.ranks.attention_dp {
        1 => "",
        _ => "; data parallel attention keeps a request on one group of ranks",
    };
    format!("{reason}{groups}")
}

fn pages_reason(server: &Server<'_>) -> String {
    match server.arguments.attention.page {
        1 => "one token more in every pool, for padding".into(),
        page => format!("whole pages of {page} tokens, and one more in every pool"),
    }
}

fn slots_reason(server: &Server<'_>) -> String {
    let Some(states) = server.arguments.states else { return String::new() };
    let slots = match states.fixed {
        Some(slots) => format!("{slots} slots for states"),
        None => format!("{} slots for states of each request", states.slots_per_request),
    };
    let drafted = match server.arguments.draft {
        Some(draft) => format!(", {} more to verify drafted tokens", draft.tree.tokens),
        None => String::new(),
    };
    format!("{slots}{drafted}, and one for padding")
}
