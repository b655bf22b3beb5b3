//! Embedded data and its look-up: models by name, and what a `model_type` means beyond its keys.
//!
//! Both files are JSON Lines: a look-up reads the one line that names what it wants and parses nothing else.

mod model_types;
mod models;

pub use model_types::{LayerRule, ModelType, model_type};
pub use models::{CatalogueError, ModelEntry, ModelFacts, find, models, parse_overlay};

/// The lines of `data` that contain `name` in quotes: all that can hold an entry of that name.
fn lines_naming<'a>(data: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let quoted = format!("\"{name}\"");
    data.lines().filter(move |line| line.contains(&quoted))
}
