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
    let layout = workload.layout;
    let bits = (1..=16).find(|&bits| workload.kv_dtype == KvDtype::from(ElementFormat::bitwidth(bits)));
    let several = |count: u64| (count > 1).then(|| count.to_string());
    for (name, value) in [
        ("-b", several(workload.batch)),
        ("--bitwidth", bits.map(|bits| bits.to_string())),
        ("-d", Some(workload.kv_dtype.to_string()).filter(|_| bits.is_none())),
        ("--windows", levers.windows_kept.then(|| "kept".to_owned())),
        ("--sinks", levers.streaming.map(|streaming| streaming.sinks.to_string())),
        ("--window", levers.streaming.map(|streaming| streaming.window.0.to_string())),
        ("--tp", several(layout.tp)),
        ("--pp", several(layout.pp)),
        ("--dcp", several(layout.dcp)),
        ("--shared-prefix", workload.shared_prefix.map(|prefix| prefix.0.to_string())),
    ] {
        if let Some(value) = value {
            option(name, &value);
        }
    }
    for (name, value) in &typed.extra {
        option(name, value);
    }
    words.join(" ")
}
