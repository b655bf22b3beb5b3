//! The command line: arguments as typed ([`args`]), resolved into a question, answered by the core, written once.

mod args;
mod article;
mod estimate;
mod failure;
mod lists;
mod usage;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::Parser;

use self::args::{Arguments, Command};
use self::failure::Failure;
use crate::report::Format;
use crate::units::Diagnosis;

/// The question could not be answered: wrong usage or input.
const CANNOT_ANSWER: u8 = 2;

/// What a command has to say: data for stdout, words for stderr.
#[derive(Debug, Default)]
struct Answer {
    data: String,
    notes: Vec<String>,
    warnings: Vec<String>,
}

/// Runs the program on the arguments of the process.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let json = usage::asks_for_json(&arguments);
    let result = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => run(arguments),
        Err(error) if !error.use_stderr() => return written(error.print()),
        Err(error) => Err(usage::failure(&error).into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let text = if json { failure::to_json(&error) } else { failure::to_line(&error) };
            // Nothing is left to tell if stderr is gone too.
            let _ = write!(anstream::stderr(), "{text}");
            ExitCode::from(CANNOT_ANSWER)
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let quiet = arguments.quiet;
    let answer = match arguments.command {
        None => estimate::run(&arguments.estimate)?,
        Some(Command::Estimate(estimate)) => estimate::run(&estimate)?,
        Some(Command::Article(article)) => article::run(&article)?,
        Some(Command::Models(list)) => lists::models(&list),
        Some(Command::Formats(list)) => lists::formats(&list),
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(answer.data.as_bytes())?;
    stdout.flush()?;
    if !quiet {
        let mut stderr = anstream::stderr().lock();
        for (style, word, texts) in [(NOTE, "note", &answer.notes), (WARNING, "warning", &answer.warnings)] {
            for text in texts {
                writeln!(stderr, "{style}{word}:{style:#} {text}")?;
            }
        }
    }
    Ok(())
}

const NOTE: Style = AnsiColor::Cyan.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const ERROR: Style = AnsiColor::Red.on_default().bold();

/// Warnings as an error, under `--strict`.
fn refuse_warnings(strict: bool, warnings: &[String]) -> Result<(), Failure> {
    match warnings.first() {
        Some(warning) if strict => Err(Failure(Diagnosis {
            code: "strict",
            field: "--strict".into(),
            found: warning.clone(),
            problem: String::new(),
            remedy: "drop --strict to see the answer all the same".into(),
        })),
        _ => Ok(()),
    }
}

/// Whether words on stderr are read by a person now.
fn terminal_is_watching() -> bool {
    io::stderr().is_terminal()
}

/// Help and version are answers; a reader who has enough of them is no error.
fn written(result: io::Result<()>) -> ExitCode {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(CANNOT_ANSWER),
        _ => ExitCode::SUCCESS,
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    kinds.into_iter().any(|kind| kind == io::ErrorKind::BrokenPipe)
}

impl Format {
    fn from_name(name: &str) -> Option<Self> {
        args::FORMATS.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }
}
