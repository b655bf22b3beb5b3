//! Which layers are of which kind: `layer_types` where it is given, else the rule of the `model_type`.

use serde_json::Value;

use super::ConfigError;
use super::keys::{Keys, wrong_type};
use crate::catalogue::LayerRule;
use crate::model::Assumption;

/// The kind of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LayerKind {
    Full,
    Sliding,
    Chunked,
}

impl LayerKind {
    fn read(name: &str) -> Option<Self> {
        match name {
            "full_attention" => Some(Self::Full),
            "sliding_attention" => Some(Self::Sliding),
            "chunked_attention" => Some(Self::Chunked),
            _ => None,
        }
    }
}

/// The kind of each layer. `windowed` says whether the configuration has a window that is switched on.
pub(super) fn layer_kinds(
    keys: &Keys<'_>,
    layers: u32,
    windowed: bool,
    assumptions: &mut Vec<Assumption>,
) -> Result<Vec<LayerKind>, ConfigError> {
    if let Some(list) = listed(keys, "layer_types", layers, assumptions)? {
        return list.iter().enumerate().map(|(index, value)| read_kind(keys, index, value)).collect();
    }
    // transformers 5.23 `get_layer_types_and_kwargs` (cache_utils.py) for classes without a rule of their own: a
    // window makes every layer slide.
    let rule = keys.model_type.map_or(LayerRule::AllSlide { gate: None }, |model_type| model_type.layers.clone());
    let sliding_if = |slides: bool| if slides { LayerKind::Sliding } else { LayerKind::Full };
    let kinds: Vec<LayerKind>;
    let words = match rule {
        LayerRule::Full => {
            return Ok(vec![LayerKind::Full; usize::try_from(layers).unwrap_or_default()]);
        }
        LayerRule::AllSlide { .. } => {
            kinds = (0..layers).map(|_| sliding_if(windowed)).collect();
            windowed.then(|| "every layer slides".to_owned())
        }
        LayerRule::SlideFrom { from_key, from, .. } => {
            let from = keys.count_or_off(&[&from_key])?.map_or(from, |dimension| dimension.value);
            kinds = (0..layers).map(|layer| sliding_if(windowed && u64::from(layer) >= from)).collect();
            windowed.then(|| format!("layers from {from} on slide ({from_key})"))
        }
        LayerRule::EveryNthFull { n, n_keys, list_key, others, below_key, below, gate } => {
            let others = LayerKind::read(&others).unwrap_or(LayerKind::Full);
            let on = gate.is_none() || windowed;
            let names: Vec<&str> = n_keys.iter().map(String::as_str).collect();
            let n = keys.count(&names)?.map_or(n, |dimension| dimension.value);
            let below = match below_key {
                Some(key) => keys.count_or_off(&[&key])?.map(|dimension| dimension.value).or(below),
                None => None,
            };
            let listed = match &list_key {
                Some(key) => listed(keys, key, layers, assumptions)?.map(|list| (key, list)),
                None => None,
            };
            if let Some((key, list)) = listed {
                kinds = list
                    .iter()
                    .map(|value| match value.as_u64() {
                        Some(0) => Ok(LayerKind::Full),
                        Some(1) => Ok(others),
                        _ => Err(wrong_type(keys.field(key), value, "a list of 0 and 1")),
                    })
                    .collect::<Result<_, _>>()?;
                None
            } else {
                let is_other = |layer: u32| {
                    let layer = u64::from(layer);
                    on && !layer.saturating_add(1).is_multiple_of(n) && below.is_none_or(|below| layer < below)
                };
                kinds = (0..layers).map(|layer| if is_other(layer) { others } else { LayerKind::Full }).collect();
                on.then(|| format!("one layer in {n} is full attention, the others are not"))
            }
        }
    };
    if let (Some(rule), Some(model_type)) = (words, keys.model_type) {
        assumptions.push(Assumption::LayerRule { rule, source: model_type.source.clone() });
    }
    Ok(kinds)
}

/// The key that switches the window on, if the rule of the `model_type`, or the plain rule, has one.
pub(super) fn window_gate<'a>(keys: &'a Keys<'_>) -> Option<&'a str> {
    const PLAIN: &str = "use_sliding_window";
    match keys.model_type.map(|model_type| &model_type.layers) {
        Some(
            LayerRule::AllSlide { gate } | LayerRule::SlideFrom { gate, .. } | LayerRule::EveryNthFull { gate, .. },
        ) => gate.as_deref(),
        Some(LayerRule::Full) => None,
        None => keys.get(PLAIN).map(|_| PLAIN),
    }
}

/// A list of one value a layer, cut to the layers: published lists may have entries for layers that are not part of
/// the model (MTP). A shorter one is an error.
fn listed<'a>(
    keys: &Keys<'a>,
    key: &str,
    layers: u32,
    assumptions: &mut Vec<Assumption>,
) -> Result<Option<&'a [Value]>, ConfigError> {
    let Some(list) = keys.list(key)? else { return Ok(None) };
    let wanted = usize::try_from(layers).unwrap_or(usize::MAX);
    let Some(head) = list.get(..wanted) else {
        return Err(ConfigError::ShortList { field: keys.field(key), found: list.len(), layers });
    };
    if list.len() > wanted {
        assumptions.push(Assumption::LongList { key: keys.field(key), found: list.len(), layers });
    }
    Ok(Some(head))
}

fn read_kind(keys: &Keys<'_>, index: usize, value: &Value) -> Result<LayerKind, ConfigError> {
    let field = || format!("{}[{index}]", keys.field("layer_types"));
    let name = value.as_str().ok_or_else(|| wrong_type(field(), value, "the name of a layer type"))?;
    LayerKind::read(name).ok_or_else(|| ConfigError::UnknownLayerType { field: field(), found: name.into() })
}
