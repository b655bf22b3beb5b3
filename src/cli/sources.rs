//! Where the command line looks up what is named: files, standard input, the catalogue, the hub, the environment.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{hub, nvidia_smi};
use crate::catalogue::{AcceleratorEntry, ModelEntry, PriceEntry};
use crate::model::Model;
use crate::request::{Ask, ByText, Card, Named, Sources, Weigh, duplicate, twice};
use crate::source::{self, Extra, HubSettings, Resolver, Weighed};
use crate::units::{Code, Error};

/// How a model that is piped in is called.
const STANDARD_INPUT: &str = "standard input";

/// The user's own models, the hub, and what paths are relative to.
pub(super) struct Places {
    overlay: Vec<ModelEntry>,
    hub: Option<HubSettings>,
    /// The directory of the file that names models; `None` on the command line, where `-` is standard input.
    directory: Option<PathBuf>,
}

impl Places {
    /// The places that a command line names. Files need no catalogue, and are not held up by one that is broken.
    pub(super) fn new(ask: &Ask) -> Result<Self, Error> {
        let names = ask.models.iter().chain(&ask.draft).map(Named::text);
        Self::for_models(names, ask.catalogue.as_deref(), ask.offline)
    }

    /// The same, for models of these names.
    pub(super) fn for_models<'n>(
        names: impl Iterator<Item = &'n str> + Clone,
        catalogue: Option<&Path>,
        offline: bool,
    ) -> Result<Self, Error> {
        let looks_up = names.clone().any(|name| name != "-" && !Path::new(name).exists());
        let overlay = if looks_up { overlay(catalogue)? } else { Vec::new() };
        Ok(Self { overlay, hub: hub::settings_for(names, offline), directory: None })
    }

    /// The places that a file in `directory` names.
    pub(super) fn of_file(directory: PathBuf, catalogue: Option<&Path>, offline: bool) -> Result<Self, Error> {
        let hub = Some(hub::settings(offline));
        Ok(Self { overlay: overlay(catalogue)?, hub, directory: Some(directory) })
    }

    /// What the model that an argument means weighs.
    pub(super) fn weigh(&self, name: &str, weigh: Weigh, extra: Extra) -> Result<Weighed, Error> {
        if name == "-" {
            let resolver = Resolver::default().weights(weigh).extra(extra);
            return resolver.weigh_json(source::text_of_stdin(&mut StandardInput)?, STANDARD_INPUT);
        }
        self.resolver(weigh).extra(extra).weigh(name)
    }

    fn resolver(&self, weigh: Weigh) -> Resolver<'_> {
        let resolver = Resolver::default().overlay(&self.overlay).hub(self.hub.as_ref()).weights(weigh);
        self.directory.as_ref().map_or(resolver, |directory| resolver.directory(directory))
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.directory.as_ref().map_or_else(|| path.to_path_buf(), |directory| directory.join(path))
    }
}

impl Sources for Places {
    fn model(&self, named: &Named, key: &str, weigh: Weigh) -> Result<Arc<Model>, Error> {
        let resolver = self.resolver(weigh);
        let model = match named {
            Named::Object(text) => {
                if let Some(path) = twice(text, key) {
                    return Err(duplicate(&path));
                }
                resolver.model_of_json(text.as_ref(), key)
            }
            Named::Name(name) if name != "-" => resolver.model(name),
            Named::Name(_) if self.directory.is_none() => {
                resolver.model_of_json(source::text_of_stdin(&mut StandardInput)?, STANDARD_INPUT)
            }
            Named::Name(_) => {
                let problem = "would be standard input, which is not read for a model here";
                Err(Error::new(Code::Stdin, key, "-", problem, "write the object itself as its value"))
            }
        };
        model.map(Arc::new)
    }

    fn is_path(&self, name: &str) -> bool {
        self.path(Path::new(name)).exists()
    }

    fn accelerators(&self, file: Option<&Path>) -> Result<Vec<AcceleratorEntry>, Error> {
        own_accelerators(file.map(|file| self.path(file)))
    }

    fn prices(&self, file: &Path) -> Result<Vec<PriceEntry>, Error> {
        source::prices(&self.path(file))
    }

    fn cards(&self) -> Result<Vec<Card>, String> {
        nvidia_smi::cards()
    }
}

/// Standard input, which has no buffer before it is read.
struct StandardInput;

impl io::Read for StandardInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        io::stdin().lock().read(buffer)
    }
}

/// The user's own models: of the file named by the flag, or else by the environment.
pub(super) fn overlay(flag: Option<&Path>) -> Result<Vec<ModelEntry>, Error> {
    match flag.map(Path::to_path_buf).or_else(|| variable("KVSIZE_CATALOGUE")) {
        Some(path) => source::overlay(&path),
        None => Ok(Vec::new()),
    }
}

/// The user's own accelerators: of the file named by the flag, or else by the environment.
pub(super) fn own_accelerators(flag: Option<PathBuf>) -> Result<Vec<AcceleratorEntry>, Error> {
    match flag.or_else(|| variable("KVSIZE_ACCELERATORS")) {
        Some(path) => source::accelerators(&path),
        None => Ok(Vec::new()),
    }
}

/// The path in a variable that is set to something.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A cache that is emptied when it is full: what is asked again is found again.
pub(super) struct Cache<T> {
    entries: ByText<String, T>,
    weight: usize,
    most: usize,
}

/// About the bytes of models that are kept.
const MODEL_BYTES: usize = 32 << 20;

impl<T> Cache<T> {
    /// Holds about `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { entries: ByText::default(), weight: 0, most }
    }

    pub(super) fn get(&self, key: &str) -> Option<&T> {
        self.entries.get(key)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Keeps a value that takes about `weight` bytes.
    pub(super) fn keep(&mut self, key: &str, value: T, weight: usize) {
        /// What an entry takes in addition to its key and its model's layers, roughly.
        const ENTRY_BYTES: usize = 4 << 10;
        let weight = weight.saturating_add(key.len()).saturating_add(ENTRY_BYTES);
        self.weight = self.weight.saturating_add(weight);
        if self.weight > self.most {
            self.entries.clear();
            self.weight = weight;
        }
        self.entries.insert(key.to_owned(), value);
    }
}

/// What a model takes in memory, roughly: its lists of layers.
fn weight(model: &Model) -> usize {
    model.layer_groups.iter().map(|group| group.layers.len()).sum::<usize>().saturating_mul(size_of::<u32>())
}

/// What was read of models without their weights, with them, and with their tensors in a GGUF file.
type Read = [Cache<Result<Arc<Model>, Error>>; 3];

/// Models that are asked for again and again, by all threads; each is read once.
pub(super) struct SharedModels {
    places: Places,
    read: Mutex<Read>,
}

impl SharedModels {
    pub(super) fn new(places: Places) -> Self {
        Self { places, read: Mutex::new(std::array::from_fn(|_| Cache::new(MODEL_BYTES))) }
    }

    fn model(&self, named: &Named, key: &str, weigh: Weigh) -> Result<Arc<Model>, Error> {
        // What is half done here is an entry that is missing, and so read again.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let [light, weighed, gguf] = &mut *read;
        let cache = match weigh {
            Weigh::No => light,
            Weigh::Yes => weighed,
            Weigh::Gguf => gguf,
        };
        if let Some(known) = cache.get(named.text()) {
            return known.clone();
        }
        let model = self.places.model(named, key, weigh);
        cache.keep(named.text(), model.clone(), model.as_ref().map_or(0, |model| weight(model)));
        model
    }
}

/// The models of one thread: those it had are found without waiting for other threads.
pub(super) struct ThreadModels {
    shared: Arc<SharedModels>,
    read: RefCell<Cache<Arc<Model>>>,
    /// Models with what drafts for them and with levers, by all that makes them.
    derived: RefCell<Cache<Arc<Model>>>,
}

impl ThreadModels {
    pub(super) fn new(shared: Arc<SharedModels>) -> Self {
        Self { shared, read: RefCell::new(Cache::new(MODEL_BYTES)), derived: RefCell::new(Cache::new(MODEL_BYTES)) }
    }
}

impl Sources for ThreadModels {
    fn model(&self, named: &Named, key: &str, weigh: Weigh) -> Result<Arc<Model>, Error> {
        if weigh != Weigh::No {
            return self.shared.model(named, key, weigh);
        }
        if let Some(known) = self.read.borrow().get(named.text()) {
            return Ok(Arc::clone(known));
        }
        let model = self.shared.model(named, key, weigh)?;
        self.read.borrow_mut().keep(named.text(), Arc::clone(&model), weight(&model));
        Ok(model)
    }

    fn derived(&self, ask: &Ask, derive: &dyn Fn() -> Result<Model, Error>) -> Result<Arc<Model>, Error> {
        let Ask { models, dimensions, dtype, speculative_method, num_speculative_tokens, draft, seq_len, .. } = ask;
        let levers = ask.levers();
        let lengths = levers.streaming.map(|_| seq_len);
        let made_of = (models, dimensions, dtype, speculative_method, num_speculative_tokens, draft, levers, lengths);
        let key = format!("{made_of:?}");
        if let Some(known) = self.derived.borrow().get(&key) {
            return Ok(Arc::clone(known));
        }
        let model = Arc::new(derive()?);
        self.derived.borrow_mut().keep(&key, Arc::clone(&model), weight(&model));
        Ok(model)
    }

    fn is_path(&self, name: &str) -> bool {
        self.shared.places.is_path(name)
    }

    fn accelerators(&self, file: Option<&Path>) -> Result<Vec<AcceleratorEntry>, Error> {
        self.shared.places.accelerators(file)
    }

    fn prices(&self, file: &Path) -> Result<Vec<PriceEntry>, Error> {
        self.shared.places.prices(file)
    }

    fn cards(&self) -> Result<Vec<Card>, String> {
        self.shared.places.cards()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_is_full_is_emptied() {
        let mut cache = Cache::new(MODEL_BYTES);
        for number in 0..100u32 {
            cache.keep(&number.to_string(), number, MODEL_BYTES / 10);
            assert!(cache.weight <= MODEL_BYTES && cache.entries.len() <= 10);
            assert_eq!(cache.get(&number.to_string()), Some(&number));
        }
    }

    #[test]
    fn a_model_is_read_once_and_drafted_once() {
        let shared = Arc::new(SharedModels::new(Places { overlay: Vec::new(), hub: None, directory: None }));
        let models = ThreadModels::new(Arc::clone(&shared));
        let ask = Ask::new("deepseek-v3").set("speculative_method", "mtp").unwrap();
        let [one, other] =
            [ask.clone(), ask.set("seq_len", "9").unwrap()].map(|ask| ask.request(&models).unwrap().model);
        assert!(Arc::ptr_eq(&one, &other));
        assert_eq!(shared.read.lock().unwrap()[0].entries.len(), 1);
    }
}
