//! Tokens and bytes of pools, as all kinds of them tell theirs.

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

/// Bytes of pools, by kind of layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// The kind, as among layer groups.
    pub(super) kind: &'static str,
    /// Whose they are.
    pub(super) part: Part,
    /// How many layers.
    pub(super) layers: u64,
    /// Tokens of the pool.
    pub(super) tokens: u64,
    /// Bytes on one rank.
    pub(super) bytes: u128,
}

/// Whose bytes a share is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Of entries that every token has.
    Full,
    /// Of a window's entries.
    Window,
    /// Of states.
    State,
    /// Of drafting layers.
    Draft,
}
