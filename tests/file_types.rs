//! Weights in GGUF file types, as people ask for them: bytes by type, what GPUs hold, and what is refused.

use serde_json::{Value, json};

use crate::harness::{golden, kvsize};

/// The rows of `kvsize weights` with these arguments.
fn items(arguments: &str) -> Vec<Value> {
    let output: Value = serde_json::from_str(&kvsize(&format!("weights {arguments} --json")).output()).unwrap();
    assert_eq!(output["schema"], "kvsize.weights/1");
    output["items"].as_array().unwrap().clone()
}

fn number(item: &Value, key: &str) -> u64 {
    item[key].as_u64().unwrap_or_else(|| panic!("{key} of {item}"))
}

/// Sums of tensor bytes that llama-server, llama-bench and GGUF parsers printed for published files, and what they loaded
/// to devices (`published_checks` of the measurements; the model, the file type, the bytes).
const PUBLISHED: &[(&str, &str, u64)] = &[
    ("qwen3-32b", "q4_k_m", 19_756_174_336),
    ("Qwen--Qwen3-30B-A3B.json", "Q4_K_M", 18_550_716_416),
    ("meta-llama--Meta-Llama-3.1-8B.json", "q4-k-m", 4_912_898_304),
    ("meta-llama--Meta-Llama-3.1-8B.json", "q8_0", 8_532_934_912),
    ("deepseek-v3", "bf16", 1_342_267_742_208),
    ("deepseek-v3", "q8_0", 713_281_210_368),
    ("google--gemma-4-E2B.json", "q4_k_m", 3_412_060_300),
    ("google--gemma-4-26B-A4B.json", "q4_0", 14_423_538_808),
];

fn model(name: &str) -> String {
    if name.contains("--") { golden("configs").join(name).display().to_string() } else { name.to_owned() }
}

#[test]
fn published_files_have_the_bytes_that_are_told() {
    for (name, file_type, bytes) in PUBLISHED {
        let items = items(&format!("{} --weights-dtype {file_type}", model(name)));
        assert_eq!(number(&items[0], "weights_bytes"), *bytes, "{name} {file_type}");
        let by_dtype = items[0]["by_dtype"].as_array().unwrap();
        assert_eq!(by_dtype.iter().map(|share| number(share, "bytes")).sum::<u64>(), *bytes, "{name}");
    }
    // What llama.cpp loaded to devices and to the host, in MiB with two decimals; the file is longer by its header.
    let item = &items("qwen3-32b --weights-dtype q4_k_m")[0];
    let hundredths = |bytes: u64| (u128::from(bytes) * 100 + (1 << 19)) >> 20;
    assert_eq!(hundredths(number(item, "device_bytes")), 1_842_365);
    assert_eq!(hundredths(number(item, "host_bytes")), 41_730);
    let file = 19_762_149_024u64;
    assert!(number(item, "weights_bytes") + number(item, "header_bytes") <= file);
    // A tied embedding is on both, the embeddings of each layer are on the host alone.
    let gemma = &items(&format!("{} --weights-dtype q4_k_m", model("google--gemma-4-E2B.json")))[0];
    let embedding = 1536 * 262_144 / 256 * 210;
    let of_layers = 8960 * 262_144 / 256 * 210;
    assert_eq!(number(gemma, "host_bytes"), embedding + of_layers);
    assert_eq!(number(gemma, "device_bytes"), 3_412_060_300 - of_layers);
}

#[test]
fn several_file_types_builds_and_parts_are_answered() {
    let all = items("qwen3-next-80b-a3b-thinking --weights-dtype q4_k_m,q4_k_m+imatrix,iq4_xs,iq4_xs-imatrix");
    let names: Vec<&Value> = all.iter().map(|item| &item["weights_dtype"]).collect();
    assert_eq!(names, ["Q4_K_M", "Q4_K_M", "IQ4_XS", "IQ4_XS"]);
    let bytes: Vec<u64> = all.iter().map(|item| number(item, "weights_bytes")).collect();
    assert!(bytes[0] == bytes[1] && bytes[2] < bytes[3], "{bytes:?}");
    let note = |item: &Value| item["notes"].to_string();
    assert!(note(&all[2]).contains("made with an importance matrix, as is usual"), "{}", all[2]);
    assert!(note(&all[0]).contains("MTP layers are not counted"), "{}", all[0]);

    let with = |more: &str| {
        number(&items(&format!("qwen3-next-80b-a3b-thinking --weights-dtype q5_k_m {more}"))[0], "weights_bytes")
    };
    assert!(with("--with mtp") > with(""));
    assert_ne!(with("--llama-quantize b8179"), with("--llama-quantize b8390"));
    let between = &items("qwen3-next-80b-a3b-thinking --weights-dtype q5_k_m --llama-quantize b8200")[0];
    assert_eq!(number(between, "weights_bytes"), with(""));
    assert!(note(between).contains("changed between b8179 and b8390"), "{between}");
    let tied = |more: &str| items(&format!("qwen3-0.6b --weights-dtype q4_k_m {more}"))[0]["by_dtype"].clone();
    assert_ne!(tied("--with lm-head"), tied(""));
    let gpt_oss = &items("gpt-oss-20b --weights-dtype q4_k_m")[0];
    assert!(note(gpt_oss).contains("keep their experts in MXFP4"), "{gpt_oss}");
}

#[test]
fn hardware_holds_what_llama_cpp_loads() {
    let fit = |arguments: &str| -> Value {
        serde_json::from_str(&kvsize(&format!("fit {arguments} --json")).data()).unwrap()
    };
    let weights = |answer: &Value| -> Vec<Value> {
        let terms = answer["fits"][0]["terms"].as_array().unwrap().iter().cloned();
        terms.filter(|term| term["name"] == "weights").collect()
    };
    let answer = fit("qwen3-32b --gpu rtx-4090 -e llama.cpp --weights-dtype q4_k_m");
    assert_eq!(answer["fits"][0]["fits"], json!(true), "{answer}");
    assert_eq!(weights(&answer)[0]["bytes"], 19_318_598_656u64, "{answer}");
    assert_eq!(weights(&answer)[0]["source"], "Q4_K_M as llama-quantize makes it");
    // Layers are divided over devices, and the output is on the last.
    let two = fit("qwen3-32b --gpu 2xrtx-4090 -e llama.cpp --weights-dtype q4_k_m");
    let stages = two["fits"][0]["stages"].as_array().unwrap().iter();
    let bytes = stages.map(|stage| number(&stage["terms"][2], "bytes"));
    assert_eq!((bytes.clone().sum::<u64>(), bytes.count()), (19_318_598_656, 2));
    // Published files of gpt-oss have MXFP4 experts, whatever their names say.
    let [named, mxfp4] = ["q4_k_m", "mxfp4_moe"].map(|file_type| {
        weights(&fit(&format!("gpt-oss-20b --gpu rtx-4090 -e llama.cpp --weights-dtype {file_type}")))[0]["bytes"]
            .clone()
    });
    assert_eq!(named, mxfp4);
}

#[test]
fn what_cannot_be_loaded_or_is_unknown_is_refused() {
    let refused = |arguments: &str, message: &str| {
        kvsize(arguments).stderr(&format!("error: {message}\n")).status(2);
    };
    refused(
        "fit qwen3-32b --gpu h100 -e vllm --weights-dtype q4_k_m",
        "--weights-dtype: Q4_K_M is a GGUF file type; the rules of vllm here are for safetensors checkpoints; use -e llama.cpp \
         or -e ollama, or give a format such as fp8",
    );
    refused(
        "fit qwen3-32b --gpu h100 -e llama.cpp --weights-dtype fp8",
        "--weights-dtype: fp8 is not a GGUF file type, and llama.cpp loads GGUF files; give a file type such as q8_0, q4_k_m \
         or iq4_xs",
    );
    refused(
        "weights qwen3-32b --weights-dtype q4_km",
        "--weights-dtype: q4_km is an unknown format of weights; did you mean q4_k_m? give a GGUF file type (q4_k_m, iq4_xs, \
         q8_0, mxfp4_moe, …) or a checkpoint format (fp8, awq, nvfp4, …); `kvsize formats` lists them",
    );
    refused(
        "weights qwen3-32b --weights-dtype awg",
        "--weights-dtype: awg is an unknown format of weights; did you mean awq? give a GGUF file type (q4_k_m, iq4_xs, \
         q8_0, mxfp4_moe, …) or a checkpoint format (fp8, awq, nvfp4, …); `kvsize formats` lists them",
    );
    refused(
        "weights qwen3-32b --weights-dtype int8",
        "--weights-dtype: int8 is neither a GGUF file type nor a format of checkpoints; give one such as q4_k_m or awq; \
         `kvsize fit` takes other formats",
    );
    refused(
        "fit qwen3-32b --gpu h100 -e vllm --weights-dtype EXL2-4.0bpw",
        "--weights-dtype: exl2-4.0bpw is a format that vllm does not load; ExLlamaV2 and TabbyAPI load it, whose rules are \
         not known here; give another format; `kvsize formats` lists them with their engines",
    );
    refused(
        "fit qwen3-32b --gpu h100 -e sglang --weights-dtype mlx-4bit",
        "--weights-dtype: mlx-4bit is a format that sglang does not load; MLX loads it, whose rules are not known here; give \
         another format; `kvsize formats` lists them with their engines",
    );
    refused(
        "fit qwen3-32b --gpu h100 -e tensorrt-llm --weights-dtype bnb-nf4",
        "--weights-dtype: bnb-nf4 is a format that tensorrt-llm does not load; engines that do: vllm, sglang, transformers; \
         give another format; `kvsize formats` lists them with their engines",
    );
    refused(
        "fit qwen3-32b --gpu h100 -e llama.cpp --weights-dtype gptq",
        "--weights-dtype: gptq is not a GGUF file type, and llama.cpp loads GGUF files; give a file type such as q8_0, q4_k_m \
         or iq4_xs",
    );
    refused(
        &format!("fit {} --gpu h100 -e vllm --weights-dtype awq", model("class-default--stablelm.json")),
        "--weights-dtype: class-default/stablelm has unknown tensors: those of its class are not listed here one by one; give \
         --weights",
    );
    refused(
        &format!("weights {} --weights-dtype awq", model("class-default--stablelm.json")),
        "class-default/stablelm: unknown tensors: the tensors of model_type \"stablelm\" are not known here one by one; \
         `kvsize fit` takes their bytes as --weights",
    );
    refused(
        "weights qwen3-32b --weights-dtype q4_k_m --llama-quantize new",
        "--llama-quantize: new is not a build of llama.cpp; give its number, as b8179",
    );
    refused(
        &format!("weights {} --weights-dtype q4_k_m", model("class-default--stablelm.json")),
        "class-default/stablelm: unknown tensors: the tensors of model_type \"stablelm\" are not known here one by one; give \
         its GGUF file; `kvsize fit` takes their bytes as --weights",
    );
    refused(
        &format!("fit {} --gpu h100 -e llama.cpp --weights-dtype q4_k_m", model("class-default--stablelm.json")),
        "--weights-dtype: class-default/stablelm has unknown tensors: the tensors of model_type \"stablelm\" are not known \
         here one by one; give --weights, or the GGUF file as MODEL",
    );
    refused(
        "fit qwen3-32b --gpu h100 --llama-quantize b8179",
        "--llama-quantize: applies to GGUF file types alone; give one as --weights-dtype, such as q4_k_m",
    );
}

/// Formats of checkpoints work wherever file types do, and what engines hold is what fit counts.
#[test]
fn checkpoint_formats_are_answered_like_file_types() {
    let all = items("qwen3-32b --weights-dtype AWQ,q4_k_m,FP8_dynamic,exl3-3.5bpw,mlx-4bit");
    let names: Vec<&Value> = all.iter().map(|item| &item["weights_dtype"]).collect();
    assert_eq!(names, ["awq", "Q4_K_M", "fp8", "exl3-3.5bpw", "mlx-4bit"]);
    // The files of Qwen/Qwen3-32B-AWQ; scales of rows, stored in bf16 and loaded in single precision.
    assert_eq!(number(&all[0], "weights_bytes"), 19_325_298_688);
    assert_eq!(number(&all[2], "weights_bytes"), 34_327_799_808);
    assert_eq!(number(&all[2], "bytes") - number(&all[2], "stored_bytes"), 2 * SCALES);
    assert_eq!(all[0].get("device_bytes"), None);
    for (arguments, bytes) in [
        ("qwen3-32b --gpu h100 -e vllm --weights-dtype awq", 19_325_298_688u64),
        ("qwen3-32b --gpu h100 -e vllm --weights-dtype fp8", 34_327_799_808 + 2 * SCALES),
        ("gpt-oss-20b --gpu h100 -e vllm --weights-dtype mxfp4", 13_761_264_768),
    ] {
        let answer: Value = serde_json::from_str(&kvsize(&format!("fit {arguments} --json")).data()).unwrap();
        let terms = answer["fits"][0]["terms"].as_array().unwrap();
        let weights = terms.iter().find(|term| term["name"] == "weights").unwrap();
        assert_eq!(weights["bytes"], bytes, "{arguments}");
    }
    // A plan looks for hardware with it: in 16 bits one such card is too small.
    let plan = |format: &str| kvsize(&format!("plan qwen3-32b -s 8k --gpu l40s,h100 -e vllm {format}")).data();
    assert!(plan("--weights-dtype w4a16").contains("1xl40s"), "{}", plan("--weights-dtype w4a16"));
    assert!(!plan("").contains("1xl40s"), "{}", plan(""));
}

/// Rows of all linear layers of Qwen3-32B: q, k and v, o, gate and up, down.
const SCALES: u64 = 64 * (8192 + 2 * 1024 + 5120 + 2 * 25_600 + 5120);
