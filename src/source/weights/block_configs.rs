//! The layers of a model whose configuration lists what each of them has (Nemotron-NAS, `block_configs`).
//!
//! Read in `modeling_decilm.py` of nvidia/Llama-3_3-Nemotron-Super-49B-v1, and in `conversion/deci.py` of llama.cpp.

use serde_json::Value;

use super::TOO_LARGE;
use super::rows::Scope;
use crate::model::{Kind, Place, Shape};
use crate::source::hf_config::Keys;
use crate::units::Exact;

const BLOCKS: &str = "block_configs";
/// Widths of the feed-forward are multiples of this.
const WIDTH_UNIT: u64 = 256;

/// Query heads for each KV head of the first layer, 0 without attention; `None` where no layers are listed.
pub(super) fn gqa(scope: &Scope<'_>, keys: &Keys<'_>) -> Result<Option<u64>, String> {
    let Some(blocks) = keys.list(BLOCKS).map_err(|error| error.to_string())? else { return Ok(None) };
    let group = blocks.first().and_then(|block| block.get("attention")?.get("n_heads_in_group")?.as_u64());
    Ok(Some(group.unwrap_or_default().min(scope.size("heads")?)))
}

/// The tensors of the layers; none where the configuration lists none.
pub(super) fn shapes(scope: &Scope<'_>, keys: &Keys<'_>, layers: u32) -> Result<Vec<Shape>, String> {
    let Some(blocks) = keys.list(BLOCKS).map_err(|error| error.to_string())? else { return Ok(Vec::new()) };
    if u32::try_from(blocks.len()) != Ok(layers) {
        return Err(format!("{} does not have one entry a layer", keys.field(BLOCKS)));
    }
    let (hidden, heads, head_size) = (scope.size("hidden_size")?, scope.size("heads")?, scope.size("head_size")?);
    let mut shapes = Vec::new();
    for (layer, config) in (0..layers).zip(blocks) {
        let block = Block { config, layer, hidden };
        block.add_attention(&mut shapes, heads, head_size)?;
        block.add_feed_forward(&mut shapes)?;
    }
    Ok(shapes)
}

/// What a layer has.
struct Block<'a> {
    config: &'a Value,
    layer: u32,
    hidden: u64,
}

impl Block<'_> {
    fn is(&self, part: &str, key: &str) -> bool {
        self.config.get(part).and_then(|part| part.get(key)) == Some(&Value::Bool(true))
    }

    fn norm(&self) -> Shape {
        Shape { whole: self.hidden, ..Shape::vector(Place::Layers(vec![self.layer])) }
    }

    fn matrix(&self, name: &str, rows: u64, columns: u64) -> Shape {
        let gguf = Some(name.to_owned());
        Shape { kind: Kind::Linear, divided: rows, columns, gguf, ..Shape::vector(Place::Layers(vec![self.layer])) }
    }

    fn add_attention(&self, shapes: &mut Vec<Shape>, heads: u64, head_size: u64) -> Result<(), String> {
        if self.is("attention", "no_op") {
            return Ok(());
        }
        shapes.push(self.norm());
        if self.is("attention", "replace_with_linear") {
            shapes.push(self.matrix("attn_output", self.hidden, self.hidden));
            return Ok(());
        }
        let group = self.config.get("attention").and_then(|attention| attention.get("n_heads_in_group")?.as_u64());
        let kv_heads = group
            .and_then(|group| heads.checked_div(group))
            .ok_or_else(|| format!("{BLOCKS}: layer {} has no n_heads_in_group", self.layer))?;
        let size = |heads: u64| (Exact::from(heads) * head_size).get().map_err(|_| TOO_LARGE);
        let (q, kv) = (size(heads)?, size(kv_heads)?);
        let join = || Some("qkv".to_owned());
        shapes.push(Shape { join: join(), ..self.matrix("attn_q", q, self.hidden) });
        for name in ["attn_k", "attn_v"] {
            let matrix = self.matrix(name, 0, self.hidden);
            shapes.push(Shape { by_kv_heads: kv, num_key_value_heads: kv_heads, join: join(), ..matrix });
        }
        shapes.push(self.matrix("attn_output", self.hidden, q));
        Ok(())
    }

    fn add_feed_forward(&self, shapes: &mut Vec<Shape>) -> Result<(), String> {
        if self.is("ffn", "no_op") {
            return Ok(());
        }
        shapes.push(self.norm());
        if self.is("ffn", "replace_with_linear") {
            shapes.push(self.matrix("ffn_down", self.hidden, self.hidden));
            return Ok(());
        }
        let width =
            width(self.config, self.hidden).ok_or_else(|| format!("{BLOCKS}: layer {} has no ffn_mult", self.layer))?;
        for name in ["ffn_gate", "ffn_up"] {
            shapes.push(Shape { join: Some("gate_up".into()), ..self.matrix(name, width, self.hidden) });
        }
        shapes.push(self.matrix("ffn_down", self.hidden, width));
        Ok(())
    }
}

/// Two thirds of twice the multiple of the hidden size, rounded up.
fn width(block: &Value, hidden: u64) -> Option<u64> {
    // The multiple has few decimals: its millionths are whole.
    const SCALE: u64 = 1_000_000;
    let multiple = block.get("ffn")?.get("ffn_mult")?.as_number()?.to_string();
    let (whole, fraction) = multiple.split_once('.').unwrap_or((&multiple, ""));
    let millionths: u64 = format!("{whole}{fraction:0<6.6}").parse().ok()?;
    (Exact::from(millionths) * hidden * 2u64 / 3u64 / SCALE).round_up_to(WIDTH_UNIT).get().ok()
}
