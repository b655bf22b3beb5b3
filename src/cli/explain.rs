//! `kvsize explain MODEL`: where every byte comes from, and why an engine's are not the live ones.

use std::slice;

use clap::{ArgMatches, Args};

use super::args::FormatArguments;
use super::estimate::unused_memory;
use super::options::{Models, Options};
use super::sources::Places;
use super::{Answer, Subcommand, typed};
use crate::engine::Engine;
use crate::report::{self, ExplainedTensors, Explanation, Format, UnitChoice};
use crate::request::{Ask, Group, Request, Selection, Weigh, memory_of_a_card, past_maximum};
use crate::units::{ByteUnit, Code, Error};

const OPTIONS: Options = Options {
    selection: Selection {
        groups: &[Group::Model, Group::Workload, Group::Device, Group::Terms, Group::Accelerators, Group::Sources],
        without: "strict weights overhead utilization capacity",
    },
    models: Models::One,
    lists: &[],
    // What is explained is one estimate.
    about: include_str!("about/explain.txt"),
    brief: "",
};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "explain",
    about: "Every byte accounted for: groups, formulas, and the keys behind the numbers",
    options: Some(&OPTIONS),
    arguments: <FormatArguments>::augment_args,
    run,
    ..Subcommand::BARE
};

fn run(matches: &mut ArgMatches) -> Result<Answer, Error> {
    let output: FormatArguments = typed(matches)?;
    let format = output.format();
    if matches!(format, Format::Csv | Format::Plain) {
        let remedy = "use table, markdown, json or jsonl";
        return Err(Error::new(Code::Format, "--format", format.name(), "is for rows of estimates", remedy));
    }
    let ask = OPTIONS.ask(matches)?;
    let places = Places::new(&ask)?;
    let Request { model, engine, workload, assumption, .. } = ask.request(&places)?;
    let answer = engine.answer(&model, &workload)?;
    let past = Vec::from_iter(past_maximum(&model, Some(workload.seq_len)));
    let explanation = report::explanation(&model, &workload, &engine, answer, &past)?;
    let tensors = tensors(&ask, &engine, &places)?;
    let explanation = Explanation { tensors, ..explanation };
    let data = report::render(&explanation, format, UnitChoice::Fixed(ByteUnit::Bytes));
    let mut notes: Vec<String> = assumption.into_iter().chain(explanation.notes.assumptions).collect();
    notes.extend(unused_memory(workload.memory.map(|memory| memory.0), explanation.capacity.is_some()));
    notes.extend(workload.memory.and_then(memory_of_a_card));
    Ok(Answer { quiet: output.quiet, data, notes, warnings: explanation.notes.warnings, ..Answer::default() })
}

/// The tensors of a GGUF file of the file type that was asked about, if one was.
fn tensors(ask: &Ask, engine: &Engine, places: &Places) -> Result<Vec<ExplainedTensors>, Error> {
    let Some(dtype) = ask.weights_dtype else { return Ok(Vec::new()) };
    let Some(file_type) = dtype.file_type() else {
        let problem = "has one type for every matrix, and nothing to explain";
        return Err(Error::new(Code::Refused, "--weights-dtype", dtype.to_string(), problem, "give a GGUF file type"));
    };
    let model = ask.model(slice::from_ref(engine), places, Weigh::Gguf)?;
    let unknown = |reason: &str| {
        let problem = format!("has unknown tensors: {reason}");
        Error::new(Code::NoWeights, "--weights-dtype", model.name.clone(), problem, "name a model with a config.json")
    };
    let tensors = match &model.gguf_tensors {
        Some(Ok(tensors)) => tensors,
        Some(Err(reason)) => return Err(unknown(reason)),
        None => return Err(unknown("only dimensions of its cache are given")),
    };
    let file_type = file_type.with_release(ask.llama_quantize.unwrap_or_default()).published(tensors);
    ExplainedTensors::of_file(&file_type.types(tensors)?)
}
