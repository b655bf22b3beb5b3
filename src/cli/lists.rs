//! `kvsize models`, `kvsize formats` and `kvsize engines`: what is known by name.

use clap::Args;

use super::args::{ListArguments, ModelListArguments};
use super::sources::overlay;
use super::{Answer, Subcommand, typed};
use crate::catalogue;
use crate::engine::PROFILES;
use crate::report::{EngineItem, FormatItem, Item, Listing, ModelItem, UnitChoice, render};
use crate::units::{ByteUnit, Error};

pub(super) const MODELS: Subcommand = Subcommand {
    name: "models",
    about: "The models of the catalogue",
    arguments: ModelListArguments::augment_args,
    run: |matches| models(&typed(matches)?),
    ..Subcommand::BARE
};

pub(super) const FORMATS: Subcommand = Subcommand {
    name: "formats",
    about: "The element formats",
    arguments: ListArguments::augment_args,
    run: |matches| Ok(formats(&typed(matches)?)),
    ..Subcommand::BARE
};

pub(super) const ENGINES: Subcommand = Subcommand {
    name: "engines",
    about: "The engines, what each was replayed against, and its defaults",
    arguments: ListArguments::augment_args,
    run: |matches| Ok(engines(&typed(matches)?)),
    ..Subcommand::BARE
};

fn models(arguments: &ModelListArguments) -> Result<Answer, Error> {
    let overlay = overlay(arguments.catalogue.as_deref())?;
    let arguments = &arguments.list;
    let found = catalogue::models(&overlay)
        .filter(|entry| matches(arguments, entry.names.iter().chain([&entry.label])))
        .map(ModelItem::from);
    Ok(list(found.collect(), arguments))
}

fn formats(arguments: &ListArguments) -> Answer {
    list(FormatItem::all().filter(|item| matches(arguments, item.names())).collect(), arguments)
}

fn engines(arguments: &ListArguments) -> Answer {
    let found = PROFILES.iter().filter(|profile| matches(arguments, [profile.name])).map(EngineItem::from);
    list(found.collect(), arguments)
}

pub(super) fn matches(arguments: &ListArguments, names: impl IntoIterator<Item = impl AsRef<str>>) -> bool {
    let pattern = arguments.pattern.as_deref().unwrap_or_default().to_lowercase();
    names.into_iter().any(|name| name.as_ref().to_lowercase().contains(&pattern))
}

pub(super) fn list<T: Item>(items: Vec<T>, arguments: &ListArguments) -> Answer {
    let nothing = items.is_empty().then(|| {
        let pattern = arguments.pattern.as_deref().unwrap_or_default();
        format!("nothing is named like {pattern}: a pattern is a part of a name, in any case")
    });
    Answer {
        quiet: arguments.format.quiet,
        data: render(&Listing::new(items), arguments.format.format(), UnitChoice::Fixed(ByteUnit::Bytes)),
        notes: nothing.into_iter().collect(),
        ..Answer::default()
    }
}
