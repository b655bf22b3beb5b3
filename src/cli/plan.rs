//! `kvsize plan MODEL -s 10m -b 4`: the smallest layouts that hold a workload.

use clap::{ArgMatches, Args};

use super::args::OutputArguments;
use super::hardware::{PLAN, ages_of_prices};
use super::sources::Places;
use super::{Answer, FITS, NO, Subcommand, refuse_warnings, typed};
use crate::fit::plans;
use crate::report::{self, Asked, PlanDocument};
use crate::units::{Error, Notes};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "plan",
    about: "The smallest and the cheapest layouts that hold a workload",
    options: Some(&PLAN),
    arguments: <OutputArguments>::augment_args,
    examples: &[
        (
            "The smallest and the cheapest layouts for eight requests of 131,072 tokens",
            "kvsize plan llama-3.1-70b -s 128K -b 8 -e vllm",
        ),
        ("Among these GPUs only", "kvsize plan llama-4-scout -s 10m -e vllm --gpu h100,h200,b200"),
        (
            "With eight GPUs at the most: status 1, it does not fit",
            "kvsize plan llama-3.1-405b -s 128K -b 64 -e vllm --gpu l40s --max-gpus 8",
        ),
    ],
    statuses: FITS,
    run,
    ..Subcommand::BARE
};

fn run(matches: &mut ArgMatches) -> Result<Answer, Error> {
    let output: OutputArguments = typed(matches)?;
    let ask = PLAN.ask(matches)?;
    let places = Places::new(&ask)?;
    let request = ask.hardware(&places)?;
    let fleets = ask.fleets_or_all(&places)?;
    let found = plans(&request, &fleets)?;
    let asked = Asked { seq_len: found.seq_len.0, batch: request.batch.unwrap_or(1) };
    let document = PlanDocument::new(&request.model, asked, &found.rows, &found.too_small, &found.notes);
    refuse_warnings(ask.strict, &document.notes.warnings)?;
    let data = report::render(&document, output.format.format(), output.unit());
    let PlanDocument { notes: Notes { assumptions: mut notes, warnings }, layouts, .. } = document;
    notes.extend(ages_of_prices(
        fleets.iter().filter(|fleet| layouts.iter().any(|row| row.server.gpu == fleet.accelerator.id)),
    ));
    let status = if layouts.is_empty() { NO } else { 0 };
    Ok(Answer { quiet: output.format.quiet, data, notes, warnings, status, ..Answer::default() })
}
