//! `kvsize batch`: a line for a line, in order, whatever the lines are.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::harness::{Run, golden, kvsize};
use crate::schema::{assert_valid, schema};

const LLAMA: &str = r#"{"model":"llama-3.1-8b","seq_len":1000}"#;

/// A file of lines that is gone after the test.
struct Lines(PathBuf);

impl Lines {
    fn of(name: &str, lines: impl AsRef<[u8]>) -> Self {
        let path = std::env::temp_dir().join(format!("kvsize-batch-{}-{name}.jsonl", std::process::id()));
        fs::write(&path, lines).unwrap();
        Self(path)
    }

    fn run(&self, options: &str) -> Run {
        let arguments = ["batch", self.0.to_str().unwrap()];
        Run::new(arguments.into_iter().chain(options.split_whitespace()))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The objects that a batch of these lines gives, and its status.
fn answers(options: &str, lines: impl Into<Vec<u8>>) -> (Vec<Value>, String) {
    let text = kvsize(&format!("batch {options}")).stdin(lines).text();
    let (stdout, rest) = text.split_once("--- stderr\n").unwrap();
    (objects(stdout), rest.to_owned())
}

/// The one error of a line.
fn error(line: impl Into<Vec<u8>>) -> Value {
    let (mut objects, rest) = answers("-q", line);
    assert_eq!((objects.len(), rest.as_str()), (1, "--- status 2\n"), "{objects:?}");
    assert_valid(&schema("error"), &objects[0], "an error");
    objects[0]["error"].take()
}

fn message(line: impl Into<Vec<u8>>) -> String {
    error(line)["message"].as_str().unwrap().to_owned()
}

/// The lines of a golden case: one for each size of memory it was measured with.
fn lines_of(case: &Value) -> Vec<Value> {
    let request = &case["request"];
    let mut line = Map::new();
    line.insert("model".into(), case["config"].clone());
    for (key, value) in request.as_object().unwrap() {
        match key.as_str() {
            "speculative" if value.is_object() => {
                line.insert(
                    "speculative_method".into(),
                    json!(match value["method"].as_str().unwrap() {
                        known @ ("mtp" | "ngram" | "eagle3") => known,
                        _ => "draft_model",
                    }),
                );
                line.insert("num_speculative_tokens".into(), value["num_speculative_tokens"].clone());
                line.insert("draft".into(), value["model"].clone());
            }
            _ => {
                line.insert(key.clone(), value.clone());
            }
        }
    }
    let memories = case["expect"]["capacity"].as_array().into_iter().flatten();
    let memories: Vec<Value> = memories.map(|capacity| capacity["memory"].clone()).collect();
    let with = |memory: &Value| {
        let mut line = line.clone();
        line.insert("id".into(), case["id"].clone());
        line.insert("memory".into(), memory.clone());
        Value::Object(line)
    };
    if memories.is_empty() { vec![with(&Value::Null)] } else { memories.iter().map(with).collect() }
}

fn sorted(groups: &Value) -> Vec<Value> {
    let mut groups = groups.as_array().unwrap().clone();
    groups.sort_by_key(Value::to_string);
    groups
}

/// What vLLM's own planner made comes out of a batch under the names that the golden data has for its requests.
#[test]
fn golden_cases_are_lines() {
    let text = fs::read_to_string(golden("vllm.json")).unwrap();
    let data: Value = serde_json::from_str(&text).unwrap();
    let cases: Vec<&Value> = data["cases"].as_array().unwrap().iter().collect();
    let (mut lines, mut expected, line_schema) = (String::new(), Vec::new(), schema("batch-line"));
    for case in &cases {
        for (index, line) in lines_of(case).into_iter().enumerate() {
            assert_valid(&line_schema, &line, "a line");
            writeln!(lines, "{line}").unwrap();
            expected.push((*case, index));
        }
    }
    let file = Lines::of("golden", &lines);
    let text = Run::new(["batch", file.0.to_str().unwrap(), "-q"]).at(golden("")).text();
    let (stdout, rest) = text.split_once("--- stderr\n").unwrap();
    assert_eq!(rest, "--- status 2\n");
    let found = objects(stdout);
    assert_eq!(found.len(), expected.len());
    let (mut answered, mut refused, answer_schema) = (0, 0, schema("batch"));
    for (row, (case, index)) in found.iter().zip(expected) {
        let expect = &case["expect"];
        assert_eq!(row["id"], case["id"]);
        if expect["refused"].is_string() {
            assert_eq!(row["schema"], "kvsize.error/1", "{row}");
            refused += 1;
            continue;
        }
        assert_valid(&answer_schema, row, "an answer");
        let of = |row: &Value, groups: &Value| {
            let figures = ["bytes_per_block", "blocks_per_request"].map(|key| row[key].clone());
            (figures, sorted(groups))
        };
        assert_eq!(row["bytes_per_gpu"], expect["bytes_per_gpu"], "{row}");
        assert_eq!(of(&row["vllm"], &row["vllm"]["groups"]), of(expect, &expect["groups"]), "{row}");
        if let Some(capacity) = expect["capacity"].get(index) {
            assert_eq!(row["capacity"], *capacity, "{row}");
        }
        answered += 1;
    }
    assert!(answered > 738 && refused == 48, "{answered} answered, {refused} refused");
}

/// What an answer assumes of memory, and an estimate says in a note.
const UNUSED: &str = "memory has no effect with this engine";

/// The row of an estimate as an answer to a line has it.
fn as_answer(document: &Value, line: u64) -> Value {
    let mut row = document["estimates"][0].as_object().unwrap().clone();
    row.insert("schema".into(), json!("kvsize.batch/1"));
    row.insert("line".into(), json!(line));
    for key in ["assumptions", "warnings"] {
        if document[key].as_array().is_some_and(|texts| !texts.is_empty()) {
            row.insert(key.into(), document[key].clone());
        }
    }
    Value::Object(row)
}

/// The same question as options and as a line.
fn question() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    fn any<T: Clone + std::fmt::Debug + Into<Value> + 'static>(values: &[T]) -> BoxedStrategy<Value> {
        let mut values: Vec<Value> = values.iter().cloned().map(Into::into).collect();
        // Not given.
        values.push(Value::Null);
        prop::sample::select(values).boxed()
    }
    let models = vec![
        "llama-3.1-8b",
        "gemma-3-27b",
        "deepseek-v3",
        "deepseek-v4-flash",
        "openai--gpt-oss-20b.json",
        "whisper-large-v3",
        "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.json",
        "nosuch",
    ];
    let engines =
        ["ideal", "vllm", "vllm@0.19", "sglang", "transformers", "llama.cpp", "ollama", "tensorrt-llm", "vlm"];
    (
        prop::sample::select(models),
        prop_oneof![
            (1u64..200_000).prop_map(Value::from),
            prop::sample::select(vec![json!("8K"), json!("1m"), json!("x")])
        ],
        (any(&engines), any(&["bf16", "fp8", "q8_0", "auto", "fp4"]), any(&["64GiB", "1GB", "64"])),
        (any(&[2u64, 3, 64]), any(&[1u64, 2, 8]), any(&[2u64]), any(&[0u64, 100, 1 << 40])),
        (any(&[true, false]), any(&[2048u64]), any(&["offline"]), any(&["mtp", "ngram"]), any(&["h200", "a100", "x"])),
    )
        .prop_map(
            |(
                model,
                seq_len,
                (engine, dtype, memory),
                (batch, tp, pp, prefix),
                (caching, batched, usage, method, gpu),
            )| {
                vec![
                    ("model", json!(model)),
                    ("seq_len", seq_len),
                    ("engine", engine),
                    ("kv_dtype", dtype),
                    ("memory", memory),
                    ("batch", batch),
                    ("tp", tp),
                    ("pp", pp),
                    ("shared_prefix", prefix),
                    ("enable_prefix_caching", caching),
                    ("max_num_batched_tokens", batched),
                    ("usage", usage),
                    ("speculative_method", method),
                    ("gpu", gpu),
                ]
            },
        )
}

fn as_options(question: &[(&'static str, Value)]) -> Vec<String> {
    let mut options = Vec::new();
    for (key, value) in question {
        let option = key.replace('_', "-");
        match value {
            Value::Null => {}
            Value::Bool(true) => options.push(format!("--{option}")),
            Value::Bool(false) => options.push(format!("--no-{option}")),
            Value::String(text) if *key == "model" => options.push(text.clone()),
            Value::String(text) => options.push(format!("--{option}={text}")),
            number => options.push(format!("--{option}={number}")),
        }
    }
    options
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn a_line_is_answered_as_the_command_line_is(questions in prop::collection::vec(question(), 24)) {
        let mut lines = String::new();
        for question in &questions {
            // Twice: the second is answered from what the first left.
            // In the order of the options, since the first mistake is the one that is told.
            let pairs: Vec<String> = question.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            writeln!(lines, "{{{0}}}\n{{{0}}}", pairs.join(",")).unwrap();
        }
        let (found, _) = answers("-q", lines);
        prop_assert_eq!(found.len(), 2 * questions.len());
        for (index, question) in questions.iter().enumerate() {
            let options = as_options(question);
            let text = Run::new(["estimate"].into_iter().chain(options.iter().map(String::as_str)).chain(["--json", "-q"])).text();
            let (stdout, rest) = text.split_once("--- stderr\n").unwrap();
            for (row, line) in [(&found[2 * index], 2 * index as u64 + 1), (&found[2 * index + 1], 2 * index as u64 + 2)] {
                if let Ok(mut document) = serde_json::from_str::<Value>(stdout) {
                    if row["assumptions"].as_array().is_some_and(|texts| texts.contains(&json!(UNUSED))) {
                        prop_assert!(row.get("capacity").is_none() && question.iter().any(|(key, _)| *key == "memory"));
                        document["assumptions"].as_array_mut().unwrap().push(json!(UNUSED));
                    }
                    // Without a format the command line tells two, and what it says is of both.
                    if document["estimates"].as_array().unwrap().len() > 1 {
                        for key in ["assumptions", "warnings"] {
                            document[key] = row.get(key).cloned().unwrap_or_else(|| json!([]));
                        }
                    }
                    prop_assert_eq!(row, &as_answer(&document, line), "{:?}", options);
                } else {
                    let error: Value = serde_json::from_str(rest.lines().next().unwrap()).unwrap();
                    for part in ["code", "found", "remedy"] {
                        prop_assert_eq!(&row["error"][part], &error["error"][part], "{:?}", options);
                    }
                    let field = error["error"]["field"].as_str().unwrap_or_default();
                    let key = field.replace("MODEL", "model").trim_start_matches("--").to_owned();
                    let key = if field.starts_with("--") { key.replace('-', "_") } else { key };
                    prop_assert_eq!(row["error"]["field"].as_str().unwrap_or_default(), key, "{:?}", options);
                }
            }
        }
    }

    /// Any change to any byte: each line that is not empty has one object, in order, with its number.
    #[test]
    fn nothing_is_lost_and_nothing_is_there_twice(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 0..40),
    ) {
        let mut bytes = Vec::new();
        for line in [
            LLAMA, r#"{"id":"é","model":"gemma-3-27b","seq_len":"8K","kv_dtype":"fp8"}"#, "", "{}", " \r",
            r#"{"model":{"layers":2,"kv_heads":2,"head_dim":4,"name":"own"},"seq_len":10,"id":[1]}"#,
            r#"{"layers":2,"kv_heads":2,"head_dim":4,"seq_len":10,"batch":3,"id":-1.50e3}"#,
            r#"{"model":"llama-3.1-8b","engine":"vllm","memory":"64GiB","seq_len":4096,"tp":2,"id":null}"#,
        ].repeat(3) {
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
        }
        for (at, byte, how) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                _ => bytes[at] = b"\n{}[]\",:0e\\\0\xFF"[usize::from(byte) % 13],
            }
        }
        let numbers: Vec<u64> = bytes
            .split(|&byte| byte == b'\n')
            .zip(1..)
            .filter(|(line, _)| !line.trim_ascii().is_empty())
            .map(|(_, number)| number)
            .collect();
        let (found, _) = answers("-q", bytes);
        let lines: Vec<u64> = found.iter().map(|object| object["line"].as_u64().unwrap()).collect();
        prop_assert_eq!(lines, numbers);
        for object in &found {
            let name = if object["error"].is_object() { "error" } else { "batch" };
            prop_assert_eq!(&object["schema"], &json!(format!("kvsize.{name}/1")));
        }
    }
}

#[test]
fn an_id_comes_back_as_it_was_written() {
    let ids = [r#""a\u00e9 \"b\"""#, "1.50", "-0", "123456789012345678901234567890", "null", "true", "1E+2", "\"\""];
    let lines: String =
        ids.iter().map(|id| format!(r#"{{"seq_len":1,"model":"llama-3.1-8b","id": {id} }}"#) + "\n").collect();
    let text = kvsize("batch").stdin(lines).output();
    let (errors, _) = answers("-q", ids.map(|id| format!(r#"{{"id":{id},"model":"nosuch"}}"#)).join("\n"));
    for ((line, id), error) in text.lines().zip(ids).zip(errors) {
        assert!(line.contains(&format!(r#""line":{},"id":{id},"model""#, error["line"])), "{line}");
        // Numbers are wider than our reader's.
        if !id.contains("1234") {
            assert_eq!(error["id"], serde_json::from_str::<Value>(id).unwrap());
        }
    }
    let found = error(r#"{"id":{"a":1},"model":"llama-3.1-8b"}"#);
    assert_eq!(found["message"], r#"id: {"a":1} is not one value; write a text, a number, true, false or null"#);
    let (objects, _) = answers("-q", r#"{"id":"before","model":"#);
    assert_eq!(objects[0]["id"], "before");
}

#[test]
fn bad_values_are_one_error_each() {
    for (line, expected) in [
        (
            r#"{"model":"llama-3.1-8b","seq_len":[1,2]}"#,
            "seq_len: lists several values, where one is taken; give one value, or use `kvsize estimate` for every combination",
        ),
        (
            r#"{"model":"llama-3.1-8b","kv_dtype":"fp8,bf16"}"#,
            "kv_dtype or bitwidth: 2 values are more than one estimate takes; give one value, or use `kvsize estimate` for every combination",
        ),
        (
            r#"{"model":"llama-3.1-8b","engine":"vllm,ideal"}"#,
            "engine: 2 values are more than one estimate takes; give one value, or use `kvsize estimate` for every combination",
        ),
        (
            r#"{"model":"llama-3.1-8b","batch":"8"}"#,
            r#"batch: "8" is a text, not a number; write the number without quotes"#,
        ),
        (r#"{"model":"llama-3.1-8b","tp":true}"#, "tp: true is not a number; write a number"),
        (
            r#"{"model":"llama-3.1-8b","seq_len":false}"#,
            r#"seq_len: false is not a number; write a number, or a text such as "128K" or "64GiB""#,
        ),
        (r#"{"model":"llama-3.1-8b","kv_dtype":8}"#, "kv_dtype: 8 is not a text; write it in quotes"),
        (r#"{"model":8}"#, "model: 8 is not a model; write its name, or an object"),
        (r#"{"model":"llama-3.1-8b","batch":0}"#, "batch: 0 is not a positive count; give a whole number of 1 or more"),
        (r#"{"model":"llama-3.1-8b","batch":-1}"#, "batch: -1 is not a count; give a whole number of 1 or more"),
        (
            r#"{"model":"llama-3.1-8b","batch":1.5}"#,
            "batch: 1.5 is not a whole count; give a whole number of 1 or more",
        ),
        (
            r#"{"model":"llama-3.1-8b","batch":18446744073709551616}"#,
            "batch: 18446744073709551616 is past 2^64 - 1; give a smaller number",
        ),
        (
            r#"{"model":"llama-3.1-8b","batch":9223372036854775808,"seq_len":1}"#,
            "seq_len, batch, layers, head_dim or bitwidth: their product is past 2^64 - 1 bytes; give smaller numbers",
        ),
        (
            r#"{"model":"llama-3.1-8b","seq_len":1e3}"#,
            "seq_len: 1e3 is a number of tokens with an unknown suffix; give a whole number, or one with k, m, g (powers of 1000) or K, M, G (powers of 1024)",
        ),
    ] {
        assert_eq!(message(line), expected, "{line}");
    }
}

#[test]
fn bad_keys_and_bad_lines_are_one_error_each() {
    for (line, expected) in [
        (r#"{"model":"llama-3.1-8b","batch":2,"tp":1,"batch":2}"#, "batch: is there twice; give it once"),
        (r#"{"model":"llama-3.1-8b","seq_len":2,"context":2}"#, "context: is there twice; give it once"),
        (r#"{"model":"llama-3.1-8b","id":2,"id":2}"#, "id: is there twice; give it once"),
        (r#"{"model":"llama-3.1-8b","seqlen":2}"#, "seqlen: unknown key; did you mean seq_len?"),
        (
            r#"{"model":"llama-3.1-8b","zzz":2}"#,
            "zzz: unknown key; `kvsize generate schema batch-line` lists the keys; --lenient passes over others",
        ),
        (
            r#"{"seq_len":2}"#,
            "model: missing; name one (`kvsize models` lists them), or give --layers --hidden-size --kv-heads",
        ),
        (
            r#"{"model":{"layers":2,"layers":3,"kv_heads":2,"head_dim":64}}"#,
            "model.layers: is there twice; give it once",
        ),
        (
            r#"{"model":"-"}"#,
            "model: - would be standard input, which is not read for a model here; write the object itself as its value",
        ),
        (
            r#"{"model":"llama-3.1-8b","engine":"vllm","prefix_caching":1}"#,
            "prefix_caching: 1 is neither true nor false; write true or false",
        ),
        (
            r#"{"model":"llama-3.1-8b","prefix_caching":true}"#,
            "enable_prefix_caching: applies to vllm, not to ideal; add --engine vllm, or leave it out",
        ),
        (r#"{"model":"llama-3.1-8b","num_speculative_tokens":1}"#, "speculative_method: missing; give it as well"),
        (
            r#"{"model":{"layers":2,"kv_heads":0,"head_dim":4}}"#,
            "model: kv_heads: 0 is not a positive count; write 1 or more",
        ),
        (
            r#"{"model":"llama-3.1-8b","tp":3}"#,
            "tp: 3 neither divides the 8 KV heads nor is a multiple of them; use one that does, as engines ask",
        ),
        (
            r#"{"model":"\ud800"}"#,
            r#"model: "\ud800" is not a text: unexpected end of hex escape at column 8; write it in quotes, its escapes whole"#,
        ),
        (
            "[1]",
            "[1] is not one JSON object: invalid type: sequence, expected an object; write an object, its keys and texts in double quotes",
        ),
        (
            "{}{}",
            "{}{} is not one JSON object: trailing characters at column 3; write an object, its keys and texts in double quotes",
        ),
        (
            "model=x",
            "model=x is not one JSON object: expected value at column 1; write an object, its keys and texts in double quotes",
        ),
    ] {
        assert_eq!(message(line), expected, "{line}");
    }
    assert_eq!(
        message(b"{\"id\":1,\"model\":\"\xC3\x28\"}".to_vec()),
        "the byte 0xC3 at column 18 is not UTF-8; write the line in UTF-8"
    );
    for (line, what) in [
        (b"{\"model\":\"a\0b\"}".to_vec(), "control character"),
        (b"\0\0\0".to_vec(), "expected value at column 1"),
        (b"{\"model\":\"llama-3.1-8b\"\0}".to_vec(), "expected `,` or `}`"),
    ] {
        assert!(message(line.clone()).contains(what), "{}", message(line));
    }
    // A name that no file can have.
    assert!(message(r#"{"model":"a\u0000b"}"#).contains("not in the catalogue"));
}

#[test]
fn deep_nesting_ends_in_an_error() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    for line in [
        deep(500_000),
        "[".repeat(500_000),
        format!(r#"{{"seq_len":{}}}"#, deep(500_000)),
        format!(r#"{{"zzz":{}}}"#, deep(500_000)),
        format!(r#"{{"id":{}}}"#, deep(500_000)),
        format!(r#"{{"model":{{"layers":2,"kv_heads":2,"head_dim":4,"x":{}}}}}"#, deep(500_000)),
        format!(r#"{{"model":{}1{}}}"#, r#"{"a":"#.repeat(100_000), "}".repeat(100_000)),
    ] {
        let error = error(line);
        // What is long is told in short.
        assert!(error.to_string().len() < 1000, "{error}");
    }
    let lenient = format!(r#"{{"zzz":{},"model":"llama-3.1-8b","seq_len":1}}"#, deep(500_000));
    assert_eq!(answers("--lenient", lenient).0[0]["bytes"], 131_072);
}

#[test]
fn lines_end_as_they_like_and_empty_ones_are_passed_over() {
    let text = format!("\u{feff}{LLAMA}\r\n\r\n  \n{LLAMA}\n\n\t{LLAMA} ");
    let (found, rest) = answers("", text);
    assert_eq!(rest, "--- status 0\n");
    assert_eq!(found.iter().map(|row| row["line"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 4, 6]);
    for empty in ["", "\n", "\r\n \n\n"] {
        kvsize("batch").stdin(empty).status(0);
    }
    kvsize("batch --strict -").stdin("").status(0);
}

#[test]
fn a_line_that_is_too_long_is_passed_over() {
    let limit = 4 << 20;
    let padded = |length: usize| format!("{}{LLAMA}", " ".repeat(length - LLAMA.len()));
    let file =
        Lines::of("long", format!("{LLAMA}\n{}\n{}\n{LLAMA}\n{}", padded(limit), padded(limit + 1), padded(limit + 1)));
    for threads in ["1", "3"] {
        let text = file.run(&format!("--threads {threads}")).text();
        let (stdout, rest) = text.split_once("--- stderr\n").unwrap();
        let found = objects(stdout);
        let lines: Vec<_> =
            found.iter().map(|row| (row["line"].as_u64().unwrap(), row["error"]["code"].as_str())).collect();
        assert_eq!(lines, [(1, None), (2, None), (3, Some("too_long")), (4, None), (5, Some("too_long"))]);
        assert_eq!(
            found[2]["error"]["message"],
            "the line is longer than 4194304 bytes, and was passed over; name the file of a large model"
        );
        assert_eq!(rest, "warning: 2 of 5 lines were not answered; each has an object that says why\n--- status 2\n");
    }
    // A hole of 256 MiB in a file, which is a line of as many NUL bytes.
    let mut hole = File::options().write(true).open(&file.0).unwrap();
    hole.seek(SeekFrom::Start(256 << 20)).unwrap();
    write!(hole, "\n{LLAMA}").unwrap();
    drop(hole);
    let text = file.run("-q").text();
    let found = objects(text.split_once("--- stderr\n").unwrap().0);
    assert_eq!(found.iter().map(|row| row["line"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!((&found[4]["error"]["code"], &found[5]["bytes"]), (&json!("too_long"), &json!(131_072_000)));
}

#[test]
fn a_large_input_is_answered_in_order_by_any_number_of_threads() {
    let mut lines = String::new();
    for number in 0..30_000u64 {
        match number % 500 {
            7 => lines.push_str("{\"model\":\n"),
            8 => lines.push('\n'),
            9 => writeln!(lines, r#"{{"id":{number},"model":"llama-3.1-8b","seq_len":9,"tp":3}}"#).unwrap(),
            _ => writeln!(
                lines,
                r#"{{"id":{number},"model":"{}","seq_len":{},"kv_dtype":"fp8"}}"#,
                ["llama-3.1-8b", "gemma-3-27b", "deepseek-v3"][(number % 3) as usize],
                number + 1
            )
            .unwrap(),
        }
    }
    let file = Lines::of("large", &lines);
    let output = |threads: u32| file.run(&format!("-q --threads {threads}")).text();
    let one = output(1);
    assert!(one.ends_with("--- stderr\n--- status 2\n"));
    let found = objects(one.split_once("--- stderr\n").unwrap().0);
    assert_eq!(found.len(), 30_000 - 60);
    assert!(found.windows(2).all(|pair| pair[0]["line"].as_u64() < pair[1]["line"].as_u64()));
    for row in found.iter().filter(|row| !row["error"].is_object()) {
        assert_eq!(row["id"].as_u64().unwrap() + 1, row["line"].as_u64().unwrap());
        assert_eq!(row["seq_len"], row["line"]);
    }
    for threads in [2, 3, 7] {
        assert!(output(threads) == one, "{threads} threads");
    }
    // It stops at the first error, wherever that is.
    let until = |text: &str| text.find("kvsize.error").unwrap();
    let fast = file.run("-q --fail-fast --threads 3").text();
    let end = one[until(&one)..].find('\n').unwrap() + until(&one) + 1;
    assert_eq!(fast, format!("{}--- stderr\n--- status 2\n", &one[..end]));
    let good = lines.replace("{\"model\":\n", "\n").replace("\"tp\":3", "\"tp\":1");
    let late = Lines::of("late", format!("{good}{{\n{LLAMA}\n"));
    let text = late.run("-q --fail-fast --threads 3").text();
    let found = objects(text.split_once("--- stderr\n").unwrap().0);
    assert_eq!(found.last().unwrap()["line"], 30_001);
    assert_eq!(found.iter().filter(|row| row["error"].is_object()).count(), 1);
}

#[test]
fn keys_that_are_not_known_are_passed_over_when_asked() {
    let line = r#"{"model":"llama-3.1-8b","seq_len":1,"note":{"a":[1]},"priority":3}"#;
    assert_eq!(answers("--lenient", line).0[0]["bytes"], 131_072);
    assert_eq!(error(line)["code"], "unknown_key");
}

#[test]
fn warnings_are_told_and_are_errors_when_asked() {
    let lines = format!("{}\n{LLAMA}\n", r#"{"id":1,"model":"llama-3.1-8b","seq_len":1000000}"#);
    let (found, rest) = answers("", lines.clone());
    assert_eq!(rest, "--- status 0\n");
    assert_eq!(
        found[0]["warnings"],
        json!(["1,000,000 tokens is past the model's maximum of 131,072 (max_position_embeddings)"])
    );
    assert!(found[1].get("warnings").is_none());
    let (found, rest) = answers("--strict -q", lines);
    assert_eq!(rest, "--- status 2\n");
    assert_eq!((&found[0]["id"], &found[0]["error"]["code"]), (&json!(1), &json!("strict")));
    assert_eq!(found[1]["bytes"], 131_072_000);
}

/// A batch that is written to line by line.
fn started(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_kvsize"))
        .arg("batch")
        .args(arguments)
        .env("HF_HUB_OFFLINE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn answers_come_while_the_input_pauses() {
    for threads in ["1", "2"] {
        let mut child = started(&["--threads", threads]);
        let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (send, answers) = mpsc::channel();
        thread::spawn(move || BufReader::new(stdout).lines().for_each(|line| send.send(line.unwrap()).unwrap()));
        let next = || answers.recv_timeout(Duration::from_secs(60)).expect("an answer, though the input is open");
        for _ in 0..3 {
            writeln!(stdin, "{LLAMA}").unwrap();
            assert!(next().contains("131072000"));
        }
        // A part of a line waits for the rest of it.
        write!(stdin, "{LLAMA}\n{}", &LLAMA[..9]).unwrap();
        assert!(next().contains("\"line\":4,"));
        writeln!(stdin, "{}", &LLAMA[9..]).unwrap();
        assert!(next().contains("\"line\":5,"));
        // Past what is given to several threads it still does not wait.
        let many = format!("{LLAMA}\n").repeat(40_000);
        let writer = thread::spawn(move || stdin.write_all(many.as_bytes()).map(|()| stdin));
        for number in 6..40_006 {
            assert!(next().contains(&format!("\"line\":{number},")));
        }
        drop(writer.join().unwrap().unwrap());
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_closed_pipe_is_success() {
    let file = Lines::of("pipe", format!("{LLAMA}\n").repeat(60_000));
    for threads in ["1", "2"] {
        let mut child = started(&[file.0.to_str().unwrap(), "--threads", threads]);
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 100]).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
    }
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    kvsize("batch nosuch.jsonl")
        .stderr("error: nosuch.jsonl: cannot be read: No such file or directory (os error 2); make the file readable\n")
        .status(2);
    let text = kvsize("batch .").text();
    assert!(text.starts_with("--- stderr\nerror: .: ") && text.ends_with("status 2\n"), "{text}");
    kvsize("batch --threads 0")
        .stderr("error: --threads: 0 is not a positive count; give a whole number of 1 or more\n")
        .status(2);
}
