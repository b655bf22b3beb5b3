//! The tensors of what sees beside a text model: vision towers and the projectors that lead from them, for the classes whose
//! tensors are known one by one.
//!
//! Read from transformers 5.23, `models/{siglip,gemma3,pixtral,mistral3,llava_next,llama4}/modeling_*.py`, and from
//! `models/kimi_vl.py` and `models/moonvit.py` of vLLM 0.19.

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
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gemma3,
    Mistral3,
    LlavaNext,
    Llama4,
    KimiVl,
}

/// Matrices of a tower; a vector has one row.
pub(super) struct Part {
    pub(super) count: u64,
    pub(super) rows: u64,
    pub(super) columns: u64,
    /// Whether ranks divide it.
    pub(super) divided: bool,
}

impl Tower {
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
        };
        architecture.strip_suffix("ForConditionalGeneration") == Some(name)
    }

    /// Its tensors, with the projector to a text model of this width.
    pub(super) fn parts(&self, text: u64) -> Result<Vec<Part>, String> {
        let Self { kind, hidden, layers, width, patch, side, joined, shuffled, merged, .. } = *self;
        if text >= 1 << 32 {
            return Err("hidden_size is more than any model has".into());
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
        }
        Ok(parts)
    }
}
