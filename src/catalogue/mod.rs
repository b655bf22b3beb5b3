//! Embedded data and its look-up: models, accelerators and prices by name, and what a `model_type` or an architecture of llama.cpp means beyond its
//! keys.
//!
//! The files are JSON Lines: a look-up reads the one line that names what it wants and parses nothing else.

use memchr::memmem;

mod accelerators;
mod gguf_architectures;
mod model_types;
mod models;
mod overlay;
mod prices;

pub use accelerators::{
    AcceleratorEntry, Figure, Link, Size, accelerator, accelerators, normalised, parse_accelerators,
};
pub use gguf_architectures::{
    FeatureName, GgufArchitecture, IndexerDefault, IndexerLayers, IndexerRule, LongContextIndexer, RecurrentRule,
    StateRule, WindowKey, WindowLayers, WindowRule, gguf_architecture, gguf_architecture_of,
};
pub use model_types::{EveryNthFull, LayerRule, ModelType, MtpKind, MtpRule, model_type};
pub(crate) use models::nearest;
pub use models::{ModelEntry, ModelFacts, find, find_known, models, parse_overlay};
pub use prices::{Dollars, PriceEntry, PriceKind, parse_prices, price, wrong_day, wrong_device};

/// What `read` makes of the first line of `data` that it accepts, among those that have `name` in quotes: one search
/// through the text, and nothing is parsed but a line that may be the one.
pub(crate) fn line_naming<T>(data: &str, name: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    let quoted = format!("\"{name}\"");
    memmem::find_iter(data.as_bytes(), &quoted).find_map(|index| {
        let (before, after) = data.split_at_checked(index)?;
        let start = before.rfind('\n').map_or(0, |end| end.saturating_add(1));
        let end = after.find('\n').map_or(data.len(), |end| index.saturating_add(end));
        read(data.get(start..end)?)
    })
}
