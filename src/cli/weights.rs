//! `kvsize weights MODEL...`: what models weigh, by element type, and how that is known.

use clap::Args;

use super::args::{OutputArguments, SourceArguments};
use super::sources::Places;
use super::{Answer, Subcommand, typed};
use crate::report::{self, Format, Listing, WeightsItem};
use crate::source::Weighed;
use crate::units::{Code, Error};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "weights",
    about: "Weight bytes by element type, parameters, active parameters",
    arguments: WeightsArguments::augment_args,
    run: |matches| run(&typed(matches)?),
    ..Subcommand::BARE
};

#[derive(Debug, Args)]
struct WeightsArguments {
    /// A catalogue name; a .safetensors file, its index, a GGUF file, a config.json or a directory with them; - for standard
    /// input
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
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
    let mut items = Vec::with_capacity(arguments.models.len());
    for name in &arguments.models {
        let Weighed { name, origin, model_type, weights } = places.weigh(name)?;
        match weights {
            Ok(weights) => items.push(WeightsItem::new(&name, origin, model_type.as_deref(), &weights)),
            Err(reason) => return Err(unknown(report::clean(&name), &reason)),
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

/// Nothing is known, which is said and never guessed.
fn unknown(name: String, reason: &str) -> Error {
    let remedy = "give its safetensors or GGUF files";
    Error::without_value(Code::WeightsUnknown, name, format!("unknown weights: {reason}"), remedy)
}
