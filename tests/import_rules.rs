//! Which room may name what. The compiler can't hold this in one package, so this test reads the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// A room, the rooms it may name, and whether it is of the pure core.
const ROOMS: &[(&str, &[&str], bool)] = &[
    ("units", &[], true),
    ("model", &["units"], true),
    ("estimate", &["units", "model"], true),
    ("engine", &["units", "model", "estimate", "catalogue"], true),
    ("strategy", &["units", "model", "estimate"], true),
    ("hardware", &["units", "model", "estimate", "engine"], true),
    ("catalogue", &["units", "model"], false),
    ("request", &["units", "model", "estimate", "engine", "strategy", "hardware", "catalogue"], false),
    ("fit", &["units", "model", "estimate", "engine", "hardware", "request"], true),
    ("check", &["units", "model", "estimate", "engine", "fit", "request"], true),
    // Sources of what a request names.
    ("source", &["units", "model", "catalogue", "request"], false),
    ("report", &["units", "model", "estimate", "engine", "strategy", "hardware", "fit", "check", "catalogue"], false),
    (
        "cli",
        &[
            "units",
            "model",
            "estimate",
            "engine",
            "strategy",
            "hardware",
            "request",
            "fit",
            "check",
            "catalogue",
            "source",
            "report",
        ],
        false,
    ),
];

/// What the pure core may not name: the edge, the outside world, and floats, in which bytes would be inexact.
const IMPURE: &[&str] = &[
    "anyhow",
    "anstream",
    "comfy_table",
    "serde_json",
    "std::fs",
    "std::env",
    "std::io",
    "std::net",
    "std::process",
    "println!",
    "print!",
    "eprintln!",
    "eprint!",
    "f32",
    "f64",
];

/// The one file of the core that may name floats: where an engine counts in doubles, it is exact only to do the same.
const DOUBLES: &str = "engine/double.rs";

/// What only some rooms may name.
const RESERVED: &[(&str, &[&str])] = &[
    ("clap", &["cli"]),
    ("anyhow", &["cli"]),
    ("comfy_table", &["report"]),
    ("ureq", &["source"]),
    ("std::net", &[]),
    ("std::fs", &["source"]),
    ("std::env", &["cli"]),
    ("println!", &[]),
    ("eprintln!", &[]),
];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The code of a file: no comments, no texts, and not its unit tests, which end it.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let outside_quotes = |line: &str| line.replace("\\\"", "").split('"').step_by(2).collect::<String>();
    code.lines().map(|line| outside_quotes(line.split("//").next().unwrap_or_default()) + "\n").collect()
}

/// Whether `code` names `word`, not as a part of a longer one.
fn names(code: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        let after = code[start + word.len()..].chars().next();
        !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
    })
}

/// Every breach of the rules in a room's code.
fn breaches(room: &str, code: &str) -> Vec<String> {
    let (_, may_name, pure) = ROOMS.iter().find(|(name, ..)| *name == room).expect("every room has its rules");
    let mut breaches = Vec::new();
    for (other, ..) in ROOMS {
        if *other != room && !may_name.contains(other) && names(code, &format!("crate::{other}")) {
            breaches.push(format!("{room} names {other}"));
        }
    }
    for hidden in ["crate::{", "std::{", "super::super"] {
        if code.contains(hidden) {
            breaches.push(format!("{room} says {hidden}, behind which this test does not see"));
        }
    }
    for word in IMPURE {
        if *pure && names(code, word) {
            breaches.push(format!("{room} is of the core and names {word}"));
        }
    }
    for (word, rooms) in RESERVED {
        if !rooms.contains(&room) && names(code, word) {
            breaches.push(format!("{room} names {word}"));
        }
    }
    breaches
}

#[test]
fn rooms_name_only_what_they_may() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = Vec::new();
    for entry in fs::read_dir(&src).unwrap() {
        let path = entry.unwrap().path();
        let room = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !path.is_dir() {
            assert!(["build.rs", "lib.rs", "main.rs"].contains(&room.as_str()), "{room} stands outside the rooms");
            continue;
        }
        for file in sources(&path) {
            // The tests of a room are not its code.
            if file.file_name().is_some_and(|name| name == "tests.rs") {
                continue;
            }
            let doubles = file.ends_with(DOUBLES);
            let found = breaches(&room, &code(&fs::read_to_string(&file).unwrap()));
            let found: Vec<_> = found.into_iter().filter(|breach| !(doubles && breach.ends_with("f64"))).collect();
            assert_eq!(found, [""; 0], "{}", file.display());
        }
        seen.push(room);
    }
    seen.sort();
    let mut rooms: Vec<_> = ROOMS.iter().map(|(room, ..)| (*room).to_owned()).collect();
    rooms.sort();
    assert_eq!(seen, rooms);
}

#[test]
fn a_breach_is_seen() {
    for (room, line) in [
        ("units", "use crate::model::Model;"),
        ("estimate", "use crate::engine::Engine;"),
        ("engine", "let x = crate::report::json();"),
        ("engine", "use crate::strategy::Levers;"),
        ("strategy", "use crate::catalogue::device;"),
        ("model", "use clap::Parser;"),
        ("model", "fn f() -> anyhow::Result<()> {"),
        ("estimate", "std::fs::read(path)"),
        ("engine", "std::env::var(name)"),
        ("units", "println!(\"{x}\")"),
        ("estimate", "struct Estimate { bytes: f64 }"),
        ("catalogue", "std::fs::read(path)"),
        ("report", "use crate::source::resolve;"),
        ("source", "use crate::cli::run;"),
        ("cli", "println!()"),
        ("report", "use clap::Args;"),
        ("cli", "ureq::get(address)"),
        ("units", "use std::{env, fs};"),
        ("units", "use super::super::report;"),
    ] {
        assert_ne!(breaches(room, line), [""; 0], "{room}: {line}");
    }
    assert_eq!(code("let x = \"f32\"; // println!\n#[cfg(test)]\nmod tests {\nprintln!"), "let x = ; \n");
    // A module of tests in a file of its own does not end the code.
    assert_ne!(breaches("units", &code("#[cfg(test)]\nmod tests;\nuse clap::Parser;")), [""; 0]);

    assert!(!names("fprintln!(x)", "println!"));
}
