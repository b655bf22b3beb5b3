//! The engines: one file or folder each, with its rules and where they were read in its first lines.
//!
//! An engine is a [`Profile`]: its name, its versions, its settings under the names it gives them, and its rules as functions.
//! Adding one means adding its module and a row of [`PROFILES`].

mod answer;
mod double;
mod ideal;
pub mod llama_cpp;
mod memory;
mod ollama;
mod serve;
mod setting;
pub mod sglang;
pub mod tensorrt_llm;
pub mod transformers;
pub mod vllm;
mod weights;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::estimate::{Layout, Workload};
use crate::model::Model;
use crate::units::{Code, ElementFormat, Error, Tokens, group_thousands};

pub use answer::{Answer, Blocks, Capacity, Gap, RequestLimit};
use answer::{Steps, longest};
pub use double::Double;
pub use memory::{Calibration, Errors, Known, Overhead, OverheadTerm, RESERVE, Rule, Share, Term, usable};
pub use serve::{Served, quoted};
pub use setting::{Setting, SettingValue, Settings, ValueKind, owners, setting_named};
pub use weights::weights_by_stage;

/// The engines: each a module with a `PROFILE`, and the type of the figures that its answers add, if they do.
macro_rules! engines {
    ($($module:ident $($(#[$doc:meta])* $variant:ident($figures:ty))?;)*) => {
        /// Every engine, in the order they are listed.
        pub const PROFILES: &[Profile] = &[$($module::PROFILE),*];

        /// An engine's own figures, under its name in JSON; boxed, since an answer without them is moved as well.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum Details {
            $($($(#[$doc])* $variant(Box<$figures>),)?)*
        }

        /// [`Details`] as optional keys, of which one is there.
        #[cfg(feature = "cli")]
        #[derive(schemars::JsonSchema)]
        #[expect(dead_code, reason = "read by the derive alone")]
        pub(crate) struct DetailsByEngine {
            $($($(#[$doc])* #[schemars(skip_serializing_if = "Option::is_none")] $module: Option<$figures>,)?)*
        }
    };
}

engines! {
    ideal;
    vllm
        /// Figures of vLLM.
        Vllm(vllm::Plan);
    llama_cpp
        /// Figures of llama.cpp.
        LlamaCpp(llama_cpp::Facts);
    ollama
        /// Figures of Ollama, which runs llama.cpp.
        Ollama(llama_cpp::Facts);
    sglang
        /// Figures of SGLang.
        Sglang(sglang::Facts);
    transformers
        /// Figures of transformers.
        Transformers(transformers::Facts);
    tensorrt_llm
        /// Figures of TensorRT-LLM.
        TensorrtLlm(tensorrt_llm::Facts);
}

/// What is known of an engine. What is not its own is that of `Profile::DEFAULT`.
#[derive(Debug)]
pub struct Profile {
    /// Its name, as it is typed.
    pub name: &'static str,
    /// The versions with known rules, the default first; empty for an engine without versions.
    pub versions: &'static [&'static str],
    /// What its figure is.
    pub about: &'static str,
    /// What its rules were replayed against, and how far they agree.
    pub replayed: &'static str,
    /// The heading of its settings in help.
    pub heading: &'static str,
    /// Its settings, under its own names.
    pub settings: &'static [Setting],
    /// The setting for its share of the memory, which decides no pool.
    pub share_setting: Option<&'static str>,
    /// The defaults in force, as `name value` and where they depend on something.
    pub defaults: &'static [(&'static str, &'static str)],
    /// The formats of cached K and V that it takes, by the names of [`units`](crate::units::FORMATS). Empty where it takes all
    /// but other engines' layouts.
    pub formats: &'static [&'static str],
    /// How it takes memory.
    pub allocation: Allocation,
    /// How it spreads a model over devices.
    pub spread: Spread,
    /// The files that its weights are loaded from.
    pub weight_files: WeightFiles,
    /// The note on replicas of a mixture of experts, where its own option for replicas would divide the experts over them.
    pub separate_replicas: Option<&'static str>,
    /// What a workload on a model takes in it.
    pub answer: fn(&Model, &Workload, &Engine) -> Result<Answer, Error>,
    /// What can be worked out once for workloads that differ only in tokens, sequences and memory.
    pub prepare: fn(&Model, &Workload, &Engine) -> Option<AnyLength>,
    /// What its settings fix instead of the workload, for that many sequences.
    pub own_lengths: fn(&Engine, &Model, u64) -> OwnLengths,
    /// The share of a device's memory that it takes by default.
    pub share: fn(&Engine) -> Result<Share, Error>,
    /// What its server's memory holds in addition to weights and cache.
    pub overhead: fn(&Model, &Workload, &Engine) -> Result<Overhead, Error>,
    /// The blocks of a pool.
    pub blocks: fn(&Answer) -> Option<Blocks>,
    /// The most requests of a length that it runs at once, where a setting limits them.
    pub request_limit: LimitOf,
    /// Groups of ranks in one replica that each have requests and a pool (data parallel attention).
    pub pools_per_replica: fn(&Engine, Layout) -> u64,
    /// The command line of a server, if it has one.
    pub serve: fn(&Served) -> Option<String>,
}

impl Profile {
    /// The ideal: no settings, no server, no limits.
    pub(crate) const DEFAULT: Self = Self {
        name: "",
        versions: &[],
        about: "",
        replayed: "",
        heading: "",
        settings: &[],
        share_setting: None,
        defaults: &[],
        formats: &[],
        allocation: Allocation::Workload,
        spread: Spread::Ranks,
        weight_files: WeightFiles::Safetensors,
        separate_replicas: None,
        answer: ideal::answer,
        prepare: |_, _, _| None,
        own_lengths: |_, _, _| OwnLengths { sequences: None, seq_len: None },
        share: |_| Ok(Share::IDEAL),
        overhead: |model, workload, _| {
            let stages = workload.layout.stages(model.num_hidden_layers)?.len();
            Ok(Overhead::uniform(stages, None, "nothing is counted beside weights and cache: there is no server"))
        },
        blocks: |_| None,
        request_limit: |_, _, _, _| Ok(None),
        pools_per_replica: |_, _| 1,
        serve: |_| None,
    };

    /// Whether it takes the format of this name; not every model does.
    pub fn takes(&self, format: &str) -> bool {
        self.formats.contains(&format)
    }
}

/// The limit of requests of a length, of an answer for them.
pub type LimitOf = fn(&Answer, &Model, Tokens, &Engine) -> Result<Option<RequestLimit>, Error>;

/// How an engine takes memory for its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// As much as the workload needs.
    Workload,
    /// All that it is given, as a pool that requests divide.
    Pool,
}

/// How an engine spreads a model over devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// Over the tensor parallel ranks and pipeline stages asked for.
    Ranks,
    /// By whole layers, over the devices that it finds.
    Layers,
    /// Not at all: a device has all of it.
    Whole,
}

/// A device, as an engine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name in the catalogue: `h100-sxm`.
    pub id: Cow<'static, str>,
    /// CUDA's compute capability, major and minor: 9.0 is (9, 0).
    pub compute_capability: (u32, u32),
    /// Memory that the driver reports, in MiB.
    pub memory_mib: u64,
}

impl Default for Device {
    /// H100 SXM 80GB: the device assumed without `--gpu`.
    fn default() -> Self {
        Self { id: "h100-sxm".into(), compute_capability: (9, 0), memory_mib: 81_559 }
    }
}

/// The files that an engine loads weights from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightFiles {
    /// It loads none: the ideal.
    Any,
    /// Safetensors checkpoints.
    Safetensors,
    /// GGUF files.
    Gguf,
}

/// An engine at a version, with its settings.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Which one.
    pub profile: &'static Profile,
    /// One of its versions; empty where it has none.
    pub version: &'static str,
    /// The settings that were given.
    pub settings: Settings,
    /// The device that its defaults depend on.
    pub device: Device,
}

/// What was worked out for a model in an engine, whatever the tokens, sequences and memory ([`Engine::prepare`]).
pub struct Prepared(Option<AnyLength>);

/// The answers for workloads of any length, from what an engine works out once for a model.
pub type AnyLength = Box<dyn Fn(&Model, &Workload, &Engine) -> Result<Answer, Error>>;

/// What an engine's settings fix instead of a workload, with the name of the setting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnLengths {
    /// Sequences.
    pub sequences: Option<(&'static str, u64)>,
    /// Tokens of each.
    pub seq_len: Option<(&'static str, Tokens)>,
}

impl Engine {
    /// The live bytes: no blocks, no padding, no reserve.
    pub fn ideal() -> Self {
        Self::new(&ideal::PROFILE)
    }

    /// The engine at its default version, with nothing set.
    pub fn new(profile: &'static Profile) -> Self {
        let version = profile.versions.first().copied().unwrap_or_default();
        Self { profile, version, settings: Settings::default(), device: Device::default() }
    }

    /// The setting of this name, if the engine has it.
    pub fn setting(&self, name: &str) -> Option<&'static Setting> {
        self.profile.settings.iter().find(|setting| setting.name == name)
    }

    /// What its settings fix instead of the workload: of `batch` sequences, unless a setting says how many.
    pub fn own_lengths(&self, model: &Model, batch: u64) -> OwnLengths {
        (self.profile.own_lengths)(self, model, batch)
    }

    /// Whether its figure is the ideal one.
    pub fn is_ideal(&self) -> bool {
        self.profile.name == ideal::PROFILE.name
    }

    /// What `workload` on `model` takes in this engine. Its assumptions and warnings start with the engine's name.
    ///
    /// # Errors
    /// [`Error`] as [`crate::estimate::estimate`], or what the engine refuses.
    pub fn answer(&self, model: &Model, workload: &Workload) -> Result<Answer, Error> {
        Ok(self.noted((self.profile.answer)(model, workload, self)?, workload))
    }

    /// What can be worked out once for many workloads that differ from `workload` only in tokens, sequences and memory.
    pub fn prepare(&self, model: &Model, workload: &Workload) -> Prepared {
        Prepared((self.profile.prepare)(model, workload, self))
    }

    /// The same as [`Engine::answer`], of what was [prepared](Engine::prepare) for this model and such a workload.
    ///
    /// # Errors
    /// [`Error`] as [`Engine::answer`].
    pub fn answer_prepared(&self, prepared: &Prepared, model: &Model, workload: &Workload) -> Result<Answer, Error> {
        match &prepared.0 {
            Some(any_length) => Ok(self.noted(any_length(model, workload, self)?, workload)),
            None => self.answer(model, workload),
        }
    }

    /// The share of a device's memory that it takes by default.
    ///
    /// # Errors
    /// [`Code::UnknownEngine`] for a version without known rules.
    pub fn share(&self) -> Result<Share, Error> {
        (self.profile.share)(self)
    }

    /// Takes out the setting for its share of the memory, if it was given.
    pub fn take_share(&mut self) -> Option<Double> {
        let SettingValue::Ratio(share) = self.settings.take(self.profile.share_setting?)? else { return None };
        Some(share)
    }

    /// What its server's memory holds in addition to weights and cache of `model`, for requests of the workload's length.
    ///
    /// # Errors
    /// [`Code::TooManyStages`], or [`Code::Refused`] where it is unknown and must be given.
    pub fn overhead(&self, model: &Model, workload: &Workload) -> Result<Overhead, Error> {
        (self.profile.overhead)(model, workload, self)
    }

    /// The note on replicas of a mixture of experts, which are servers of their own.
    pub fn separate_replicas(&self, model: &Model, layout: Layout) -> Option<&'static str> {
        self.profile.separate_replicas.filter(|_| layout.dp > 1 && model.checkpoint.widths.experts.is_some())
    }

    /// An answer with a warning of what does not fit, and with the engine's name before its notes.
    fn noted(&self, mut answer: Answer, workload: &Workload) -> Answer {
        if let Some(Capacity { memory, max_seq_len, .. }) = answer.capacity
            && max_seq_len < workload.seq_len.0
        {
            let [asked, memory, longest] = [workload.seq_len.0, memory, max_seq_len].map(group_thousands);
            let stored = answer.estimate.stored;
            let text = format!(
                "{asked} tokens in {stored} do not fit in {memory} bytes: {longest} is the longest request that does"
            );
            answer.warnings.push(text);
        }
        for text in answer.assumptions.iter_mut().chain(&mut answer.warnings) {
            *text = format!("{}: {text}", self.profile.name);
        }
        answer
    }

    /// What the engine says no to, with its reason.
    pub(crate) fn refusal(
        &self,
        field: impl Into<String>,
        found: impl fmt::Display,
        reason: impl Into<String>,
        remedy: &'static str,
    ) -> Error {
        let (engine, found, reason) = (self.profile.name, found.to_string(), reason.into());
        Error::new(Code::Refused, field, found, format!("{reason} ({engine})"), remedy)
    }

    /// An overhead that is unknown and must be given.
    fn unknown_overhead(&self, reason: &str) -> Error {
        let problem = format!("unknown: {reason} ({})", self.profile.name);
        Error::without_value(Code::Refused, "--overhead", problem, "give it, as --overhead 8GiB")
    }

    /// Refuses unless the condition holds.
    pub(crate) fn require(
        &self,
        condition: bool,
        field: &'static str,
        found: impl fmt::Display,
        reason: impl fmt::Display,
        remedy: &'static str,
    ) -> Result<(), Error> {
        if condition { Ok(()) } else { Err(self.refusal(field, found, reason.to_string(), remedy)) }
    }
}

/// Whether a format is one of these, by its name.
fn is_one_of(format: ElementFormat, names: &[&str]) -> bool {
    format.name().is_some_and(|name| names.contains(&name))
}

impl PartialEq for Engine {
    fn eq(&self, other: &Self) -> bool {
        (self.profile.name, self.version, &self.settings) == (other.profile.name, other.version, &other.settings)
    }
}

impl fmt::Display for Engine {
    /// `vllm@0.33`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            "" => f.pad(self.profile.name),
            version => f.pad(&format!("{}@{version}", self.profile.name)),
        }
    }
}

impl FromStr for Engine {
    type Err = Error;

    /// Reads an engine's name, and its version after `@`: `vllm`, `vllm@0.33` or `vllm@0.33.0`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, wanted) = text.split_once('@').map_or((text, None), |(name, version)| (name, Some(version)));
        let unknown = |problem: String, known: Vec<String>| {
            let remedy = format!("use {}{}", if known.len() > 1 { "one of " } else { "" }, known.join(", "));
            Error::new(Code::UnknownEngine, "", text, problem, remedy)
        };
        let Some(profile) = PROFILES.iter().find(|profile| profile.name == name) else {
            let names = PROFILES.iter().map(|profile| profile.name.to_owned()).collect();
            return Err(unknown("is not a known engine".into(), names));
        };
        let engine = Self::new(profile);
        let Some(wanted) = wanted else { return Ok(engine) };
        let same = |known: &&&str| wanted == **known || wanted.strip_suffix(".0") == Some(**known);
        if let Some(version) = profile.versions.iter().find(same) {
            return Ok(Self { version, ..engine });
        }
        let versions: Vec<String> = profile.versions.iter().map(|version| format!("{name}@{version}")).collect();
        Err(match versions.as_slice() {
            [] => unknown(format!("names a version, and {name} has none here"), vec![name.into()]),
            _ => unknown(format!("is not a known version of {name}"), versions),
        })
    }
}
