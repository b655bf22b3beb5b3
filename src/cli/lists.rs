//! `kvsize models`, `kvsize formats` and `kvsize engines`: what is known by name.

use clap::Args;
use serde::Serialize;

use super::args::{ListArguments, ModelListArguments};
use super::estimate::overlay;
use super::failure::Failure;
use super::{Answer, Subcommand, typed};
use crate::catalogue;
use crate::engine::{PROFILES, Profile, Setting, ValueKind};
use crate::report::{self, Align, Entry, Grid, Listing};
use crate::units::{self, FormatEntry, PairEntry, fixed_point};

pub(super) const MODELS: Subcommand = Subcommand {
    name: "models",
    about: "The models of the catalogue",
    arguments: ModelListArguments::augment_args,
    run: |matches| models(&typed(matches)?),
};

pub(super) const FORMATS: Subcommand = Subcommand {
    name: "formats",
    about: "The element formats",
    arguments: ListArguments::augment_args,
    run: |matches| Ok(formats(&typed(matches)?)),
};

pub(super) const ENGINES: Subcommand = Subcommand {
    name: "engines",
    about: "The engines, what each was replayed against, and its defaults",
    arguments: ListArguments::augment_args,
    run: |matches| Ok(engines(&typed(matches)?)),
};

#[derive(Serialize)]
struct ModelItem {
    name: String,
    label: String,
    aliases: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_bytes: Option<u64>,
    source: String,
    date: String,
}

fn models(arguments: &ModelListArguments) -> Result<Answer, Failure> {
    let overlay = overlay(arguments.catalogue.as_deref())?;
    let arguments = &arguments.list;
    let items: Vec<ModelItem> = catalogue::models(&overlay)
        .filter(|entry| matches(arguments, entry.names.iter().chain([&entry.label])))
        .map(|entry| {
            let mut names = entry.names.into_iter();
            let name = names.next().unwrap_or_default();
            ModelItem {
                name,
                label: entry.label,
                aliases: names.collect(),
                parameters: entry.parameters,
                weight_bytes: entry.weight_bytes,
                source: entry.source,
                date: entry.date,
            }
        })
        .collect();
    let rows = items.iter().map(|item| vec![item.name.clone(), publisher(&item.label)]);
    let grid = Grid { columns: columns(&["Name", "Publisher"], &[]), rows: rows.collect() };
    Ok(list(&Listing { schema: "kvsize.models/1", items, grid, entries: Vec::new() }, arguments))
}

/// The part of a hub id before its slash.
fn publisher(label: &str) -> String {
    label.split_once('/').map_or_else(String::new, |(publisher, _)| publisher.to_owned())
}

#[derive(Serialize)]
struct FormatItem {
    name: &'static str,
    aliases: &'static [&'static str],
    bits_per_block: u64,
    elements_per_block: u64,
    about: &'static str,
    source: &'static str,
}

impl FormatItem {
    fn of(entry: &FormatEntry) -> Self {
        Self {
            name: entry.name,
            aliases: entry.aliases,
            bits_per_block: entry.bits_per_block,
            elements_per_block: entry.elements_per_block,
            about: entry.about,
            source: entry.source,
        }
    }

    /// An element of K and one of V, as a block of two.
    fn of_pair(pair: &PairEntry) -> Self {
        let bits = pair.k.bits_per_block.saturating_add(pair.v.bits_per_block);
        Self { name: pair.name, bits_per_block: bits, elements_per_block: 2, about: pair.about, ..Self::of(&pair.v) }
    }
}

fn formats(arguments: &ListArguments) -> Answer {
    let items: Vec<FormatItem> = units::FORMATS
        .iter()
        .map(FormatItem::of)
        .chain(units::PAIRS.iter().map(FormatItem::of_pair))
        .filter(|item| matches(arguments, item.aliases.iter().chain([&item.name])))
        .collect();
    let rows = items.iter().map(|item| {
        let bits = fixed_point(u128::from(item.bits_per_block), u128::from(item.elements_per_block), 2);
        let names = [&[item.name], item.aliases].concat();
        vec![names.join(", "), bits, item.about.into()]
    });
    let grid = Grid { columns: columns(&["Format", "Bits", "What it is"], &[1]), rows: rows.collect() };
    list(&Listing { schema: "kvsize.formats/1", items, grid, entries: Vec::new() }, arguments)
}

#[derive(Serialize)]
struct EngineItem {
    name: &'static str,
    versions: &'static [&'static str],
    about: &'static str,
    replayed: &'static str,
    defaults: Vec<DefaultItem>,
    settings: Vec<SettingItem>,
}

#[derive(Serialize)]
struct DefaultItem {
    name: &'static str,
    value: &'static str,
}

#[derive(Serialize)]
struct SettingItem {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<&'static str>,
    value: &'static str,
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    choices: &'static [&'static str],
    about: &'static str,
}

fn engines(arguments: &ListArguments) -> Answer {
    let found: Vec<&Profile> = PROFILES.iter().filter(|profile| matches(arguments, [profile.name].iter())).collect();
    let entries = found.iter().map(|profile| Entry {
        name: profile.name.to_owned(),
        about: [
            ("versions", profile.versions.join(", ")),
            ("bytes", profile.about.to_owned()),
            ("replayed", profile.replayed.to_owned()),
        ]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| (name.to_owned(), text))
        .collect(),
        heading: "defaults",
        properties: profile.defaults.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    });
    let entries = entries.collect();
    let rows = found.iter().map(|profile| {
        let defaults = profile.defaults.iter().map(|(name, value)| format!("{name}: {value}"));
        vec![
            profile.name.to_owned(),
            profile.versions.join(" "),
            profile.about.to_owned(),
            profile.replayed.to_owned(),
            defaults.collect::<Vec<_>>().join("; "),
        ]
    });
    let grid = Grid {
        columns: columns(&["Engine", "Versions", "What it is", "Replayed", "Defaults"], &[]),
        rows: rows.collect(),
    };
    let items = found.iter().map(|profile| EngineItem {
        name: profile.name,
        versions: profile.versions,
        about: profile.about,
        replayed: profile.replayed,
        defaults: profile.defaults.iter().map(|&(name, value)| DefaultItem { name, value }).collect(),
        settings: profile.settings.iter().map(setting).collect(),
    });
    let items = items.collect();
    list(&Listing { schema: "kvsize.engines/1", items, grid, entries }, arguments)
}

fn setting(setting: &Setting) -> SettingItem {
    let (value, choices): (_, &[&str]) = match setting.kind {
        ValueKind::Switch { .. } => ("switch", &[]),
        ValueKind::Count => ("count", &[]),
        ValueKind::CountOrZero => ("count_or_zero", &[]),
        ValueKind::Ratio => ("ratio", &[]),
        ValueKind::Choice(words) => ("choice", words),
    };
    let alias = Some(setting.alias).filter(|alias| !alias.is_empty());
    SettingItem { name: setting.name, alias, value, choices, about: setting.about }
}

fn matches<'a, T: AsRef<str> + 'a + ?Sized>(arguments: &ListArguments, mut names: impl Iterator<Item = &'a T>) -> bool {
    let pattern = arguments.pattern.as_deref().unwrap_or_default().to_lowercase();
    names.any(|name| name.as_ref().to_lowercase().contains(&pattern))
}

/// Columns of text, but for the numbers at `right`.
pub(super) fn columns(names: &[&str], right: &[usize]) -> Vec<(String, Align)> {
    let align = |index| if right.contains(&index) { Align::Right } else { Align::Left };
    names.iter().enumerate().map(|(index, name)| ((*name).to_owned(), align(index))).collect()
}

fn list<T: Serialize>(listing: &Listing<T>, arguments: &ListArguments) -> Answer {
    let nothing = listing.items.is_empty().then(|| {
        let pattern = arguments.pattern.as_deref().unwrap_or_default();
        format!("nothing is named like {pattern}: a pattern is a part of a name, in any case")
    });
    Answer {
        quiet: arguments.format.quiet,
        data: report::listing(listing, arguments.format.format()),
        notes: nothing.into_iter().collect(),
        ..Answer::default()
    }
}
