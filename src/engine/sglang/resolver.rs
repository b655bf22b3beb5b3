//! What arguments are resolved from: the model and its class, the workload, the settings and the GPU.

use serde::Deserialize;

use super::classes::{Class, Trait};
use super::draft::Algorithm;
use super::layers::{IDEAL, groups_of, has};
use crate::engine::Engine;
use crate::estimate::Workload;
use crate::model::{CacheKind as Kind, LayerCache, Mechanism as M, Model, RecurrentState};
use crate::units::{Error, Notes};

/// What every argument is resolved from, and what is noted on the way.
pub(super) struct Resolver<'a> {
    pub(super) model: &'a Model,
    pub(super) workload: &'a Workload,
    pub(super) engine: &'a Engine,
    pub(super) class: Class<'a>,
    /// Whether latents are kept.
    pub(super) latent: bool,
    /// Whether latents have an index (DeepSeek sparse attention).
    pub(super) indexed: bool,
    /// Whether recurrent layers get a pool of states.
    pub(super) has_states: bool,
    /// What drafts tokens.
    pub(super) algorithm: Option<Algorithm>,
    pub(super) notes: Notes,
}

/// Generations of GPUs that SGLang's rules distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Generation {
    SinceAmpere,
    Hopper,
    /// Data-centre Blackwell.
    Sm100,
    /// Blackwell of workstations.
    Sm120,
    /// Compute capabilities 10 to 12.
    Blackwell,
    SinceBlackwell,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(model: &'a Model, workload: &'a Workload, engine: &'a Engine) -> Self {
        let class = Class::of_model(model);
        let latent = has(model, &[Kind::Latent]);
        let index = groups_of(model, &[Kind::Indexer]).any(|group| group.cache.ratio() == 1);
        Self {
            indexed: latent && index && (class.name.is_empty() || class.is(Trait::LatentIndex)),
            latent,
            has_states: false,
            algorithm: None,
            notes: Notes::default(),
            model,
            workload,
            engine,
            class,
        }
    }

    /// Whether the GPU is of a generation.
    pub(super) fn gpu_is(&self, generation: Generation) -> bool {
        let major = self.engine.device.compute_capability.0;
        match generation {
            Generation::SinceAmpere => major >= 8,
            Generation::Hopper => major == 9,
            Generation::Sm100 => major == 10,
            Generation::Sm120 => major == 12,
            Generation::Blackwell => (10..=12).contains(&major),
            Generation::SinceBlackwell => major >= 10,
        }
    }

    /// A setting that takes one word of several.
    pub(super) fn choice<T>(&self, name: &str, named: fn(&str) -> Option<T>) -> Option<T> {
        named(self.engine.settings.choice(name)?)
    }

    pub(super) fn count(&self, name: &str) -> Option<u64> {
        self.engine.settings.count(name)
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        self.engine.settings.switch(name).unwrap_or_default()
    }

    /// Whether prefixes are cached.
    pub(super) fn radix(&self) -> bool {
        !self.is_on("disable-radix-cache")
    }

    /// Refuses what these rules do not cover.
    pub(super) fn check_covered(&self) -> Result<(), Error> {
        let (engine, model, workload) = (self.engine, self.model, self.workload);
        if let Some(reason) = self.class.not_covered {
            return Err(engine.refusal("MODEL", self.class.name, reason, IDEAL));
        }
        let encodes = groups_of(model, &[Kind::Cross])
            .any(|group| matches!(group.cache, LayerCache::CrossAttention { optional: false, .. }));
        engine.require(!encodes, "MODEL", &model.name, "is an encoder-decoder, whose cache is not modelled", IDEAL)?;
        let is_compressed = self.class.is(Trait::Compressed);
        let reason = "has compressed attention, which these rules cover for DeepseekV4ForCausalLM alone";
        engine.require(is_compressed || !has(model, &[Kind::Compressed]), "MODEL", &model.name, reason, IDEAL)?;
        if let Some(context) = self.count("context-length") {
            let reason = format_args!("is shorter than the sequences ({})", workload.seq_len);
            let remedy = "give at least --seq-len, or leave it out";
            engine.require(context >= workload.seq_len.0, "--context-length", context, reason, remedy)?;
        }
        if let Some(fraction) = engine.settings.ratio("mem-fraction-static") {
            let reason = "is of a device's whole memory, weights included, and --memory is what is left for the cache";
            let remedy = "leave it out and give --memory";
            return Err(engine.refusal("--mem-fraction-static", fraction.value(), reason, remedy));
        }
        let one_pool = is_compressed && self.is_on("disable-hybrid-swa-memory");
        let reason = "is not modelled for DeepSeek-V4, whose pools need it";
        engine.require(!one_pool, "--disable-hybrid-swa-memory", "it", reason, "leave it out")?;
        let dcp = workload.layout.dcp;
        let reason = "is not modelled: its pools span the tokens of all ranks";
        engine.require(dcp <= 1, "--dcp", dcp, reason, "leave it out")
    }

    /// Whether recurrent layers get a pool of states. A class that SGLang does not know is wrapped as transformers has it,
    /// and sized as if each layer attended.
    pub(super) fn check_states(&mut self) -> Result<(), Error> {
        let first = groups_of(self.model, &[Kind::Recurrent]).next();
        let Some(LayerCache::Recurrent(RecurrentState { mechanism, .. })) = first.map(|group| *group.cache) else {
            return Ok(());
        };
        self.has_states = self.class.is(Trait::State) && has_shape(mechanism);
        if self.has_states {
            return Ok(());
        }
        let name = self.class.name_or(mechanism.name());
        let attends = has(self.model, &[Kind::Full]);
        let reason = "has recurrent layers that SGLang 0.5.23 keeps no states for";
        self.engine.require(attends, "MODEL", name, reason, IDEAL)?;
        self.notes.warn(format!(
            "{name} {reason}: sized as its transformers wrapper is, every layer as full attention; whether it can be \
             served is not known"
        ));
        Ok(())
    }

    pub(super) fn note_latents(&mut self) {
        if self.latent && !self.class.is(Trait::Latent) {
            let class = self.class.name_or("a model of no class that SGLang 0.5.23 is known to have");
            let text = format!("{class} is taken to keep its latents, as MLA classes do");
            self.notes.warn(text);
        }
    }
}

/// Whether SGLang has a shape for the states of a recurrence (`configs/mamba_utils.py`).
fn has_shape(mechanism: M) -> bool {
    match mechanism {
        M::Mamba1 | M::Mamba2 | M::GatedDeltaNet | M::Kda | M::Lightning | M::ShortConvolution | M::Cca => true,
        M::RgLru | M::Rwkv | M::Mlstm => false,
    }
}
