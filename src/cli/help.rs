//! What stands below the options in help: examples, notes, the environment, exit statuses. None of it is made unless it is read.

use std::ffi::OsString;

use clap::Command;

use super::{CANNOT_ANSWER, COMMANDS, Defined, NO, Subcommand, usage};
use crate::report;

/// The program's own, a tour of the commands.
pub(super) const EXAMPLES: &[(&str, &str)] = &[
    ("A model of the catalogue at the article's lengths, in 16 bits and FP8", "kvsize llama-4-scout"),
    ("128 x 1024 tokens, one sequence and eight", "kvsize llama-3.1-8b -s 128K -b 1,8"),
    ("A model of your own, as JSON", "kvsize ./config.json -s 32k --json"),
    ("The same from standard input", "kvsize - -s 32k --json < config.json"),
    ("An id on the Hugging Face hub: the catalogue, its local cache, then the hub", "kvsize Qwen/Qwen3-8B -s 32k"),
    ("Dimensions alone", "kvsize --layers 48 --hidden-size 5120 --kv-heads 8 --heads 40"),
    ("What hardware holds, and what it costs", "kvsize fit llama-3.1-70b --gpu 8xh100 -e vllm"),
    ("The smallest and the cheapest layouts", "kvsize plan llama-3.1-70b -s 128K -b 8 -e vllm"),
    ("In CI: status 0 within, 1 over", "kvsize check llama-3.1-8b -s 128K --budget 40GB"),
    ("The article's tables, digit for digit", "kvsize article -f plain"),
];

/// What is read of the environment.
pub(super) const ENVIRONMENT: &[(&str, &str)] = &[
    ("KVSIZE_CATALOGUE", "as --catalogue"),
    ("KVSIZE_ACCELERATORS", "as --accelerators"),
    ("HF_HUB_CACHE, HF_HOME", "where the local cache of the hub is [default: ~/.cache/huggingface/hub]"),
    ("HF_ENDPOINT", "the hub, or a mirror of it [default: https://huggingface.co]"),
    (
        "HF_TOKEN",
        "a token for private and gated models, sent to the hub alone; else the file HF_TOKEN_PATH [default: token in HF_HOME]",
    ),
    ("HF_HUB_OFFLINE", "1 is --offline"),
    ("HF_HUB_DOWNLOAD_TIMEOUT", "seconds that an answer may take [default: 10]"),
    ("HTTPS_PROXY, NO_PROXY", "the way to the hub"),
    ("SSL_CERT_FILE", "certificates to trust in place of those built in, as PEM"),
];

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
    let widest = ENVIRONMENT.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let indent = widest.saturating_add(4);
    let variables = ENVIRONMENT.iter().map(|(name, text)| {
        let lines = report::wrapped(text, WIDTH.saturating_sub(indent));
        let lines: Vec<&str> = lines.iter().map(|line| line.trim_start()).collect();
        format!("  {name:widest$}  {}\n", lines.join(&format!("\n{:indent$}", "")))
    });
    let environment = format!("Environment:\n{}", variables.collect::<String>());
    program.after_long_help(below(EXAMPLES, &environment, STATUSES))
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
    let command = if known.notes.is_empty() { command } else { command.after_help(known.notes) };
    command.after_long_help(below(known.examples, known.notes, known.statuses))
}

fn below(examples: &[(&str, &str)], notes: &str, statuses: &[(u8, &str)]) -> String {
    let examples: String = examples.iter().map(|(what, line)| format!("  # {what}\n  {line}\n")).collect();
    let notes = if notes.is_empty() { String::new() } else { format!("{}\n\n", notes.trim_end()) };
    let statuses: Vec<String> = statuses.iter().map(|(status, what)| format!("{status} {what}")).collect();
    format!("Examples:\n{examples}\n{notes}Exit status: {}.", statuses.join(", "))
}

/// The whole command line with all that is elsewhere defined when it is used.
pub(super) fn whole() -> Command {
    let commands = COMMANDS.iter().map(|known| with_all(Command::new(known.name)));
    super::program(Defined::All).subcommands(commands)
}
