//! `kvsize schema [NAME]`: the shape of our JSON.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};

use super::{ANSWERED, Answer, Subcommand, typed};
use crate::report::{SCHEMAS, all_schemas};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "schema",
    about: "The JSON Schema of what is read and written",
    arguments: SchemaArguments::augment_args,
    notes: "",
    examples: &[
        ("Everything", "kvsize schema"),
        ("What an estimate looks like as JSON", "kvsize schema estimate"),
        (
            "What a file of budgets may hold, for an editor to check it by",
            "kvsize schema budgets > kv-budgets.schema.json",
        ),
    ],
    statuses: ANSWERED,
    run: |matches| Ok(run(&typed(matches)?)),
};

#[derive(Debug, Args)]
struct SchemaArguments {
    /// The shape, as kvsize.estimate/1 or without its version; all in one without it
    #[arg(value_name = "NAME", value_parser = names())]
    name: Option<String>,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(SCHEMAS.iter().map(|schema| PossibleValue::new(schema.name).alias(schema.full)))
}

fn run(arguments: &SchemaArguments) -> Answer {
    let known = arguments
        .name
        .as_deref()
        .and_then(|name| SCHEMAS.iter().find(|known| [known.name, known.full].contains(&name)));
    let data = known.map_or_else(all_schemas, |known| known.text.to_owned());
    Answer { data, ..Answer::default() }
}

mod inputs;
#[cfg(test)]
mod tests;
