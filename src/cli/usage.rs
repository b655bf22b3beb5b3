//! Wrong usage in one line: which flag, what was found, what to do. The parser's own text takes six.

use std::error::Error as StdError;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, ValueEnum};

use crate::report::Format;
use crate::units::{Code, Error};

const HELP: &str = "`kvsize --help` tells how";

/// Whether the arguments, which may not parse, ask for JSON: read by hand, since the parser stops at the first mistake.
pub(super) fn asks_for_json(arguments: impl Iterator<Item = OsString>) -> bool {
    let is_json = |name: &str| matches!(Format::from_str(name, false), Ok(Format::Json | Format::Jsonl));
    let mut format_follows = false;
    for argument in arguments.skip(1).filter_map(|argument| argument.into_string().ok()) {
        let argument = argument.as_str();
        if argument == "--" {
            return false;
        }
        if argument == "--json" || (format_follows && is_json(argument)) {
            return true;
        }
        // "-q" takes no value and may stand before "f" in the same word.
        let short = argument.strip_prefix('-').map(|letters| letters.trim_start_matches('q'));
        let value = short.and_then(|letters| letters.strip_prefix('f')).or_else(|| argument.strip_prefix("--format"));
        if value.is_some_and(|value| is_json(value.trim_start_matches('='))) {
            return true;
        }
        format_follows = value == Some("");
    }
    false
}

/// The letters of an argument that has one dash.
pub(super) fn letters(argument: &str) -> Option<&str> {
    argument.strip_prefix('-').filter(|rest| !rest.starts_with('-'))
}

/// What was typed beside `but`, by its name, if anything.
pub(super) fn typed_beside(matches: &ArgMatches, but: &[&str]) -> Option<String> {
    let typed = |id: &&clap::Id| {
        matches.value_source(id.as_str()) == Some(ValueSource::CommandLine)
            // The values of a group are the options in it.
            && matches.try_get_many::<clap::Id>(id.as_str()).is_err()
            && !but.contains(&id.as_str())
    };
    Some(match matches.ids().find(typed)?.as_str() {
        "model" => "a MODEL".into(),
        option => format!("--{}", option.replace('_', "-")),
    })
}

/// Options of the estimate that stand before a command would be lost in silence.
pub(super) fn refuse_options_before(command: &str, matches: &ArgMatches) -> Result<(), Error> {
    let Some(found) = typed_beside(matches, &[]) else { return Ok(()) };
    let remedy = "put the command first, and what it takes after it";
    Err(Error::new(Code::Conflict, command, found, "stands before it", remedy))
}

/// The parser's error in our parts.
pub(super) fn failure(error: &clap::Error) -> Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    // "--seq-len <TOKENS>" is the flag and the name of its value, "<SHELL>" and "[COMMAND]" arguments.
    let flag =
        |text: &str| text.split([' ', '=']).next().unwrap_or_default().trim_matches(['<', '>', '[', ']']).to_owned();
    let field = flag(&text(ContextKind::InvalidArg));
    let found = text(ContextKind::InvalidValue);
    let ours = error.source().and_then(diagnosis);
    if let Some(diagnosis) = ours {
        return Error { field, ..diagnosis };
    }
    let suggestion = |kind| Some(text(kind)).filter(|text| !text.is_empty());
    let (code, found, problem, remedy) = match error.kind() {
        ErrorKind::InvalidValue if found.is_empty() => {
            (Code::NoValue, "nothing".into(), "follows it".into(), "give it a value".into())
        }
        ErrorKind::InvalidValue => (
            Code::InvalidValue,
            found,
            "is not one of its values".into(),
            match suggestion(ContextKind::SuggestedValue) {
                Some(nearest) => format!("nearest: {nearest}; use one of {}", text(ContextKind::ValidValue)),
                None => format!("use one of {}", text(ContextKind::ValidValue)),
            },
        ),
        ErrorKind::UnknownArgument => {
            let remedy = suggestion(ContextKind::SuggestedArg)
                .map_or_else(|| HELP.into(), |known| format!("did you mean {known}?"));
            return Error {
                code: Code::UnknownArgument,
                field: String::new(),
                found: Some(field),
                problem: "is not an option here".into(),
                remedy,
            };
        }
        ErrorKind::ArgumentConflict => {
            let other = flag(&text(ContextKind::PriorArg));
            if other == field {
                (Code::Conflict, "it".into(), "is given twice".into(), "give it once".into())
            } else {
                let other = if other.is_empty() { "another option".into() } else { other };
                (Code::Conflict, other, "is given as well".into(), "give one of the two".into())
            }
        }
        ErrorKind::MissingRequiredArgument => {
            (Code::Missing, "missing".into(), String::new(), "give it as well".into())
        }
        ErrorKind::InvalidUtf8 => (Code::NotText, "an argument".into(), "is not UTF-8".into(), "give text".into()),
        _ => {
            let rendered = error.to_string();
            let line = rendered.lines().next().unwrap_or_default();
            (Code::Usage, line.trim_start_matches("error: ").to_owned(), String::new(), HELP.into())
        }
    };
    Error { code, field, found: Some(found), problem, remedy }
}

fn diagnosis(source: &(dyn StdError + 'static)) -> Option<Error> {
    source.downcast_ref::<Error>().cloned()
}
