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

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs of each program, taken in turn so that the machine's moods fall on all alike.
const RUNS: usize = 1_000;

struct Query {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    times: Vec<Duration>,
}

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = build(root);
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

/// Builds both programs with the release profile: `cargo bench` itself would build them to unwind.
fn build(root: &Path) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--bin", "kvsize", "--example", "empty"])
        .current_dir(root)
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the programs must build");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("release");
    // Copied, as an installation does: a file fresh from the linker lies in memory in smaller pieces and starts slower.
    let installed = target.join("bench-startup");
    std::fs::create_dir_all(&installed).expect("a place for the programs");
    for (from, name) in [("kvsize", "kvsize"), ("examples/empty", "empty")] {
        std::fs::copy(target.join(from), installed.join(name)).expect("the program is copied");
    }
    installed
}

fn time(query: &Query) -> Duration {
    let mut command = Command::new(&query.program);
    command.args(&query.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    command.status().expect("the program runs");
    start.elapsed()
}

/// Minimum and median, in seconds.
fn statistics(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    (times[0].as_secs_f64(), times[times.len() / 2].as_secs_f64())
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

/// Peak resident memory, read from the system while the program waits: its output goes into a pipe that is full.
fn peak_kib(query: &Query) -> Option<String> {
    const PIPE_BYTES: usize = 64 << 10;
    if query.arguments.is_empty() {
        return Some("-".into());
    }
    let (mut reader, mut writer) = std::io::pipe().ok()?;
    writer.write_all(&vec![b' '; PIPE_BYTES]).ok()?;
    let mut command = Command::new(&query.program);
    command.args(&query.arguments).stdin(Stdio::null()).stdout(writer).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    drop(command);
    std::thread::sleep(Duration::from_millis(100));
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    reader.read_to_end(&mut Vec::new()).ok()?;
    child.wait().ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.to_owned())
}
