//! What a batch costs: estimates a second on one core and on two, against a program that only parses the same lines and
//! prints as many bytes; and the memory of it, for ever longer inputs.
//!
//! `cargo bench --bench batch`. Nothing here passes or fails: the figures are for people, and for the budgets in the README.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::arithmetic_side_effects,
    reason = "a benchmark prints ratios of times, and stops when it can't measure"
)]

mod measure;

use std::fmt::Write as _;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use measure::{Query, build, statistics, time};

/// Lines of each mix.
const LINES: u64 = 300_000;

/// Runs of each program, taken in turn so that the machine's moods fall on all alike.
const RUNS: usize = 5;

const MODELS: [&str; 20] = [
    "llama-3.1-8b",
    "llama-3.1-70b",
    "qwen3-8b",
    "qwen3-32b",
    "qwen3-235b-a22b",
    "mistral-7b-v0.3",
    "gemma-3-27b",
    "gemma-4-26b-a4b",
    "gpt-oss-20b",
    "gpt-oss-120b",
    "deepseek-v3",
    "llama-4-scout",
    "phi-4",
    "qwen2.5-7b",
    "qwen2.5-32b",
    "mixtral-8x7b",
    "phi-2",
    "llama-3.2-1b",
    "llama-3.2-3b",
    "qwen3-30b-a3b",
];

/// A line of a mix.
fn line(mix: &str, number: u64) -> String {
    let mut text = format!("{{\"id\":{number},\"model\":\"");
    let model = match mix {
        "20 models, ideal" => MODELS[(number % 20) as usize],
        _ => "llama-3.1-8b",
    };
    let dtype = ["bf16", "fp8"][(number % 2) as usize];
    let seq_len = 1 + number * 7919 % 131_072;
    write!(text, "{model}\",\"seq_len\":{seq_len},\"batch\":{},\"kv_dtype\":\"{dtype}\"", 1 + number % 64)
        .expect("a text");
    if mix.starts_with("vllm") {
        text += ",\"engine\":\"vllm\"";
    }
    if mix == "vllm with memory" {
        write!(text, ",\"memory\":{}", (16 + number % 48) << 30).expect("a text");
    }
    text + "}\n"
}

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = build(root, "lines");
    let directory = target.join("bench-batch");
    std::fs::create_dir_all(&directory).expect("a directory for the inputs");
    println!("{LINES} lines a mix; {RUNS} runs each, in turn; the fastest, wall time of the whole process\n");
    println!("{:<20} {:<24} {:>9} {:>12} {:>13} {:>13}", "mix", "program", "ms", "lines/s", "of typed", "of a Value");
    for mix in ["one model, ideal", "20 models, ideal", "vllm", "vllm with memory"] {
        let file = input(&directory, mix, LINES);
        let file = file.to_str().expect("a path");
        let printed = output(&target, file).len() as u64;
        let each = (printed / LINES).to_string();
        let query = |name, program: &str, arguments: &[&str]| Query {
            name,
            program: target.join(program),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            times: Vec::with_capacity(RUNS),
        };
        let mut queries = [
            query("parse, typed", "examples/lines", &["typed", file, &each]),
            query("parse, into a Value", "examples/lines", &["value", file, &each]),
            query("kvsize batch --threads 1", "kvsize", &["batch", file, "--threads", "1"]),
            query("kvsize batch", "kvsize", &["batch", file]),
        ];
        for _ in 0..RUNS {
            for query in &mut queries {
                query.times.push(time(query));
            }
        }
        let floors = [0, 1].map(|index: usize| statistics(&mut queries[index].times).0);
        for query in &mut queries {
            let (min, _) = statistics(&mut query.times);
            println!(
                "{mix:<20} {:<24} {:>9.1} {:>12.0} {:>13.2} {:>13.2}",
                query.name,
                min * 1e3,
                LINES as f64 / min,
                min / floors[0],
                min / floors[1],
            );
        }
    }
    println!("\n{:<20} {:>12} {:>12}", "lines", "peak KiB, 1", "peak KiB");
    for lines in [10_000, 100_000, 1_000_000, 10_000_000] {
        let file = input(&directory, "20 models, ideal", lines);
        let file = file.to_str().expect("a path");
        let peaks =
            [&["batch", file, "--threads", "1"][..], &["batch", file]].map(|arguments| peak(&target, arguments));
        println!("{lines:<20} {:>12} {:>12}", peaks[0], peaks[1]);
        std::fs::remove_file(file).expect("the input goes");
    }
}

/// A file of lines of a mix.
fn input(directory: &Path, mix: &str, lines: u64) -> PathBuf {
    let path = directory.join(format!("{}-{lines}.jsonl", mix.replace([' ', ','], "-")));
    let mut file = BufWriter::new(std::fs::File::create(&path).expect("an input"));
    (0..lines).for_each(|number| file.write_all(line(mix, number).as_bytes()).expect("a line"));
    path
}

fn output(target: &Path, file: &str) -> Vec<u8> {
    let output = Command::new(target.join("kvsize")).args(["batch", file]).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Peak resident memory, as the system tells it while the last of the output is held back.
fn peak(target: &Path, arguments: &[&str]) -> String {
    let mut child = Command::new(target.join("kvsize"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut out = child.stdout.take().expect("its output");
    let (mut buffer, mut status) = (vec![0; 64 << 10], String::new());
    let mut blocks = 0u64;
    while out.read(&mut buffer).expect("its output is read") > 0 {
        blocks += 1;
        if blocks.is_multiple_of(64) {
            status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or(status);
        }
    }
    child.wait().expect("the program ends");
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or("skipped").to_owned()
}
