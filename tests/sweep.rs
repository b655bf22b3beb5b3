//! Ranges and lists of `kvsize estimate`: every combination is a row, and the row is that of the estimate.

use serde_json::Value;

use crate::harness::{Run, kvsize};
use crate::schema::{assert_valid, schema};

fn rows(arguments: &str) -> Vec<Value> {
    let text = kvsize(&format!("estimate {arguments} -f jsonl -q")).output();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn ranges_and_lists_are_all_combined() {
    let rows = rows("llama-3.1-8b gemma-3-27b -s 1K..64K*4,100 -b 1..5+2,64 -d bf16,fp8 --tp 1,2 -e ideal,vllm");
    assert_eq!(rows.len(), 2 * 5 * 4 * 2 * 2 * 2);
    let schema = schema("estimate")["properties"]["estimates"]["items"].clone();
    for row in &rows {
        let mut row = row.clone();
        assert_eq!(row.as_object_mut().unwrap().remove("schema"), Some("kvsize.estimate/1".into()));
        assert_valid(&schema, &row, "a row");
    }
    let of = |key: &str| -> Vec<Value> {
        let mut seen = Vec::new();
        for row in &rows {
            if !seen.contains(&row[key]) {
                seen.push(row[key].clone());
            }
        }
        seen
    };
    assert_eq!(of("seq_len"), [1_024, 4_096, 16_384, 65_536, 100]);
    assert_eq!(of("batch"), [1, 3, 5, 64]);
    assert_eq!(of("tp"), [1, 2]);
    assert_eq!(of("kv_dtype"), ["bf16", "fp8"]);
    assert_eq!(of("engine"), ["ideal", "vllm@0.33"]);
}

/// Lists that an estimate has, too, give its rows in its order.
#[test]
fn the_rows_are_those_of_the_estimate() {
    for arguments in [
        "llama-3.1-8b -s 1000,128K -b 1,8 -e ideal,vllm --memory 64GiB",
        "gemma-3-27b --tp 2 -d q8_0",
        "--layers 48 --hidden-size 5120 --kv-heads 8",
        "deepseek-v4-flash -s 8k -e vllm",
        "llama-3.1-8b -e llama.cpp --ctx-size 8192 --parallel 2",
        "llama-3.1-8b --sinks 4 --window 1024 -s 8k,16k",
        "class-default--t5.json --encoder-len 100 -s 1k",
        "llama-3.1-8b --retrieve 20x512",
    ] {
        let text = kvsize(&format!("{arguments} --json -q")).output();
        let document: Value = serde_json::from_str(&text).unwrap();
        let expected = document["estimates"].as_array().unwrap();
        let found = rows(arguments);
        assert_eq!(found.len(), expected.len(), "{arguments}");
        for (row, expected) in found.iter().zip(expected) {
            assert_eq!(row["model"], document["models"][0]["name"]);
            for (key, value) in expected.as_object().unwrap() {
                assert_eq!(row[key], *value, "{arguments}: {key}");
            }
        }
        let csv = kvsize(&format!("{arguments} -f csv -q")).output();
        assert_eq!(kvsize(&format!("estimate {arguments} -f csv -q")).output(), csv);
    }
}

#[test]
fn every_format_has_all_rows() {
    let sweep = |format: &str| kvsize(&format!("estimate llama-3.1-8b -s 1K..4K*2 -d fp16,fp8 -f {format}")).output();
    let json: Value = serde_json::from_str(&sweep("json")).unwrap();
    let mut lines: Vec<Value> = sweep("jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &mut lines {
        assert_eq!(line.as_object_mut().unwrap().remove("schema"), Some("kvsize.estimate/1".into()));
    }
    assert_eq!((json["schema"].as_str(), lines.len()), (Some("kvsize.estimate/1"), 6));
    assert_eq!(json["estimates"], Value::Array(lines));
    assert_eq!(sweep("csv").lines().count(), 7);
    assert_eq!(
        sweep("plain"),
        "1,024\tfp16\t0.134\n1,024\tfp8\t0.067\n2,048\tfp16\t0.268\n2,048\tfp8\t0.134\n4,096\tfp16\t0.537\n4,096\tfp8\t0.268\n"
    );
    assert_eq!(sweep("table").lines().filter(|line| line.contains("fp")).count(), 6);
    assert_eq!(sweep("markdown").lines().filter(|line| line.starts_with("| ")).count(), 8);
    let auto = kvsize("estimate llama-3.1-8b -s 1K,2K -d fp16 --unit auto -f csv").output();
    assert!(auto.lines().next().unwrap().ends_with(",MB") && auto.ends_with(",268.435\n"), "{auto}");
}

#[test]
fn what_is_refused_is_left_out_and_said() {
    kvsize("estimate phi-4 -s 1000 -d bf16 --tp 1..8*2 -f plain")
        .stdout("1,000\t1\t0.205\t0.205\n1,000\t2\t0.205\t0.102\n")
        .stderr(
            "warning: left out: --tp: 4 neither divides the 10 KV heads nor is a multiple of them; use one that does, as \
             engines ask\nwarning: left out: --tp: 8 neither divides the 10 KV heads nor is a multiple of them; use one that \
             does, as engines ask\n",
        )
        .status(0);
    // Nothing left is no answer.
    kvsize("estimate phi-4 -s 1000 --tp 3,4 -f csv")
        .stderr("error: --tp: 3 neither divides the 10 KV heads nor is a multiple of them; use one that does, as engines ask\n")
        .status(2);
    // Words are not as many as rows.
    let text = kvsize("estimate llama-3.1-8b -s 200K..300K+1K -d bf16 -f csv").text();
    assert_eq!(text.matches("warning: ").count(), 13);
    assert!(text.contains("warning: and the like for 89 rows more\n"), "{text}");
    kvsize("estimate llama-3.1-8b -s 1K --tp 1..4+1 -f csv --strict")
        .stderr(
            "error: --strict: left out: --tp: 3 neither divides the 8 KV heads nor is a multiple of them; use one that does, as \
             engines ask; drop --strict to see the answer all the same\n",
        )
        .status(2);
    kvsize("estimate llama-3.1-8b -s 1K..1M*2 -f csv --strict")
        .stderr(
            "error: --strict: 262,144 tokens is past the model's maximum of 131,072 (max_position_embeddings); drop --strict \
             to see the answer all the same\n",
        )
        .status(2);
}

#[test]
fn bad_ranges_are_errors() {
    let remedy = "write a..b*k to multiply by k, or a..b+k to add it, from a up to b";
    for (arguments, message) in [
        ("-s 1..8", format!("--seq-len: 1..8 is a range without a step; {remedy}")),
        ("-s 8..1*2", format!("--seq-len: 8..1*2 ends before it starts; {remedy}")),
        ("-b 1..8*1", format!("--batch: 1..8*1 does not grow by its factor; {remedy}")),
        ("--memory 0..8GiB*2", format!("--memory: 0..8GiB*2 does not grow by its factor; {remedy}")),
        ("--tp 0..8*2", "--tp: 0 is not a positive count; give a whole number of 1 or more".into()),
        ("--pp x", "--pp: x is not a count; give a whole number of 1 or more".into()),
        (
            "-s 1..1M+1 -b 1,2",
            "--seq-len: 2,097,152 combinations are more than 1,000,000; shorten a list, take larger steps, or ask for one \
             part after the other"
                .into(),
        ),
        (
            "-s 1..18446744073709551615+1 -b 1..18446744073709551615+1",
            "--seq-len: 18,446,744,073,709,551,615 combinations are more than 1,000,000; shorten a list, take larger steps, \
             or ask for one part after the other"
                .into(),
        ),
    ] {
        kvsize(&format!("estimate llama-3.1-8b {arguments}")).stderr(&format!("error: {message}\n")).status(2);
    }
    kvsize("estimate")
        .stderr(
            "error: MODEL: missing; name one (`kvsize models` lists them), or give --layers --hidden-size --kv-heads\n",
        )
        .status(2);
}

/// A large sweep is written as it goes: who reads the first rows and leaves does not wait for the rest.
#[test]
fn rows_stream() {
    use std::io::Read;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_kvsize"))
        .args(["estimate", "llama-3.1-8b", "-s", "1..900000+1", "-d", "bf16", "-f", "csv", "-q"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 4096]).unwrap();
    drop(stdout);
    assert!(child.wait().unwrap().success());
}

#[test]
fn values_that_are_given_twice_are_swept_once() {
    assert_eq!(
        Run::new(["estimate", "llama-3.1-8b", "-s", "1K,1..1K*2,1024", "-d", "bf16,bf16", "-f", "plain"])
            .output()
            .lines()
            .count(),
        11
    );
}
