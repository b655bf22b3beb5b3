//! `kvsize fit MODEL --gpu 8xh100`: what hardware holds; and `kvsize plan MODEL -s 10m -b 4`: the smallest layouts that hold a
//! workload.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{ArgMatches, Args};

use super::args::OutputArguments;
use super::options::{Models, Options};
use super::sources::Places;
use super::{Answer, FITS, NO, Subcommand, Visibility, refuse_warnings, terminal_is_watching, typed};
use crate::fit::{fits, plans};
use crate::hardware::Price;
use crate::report::{Detail, FitDocument, PlanDocument};
use crate::request::{Fleet, Group, OnHardware, Selection};
use crate::units::{Code, Error, once};

/// What is asked of hardware, and of a budget.
pub(super) const GROUPS: &[Group] = &[
    Group::Model,
    Group::Check,
    Group::Dimensions,
    Group::Workload,
    Group::Device,
    Group::Terms,
    Group::Average,
    Group::Gpus,
    Group::Plan,
    Group::Accelerators,
    Group::Sources,
];

const FIT_OPTIONS: Options = Options {
    selection: Selection { groups: GROUPS, without: "memory max-gpus budget budget-per-gpu margin" },
    models: Models::Several,
    lists: &["tp", "pp", "dp"],
    about: include_str!("about/fit.txt"),
    brief: "",
};

const PLAN_OPTIONS: Options = Options {
    selection: Selection { groups: GROUPS, without: "memory budget budget-per-gpu margin" },
    models: Models::One,
    lists: &[],
    about: include_str!("about/plan.txt"),
    ..FIT_OPTIONS
};

pub(super) const FIT: Subcommand = Subcommand {
    name: "fit",
    about: "What hardware holds: the longest context, requests at once, cost",
    options: Some(&FIT_OPTIONS),
    arguments: FitOutput::augment_args,
    statuses: FITS,
    visibility: Visibility::Listed,
    run: fit,
};

pub(super) const PLAN: Subcommand = Subcommand {
    name: "plan",
    about: "The smallest and the cheapest layouts that hold a workload",
    options: Some(&PLAN_OPTIONS),
    run: plan,
    ..FIT
};

#[derive(Debug, Args)]
struct FitOutput {
    #[command(flatten)]
    output: OutputArguments,
    /// Show each term, its source, errors and prices as well
    #[arg(short, long)]
    verbose: bool,
}

fn fit(matches: &mut ArgMatches) -> Result<Answer, Error> {
    let FitOutput { output, verbose } = typed(matches)?;
    let detail = if verbose { Detail::Everything } else { Detail::Verdict };
    let ask = FIT_OPTIONS.ask(matches)?;
    let places = Places::new(&ask)?;
    let fleets = ask.fleets(&places)?;
    if fleets.is_empty() {
        let remedy =
            "name the GPUs, as --gpu 8xh100, or the memory of one, as --gpu-memory 80GiB (`kvsize gpus` lists them)";
        return Err(Error::without_value(Code::NoGpu, "--gpu", "missing", remedy));
    }
    let found = fits(&ask.on_hardware(&places, fleets.clone())?)?;
    let document = FitDocument::new(&found.rows, &found.notes, detail);
    let assumed = found.rows.iter().flat_map(|row| &row.request.assumed).map(ToString::to_string);
    let assumed: Vec<String> = assumed.collect();
    refuse_warnings(ask.strict, &assumed)?;
    let mut answer = output.in_gibibytes().answer(&ask, &document, document.notes.clone())?;
    if verbose {
        answer.notes.extend(ages_of_prices(fleets.iter()));
    } else {
        // What was assumed stands in the verdict; what else it rests on is in -v and in JSON.
        answer.notes.clear();
    }
    Ok(Answer { status: if document.fits() { 0 } else { NO }, ..answer })
}

fn plan(matches: &mut ArgMatches) -> Result<Answer, Error> {
    let FitOutput { output, verbose } = typed(matches)?;
    let detail = if verbose { Detail::Everything } else { Detail::Verdict };
    let ask = PLAN_OPTIONS.ask(matches)?;
    let places = Places::new(&ask)?;
    let fleets = ask.fleets_or_all(&places)?;
    let asked = ask.on_hardware(&places, fleets.clone())?;
    let mut found = plans(&asked)?;
    if !ask.gpu.is_empty() {
        // Where no GPU was named, those that the engine does not run on are left out.
        found.notes.add(&[], &found.left_out);
    }
    let Some(OnHardware { request, .. }) = asked.first() else { return Err(Error::missing("--gpu", "name the GPUs")) };
    let document = PlanDocument::new(&request.model, request.batch.unwrap_or(1), found, detail);
    let mut answer = output.in_gibibytes().answer(&ask, &document, document.notes.clone())?;
    let plans = &document.plans;
    if verbose {
        let listed = fleets.iter().filter(|fleet| plans.iter().any(|row| row.server.gpu == fleet.accelerator.id));
        answer.notes.extend(ages_of_prices(listed));
    } else {
        answer.notes.clear();
    }
    Ok(Answer { status: if plans.is_empty() { NO } else { 0 }, ..answer })
}

/// How old the prices of these GPUs are, each once. Only a person who is watching reads it: what is written to files stays
/// the same every day.
pub(super) fn ages_of_prices<'a>(fleets: impl Iterator<Item = &'a Fleet>) -> Vec<String> {
    if !terminal_is_watching() {
        return Vec::new();
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default();
    let today = seconds.div_euclid(86_400);
    once(fleets.filter_map(|fleet| age(&fleet.accelerator.id, fleet.price.as_ref()?, today)))
}

fn age(name: &str, price: &Price, today: u64) -> Option<String> {
    let days = price.age_in_days(today)?;
    let unit = if days == 1 { "day" } else { "days" };
    Some(format!("the price of {name} is {days} {unit} old, as of {}", price.as_of.as_deref()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::Rate;

    #[test]
    fn the_age_of_a_price_is_in_days() {
        let rate: Rate = "1/gpu-h".parse().unwrap();
        let price = Price { as_of: Some("2026-08-19".into()), ..rate.price(None).unwrap() };
        assert_eq!(age("l4", &price, 20_685).as_deref(), Some("the price of l4 is 1 day old, as of 2026-08-19"));
        assert_eq!(age("l4", &Price { as_of: None, ..price }, 20_685), None);
    }
}
