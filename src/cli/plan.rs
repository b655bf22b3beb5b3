//! `kvsize plan MODEL -s 10m -b 4`: the smallest layouts that hold a workload.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use clap::{ArgMatches, Args};

use super::args::{OutputArguments, WorkloadArguments};
use super::estimate::past_maximum;
use super::explain::described;
use super::gpus::{self, GpuArguments};
use super::hardware::{
    MemoryArguments, PER_NODE, Rows, SEPARATE_REPLICAS, Subject, SubjectArguments, asks_of_one_length, assumed_of,
    given_layout, on_device, prices, question, replicas_of_experts, runs_on, served, usual_formats,
};
use super::{Answer, FITS, NO, Subcommand, refuse_warnings, settings, typed};
use crate::engine::Spread;
use crate::estimate::{Layout, Workload};
use crate::fit::{Limits, Memory, MemoryError, Question, closest, plan, ranks};
use crate::hardware::Calibration;
use crate::report::{self, Asked, PlanDocument, PlannedOn, TooSmall};
use crate::units::{Code, Error, KvFormat, Notes, Tokens, parse_count};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "plan",
    about: "The smallest and the cheapest layouts that hold a workload",
    arguments: |command| {
        let length = [("seq_len", "Tokens of a request [default: the model's own maximum]")];
        settings::augment(described(asks_of_one_length(PlanArguments::augment_args(command)), &length))
    },
    notes: "",
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

fn run(matches: &mut ArgMatches) -> Result<Answer, Error> {
    let mut arguments: PlanArguments = typed(matches)?;
    let mut subject = Subject::of(&arguments.subject, &mut arguments.workload, &arguments.memory, matches)?;
    let arguments = &arguments;
    let seq_len = subject.seq_len.or(subject.model.max_position_embeddings).ok_or_else(no_length)?;
    subject.seq_len = Some(seq_len);
    let fleets = arguments.gpus.fleets_or_all()?;
    let mut assumptions = if arguments.memory.counts_what_engines_see() { assumed_of(&fleets) } else { Vec::new() };
    let mut warnings = Vec::new();
    let (mut rows, mut too_small) = (Rows::default(), Vec::new());
    for engine in &subject.engines {
        // Which ranks are possible does not depend on the device, but for its class.
        let mut possible: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for fleet in &fleets {
            let engine = on_device(engine, fleet, &mut assumptions);
            for kv_dtype in usual_formats(&subject.model, &arguments.workload, &engine) {
                let question = question(&subject, &arguments.workload, &arguments.memory, &engine, kv_dtype);
                let gpus = arguments.max_gpus.or(fleet.count).unwrap_or(MOST_GPUS);
                let limits = Limits { gpus, per_node: PER_NODE, given: given_layout(&arguments.workload) };
                let class = (engine.device.compute_capability, kv_dtype.to_string());
                let memory = arguments.memory.of(&subject, fleet);
                let budgets = |layout| Ok::<_, MemoryError>(memory.budgets(&question, layout)?.stages);
                let ranks = match possible.entry(class) {
                    Entry::Occupied(known) => Ok(known.into_mut()),
                    Entry::Vacant(unknown) => ranks(&question, limits).map(|found| unknown.insert(found)),
                };
                let planned = runs_on(&engine, fleet).and_then(|()| {
                    let ranks = ranks?;
                    Ok((plan(&question, ranks, limits, budgets)?, ranks))
                });
                let (planned, ranks) = match planned {
                    Ok(found) => found,
                    Err(failure) => {
                        rows.refuse(failure, fleet, &engine)?;
                        continue;
                    }
                };
                let Some(first) = planned.first() else {
                    let closest = closest(&question, ranks, limits, budgets)?;
                    too_small.push(TooSmall::new(&fleet.accelerator.id, gpus, closest));
                    continue;
                };
                let (calibration, stored) =
                    said_once(&question, first.layout, &memory, &mut assumptions, &mut warnings)?;
                rows.found.extend(planned.into_iter().map(|planned| PlannedOn {
                    gpu: fleet.accelerator.id.clone(),
                    price: fleet.price.clone(),
                    engine: engine.clone(),
                    kv_dtype,
                    stored,
                    calibration,
                    command: report::serve(&served(&subject, &question, planned.layout, seq_len)),
                    planned,
                }));
            }
        }
    }
    let (found, refused) = if too_small.is_empty() { rows.answered()? } else { (rows.found, rows.refused) };
    warnings.extend(refused);
    if found.iter().any(|row| replicas_of_experts(&subject.model, &row.engine, row.planned.layout)) {
        assumptions.push(SEPARATE_REPLICAS.into());
    }
    warnings.extend(past_maximum(&subject.model, Some(seq_len)).iter().map(ToString::to_string));
    let batch = subject.batch.unwrap_or(1);
    let asked = Asked { seq_len: seq_len.0, batch };
    let document = PlanDocument::new(&subject.model, asked, &found, too_small, &Notes { assumptions, warnings });
    refuse_warnings(arguments.subject.strict, &document.notes.warnings)?;
    let data = report::render(&document, arguments.output.format.format(), arguments.output.unit());
    let PlanDocument { notes: Notes { assumptions: mut notes, warnings }, layouts, .. } = document;
    let used = |name: &str| layouts.iter().any(|row| row.server.gpu == name);
    notes.extend(gpus::ages(prices(&fleets).filter(|(name, _)| used(name))));
    let no = layouts.is_empty();
    Ok(Answer {
        quiet: arguments.output.format.quiet,
        data,
        notes,
        warnings,
        status: if no { NO } else { 0 },
        ..Answer::default()
    })
}

/// What the engine and the memory of a layout take for granted, and warn of; what overheads are calibrated by, and what is
/// stored.
fn said_once(
    question: &Question,
    layout: Layout,
    memory: &Memory,
    assumptions: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Result<(Option<&'static Calibration>, KvFormat), Error> {
    let budgets = memory.budgets(question, layout)?;
    let seq_len = question.seq_len.unwrap_or(Tokens(1));
    let spread = if question.engine.profile.spread == Spread::Ranks { layout } else { Layout::default() };
    let workload = Workload { seq_len, layout: Layout { dp: 1, ..spread }, ..question.workload };
    let answer = question.engine.answer(question.model, &workload)?;
    assumptions.extend(budgets.notes.into_iter().chain(answer.assumptions));
    warnings.extend(answer.warnings);
    Ok((budgets.calibration, answer.estimate.stored))
}

fn no_length() -> Error {
    let problem = "is not given, and the model has no maximum of its own";
    Error::new(Code::NoLength, "--seq-len", "it", problem, "give the tokens of a request")
}
