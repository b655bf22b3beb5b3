//! `kvsize article`: the numbers of the article that this tool starts from, beside the real ones.

use std::io;

use clap::Args;

use super::args::OutputArguments;
use super::estimate::{ARTICLE_LENGTHS, Question};
use super::failure::Failure;
use super::{Answer, Subcommand, typed};
use crate::report::{self, Format};
use crate::source;

/// The article's hypothetical model, and the real one it stands for.
pub(super) const ARTICLE: &str = "article";
pub(super) const REAL: &str = "llama-4-scout";

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "article",
    about: "The article's numbers beside the real ones",
    arguments: OutputArguments::augment_args,
    run: |matches| run(&typed(matches)?),
};

fn run(arguments: &OutputArguments) -> Result<Answer, Failure> {
    let model = |name| source::resolve(name, &mut io::empty(), &[]);
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
    let whole = question.document(&real.keeping_every_token())?;
    let data = report::article(&[article_document, real_document], &whole, format, arguments.unit());
    Ok(Answer { data, ..Answer::default() })
}
