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
