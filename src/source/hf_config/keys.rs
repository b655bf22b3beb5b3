//! The keys of a configuration, typed: a value of the wrong type is an error that names its path, never a default.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::ConfigError;
use crate::catalogue::ModelType;
use crate::model::{Assumption, Dimension, Fact};

/// The text model's object, the path that leads to it, and the defaults of its `model_type`.
#[derive(Clone)]
pub(in crate::source) struct Keys<'a> {
    pub(in crate::source) object: &'a Map<String, Value>,
    pub(in crate::source) path: String,
    pub(in crate::source) model_type: Option<&'a ModelType>,
    /// What was read so far, by all that read this configuration.
    pub(in crate::source) read: &'a RefCell<Vec<Fact>>,
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

    fn note(&self, key: String, value: String, from: String) {
        let mut read = self.read.borrow_mut();
        if !read.iter().any(|fact| fact.key == key) {
            read.push(Fact { key, value, from });
        }
    }

    /// What stands under `key`, for a message.
    pub(super) fn found(&self, key: &str) -> String {
        self.object.get(key).map_or_else(|| "missing".into(), Value::to_string)
    }

    /// The full path of `key`.
    pub(in crate::source) fn field(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// The first of `keys` that has a value, as a count of 1 or more.
    pub(super) fn count(&self, keys: &[&str]) -> Result<Option<Dimension>, ConfigError> {
        match self.count_or_zero(keys)? {
            Some(Dimension { field, value: 0 }) => Err(ConfigError::NotPositive { field, found: "0".into() }),
            dimension => Ok(dimension),
        }
    }

    /// As [`Keys::count`], with 0 taken as not given: `head_dim` and `sliding_window` are published so.
    pub(in crate::source) fn count_or_off(&self, keys: &[&str]) -> Result<Option<Dimension>, ConfigError> {
        Ok(self.count_or_zero(keys)?.filter(|dimension| dimension.value > 0))
    }

    /// As [`Keys::count`], with 0 as a number like any other: an index, a layer to start from.
    pub(in crate::source) fn count_or_zero(&self, keys: &[&str]) -> Result<Option<Dimension>, ConfigError> {
        let Some((key, value)) = keys.iter().find_map(|key| Some((*key, self.get(key)?))) else { return Ok(None) };
        let field = self.field(key);
        match value.as_u64() {
            Some(value) => Ok(Some(Dimension { field, value })),
            None if *value == "auto" => Ok(None),
            None if value.is_i64() => Err(ConfigError::NotPositive { field, found: value.to_string() }),
            None => Err(wrong_type(field, value, "a whole number")),
        }
    }

    /// A flag; null is false, and so is a missing one unless the class says otherwise.
    pub(super) fn flag_or_default(&self, key: &str, assumptions: &mut Vec<Assumption>) -> Result<bool, ConfigError> {
        let on = |value: &Value| *value == Value::Bool(true);
        Ok(self.flag(key)? || self.class_default(key, on, assumptions).is_some())
    }

    /// A flag; null is false, and so is a missing one.
    pub(super) fn flag(&self, key: &str) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(wrong_type(self.field(key), other, "true or false")),
        }
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(self.field(key), other, "a text")),
        }
    }

    /// A list; an empty one is taken as not given.
    pub(in crate::source) fn list(&self, key: &str) -> Result<Option<&'a [Value]>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list.as_slice()).filter(|list| !list.is_empty())),
            Some(other) => Err(wrong_type(self.field(key), other, "a list")),
        }
    }

    /// A decimal number as a fraction of whole ones.
    pub(super) fn decimal_fraction(&self, key: &str) -> Result<Option<(u64, u64)>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || wrong_type(self.field(key), value, "a decimal number");
        let text = value.as_number().ok_or_else(wrong)?.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits: u64 = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
        let power = u32::try_from(fraction.len()).ok().and_then(|digits| 10u64.checked_pow(digits));
        Ok(Some((digits, power.ok_or_else(wrong)?)))
    }

    /// A list of layers, counted from `first`; none where it is missing. A layer that is not there is an error.
    pub(super) fn layer_indices(&self, key: &str, first: u64, layers: u32) -> Result<BTreeSet<u64>, ConfigError> {
        let last = u64::from(layers).saturating_add(first).saturating_sub(1);
        let number = |value: &Value| {
            let index = value.as_u64().filter(|index| (first..=last).contains(index));
            index.ok_or_else(|| wrong_type(self.field(key), value, "the number of a layer"))
        };
        self.list(key)?.unwrap_or_default().iter().map(number).collect()
    }

    /// The keys of an object within; none where it is missing.
    pub(super) fn inner(&self, key: &str) -> Result<Option<Self>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(object)) => {
                let path = format!("{}.", self.field(key));
                Ok(Some(Self { object, path, model_type: self.model_type, read: self.read }))
            }
            Some(other) => Err(wrong_type(self.field(key), other, "an object")),
        }
    }

    /// A list of one value a layer, cut to the layers. An empty one is taken as not given.
    pub(super) fn per_layer(
        &self,
        key: &str,
        layers: u32,
        assumptions: &mut Vec<Assumption>,
    ) -> Result<Option<&'a [Value]>, ConfigError> {
        self.list(key)?.map(|list| self.fit(key, list, layers, assumptions)).transpose()
    }

    /// The first entries of a list, one a layer: published lists may have more, for layers that are not part of the
    /// model (MTP). A shorter one is an error.
    pub(super) fn fit<'b, T>(
        &self,
        key: &str,
        list: &'b [T],
        layers: u32,
        assumptions: &mut Vec<Assumption>,
    ) -> Result<&'b [T], ConfigError> {
        let wanted = usize::try_from(layers).unwrap_or(usize::MAX);
        let Some(head) = list.get(..wanted) else {
            return Err(ConfigError::ShortList { field: self.field(key), found: list.len(), layers });
        };
        if list.len() > wanted {
            assumptions.push(Assumption::LongList { key: self.field(key), found: list.len(), layers });
        }
        Ok(head)
    }

    /// A count, from its keys or else from the class.
    pub(in crate::source) fn count_or_default(
        &self,
        keys: &[&str],
        assumptions: &mut Vec<Assumption>,
    ) -> Result<Option<Dimension>, ConfigError> {
        let given = self.count_or_off(keys)?;
        Ok(given.or_else(|| keys.iter().find_map(|key| self.default(key, assumptions))))
    }

    /// A count that must be there.
    pub(super) fn needed(&self, keys: &[&'static str]) -> Result<u64, ConfigError> {
        let missing = || ConfigError::Missing { field: self.field(keys.first().copied().unwrap_or_default()) };
        Ok(self.count(keys)?.ok_or_else(missing)?.value)
    }

    /// The class default of `key`, only where the file does not have the key at all: a null is an answer.
    pub(super) fn default(&self, key: &str, assumptions: &mut Vec<Assumption>) -> Option<Dimension> {
        let positive = |value: &Value| value.as_u64().is_some_and(|value| value > 0);
        let (value, model_type) = self.class_default(key, positive, assumptions)?;
        Some(Dimension { field: format!("{} (the default of {model_type})", self.field(key)), value: value.as_u64()? })
    }

    /// The class default that `accepts`, said and noted, and the name of the class.
    fn class_default(
        &self,
        key: &str,
        accepts: impl Fn(&Value) -> bool,
        assumptions: &mut Vec<Assumption>,
    ) -> Option<(&'a Value, String)> {
        let class = self.model_type.filter(|_| !self.object.contains_key(key))?;
        let value = class.defaults.get(key).filter(|value| accepts(value))?;
        let model_type = class.names.first().cloned().unwrap_or_default();
        assumptions.push(Assumption::ClassDefault {
            key: self.field(key),
            value: value.to_string(),
            model_type: model_type.clone(),
            source: class.source.clone(),
        });
        self.note(self.field(key), value.to_string(), format!("default: {}", class.source));
        Some((value, model_type))
    }
}

/// An error that shows the value, shortened.
pub(super) fn wrong_type(field: String, value: &Value, expected: &'static str) -> ConfigError {
    let mut found = value.to_string();
    if let Some((end, _)) = found.char_indices().nth(40) {
        found.truncate(end);
        found.push('…');
    }
    ConfigError::WrongType { field, found, expected }
}

/// A value as a fact shows it.
fn shortened(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("{} entries", list.len()),
        Value::String(text) => text.chars().take(24).collect(),
        other => other.to_string(),
    }
}
