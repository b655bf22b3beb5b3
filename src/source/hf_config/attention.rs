//! The entries of attention layers: heads, which may differ by layer, or a latent; and the index beside them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::keys::{Keys, not_positive, wrong_type};
use super::layer_kinds::LayerKind;
use crate::model::{Dimension, Dimensions, KeyValue, LayerCache};
use crate::units::{Code, Error};

/// Spellings of the same key, tried in order (vLLM 0.33 `transformers_utils/config.py`, `CONFIG_FIELD_ALIASES`;
/// transformers' attribute maps).
pub(in crate::source) const HIDDEN: &[&str] = &["hidden_size", "n_embd", "d_model", "model_dim"];
pub(in crate::source) const HEADS: &[&str] =
    &["num_attention_heads", "n_head", "decoder_attention_heads", "num_heads", "n_heads", "attention_heads"];
pub(in crate::source) const KV_HEADS: &[&str] =
    &["n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups"];
pub(in crate::source) const HEAD_DIM: &[&str] =
    &["head_dim", "hidden_size_per_head", "attention_head_dim", "d_kv", "kv_channels"];
const V_HEAD_DIM: &[&str] = &["v_head_dim"];

const REMEDY: &str = "add head_dim, or hidden_size and num_attention_heads";

/// The latent of MLA, if the model has one.
pub(super) fn latent(keys: &Keys<'_>) -> Result<Option<LayerCache>, Error> {
    let Some(kv_lora_rank) = keys.count_or_off(&["kv_lora_rank"])? else { return Ok(None) };
    let rope = keys.count_or_zero(&["qk_rope_head_dim"])?;
    let qk_rope_head_dim = rope.ok_or_else(|| keys.missing("qk_rope_head_dim"))?.value;
    if let Some(value) = keys.get("per_layer_config") {
        return Err(unknown_override(keys.field("per_layer_config"), value));
    }
    LayerCache::latent(kv_lora_rank.value, qk_rope_head_dim).map(Some)
}

/// The entry of each layer that attends; what is given for the layers of a kind or for one layer overrides the model's.
pub(super) fn key_values(keys: &Keys<'_>, kinds: &[LayerKind]) -> Result<Vec<Option<KeyValue>>, Error> {
    let layers = kinds.len();
    let is_list = |key: &&str| keys.get(key).is_some_and(Value::is_array);
    let listed = match ["num_kv_heads", "num_key_value_heads"].into_iter().find(is_list) {
        Some(key) => keys.per_layer(key, layers)?.map(|list| (key, list)),
        None => None,
    };
    let base = base(keys, listed)?;
    let sliding = sliding(keys)?;
    let full = global(keys, kinds)?;
    let layer_configs = keys.inner("per_layer_config")?.map(|configs| by_layer(&configs, layers)).transpose()?;
    let blocks = keys.per_layer_unsaid("block_configs", layers)?;
    let names = [keys.field("num_attention_heads"), keys.field("head_dim")];
    // Layers alike have the same entry: worked out once for those that slide and once for the others.
    let alike = layer_configs.is_none() && listed.is_none() && blocks.is_none();
    let mut of_kind: [Option<KeyValue>; 2] = [None; 2];
    let mut mentioned = false;
    let mut entries = Vec::with_capacity(kinds.len());
    for (index, kind) in kinds.iter().enumerate() {
        if !kind.attends() && *kind != LayerKind::Cross {
            entries.push(None);
            continue;
        }
        let [others, slides] = &mut of_kind;
        let (known, overrides) = if kind.slides() { (slides, &sliding) } else { (others, &full) };
        if alike && known.is_some() {
            entries.push(*known);
            continue;
        }
        let mut dimensions = base.clone().overridden(overrides.clone());
        if let Some(configs) = &layer_configs {
            dimensions = dimensions.overridden(configs.get(&index).cloned().unwrap_or_default());
        }
        if let Some((key, list)) = listed {
            dimensions.num_key_value_heads = Some(listed_heads(keys, key, list, index)?);
            dimensions.num_attention_heads = None;
        }
        if let Some(block) = blocks.and_then(|blocks| blocks.get(index)) {
            let grouped = grouped_heads(keys, block, index, dimensions.num_attention_heads.as_ref())?;
            dimensions.num_key_value_heads = Some(grouped);
        }
        // What is taken for granted is the same for all layers: said once.
        let mut of_layer = Vec::new();
        *known = Some(dimensions.key_value(&names, REMEDY, &mut of_layer)?);
        if !mentioned {
            keys.read.borrow_mut().assumptions.append(&mut of_layer);
            mentioned = true;
        }
        entries.push(*known);
    }
    Ok(entries)
}

/// The dimensions of the model itself, without heads where its layers' are `listed`.
fn base(keys: &Keys<'_>, listed: Option<(&str, &[Value])>) -> Result<Dimensions, Error> {
    let inner = keys.inner("attn_config")?;
    let one = |key: &str| Some(Dimension { field: keys.field(key), value: 1 });
    let new_falcon = keys.flag("new_decoder_architecture")?;
    // What is written is checked even where it says nothing.
    keys.flag("multi_query")?;
    let num_key_value_heads = match &inner {
        _ if listed.is_some() => None,
        // Falcon and GPT-BigCode: one head for all, whatever else is named.
        _ if !new_falcon && keys.flag_or_default("multi_query")? => one("multi_query"),
        Some(attention) => attention.count(&["kv_n_heads"])?,
        None => keys.count_or_default(KV_HEADS)?,
    };
    Ok(Dimensions {
        hidden_size: keys.count(HIDDEN)?,
        num_attention_heads: if listed.is_some() { None } else { keys.count_or_default(HEADS)? },
        num_key_value_heads,
        head_dim: keys.count_or_default(HEAD_DIM)?,
        v_head_dim: keys.count_or_off(V_HEAD_DIM)?,
    })
}

/// What sliding layers have that full ones have not (MiMo-V2's `swa_…`, Step's `attention_other_setting`).
fn sliding(keys: &Keys<'_>) -> Result<Dimensions, Error> {
    let other = match keys.inner("attention_other_setting")? {
        Some(other) => Dimensions {
            num_attention_heads: other.count(&["num_attention_heads"])?,
            num_key_value_heads: other.count(&["num_attention_groups"])?,
            ..Dimensions::default()
        },
        None => Dimensions::default(),
    };
    Ok(other.overridden(Dimensions {
        num_key_value_heads: keys.count(&["swa_num_key_value_heads"])?,
        head_dim: keys.count_or_off(&["swa_head_dim"])?,
        v_head_dim: keys.count_or_off(&["swa_v_head_dim"])?,
        ..Dimensions::default()
    }))
}

/// What full layers have that sliding ones have not (Gemma 4; transformers 5.23 `configuration_gemma4.py`).
fn global(keys: &Keys<'_>, kinds: &[LayerKind]) -> Result<Dimensions, Error> {
    if keys.get("per_layer_config").is_some() || !kinds.contains(&LayerKind::Full) {
        return Ok(Dimensions::default());
    }
    let shared_projection = keys.flag("attention_k_eq_v")?;
    Ok(Dimensions {
        head_dim: keys.count_or_default(&["global_head_dim"])?,
        num_key_value_heads: keys.count(&["num_global_key_value_heads"])?.filter(|_| shared_projection),
        ..Dimensions::default()
    })
}

/// The overrides of single layers; their indices may have leading zeros.
fn by_layer(configs: &Keys<'_>, layers: usize) -> Result<BTreeMap<usize, Dimensions>, Error> {
    let mut of_layers = BTreeMap::new();
    for (key, value) in configs.object {
        let index = key.parse().ok().filter(|index| *index < layers);
        let index = index.ok_or_else(|| unknown_override(configs.field(key), value))?;
        let Some(layer) = configs.inner(key)? else { continue };
        let known = [HEADS, KV_HEADS, HEAD_DIM, V_HEAD_DIM].concat();
        if let Some((key, value)) = layer.object.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            return Err(unknown_override(layer.field(key), value));
        }
        let dimensions = Dimensions {
            hidden_size: None,
            num_attention_heads: layer.count(HEADS)?,
            num_key_value_heads: layer.count(KV_HEADS)?,
            head_dim: layer.count_or_off(HEAD_DIM)?,
            v_head_dim: layer.count_or_off(V_HEAD_DIM)?,
        };
        of_layers.insert(index, dimensions);
    }
    Ok(of_layers)
}

fn unknown_override(field: String, found: &Value) -> Error {
    let problem = "overrides what is not read layer by layer";
    let remedy = "read are the heads, the KV heads and the head dimensions of layers that the model has";
    Error::new(Code::UnknownOverride, field, found.to_string(), problem, remedy)
}

/// KV heads as transformers caches them, where it repeats each for the query heads that share it (5.23
/// `modeling_falcon.py`, `modeling_mpt.py`).
pub(super) fn repeated_heads(keys: &Keys<'_>) -> Result<Option<u64>, Error> {
    let grouped = keys.flag("new_decoder_architecture")?
        || keys.model_type.is_some_and(|known| known.repeats_heads)
            && keys.inner("attn_config")?.is_some_and(|inner| inner.object.contains_key("kv_n_heads"));
    Ok(if grouped { keys.count(HEADS)?.map(|heads| heads.value) } else { None })
}

/// KV heads of one layer (`OpenELM`).
fn listed_heads(keys: &Keys<'_>, key: &str, list: &[Value], index: usize) -> Result<Dimension, Error> {
    let field = format!("{}[{index}]", keys.field(key));
    let value = list.get(index).ok_or_else(|| Error::missing(&field, "add it"))?;
    match value.as_u64() {
        Some(0) => Err(not_positive(field, "0")),
        Some(value) => Ok(Dimension { field, value }),
        None => Err(wrong_type(field, value, "a whole number")),
    }
}

/// KV heads of a block that says how many query heads share one (Nemotron-NAS).
fn grouped_heads(keys: &Keys<'_>, block: &Value, index: usize, heads: Option<&Dimension>) -> Result<Dimension, Error> {
    let field = format!("{}[{index}].attention.n_heads_in_group", keys.field("block_configs"));
    let given = block.pointer("/attention/n_heads_in_group").ok_or_else(|| Error::missing(&field, "add it"))?;
    let wrong = |expected| wrong_type(field.clone(), given, expected);
    let group = given.as_u64().filter(|&group| group > 0).ok_or_else(|| wrong("a positive count"))?;
    let heads = heads.ok_or_else(|| keys.missing("num_attention_heads"))?.value;
    let value = heads.checked_div(group).filter(|_| heads.is_multiple_of(group));
    let value = value.ok_or_else(|| wrong("a divisor of num_attention_heads"))?;
    Ok(Dimension { field, value })
}

/// The index keys of sparse attention, and which layers have them.
pub(super) fn index(keys: &Keys<'_>, kinds: &[LayerKind]) -> Result<Option<(LayerCache, Vec<bool>)>, Error> {
    // MiniMax-M3.
    if let Some(sparse) = keys.inner("sparse_attention_config")? {
        if !sparse.flag("use_sparse_attention")? {
            return Ok(None);
        }
        let cache = LayerCache::Indexer { index_head_dim: sparse.needed(&["sparse_index_dim"])?, ratio: 1 };
        let on = match sparse.per_layer("sparse_attention_freq", kinds.len())? {
            Some(list) => list.iter().map(|value| value.as_u64().is_some_and(|on| on > 0)).collect(),
            None => vec![true; kinds.len()],
        };
        return Ok(Some((cache, on)));
    }
    let topk = keys.count_or_off(&["index_topk", "index_topk_blocks"])?;
    let (Some(dim), Some(_)) = (keys.count_or_off(&["index_head_dim"])?, topk) else {
        return Ok(None);
    };
    if kinds.contains(&LayerKind::Compressed) {
        return Ok(None);
    }
    let own = owned_indices(keys, u32::try_from(kinds.len()).unwrap_or(u32::MAX))?;
    let on = kinds.iter().zip(own).map(|(kind, own)| *kind == LayerKind::Full && own);
    Ok(Some((LayerCache::Indexer { index_head_dim: dim.value, ratio: 1 }, on.collect())))
}

/// Which layers have index keys of their own and do not read an earlier layer's (vLLM 0.33 `models/deepseek_v2.py`).
pub(in crate::source) fn owned_indices(keys: &Keys<'_>, layers: u32) -> Result<Vec<bool>, Error> {
    const PATTERN: &str = "index_topk_pattern";
    let listed = |key| keys.per_layer_unsaid(key, layers as usize);
    if let Some(types) = listed("indexer_types")? {
        return Ok(types.iter().map(|name| *name != "shared").collect());
    }
    // MiniMax-M3, as transformers saves it: some layers are sparse.
    let types = listed("layer_types")?.unwrap_or_default();
    let sparse: Vec<bool> = types.iter().map(|name| *name == "minimax_m3_sparse").collect();
    if sparse.contains(&true) {
        return Ok(sparse);
    }
    if let Some(Value::String(letters)) = keys.get(PATTERN) {
        let letters: Vec<bool> = letters.chars().map(|letter| letter != 'S').collect();
        return keys.fit_unsaid(PATTERN, &letters, layers as usize).map(<[bool]>::to_vec);
    }
    if let Some(list) = listed(PATTERN)? {
        return Ok(list.iter().map(|letter| *letter != "S").collect());
    }
    let every = keys.count_or_off(&["index_topk_freq"])?.map_or(1, |every| every.value);
    let offset = keys.count_or_zero(&["index_skip_topk_offset"])?.map_or(2, |offset| offset.value);
    let past = |layer: u32| u64::from(layer).saturating_add(1).saturating_sub(offset);
    Ok((0..layers).map(|layer| every <= 1 || past(layer).is_multiple_of(every)).collect())
}
