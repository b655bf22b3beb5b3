//! The levers of `kvsize strategies` as options of one estimate.

use super::args::{TypedTokens, WorkloadArguments};
use crate::engine::Engine;
use crate::model::Model;
use crate::strategy::Levers;
use crate::units::{Code, Error, Tokens};

/// Passages in place of a text are the sequence.
pub(super) fn retrieved(arguments: &mut WorkloadArguments) {
    if let Some((passages, tokens)) =
        arguments.levers.retrieve.and_then(|passages| Some((passages, passages.tokens()?)))
    {
        arguments.seq_len = vec![TypedTokens { tokens, text: passages.to_string() }];
    }
}

/// The models with the levers that were given.
pub(super) fn applied(
    models: Vec<Model>,
    arguments: &WorkloadArguments,
    engines: &[Engine],
) -> Result<Vec<Model>, Error> {
    if changes_nothing(&arguments.levers.levers()) {
        return Ok(models);
    }
    models.iter().map(|model| applied_to(model, arguments, engines)).collect()
}

/// The model with them. What an engine keeps is the engine's own rule: only the ideal takes a lever on it.
pub(super) fn applied_to(model: &Model, arguments: &WorkloadArguments, engines: &[Engine]) -> Result<Model, Error> {
    let levers = arguments.levers.levers();
    if changes_nothing(&levers) {
        return Ok(model.clone());
    }
    if let Some(engine) = engines.iter().find(|engine| !engine.is_ideal()) {
        let (field, found) = match levers.streaming {
            Some(streaming) => ("--sinks", streaming.sinks.to_string()),
            None => ("--windows", "kept".into()),
        };
        return Err(Error {
            code: Code::Refused,
            field: field.into(),
            found: Some(found),
            problem: format!("is of the ideal estimate; {} keeps what its own rules say", engine.profile.name),
            remedy: "use -e ideal, or leave it out".into(),
        });
    }
    let shortest = arguments.seq_len.iter().map(|typed| typed.tokens).min();
    Ok(levers.applied(model, shortest.unwrap_or(Tokens(u64::MAX)))?)
}

fn changes_nothing(levers: &Levers) -> bool {
    levers.streaming.is_none() && !levers.windows_kept
}
