//! `kvsize models`, `kvsize formats`, `kvsize engines` and `kvsize gpus`: what is known by name.

use clap::Args;

use super::args::{GpuListArguments, ListArguments, ModelListArguments, ModelSort};
use super::sources::{overlay, own_accelerators};
use super::{Answer, Subcommand, typed};
use crate::catalogue::{self, AcceleratorEntry, ModelSummary};
use crate::engine::PROFILES;
use crate::report::{EngineItem, FormatItem, GpuItem, Item, Listing, ModelItem, UnitChoice, render};
use crate::request::{Weigh, accelerator, priced};
use crate::source::Resolver;
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
    about: "The formats of caches and of weights",
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

pub(super) const GPUS: Subcommand = Subcommand {
    name: "gpus",
    about: "The accelerators: memory, bandwidth, rates and links, each with its source",
    arguments: GpuListArguments::augment_args,
    run: |matches| gpus(&typed(matches)?),
    ..Subcommand::BARE
};

fn models(arguments: &ModelListArguments) -> Result<Answer, Error> {
    let overlay = overlay(arguments.catalogue.as_deref())?;
    let ModelListArguments { list: arguments, sort, .. } = arguments;
    let is_meant = |entry: &ModelSummary| matches(arguments, entry.names.iter().chain([&entry.label]));
    let found: Vec<ModelSummary> = catalogue::models(&overlay).filter(is_meant).collect();
    // One has a page, with its weights in other formats.
    let weigh = if found.len() == 1 { Weigh::Gguf } else { Weigh::Yes };
    let resolver = Resolver::default().overlay(&overlay).weights(weigh);
    let item = |entry: ModelSummary| {
        let model = entry.names.first().and_then(|name| resolver.model(name).ok());
        ModelItem::new(entry, model.as_ref())
    };
    let mut items: Vec<ModelItem> = found.into_iter().map(item).collect();
    match sort {
        None => {}
        Some(ModelSort::Name) => items.sort_by(|a, b| a.name().cmp(b.name())),
        Some(ModelSort::BytesPerToken) => items.sort_by(|a, b| a.cache_a_token().total_cmp(&b.cache_a_token())),
    }
    Ok(list(items, arguments))
}

fn formats(arguments: &ListArguments) -> Answer {
    list(FormatItem::all().filter(|item| matches(arguments, item.names())).collect(), arguments)
}

fn engines(arguments: &ListArguments) -> Answer {
    let found = PROFILES.iter().filter(|profile| matches(arguments, [profile.name])).map(EngineItem::from);
    list(found.collect(), arguments)
}

fn gpus(arguments: &GpuListArguments) -> Result<Answer, Error> {
    let overlay = own_accelerators(arguments.accelerators.clone())?;
    let arguments = &arguments.list;
    // A product name, too, finds its device.
    let usual = catalogue::normalised(arguments.pattern.as_deref().unwrap_or_default());
    let by_name = |entry: &AcceleratorEntry| !usual.is_empty() && entry.names.iter().any(|name| name.contains(&usual));
    let mut items: Vec<GpuItem> = catalogue::accelerators(&overlay)
        .filter(|entry| by_name(entry) || matches(arguments, entry.names.iter().chain([&entry.vendor, &entry.class])))
        .map(gpu)
        .collect();
    if let (true, Some(pattern)) = (items.is_empty(), &arguments.pattern) {
        // A chip with the size of its memory.
        items.extend(catalogue::accelerator(pattern, &overlay).ok().map(gpu));
    }
    Ok(list(items, arguments))
}

fn gpu(entry: AcceleratorEntry) -> GpuItem {
    let total = accelerator(&entry).total();
    let price = priced(entry.id(), Some(&entry), &[]);
    GpuItem::new(entry, total, price)
}

fn matches(arguments: &ListArguments, names: impl IntoIterator<Item = impl AsRef<str>>) -> bool {
    let pattern = arguments.pattern.as_deref().unwrap_or_default().to_lowercase();
    names.into_iter().any(|name| name.as_ref().to_lowercase().contains(&pattern))
}

fn list<T: Item>(items: Vec<T>, arguments: &ListArguments) -> Answer {
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
