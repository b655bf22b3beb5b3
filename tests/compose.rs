//! Every command composes: with pipes that close, with programs that read JSON, with scripts that have no terminal, and it says the
//! same on every machine.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Run, golden};
use crate::help::commands;

/// A line for each command; its first word is the command, of an estimate there is none.
const LINES: [&str; 20] = [
    "llama-3.1-8b -s 8k",
    "explain llama-3.1-8b -s 8k -e vllm",
    "article",
    "fit llama-3.1-8b --gpu 1xh100 -e vllm -s 8k",
    "plan llama-3.1-8b -s 8k",
    "check llama-3.1-8b -s 8k --budget 40GB",
    "check --file CONFIGS/ci/kv-budgets.json",
    "levers llama-3.1-8b -s 8k",
    "weights llama-3.1-8b",
    "batch CONFIGS/questions.jsonl",
    "llama-3.1-8b -s 1k..4k*2 --tp 1,2",
    "models",
    "gpus",
    "formats",
    "engines",
    "generate schema",
    "generate completions bash",
    "generate man check",
    "help check",
    "--help",
];

/// The words of a line, its files by their whole path.
fn words(line: &str) -> Vec<String> {
    let configs = golden("configs");
    line.split_whitespace().map(|word| word.replace("CONFIGS", configs.to_str().unwrap())).collect()
}

fn run(line: &str) -> Run {
    Run::new(words(line).iter().map(String::as_str))
}

/// Whether a line is of a command whose answer has formats.
fn has_formats(line: &&str) -> bool {
    !["batch", "generate", "help", "--help"].iter().any(|command| line.starts_with(command))
}

#[test]
fn every_command_is_here() {
    // The first is the program itself.
    for name in commands().iter().skip(1) {
        let is_here = LINES.iter().any(|line| line.split(' ').next() == Some(name.as_str())) || name == "estimate";
        assert!(is_here, "{name}");
    }
}

/// Whoever reads has enough: that is no error, and the answer is what it was.
#[test]
fn a_pipe_that_closes_changes_no_answer() {
    let of_status = |status: i32, lines: &[&'static str]| lines.iter().map(|&line| (line, status)).collect::<Vec<_>>();
    let answered = of_status(0, &LINES).into_iter().filter(|(line, _)| !line.starts_with("batch"));
    let no = of_status(1, &["check llama-3.1-8b -s 128K --budget 1GB", "fit llama-3.1-70b --gpu 1xl4 -e vllm"]);
    let unknown = of_status(2, &["check --file CONFIGS/ci/kv-budgets.json --baseline CONFIGS/ci/base.json --strict"]);
    for (line, status) in answered.chain(no).chain(unknown) {
        let mut child = run(line).command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status), "{line}: {stderr}");
        assert!(!stderr.contains("error"), "{line}: {stderr}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_can_t_be_written_is_an_error() {
    for line in LINES {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = run(line).command().stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("error: No space left"), "{line}: {stderr}");
    }
}

#[test]
fn json_is_one_value_and_jsonl_one_a_line() {
    for line in LINES.into_iter().filter(has_formats) {
        let json = run(&format!("{line} --json -q")).any_data();
        let value: Value = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(value.is_object() || value.is_array(), "{line}");
        assert!(json.ends_with("}\n") || json.ends_with("]\n"), "{line}");
        let lines = run(&format!("{line} -f jsonl -q")).any_data();
        assert!(lines.ends_with('\n') && lines.lines().count() > 0, "{line}");
        for row in lines.lines() {
            let row: Value = serde_json::from_str(row).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(row.is_object(), "{line}");
        }
    }
}

/// An error of a question under `--json` is an object on stderr, and stdout is empty: nothing is parsed that is no answer.
#[test]
fn errors_are_objects_beside_empty_output() {
    for line in LINES.into_iter().filter(has_formats) {
        let text = run(&format!("{line} --no-such-option --json")).text();
        let error = text.strip_prefix("--- stderr\n").and_then(|rest| rest.strip_suffix("--- status 2\n"));
        let error: Value = serde_json::from_str(error.unwrap_or_else(|| panic!("{line}: {text}"))).unwrap();
        assert_eq!(error["schema"], "kvsize.error/1", "{line}");
    }
}

#[test]
fn quiet_is_quiet_and_data_is_the_same() {
    for line in LINES.into_iter().filter(has_formats) {
        let (loud, quiet) = (run(line).text(), run(&format!("{line} -q")).text());
        let data = |text: &str| text.split("--- stderr\n").next().unwrap().to_owned();
        assert_eq!(data(&loud), data(&quiet), "{line}");
        assert!(quiet.contains("--- stderr\n--- status "), "{line}: {quiet}");
    }
}

/// No locale, no time zone, no home, no width, no terminal's name changes a byte; nor does the directory.
#[test]
fn it_says_the_same_on_every_machine() {
    for line in LINES {
        let here = run(line).text();
        // Help is for people: it folds to the width that a shell tells.
        let columns = if ["--help", "help check"].contains(&line) { "100" } else { "20" };
        let elsewhere = run(line)
            .at(std::env::temp_dir())
            .env("LANG", "de_DE.UTF-8")
            .env("LC_ALL", "ar_EG.UTF-8")
            .env("TZ", "Pacific/Kiritimati")
            .env("HOME", "/nowhere")
            .env("USER", "nobody")
            .env("COLUMNS", columns)
            .env("LINES", "2")
            .env("TERM", "xterm-256color")
            .env("COLORTERM", "truecolor")
            .env("SOURCE_DATE_EPOCH", "1")
            .stdin("what no one asked for\n")
            .text();
        assert_eq!(here, elsewhere, "{line}");
        assert!(!here.contains('\u{1b}'), "{line}");
    }
}

/// Standard input that stays open and says nothing keeps no command waiting: none prompts, and none reads what it was not told to.
#[test]
fn nothing_waits_for_input() {
    for line in LINES {
        let mut child =
            run(line).command().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
                panic!("{line} waits");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What is in the catalogue or in a file is not asked of the hub, nor of a proxy on the way to it.
#[test]
fn nothing_goes_to_the_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    for line in LINES {
        run(line).env("HF_ENDPOINT", &address).env("https_proxy", &address).env("ALL_PROXY", &address).text();
    }
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().map(|_| ()).unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// As scripts have it: in pipelines, whose every part must succeed.
#[cfg(unix)]
#[test]
fn pipelines_of_a_shell() {
    let directory = std::path::Path::new(env!("CARGO_BIN_EXE_kvsize")).parent().unwrap();
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
    for (script, expected) in [
        ("printf 'llama-3.1-8b\\nqwen3-8b\\n' | xargs -n 1 kvsize -s 8k -f jsonl | wc -l", "4"),
        ("printf 'llama-3.1-8b\\nqwen3-8b\\n' | xargs kvsize -s 8k -f jsonl | wc -l", "4"),
        ("kvsize models -f plain | head -n 1 | wc -l", "1"),
        ("kvsize llama-3.1-8b -s 1k..1m*2 -f jsonl -q | head -n 2 | wc -l", "2"),
        (
            "seq 100000 | sed 's/.*/{\"model\":\"llama-3.1-8b\",\"seq_len\":8192}/' | kvsize batch - | tail -n 1 | grep -c 100000",
            "1",
        ),
        ("kvsize check llama-3.1-8b -s 8k --budget 1GB -q > /dev/null || echo over", "over"),
        ("kvsize check llama-3.1-8b -s 8k --budget 2GB -q > /dev/null && echo within", "within"),
    ] {
        let output = Command::new("bash")
            .args(["-o", "pipefail", "-c", script])
            .current_dir(golden("configs"))
            .env("PATH", &path)
            .output()
            .unwrap();
        let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!((stdout.trim(), stderr.as_str(), output.status.code()), (expected, "", Some(0)), "{script}");
    }
}

/// Lines that come one by one are answered one by one, in both directions at once.
#[test]
fn a_batch_answers_while_it_is_asked() {
    let mut child = run("batch -").command().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    for number in 1..=3 {
        writeln!(stdin, "{{\"model\":\"llama-3.1-8b\",\"seq_len\":{number}}}").unwrap();
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            stdout.read_exact(&mut byte).unwrap();
            line.extend(byte);
        }
        let answer: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((&answer["line"], &answer["seq_len"]), (&number.into(), &number.into()));
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
