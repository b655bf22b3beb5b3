//! `kvsize [estimate] MODEL`: what the cache of a model takes.

use std::io;

use clap::Args;

use super::args::{EstimateArguments, WorkloadArguments};
use super::failure::Failure;
use super::{Answer, Subcommand, refuse_warnings, terminal_is_watching, typed};
use crate::engine::Engine;
use crate::estimate::{Layout, Workload};
use crate::model::{Model, Warning};
use crate::report::{self, AnsweredEstimate, Document};
use crate::source;
use crate::units::{Diagnosis, ElementFormat, KvFormat, Tokens};

/// The article's lengths.
pub(super) const ARTICLE_LENGTHS: [Tokens; 4] = [Tokens(1_000), Tokens(10_000), Tokens(1_000_000), Tokens(10_000_000)];

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "estimate",
    about: "The estimate of a model (what is done without a command)",
    arguments: EstimateArguments::augment_args,
    run: |matches| Ok(run(&typed(matches)?)?),
};

fn run(arguments: &EstimateArguments) -> Result<Answer, Failure> {
    let model = model(arguments)?;
    let question = Question::new(&model, &arguments.workload);
    let document = question.document(&model)?;
    refuse_warnings(arguments.strict, &document.warnings)?;
    let (format, unit) = (arguments.output.format.format(), arguments.output.unit());
    let documents = [document];
    let data = report::estimates(&documents, format, unit);
    let [document] = documents;
    let mut notes = document.assumptions;
    if terminal_is_watching() {
        notes.extend(arguments.workload.seq_len.iter().filter(|typed| typed.text.ends_with(['M', 'G'])).map(|typed| {
            let lower = typed.text.to_lowercase();
            format!("{} is {} tokens, a power of 1024; {lower} is the power of 1000", typed.text, typed.tokens)
        }));
    }
    Ok(Answer { data, notes, warnings: document.warnings })
}

/// The model that was named, or given by its dimensions.
fn model(arguments: &EstimateArguments) -> Result<Model, Failure> {
    let spec = arguments.spec.spec();
    let wrong = |found: &str, problem: &str, remedy: &str| {
        Failure(Diagnosis {
            code: "model",
            field: "MODEL".into(),
            found: found.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        })
    };
    match &arguments.model {
        Some(name) if spec.is_empty() && spec.name.is_none() => {
            source::resolve(name, &mut io::stdin().lock()).map_err(|error| Failure::of(&error))
        }
        Some(name) => {
            Err(wrong(name, "can't be used with the flags of a model", "name a model or give its dimensions"))
        }
        None if spec.is_empty() => Err(wrong(
            "missing",
            "",
            "name one (`kvsize models` lists them), or give --layers --hidden-size --kv-heads",
        )),
        None => spec.model().map_err(|error| Failure::of(&error)),
    }
}

/// What is asked of a model, defaults filled in.
pub(super) struct Question {
    pub(super) seq_lens: Vec<Tokens>,
    pub(super) batches: Vec<u64>,
    pub(super) formats: Vec<KvFormat>,
    pub(super) layout: Layout,
    pub(super) engine: Engine,
}

impl Question {
    fn new(model: &Model, arguments: &WorkloadArguments) -> Self {
        let WorkloadArguments { seq_len, batch, kv_dtype, k_dtype, v_dtype, bitwidth, engine, tp, pp, dp } = arguments;
        let defaults = Self::article(model);
        let formats = match (kv_dtype.as_slice(), k_dtype, v_dtype, bitwidth.as_slice()) {
            ([], None, None, []) => defaults.formats,
            ([], None, None, bits) => bits.iter().map(|&bits| ElementFormat::bitwidth(bits).into()).collect(),
            ([], k, v, _) => vec![KvFormat { k: k.unwrap_or(model.dtype), v: v.unwrap_or(model.dtype) }],
            (formats, ..) => formats.iter().map(|&format| format.into()).collect(),
        };
        Self {
            seq_lens: if seq_len.is_empty() {
                defaults.seq_lens
            } else {
                seq_len.iter().map(|typed| typed.tokens).collect()
            },
            batches: if batch.is_empty() { defaults.batches } else { batch.clone() },
            formats,
            layout: Layout { tp: tp.unwrap_or(1), pp: pp.unwrap_or(1), dp: dp.unwrap_or(1) },
            engine: engine.unwrap_or(defaults.engine),
        }
    }

    /// The article's question: its lengths, no further than the model's own maximum, which is added; the 16-bit format
    /// of the checkpoint, and FP8.
    pub(super) fn article(model: &Model) -> Self {
        let mut seq_lens = ARTICLE_LENGTHS.to_vec();
        if let Some(maximum) = model.max_position_embeddings {
            seq_lens.retain(|&seq_len| seq_len < maximum);
            seq_lens.push(maximum);
        }
        Self {
            seq_lens,
            batches: vec![1],
            formats: vec![model.dtype.into(), ElementFormat::FP8.into()],
            layout: Layout::default(),
            engine: Engine::Ideal,
        }
    }

    /// The answers, with the warnings they call for.
    pub(super) fn document(&self, model: &Model) -> Result<Document, Failure> {
        let mut answers = Vec::new();
        for &seq_len in &self.seq_lens {
            for &batch in &self.batches {
                for &format in &self.formats {
                    let workload = Workload { seq_len, batch, format, layout: self.layout };
                    let estimate = self.engine.estimate(model, &workload).map_err(|error| Failure::of(&error))?;
                    answers.push(AnsweredEstimate { workload, engine: self.engine, estimate });
                }
            }
        }
        Document::new(model, &answers, &self.warnings(model)).map_err(|error| Failure::of(&error))
    }

    fn warnings(&self, model: &Model) -> Vec<Warning> {
        let longest = self.seq_lens.iter().max().copied();
        match (longest, model.max_position_embeddings) {
            (Some(seq_len), Some(max_position_embeddings)) if seq_len > max_position_embeddings => {
                vec![Warning::PastMaximum { seq_len, max_position_embeddings }]
            }
            _ => Vec::new(),
        }
    }
}
