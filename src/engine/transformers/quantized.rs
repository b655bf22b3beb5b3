//! Its quantised caches: `QuantizedCache` (`cache_utils.py`), by optimum-quanto 0.2.7, hqq 0.2.8.post1 or in FP8.
//!
//! - The whole prompt is quantised at once. Tokens decoded after it stay in the model's format until `residual_length` of
//!   them are there; then all of them are quantised anew with the rest (`QuantizedLayer.update`).
//! - A group of `q_group_size` elements has a scale and a shift (quanto) or zero (HQQ), each in the model's format.
//! - quanto makes rows of a group (axis 0) or of one place in every group (axis −1), and packs 8 / bits rows into one of bytes,
//!   the last ones padded (`tensor/grouped.py`, `tensor/packed.py`). HQQ packs likewise (axis 1 and 0) and pads nothing, but
//!   for 3 bits: ten rows into one of int32, padded (`core/bitpack.py`).
//! - HQQ of 3 bits on axis 1 can't be read again, so no token can be decoded (`core/quantize.py`, `dequantize`).
//! - FP8 is e4m3 with one fp32 scale for K and one for V of a layer, and no residual (`Fp8QuantizedLayer`).
//! - Every layer must be full attention, and nothing may be encoded.

use serde::Serialize;

use super::{Cache, MODEL_FORMATS, as_seen};
use crate::engine::{Answer, Engine, Gap};
use crate::estimate::{Estimate, GroupEstimate, Workload, estimate, ideal, sum};
use crate::model::{KeyValue, LayerCache, Model};
use crate::units::{Bytes, ElementFormat, Error, KvDtype, KvFormat, Tokens};

/// The formats of its quantised caches: the backend and bits that each stands for.
const SCHEMES: &[(&str, &str, u64)] = &[
    ("fp8_e4m3", FP8, 8),
    ("quanto_int4", QUANTO, 4),
    ("quanto_int2", QUANTO, 2),
    ("hqq_int8", HQQ, 8),
    ("hqq_int4", HQQ, 4),
    ("hqq_int3", HQQ, 3),
    ("hqq_int2", HQQ, 2),
    ("hqq_int1", HQQ, 1),
];

const QUANTO: &str = "quanto";
const HQQ: &str = "hqq";
const FP8: &str = "fp8";

/// What configures groups, which FP8 has none of.
const GROUP_WISE: [&str; 5] = ["nbits", "axis-key", "axis-value", "q-group-size", "residual-length"];

/// A quantised cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Quantized {
    /// `quanto`, `hqq` or `fp8`.
    pub backend: &'static str,
    /// Bits of an element.
    pub nbits: u64,
    /// How its elements are grouped; none in FP8.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Groups>,
    /// Tokens that are quantised.
    pub quantized_tokens: u64,
    /// Tokens that are not yet.
    pub residual_tokens: u64,
}

/// How elements are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Groups {
    /// The axis along which K is grouped.
    pub axis_key: &'static str,
    /// The same of V.
    pub axis_value: &'static str,
    /// Elements that share a scale and a zero.
    pub q_group_size: u64,
    /// Decoded tokens at which all are quantised anew.
    pub residual_length: u64,
}

/// A cache with what its bytes depend on.
struct Scheme {
    shown: Quantized,
    name: &'static str,
    /// Tokens that were decoded after the prompt.
    decoded: u64,
    /// The format of the model, of scales and of what is not quantised.
    model_format: ElementFormat,
}

/// K or V of one layer.
#[derive(Clone, Copy)]
struct Side {
    heads: u64,
    dim: u64,
    axis: &'static str,
}

/// The answer of the quantised cache, if it is asked for.
pub(super) fn answer(
    model: &Model,
    workload: &Workload,
    engine: &Engine,
) -> Result<Option<(Answer, Quantized)>, Error> {
    let Some(scheme) = scheme(model, workload, engine)? else { return Ok(None) };
    let groups = model.layer_groups.iter().flat_map(|group| as_seen(model, group, Cache::Dynamic)).collect();
    let seen = Model { layer_groups: groups, ..model.clone() };
    let stored = Workload { kv_dtype: KvDtype::Given(scheme.stored()), ..*workload };
    let live = |tokens: u64| {
        let workload = Workload { seq_len: Tokens(tokens), ..stored };
        sum(&seen, &workload, |group| ideal(&group.cache, &workload))
    };
    let whole = live(workload.seq_len.0)?;
    let quantized_live = live(scheme.shown.quantized_tokens)?.bytes;
    let (mut layer_groups, mut residual) = (Vec::new(), Bytes(0));
    for (group, share) in seen.layer_groups.iter().zip(&whole.layer_groups) {
        let layers = u64::try_from(group.layers.len()).map_err(|_| Error::too_large())?;
        let sides = scheme.sides(model, &group.cache, engine)?;
        let mut bytes = 0u64;
        for side in sides.into_iter().flatten() {
            scheme.check(workload, side, engine)?;
            let quantized = scheme.quantized(side, workload.batch);
            let kept = scheme.residual(side, workload.batch).and_then(|kept| kept.checked_mul(layers));
            let of_layers = quantized.and_then(|quantized| quantized.checked_mul(layers));
            let both = of_layers.zip(kept).and_then(|(quantized, kept)| quantized.checked_add(kept));
            bytes = both.and_then(|both| bytes.checked_add(both)).ok_or_else(Error::too_large)?;
            residual = kept.and_then(|kept| residual.checked_add(Bytes(kept))).ok_or_else(Error::too_large)?;
        }
        layer_groups.push(GroupEstimate { bytes: Bytes(bytes), ..*share });
    }
    let add = |sum: Bytes, bytes: Bytes| sum.checked_add(bytes).ok_or_else(Error::too_large);
    let bytes = layer_groups.iter().try_fold(Bytes(0), |sum, group| add(sum, group.bytes))?;
    let with_residual = add(quantized_live, residual)?;
    let Quantized { backend, groups, residual_tokens, .. } = scheme.shown;
    let window = groups.map_or_else(String::new, |Groups { residual_length, .. }| {
        let format = scheme.model_format;
        format!("{residual_tokens} decoded tokens are in {format} until there are {residual_length} to quantise")
    });
    let (kind, packing) = match backend {
        FP8 => ("scales", "an fp32 scale for K and one for V of each layer"),
        _ => ("packing", "each tensor is packed by itself, into whole rows"),
    };
    let heads = "KV heads are repeated for the query heads that share them";
    let steps = [
        Gap::step("repeated_heads", estimate(model, &stored)?.bytes, whole.bytes, heads.into()),
        Gap::step("residual", whole.bytes, with_residual, window),
        Gap::step(kind, with_residual, bytes, packing.into()),
    ];
    let mut answer = Answer {
        gaps: steps.into_iter().flatten().collect(),
        ..Answer::of(Estimate { bytes, bytes_per_gpu: bytes, layer_groups, ..whole })
    };
    if let Some(groups) = groups {
        scheme.say(engine, groups, &mut answer);
    }
    Ok(Some((answer, scheme.shown)))
}

/// What is asked of the quantised cache: by `--cache`, or by one of its formats.
fn scheme(model: &Model, workload: &Workload, engine: &Engine) -> Result<Option<Scheme>, Error> {
    let settings = &engine.settings;
    let given = match workload.kv_dtype {
        KvDtype::Given(format) if format.k == format.v => format.name(),
        _ => None,
    };
    let by_format = SCHEMES.iter().find(|(name, ..)| Some(*name) == given);
    match (settings.choice("cache"), by_format) {
        (Some("quantized"), _) | (None, Some(_)) => {}
        (Some(cache), Some((name, ..))) => {
            let reason = format!("is a format of its quantized cache, not of the {cache} one");
            return Err(engine.refusal("--kv-dtype", name, reason, "leave --cache out, or use --cache quantized"));
        }
        _ => {
            for (flag, name) in FLAGS {
                if let Some(value) = settings.get(name) {
                    let reason = "is an argument of its quantized cache";
                    return Err(engine.refusal(flag, value, reason, "add --cache quantized, or leave it out"));
                }
            }
            return Ok(None);
        }
    }
    let backend = settings.choice("cache-backend");
    let nbits = settings.count("nbits");
    if let Some((name, of_format, bits)) = by_format {
        let remedy = "leave one of them out";
        if let Some(backend) = backend.filter(|backend| backend != of_format) {
            return Err(engine.refusal("--cache-backend", backend, format!("does not make {name}"), remedy));
        }
        if let Some(nbits) = nbits.filter(|nbits| nbits != bits) {
            return Err(engine.refusal("--nbits", nbits, format!("is not the bits of {name}"), remedy));
        }
    }
    let backend = backend.or(by_format.map(|(_, backend, _)| *backend)).unwrap_or(QUANTO);
    let unsupported = GROUP_WISE.iter().filter(|_| backend == FP8).find_map(|name| Some((name, settings.get(name)?)));
    if let Some((name, value)) = unsupported {
        let flag = FLAGS.iter().find(|(_, known)| known == name).map_or("--cache-backend", |(flag, _)| flag);
        let reason = "is not supported by the fp8 backend, which quantizes per tensor";
        return Err(engine.refusal(flag, value, reason, "leave it out, or use --cache-backend quanto or hqq"));
    }
    let nbits = nbits.or(by_format.map(|(.., bits)| *bits)).unwrap_or(if backend == FP8 { 8 } else { 4 });
    let Some((name, ..)) = SCHEMES.iter().find(|(_, of, bits)| (*of, *bits) == (backend, nbits)) else {
        let (reason, remedy) = match backend {
            HQQ => ("is not a width of the hqq backend", "use 1, 2, 3, 4 or 8"),
            _ => ("is not a width of the quanto backend", "use 2 or 4, or --cache-backend hqq"),
        };
        return Err(engine.refusal("--nbits", nbits, reason, remedy));
    };
    let axis = |name: &str, flag: &'static str| {
        let axis = settings.choice(name).unwrap_or("0");
        let (other, remedy) = if backend == HQQ { ("-1", "use 0 or 1") } else { ("1", "use 0 or -1") };
        let reason = format!("is not an axis of the {backend} backend");
        if axis == other { Err(engine.refusal(flag, axis, reason, remedy)) } else { Ok(axis) }
    };
    let groups = Groups {
        axis_key: axis("axis-key", "--axis-key")?,
        axis_value: axis("axis-value", "--axis-value")?,
        q_group_size: settings.count("q-group-size").unwrap_or(64),
        residual_length: settings.count("residual-length").unwrap_or(128),
    };
    let seq_len = workload.seq_len.0;
    if let Some(length) = settings.count("residual-length").filter(|&length| length > seq_len) {
        let reason = format!("is longer than the sequences ({seq_len}): no decoded token would be quantised");
        return Err(engine.refusal("--residual-length", length, reason, "give at most --seq-len, or leave it out"));
    }
    let decoded = settings.count("decoded").unwrap_or(0);
    if decoded >= seq_len {
        let reason = format!("leaves no prompt of {seq_len} tokens");
        return Err(engine.refusal("--decoded", decoded, reason, "give fewer than the sequence has"));
    }
    if decoded > 0 && (backend, nbits) == (HQQ, 3) && [groups.axis_key, groups.axis_value].contains(&"1") {
        let reason = "can't follow a prompt in 3 bits on axis 1, which hqq does not read back";
        return Err(engine.refusal("--decoded", decoded, reason, "use axis 0, or leave it out"));
    }
    let groups = Some(groups).filter(|_| backend != FP8);
    // Of a residual of none or one each token is quantised as it comes.
    let residual_tokens = groups.map_or(0, |groups| decoded.checked_rem(groups.residual_length).unwrap_or(0));
    let model_format = match workload.kv_dtype {
        KvDtype::Given(format) if by_format.is_none() => {
            let known = format.k == format.v && given.is_some_and(|name| MODEL_FORMATS.contains(&name));
            if !known {
                let remedy = "use fp32, fp16 or bf16 for the model, and --cache-backend and --nbits";
                let reason = "is not a format of the model under its quantized cache";
                return Err(engine.refusal("--kv-dtype", format, reason, remedy));
            }
            format.k
        }
        _ => model.dtype,
    };
    let quantized_tokens = seq_len.saturating_sub(residual_tokens);
    let shown = Quantized { backend, nbits, groups, quantized_tokens, residual_tokens };
    Ok(Some(Scheme { shown, name, decoded, model_format }))
}

/// The settings of quantised caches, with their flags.
const FLAGS: [(&str, &str); 7] = [
    ("--cache-backend", "cache-backend"),
    ("--nbits", "nbits"),
    ("--axis-key", "axis-key"),
    ("--axis-value", "axis-value"),
    ("--q-group-size", "q-group-size"),
    ("--residual-length", "residual-length"),
    ("--decoded", "decoded"),
];

impl Scheme {
    /// The format, scales and zeros included, as its axes pack it.
    fn stored(&self) -> KvFormat {
        let Some(Groups { axis_key, axis_value, q_group_size: of_group, .. }) = self.shown.groups else {
            return self.name.parse().unwrap_or_else(|_| ElementFormat::FP8.into());
        };
        let scales = self.model_format.bits_per_block().saturating_mul(2);
        let of_axis = |axis: &str| {
            let (rows, word) = self.packing();
            // Rows are packed within a group, or across as many groups as fill a word.
            let (groups, words) = if self.packs_across(axis) { (rows, of_group) } else { (1, of_group.div_ceil(rows)) };
            let payload = words.saturating_mul(word).saturating_mul(8);
            let bits = payload.saturating_add(scales.saturating_mul(groups));
            ElementFormat::blocks(self.name, bits, of_group.saturating_mul(groups))
        };
        KvFormat::new(of_axis(axis_key), of_axis(axis_value))
    }

    /// How many rows are packed into one, and the bytes of one of its elements.
    fn packing(&self) -> (u64, u64) {
        match self.shown.nbits {
            3 => (10, 4),
            bits => (8u64.checked_div(bits).unwrap_or(1), 1),
        }
    }

    /// Whether a row is a group, so that rows of several groups are packed into one.
    fn packs_across(&self, axis: &str) -> bool {
        (self.shown.backend == QUANTO) == (axis == "0")
    }

    /// K and V of a layer; what is no full attention is refused.
    fn sides(&self, model: &Model, cache: &LayerCache, engine: &Engine) -> Result<[Option<Side>; 2], Error> {
        let (axis_key, axis_value) =
            self.shown.groups.map_or(("0", "0"), |groups| (groups.axis_key, groups.axis_value));
        let side = |heads: u64, dim: u64, axis| Some(Side { heads, dim, axis });
        let both = |heads, k, v| Ok([side(heads, k, axis_key), side(heads, v, axis_value)]);
        let encodes = model.layer_groups.iter().any(|group| matches!(group.cache, LayerCache::CrossAttention { .. }));
        match *cache {
            _ if encodes => {}
            LayerCache::FullAttention { key_value: KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim } } => {
                return both(num_key_value_heads, head_dim, v_head_dim);
            }
            LayerCache::FullAttention { key_value } => {
                if let Some(width) = key_value.shortcut_width() {
                    return both(1, width, width);
                }
            }
            LayerCache::Latent { kv_lora_rank, qk_rope_head_dim } => return both(1, kv_lora_rank, qk_rope_head_dim),
            _ => {}
        }
        let kind = if encodes { "cross_attention" } else { cache.kind() };
        let reason = format!("is not supported for a model with {kind}: every layer must be full attention");
        Err(engine.refusal("--cache", "quantized", reason, "use dynamic, or another format"))
    }

    /// Refuses groups that do not divide what is quantised, first the prompt and then all tokens anew.
    fn check(&self, workload: &Workload, side: Side, engine: &Engine) -> Result<(), Error> {
        let Some(Groups { q_group_size: of_group, residual_length, .. }) = self.shown.groups else { return Ok(()) };
        let prompt = workload.seq_len.0.saturating_sub(self.decoded);
        // Every later time adds as many tokens as the first.
        let again = prompt.saturating_add(residual_length.max(1));
        let times = if self.shown.quantized_tokens > prompt { vec![prompt, again] } else { vec![prompt] };
        for tokens in times {
            let of_sequence = product(&[side.heads, side.dim, tokens]).ok_or_else(Error::too_large)?;
            let elements = of_sequence.checked_mul(workload.batch).ok_or_else(Error::too_large)?;
            let grouped = match (self.shown.backend, side.axis) {
                (QUANTO, "0") => of_sequence,
                (QUANTO, _) => elements.checked_div(side.dim).unwrap_or_default(),
                _ => elements,
            };
            if !grouped.is_multiple_of(of_group) {
                let reason = format!("does not divide the {grouped} elements that are grouped at {tokens} tokens");
                return Err(engine.refusal("--q-group-size", of_group, reason, "use a group size that does"));
            }
            if grouped == of_group && (self.shown.backend, side.axis) == (QUANTO, "0") && workload.batch == 1 {
                let reason = "makes one group of all, for which quanto keeps other scales";
                return Err(engine.refusal("--q-group-size", of_group, reason, "use a smaller one"));
            }
            let rows = if self.packs_across(side.axis) {
                elements.checked_div(of_group).unwrap_or_default()
            } else {
                of_group
            };
            let (rows_in_one, word) = self.packing();
            if self.shown.backend == HQQ && word == 1 && !rows.is_multiple_of(rows_in_one) {
                let reason = format!("makes {rows} rows at {tokens} tokens, and hqq packs {rows_in_one} into one");
                return Err(engine.refusal(
                    "--q-group-size",
                    of_group,
                    reason,
                    "use a group size that makes a multiple",
                ));
            }
        }
        Ok(())
    }

    /// Bytes of what is quantised of one layer.
    fn quantized(&self, side: Side, batch: u64) -> Option<u64> {
        let elements = product(&[batch, side.heads, side.dim, self.shown.quantized_tokens])?;
        let Some(Groups { q_group_size: of_group, .. }) = self.shown.groups else { return elements.checked_add(4) };
        let groups = elements.checked_div(of_group)?;
        let (rows_in_one, word) = self.packing();
        let (rows, columns) = if self.packs_across(side.axis) { (groups, of_group) } else { (of_group, groups) };
        let payload = product(&[rows.div_ceil(rows_in_one), columns, word])?;
        payload.checked_add(product(&[groups, 2, self.model_bytes()])?)
    }

    /// Bytes of what is not quantised of one layer.
    fn residual(&self, side: Side, batch: u64) -> Option<u64> {
        product(&[batch, side.heads, side.dim, self.shown.residual_tokens, self.model_bytes()])
    }

    fn model_bytes(&self) -> u64 {
        self.model_format.bits_per_block().div_ceil(8)
    }

    /// What is taken for granted, and what is odd.
    fn say(&self, engine: &Engine, groups: Groups, answer: &mut Answer) {
        let (length, format) = (groups.residual_length, self.model_format);
        if engine.settings.count("decoded").is_none() && length > 1 {
            let most = length.saturating_sub(1);
            let text = format!("all tokens are one prompt; up to {most} decoded ones stay in {format} (--decoded)");
            answer.assumptions.push(text);
        }
    }
}

fn product(factors: &[u64]) -> Option<u64> {
    factors.iter().try_fold(1u64, |product, &factor| product.checked_mul(factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_is_a_format_of_its_own_bits_at_the_default_group() {
        for &(name, backend, nbits) in SCHEMES.iter().filter(|(_, backend, _)| *backend != FP8) {
            let groups = Groups { axis_key: "0", axis_value: "0", q_group_size: 64, residual_length: 128 };
            let shown = Quantized { backend, nbits, groups: Some(groups), quantized_tokens: 1, residual_tokens: 0 };
            let scheme = Scheme { shown, name, decoded: 0, model_format: ElementFormat::BF16 };
            let (stored, listed) = (scheme.stored(), name.parse::<ElementFormat>().unwrap());
            let ratio = |format: ElementFormat, other: ElementFormat| {
                u128::from(format.bits_per_block()) * u128::from(other.elements_per_block())
            };
            assert_eq!(ratio(stored.k, listed), ratio(listed, stored.k), "{name}");
            assert_eq!(stored.k, stored.v);
        }
    }
}
