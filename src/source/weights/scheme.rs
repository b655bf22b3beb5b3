//! How quantized checkpoints store their weights, for the schemes whose bytes follow from what they declare.
//!
//! Read in compressed-tensors' `config_groups`, in `quantizers/auto.py` and `integrations` of transformers 5.23, and in vLLM 0.19,
//! `model_executor/layers/quantization`.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::units::Exact;

/// How a quantized checkpoint stores what it quantizes; all else stays in its own format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Weights of experts in blocks of 32, two in a byte and a scale for each block (gpt-oss).
    Mxfp4,
    /// Linear weights in 8 bits, with a 4-byte scale for each row (compressed-tensors, a scale a channel).
    Rows(&'static str),
    /// Linear weights in 8 bits, with a 4-byte scale for each tile (`weight_block_size`).
    Tiles { rows: u64, columns: u64 },
    /// Linear weights in 4 bits, with a 2-byte scale and a 4-bit zero point for each group in a row (AWQ).
    Groups { size: u64 },
}

/// What a tensor is, as far as quantization goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A linear layer of a block.
    Linear,
    /// The weights of a layer's experts.
    Expert,
    ExpertBias,
    /// What stays in the checkpoint's own format.
    #[default]
    Other,
}

impl Scheme {
    /// The scheme, where all its bytes follow from what is declared.
    pub(super) fn new(declared: &Map<String, Value>, model_type: &str) -> Option<Self> {
        match declared.get("quant_method")?.as_str()? {
            "mxfp4" if model_type == "gpt_oss" => Some(Self::Mxfp4),
            "fp8" => Self::fp8(declared),
            "awq" => Self::awq(declared),
            "compressed-tensors" => Self::compressed_tensors(declared),
            _ => None,
        }
    }

    fn fp8(declared: &Map<String, Value>) -> Option<Self> {
        let [rows, columns] = declared.get("weight_block_size")?.as_array()?.as_slice() else { return None };
        let not_linear = ["lm_head", "embed", "norm", "gate", "router"];
        let plain = names(declared, "modules_to_not_convert", |name| {
            let last = name.rsplit('.').next().unwrap_or(name);
            last != "gate_proj" && not_linear.iter().any(|part| last.contains(part))
        });
        let size = |value: &Value| value.as_u64().filter(|&size| size > 0);
        plain.then_some(Self::Tiles { rows: size(rows)?, columns: size(columns)? })
    }

    /// GPTQ stores an index and perhaps biases in addition, which its configuration does not declare.
    fn awq(declared: &Map<String, Value>) -> Option<Self> {
        let number = |key: &str| declared.get(key).and_then(Value::as_u64);
        let all = names(declared, "modules_to_not_convert", |_| false);
        let four = number("bits").or(number("w_bit")) == Some(4);
        let zeros = declared.get("zero_point").is_none_or(|zeros| *zeros == true);
        let size = number("group_size").or(number("q_group_size")).filter(|&size| size > 0)?;
        (all && four && zeros).then_some(Self::Groups { size })
    }

    fn compressed_tensors(declared: &Map<String, Value>) -> Option<Self> {
        let mut groups = declared.get("config_groups")?.as_object()?.values();
        let (Some(group), None) = (groups.next(), groups.next()) else { return None };
        let weights = group.get("weights")?;
        let is = |key: &str, value: Value| weights.get(key) == Some(&value);
        let rows = is("strategy", "channel".into()) && is("num_bits", 8.into()) && is("symmetric", true.into());
        let linear = group.get("targets")?.as_array()?.as_slice() == [Value::from("Linear")];
        // What is left out must be no linear layer of a text model's blocks.
        let outside = ["lm_head", "vision", "visual", "multi_modal_projector", "router", "mlp.gate"];
        let plain = names(declared, "ignore", |name| outside.iter().any(|part| name.contains(part)));
        let dtype = if is("type", "float".into()) { "F8_E4M3" } else { "I8" };
        (linear && rows && plain).then_some(Self::Rows(dtype))
    }

    /// The bytes of a quantized matrix.
    pub(super) fn bytes(self, rows: u64, columns: u64) -> Exact {
        let (rows, columns) = (Exact::from(rows), Exact::from(columns));
        let elements = rows * columns;
        match self {
            Self::Mxfp4 => elements / 32u64 * 17u64,
            Self::Rows(_) => elements + rows * 4u64,
            Self::Tiles { rows: high, columns: wide } => elements + rows.div_ceil(high) * columns.div_ceil(wide) * 4u64,
            Self::Groups { size } => (elements + rows * columns.div_ceil(size) * 5u64).div_ceil(2u64),
        }
    }

    pub(super) fn quantizes(self, kind: Kind) -> bool {
        match self {
            Self::Mxfp4 => kind == Kind::Expert,
            Self::Rows(_) | Self::Tiles { .. } | Self::Groups { .. } => matches!(kind, Kind::Expert | Kind::Linear),
        }
    }

    pub(super) fn dtype(self) -> &'static str {
        match self {
            Self::Mxfp4 => "MXFP4",
            Self::Rows(dtype) => dtype,
            Self::Tiles { .. } => "F8_E4M3",
            Self::Groups { .. } => "AWQ",
        }
    }
}

/// Whether all names of a list are as wanted; so is a list that is missing.
fn names(declared: &Map<String, Value>, key: &str, wanted: impl Fn(&str) -> bool) -> bool {
    let list = declared.get(key).and_then(Value::as_array);
    list.into_iter().flatten().all(|name| name.as_str().is_some_and(&wanted))
}
