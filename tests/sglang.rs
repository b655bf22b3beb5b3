//! Against pools that SGLang really sized and built (`golden/README.md`), number for number.

use std::fs;

use kvsize::engine::{Answer, Device, Double, Engine};
use kvsize::estimate::{Layout, Workload, estimate};
use kvsize::model::Model;
use kvsize::source::{of_json, resolve};
use kvsize::units::{Bytes, Code, Error, KvDtype, Tokens};
use proptest::prelude::*;
use serde_json::Value;

use crate::harness::{golden, kvsize};

/// What of a request is not a setting of the engine.
const WORKLOAD: &[&str] = &["engine", "kv_dtype", "tp", "gpu", "seq_len", "memory"];

fn cases() -> Vec<Value> {
    let data: Value = serde_json::from_str(&fs::read_to_string(golden("sglang.json")).unwrap()).unwrap();
    data["cases"].as_array().unwrap().clone()
}

fn model(case: &Value) -> Model {
    let config = golden(case["config"].as_str().unwrap());
    resolve(config.to_str().unwrap()).unwrap()
}

fn device(name: &str) -> Device {
    match name {
        "h100-sxm" => Device::default(),
        "b200-sxm" => Device { id: name.to_owned().into(), compute_capability: (10, 0), memory_mib: 183_359 },
        other => panic!("{other}"),
    }
}

/// The engine and the workload of a request.
fn asked(request: &Value) -> (Engine, Workload) {
    let mut engine: Engine = request["engine"].as_str().unwrap().parse().unwrap();
    engine.device = device(request["gpu"].as_str().unwrap());
    for (name, value) in request.as_object().unwrap() {
        if WORKLOAD.contains(&name.as_str()) {
            continue;
        }
        let setting = engine.setting(&name.replace('_', "-")).unwrap_or_else(|| panic!("{name} is no setting"));
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        engine.settings.set(setting.name, setting.read(&text).unwrap());
    }
    let number = |name: &str| request[name].as_u64().unwrap();
    let workload = Workload {
        kv_dtype: request["kv_dtype"].as_str().unwrap().parse().unwrap(),
        layout: Layout { tp: number("tp"), ..Layout::default() },
        memory: Some(Bytes(number("memory"))),
        ..Workload::of(Tokens(number("seq_len")), 1)
    };
    (engine, workload)
}

fn answer(model: &Model, request: &Value) -> Result<Answer, Error> {
    let (engine, workload) = asked(request);
    engine.answer(model, &workload)
}

/// What `expected` lists and `found` has otherwise; a whole number equals itself whichever way it is written.
fn differences(path: &str, expected: &Value, found: &Value, differences: &mut Vec<String>) {
    match expected {
        Value::Object(fields) => {
            for (name, expected) in fields {
                self::differences(&format!("{path}{name}."), expected, &found[name], differences);
            }
        }
        Value::Number(number) if number.is_f64() => {
            if found.as_f64() != number.as_f64() {
                differences.push(format!("{path} {found} != {expected}"));
            }
        }
        _ => {
            if found != expected {
                differences.push(format!("{path} {found} != {expected}"));
            }
        }
    }
}

#[test]
fn sglang_equals_what_it_sized_and_built() {
    let mut failures = Vec::new();
    let cases = cases();
    for case in &cases {
        let (id, request) = (case["id"].as_str().unwrap(), &case["request"]);
        let mut found = Vec::new();
        match answer(&model(case), request) {
            Err(error) => found.push(error.to_string()),
            Ok(answer) => {
                let details = serde_json::to_value(answer.details.unwrap()).unwrap();
                let details = &details["sglang"];
                differences("", &case["expect"], details, &mut found);
                let resolved = &case["resolved"];
                differences("dtype ", &resolved["kv_dtype"], &details["kv_cache_dtype"], &mut found);
                differences("backend ", &resolved["attention_backend"], &details["attention_backend"], &mut found);
                let capacity = answer.capacity.unwrap();
                let tokens = case["expect"]["max_total_num_tokens"].as_u64();
                if (capacity.fits, capacity.tokens) != (true, tokens) {
                    found.push(format!("capacity {capacity:?}"));
                }
            }
        }
        if !found.is_empty() {
            failures.push(format!("{id} {} {request}: {}", case["model"], found.join("; ")));
        }
    }
    assert!(failures.is_empty(), "{} of {}\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert_eq!(cases.len(), 309);
}

/// The engine with these settings, and the workload of these numbers.
fn asked_of(
    config: &str,
    settings: &[(&str, &str)],
    kv_dtype: &str,
    seq_len: u64,
    batch: u64,
) -> (Model, Engine, Workload) {
    let model = resolve(golden("configs").join(config).to_str().unwrap()).unwrap();
    let mut engine: Engine = "sglang".parse().unwrap();
    for (name, text) in settings {
        let setting = engine.setting(name).unwrap();
        engine.settings.set(setting.name, setting.read(text).unwrap());
    }
    let workload = Workload { kv_dtype: kv_dtype.parse().unwrap(), ..Workload::of(Tokens(seq_len), batch) };
    (model, engine, workload)
}

const GIB: u64 = 1 << 30;

/// Figures of the notes beside the golden data, of runs that are not among the cases: the field, and its value.
#[test]
fn figures_of_runs_that_are_not_among_the_cases() {
    for (config, settings, kv_dtype, gpu, field, value) in [
        ("nvidia--DeepSeek-V4-Pro-NVFP4.json", &[][..], "auto", "h100-sxm", "/cell_size", 10_115.25),
        (
            "deepseek-ai--DeepSeek-V3.json",
            &[("attention-backend", "flashinfer")],
            "fp4_mx_block16",
            "h100-sxm",
            "/cell_size",
            19_764.0,
        ),
        ("zai-org--GLM-5.2-FP8.json", &[], "fp8_e4m3", "h100-sxm", "/cell_size", 53_940.0),
        ("zai-org--GLM-5-FP8.json", &[], "auto", "b200-sxm", "/cell_size", 55_224.0),
        ("deepseek-ai--DeepSeek-V3.2.json", &[], "auto", "b200-sxm", "/cell_size", 43_188.0),
        ("stepfun-ai--Step-3.7-Flash-as-step3p5.json", &[], "auto", "h100-sxm", "/cell_size", 157_286.400_000_000_02),
        ("LiquidAI--LFM2.5-VL-1.6B-text.json", &[], "auto", "h100-sxm", "/mamba/slots_max_mamba_cache_size", 248_345.0),
        ("LiquidAI--LFM2.5-VL-1.6B-text.json", &[], "auto", "h100-sxm", "/mamba/bytes_per_slot_all_layers", 81_920.0),
        (
            "Qwen--Qwen3-Next-80B-A3B-Instruct.json",
            &[],
            "auto",
            "h100-sxm",
            "/mamba/bytes_per_slot_all_layers",
            77_266_944.0,
        ),
        (
            "Qwen--Qwen3-Next-80B-A3B-Instruct.json",
            &[("mamba-ssm-dtype", "bfloat16")],
            "auto",
            "h100-sxm",
            "/mamba/bytes_per_slot_all_layers",
            39_518_208.0,
        ),
    ] {
        let (model, mut engine, workload) = asked_of(config, settings, kv_dtype, 4_096, 1);
        engine.device = device(gpu);
        let workload = Workload { memory: Some(Bytes(40 * GIB)), ..workload };
        let details = serde_json::to_value(engine.answer(&model, &workload).unwrap().details).unwrap();
        let found = details["sglang"].pointer(field).unwrap();
        assert_eq!(found.as_f64(), Some(value), "{config} {field}");
    }
}

/// What SGLang refuses, and why.
#[test]
fn what_sglang_refuses_is_refused() {
    let llama = "meta-llama--Meta-Llama-3.1-8B.json";
    for (config, settings, kv_dtype, gpu, reason) in [
        (llama, &[][..], "mxfp8", "h100-sxm", "requires an SM100+ (Blackwell) GPU"),
        (llama, &[], "nvfp4", "h100-sxm", "requires Blackwell SM100 or SM120"),
        (
            llama,
            &[],
            "fp4_mx_block16",
            "h100-sxm",
            "of MHA expects attention_backend to be one of triton, torch_native",
        ),
        (llama, &[], "q8_0", "h100-sxm", "is not a format of its cache"),
        (llama, &[("attention-backend", "trtllm_mla")], "auto", "h100-sxm", "is only supported on Blackwell GPUs"),
        (llama, &[("mamba-radix-cache-strategy", "extra_buffer")], "auto", "h100-sxm", "needs mamba state"),
        (llama, &[("dp-size", "2")], "auto", "h100-sxm", "makes replicas"),
        (llama, &[("mem-fraction-static", "0.8")], "auto", "h100-sxm", "is of a device's whole memory"),
        (llama, &[("enable-unified-memory", "true")], "auto", "h100-sxm", "only supports hybrid Mamba"),
        (llama, &[("swa-full-tokens-ratio", "1.5")], "auto", "h100-sxm", "is above 1"),
        (llama, &[("dsa-decode-backend", "fa3")], "auto", "h100-sxm", "is for models of DeepSeek sparse attention"),
        (
            llama,
            &[("speculative-algorithm", "EAGLE"), ("speculative-num-steps", "3")],
            "auto",
            "h100-sxm",
            "without all three",
        ),
        ("deepseek-ai--DeepSeek-V3.json", &[], "fp4_mx_block16", "h100-sxm", "of MLA expects attention_backend"),
        ("deepseek-ai--DeepSeek-V3.json", &[], "nvfp4", "b200-sxm", "but backend trtllm_mla provides neither"),
        (
            "deepseek-ai--DeepSeek-V3.json",
            &[],
            "fp4_mx_block16",
            "b200-sxm",
            "only supports a cache in fp8_e4m3, bf16 or auto",
        ),
        (
            "deepseek-ai--DeepSeek-V3.2.json",
            &[],
            "fp8_e5m2",
            "h100-sxm",
            "is not a format of DeepSeek sparse attention",
        ),
        (
            "deepseek-ai--DeepSeek-V3.2.json",
            &[("dsa-decode-backend", "tilelang")],
            "fp8_e4m3",
            "h100-sxm",
            "mix the raw layout",
        ),
        ("deepseek-ai--DeepSeek-V4-Flash.json", &[], "mxfp8", "b200-sxm", "is not supported for DeepseekV4ForCausalLM"),
        ("Qwen--Qwen3.5-27B.json", &[], "nvfp4", "b200-sxm", "but backend triton provides neither"),
        (
            "Qwen--Qwen3.5-27B.json",
            &[("mamba-radix-cache-strategy", "no_buffer")],
            "auto",
            "h100-sxm",
            "does not support overlap",
        ),
        (
            "LiquidAI--LFM2.5-VL-1.6B-text.json",
            &[("mamba-radix-cache-strategy", "extra_buffer")],
            "auto",
            "h100-sxm",
            "is not supported for Lfm2",
        ),
        ("class-default--rwkv.json", &[], "auto", "h100-sxm", "keeps no states for"),
        ("class-default--t5.json", &[], "auto", "h100-sxm", "is an encoder-decoder"),
    ] {
        let (model, mut engine, workload) = asked_of(config, settings, kv_dtype, 4_096, 1);
        engine.device = device(gpu);
        let error = engine.answer(&model, &workload).unwrap_err().to_string();
        assert!(error.contains(reason), "{config} {settings:?} {kv_dtype}: {error}");
    }
}

fn model_of(text: &str) -> Model {
    of_json(text, "model").unwrap()
}

/// The 16-bit type follows what the checkpoint declares, not what is noted of it.
#[test]
fn the_declared_dtype_decides_the_16_bits() {
    for (model_type, dtype, expected) in [
        ("llama", r#""torch_dtype":"float32","#, "float16"),
        ("llama", r#""torch_dtype":"float16","#, "float16"),
        ("llama", r#""dtype":"bfloat16","#, "bfloat16"),
        ("llama", "", "float16"),
        ("gemma2", r#""torch_dtype":"float32","#, "bfloat16"),
    ] {
        let mut model = model_of(&format!(
            r#"{{"model_type":"{model_type}",{dtype}"num_hidden_layers":2,"num_attention_heads":8,"num_key_value_heads":8,
                "head_dim":128,"hidden_size":1024}}"#
        ));
        model.assumptions.clear();
        let engine: Engine = "sglang".parse().unwrap();
        let answer = engine.answer(&model, &Workload::of(Tokens(1_024), 1)).unwrap();
        let details = serde_json::to_value(answer.details).unwrap();
        assert_eq!(details["sglang"]["kv_cache_dtype"], expected, "{model_type} {dtype}");
    }
}

/// Compressed layers are sized by the rules of DeepSeek-V4 or not at all; a number past 64 bits is an error.
#[test]
fn what_has_no_rule_or_no_number_is_refused() {
    let engine: Engine = "sglang".parse().unwrap();
    let group = r#"{"kind":"compressed_attention","layers":2,"head_dim":512,"ratio":4,"state_elements":1}"#;
    let compressed = model_of(&format!(r#"{{"layer_groups":[{group}]}}"#));
    let error = engine.answer(&compressed, &Workload::of(Tokens(1_024), 1)).unwrap_err();
    assert_eq!((error.code, error.field.as_str()), (Code::Refused, "MODEL"));
    let (model, engine, workload) = asked_of("Qwen--Qwen3-8B.json", &[], "auto", 1 << 40, 1 << 40);
    assert_eq!(engine.answer(&model, &workload).unwrap_err().code, Code::TooLarge);
}

/// Memory that is too small is an answer, with SGLang's reason.
#[test]
fn memory_that_is_too_small_does_not_fit() {
    let scout = "meta-llama--Llama-4-Scout-17B-16E-Instruct.json";
    for (config, settings, memory, reason) in [
        (
            scout,
            &[("disable-radix-cache", "true"), ("max-running-requests", "64")][..],
            40 * GIB,
            "SWA pool cap (548993 tokens",
        ),
        ("Qwen--Qwen3.5-27B.json", &[], GIB, "too few for one request"),
        ("Qwen--Qwen3.5-27B.json", &[], GIB / 8, "not enough memory for one state"),
        ("deepseek-ai--DeepSeek-V4-Flash.json", &[], 2 * GIB, "are states of requests"),
        ("deepseek-ai--DeepSeek-V3.2.json", &[], 1 << 20, "not enough memory for one page"),
        ("XiaomiMiMo--MiMo-V2-Flash.json", &[], 1 << 24, "cannot hold even one request"),
    ] {
        let (model, engine, workload) = asked_of(config, settings, "auto", 10_485_760, 1);
        let workload = Workload { memory: Some(Bytes(memory)), ..workload };
        let answer = engine.answer(&model, &workload).unwrap();
        let capacity = answer.capacity.unwrap();
        assert_eq!((capacity.fits, capacity.tokens, capacity.max_seq_len), (false, None, 0), "{config}");
        assert!(answer.warnings.iter().any(|warning| warning.contains(reason)), "{config}: {:?}", answer.warnings);
        assert!(answer.estimate.bytes.0 > memory, "{config}");
    }
}

/// One buffer holds the most tokens whose two pools fit, and not a page more.
#[test]
fn a_unified_buffer_is_filled() {
    let (config, page) = ("XiaomiMiMo--MiMo-V2-Flash.json", 64);
    for memory in [GIB, 3 * GIB + 12_345, 40 * GIB] {
        let settings = [("enable-unified-memory", "true"), ("page-size", "64"), ("swa-full-tokens-ratio", "0.3")];
        let (model, engine, workload) = asked_of(config, &settings, "auto", 4_096, 1);
        let workload = Workload { memory: Some(Bytes(memory)), ..workload };
        let details = serde_json::to_value(engine.answer(&model, &workload).unwrap().details).unwrap();
        let number = |name: &str| details["sglang"][name].as_u64().unwrap();
        let (full, window) = (number("full_max_total_num_tokens"), number("swa_max_total_num_tokens"));
        // 9 full layers of 4 heads and 39 of 8, of 192 and 128 elements of 2 bytes.
        let bytes = |full: u64, window: u64| full * 9 * 4 * 320 * 2 + window * 39 * 8 * 320 * 2;
        let share = |full: u64| full * 3 / 10 / page * page;
        assert_eq!(window, share(full));
        assert!(bytes(full, window) <= memory && bytes(full + page, share(full + page)) > memory, "{memory}: {full}");
        assert!(details["sglang"]["pool_bytes"].is_null());
    }
}

/// A recurrence that SGLang has no class for is sized as its transformers wrapper is, and that is said.
#[test]
fn recurrent_layers_without_a_class_are_priced_as_attention() {
    let (model, engine, workload) = asked_of("class-default--olmo_hybrid.json", &[], "auto", 4_096, 1);
    let answer = engine.answer(&model, &workload).unwrap();
    assert!(answer.warnings.iter().any(|text| text.contains("keeps no states for")), "{:?}", answer.warnings);
    assert_eq!(answer.estimate.layer_groups.len(), 1);
    assert_eq!(answer.estimate.layer_groups[0].layers, usize::try_from(model.num_hidden_layers).unwrap());
}

/// The request table of Scout's own context, out of which a public report ran.
#[test]
fn the_request_table_is_said() {
    let (model, engine, workload) =
        asked_of("meta-llama--Llama-4-Scout-17B-16E-Instruct.json", &[], "auto", 10_485_760, 1);
    let answer = engine.answer(&model, &workload).unwrap();
    let warning = "2,049 rows of 10,485,764 columns of 4 bytes: 85,941,321,744 bytes on each GPU";
    assert!(answer.warnings.iter().any(|text| text.contains(warning)), "{:?}", answer.warnings);
    let (model, engine, workload) = asked_of("Qwen--Qwen3-8B.json", &[], "auto", 4_096, 1);
    let answer = engine.answer(&model, &workload).unwrap();
    assert!(answer.warnings.is_empty());
    assert!(answer.assumptions.iter().any(|text| text.contains("request table comes on top of the cache")));
}

/// Bytes that a workload needs are what the pools take that hold it: given just those, they hold it, and no byte less of
/// the tokens' own.
#[test]
fn a_pool_of_the_bytes_needed_holds_the_workload() {
    for (config, settings, seq_len, batch) in [
        ("meta-llama--Meta-Llama-3.1-8B.json", &[][..], 5_000, 3),
        ("meta-llama--Meta-Llama-3.1-8B.json", &[("page-size", "64")], 5_000, 3),
        ("deepseek-ai--DeepSeek-V3.2.json", &[], 5_000, 3),
        ("meta-llama--Llama-4-Scout-17B-16E-Instruct.json", &[], 5_000, 3),
        ("XiaomiMiMo--MiMo-V2-Flash.json", &[], 1, 1),
        ("deepseek-ai--DeepSeek-V4-Flash.json", &[], 1_000, 1),
        ("deepseek-ai--DeepSeek-V4-Flash.json", &[], 100_000, 4),
    ] {
        let (model, engine, workload) = asked_of(config, settings, "auto", seq_len, batch);
        let bytes = engine.answer(&model, &workload).unwrap().estimate.bytes;
        let given = Workload { memory: Some(bytes), ..workload };
        let capacity = engine.answer(&model, &given).unwrap().capacity.unwrap();
        assert!(capacity.tokens.unwrap() >= seq_len * batch, "{config}: {capacity:?} of {bytes:?}");
        assert!(capacity.max_concurrency.unwrap() >= Double::whole(batch), "{config}: {capacity:?} of {bytes:?}");
    }
}

const MODELS: &[&str] = &[
    "meta-llama--Meta-Llama-3.1-8B.json",
    "meta-llama--Llama-4-Scout-17B-16E-Instruct.json",
    "google--gemma-3-27b-it-text.json",
    "google--gemma-4-26B-A4B.json",
    "google--gemma-4-E2B.json",
    "XiaomiMiMo--MiMo-V2-Flash.json",
    "deepseek-ai--DeepSeek-V3.json",
    "deepseek-ai--DeepSeek-V3.2.json",
    "deepseek-ai--DeepSeek-V4-Flash.json",
    "Qwen--Qwen3.5-27B.json",
    "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.json",
    "moonshotai--Kimi-K3.json",
    "class-default--falcon_mamba.json",
];

const SETTINGS: &[&[(&str, &str)]] = &[
    &[],
    &[("disable-radix-cache", "true"), ("max-running-requests", "16")],
    &[("swa-full-tokens-ratio", "0.3"), ("mamba-full-memory-ratio", "0.5")],
    &[("speculative-algorithm", "EAGLE")],
    &[("max-total-tokens", "100000"), ("disable-overlap-schedule", "true")],
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// More tokens and more sequences never take less; the steps from the ideal add up; whatever the memory, there is an
    /// answer.
    #[test]
    fn bytes_grow_and_gaps_add_up(
        model in 0..MODELS.len(),
        settings in 0..SETTINGS.len(),
        seq_len in 1_u64..20_000_000,
        batch in 1_u64..300,
        tp in 0_u32..4,
        memory in 0_u64..1 << 40,
        fp8 in any::<bool>(),
    ) {
        let kv_dtype = if fp8 { "fp8_e4m3" } else { "auto" };
        let (model, engine, workload) = asked_of(MODELS[model], SETTINGS[settings], kv_dtype, seq_len, batch);
        let layout = Layout { tp: 1 << tp, ..Layout::default() };
        let workload = Workload { layout, memory: Some(Bytes(memory)), ..workload };
        let bytes = |seq_len, batch| {
            let answer = engine.answer(&model, &Workload { seq_len: Tokens(seq_len), batch, ..workload });
            answer.map(|answer| answer.estimate.bytes.0)
        };
        let answer = engine.answer(&model, &workload).unwrap();
        let own = answer.estimate.bytes.0;
        prop_assert!(bytes(seq_len + 1, batch).unwrap() >= own);
        prop_assert!(bytes(seq_len, batch + 1).unwrap() >= own);
        prop_assert!(answer.estimate.bytes_per_gpu.0 * layout.tp == own);
        let groups: u64 = answer.estimate.layer_groups.iter().map(|group| group.bytes.0).sum();
        prop_assert_eq!(groups, own);
        let stored = KvDtype::Given(answer.estimate.stored);
        if let Ok(live) = estimate(&model, &Workload { kv_dtype: stored, ..workload }) {
            let gaps: i128 = answer.gaps.iter().map(|gap| gap.bytes).sum();
            prop_assert_eq!(i128::from(live.bytes.0) + gaps, i128::from(own), "{:?}", answer.gaps);
        }
        if let Some(tokens) = answer.capacity.and_then(|capacity| capacity.tokens) {
            prop_assert!(tokens > 0);
        }
    }
}

/// A handful of cases through the program.
#[test]
fn the_program_tells_what_the_library_does() {
    let mut told = 0;
    for case in cases().iter().step_by(37) {
        let request = case["request"].as_object().unwrap();
        let mut arguments =
            vec![golden(case["config"].as_str().unwrap()).to_str().unwrap().to_owned(), "--json".into()];
        for (name, value) in request {
            let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            match (name.as_str(), text.as_str()) {
                (name, "true") => arguments.push(format!("--{}", name.replace('_', "-"))),
                (name, "false") => arguments.push(format!("--no-{}", name.replace('_', "-"))),
                (name, text) => arguments.extend([format!("--{}", name.replace('_', "-")), text.into()]),
            }
        }
        let run = crate::harness::Run::new(arguments.iter().map(String::as_str));
        let text = run.data();
        let document: Value = serde_json::from_str(&text).unwrap();
        let row = &document["estimates"][0];
        let mut found = Vec::new();
        differences("", &case["expect"], &row["sglang"], &mut found);
        differences("", &case["expect"]["max_total_num_tokens"], &row["capacity"]["tokens"], &mut found);
        assert!(found.is_empty(), "{}: {found:?}", case["id"]);
        told += 1;
    }
    assert_eq!(told, 9);
    kvsize("meta-llama--Meta-Llama-3.1-8B.json -s 1k -e sglang --mem-fraction-static 0.9")
        .stderr(
            "error: --mem-fraction-static: 0.9 is of a device's whole memory, weights included, and --memory is what is left \
             for the cache (sglang); leave it out and give --memory\n",
        )
        .status(2);
}
