//! What the benchmarks measure with: whole processes, built as they are installed.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A program with its arguments, and what its runs took.
pub(super) struct Query {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) times: Vec<Duration>,
}

/// Builds the program and an example with the release profile: `cargo bench` itself would build them to unwind. Where they
/// lie.
pub(super) fn build(root: &Path, example: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--bin", "kvsize", "--example", example])
        .current_dir(root)
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the programs must build");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("release")
}

/// The time of one run, which must succeed.
pub(super) fn time(query: &Query) -> Duration {
    let mut command = Command::new(&query.program);
    command.args(&query.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().expect("the program runs");
    let time = start.elapsed();
    assert!(status.success(), "{}", query.name);
    time
}

/// Minimum and median, in seconds.
pub(super) fn statistics(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    (times[0].as_secs_f64(), times[times.len() / 2].as_secs_f64())
}

/// Peak resident memory, read from the system while the program waits: its output goes into a pipe that is full.
#[allow(dead_code, reason = "not every benchmark asks for it")]
pub(super) fn peak_kib(query: &Query) -> Option<String> {
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
    std::thread::sleep(Duration::from_millis(200));
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    reader.read_to_end(&mut Vec::new()).ok()?;
    child.wait().ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.to_owned())
}
