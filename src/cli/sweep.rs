//! `kvsize MODEL… -s 1k..1m*2 --tp 1,2,4`: every combination of lists and ranges, a row each, written as it is known.

use std::io::Write;

use super::args::{OutputArguments, SortKey};
use super::estimate::unused_memory;
use super::sources::Places;
use super::{Answer, refuse_warnings};
use crate::model::Model;
use crate::report::{self, AnsweredEstimate, Sweep};
use crate::request::{Ask, Axes, Place, Weigh, distinct, past_maximum};
use crate::units::{Code, Error, Notes, Series, group_thousands};

/// The most rows of a sweep.
const MOST_ROWS: u64 = 1_000_000;

/// Reasons for what is left out that are printed, and warnings and assumptions.
const MOST_WORDS: usize = 12;

/// Whether a question has more than one table shows: ranges, or several layouts or memories.
pub(super) fn is_sweep(ask: &Ask) -> bool {
    let ranged = |list: &Vec<Series>| list.iter().any(|series| series.count() > 1);
    [&ask.seq_len, &ask.batch].into_iter().any(ranged)
        || [&ask.tp, &ask.pp, &ask.dp, &ask.dcp, &ask.memory].into_iter().any(|list| list.len() > 1 || ranged(list))
}

/// The answer, row after row.
pub(super) fn run(ask: Ask, output: OutputArguments, sort: Option<SortKey>) -> Result<Answer, Error> {
    if sort.is_some() {
        let problem = "does not apply to ranges, whose rows are in the order of their values";
        return Err(Error::without_value(Code::Conflict, "--sort", problem, "leave it out"));
    }
    let places = Places::new(&ask)?;
    let (engines, assumed) = ask.engines(&places)?;
    refuse_too_many(&ask, engines.len())?;
    let models = ask.models(&engines, &places, Weigh::when(output.format.for_programs()))?;
    let combinations = combinations(&ask);
    let quiet = output.format.quiet;
    let ask = ask.into_owned();
    let stream = move |out: &mut dyn Write| {
        let mut rows = Rows::new(&output, ask.strict, out);
        for model in &models {
            for place in &combinations {
                rows.add_all(model, &ask.axes(model, &engines, place)?)?;
            }
        }
        let memory = combinations.first().and_then(|place| place.memory);
        let unused = unused_memory(memory, rows.capacities);
        let (mut notes, warnings) = rows.end()?;
        notes.extend(assumed.into_iter().chain(unused));
        Ok(Answer { quiet, notes, warnings, ..Answer::default() })
    };
    Ok(Answer { stream: Some(Box::new(stream)), ..Answer::default() })
}

/// Refuses more rows than are written.
fn refuse_too_many(ask: &Ask, engines: usize) -> Result<(), Error> {
    let values = |list: &Vec<Series>| list.iter().map(Series::count).fold(0, u64::saturating_add).max(1);
    let ranged = [&ask.seq_len, &ask.batch, &ask.tp, &ask.pp, &ask.dp, &ask.dcp, &ask.memory];
    let formats = ask.kv_dtype.len().max(ask.bitwidth.len()).max(1);
    let others = [ask.models.len().max(1), engines, formats];
    let others = others.map(|count| u64::try_from(count).unwrap_or(u64::MAX));
    let rows = ranged.into_iter().map(values).chain(others).fold(1, u64::saturating_mul);
    if rows <= MOST_ROWS {
        return Ok(());
    }
    let (found, problem) =
        (format!("{} combinations", group_thousands(rows)), format!("are more than {}", group_thousands(MOST_ROWS)));
    let remedy = "shorten a list, take larger steps, or ask for one part after the other";
    Err(Error::new(Code::TooMany, "--seq-len", found, problem, remedy))
}

/// Every layout and memory, the memory changing first.
fn combinations(ask: &Ask) -> Vec<Place> {
    type With = fn(Place, Option<u64>) -> Place;
    let lists: [(&[Series], With); 5] = [
        (&ask.tp, |place, tp| Place { tp, ..place }),
        (&ask.pp, |place, pp| Place { pp, ..place }),
        (&ask.dp, |place, dp| Place { dp, ..place }),
        (&ask.dcp, |place, dcp| Place { dcp, ..place }),
        (&ask.memory, |place, memory| Place { memory, ..place }),
    ];
    lists.into_iter().fold(vec![Place::default()], |places, (list, with)| {
        let values: Vec<_> = if list.is_empty() { vec![None] } else { distinct(list).map(Some).collect() };
        places.into_iter().flat_map(|place| values.iter().map(move |&value| with(place, value))).collect()
    })
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
    fn new(output: &OutputArguments, strict: bool, out: &'a mut dyn Write) -> Self {
        Self {
            out,
            sweep: Sweep::new(output.format.format(), output.unit()),
            strict,
            held: Vec::new(),
            answered: 0,
            capacities: false,
            first_refusal: None,
            refused: Words::default(),
            assumptions: Words::default(),
            warnings: Words::default(),
        }
    }

    fn add_all(&mut self, model: &Model, axes: &Axes) -> anyhow::Result<()> {
        let own = report::notes_of(model, &[]);
        for (variant, workload) in axes.workloads() {
            match variant.answer(model, &workload) {
                Ok(answer) => {
                    let engine = variant.engine.clone();
                    self.add(model, &own, &AnsweredEstimate { workload, engine, answer, weights: None })?;
                }
                Err(refusal) => {
                    self.refused.add(&refusal.to_string());
                    self.first_refusal.get_or_insert(refusal);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, model: &Model, own: &Notes, estimate: &AnsweredEstimate) -> anyhow::Result<()> {
        self.capacities |= estimate.answer.capacity.is_some();
        let mut notes = own.clone();
        if let Some(past) = past_maximum(model, Some(estimate.workload.seq_len)) {
            notes.warn(past);
        }
        notes.add(&estimate.answer.assumptions, &estimate.answer.warnings);
        refuse_warnings(self.strict, &notes.warnings)?;
        notes.assumptions.iter().for_each(|text| self.assumptions.add(text));
        notes.warnings.iter().for_each(|text| self.warnings.add(text));
        let written = self.sweep.add(model, estimate, &notes)?;
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
        let mut warnings = self.warnings.lines("");
        warnings.extend(self.refused.lines("left out: "));
        refuse_warnings(self.strict, &warnings)?;
        self.out.write_all(&self.held)?;
        let notes = Notes { assumptions: self.assumptions.lines(""), warnings };
        self.out.write_all(self.sweep.end(&notes).as_bytes())?;
        self.out.flush()?;
        Ok((notes.assumptions, notes.warnings))
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

    fn lines(&self, before: &str) -> Vec<String> {
        let more =
            (self.more > 0).then(|| format!("{before}and the like for {} rows more", group_thousands(self.more)));
        self.texts.iter().map(|text| format!("{before}{text}")).chain(more).collect()
    }
}
