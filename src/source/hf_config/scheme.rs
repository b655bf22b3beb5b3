//! How quantised checkpoints store their weights, for the schemes whose bytes follow from what they declare.
//!
//! Read in compressed-tensors' `config_groups`, in `quantizers/auto.py` and `integrations` of transformers 5.23, and in vLLM 0.19,
//! `model_executor/layers/quantization`.

use serde_json::{Map, Value};

/// How a quantised checkpoint stores what it quantises; all else stays in its own format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Weights of experts in blocks of 32, two in a byte and a scale for each block (gpt-oss).
    Mxfp4,
    /// Linear weights in 8 bits, with a 4-byte scale for each row of theirs (compressed-tensors, a scale a channel).
    Rows(&'static str),
    /// Linear weights in 8 bits, with a 4-byte scale for each square of so many rows and columns (`weight_block_size`).
    Squares(u64, u64),
    /// Linear weights in 4 bits, with a 2-byte scale and a 4-bit zero point for each group of so many in a row (AWQ).
    Groups(u64),
}

impl Scheme {
    /// The scheme, where all its bytes follow from what is declared.
    pub(super) fn of(declared: &Map<String, Value>, named: &str) -> Option<Self> {
        let text = |key: &str| declared.get(key).and_then(Value::as_str);
        match text("quant_method")? {
            "mxfp4" if named == "gpt_oss" => Some(Self::Mxfp4),
            "fp8" => {
                let sizes = declared.get("weight_block_size")?.as_array()?;
                let [rows, columns] = sizes.as_slice() else { return None };
                let kept = declared.get("modules_to_not_convert").and_then(Value::as_array);
                let not_linear = ["lm_head", "embed", "norm", "gate", "router"];
                let plain = kept.into_iter().flatten().all(|name| {
                    name.as_str().is_some_and(|name| {
                        not_linear.iter().any(|part| {
                            name.rsplit('.').next().is_some_and(|last| last.contains(part) && last != "gate_proj")
                        })
                    })
                });
                let size = |value: &Value| value.as_u64().filter(|&size| size > 0);
                plain.then_some(Self::Squares(size(rows)?, size(columns)?))
            }
            // GPTQ stores an index and perhaps biases beside these, which its configuration does not tell.
            "awq" => {
                let number = |key: &str| declared.get(key).and_then(Value::as_u64);
                let kept = declared.get("modules_to_not_convert").and_then(Value::as_array);
                let all = kept.is_none_or(Vec::is_empty) && number("bits").or(number("w_bit")) == Some(4);
                let zeros = declared.get("zero_point").is_none_or(|zeros| *zeros == true);
                let size = number("group_size").or(number("q_group_size")).filter(|&size| size > 0)?;
                (all && zeros).then_some(Self::Groups(size))
            }
            "compressed-tensors" => {
                let groups = declared.get("config_groups")?.as_object()?;
                let mut groups = groups.values();
                let (Some(group), None) = (groups.next(), groups.next()) else { return None };
                let targets = group.get("targets")?.as_array()?;
                let weights = group.get("weights")?;
                let rows = weights.get("strategy").and_then(Value::as_str) == Some("channel")
                    && weights.get("num_bits").and_then(Value::as_u64) == Some(8)
                    && weights.get("symmetric") == Some(&Value::Bool(true));
                // What is left out must be what is no linear layer of a text model's blocks.
                let ignored = declared.get("ignore").and_then(Value::as_array);
                let outside = ["lm_head", "vision", "visual", "multi_modal_projector", "router", "mlp.gate"];
                let plain = ignored
                    .into_iter()
                    .flatten()
                    .all(|name| name.as_str().is_some_and(|name| outside.iter().any(|part| name.contains(part))));
                let one = targets.as_slice() == [Value::from("Linear")];
                let float = weights.get("type").and_then(Value::as_str) == Some("float");
                (one && rows && plain).then_some(Self::Rows(if float { "F8_E4M3" } else { "I8" }))
            }
            _ => None,
        }
    }

    /// The bytes of a quantised matrix of `rows` rows of `columns`.
    pub(super) fn bytes(self, rows: u64, columns: u64) -> Option<u64> {
        let elements = rows.checked_mul(columns)?;
        match self {
            Self::Mxfp4 => elements.checked_div(32)?.checked_mul(17),
            Self::Rows(_) => elements.checked_add(rows.checked_mul(4)?),
            Self::Groups(size) => {
                let half_bytes = elements.checked_add(rows.checked_mul(columns.div_ceil(size))?.checked_mul(5)?)?;
                Some(half_bytes.div_ceil(2))
            }
            Self::Squares(high, wide) => {
                elements.checked_add(rows.div_ceil(high).checked_mul(columns.div_ceil(wide))?.checked_mul(4)?)
            }
        }
    }

    pub(super) fn takes(self, kind: Kind) -> bool {
        match self {
            Self::Mxfp4 => kind == Kind::Expert,
            Self::Rows(_) | Self::Squares(..) | Self::Groups(_) => matches!(kind, Kind::Expert | Kind::Linear),
        }
    }

    pub(super) fn dtype(self) -> &'static str {
        match self {
            Self::Mxfp4 => "MXFP4",
            Self::Rows(dtype) => dtype,
            Self::Squares(..) => "F8_E4M3",
            Self::Groups(_) => "AWQ",
        }
    }
}

/// What a tensor is, as far as quantisation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A linear layer of a block.
    Linear,
    /// The weights of a layer's experts.
    Expert,
    /// What stays in the checkpoint's own format.
    Other,
}
