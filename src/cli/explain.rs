//! `kvsize explain MODEL`: where every byte comes from, and why an engine's are not the live ones.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command};

use super::args::{DeviceArguments, FormatArguments, HubArguments, WorkloadArguments};
use super::estimate::{Places, drafted, needs_encoder, overlay_for, past_maximum, unused_memory};
use super::gpus::memory_of_a_card;
use super::{ANSWERED, Answer, Subcommand, hub, lengths, levers, settings, single, typed};
use crate::report::{self, Format, UnitChoice};
use crate::units::{ByteUnit, Code, Error};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "explain",
    about: "Every byte accounted for: groups, formulas, and the keys behind the numbers",
    arguments: |command| settings::augment(described(ExplainArguments::augment_args(command), LISTS_ELSEWHERE)),
    notes: "",
    examples: &[
        ("The live bytes of each group of layers, and the keys behind them", "kvsize explain gemma-3-27b -s 128K"),
        ("Why vLLM takes more than the live bytes, to the byte", "kvsize explain gemma-3-27b -s 128K -e vllm"),
        ("A config.json of your own, as Markdown", "kvsize explain config.json -f markdown"),
    ],
    statuses: ANSWERED,
    run,
};

/// The options of the estimate that take lists, as options that take one value: what is explained is one estimate.
const LISTS_ELSEWHERE: &[(&str, &str)] = &[
    ("seq_len", "Tokens of each sequence [default: the model's own maximum, or 131,072]"),
    ("batch", "Sequences [default: 1]"),
    ("kv_dtype", "Format of cached elements [default: the 16-bit format of the checkpoint, or what the engine takes]"),
    ("bitwidth", "Plain bits per element, as the article's bitwidth"),
    ("engine", "Whose allocation is explained: ideal (the live bytes, the default) or an engine (`kvsize engines`)"),
];

/// The command, with other help of options that take lists elsewhere.
pub(super) fn described(command: Command, options: &[(&'static str, &'static str)]) -> Command {
    let describe = |command: Command, &(id, help): &(&'static str, &'static str)| {
        command.mut_arg(id, |arg| arg.help(help).long_help(None::<&str>))
    };
    options.iter().fold(command, describe)
}

#[derive(Debug, Args)]
struct ExplainArguments {
    /// A catalogue name, a config.json or GGUF file, a directory with one, - for standard input, or an id on the hub
    /// (org/name[@revision][:FILE])
    #[arg(value_name = "MODEL")]
    model: String,
    #[command(flatten)]
    workload: WorkloadArguments,
    #[command(flatten)]
    device: DeviceArguments,
    /// A JSON file of models of your own, which shadow the catalogue's [env: `KVSIZE_CATALOGUE`]
    #[arg(long, value_name = "FILE")]
    catalogue: Option<PathBuf>,
    #[command(flatten)]
    hub: HubArguments,
    #[command(flatten)]
    format: FormatArguments,
}

fn run(matches: &mut ArgMatches) -> Result<Answer, Error> {
    let mut arguments: ExplainArguments = typed(matches)?;
    levers::retrieved(&mut arguments.workload);
    let ExplainArguments { model, workload: asked, device, catalogue, hub: offline, format } = &arguments;
    let as_written = format.format();
    if matches!(as_written, Format::Csv | Format::Plain) {
        return Err(Error {
            code: Code::Format,
            field: "--format".into(),
            found: Some(as_written.name().into()),
            problem: "is for rows of estimates".into(),
            remedy: "use table, markdown, json or jsonl".into(),
        });
    }
    let (engine, assumed) = single::engine(asked, Some(device), matches)?;
    let names = || [model].into_iter().chain(&asked.draft);
    let overlay = overlay_for(names(), catalogue.as_deref())?;
    let places = Places { overlay, hub: hub::settings_for(names(), offline) };
    let model = drafted(places.model(model, false)?, asked, |name| places.draft(name))?;
    let model = levers::applied_to(&model, asked, std::slice::from_ref(&engine))?;
    needs_encoder(asked, std::slice::from_ref(&model))?;
    let settled = lengths::settled(asked, std::slice::from_ref(&engine), &model)?;
    let workload = single::workload(&model, &settled, device.memory, &engine)?;
    let answer = engine.answer(&model, &workload)?;
    let warnings = past_maximum(&model, Some(workload.seq_len));
    let explanation = report::explanation(&model, &workload, &engine, answer, &warnings)?;
    let data = report::render(&explanation, as_written, UnitChoice::Fixed(ByteUnit::Bytes));
    let mut notes: Vec<String> = assumed.into_iter().chain(explanation.notes.assumptions).collect();
    notes.extend(unused_memory(device, explanation.capacity.is_some()));
    notes.extend(memory_of_a_card(device.memory));
    Ok(Answer { quiet: format.quiet, data, notes, warnings: explanation.notes.warnings, ..Answer::default() })
}
