//! Which layers are of which kind: a list where there is one, else a rule.

use serde_json::Value;

use super::keys::{Keys, wrong_type};
use crate::catalogue::{EveryNthFull, LayerRule as Rule};
use crate::model::Dimension;
use crate::units::{Code, Error};

/// The kind of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::source) enum LayerKind {
    Full,
    Sliding,
    Chunked,
    /// A recurrent state and no attention.
    Recurrent,
    /// A recurrent state beside full attention.
    Hybrid,
    /// A recurrent state beside a sliding window.
    HybridSliding,
    /// A window, and one vector for every few tokens before it.
    Compressed,
    /// Attention to an encoder's tokens only.
    Cross,
    /// Reads an earlier layer's cache.
    Shared,
    /// Neither attention nor state.
    None,
}

/// The names that configurations have for kinds (transformers 5.23 `configuration_utils.py`, `ALLOWED_LAYER_TYPES`, and
/// the older names its classes convert).
const NAMES: &[(LayerKind, &[&str])] = &[
    (LayerKind::Full, &["full_attention", "attention", "global", "indexed_attention", "deepseek_sparse_attention"]),
    (LayerKind::Full, &["minimax_m3_sparse", "sparse"]),
    (LayerKind::Sliding, &["sliding_attention", "reference_sliding_attention", "local"]),
    (LayerKind::Chunked, &["chunked_attention"]),
    (LayerKind::Recurrent, &["linear_attention", "mamba", "mamba2", "recurrent", "conv", "kda"]),
    (LayerKind::Hybrid, &["hybrid"]),
    (LayerKind::HybridSliding, &["hybrid_sliding"]),
    (LayerKind::Compressed, &["compressed_sparse_attention", "heavily_compressed_attention"]),
    (LayerKind::None, &["moe", "mlp"]),
];

/// The letters of `hybrid_override_pattern` (Nemotron-H).
const LETTERS: &[(char, LayerKind)] =
    &[('M', LayerKind::Recurrent), ('*', LayerKind::Full), ('-', LayerKind::None), ('E', LayerKind::None)];

impl LayerKind {
    fn read(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, names)| names.contains(&name)).map(|(kind, _)| *kind)
    }

    /// Whether the layer has attention of its own to its own tokens.
    pub(super) fn attends(self) -> bool {
        !matches!(self, Self::Recurrent | Self::Cross | Self::Shared | Self::None)
    }

    /// Whether the layer has a recurrent state.
    pub(super) fn recurs(self) -> bool {
        matches!(self, Self::Recurrent | Self::Hybrid | Self::HybridSliding)
    }

    /// Whether the layer has a sliding window.
    pub(super) fn slides(self) -> bool {
        matches!(self, Self::Sliding | Self::HybridSliding | Self::Compressed)
    }
}

/// The number of layers that the lists say, for files that leave `num_hidden_layers` out.
pub(in crate::source) fn listed_layers(keys: &Keys<'_>) -> Option<(String, u64)> {
    ["layer_types", "layers_block_type"].into_iter().find_map(|key| {
        let len = u64::try_from(keys.get(key)?.as_array()?.len()).ok()?;
        Some((keys.field(key), len))
    })
}

/// The kind of each layer; of those that a rule lets slide it is `slides`: full where no window is switched on.
pub(in crate::source) fn layer_kinds(keys: &Keys<'_>, layers: u32, slides: LayerKind) -> Result<Vec<LayerKind>, Error> {
    let mut kinds = match listed_kinds(keys, layers as usize)? {
        Some(kinds) => kinds,
        None => match indexed_kinds(keys, layers.into())? {
            Some(kinds) => kinds,
            None => ruled_kinds(keys, layers, slides)?,
        },
    };
    // Llama 3.2 Vision: these layers attend to the image and to nothing else.
    for index in keys.layer_indices("cross_attention_layers", 0, layers.into())? {
        if let Some(kind) = usize::try_from(index).ok().and_then(|index| kinds.get_mut(index)) {
            *kind = LayerKind::Cross;
        }
    }
    Ok(kinds)
}

/// Lists of one entry a layer, in the order of their authority.
fn listed_kinds(keys: &Keys<'_>, layers: usize) -> Result<Option<Vec<LayerKind>>, Error> {
    for key in ["layer_types", "layers_block_type", "attention_layers"] {
        if let Some(list) = keys.per_layer(key, layers)? {
            return read_kinds(keys, key, list).map(Some);
        }
    }
    if let Some(pattern) = keys.text("hybrid_override_pattern")? {
        let key = "hybrid_override_pattern";
        let kinds = pattern.chars().map(|letter| {
            let known = LETTERS.iter().find(|(known, _)| *known == letter).map(|(_, kind)| *kind);
            known.ok_or_else(|| unknown_layer_type(keys.field(key), &letter.to_string()))
        });
        let kinds: Vec<LayerKind> = kinds.collect::<Result<_, _>>()?;
        return keys.fit(key, &kinds, layers).map(|kinds| Some(kinds.to_vec()));
    }
    // A pattern that repeats (RecurrentGemma).
    let key = if keys.get("block_types").is_some() { "block_types" } else { "_block_types" };
    if let Some(pattern) = keys.list(key)? {
        // Its attention is local: there is a window and no other kind of attention.
        let local = |kind| if kind == LayerKind::Full { LayerKind::Sliding } else { kind };
        let kinds = read_kinds(keys, key, pattern)?;
        return Ok(Some(kinds.into_iter().map(local).cycle().take(layers).collect()));
    }
    for (key, of_zero, of_other) in [
        ("compress_ratios", LayerKind::Sliding, LayerKind::Compressed),
        ("hybrid_layer_pattern", LayerKind::Full, LayerKind::Sliding),
        ("attn_type_list", LayerKind::Recurrent, LayerKind::Full),
    ] {
        if let Some(list) = keys.per_layer(key, layers)? {
            let kind = |value: &Value| match value.as_u64() {
                Some(0) => Ok(of_zero),
                Some(_) => Ok(of_other),
                None => Err(wrong_type(keys.field(key), value, "a list of whole numbers")),
            };
            return list.iter().map(kind).collect::<Result<_, _>>().map(Some);
        }
    }
    if let Some(blocks) = keys.per_layer("block_configs", layers)? {
        let off = |block: &Value, key: &str| block.pointer(&format!("/attention/{key}")) == Some(&Value::Bool(true));
        let kind = |block| {
            if off(block, "no_op") || off(block, "replace_with_linear") { LayerKind::None } else { LayerKind::Full }
        };
        return Ok(Some(blocks.iter().map(kind).collect()));
    }
    Ok(None)
}

/// Lists of the layers of a kind, and periods: the others are recurrent.
fn indexed_kinds(keys: &Keys<'_>, layers: u64) -> Result<Option<Vec<LayerKind>>, Error> {
    let full_at = |is_full: &dyn Fn(u64) -> bool| {
        let kind = |layer| if is_full(layer) { LayerKind::Full } else { LayerKind::Recurrent };
        Ok(Some((0..layers).map(kind).collect()))
    };
    if let Some(linear) = keys.inner("linear_attn_config")? {
        // Counted from 1 (Kimi-Linear).
        let full = linear.layer_indices("full_attn_layers", 1, layers)?;
        let recurrent = linear.layer_indices("kda_layers", 1, layers)?;
        let unclear = |layer: &u64| full.contains(layer) == recurrent.contains(layer);
        if let Some(layer) = (1..=layers).find(|layer| !recurrent.is_empty() && unclear(layer)) {
            let (found, problem) = (format!("layer {layer}"), "is in both lists of layers, or in neither");
            let remedy = "name each layer, counted from 1, in one of kda_layers and full_attn_layers";
            return Err(Error::new(Code::UnclearLayer, linear.field("kda_layers"), found, problem, remedy));
        }
        return full_at(&|layer| full.contains(&layer.saturating_add(1)));
    }
    for key in ["full_attn_idxs", "attn_layer_indices"] {
        if keys.list(key)?.is_some() {
            let full = keys.layer_indices(key, 0, layers)?;
            return full_at(&|layer| full.contains(&layer));
        }
    }
    if matches!(keys.model_type.map(|model_type| &model_type.layers), Some(Rule::Listed)) {
        return Ok(None);
    }
    if let Some(period) = keys.count_or_default(&["attn_layer_period"])? {
        let given = keys.count_or_zero(&["attn_layer_offset"])?;
        let offset = given.or_else(|| keys.default("attn_layer_offset"));
        let offset = offset.unwrap_or(Dimension { field: keys.field("attn_layer_offset"), value: 0 });
        if offset.value >= period.value {
            return Err(wrong_type(offset.field, &Value::from(offset.value), "less than attn_layer_period"));
        }
        return full_at(&|layer| layer.checked_rem(period.value) == Some(offset.value));
    }
    Ok(None)
}

/// The rule of the `model_type`; without one, that of transformers 5.23 `get_layer_types_and_kwargs` (`cache_utils.py`): a
/// window makes every layer slide.
fn ruled_kinds(keys: &Keys<'_>, layers: u32, sliding: LayerKind) -> Result<Vec<LayerKind>, Error> {
    let rule = keys.model_type.map_or(&Rule::Plain, |model_type| &model_type.layers);
    let all = |kind| vec![kind; layers as usize];
    let windowed = sliding.slides();
    // Says the rule where it is assumed.
    let by_rule = |rule: &str| {
        if let Some(model_type) = keys.model_type {
            keys.assume(format!("layer_types is not in the config: {rule} ({})", model_type.source));
        }
    };
    Ok(match rule {
        Rule::Full => all(LayerKind::Full),
        Rule::Listed => return Err(keys.missing("layer_types")),
        Rule::Cycle { kinds } => {
            let kinds: Vec<LayerKind> = kinds.iter().map(|name| kind_named(name)).collect::<Result<_, _>>()?;
            by_rule("kinds of layers take turns");
            kinds.into_iter().cycle().take(layers as usize).collect()
        }
        Rule::Plain if !windowed && keys.count_or_off(&["attention_chunk_size"])?.is_some() => {
            by_rule("every layer is chunked");
            all(LayerKind::Chunked)
        }
        Rule::Plain | Rule::AllSlide { .. } => {
            if windowed {
                by_rule("every layer slides");
            }
            all(sliding)
        }
        Rule::All { kind } => all(kind_named(kind)?),
        Rule::SlideFrom { from_key, from, .. } => {
            let from = keys.count_or_zero(&[from_key])?.map_or(*from, |dimension| dimension.value);
            if windowed {
                by_rule(&format!("layers from {from} on slide ({from_key})"));
            }
            (0..layers).map(|layer| if u64::from(layer) >= from { sliding } else { LayerKind::Full }).collect()
        }
        Rule::Yoco { n_key } => {
            let n = keys.count(&[n_key])?.map_or(2, |n| n.value);
            by_rule("the second half reads one layer's cache");
            (0..layers).map(|layer| yoco_kind(layer, layers / 2, n, sliding)).collect()
        }
        Rule::EveryNthFull(rule) => every_nth_full(rule, keys, layers, sliding, by_rule)?,
    })
}

/// A kind as the rules of the catalogue name it.
fn kind_named(name: &str) -> Result<LayerKind, Error> {
    LayerKind::read(name).ok_or_else(|| unknown_layer_type("model_type".into(), name))
}

/// The kind of a layer where the second half reads the cache of one.
fn yoco_kind(layer: u32, half: u32, n: u64, sliding: LayerKind) -> LayerKind {
    match layer.checked_sub(half) {
        None if u64::from(layer).is_multiple_of(n) => LayerKind::Recurrent,
        None => sliding,
        Some(0) => LayerKind::Recurrent,
        Some(1) => LayerKind::Full,
        Some(_) => LayerKind::Shared,
    }
}

fn every_nth_full(
    rule: &EveryNthFull,
    keys: &Keys<'_>,
    layers: u32,
    sliding: LayerKind,
    say: impl Fn(&str),
) -> Result<Vec<LayerKind>, Error> {
    let others = kind_named(&rule.others)?;
    let on = rule.gate.is_none() || sliding.slides();
    let n = every_nth(keys, &rule.n_keys)?.unwrap_or(rule.n);
    let below = match &rule.below_key {
        Some(key) => keys.count_or_zero(&[key])?.map(|dimension| dimension.value).or(rule.below),
        None => None,
    };
    if let Some(key) = &rule.list_key
        && let Some(list) = keys.per_layer(key, layers as usize)?
    {
        let kind = |value: &Value| match value.as_u64() {
            Some(0) => Ok(LayerKind::Full),
            Some(1) => Ok(others),
            _ => Err(wrong_type(keys.field(key), value, "a list of 0 and 1")),
        };
        return list.iter().map(kind).collect();
    }
    let is_other = |layer: u32| {
        let number = layer.saturating_add(1);
        let within = below.is_none_or(|below| u64::from(layer) < below) && !(rule.last_full && number == layers);
        on && within && !u64::from(number).is_multiple_of(n)
    };
    if on {
        say(&format!("one layer in {n} is full attention, the others are not"));
    }
    Ok((0..layers).map(|layer| if is_other(layer) { others } else { LayerKind::Full }).collect())
}

/// n as a number, or as a pattern of letters that repeats (EXAONE 4's `LLLG`).
fn every_nth(keys: &Keys<'_>, names: &[String]) -> Result<Option<u64>, Error> {
    for name in names {
        if let Some(Value::String(pattern)) = keys.get(name) {
            let letters = u64::try_from(pattern.chars().count()).unwrap_or_default();
            let one_global_last = pattern.ends_with('G') && pattern.matches('G').count() == 1;
            let (pattern, expected) = (pattern.as_str().into(), "a number, or local layers and one global");
            let wrong = || wrong_type(keys.field(name), &pattern, expected);
            return if one_global_last { Ok(Some(letters)) } else { Err(wrong()) };
        }
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(keys.count(&names)?.map(|dimension| dimension.value))
}

/// The key that switches the window on, if the rule of the `model_type`, or the plain rule, has one.
pub(super) fn window_gate<'a>(keys: &'a Keys<'_>) -> Option<&'a str> {
    const PLAIN: &str = "use_sliding_window";
    match keys.model_type.map(|model_type| &model_type.layers) {
        Some(
            Rule::AllSlide { gate } | Rule::SlideFrom { gate, .. } | Rule::EveryNthFull(EveryNthFull { gate, .. }),
        ) => gate.as_deref(),
        Some(Rule::Plain) | None => keys.get(PLAIN).map(|_| PLAIN),
        Some(Rule::Full | Rule::Listed | Rule::Cycle { .. } | Rule::All { .. } | Rule::Yoco { .. }) => None,
    }
}

/// The kinds of a list, by their names.
fn read_kinds(keys: &Keys<'_>, key: &str, list: &[Value]) -> Result<Vec<LayerKind>, Error> {
    let kind = |(index, value): (usize, &Value)| {
        let field = || format!("{}[{index}]", keys.field(key));
        let name = value.as_str().ok_or_else(|| wrong_type(field(), value, "the name of a layer type"))?;
        LayerKind::read(name).ok_or_else(|| unknown_layer_type(field(), name))
    };
    list.iter().enumerate().map(kind).collect()
}

fn unknown_layer_type(field: String, found: &str) -> Error {
    let problem = "is a layer type that is not known here";
    let remedy =
        "known are full_attention, sliding_attention, chunked_attention, linear_attention and their older names";
    Error::new(Code::UnknownLayerType, field, found, problem, remedy)
}
