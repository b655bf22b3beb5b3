//! What a server leaves for the cache on one device: its share of the memory, less weights and all else it keeps there.

use crate::engine::Term;
use crate::units::Bytes;

/// The memory of each device of one pipeline stage, term by term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// The total that is counted with.
    pub total: Term,
    /// What of it the engine takes.
    pub usable: Term,
    /// Weights.
    pub weights: Term,
    /// What the engine needs beside weights and cache, by name.
    pub overhead: Vec<(&'static str, Term)>,
}

impl Budget {
    /// All that the engine needs beside weights and cache.
    pub fn beside(&self) -> Bytes {
        Bytes(self.overhead.iter().map(|(_, term)| term.bytes.0).fold(0, u64::saturating_add))
    }

    /// What is left for the cache.
    ///
    /// # Errors
    /// The bytes that are missing before there is any.
    pub fn pool(&self) -> Result<Bytes, Bytes> {
        let taken = self.weights.bytes.0.saturating_add(self.beside().0);
        match self.usable.bytes.0.checked_sub(taken) {
            Some(left) => Ok(Bytes(left)),
            None => Err(Bytes(taken.saturating_sub(self.usable.bytes.0))),
        }
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
