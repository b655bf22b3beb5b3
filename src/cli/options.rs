//! Options on the command line: every one from the rows of [`FIELDS`](crate::request::FIELDS) and from the engines' own tables of
//! settings, none known here by name.

use std::ffi::OsString;

use clap::builder::{PossibleValue, PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command};

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
    /// The command with an option for each row, then its `own`, then one for each setting of an engine.
    pub(super) fn augment(&self, command: Command, own: fn(Command) -> Command) -> Command {
        settings(own(self.options(command)))
    }

    /// The command with an option for each row.
    pub(super) fn options(&self, command: Command) -> Command {
        self.selection.fields().fold(command, |command, field| command.arg(self.arg(field)))
    }

    fn arg(&self, field: &'static Field) -> Arg {
        let about = self.about.lines().find_map(|line| line.strip_prefix(field.name)?.strip_prefix(": "));
        let arg = Arg::new(field.name).help(about.unwrap_or(field.about));
        let is_rare =
            if self.brief.is_empty() { field.is_rare } else { self.brief.split(' ').all(|name| name != field.name) };
        let arg = arg.help_heading(heading(field.group)).hide_short_help(is_rare);
        // Below the command's own options of the same heading.
        let arg = if field.group == Group::Sources { arg.display_order(LAST) } else { arg };
        let arg = match about {
            None if !field.more.is_empty() => arg.long_help(format!("{}\n\n{}", field.about, field.more)),
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
        let arg = field.short.map_or(arg.clone(), |short| arg.short(short)).visible_aliases(field.aliases);
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

/// Whether the arguments may name an engine, a setting of one, or ask for help: only then are settings defined at all, since
/// definitions are most of what a start costs.
pub(super) fn settings_may_be_needed(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.skip(1).filter_map(|argument| argument.into_string().ok()).any(|argument| {
        if let Some(letters) = usage::letters(&argument) {
            return letters.contains(['e', 'h']);
        }
        let Some(long) = argument.strip_prefix("--") else { return false };
        let name = long.split('=').next().unwrap_or_default();
        name == "engine" || name == "help" || setting_named(name).is_some()
    })
}

/// The command with an option for each setting, under the first engine that has it.
pub(super) fn settings(command: Command) -> Command {
    let mut defined: Vec<&str> = Vec::new();
    PROFILES.iter().fold(command, |command, profile| {
        let own: Vec<&Setting> = profile.settings.iter().filter(|setting| !defined.contains(&setting.name)).collect();
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
