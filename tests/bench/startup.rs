//! What one query costs, as ratios to a program that does nothing, built with the same profile.
//!
//! `cargo bench`. Nothing here passes or fails: the figures are for people, and for the budgets in the README.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::arithmetic_side_effects,
    reason = "a benchmark prints ratios of times, and stops when it can't measure"
)]

mod measure;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use measure::{Query, build, peak_kib, statistics, time};

/// Runs of each program, taken in turn so that the machine's moods fall on all alike.
const RUNS: usize = 1_000;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = installed(&build(root, "empty"));
    let config = root.join("tests/golden/configs/meta-llama--Meta-Llama-3.1-8B.json");
    let query = |name, arguments: &[&str]| Query {
        name,
        program: target.join("kvsize"),
        arguments: arguments.iter().map(ToString::to_string).collect(),
        times: Vec::with_capacity(RUNS),
    };
    let mut queries = [
        Query { program: target.join("empty"), ..query("an empty program", &[]) },
        query("from flags", &["--layers", "48", "--hidden-size", "5120", "--kv-heads", "8"]),
        query("from the catalogue", &["llama-4-scout", "-s", "128K"]),
        query("as vLLM allocates", &["llama-4-scout", "-s", "128K", "-e", "vllm"]),
        query("from a config file", &[config.to_str().expect("the path is text"), "-s", "128K"]),
    ];
    for _ in 0..RUNS {
        for query in &mut queries {
            query.times.push(time(query));
        }
    }
    println!("{RUNS} runs each, in turn; wall time of the whole process\n");
    println!(
        "{:<20} {:>9} {:>7} {:>9} {:>7} {:>14} {:>9}",
        "query", "min ms", "ratio", "median ms", "ratio", "instructions", "peak KiB"
    );
    let floor = statistics(&mut queries[0].times);
    for query in &mut queries {
        let (min, median) = statistics(&mut query.times);
        println!(
            "{:<20} {:>9.3} {:>7.3} {:>9.3} {:>7.3} {:>14} {:>9}",
            query.name,
            min * 1e3,
            min / floor.0,
            median * 1e3,
            median / floor.1,
            instructions(query).unwrap_or_else(|| "skipped".into()),
            peak_kib(query).unwrap_or_else(|| "skipped".into()),
        );
    }
    let size = std::fs::metadata(target.join("kvsize")).expect("the program is built").len();
    println!("\nstripped binary: {size} bytes");
    println!(
        "instructions: valgrind's callgrind; peak: VmHWM while the answer waits to be written. Skipped where neither is there."
    );
}

/// The programs copied, as an installation does: a file fresh from the linker lies in memory in smaller pieces and starts
/// slower.
fn installed(target: &Path) -> PathBuf {
    let installed = target.join("bench-startup");
    std::fs::create_dir_all(&installed).expect("a place for the programs");
    for (from, name) in [("kvsize", "kvsize"), ("examples/empty", "empty")] {
        std::fs::copy(target.join(from), installed.join(name)).expect("the program is copied");
    }
    installed
}

/// Instructions of the whole process, dynamic loading included.
fn instructions(query: &Query) -> Option<String> {
    let valgrind: [&OsStr; 3] =
        ["--tool=callgrind".as_ref(), "--callgrind-out-file=/dev/null".as_ref(), query.program.as_os_str()];
    let output = Command::new("valgrind").args(valgrind).args(&query.arguments).output().ok()?;
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = report.lines().find(|line| line.contains("Collected"))?;
    Some(line.rsplit(' ').next()?.to_owned())
}
