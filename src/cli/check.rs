//! `kvsize check MODEL -s 128K --budget 40GB`: whether a workload stays within a budget.

use std::path::PathBuf;

use clap::{ArgMatches, Args};

use super::args::{DeviceArguments, HubArguments, OutputArguments, SpecArguments, WorkloadArguments};
use super::estimate::{Places, drafted, named_or_spec, needs_encoder, overlay_for, past_maximum};
use super::explain::described;
use super::failure::Failure;
use super::gpus::positive_bytes;
use super::{Answer, NO, Subcommand, hub, lengths, levers, refuse_warnings, settings, single, typed};
use crate::check::{Budget, Margin, check};
use crate::report::{self, CheckDocument};
use crate::units::{Bytes, Diagnosis, UnitError};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "check",
    about: "Whether a workload stays within a budget: exit status 0 within, 1 over, 2 could not tell",
    arguments: |command| settings::augment(described(CheckArguments::augment_args(command), ONE_OF_EACH)),
    run,
};

/// The options of the estimate that take lists, as options that take one value.
const ONE_OF_EACH: &[(&str, &str)] = &[
    ("seq_len", "Tokens of each sequence [default: the model's own maximum, or 131,072]"),
    ("batch", "Sequences [default: 1]"),
    ("kv_dtype", "Format of cached elements [default: the 16-bit format of the checkpoint, or what the engine takes]"),
    ("bitwidth", "Plain bits per element, as the article's bitwidth"),
    ("engine", "Whose allocation is checked: ideal (the live bytes, the default) or an engine (`kvsize engines`)"),
];

#[derive(Debug, Args)]
struct CheckArguments {
    /// A catalogue name, a config.json or GGUF file, a directory with one, - for standard input, or an id on the hub
    /// (org/name[@revision][:FILE])
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Bytes that the cache may take over all GPUs of a replica
    #[arg(long, value_name = "BYTES", value_parser = positive_bytes, allow_hyphen_values = true)]
    budget: Option<Bytes>,
    /// Bytes that it may take on any one GPU
    #[arg(long, value_name = "BYTES", value_parser = positive_bytes, allow_hyphen_values = true)]
    budget_per_gpu: Option<Bytes>,
    /// The part of the budget that is kept free [default: 0%]
    #[arg(long, value_name = "PERCENT", value_parser = margin, allow_hyphen_values = true)]
    margin: Option<Margin>,
    #[command(flatten)]
    spec: SpecArguments,
    #[command(flatten)]
    workload: WorkloadArguments,
    #[command(flatten)]
    device: DeviceArguments,
    /// A JSON file of models of your own, which shadow the catalogue's [env: `KVSIZE_CATALOGUE`]
    #[arg(long, value_name = "FILE")]
    catalogue: Option<PathBuf>,
    #[command(flatten)]
    hub: HubArguments,
    /// Warnings become errors
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    output: OutputArguments,
}

/// `5%` or `2.5%`, below all of it.
fn margin(text: &str) -> Result<Margin, UnitError> {
    const ALL: u32 = 1_000_000;
    let wrong = || UnitError::NotAMargin(text.to_owned());
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 4 || !digits(whole) || !digits(fraction) || number.ends_with('.') {
        return Err(wrong());
    }
    // Four places of a percent are millionths.
    let millionths: Option<u32> = format!("{whole}{fraction:0<4}").parse().ok();
    millionths.filter(|&millionths| millionths < ALL).map(Margin).ok_or_else(wrong)
}

fn run(matches: &mut ArgMatches) -> Result<Answer, Failure> {
    let mut arguments: CheckArguments = typed(matches)?;
    levers::retrieved(&mut arguments.workload);
    let CheckArguments { models, budget, budget_per_gpu, margin, spec, workload: asked, device, .. } = &arguments;
    if budget.is_none() && budget_per_gpu.is_none() {
        let remedy = "give the bytes, as --budget 40GB, or those of one GPU, as --budget-per-gpu 10GB";
        return Err(Failure(Diagnosis::new("no_budget", "--budget", "missing".into(), String::new(), remedy)));
    }
    let (engine, assumed) = single::engine(asked, Some(device), matches)?;
    let names = || models.iter().chain(&asked.draft);
    let overlay = overlay_for(names(), arguments.catalogue.as_deref())?;
    let places = Places { overlay, hub: hub::settings_for(names(), &arguments.hub) };
    let found = named_or_spec(models, &spec.spec(), |name| places.model(name, false))?;
    let [model] = <[_; 1]>::try_from(found).map_err(|found| {
        let problem = "are more than a budget is checked for".into();
        Failure(Diagnosis::new(
            "several",
            "MODEL",
            format!("{} models", found.len()),
            problem,
            "check one after the other",
        ))
    })?;
    let model = drafted(model, asked, |name| places.draft(name))?;
    let model = levers::applied_to(&model, asked, std::slice::from_ref(&engine))?;
    needs_encoder(asked, std::slice::from_ref(&model))?;
    let settled = lengths::settled(asked, std::slice::from_ref(&engine), &model)?;
    let workload = single::workload(&model, &settled, device.memory, &engine)?;
    let budget = Budget { bytes: *budget, bytes_per_gpu: *budget_per_gpu, margin: margin.unwrap_or_default() };
    let checked = check(&model, &workload, &engine, &budget)?;
    let warnings: Vec<String> = past_maximum(&model, Some(workload.seq_len)).iter().map(ToString::to_string).collect();
    let document = CheckDocument::new(&model, &workload, &engine, &checked, &warnings);
    refuse_warnings(arguments.strict, &document.warnings)?;
    let data = report::check(&document, arguments.output.format.format(), arguments.output.unit());
    let CheckDocument { within, assumptions, warnings, .. } = document;
    let notes = assumed.into_iter().chain(assumptions).collect();
    let status = if within { 0 } else { NO };
    Ok(Answer { quiet: arguments.output.format.quiet, data, notes, warnings, status, ..Answer::default() })
}
