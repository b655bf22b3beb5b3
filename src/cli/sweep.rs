//! `kvsize sweep MODEL…`: every combination of the lists and ranges, a row each.

use std::io::Write;

use clap::builder::{IntoResettable, ValueParser};
use clap::{ArgAction, ArgMatches, Args, Command};

use super::args::{EstimateArguments, TypedTokens, WorkloadArguments};
use super::estimate::{Question, engines, models, needs_encoder, past_maximum, unused_memory};
use super::{ANSWERED, Answer, Subcommand, lengths, levers, refuse_warnings, settings, typed};
use crate::engine::Engine;
use crate::model::Model;
use crate::report::{self, AnsweredEstimate, Sweep};
use crate::units::{Bytes, Code, Error, Notes, Series, Tokens, UnitError, group_thousands, parse_count};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "sweep",
    about: "Every combination of lists and ranges, a row each",
    arguments: |command| settings::augment(ranged(EstimateArguments::augment_args(command))),
    notes: ABOUT_RANGES,
    examples: &[
        (
            "Doubling lengths and batches in two formats, as CSV",
            "kvsize sweep llama-3.1-8b -s '1K..128K*2' -b '1..64*2' -d fp16,fp8 -f csv",
        ),
        (
            "Two models over ranks and memories, as vLLM allocates",
            "kvsize sweep qwen3-8b qwen3-32b -e vllm --tp '1..8*2' --memory 20GiB,60GiB",
        ),
        ("A length every 8,192 tokens, as a table", "kvsize sweep gemma-3-27b -s 8K..64K+8K -d bf16"),
    ],
    statuses: ANSWERED,
    run,
};

const ABOUT_RANGES: &str = "\
A range is a..b*k (times k) or a..b+k (plus k), its end a part of it where a
step meets it; quote the star from the shell. Ranges and values may stand in one
list.

A combination that is refused is left out, and that is said. csv, jsonl and json
are written as the rows are known.";

/// The most rows of a sweep.
const MOST_ROWS: u64 = 1_000_000;

/// Reasons for what is left out that are told, and warnings and assumptions.
const MOST_WORDS: usize = 12;

/// The options that take ranges.
const RANGED: [(&str, Reader); 7] = [
    ("seq_len", |text| Series::parse(text, tokens)),
    ("batch", |text| Series::parse(text, parse_count)),
    ("tp", |text| Series::parse(text, parse_count)),
    ("pp", |text| Series::parse(text, parse_count)),
    ("dp", |text| Series::parse(text, parse_count)),
    ("dcp", |text| Series::parse(text, parse_count)),
    ("memory", |text| Series::parse(text, |text| text.parse().map(|Bytes(bytes)| bytes))),
];

type Reader = fn(&str) -> Result<Series, UnitError>;

fn tokens(text: &str) -> Result<u64, UnitError> {
    text.parse().map(|Tokens(tokens)| tokens)
}

/// The options of an estimate, of which some take lists of ranges.
fn ranged(command: Command) -> Command {
    let command = command.mut_arg("sort", |arg| arg.hide(true));
    RANGED.into_iter().fold(command, |command, (id, read)| {
        let parser: ValueParser = read.into();
        command.mut_arg(id, |arg| {
            arg.value_parser(parser.into_resettable()).value_delimiter(',').action(ArgAction::Append)
        })
    })
}

/// The values of the options that take ranges.
struct Axes([Vec<Series>; RANGED.len()]);

impl Axes {
    /// Taken out of the matches, so that what is left is an estimate's own arguments.
    fn taken(matches: &mut ArgMatches) -> Self {
        Self(RANGED.map(|(id, _)| matches.remove_many(id).map(Iterator::collect).unwrap_or_default()))
    }

    /// Rows that they make, each with `others`.
    fn rows(&self, others: u64) -> u64 {
        let values = |list: &Vec<Series>| list.iter().map(Series::count).fold(0, u64::saturating_add).max(1);
        self.0.iter().map(values).fold(others, u64::saturating_mul)
    }

    /// The values of each, once.
    fn values(&self) -> [Vec<u64>; RANGED.len()] {
        self.0.each_ref().map(|list| {
            let mut seen = std::collections::HashSet::new();
            list.iter().flat_map(|series| series.values()).filter(|&value| seen.insert(value)).collect()
        })
    }
}

fn run(matches: &mut ArgMatches) -> Result<Answer, Error> {
    let axes = Axes::taken(matches);
    let mut arguments: EstimateArguments = typed(matches)?;
    if arguments.sort.is_some() {
        return Err(Error {
            code: Code::Conflict,
            field: "--sort".into(),
            found: Some("it".into()),
            problem: "is not taken by a sweep, whose rows are in the order of its lists".into(),
            remedy: "leave it out".into(),
        });
    }
    let (engines, assumed) = engines(&arguments.workload, Some(&arguments.device), matches)?;
    levers::retrieved(&mut arguments.workload);
    let workload = &arguments.workload;
    let formats = workload.kv_dtype.len().max(workload.bitwidth.len()).max(1);
    let others = [arguments.models.len().max(1), engines.len(), formats].into_iter();
    let others = others.map(|count| u64::try_from(count).unwrap_or(u64::MAX)).fold(1, u64::saturating_mul);
    let rows = axes.rows(others);
    if rows > MOST_ROWS {
        return Err(Error {
            code: Code::TooMany,
            field: "sweep".into(),
            found: Some(format!("{} combinations", group_thousands(rows))),
            problem: format!("are more than {}", group_thousands(MOST_ROWS)),
            remedy: "shorten a list, take larger steps, or sweep one part after the other".into(),
        });
    }
    let values = axes.values();
    // What looks at a length before it is one of many looks at the shortest.
    let [lengths, .., memories] = &values;
    arguments.device.memory = memories.first().copied().map(Bytes);
    if let Some(&tokens) = lengths.iter().min() {
        arguments.workload.seq_len = vec![TypedTokens { tokens: Tokens(tokens), text: tokens.to_string() }];
    }
    let models = levers::applied(models(&arguments)?, &arguments.workload, &engines)?;
    needs_encoder(&arguments.workload, &models)?;
    let quiet = arguments.output.format.quiet;
    let stream = move |out: &mut dyn Write| {
        let mut rows = Rows::new(&arguments, out);
        for model in &models {
            sweep(model, &arguments.workload, &engines, &values, &mut rows)?;
        }
        let unused = unused_memory(&arguments.device, rows.capacities);
        let (mut notes, warnings) = rows.end()?;
        notes.extend(assumed.into_iter().chain(unused));
        Ok(Answer { quiet, notes, warnings, ..Answer::default() })
    };
    Ok(Answer { stream: Some(Box::new(stream)), ..Answer::default() })
}

/// All rows of a model: layouts and memory first, and within them as an estimate has them.
fn sweep(
    model: &Model,
    workload: &WorkloadArguments,
    engines: &[Engine],
    [lengths, batches, places @ ..]: &[Vec<u64>; RANGED.len()],
    rows: &mut Rows<'_>,
) -> anyhow::Result<()> {
    let mut asked = workload.clone();
    asked.batch = batches.iter().copied().take(2).collect();
    for [tp, pp, dp, dcp, memory] in combinations(places) {
        (asked.tp, asked.pp, asked.dp, asked.dcp) = (tp, pp, dp, dcp);
        let settled = lengths::settled(&asked, engines, model)?;
        let mut question = Question::new(model, &settled, memory.map(Bytes), engines);
        if !lengths.is_empty() {
            question.seq_lens = lengths.iter().copied().map(Tokens).collect();
        }
        if !batches.is_empty() {
            question.batches.clone_from(batches);
        }
        rows.add_all(model, &question)?;
    }
    Ok(())
}

/// Every combination of a value of each list, the last changing first; none in place of a list that is empty.
fn combinations<const N: usize>(lists: &[Vec<u64>; N]) -> Vec<[Option<u64>; N]> {
    let mut combinations = vec![[None; N]];
    for (index, list) in lists.iter().enumerate().filter(|(_, list)| !list.is_empty()) {
        let with = |combination: [Option<u64>; N], value| {
            let mut combination = combination;
            combination.iter_mut().skip(index).take(1).for_each(|place| *place = Some(value));
            combination
        };
        combinations = combinations
            .into_iter()
            .flat_map(|combination| list.iter().map(move |&value| with(combination, value)))
            .collect();
    }
    combinations
}

/// Rows on their way out, and the words that go with them.
struct Rows<'a> {
    out: &'a mut dyn Write,
    sweep: Sweep,
    strict: bool,
    /// Under `--strict` nothing is written before the last row is known to be without a warning.
    held: Vec<u8>,
    answered: u64,
    /// Whether something told what it makes of memory.
    capacities: bool,
    first_refusal: Option<Error>,
    refused: Words,
    assumptions: Words,
    warnings: Words,
}

impl<'a> Rows<'a> {
    fn new(arguments: &EstimateArguments, out: &'a mut dyn Write) -> Self {
        let output = &arguments.output;
        Self {
            out,
            sweep: Sweep::new(output.format.format(), output.unit()),
            strict: arguments.strict,
            held: Vec::new(),
            answered: 0,
            capacities: false,
            first_refusal: None,
            refused: Words::default(),
            assumptions: Words::default(),
            warnings: Words::default(),
        }
    }

    fn add_all(&mut self, model: &Model, question: &Question) -> anyhow::Result<()> {
        let own = report::notes_of(model, &[]);
        for &seq_len in &question.seq_lens {
            for &batch in &question.batches {
                for (engine, formats) in &question.engines {
                    for &kv_dtype in formats {
                        let workload = question.workload(seq_len, batch, kv_dtype);
                        match engine.answer(model, &workload) {
                            Ok(answer) => {
                                let answered = AnsweredEstimate { workload, engine: engine.clone(), answer };
                                self.add(model, &own, answered)?;
                            }
                            Err(refusal) => {
                                self.refused.add(&refusal.to_string());
                                self.first_refusal.get_or_insert(refusal);
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, model: &Model, own: &Notes, estimate: AnsweredEstimate) -> anyhow::Result<()> {
        self.capacities |= estimate.answer.capacity.is_some();
        let past = past_maximum(model, Some(estimate.workload.seq_len));
        let past = past.iter().map(ToString::to_string);
        let mut notes = own.clone();
        past.for_each(|text| notes.warn(text));
        notes.add(&estimate.answer.assumptions, &estimate.answer.warnings);
        refuse_warnings(self.strict, &notes.warnings)?;
        let Notes { assumptions, warnings } = &notes;
        for (words, texts) in [(&mut self.assumptions, assumptions), (&mut self.warnings, warnings)] {
            for text in texts {
                words.add(text);
            }
        }
        let written = self.sweep.add(model, &estimate, &notes)?;
        self.answered = self.answered.saturating_add(1);
        if self.strict {
            self.held.extend_from_slice(&written);
        } else {
            self.out.write_all(&written)?;
        }
        Ok(())
    }

    /// Notes and warnings, after all is written.
    fn end(self) -> anyhow::Result<(Vec<String>, Vec<String>)> {
        if let (0, Some(refusal)) = (self.answered, self.first_refusal) {
            return Err(refusal.into());
        }
        let mut warnings = self.warnings.told("");
        warnings.extend(self.refused.told("left out: "));
        refuse_warnings(self.strict, &warnings)?;
        self.out.write_all(&self.held)?;
        self.out.write_all(self.sweep.end().as_bytes())?;
        self.out.flush()?;
        Ok((self.assumptions.told(""), warnings))
    }
}

/// Texts, each once, and how often those came that are too many to tell.
#[derive(Default)]
struct Words {
    texts: Vec<String>,
    more: u64,
}

impl Words {
    fn add(&mut self, text: &str) {
        if self.texts.iter().any(|known| known == text) {
        } else if self.texts.len() < MOST_WORDS {
            self.texts.push(text.to_owned());
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    fn told(&self, before: &str) -> Vec<String> {
        let more =
            (self.more > 0).then(|| format!("{before}and the like for {} rows more", group_thousands(self.more)));
        self.texts.iter().map(|text| format!("{before}{text}")).chain(more).collect()
    }
}
