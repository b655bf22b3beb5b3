//! An engine's settings: declared once, under the engine's own names, for the command line, for JSON and for lists.

use std::fmt;

use super::{Double, Engine, PROFILES};
use crate::units::{Code, Error, parse_count};

/// A setting of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its name, as the engine's own command line has it, without the dashes: `block-size`.
    pub name: &'static str,
    /// Another name it is read under, without the dashes; empty if it has none.
    pub alias: &'static str,
    /// What its value may be.
    pub kind: ValueKind,
    /// What it does, in a line.
    pub about: &'static str,
    /// What to do instead where hardware is asked about, which then decides what this setting fixes.
    pub with_hardware: Option<&'static str>,
}

/// Declares settings, a row each: the name, the kind of the value, what it does, and the other fields of a [`Setting`] that
/// it has. The other name of a switch is its name after `no-`.
macro_rules! settings {
    (@kind $name:literal Switch) => { $crate::engine::ValueKind::Switch { off: concat!("no-", $name) } };
    (@kind $name:literal $kind:ident $($words:tt)?) => { $crate::engine::ValueKind::$kind $($words)? };
    ($($name:literal $kind:ident $(($words:expr))? $about:literal $(, $field:ident: $value:expr)*;)*) => {
        &[$($crate::engine::Setting {
            $($field: $value,)*
            ..$crate::engine::Setting::new($name, settings!(@kind $name $kind $(($words))?), $about)
        }),*]
    };
}
pub(super) use settings;

impl Setting {
    /// A setting with one name.
    pub(super) const fn new(name: &'static str, kind: ValueKind, about: &'static str) -> Self {
        Self { name, alias: "", kind, about, with_hardware: None }
    }

    /// The error of a setting that `engine` does not have.
    pub fn of_other_engine(&self, engine: &Engine) -> Error {
        let owners = owners(self.name);
        let remedy = match (self.name, owners.as_slice()) {
            ("ctx-size" | "num-ctx" | "context-length", [owner, ..]) => {
                format!("the context length is -s; --{} needs --engine {owner}", self.name)
            }
            ("batch-size", _) => "the number of sequences is --batch; n_batch needs --engine llama.cpp".into(),
            (_, [owner]) => format!("add --engine {owner}, or leave it out"),
            _ => format!("add --engine with one of these, or leave it out: {}", owners.join(", ")),
        };
        let problem = format!("applies to {}, not to {}", owners.join(" and "), engine.profile.name);
        Error::without_value(Code::OtherEngine, format!("--{}", self.name), problem, remedy)
    }

    /// Reads a value from a text.
    ///
    /// # Errors
    /// [`Code::InvalidValue`].
    pub fn read(&self, text: &str) -> Result<SettingValue, Error> {
        self.kind.read(text).ok_or_else(|| {
            let remedy = format!("give {}", self.kind.expected());
            Error::new(Code::InvalidValue, format!("--{}", self.name), text, "is not a value of this setting", remedy)
        })
    }
}

/// What the value of a setting may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// On or off: the name switches it on, the other name off.
    Switch {
        /// The other name, without the dashes: `no-async-scheduling`.
        off: &'static str,
    },
    /// A whole number of 1 or more.
    Count,
    /// A whole number, 0 included.
    CountOrZero,
    /// A decimal number above 0.
    Ratio,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// The value of a setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SettingValue {
    /// Of a switch.
    Switch(bool),
    /// Of a count.
    Count(u64),
    /// Of a ratio.
    Ratio(Double),
    /// Of a choice.
    Choice(&'static str),
}

impl fmt::Display for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(on) => f.pad(if *on { "on" } else { "off" }),
            Self::Count(count) => count.fmt(f),
            Self::Ratio(ratio) => ratio.value().fmt(f),
            Self::Choice(word) => f.pad(word),
        }
    }
}

/// The settings that were given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings(Vec<(&'static str, SettingValue)>);

impl Settings {
    /// Sets `name`, whatever it was set to before.
    pub fn set(&mut self, name: &'static str, value: SettingValue) {
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value));
    }

    /// Takes a setting out, if it was given.
    pub fn take(&mut self, name: &str) -> Option<SettingValue> {
        let index = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(index).1)
    }

    /// The value of a setting, if it was given.
    pub fn get(&self, name: &str) -> Option<SettingValue> {
        debug_assert!(!owners(name).is_empty(), "no engine has a setting {name}");
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// All that were given.
    pub fn iter(&self) -> impl Iterator<Item = &(&'static str, SettingValue)> {
        self.0.iter()
    }

    /// A switch, if it was given.
    pub fn switch(&self, name: &str) -> Option<bool> {
        let SettingValue::Switch(on) = self.get(name)? else { return None };
        Some(on)
    }

    /// A number, if it was given.
    pub fn count(&self, name: &str) -> Option<u64> {
        let SettingValue::Count(count) = self.get(name)? else { return None };
        Some(count)
    }

    /// A ratio, if it was given.
    pub fn ratio(&self, name: &str) -> Option<Double> {
        let SettingValue::Ratio(ratio) = self.get(name)? else { return None };
        Some(ratio)
    }

    /// A word, if it was given.
    pub fn choice(&self, name: &str) -> Option<&'static str> {
        let SettingValue::Choice(word) = self.get(name)? else { return None };
        Some(word)
    }
}

impl ValueKind {
    fn read(self, text: &str) -> Option<SettingValue> {
        match self {
            Self::Switch { .. } => text.parse().ok().map(SettingValue::Switch),
            Self::CountOrZero if text == "0" => Some(SettingValue::Count(0)),
            Self::Count | Self::CountOrZero => parse_count(text).ok().map(SettingValue::Count),
            Self::Ratio => {
                let plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
                let ratio = Double::parse(text).filter(|ratio| plain && *ratio > Double::whole(0));
                ratio.map(SettingValue::Ratio)
            }
            Self::Choice(words) => {
                words.iter().find(|word| word.eq_ignore_ascii_case(text)).map(|word| SettingValue::Choice(word))
            }
        }
    }

    /// The values that it takes, in words.
    fn expected(self) -> String {
        match self {
            Self::Switch { .. } => "true or false".into(),
            Self::Count => "a whole number of 1 or more".into(),
            Self::CountOrZero => "a whole number of 0 or more".into(),
            Self::Ratio => "a decimal number above 0".into(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
        }
    }
}

/// A setting of any engine by one of its names.
pub fn setting_named(name: &str) -> Option<&'static Setting> {
    let is_named = |setting: &&Setting| {
        let off = if let ValueKind::Switch { off } = setting.kind { off } else { "" };
        !name.is_empty() && [setting.name, setting.alias, off].contains(&name)
    };
    PROFILES.iter().flat_map(|profile| profile.settings).find(is_named)
}

/// The engines that have a setting of this name.
pub fn owners(name: &str) -> Vec<&'static str> {
    let has = |settings: &[Setting]| settings.iter().any(|setting| setting.name == name);
    PROFILES.iter().filter(|profile| has(profile.settings)).map(|profile| profile.name).collect()
}
