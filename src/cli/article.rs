//! `kvsize article`: the numbers of the article that this tool starts from, beside the real ones.

use clap::Args;

use super::args::OutputArguments;
use super::estimate::{ARTICLE_LENGTHS, Question};
use super::gpus::OfGpuArguments;
use super::hardware::fitted;
use super::{ANSWERED, Answer, Subcommand, typed};
use crate::engine::{Double, Engine};
use crate::estimate::Workload;
use crate::fit;
use crate::hardware::{Term, exact_size};
use crate::model::Model;
use crate::report::{self, FitDocument, Format};
use crate::source;
use crate::strategy::article;
use crate::units::{Bytes, Error, Tokens};

/// The article's hypothetical model, and the real one it stands for.
pub(super) const ARTICLE: &str = "article";
pub(super) const REAL: &str = "llama-4-scout";

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "article",
    about: "The article's numbers beside the real ones",
    arguments: OutputArguments::augment_args,
    notes: "",
    examples: &[
        ("The article's tables beside the real model's", "kvsize article"),
        ("The article's own output, digit for digit", "kvsize article -f plain"),
        ("Both as JSON", "kvsize article --json"),
    ],
    statuses: ANSWERED,
    run: |matches| run(&typed(matches)?),
};

fn run(arguments: &OutputArguments) -> Result<Answer, Error> {
    let model = |name| source::resolve(name);
    let article = model(ARTICLE)?;
    let article_document = Question::article(&article).document(&article)?;
    let format = arguments.format.format();
    if format == Format::Plain {
        // The script's output and nothing else.
        let data = report::estimates(&[article_document], format, arguments.unit());
        return Ok(Answer { data, ..Answer::default() });
    }
    let real = model(REAL)?;
    let question = Question { seq_lens: ARTICLE_LENGTHS.to_vec(), ..Question::article(&real) };
    let real_document = question.document(&real)?;
    let whole = real.keeping_every_token();
    let whole_document = question.document(&whole)?;
    let hardware = [
        on_hardware(&article, "article", article::WEIGHTS)?,
        on_hardware(&article, "article", article::REAL_WEIGHTS)?,
        on_hardware(&whole, "llama-4-scout --windows kept", article::REAL_WEIGHTS)?,
        on_hardware(&real, "llama-4-scout", article::REAL_WEIGHTS)?,
    ];
    let documents = [article_document, real_document];
    let data = report::article(&documents, &whole_document, &hardware, format, arguments.unit());
    Ok(Answer { data, ..Answer::default() })
}

/// What the article's hardware holds of a model by the rule of its table: nine tenths of what GPUs are sold with, less
/// weights; and the command that says the same.
fn on_hardware(model: &Model, typed: &str, weights: Bytes) -> Result<(String, FitDocument), Error> {
    let engine = Engine::ideal();
    let question = fit::Question {
        model,
        engine: &engine,
        workload: Workload { kv_dtype: model.dtype.into(), ..Workload::of(Tokens(1), 1) },
        seq_len: None,
        batch: None,
        average: None,
    };
    let weights = Term::given(weights, "--weights");
    let usable = Double::ratio(article::USABLE_THOUSANDTHS, 1000);
    let row = |row: &article::HardwareRow| {
        let fleet = OfGpuArguments::default().fleet(&format!("{}x{}", row.gpus, row.device))?;
        let memory = fit::Memory {
            accelerator: &fleet.accelerator,
            total: fit::Total::Marketed,
            utilization: Some(usable),
            weights: Some(&weights),
            overhead: Some(Bytes(0)),
        };
        fitted(&question, &fleet, &memory, fit::GivenLayout::default(), |_, _| None)
    };
    let rows = article::HARDWARE.iter().map(row).collect::<Result<Vec<_>, Error>>()?;
    let gpus = article::HARDWARE.iter().map(|row| format!("{}x{}", row.gpus, row.device)).collect::<Vec<_>>().join(",");
    let command = format!(
        "kvsize fit {typed} --gpu {gpus} --capacity marketed --utilization {} --weights {} --overhead 0",
        usable.value(),
        exact_size(weights.bytes).replace(' ', "")
    );
    Ok((command, FitDocument::new(model, &rows, &[], &[])))
}
