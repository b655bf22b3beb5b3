//! How a check ends.

use serde::Serialize;

use crate::units::named;

named! {
    /// How a check ends; of several the worst counts, which is the greatest.
    #[derive(Default, PartialOrd, Ord, Serialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Verdict {
        /// All that is asserted holds.
        #[default]
        Within = "within",
        /// Something does not.
        Over = "over",
        /// Something that is asserted is unknown.
        Unknown = "unknown",
    }
}

impl Verdict {
    /// Within if it holds.
    pub fn of(holds: bool) -> Self {
        if holds { Self::Within } else { Self::Over }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_the_greatest() {
        let all = [Verdict::Unknown, Verdict::Within, Verdict::Over];
        assert_eq!(all.into_iter().max(), Some(Verdict::Unknown));
        assert_eq!(all.into_iter().min(), Some(Verdict::default()));
    }
}
