//! What an option is: a row for the command line, for JSON and for the library.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::fields::FIELDS;
use super::{Ask, nearest};
use crate::engine::{Setting, ValueKind, setting_named};
use crate::estimate::Workload;
use crate::units::{Code, Error};

/// An option of a question.
#[derive(Debug)]
pub struct Field {
    /// Its name on the command line, without the dashes: `seq-len`. The key of JSON has underscores.
    pub name: &'static str,
    /// Its letter on the command line.
    pub short: Option<char>,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// What it is about; commands and objects take whole groups.
    pub group: Group,
    /// How its value is written.
    pub kind: Kind,
    /// Whether several values may stand in it, with commas between them.
    pub is_list: bool,
    /// What stands for the value in help.
    pub value_name: &'static str,
    /// Whether the short help leaves it out.
    pub is_rare: bool,
    /// Puts a number into a workload, if engines take it as it comes: what they work out beforehand does not depend on it. A
    /// whole number above 0 is read as itself.
    pub(super) varies: Option<fn(&mut Workload, u64)>,
    set: Set,
}

/// What options are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// A model by name.
    Model,
    /// A model from dimensions.
    Dimensions,
    /// Lengths, batches, formats, engines and layouts.
    Workload,
    /// Memory for the cache, and the device of an estimate.
    Device,
    /// The terms of a GPU's memory.
    Terms,
    /// The length of the average request.
    Average,
    /// GPUs and their prices.
    Gpus,
    /// What a plan may use.
    Plan,
    /// What a check of one workload asserts.
    Check,
    /// What a budget of a file asserts.
    Budget,
    /// Accelerators of one's own.
    Accelerators,
    /// Where models are looked for, and how strictly.
    Sources,
}

/// How the value of an option is written in JSON, and what a command line takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Number,
    /// A number, or a text with a unit: tokens, bytes.
    Size,
    /// A text.
    Text,
    /// A text, or a list of texts.
    Texts,
    /// A model: a text, or an object.
    Model,
    /// One of these words, `main|other name`.
    Words(&'static [&'static str]),
    /// True or false.
    Switch,
}

/// What a name sets.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key {
    /// An option.
    Field(&'static Field),
    /// A setting of an engine; by its inverse name, `true` switches it off.
    Setting { setting: &'static Setting, inverse: bool },
}

type Set = for<'a> fn(&mut Ask<'a>, Cow<'a, str>) -> Result<(), Error>;

impl Field {
    pub(super) const fn new(name: &'static str, group: Group, kind: Kind, value_name: &'static str, set: Set) -> Self {
        let (short, aliases, varies) = (None, &[] as &[&str], None);
        Self { name, short, aliases, group, kind, is_list: false, value_name, is_rare: false, varies, set }
    }

    pub(super) const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    pub(super) const fn or(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    pub(super) const fn list(self) -> Self {
        Self { is_list: true, ..self }
    }

    pub(super) const fn varies(self, vary: fn(&mut Workload, u64)) -> Self {
        Self { varies: Some(vary), ..self }
    }

    pub(super) const fn rare(self) -> Self {
        Self { is_rare: true, ..self }
    }

    /// Reads a text into what was said; a list has commas.
    ///
    /// # Errors
    /// What the value's reader says, without the field.
    pub fn read<'a>(&self, ask: &mut Ask<'a>, text: Cow<'a, str>) -> Result<(), Error> {
        if self.is_list && self.kind == Kind::Size {
            refuse_thousands(&text)?;
        }
        match text {
            text if matches!(self.kind, Kind::Words(_)) => (self.set)(ask, self.word(&text)?.into()),
            Cow::Borrowed(text) if self.is_list => text.split(',').try_for_each(|part| (self.set)(ask, part.into())),
            Cow::Owned(text) if self.is_list => {
                text.split(',').try_for_each(|part| (self.set)(ask, part.to_owned().into()))
            }
            text => (self.set)(ask, text),
        }
    }

    /// The main name of a word.
    fn word(&self, text: &str) -> Result<&'static str, Error> {
        let words = if let Kind::Words(words) = self.kind { words } else { &[] };
        let named = |word: &&&str| word.split('|').any(|name| name == text);
        if let Some(word) = words.iter().find(named) {
            return Ok(word.split('|').next().unwrap_or(word));
        }
        let all = self.words().collect::<Vec<_>>().join(", ");
        let remedy = match nearest(text, self.words()) {
            Some(nearest) => format!("nearest: {nearest}; use one of {all}"),
            None => format!("use one of {all}"),
        };
        Err(Error::new(Code::InvalidValue, "", text, "is not one of its values", remedy))
    }

    /// Its words, by their main names; none but for [`Kind::Words`].
    pub fn words(&self) -> impl Iterator<Item = &'static str> {
        let words = if let Kind::Words(words) = self.kind { words } else { &[] };
        words.iter().filter_map(|word| word.split('|').next())
    }

    /// What it does, in a line, and more of it for the long help, if there is more.
    pub fn about(&self) -> (&'static str, Option<&'static str>) {
        let mut lines = include_str!("fields.txt").lines();
        let about = lines.find_map(|line| line.strip_prefix(self.name)?.strip_prefix(": ")).unwrap_or_default();
        (about, lines.next().and_then(|line| line.strip_prefix("  ")))
    }

    /// Its key in JSON.
    pub fn key(&self) -> String {
        key_of(self.name)
    }
}

/// Some of the options: whole groups, without single ones.
#[derive(Debug, Clone, Copy)]
pub struct Selection {
    /// The groups.
    pub groups: &'static [Group],
    /// The names of options that are left out, with spaces between.
    pub without: &'static str,
}

impl Selection {
    /// The options, group by group.
    pub fn fields(self) -> impl Iterator<Item = &'static Field> {
        let of_group = |group: &'static Group| FIELDS.iter().filter(move |field| field.group == *group);
        self.groups.iter().flat_map(of_group).filter(move |field| self.without.split(' ').all(|own| own != field.name))
    }
}

/// What a line of a batch may say.
pub const LINE: Selection = Selection {
    groups: &[Group::Model, Group::Dimensions, Group::Workload, Group::Device, Group::Accelerators],
    without: "",
};

/// What a budget of a file may say.
pub const BUDGET: Selection = Selection {
    groups: &[
        Group::Model,
        Group::Dimensions,
        Group::Workload,
        Group::Device,
        Group::Terms,
        Group::Gpus,
        Group::Accelerators,
        Group::Check,
        Group::Budget,
    ],
    without: "name memory price prices budget budget-per-gpu",
};

/// The key of an option in JSON.
pub fn key_of(option: &str) -> String {
    option.replace('-', "_")
}

/// The option or the setting of a name, as JSON has it.
pub(super) fn find(name: &str) -> Result<Key, Error> {
    let named = |field: &&Field| field.key() == name || field.aliases.iter().any(|alias| key_of(alias) == name);
    if let Some(field) = FIELDS.iter().find(named) {
        return Ok(Key::Field(field));
    }
    let option = name.replace('_', "-");
    if let Some(setting) = setting_named(&option).or_else(|| setting_named(&format!("enable-{option}"))) {
        let inverse = matches!(setting.kind, ValueKind::Switch { off } if off == option);
        return Ok(Key::Setting { setting, inverse });
    }
    let remedy = match nearest(name, FIELDS.iter().map(|field| field.name)) {
        Some(known) => format!("did you mean {}?", key_of(known)),
        None => "`kvsize --help` lists the options".into(),
    };
    Err(Error::without_value(Code::UnknownKey, name, "is not an option", remedy))
}

/// Refuses what is a list of sizes as well as one number with its thousands apart: `32,768`.
fn refuse_thousands(text: &str) -> Result<(), Error> {
    let is_number = |part: &str, length: RangeInclusive<usize>| {
        length.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut parts = text.split(',');
    let starts = parts.next().is_some_and(|first| is_number(first, 1..=3));
    if !text.contains(',') || !starts || !parts.all(|part| is_number(part, 3..=3)) {
        return Ok(());
    }
    let remedy = format!("write {}, or the values of a list one by one", text.replace(',', ""));
    Err(Error::new(Code::NotANumber, "", text, "is a list, or one number with its thousands apart", remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_with_its_thousands_apart_is_no_list() {
        for text in ["32,768", "1,000", "131,072", "1,048,576"] {
            assert_eq!(refuse_thousands(text).unwrap_err().code, Code::NotANumber, "{text}");
        }
        for text in ["", "8", "32768", "1000,10000", "8k,128", "1,2", "1,20", "1..4,100", ",100", "1000,100"] {
            assert!(refuse_thousands(text).is_ok(), "{text}");
        }
    }
}
