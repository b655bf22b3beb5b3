//! What a server holds, and what keeps it from holding more.

use crate::engine::{Answer, Double};
use crate::units::{Bytes, Error, Tokens};

/// What keeps a server from holding more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, schemars::JsonSchema))]
pub struct Binding {
    /// A stable word: `weights`, `memory`, `pipeline_stage`, `kv_heads`, `sequences`, `model_max_seq_len`, `refused`, `engine` or
    /// `nothing`.
    #[cfg_attr(feature = "cli", schemars(extend("enum" = ["weights", "memory", "pipeline_stage", "kv_heads", "sequences", "model_max_seq_len", "refused", "engine", "nothing"])))]
    pub kind: &'static str,
    /// The same in words.
    pub reason: String,
}

impl Binding {
    pub(super) fn new(kind: &'static str, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }
}

/// Requests of a length.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "cli", serde_with::skip_serializing_none, derive(serde::Serialize, schemars::JsonSchema))]
pub struct Requests {
    /// Tokens of each.
    pub seq_len: Tokens,
    /// How many there is room for, over all replicas; absent where there is no end.
    pub room: Option<u64>,
    /// How many run at once: no more than the engine allows; absent where there is no end.
    pub at_once: Option<u64>,
    /// The room of one replica, as the engine counts.
    pub max_concurrency: Option<Double>,
    /// The setting that allows no more, where it binds.
    #[cfg_attr(feature = "cli", schemars(extend("enum" = ["max_num_seqs", "max_running_requests"])))]
    pub bound_by: Option<&'static str>,
}

impl Requests {
    /// Whether so many run at once.
    pub fn run(&self, wanted: u64) -> bool {
        self.at_once.is_none_or(|most| most >= wanted)
    }
}

/// What requests leave of the memory of the device that is full first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// So much to spare.
    Spare(Bytes),
    /// So much is missing.
    Short(Bytes),
    /// The engine refuses so many tokens or sequences.
    Refused(Error),
}

/// What a server holds.
#[derive(Debug, Clone)]
pub struct Fit {
    /// Whether what was asked for fits: requests of the length given, else a request at all.
    pub fits: bool,
    /// Bytes that are missing on the device that is full first, where memory does not suffice.
    pub missing: Option<Bytes>,
    /// Bytes that the requests leave there, where it does.
    pub spare: Option<Bytes>,
    /// What keeps it from holding more.
    pub binding: Binding,
    /// The tokens that the verdict is about: those asked for, else the longest.
    pub seq_len: Tokens,
    /// The longest request alone, no longer than the model's own maximum; `None` where there is no end.
    pub longest_alone: Option<Tokens>,
    /// The longest of as many at once as were asked for, no longer than the model's own maximum; `None` where there is no end.
    pub longest: Option<Tokens>,
    /// Tokens in the pools of all replicas, as the engine counts them; without a pool, the longest request that memory
    /// holds, times the replicas. None where there is no end.
    pub tokens: Option<u64>,
    /// Requests at the length asked for, or at the longest; then at the average.
    pub requests: Vec<Requests>,
    /// The engine's answer for the requests in one replica; for one short request where it refuses so many.
    pub answer: Answer,
    /// What `--memory` must be for an estimate of the same: the bytes of the device that is full first.
    pub memory: Bytes,
}
