//! `kvsize models`, `kvsize formats` and `kvsize engines`: what is known by name.

use clap::Args;
use serde::Serialize;

use super::args::{ListArguments, ModelListArguments};
use super::sources::overlay;
use super::{ANSWERED, Answer, Subcommand, typed};
use crate::catalogue;
use crate::engine::{Double, PROFILES, Profile, Setting, ValueKind};
use crate::report::{self, Align, Entry, Format, Grid, Listing};
use crate::units::{self, Error, FormatEntry, PairEntry, fixed_point};

pub(super) const MODELS: Subcommand = Subcommand {
    name: "models",
    about: "The models of the catalogue",
    arguments: ModelListArguments::augment_args,
    notes: "",
    examples: &[
        ("All models", "kvsize models"),
        ("Those that are called so", "kvsize models qwen3"),
        ("Each with its parameters and source, as JSON", "kvsize models llama --json"),
    ],
    statuses: ANSWERED,
    run: |matches| models(&typed(matches)?),
};

pub(super) const FORMATS: Subcommand = Subcommand {
    name: "formats",
    about: "The element formats",
    arguments: ListArguments::augment_args,
    notes: "",
    examples: &[
        ("All formats, with their bits and who takes them", "kvsize formats"),
        ("The names of those of 8 bits in floating point", "kvsize formats fp8 -f plain"),
    ],
    statuses: ANSWERED,
    run: |matches| Ok(formats(&typed(matches)?)),
};

pub(super) const ENGINES: Subcommand = Subcommand {
    name: "engines",
    about: "The engines, what each was replayed against, and its defaults",
    arguments: ListArguments::augment_args,
    notes: "",
    examples: &[
        ("All engines, with their defaults", "kvsize engines"),
        ("The settings of one, as JSON", "kvsize engines vllm --json"),
    ],
    statuses: ANSWERED,
    run: |matches| Ok(engines(&typed(matches)?)),
};

#[derive(Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub(super) struct ModelItem {
    /// Its shortest name.
    name: String,
    /// Where it is published.
    label: String,
    /// Other names of it.
    aliases: Vec<String>,
    /// All parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<u64>,
    /// Bytes of its weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_bytes: Option<u64>,
    /// Where its configuration was read.
    source: String,
    /// When.
    date: String,
}

fn models(arguments: &ModelListArguments) -> Result<Answer, Error> {
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
    Ok(list(&Listing { schema: "kvsize.models/1", items, grid, entries: Vec::new(), notes: Vec::new() }, arguments))
}

/// The part of a hub id before its slash.
fn publisher(label: &str) -> String {
    label.split_once('/').map_or_else(String::new, |(publisher, _)| publisher.to_owned())
}

/// The head dimension at which a format with scales a vector is summed up.
const HEAD_DIM: u64 = 128;

#[derive(Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub(super) struct FormatItem {
    /// Its name.
    name: &'static str,
    /// Other names of it.
    aliases: &'static [&'static str],
    /// Bits of a block.
    bits_per_block: u64,
    /// Elements of a block.
    elements_per_block: u64,
    /// Of a pair, the mean of K's and V's.
    bits_per_vector: u64,
    /// The window of tokens that stay in full precision, beside all this.
    #[serde(skip_serializing_if = "Option::is_none")]
    full_precision_tokens: Option<u64>,
    /// All of them, at a head dimension of 128; of a packed latent those of the latent.
    bits_per_element: Double,
    /// The engines that take it.
    engines: Vec<&'static str>,
    /// What it is.
    about: &'static str,
    /// Where that was read.
    source: &'static str,
}

impl FormatItem {
    fn of(entry: &FormatEntry) -> Self {
        Self::with(entry, entry.name, entry.about, [entry, entry])
    }

    /// An element of K and one of V, as a block of two.
    fn of_pair(pair: &PairEntry) -> Self {
        let bits = pair.k.bits_per_block.saturating_add(pair.v.bits_per_block);
        let item = Self::with(&pair.v, pair.name, pair.about, [&pair.k, &pair.v]);
        Self { bits_per_block: bits, elements_per_block: 2, ..item }
    }

    /// `sides` are those of K and of V, whose mean is told.
    fn with(entry: &FormatEntry, name: &'static str, about: &'static str, sides: [&FormatEntry; 2]) -> Self {
        let [k, v] = sides.map(|side| {
            let of_vector = side.bits_per_vector.saturating_mul(side.elements_per_block);
            let bits = side.bits_per_block.saturating_mul(HEAD_DIM).saturating_add(of_vector);
            let of_all = (bits, side.elements_per_block.saturating_mul(HEAD_DIM));
            let (bits, elements) = side.packed.map_or(of_all, |(bytes, elements)| (bytes.saturating_mul(8), elements));
            Double::ratio(bits, elements)
        });
        Self {
            name,
            aliases: entry.aliases,
            bits_per_block: entry.bits_per_block,
            elements_per_block: entry.elements_per_block,
            bits_per_vector: sides.iter().map(|side| side.bits_per_vector).sum::<u64>().div_euclid(2),
            full_precision_tokens: entry.format().full_precision_tokens(),
            bits_per_element: k.plus(v).over(Double::whole(2)),
            engines: PROFILES.iter().filter(|profile| profile.takes(name)).map(|profile| profile.name).collect(),
            about,
            source: entry.source,
        }
    }

    /// `8.25 = 8 + 32/128`
    fn bits(&self) -> String {
        let all = format!("{:.4}", self.bits_per_element.value());
        let all = all.trim_end_matches('0').trim_end_matches('.');
        if self.bits_per_vector == 0 {
            return all.to_owned();
        }
        let plain = fixed_point(u128::from(self.bits_per_block), u128::from(self.elements_per_block), 1);
        format!("{all} = {} + {}/{HEAD_DIM}", plain.trim_end_matches(".0"), self.bits_per_vector)
    }
}

fn formats(arguments: &ListArguments) -> Answer {
    let items: Vec<FormatItem> = units::FORMATS
        .iter()
        .map(FormatItem::of)
        .chain(units::PAIRS.iter().map(FormatItem::of_pair))
        .filter(|item| matches(arguments, item.aliases.iter().chain([&item.name])))
        .collect();
    // A table for people has three columns of them, and the rest under it.
    let tabular = !matches!(arguments.format.format(), Format::Csv | Format::Markdown);
    let row = |item: &FormatItem| {
        let mut row = vec![item.name.to_owned(), item.bits(), item.about.to_owned()];
        if !tabular {
            row.extend([item.aliases.join(" "), item.engines.join(" "), item.source.to_owned()]);
        }
        row
    };
    let mut names = vec!["Format", "Bits an element", "What it is"];
    if !tabular {
        names.extend(["Aliases", "Engines", "Source"]);
    }
    let grid = Grid { columns: columns(&names, &[]), rows: items.iter().map(row).collect() };
    let notes = if tabular { notes(&items) } else { Vec::new() };
    list(&Listing { schema: "kvsize.formats/1", items, grid, entries: Vec::new(), notes }, arguments)
}

/// Who takes the formats, other names of theirs, and where they were read.
fn notes(items: &[FormatItem]) -> Vec<String> {
    let named = |head: &str, names: Vec<&str>| (!names.is_empty()).then(|| format!("    {head}: {}", names.join(", ")));
    let section = |heading: &str, lines: Vec<String>| {
        let lines = Some(lines).filter(|lines| !lines.is_empty());
        lines.map(|lines| [String::new(), format!("  {heading}")].into_iter().chain(lines)).into_iter().flatten()
    };
    let engines = PROFILES.iter().filter_map(|profile| {
        let taken = items.iter().filter(|item| profile.takes(item.name)).map(|item| item.name);
        named(profile.name, taken.collect())
    });
    let aliases = items.iter().filter_map(|item| named(item.name, item.aliases.to_vec()));
    let mut sources: Vec<&str> = Vec::new();
    for item in items {
        if !sources.contains(&item.source) {
            sources.push(item.source);
        }
    }
    let sources = sources.into_iter().filter_map(|source| {
        named(source, items.iter().filter(|item| item.source == source).map(|item| item.name).collect())
    });
    let scaled = items.iter().any(|item| item.bits_per_vector > 0);
    let head_dim = format!("  A + B/{HEAD_DIM}: B bits more for each vector, at a head dimension of {HEAD_DIM}.");
    let windows = items.iter().filter_map(|item| {
        let tokens = item.full_precision_tokens?;
        Some(format!("  {}: up to {tokens} tokens of K and of V are in the model's format besides.", item.name))
    });
    Some(head_dim)
        .filter(|_| scaled)
        .into_iter()
        .chain(windows)
        .chain(section("Taken by (ideal: all but packed latents)", engines.collect()))
        .chain(section("Read as well", aliases.collect()))
        .chain(section("Sources", sources.collect()))
        // The table ends with an empty line.
        .skip_while(String::is_empty)
        .collect()
}

#[derive(Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub(super) struct EngineItem {
    /// Its name.
    name: &'static str,
    /// The versions whose rules are known, the newest first.
    versions: &'static [&'static str],
    /// What is told of it.
    about: &'static str,
    /// What it was held against.
    replayed: &'static str,
    /// What it does where nothing is said.
    defaults: Vec<DefaultItem>,
    /// What it can be set to.
    settings: Vec<SettingItem>,
}

#[derive(Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
struct DefaultItem {
    /// The setting.
    name: &'static str,
    /// Its value.
    value: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
struct SettingItem {
    /// The option.
    name: &'static str,
    /// Another name of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<&'static str>,
    /// What is written for it.
    value: &'static str,
    /// The words of a choice.
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    choices: &'static [&'static str],
    /// What it is.
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
    list(&Listing { schema: "kvsize.engines/1", items, grid, entries, notes: Vec::new() }, arguments)
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

pub(super) fn matches<'a, T: AsRef<str> + 'a + ?Sized>(
    arguments: &ListArguments,
    mut names: impl Iterator<Item = &'a T>,
) -> bool {
    let pattern = arguments.pattern.as_deref().unwrap_or_default().to_lowercase();
    names.any(|name| name.as_ref().to_lowercase().contains(&pattern))
}

/// Columns of text, but for the numbers at `right`.
pub(super) fn columns(names: &[&str], right: &[usize]) -> Vec<(String, Align)> {
    let align = |index| if right.contains(&index) { Align::Right } else { Align::Left };
    names.iter().enumerate().map(|(index, name)| ((*name).to_owned(), align(index))).collect()
}

pub(super) fn list<T: Serialize>(listing: &Listing<T>, arguments: &ListArguments) -> Answer {
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
