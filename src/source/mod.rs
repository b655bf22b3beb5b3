//! Text and bytes to a [`Model`]: files, standard input, names of the catalogue, and ids on the hub.
//!
//! The only room that reads files, and the only one that asks the network.

mod file;
pub mod gguf;
pub mod hf_config;
mod hub;

use std::io::Read;
use std::path::Path;

use crate::catalogue::{self, CatalogueError, ModelEntry, ModelFacts};
use crate::model::{Model, ModelError, Origin};
use crate::units::{Diagnose, Diagnosis, display_diagnosis};

pub use file::FileError;
pub use gguf::GgufError;
pub use hf_config::ConfigError;
pub use hub::{HubError, HubId, HubProblem, HubSettings, Miss, Token, Watch};

/// Why a MODEL argument is not a model.
#[derive(Debug)]
pub enum SourceError {
    /// The file can't be had.
    File(FileError),
    /// Its text is no configuration of a model with a cache.
    Config {
        /// The file, or what else it is.
        origin: String,
        /// What is wrong in it.
        error: ConfigError,
    },
    /// A GGUF file that gives no model.
    Gguf {
        /// The file.
        origin: String,
        /// What is wrong in it.
        error: GgufError,
    },
    /// Dimensions that make no model.
    Model(ModelError),
    /// No such name.
    Catalogue(CatalogueError),
    /// An id of the hub that gives no model.
    Hub(HubError),
}

impl Diagnose for SourceError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            Self::File(error) => error.diagnosis(),
            Self::Config { origin, error } => within(origin, error.diagnosis()),
            Self::Gguf { origin, error } => within(origin, error.diagnosis()),
            Self::Model(error) => error.diagnosis(),
            Self::Catalogue(error) => error.diagnosis(),
            Self::Hub(error) => error.diagnosis(),
        }
    }
}

/// A diagnosis of something in `origin`.
fn within(origin: &str, diagnosis: Diagnosis) -> Diagnosis {
    let field = if diagnosis.field.is_empty() { origin.to_owned() } else { format!("{origin}: {}", diagnosis.field) };
    Diagnosis { field, ..diagnosis }
}

display_diagnosis!(SourceError);

/// The model that a MODEL argument means, tried in this order: `-` is JSON on `stdin`; a path that exists is a
/// `config.json`, a GGUF file or a directory with one; anything else is a name of the catalogue, which `overlay` shadows.
///
/// # Errors
/// [`SourceError`], with what was tried.
pub fn resolve(argument: &str, stdin: &mut dyn Read, overlay: &[ModelEntry]) -> Result<Model, SourceError> {
    resolve_with(argument, stdin, overlay, None)
}

/// As [`resolve`]; what is no name of the catalogue and may be an id (`org/name`, see [`HubId`]) is looked for in the local
/// cache of the hub, and then on the hub itself.
///
/// # Errors
/// [`SourceError`], with what was tried.
pub fn resolve_with(
    argument: &str,
    stdin: &mut dyn Read,
    overlay: &[ModelEntry],
    hub: Option<&HubSettings>,
) -> Result<Model, SourceError> {
    if argument == "-" {
        let text = file::read_stdin(stdin).map_err(SourceError::File)?;
        return config(&text, "standard input", "standard input");
    }
    if let Some(path) = file::existing(argument) {
        return of_path(path);
    }
    let is_path = file::looks_like_a_path(argument);
    let id = HubId::parse(argument).filter(|id| id.file.is_some() || !is_path);
    let entry = if let (Some(settings), Some(id)) = (hub, id) {
        let Some(entry) = catalogue::find_known(argument, overlay) else { return of_hub(&id, settings, overlay) };
        entry
    } else {
        catalogue::find(argument, overlay).map_err(|error| {
            if is_path { SourceError::File(FileError::Missing(argument.into())) } else { SourceError::Catalogue(error) }
        })?
    };
    let model = match entry.facts {
        ModelFacts::Config(value) => hf_config::model(value, entry.label)
            .map(|model| from(model, "config.json"))
            .map_err(|error| SourceError::Config { origin: format!("catalogue entry {argument}"), error })?,
        ModelFacts::Spec(spec) => Model { name: entry.label, ..spec.model().map_err(SourceError::Model)? },
    };
    Ok(Model { origin: Origin::Catalogue, ..model })
}

/// The model of a file or a directory.
fn of_path(path: &Path) -> Result<Model, SourceError> {
    if let Some((file, path, len)) = file::open_gguf(path).map_err(SourceError::File)? {
        return gguf_model(file, &path, len);
    }
    let (text, path) = file::read_config(path).map_err(SourceError::File)?;
    let model = config(&text, &file::model_name(&path), &path.display().to_string())?;
    with_quantization(model, &path)
}

/// The model of an id: of the local cache, else of the hub.
fn of_hub(id: &HubId, settings: &HubSettings, overlay: &[ModelEntry]) -> Result<Model, SourceError> {
    let miss = match hub::cached(settings, id) {
        Ok(path) => return of_path(&path),
        Err(miss) => miss,
    };
    let nearest = || match catalogue::find(&id.repository, overlay) {
        Err(CatalogueError::UnknownModel { nearest, .. }) => nearest,
        _ => Vec::new(),
    };
    if let Some(by) = settings.offline {
        let problem = HubProblem::Offline { miss, by, nearest: nearest() };
        return Err(SourceError::Hub(hub::unasked(id, problem)));
    }
    #[cfg(feature = "hub")]
    return hub::remote::model(id, settings, &nearest);
    #[cfg(not(feature = "hub"))]
    Err(SourceError::Hub(hub::unasked(id, HubProblem::NoClient { miss, nearest: nearest() })))
}

/// The models of a user's own file.
///
/// # Errors
/// [`SourceError`] when the file can't be read or is no list of models.
pub fn overlay(path: &Path) -> Result<Vec<ModelEntry>, SourceError> {
    let text = file::read_whole(path).map_err(SourceError::File)?;
    catalogue::parse_overlay(&text).map_err(SourceError::Catalogue)
}

fn config(text: &str, name: &str, origin: &str) -> Result<Model, SourceError> {
    hf_config::parse(text)
        .and_then(|value| hf_config::model(value, name.to_owned()))
        .map(|model| from(model, origin))
        .map_err(|error| SourceError::Config { origin: origin.to_owned(), error })
}

/// The model of the header of a GGUF file.
fn gguf_model(file: std::fs::File, path: &Path, len: u64) -> Result<Model, SourceError> {
    let origin =
        path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    gguf::read(file, len)
        .and_then(|header| gguf::model(&header, &file::model_name(path), &origin))
        .map_err(|error| SourceError::Gguf { origin: path.display().to_string(), error })
}

/// The model of the `config.json` at `path`, with what the file beside it declares of its quantisation.
fn with_quantization(model: Model, path: &Path) -> Result<Model, SourceError> {
    let Some((text, path)) = file::read_quantization(path).map_err(SourceError::File)? else { return Ok(model) };
    let error = |error| SourceError::Config { origin: path.display().to_string(), error };
    Ok(hf_config::with_quantization(model, &hf_config::parse(&text).map_err(error)?))
}

/// The model, its facts from `origin` where they are not defaults.
fn from(mut model: Model, origin: &str) -> Model {
    let name = Path::new(origin).file_name().map_or_else(|| origin.into(), |name| name.to_string_lossy().into_owned());
    for fact in model.facts.iter_mut().filter(|fact| fact.from == "config") {
        fact.from.clone_from(&name);
    }
    model
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_of_the_catalogue_is_read_without_a_warning() {
        for entry in catalogue::models(&[]) {
            for name in &entry.names {
                let model = resolve(name, &mut std::io::empty(), &[]).unwrap();
                assert_eq!(model.origin, Origin::Catalogue, "{name}");
                assert!(model.warnings.is_empty(), "{name}: {:?}", model.warnings);
            }
        }
    }
}
