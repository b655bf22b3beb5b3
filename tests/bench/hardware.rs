//! What questions about hardware cost over the whole list of accelerators, as ratios to a program that does nothing.
//!
//! `cargo bench --bench hardware`. Nothing here passes or fails.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    reason = "a benchmark prints ratios of times, and stops when it can't measure"
)]

mod measure;

use std::path::{Path, PathBuf};
use std::process::Command;

use measure::{Query, build, peak_kib, statistics, time};

/// Runs of each program, taken in turn.
const RUNS: usize = 200;

fn main() {
    let target = build(Path::new(env!("CARGO_MANIFEST_DIR")), "empty");
    let program = target.join("kvsize");
    let all = every_gpu(&program);
    println!(
        "{} kinds of GPU whose memory is known; {RUNS} runs each, in turn; wall time of the whole process\n",
        all.len()
    );
    let eights = all.iter().map(|name| format!("8x{name}")).collect::<Vec<_>>().join(",");
    let query = |name, arguments: &[&str]| Query {
        name,
        program: program.clone(),
        arguments: arguments.iter().map(ToString::to_string).collect(),
        times: Vec::with_capacity(RUNS),
    };
    let fit = |name, engine| query(name, &["fit", "llama-3.1-8b", "--gpu", &eights, "-e", engine, "-q"]);
    let plan = |name, more: &[&str]| query(name, &[&["plan", "llama-3.1-70b", "-s", "128K", "-q"], more].concat());
    let mut queries = [
        Query { program: target.join("examples/empty"), ..query("an empty program", &[]) },
        fit("fit, live bytes", "ideal"),
        fit("fit, vLLM", "vllm"),
        fit("fit, llama.cpp", "llama.cpp"),
        plan("plan, live bytes", &[]),
        plan("plan, vLLM", &["-e", "vllm"]),
        plan("plan x 8, vLLM", &["-e", "vllm", "-b", "8"]),
    ];
    for _ in 0..RUNS {
        for query in &mut queries {
            query.times.push(time(query));
        }
    }
    println!("{:<18} {:>9} {:>7} {:>10} {:>9}", "query", "min ms", "ratio", "median ms", "peak KiB");
    let (floor, _) = statistics(&mut queries[0].times);
    for query in &mut queries {
        let (min, median) = statistics(&mut query.times);
        let peak = peak_kib(query).unwrap_or_else(|| "skipped".into());
        println!("{:<18} {:>9.3} {:>7.2} {:>10.3} {peak:>9}", query.name, min * 1e3, min / floor, median * 1e3);
    }
}

/// The names of the catalogue of which `fit` knows the memory.
fn every_gpu(program: &PathBuf) -> Vec<String> {
    let listed = Command::new(program).args(["gpus", "-f", "plain"]).output().expect("the list is printed");
    let names = String::from_utf8(listed.stdout).expect("the list is text");
    let answers = |name: &&str| {
        let fit = Command::new(program).args(["fit", "llama-3.1-8b", "--gpu", name, "-q"]).output();
        fit.expect("the program runs").status.code() != Some(2)
    };
    names.lines().filter(answers).map(ToOwned::to_owned).collect()
}
