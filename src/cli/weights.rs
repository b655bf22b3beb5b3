//! `kvsize weights MODEL...`: what models weigh, by element type, and how that is known.

use clap::Args;

use super::args::{OutputArguments, SourceArguments};
use super::sources::Places;
use super::{Answer, Subcommand, Visibility, typed};
use crate::model::{CheckpointFormat, FileType, Release};
use crate::report::{self, Format, Listing, WeightsItem};
use crate::request::{NOT_LISTED, Weigh, WeightsDtype};
use crate::source::{Extra, Weighed};
use crate::units::{Code, Error};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "weights",
    about: "Weight bytes by element type, parameters, active parameters",
    arguments: WeightsArguments::augment_args,
    run: |matches| run(&typed(matches)?),
    visibility: Visibility::Unlisted,
    ..Subcommand::BARE
};

const FORMATS: &str = "Formats, comma-separated: GGUF file types (q4_k_m, iq4_xs, q8_0, …) or formats of checkpoints (fp8, awq, nvfp4, …)";

#[derive(Debug, Args)]
struct WeightsArguments {
    /// A catalogue name; a .safetensors file, its index, a GGUF file, a config.json or a directory with them; - for standard
    /// input
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    #[arg(long, value_name = "TYPE", value_delimiter = ',', help = FORMATS)]
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
    let dtypes = arguments.dtypes()?;
    let extra = Extra {
        mtp: arguments.with.iter().any(|part| part == "mtp"),
        lm_head: arguments.with.iter().any(|part| part == "lm-head"),
    };
    let in_gguf = dtypes.iter().any(|dtype| matches!(dtype, Dtype::File(_)));
    let weigh = if in_gguf { Weigh::Gguf } else { Weigh::Yes };
    let mut items = Vec::with_capacity(arguments.models.len());
    for name in &arguments.models {
        let weighed = places.weigh(name, weigh, extra)?;
        if dtypes.is_empty() {
            let Weighed { name, origin, model_type, weights, .. } = weighed;
            match weights {
                Ok(weights) => items.push(WeightsItem::new(&name, origin, model_type.as_deref(), &weights)),
                Err(reason) => return Err(unknown(report::clean(&name), &reason)),
            }
            continue;
        }
        for dtype in &dtypes {
            items.push(item(&weighed, *dtype)?);
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
    fn dtypes(&self) -> Result<Vec<Dtype>, Error> {
        let release: Option<Release> = match &self.llama_quantize {
            Some(build) => Some(build.parse().map_err(|error: Error| error.at("--llama-quantize"))?),
            None => None,
        };
        let dtype = |text: &String| {
            let dtype = text.parse::<WeightsDtype>().map_err(|error| error.at("--weights-dtype"))?;
            match (dtype, dtype.file_type()) {
                (_, Some(file_type)) => Ok(Dtype::File(file_type.with_release(release.unwrap_or_default()))),
                (WeightsDtype::Checkpoint(format), None) => Ok(Dtype::Checkpoint(format)),
                (WeightsDtype::Elements(_) | WeightsDtype::FileType(_) | WeightsDtype::Plain(..), None) => {
                    let remedy = "give one such as q4_k_m or awq; `kvsize fit` takes other formats";
                    let problem = "is neither a GGUF file type nor a format of checkpoints";
                    Err(Error::new(Code::UnknownFormat, "--weights-dtype", text, problem, remedy))
                }
            }
        };
        self.weights_dtype.iter().map(dtype).collect()
    }
}

/// A format that weights are asked about in.
#[derive(Debug, Clone, Copy)]
enum Dtype {
    File(FileType),
    Checkpoint(CheckpointFormat),
}

/// The weights in a format.
fn item(weighed: &Weighed, dtype: Dtype) -> Result<WeightsItem, Error> {
    let Weighed { name, origin, model_type, weights, gguf_tensors } = weighed;
    let model_type = model_type.as_deref();
    match dtype {
        Dtype::File(file_type) => match gguf_tensors {
            Some(Ok(tensors)) => Ok(WeightsItem::in_file(name, *origin, model_type, &file_type.file(tensors)?)),
            Some(Err(reason)) => Err(no_tensors(report::clean(name), reason)),
            None => Err(no_tensors(report::clean(name), NOT_LISTED)),
        },
        Dtype::Checkpoint(format) => {
            let unlisted = |reason: &str| {
                let remedy = "`kvsize fit` takes their bytes as --weights";
                let problem = format!("unknown tensors: {reason}");
                Error::without_value(Code::WeightsUnknown, report::clean(name), problem, remedy)
            };
            let weights = weights.as_ref().map_err(|reason| unlisted(reason))?;
            let weights = weights.in_format(format, model_type)?.ok_or_else(|| unlisted(NOT_LISTED))?;
            Ok(WeightsItem::in_checkpoint(name, *origin, model_type, format, &weights))
        }
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
