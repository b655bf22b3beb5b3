//! Embedded data and its look-up: models, accelerators and prices by name, and what a `model_type` or an architecture of llama.cpp means beyond its
//! keys.
//!
//! The files are JSON Lines: a look-up reads the one line that names what it wants and parses nothing else.

use memchr::memmem;
use serde::Deserialize;

mod accelerators;
mod gguf_architectures;
mod instances;
mod model_names;
mod model_types;
mod models;
mod name_rules;
mod named;
mod overlay;
mod prices;
mod spelling;

pub use accelerators::{
    AcceleratorEntry, Figure, Link, Size, accelerator, accelerators, find_accelerator, normalised, parse_accelerators,
};
pub use gguf_architectures::{
    GgufArchitecture, IndexerLayers, IndexerRule, LongContextIndexer, ReadingRule, RecurrentRule, StateRule, WindowKey,
    WindowLayers, WindowRule, gguf_architecture, gguf_architecture_of,
};
pub use instances::{Instance, instance};
pub use model_types::{EveryNthFull, LayerRule, ModelType, MtpKind, MtpRule, model_type};
pub(crate) use models::nearest;
pub use models::{ModelEntry, ModelFacts, ModelSummary, find, find_known, models, parse_overlay};
pub use named::{NamedEntry, find_named};
pub use prices::{Dollars, PriceEntry, PriceKind, parse_prices, price, wrong_day, wrong_device};

/// What `read` makes of the first line of `data` that it accepts, among those that have `name` in quotes: one search
/// through the text, and nothing is parsed but a line that may be the one.
pub(crate) fn line_naming<'a, T>(data: &'a str, name: &str, read: impl Fn(&'a str) -> Option<T>) -> Option<T> {
    let quoted = format!("\"{name}\"");
    memmem::find_iter(data.as_bytes(), &quoted).find_map(|index| {
        let (before, after) = data.split_at_checked(index)?;
        let start = before.rfind('\n').map_or(0, |end| end.saturating_add(1));
        let end = after.find('\n').map_or(data.len(), |end| index.saturating_add(end));
        read(data.get(start..end)?)
    })
}

/// The row of JSON Lines that has `name` in quotes and that `is_wanted` accepts.
pub(crate) fn row_naming<T: Deserialize<'static>>(
    data: &'static str,
    name: &str,
    is_wanted: impl Fn(&T) -> bool,
) -> Option<T> {
    line_naming(data, name, |line| serde_json::from_str(line).ok().filter(|row| is_wanted(row)))
}

/// A name as it is compared however it is joined: its letters and digits, in lower case.
fn letters_and_digits(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// Up to three names that are most like a wanted one: the first of each of `entries`, by the name of it that `likeness` is
/// highest of, and at least `least`.
fn most_alike(entries: impl Iterator<Item = Vec<String>>, least: f64, likeness: impl Fn(&str) -> f64) -> Vec<String> {
    let scored = entries.filter_map(|names| {
        let best = names.iter().map(|name| likeness(name)).fold(0.0, f64::max);
        Some((best, names.into_iter().next()?))
    });
    let mut scored: Vec<(f64, String)> = scored.filter(|(best, _)| *best >= least).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}
