//! `kvsize schema [NAME]`: the shape of our JSON.

use clap::Args;

use super::failure::Failure;
use super::{ANSWERED, Answer, Subcommand, typed};
use crate::report::{SCHEMAS, all_schemas};
use crate::units::Diagnosis;

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "schema",
    about: "The JSON Schema of what is read and written",
    arguments: |command| {
        let names = SCHEMAS.iter().map(|schema| schema.name).collect::<Vec<_>>().join(", ");
        let about = format!("What it is of: {names}; all in one without it");
        SchemaArguments::augment_args(command).mut_arg("name", |name| name.help(about))
    },
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
    run: |matches| run(&typed(matches)?),
};

#[derive(Debug, Args)]
struct SchemaArguments {
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

fn run(arguments: &SchemaArguments) -> Result<Answer, Failure> {
    let data = match &arguments.name {
        None => all_schemas(),
        Some(name) => {
            // As documents name themselves, too: kvsize.estimate/1.
            let short = name.trim_start_matches("kvsize.").trim_end_matches("/1");
            let known = SCHEMAS.iter().find(|schema| schema.name == short);
            let names = || SCHEMAS.iter().map(|schema| schema.name).collect::<Vec<_>>().join(", ");
            let unknown = || {
                Failure(Diagnosis {
                    code: "unknown_schema",
                    field: "NAME".into(),
                    found: name.clone(),
                    problem: "is not a shape of our JSON".into(),
                    remedy: format!("use one of {}", names()),
                })
            };
            known.ok_or_else(unknown)?.text.to_owned()
        }
    };
    Ok(Answer { data, ..Answer::default() })
}

#[cfg(test)]
mod tests;
