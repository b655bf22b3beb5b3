//! What is asserted of hardware, and what it holds by the answer of `fit`.

use crate::fit::{Binding, Fitted};
use crate::units::{Bytes, Tokens};

/// What is asserted of hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// It holds the workload.
    Fits,
    /// It holds the workload at this length.
    MinContext(Tokens),
    /// It runs so many such requests at once.
    MinConcurrentRequests(u64),
}

impl Demand {
    /// A stable word: what asserts it in a file of budgets.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Fits => "must_fit_on",
            Self::MinContext(_) => "min_context",
            Self::MinConcurrentRequests(_) => "min_concurrent_requests",
        }
    }

    /// The number that is wanted.
    pub fn wanted(self) -> Option<u64> {
        match self {
            Self::Fits => None,
            Self::MinContext(tokens) => Some(tokens.0),
            Self::MinConcurrentRequests(requests) => Some(requests),
        }
    }

    /// The tokens and requests to ask `fit` about, of a workload of so many.
    pub fn asks(self, seq_len: Tokens, batch: u64) -> (Tokens, u64) {
        match self {
            Self::Fits => (seq_len, batch),
            Self::MinContext(tokens) => (tokens, batch),
            Self::MinConcurrentRequests(requests) => (seq_len, requests),
        }
    }
}

/// What is asserted of hardware, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "cli", serde_with::skip_serializing_none, derive(serde::Serialize, schemars::JsonSchema))]
pub struct Held {
    /// `must_fit_on`, `min_context` or `min_concurrent_requests`.
    #[cfg_attr(feature = "cli", schemars(extend("enum" = ["must_fit_on", "min_context", "min_concurrent_requests"])))]
    pub kind: &'static str,
    /// The device.
    pub gpu: String,
    /// How many.
    pub gpus: u64,
    /// Tensor parallel ranks.
    pub tp: u64,
    /// Pipeline stages.
    pub pp: u64,
    /// Replicas.
    pub dp: u64,
    /// Whether it holds.
    pub holds: bool,
    /// The number that is wanted.
    pub wanted: Option<u64>,
    /// What there is of it; absent where there is no end.
    pub found: Option<u64>,
    /// Bytes that are missing on the device that is full first.
    pub missing_bytes: Option<Bytes>,
    /// The longest of that number of requests; absent where there is no limit.
    pub longest_seq_len_at_batch: Option<Tokens>,
    /// Requests that run at once; absent where there is no end.
    pub at_once: Option<u64>,
    /// What keeps it from holding more.
    pub binding: Binding,
    /// What is asserted.
    #[cfg_attr(feature = "cli", serde(skip))]
    pub demand: Demand,
}

impl Held {
    /// What `fit` says of a demand, that was asked about what the demand [asks](Demand::asks) on a model made for at most
    /// `maximum` tokens.
    pub fn new(demand: Demand, maximum: Option<Tokens>, Fitted { deployment, fit, .. }: &Fitted) -> Self {
        let at_once = fit.requests.first().and_then(|requests| requests.at_once);
        let (found, made_for) = match demand {
            Demand::Fits => (None, true),
            // Memory may hold more than the model was made for; that is no context of it.
            Demand::MinContext(tokens) => {
                (fit.longest.map(|longest| longest.0), maximum.is_none_or(|most| tokens <= most))
            }
            Demand::MinConcurrentRequests(_) => (at_once, true),
        };
        Self {
            kind: demand.kind(),
            gpu: deployment.gpu.clone(),
            gpus: deployment.gpus,
            tp: deployment.layout.tp,
            pp: deployment.layout.pp,
            dp: deployment.layout.dp,
            holds: fit.fits && made_for,
            wanted: demand.wanted(),
            found,
            missing_bytes: fit.missing,
            longest_seq_len_at_batch: fit.longest,
            at_once,
            binding: fit.binding.clone(),
            demand,
        }
    }
}
