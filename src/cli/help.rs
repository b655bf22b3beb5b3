//! What stands below the options in help: examples, notes, the environment, exit statuses. None of it is made unless it is read.

use std::ffi::OsString;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command};

use super::{Answer, CANNOT_ANSWER, COMMANDS, Defined, NO, Subcommand, Visibility, usage};
use crate::report;

/// `kvsize generate KIND`, which the parser reads as the command of that kind: alone it has its help.
pub(super) const GENERATE: Subcommand = Subcommand {
    name: "generate",
    about: "Manual pages, completions for a shell, and JSON Schemas",
    arguments: |command| {
        let kinds = PossibleValuesParser::new(["man", "completions", "schema"]);
        let kind = Arg::new("kind").value_name("KIND").value_parser(kinds).required(true);
        let of = Arg::new("of").value_name("OF").help("A command of man, a shell of completions, a shape of schema");
        command.arg(kind.help("What is written")).arg(of)
    },
    ..Subcommand::BARE
};

/// `kvsize help [TOPIC]`.
pub(super) const TOPICS: Subcommand = Subcommand {
    name: "help",
    about: "What there is to know of a topic",
    arguments: |command| {
        let names = PossibleValuesParser::new(TOPIC_TEXTS.iter().map(|(name, _)| *name));
        command.arg(Arg::new("topic").value_name("TOPIC").value_parser(names).help("The topic; none lists them"))
    },
    run: |matches| {
        Ok(Answer { data: topic(matches.get_one::<String>("topic").map(String::as_str)), ..Answer::default() })
    },
    ..Subcommand::BARE
};

/// The topics, as Markdown: what README leaves out.
const TOPIC_TEXTS: &[(&str, &str)] = &[
    ("models", include_str!("help/models.md")),
    ("weights", include_str!("help/weights.md")),
    ("engines", include_str!("help/engines.md")),
    ("gpus", include_str!("help/gpus.md")),
    ("formats", include_str!("help/formats.md")),
    ("explain", include_str!("help/explain.md")),
    ("compare", include_str!("help/compare.md")),
    ("json", include_str!("help/json.md")),
    ("ci", include_str!("help/ci.md")),
    ("batch", include_str!("help/batch.md")),
    ("units", include_str!("help/units.md")),
    ("formulas", include_str!("help/formulas.md")),
    ("exactness", include_str!("help/exactness.md")),
    ("speed", include_str!("help/speed.md")),
    ("install", include_str!("help/install.md")),
    ("layout", include_str!("help/layout.md")),
    ("article", include_str!("help/article.md")),
];

/// Whether there is a topic of that name.
pub(super) fn is_topic(name: &str) -> bool {
    TOPIC_TEXTS.iter().any(|(known, _)| *known == name)
}

/// The text of a topic; without one, their names and titles.
fn topic(name: Option<&str>) -> String {
    let title = |text: &str| text.lines().next().unwrap_or_default().trim_start_matches("# ").to_owned();
    if let Some((_, text)) = TOPIC_TEXTS.iter().find(|(known, _)| Some(*known) == name) {
        return (*text).to_owned();
    }
    let widest = TOPIC_TEXTS.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    TOPIC_TEXTS.iter().map(|(name, text)| format!("  {name:widest$}   {}\n", title(text))).collect()
}

/// What is read of the environment: variables, and what each is.
pub(super) fn environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    include_str!("about/environment.txt").lines().filter_map(|line| line.split_once(": "))
}

/// The program's own.
pub(super) const STATUSES: &[(u8, &str)] = &[
    (0, "answered"),
    (NO, "it does not fit (fit, plan, check)"),
    (CANNOT_ANSWER, "the question could not be answered"),
];

/// Lines that a terminal does not fold.
const WIDTH: usize = 80;

/// The program with its long help.
pub(super) fn with_long_help(program: Command) -> Command {
    let widest = environment().map(|(name, _)| name.len()).max().unwrap_or_default();
    let indent = widest.saturating_add(4);
    let variables = environment().map(|(name, text)| {
        let lines = report::wrapped(text, WIDTH.saturating_sub(indent));
        let lines: Vec<&str> = lines.iter().map(|line| line.trim_start()).collect();
        format!("  {name:widest$}  {}\n", lines.join(&format!("\n{:indent$}", "")))
    });
    let environment = format!("Environment:\n{}", variables.collect::<String>());
    program.after_long_help(below("kvsize", &environment, STATUSES))
}

/// Whether the arguments may ask for help: only then is it put together.
pub(super) fn may_be_asked(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.skip(1).any(|argument| {
        let argument = argument.to_string_lossy();
        argument == "--help" || usage::letters(&argument).is_some_and(|letters| letters.contains('h'))
    })
}

fn known(command: &Command) -> Option<&'static Subcommand> {
    COMMANDS.iter().find(|known| known.name == command.get_name())
}

/// The command with the options that are named.
pub(super) fn with_named(command: Command) -> Command {
    define(command, Defined::Named)
}

/// The command with all its options.
pub(super) fn with_all(command: Command) -> Command {
    define(command, Defined::All)
}

fn define(command: Command, defined: Defined) -> Command {
    match known(&command) {
        Some(known) => known.define(command, defined).about(known.about),
        None => command,
    }
}

/// The same, with what stands below them.
pub(super) fn described(command: Command) -> Command {
    let Some(known) = known(&command) else { return command };
    let command = with_all(command);
    let notes = notes(known.name);
    let command = if notes.is_empty() { command } else { command.after_help(notes) };
    command.after_long_help(below(known.name, notes, known.statuses))
}

/// What each example of a command is for, and the line to type; of `kvsize`, a tour of the commands. Each is run by a test.
pub(super) fn examples(command: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut sections = include_str!("about/examples.txt").split("\n\n");
    let section = sections.find_map(|section| section.strip_prefix(command)?.strip_prefix('\n'));
    let mut lines = section.unwrap_or_default().lines();
    std::iter::from_fn(move || Some((lines.next()?.strip_prefix("# ")?, lines.next()?)))
}

/// What there is to say of what a command reads.
pub(super) fn notes(command: &str) -> &'static str {
    match command {
        "batch" => include_str!("about/batch.txt").trim_end(),
        "estimate" => include_str!("about/sweep.txt").trim_end(),
        _ => "",
    }
}

fn below(command: &str, notes: &str, statuses: &[(u8, &str)]) -> String {
    let examples: String = examples(command).map(|(what, line)| format!("  # {what}\n  {line}\n")).collect();
    let notes = if notes.is_empty() { String::new() } else { format!("{}\n\n", notes.trim_end()) };
    let statuses: Vec<String> = statuses.iter().map(|(status, what)| format!("{status} {what}")).collect();
    format!("Examples:\n{examples}\n{notes}Exit status: {}.", statuses.join(", "))
}

/// The whole command line with all that is elsewhere defined when it is used.
pub(super) fn whole() -> Command {
    let commands =
        COMMANDS.iter().map(|known| with_all(Command::new(known.name)).hide(known.visibility == Visibility::Unlisted));
    super::program(Defined::All).subcommands(commands)
}
