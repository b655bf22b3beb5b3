//! The model of a name: a path, an entry of the catalogue, or an id on the hub.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::file::{self, Directory, MAX_CONFIG_BYTES};
use super::file_names::{Choice, Part, choose, has_extension, looks_like_a_path};
use super::files::{CONFIG, Files, gguf_header};
use super::hub::{self, HubId, HubSettings};
use super::weights::files::{self as weight_files, is_safetensors};
use super::weights::{self, Extra, Known, computed, gguf_tensors};
use super::{gguf, hf_config, spec};
use crate::catalogue::{self, AcceleratorEntry, ModelEntry, ModelFacts, NamedEntry, PriceEntry};
use crate::model::{GgufTensors, Model, Origin};
use crate::request::{Named, Sources, Weigh};
use crate::units::{Code, Error};

/// What engines declare of a quantisation next to the configuration.
pub(super) const QUANTIZATION: &str = "hf_quant_config.json";

/// Why a GGUF file has no tensors in another file type.
const GGUF_FILE: &str =
    "it is a GGUF file, whose header has its own bytes; another file type needs the model's config.json";

/// Where models are looked for, and how much of them is read.
///
/// ```
/// use kvsize::{request::Weigh, source::Resolver};
/// let model = Resolver::default().weights(Weigh::Yes).model("llama-3.1-8b").unwrap();
/// assert!(model.weights.is_some());
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct Resolver<'a> {
    overlay: &'a [ModelEntry],
    hub: Option<&'a HubSettings>,
    directory: Option<&'a Path>,
    weights: Weigh,
    extra: Extra,
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
    /// Its tensors in a GGUF file, where they were asked for, or why they are unknown.
    pub gguf_tensors: Option<Result<GgufTensors, String>>,
}

/// What a name means.
enum Found<'a> {
    Json(Json<'a>),
    Gguf {
        files: Box<dyn Files + 'a>,
        name: String,
    },
    /// Weights without a configuration.
    Weights {
        files: Box<dyn Files + 'a>,
        /// The file that was named.
        named: Option<String>,
        label: String,
    },
    Entry(Box<NamedModel>),
}

/// An entry, and what the name says of it.
struct NamedModel {
    entry: ModelEntry,
    weights: Option<String>,
    /// What the name became, where that is another.
    note: Option<String>,
    warning: Option<String>,
}

/// The text of a configuration, or of an object in kvsize's own shape.
struct Json<'a> {
    text: String,
    /// What the model is called, and messages call the text.
    name: String,
    label: String,
    /// Where it lies, if it is a file.
    place: Option<Place<'a>>,
}

struct Place<'a> {
    files: Box<dyn Files + 'a>,
    config: String,
    /// The safetensors file or index that was named, to which the configuration belongs.
    weights: Option<String>,
}

impl<'a> Resolver<'a> {
    /// With the user's own models, which shadow the catalogue.
    pub fn overlay(self, overlay: &'a [ModelEntry]) -> Self {
        Self { overlay, ..self }
    }

    /// With the hub: ids (`org/name`, see [`HubId`]) that are not in the catalogue are looked for in its local cache, and
    /// then on the hub itself.
    pub fn hub(self, hub: Option<&'a HubSettings>) -> Self {
        Self { hub, ..self }
    }

    /// With relative paths from this directory instead of the current one.
    pub fn directory(self, directory: &'a Path) -> Self {
        Self { directory: Some(directory), ..self }
    }

    /// With or without weights.
    pub fn weights(self, weights: Weigh) -> Self {
        Self { weights, ..self }
    }

    /// With what some GGUF files hold in addition.
    pub fn extra(self, extra: Extra) -> Self {
        Self { extra, ..self }
    }

    /// The model that a name means, tried in this order: a path that exists is a `config.json`, a GGUF file, a safetensors
    /// file or index with a `config.json` next to it, or a directory with one of these; anything else is a name of the
    /// catalogue, or an id on the hub.
    ///
    /// # Errors
    /// [`Error`], with what was tried.
    pub fn model(&self, name: &str) -> Result<Model, Error> {
        self.model_found(self.find(name)?)
    }

    /// The model of a text that is a `config.json` or an object in kvsize's own shape ([`spec`]), called `name`.
    ///
    /// # Errors
    /// [`Error`] when it is neither.
    pub fn model_of_json(&self, text: impl Into<String>, name: &str) -> Result<Model, Error> {
        self.model_found(Found::Json(Json::new(text.into(), name)))
    }

    /// The weights of what a name means, which is found as by [`Resolver::model`].
    ///
    /// # Errors
    /// [`Error`] for what is not found or damaged.
    pub fn weigh(&self, name: &str) -> Result<Weighed, Error> {
        self.weigh_found(self.find(name)?)
    }

    /// The weights of a text, read as by [`Resolver::model_of_json`].
    ///
    /// # Errors
    /// [`Error`] when it is not JSON.
    pub fn weigh_json(&self, text: impl Into<String>, name: &str) -> Result<Weighed, Error> {
        self.weigh_found(Found::Json(Json::new(text.into(), name)))
    }

    /// The tensors of a GGUF file of a configuration, where they are asked for.
    fn gguf_tensors(&self, config: &Value) -> Option<Result<GgufTensors, String>> {
        (self.weights == Weigh::Gguf).then(|| gguf_tensors(config, self.extra))
    }

    /// Why tensors are unknown that would be in a GGUF file.
    fn no_tensors(&self, reason: &str) -> Option<Result<GgufTensors, String>> {
        (self.weights == Weigh::Gguf).then(|| Err(reason.into()))
    }

    fn find(&self, name: &str) -> Result<Found<'a>, Error> {
        let path = self.directory.map_or_else(|| PathBuf::from(name), |directory| directory.join(name));
        // No name at all is not the directory itself.
        if !name.is_empty() && file::is_there(&path) {
            return at_path(path);
        }
        let is_path = looks_like_a_path(name);
        let id = HubId::parse(name).filter(|id| id.file.is_some() || !is_path);
        if let Some(entry) = catalogue::find_known(name, self.overlay) {
            return Ok(Found::Entry(Box::new(NamedModel { entry, weights: None, note: None, warning: None })));
        }
        if let (Some(settings), Some(id)) = (self.hub, &id) {
            return self.on_hub(id, settings).or_else(|error| self.unasked(name, error));
        }
        // A path that is not there is not taken for a name, but for the name of a file alone.
        let is_place = is_path && (path.is_absolute() || name.contains(['/', '\\']) || !has_extension(name, "gguf"));
        if is_place {
            return Err(file::missing(&path));
        }
        let named = catalogue::find_named(name, self.overlay);
        let named = named.map_err(|error| if is_path { file::missing(&path) } else { error })?;
        Ok(Found::Entry(Box::new(NamedModel::new(name, named))))
    }

    /// What an id means that the hub was not asked for, or that it does not have: the model of its name.
    fn unasked(&self, name: &str, error: Error) -> Result<Found<'a>, Error> {
        if !matches!(error.code, Code::Offline | Code::NoClient) {
            return Err(error);
        }
        let Ok(named) = catalogue::find_named(name, self.overlay) else { return Err(error) };
        let named = NamedModel::new(name, named);
        let warning = format!("{name:?} is answered as {}: the hub was not asked", named.entry.label);
        Ok(Found::Entry(Box::new(NamedModel { note: None, warning: Some(warning), ..named })))
    }

    /// What an id means: of the local cache, else of the hub.
    fn on_hub(&self, id: &HubId, settings: &'a HubSettings) -> Result<Found<'a>, Error> {
        let miss = match hub::cached(settings, id) {
            Ok(path) => return at_path(path),
            Err(miss) => miss,
        };
        if let Some(by) = settings.offline {
            return Err(hub::offline(id, &miss, by, self.overlay));
        }
        #[cfg(feature = "hub")]
        {
            within(Box::new(hub::Repository::new(id.clone(), settings, self.overlay)?), id.file.as_deref())
        }
        #[cfg(not(feature = "hub"))]
        Err(hub::no_client(id, &miss, self.overlay))
    }

    fn model_found(&self, found: Found<'_>) -> Result<Model, Error> {
        let weigh = self.weights != Weigh::No;
        match found {
            Found::Json(json) => json.model(self),
            Found::Weights { label, .. } => {
                let problem = "no config.json next to it; weights alone do not determine the cache";
                let remedy = "put the model's config.json there (`kvsize weights` needs none)";
                Err(Error::without_value(Code::NoConfigBeside, label, problem, remedy))
            }
            Found::Gguf { files, name } => {
                let header = header(&*files, &name)?;
                let model = gguf::model(&header, &files.model_name(&name), &name)
                    .map_err(|error| files.error_in(&name, error))?;
                let model = Model { gguf_tensors: self.no_tensors(GGUF_FILE), ..model };
                Ok(weighed(model, weigh.then(|| weight_files::of_gguf(&*files, &name, &header))))
            }
            Found::Entry(entry) => {
                let NamedModel { entry, weights: named_weights, note, warning } = *entry;
                let known = weigh.then(|| Ok(weights::of_entry(&entry)));
                let ModelEntry { names, label, facts, hf_quant_config, .. } = entry;
                let tensors = match &facts {
                    ModelFacts::Config(config) => self.gguf_tensors(config),
                    ModelFacts::Spec(_) => self.no_tensors(weights::OF_THE_CACHE),
                };
                let model = match facts {
                    ModelFacts::Config(config) => {
                        let name = names.first().cloned().unwrap_or_default();
                        let model = hf_config::model(&config, label)
                            .map_err(|error| error.in_file(format!("catalogue entry {name}")))?;
                        read_from(model, CONFIG)
                    }
                    ModelFacts::Spec(spec) => Model { name: label, ..spec.model()? },
                };
                let mut model = hf_config::with_quantization(model, hf_quant_config.as_ref());
                model.named_weights = named_weights;
                model.assumptions.extend(note);
                model.warnings.extend(warning);
                Ok(Model { origin: Origin::Catalogue, gguf_tensors: tensors, ..weighed(model, known) })
            }
        }
    }

    fn weigh_found(&self, found: Found<'_>) -> Result<Weighed, Error> {
        Ok(match found {
            Found::Json(json) => json.weigh(self)?,
            Found::Weights { files, named, .. } => {
                let known = weight_files::in_files(&*files, named.as_deref(), None)?;
                Weighed {
                    name: files.model_name(CONFIG),
                    origin: Origin::Config,
                    model_type: None,
                    weights: known.unwrap_or_else(|| Err("its files are missing".into())),
                    gguf_tensors: self.no_tensors("its config.json is missing"),
                }
            }
            Found::Gguf { files, name } => {
                let header = header(&*files, &name)?;
                Weighed {
                    name: header.text("general.name").map_or_else(|| files.model_name(&name), ToOwned::to_owned),
                    origin: Origin::Gguf,
                    model_type: header.text("general.architecture").map(ToOwned::to_owned),
                    weights: weight_files::of_gguf(&*files, &name, &header)?,
                    gguf_tensors: self.no_tensors(GGUF_FILE),
                }
            }
            Found::Entry(entry) => {
                let entry = entry.entry;
                let (model_type, gguf_tensors) = match &entry.facts {
                    ModelFacts::Config(config) => (model_type(config), self.gguf_tensors(config)),
                    ModelFacts::Spec(_) => (None, self.no_tensors(weights::OF_THE_CACHE)),
                };
                let (origin, weights) = (Origin::Catalogue, weights::of_entry(&entry));
                Weighed { name: entry.label, origin, model_type, weights, gguf_tensors }
            }
        })
    }
}

impl NamedModel {
    fn new(name: &str, named: NamedEntry) -> Self {
        let NamedEntry { entry, weights, is_other_name } = named;
        let note = is_other_name.then(|| format!("{name:?} is {}", entry.label));
        Self { entry, weights, note, warning: None }
    }
}

/// What is at a path.
fn at_path<'a>(path: PathBuf) -> Result<Found<'a>, Error> {
    if path.is_dir() {
        return within(Box::new(Directory(path)), None);
    }
    let label = path.display().to_string();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files = Directory(path.parent().map_or_else(PathBuf::new, Path::to_path_buf));
    if !has_extension(&name, "json") && (has_extension(&name, "gguf") || file::begins_as_gguf(&files, &name)?) {
        let first = Part::parse(&name).map(|part| part.first()).filter(|first| files.0.join(first).is_file());
        return Ok(Found::Gguf { files: Box::new(files), name: first.unwrap_or(name) });
    }
    if !is_safetensors(&name) {
        let text = files.text(&name, MAX_CONFIG_BYTES)?.ok_or_else(|| file::missing(&path))?;
        return Ok(Found::Json(Json::in_file(Box::new(files), &name, text, None)));
    }
    match files.text(CONFIG, MAX_CONFIG_BYTES)? {
        Some(text) => Ok(Found::Json(Json::in_file(Box::new(files), CONFIG, text, Some(name)))),
        None => Ok(Found::Weights { files: Box::new(files), named: Some(name), label }),
    }
}

/// The model of a directory or a repository: of its configuration, or of the GGUF file that is `wanted`, or its only one.
fn within<'a>(files: Box<dyn Files + 'a>, wanted: Option<&str>) -> Result<Found<'a>, Error> {
    if wanted.is_none()
        && let Some(text) = files.text(CONFIG, MAX_CONFIG_BYTES)?
    {
        return Ok(Found::Json(Json::in_file(files, CONFIG, text, None)));
    }
    let names = files.names()?;
    match choose(&names, wanted) {
        Choice::One(name) => Ok(Found::Gguf { files, name }),
        Choice::Several(names) => Err(files.several_gguf(&names)),
        Choice::None(_) if !files.is_remote() && weight_files::are_among(&names) => {
            Ok(Found::Weights { label: files.label(""), files, named: None })
        }
        Choice::None(others) => Err(files.no_model(wanted, &others)),
    }
}

fn header(files: &dyn Files, name: &str) -> Result<gguf::Header, Error> {
    gguf_header(files, name)?.ok_or_else(|| files.no_model(Some(name), &[]))
}

impl<'a> Json<'a> {
    fn new(text: String, name: &str) -> Self {
        Self { text, name: name.to_owned(), label: name.to_owned(), place: None }
    }

    fn in_file(files: Box<dyn Files + 'a>, config: &str, text: String, weights: Option<String>) -> Self {
        let (name, label) = (files.model_name(config), files.label(config));
        Self { text, name, label, place: Some(Place { files, config: config.to_owned(), weights }) }
    }

    fn parse(&self) -> Result<Value, Error> {
        hf_config::parse(&self.text).map_err(|error| error.in_file(&self.label))
    }

    fn model(self, resolver: &Resolver<'_>) -> Result<Model, Error> {
        let weigh = resolver.weights != Weigh::No;
        let config = self.parse()?;
        let in_text = |error: Error| error.in_file(&self.label);
        if let Some(object) = config.as_object().filter(|object| spec::is_spec(object)) {
            return spec::model(object, &self.name).map_err(in_text);
        }
        let model = hf_config::model(&config, self.name).map_err(in_text)?;
        let model = Model { gguf_tensors: resolver.gguf_tensors(&config), ..model };
        let Some(place) = &self.place else {
            let known = weigh.then(|| Ok(computed(&config, None)));
            return Ok(weighed(read_from(model, &self.label), known));
        };
        let model = read_from(model, &place.config);
        let of_files = weigh.then(|| place.weights(&config));
        // Engines read it only where the configuration declares nothing itself.
        let quantization = match model.checkpoint.quantization {
            None => place.quantization()?,
            Some(_) => None,
        };
        let of_config = || computed(&config, quantization.as_ref());
        let known = of_files.map(|known| known.map(|known| known.unwrap_or_else(of_config)));
        Ok(weighed(hf_config::with_quantization(model, quantization.as_ref()), known))
    }

    fn weigh(self, resolver: &Resolver<'_>) -> Result<Weighed, Error> {
        let config = self.parse()?;
        let own = config.as_object().is_some_and(spec::is_spec);
        let gguf_tensors =
            if own { resolver.no_tensors(weights::OF_THE_CACHE) } else { resolver.gguf_tensors(&config) };
        let of_files = match &self.place {
            Some(place) if !own => place.weights(&config)?,
            _ => None,
        };
        let weights = match (of_files, &self.place) {
            (Some(known), _) => known,
            (None, _) if own => Err(weights::OF_THE_CACHE.into()),
            (None, Some(place)) => computed(&config, place.quantization()?.as_ref()),
            (None, None) => computed(&config, None),
        };
        let origin = if own { Origin::Spec } else { Origin::Config };
        Ok(Weighed { name: self.name, origin, model_type: model_type(&config), weights, gguf_tensors })
    }
}

impl Place<'_> {
    fn weights(&self, config: &Value) -> Result<Option<Known>, Error> {
        // Other names than config.json are of configurations that were put together, without their models.
        if self.config != CONFIG && self.weights.is_none() {
            return Ok(None);
        }
        weight_files::of_config(&*self.files, self.weights.as_deref(), config)
    }

    /// What the file next to a `config.json` declares.
    fn quantization(&self) -> Result<Option<Value>, Error> {
        if self.config != CONFIG {
            return Ok(None);
        }
        let Some(text) = self.files.text(QUANTIZATION, MAX_CONFIG_BYTES)? else { return Ok(None) };
        hf_config::parse(&text).map(Some).map_err(|error| self.files.error_in(QUANTIZATION, error))
    }
}

fn model_type(config: &Value) -> Option<String> {
    config.get("model_type")?.as_str().map(ToOwned::to_owned)
}

/// The model with its weights. Files of weights that are damaged do not take the cache's answer away: they are a warning.
fn weighed(mut model: Model, known: Option<Result<Known, Error>>) -> Model {
    match known {
        Some(Ok(Ok(weights))) => model.weights = Some(weights),
        Some(Err(error)) => model.warnings.push(format!("the weights are not told: {error}")),
        Some(Ok(Err(_))) | None => {}
    }
    model
}

/// The model, its facts from the file `name` where they are not defaults.
fn read_from(mut model: Model, name: &str) -> Model {
    let name = Path::new(name).file_name().map_or_else(|| name.into(), |name| name.to_string_lossy().into_owned());
    for fact in model.facts.iter_mut().filter(|fact| fact.from == "config") {
        fact.from.clone_from(&name);
    }
    model
}

// What is known without a network: the catalogue and local files.

/// The embedded catalogue and local files; no network, no environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalSources;

impl Sources for LocalSources {
    fn model(&self, named: &Named, key: &str, weigh: Weigh) -> Result<Arc<Model>, Error> {
        let resolver = Resolver::default().weights(weigh);
        let model = match named {
            Named::Object(text) => resolver.model_of_json(text.as_ref(), key),
            Named::Name(name) => resolver.model(name),
        };
        model.map(Arc::new)
    }

    fn is_path(&self, name: &str) -> bool {
        Path::new(name).exists()
    }

    fn accelerators(&self, file: Option<&Path>) -> Result<Vec<AcceleratorEntry>, Error> {
        file.map_or_else(|| Ok(Vec::new()), super::accelerators)
    }

    fn prices(&self, file: &Path) -> Result<Vec<PriceEntry>, Error> {
        super::prices(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_of_the_catalogue_is_read_without_a_warning() {
        for entry in catalogue::models(&[]) {
            for name in &entry.names {
                let model = Resolver::default().model(name).unwrap();
                assert_eq!(model.origin, Origin::Catalogue, "{name}");
                assert!(model.warnings.is_empty(), "{name}: {:?}", model.warnings);
            }
        }
    }
}
