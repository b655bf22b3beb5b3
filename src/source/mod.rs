//! Text and bytes to a [`Model`]: files, standard input, names of the catalogue, and ids on the hub.
//!
//! The only room that reads files, and the only one that asks the network.

mod file;
pub mod gguf;
pub mod hf_config;
mod hub;
mod local;
pub mod safetensors;
pub mod spec;
mod weights;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::catalogue::{self, AcceleratorEntry, CatalogueError, ModelEntry, ModelFacts, OverlayError, PriceEntry};
use crate::model::{Model, ModelError, Origin, Warning};
use crate::units::{Code, Diagnose, Error, display_diagnosis};

pub use file::FileError;
pub use gguf::GgufError;
pub use hf_config::ConfigError;
pub use hub::{HubError, HubId, HubProblem, HubSettings, Miss, Token, Watch};
pub use local::LocalSources;
pub use safetensors::SafetensorsError;
pub use weights::Known;

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
    /// A safetensors file whose header is not read.
    Safetensors {
        /// The file.
        origin: String,
        /// What is wrong in it.
        error: SafetensorsError,
    },
    /// An object of our own that makes no model.
    Spec {
        /// The file, or what else it is.
        origin: String,
        /// What is wrong in it.
        error: Box<Error>,
    },
    /// An index of safetensors files that is none.
    Index {
        /// The file.
        origin: String,
        /// What is wrong in it.
        error: serde_json::Error,
    },
    /// Dimensions that make no model.
    Model(ModelError),
    /// No such name.
    Catalogue(CatalogueError),
    /// A file of one's own accelerators or prices that holds something else.
    Overlay(OverlayError),
    /// An id of the hub that gives no model.
    Hub(HubError),
}

impl Diagnose for SourceError {
    fn diagnosis(&self) -> Error {
        match self {
            Self::File(error) => error.diagnosis(),
            Self::Config { origin, error } => within(origin, error.diagnosis()),
            Self::Gguf { origin, error } => within(origin, error.diagnosis()),
            Self::Safetensors { origin, error } => within(origin, error.diagnosis()),
            Self::Spec { origin, error } => within(origin, Error::clone(error)),
            Self::Index { origin, error } => Error {
                code: Code::SafetensorsIndex,
                field: origin.clone(),
                found: Some("the text".into()),
                problem: format!("is no index of safetensors files: {error}"),
                remedy: "download the index again".into(),
            },
            Self::Model(error) => error.diagnosis(),
            Self::Catalogue(error) => error.diagnosis(),
            Self::Overlay(error) => error.diagnosis(),
            Self::Hub(error) => error.diagnosis(),
        }
    }
}

/// A diagnosis of something in `origin`.
fn within(origin: &str, diagnosis: Error) -> Error {
    let field = if diagnosis.field.is_empty() { origin.to_owned() } else { format!("{origin}: {}", diagnosis.field) };
    Error { field, ..diagnosis }
}

display_diagnosis!(SourceError);

/// The model that a MODEL argument means, tried in this order: `-` is JSON on `stdin`, a `config.json` or an
/// object of our own ([`spec`]); a path that exists is a
/// `config.json`, a GGUF file, a safetensors file or its index with a `config.json` beside, or a directory with one of these;
/// anything else is a name of the catalogue, which `overlay` shadows.
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
    model(find(argument, stdin, overlay, hub, false)?, false)
}

/// As [`resolve_with`], with the model's weights where they are known: the headers of its files are read for them.
///
/// # Errors
/// [`SourceError`], as [`resolve_with`].
pub fn resolve_weighed(
    argument: &str,
    stdin: &mut dyn Read,
    overlay: &[ModelEntry],
    hub: Option<&HubSettings>,
) -> Result<Model, SourceError> {
    model(find(argument, stdin, overlay, hub, true)?, true)
}

/// The model that a name in a file means: as [`resolve_with`], but for paths, which are relative to `directory`, and for
/// standard input, which is not read. With its weights if it is to be weighed.
///
/// # Errors
/// [`SourceError`], with what was tried.
pub fn resolve_in(
    directory: &Path,
    argument: &str,
    overlay: &[ModelEntry],
    hub: Option<&HubSettings>,
    weigh: bool,
) -> Result<Model, SourceError> {
    model(located(argument, &directory.join(argument), overlay, hub, weigh)?, weigh)
}

/// The text of a list that a user wrote.
///
/// # Errors
/// [`SourceError`] when it can't be read, is too long, or is not UTF-8.
pub fn text(path: &Path) -> Result<String, SourceError> {
    file::read_whole(path).map_err(SourceError::File)
}

/// The text of standard input.
///
/// # Errors
/// [`SourceError`] when it can't be read, is too long, or is not UTF-8.
pub fn text_of_stdin(stdin: &mut dyn Read) -> Result<String, SourceError> {
    file::read_stdin(stdin).map_err(SourceError::File)
}

/// Writes a file that is not there yet.
///
/// # Errors
/// What the system says; that there is one already, too.
pub fn create(path: &Path, text: &str) -> std::io::Result<()> {
    File::create_new(path)?.write_all(text.as_bytes())
}

/// The model of a text that is a `config.json` or an object of our own; messages call it `name`, and so does the model where
/// it has no name itself.
///
/// # Errors
/// [`SourceError`] when it is neither.
pub fn of_json(text: String, name: &str) -> Result<Model, SourceError> {
    let text = Text { json: text, name: name.to_owned(), origin: name.to_owned(), path: None, weighed_by: None };
    model(Found::Text(text), false)
}

/// A file to be read from its start, a pipe too.
///
/// # Errors
/// [`SourceError`] when it can't be opened, or is a directory.
pub fn open(path: &Path) -> Result<File, SourceError> {
    file::open(path).map_err(SourceError::File)
}

/// What a model weighs, whether it has a cache or not.
#[derive(Debug)]
pub struct Weighed {
    /// The name to print.
    pub name: String,
    /// Where it was read from.
    pub origin: Origin,
    /// `model_type` of its configuration, or the architecture of a GGUF file.
    pub model_type: Option<String>,
    /// Its weights, or the reason why they are not known.
    pub weights: Known,
}

/// The weights of what a MODEL argument means, which is found as by [`resolve_with`].
///
/// # Errors
/// [`SourceError`] for what is not found or damaged.
pub fn weigh(
    argument: &str,
    stdin: &mut dyn Read,
    overlay: &[ModelEntry],
    hub: Option<&HubSettings>,
) -> Result<Weighed, SourceError> {
    let model_type = |config: &serde_json::Value| config.get("model_type")?.as_str().map(ToOwned::to_owned);
    Ok(match find(argument, stdin, overlay, hub, true)? {
        Found::Text(text) => {
            let config = text.parse()?;
            let own = config.as_object().is_some_and(spec::is_spec);
            Weighed {
                origin: if own { Origin::Spec } else { Origin::Config },
                model_type: model_type(&config),
                weights: if own {
                    Err(weights::OF_THE_CACHE.into())
                } else {
                    weights::of_config(&config, text.weighed_by.as_deref())?
                },
                name: text.name,
            }
        }
        Found::Files { path, files } => {
            let name = file::directory_name(&path);
            Weighed { name, origin: Origin::Config, model_type: None, weights: files.weights(None)? }
        }
        Found::Gguf(gguf) => {
            let (path, header) = gguf.header()?;
            let text = |key: &str| match header.metadata.get(key) {
                Some(gguf::Value::Text(text)) => Some(text.clone()),
                _ => None,
            };
            Weighed {
                name: text("general.name").unwrap_or_else(|| file::model_name(&path)),
                origin: Origin::Gguf,
                model_type: text("general.architecture"),
                weights: weights::of_gguf(&header, &path)?,
            }
        }
        Found::Entry(entry) => Weighed {
            origin: Origin::Catalogue,
            model_type: match &entry.facts {
                ModelFacts::Config(config) => model_type(config),
                ModelFacts::Spec(_) => None,
            },
            weights: weights::of_entry(&entry),
            name: entry.label,
        },
        Found::Remote { model, weights } => {
            let Model { name, origin, model_type, .. } = *model;
            let weights = weights.unwrap_or_else(|| Ok(Err("the hub was not asked for them".into())))?;
            Weighed { name, origin, model_type, weights }
        }
    })
}

/// What a MODEL argument means.
enum Found {
    Text(Text),
    Gguf(Gguf),
    /// Weights without a configuration.
    Files {
        path: PathBuf,
        files: weights::WeightFiles,
    },
    Entry(Box<ModelEntry>),
    /// Of the hub, with its weights if they were asked for.
    #[cfg_attr(not(feature = "hub"), expect(dead_code, reason = "the hub is what would be asked"))]
    Remote {
        model: Box<Model>,
        weights: Option<Result<Known, SourceError>>,
    },
}

/// The text of a configuration.
struct Text {
    json: String,
    name: String,
    /// What messages call it.
    origin: String,
    /// The file.
    path: Option<PathBuf>,
    /// What tells its weights: the file, or the safetensors file or index that was named.
    weighed_by: Option<PathBuf>,
}

impl Text {
    fn parse(&self) -> Result<serde_json::Value, SourceError> {
        hf_config::parse(&self.json).map_err(|error| SourceError::Config { origin: self.origin.clone(), error })
    }
}

/// A GGUF file, opened.
struct Gguf {
    file: File,
    path: PathBuf,
    len: u64,
}

impl Gguf {
    fn header(self) -> Result<(PathBuf, gguf::Header), SourceError> {
        match gguf::read(self.file, self.len) {
            Ok(header) => Ok((self.path, header)),
            Err(error) => Err(SourceError::Gguf { origin: self.path.display().to_string(), error }),
        }
    }
}

/// What an argument means; a model of the hub is asked for its weights at once if it is to be weighed.
fn find(
    argument: &str,
    stdin: &mut dyn Read,
    overlay: &[ModelEntry],
    hub: Option<&HubSettings>,
    weigh: bool,
) -> Result<Found, SourceError> {
    if argument == "-" {
        let text = file::read_stdin(stdin).map_err(SourceError::File)?;
        let name = || "standard input".to_owned();
        return Ok(Found::Text(Text { json: text, name: name(), origin: name(), path: None, weighed_by: None }));
    }
    located(argument, Path::new(argument), overlay, hub, weigh)
}

/// What a name means whose file would be at `path`.
fn located(
    argument: &str,
    path: &Path,
    overlay: &[ModelEntry],
    hub: Option<&HubSettings>,
    weigh: bool,
) -> Result<Found, SourceError> {
    // No name at all is not the directory itself.
    if !argument.is_empty() && file::is_there(path) {
        return at_path(path);
    }
    let is_path = file::looks_like_a_path(argument);
    let id = HubId::parse(argument).filter(|id| id.file.is_some() || !is_path);
    let entry = if let (Some(settings), Some(id)) = (hub, id) {
        let Some(entry) = catalogue::find_known(argument, overlay) else {
            return of_hub(&id, settings, overlay, weigh);
        };
        entry
    } else {
        catalogue::find(argument, overlay).map_err(|error| {
            if is_path { SourceError::File(FileError::Missing(path.into())) } else { SourceError::Catalogue(error) }
        })?
    };
    Ok(Found::Entry(Box::new(entry)))
}

/// What is at a path.
fn at_path(path: &Path) -> Result<Found, SourceError> {
    if let Some((file, path, len)) = file::open_gguf(path).map_err(SourceError::File)? {
        return Ok(Found::Gguf(Gguf { file, path, len }));
    }
    let weighed = weights::is_safetensors(path) && !path.is_dir();
    let config = if weighed { path.with_file_name("config.json") } else { path.to_path_buf() };
    let without_config = if weighed { !config.exists() } else { path.is_dir() && !path.join("config.json").exists() };
    if without_config && let Some(files) = weights::files_of(path)? {
        return Ok(Found::Files { path: path.to_path_buf(), files });
    }
    let (text, config) = file::read_config(&config).map_err(SourceError::File)?;
    let name = file::model_name(&config);
    let weighed_by = if weighed { path.to_path_buf() } else { config.clone() };
    let origin = config.display().to_string();
    Ok(Found::Text(Text { json: text, name, origin, path: Some(config), weighed_by: Some(weighed_by) }))
}

/// The model of what was found, with its weights if it is to be weighed.
fn model(found: Found, weigh: bool) -> Result<Model, SourceError> {
    match found {
        Found::Text(text) => {
            let config = text.parse()?;
            if let Some(object) = config.as_object().filter(|object| spec::is_spec(object)) {
                return spec::model(object, &text.name)
                    .map_err(|error| SourceError::Spec { origin: text.origin, error: Box::new(error) });
            }
            let known = weigh.then(|| weights::of_config(&config, text.weighed_by.as_deref()));
            let model = of_config(config, text.name, &text.origin)?;
            let model = match &text.path {
                Some(path) => with_quantization(model, path)?,
                None => model,
            };
            Ok(weighed(model, known))
        }
        Found::Files { path, .. } => Err(SourceError::File(FileError::NoConfigBeside(path))),
        Found::Gguf(gguf) => {
            let (path, header) = gguf.header()?;
            let origin = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
            let model = gguf::model(&header, &file::model_name(&path), &origin)
                .map_err(|error| SourceError::Gguf { origin: path.display().to_string(), error })?;
            let known = weigh.then(|| weights::of_gguf(&header, &path));
            Ok(weighed(model, known))
        }
        Found::Entry(entry) => {
            let known = weigh.then(|| Ok(weights::of_entry(&entry)));
            let ModelEntry { names, label, facts, hf_quant_config, .. } = *entry;
            let mut model = match facts {
                ModelFacts::Config(value) => {
                    let name = names.first().cloned().unwrap_or_default();
                    hf_config::model(value, label)
                        .map(|model| from(model, "config.json"))
                        .map_err(|error| SourceError::Config { origin: format!("catalogue entry {name}"), error })?
                }
                ModelFacts::Spec(spec) => Model { name: label, ..spec.model().map_err(SourceError::Model)? },
            };
            if let Some(declared) = hf_quant_config {
                model = hf_config::with_quantization(model, &declared);
            }
            Ok(Model { origin: Origin::Catalogue, ..weighed(model, known) })
        }
        Found::Remote { model, weights } => Ok(weighed(*model, weights)),
    }
}

/// The model of a configuration that `origin` holds.
fn of_config(config: serde_json::Value, name: String, origin: &str) -> Result<Model, SourceError> {
    hf_config::model(config, name)
        .map(|model| from(model, origin))
        .map_err(|error| SourceError::Config { origin: origin.to_owned(), error })
}

/// The model with its weights. Files of weights that are damaged do not take the cache's answer away: it is said.
fn weighed(mut model: Model, known: Option<Result<Known, SourceError>>) -> Model {
    match known {
        Some(Ok(Ok(weights))) => model.weights = Some(weights),
        Some(Err(error)) => model.warnings.push(Warning::Weights { reason: error.to_string() }),
        Some(Ok(Err(_))) | None => {}
    }
    model
}

/// What an id means: of the local cache, else of the hub.
#[cfg_attr(not(feature = "hub"), expect(unused_variables, reason = "the hub is what would be asked"))]
fn of_hub(id: &HubId, settings: &HubSettings, overlay: &[ModelEntry], weigh: bool) -> Result<Found, SourceError> {
    let miss = match hub::cached(settings, id) {
        Ok(path) => return at_path(&path),
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
    return hub::remote::model(id, settings, &nearest, weigh)
        .map(|(model, weights)| Found::Remote { model: Box::new(model), weights });
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

/// The accelerators of a user's own file.
///
/// # Errors
/// [`SourceError`] when the file can't be read or is no list of accelerators.
pub fn accelerators(path: &Path) -> Result<Vec<AcceleratorEntry>, SourceError> {
    let text = file::read_whole(path).map_err(SourceError::File)?;
    catalogue::parse_accelerators(&text)
        .map_err(|error| SourceError::Overlay(error.in_file(&path.display().to_string())))
}

/// The prices of a user's own file.
///
/// # Errors
/// [`SourceError`] when the file can't be read or is no list of prices.
pub fn prices(path: &Path) -> Result<Vec<PriceEntry>, SourceError> {
    let text = file::read_whole(path).map_err(SourceError::File)?;
    catalogue::parse_prices(&text).map_err(|error| SourceError::Overlay(error.in_file(&path.display().to_string())))
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
