//! Computed weights against published totals, and what is refused.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::source::hf_config::parse;
use crate::units::Bytes;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn config(name: &str) -> Value {
    parse(&fs::read_to_string(golden("configs").join(name)).unwrap()).unwrap()
}

/// The parameters of a configuration.
fn total(config: &Value) -> Option<u64> {
    computed(config, None).unwrap_or_else(|reason| panic!("{reason}: {config}")).parameters
}

#[test]
fn published_totals_are_met() {
    let text = fs::read_to_string(golden("totals.jsonl")).unwrap();
    let mut seen = super::hub_tests::model_types();
    for row in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let mut config = match row["file"].as_str() {
            Some(file) => parse(&fs::read_to_string(golden(file)).unwrap()).unwrap(),
            None => row["config"].clone(),
        };
        if let Some(layers) = row["mtp"]["layers"].as_u64() {
            add_layers(&mut config, layers, &row["mtp"]["append"]);
        }
        let types = [&config["model_type"], &config["text_config"]["model_type"]];
        seen.extend(types.into_iter().filter_map(Value::as_str).map(ToOwned::to_owned));
        let more = row["mtp"]["more"].as_u64().unwrap_or_default();
        if !config.is_null() {
            assert_eq!(total(&config).map(|total| total + more), row["parameters"].as_u64(), "{}", row["name"]);
        }
    }
    for line in rows::CLASSES.lines().chain(rows::TOWERS.lines()) {
        let names = serde_json::from_str::<Value>(line).unwrap()["names"].take();
        let met = names.as_array().unwrap().iter().any(|name| seen.contains(name.as_str().unwrap()));
        assert!(met, "{names} has no total");
    }
}

/// Makes MTP layers ordinary ones: more layers, and these entries at the end of the lists of kinds.
fn add_layers(config: &mut Value, layers: u64, append: &Value) {
    let text = if config.get("text_config").is_some() { &mut config["text_config"] } else { config };
    text["num_hidden_layers"] = (text["num_hidden_layers"].as_u64().unwrap() + layers).into();
    for (key, kinds) in append.as_object().unwrap() {
        match (&mut text[key], kinds) {
            (Value::Array(list), Value::Array(kinds)) => list.extend(kinds.clone()),
            (Value::String(pattern), Value::String(kinds)) => pattern.push_str(kinds),
            (other, _) => panic!("{key}: {other}"),
        }
    }
}

#[test]
fn every_row_has_its_blocks_and_names_that_no_other_row_has() {
    for rows in [rows::CLASSES, rows::TOWERS, rows::BLOCKS] {
        let mut seen = BTreeSet::new();
        for line in rows.lines() {
            for name in serde_json::from_str::<Value>(line).unwrap()["names"].as_array().unwrap() {
                let name = name.as_str().unwrap();
                assert!(seen.insert(name.to_owned()), "{name} twice");
                assert!(Class::load(rows, name).is_some(), "{name}");
            }
        }
    }
}

#[test]
fn groups_say_how_many_ranks_divide_them() {
    let groups = |name: &str| computed(&config(name), None).unwrap().tensors.unwrap().groups;
    let heads = |name: &str| -> std::collections::BTreeSet<u64> {
        groups(name).iter().filter(|group| group.by_kv_heads > 0).map(|group| group.num_key_value_heads).collect()
    };
    // Gemma 4: 8 in a window, 2 elsewhere. Nemotron: 2 heads of attention, 8 groups of a state.
    assert_eq!(heads("google--gemma-4-26B-A4B.json"), [2, 8].into());
    assert_eq!(heads("nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.json"), [2, 8].into());
    assert_eq!(heads("meta-llama--Meta-Llama-3.1-8B.json"), [8].into());
}

#[test]
fn settings_that_change_tensors_are_refused() {
    let mut qwen = config("Qwen--Qwen3.5-27B.json");
    qwen["text_config"]["attn_output_gate"] = false.into();
    assert_eq!(
        computed(&qwen, None).unwrap_err(),
        "text_config.attn_output_gate is not true, and what tensors qwen3_5_text has then is not known here"
    );
    let falcon = serde_json::json!({"model_type": "falcon", "bias": true});
    assert!(computed(&falcon, None).unwrap_err().starts_with("bias is not false"));
    let gemma = serde_json::json!({"model_type": "gemma4_text", "attention_bias": true});
    assert!(computed(&gemma, None).unwrap_err().starts_with("attention_bias is not false"));
}

#[test]
fn a_token_passes_through_its_experts() {
    for (name, active) in
        [("mistralai--Mixtral-8x7B-v0.1", Some(12_879_925_248)), ("meta-llama--Meta-Llama-3.1-8B", None)]
    {
        assert_eq!(computed(&config(&format!("{name}.json")), None).unwrap().active_parameters, active, "{name}");
    }
}

#[test]
fn bytes_are_those_of_the_format_or_said_to_be_others() {
    let weights = |name| computed(&config(name), None).unwrap();
    let gpt_oss = weights("openai--gpt-oss-20b.json");
    assert_eq!((gpt_oss.bytes, gpt_oss.notes.len()), (Some(Bytes(13_761_264_768)), 0));
    // Its files have 688,586,727,753 bytes with the layer that predicts further tokens, its embedding and its head.
    let deepseek = weights("deepseek-ai--DeepSeek-V3.json");
    assert_eq!(deepseek.bytes, Some(Bytes(673_150_582_112)));
    // All but the headers of its 91,991 tensors, about 130 bytes each.
    let headers = 688_586_727_753 - 673_150_582_112 - deepseek.mtp_bytes.unwrap().0;
    assert_eq!(headers / 91_991, 129);
    let mut nvfp4 = config("Qwen--Qwen3-30B-A3B.json");
    nvfp4["quantization_config"] = serde_json::json!({"quant_method": "modelopt", "quant_algo": "NVFP4"});
    let nvfp4 = computed(&nvfp4, None).unwrap();
    assert!(nvfp4.notes[0].starts_with("the checkpoint is quantised (modelopt): "), "{:?}", nvfp4.notes);
    assert_eq!(nvfp4.bytes, nvfp4.parameters.map(|parameters| Bytes(2 * parameters)));
}

#[test]
fn published_numbers_of_scales_are_met() {
    // What is published of the files in 8 bits, less what is of those in 16: a scale for each square.
    for (name, published) in [
        ("Qwen--Qwen3-235B-A22B-FP8.json", 235_107_904_512u64 - 235_093_634_560),
        ("MiniMaxAI--MiniMax-M2.5.json", 228_703_644_928 - 228_689_764_864),
    ] {
        let mut config = config(name);
        config["quantization_config"] = serde_json::json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
        let weights = computed(&config, None).unwrap();
        let eight = weights.by_dtype.iter().find(|share| share.dtype == "F8_E4M3").unwrap();
        assert_eq!(eight.bytes.unwrap().0 - eight.parameters, 4 * published, "{name}");
    }
}

#[test]
fn eight_bits_are_counted_where_all_of_them_are_told() {
    let quantized = |declared: Value| {
        let mut config = config("meta-llama--Meta-Llama-3.1-8B.json");
        config["quantization_config"] = declared;
        computed(&config, None).unwrap()
    };
    let channels = |ignore: Value, strategy: &str| {
        serde_json::json!({"quant_method": "compressed-tensors", "ignore": ignore, "config_groups": {"group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "strategy": strategy, "symmetric": true},
        }}})
    };
    // What is not linear: embedding, head and norms; what is: 6144 + 4096 + 28672 + 4096 rows in each of 32 layers.
    let rest = 2 * 128_256 * 4096 + 65 * 4096;
    let linear = 8_030_261_248 - rest;
    let eight = quantized(channels(serde_json::json!(["lm_head"]), "channel"));
    assert_eq!(eight.bytes, Some(Bytes(2 * rest + linear + 4 * 32 * (6144 + 4096 + 28_672 + 4096))));
    let dtypes: Vec<_> = eight.by_dtype.iter().map(|share| (share.dtype.as_str(), share.parameters)).collect();
    assert_eq!((dtypes, eight.notes.len()), (vec![("BF16", rest), ("I8", linear)], 0));
    // Squares of 128: 32 x (48 + 32 + 224) x 32 of them and 32 x 32 x 112 in layers.
    let squares = serde_json::json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
    let scales = 32 * ((48 + 32 + 224) * 32 + 32 * 112);
    assert_eq!(quantized(squares).bytes, Some(Bytes(2 * rest + linear + 4 * scales)));
    // Half a byte for each linear weight, two and a half for each 128 of them, two for all else.
    let mut mistral = config("mistralai--Mistral-7B-v0.1.json");
    mistral["quantization_config"] =
        serde_json::json!({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true});
    let linear = 7_241_732_096 - 2 * 32_000 * 4096 - 65 * 4096;
    let four = linear / 2 + linear / 128 * 5 / 2 + 2 * (2 * 32_000 * 4096 + 65 * 4096);
    assert_eq!(computed(&mistral, None).unwrap().bytes, Some(Bytes(four)));
    // A linear layer that is left out stays in 16 bits: 4096 x 14336 of a layer, with a scale less for each row.
    let less = quantized(channels(serde_json::json!(["lm_head", "model.layers.0.mlp.down_proj"]), "channel"));
    assert_eq!(less.bytes, eight.bytes.map(|bytes| Bytes(bytes.0 + 4096 * 14_336 - 4 * 4096)));
    // Names that no layer has leave nothing out, in layers or modules.
    let awq = |skipped: Value| serde_json::json!({"quant_method": "awq", "bits": 4, "group_size": 128, "modules_to_not_convert": skipped});
    assert_eq!(quantized(awq(serde_json::json!(["visual"]))).bytes, quantized(awq(Value::Null)).bytes);
    // What is not told by its keys.
    for other in [
        channels(serde_json::json!(["lm_head", "re:(unclosed"]), "channel"),
        channels(serde_json::json!(["lm_head"]), "group"),
        serde_json::json!({"quant_method": "fp8"}),
        serde_json::json!({"quant_method": "fp8", "weight_block_size": [128, 0]}),
        serde_json::json!({"quant_method": "awq", "bits": 4}),
        serde_json::json!({"quant_method": "awq", "bits": 3, "group_size": 128}),
        serde_json::json!({"quant_method": "gptq", "bits": 4, "group_size": 0}),
        serde_json::json!({"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"+:.*": {"bits": 8}}}),
        serde_json::json!({"quant_method": "modelopt", "quant_algo": "NVFP4"}),
        serde_json::json!({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}),
        serde_json::json!({"quant_method": "aqlm"}),
    ] {
        let weights = quantized(other.clone());
        assert_eq!((weights.bytes, weights.notes.len()), (Some(Bytes(2 * 8_030_261_248)), 1), "{other}");
    }
}

#[test]
fn what_is_not_known_has_a_reason_and_no_figure() {
    let refusal = |config| computed(&config, None).unwrap_err();
    assert_eq!(
        refusal(config("class-default--stablelm.json")),
        "the tensors of model_type \"stablelm\" are not known here one by one"
    );
    let llama = || config("meta-llama--Meta-Llama-3.1-8B.json");
    let with = |key: &str, value: Value| {
        let mut config = llama();
        config[key] = value;
        refusal(config)
    };
    assert_eq!(with("vocab_size", Value::Null), "vocab_size is not in the config");
    assert_eq!(
        with("architectures", serde_json::json!(["LlamaForSequenceClassification"])),
        "the tensors of \
         LlamaForSequenceClassification are not known here one by one"
    );
    assert_eq!(
        with("vision_config", serde_json::json!({})),
        "the config has parts beside the text model, whose tensors \
         are not known here"
    );
    let other = "the tensors of MiniMaxM2ForCausalLM are not known here one by one";
    assert_eq!(with("architectures", serde_json::json!(["MiniMaxM2ForCausalLM"])), other);
    let large = serde_json::json!(u64::MAX);
    assert_eq!(with("vocab_size", large), "the weights exceed 2^64 - 1 bytes");
}

proptest::proptest! {
    #[test]
    fn no_dimensions_make_it_panic(
        name in proptest::sample::select(vec![
            "meta-llama--Meta-Llama-3.1-8B", "deepseek-ai--DeepSeek-V3", "Qwen--Qwen3-30B-A3B", "openai--gpt-oss-20b",
            "../pool/google--gemma-3-12b-it", "../pool/moonshotai--Kimi-VL-A3B-Instruct",
            "../pool/meta-llama--Llama-4-Scout-17B-16E-Instruct", "../pool/ibm-granite--granite-vision-3.3-2b",
            "../pool/RedHatAI--Mistral-Small-3.1-24B-Instruct-2503-quantized.w8a8",
            "Qwen--Qwen3.5-122B-A10B", "Qwen--Qwen3-VL-2B-Instruct", "google--gemma-4-26B-A4B", "zai-org--GLM-5.2-FP8",
            "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "LiquidAI--LFM2.5-VL-1.6B-text",
            "handwritten--granite-4.0-h-small-like",
        ]),
        changes in proptest::collection::vec((0usize..400, proptest::sample::select(vec![
            serde_json::json!(0), serde_json::json!(1), serde_json::json!(u64::MAX), serde_json::json!(1u64 << 32),
            serde_json::json!(70_000), serde_json::json!(-1), serde_json::json!("x"), serde_json::json!(1.5),
            serde_json::json!([]), serde_json::json!({}), Value::Null, serde_json::json!(true),
        ])), 1..4),
    ) {
        let mut config = config(&format!("{name}.json"));
        for (at, value) in changes {
            // A key of the whole, or of one of its parts.
            let parts = ["", "/text_config", "/vision_config", "/quantization_config"];
            let part = config.pointer_mut(parts[at % parts.len()]).and_then(Value::as_object_mut);
            if let Some(part) = part.filter(|part| !part.is_empty()) {
                let keys: Vec<String> = part.keys().cloned().collect();
                part.insert(keys[at / parts.len() % keys.len()].clone(), value);
            }
        }
        if let Ok(weights) = computed(&config, None) {
            let active = weights.active_parameters.unwrap_or_default();
            proptest::prop_assert!(weights.parameters.is_some_and(|parameters| active <= parameters));
        }
        let _ = experts(&config);
    }
}
