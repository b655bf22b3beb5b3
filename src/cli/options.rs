//! Options on the command line: every one from the rows of [`FIELDS`](crate::request::FIELDS) and from the engines' own tables of
//! settings, none known here by name.

use clap::builder::{PossibleValue, PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::arguments::is_piped_in;
use super::usage;
use crate::engine::{PROFILES, Setting, SettingValue, ValueKind, setting_named};
use crate::request::{Ask, Field, Group, Kind, Selection};
use crate::units::Error;

/// The options of a command.
pub(super) struct Options {
    pub(super) selection: Selection,
    /// How many models may be named.
    pub(super) models: Models,
    /// Options that take a list here, though not elsewhere.
    pub(super) lists: &'static [&'static str],
    /// Help that differs here, a line an option: `seq-len: Context length in tokens`.
    pub(super) about: &'static str,
    /// The names of what the short help shows, with spaces between; nothing: what the rows say.
    pub(super) brief: &'static str,
}

/// How many models a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Models {
    One,
    Several,
}

/// After all that is shown in the order of its definition.
const LAST: usize = 999;

impl Options {
    /// The command with an option for each row; only for those that are `named`, where that is given.
    pub(super) fn options(&self, command: Command, named: Option<&Named>) -> Command {
        let fields = self.selection.fields().filter(|field| named.is_none_or(|named| named.has_field(field)));
        fields.fold(command, |command, field| command.arg(self.arg(field)))
    }

    /// The command with an option for each setting, under the first engine that has it; only for those that are `named`, where
    /// that is given. What takes no engine has none.
    pub(super) fn settings(&self, command: Command, named: Option<&Named>) -> Command {
        let is_wanted = |setting: &Setting| named.is_none_or(|named| named.settings.contains(&setting.name));
        if self.selection.fields().any(|field| field.name == "engine") { settings(command, is_wanted) } else { command }
    }

    fn arg(&self, field: &'static Field) -> Arg {
        let about = self.about.lines().find_map(|line| line.strip_prefix(field.name)?.strip_prefix(": "));
        let (usual, more) = field.about();
        let arg = Arg::new(field.name).help(about.unwrap_or(usual));
        let is_rare =
            if self.brief.is_empty() { field.is_rare } else { self.brief.split(' ').all(|name| name != field.name) };
        let arg = arg.help_heading(heading(field.group)).hide_short_help(is_rare);
        // Below the command's own options of the same heading.
        let arg = if field.group == Group::Sources { arg.display_order(LAST) } else { arg };
        let arg = match (about, more) {
            (None, Some(more)) => arg.long_help(format!("{usual}\n\n{more}")),
            _ => arg,
        };
        if field.kind == Kind::Switch {
            return arg.long(field.name).action(ArgAction::SetTrue);
        }
        let arg = match (field.name, about) {
            ("gpu", Some(_)) => arg.value_name("[Nx]GPU"),
            _ => arg.value_name(field.value_name),
        };
        if field.group == Group::Model {
            return match self.models {
                Models::One => arg.action(ArgAction::Set),
                Models::Several => arg.action(ArgAction::Append).num_args(0..),
            };
        }
        let is_list = field.is_list || self.lists.contains(&field.name);
        let arg = arg.long(field.name).action(if is_list { ArgAction::Append } else { ArgAction::Set });
        // A name of one letter is a short one.
        let (letters, names): (Vec<&str>, Vec<&str>) = field.aliases.iter().partition(|name| name.len() == 1);
        let arg = arg.short(field.short).visible_aliases(names);
        let arg = arg.visible_short_aliases(letters.iter().flat_map(|letter| letter.chars()).collect::<Vec<_>>());
        match field.kind {
            Kind::Words(words) => arg.value_parser(words_parser(words)).hide_possible_values(true),
            Kind::Number | Kind::Size => arg.allow_hyphen_values(true),
            Kind::Text if field.name == "gpu" => arg.allow_hyphen_values(about.is_some()),
            _ => arg.allow_hyphen_values(["PRICE", "PERCENT", "NxTOKENS"].contains(&field.value_name)),
        }
    }

    /// What was typed.
    ///
    /// # Errors
    /// A value that its option does not take.
    pub(super) fn ask<'m>(&self, matches: &'m ArgMatches) -> Result<Ask<'m>, Error> {
        let mut ask = Ask::default();
        for (_, field, value) in self.typed(matches) {
            let mut read = |text: &'m str| {
                field.read(&mut ask, text.into()).map_err(|error| match field.group {
                    Group::Model => error.at("MODEL"),
                    _ => error.at(format!("--{}", field.name)),
                })
            };
            if self.lists.contains(&field.name) { value.split(',').try_for_each(read) } else { read(value) }?;
        }
        // A model that is piped in needs no `-`.
        let has_model = !ask.models.is_empty() || !ask.dimensions.is_empty() || ask.dimensions.name.is_some();
        if !has_model && self.selection.fields().any(|field| field.group == Group::Model) && is_piped_in() {
            ask.models.push(crate::request::Named::Name("-".into()));
        }
        // One that several engines have is met once for each, which changes nothing.
        for setting in PROFILES.iter().flat_map(|profile| profile.settings) {
            if let Some(value) = given(setting, matches)? {
                ask.settings.push((setting, value));
            }
        }
        Ok(ask)
    }

    /// The values in the order they were typed, so that an error is about the first mistake.
    fn typed<'m>(&self, matches: &'m ArgMatches) -> Vec<(usize, &'static Field, &'m str)> {
        let mut typed = Vec::new();
        for field in self.selection.fields() {
            // What is not defined is unknown to a debug build, and not there in a release.
            if !matches.try_contains_id(field.name).unwrap_or_default() {
                continue;
            }
            let indices = matches.indices_of(field.name).into_iter().flatten();
            if field.kind != Kind::Switch {
                let values = matches.get_many::<String>(field.name).into_iter().flatten();
                typed.extend(indices.zip(values).map(|(index, value)| (index, field, value.as_str())));
            } else if matches.get_flag(field.name) {
                typed.extend(indices.map(|index| (index, field, "true")));
            }
        }
        typed.sort_by_key(|(index, ..)| *index);
        typed
    }
}

/// The words of an option; those after the first name of each are other names, which help does not show.
fn words_parser(words: &'static [&'static str]) -> ValueParser {
    let names = words.iter().flat_map(|word| word.split('|').enumerate());
    PossibleValuesParser::new(names.map(|(index, name)| PossibleValue::new(name).hide(index > 0))).into()
}

fn heading(group: Group) -> Option<&'static str> {
    Some(match group {
        // Arguments have one of their own.
        Group::Model => return None,
        Group::Dimensions => "A model from flags",
        Group::Workload => "Workload",
        Group::Device => "Device",
        Group::Terms | Group::Average => "Memory",
        Group::Gpus | Group::Plan | Group::Accelerators => "Hardware",
        Group::Check | Group::Budget => "Budget",
        Group::Sources => "Output",
    })
}

/// What arguments may name.
pub(super) struct Named {
    options: Vec<String>,
    letters: String,
    settings: Vec<&'static str>,
}

impl Named {
    /// What those of the process may name; there may be more, which are values.
    pub(super) fn of_arguments() -> Self {
        let mut named = Self { options: Vec::new(), letters: String::new(), settings: Vec::new() };
        for argument in std::env::args_os().skip(1) {
            let argument = argument.to_string_lossy();
            named.letters.push_str(usage::letters(&argument).unwrap_or_default());
            let Some(long) = argument.strip_prefix("--") else { continue };
            let name = long.split('=').next().unwrap_or_default();
            named.settings.extend(setting_named(name).map(|setting| setting.name));
            named.options.push(name.to_owned());
        }
        named
    }

    fn has_field(&self, field: &Field) -> bool {
        let has = |name: &str| self.options.iter().any(|option| option == name);
        field.group == Group::Model
            || field.short.is_some_and(|short| self.letters.contains(short))
            || has(field.name)
            || field.aliases.iter().any(|alias| has(alias) || alias.len() == 1 && self.letters.contains(alias))
    }
}

fn settings(command: Command, is_wanted: impl Fn(&Setting) -> bool) -> Command {
    let mut defined: Vec<&str> = Vec::new();
    PROFILES.iter().fold(command, |command, profile| {
        let own: Vec<&Setting> =
            profile.settings.iter().filter(|setting| is_wanted(setting) && !defined.contains(&setting.name)).collect();
        defined.extend(own.iter().map(|setting| setting.name));
        own.into_iter().fold(command, |command, setting| {
            let option = |name: &'static str| Arg::new(name).long(name).help_heading(profile.heading);
            let named = option(setting.name).help(setting.about).hide_short_help(true);
            let named = if setting.alias.is_empty() { named } else { named.visible_alias(setting.alias) };
            match setting.kind {
                ValueKind::Switch { off } => {
                    let off = option(off).action(ArgAction::SetTrue).overrides_with(setting.name).hide(true);
                    command.arg(named.action(ArgAction::SetTrue)).arg(off)
                }
                ValueKind::Choice(words) => {
                    let words = PossibleValuesParser::new(words);
                    command.arg(named.value_name("WORD").value_parser(words).allow_negative_numbers(true))
                }
                ValueKind::Count | ValueKind::CountOrZero => {
                    command.arg(named.value_name("N").allow_hyphen_values(true))
                }
                ValueKind::Ratio => command.arg(named.value_name("RATIO").allow_hyphen_values(true)),
            }
        })
    })
}

/// The value that a setting was given.
fn given(setting: &'static Setting, matches: &ArgMatches) -> Result<Option<SettingValue>, Error> {
    let on = |name: &str| matches.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or_default();
    if let ValueKind::Switch { off } = setting.kind {
        return Ok(match (on(setting.name), on(off)) {
            (true, _) => Some(SettingValue::Switch(true)),
            (false, true) => Some(SettingValue::Switch(false)),
            (false, false) => None,
        });
    }
    match matches.try_get_one::<String>(setting.name) {
        Ok(Some(text)) => Ok(Some(setting.read(text)?)),
        _ => Ok(None),
    }
}
