//! What a configuration declares of how its weights are quantized: the keys of each method.
//!
//! Read in compressed-tensors' `config_groups`, modelopt's `hf_quant_config.json`, `quantizers/auto.py` and `integrations` of
//! transformers 5.23, and in vLLM 0.19, `model_executor/layers/quantization`.

use serde_json::{Map, Value};

use crate::model::{EightBits, Encoding, Pattern, Quantizer, Rule, Takes};

type Object = Map<String, Value>;

/// What is declared, of a text model of class `model_type`; or why its bytes do not follow from it.
pub(super) fn quantizer(declared: &Object, model_type: &str) -> Result<Quantizer, String> {
    let method = declared.get("quant_method").and_then(Value::as_str);
    match method {
        Some("mxfp4") if model_type == "gpt_oss" => Ok(Quantizer::new(Takes::Experts, Encoding::Mxfp4)),
        Some("fp8") => fp8(declared, model_type),
        Some("awq") => awq(declared),
        Some("gptq") => gptq(declared),
        Some("auto-round" | "intel/auto-round") => auto_round(declared),
        Some("compressed-tensors") => compressed_tensors(declared),
        Some("bitsandbytes") => bitsandbytes(declared),
        Some("hqq") => hqq(declared),
        Some("exl2") => exl(declared, |millibits| Encoding::Exl2 { millibits }),
        Some("exl3") => exl(declared, |millibits| Encoding::Exl3 { millibits }),
        Some("modelopt" | "modelopt_fp4" | "modelopt_mixed") => modelopt(declared),
        None if declared.contains_key("quant_algo") => modelopt(declared),
        None if declared.contains_key("bits") && declared.contains_key("group_size") => mlx(declared),
        Some(other) => Err(format!("what quant_method {other:?} stores is not known here")),
        None => Err("it names no quant_method".into()),
    }
}

/// The quantization in a `hf_quant_config.json`.
pub(super) fn in_file(file: &Value) -> Option<&Object> {
    file.get("quantization")?.as_object()
}

fn number(object: &Object, keys: &[&str]) -> Option<u64> {
    keys.iter().find_map(|key| object.get(*key)?.as_u64())
}

fn flag(object: &Object, key: &str) -> Option<bool> {
    object.get(key)?.as_bool()
}

/// The size of groups, 0 for a whole row, which some files write as -1.
fn group(object: &Object, keys: &[&str]) -> Result<u64, String> {
    let value = keys.iter().find_map(|key| object.get(*key).filter(|value| !value.is_null()));
    match value {
        Some(value) if value.as_i64() == Some(-1) => Ok(0),
        Some(value) => {
            value.as_u64().filter(|&size| size > 0).ok_or_else(|| format!("its group size {value} is no size"))
        }
        None => Err("it names no group size".into()),
    }
}

/// The patterns of the first of these lists; a list that is missing, or was cut to a text, leaves nothing out.
fn patterns(object: &Object, keys: &[&str]) -> Result<Vec<Pattern>, String> {
    let list = keys.iter().find_map(|key| object.get(*key)?.as_array());
    list.into_iter()
        .flatten()
        .map(|name| {
            let pattern = name.as_str().and_then(Pattern::parse);
            pattern.ok_or_else(|| format!("the pattern {name} in its list of exceptions is not read here"))
        })
        .collect()
}

fn all(encoding: Encoding, left_out: Vec<Pattern>) -> Quantizer {
    Quantizer { left_out, ..Quantizer::new(Takes::Linears, encoding) }
}

const SKIPPED: &[&str] = &["modules_to_not_convert", "ignored_layers"];

fn fp8(declared: &Object, model_type: &str) -> Result<Quantizer, String> {
    if declared.get("moe_quant_algo").is_some_and(|algorithm| !algorithm.is_null()) {
        return Err("its experts are in a format of their own (moe_quant_algo)".into());
    }
    let mut left_out = patterns(declared, SKIPPED)?;
    // What MTP layers put before their first tensor: 16 bits in DeepSeek's, Qwen's and GLM's files.
    left_out.extend(Pattern::parse("eh_proj"));
    let is_static = declared.get("activation_scheme").is_some_and(|scheme| *scheme == "static");
    let encoding = match declared.get("weight_block_size").filter(|size| !size.is_null()) {
        // Mistral's: the scale of a matrix and that of its input, in the checkpoint's 16 bits.
        None if is_static => Encoding::Whole { scalars: 2, scalar_bytes: 2 },
        None => return Err("it names no weight_block_size".into()),
        Some(tile) => {
            let side = |index: usize| tile.get(index)?.as_u64().filter(|&side| side > 0);
            let is_pair = tile.as_array().is_some_and(|sides| sides.len() == 2);
            let (Some(rows), Some(columns), true) = (side(0), side(1), is_pair) else {
                return Err(format!("its weight_block_size {tile} is no size of tiles"));
            };
            // Qwen's files have them in bf16, DeepSeek's in single precision.
            let scale_bytes = if model_type.starts_with("qwen") { 2 } else { 4 };
            Encoding::Tiles { rows, columns, scale_bytes }
        }
    };
    Ok(all(encoding, left_out))
}

fn awq(declared: &Object) -> Result<Quantizer, String> {
    let bits = number(declared, &["bits", "w_bit"]).ok_or("it names no bits")?;
    let has_zeros = flag(declared, "zero_point").unwrap_or(true);
    if bits != 4 || !has_zeros {
        return Err(format!(
            "AWQ in {bits} bits{} is not known here",
            if has_zeros { "" } else { " without zero points" }
        ));
    }
    let group = group(declared, &["group_size", "q_group_size"])?;
    Ok(all(Encoding::Awq { group }, patterns(declared, SKIPPED)?))
}

fn gptq(declared: &Object) -> Result<Quantizer, String> {
    let bits = number(declared, &["bits"]).filter(|bits| (2..=8).contains(bits)).ok_or("it names no bits")?;
    let encoding = Encoding::Gptq { bits, group: group(declared, &["group_size"])?, index: true };
    if declared.get("modules_in_block_to_quantize").is_some_and(|list| !list.is_null()) {
        return Err("it quantizes only some modules (modules_in_block_to_quantize)".into());
    }
    let mut left_out = patterns(declared, SKIPPED)?;
    for name in declared.get("dynamic").and_then(Value::as_object).into_iter().flat_map(Map::keys) {
        // `-:` leaves out, all else changes bits.
        let pattern = name.strip_prefix("-:").and_then(|pattern| Pattern::parse(&format!("re:{pattern}")));
        left_out.push(pattern.ok_or_else(|| format!("the rule {name:?} of its dynamic is not read here"))?);
    }
    let quantizer = all(encoding, left_out);
    Ok(if flag(declared, "lm_head") == Some(true) { quantizer.with(Takes::Head, encoding) } else { quantizer })
}

fn auto_round(declared: &Object) -> Result<Quantizer, String> {
    let has_more = |key: &str| declared.get(key).and_then(Value::as_object).is_some_and(|more| !more.is_empty());
    if has_more("extra_config") {
        return Err("some of its modules have bits of their own (extra_config)".into());
    }
    let bits = number(declared, &["bits"]).filter(|bits| (2..=8).contains(bits)).ok_or("it names no bits")?;
    let group = group(declared, &["group_size"])?;
    let packing = declared.get("packing_format").and_then(Value::as_str).unwrap_or_default();
    let encoding = match (packing.contains("awq"), bits) {
        (true, 4) => Encoding::Awq { group },
        (true, _) => return Err(format!("AWQ in {bits} bits is not known here")),
        (false, _) => Encoding::Gptq { bits, group, index: packing.contains("gptq") },
    };
    Ok(all(encoding, patterns(declared, SKIPPED)?))
}

fn compressed_tensors(declared: &Object) -> Result<Quantizer, String> {
    let groups = declared.get("config_groups").and_then(Value::as_object).ok_or("it has no config_groups")?;
    let format = declared.get("format").and_then(Value::as_str);
    let mut rules = Vec::with_capacity(groups.len());
    for group in groups.values().filter_map(Value::as_object) {
        let encoding = compressed(group, format)?;
        let targets = group.get("targets").and_then(Value::as_array).ok_or("a group of it has no targets")?;
        if targets.iter().any(|target| *target == "Linear") {
            rules.push(Rule { takes: Takes::Linears, named: None, encoding });
        } else {
            // Those with names are chosen before a class.
            let named = Some(patterns(group, &["targets"])?);
            rules.insert(0, Rule { takes: Takes::Linears, named, encoding });
        }
    }
    if rules.is_empty() {
        return Err("its config_groups are empty".into());
    }
    let left_out = patterns(declared, &["ignore"])?;
    Ok(Quantizer { rules, by_module: std::collections::BTreeMap::new(), left_out })
}

/// The encoding of a group.
fn compressed(group: &Object, format: Option<&str>) -> Result<Encoding, String> {
    let weights = group.get("weights").and_then(Value::as_object).ok_or("a group of it has no weights")?;
    let text = |key: &str| weights.get(key).and_then(Value::as_str);
    let format = group.get("format").and_then(Value::as_str).or(format).unwrap_or_default();
    let bits = number(weights, &["num_bits"]).ok_or("a group of it names no num_bits")?;
    let is_symmetric = flag(weights, "symmetric").unwrap_or(true);
    let strategy = text("strategy").unwrap_or("tensor");
    let index = weights.get("actorder").is_some_and(|order| *order == "group" || *order == true);
    let has_input = group.get("input_activations").is_some_and(|input| !input.is_null());
    match (text("type").unwrap_or("int"), bits, strategy) {
        ("int", 2..=8, "group" | "channel") if format == "pack-quantized" => {
            let group = if strategy == "group" { self::group(weights, &["group_size"])? } else { 0 };
            Ok(Encoding::PackedIntegers { bits, group, zero_points: !is_symmetric, index })
        }
        ("int", 4, "group") if format.is_empty() => {
            let group = self::group(weights, &["group_size"])?;
            Ok(Encoding::PackedIntegers { bits, group, zero_points: !is_symmetric, index })
        }
        ("int", 8, "channel") if is_symmetric => Ok(Encoding::Rows(EightBits::Integer)),
        ("float", 8, "channel") => Ok(Encoding::Rows(EightBits::Float)),
        ("float", 8, "tensor") => {
            let input = group.get("input_activations").and_then(Value::as_object);
            let is_static = input.is_some_and(|input| flag(input, "dynamic") == Some(false));
            Ok(Encoding::Whole { scalars: if is_static { 2 } else { 1 }, scalar_bytes: 2 })
        }
        ("float", 8, "block") => {
            let side = |index: usize| weights.get("block_structure")?.get(index)?.as_u64().filter(|&side| side > 0);
            let (rows, columns) = side(0).zip(side(1)).ok_or("a group of it names no block_structure")?;
            Ok(Encoding::Tiles { rows, columns, scale_bytes: 2 })
        }
        ("float", 4, _) => match number(weights, &["group_size"]) {
            Some(16) => Ok(Encoding::Nvfp4 { scalars: if has_input { 2 } else { 1 } }),
            Some(32) => Ok(Encoding::Mxfp4),
            _ => Err("its 4-bit floats are in groups that are not known here".into()),
        },
        (kind, bits, strategy) => {
            let zeros = if is_symmetric { "" } else { " with zero points" };
            Err(format!("{bits}-bit {kind} by {strategy}{zeros}, {format:?}, is not known here"))
        }
    }
}

/// modelopt's own keys, in `quantization_config` or in `hf_quant_config.json`.
fn modelopt(declared: &Object) -> Result<Quantizer, String> {
    let algorithm = declared.get("quant_algo").and_then(Value::as_str).ok_or("it names no quant_algo")?;
    if algorithm == "MIXED_PRECISION" {
        let layers = declared.get("quantized_layers").and_then(Value::as_object);
        let layers = layers.ok_or("it lists no quantized_layers")?;
        let mut by_module = std::collections::BTreeMap::new();
        for (name, layer) in layers {
            let encoding = modelopt_encoding(layer.get("quant_algo").and_then(Value::as_str).unwrap_or_default())?;
            by_module.insert(from_layers(name), encoding);
        }
        return Ok(Quantizer { rules: Vec::new(), by_module, left_out: Vec::new() });
    }
    let keys = ["exclude_modules", "ignore"];
    if !keys.iter().any(|key| declared.get(*key).is_some_and(Value::is_array)) {
        return Err("the list of what it leaves out is missing".into());
    }
    Ok(all(modelopt_encoding(algorithm)?, patterns(declared, &keys)?))
}

fn modelopt_encoding(algorithm: &str) -> Result<Encoding, String> {
    match algorithm {
        "FP8" => Ok(Encoding::Whole { scalars: 2, scalar_bytes: 4 }),
        "FP8_PER_CHANNEL_PER_TOKEN" => Ok(Encoding::Rows(EightBits::Float)),
        "NVFP4" => Ok(Encoding::Nvfp4 { scalars: 2 }),
        "W4A16_NVFP4" => Ok(Encoding::Nvfp4 { scalars: 1 }),
        "MXFP8" => Ok(Encoding::Mxfp8),
        other => Err(format!("what quant_algo {other:?} stores is not known here")),
    }
}

/// A name from its layers on, as patterns have it.
fn from_layers(name: &str) -> String {
    name.find("layers.").and_then(|at| name.get(at..)).unwrap_or(name).to_owned()
}

fn bitsandbytes(declared: &Object) -> Result<Quantizer, String> {
    let is = |key: &str| ["", "_"].iter().any(|prefix| flag(declared, &format!("{prefix}{key}")) == Some(true));
    let encoding = if is("load_in_4bit") {
        Encoding::Nf4 { double: is("bnb_4bit_use_double_quant") }
    } else if is("load_in_8bit") {
        Encoding::LlmInt8
    } else {
        return Err("it loads in neither 4 nor 8 bits".into());
    };
    let left_out = patterns(declared, &["llm_int8_skip_modules"])?;
    Ok(Quantizer { left_out, ..Quantizer::new(Takes::LinearsWithoutExperts, encoding) })
}

fn hqq(declared: &Object) -> Result<Quantizer, String> {
    let parameters = declared.get("quant_config").and_then(|config| config.get("weight_quant_params"));
    let parameters = parameters.and_then(Value::as_object).ok_or("it has no weight_quant_params")?;
    let bits = number(parameters, &["nbits"]).filter(|bits| [1, 2, 4, 8].contains(bits)).ok_or("it names no nbits")?;
    let encoding = Encoding::Hqq { bits, group: group(parameters, &["group_size"])? };
    Ok(all(encoding, patterns(declared, &["skip_modules"])?))
}

/// The head of an `ExLlama` model by default.
const HEAD_MILLIBITS: u64 = 6000;

fn exl(declared: &Object, encoding: impl Fn(u64) -> Encoding) -> Result<Quantizer, String> {
    let millibits = |key: &str| {
        let number = declared.get(key)?.as_number()?.to_string();
        let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
        let thousandths = fraction.get(..fraction.len().min(3))?;
        format!("{whole}{thousandths:0<3}").parse::<u64>().ok().filter(|bits| (1000..=16_000).contains(bits))
    };
    let bits = millibits("bits").ok_or("it names no bits")?;
    let head = millibits("head_bits").unwrap_or(HEAD_MILLIBITS);
    Ok(Quantizer::new(Takes::Linears, encoding(bits)).with(Takes::Head, encoding(head)))
}

/// MLX names no method; modules with bits of their own are objects by their names, and `false` those that are left out.
fn mlx(declared: &Object) -> Result<Quantizer, String> {
    let of = |object: &Object| -> Result<Encoding, String> {
        let bits = number(object, &["bits"]).filter(|bits| (2..=8).contains(bits)).ok_or("it names no bits")?;
        match object.get("mode").and_then(Value::as_str) {
            None | Some("affine") => Ok(Encoding::Mlx { bits, group: group(object, &["group_size"])? }),
            Some("mxfp4") => Ok(Encoding::Mxfp4),
            Some("mxfp8") => Ok(Encoding::Mxfp8),
            Some(other) => Err(format!("MLX's mode {other:?} is not known here")),
        }
    };
    let mut quantizer = Quantizer::new(Takes::Matrices, of(declared)?);
    for (name, module) in declared {
        match module {
            Value::Object(module) => {
                quantizer.by_module.insert(from_layers(name), of(module)?);
            }
            Value::Bool(false) if name.contains('.') => quantizer.left_out.extend(Pattern::parse(name)),
            _ => {}
        }
    }
    Ok(quantizer)
}
