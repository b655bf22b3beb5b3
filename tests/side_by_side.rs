//! Several engines in one answer: live and reserved bytes in one table, and the steps between them.

use serde_json::Value;

use crate::harness::kvsize;

const GPT: &str = "gpt-oss-20b -e ideal,transformers,tensorrt-llm -s 1000,128K";

#[test]
fn engines_stand_in_one_table() {
    for (name, arguments) in [
        ("table", "--memory 16GiB -d auto"),
        ("usual_formats", "-b 1,4"),
        ("plain", "-f plain"),
        ("csv", "-f csv --memory 16GiB"),
        ("markdown", "-f markdown -d auto"),
    ] {
        insta::assert_snapshot!(format!("engines_{name}"), kvsize(&format!("{GPT} {arguments} -q")).text());
    }
    let capacity = "llama-3.1-8b -e ideal,tensorrt-llm -s 1k,128K -b 1,2 --memory 8GiB --unit GiB -q";
    insta::assert_snapshot!("engines_capacity", kvsize(capacity).text());
    let models = "llama-3.1-8b gpt-oss-20b -e ideal,tensorrt-llm -s 128K -d bf16 --memory 64GiB -q";
    insta::assert_snapshot!("engines_and_models", kvsize(models).text());
}

#[test]
fn no_line_is_wider_than_a_terminal() {
    for arguments in [
        "llama-4-scout -e ideal,transformers,tensorrt-llm -b 1,64 --memory 80GiB",
        "llama-4-scout -e ideal,tensorrt-llm -b 1,64 --memory 80GiB --tp 8 --unit B",
        "llama-4-scout -e ideal,tensorrt-llm -b 1,64 -d bf16,fp8,int8,nvfp4 --memory 80GiB --tp 8",
        "llama-4-scout gpt-oss-20b deepseek-v3 -e ideal,tensorrt-llm -b 1,64 --memory 80GiB --tp 8",
        "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.json -e ideal,transformers -b 3 --unit B",
    ] {
        let text = kvsize(&format!("{arguments} -q")).output();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{arguments}: {line}");
        }
    }
}

/// In JSON to the byte, and as printed to the last digit.
#[test]
fn the_steps_lead_from_the_live_bytes_to_the_engine_s() {
    for arguments in [
        "gpt-oss-20b -e ideal,tensorrt-llm -s 1001 -d fp8",
        "llama-4-scout -e ideal,tensorrt-llm -s 10m -b 3 --tp 8",
        "deepseek-v3 -e ideal,tensorrt-llm -s 77777 -b 9 --tp 8 --enable-attention-dp",
        "llama-3.1-8b -e ideal,tensorrt-llm -s 77777 --max-attention-window 1000 --sink-token-length 4",
    ] {
        let document: Value = serde_json::from_str(&kvsize(&format!("{arguments} --json -q")).output()).unwrap();
        let rows = document["estimates"].as_array().unwrap();
        let bytes = |row: &Value| i128::from(row["bytes"].as_u64().unwrap());
        let ideal = rows.iter().find(|row| row["engine"] == "ideal").unwrap();
        let engine = rows.iter().find(|row| row["engine"] != "ideal").unwrap();
        let gaps = engine["gaps"].as_array().unwrap();
        let sum: i128 = gaps.iter().map(|gap| i128::from(gap["bytes"].as_i64().unwrap())).sum();
        assert_eq!(sum, bytes(engine) - bytes(ideal), "{arguments}");

        let text = kvsize(&format!("{arguments} -q")).output();
        let thousandths =
            |line: &str| line.split_whitespace().find(|word| word.contains('.')).unwrap().replace('.', "");
        let (mut sum, mut ended) = (0, false);
        for line in text.lines().filter(|line| {
            line.starts_with("  ") && line.contains(" GB  ") && !line.contains("Tokens") && !line.contains("<0.001")
        }) {
            let amount: i128 = thousandths(line).parse().unwrap();
            match line.trim_start().chars().next().unwrap() {
                '+' => sum += amount,
                '-' => sum -= amount,
                '=' => {
                    assert_eq!(sum, amount, "{arguments}\n{text}");
                    ended = true;
                }
                _ => sum = amount,
            }
        }
        assert!(ended, "{text}");
    }
}

/// Of several engines one that refuses is left out; alone, it is an error.
#[test]
fn an_engine_that_refuses_leaves_the_others_standing() {
    let refusal = "MODEL: deepseek-ai/DeepSeek-V3.2 has index keys, whose layout was not read (tensorrt-llm); name another \
                   engine";
    let document = "deepseek-v3.2 -s 8k -d fp8 --json -q -e";
    let both: Value = serde_json::from_str(&kvsize(&format!("{document} ideal,tensorrt-llm")).output()).unwrap();
    assert_eq!(both["estimates"].as_array().unwrap().len(), 1);
    assert_eq!(both["warnings"], serde_json::json!([format!("left out: {refusal}")]));
    kvsize("deepseek-v3.2 -s 8k -d fp8 -e tensorrt-llm").stderr(&format!("error: {refusal}\n")).status(2);
    kvsize("deepseek-v3.2 -s 8k -d fp8 -e ideal,tensorrt-llm --strict")
        .stderr(&format!("error: --strict: left out: {refusal}; drop --strict to see the answer all the same\n"))
        .status(2);
}

/// A request that does not fit is warned of, a batch that does not is told, and `--strict` makes the first an error.
#[test]
fn memory_that_does_not_do_is_told() {
    let capacity = |arguments: &str| {
        let document: Value = serde_json::from_str(&kvsize(&format!("{arguments} --json -q")).output()).unwrap();
        let first = &document["estimates"][0]["capacity"];
        (first["fits"] == true, first["holds_batch"].as_bool(), document["warnings"].clone())
    };
    let none = serde_json::json!([]);
    for engine in ["vllm", "vllm@0.19", "sglang", "llama.cpp", "tensorrt-llm"] {
        let of = |batch| format!("llama-3.1-8b -s 128K -d bf16 -e {engine} -b {batch} --memory 40GB");
        assert_eq!(capacity(&of(1)).1, None, "{engine}");
        assert_eq!(capacity(&of(2)).1, Some(true), "{engine}");
        assert_eq!(capacity(&of(3)).1, Some(false), "{engine}");
    }
    assert_eq!(capacity("llama-3.1-8b -s 128K -d bf16 -e vllm -b 3 --memory 40GB"), (true, Some(false), none));
    let warning =
        "vllm: 131,072 tokens in bf16 do not fit in 1,000,000,000 bytes: 7,600 is the longest request that does";
    let small = "llama-3.1-8b -s 128K -d bf16 -e vllm --memory 1GB";
    assert_eq!(capacity(small), (false, None, serde_json::json!([warning])));
    kvsize(&format!("{small} --strict"))
        .stderr(&format!("error: --strict: {warning}; drop --strict to see the answer all the same\n"))
        .status(2);
}

/// A side without a format is as the engine has it.
#[test]
fn one_side_may_be_named() {
    for (engine, stored) in [("ideal", "q8_0/bf16"), ("llama.cpp", "q8_0/fp16")] {
        let arguments = format!("llama-3.1-8b -s 1k -e {engine} --k-dtype q8_0 --json -q");
        let document: Value = serde_json::from_str(&kvsize(&arguments).output()).unwrap();
        assert_eq!(document["estimates"][0]["kv_dtype"], stored);
    }
}
