//! What `SGLang` leaves of a device for its steps and graphs: one rule, from which its `mem_fraction_static` follows.
//!
//! Read in sglang 0.5.23, `arg_groups/memory_hook.py` (`handle_gpu_memory_settings`, `reserve_for_graph_mb`) and
//! `arg_groups/cuda_graph_hook.py`. It is measured before weights are loaded; pools get what is free afterwards less this
//! (`mem_cache/kv_cache_configurator.py`, `_profile_available_bytes`). No public start-up logs say how far off that is.

use super::chunked_prefill_size;
use crate::engine::{Engine, Overhead, OverheadTerm, RESERVE, Rule, Share, Term};
use crate::estimate::{Layout, Workload};
use crate::model::Model;
use crate::units::{Bytes, Error, Exact};

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
