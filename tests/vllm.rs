//! Against what vLLM 0.33.0's own planner made, and what servers of 0.19.0 reported (`golden/README.md`).

use std::fs;

use kvsize::catalogue;
use kvsize::engine::{Answer, Device, Engine, SettingValue};
use kvsize::estimate::Workload;
use kvsize::model::{DraftMethod, Model};
use kvsize::source::{of_json, resolve};
use kvsize::units::{Bytes, Code, KvDtype, Tokens};
use serde_json::{Value, json};

use crate::harness::{golden, kvsize};

fn cases(file: &str) -> Vec<Value> {
    let data: Value = serde_json::from_str(&fs::read_to_string(golden(file)).unwrap()).unwrap();
    data["cases"].as_array().unwrap().clone()
}

fn read(config: &str) -> Model {
    resolve(golden(config).to_str().unwrap()).unwrap()
}

fn device(name: &str) -> Device {
    let entry = catalogue::accelerator(name, &[]).unwrap();
    let (compute_capability, driver) = (entry.compute_capability.unwrap().value, entry.driver.unwrap().value);
    Device { id: name.to_owned().into(), compute_capability, memory_mib: driver.bytes.0 >> 20 }
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
        assert_eq!(error.code, Code::Refused, "{case}: {error}");
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
        let model = of_json(config, "a model").unwrap();
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

/// The program says no with vLLM's reason, and status 2.
#[test]
fn what_vllm_refuses_is_refused_with_its_reason() {
    for (arguments, message) in [
        (
            "phi-4 -e vllm --tp 8 -s 8k",
            "--tp: 8 neither divides the 10 KV heads nor is a multiple of them; use one that does, as engines ask",
        ),
        (
            "gpt-oss-20b -e vllm --tp 16 -s 8k",
            "--tp: 16 is more than the KV heads, which this model's class does not replicate (vllm); use at most as many \
             as there are KV heads",
        ),
        (
            "gemma-3-27b -e vllm --tp 32 --dcp 2 -s 8k",
            "--dcp: 2 is more than 1, with layers that slide (layer 0): DCP not support sliding window (vllm); use 1",
        ),
        (
            "whisper-large-v3 -e vllm --pp 2 -s 448",
            "--pp: 2 is more than 1, and pipeline parallelism is not supported for this model's class (vllm); use 1",
        ),
        (
            "nemotron-h-56b-base-8k -e vllm --tp 16 -s 8k",
            "--tp: 16 does not divide the 8 groups of Mamba2 layers, which must then be 1 (vllm); use a size that does",
        ),
        (
            "mpt-7b -e vllm -s 8k",
            "MODEL: mpt is not a model architecture that is supported for now (vllm); name another engine",
        ),
        (
            "minimax-m2.5 -e vllm --speculative-method mtp -s 8k",
            "--speculative-method: mtp is an unsupported speculative method for layers of minimax_m2 (vllm); name a --draft \
             model",
        ),
        (
            "llama-3.1-8b -e vllm -d q4_0 -s 8k",
            "--kv-dtype: q4_0 is not one of its formats: auto, fp16, bf16, fp8, fp8_e4m3, fp8_e5m2, fp8_ds_mla, \
             nvfp4_ds_mla, turboquant_k8v4, turboquant_4bit_nc, turboquant_k3v4_nc, turboquant_3bit_nc, \
             int4_per_token_head, int8_per_token_head, fp8_per_token_head, nvfp4, nvfp4_4over6 (vllm); use one of them",
        ),
        (
            "llama-3.1-8b -e vllm@0.19 -d nvfp4 -s 8k",
            "--kv-dtype: nvfp4 is not one of the formats of this version (vllm); use a newer version, or another format",
        ),
        (
            "llama-3.1-8b -e vllm --block-size 17 -s 8k",
            "--block-size: 17 is no block size that an attention backend here takes: FLASH_ATTN takes multiples of 16 \
             (vllm); use one, or leave it out",
        ),
        (
            "deepseek-v4-flash -e vllm --block-size 64 -s 8k",
            "--block-size: 64 is not a block size of DeepSeek-V4's kernels (vllm); use a multiple of 256",
        ),
        (
            "qwen3.5-27b -e vllm --disable-hybrid-kv-cache-manager -s 8k",
            "--disable-hybrid-kv-cache-manager: the KV caches of this model can't be promoted to one unified type (vllm); \
             leave it out",
        ),
        (
            "llama-3.1-8b -e vllm --shared-prefix 4k --no-enable-prefix-caching -s 8k -b 2",
            "--shared-prefix: 4,000 is shared only with prefix caching, which is off (vllm); give --enable-prefix-caching",
        ),
        (
            "llama-3.1-8b -e vllm --gpu h200-sxm9 -s 8k",
            "--gpu: h200-sxm9 is not a device known here; nearest names: h200-sxm, h100-sxm, h800-sxm; `kvsize gpus` lists all",
        ),
        (
            "llama-3.1-8b -e vllm --usage desktop -s 8k",
            "--usage: desktop is not one of its values; use one of server, offline",
        ),
    ] {
        kvsize(arguments).stderr(&format!("error: {message}\n")).status(2);
    }
}

#[test]
fn what_is_not_covered_is_refused() {
    let config =
        r#"{"model_type": "qwen4_exp_text", "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 256}"#;
    let model = of_json(config, "a model").unwrap();
    let engine: Engine = "vllm".parse().unwrap();
    let error = engine.answer(&model, &Workload::of(Tokens(8), 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "MODEL: qwen4_exp_text has caches in vLLM that are not covered here (vllm); name another engine"
    );
}

/// Layers that DeepSeek-V4's planner has no cache for are not left out of the sum.
#[test]
fn layers_of_a_drafter_without_a_cache_here_are_refused() {
    let draft = read("configs/draft--eagle3-llama3.1-8b-like.json");
    let model = resolve("deepseek-v4-flash").unwrap();
    let engine: Engine = "vllm".parse().unwrap();
    let workload = Workload::of(Tokens(8_192), 1);
    assert!(engine.answer(&model, &workload).is_ok());
    let error = engine.answer(&model.drafted(DraftMethod::Eagle, 3, Some(&draft)), &workload).unwrap_err();
    assert_eq!((error.code, error.field.as_str()), (Code::Refused, "MODEL"), "{error}");
}

/// Two batches of 2⁶⁴ − 1 tokens in flight are no number, not 2⁶⁴ − 1.
#[test]
fn tokens_in_flight_past_2_64_are_an_error() {
    let model = resolve("gpt-oss-20b").unwrap();
    let mut engine: Engine = "vllm".parse().unwrap();
    engine.settings.set("max-num-batched-tokens", SettingValue::Count(u64::MAX));
    let error = engine.answer(&model, &Workload::of(Tokens(8_192), 1)).unwrap_err();
    assert_eq!(error.code, Code::TooLarge);
}

/// Whole blocks of the prefix are kept once: 3,996 tokens are 249 blocks of 16.
#[test]
fn a_shared_prefix_is_kept_in_whole_blocks() {
    let model = resolve("llama-3.1-8b").unwrap();
    let engine: Engine = "vllm".parse().unwrap();
    let bytes = |prefix: Option<u64>| {
        let mut workload = Workload::of(Tokens(8_192), 4);
        workload.shared_prefix = prefix.map(Tokens);
        let answer = engine.answer(&model, &workload).unwrap();
        (answer.estimate.bytes.0, answer.gaps.iter().map(|gap| gap.bytes).sum::<i128>())
    };
    let block = 32 * 65_536;
    assert_eq!(bytes(None), (4 * 512 * block, 0));
    assert_eq!(bytes(Some(3_996)), ((4 * 512 - 3 * 249) * block, i128::from(3 * 12 * block / 16)));
    // 12 of its tokens are past the last whole block, and so kept four times; so are 15 that fill none.
    assert_eq!(bytes(Some(15)), (4 * 512 * block, i128::from(3 * 15 * block / 16)));
}

/// Each setting changes what vLLM's sources say it changes.
#[test]
fn settings_change_the_plan() {
    let plan = |model: &str, set: &[(&'static str, SettingValue)]| {
        let model = resolve(model).unwrap();
        let mut engine: Engine = "vllm".parse().unwrap();
        for &(name, value) in set {
            engine.settings.set(name, value);
        }
        let answer = engine.answer(&model, &Workload::of(Tokens(131_072), 1)).unwrap();
        serde_json::to_value(&answer.details).unwrap()["vllm"].take()
    };
    let window = |set: &[(&'static str, SettingValue)]| {
        let plan = plan("gpt-oss-20b", set);
        let groups = plan["groups"].as_array().unwrap();
        groups.iter().find(|group| group["kind"] == "SlidingWindowSpec").unwrap()["blocks"].as_u64().unwrap()
    };
    // `golden/README.md`, measured for a window of 128.
    assert_eq!(window(&[]), 1_033);
    assert_eq!(window(&[("async-scheduling", SettingValue::Switch(false))]), 521);
    assert_eq!(window(&[("max-num-batched-tokens", SettingValue::Count(2_048))]), 265);
    // 127 + 2 × 131,072 is more than the request; a batch of few sequences is no longer than they are.
    assert_eq!(window(&[("max-num-batched-tokens", SettingValue::Count(131_072))]), 8_193);
    assert_eq!(plan("llama-3.1-8b", &[("block-size", SettingValue::Count(64))])["block_size"], 64);
    // A hybrid that happens to have no attention caches prefixes; a model without attention does not.
    let copies = |config: &str| {
        let model = of_json(config, "a model").unwrap();
        let answer = "vllm".parse::<Engine>().unwrap().answer(&model, &Workload::of(Tokens(8_192), 1)).unwrap();
        serde_json::to_value(&answer.details).unwrap()["vllm"]["groups"][0]["blocks"].as_u64().unwrap()
    };
    let hybrid = r#"{"model_type": "granitemoehybrid", "num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4,
        "layer_types": ["mamba", "mamba", "mamba", "mamba"], "mamba_n_heads": 8, "mamba_d_head": 64, "mamba_d_state": 16, "mamba_d_conv": 4,
        "mamba_n_groups": 1}"#;
    assert_eq!(copies(hybrid), 3);
    assert_eq!(plan("falcon-mamba-7b", &[])["groups"][0]["blocks"], 1);
    // States in fp32 make the block of a hybrid cover twice as much.
    let float32 = [("mamba-cache-dtype", SettingValue::Choice("float32"))];
    let hybrid = |set| plan("granite-4.0-h-1b", set)["block_size"].as_u64().unwrap();
    assert!(hybrid(&float32) > hybrid(&[]));
}

/// Whatever catalogue model, length, format, device and layout: an answer whose gaps add up, or an error; and longer
/// requests never take less.
#[test]
fn every_model_has_an_answer_or_an_error() {
    let models: Vec<Model> = catalogue::models(&[]).map(|entry| resolve(&entry.names[0]).unwrap()).collect();
    let request = (
        0..models.len(),
        1u64..2_000_000,
        1u64..40,
        proptest::sample::select(vec!["auto", "fp8", "bf16", "turboquant_4bit_nc", "int8_per_token_head"]),
        proptest::sample::select(vec!["h100-sxm", "b200-sxm", "a100-sxm4-80gb", "rtx-4090"]),
        proptest::sample::select(vec!["vllm@0.33", "vllm@0.19"]),
        (0u32..4, 1u64..4, 0u32..3),
    );
    proptest::proptest!(|((model, len, batch, dtype, gpu, engine, (tp, pp, dcp)) in request)| {
        let model = &models[model];
        let mut workload = Workload::of(Tokens(len), batch);
        workload.kv_dtype = dtype.parse().unwrap();
        workload.layout.tp = 1 << tp;
        workload.layout.dcp = 1 << dcp;
        workload.layout.pp = pp;
        workload.encoder_len = Some(Tokens(1_500));
        workload.memory = Some(Bytes(1 << 34));
        let mut engine: Engine = engine.parse().unwrap();
        engine.device = device(gpu);
        if let Ok(answer) = engine.answer(model, &workload) {
            let ideal = Engine::ideal().answer(model, &Workload { kv_dtype: KvDtype::Given(answer.estimate.stored), ..workload });
            let gaps: i128 = answer.gaps.iter().map(|gap| gap.bytes).sum();
            if let Ok(ideal) = ideal {
                proptest::prop_assert_eq!(i128::from(ideal.estimate.bytes.0) + gaps, i128::from(answer.estimate.bytes.0));
            }
            let longer = Workload { seq_len: Tokens(len + 1), ..workload };
            // What was prepared for another length, batch and memory gives the same.
            let other = Workload { memory: None, ..Workload { seq_len: Tokens(len / 3 + 1), batch: batch + 1, ..workload } };
            let prepared = engine.answer_prepared(&engine.prepare(model, &other), model, &workload).unwrap();
            proptest::prop_assert_eq!(format!("{answer:?}"), format!("{prepared:?}"));
            if let Ok(more) = engine.answer(model, &longer) {
                proptest::prop_assert!(more.estimate.bytes >= answer.estimate.bytes);
            }
            let capacity = answer.capacity.unwrap();
            proptest::prop_assert_eq!(capacity.fits, capacity.max_seq_len == len);
        }
    });
}
