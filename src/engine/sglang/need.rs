//! What a workload needs: the smallest pools that hold it, and the steps to them from the live bytes.

use super::arguments::Entries;
use super::layers::{SLIDING, groups_of};
use super::pools::{Part, Share, Sizes, TokenPools, full_for, whole_pages, window_share};
use super::server::{Rank, Server};
use super::state;
use crate::engine::{Double, Gap};
use crate::estimate::{BytesPerToken, Estimate, GroupEstimate, Workload, estimate};
use crate::model::CacheKind;
use crate::units::{Error, Exact, KvDtype, Tokens};

/// How a workload is counted on the way from the ideal to what is allocated; each way includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) enum Counting {
    /// Live tokens and states.
    Live,
    /// In whole pages, with one more for padding.
    Pages,
    /// With the slots that requests take, and one more for padding.
    Slots,
    /// With the shared prefix once: everything that is allocated.
    Allocated,
}

/// Groups of ranks that serve the same number of requests.
struct RequestGroups {
    groups: u64,
    /// Requests of each group.
    requests: u64,
}

/// The estimate of what the workload needs.
pub(super) fn need(server: &Server<'_>) -> Result<Estimate, Error> {
    let arguments = server.arguments;
    let shares = total(server, Counting::Allocated)?;
    let most = request_groups(server).iter().map(|groups| groups.requests).max().unwrap_or_default();
    let (mut bytes_per_gpu, mut slope) = (Exact::ZERO, Exact::ZERO);
    for rank in &server.ranks {
        bytes_per_gpu = bytes_per_gpu.max(sum(&self::shares(server, rank, most, Counting::Allocated)?));
        slope = slope + Exact::from(millionths(rank.tokens.cell(arguments)?)?) * arguments.ranks.attention_tp;
    }
    let layer_groups = shares.iter().map(|share| {
        let entries = Tokens(share.tokens.checked_div(server.workload.batch).unwrap_or_default());
        let layers = usize::try_from(share.layers).map_err(|_| Error::too_large())?;
        Ok(GroupEstimate { kind: share.kind, layers, entries, bytes: share.bytes.bytes()? })
    });
    Ok(Estimate {
        bytes: sum(&shares).bytes()?,
        bytes_per_gpu: bytes_per_gpu.bytes()?,
        bytes_per_token: BytesPerToken { numerator: slope.wide()?, denominator: 1_000_000 },
        layer_groups: layer_groups.collect::<Result<_, Error>>()?,
        stored: arguments.attention.format.name().parse()?,
    })
}

fn millionths(cell: Double) -> Result<u64, Error> {
    // A double that 64 bits do not hold is cut to the largest number.
    Some(cell.millionths()).filter(|&millionths| millionths < u64::MAX).ok_or_else(Error::too_large)
}

/// The bytes of each share over all devices of a replica.
pub(super) fn total(server: &Server<'_>, counting: Counting) -> Result<Vec<Share>, Error> {
    let mut total: Vec<Share> = Vec::new();
    for rank in &server.ranks {
        for RequestGroups { groups, requests } in request_groups(server) {
            for share in shares(server, rank, requests, counting)? {
                let bytes = share.bytes * groups * server.arguments.ranks.attention_tp;
                let key = |share: &Share| (share.kind, share.part, share.layers);
                match total.iter_mut().find(|known| key(known) == key(&share)) {
                    Some(known) => known.bytes = known.bytes + bytes,
                    None => total.push(Share { bytes, ..share }),
                }
            }
        }
    }
    Ok(total)
}

pub(super) fn sum(shares: &[Share]) -> Exact {
    shares.iter().map(|share| share.bytes).sum()
}

/// The batch as evenly over the groups of ranks as it divides.
fn request_groups(server: &Server<'_>) -> Vec<RequestGroups> {
    let (groups, batch) = (server.arguments.ranks.attention_dp, server.workload.batch);
    let fewer = batch.checked_div(groups).unwrap_or_default();
    let more = batch.checked_rem(groups).unwrap_or_default();
    let all = [
        RequestGroups { groups: more, requests: batch.div_ceil(groups) },
        RequestGroups { groups: groups.abs_diff(more), requests: fewer },
    ];
    all.into_iter().filter(|groups| groups.groups > 0).collect()
}

/// Bytes of `requests` requests on a rank of a stage.
fn shares(server: &Server<'_>, rank: &Rank, requests: u64, counting: Counting) -> Result<Vec<Share>, Error> {
    let arguments = server.arguments;
    let page = if counting >= Counting::Pages { arguments.attention.page } else { 1 };
    let tokens = tokens(server, requests, page, counting)?;
    let sizes = match (&rank.tokens, arguments.window.cap) {
        (TokenPools::One { part, .. }, _) => Sizes::one(*part, tokens),
        (TokenPools::Two { .. } | TokenPools::Compressed(_), Some(cap)) => Sizes::two(tokens, cap),
        (TokenPools::Two { .. } | TokenPools::Compressed(_), None) => by_ratio(server, requests, tokens, counting)?,
    };
    let padding = if counting >= Counting::Pages { arguments.attention.page } else { 0 };
    let running = arguments.schedule.requests.unwrap_or(requests);
    let mut pools = rank.tokens.shares(sizes, padding, running, arguments);
    if let Some(states) = arguments.states {
        let slots = if counting >= Counting::Slots {
            states.slots(requests) + 1u64 + state::verified(requests, arguments)
        } else {
            requests.into()
        };
        let layers =
            groups_of(server.model, &[CacheKind::Recurrent]).map(|group| group.layers_within(&(0..u32::MAX))).sum();
        let bytes = slots * rank.slot;
        pools.push(Share { kind: "recurrent_state", part: Part::State, layers, tokens: 0, bytes });
    }
    Ok(pools)
}

/// Whole pages of the tokens of `requests` requests, with the shared prefix once where prefixes are cached.
fn tokens(server: &Server<'_>, requests: u64, page: u64, counting: Counting) -> Result<u64, Error> {
    let seq_len = server.workload.seq_len;
    let prefix =
        server.workload.shared_prefix.filter(|_| counting == Counting::Allocated && server.arguments.schedule.radix);
    let shared = match prefix {
        Some(prefix) if requests > 1 => whole_pages(prefix.min(seq_len).0, page),
        _ => 0,
    };
    ((Exact::from(seq_len).round_up_to(page) - shared) * requests + shared).get()
}

/// The smallest two pools that hold `requests` requests of `tokens` tokens in all: a window's pool that is too small for
/// theirs makes both larger, as the ratio has it.
fn by_ratio(server: &Server<'_>, requests: u64, tokens: u64, counting: Counting) -> Result<Sizes, Error> {
    let arguments = server.arguments;
    let in_pages = counting >= Counting::Pages || arguments.entries == Entries::Compressed;
    let page = if in_pages { arguments.attention.page } else { 1 };
    let (seq_len, window) = (server.workload.seq_len.0, arguments.window.tokens);
    let live = Exact::from(window.map_or(seq_len, |window| window.min(seq_len)));
    let least = if in_pages {
        // A request is let in where there is more than its window and a page (`validate_swa_pool_size`).
        let floor = window.map_or(Exact::ZERO, |window| Exact::from(window) + page + 1u64);
        ((live + page) * requests).max(floor)
    } else {
        live * requests
    };
    let total = tokens.max(full_for(least.round_up_to(page).get()?, page, arguments)?);
    Ok(Sizes::two(total, window_share(total, page, arguments)))
}

// The steps from the live bytes to what SGLang allocates.

/// The steps from the ideal bytes to these; empty where the ideal has no answer.
pub(super) fn gaps(server: &Server<'_>) -> Result<Vec<Gap>, Error> {
    let arguments = server.arguments;
    let asked = Workload { kv_dtype: KvDtype::Given(arguments.attention.format.name().parse()?), ..*server.workload };
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
