use std::fs;

use serde_json::{Value, json};

use crate::harness::{figures, golden, kvsize};

fn json_of(arguments: &str) -> Value {
    let text = kvsize(&format!("{arguments} --json --quiet")).output();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn json_has_the_shape_others_build_on() {
    let mut document = json_of("llama-4-scout -s 131072 -d bf16");
    let model = document["models"][0].as_object_mut().unwrap();
    // What engines read in addition: tests/round_trip.rs holds it.
    let checkpoint = model.remove("checkpoint").unwrap();
    assert_eq!(checkpoint["num_attention_heads"], 40);
    for group in model["layer_groups"].as_array_mut().unwrap() {
        let indices = group.as_object_mut().unwrap().remove("layer_indices").unwrap();
        assert_eq!(indices.as_array().unwrap().len() as u64, group["layers"]);
    }
    assert_eq!(
        document["models"],
        json!([{
            "name": "meta-llama/Llama-4-Scout-17B-16E-Instruct", "source": "catalogue", "model_type": "llama4",
            "model_max_seq_len": 10_485_760, "dtype": "bf16", "num_hidden_layers": 48,
            "layer_groups": [
                {"kind": "full_attention", "layers": 12, "kv_heads": 8, "k_dim": 128, "v_dim": 128},
                {"kind": "chunked_attention", "layers": 36, "chunk": 8192, "kv_heads": 8, "k_dim": 128, "v_dim": 128}
            ],
            "weights": {
                "origin": "computed", "bytes": 217_283_587_072u64, "parameters": 108_641_793_536u64,
                "tower_parameters": 871_932_416u64,
                "active_parameters": 18_044_827_136u64,
                "by_dtype": [{"dtype": "BF16", "parameters": 108_641_793_536u64, "bytes": 217_283_587_072u64}]
            }
        }])
    );
    assert_eq!(
        document["estimates"],
        json!([{
            "model": "meta-llama/Llama-4-Scout-17B-16E-Instruct", "seq_len": 131_072, "batch": 1, "kv_dtype": "bf16", "engine": "ideal", "tp": 1, "pp": 1, "dp": 1, "gpus": 1,
            "bytes": 7_650_410_496u64, "bytes_per_gpu": 7_650_410_496u64, "gb": 7.650_410_496, "bytes_per_token": 49152,
            "layer_groups": [
                {"kind": "full_attention", "layers": 12, "entries": 131_072, "bytes": 6_442_450_944u64},
                {"kind": "chunked_attention", "layers": 36, "entries": 8192, "bytes": 1_207_959_552}
            ]
        }])
    );
    assert_eq!(document["schema"], "kvsize.estimate/1");
    assert_eq!(document["kvsize"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["assumptions"].as_array().unwrap().len(), 1);
    assert_eq!(document["warnings"], json!([]));
}

#[test]
fn a_config_is_read_from_a_file_a_directory_and_standard_input() {
    let file = "meta-llama--Meta-Llama-3.1-8B.json";
    let by_file = json_of(&format!("{file} -s 1k"));
    assert_eq!(by_file["models"][0]["name"], "meta-llama/Meta-Llama-3.1-8B");
    assert_eq!(by_file["models"][0]["source"], "config");

    let directory = std::env::temp_dir().join(format!("kvsize-{}-directory", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    fs::copy(golden("configs").join(file), directory.join("config.json")).unwrap();
    let by_directory = json_of(&format!("{} -s 1k", directory.display()));
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(figures(&by_directory), figures(&by_file));

    let text = fs::read(golden("configs").join(file)).unwrap();
    // A model that is piped in needs no -.
    for arguments in ["- -s 1k --json", "-s 1k --json"] {
        let by_stdin: Value = serde_json::from_str(&kvsize(arguments).stdin(text.clone()).output()).unwrap();
        assert_eq!(figures(&by_stdin), figures(&by_file), "{arguments}");
    }
    assert_eq!(json_of("meta-llama/Llama-3.1-8B -s 1k")["estimates"], by_file["estimates"]);
    assert_eq!(json_of("estimate llama-3.1-8b -s 1k")["estimates"], by_file["estimates"]);
}

#[test]
fn lists_make_every_combination() {
    let document = json_of("llama-3.1-8b -s 1k,2K -s 4096 -b 1,2 -d bf16,int4");
    let rows: Vec<(u64, u64, &str)> = document["estimates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (row["seq_len"].as_u64().unwrap(), row["batch"].as_u64().unwrap(), row["kv_dtype"].as_str().unwrap())
        })
        .collect();
    assert_eq!(rows.len(), 12);
    assert_eq!((rows[0], rows[1], rows[2]), ((1000, 1, "bf16"), (1000, 1, "int4"), (1000, 2, "bf16")));
    assert_eq!((rows[4].0, rows[8].0), (2048, 4096));
}

#[test]
fn formats_may_differ_and_be_plain_bits() {
    let document = json_of("--layers 1 --kv-heads 1 --head-dim 10 -s 3 --k-dtype bf16 --v-dtype fp8");
    let row = &document["estimates"][0];
    assert_eq!(
        (&row["kv_dtype"], &row["k_dtype"], &row["v_dtype"]),
        (&json!("bf16/fp8"), &json!("bf16"), &json!("fp8"))
    );
    assert_eq!(row["bytes"], 3 * (20 + 10));
    // 3 tokens x 20 elements x 3 bits = 180 bits, rounded up to 23 bytes; one token is 7.5.
    let row = &json_of("--layers 1 --kv-heads 1 --head-dim 10 -s 3 --bitwidth 3")["estimates"][0];
    assert_eq!((&row["kv_dtype"], &row["bytes"], &row["bytes_per_token"]), (&json!("3-bit"), &json!(23), &json!(7.5)));
}

#[test]
fn layouts_tell_what_each_gpu_holds() {
    let row = &json_of("llama-3.1-8b -s 128K -d bf16 --tp 16 --pp 2 --dp 3")["estimates"][0];
    assert_eq!((&row["tp"], &row["pp"], &row["dp"], &row["gpus"]), (&json!(16), &json!(2), &json!(3), &json!(96)));
    // 8 heads are held twice by 16 ranks; each has one head of 16 layers.
    assert_eq!((&row["bytes"], &row["bytes_per_gpu"]), (&json!(32u64 << 30), &json!(1u64 << 30)));
    insta::assert_snapshot!(kvsize("llama-3.1-8b -s 128K --tensor-parallel-size 8").text());
}

#[test]
fn lengths_by_default_stop_at_the_model_s_own_maximum() {
    let lengths = |arguments: &str| -> Vec<u64> {
        let document = json_of(&format!("{arguments} -d fp8"));
        document["estimates"].as_array().unwrap().iter().map(|row| row["seq_len"].as_u64().unwrap()).collect()
    };
    assert_eq!(lengths("llama-3.1-8b"), [1_000, 10_000, 131_072]);
    assert_eq!(lengths("llama-4-scout"), [1_000, 10_000, 1_000_000, 10_000_000, 10_485_760]);
    assert_eq!(lengths("estimate article"), [1_000, 10_000, 1_000_000, 10_000_000]);
}

#[test]
fn past_the_maximum_is_answered_with_a_warning_and_refused_under_strict() {
    let warning = "131,073 tokens is past the model's maximum of 131,072 (max_position_embeddings)";
    kvsize("llama-3.1-8b -s 131073 -d bf16 -f plain")
        .stdout(
            "KV-Cache Memory Estimates for meta-llama/Meta-Llama-3.1-8B (BF16):\n     131,073 tokens →  17.180 GB\n",
        )
        .stderr(&format!("warning: {warning}\n"))
        .status(0);
    kvsize("llama-3.1-8b -s 131073 --strict")
        .stderr(&format!("error: --strict: {warning}; drop --strict to see the answer all the same\n"))
        .status(2);
}

#[test]
fn an_uneven_shortcut_is_warned_of() {
    insta::assert_snapshot!(kvsize("--layers 48 --hidden-size 5120 --kv-heads 6 -s 10m").text());
}

#[test]
fn spellings_of_options_agree() {
    let one = json_of("llama-3.1-8b -s 32k -d fp8 --tp 2 --pp 2 --dp 2");
    let other = json_of(
        "llama-3.1-8b --max-model-len 32k --kv-cache-dtype FP8 --tensor-parallel-size 2 --pipeline-parallel-size 2 \
         --data-parallel-size 2",
    );
    assert_eq!(one, other);
    assert_eq!(one["estimates"], json_of("llama-3.1-8b --context 32000 -d fp8 --tp 2 --pp 2 --dp 2")["estimates"]);
}

#[test]
fn several_models_stand_side_by_side_smallest_first() {
    insta::assert_snapshot!(kvsize("llama-3.1-8b deepseek-v3 gemma-3-27b -s 32k,128K -d bf16").text());
    let names = |sort: &str| -> Vec<String> {
        let document = json_of(&format!("llama-3.1-8b deepseek-v3 gemma-3-27b -s 128K -d bf16 {sort}"));
        let of = |list: &str, key: &str| -> Vec<String> {
            document[list].as_array().unwrap().iter().map(|row| row[key].as_str().unwrap().into()).collect()
        };
        assert_eq!(of("models", "name"), of("estimates", "model"), "{sort}");
        of("models", "name")
    };
    let (llama, deepseek, gemma) = ("meta-llama/Meta-Llama-3.1-8B", "deepseek-ai/DeepSeek-V3", "google/gemma-3-27b-it");
    assert_eq!(names(""), [deepseek, gemma, llama]);
    assert_eq!(names("--sort bytes-per-token"), [deepseek, gemma, llama]);
    assert_eq!(names("--sort name"), [deepseek, gemma, llama]);
    assert_eq!(names("--sort given"), [llama, deepseek, gemma]);
}

/// 131,072 bytes a token: memory holds live bytes to the last token, on the device that is full first.
#[test]
fn memory_is_asked_of_the_live_bytes_too() {
    let capacity = |arguments: &str| {
        let row = json_of(&format!("llama-3.1-8b -d bf16 {arguments}"))["estimates"][0].clone();
        let capacity = &row["capacity"];
        (capacity["fits"].as_bool(), capacity["tokens"].as_u64(), capacity["max_seq_len"].as_u64())
    };
    assert_eq!(capacity("-s 8192 --memory 1GiB"), (Some(true), Some(8_192), Some(8_192)));
    assert_eq!(capacity("-s 8193 --memory 1GiB"), (Some(false), Some(8_192), Some(8_192)));
    assert_eq!(capacity(&format!("-s 8192 --memory {}", (1_u64 << 30) - 1)), (Some(false), Some(8_191), Some(8_191)));
    // Two ranks hold half of each token.
    assert_eq!(capacity("-s 16384 --tp 2 --memory 1GiB"), (Some(true), Some(16_384), Some(16_384)));
}

#[test]
fn a_prefix_in_common_is_kept_once() {
    let row = |arguments: &str| json_of(&format!("{arguments} -s 8000 -b 4 -d bf16"))["estimates"][0].clone();
    let (alone, shared) = (row("llama-3.1-8b"), row("llama-3.1-8b --shared-prefix 6k"));
    assert_eq!((&alone["bytes"], &shared["bytes"]), (&json!(32_000 * 131_072_u64), &json!(14_000 * 131_072_u64)));
    assert_eq!(alone["bytes_per_token"], shared["bytes_per_token"]);
    // 12 layers with a window of 128, which the prefix has left 2,000 tokens ago; 12 layers that keep it.
    let (alone, shared) = (row("gpt-oss-20b"), row("gpt-oss-20b --shared-prefix 6k"));
    let saved = alone["bytes"].as_u64().unwrap() - shared["bytes"].as_u64().unwrap();
    assert_eq!(saved, 12 * 3 * 6000 * 2 * 8 * 64 * 2);
    // A state has no tokens to share.
    assert_eq!(row("falcon-mamba-7b")["bytes"], row("falcon-mamba-7b --shared-prefix 8k")["bytes"]);
}

#[test]
fn ranks_may_share_the_tokens_of_a_sequence() {
    let row = |arguments: &str| json_of(&format!("{arguments} -s 163840 -d bf16"))["estimates"][0].clone();
    let gib = |bytes: &Value| bytes.as_u64().unwrap();
    let (whole, shared) = (row("deepseek-v3 --tp 8"), row("deepseek-v3 --tp 8 --decode-context-parallel-size 8"));
    // 10.723 GiB and 1.340 GiB on each GPU, as vLLM plans them.
    assert_eq!((gib(&whole["bytes_per_gpu"]), gib(&shared["bytes_per_gpu"])), (11_513_364_480, 1_439_170_560));
    assert_eq!((&whole["dcp"], &shared["dcp"]), (&Value::Null, &json!(8)));
    assert_eq!(shared["bytes_per_token"], 70_272);
}

#[test]
fn memory_that_no_engine_uses_is_said() {
    kvsize("llama-3.1-8b -s 1k -e transformers -d bf16 --memory 1GiB -f plain")
        .stdout(
            "KV-Cache Memory Estimates for meta-llama/Meta-Llama-3.1-8B (BF16):\n       1,000 tokens →   0.131 GB\n",
        )
        .stderr("note: --memory has no effect with this engine\n")
        .status(0);
}

#[test]
fn a_drafter_adds_its_layers() {
    let bytes_per_token = |arguments: &str| {
        json_of(&format!("{arguments} -s 1k -d bf16"))["estimates"][0]["bytes_per_token"].as_u64().unwrap()
    };
    // vLLM: 61 latent layers, and one more that predicts further tokens.
    assert_eq!(bytes_per_token("deepseek-v3"), 70_272);
    assert_eq!(bytes_per_token("deepseek-v3 --speculative-method mtp --num-speculative-tokens 2"), 71_424);
    assert_eq!(bytes_per_token("llama-3.1-8b --speculative-method eagle --draft llama-3.2-1b"), 131_072 + 32_768);
}

#[test]
fn an_encoder_s_length_may_be_given() {
    let bytes = |arguments: &str| json_of(arguments)["estimates"][0]["bytes"].as_u64().unwrap();
    let self_attention = 12 * 1000 * 2 * 1024 * 2;
    assert_eq!(bytes("class-default--bart.json -s 1000 -d bf16"), self_attention + 12 * 1024 * 4096);
    assert_eq!(bytes("class-default--bart.json -s 1000 -d bf16 --encoder-len 512"), self_attention + 12 * 512 * 4096);
}

#[test]
fn transformers_is_told_with_its_version_and_cache() {
    let row = &json_of("gpt-oss-20b -e transformers -s 128K")["estimates"][0];
    assert_eq!(row["engine"], "transformers@5.23");
    assert_eq!((&row["kv_dtype"], &row["kv_dtype_resolved"]), (&json!("auto"), &json!("bf16")));
    assert_eq!(row["transformers"], json!({"version": "5.23.0", "cache": "dynamic"}));
    // One entry of each window less than the ideal.
    let ideal = &json_of("gpt-oss-20b -s 128K -d bf16")["estimates"][0];
    assert_eq!(ideal["bytes"].as_u64().unwrap() - row["bytes"].as_u64().unwrap(), 12 * 2 * 8 * 64 * 2);
    let fixed = &json_of("gpt-oss-20b -e transformers@5.23 --cache static -s 128K")["estimates"][0];
    assert_eq!(fixed["bytes"], ideal["bytes"]);
}

#[test]
fn a_catalogue_of_one_s_own_shadows_the_embedded_one() {
    let path = std::env::temp_dir().join(format!("kvsize-{}-catalogue.json", std::process::id()));
    let entry = r#"[{"names": ["llama-3.1-8b", "mine"], "label": "Mine", "spec": {"layers": 1, "kv_heads": 1, "head_dim": 1}}]"#;
    fs::write(&path, entry).unwrap();
    let flag = format!("--catalogue {}", path.display());
    for name in ["mine", "LLAMA-3.1-8B"] {
        assert_eq!(json_of(&format!("{name} -s 1k -d fp8 {flag}"))["estimates"][0]["bytes"], 2000);
    }
    kvsize(&format!("models mine -f plain {flag}")).stdout("llama-3.1-8b\n").status(0);
    fs::write(&path, "[{}]").unwrap();
    kvsize(&format!("mine {flag}"))
        .stderr(
            "error: --catalogue: the file is not a list of models: missing field `names` at line 1 column 3; write [{\"names\": \
             [\"mine\"], \"label\": \"Mine\", \"config\": {…}}]\n",
        )
        .status(2);
    fs::remove_file(&path).unwrap();
}
