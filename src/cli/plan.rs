//! `kvsize plan MODEL -s 10m -b 4`: the smallest layouts that hold a workload.

use clap::{ArgMatches, Args};

use super::args::OutputArguments;
use super::hardware::{PLAN, ages_of_prices};
use super::sources::Places;
use super::{Answer, FITS, NO, Subcommand, refuse_warnings, typed};
use crate::fit::plans;
use crate::report::{self, PlanDocument};
use crate::units::{Error, Notes};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "plan",
    about: "The smallest and the cheapest layouts that hold a workload",
    options: Some(&PLAN),
    arguments: <OutputArguments>::augment_args,
    statuses: FITS,
    run,
};

fn run(matches: &mut ArgMatches) -> Result<Answer, Error> {
    let output: OutputArguments = typed(matches)?;
    let ask = PLAN.ask(matches)?;
    let places = Places::new(&ask)?;
    let request = ask.hardware(&places)?;
    let fleets = ask.fleets_or_all(&places)?;
    let found = plans(&request, &fleets)?;
    let document = PlanDocument::new(&request.model, request.batch.unwrap_or(1), found);
    refuse_warnings(ask.strict, &document.notes.warnings)?;
    let data = report::render(&document, output.format.format(), output.unit());
    let PlanDocument { notes: Notes { assumptions: mut notes, warnings }, layouts, .. } = document;
    notes.extend(ages_of_prices(
        fleets.iter().filter(|fleet| layouts.iter().any(|row| row.server.gpu == fleet.accelerator.id)),
    ));
    let status = if layouts.is_empty() { NO } else { 0 };
    Ok(Answer { quiet: output.format.quiet, data, notes, warnings, status, ..Answer::default() })
}
