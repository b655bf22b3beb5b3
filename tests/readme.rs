//! The README is true: every `$ kvsize …` in it prints what it shows.

use std::fs;

use crate::harness::{Run, golden};
use crate::schema::{assert_valid, schema};

fn readme() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

/// The arguments of a command line, single quotes honoured.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(ToOwned::to_owned));
        }
    }
    words
}

#[test]
fn every_command_prints_what_is_shown() {
    let readme = readme();
    let mut commands = 0;
    for block in readme.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        // A command begins a line; one that is a part of an answer is indented.
        for shown in format!("\n{block}").split("\n$ kvsize").skip(1) {
            let (line, expected) = shown.split_once('\n').unwrap();
            let words = words(line);
            let text = Run::new(words.iter().map(String::as_str)).text();
            let (stdout, rest) = text.split_once("--- stderr\n").unwrap();
            let (stderr, _) = rest.split_once("--- status ").unwrap();
            assert_eq!(format!("{stdout}{stderr}").trim_end(), expected.trim_end(), "$ kvsize{line}");
            commands += 1;
        }
    }
    assert!(commands >= 5, "{commands} commands");
}

/// The lines that are shown are those of the file that is answered, and as their schema says.
#[test]
fn the_batch_that_is_shown_is_the_one_that_is_answered() {
    let lines = fs::read_to_string(golden("configs/questions.jsonl")).unwrap();
    assert!(readme().contains(&format!("```json\n{lines}```\n")));
    for line in lines.lines().filter(|line| !line.contains("typo")) {
        assert_valid(&schema("batch-line"), &serde_json::from_str(line).unwrap(), line);
    }
}

#[test]
fn ci_runs_the_test_command_of_the_readme() {
    let ci = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/run")).unwrap();
    assert!(readme().contains("\ncargo test\n"));
    assert!(ci.contains("\ncargo test\n"));
}
