//! `kvsize weights MODEL...`: what models weigh, by element type, and how that is known.

use clap::Args;
use serde::Serialize;

use super::args::{FormatArguments, SourceArguments, unit_choice};
use super::lists::columns;
use super::sources::Places;
use super::{ANSWERED, Answer, Subcommand, typed};
use crate::model::Weights;
use crate::report::{self, Entry, Format, Grid, Listing, UnitChoice, WeightsDescription};
use crate::source::Weighed;
use crate::units::{ByteUnit, Bytes, Code, Error, group_thousands};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "weights",
    about: "Weight bytes by element type, parameters, active parameters",
    arguments: WeightsArguments::augment_args,
    notes: "",
    examples: &[
        ("Bytes, parameters and active parameters of a mixture of experts", "kvsize weights mixtral-8x7b"),
        ("Several models, the bytes alone", "kvsize weights llama-3.1-8b gpt-oss-120b -f plain"),
        ("A config.json of your own", "kvsize weights config.json"),
    ],
    statuses: ANSWERED,
    run: |matches| run(&typed(matches)?),
};

#[derive(Debug, Args)]
struct WeightsArguments {
    /// A catalogue name; a .safetensors file, its index, a GGUF file, a config.json or a directory with them; - for standard
    /// input
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    #[command(flatten)]
    format: FormatArguments,
    /// Unit of printed bytes: B, kB, KiB, MB, MiB, GB, GiB, TB, TiB or auto [default: GB]
    #[arg(long, value_name = "UNIT", value_parser = unit_choice, help_heading = "Output")]
    unit: Option<UnitChoice>,
    #[command(flatten)]
    sources: SourceArguments,
}

/// A row of `kvsize.weights/1`.
#[derive(Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub(super) struct WeightsItem {
    /// The model's name.
    name: String,
    /// Where it was read from.
    #[cfg_attr(feature = "cli", schemars(extend("enum" = ["spec", "config", "gguf", "catalogue"])))]
    source: &'static str,
    /// Its `model_type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    model_type: Option<String>,
    #[serde(flatten)]
    weights: WeightsDescription,
}

fn run(arguments: &WeightsArguments) -> Result<Answer, Error> {
    if arguments.models.is_empty() {
        return Err(Error {
            code: Code::Model,
            field: "MODEL".into(),
            found: Some("missing".into()),
            problem: String::new(),
            remedy: "name one (`kvsize models` lists them), or give its files".into(),
        });
    }
    let SourceArguments { catalogue, offline } = &arguments.sources;
    let names = arguments.models.iter().map(String::as_str);
    let places = Places::for_models(names, catalogue.as_deref(), *offline)?;
    let mut found = Vec::with_capacity(arguments.models.len());
    for name in &arguments.models {
        let Weighed { name, origin, model_type, weights } = places.weigh(name)?;
        let name = report::clean(&name);
        match weights {
            Ok(weights) => found.push((name, origin, model_type, weights)),
            Err(reason) => return Err(unknown(name, &reason)),
        }
    }
    let largest = found.iter().filter_map(|(.., weights)| weights.bytes).max().unwrap_or_default();
    let unit = arguments.unit.unwrap_or(UnitChoice::Fixed(ByteUnit::Gigabytes)).resolve(largest);
    let rows = found.iter().map(|(name, .., weights)| row(name, weights));
    let names = ["Model", "Bytes", "Parameters", "Active", "Origin"];
    let grid = Grid { columns: columns(&names, &[1, 2, 3]), rows: rows.collect() };
    let entries = found.iter().map(|(name, .., weights)| entry(name, weights, unit)).collect();
    let format = arguments.format.format();
    let several = found.len() > 1;
    let mut notes = Vec::new();
    // The other formats have them in the answer itself.
    if matches!(format, Format::Plain | Format::Csv) {
        for (name, .., weights) in &found {
            let of = |note: &String| if several { format!("{name}: {note}") } else { note.clone() };
            notes.extend(weights.notes.iter().map(of));
        }
    }
    let items = found.iter().map(|(name, origin, model_type, weights)| WeightsItem {
        name: name.clone(),
        source: origin.name(),
        model_type: model_type.as_deref().map(report::clean),
        weights: weights.into(),
    });
    let listing = Listing { schema: "kvsize.weights/1", items: items.collect(), grid, entries, notes: Vec::new() };
    let data = match format {
        Format::Plain => listing.items.iter().map(plain).collect(),
        format => report::listing(&listing, format),
    };
    Ok(Answer { quiet: arguments.format.quiet, data, notes, ..Answer::default() })
}

/// The line of a script: the bytes, then the name.
fn plain(item: &WeightsItem) -> String {
    let bytes = item.weights.bytes.map_or_else(|| "unknown".into(), |bytes| bytes.to_string());
    format!("{bytes} {}\n", item.name)
}

fn row(name: &str, weights: &Weights) -> Vec<String> {
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    vec![
        name.to_owned(),
        number(weights.bytes.map(|bytes| bytes.0)),
        number(weights.parameters),
        number(weights.active_parameters),
        weights.origin.name().to_owned(),
    ]
}

fn entry(name: &str, weights: &Weights, unit: ByteUnit) -> Entry {
    let bytes = |bytes: Bytes| format!("{} {} ({} bytes)", bytes.in_unit(unit), unit.name(), group_thousands(bytes.0));
    let mut about = vec![
        ("weights", weights.bytes.map_or_else(|| "not known".into(), bytes)),
        ("parameters", weights.parameters.map_or_else(|| "not known".into(), group_thousands)),
    ];
    about.extend(weights.active_parameters.map(|active| ("active", group_thousands(active))));
    about.push(("from", weights.origin.words().into()));
    about.extend(weights.notes.iter().map(|note| ("note", note.clone())));
    let properties = weights.by_dtype.iter().map(|share| {
        let tensors = share.tensors.map(|tensors| format!("{} tensors, ", group_thousands(tensors)));
        let elements = group_thousands(share.parameters);
        let size = share.bytes.map_or_else(|| "bytes not known".into(), bytes);
        (share.dtype.clone(), format!("{}{elements} elements, {size}", tensors.unwrap_or_default()))
    });
    Entry {
        name: name.to_owned(),
        about: about.into_iter().map(|(name, text)| (name.to_owned(), text)).collect(),
        heading: "by element type",
        properties: properties.collect(),
    }
}

/// Nothing is known, which is said and never guessed.
fn unknown(name: String, reason: &str) -> Error {
    Error {
        code: Code::WeightsUnknown,
        field: name,
        found: Some("its weights".into()),
        problem: format!("are not known: {reason}"),
        remedy: "give its safetensors or GGUF files, whose headers tell".into(),
    }
}
