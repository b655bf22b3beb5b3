//! `kvsize man [COMMAND]`: the manual page of the program or of a command, from the definitions that its help is from.

use std::io::{self, Write};

use clap::builder::PossibleValuesParser;
use clap::{Arg, Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Answer, COMMANDS, Subcommand, help, typed};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "man",
    about: "The manual page, of the program or of a command",
    arguments: ManArguments::augment_args,
    examples: &[
        ("The page of the program, to read", "kvsize man | man -l -"),
        (
            "The page of a command, where `man kvsize-check` finds it",
            "kvsize man check > ~/.local/share/man/man1/kvsize-check.1",
        ),
    ],
    run: |matches| Ok(run(&typed(matches)?)),
    ..Subcommand::BARE
};

#[derive(Debug, Args)]
struct ManArguments {
    /// The command that the page is of [default: the program]
    #[arg(value_name = "COMMAND", value_parser = commands())]
    command: Option<String>,
}

fn commands() -> PossibleValuesParser {
    PossibleValuesParser::new(COMMANDS.iter().map(|known| known.name))
}

fn run(arguments: &ManArguments) -> Answer {
    let known = COMMANDS.iter().find(|known| Some(known.name) == arguments.command.as_deref());
    let page = known.map_or_else(Page::of_the_program, Page::of);
    let write = |out: &mut dyn Write| {
        page.write(out)?;
        Ok(Answer::default())
    };
    Answer { stream: Some(Box::new(write)), ..Answer::default() }
}

/// A page: what the parser knows, and what only we know.
struct Page {
    command: Command,
    notes: &'static str,
    examples: &'static [(&'static str, &'static str)],
    environment: &'static [(&'static str, &'static str)],
    statuses: &'static [(u8, &'static str)],
    see_also: Option<&'static str>,
}

impl Page {
    fn of_the_program() -> Self {
        Self {
            command: help::whole().subcommand_help_heading("COMMANDS"),
            notes: "",
            examples: help::EXAMPLES,
            environment: help::ENVIRONMENT,
            statuses: help::STATUSES,
            see_also: None,
        }
    }

    fn of(known: &'static Subcommand) -> Self {
        let command = help::with_all(Command::new(known.name));
        let mut command =
            command.bin_name(format!("kvsize {}", known.name)).display_name(format!("kvsize-{}", known.name));
        // All options one by one would be a screenful.
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage:").trim().to_owned();
        Self {
            command: command.override_usage(usage),
            notes: known.notes,
            examples: known.examples,
            environment: &[],
            statuses: known.statuses,
            see_also: Some("kvsize"),
        }
    }

    fn write(self, out: &mut dyn Write) -> io::Result<()> {
        let own = self.own_sections();
        let commands = self.command.has_subcommands();
        // The day is left out: the same program writes the same page everywhere.
        let man = Man::new(self.command.mut_args(told_in_full))
            .date("\"\"")
            .source(concat!("kvsize ", env!("CARGO_PKG_VERSION")))
            .manual("kvsize");
        let mut page = Vec::new();
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        if commands {
            man.render_subcommands_section(&mut page)?;
        }
        man.render_options_section(&mut page)?;
        own.to_writer(&mut page)?;
        // Each section begins with the same definitions; once is enough.
        let preamble = Roff::new().render();
        let page = String::from_utf8_lossy(&page).replace(&preamble, "");
        out.write_all(preamble.as_bytes())?;
        out.write_all(page.as_bytes())
    }

    fn own_sections(&self) -> Roff {
        let mut roff = Roff::new();
        if !self.notes.is_empty() {
            roff.control("SH", ["NOTES"]);
            as_it_is(&mut roff, self.notes);
        }
        let statuses = self.statuses.iter().map(|(status, what)| (status.to_string(), *what));
        described(&mut roff, "EXIT STATUS", statuses);
        described(&mut roff, "ENVIRONMENT", self.environment.iter().map(|(name, what)| ((*name).to_owned(), *what)));
        if !self.examples.is_empty() {
            roff.control("SH", ["EXAMPLES"]);
        }
        for (what, line) in self.examples {
            roff.control("PP", []).text([roman(*what)]).control("PP", []).control("RS", ["4"]);
            as_it_is(&mut roff, line);
            roff.control("RE", []);
        }
        if let Some(page) = self.see_also {
            roff.control("SH", ["SEE ALSO"]).text([bold(page), roman("(1)")]);
        }
        roff
    }
}

/// A section of names, and what each is.
fn described(roff: &mut Roff, heading: &str, names: impl ExactSizeIterator<Item = (String, &'static str)>) {
    if names.len() > 0 {
        roff.control("SH", [heading]);
    }
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
    let names: Vec<String> =
        argument.get_visible_aliases().unwrap_or_default().iter().map(|name| format!("--{name}")).collect();
    let help = argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string);
    match help {
        Some(help) if !names.is_empty() => argument.long_help(format!("{help} [also: {}]", names.join(", "))),
        _ => argument,
    }
}
