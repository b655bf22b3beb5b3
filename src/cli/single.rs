//! One estimate: the options that take lists elsewhere take one value.

use clap::ArgMatches;

use super::args::{DeviceArguments, WorkloadArguments};
use super::estimate::{common, engines, formats};
use crate::engine::Engine;
use crate::estimate::Workload;
use crate::model::Model;
use crate::units::{Bytes, Code, Error, KvDtype, Tokens};

/// The length of a model that has no maximum of its own.
const USUAL_LENGTH: Tokens = Tokens(131_072);

/// The engine that was named, with its settings; ideal without one. What had to be assumed of its device.
pub(super) fn engine(
    asked: &WorkloadArguments,
    on: Option<&DeviceArguments>,
    matches: &ArgMatches,
) -> Result<(Engine, Option<String>), Error> {
    let (engines, assumed) = engines(asked, on, matches)?;
    Ok((one("--engine", engines)?.unwrap_or_else(Engine::ideal), assumed))
}

/// The one workload that is asked of a model, defaults filled in.
pub(super) fn workload(
    model: &Model,
    asked: &WorkloadArguments,
    memory: Option<Bytes>,
    engine: &Engine,
) -> Result<Workload, Error> {
    let auto = if engine.is_ideal() { model.dtype.into() } else { KvDtype::Auto };
    let seq_len = one("--seq-len", asked.seq_len.iter().map(|typed| typed.tokens).collect())?;
    Ok(Workload {
        seq_len: seq_len.or(model.max_position_embeddings).unwrap_or(USUAL_LENGTH),
        batch: one("--batch", asked.batch.clone())?.unwrap_or(1),
        kv_dtype: one("--kv-dtype or --bitwidth", formats(model, asked, engine))?.unwrap_or(auto),
        memory,
        ..common(asked)
    })
}

/// The one value of an option that takes a list elsewhere; none where it was not given.
pub(super) fn one<T>(option: &str, values: Vec<T>) -> Result<Option<T>, Error> {
    let count = values.len();
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Error {
            code: Code::Several,
            field: option.into(),
            found: Some(format!("{count} values")),
            problem: "are more than one estimate takes".into(),
            remedy: "give one".into(),
        }),
    }
}
