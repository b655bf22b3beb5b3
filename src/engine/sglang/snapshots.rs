//! How states are kept for the prefix cache, and so how many slots a request takes.

use super::classes::Trait;
use super::resolver::Resolver;
use crate::units::{Error, named};

named! {
    /// How the prefix cache keeps states (`mamba-radix-cache-strategy`).
    pub(super) enum Strategy {
        Auto = "auto", NoBuffer = "no_buffer", ExtraBuffer = "extra_buffer", ExtraBufferLazy = "extra_buffer_lazy",
    }
}

impl Strategy {
    /// Whether snapshots of states take extra slots.
    pub(super) fn takes_snapshots(self) -> bool {
        matches!(self, Self::ExtraBuffer | Self::ExtraBufferLazy)
    }
}

/// How states are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Snapshots {
    /// One state a request: prefixes are not cached.
    Uncached,
    /// Without snapshots, by a class that caches no states.
    Unsupported,
    /// Without snapshots, which excludes overlap scheduling.
    NoBuffer,
    /// Snapshots in extra slots.
    ExtraBuffer,
    /// Snapshots in one extra slot.
    ExtraBufferLazy,
}

const FIELD: &str = "--mamba-radix-cache-strategy";

impl Resolver<'_> {
    /// How states are kept; `None` without states.
    pub(super) fn snapshots(&self) -> Result<Option<Snapshots>, Error> {
        let given = self.choice("mamba-radix-cache-strategy", Strategy::named);
        let given = given.filter(|&strategy| strategy != Strategy::Auto);
        let caches = self.has_states && self.class.is(Trait::StatePrefixes);
        if self.radix() && caches {
            return self.strategy(given).map(Some);
        }
        if let Some(given) = given.filter(|strategy| strategy.takes_snapshots() && self.radix()) {
            let reason = if self.has_states { "needs a model that caches states" } else { "needs mamba state" };
            return Err(self.engine.refusal(FIELD, given.name(), reason, "leave it out"));
        }
        let snapshots = if self.radix() { Snapshots::Unsupported } else { Snapshots::Uncached };
        Ok(self.has_states.then_some(snapshots))
    }

    /// The strategy given, or the default, where the class and the other settings take it.
    fn strategy(&self, given: Option<Strategy>) -> Result<Snapshots, Error> {
        let engine = self.engine;
        let page = self.count("page-size").unwrap_or(1);
        let overlap = !self.is_on("disable-overlap-schedule");
        let supports = self.class.is(Trait::StateSnapshots);
        let default = if (overlap || page > 1) && supports { Strategy::ExtraBuffer } else { Strategy::NoBuffer };
        let strategy = given.unwrap_or(default);
        if !strategy.takes_snapshots() {
            engine.require(page == 1, "--page-size", page, "is not taken by no_buffer", "use 1")?;
            let reason = "does not support overlap scheduling";
            let remedy = "add --disable-overlap-schedule";
            engine.require(given.is_none() || !overlap, FIELD, strategy.name(), reason, remedy)?;
            let backend = engine.settings.choice("attention-backend").unwrap_or_default();
            let taken = backend != "trtllm_mha";
            engine.require(taken, "--attention-backend", backend, "is not taken by no_buffer", "use another")?;
            return Ok(Snapshots::NoBuffer);
        }
        let reason = format_args!("is not supported for {}", self.class.name);
        engine.require(supports, FIELD, strategy.name(), reason, "use no_buffer")?;
        let lazy = strategy == Strategy::ExtraBufferLazy;
        let eager = !overlap || self.workload.layout.pp > 1;
        let reason = "requires the overlap schedule";
        engine.require(!(lazy && eager), FIELD, strategy.name(), reason, "use extra_buffer")?;
        let divides = 256u64.checked_rem(page) == Some(0);
        let reason = "does not divide the 256 tokens between snapshots";
        engine.require(divides, "--page-size", page, reason, "use one that does")?;
        Ok(if lazy { Snapshots::ExtraBufferLazy } else { Snapshots::ExtraBuffer })
    }
}
