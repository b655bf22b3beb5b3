//! `kvsize generate man [COMMAND]`: the manual page of the program or of a command, from the definitions that its help is from.

use std::io::{self, Write};

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Answer, COMMANDS, Subcommand, Visibility, help, typed};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "man",
    about: "The manual page, of the program or of a command",
    arguments: ManArguments::augment_args,
    run: |matches| Ok(run(&typed(matches)?)),
    visibility: Visibility::Unlisted,
    ..Subcommand::BARE
};

#[derive(Debug, Args)]
struct ManArguments {
    /// The command that the page is of [default: the program]
    #[arg(value_name = "COMMAND", value_parser = commands())]
    command: Option<String>,
}

fn commands() -> PossibleValuesParser {
    PossibleValuesParser::new(
        COMMANDS.iter().map(|known| PossibleValue::new(known.name).hide(known.visibility == Visibility::Unlisted)),
    )
}

fn run(arguments: &ManArguments) -> Answer {
    let known = COMMANDS.iter().find(|known| Some(known.name) == arguments.command.as_deref());
    let write = move |out: &mut dyn Write| {
        write(known, out)?;
        Ok(Answer::default())
    };
    Answer { stream: Some(Box::new(write)), ..Answer::default() }
}

/// Writes the page of a command, or of the program.
fn write(known: Option<&'static Subcommand>, out: &mut dyn Write) -> io::Result<()> {
    // The day is left out: the same program writes the same page everywhere.
    let man = Man::new(definition(known).mut_args(told_in_full))
        .date("\"\"")
        .source(concat!("kvsize ", env!("CARGO_PKG_VERSION")))
        .manual("kvsize");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if known.is_none() {
        man.render_subcommands_section(&mut page)?;
    }
    man.render_options_section(&mut page)?;
    own_sections(known).to_writer(&mut page)?;
    // Each section begins with the same definitions; once is enough.
    let preamble = Roff::new().render();
    let page = String::from_utf8_lossy(&page).replace(&preamble, "");
    out.write_all(preamble.as_bytes())?;
    out.write_all(page.as_bytes())
}

/// What the parser knows.
fn definition(known: Option<&Subcommand>) -> Command {
    let Some(Subcommand { name, .. }) = known else { return help::whole().subcommand_help_heading("COMMANDS") };
    let command = help::with_all(Command::new(*name));
    let mut command = command.bin_name(format!("kvsize {name}")).display_name(format!("kvsize-{name}"));
    // All options one by one would be a screenful.
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    command.override_usage(usage)
}

/// What only we know.
fn own_sections(known: Option<&'static Subcommand>) -> Roff {
    let mut roff = Roff::new();
    let name = known.map_or("kvsize", |known| known.name);
    let notes = help::notes(name);
    if !notes.is_empty() {
        roff.control("SH", ["NOTES"]);
        as_it_is(&mut roff, notes);
    }
    let statuses = known.map_or(help::STATUSES, |known| known.statuses);
    described(&mut roff, "EXIT STATUS", statuses.iter().map(|(status, what)| (status.to_string(), *what)));
    if known.is_none() {
        described(&mut roff, "ENVIRONMENT", help::environment().map(|(name, what)| (name.to_owned(), what)));
    }
    roff.control("SH", ["EXAMPLES"]);
    for (what, line) in help::examples(name) {
        roff.control("PP", []).text([roman(what)]).control("PP", []).control("RS", ["4"]);
        as_it_is(&mut roff, line);
        roff.control("RE", []);
    }
    if known.is_some() {
        roff.control("SH", ["SEE ALSO"]).text([bold("kvsize"), roman("(1)")]);
    }
    roff
}

/// A section of names, and what each is.
fn described(roff: &mut Roff, heading: &str, names: impl Iterator<Item = (String, &'static str)>) {
    roff.control("SH", [heading]);
    for (name, what) in names {
        roff.control("TP", []).text([bold(name)]).text([roman(what)]);
    }
}

/// Lines that are not filled.
fn as_it_is(roff: &mut Roff, text: &str) {
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

/// The option with all its names; a page has room for what the short help leaves out.
fn told_in_full(argument: Arg) -> Arg {
    let argument = argument.hide_short_help(false);
    let letters = argument.get_visible_short_aliases().unwrap_or_default();
    let names = argument.get_visible_aliases().unwrap_or_default();
    let letters = letters.iter().map(|letter| format!("-{letter}"));
    let names: Vec<String> = letters.chain(names.iter().map(|name| format!("--{name}"))).collect();
    let help = argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string);
    match help {
        Some(help) if !names.is_empty() => argument.long_help(format!("{help} [also: {}]", names.join(", "))),
        _ => argument,
    }
}
