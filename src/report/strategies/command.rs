//! The command that repeats a row.

use crate::engine::quoted;
use crate::strategy::Strategy;
use crate::units::{ElementFormat, KvDtype};

/// How the question was typed, for the commands that repeat a row.
#[derive(Debug)]
pub struct Typed {
    /// What an estimate of it begins with: `kvsize MODEL`.
    pub estimate: String,
    /// The value of `--seq-len`.
    pub seq_len: String,
    /// Options that are the same in every command.
    pub extra: Vec<(&'static str, String)>,
}

/// The command whose estimate has the bytes of a row.
pub(super) fn command(strategy: &Strategy, typed: &Typed) -> String {
    let Strategy { workload, levers, .. } = strategy;
    let mut words = vec![typed.estimate.clone()];
    let mut option = |name: &str, value: &str| words.extend([name.to_owned(), quoted(value)]);
    match levers.retrieval {
        Some(passages) => option("--retrieve", &passages.to_string()),
        None => option("-s", &typed.seq_len),
    }
    if workload.batch > 1 {
        option("-b", &workload.batch.to_string());
    }
    let bits = (1..=16).find(|&bits| workload.kv_dtype == KvDtype::from(ElementFormat::bitwidth(bits)));
    match bits {
        Some(bits) => option("--bitwidth", &bits.to_string()),
        None => option("-d", &workload.kv_dtype.to_string()),
    }
    if levers.windows_kept {
        option("--windows", "kept");
    }
    if let Some(streaming) = levers.streaming {
        option("--sinks", &streaming.sinks.to_string());
        option("--window", &streaming.window.0.to_string());
    }
    let layout = workload.layout;
    for (name, size) in [("--tp", layout.tp), ("--pp", layout.pp), ("--dcp", layout.dcp)] {
        if size > 1 {
            option(name, &size.to_string());
        }
    }
    if let Some(prefix) = workload.shared_prefix {
        option("--shared-prefix", &prefix.0.to_string());
    }
    for (name, value) in &typed.extra {
        option(name, value);
    }
    words.join(" ")
}
