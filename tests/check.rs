//! `kvsize check`: budgets and exit codes.

use serde_json::Value;

use crate::harness::kvsize;

fn json_with(status: i32, arguments: &str) -> Value {
    serde_json::from_str(&kvsize(&format!("check {arguments} --json -q")).data_with(status)).unwrap()
}

/// 131,072 bytes a token: 0 within, to the byte, and 1 over.
#[test]
fn a_budget_is_kept_or_not_to_the_byte() {
    let exact = 131_072_u64 * 131_072;
    let within = json_with(0, &format!("llama-3.1-8b -s 128K --budget {exact}"));
    assert_eq!((&within["within"], &within["limits"][0]["left"]), (&true.into(), &0.into()));
    let over = json_with(1, &format!("llama-3.1-8b -s 128K --budget {}", exact - 1));
    assert_eq!((&over["within"], &over["limits"][0]["over"]), (&false.into(), &1.into()));
    assert_eq!(over["longest_seq_len"], 131_071);
    // One limit of two is enough.
    json_with(1, &format!("llama-3.1-8b -s 128K --tp 2 --budget {exact} --budget-per-gpu {}", exact / 2 - 1));
    json_with(0, &format!("llama-3.1-8b -s 128K --tp 2 --budget {exact} --budget-per-gpu {}", exact / 2));
}

/// What a check takes is what an estimate says; its longest is within by a check of its own, and a token more is not.
#[test]
fn a_check_says_what_an_estimate_says() {
    for (arguments, batch) in [
        ("llama-3.1-70b -e vllm --tp 8 -d auto", 4),
        ("gemma-3-27b -e vllm@0.19 -d auto", 2),
        ("llama-4-scout -d bf16", 1),
        ("llama-3.1-8b -e llama.cpp -d q8_0", 3),
        ("deepseek-v3 -e sglang -d auto", 2),
    ] {
        let budget = "--budget 5GB";
        let checked = json_with(1, &format!("{arguments} -s 128K -b {batch} {budget}"));
        let estimate = kvsize(&format!("{arguments} -s 128K -b {batch} --json -q")).output();
        let estimate: Value = serde_json::from_str(&estimate).unwrap();
        assert_eq!(checked["limits"][0]["taken"], estimate["estimates"][0]["bytes"], "{arguments}");
        let longest = checked["longest_seq_len"].as_u64().unwrap();
        json_with(0, &format!("{arguments} -s {longest} -b {batch} {budget}"));
        json_with(1, &format!("{arguments} -s {} -b {batch} {budget}", longest + 1));
    }
}

/// A compressor's state comes and goes with its period, and a length may take less than one before it: the longest is the longest
/// of all that are within.
#[test]
fn the_longest_is_the_longest_though_bytes_may_fall() {
    let arguments = "deepseek-v4-flash -e transformers -s 1 -d bf16 --json -q";
    let estimate: Value = serde_json::from_str(&kvsize(arguments).data()).unwrap();
    let mut model = estimate["models"][0].clone();
    // No multiple of the periods, nor a power of two, which would hide where a search goes wrong.
    let maximum = 1_501_u64;
    model["model_max_seq_len"] = maximum.into();
    let lengths = format!("estimate - -e transformers -d bf16 -s 1..{maximum}+1 -f jsonl -q");
    let rows = kvsize(&lengths).stdin(model.to_string()).data();
    let row = |line: &str| serde_json::from_str::<Value>(line).unwrap()["bytes"].as_u64().unwrap();
    let bytes: Vec<u64> = rows.lines().map(row).collect();
    assert_eq!(bytes.len() as u64, maximum);
    assert!(bytes.windows(2).any(|pair| pair[1] < pair[0]));
    for seq_len in (200..1_500).step_by(61) {
        let budget = bytes[seq_len];
        let longest = bytes.iter().rposition(|&bytes| bytes <= budget).unwrap() as u64 + 1;
        let arguments = format!("check - -e transformers -s 1 -d bf16 --budget {budget} --json -q");
        let checked: Value = serde_json::from_str(&kvsize(&arguments).stdin(model.to_string()).data()).unwrap();
        assert_eq!(checked["longest_seq_len"], longest, "{budget}");
        let memory = "--gpu 1xh100 --weights 0 --overhead 0 --utilization 1 --gpu-memory";
        let arguments = format!("fit - -e transformers -d bf16 {memory} {budget} --json -q");
        let fit: Value = serde_json::from_str(&kvsize(&arguments).stdin(model.to_string()).output()).unwrap();
        assert_eq!(fit["fits"][0]["longest_seq_len_at_batch"], longest, "{budget}");
    }
}

/// Lengths that are shorter than what is asked of them are no reason to find none: the longest is that of a walk through all.
#[test]
fn the_longest_is_found_past_lengths_that_are_refused() {
    for (arguments, asked, budget) in [
        ("llama-3.1-8b -b 2 --shared-prefix 20000", 32_768, 3_000_000_000_u64),
        ("llama-3.1-8b -e vllm -b 2 --shared-prefix 20000", 32_768, 3_000_000_000),
        ("llama-3.1-8b -e vllm@0.19 -b 2 --shared-prefix 20000", 32_768, 3_000_000_000),
        ("qwen3-1.7b --shared-prefix 500", 40_000, 40_000_000),
        ("qwen3-1.7b -e transformers --cache quantized --decoded 1000", 2_000, 45_000_000),
        ("qwen3-1.7b -e transformers --cache quantized --decoded 1000", 2_000, 40_000_000),
    ] {
        let document = json_with(1, &format!("{arguments} -s {asked} --budget {budget}"));
        let longest = document["longest_seq_len"].as_u64().unwrap();
        let bytes = |seq_len: u64| {
            // Of sequences that are no longer than the prefix all is shared.
            let arguments = match arguments.split_once("--shared-prefix ") {
                Some((before, prefix)) => {
                    format!("{before}--shared-prefix {}", prefix.parse::<u64>().unwrap().min(seq_len))
                }
                None => arguments.to_owned(),
            };
            let text = kvsize(&format!("{arguments} -s {seq_len} -d auto -f jsonl -q")).text();
            let line = text.lines().next().and_then(|line| serde_json::from_str::<Value>(line).ok());
            line.and_then(|row| row["bytes"].as_u64())
        };
        if longest > 0 {
            assert!(bytes(longest).unwrap() <= budget, "{arguments}: {longest}");
        }
        let step = if arguments.contains("vllm") { 16 } else { 1 };
        assert!(bytes(longest + step).is_none_or(|bytes| bytes > budget), "{arguments}: {longest}");
    }
    assert_eq!(
        json_with(1, "llama-3.1-8b -e vllm -s 32K -b 2 --shared-prefix 20000 --budget 3GB")["longest_seq_len"],
        21_440
    );
    let text =
        kvsize("check qwen3-1.7b -s 1129 -e transformers --cache quantized --decoded 1000 --budget 0.045GB -q").data();
    assert!(text.starts_with("YES  within the budget") && text.contains("1,129 tokens\n"), "{text}");
}

#[test]
fn a_margin_is_kept_free() {
    let document = json_with(0, "llama-3.1-8b -s 1000 --budget 1GB --margin 2.5%");
    assert_eq!(document["limits"][0]["allowed"], 975_000_000);
    json_with(0, "llama-3.1-8b -s 1000 --budget 131072000");
    json_with(1, "llama-3.1-8b -s 1000 --budget 131072000 --margin 0.0001%");
}

#[test]
fn bad_input() {
    for (arguments, error) in [
        (
            "llama-3.1-8b -s 1K",
            "--budget: missing; give the bytes, as --budget 40GB, or those of one GPU, as --budget-per-gpu 10GB, or the GPUs that \
             must hold it, as --gpu 8xh100",
        ),
        (
            "llama-3.1-8b --budget 0",
            "--budget: 0 is not a positive number of bytes; give bytes, or a number with kB, MB, GB, TB (powers of 1000) or \
             KiB, MiB, GiB, TiB",
        ),
        (
            "llama-3.1-8b --budget=-4GB",
            "--budget: -4GB is not a number of bytes; give bytes, or a number with kB, MB, GB, TB (powers of 1000) or KiB, MiB, \
             GiB, TiB",
        ),
        (
            "llama-3.1-8b --budget 1GB --margin 5",
            "--margin: 5 is not a percentage below 100; give one with at most 4 decimals, as 5% or 2.5%",
        ),
        (
            "llama-3.1-8b --budget 1GB --margin 100%",
            "--margin: 100% is not a percentage below 100; give one with at most 4 decimals, as 5% or 2.5%",
        ),
        (
            "llama-3.1-8b --budget 1GB --margin -5%",
            "--margin: -5% is not a percentage below 100; give one with at most 4 decimals, as 5% or 2.5%",
        ),
        (
            "llama-3.1-8b llama-3.1-70b --budget 1GB",
            "MODEL: 2 models are more than can be asked about; ask about one after the other",
        ),
        ("llama-3.1-8b -s 1K,2K --budget 1GB", "--seq-len: 2 values are more than one estimate takes; give one"),
        (
            "--budget 1GB",
            "MODEL: missing; name one (`kvsize models` lists them), or give --layers --hidden-size --kv-heads",
        ),
        (
            "llama-3.1-8b -s 1M --budget 1TB --strict",
            "--strict: 1,048,576 tokens is past the model's maximum of 131,072 (max_position_embeddings); drop --strict to see \
             the answer all the same",
        ),
    ] {
        kvsize(&format!("check {arguments}")).stderr(&format!("error: {error}\n")).status(2);
    }
}

#[test]
fn what_people_see() {
    insta::assert_snapshot!("over", kvsize("check llama-3.1-8b -s 128K -b 8 --budget 100GB").text());
    insta::assert_snapshot!(
        "within",
        kvsize("check llama-3.1-8b -s 128K -b 8 --budget 200GB --budget-per-gpu 40GB --tp 4 -e vllm --margin 5%")
            .text()
    );
    insta::assert_snapshot!("csv", kvsize("check llama-3.1-8b -s 128K --budget 10GB -f csv").text());
    insta::assert_snapshot!("plain", kvsize("check llama-3.1-8b -s 128K --budget 10B -f plain").text());
    insta::assert_snapshot!(
        "markdown",
        kvsize("check llama-3.1-8b -s 128K --budget 10GiB -f markdown --unit GiB").text()
    );
}

/// A byte too many is said to be one, though a table has three decimals; and what there is no more of is no contradiction.
#[test]
fn the_verdict_is_exact_and_agrees_with_itself() {
    let said = |status, arguments: &str| kvsize(&format!("check llama-3.1-8b -q {arguments}")).data_with(status);
    let over = said(1, "-s 128K --budget 17179869183");
    assert!(over.starts_with("NO   over by 1 B: the largest context within the budget is 131,071 tokens\n"), "{over}");
    assert!(over.contains(" -1 B\n"), "{over}");
    let past = said(0, "-s 256K --budget 40GB");
    let expected = "YES  within the budget: 5.640 GB left in all;\n     the model's maximum of 131,072 tokens is within the budget\n";
    assert!(past.starts_with(expected), "{past}");
    let fits = said(0, "-s 128K --gpu 1xh100 -e vllm");
    assert!(fits.contains("such requests;\n     the model's maximum of 131,072 tokens fits\n"), "{fits}");
}

/// What GPUs hold is what `fit` says of them, whatever a single estimate would refuse; the bytes are those of the layout found.
#[test]
fn gpus_hold_what_fit_says() {
    for arguments in [
        "llama-3.1-8b -e llama.cpp -b 300 -s 512 --gpu 8xh100",
        "flan-t5 -e ollama -b 2 -s 512 --gpu 2xrtx-4090",
        "llama-3.1-8b -e vllm -b 1 -s 32K --gpu 2xl4",
        "llama-3.1-8b -e vllm -b 64 -s 32K --gpu 2xl4",
        "llama-3.1-70b -e sglang -b 9 -s 32K --gpu 8xh100",
        "gemma-3-27b -e transformers -b 3 -s 8K --gpu 4xl40s",
    ] {
        let fit: Value = serde_json::from_str(&kvsize(&format!("fit {arguments} --json -q")).any_data()).unwrap();
        let status = i32::from(fit["fits"][0]["fits"] != true);
        let document = json_with(status, arguments);
        let (row, found) = (&document["hardware"][0], &fit["fits"][0]);
        for key in ["tp", "pp", "dp", "longest_seq_len_at_batch"] {
            assert_eq!(row[key], found[key], "{arguments}: {key}");
        }
    }
    let document = json_with(0, "llama-3.1-8b --gpu 2xl4 -s 32K -e vllm");
    assert_eq!((&document["tp"], &document["bytes_per_gpu"]), (&2.into(), &(131_072_u64 * 32_768 / 2).into()));
    kvsize("check llama-3.1-8b --gpu h100,h200")
        .stderr("error: --gpu: h100,h200 lists several GPUs, and this takes one; give one (`kvsize fit` and `kvsize plan` take a list)\n")
        .status(2);
}
