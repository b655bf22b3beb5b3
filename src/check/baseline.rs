//! What a budget took before, and by how much it may have grown since.

use crate::units::{Bytes, Exact};

/// By how much something may grow, in millionths of what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Increase(pub u32);

impl Increase {
    /// The most that it may be.
    pub fn most(self, before: Bytes) -> Bytes {
        let whole = Exact::from(1_000_000u64);
        // No number of bytes is past the largest.
        ((whole + self.0) * before / whole).bytes().unwrap_or(Bytes(u64::MAX))
    }

    /// Whether it may grow so much, to the byte.
    ///
    /// ```
    /// use kvsize::check::Increase;
    /// use kvsize::units::Bytes;
    /// assert!(Increase(50_000).allows(Bytes(100), Bytes(105)));
    /// assert!(!Increase(50_000).allows(Bytes(100), Bytes(106)));
    /// ```
    pub fn allows(self, before: Bytes, now: Bytes) -> bool {
        now <= self.most(before)
    }
}

/// What a workload takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Bytes over all devices of a replica.
    pub bytes: Bytes,
    /// Bytes on the device that holds most.
    pub bytes_per_gpu: Bytes,
}

/// What became of a budget since the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", serde_with::skip_serializing_none, derive(serde::Serialize, schemars::JsonSchema))]
pub struct Change {
    /// `new`, `same`, `grown` or `shrunk`; `unknown` where the baseline could not tell.
    #[cfg_attr(feature = "cli", schemars(extend("enum" = ["new", "same", "grown", "shrunk", "unknown"])))]
    pub kind: &'static str,
    /// Bytes over all devices, then.
    pub bytes_before: Option<Bytes>,
    /// Bytes on the device that held most, then.
    pub bytes_per_gpu_before: Option<Bytes>,
    /// Whether it grew by more than may be.
    pub too_much: bool,
}

impl Change {
    /// The baseline does not have it.
    pub const NEW: Self = Self { kind: "new", bytes_before: None, bytes_per_gpu_before: None, too_much: false };

    /// The baseline has it, and could not tell what it took.
    pub const UNKNOWN: Self = Self { kind: "unknown", ..Self::NEW };

    /// What became of what took `before`: grown if it has in all or on a device.
    pub fn since(before: Taken, now: Taken, most: Option<Increase>) -> Self {
        let Taken { bytes, bytes_per_gpu } = before;
        let kind = match now {
            _ if now == before => "same",
            now if now.bytes > bytes || now.bytes_per_gpu > bytes_per_gpu => "grown",
            _ => "shrunk",
        };
        let too_much =
            most.is_some_and(|most| !most.allows(bytes, now.bytes) || !most.allows(bytes_per_gpu, now.bytes_per_gpu));
        Self { kind, bytes_before: Some(bytes), bytes_per_gpu_before: Some(bytes_per_gpu), too_much }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn growth_is_looked_at_in_all_and_on_each_device() {
        let taken = |bytes, per_gpu| Taken { bytes: Bytes(bytes), bytes_per_gpu: Bytes(per_gpu) };
        let change = |now, most| Change::since(taken(100, 50), now, most);
        assert!(!change(taken(105, 50), Some(Increase(50_000))).too_much);
        assert!(change(taken(106, 50), Some(Increase(50_000))).too_much);
        assert!(change(taken(100, 53), Some(Increase(50_000))).too_much);
        assert!(!change(taken(1000, 500), None).too_much);
        assert!(!change(taken(1, 1), Some(Increase(0))).too_much);
        let kinds =
            [(105, 50), (100, 51), (99, 51), (99, 50), (100, 50)].map(|(all, each)| change(taken(all, each), None));
        assert_eq!(kinds.map(|change| change.kind), ["grown", "grown", "grown", "shrunk", "same"]);
    }

    proptest! {
        /// No growth is always allowed, and the figures of no integer overflow.
        #[test]
        fn what_does_not_grow_is_allowed(before: u64, now: u64, most: u32) {
            let allows = Increase(most).allows(Bytes(before), Bytes(now));
            prop_assert!(allows || now > before);
            prop_assert_eq!(Increase(0).allows(Bytes(before), Bytes(now)), now <= before);
        }
    }
}
