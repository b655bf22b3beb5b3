//! What is asserted of hardware, and what it holds by the answer of `fit`.

use crate::estimate::Layout;
use crate::fit::{Binding, Fit};
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

/// What hardware holds of a demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What is asserted.
    pub demand: Demand,
    /// The device, by its own name.
    pub gpu: String,
    /// How many.
    pub gpus: u64,
    /// How the model is spread over them.
    pub layout: Layout,
    /// Whether the assertion holds.
    pub holds: bool,
    /// The longest of so many requests; none where there is no end.
    pub longest: Option<Tokens>,
    /// Requests that run at once; none where there is no end.
    pub at_once: Option<u64>,
    /// Bytes that are missing on the device that is full first, where memory does not suffice.
    pub shortfall: Option<Bytes>,
    /// What keeps it from holding more.
    pub binding: Binding,
}

impl Held {
    /// What `fit` says of a demand, that was asked about what the demand [asks](Demand::asks) on a model made for at most
    /// `maximum` tokens.
    pub fn of(demand: Demand, maximum: Option<Tokens>, (gpu, gpus): (String, u64), layout: Layout, fit: &Fit) -> Self {
        // Memory may hold more than the model was made for; that is no context of it.
        let made_for = match demand {
            Demand::MinContext(tokens) => maximum.is_none_or(|maximum| tokens <= maximum),
            Demand::Fits | Demand::MinConcurrentRequests(_) => true,
        };
        Self {
            demand,
            gpu,
            gpus,
            layout,
            holds: fit.fits && made_for,
            longest: fit.longest,
            at_once: fit.requests.first().and_then(crate::fit::Requests::at_once),
            shortfall: fit.shortfall,
            binding: fit.binding.clone(),
        }
    }

    /// What there is of what is wanted; none where there is no end, or nothing is counted.
    pub fn found(&self) -> Option<u64> {
        match self.demand {
            Demand::Fits => None,
            Demand::MinContext(_) => self.longest.map(|tokens| tokens.0),
            Demand::MinConcurrentRequests(_) => self.at_once,
        }
    }
}
