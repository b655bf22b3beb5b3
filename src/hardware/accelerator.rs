//! A device, as far as memory goes: three totals that are never the same, kept apart.
//!
//! An H100 is marketed with 80 GB, its driver reports 81559 MiB, and CUDA reports 79.19 GiB to a server, which takes its share
//! of that. Where the last one is unknown it is estimated here, and marked as an estimate.

use crate::engine::{Known, Term};
use crate::units::{ByteUnit, Bytes, Exact, fixed_point};

/// The driver's total minus the total that an engine sees: the median of the catalogue's cards with both (236 to 949 MiB), in
/// whole MiB; a test computes it from the data.
pub const DRIVER_LESS_VISIBLE: Bytes = Bytes(468 << 20);

/// Of Apple's unified memory up to so much, two thirds are the GPU's by default; of more, three quarters (ggml-org/llama.cpp#3213,
/// #1870, ollama/ollama#434; 36 GiB itself was not seen).
const TWO_THIRDS_UP_TO: Bytes = Bytes(36 << 30);

/// A device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accelerator {
    /// Its own name in the catalogue: `h100-sxm`.
    pub id: String,
    /// CUDA's compute capability, major and minor, where it has one.
    pub compute_capability: Option<(u32, u32)>,
    /// What it is sold with; of a chip with unified memory what the machine is sold with.
    pub marketed: Option<Term>,
    /// What its driver reports as total.
    pub driver: Option<Term>,
    /// The total that an engine sees, of which it takes its share, where it was read or given.
    pub visible: Option<Term>,
    /// Whether its memory is the machine's, of which Metal lets the GPU have a part.
    pub metal: bool,
    /// The sizes of memory that the machine is sold with, in GiB, where that is several.
    pub sizes_gib: Vec<u64>,
}

impl Accelerator {
    /// A device with a known total that an engine sees, and nothing else.
    pub fn of_size(visible: Bytes) -> Self {
        let id = format!("gpu-{}", exact_size(visible).replace(' ', "").to_lowercase());
        Self { id, visible: Some(Term::given(visible, "--gpu-memory")), ..Self::default() }
    }

    /// The total that an engine sees: read or given; else Metal's default part of unified memory; else the driver's figure
    /// less [`DRIVER_LESS_VISIBLE`], both estimated. What is sold is never taken for it.
    pub fn total(&self) -> Option<Term> {
        if let Some(visible) = &self.visible {
            return Some(visible.clone());
        }
        if self.metal {
            return metal_part(self.marketed.as_ref()?);
        }
        let Some(driver) = &self.driver else { return estimated(self.marketed.as_ref()?) };
        let bytes = Bytes(driver.bytes.0.checked_sub(DRIVER_LESS_VISIBLE.0)?);
        let source = format!(
            "the driver's {} ({}) less {}, the median of the cards seen",
            exact_size(driver.bytes),
            driver.source,
            exact_size(DRIVER_LESS_VISIBLE)
        );
        Some(Term { bytes, known: Known::Estimated, source })
    }

    /// What is to be said of the total, where it is an estimate.
    pub fn assumption(&self) -> Option<String> {
        let Term { bytes, source, .. } = self.total().filter(|total| total.known == Known::Estimated)?;
        let gibibytes = fixed_point(u128::from(bytes.0), 1 << 30, 2);
        Some(format!("{}: engines are told {gibibytes} GiB, {source}", self.id))
    }

    /// The device with this memory instead of its own: what an engine sees, or, of a chip with unified memory, what the
    /// machine has.
    #[must_use]
    pub fn with_memory(self, memory: Bytes) -> Self {
        let given = Some(Term::given(memory, "--gpu-memory"));
        if self.metal {
            Self { marketed: given, visible: None, ..self }
        } else {
            // What a driver reports of such a card is nothing to go by.
            Self { visible: given, driver: None, ..self }
        }
    }
}

/// Of what a card is marketed with, GB taken for GiB, the thousandths that engines see: the median of the consumer cards of the
/// catalogue with both (980 to 986).
const VISIBLE_THOUSANDTHS: u64 = 982;

/// The total that engines see of a card of which only the marketed size is known.
fn estimated(marketed: &Term) -> Option<Term> {
    let gigabytes = marketed
        .bytes
        .0
        .checked_div(1_000_000_000)
        .filter(|&size| size.checked_mul(1_000_000_000) == Some(marketed.bytes.0));
    let whole = gigabytes.map_or_else(|| Exact::from(marketed.bytes), |size| Exact::from(size) * (1u64 << 30));
    let source = format!("98.2 % of the {} it is marketed with ({})", exact_size(marketed.bytes), marketed.source);
    Some(Term { bytes: (whole * VISIBLE_THOUSANDTHS / 1000u64).bytes().ok()?, known: Known::Estimated, source })
}

/// The part of a machine's memory that Metal lets the GPU have by default.
fn metal_part(memory: &Term) -> Option<Term> {
    let (numerator, denominator) = if memory.bytes <= TWO_THIRDS_UP_TO { (2u64, 3u64) } else { (3, 4) };
    Some(Term {
        bytes: (Exact::from(memory.bytes) * numerator / denominator).bytes().ok()?,
        known: Known::Estimated,
        source: format!(
            "{numerator}/{denominator} of {} of unified memory: the default, can be raised (iogpu.wired_limit_mb)",
            exact_size(memory.bytes)
        ),
    })
}

/// Bytes in the largest unit in which they are whole, so that nothing is rounded: `81559 MiB`, `80 GB`.
pub fn exact_size(bytes: Bytes) -> String {
    use ByteUnit as U;
    let units = [U::Terabytes, U::Gibibytes, U::Gigabytes, U::Mebibytes, U::Megabytes, U::Kibibytes];
    let whole = units.into_iter().find(|unit| bytes.0 > 0 && bytes.0.checked_rem(unit.bytes()) == Some(0));
    let unit = whole.unwrap_or(U::Bytes);
    format!("{} {}", bytes.0.checked_div(unit.bytes()).unwrap_or_default(), unit.name())
}

// What a server leaves for the cache on one device: its share of the memory, less weights and overhead.

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
    use proptest::prelude::*;

    fn term(bytes: u64) -> Term {
        Term { bytes: Bytes(bytes), known: Known::Catalogue, source: "a log".into() }
    }

    fn apple(gib: u64) -> Accelerator {
        Accelerator { metal: true, marketed: Some(term(gib << 30)), ..Accelerator::default() }
    }

    #[test]
    fn what_an_engine_is_told_is_read_or_estimated_and_never_what_is_sold() {
        let h100 = Accelerator {
            marketed: Some(term(80_000_000_000)),
            driver: Some(term(81_559 << 20)),
            visible: Some(term(85_029_609_226)),
            ..Accelerator::default()
        };
        assert_eq!(h100.total(), h100.visible);
        let unseen = Accelerator { visible: None, ..h100.clone() };
        let total = unseen.total().unwrap();
        assert_eq!((total.bytes, total.known), (Bytes((81_559 - 468) << 20), Known::Estimated));
        assert_eq!(total.source, "the driver's 81559 MiB (a log) less 468 MiB, the median of the cards seen");
        assert_eq!(h100.assumption(), None);
        assert_eq!(
            unseen.assumption().unwrap(),
            ": engines are told 79.19 GiB, the driver's 81559 MiB (a log) less 468 MiB, the median of the cards seen"
        );
        // Of the 80 GB it is sold with; nothing of nothing.
        let sold = Accelerator { driver: None, ..unseen.clone() }.total().unwrap();
        assert_eq!((sold.bytes, sold.known), (Bytes((80 << 30) * 982 / 1000), Known::Estimated));
        assert_eq!(Accelerator { driver: None, marketed: None, ..unseen.clone() }.total(), None);
        assert_eq!(Accelerator { driver: Some(term(1 << 20)), ..unseen }.total(), None);
        let given = h100.with_memory(Bytes(1 << 30)).total().unwrap();
        assert_eq!((given.bytes, given.known), (Bytes(1 << 30), Known::Given));
    }

    /// Metal's own reports: 10922.67 and 21845.34 MiB, 16384, 73728, about 49 GB.
    #[test]
    fn metal_gives_two_thirds_or_three_quarters() {
        for (gib, mib) in [(16, 10_922), (24, 16_384), (32, 21_845), (36, 24_576), (64, 49_152), (96, 73_728)] {
            let total = apple(gib).total().unwrap();
            assert_eq!((total.bytes.0 >> 20, total.known), (mib, Known::Estimated), "{gib}");
        }
        assert_eq!(Accelerator { metal: true, ..Accelerator::default() }.total(), None);
        let given = Accelerator { metal: true, ..Accelerator::default() }.with_memory(Bytes(64 << 30));
        assert_eq!(given.total(), apple(64).total());
    }

    #[test]
    fn a_device_of_a_size_is_named_by_it() {
        assert_eq!(Accelerator::of_size(Bytes(80 << 30)).id, "gpu-80gib");
        assert_eq!(Accelerator::of_size(Bytes(80_000_000_000)).id, "gpu-80gb");
        assert_eq!(exact_size(Bytes(81_559 << 20)), "81559 MiB");
        assert_eq!(exact_size(Bytes(0)), "0 B");
    }

    proptest! {
        #[test]
        fn a_larger_machine_has_more_for_the_gpu(gib in 1u64..2048) {
            prop_assert!(apple(gib).total().unwrap().bytes < apple(gib + 1).total().unwrap().bytes);
        }

        #[test]
        fn any_size_is_read_back(bytes in any::<u64>()) {
            prop_assert_eq!(exact_size(Bytes(bytes)).parse(), Ok(Bytes(bytes)));
        }
    }

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
