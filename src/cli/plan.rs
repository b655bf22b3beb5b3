//! `kvsize plan MODEL -s 10m -b 4`: the smallest layouts that hold a workload.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use clap::{ArgMatches, Args};

use super::args::{OutputArguments, WorkloadArguments};
use super::estimate::past_maximum;
use super::failure::Failure;
use super::fit::{
    MemoryArguments, PER_NODE, Subject, SubjectArguments, asks_of_one_length, assumed_of, on_device, prices, question,
    served, usual_formats,
};
use super::gpus::{self, GpuArguments};
use super::{Answer, Subcommand, refuse_warnings, settings, typed};
use crate::engine::Spread;
use crate::estimate::{Layout, Workload};
use crate::fit::{Limits, Memory, MemoryError, Planned, Question, closest, plan, ranks};
use crate::report::{self, Asked, PlanDocument, PlannedOn, TooSmall};
use crate::units::{Diagnosis, Tokens, parse_count};

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
    memory: MemoryArguments,
    #[command(flatten)]
    gpus: GpuArguments,
    /// GPUs at the most [default: 256, or the number before an x in --gpu]
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true, help_heading = "Hardware")]
    max_gpus: Option<u64>,
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
    let mut assumptions = assumed_of(&fleets);
    let mut warnings = Vec::new();
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
                let ranks = match possible.entry(class) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => unknown.insert(ranks(&question, PER_NODE)?),
                };
                let memory = arguments.memory.of(&subject, fleet);
                let limits = Limits { gpus: most, per_node: PER_NODE };
                let planned: Result<Vec<Planned>, MemoryError> =
                    plan(&question, ranks, limits, |layout| Ok(memory.budgets(&question, layout)?.stages));
                let planned = planned?;
                if let Some(first) = planned.first() {
                    said_once(&question, first.layout, &memory, &mut assumptions, &mut warnings)?;
                }
                if planned.is_empty() {
                    let budgets = |layout| Ok::<_, MemoryError>(memory.budgets(&question, layout)?.stages);
                    let closest = closest(&question, ranks, limits, budgets)?;
                    too_small.push(TooSmall { gpu: fleet.accelerator.id.clone(), max_gpus: most, closest });
                }
                found.extend(planned.into_iter().map(|planned| PlannedOn {
                    gpu: fleet.accelerator.id.clone(),
                    price: fleet.price.clone(),
                    engine: engine.clone(),
                    kv_dtype,
                    command: report::serve(&served(
                        &arguments.subject,
                        subject.utilization,
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
    let asked = Asked { seq_len: seq_len.0, batch };
    let document = PlanDocument::new(&subject.model, asked, &found, &too_small, &assumptions, &warnings);
    refuse_warnings(arguments.subject.strict, &document.warnings)?;
    let data = report::plan(&document, arguments.output.format.format(), arguments.output.unit());
    let PlanDocument { assumptions: mut notes, warnings, layouts, .. } = document;
    let used = |name: &str| layouts.iter().any(|row| row.gpu == name);
    notes.extend(gpus::ages(prices(&fleets).filter(|(name, _)| used(name))));
    let no = layouts.is_empty();
    Ok(Answer { quiet: arguments.output.format.quiet, data, notes, warnings, no })
}

/// What the engine and the memory of a layout take for granted, and warn of.
fn said_once(
    question: &Question,
    layout: Layout,
    memory: &Memory,
    assumptions: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    let budgets = memory.budgets(question, layout)?;
    let seq_len = question.seq_len.unwrap_or(Tokens(1));
    let spread = if question.engine.profile.spread == Spread::Ranks { layout } else { Layout::default() };
    let workload = Workload { seq_len, layout: Layout { dp: 1, ..spread }, ..question.workload };
    let answer = question.engine.answer(question.model, &workload)?;
    assumptions.extend(budgets.notes.into_iter().chain(answer.assumptions));
    warnings.extend(answer.warnings);
    Ok(())
}

fn no_length() -> Failure {
    let problem = "is not given, and the model has no maximum of its own".into();
    Failure(Diagnosis::new("no_length", "--seq-len", "it".into(), problem, "give the tokens of a request"))
}
