//! Against what vLLM 0.33.0's own planner made, and what servers of 0.19.0 reported (`golden/README.md`).

use std::fs;

use kvsize::catalogue;
use kvsize::engine::{Answer, Device, Engine, SettingValue};
use kvsize::estimate::{EstimateError, Workload};
use kvsize::model::{DraftMethod, Model};
use kvsize::source::resolve;
use kvsize::units::{Bytes, KvDtype, Tokens};
use serde_json::{Value, json};

use crate::harness::golden;

fn cases(file: &str) -> Vec<Value> {
    let data: Value = serde_json::from_str(&fs::read_to_string(golden(file)).unwrap()).unwrap();
    data["cases"].as_array().unwrap().clone()
}

fn read(config: &str) -> Model {
    resolve(golden(config).to_str().unwrap(), &mut std::io::empty(), &[]).unwrap()
}

fn device(name: &str) -> Device {
    let entry = catalogue::device(name).unwrap();
    Device { id: name.into(), compute_capability: entry.compute_capability, memory_mib: entry.memory_mib }
}

/// What a case asks for: the model with its drafter, the workload and the engine.
fn request(case: &Value) -> (Model, Workload, Engine) {
    let request = &case["request"];
    let count = |key: &str| request[key].as_u64().unwrap_or(1);
    let mut model = read(case["config"].as_str().unwrap());
    if let Some(method) = request["speculative"]["method"].as_str() {
        let method = match method {
            "mtp" => DraftMethod::Mtp,
            "ngram" => DraftMethod::Ngram,
            "eagle3" => DraftMethod::Eagle,
            _ => DraftMethod::DraftModel,
        };
        let draft = request["speculative"]["model"].as_str().map(read);
        let tokens = request["speculative"]["num_speculative_tokens"].as_u64().unwrap();
        model = model.drafted(method, tokens, draft.as_ref());
    }
    let mut workload = Workload::of(Tokens(count("seq_len")), 1);
    workload.kv_dtype = request["kv_dtype"].as_str().unwrap().parse().unwrap();
    (workload.layout.tp, workload.layout.pp, workload.layout.dcp) = (count("tp"), count("pp"), count("dcp"));
    let mut engine: Engine = request["engine"].as_str().unwrap().parse().unwrap();
    engine.device = device(request["gpu"].as_str().unwrap());
    for (key, name) in [
        ("async_scheduling", "async-scheduling"),
        ("prefix_caching", "enable-prefix-caching"),
        ("disable_hybrid_kv_cache_manager", "disable-hybrid-kv-cache-manager"),
    ] {
        if let Some(on) = request[key].as_bool() {
            engine.settings.set(name, SettingValue::Switch(on));
        }
    }
    if let Some(tokens) = request["max_num_batched_tokens"].as_u64() {
        engine.settings.set("max-num-batched-tokens", SettingValue::Count(tokens));
    }
    if request["usage"] == "offline" {
        engine.settings.set("usage", SettingValue::Choice("offline"));
    }
    (model, workload, engine)
}

/// The figures of an answer under the golden data's names.
fn figures(answer: &Answer) -> Value {
    let plan = serde_json::to_value(&answer.details).unwrap()["vllm"].take();
    json!({
        "bytes_per_gpu": answer.estimate.bytes_per_gpu.0,
        "bytes_per_block": plan["bytes_per_block"],
        "blocks_per_request": plan["blocks_per_request"],
        "groups": sorted(&plan["groups"]),
    })
}

/// Groups without their order, which vLLM takes from the order in which it meets the layers.
fn sorted(groups: &Value) -> Value {
    let mut groups = groups.as_array().unwrap().clone();
    groups.sort_by_key(Value::to_string);
    groups.into()
}

#[test]
fn vllm_equals_what_its_planner_made() {
    let (mut compared, mut failures) = (0, Vec::new());
    for case in cases("vllm.json") {
        let (model, mut workload, engine) = request(&case);
        let expect = &case["expect"];
        if !expect["refused"].is_null() {
            continue;
        }
        let mut differs = |what: String| failures.push(format!("{}: {what}\n  {}", case["id"], case["request"]));
        let expected = json!({
            "bytes_per_gpu": expect["bytes_per_gpu"],
            "bytes_per_block": expect["bytes_per_block"],
            "blocks_per_request": expect["blocks_per_request"],
            "groups": sorted(&expect["groups"]),
        });
        match engine.answer(&model, &workload) {
            Ok(answer) if figures(&answer) == expected => {}
            Ok(answer) => differs(format!("{}\n  != {expected}", figures(&answer))),
            Err(error) => differs(error.to_string()),
        }
        for capacity in expect["capacity"].as_array().unwrap() {
            workload.memory = capacity["memory"].as_u64().map(Bytes);
            let found = engine.answer(&model, &workload).map(|answer| serde_json::to_value(answer.capacity).unwrap());
            if found.as_ref() != Ok(capacity) {
                differs(format!("{found:?} != {capacity}"));
            }
        }
        compared += 1;
    }
    assert!(failures.is_empty(), "{} of {compared}\n{}", failures.len(), failures.join("\n"));
    assert_eq!(compared, 738);
}

/// What both vLLM's refusal and ours say, so that a case is refused for its own reason.
const REASONS: &[(&str, &str)] = &[
    ("No valid attention backend found", "has no valid attention backend"),
    ("DeepseekV4 fp8_ds_mla layout only supports fp8", "fp8_ds_mla layout only supports an fp8 cache"),
    ("Total number of attention heads", "does not divide the total number of attention heads"),
    ("FP8 KV cache is not supported by the Triton MLA backend", "not supported by the Triton MLA backend"),
    ("FP8 KV cache is not supported by the Triton attention backend", "not supported by the Triton attention backend"),
    ("DCP for FlashMLA sparse requires an fp8_ds_mla", "DCP, which for FlashMLA sparse requires an fp8_ds_mla"),
    ("DCP not support sliding window", "DCP not support sliding window"),
    ("does not dispatch through the Transformers attention", "do not dispatch through the Transformers attention"),
    ("Decode context parallelism for GQA/MQA requires", "requires, for GQA/MQA, a tensor parallel size"),
    ("are not supported for now", "is not a model architecture that is supported for now"),
];

#[test]
fn vllm_refuses_what_it_refused_and_for_the_same_reason() {
    let mut compared = 0;
    for case in cases("vllm.json") {
        let Some(refused) = case["expect"]["refused"].as_str() else { continue };
        let (model, workload, engine) = request(&case);
        let error = engine.answer(&model, &workload).unwrap_err();
        assert!(matches!(error, EstimateError::Refused { engine: "vllm", .. }), "{case}: {error}");
        let said = error.to_string();
        assert!(
            REASONS.iter().any(|(theirs, ours)| refused.contains(theirs) && said.contains(ours)),
            "{said}\n  {refused}"
        );
        compared += 1;
    }
    assert_eq!(compared, 48);
}

/// The steps from the ideal figure add up to the bytes, in every case.
#[test]
fn gaps_add_up_from_the_ideal_to_vllm() {
    for case in cases("vllm.json") {
        let (model, workload, engine) = request(&case);
        let Ok(answer) = engine.answer(&model, &workload) else { continue };
        // Packed latents are not a format that the ideal figure could be had in.
        let packed = answer.estimate.stored.name().is_some_and(|name| name.ends_with("_ds_mla"));
        let format = if packed { "fp8".parse().unwrap() } else { KvDtype::Given(answer.estimate.stored) };
        let ideal = Engine::ideal().answer(&model, &Workload { kv_dtype: format, ..workload });
        let gaps: i128 = answer.gaps.iter().map(|gap| gap.bytes).sum();
        let ideal = i128::from(ideal.unwrap().estimate.bytes.0);
        assert_eq!(ideal + gaps, i128::from(answer.estimate.bytes.0), "{}: {:?}", case["id"], answer.gaps);
        assert!(answer.gaps.iter().all(|gap| gap.bytes != 0 && !gap.reason.is_empty()));
    }
}

/// A configuration with the dimensions that a server's log is annotated with.
fn configuration(dims: &Value) -> Value {
    let layers = dims["L"].as_u64().unwrap();
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "num_hidden_layers": layers, "num_attention_heads": dims["kv"].as_u64().unwrap_or(16) * 4, "num_key_value_heads": dims["kv"],
        "head_dim": dims["hd"], "hidden_size": 5120, "max_position_embeddings": 131_072,
    });
    let of_kind = |kind: &str| {
        let full = dims["nfull"].as_u64().unwrap();
        let kinds = (0..layers).map(|layer| if layer < full { "full_attention" } else { kind });
        json!(kinds.collect::<Vec<_>>())
    };
    let mut set = |values: Value| config.as_object_mut().unwrap().extend(values.as_object().unwrap().clone());
    if let Some(latent) = dims["mla"].as_u64() {
        set(json!({"architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "qk_nope_head_dim": 128,
            "v_head_dim": 128, "kv_lora_rank": latent - 64, "qk_rope_head_dim": 64}));
    } else if let Some(chunk) = dims["chunk"].as_u64() {
        set(json!({"architectures": ["Llama4ForCausalLM"], "model_type": "llama4_text",
            "attention_chunk_size": chunk, "layer_types": of_kind("chunked_attention")}));
    } else if let Some(window) = dims["win"].as_u64() {
        set(json!({"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "sliding_window": window,
            "layer_types": of_kind("sliding_attention")}));
    }
    config
}

/// Blocks from the memory that the log prints to two decimals, within one; tokens and concurrency exactly from the blocks.
#[test]
fn vllm_0_19_equals_what_servers_reported() {
    let mut compared = 0;
    for log in cases("server-logs/vllm.json") {
        if log["vllm_version"] != "0.19.0" || log["model_dims"].is_null() {
            continue;
        }
        let config = configuration(&log["model_dims"]).to_string();
        let model = resolve("-", &mut config.as_bytes(), &[]).unwrap();
        let mut engine: Engine = "vllm@0.19".parse().unwrap();
        engine.settings.set("enable-prefix-caching", SettingValue::Switch(log["enable_prefix_caching"] == true));
        let mut workload = Workload::of(Tokens(log["max_model_len"].as_u64().unwrap()), 1);
        workload.kv_dtype = log["kv_cache_dtype"].as_str().unwrap().parse().unwrap();
        (workload.layout.tp, workload.layout.pp) = (log["tp"].as_u64().unwrap(), log["pp"].as_u64().unwrap());
        let of = |memory: u64| {
            let answer = engine.answer(&model, &Workload { memory: Some(Bytes(memory)), ..workload }).unwrap();
            (figures(&answer)["bytes_per_block"].as_u64().unwrap(), answer.capacity.unwrap())
        };
        let (block, _) = of(1 << 30);
        // ± 0.005 GiB of the printed memory, and one block.
        let printed = log["available_kv_gib"].as_number().unwrap().to_string();
        let (whole, hundredths) = printed.split_once('.').unwrap();
        let hundredths = format!("{hundredths:0<2}").parse::<u64>().unwrap() + 100 * whole.parse::<u64>().unwrap();
        let least = ((hundredths * 10 - 5) << 30) / 1000 - block;
        let most = ((hundredths * 10 + 5) << 30) / 1000 + block;
        let tokens = log["gpu_kv_cache_tokens"].as_u64().unwrap();
        // The report of two stages is the other stage's.
        if log["pp"] == 1 {
            let (fewest, highest) = (of(least).1.tokens.unwrap(), of(most).1.tokens.unwrap());
            assert!(fewest <= tokens && tokens <= highest, "{log}: {fewest} to {highest}");
        }
        if let Some(blocks) = log["num_gpu_blocks"].as_u64() {
            let capacity = of(blocks * block).1;
            assert_eq!((capacity.blocks, capacity.tokens), (Some(blocks), Some(tokens)), "{log}");
            let concurrency = format!("{:.2}", capacity.max_concurrency.unwrap().value());
            assert_eq!(concurrency, format!("{:.2}", log["max_concurrency"].as_f64().unwrap()), "{log}");
        }
        compared += 1;
    }
    assert_eq!(compared, 37);
}
