//! Help that is true: its examples are run, and it fits a terminal.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Run, golden, kvsize};

/// Every command, as the program lists them; the program itself is the first.
pub(crate) fn commands() -> Vec<String> {
    let help = kvsize("--help").output();
    let (_, list) = help.split_once("\nCommands:\n").expect("commands are listed");
    let names = list.lines().take_while(|line| line.starts_with(' ')).filter(|line| !line.starts_with("   "));
    let names: Vec<_> = names.filter_map(|line| line.split_whitespace().next()).map(ToOwned::to_owned).collect();
    assert!(names.len() >= 14, "{names:?}");
    [String::new()].into_iter().chain(names).collect()
}

/// What each example of a command is for, and its line.
fn examples(command: &str) -> Vec<(String, String)> {
    let help = kvsize(&format!("{command} --help")).output();
    let (_, text) = help.split_once("\nExamples:\n").unwrap_or_else(|| panic!("{command}: no examples"));
    let lines: Vec<&str> = text.lines().take_while(|line| line.starts_with("  ")).collect();
    let pairs = lines.chunks(2).map(|pair| {
        let [what, line] = pair else { panic!("{command}: {pair:?}") };
        let what = what.strip_prefix("  # ").unwrap_or_else(|| panic!("{command}: {what}"));
        (what.to_owned(), line.trim().to_owned())
    });
    pairs.collect()
}

/// A directory with the files that examples name.
fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("kvsize-help-{}-{name}", std::process::id()));
    for home in
        [".local/share/bash-completion/completions", ".local/share/man/man1", ".config/fish/completions", ".zfunc"]
    {
        fs::create_dir_all(directory.join(home)).unwrap();
    }
    fs::copy(golden("configs/Qwen--Qwen3-8B.json"), directory.join("config.json")).unwrap();
    fs::write(directory.join("questions.jsonl"), "{\"model\": \"llama-3.1-8b\", \"seq_len\": \"8K\"}\n").unwrap();
    directory
}

/// Budgets, and the answers to them, where a line reads them.
fn with_budgets(directory: &Path) {
    kvsize("check --init kv-budgets.json").at(directory).data();
    let answers = kvsize("check --file kv-budgets.json --json").at(directory).data();
    fs::write(directory.join("main.json"), answers).unwrap();
}

/// Commands that help does not list, and how they are typed.
const UNLISTED: [(&str, &str); 4] = [
    ("weights", "kvsize weights"),
    ("schema", "kvsize generate schema"),
    ("completions", "kvsize generate completions"),
    ("man", "kvsize generate man"),
];

/// Every command, those that are not listed too, and how it is typed.
fn typed() -> Vec<(String, String)> {
    let listed = commands().into_iter().map(|command| (format!("kvsize {command}").trim_end().to_owned(), command));
    let listed = listed.map(|(typed, command)| (command, typed));
    listed.chain(UNLISTED.map(|(command, typed)| (command.to_owned(), typed.to_owned()))).collect()
}

/// Each is answered, with yes unless it says that it is not, and without a word of a mistake.
#[test]
fn every_example_runs() {
    let mut wrong = Vec::new();
    for (command, typed) in typed() {
        let examples = examples(&command);
        assert!(examples.len() >= 2, "{command}: {examples:?}");
        for (index, (what, line)) in examples.iter().enumerate() {
            assert!(line.contains(&typed), "{command}: {line}");
            let directory = directory(&format!("{command}-{index}"));
            if line.contains("--file kv-budgets.json") {
                with_budgets(&directory);
            }
            // A pager may not be there, and is not what is tested.
            let line = line.replace("| man -l -", "| cat");
            let text = Run::shell(&line).at(&directory).env("HOME", &directory).text();
            let status = i32::from(what.contains("status 1"));
            let said = text.split_once("--- stderr\n").unwrap().1;
            if !said.ends_with(&format!("--- status {status}\n")) || said.contains("error:") {
                wrong.push(format!("{line}: {said}"));
            }
            fs::remove_dir_all(directory).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_stands_below_the_options_fits_a_terminal() {
    for (command, _) in typed() {
        let help = kvsize(&format!("{command} --help")).output();
        let (_, below) = help.split_once("\nExamples:\n").unwrap();
        let (examples_and_notes, statuses) = below.split_once("\nExit status: ").expect("statuses are told");
        let long: Vec<&str> = examples_and_notes.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{command}: {long:#?}");
        assert!(statuses.starts_with("0 ") && statuses.contains("2 "), "{command}: {statuses}");
    }
}

/// The short help is the shorter one, and says that there is more.
#[test]
fn short_help_is_short() {
    for command in commands() {
        let long = kvsize(&format!("{command} --help")).output();
        let short = kvsize(&format!("{command} -h")).output();
        assert!(short.lines().count() < long.lines().count(), "{command}");
        assert!(short.lines().count() <= 80, "{command}: {short}");
        assert!(!short.contains("Examples:"), "{command}");
        let tells = if command.is_empty() { "--help     all options" } else { "see more with '--help'" };
        assert!(short.contains(tells), "{command}: {short}");
    }
}
