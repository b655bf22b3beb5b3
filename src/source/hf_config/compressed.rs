//! DeepSeek-V4's layers: a window, one vector for every few tokens before it, and an index of those (vLLM 0.33
//! `models/deepseek_v4/attention.py`, `compressor.py`; `transformers_utils/deepseek_v4_utils.py`).

use serde_json::Value;

use super::keys::{Keys, wrong_type};
use super::layer_kinds::LayerKind;
use crate::model::LayerCache;
use crate::units::{Error, Exact};

/// Layers that compress by this ratio overlap their windows, and have an index.
pub(in crate::source) const OVERLAPPING_RATIO: u64 = 4;

/// The caches of each layer in addition to its window.
pub(super) fn caches(keys: &Keys<'_>, kinds: &[LayerKind]) -> Result<Vec<Vec<LayerCache>>, Error> {
    let head_dim = keys.needed(&["head_dim"])?;
    let index_head_dim = keys.count_or_off(&["index_head_dim"])?.map(|dimension| dimension.value);
    let of_layer = |ratio: Option<u64>| {
        let Some(ratio) = ratio else { return Ok(Vec::new()) };
        let index = index_head_dim.filter(|_| ratio == OVERLAPPING_RATIO);
        let states = [Some(head_dim), index].into_iter().flatten().map(|dim| state_elements(ratio, dim));
        let too_wide = |_| wrong_type(keys.field("head_dim"), &Value::from(head_dim), "a possible width");
        let state_elements = states.sum::<Exact>().get().map_err(too_wide)?;
        let compressed = LayerCache::Compressed { head_dim, ratio, state_elements };
        let index = index.map(|index_head_dim| LayerCache::Indexer { index_head_dim, ratio });
        Ok([Some(compressed), index].into_iter().flatten().collect())
    };
    ratios(keys, kinds.len())?.into_iter().map(of_layer).collect()
}

/// Rows of the input that the compressor has not closed yet: two windows of it where windows overlap, and each row twice as
/// wide; and as many scores.
fn state_elements(ratio: u64, dim: u64) -> Exact {
    let overlap: u64 = if ratio == OVERLAPPING_RATIO { 2 } else { 1 };
    Exact::from(overlap) * ratio * 2u64 * overlap * dim
}

/// The ratio of each layer that compresses.
fn ratios(keys: &Keys<'_>, layers: usize) -> Result<Vec<Option<u64>>, Error> {
    // A list of ratios has said its length when the kinds were read from it.
    let said = keys.get("layer_types").is_none();
    let list = if said { Keys::per_layer_unsaid } else { Keys::per_layer };
    if let Some(list) = list(keys, "compress_ratios", layers)? {
        let ratio = |value: &Value| match value.as_u64() {
            Some(ratio) => Ok(Some(ratio).filter(|&ratio| ratio > 1)),
            None => Err(wrong_type(keys.field("compress_ratios"), value, "a list of whole numbers")),
        };
        return list.iter().map(ratio).collect();
    }
    let rates = keys.inner("compress_rates")?;
    let names = keys.list("layer_types")?.unwrap_or_default();
    let rate = |name: &'static str, value: u64| -> Result<u64, Error> {
        if let Some(given) = rates.as_ref().map(|rates| rates.count(&[name])).transpose()?.flatten() {
            return Ok(given.value);
        }
        if names.iter().any(|kind| *kind == name) {
            let key = keys.field(&format!("compress_rates.{name}"));
            keys.assume(format!("{key} is not in the config: {value}, the ratio of such layers in DeepSeek-V4"));
        }
        Ok(value)
    };
    let sparse = rate("compressed_sparse_attention", 4)?;
    let heavy = rate("heavily_compressed_attention", 128)?;
    let ratio = |layer: usize| match names.get(layer).and_then(Value::as_str) {
        Some("compressed_sparse_attention") => Some(sparse),
        Some("heavily_compressed_attention") => Some(heavy),
        _ => None,
    };
    Ok((0..layers).map(ratio).collect())
}
