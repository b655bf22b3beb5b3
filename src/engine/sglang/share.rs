//! Pool sizes in tokens and bytes, one shape for every kind of pool.

use crate::units::{Code, Error, Exact};

/// Tokens of the pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Of the pool that every token is in.
    pub(super) full: u64,
    /// Of the window's pool, where there is one.
    pub(super) window: Option<u64>,
    /// What counts as the most tokens: the window's where nothing else is.
    pub(super) total: u64,
}

impl Sizes {
    /// One pool.
    pub(super) fn one(part: Part, total: u64) -> Self {
        match part {
            Part::Window => Self { full: 0, window: Some(total), total },
            Part::Full | Part::State | Part::Draft => Self { full: total, window: None, total },
        }
    }

    /// A pool that every token is in, and one for windows.
    pub(super) fn two(full: u64, window: u64) -> Self {
        Self { full, window: Some(window), total: full }
    }
}

/// Bytes of pools, by kind of layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// The kind, as among layer groups.
    pub(super) kind: &'static str,
    pub(super) part: Part,
    pub(super) layers: u64,
    /// Tokens of the pool.
    pub(super) tokens: u64,
    /// On one rank.
    pub(super) bytes: Exact,
}

/// What a share is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Entries that every token has.
    Full,
    /// Entries of windows.
    Window,
    /// States.
    State,
    /// Drafting layers.
    Draft,
}

/// The server does not start with a budget, for this reason.
pub(super) fn refused<T>(reason: impl Into<String>) -> Result<T, Error> {
    Err(Error::without_value(Code::Refused, "--memory", reason, "give more memory"))
}

/// `tokens` in whole pages, rounded down.
pub(super) fn whole_pages(tokens: u64, page: u64) -> u64 {
    tokens.checked_div(page).and_then(|pages| pages.checked_mul(page)).unwrap_or(tokens)
}
