//! Formats of checkpoints by name and by configuration, against sums that were published or computed by the libraries.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::computed;
use crate::model::{CheckpointFormat, Weights};
use crate::source::hf_config::parse;

fn golden(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

/// The configurations of the GGUF measurements, and those of published checkpoints.
fn config(name: &str) -> Value {
    let id = match name {
        "qwen3-0.6b" => "Qwen/Qwen3-0.6B",
        "qwen3-8b" => "Qwen/Qwen3-8B",
        "llama-3.2-1b" => "meta-llama/Llama-3.2-1B-Instruct",
        "llama-3.1-70b" => "meta-llama/Llama-3.1-70B-Instruct",
        other => other,
    };
    let rows = format!("{}{}", golden("gguf-weights.jsonl"), golden("hub-weights.jsonl"));
    let mut rows = rows.lines().map(|line| parse(line).unwrap());
    let row = rows.find(|row| row["model"] == id || row["id"] == id).unwrap_or_else(|| panic!("no {name}"));
    row["config"].clone()
}

fn in_format(name: &str, format: &str) -> Weights {
    let config = config(name);
    let weights = computed(&config, None).unwrap_or_else(|reason| panic!("{name}: {reason}"));
    let format: CheckpointFormat = format.parse().unwrap_or_else(|()| panic!("no {format}"));
    weights.in_format(format, config["model_type"].as_str()).unwrap().unwrap()
}

fn stored(weights: &Weights) -> u64 {
    weights.stored.or(weights.bytes).unwrap().0
}

#[test]
fn all_decoder_linears_have_the_bytes_of_the_libraries() {
    let all = parse(&golden("checkpoint-formats.json")).unwrap();
    let mut compared = 0;
    for (model, totals) in all["totals_all_decoder_linears_quantised_rest_16_bit"].as_object().unwrap() {
        for (format, expected) in totals.as_object().unwrap() {
            let name = match format.as_str() {
                "awq_g128" => "awq",
                "gptq_g128" => "gptq",
                "ct_w4a16_g128_sym" => "w4a16",
                "ct_fp8_channel" => "fp8",
                "deepseek_fp8_block128" => "fp8-block",
                "modelopt_nvfp4" => "nvfp4",
                // Scales in bf16, which a configuration declares: below.
                "ct_fp8_block128" => continue,
                other => panic!("{other}"),
            };
            assert_eq!(stored(&in_format(model, name)), expected.as_u64().unwrap(), "{model} {format}");
            compared += 1;
        }
        let mut declared = config(model);
        declared["quantization_config"] = serde_json::json!({"quant_method": "compressed-tensors",
            "format": "float-quantized", "ignore": ["lm_head"], "config_groups": {"group_0": {"targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}}}});
        let weights = computed(&declared, None).unwrap();
        assert_eq!(Some(stored(&weights)), totals["ct_fp8_block128"].as_u64(), "{model} block");
        compared += 1;
    }
    assert_eq!(compared, 42);
}

#[test]
fn published_checkpoints_have_the_bytes_that_are_stated() {
    let all = parse(&golden("checkpoint-formats.json")).unwrap();
    let mut compared = 0;
    for check in all["checks"].as_array().unwrap() {
        let (model, format) = match check["checkpoint"].as_str().unwrap() {
            "Qwen3-32B-AWQ" => ("qwen3-32b", "awq"),
            "gpt-oss-20b" => ("gpt-oss-20b", "mxfp4"),
            "mlx Qwen3-0.6B-4bit" => ("qwen3-0.6b", "mlx-4bit"),
            "mlx Qwen3-1.7B-4bit" => ("qwen3-1.7b", "mlx-4bit"),
            "mlx Llama-3.2-1B-Instruct-4bit" => ("llama-3.2-1b", "mlx-4bit"),
            "mlx Qwen3-0.6B-8bit" => ("qwen3-0.6b", "mlx-8bit"),
            // Another program's format.
            "MLC Qwen3-8B q4f16_1 (4.5 bits, all matrices)" => continue,
            other => panic!("{other}"),
        };
        let expected = check["published_tensor_bytes"].as_u64().or(check["predicted"].as_u64()).unwrap();
        assert_eq!(stored(&in_format(model, format)), expected, "{check}");
        compared += 1;
    }
    assert_eq!(compared, 6);
}

/// What the hub counts of a quantized repository: it was found row by row as what meets the total, so that `parameters` tests
/// no format.
fn counted(counts: &str, weights: &Weights) -> [u64; 2] {
    let tensors = weights.tensors.as_ref().unwrap().checkpoint.as_ref().unwrap();
    match counts {
        // Elements of the matrices before they were quantized, and no scales.
        "parameters" => [weights.parameters.unwrap(), weights.mtp_parameters.unwrap_or_default()],
        // All tensors as they are stored.
        "stored" => tensors.elements(|stored| stored.iter().map(|stored| stored.elements).sum()),
        // The packed elements, and no scales.
        "packed" => tensors.elements(|stored| stored[0].elements),
        other => panic!("{other}"),
    }
}

/// The elements of a row: those that are counted, and what its files hold in addition.
fn elements(row: &Value, config: &Value) -> u64 {
    let model_type = config["text_config"]["model_type"].as_str().or(config["model_type"].as_str());
    let format: CheckpointFormat = row["format"].as_str().unwrap().parse().unwrap();
    let weights = computed(config, None).unwrap().in_format(format, model_type).unwrap().unwrap();
    let text = config.get("text_config").unwrap_or(config);
    let [elements, mtp] = counted(row["counts"].as_str().unwrap(), &weights);
    let parts = row["parts"].as_array().into_iter().flatten().map(|part| match part.as_str().unwrap() {
        "mtp" => mtp,
        "lm_head" => text["hidden_size"].as_u64().unwrap() * text["vocab_size"].as_u64().unwrap(),
        other => panic!("{other}"),
    });
    elements + parts.sum::<u64>()
}

#[test]
fn quantized_repositories_hold_what_is_computed() {
    let hub = golden("hub-weights.jsonl");
    let hub: Vec<Value> = hub.lines().map(|line| parse(line).unwrap()).collect();
    let mut met = 0;
    for row in golden("hub-quantized.jsonl").lines().map(|line| parse(line).unwrap()) {
        let base = hub.iter().find(|base| base["id"] == row["base"]).unwrap();
        assert_eq!(Some(elements(&row, &base["config"])), row["stored_elements"].as_u64(), "{row}");
        met += 1;
    }
    assert!(met > 100, "{met}");
}

/// A list of exceptions of a published file: NVIDIA's of Gemma 4 26B leaves attention and the dense feed-forward of every layer,
/// and the tower.
#[test]
fn exceptions_leave_experts_quantized() {
    let hub = golden("hub-weights.jsonl");
    let mut hub = hub.lines().map(|line| parse(line).unwrap());
    let mut config = hub.find(|row| row["id"] == "google/gemma-4-26B-A4B-it").unwrap()["config"].take();
    let ignored = (0..30).flat_map(|layer| {
        ["mlp", "router", "self_attn"].map(|part| format!("model.language_model.layers.{layer}.{part}*"))
    });
    let ignored: Vec<String> = ignored.chain(["lm_head".into(), "model.vision_tower*".into()]).collect();
    config["quantization_config"] =
        serde_json::json!({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ignored});
    let weights = computed(&config, None).unwrap();
    let packed = counted("packed", &weights)[0];
    // The hub's count of nvidia/Gemma-4-26B-A4B-NVFP4 is without a scalar of each layer and two vectors of the tower.
    assert_eq!(packed - 30 - 2 * 1152, 14_386_941_232);
}
