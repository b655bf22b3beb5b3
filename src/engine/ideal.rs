//! No engine: the live bytes of [`mod@crate::estimate`], in the form of an engine's answer.
//!
//! KIVI's formats (arXiv:2402.02750, algorithm 1) have a window R of full precision, which is a separate step: of S tokens
//! the newest S mod R of K are in the model's format, since K is quantised by channel, over groups of tokens, once R of them are
//! there; of V, quantised by token, the newest min(S, R).

use super::answer::longest;
use super::{Answer, Capacity, Double, Engine, Gap, Profile};
use crate::estimate::{Estimate, Layout, Workload, estimate};
use crate::model::{KeyValue, LayerCache, Model};
use crate::units::{Bytes, ElementFormat, Error, Exact, KvDtype, KvFormat, Tokens};

pub(super) const PROFILE: Profile = Profile {
    name: "ideal",
    about: "live bytes, no blocks, no padding, no reserve",
    replayed: "equal to transformers' static caches wherever no rule of transformers differs",
    weight_files: crate::engine::WeightFiles::Any,
    ..Profile::DEFAULT
};

pub(super) fn answer(model: &Model, workload: &Workload, engine: &Engine) -> Result<Answer, Error> {
    let live = estimate(model, workload)?;
    let KvFormat { k, v, .. } = live.stored;
    let window = match (k.full_precision_tokens(), v.full_precision_tokens()) {
        (None, None) => {
            let capacity = workload.memory.map(|memory| capacity(model, workload, live.bytes_per_gpu, memory));
            return Ok(Answer { capacity: capacity.transpose()?, ..Answer::of(live) });
        }
        (Some(window), Some(_)) if k == v => window,
        _ => {
            let reason = "combines a format of KIVI with another, and KIVI is one scheme for K and V";
            return Err(engine.refusal("--kv-dtype", live.stored, reason, "use it for both"));
        }
    };
    refuse(model, workload, k, engine)?;
    let seq_len = Exact::from(workload.seq_len);
    let (of_k, of_v) = (seq_len % window, seq_len.min(window));
    let (nothing, plain) = (ElementFormat::bitwidth(0), model.dtype);
    let part = |(format, tokens): (KvFormat, Exact)| {
        estimate(model, &Workload { seq_len: tokens.tokens()?, kv_dtype: KvDtype::Given(format), ..*workload })
    };
    let parts = [
        (KvFormat::new(k, nothing), seq_len - of_k),
        (KvFormat::new(nothing, v), seq_len - of_v),
        (KvFormat::new(plain, nothing), of_k),
        (KvFormat::new(nothing, plain), of_v),
    ];
    let parts = parts.into_iter().map(part).collect::<Result<Vec<_>, _>>()?;
    let sum = |bytes: &dyn Fn(&Estimate) -> Bytes| parts.iter().map(bytes).sum::<Exact>().bytes();
    let mut answer = Answer::of(live);
    let live_bytes = answer.estimate.bytes;
    answer.estimate.bytes = sum(&|part| part.bytes)?;
    answer.estimate.bytes_per_gpu = sum(&|part| part.bytes_per_gpu)?;
    for (index, group) in answer.estimate.layer_groups.iter_mut().enumerate() {
        group.bytes = sum(&|part| part.layer_groups.get(index).map_or(Bytes(0), |group| group.bytes))?;
    }
    let (of_k, of_v) = (of_k.get()?, of_v.get()?);
    let reason = format!("the newest {of_k} tokens of K and {of_v} of V are in {plain}");
    answer.gaps = Gap::step("residual", live_bytes, answer.estimate.bytes, reason)?.into_iter().collect();
    answer.assumptions.push(format!("{k} is by KIVI's definition (arXiv:2402.02750), and was not replayed"));
    Ok(answer)
}

/// The longest that is looked for: what still fits there has no limit.
const MOST: u64 = 1 << 40;

/// What fits in `memory` on each device: live bytes, to the last of them.
fn capacity(model: &Model, workload: &Workload, needed: Bytes, memory: Bytes) -> Result<Capacity, Error> {
    let fits = |seq_len| {
        let one = Workload { seq_len: Tokens(seq_len), batch: 1, ..*workload };
        estimate(model, &one).is_ok_and(|estimate| estimate.bytes_per_gpu <= memory)
    };
    let one = estimate(model, &Workload { batch: 1, ..*workload })?.bytes_per_gpu;
    let tokens = longest(MOST, fits);
    Ok(Capacity {
        memory: memory.0,
        fits: one <= memory,
        holds_batch: (workload.batch > 1).then_some(needed <= memory),
        blocks: None,
        tokens: Some(tokens).filter(|&tokens| tokens > 0 && tokens < MOST),
        max_concurrency: (Bytes(0) < one && one <= memory).then(|| Double::ratio(memory.0, one.0)),
        max_seq_len: tokens.min(workload.seq_len.0),
    })
}

/// Refuses what KIVI's definition does not cover.
fn refuse(model: &Model, workload: &Workload, format: ElementFormat, engine: &Engine) -> Result<(), Error> {
    let group = format.elements_per_block();
    for cache in model.layer_groups.iter().map(|group| group.cache) {
        let dims = match cache {
            LayerCache::Shared | LayerCache::None => continue,
            LayerCache::FullAttention { key_value: KeyValue::Heads { head_dim, v_head_dim, .. } } => {
                [head_dim, v_head_dim]
            }
            LayerCache::FullAttention { key_value } => [key_value.shortcut_width().unwrap_or_default(); 2],
            _ => {
                let reason = format!("is defined for full attention only, and the model has {}", cache.kind());
                return Err(engine.refusal("--kv-dtype", format, reason, "use another format"));
            }
        };
        for dim in dims {
            let reason = format_args!("has groups of {group}, which do not divide a head dimension of {dim}");
            engine.require(dim.is_multiple_of(group), "--kv-dtype", format, reason, "use another format")?;
        }
    }
    let (Layout { dcp, pp, .. }, prefix) = (workload.layout, workload.shared_prefix);
    let reason = format!("is not covered by the definition of {format}");
    let tokens = prefix.unwrap_or_default().0;
    engine.require(prefix.is_none(), "--shared-prefix", tokens, &reason, "leave it out")?;
    engine.require(dcp <= 1, "--dcp", dcp, &reason, "leave it out")?;
    // Which stage holds the most is known only where all layers are alike.
    let alike = pp <= 1 || model.layer_groups.len() <= 1;
    let reason = format_args!("is not covered by {format} where layers differ");
    engine.require(alike, "--pp", pp, reason, "leave it out")
}
