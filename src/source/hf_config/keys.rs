//! The keys of a configuration, typed: a value of the wrong type is an error that names its path, never a default.

use serde_json::{Map, Value};

use super::ConfigError;
use crate::catalogue::ModelType;
use crate::model::{Assumption, Dimension};

/// The text model's object, the path that leads to it, and the defaults of its `model_type`.
pub(super) struct Keys<'a> {
    pub(super) object: &'a Map<String, Value>,
    pub(super) path: &'a str,
    pub(super) model_type: Option<&'a ModelType>,
}

impl<'a> Keys<'a> {
    /// The value of `key`; none where it is missing or null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// The full path of `key`.
    pub(super) fn field(&self, key: &str) -> String {
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
    pub(super) fn count_or_off(&self, keys: &[&str]) -> Result<Option<Dimension>, ConfigError> {
        Ok(self.count_or_zero(keys)?.filter(|dimension| dimension.value > 0))
    }

    fn count_or_zero(&self, keys: &[&str]) -> Result<Option<Dimension>, ConfigError> {
        let Some((key, value)) = keys.iter().find_map(|key| Some((*key, self.get(key)?))) else { return Ok(None) };
        let field = self.field(key);
        match value.as_u64() {
            Some(value) => Ok(Some(Dimension { field, value })),
            None if value.is_i64() => Err(ConfigError::NotPositive { field, found: value.to_string() }),
            None => Err(wrong_type(field, value, "a whole number")),
        }
    }

    /// A flag; missing and null are false.
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
    pub(super) fn list(&self, key: &str) -> Result<Option<&'a [Value]>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list.as_slice()).filter(|list| !list.is_empty())),
            Some(other) => Err(wrong_type(self.field(key), other, "a list")),
        }
    }

    /// The class default of `key`, only where the file does not have the key at all: a null is an answer.
    pub(super) fn default(&self, key: &str, assumptions: &mut Vec<Assumption>) -> Option<Dimension> {
        let model_type = self.model_type.filter(|_| !self.object.contains_key(key))?;
        let value = model_type.defaults.get(key)?.as_u64()?;
        assumptions.push(Assumption::ClassDefault {
            key: self.field(key),
            value: value.to_string(),
            model_type: model_type.names.first().cloned().unwrap_or_default(),
            source: model_type.source.clone(),
        });
        Some(Dimension { field: self.field(key), value })
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
