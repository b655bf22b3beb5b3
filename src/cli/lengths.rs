//! Tokens and sequences that an engine's own settings fix: they are told once, and the rows are of them.

use std::borrow::Cow;

use super::args::{TypedTokens, WorkloadArguments};
use crate::engine::{Engine, OwnLengths};
use crate::model::Model;
use crate::units::{Code, Error};

/// The workload with what the settings of an engine fix in place of `--seq-len` and `--batch`.
pub(super) fn settled<'a>(
    arguments: &'a WorkloadArguments,
    engines: &[Engine],
    model: &Model,
) -> Result<Cow<'a, WorkloadArguments>, Error> {
    let twice = |field: &str, found: String, setting: &str| {
        Err(Error {
            code: Code::ToldTwice,
            field: field.into(),
            found: Some(found),
            problem: format!("is given together with {setting}, which fixes it"),
            remedy: "leave one of them out".into(),
        })
    };
    let mut settled = Cow::Borrowed(arguments);
    for engine in engines {
        let batch = arguments.batch.first().copied().unwrap_or(1);
        let OwnLengths { sequences, seq_len } = engine.own_lengths(model, batch);
        if let Some((setting, tokens)) = seq_len {
            if let Some(typed) = arguments.seq_len.first() {
                return twice("--seq-len", typed.text.clone(), setting);
            }
            if let [_, second, ..] = arguments.batch.as_slice() {
                return twice("--batch", format!("another batch, {second},"), setting);
            }
            settled.to_mut().seq_len = vec![TypedTokens { tokens, text: tokens.0.to_string() }];
        }
        if let Some((setting, count)) = sequences {
            if let Some(batch) = arguments.batch.first() {
                return twice("--batch", batch.to_string(), setting);
            }
            settled.to_mut().batch = vec![count];
        }
    }
    Ok(settled)
}
