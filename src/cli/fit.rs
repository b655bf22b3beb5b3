//! `kvsize fit MODEL --gpu 8xh100`: what hardware holds.

use clap::{ArgMatches, Args};

use super::args::{OutputArguments, WorkloadArguments};
use super::estimate::past_maximum;
use super::gpus::{self, GpuArguments};
use super::hardware::{
    MemoryArguments, Rows, SEPARATE_REPLICAS, Subject, SubjectArguments, asks_of_one_length, assumed_of, fitted,
    given_layout, on_device, prices, question, replicas_of_experts, runs_on, served, usual_formats,
};
use super::{Answer, FITS, NO, Subcommand, refuse_warnings, settings, typed};
use crate::report::{self, FitDocument};
use crate::units::{Code, Error, Notes};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "fit",
    about: "What hardware holds: the longest context, requests at once, cost",
    arguments: |command| settings::augment(asks_of_one_length(FitArguments::augment_args(command))),
    notes: "",
    examples: &[
        (
            "What one H100 holds, and the line that starts the server",
            "kvsize fit llama-3.1-8b --gpu h100 -e vllm -s 32K",
        ),
        (
            "Three machines side by side: status 1, one of them is too small",
            "kvsize fit llama-3.1-70b --gpu 2xh100,8xh100,8xh200 -e vllm -s 32K -b 8",
        ),
        (
            "What a cache in FP8 and weights in FP8 would change",
            "kvsize fit llama-3.1-70b --gpu 4xl40s -e vllm -d fp8 --weights-dtype fp8",
        ),
        (
            "A card that is not listed, with an overhead of your own",
            "kvsize fit llama-3.1-8b --gpu-memory 48GiB --overhead 2GB -s 16K",
        ),
    ],
    statuses: FITS,
    run,
};

#[derive(Debug, Args)]
struct FitArguments {
    #[command(flatten)]
    subject: SubjectArguments,
    #[command(flatten)]
    workload: WorkloadArguments,
    #[command(flatten)]
    memory: MemoryArguments,
    #[command(flatten)]
    gpus: GpuArguments,
    #[command(flatten)]
    output: OutputArguments,
}

fn run(matches: &mut ArgMatches) -> Result<Answer, Error> {
    let mut arguments: FitArguments = typed(matches)?;
    let subject = Subject::of(&arguments.subject, &mut arguments.workload, &arguments.memory, matches)?;
    let arguments = &arguments;
    let fleets = arguments.gpus.fleets()?;
    if fleets.is_empty() {
        let remedy =
            "name the GPUs, as --gpu 8xh100, or the memory of one, as --gpu-memory 80GiB (`kvsize gpus` lists them)";
        return Err(Error::without_value(Code::NoGpu, "--gpu", "missing", remedy));
    }
    let mut rows = Rows::default();
    let mut assumptions = if arguments.memory.counts_what_engines_see() { assumed_of(&fleets) } else { Vec::new() };
    for fleet in &fleets {
        for engine in &subject.engines {
            let engine = on_device(engine, fleet, &mut assumptions);
            for kv_dtype in usual_formats(&subject.model, &arguments.workload, &engine) {
                let question = question(&subject, &arguments.workload, &arguments.memory, &engine, kv_dtype);
                let memory = arguments.memory.of(&subject, fleet);
                let given = given_layout(&arguments.workload);
                let row = runs_on(&engine, fleet).and_then(|()| {
                    fitted(&question, fleet, &memory, given, |layout, seq_len| {
                        report::serve(&served(&subject, &question, layout, seq_len))
                    })
                });
                rows.add(row, fleet, &engine)?;
            }
        }
    }
    let (found, refused) = rows.answered()?;
    if found.iter().any(|fitted| replicas_of_experts(&subject.model, &fitted.engine, fitted.layout)) {
        assumptions.push(SEPARATE_REPLICAS.into());
    }
    let longest = subject.seq_len;
    let warnings: Vec<String> =
        past_maximum(&subject.model, longest).iter().map(ToString::to_string).chain(refused).collect();
    let document = FitDocument::new(&subject.model, &found, &Notes { assumptions, warnings });
    refuse_warnings(arguments.subject.strict, &document.notes.warnings)?;
    let data = report::render(&document, arguments.output.format.format(), arguments.output.unit());
    let FitDocument { notes: Notes { assumptions: mut notes, warnings }, fits, .. } = document;
    notes.extend(gpus::ages(prices(&fleets)));
    let no = !fits;
    Ok(Answer {
        quiet: arguments.output.format.quiet,
        data,
        notes,
        warnings,
        status: if no { NO } else { 0 },
        ..Answer::default()
    })
}
