//! The settings of engines on the command line: every one from the engines' own tables, none known here by name.

use std::ffi::OsString;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::usage;
use crate::engine::{Engine, PROFILES, Setting, SettingValue, ValueKind, setting_named};
use crate::units::Error;

/// Whether the arguments may name an engine, a setting of one, or ask for help: only then are settings defined at all, since
/// definitions are most of what a start costs.
pub(super) fn may_be_needed(arguments: impl Iterator<Item = OsString>) -> bool {
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
pub(super) fn augment(command: Command) -> Command {
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

/// The engines with the settings that were given: each to those that have it. One that none has is an error that names its
/// engines.
pub(super) fn apply(engines: Vec<Engine>, matches: &ArgMatches) -> Result<Vec<Engine>, Error> {
    let mut engines = engines;
    // One that several engines have is met once for each, which changes nothing.
    for setting in PROFILES.iter().flat_map(|profile| profile.settings) {
        let Some(value) = given(setting, matches)? else { continue };
        let mut taken = false;
        for engine in engines.iter_mut().filter(|engine| engine.setting(setting.name).is_some()) {
            engine.settings.set(setting.name, value);
            taken = true;
        }
        if !taken {
            return Err(setting.of_other_engine(engines.first().unwrap_or(&Engine::ideal())));
        }
    }
    Ok(engines)
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
