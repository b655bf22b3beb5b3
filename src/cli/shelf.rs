//! Models that are asked for again and again, each read once.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::estimate::Places;
use super::objects::{ByText, duplicate, text_of, twice, wrong};
use crate::model::Model;
use crate::source;
use crate::units::{Code, Error};

/// A cache that is emptied when it is full: what is asked again is found again.
pub(super) struct Cache<T> {
    pub(super) entries: ByText<Vec<u8>, T>,
    weight: usize,
}

/// About the bytes that a cache may hold.
const CACHE_BYTES: usize = 32 << 20;

impl<T> Cache<T> {
    pub(super) fn new() -> Self {
        Self { entries: ByText::default(), weight: 0 }
    }

    pub(super) fn keep(&mut self, key: &[u8], value: T, weight: usize) {
        /// What an entry takes beside its key and its model's layers, roughly.
        const ENTRY_BYTES: usize = 4 << 10;
        let weight = weight.saturating_add(key.len()).saturating_add(ENTRY_BYTES);
        self.weight = self.weight.saturating_add(weight);
        if self.weight > CACHE_BYTES {
            self.entries.clear();
            self.weight = weight;
        }
        self.entries.insert(key.to_vec(), value);
    }
}

/// What a model takes in memory, roughly: its lists of layers.
pub(super) fn weight(model: &Model) -> usize {
    model.layer_groups.iter().map(|group| group.layers.len()).sum::<usize>().saturating_mul(size_of::<u32>())
}

/// The models that objects name, each read once.
pub(super) struct Shelf {
    places: Places,
    /// What paths are relative to; of the empty path, the working directory.
    directory: PathBuf,
    pub(super) read: Mutex<Cache<Result<Arc<Model>, Error>>>,
}

impl Shelf {
    pub(super) fn new(places: Places, directory: PathBuf) -> Self {
        Self { places, directory, read: Mutex::new(Cache::new()) }
    }

    /// The model that a value means: a name, or an object. With its weights if it is to be weighed.
    pub(super) fn model(&self, raw: &str, key: &str, weigh: bool) -> Result<Arc<Model>, Error> {
        let known_as = [raw.as_bytes(), if weigh { b"+" } else { b"-" }].concat();
        // What is half done here is an entry that is missing, and so read again.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.entries.get(&known_as) {
            return known.clone();
        }
        let model = self.find(raw, key, weigh).map(Arc::new);
        read.keep(&known_as, model.clone(), model.as_ref().map_or(0, |model| weight(model)));
        model
    }

    fn find(&self, raw: &str, key: &str, weigh: bool) -> Result<Model, Error> {
        if raw.starts_with('{') {
            if let Some(path) = twice(raw, key) {
                return Err(duplicate(&path));
            }
            return source::of_json(raw.to_owned(), key);
        }
        let name = text_of(key, raw)?;
        if name == "-" {
            let problem = "would be standard input, which is not read for a model here".into();
            return Err(wrong(Code::Stdin, key, name, problem, "write the object itself as its value"));
        }
        self.places.beside(&self.directory, &name, weigh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_is_full_is_emptied() {
        let mut cache = Cache::new();
        for number in 0..100u32 {
            cache.keep(&number.to_le_bytes(), number, CACHE_BYTES / 10);
            assert!(cache.weight <= CACHE_BYTES && cache.entries.len() <= 10);
            assert_eq!(cache.entries.get(&number.to_le_bytes()[..]), Some(&number));
        }
    }
}
