//! `kvsize weights MODEL...`: what models weigh, by element type, and how that is known.

use clap::Args;

use super::args::{OutputArguments, SourceArguments};
use super::sources::Places;
use super::{Answer, Subcommand, typed};
use crate::model::{FileType, Release};
use crate::report::{self, Format, Listing, WeightsItem};
use crate::request::{Weigh, WeightsDtype};
use crate::source::{Extra, Weighed};
use crate::units::{Code, Error};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "weights",
    about: "Weight bytes by element type, parameters, active parameters",
    arguments: WeightsArguments::augment_args,
    run: |matches| run(&typed(matches)?),
    ..Subcommand::BARE
};

const FILE_TYPES: &str =
    "GGUF file types, comma-separated: q4_k_m, iq4_xs, q8_0, mxfp4_moe, … as llama-quantize makes them";

#[derive(Debug, Args)]
struct WeightsArguments {
    /// A catalogue name; a .safetensors file, its index, a GGUF file, a config.json or a directory with them; - for standard
    /// input
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    #[arg(long, value_name = "TYPE", value_delimiter = ',', help = FILE_TYPES)]
    weights_dtype: Vec<String>,
    /// Build of llama-quantize whose rule decides [default: b8390 and later]
    #[arg(long, value_name = "BUILD", requires = "weights_dtype")]
    llama_quantize: Option<String>,
    /// Tensors that only some GGUF files hold: mtp (MTP layers), lm-head (the head of a checkpoint that stores a tied one)
    #[arg(long, value_name = "PARTS", value_delimiter = ',', requires = "weights_dtype")]
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(["mtp", "lm-head"]), hide_possible_values = true)]
    with: Vec<String>,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    sources: SourceArguments,
}

fn run(arguments: &WeightsArguments) -> Result<Answer, Error> {
    if arguments.models.is_empty() {
        let remedy = "name one (`kvsize models` lists them), or give its files";
        return Err(Error::without_value(Code::Model, "MODEL", "missing", remedy));
    }
    let SourceArguments { catalogue, offline } = &arguments.sources;
    let names = arguments.models.iter().map(String::as_str);
    let places = Places::for_models(names, catalogue.as_deref(), *offline)?;
    let file_types = arguments.file_types()?;
    let extra = Extra {
        mtp: arguments.with.iter().any(|part| part == "mtp"),
        lm_head: arguments.with.iter().any(|part| part == "lm-head"),
    };
    let weigh = if file_types.is_empty() { Weigh::Yes } else { Weigh::Gguf };
    let mut items = Vec::with_capacity(arguments.models.len());
    for name in &arguments.models {
        let Weighed { name, origin, model_type, weights, gguf_tensors } = places.weigh(name, weigh, extra)?;
        let model_type = model_type.as_deref();
        match gguf_tensors {
            Some(Ok(tensors)) => {
                for file_type in &file_types {
                    let file = file_type.file(&tensors)?;
                    items.push(WeightsItem::in_file(&name, origin, model_type, &file));
                }
            }
            Some(Err(reason)) => return Err(no_tensors(report::clean(&name), &reason)),
            None => match weights {
                Ok(weights) => items.push(WeightsItem::new(&name, origin, model_type, &weights)),
                Err(reason) => return Err(unknown(report::clean(&name), &reason)),
            },
        }
    }
    let format = arguments.output.format.format();
    let several = items.len() > 1;
    let mut notes = Vec::new();
    // The other formats have them in the answer itself.
    if matches!(format, Format::Plain | Format::Csv) {
        for WeightsItem { name, weights, .. } in &items {
            let of = |note: &String| if several { format!("{name}: {note}") } else { note.clone() };
            notes.extend(weights.notes.iter().map(of));
        }
    }
    let data = report::render(&Listing::new(items), format, arguments.output.unit());
    Ok(Answer { quiet: arguments.output.format.quiet, data, notes, ..Answer::default() })
}

impl WeightsArguments {
    fn file_types(&self) -> Result<Vec<FileType>, Error> {
        let release: Option<Release> = match &self.llama_quantize {
            Some(build) => Some(build.parse().map_err(|error: Error| error.at("--llama-quantize"))?),
            None => None,
        };
        let file_type = |text: &String| {
            let dtype = text.parse::<WeightsDtype>().map_err(|error| error.at("--weights-dtype"))?;
            let file_type = dtype.file_type().ok_or_else(|| {
                let remedy = "give one such as q4_k_m; `kvsize fit` takes other formats";
                Error::new(Code::UnknownFormat, "--weights-dtype", text, "is not a GGUF file type", remedy)
            })?;
            Ok(file_type.with_release(release.unwrap_or_default()))
        };
        self.weights_dtype.iter().map(file_type).collect()
    }
}

/// No list of tensors, which is said and never guessed.
fn no_tensors(name: String, reason: &str) -> Error {
    let remedy = "give its GGUF file; `kvsize fit` takes their bytes as --weights";
    Error::without_value(Code::WeightsUnknown, name, format!("unknown tensors: {reason}"), remedy)
}

/// Nothing is known, which is said and never guessed.
fn unknown(name: String, reason: &str) -> Error {
    let remedy = "give its safetensors or GGUF files";
    Error::without_value(Code::WeightsUnknown, name, format!("unknown weights: {reason}"), remedy)
}
