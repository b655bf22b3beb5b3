//! The command line: arguments as typed (`args`), resolved into a question, answered by the core, written once.

mod args;
mod arguments;
mod article;
mod batch;
mod budgets;
mod check;
mod completions;
mod estimate;
mod explain;
mod failure;
mod hardware;
mod help;
mod hub;
mod levers;
mod lines;
mod lists;
mod man;
mod nvidia_smi;
mod options;
mod pasted;
#[cfg(feature = "hub")]
mod progress;
mod schema;
mod sources;
mod sweep;
mod usage;
mod weights;

use std::io::{self, IsTerminal, Write};
use std::mem::ManuallyDrop;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::{ArgMatches, FromArgMatches};

use self::arguments::Rewritten;
use self::options::{Named, Options};
use crate::report;
use crate::units::{Code, Error};

/// It does not fit.
const NO: u8 = 1;

/// The question could not be answered: wrong usage or input.
const CANNOT_ANSWER: u8 = 2;

/// A command: what it is called, what it takes and what it does.
struct Subcommand {
    name: &'static str,
    about: &'static str,
    visibility: Visibility,
    /// The options of a question that it takes.
    options: Option<&'static Options>,
    /// Its own.
    arguments: fn(clap::Command) -> clap::Command,
    /// The exit statuses, and what each means.
    statuses: &'static [(u8, &'static str)],
    run: fn(&mut ArgMatches) -> Result<Answer, Error>,
}

impl Subcommand {
    /// One that takes nothing, and has no "no" to say.
    const BARE: Self = Self {
        name: "",
        about: "",
        visibility: Visibility::Listed,
        options: None,
        arguments: |command| command,
        statuses: &[(0, "answered"), (CANNOT_ANSWER, "the question could not be answered")],
        run: |_| Ok(Answer::default()),
    };
}

/// Whether help lists a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visibility {
    Listed,
    /// Part of another, or there for those who know it.
    Unlisted,
}

/// The statuses where the answer may be no.
const FITS: &[(u8, &str)] =
    &[(0, "it fits"), (NO, "it does not fit"), (CANNOT_ANSWER, "the question could not be answered")];

const COMMANDS: [Subcommand; 18] = [
    estimate::COMMAND,
    hardware::FIT,
    hardware::PLAN,
    check::COMMAND,
    explain::COMMAND,
    batch::COMMAND,
    levers::COMMAND,
    article::COMMAND,
    lists::MODELS,
    lists::GPUS,
    lists::FORMATS,
    lists::ENGINES,
    help::GENERATE,
    help::TOPICS,
    weights::COMMAND,
    schema::COMMAND,
    completions::COMMAND,
    man::COMMAND,
];

/// What a command has to say: data for stdout, words for stderr.
#[derive(Default)]
struct Answer {
    quiet: bool,
    data: String,
    /// Data that is written as it comes, after which there may be more to say.
    stream: Option<Stream>,
    notes: Vec<String>,
    warnings: Vec<String>,
    /// The exit status.
    status: u8,
}

/// Writes data as it comes.
type Stream = Box<dyn FnOnce(&mut dyn Write) -> anyhow::Result<Answer>>;

/// What of the command line is defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defined {
    /// The options that the arguments name: definitions are most of what a start costs.
    Named,
    /// Everything.
    All,
    /// Everything, and what long help tells beside it.
    LongHelp,
}

/// The whole command line. What a command takes is built only when it is used.
fn command(defined: Defined) -> clap::Command {
    let define = match defined {
        Defined::Named => help::with_named,
        Defined::All => help::with_all,
        Defined::LongHelp => help::described,
    };
    let commands = COMMANDS.iter().map(|known| {
        let is_hidden = known.visibility == Visibility::Unlisted;
        clap::Command::new(known.name).about(known.about).hide(is_hidden).defer(define)
    });
    let program = program(defined).subcommands(commands);
    if defined == Defined::LongHelp { help::with_long_help(program) } else { program }
}

const AFTER_HELP: &str = "More options, and the settings of each engine under its own names: --help.\n\nExit status: 0 answered, 1 it does not fit (fit, plan, check), 2 the question could not be answered.";

/// The program without commands: the estimate of a model.
fn program(defined: Defined) -> clap::Command {
    let program = clap::Command::new("kvsize")
        .version(env!("CARGO_PKG_VERSION"))
        .about("How many bytes the KV cache of a language model takes")
        .max_term_width(98)
        .override_usage("kvsize [OPTIONS] MODEL...\n       kvsize COMMAND [OPTIONS]")
        .disable_help_subcommand(true)
        .after_help(AFTER_HELP);
    estimate::COMMAND.define(program, defined)
}

impl Subcommand {
    /// The command with what it takes: the options of a question, its own, and the settings of engines where it takes one.
    fn define(&self, command: clap::Command, defined: Defined) -> clap::Command {
        let named = if defined == Defined::Named { Some(Named::of_arguments()) } else { None };
        let Some(options) = self.options else { return (self.arguments)(command) };
        options.settings((self.arguments)(options.options(command, named.as_ref())), named.as_ref())
    }
}

/// The arguments of a command, as typed.
fn typed<T: FromArgMatches>(matches: &mut ArgMatches) -> Result<T, Error> {
    T::from_arg_matches_mut(matches).map_err(|error| usage::failure(&error))
}

/// Runs the program on the arguments of the process.
pub fn main() -> ExitCode {
    let verbs = COMMANDS.each_ref().map(|command| command.name);
    let Rewritten { arguments: typed, note, warning } = match arguments::rewritten(std::env::args_os(), &verbs) {
        Ok(rewritten) => rewritten,
        Err(error) => return refused(&error.into()),
    };
    if typed.len() < 2 && !arguments::is_piped_in() {
        // Nothing is left to say if stdout is gone.
        let _ = io::stdout().write_all(include_bytes!("about/short_usage.txt"));
        return ExitCode::SUCCESS;
    }
    if let [_, only] = typed.as_slice()
        && only == "-h"
    {
        let _ = io::stdout().write_all(include_bytes!("about/short_help.txt"));
        return ExitCode::SUCCESS;
    }
    // Not dropped: the process ends soon, and taking the definitions apart is a tenth of a query's time.
    let parse = |defined| ManuallyDrop::new(command(defined)).try_get_matches_from_mut(typed.clone());
    let asks_for_help = help::may_be_asked(std::env::args_os());
    let parsed = match parse(if asks_for_help { Defined::LongHelp } else { Defined::Named }) {
        // An error tells of what is not defined yet, and suggests it.
        Err(error) if error.use_stderr() && !asks_for_help => parse(Defined::All),
        parsed => parsed,
    };
    let result = match parsed {
        Ok(mut matches) => run(&mut matches, note, warning),
        Err(error) if !error.use_stderr() => error.print().map(|()| 0).map_err(Into::into),
        Err(error) => Err(usage::failure(&error).into()),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => refused(&error),
    }
}

/// Says why a question could not be answered.
fn refused(error: &anyhow::Error) -> ExitCode {
    let text = if usage::asks_for_json(std::env::args_os()) {
        failure::to_json(error)
    } else {
        line(ERROR, "error", &format!("{error:#}"))
    };
    // Nothing is left to tell if stderr is gone too.
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::from(CANNOT_ANSWER)
}

/// Runs the command, and says what it has to say. The exit status.
fn run(matches: &mut ArgMatches, note: Option<String>, warning: Option<String>) -> anyhow::Result<u8> {
    let mut answer = match matches.remove_subcommand() {
        Some((name, mut inner)) => {
            usage::refuse_options_before(&name, matches)?;
            let command = COMMANDS.iter().find(|command| command.name == name).unwrap_or(&estimate::COMMAND);
            (command.run)(&mut inner)?
        }
        None => (estimate::COMMAND.run)(matches)?,
    };
    answer.notes.extend(note);
    answer.warnings.extend(warning);
    let mut stdout = io::stdout().lock();
    match stdout.write_all(answer.data.as_bytes()).and_then(|()| stdout.flush()) {
        // Whoever read had enough; the answer is what it was all the same.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(answer.status),
        written => written?,
    }
    if let Some(stream) = answer.stream.take() {
        let (notes, warnings) = (std::mem::take(&mut answer.notes), std::mem::take(&mut answer.warnings));
        answer = stream(&mut stdout)?;
        answer.notes.extend(notes);
        answer.warnings.extend(warnings);
    }
    if !answer.quiet {
        let notes = answer.notes.iter().map(|text| line(NOTE, "note", text));
        let warnings = answer.warnings.iter().map(|text| line(WARNING, "warning", text));
        // The answer is out; words that no one can hear do not take it back.
        let _ = io::stderr().write_all(notes.chain(warnings).collect::<String>().as_bytes());
    }
    Ok(answer.status)
}

const NOTE: Style = AnsiColor::Cyan.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const ERROR: Style = AnsiColor::Red.on_default().bold();

/// A line of words, its first in colour where stderr takes colour. Text from files and arguments may hold anything: it
/// stays one line and steers no terminal. Only a terminal gets it folded to its width.
fn line(style: Style, word: &str, text: &str) -> String {
    let text = report::clean(text);
    let text = match terminal_size::terminal_size_of(io::stderr()) {
        Some((width, _)) => {
            // The word is as long in colour; it stands before the text only when the text is folded.
            let folded = report::wrapped(&format!("{word}: {text}"), usize::from(width.0)).join("\n");
            folded.strip_prefix(&format!("{word}: ")).map_or(text, ToOwned::to_owned)
        }
        None => text,
    };
    match anstream::AutoStream::choice(&io::stderr()) {
        anstream::ColorChoice::Never => format!("{word}: {text}\n"),
        _ => format!("{style}{word}:{style:#} {text}\n"),
    }
}

/// Warnings as an error, under `--strict`.
fn refuse_warnings(strict: bool, warnings: &[String]) -> Result<(), Error> {
    match warnings.first() {
        Some(warning) if strict => {
            Err(Error::new(Code::Strict, "--strict", warning, "", "drop --strict to see the answer all the same"))
        }
        _ => Ok(()),
    }
}

/// Whether words on stderr are read by a person now.
fn terminal_is_watching() -> bool {
    io::stderr().is_terminal()
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    kinds.into_iter().any(|kind| kind == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definitions_hold_together() {
        super::command(super::Defined::LongHelp).debug_assert();
        super::help::whole().debug_assert();
    }
}
