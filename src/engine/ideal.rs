//! No engine: the live bytes of [`mod@crate::estimate`], in the form of an engine's answer.
//!
//! KIVI's formats (arXiv:2402.02750, algorithm 1) have a window R of full precision, which is a step of its own: of S tokens
//! the newest S mod R of K are in the model's format, since K is quantised by channel, over groups of tokens, once R of them are
//! there; of V, quantised by token, the newest min(S, R).

use super::{Answer, Engine, Gap, Profile};
use crate::estimate::{Workload, estimate};
use crate::model::{KeyValue, LayerCache, Model};
use crate::units::{Bytes, ElementFormat, Error, KvDtype, KvFormat, Tokens};

pub(super) const PROFILE: Profile = Profile {
    name: "ideal",
    about: "live bytes, no blocks, no padding, no reserve",
    replayed: "equal to transformers' static caches wherever no rule of transformers differs",
    ..Profile::DEFAULT
};

pub(super) fn answer(model: &Model, workload: &Workload, engine: &Engine) -> Result<Answer, Error> {
    let live = estimate(model, workload)?;
    let KvFormat { k, v, .. } = live.stored;
    let window = match (k.full_precision_tokens(), v.full_precision_tokens()) {
        (None, None) => return Ok(Answer::of(live)),
        (Some(window), Some(_)) if k == v => window,
        _ => {
            let reason = "is one of KIVI's with another beside it, and KIVI is one scheme for K and V";
            return Err(engine.refusal("--kv-dtype", live.stored, reason, "use it for both"));
        }
    };
    refuse(model, workload, k, engine)?;
    let seq_len = workload.seq_len.0;
    let of_k = seq_len.checked_rem(window).unwrap_or_default();
    let of_v = seq_len.min(window);
    let (nothing, plain) = (ElementFormat::bitwidth(0), model.dtype);
    let mut answer = Answer::of(live);
    answer.estimate.bytes = Bytes(0);
    answer.estimate.bytes_per_gpu = Bytes(0);
    for group in &mut answer.estimate.layer_groups {
        group.bytes = Bytes(0);
    }
    for (format, tokens) in [
        (KvFormat::new(k, nothing), seq_len.saturating_sub(of_k)),
        (KvFormat::new(nothing, v), seq_len.saturating_sub(of_v)),
        (KvFormat::new(plain, nothing), of_k),
        (KvFormat::new(nothing, plain), of_v),
    ] {
        let part = Workload { seq_len: Tokens(tokens), kv_dtype: KvDtype::Given(format), ..*workload };
        let part = estimate(model, &part)?;
        let add = |sum: &mut Bytes, bytes: Bytes| {
            *sum = sum.checked_add(bytes).ok_or_else(Error::too_large)?;
            Ok::<_, Error>(())
        };
        add(&mut answer.estimate.bytes, part.bytes)?;
        add(&mut answer.estimate.bytes_per_gpu, part.bytes_per_gpu)?;
        for (group, share) in answer.estimate.layer_groups.iter_mut().zip(part.layer_groups) {
            add(&mut group.bytes, share.bytes)?;
        }
    }
    let reason = format!("the newest {of_k} tokens of K and {of_v} of V are in {plain}");
    answer.gaps =
        Gap::step("residual", estimate(model, workload)?.bytes, answer.estimate.bytes, reason).into_iter().collect();
    answer.assumptions.push(format!("{k} is by KIVI's definition (arXiv:2402.02750), and was not replayed"));
    Ok(answer)
}

/// Refuses what KIVI's definition does not cover.
fn refuse(model: &Model, workload: &Workload, format: ElementFormat, engine: &Engine) -> Result<(), Error> {
    let refused = |field, found: String, reason: String, remedy| Err(engine.refusal(field, found, reason, remedy));
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
                return refused("--kv-dtype", format.to_string(), reason, "use another format");
            }
        };
        if let Some(dim) = dims.into_iter().find(|dim| !dim.is_multiple_of(group)) {
            let reason = format!("has groups of {group}, which do not divide a head dimension of {dim}");
            return refused("--kv-dtype", format.to_string(), reason, "use another format");
        }
    }
    if let Some(prefix) = workload.shared_prefix {
        let reason = format!("is not covered by the definition of {format}");
        return refused("--shared-prefix", prefix.0.to_string(), reason, "leave it out");
    }
    let (dcp, pp) = (workload.layout.dcp, workload.layout.pp);
    if dcp > 1 {
        return refused(
            "--dcp",
            dcp.to_string(),
            format!("is not covered by the definition of {format}"),
            "leave it out",
        );
    }
    // Which stage holds the most is known only where all layers are alike.
    if pp > 1 && model.layer_groups.len() > 1 {
        let reason = format!("is not covered by {format} where layers differ");
        return refused("--pp", pp.to_string(), reason, "leave it out");
    }
    Ok(())
}
