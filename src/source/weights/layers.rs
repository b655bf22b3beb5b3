//! Which layers the tensors of a class are on.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::rows::{Class, missing};
use crate::model::Place;
use crate::source::hf_config::{Keys, LayerKind, layer_kinds, owned_indices};

/// Where tensors are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum On {
    Embedding,
    Head,
    Tower,
    /// Every layer.
    #[default]
    Layers,
    /// Layers with full attention; of a class without windows and states, every layer.
    Full,
    Sliding,
    Recurrent,
    /// Layers with a dense feed-forward.
    Dense,
    /// Layers with experts.
    Sparse,
    /// Layers with a dense feed-forward of twice the width (Gemma 4's last ones, which share K and V).
    Wide,
    /// Layers whose sparse attention chooses its own tokens.
    Indexer,
    /// Layers that compress by 4, and have an index (DeepSeek-V4).
    Csa,
    /// Layers that compress by more.
    Hca,
    /// Layers that choose experts by the token.
    Hash,
    /// Layers with experts that are scored.
    Scored,
    /// The layer with a table of n-grams (Qwen 4).
    Ngrams,
    /// Every layer of the model itself, MTP layers having other tensors.
    Own,
    /// MTP layers.
    Mtp,
}

/// The rule for the layers with experts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sparse {
    All,
    /// From the layer of this key on.
    From(String),
    /// Every n-th layer by this key, except `mlp_only_layers`.
    Every(String),
    /// Every n-th layer from one to another, -1 being the last.
    Between {
        first: String,
        last: String,
        every: String,
    },
    /// Those with 1 in the list of this key.
    Listed(String),
    /// All, if this key is a number of experts. The dense feed-forward stays.
    Optional(String),
    /// A layer has attention, a state, a feed-forward or experts, and only one of these (Nemotron-H).
    OneBlock,
}

/// Which layers have a state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum States {
    /// Those without attention.
    #[default]
    Instead,
    /// All, and all have attention.
    Beside,
}

/// The layers that predict further tokens (MTP), numbered on from the model's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MtpLayers {
    /// The key of their number.
    layers: Option<String>,
    /// Their number where no key has it: config.json does not mention them.
    unlisted: Option<u32>,
    /// The sets that they are in, in addition to that of every layer.
    like: Vec<On>,
}

impl MtpLayers {
    /// Whether no key mentions them.
    pub(super) fn is_unlisted(&self) -> bool {
        self.layers.is_none()
    }

    pub(super) fn count(&self, keys: &Keys<'_>) -> Result<u32, String> {
        let Some(key) = &self.layers else { return Ok(self.unlisted.unwrap_or_default()) };
        let count = keys.count_or_zero(&[key]).map_err(|error| error.to_string())?;
        let layers = count.map_or(0, |count| count.value);
        u32::try_from(layers).map_err(|_| format!("{layers} is more MTP layers than any model has"))
    }
}

/// The layers of each set.
#[derive(Debug, Default)]
pub(super) struct Layers(BTreeMap<On, Vec<u32>>);

impl Layers {
    pub(super) fn new(class: &Class, keys: &Keys<'_>, layers: u32) -> Result<Self, String> {
        let all: Vec<u32> = (0..layers).collect();
        let mut sets = BTreeMap::from([(On::Layers, all.clone()), (On::Own, all.clone())]);
        if matches!(class.sparse, Some(Sparse::OneBlock)) {
            for (layer, on) in all.into_iter().zip(blocks(keys, layers)?) {
                sets.entry(on).or_default().push(layer);
            }
            return Ok(Self(sets));
        }
        if class.states == States::Beside {
            sets.insert(On::Full, all.clone());
            sets.insert(On::Recurrent, all.clone());
        } else if class.is_on(On::Recurrent) || class.is_on(On::Sliding) {
            let kinds = layer_kinds(keys, layers, LayerKind::Sliding).map_err(|error| error.to_string())?;
            for (layer, kind) in all.iter().zip(kinds) {
                let on = match kind {
                    LayerKind::Full => On::Full,
                    LayerKind::Sliding if class.is_on(On::Sliding) => On::Sliding,
                    LayerKind::Recurrent if class.is_on(On::Recurrent) => On::Recurrent,
                    _ => return Err("it has layers of kinds whose tensors are not known here".into()),
                };
                sets.entry(on).or_default().push(*layer);
            }
        } else {
            sets.insert(On::Full, all.clone());
        }
        if class.is_on(On::Indexer) {
            let own = owned_indices(keys, layers).map_err(|error| error.to_string())?;
            sets.insert(On::Indexer, all.iter().zip(own).filter(|(_, own)| *own).map(|(layer, _)| *layer).collect());
        }
        if class.is_on(On::Ngrams) {
            sets.insert(On::Ngrams, ngrams(keys, layers)?);
        }
        if class.is_on(On::Csa) {
            compressed(keys, &all, &mut sets)?;
        }
        let sparse = sparse(class, keys, &all)?;
        let first_wide = first_wide(keys, layers)?;
        let both = matches!(class.sparse, Some(Sparse::Optional(_)));
        let (wide, dense) = all
            .into_iter()
            .filter(|layer| both || sparse.binary_search(layer).is_err())
            .partition(|&layer| class.is_on(On::Wide) && layer >= first_wide);
        sets.insert(On::Dense, dense);
        sets.insert(On::Wide, wide);
        sets.insert(On::Sparse, sparse);
        Ok(Self(sets))
    }

    /// The same with MTP layers, where the class has any.
    pub(super) fn with_mtp(mut self, class: &Class, keys: &Keys<'_>, layers: u32) -> Result<Self, String> {
        let Some(mtp) = &class.mtp else { return Ok(self) };
        let end = layers.saturating_add(class.mtp_layers(keys)?);
        for on in [On::Layers, On::Mtp].iter().chain(&mtp.like) {
            self.0.entry(*on).or_default().extend(layers..end);
        }
        Ok(self)
    }

    /// The number of layers, MTP layers included.
    pub(super) fn count(&self) -> usize {
        self.0.get(&On::Layers).map_or(0, Vec::len)
    }

    /// Whether some layer is in the set.
    pub(super) fn has(&self, on: On) -> bool {
        self.0.get(&on).is_some_and(|layers| !layers.is_empty())
    }

    /// Whether the first layer of the model is in the set.
    pub(super) fn has_first(&self, on: On) -> bool {
        self.0.get(&on).is_some_and(|layers| layers.first() == Some(&0))
    }

    /// The place of tensors; `None` where no layer is in the set.
    pub(super) fn place(&self, on: On) -> Option<Place> {
        match on {
            On::Embedding => Some(Place::Embedding),
            On::Head => Some(Place::Head),
            On::Tower => Some(Place::Beside),
            On::Layers
            | On::Full
            | On::Sliding
            | On::Recurrent
            | On::Dense
            | On::Wide
            | On::Sparse
            | On::Indexer
            | On::Csa
            | On::Hca
            | On::Hash
            | On::Scored
            | On::Ngrams
            | On::Own
            | On::Mtp => self.0.get(&on).filter(|layers| !layers.is_empty()).cloned().map(Place::Layers),
        }
    }
}

/// The layers that compress, and those that choose experts by the token.
fn compressed(keys: &Keys<'_>, layers: &[u32], sets: &mut BTreeMap<On, Vec<u32>>) -> Result<(), String> {
    let text = |error: crate::units::Error| error.to_string();
    let listed = |key: &str| keys.list(key).map_err(text);
    let kinds = match listed("compress_ratios")? {
        Some(ratios) => ratios,
        None => listed("layer_types")?.ok_or_else(|| missing(keys, "compress_ratios"))?,
    };
    let hashed = keys.count_or_zero(&["num_hash_layers"]).map_err(text)?.map_or(0, |layers| layers.value);
    for (&layer, kind) in layers.iter().zip(kinds) {
        if *kind == 4 || *kind == "compressed_sparse_attention" {
            sets.entry(On::Csa).or_default().push(layer);
        } else if *kind == 128 || *kind == "heavily_compressed_attention" {
            sets.entry(On::Hca).or_default().push(layer);
        } else if *kind != 0 && *kind != "sliding_attention" {
            return Err("it has layers that compress by other ratios than are known here".into());
        }
        sets.entry(if u64::from(layer) < hashed { On::Hash } else { On::Scored }).or_default().push(layer);
    }
    Ok(())
}

/// The layer with a table of n-grams, which `ple_layer_ids` counts from 1. A second one would have other primes.
fn ngrams(keys: &Keys<'_>, layers: u32) -> Result<Vec<u32>, String> {
    let listed = keys.list("ple_layer_ids").map_err(|error| error.to_string())?.unwrap_or_default();
    let number = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id.checked_sub(1)?).ok());
    match listed {
        [] => Ok(Vec::new()),
        [one] => number(one)
            .filter(|&layer| layer < layers)
            .map(|layer| vec![layer])
            .ok_or_else(|| format!("{} is not the number of a layer", keys.field("ple_layer_ids"))),
        _ => Err("it has n-grams in more than one layer, whose sizes are not known here".into()),
    }
}

/// The first layer whose feed-forward is twice as wide.
fn first_wide(keys: &Keys<'_>, layers: u32) -> Result<u32, String> {
    let shared = keys.count_or_zero(&["num_kv_shared_layers"]).map_err(|error| error.to_string())?;
    let shared = shared.map_or(0, |shared| u32::try_from(shared.value).unwrap_or(u32::MAX));
    let is_wide = keys.get("use_double_wide_mlp").is_some_and(|wide| *wide == true);
    Ok(layers.saturating_sub(if is_wide { shared } else { 0 }))
}

/// Of `layers` those with experts.
fn sparse(class: &Class, keys: &Keys<'_>, layers: &[u32]) -> Result<Vec<u32>, String> {
    let those = |has_experts: &dyn Fn(u64) -> bool| {
        Ok(layers.iter().copied().filter(|&layer| has_experts(u64::from(layer))).collect())
    };
    let count = |key: &str| keys.count_or_zero(&[key]).map_err(|error| error.to_string());
    match &class.sparse {
        None | Some(Sparse::OneBlock) => Ok(Vec::new()),
        Some(Sparse::All) => Ok(layers.to_vec()),
        Some(Sparse::From(key)) => {
            if count("moe_layer_freq")?.is_some_and(|every| every.value != 1) {
                return Err("moe_layer_freq is not 1, which is not read here".into());
            }
            let first = count(key)?.ok_or_else(|| missing(keys, key))?.value;
            those(&|layer| layer >= first)
        }
        Some(Sparse::Every(key)) => {
            let step = count(key)?.map_or(1, |step| step.value);
            if step == 0 {
                return Err(format!("{key} is not a positive count"));
            }
            let dense = keys.list("mlp_only_layers").map_err(|error| error.to_string())?.unwrap_or_default();
            those(&|layer| {
                layer.saturating_add(1).is_multiple_of(step) && !dense.iter().any(|other| other.as_u64() == Some(layer))
            })
        }
        Some(Sparse::Between { first, last, every }) => {
            let (first, every) =
                (count(first)?.map_or(0, |first| first.value), count(every)?.map_or(1, |every| every.value));
            let last = keys.get(last).and_then(Value::as_u64).unwrap_or(u64::MAX);
            those(&|layer| (first..=last).contains(&layer) && layer.saturating_add(1).is_multiple_of(every))
        }
        Some(Sparse::Listed(key)) => {
            let list = keys.list(key).map_err(|error| error.to_string())?.ok_or_else(|| missing(keys, key))?;
            let is_sparse =
                |layer: u64| usize::try_from(layer).ok().and_then(|layer| list.get(layer)).is_some_and(|one| *one == 1);
            those(&is_sparse)
        }
        Some(Sparse::Optional(key)) => {
            let enabled = keys.get("enable_moe_block").is_none_or(|enabled| *enabled != false);
            let some = keys.get(key).is_some_and(|experts| *experts != 0);
            those(&|_| enabled && some)
        }
    }
}

/// What each layer is, by `hybrid_override_pattern` or a list.
fn blocks(keys: &Keys<'_>, layers: u32) -> Result<Vec<On>, String> {
    let letter = |letter: char| match letter {
        'M' => Some(On::Recurrent),
        '*' => Some(On::Full),
        '-' => Some(On::Dense),
        'E' => Some(On::Sparse),
        _ => None,
    };
    let name = |name: &Value| match name.as_str()? {
        "mamba" | "mamba2" => Some(On::Recurrent),
        "attention" | "full_attention" => Some(On::Full),
        "mlp" => Some(On::Dense),
        "moe" => Some(On::Sparse),
        _ => None,
    };
    let pattern = keys.get("hybrid_override_pattern").and_then(Value::as_str);
    let list = ["layers_block_type", "layer_types"].iter().find_map(|key| keys.get(key)?.as_array());
    let blocks: Option<Vec<On>> = match pattern {
        Some(pattern) => pattern.chars().map(letter).collect(),
        None => list.and_then(|list| list.iter().map(name).collect()),
    };
    blocks
        .filter(|blocks| u32::try_from(blocks.len()) == Ok(layers))
        .ok_or_else(|| "neither hybrid_override_pattern nor layers_block_type tells what each layer is".into())
}
