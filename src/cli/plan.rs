//! `kvsize plan MODEL -s 10m -b 4`: the smallest layouts that hold a workload.

use std::collections::BTreeMap;

use clap::{ArgMatches, Args};

use super::args::{OutputArguments, WorkloadArguments};
use super::estimate::past_maximum;
use super::failure::Failure;
use super::fit::{
    MemoryArguments, PER_NODE, Subject, SubjectArguments, asks_of_one_length, on_device, question, served,
    usual_formats,
};
use super::gpus::GpuArguments;
use super::{Answer, Subcommand, refuse_warnings, settings, typed};
use crate::fit::{Limits, MemoryError, Planned, plan, ranks};
use crate::report::{self, Asked, PlanDocument, PlannedOn};
use crate::units::{Diagnosis, parse_count};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "plan",
    about: "The smallest and the cheapest layouts that hold a workload",
    arguments: |command| settings::augment(asks_of_one_length(PlanArguments::augment_args(command))),
    run,
};

/// GPUs that are tried at the most, unless --gpu or --max-gpus says otherwise.
const MOST_GPUS: u64 = 256;

#[derive(Debug, Args)]
struct PlanArguments {
    #[command(flatten)]
    subject: SubjectArguments,
    #[command(flatten)]
    workload: WorkloadArguments,
    #[command(flatten)]
    gpus: GpuArguments,
    /// GPUs at the most [default: 256, or the number before an x in --gpu]
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true, help_heading = "Hardware")]
    max_gpus: Option<u64>,
    #[command(flatten)]
    memory: MemoryArguments,
    #[command(flatten)]
    output: OutputArguments,
}

fn run(matches: &mut ArgMatches) -> Result<Answer, Failure> {
    let mut arguments: PlanArguments = typed(matches)?;
    let mut subject = Subject::of(&arguments.subject, &mut arguments.workload, &arguments.memory, matches)?;
    let arguments = &arguments;
    let seq_len = subject.seq_len.or(subject.model.max_position_embeddings).ok_or_else(no_length)?;
    subject.seq_len = Some(seq_len);
    let fleets = arguments.gpus.fleets_or_all()?;
    let mut assumptions = subject.assumptions.clone();
    let (mut found, mut too_small) = (Vec::new(), Vec::new());
    for engine in &subject.engines {
        // Which ranks are possible does not depend on the device, but for its class.
        let mut possible: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for fleet in &fleets {
            let engine = on_device(engine, fleet, &mut assumptions);
            for kv_dtype in usual_formats(&subject.model, &arguments.workload, &engine) {
                let question = question(&subject, &arguments.workload, &arguments.memory, &engine, kv_dtype);
                let most = arguments.max_gpus.or(fleet.count).unwrap_or(MOST_GPUS);
                let class = (engine.device.compute_capability, kv_dtype.to_string());
                let ranks = possible.entry(class).or_insert_with(|| ranks(&question, PER_NODE));
                let memory = arguments.memory.of(&subject, fleet);
                let limits = Limits { gpus: most, per_node: PER_NODE };
                let planned: Result<Vec<Planned>, MemoryError> =
                    plan(&question, ranks, limits, |layout| Ok(memory.budgets(&question, layout)?.stages));
                let planned = planned?;
                if planned.is_empty() {
                    too_small.push(fleet.accelerator.id.clone());
                }
                found.extend(planned.into_iter().map(|planned| PlannedOn {
                    gpu: fleet.accelerator.id.clone(),
                    price: fleet.price.clone(),
                    engine: engine.clone(),
                    kv_dtype,
                    command: report::serve(&served(
                        &arguments.subject,
                        &arguments.memory,
                        &question,
                        planned.layout,
                        seq_len,
                    )),
                    planned,
                }));
            }
        }
    }
    let warnings: Vec<String> = past_maximum(&subject.model, Some(seq_len)).iter().map(ToString::to_string).collect();
    let batch = subject.batch.unwrap_or(1);
    let asked = Asked { seq_len: seq_len.0, batch, max_gpus: arguments.max_gpus.unwrap_or(MOST_GPUS) };
    let document = PlanDocument::new(&subject.model, asked, &found, too_small, &assumptions, &warnings);
    refuse_warnings(arguments.subject.strict, &document.warnings)?;
    let data = report::plan(&document, arguments.output.format.format(), arguments.output.unit());
    let (notes, warnings, no) = (document.assumptions, document.warnings, document.layouts.is_empty());
    Ok(Answer { quiet: arguments.output.format.quiet, data, notes, warnings, no })
}

fn no_length() -> Failure {
    let problem = "is not given, and the model has no maximum of its own".into();
    Failure(Diagnosis::new("no_length", "--seq-len", "it".into(), problem, "give the tokens of a request"))
}
