//! `kvsize article`: the numbers of the article that this tool starts from, next to the real ones.

use std::sync::Arc;

use clap::Args;

use super::args::OutputArguments;
use super::estimate::document;
use super::{Answer, Subcommand, typed};
use crate::engine::{Double, Engine};
use crate::fit::fits;
use crate::hardware::exact_size;
use crate::model::Model;
use crate::report::{self, Article, Detail, Estimates, FitDocument, Format};
use crate::request::{ARTICLE_LENGTHS, Ask, Axes, OnHardware, Total};
use crate::source::{self, LocalSources};
use crate::strategy::article;
use crate::units::{Bytes, Error, Notes};

/// The article's hypothetical model, and the real one it stands for.
pub(super) const ARTICLE: &str = "article";
pub(super) const REAL: &str = "llama-4-scout";

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "article",
    about: "The article's numbers next to the real ones",
    arguments: <OutputArguments>::augment_args,
    run: |matches| run(&typed(matches)?),
    ..Subcommand::BARE
};

fn run(arguments: &OutputArguments) -> Result<Answer, Error> {
    let article = source::resolve(ARTICLE)?;
    let article_document = document(&article, &Axes::article(&article), &|_| Ok(None))?;
    let format = arguments.format.format();
    if format == Format::Plain {
        // The script's output and nothing else.
        let data = report::render(&Estimates(&[article_document]), format, arguments.unit());
        return Ok(Answer { data, ..Answer::default() });
    }
    let real = source::resolve(REAL)?;
    let axes = Axes { seq_lens: ARTICLE_LENGTHS.to_vec(), ..Axes::article(&real) };
    let real_document = document(&real, &axes, &|_| Ok(None))?;
    let whole = real.keeping_every_token();
    let whole_document = document(&whole, &axes, &|_| Ok(None))?;
    let hardware = [
        on_hardware(&article, "article", article::WEIGHTS)?,
        on_hardware(&article, "article", article::REAL_WEIGHTS)?,
        on_hardware(&whole, "llama-4-scout --windows kept", article::REAL_WEIGHTS)?,
        on_hardware(&real, "llama-4-scout", article::REAL_WEIGHTS)?,
    ];
    let article = Article { documents: [article_document, real_document], whole: whole_document, hardware };
    let data = report::render(&article, format, arguments.unit());
    Ok(Answer { data, ..Answer::default() })
}

/// What the article's hardware holds of a model by the rule of its table: nine tenths of what GPUs are sold with, less
/// weights; and the command that says the same.
fn on_hardware(model: &Model, typed: &str, weights: Bytes) -> Result<(String, FitDocument), Error> {
    let usable = Double::ratio(article::USABLE_THOUSANDTHS, 1000);
    let gpus = article::HARDWARE.iter().map(|row| format!("{}x{}", row.gpus, row.device)).collect::<Vec<_>>().join(",");
    let ask = Ask {
        gpu: gpus.split(',').map(Into::into).collect(),
        capacity: Some(Total::Marketed),
        utilization: Some(usable),
        weights: Some(weights),
        overhead: Some(Bytes(0)),
        ..Ask::default()
    };
    let request = ask.hardware_of(Arc::new(model.clone()), vec![Engine::ideal()])?;
    let found = fits(&[OnHardware { request, fleets: ask.fleets(&LocalSources)? }])?;
    let command = format!(
        "kvsize fit {typed} -e ideal --gpu {gpus} --capacity marketed --utilization {} --weights {} --overhead 0",
        usable.value(),
        exact_size(weights).replace(' ', "")
    );
    Ok((command, FitDocument::new(&found.rows, &Notes::default(), Detail::default())))
}
