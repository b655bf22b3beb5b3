//! Wrong usage in one line: which flag, what was found, what to do. The parser's own text takes six.

use std::error::Error;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::failure::Failure;
use crate::engine::UnknownEngine;
use crate::report::Format;
use crate::units::{Diagnose, Diagnosis, UnitError};

const HELP: &str = "`kvsize --help` tells how";

/// Whether the arguments, which may not parse, ask for JSON.
pub(super) fn asks_for_json(arguments: impl Iterator<Item = OsString>) -> bool {
    let is_json = |name: &str| matches!(Format::from_name(name), Some(Format::Json | Format::Jsonl));
    let mut format_follows = false;
    for argument in arguments.skip(1).filter_map(|argument| argument.into_string().ok()) {
        let argument = argument.as_str();
        match argument {
            "--" => return false,
            "--json" => return true,
            _ if format_follows && is_json(argument) => return true,
            _ => {}
        }
        if argument.strip_prefix("--format=").or_else(|| argument.strip_prefix("-f")).is_some_and(is_json) {
            return true;
        }
        format_follows = matches!(argument, "-f" | "--format");
    }
    false
}

/// The parser's error in our parts.
pub(super) fn failure(error: &clap::Error) -> Failure {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    // "--seq-len <TOKENS>" is the flag and the name of its value.
    let field = text(ContextKind::InvalidArg).split([' ', '=']).next().unwrap_or_default().to_owned();
    let found = text(ContextKind::InvalidValue);
    let ours = error.source().and_then(diagnosis);
    if let Some(diagnosis) = ours {
        return Failure(Diagnosis { field, ..diagnosis });
    }
    let suggestion = |kind| Some(text(kind)).filter(|text| !text.is_empty());
    let (code, found, problem, remedy) = match error.kind() {
        ErrorKind::InvalidValue if found.is_empty() => {
            ("no_value", "nothing".into(), "follows it".into(), "give it a value".into())
        }
        ErrorKind::InvalidValue => (
            "invalid_value",
            found,
            "is not one of its values".into(),
            format!("use one of {}", text(ContextKind::ValidValue)),
        ),
        ErrorKind::UnknownArgument => {
            let remedy = suggestion(ContextKind::SuggestedArg)
                .map_or_else(|| HELP.into(), |known| format!("did you mean {known}?"));
            return Failure(Diagnosis {
                code: "unknown_argument",
                field: String::new(),
                found: field,
                problem: "is not an option here".into(),
                remedy,
            });
        }
        // clap reads a second MODEL as a command, which can't follow a MODEL.
        ErrorKind::ArgumentConflict if field.is_empty() => {
            return Failure(Diagnosis {
                code: "conflict",
                field: "MODEL".into(),
                found: "more than one".into(),
                problem: "is given, or a command after it".into(),
                remedy: "give one".into(),
            });
        }
        ErrorKind::ArgumentConflict => {
            let other = text(ContextKind::PriorArg);
            let other = if other.is_empty() { "another option".into() } else { other };
            ("conflict", "it".into(), format!("can't be used with {other}"), "give one of them".into())
        }
        ErrorKind::InvalidUtf8 => ("not_text", "an argument".into(), "is not UTF-8".into(), "give text".into()),
        _ => {
            let rendered = error.to_string();
            let line = rendered.lines().next().unwrap_or_default();
            ("usage", line.trim_start_matches("error: ").to_owned(), String::new(), HELP.into())
        }
    };
    Failure(Diagnosis { code, field, found, problem, remedy })
}

fn diagnosis(source: &(dyn Error + 'static)) -> Option<Diagnosis> {
    source
        .downcast_ref::<UnitError>()
        .map(Diagnose::diagnosis)
        .or_else(|| source.downcast_ref::<UnknownEngine>().map(Diagnose::diagnosis))
}
