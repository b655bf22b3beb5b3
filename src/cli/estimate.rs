//! `kvsize [estimate] MODEL`: what the cache of a model takes.

use clap::{ArgMatches, Args};

use super::args::{OutputArguments, SortKey};
use super::options::{Models, Options};
use super::sources::Places;
use super::{Answer, Subcommand, sweep, terminal_is_watching, typed};
use crate::engine::Engine;
use crate::model::Model;
use crate::report::{AnsweredEstimate, Document, Estimates};
use crate::request::{Axes, Group, Selection, Weigh, memory_of_a_card, past_maximum};
use crate::units::{Bytes, Code, Error, Notes, Tokens};

pub(super) const OPTIONS: Options = Options {
    selection: Selection {
        groups: &[
            Group::Model,
            Group::Dimensions,
            Group::Workload,
            Group::Device,
            Group::Terms,
            Group::Accelerators,
            Group::Sources,
        ],
        without: "overhead utilization capacity",
    },
    models: Models::Several,
    lists: &["tp", "pp", "dp", "dcp", "memory"],
    about: "",
    brief: "",
};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "estimate",
    about: "The estimate of a model (what is done without a command)",
    options: Some(&OPTIONS),
    arguments: EstimateOutput::augment_args,
    run,
    ..Subcommand::BARE
};

#[derive(Debug, Args)]
pub(super) struct EstimateOutput {
    #[command(flatten)]
    pub(super) output: OutputArguments,
    /// Sort order when comparing models, at the longest length [default: bytes]
    #[arg(long, value_name = "KEY", value_enum)]
    pub(super) sort: Option<SortKey>,
    /// Add the weights: cache and weights together
    #[arg(long)]
    pub(super) total: bool,
}

fn run(matches: &mut ArgMatches) -> Result<Answer, Error> {
    let EstimateOutput { output, sort, total } = typed(matches)?;
    let ask = OPTIONS.ask(matches)?;
    ask.refuse_pairs()?;
    if let Some(option) = ask.memory_term().filter(|_| !total) {
        let remedy = "add --total for cache and weights, or --gpu for what it holds";
        return Err(Error::without_value(Code::NotCounted, option, "changes nothing of the cache", remedy));
    }
    if sweep::is_sweep(&ask) {
        return sweep::run(ask, output, sort);
    }
    let places = Places::new(&ask)?;
    let (engines, assumed) = ask.engines(&places)?;
    // Weights are in the JSON alone, and only then worth the files' headers.
    let weigh = if total { ask.weigh(&engines) } else { Weigh::when(output.format.for_programs()) };
    let models = ask.models(&engines, &places, weigh)?;
    let place = ask.place()?;
    let is_one = models.len() == 1;
    let named = |model: &Model, text: String| if is_one { text } else { format!("{}: {text}", model.name) };
    let mut documents = Vec::with_capacity(models.len());
    let mut said = Notes { assumptions: Vec::from_iter(assumed), warnings: Vec::new() };
    for model in &models {
        let answered = ask.axes(model, &engines, &place).and_then(|axes| {
            let weights = |engine: &Engine| if total { ask.weights_in(model, engine).map(Some) } else { Ok(None) };
            document(model, &axes, &weights)
        });
        let document = answered.map_err(|error| Error { field: named(model, error.field.clone()), ..error })?;
        said.assumptions.extend(document.notes.assumptions.iter().map(|text| named(model, text.clone())));
        said.warnings.extend(document.notes.warnings.iter().map(|text| named(model, text.clone())));
        documents.push(document);
    }
    sort_by(&mut documents, sort.unwrap_or(SortKey::Bytes));
    let mut answer = output.answer(&ask, &Estimates(&documents), said)?;
    if terminal_is_watching() {
        answer.notes.extend(powers_of_1024(matches));
    }
    let rows = || documents.iter().flat_map(|document| &document.estimates);
    answer.notes.extend(unused_memory(place.memory, rows().any(|row| row.capacity.is_some())));
    answer.notes.extend(place.memory.and_then(|memory| memory_of_a_card(Bytes(memory))));
    Ok(answer)
}

/// Lengths that were typed with M or G, which are easily taken for powers of 1000.
fn powers_of_1024(matches: &ArgMatches) -> Vec<String> {
    let typed =
        matches.try_get_many::<String>("seq-len").ok().flatten().into_iter().flatten().flat_map(|text| text.split(','));
    let note = |text: &str| {
        let tokens = text.parse::<Tokens>().ok().filter(|_| text.ends_with(['M', 'G']))?;
        let lower = text.to_lowercase();
        Some(format!("{text} is {tokens} tokens, a power of 1024; {lower} is the power of 1000"))
    };
    typed.filter_map(note).collect()
}

/// A note where memory is given and no engine has a capacity for it.
pub(super) fn unused_memory(memory: Option<u64>, is_used: bool) -> Option<String> {
    memory.filter(|_| !is_used).map(|_| "--memory has no effect with this engine".into())
}

/// Smallest first, by the first format at the longest length.
fn sort_by(documents: &mut [Document], key: SortKey) {
    match key {
        SortKey::Given => {}
        SortKey::Name => documents.sort_by(|a, b| a.model.name.cmp(&b.model.name)),
        SortKey::Bytes => documents.sort_by_key(|document| document.longest().map(|row| row.bytes)),
        SortKey::BytesPerToken => documents.sort_by(|a, b| {
            let slope = |document: &Document| document.longest().map_or(0.0, |row| row.bytes_per_token.as_f64());
            slope(a).total_cmp(&slope(b))
        }),
    }
}

/// The answers, with the warnings they call for. Of several engines one that refuses is left out, with a warning.
pub(super) fn document(
    model: &Model,
    axes: &Axes,
    weights: &dyn Fn(&Engine) -> Result<Option<Bytes>, Error>,
) -> Result<Document, Error> {
    let (mut answers, mut refusals) = (Vec::new(), Vec::<Error>::new());
    let several = axes.variants.windows(2).any(|pair| pair[0].engine != pair[1].engine);
    for (variant, workload) in axes.workloads() {
        match variant.answer(model, &workload) {
            Ok(answer) => {
                let (engine, weights) = (variant.engine.clone(), weights(&variant.engine)?);
                answers.push(AnsweredEstimate { workload, engine, answer, weights });
            }
            Err(refusal) if refusal.code == Code::Refused && several => refusals.push(refusal),
            Err(error) => return Err(error),
        }
    }
    if let (true, Some(refusal)) = (answers.is_empty(), refusals.first()) {
        return Err(refusal.clone());
    }
    let past = Vec::from_iter(past_maximum(model, axes.seq_lens.iter().max().copied()));
    let mut document = Document::new(model, &answers, &past)?;
    for refusal in &refusals {
        document.notes.warn(format!("left out: {refusal}"));
    }
    Ok(document)
}
