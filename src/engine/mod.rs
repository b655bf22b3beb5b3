//! What each engine makes of an estimate: one file an engine, its rules and where they were read in its first lines.
//!
//! An engine is a [`Profile`]: its name, its versions, its settings under the names it gives them, and one function. Adding
//! one means adding a file and a line to [`PROFILES`].

mod answer;
mod device;
mod double;
mod ideal;
pub mod llama_cpp;
mod ollama;
mod setting;
pub mod sglang;
pub mod tensorrt_llm;
pub mod transformers;
pub mod vllm;

use std::fmt;
use std::str::FromStr;

use crate::estimate::Workload;
use crate::model::Model;
use crate::units::{Code, Diagnose, Error, Tokens, display_diagnosis, group_thousands};

#[cfg(feature = "cli")]
pub(crate) use answer::DetailsByEngine;
use answer::longest;
pub use answer::{Answer, Capacity, Details, Gap};
pub use device::Device;
pub use double::Double;
pub use setting::{Setting, SettingError, SettingValue, Settings, ValueKind, owners, setting_named};

/// Every engine, in the order they are listed.
pub const PROFILES: &[Profile] = &[
    ideal::PROFILE,
    vllm::PROFILE,
    llama_cpp::PROFILE,
    ollama::PROFILE,
    sglang::PROFILE,
    transformers::PROFILE,
    tensorrt_llm::PROFILE,
];

/// What is known of an engine.
#[derive(Debug)]
pub struct Profile {
    /// Its name, as it is typed.
    pub name: &'static str,
    /// The versions whose rules are known, the default first; empty where there is no such thing as a version.
    pub versions: &'static [&'static str],
    /// What its figure is.
    pub about: &'static str,
    /// What its rules were replayed against, and how far they agree.
    pub replayed: &'static str,
    /// The heading of its settings in help.
    pub heading: &'static str,
    /// Its settings, under its own names.
    pub settings: &'static [Setting],
    /// The defaults in force, as `name value` and where they depend on something.
    pub defaults: &'static [(&'static str, &'static str)],
    /// The formats of cached K and V that it takes, by the names of [`units`](crate::units::FORMATS); what it refuses by.
    /// Empty where it takes all but other engines' layouts.
    pub formats: &'static [&'static str],
    /// How it takes memory.
    pub allocation: Allocation,
    /// How it spreads a model over devices.
    pub spread: Spread,
    /// What a workload on a model takes in it.
    pub answer: fn(&Model, &Workload, &Engine) -> Result<Answer, Error>,
}

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
    /// Over tensor parallel ranks and pipeline stages, as it is told.
    Ranks,
    /// By whole layers over the devices that it finds.
    Layers,
    /// Not at all: a device has all of it.
    Whole,
}

impl Profile {
    /// Whether the format of this name is one of its own; not every model takes it.
    pub fn takes(&self, format: &str) -> bool {
        self.formats.contains(&format)
    }
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
#[derive(Debug)]
pub struct Prepared(Option<vllm::Shape>);

/// What an engine's settings fix in place of a workload's own, with the name of the setting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnLengths {
    /// Sequences.
    pub sequences: Option<(&'static str, u64)>,
    /// Tokens of each.
    pub seq_len: Option<(&'static str, Tokens)>,
}

/// A name that is no engine here, or a version of one that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownEngine(pub String);

impl Engine {
    /// The live bytes: no blocks, no padding, no reserve.
    pub fn ideal() -> Self {
        Self::of(&ideal::PROFILE)
    }

    /// The engine at its default version, with nothing set.
    pub fn of(profile: &'static Profile) -> Self {
        let version = profile.versions.first().copied().unwrap_or_default();
        Self { profile, version, settings: Settings::default(), device: Device::default() }
    }

    /// The setting of this name, if the engine has it.
    pub fn setting(&self, name: &str) -> Option<&'static Setting> {
        self.profile.settings.iter().find(|setting| setting.name == name)
    }

    /// What settings of its own fix in place of the workload's: of `batch` sequences, unless a setting says how many.
    pub fn own_lengths(&self, model: &Model, batch: u64) -> OwnLengths {
        match self.profile.name {
            name if name == llama_cpp::PROFILE.name => llama_cpp::own_lengths(self, model, batch),
            name if name == ollama::PROFILE.name => ollama::own_lengths(self),
            _ => OwnLengths::default(),
        }
    }

    /// Whether its figure is the ideal one.
    pub fn is_ideal(&self) -> bool {
        self.profile.name == ideal::PROFILE.name
    }

    /// What `workload` on `model` takes in this engine. What is assumed or warned of names it.
    ///
    /// # Errors
    /// [`Error`] as [`crate::estimate::estimate`], or what the engine refuses.
    pub fn answer(&self, model: &Model, workload: &Workload) -> Result<Answer, Error> {
        Ok(self.told((self.profile.answer)(model, workload, self)?, workload))
    }

    /// What can be worked out once for many workloads that differ from `workload` only in tokens, sequences and memory.
    pub fn prepare(&self, model: &Model, workload: &Workload) -> Prepared {
        let is_vllm = self.profile.name == vllm::PROFILE.name;
        Prepared(is_vllm.then(|| vllm::Shape::of_any_length(model, workload, self)).flatten())
    }

    /// The same as [`Engine::answer`], of what was [prepared](Engine::prepare) for this model and such a workload.
    ///
    /// # Errors
    /// [`Error`] as [`Engine::answer`].
    pub fn answer_prepared(&self, prepared: &Prepared, model: &Model, workload: &Workload) -> Result<Answer, Error> {
        match &prepared.0 {
            Some(shape) => Ok(self.told(shape.answer(model, workload, self)?, workload)),
            None => self.answer(model, workload),
        }
    }

    /// An answer with what does not fit, and with the engine's name before its words.
    fn told(&self, mut answer: Answer, workload: &Workload) -> Answer {
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
        field: &'static str,
        found: impl fmt::Display,
        reason: impl Into<String>,
        remedy: &'static str,
    ) -> Error {
        let (engine, found, reason) = (self.profile.name, found.to_string(), reason.into());
        Error::new(Code::Refused, field, found, format!("{reason} ({engine})"), remedy)
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
    type Err = UnknownEngine;

    /// Reads an engine's name, and its version after `@`: `vllm`, `vllm@0.33` or `vllm@0.33.0`.
    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        let (name, wanted) = text.split_once('@').map_or((text, None), |(name, version)| (name, Some(version)));
        let unknown = || UnknownEngine(text.to_owned());
        let profile = PROFILES.iter().find(|profile| profile.name == name).ok_or_else(unknown)?;
        let engine = Self::of(profile);
        let Some(wanted) = wanted else { return Ok(engine) };
        let same = |known: &&&str| wanted == **known || wanted.strip_suffix(".0") == Some(**known);
        let version = profile.versions.iter().find(same).ok_or_else(unknown)?;
        Ok(Self { version, ..engine })
    }
}

impl Diagnose for UnknownEngine {
    fn diagnosis(&self) -> Error {
        let names = PROFILES.iter().flat_map(|profile| {
            let versioned = profile.versions.iter().map(|version| format!("{}@{version}", profile.name));
            [profile.name.to_owned()].into_iter().filter(|_| profile.versions.is_empty()).chain(versioned)
        });
        Error {
            code: Code::UnknownEngine,
            field: String::new(),
            found: Some(self.0.clone()),
            problem: "is not an engine known here".into(),
            remedy: format!("use one of {}", names.collect::<Vec<_>>().join(", ")),
        }
    }
}

display_diagnosis!(UnknownEngine);
