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

use std::fmt;

use serde::Serialize;

use super::{Cache, Facts, MODEL_FORMATS, REPEATED, Rules};
use crate::engine::{Answer, Engine, Gap, SettingValue, Steps, is_one_of};
use crate::estimate::{Estimate, GroupEstimate, Workload, estimate, ideal, sum_groups};
use crate::model::{CacheKind, KeyValue, LayerCache, LayerGroup, Model};
use crate::units::{Bytes, ElementFormat, Error, Exact, KvDtype, KvFormat};

/// A format of its quantised caches.
struct Format {
    name: &'static str,
    backend: &'static str,
    nbits: u64,
}

const FORMATS: &[Format] = &[
    Format { name: "fp8_e4m3", backend: FP8, nbits: 8 },
    Format { name: "quanto_int4", backend: QUANTO, nbits: 4 },
    Format { name: "quanto_int2", backend: QUANTO, nbits: 2 },
    Format { name: "hqq_int8", backend: HQQ, nbits: 8 },
    Format { name: "hqq_int4", backend: HQQ, nbits: 4 },
    Format { name: "hqq_int3", backend: HQQ, nbits: 3 },
    Format { name: "hqq_int2", backend: HQQ, nbits: 2 },
    Format { name: "hqq_int1", backend: HQQ, nbits: 1 },
];

const QUANTO: &str = "quanto";
const HQQ: &str = "hqq";
const FP8: &str = "fp8";

/// The settings of groups, which FP8 does not have.
const GROUP_WISE: [&str; 5] = ["nbits", "axis-key", "axis-value", "q-group-size", "residual-length"];

/// The settings of quantised caches.
const SETTINGS: [&str; 7] =
    ["cache-backend", "nbits", "axis-key", "axis-value", "q-group-size", "residual-length", "decoded"];

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
    /// Tokens of the prompt, which is quantised first.
    prompt: u64,
    batch: u64,
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
pub(super) fn answer(model: &Model, workload: &Workload, engine: &Engine) -> Result<Option<Answer>, Error> {
    let given = match workload.kv_dtype {
        KvDtype::Given(format) if format.k == format.v => format.k.name(),
        _ => None,
    };
    let given = FORMATS.iter().find(|format| Some(format.name) == given);
    if !is_asked_for(engine, given)? {
        return Ok(None);
    }
    let scheme = Scheme::new(model, workload, engine, given)?;
    let rules = Rules { model, workload, cache: Cache::Dynamic };
    let groups: Vec<LayerGroup> = model.layer_groups.iter().flat_map(|group| rules.as_seen(group)).collect();
    let stored = Workload { kv_dtype: KvDtype::Given(scheme.stored()?), ..*workload };
    let live = |tokens: Exact| {
        let workload = Workload { seq_len: tokens.tokens()?, ..stored };
        sum_groups(model, &groups, &workload, |group| ideal(&group.cache, &workload))
    };
    let whole = live(workload.seq_len.into())?;
    let quantized_live = live(scheme.shown.quantized_tokens.into())?.bytes;
    let mut residual = Exact::ZERO;
    let mut layer_groups = Vec::new();
    for (group, share) in groups.iter().zip(&whole.layer_groups) {
        let mut of_layer = Exact::ZERO;
        for side in scheme.sides(model, &group.cache, engine)? {
            scheme.check(side, engine)?;
            let unquantized = scheme.residual(side);
            of_layer = of_layer + scheme.quantized(side) + unquantized;
            residual = residual + unquantized * group.layers.len();
        }
        layer_groups.push(GroupEstimate { bytes: (of_layer * group.layers.len()).bytes()?, ..*share });
    }
    let bytes = layer_groups.iter().map(|group| group.bytes).sum::<Exact>().bytes()?;
    let levels = [estimate(model, &stored)?.bytes, whole.bytes, (residual + quantized_live).bytes()?, bytes];
    let answer = Answer {
        details: Some(Facts::details(Cache::Quantized, Some(scheme.shown))),
        gaps: scheme.gaps(levels)?,
        assumptions: scheme.assumption(engine).into_iter().collect(),
        ..Answer::of(Estimate { bytes, bytes_per_gpu: bytes, layer_groups, ..whole })
    };
    Ok(Some(answer))
}

/// Whether the quantised cache is asked for, by `--cache` or by one of its formats.
fn is_asked_for(engine: &Engine, given: Option<&Format>) -> Result<bool, Error> {
    match (engine.settings.choice("cache"), given) {
        (Some("quantized"), _) | (None, Some(_)) => Ok(true),
        (Some(cache), Some(format)) => {
            let reason = format!("is a format of its quantized cache, not of the {cache} one");
            Err(engine.refusal("--kv-dtype", format.name, reason, "leave --cache out, or use --cache quantized"))
        }
        (_, None) => match first_given(engine, &SETTINGS) {
            Some((flag, value)) => {
                let reason = "is an argument of its quantized cache";
                Err(engine.refusal(flag, value, reason, "add --cache quantized, or leave it out"))
            }
            None => Ok(false),
        },
    }
}

/// The first of these settings that was given, with its value.
fn first_given(engine: &Engine, names: &[&str]) -> Option<(String, SettingValue)> {
    names.iter().find_map(|name| Some((format!("--{name}"), engine.settings.get(name)?)))
}

/// The format, by its name or by backend and bits.
fn format(engine: &Engine, given: Option<&'static Format>) -> Result<&'static Format, Error> {
    let (backend, nbits) = (engine.settings.choice("cache-backend"), engine.settings.count("nbits"));
    if let Some(format) = given {
        let remedy = "leave one of them out";
        let Format { name, backend: own, nbits: bits } = *format;
        let (backend, nbits) = (backend.unwrap_or(own), nbits.unwrap_or(bits));
        engine.require(backend == own, "--cache-backend", backend, format_args!("does not make {name}"), remedy)?;
        engine.require(nbits == bits, "--nbits", nbits, format_args!("is not the bits of {name}"), remedy)?;
    }
    let backend = backend.or(given.map(|format| format.backend)).unwrap_or(QUANTO);
    if backend == FP8
        && let Some((flag, value)) = first_given(engine, &GROUP_WISE)
    {
        let reason = "is not supported by the fp8 backend, which quantizes per tensor";
        return Err(engine.refusal(flag, value, reason, "leave it out, or use --cache-backend quanto or hqq"));
    }
    let nbits = nbits.or(given.map(|format| format.nbits)).unwrap_or(if backend == FP8 { 8 } else { 4 });
    FORMATS.iter().find(|format| (format.backend, format.nbits) == (backend, nbits)).ok_or_else(|| {
        let (reason, remedy) = match backend {
            HQQ => ("is not a width of the hqq backend", "use 1, 2, 3, 4 or 8"),
            _ => ("is not a width of the quanto backend", "use 2 or 4, or --cache-backend hqq"),
        };
        engine.refusal("--nbits", nbits, reason, remedy)
    })
}

impl Groups {
    fn new(backend: &str, seq_len: u64, engine: &Engine) -> Result<Self, Error> {
        let axis = |name: &'static str| {
            let axis = engine.settings.choice(name).unwrap_or("0");
            let (other, remedy) = if backend == HQQ { ("-1", "use 0 or 1") } else { ("1", "use 0 or -1") };
            let reason = format!("is not an axis of the {backend} backend");
            if axis == other { Err(engine.refusal(format!("--{name}"), axis, reason, remedy)) } else { Ok(axis) }
        };
        let (axis_key, axis_value) = (axis("axis-key")?, axis("axis-value")?);
        let residual_length = engine.settings.count("residual-length");
        let given = residual_length.unwrap_or_default();
        let reason = format_args!("is longer than the sequences ({seq_len}): no decoded token would be quantised");
        let remedy = "give at most --seq-len, or leave it out";
        engine.require(given <= seq_len, "--residual-length", given, reason, remedy)?;
        let q_group_size = engine.settings.count("q-group-size").unwrap_or(64);
        Ok(Self { axis_key, axis_value, q_group_size, residual_length: residual_length.unwrap_or(128) })
    }
}

/// The tokens before those that are decoded.
fn prompt(seq_len: u64, format: &Format, groups: Groups, engine: &Engine) -> Result<u64, Error> {
    let decoded = engine.settings.count("decoded").unwrap_or_default();
    let Some(prompt) = seq_len.checked_sub(decoded).filter(|&prompt| prompt > 0) else {
        let reason = format!("leaves no prompt of {seq_len} tokens");
        return Err(engine.refusal("--decoded", decoded, reason, "give fewer than the sequence has"));
    };
    let is_unreadable = (format.backend, format.nbits) == (HQQ, 3);
    let stops = decoded > 0 && is_unreadable && [groups.axis_key, groups.axis_value].contains(&"1");
    let reason = "can't follow a prompt in 3 bits on axis 1, which hqq does not read back";
    engine.require(!stops, "--decoded", decoded, reason, "use axis 0, or leave it out")?;
    Ok(prompt)
}

/// The format of the model, which is `asked` for where that is no format of a quantised cache; else its own.
fn model_format(asked: KvDtype, model: &Model, engine: &Engine) -> Result<ElementFormat, Error> {
    let KvDtype::Given(format) = asked else { return Ok(model.dtype) };
    let is_known = format.k == format.v && is_one_of(format.k, MODEL_FORMATS);
    let reason = "is not a format of the model under its quantized cache";
    let remedy = "use fp32, fp16 or bf16 for the model, and --cache-backend and --nbits";
    engine.require(is_known, "--kv-dtype", format, reason, remedy)?;
    Ok(format.k)
}

impl Scheme {
    fn new(model: &Model, workload: &Workload, engine: &Engine, given: Option<&'static Format>) -> Result<Self, Error> {
        let format = format(engine, given)?;
        let Format { name, backend, nbits } = *format;
        let seq_len = workload.seq_len.0;
        let groups = Groups::new(backend, seq_len, engine)?;
        let prompt = prompt(seq_len, format, groups, engine)?;
        let asked = if given.is_some() { KvDtype::Auto } else { workload.kv_dtype };
        let model_format = model_format(asked, model, engine)?;
        let groups = Some(groups).filter(|_| backend != FP8);
        // Of a residual of none or one each token is quantised as it comes.
        let residual = groups.map_or(0, |groups| groups.residual_length).max(1);
        let residual_tokens = (Exact::from(seq_len) - prompt) % residual;
        let quantized_tokens = (Exact::from(seq_len) - residual_tokens).get()?;
        let residual_tokens = residual_tokens.get()?;
        let shown = Quantized { backend, nbits, groups, quantized_tokens, residual_tokens };
        Ok(Self { shown, name, prompt, batch: workload.batch, model_format })
    }

    /// The format, scales and zeros included, as its axes pack it.
    fn stored(&self) -> Result<KvFormat, Error> {
        let Some(Groups { axis_key, axis_value, q_group_size: of_group, .. }) = self.shown.groups else {
            return Ok(self.name.parse().unwrap_or_else(|_| ElementFormat::FP8.into()));
        };
        let scales = Exact::from(self.model_format.bits_per_block()) * 2u64;
        let of_axis = |axis: &str| {
            let (rows, word) = self.packing();
            // Rows are packed within a group, or across as many groups as fill a word.
            let (groups, words) = if self.packs_across(axis) { (rows, of_group) } else { (1, of_group.div_ceil(rows)) };
            let bits = Exact::from(words) * word * 8u64 + scales * groups;
            let elements = Exact::from(of_group) * groups;
            Ok::<_, Error>(ElementFormat::blocks(self.name, bits.get()?, elements.get()?))
        };
        Ok(KvFormat::new(of_axis(axis_key)?, of_axis(axis_value)?))
    }

    /// The steps between the bytes of the ideal, of repeated heads, of the residual and of all rules.
    fn gaps(&self, [live, repeated, with_residual, all]: [Bytes; 4]) -> Result<Vec<Gap>, Error> {
        let Quantized { backend, groups, residual_tokens, .. } = self.shown;
        let window = groups.map_or_else(String::new, |Groups { residual_length, .. }| {
            let format = self.model_format;
            format!("{residual_tokens} decoded tokens are in {format} until there are {residual_length} to quantise")
        });
        let (kind, packing) = match backend {
            FP8 => ("scales", "an fp32 scale for K and one for V of each layer"),
            _ => ("packing", "each tensor is packed by itself, into whole rows"),
        };
        let steps = Steps::from(live).to("repeated_heads", repeated, REPEATED)?;
        Ok(steps.to("residual", with_residual, window)?.to(kind, all, packing)?.gaps)
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

    /// K and V of a layer; what is not full attention is refused.
    fn sides(&self, model: &Model, cache: &LayerCache, engine: &Engine) -> Result<[Side; 2], Error> {
        let (axis_key, axis_value) =
            self.shown.groups.map_or(("0", "0"), |groups| (groups.axis_key, groups.axis_value));
        let encodes = model.has(CacheKind::Cross);
        let both =
            |heads, k, v| Some([Side { heads, dim: k, axis: axis_key }, Side { heads, dim: v, axis: axis_value }]);
        let sides = match *cache {
            _ if encodes => None,
            LayerCache::FullAttention { key_value: KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim } } => {
                both(num_key_value_heads, head_dim, v_head_dim)
            }
            LayerCache::FullAttention { key_value } => {
                key_value.shortcut_width().and_then(|width| both(1, width, width))
            }
            LayerCache::Latent { kv_lora_rank, qk_rope_head_dim } => both(1, kv_lora_rank, qk_rope_head_dim),
            _ => None,
        };
        let kind = if encodes { "cross_attention" } else { cache.kind() };
        let reason = format!("is not supported for a model with {kind}: every layer must be full attention");
        sides.ok_or_else(|| engine.refusal("--cache", "quantized", reason, "use dynamic, or another format"))
    }

    /// Refuses groups that do not divide what is quantised, first the prompt and then all tokens anew.
    fn check(&self, side: Side, engine: &Engine) -> Result<(), Error> {
        let Some(groups) = self.shown.groups else { return Ok(()) };
        self.check_at(self.prompt.into(), side, groups, engine)?;
        if self.shown.quantized_tokens > self.prompt {
            // Every later time adds as many tokens as the first.
            let again = Exact::from(self.prompt) + groups.residual_length.max(1);
            self.check_at(again, side, groups, engine)?;
        }
        Ok(())
    }

    fn check_at(&self, tokens: Exact, side: Side, groups: Groups, engine: &Engine) -> Result<(), Error> {
        let of_group = groups.q_group_size;
        let require = |condition: bool, reason: fmt::Arguments<'_>, remedy| {
            engine.require(condition, "--q-group-size", of_group, reason, remedy)
        };
        let of_sequence = tokens * side.heads * side.dim;
        let elements = of_sequence * self.batch;
        let by_sequence = (self.shown.backend, side.axis) == (QUANTO, "0");
        let grouped = match self.shown.backend {
            QUANTO if by_sequence => of_sequence,
            QUANTO => elements / side.dim.max(1),
            _ => elements,
        };
        let (tokens, grouped) = (tokens.get()?, grouped.get()?);
        let reason = format_args!("does not divide the {grouped} elements that are grouped at {tokens} tokens");
        require(grouped.is_multiple_of(of_group), reason, "use a group size that does")?;
        let is_one = grouped == of_group && by_sequence && self.batch == 1;
        let reason = format_args!("makes one group of all, for which quanto keeps other scales");
        require(!is_one, reason, "use a smaller one")?;
        let (rows_in_one, word) = self.packing();
        let rows = if self.packs_across(side.axis) { (elements / of_group).get()? } else { of_group };
        let packs = self.shown.backend != HQQ || word != 1 || rows.is_multiple_of(rows_in_one);
        let reason = format_args!("makes {rows} rows at {tokens} tokens, and hqq packs {rows_in_one} into one");
        require(packs, reason, "use a group size that makes a multiple")
    }

    /// Elements of that many tokens in one layer.
    fn elements(&self, side: Side, tokens: u64) -> Exact {
        Exact::from(self.batch) * side.heads * side.dim * tokens
    }

    /// Bytes of what is quantised in one layer.
    fn quantized(&self, side: Side) -> Exact {
        let elements = self.elements(side, self.shown.quantized_tokens);
        let Some(Groups { q_group_size: of_group, .. }) = self.shown.groups else { return elements + 4u64 };
        let groups = elements / of_group;
        let (rows_in_one, word) = self.packing();
        let packed = if self.packs_across(side.axis) {
            groups.div_ceil(rows_in_one) * of_group
        } else {
            groups * of_group.div_ceil(rows_in_one)
        };
        packed * word + groups * 2u64 * self.model_bytes()
    }

    /// Bytes of what is not quantised in one layer.
    fn residual(&self, side: Side) -> Exact {
        self.elements(side, self.shown.residual_tokens) * self.model_bytes()
    }

    fn model_bytes(&self) -> u64 {
        self.model_format.bits_per_block().div_ceil(8)
    }

    /// What is assumed of decoded tokens, where nothing is said of them.
    fn assumption(&self, engine: &Engine) -> Option<String> {
        let most = self.shown.groups?.residual_length.checked_sub(1).filter(|&most| most > 0)?;
        let format = self.model_format;
        let text = || format!("all tokens are one prompt; up to {most} decoded ones stay in {format} (--decoded)");
        engine.settings.count("decoded").is_none().then(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_is_a_format_of_its_own_bits_at_the_default_group() {
        for &Format { name, backend, nbits } in FORMATS.iter().filter(|format| format.backend != FP8) {
            let groups = Groups { axis_key: "0", axis_value: "0", q_group_size: 64, residual_length: 128 };
            let shown = Quantized { backend, nbits, groups: Some(groups), quantized_tokens: 1, residual_tokens: 0 };
            let scheme = Scheme { shown, name, prompt: 1, batch: 1, model_format: ElementFormat::BF16 };
            let (stored, listed) = (scheme.stored().unwrap(), name.parse::<ElementFormat>().unwrap());
            let ratio = |format: ElementFormat, other: ElementFormat| {
                u128::from(format.bits_per_block()) * u128::from(other.elements_per_block())
            };
            assert_eq!(ratio(stored.k, listed), ratio(listed, stored.k), "{name}");
            assert_eq!(stored.k, stored.v);
        }
    }
}
