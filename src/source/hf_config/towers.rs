//! The tensors of what sees beside a text model: vision towers and the projectors that lead from them, for the classes whose
//! tensors are known one by one.
//!
//! Read from transformers 5.23, `models/{siglip,siglip2,gemma3,gemma4,pixtral,mistral3,llava_next,llama4,lfm2_vl,qwen2_5_vl,qwen3_vl}/
//! modeling_*.py` (Qwen3.5's tower is that of Qwen3-VL), and from `models/kimi_vl.py` and `models/moonvit.py` of vLLM 0.19.

use serde_json::{Map, Value};

/// A tower and its projector.
pub(super) struct Tower {
    kind: Kind,
    hidden: u64,
    layers: u64,
    width: u64,
    /// Pixels of a side of a patch, squared, times the colours.
    patch: u64,
    /// Patches of a side of an image.
    side: u64,
    /// Towers whose outputs are joined: the layers that `vision_feature_layer` lists.
    joined: u64,
    /// Whether it has a head that pools (`vision_use_head`).
    head: bool,
    /// The width that pixel shuffling leads to and from.
    shuffled: u64,
    /// Patches that a projector merges into one.
    merged: u64,
    /// For the kinds that are counted at once: all but what leads to the text model, and the width that this starts from.
    counted: Vec<Part>,
    from: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gemma3,
    Mistral3,
    LlavaNext,
    Llama4,
    KimiVl,
    Gemma4,
    Lfm2Vl,
    Qwen2_5Vl,
    /// Qwen3-VL and Qwen3.5, dense.
    Qwen3Vl,
    Qwen3_5,
    /// The same with experts.
    Qwen3VlMoe,
    Qwen3_5Moe,
}

/// Matrices of a tower; a vector has one row.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) count: u64,
    pub(super) rows: u64,
    pub(super) columns: u64,
    /// Whether ranks divide it.
    pub(super) divided: bool,
}

impl Tower {
    const NONE: Self = Self {
        kind: Kind::KimiVl,
        hidden: 0,
        layers: 0,
        width: 0,
        patch: 0,
        side: 0,
        joined: 0,
        head: false,
        shuffled: 0,
        merged: 0,
        counted: Vec::new(),
        from: 0,
    };

    /// The tower of a configuration; none if it is a text model alone, and the reason if it can't be told.
    pub(super) fn of(root: &Map<String, Value>, wrapped: bool) -> Result<Option<Self>, String> {
        const UNKNOWN: &str = "the config has parts beside the text model, whose tensors are not known here";
        let parts = ["visual", "vision_encoder", "audio_config", "audio_encoder"];
        let vision = root.get("vision_config").and_then(Value::as_object);
        if parts.iter().any(|part| root.get(*part).is_some_and(Value::is_object)) {
            return Err(UNKNOWN.into());
        }
        let Some(vision) = vision else { return if wrapped { Err(UNKNOWN.into()) } else { Ok(None) } };
        let kind = match root.get("model_type").and_then(Value::as_str) {
            Some("gemma3") => Kind::Gemma3,
            Some("mistral3") => Kind::Mistral3,
            Some("llava_next") => Kind::LlavaNext,
            Some("llama4") => Kind::Llama4,
            Some("kimi_vl") => Kind::KimiVl,
            Some("gemma4") => Kind::Gemma4,
            Some("lfm2_vl") => Kind::Lfm2Vl,
            Some("qwen2_5_vl") => Kind::Qwen2_5Vl,
            Some("qwen3_vl") => Kind::Qwen3Vl,
            Some("qwen3_vl_moe") => Kind::Qwen3VlMoe,
            Some("qwen3_5") => Kind::Qwen3_5,
            Some("qwen3_5_moe") => Kind::Qwen3_5Moe,
            _ => return Err(UNKNOWN.into()),
        };
        let siglip = vision.get("model_type").and_then(Value::as_str) == Some("siglip_vision_model");
        if matches!(kind, Kind::Gemma3 | Kind::LlavaNext) && !siglip {
            return Err(UNKNOWN.into());
        }
        let number = |key: &str| {
            let value = vision.get(key).and_then(Value::as_u64).filter(|&value| value > 0 && value < 1 << 20);
            value.ok_or_else(|| format!("vision_config.{key} is not in the config"))
        };
        if let Some((counted, from)) = counted(kind, root, vision, &number)? {
            return Ok(Some(Self { kind, counted, from, ..Self::NONE }));
        }
        let patch_size = number("patch_size")?;
        let colours = vision.get("num_channels").and_then(Value::as_u64).unwrap_or(3).min(64);
        let side = match kind {
            Kind::KimiVl => number("init_pos_emb_height")?,
            _ => number("image_size")?.checked_div(patch_size).unwrap_or_default(),
        };
        let joined = match root.get("vision_feature_layer") {
            Some(Value::Array(layers)) => u64::try_from(layers.len()).unwrap_or(1).clamp(1, 64),
            _ => 1,
        };
        let merged = match kind {
            Kind::Mistral3 => root.get("spatial_merge_size").and_then(Value::as_u64).unwrap_or(2).min(64),
            _ => 2,
        };
        Ok(Some(Self {
            kind,
            hidden: number("hidden_size")?,
            layers: number("num_hidden_layers")?,
            width: number("intermediate_size")?,
            patch: patch_size.saturating_mul(patch_size).saturating_mul(colours),
            side,
            joined,
            head: vision.get("vision_use_head").and_then(Value::as_bool).unwrap_or(kind == Kind::LlavaNext),
            shuffled: if kind == Kind::Llama4 { number("projector_output_dim")? } else { 0 },
            merged: merged.saturating_mul(merged),
            ..Self::NONE
        }))
    }

    /// Whether a name in `architectures` is of the class that joins it to a text model.
    pub(super) fn is_of(&self, architecture: &str) -> bool {
        let name = match self.kind {
            Kind::Gemma3 => "Gemma3",
            Kind::Mistral3 => "Mistral3",
            Kind::LlavaNext => "LlavaNext",
            Kind::Llama4 => "Llama4",
            Kind::KimiVl => "KimiVL",
            Kind::Gemma4 => "Gemma4",
            Kind::Lfm2Vl => "Lfm2Vl",
            Kind::Qwen2_5Vl => "Qwen2_5_VL",
            Kind::Qwen3Vl => "Qwen3VL",
            Kind::Qwen3VlMoe => "Qwen3VLMoe",
            Kind::Qwen3_5 => "Qwen3_5",
            Kind::Qwen3_5Moe => "Qwen3_5Moe",
        };
        architecture.strip_suffix("ForConditionalGeneration") == Some(name)
    }

    /// Its tensors, with the projector to a text model of this width.
    pub(super) fn parts(&self, text: u64) -> Result<Vec<Part>, String> {
        let Self { kind, hidden, layers, width, patch, side, joined, shuffled, merged, .. } = *self;
        if text >= 1 << 32 {
            return Err("hidden_size is more than any model has".into());
        }
        if self.from > 0 {
            let mut parts = self.counted.clone();
            parts.push(Part { count: 1, rows: text, columns: self.from, divided: true });
            // The projector of Gemma 4 has no bias.
            if kind != Kind::Gemma4 {
                parts.push(Part { count: 1, rows: 1, columns: text, divided: false });
            }
            return Ok(parts);
        }
        let positions = side.saturating_mul(side);
        let wide = hidden.saturating_mul(merged);
        let divided = |count: u64, rows: u64, columns: u64| Part { count, rows, columns, divided: true };
        let whole = |count: u64, rows: u64, columns: u64| Part { count, rows, columns, divided: false };
        let vectors = |count: u64, columns: u64| whole(count, 1, columns);
        // A block: q, k, v and o, the feed-forward, and their norms.
        let biased = kind != Kind::Mistral3;
        let mut parts = vec![divided(layers.saturating_mul(4), hidden, hidden)];
        if biased {
            parts.push(divided(layers.saturating_mul(2), hidden, width));
            parts.push(vectors(layers.saturating_mul(4), hidden));
            parts.push(vectors(layers, width));
            parts.push(vectors(layers, hidden));
            parts.push(vectors(layers.saturating_mul(4), hidden));
        } else {
            parts.push(divided(layers.saturating_mul(3), hidden, width));
            parts.push(vectors(layers.saturating_mul(2), hidden));
        }
        parts.push(whole(1, hidden, patch));
        match kind {
            Kind::Gemma3 | Kind::LlavaNext => {
                parts.push(vectors(1, hidden));
                parts.push(whole(1, positions, hidden));
                parts.push(vectors(2, hidden));
                if self.head {
                    parts.push(vectors(1, hidden));
                    parts.push(whole(4, hidden, hidden));
                    parts.push(vectors(4, hidden));
                    parts.push(whole(2, hidden, width));
                    parts.push(vectors(1, width));
                    parts.push(vectors(3, hidden));
                }
            }
            Kind::Mistral3 => parts.push(vectors(1, hidden)),
            Kind::Llama4 => {
                parts.push(vectors(1, hidden));
                parts.push(whole(1, positions.saturating_add(1), hidden));
                parts.push(vectors(4, hidden));
            }
            Kind::KimiVl => {
                parts.push(vectors(1, hidden));
                parts.push(whole(1, positions, hidden));
                parts.push(vectors(2, hidden));
            }
            _ => {}
        }
        match kind {
            Kind::Gemma3 => {
                parts.push(whole(1, hidden, text));
                parts.push(vectors(1, hidden));
            }
            Kind::Mistral3 => {
                parts.push(vectors(1, hidden));
                parts.push(whole(1, hidden, wide));
                parts.push(divided(1, text, hidden));
                parts.push(divided(1, text, text));
            }
            Kind::LlavaNext => {
                parts.push(divided(1, text, hidden.saturating_mul(joined)));
                parts.push(divided(1, text, text));
                // Two biases, and what ends a row of an image.
                parts.push(vectors(3, text));
            }
            Kind::Llama4 => {
                parts.push(divided(1, shuffled, width));
                parts.push(divided(1, shuffled, shuffled));
                parts.push(divided(1, text, shuffled));
            }
            Kind::KimiVl => {
                parts.push(vectors(2, hidden));
                parts.push(whole(1, wide, wide));
                parts.push(vectors(1, wide));
                parts.push(whole(1, text, wide));
                parts.push(vectors(1, text));
            }
            _ => {}
        }
        Ok(parts)
    }
}

/// The tensors of a tower but for the last of its projector, and the width that this starts from; none for the kinds that
/// [`Tower::parts`] counts.
fn counted(
    kind: Kind,
    root: &Map<String, Value>,
    vision: &Map<String, Value>,
    number: &dyn Fn(&str) -> Result<u64, String>,
) -> Result<Option<(Vec<Part>, u64)>, String> {
    let divided = |count: u64, rows: u64, columns: u64| Part { count, rows, columns, divided: true };
    let whole = |count: u64, rows: u64, columns: u64| Part { count, rows, columns, divided: false };
    let vectors = |count: u64, columns: u64| whole(count, 1, columns);
    let hidden = || number("hidden_size");
    let patch = || number("patch_size").map(|size| size.saturating_mul(size));
    // Layers of biased projections, with two norms that have a bias.
    let blocks = |layers: u64, hidden: u64, width: u64| {
        vec![
            divided(layers.saturating_mul(4), hidden, hidden),
            divided(layers.saturating_mul(2), hidden, width),
            vectors(layers.saturating_mul(9), hidden),
            vectors(layers, width),
        ]
    };
    match kind {
        Kind::Qwen3Vl | Kind::Qwen3VlMoe | Kind::Qwen3_5 | Kind::Qwen3_5Moe => {
            let hidden = hidden()?;
            let mut parts = blocks(number("depth")?, hidden, number("intermediate_size")?);
            let pixels = patch()?.saturating_mul(number("in_channels")?).saturating_mul(number("temporal_patch_size")?);
            let merge = number("spatial_merge_size")?;
            let merged = hidden.saturating_mul(merge).saturating_mul(merge);
            let out = number("out_hidden_size")?;
            parts.push(whole(1, hidden, pixels));
            parts.push(whole(1, number("num_position_embeddings")?, hidden));
            // The bias of patches, the merger's norm.
            parts.push(vectors(3, hidden));
            let levels = match vision.get("deepstack_visual_indexes").and_then(Value::as_array) {
                Some(list) => u64::try_from(list.len()).unwrap_or_default().min(1 << 10),
                None => return Err("vision_config.deepstack_visual_indexes is not in the config".into()),
            };
            parts.push(vectors(levels.saturating_mul(2), merged));
            parts.push(divided(levels.saturating_add(1), merged, merged));
            parts.push(vectors(levels.saturating_add(1), merged));
            parts.push(divided(levels, out, merged));
            parts.push(vectors(levels, out));
            Ok(Some((parts, merged)))
        }
        Kind::Qwen2_5Vl => {
            let hidden = hidden()?;
            let width = number("intermediate_size")?;
            let layers = number("depth")?;
            let colours = number("in_channels").or_else(|_| number("in_chans"))?;
            let merge = number("spatial_merge_size")?;
            let merged = hidden.saturating_mul(merge).saturating_mul(merge);
            let pixels = patch()?.saturating_mul(colours).saturating_mul(number("temporal_patch_size")?);
            let parts = vec![
                divided(layers.saturating_mul(4), hidden, hidden),
                divided(layers.saturating_mul(3), hidden, width),
                // Biases of q, k, v, o and down, and two norms.
                vectors(layers.saturating_mul(7), hidden),
                vectors(layers.saturating_mul(2), width),
                whole(1, hidden, pixels),
                vectors(1, hidden),
                divided(1, merged, merged),
                vectors(1, merged),
            ];
            Ok(Some((parts, merged)))
        }
        Kind::Gemma4 => gemma_4(vision, number).map(Some),
        Kind::Lfm2Vl => {
            let hidden = hidden()?;
            let mut parts = blocks(number("num_hidden_layers")?, hidden, number("intermediate_size")?);
            let of_projector = |key: &str| {
                let value = root.get(key).and_then(Value::as_u64).filter(|&value| value > 0 && value < 1 << 20);
                value.ok_or_else(|| format!("{key} is not in the config"))
            };
            let factor = of_projector("downsample_factor")?;
            let merged = hidden.saturating_mul(factor).saturating_mul(factor);
            let inner = of_projector("projector_hidden_size")?;
            if root.get("projector_use_layernorm") != Some(&Value::Bool(false)) {
                parts.push(vectors(2, merged));
            }
            if vision.get("vision_use_head") == Some(&Value::Bool(true))
                || root.get("projector_bias") == Some(&Value::Bool(false))
            {
                return Err("vision_use_head, or a projector without a bias, is not known here".into());
            }
            parts.push(whole(1, hidden, patch()?.saturating_mul(number("num_channels")?)));
            parts.push(whole(1, number("num_patches")?, hidden));
            // The bias of patches, the last norm.
            parts.push(vectors(3, hidden));
            parts.push(divided(1, inner, merged));
            parts.push(vectors(1, inner));
            Ok(Some((parts, inner)))
        }
        _ => Ok(None),
    }
}

/// The tensors of Gemma 4's tower, and its width.
fn gemma_4(
    vision: &Map<String, Value>,
    number: &dyn Fn(&str) -> Result<u64, String>,
) -> Result<(Vec<Part>, u64), String> {
    if vision.get("use_clipped_linears") == Some(&Value::Bool(true)) {
        return Err("vision_config.use_clipped_linears is not known here".into());
    }
    let hidden = number("hidden_size")?;
    let side = number("patch_size")?;
    let matrices = |count: u64, rows: u64, columns: u64, divided: bool| Part { count, rows, columns, divided };
    let layers = number("num_hidden_layers")?;
    let heads = number("num_attention_heads")?;
    let head_dim = number("head_dim")?;
    let q = heads.saturating_mul(head_dim);
    let kv = number("num_key_value_heads")?.saturating_mul(head_dim);
    let mut parts = vec![
        matrices(layers.saturating_mul(2), hidden, q, true),
        matrices(layers.saturating_mul(2), hidden, kv, true),
        matrices(layers.saturating_mul(3), hidden, number("intermediate_size")?, true),
        matrices(layers.saturating_mul(4), 1, hidden, false),
        matrices(layers.saturating_mul(2), 1, head_dim, false),
        matrices(1, hidden, side.saturating_mul(side).saturating_mul(3), false),
        matrices(2, number("position_embedding_size")?, hidden, false),
    ];
    if vision.get("standardize") == Some(&Value::Bool(true)) {
        parts.push(matrices(2, 1, hidden, false));
    }
    Ok((parts, hidden))
}
