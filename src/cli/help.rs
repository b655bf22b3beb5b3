//! What stands below the options in help: examples, notes, the environment, exit statuses. None of it is made unless it is read.

use std::ffi::OsString;

use clap::Command;

use super::{CANNOT_ANSWER, COMMANDS, Defined, NO, Subcommand, usage};
use crate::report;

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
        "sweep" => include_str!("about/sweep.txt").trim_end(),
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
    let commands = COMMANDS.iter().map(|known| with_all(Command::new(known.name)));
    super::program(Defined::All).subcommands(commands)
}
