//! Text and bytes to a [`Model`]: files, standard input, names of the catalogue, and ids on the hub.
//!
//! The only room that reads files, and the only one that asks the network.

mod file;
mod file_names;
mod files;
pub mod gguf;
pub mod hf_config;
mod hub;
mod resolver;
pub mod safetensors;
pub mod spec;
mod weights;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::catalogue::{self, AcceleratorEntry, ModelEntry, PriceEntry};
use crate::model::Model;
use crate::units::Error;

pub use file::{open, text, text_of_stdin};
pub use hub::{HubId, HubSettings, Token, Watch};
pub use resolver::{LocalSources, Resolver, Weighed};
pub use weights::Extra;
pub use weights::Known;

/// The model of a name of the catalogue or of a path, by a [`Resolver`] without further settings.
///
/// ```
/// let model = kvsize::source::resolve("llama-3.1-70b").unwrap();
/// assert_eq!(model.num_hidden_layers, 80);
/// ```
///
/// # Errors
/// [`Error`], with what was tried.
pub fn resolve(name: &str) -> Result<Model, Error> {
    Resolver::default().model(name)
}

/// The model of a text that is a `config.json` or an object in kvsize's own shape ([`spec`]); messages call it `name`, and
/// so does the model where it has no name itself.
///
/// # Errors
/// [`Error`] when it is neither.
pub fn of_json(text: impl Into<String>, name: &str) -> Result<Model, Error> {
    Resolver::default().model_of_json(text, name)
}

/// Writes a file that is not there yet.
///
/// # Errors
/// What the system says; that there is one already, too.
pub fn create(path: &Path, text: &str) -> std::io::Result<()> {
    File::create_new(path)?.write_all(text.as_bytes())
}

/// The models of a user's own file.
///
/// # Errors
/// [`Error`] when the file can't be read or is not a list of models.
pub fn overlay(path: &Path) -> Result<Vec<ModelEntry>, Error> {
    catalogue::parse_overlay(&text(path)?)
}

/// The accelerators of a user's own file.
///
/// # Errors
/// [`Error`] when the file can't be read or is not a list of accelerators.
pub fn accelerators(path: &Path) -> Result<Vec<AcceleratorEntry>, Error> {
    let in_file = |error: Error| error.in_file(path.display().to_string()).in_file("--accelerators");
    catalogue::parse_accelerators(&text(path)?).map_err(in_file)
}

/// The prices of a user's own file.
///
/// # Errors
/// [`Error`] when the file can't be read or is not a list of prices.
pub fn prices(path: &Path) -> Result<Vec<PriceEntry>, Error> {
    let in_file = |error: Error| error.in_file(path.display().to_string()).in_file("--prices");
    catalogue::parse_prices(&text(path)?).map_err(in_file)
}
