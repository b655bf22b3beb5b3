//! `kvsize gpus`: what is known of accelerators, each figure with where it was read.

use clap::Args;

use super::args::GpuListArguments;
use super::lists::{list, matches};
use super::sources::own_accelerators;
use super::{Answer, Subcommand, typed};
use crate::catalogue::{self, AcceleratorEntry};
use crate::report::GpuItem;
use crate::request::{accelerator, priced};
use crate::units::Error;

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "gpus",
    about: "The accelerators: memory, bandwidth, rates and links, each with its source",
    arguments: GpuListArguments::augment_args,
    run: |matches| run(&typed(matches)?),
    ..Subcommand::BARE
};

fn run(arguments: &GpuListArguments) -> Result<Answer, Error> {
    let overlay = own_accelerators(arguments.accelerators.clone())?;
    let arguments = &arguments.list;
    // A product name, too, finds its device.
    let usual = catalogue::normalised(arguments.pattern.as_deref().unwrap_or_default());
    let by_name = |entry: &AcceleratorEntry| !usual.is_empty() && entry.names.iter().any(|name| name.contains(&usual));
    let mut items: Vec<GpuItem> = catalogue::accelerators(&overlay)
        .filter(|entry| by_name(entry) || matches(arguments, entry.names.iter().chain([&entry.vendor, &entry.class])))
        .map(item)
        .collect();
    if let (true, Some(pattern)) = (items.is_empty(), &arguments.pattern) {
        // A chip with the size of its memory.
        items.extend(catalogue::accelerator(pattern, &overlay).ok().map(item));
    }
    Ok(list(items, arguments))
}

fn item(entry: AcceleratorEntry) -> GpuItem {
    let total = accelerator(&entry).total();
    let price = priced(entry.id(), Some(&entry), &[]);
    GpuItem::new(entry, total, price)
}
