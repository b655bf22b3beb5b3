//! `kvsize fit MODEL --gpu 8xh100`: what hardware holds.

use clap::{ArgMatches, Args};

use super::args::OutputArguments;
use super::hardware::{FIT, ages_of_prices};
use super::sources::Places;
use super::{Answer, FITS, NO, Subcommand, refuse_warnings, typed};
use crate::fit::fits;
use crate::report::{self, FitDocument};
use crate::units::{Code, Error, Notes};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "fit",
    about: "What hardware holds: the longest context, requests at once, cost",
    options: Some(&FIT),
    arguments: <OutputArguments>::augment_args,
    statuses: FITS,
    run,
};

fn run(matches: &mut ArgMatches) -> Result<Answer, Error> {
    let output: OutputArguments = typed(matches)?;
    let ask = FIT.ask(matches)?;
    let places = Places::new(&ask)?;
    let request = ask.hardware(&places)?;
    let fleets = ask.fleets(&places)?;
    if fleets.is_empty() {
        let remedy =
            "name the GPUs, as --gpu 8xh100, or the memory of one, as --gpu-memory 80GiB (`kvsize gpus` lists them)";
        return Err(Error::without_value(Code::NoGpu, "--gpu", "missing", remedy));
    }
    let found = fits(&request, &fleets)?;
    let document = FitDocument::new(&request.model, &found.rows, &found.notes);
    refuse_warnings(ask.strict, &document.notes.warnings)?;
    let data = report::render(&document, output.format.format(), output.unit());
    let FitDocument { notes: Notes { assumptions: mut notes, warnings }, fits, .. } = document;
    notes.extend(ages_of_prices(fleets.iter()));
    let status = if fits { 0 } else { NO };
    Ok(Answer { quiet: output.format.quiet, data, notes, warnings, status, ..Answer::default() })
}
