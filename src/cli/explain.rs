//! `kvsize explain MODEL`: where every byte comes from, and why an engine's are not the live ones.

use clap::{ArgMatches, Args};

use super::args::FormatArguments;
use super::estimate::unused_memory;
use super::options::{Models, Options};
use super::sources::Places;
use super::{Answer, Subcommand, typed};
use crate::report::{self, Format, UnitChoice};
use crate::request::{Group, Request, Selection, memory_of_a_card, past_maximum};
use crate::units::{ByteUnit, Code, Error};

const OPTIONS: Options = Options {
    selection: Selection {
        groups: &[Group::Model, Group::Workload, Group::Device, Group::Accelerators, Group::Sources],
        without: "strict",
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
    let Request { model, engine, workload, assumption, .. } = ask.request(&Places::new(&ask)?)?;
    let answer = engine.answer(&model, &workload)?;
    let past = Vec::from_iter(past_maximum(&model, Some(workload.seq_len)));
    let explanation = report::explanation(&model, &workload, &engine, answer, &past)?;
    let data = report::render(&explanation, format, UnitChoice::Fixed(ByteUnit::Bytes));
    let mut notes: Vec<String> = assumption.into_iter().chain(explanation.notes.assumptions).collect();
    notes.extend(unused_memory(workload.memory.map(|memory| memory.0), explanation.capacity.is_some()));
    notes.extend(workload.memory.and_then(memory_of_a_card));
    Ok(Answer { quiet: output.quiet, data, notes, warnings: explanation.notes.warnings, ..Answer::default() })
}
