//! How a check ends.

use serde::Serialize;

/// How a check ends; of several the worst counts, which is the greatest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All that is asserted holds.
    #[default]
    Within,
    /// Something does not.
    Over,
    /// It could not be told.
    Unknown,
}

impl Verdict {
    /// Within if it holds.
    pub fn of(holds: bool) -> Self {
        if holds { Self::Within } else { Self::Over }
    }

    /// A stable word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Within => "within",
            Self::Over => "over",
            Self::Unknown => "unknown",
        }
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
