//! What a server leaves for the cache on one device: its share of the memory, less weights and overhead.

use crate::engine::Term;
use crate::units::{Bytes, Exact};

/// The memory of each device of one pipeline stage, term by term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// The total of the device.
    pub total: Term,
    /// The part of it that the engine takes.
    pub usable: Term,
    /// Weights.
    pub weights: Term,
    /// What the engine needs in addition to weights and cache, by name.
    pub overhead: Vec<(&'static str, Term)>,
}

impl Budget {
    /// What is left for the cache.
    ///
    /// # Errors
    /// The bytes that are missing before there is any.
    pub fn pool(&self) -> Result<Bytes, Bytes> {
        let usable = Exact::from(self.usable.bytes);
        let overhead = self.overhead.iter().map(|(_, term)| term.bytes).sum::<Exact>();
        let taken = overhead + self.weights.bytes;
        (usable - taken).bytes().map_err(|_| (taken - usable).bytes().unwrap_or(Bytes(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Known;

    #[test]
    fn what_is_missing_is_told_in_place_of_a_pool() {
        let term = |bytes| Term { bytes: Bytes(bytes), known: Known::Given, source: String::new() };
        let budget = |weights| Budget {
            total: term(100),
            usable: term(90),
            weights: term(weights),
            overhead: vec![("activation", term(5)), ("communication", term(1))],
        };
        assert_eq!(budget(34).pool(), Ok(Bytes(50)));
        assert_eq!(budget(84).pool(), Ok(Bytes(0)));
        assert_eq!(budget(85).pool(), Err(Bytes(1)));
    }
}
