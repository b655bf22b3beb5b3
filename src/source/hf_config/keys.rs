//! The keys of a configuration, typed: a value of the wrong type is an error that names its path, never a default;
//! and, for what decides no cache, read without errors.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::catalogue::ModelType;
use crate::model::{Dimension, Fact};
use crate::units::{Code, Decimal, Error};

/// The text model's object, the path that leads to it, and the defaults of its `model_type`.
pub(in crate::source) struct Keys<'a> {
    pub(in crate::source) object: &'a Map<String, Value>,
    pub(in crate::source) path: String,
    pub(in crate::source) model_type: Option<&'a ModelType>,
    /// What was read so far, by all that read this configuration.
    pub(in crate::source) read: &'a RefCell<Read>,
}

/// What was read of a configuration, and what was assumed where it says nothing.
#[derive(Default)]
pub(in crate::source) struct Read {
    pub(super) facts: Vec<Fact>,
    pub(super) assumptions: Vec<String>,
}

impl<'a> Keys<'a> {
    /// The value of `key`; none where it is missing or null. What is read is noted.
    pub(in crate::source) fn get(&self, key: &str) -> Option<&'a Value> {
        let value = self.object.get(key).filter(|value| !value.is_null())?;
        if !value.is_object() {
            self.note(self.field(key), shortened(value), "config".into());
        }
        Some(value)
    }

    /// The same object, for what decides no cache.
    pub(super) fn lenient(&self) -> Lenient<'a> {
        Lenient(self.object)
    }

    fn note(&self, key: String, value: String, from: String) {
        let facts = &mut self.read.borrow_mut().facts;
        if !facts.iter().any(|fact| fact.key == key) {
            facts.push(Fact { key, value, from });
        }
    }

    /// Says what is assumed.
    pub(super) fn assume(&self, text: String) {
        self.read.borrow_mut().assumptions.push(text);
    }

    /// The error where nothing supplies `key`.
    pub(super) fn missing(&self, key: &str) -> Error {
        Error::missing(self.field(key), "add it")
    }

    /// The full path of `key`.
    pub(in crate::source) fn field(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// The first of `keys` that has a value, as a count of 1 or more.
    pub(super) fn count(&self, keys: &[&str]) -> Result<Option<Dimension>, Error> {
        match self.count_or_zero(keys)? {
            Some(Dimension { field, value: 0 }) => Err(not_positive(field, "0")),
            dimension => Ok(dimension),
        }
    }

    /// As [`Keys::count`], with 0 taken as not given: `head_dim` and `sliding_window` are published so.
    pub(in crate::source) fn count_or_off(&self, keys: &[&str]) -> Result<Option<Dimension>, Error> {
        Ok(self.count_or_zero(keys)?.filter(|dimension| dimension.value > 0))
    }

    /// As [`Keys::count`], with 0 as a number like any other: an index, a layer to start from.
    pub(in crate::source) fn count_or_zero(&self, keys: &[&str]) -> Result<Option<Dimension>, Error> {
        let Some((key, value)) = keys.iter().find_map(|key| Some((*key, self.get(key)?))) else { return Ok(None) };
        let field = self.field(key);
        match value.as_u64() {
            Some(value) => Ok(Some(Dimension { field, value })),
            None if *value == "auto" => Ok(None),
            None if value.is_i64() => Err(not_positive(field, &value.to_string())),
            None => Err(wrong_type(field, value, "a whole number")),
        }
    }

    /// A flag; null is false, and so is a missing one unless the class says otherwise.
    pub(super) fn flag_or_default(&self, key: &str) -> Result<bool, Error> {
        let on = |value: &Value| *value == Value::Bool(true);
        Ok(self.flag(key)? || self.class_default(key, on).is_some())
    }

    /// The value of `key` as `read` takes it; an error where it is of another type.
    fn typed<T>(&self, key: &str, expected: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong_type(self.field(key), value, expected))
    }

    /// A flag; null is false, and so is a missing one.
    pub(super) fn flag(&self, key: &str) -> Result<bool, Error> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or_default())
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, Error> {
        self.typed(key, "a text", Value::as_str)
    }

    /// A list; an empty one is taken as not given.
    pub(in crate::source) fn list(&self, key: &str) -> Result<Option<&'a [Value]>, Error> {
        let list = self.typed(key, "a list", Value::as_array)?;
        Ok(list.map(Vec::as_slice).filter(|list| !list.is_empty()))
    }

    /// A decimal number of 0 or more.
    pub(super) fn decimal(&self, key: &str) -> Result<Option<Decimal>, Error> {
        self.typed(key, "a decimal number", |value| Decimal::parse(&value.as_number()?.to_string()))
    }

    /// A list of layers, counted from `first`; none where it is missing. A layer that is not there is an error.
    pub(super) fn layer_indices(&self, key: &str, first: u64, layers: u64) -> Result<BTreeSet<u64>, Error> {
        let last = layers.saturating_add(first).saturating_sub(1);
        let number = |value: &Value| {
            let index = value.as_u64().filter(|index| (first..=last).contains(index));
            index.ok_or_else(|| wrong_type(self.field(key), value, "the number of a layer"))
        };
        self.list(key)?.unwrap_or_default().iter().map(number).collect()
    }

    /// The keys of an object within; none where it is missing.
    pub(super) fn inner(&self, key: &str) -> Result<Option<Self>, Error> {
        let object = self.typed(key, "an object", Value::as_object)?;
        let path = || format!("{}.", self.field(key));
        Ok(object.map(|object| Self { object, path: path(), model_type: self.model_type, read: self.read }))
    }

    /// A list of one value a layer, cut to the layers. An empty one is taken as not given.
    pub(super) fn per_layer(&self, key: &str, layers: usize) -> Result<Option<&'a [Value]>, Error> {
        self.list(key)?.map(|list| self.fit(key, list, layers)).transpose()
    }

    /// As [`Keys::per_layer`], where what is cut need not be said.
    pub(super) fn per_layer_unsaid(&self, key: &str, layers: usize) -> Result<Option<&'a [Value]>, Error> {
        self.list(key)?.map(|list| self.fit_unsaid(key, list, layers)).transpose()
    }

    /// The first entries of a list, one a layer: published lists may have more, for layers that are not part of the
    /// model (MTP). A shorter one is an error.
    pub(super) fn fit<'b, T>(&self, key: &str, list: &'b [T], layers: usize) -> Result<&'b [T], Error> {
        let head = self.fit_unsaid(key, list, layers)?;
        if list.len() > layers {
            let (key, found) = (self.field(key), list.len());
            self.assume(format!("{key} has {found} entries for {layers} layers: the first {layers} are read"));
        }
        Ok(head)
    }

    pub(super) fn fit_unsaid<'b, T>(&self, key: &str, list: &'b [T], layers: usize) -> Result<&'b [T], Error> {
        list.get(..layers).ok_or_else(|| {
            let (found, problem) = (format!("{} entries", list.len()), format!("do not cover the {layers} layers"));
            Error::new(Code::ShortList, self.field(key), found, problem, "give one entry a layer")
        })
    }

    /// A count, from its keys or else from the class.
    pub(in crate::source) fn count_or_default(&self, keys: &[&str]) -> Result<Option<Dimension>, Error> {
        Ok(self.count_or_off(keys)?.or_else(|| keys.iter().find_map(|key| self.default(key))))
    }

    /// A count that must be there.
    pub(super) fn needed(&self, keys: &[&'static str]) -> Result<u64, Error> {
        Ok(self.count(keys)?.ok_or_else(|| self.missing(keys.first().copied().unwrap_or_default()))?.value)
    }

    /// The class default of `key`, only where the file does not have the key at all: a null is an answer.
    pub(super) fn default(&self, key: &str) -> Option<Dimension> {
        let positive = |value: &Value| value.as_u64().is_some_and(|value| value > 0);
        let (value, model_type) = self.class_default(key, positive)?;
        Some(Dimension { field: format!("{} (the default of {model_type})", self.field(key)), value: value.as_u64()? })
    }

    /// The class default that `accepts`, said and noted, and the name of the class.
    fn class_default(&self, key: &str, accepts: impl Fn(&Value) -> bool) -> Option<(&'a Value, String)> {
        let class = self.model_type.filter(|_| !self.object.contains_key(key))?;
        let value = class.defaults.get(key).filter(|value| accepts(value))?;
        let model_type = class.names.first().cloned().unwrap_or_default();
        let (key, source) = (self.field(key), &class.source);
        self.assume(format!("{key} is not in the config: {value}, the default of {model_type} ({source})"));
        self.note(key, value.to_string(), format!("default: {source}"));
        Some((value, model_type))
    }
}

/// An error that shows the value, shortened.
pub(super) fn wrong_type(field: String, value: &Value, expected: &str) -> Error {
    let mut found = value.to_string();
    if let Some((end, _)) = found.char_indices().nth(40) {
        found.truncate(end);
        found.push('…');
    }
    Error::new(Code::WrongType, field, found, format!("is not {expected}"), format!("write {expected}"))
}

/// An error about a count below 1.
pub(super) fn not_positive(field: String, found: &str) -> Error {
    Error::new(Code::NotPositive, field, found, "is not a positive count", "write 1 or more")
}

/// A value as a fact shows it.
fn shortened(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("{} entries", list.len()),
        Value::String(text) => text.chars().take(24).collect(),
        other => other.to_string(),
    }
}

// The keys of an object that decide no cache: a value of another type than is wanted is taken as missing, as engines take
// it.

/// An object, read without errors.
#[derive(Clone, Copy)]
pub(super) struct Lenient<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Lenient<'a> {
    /// The value of `key`, if it is there and not null.
    pub(super) fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// The first of `keys` that is a whole number of 0 or more.
    pub(super) fn number(self, keys: &[&str]) -> Option<u64> {
        keys.iter().find_map(|key| self.get(key)?.as_u64())
    }

    /// The first of `keys` that is a text.
    pub(super) fn text(self, keys: &[&str]) -> Option<&'a str> {
        keys.iter().find_map(|key| self.get(key)?.as_str())
    }

    pub(super) fn owned(self, key: &str) -> Option<String> {
        self.text(&[key]).map(ToOwned::to_owned)
    }

    pub(super) fn flag(self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// The first of `keys` that is an object.
    pub(super) fn inner(self, keys: &[&str]) -> Option<Self> {
        keys.iter().find_map(|key| self.get(key)?.as_object()).map(Self)
    }

    pub(super) fn list(self, key: &str) -> Option<&'a [Value]> {
        self.get(key)?.as_array().map(Vec::as_slice)
    }

    pub(super) fn decimal(self, key: &str) -> Option<Decimal> {
        Decimal::parse(&self.get(key)?.as_number()?.to_string())
    }

    /// Whether the key is there, with whatever value.
    pub(super) fn has(self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}
