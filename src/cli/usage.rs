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
    let field = flag(&context(error, ContextKind::InvalidArg));
    if let Some(ours) = error.source().and_then(|source| source.downcast_ref::<Error>()) {
        return ours.clone().at(field);
    }
    match error.kind() {
        ErrorKind::InvalidValue => not_a_value(error, field),
        ErrorKind::UnknownArgument => {
            let nearest = context(error, ContextKind::SuggestedArg);
            let remedy = if nearest.is_empty() { HELP.into() } else { format!("did you mean {nearest}?") };
            Error::new(Code::UnknownArgument, "", field, "is not an option here", remedy)
        }
        ErrorKind::ArgumentConflict => {
            let other = flag(&context(error, ContextKind::PriorArg));
            if other == field {
                return Error::without_value(Code::Conflict, field, "is given twice", "give it once");
            }
            let other = if other.is_empty() { "another option".into() } else { other };
            Error::new(Code::Conflict, field, other, "is given as well", "give one of the two")
        }
        ErrorKind::MissingRequiredArgument => Error::missing(field, "give it as well"),
        ErrorKind::InvalidUtf8 => Error::new(Code::NotText, field, "an argument", "is not UTF-8", "give text"),
        _ => {
            let rendered = error.to_string();
            let line = rendered.lines().next().unwrap_or_default().trim_start_matches("error: ");
            Error::without_value(Code::Usage, field, line, HELP)
        }
    }
}

/// A value that is none of an option's, or is not there.
fn not_a_value(error: &clap::Error, field: String) -> Error {
    let found = context(error, ContextKind::InvalidValue);
    if found.is_empty() {
        return Error::without_value(Code::NoValue, field, "has no value", "give it one");
    }
    let all = format!("use one of {}", context(error, ContextKind::ValidValue));
    let nearest = context(error, ContextKind::SuggestedValue);
    let remedy = if nearest.is_empty() { all } else { format!("nearest: {nearest}; {all}") };
    Error::new(Code::InvalidValue, field, found, "is not one of its values", remedy)
}

/// A detail of the parser's error as text; empty if it has none.
fn context(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    }
}

/// The option alone: `--seq-len <TOKENS>` has the name of its value with it, and arguments are `<SHELL>` and `[COMMAND]`.
fn flag(text: &str) -> String {
    text.split([' ', '=']).next().unwrap_or_default().trim_matches(['<', '>', '[', ']']).to_owned()
}
