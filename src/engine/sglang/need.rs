//! What a workload needs: the smallest pools that hold it.

use super::arguments::Entries;
use super::layers::groups_of;
use super::pools::{TokenPools, full_for, window_share};
use super::server::{Rank, Server};
use super::share::{Part, Share, Sizes, whole_pages};
use super::state;
use crate::engine::Double;
use crate::estimate::{BytesPerToken, Estimate, GroupEstimate};
use crate::model::CacheKind;
use crate::units::{Error, Exact, Tokens};

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
#[derive(Debug, Clone, Copy)]
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
        stored: arguments.attention.format.stored()?,
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
