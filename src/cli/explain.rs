//! `kvsize explain MODEL`: where every byte of the ideal estimate comes from.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::args::FormatArguments;
use super::estimate::{StandardInput, overlay_for, past_maximum};
use super::failure::Failure;
use super::{Answer, Subcommand, typed};
use crate::estimate::{Workload, estimate};
use crate::report::{self, Format};
use crate::source;
use crate::units::{Diagnosis, ElementFormat, Tokens, parse_count};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "explain",
    about: "Every byte accounted for: groups, formulas, and the keys behind the numbers",
    arguments: ExplainArguments::augment_args,
    run: |matches| run(&typed(matches)?),
};

#[derive(Debug, Args)]
struct ExplainArguments {
    /// A catalogue name, a config.json, a directory with one, or - for standard input
    #[arg(value_name = "MODEL")]
    model: String,
    /// Tokens of each sequence [default: the model's own maximum, or 131,072]
    #[arg(
        short,
        long,
        visible_aliases = ["context", "max-model-len"],
        value_name = "TOKENS",
        value_parser = Tokens::from_str,
        allow_hyphen_values = true
    )]
    seq_len: Option<Tokens>,
    /// Sequences [default: 1]
    #[arg(short, long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true)]
    batch: Option<u64>,
    /// Format of cached elements [default: the 16-bit format of the checkpoint]
    #[arg(short = 'd', long, visible_alias = "kv-cache-dtype", value_name = "FORMAT", value_parser = ElementFormat::from_str)]
    kv_dtype: Option<ElementFormat>,
    /// Tokens that an encoder gives to cross-attention [default: the model's own maximum]
    #[arg(long, value_name = "TOKENS", value_parser = Tokens::from_str, allow_hyphen_values = true)]
    encoder_len: Option<Tokens>,
    /// A JSON file of models of your own, which shadow the catalogue's [env: `KVSIZE_CATALOGUE`]
    #[arg(long, value_name = "FILE")]
    catalogue: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArguments,
}

const USUAL_LENGTH: Tokens = Tokens(131_072);

fn run(arguments: &ExplainArguments) -> Result<Answer, Failure> {
    let format = arguments.format.format();
    if matches!(format, Format::Csv | Format::Plain) {
        return Err(Failure(Diagnosis {
            code: "format",
            field: "--format".into(),
            found: if format == Format::Csv { "csv" } else { "plain" }.into(),
            problem: "is for rows of estimates".into(),
            remedy: "use table, markdown, json or jsonl".into(),
        }));
    }
    let overlay = overlay_for([&arguments.model], arguments.catalogue.as_deref())?;
    let model = source::resolve(&arguments.model, &mut StandardInput, &overlay)?;
    let workload = Workload {
        kv_dtype: arguments.kv_dtype.unwrap_or(model.dtype).into(),
        encoder_len: arguments.encoder_len,
        ..Workload::of(
            arguments.seq_len.or(model.max_position_embeddings).unwrap_or(USUAL_LENGTH),
            arguments.batch.unwrap_or(1),
        )
    };
    let answer = estimate(&model, &workload)?;
    let warnings: Vec<String> =
        model.warnings.iter().chain(&past_maximum(&model, Some(workload.seq_len))).map(ToString::to_string).collect();
    let explanation = report::explanation(&model, &workload, &answer, &warnings);
    let data = report::explain(&explanation, format);
    Ok(Answer { quiet: arguments.format.quiet, data, notes: explanation.assumptions, warnings })
}
