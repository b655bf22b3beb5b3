//! A user's own file of entries like those of the catalogue.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::units::{Code, Error};

/// What such a file holds.
pub(super) struct Shape {
    /// The key of the list, where the file is an object.
    pub(super) key: &'static str,
    /// The one key that every entry has.
    pub(super) required: &'static str,
    /// What one may look like.
    pub(super) example: &'static str,
}

impl Shape {
    /// What is wrong with the value at a path.
    pub(super) fn wrong(&self, path: String, found: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::new(Code::Overlay, path, found, problem, format!("write {}", self.example))
    }

    pub(super) fn missing(&self, path: String) -> Error {
        Error { code: Code::Overlay, ..Error::missing(path, format!("write {}", self.example)) }
    }
}

/// The entries of a file: a list of objects, or an object with such a list.
pub(super) fn parse<T: DeserializeOwned>(text: &str, shape: &Shape) -> Result<Vec<T>, Error> {
    let document = serde_json::from_str(text)
        .map_err(|error| shape.wrong(String::new(), "the text", format!("is not JSON: {error}")))?;
    let list = match document {
        Value::Object(mut object) if object.len() == 1 => object.remove(shape.key).unwrap_or_default(),
        other => other,
    };
    let Value::Array(entries) = list else {
        return Err(shape.wrong(String::new(), "the text", "is not a list"));
    };
    entries.into_iter().enumerate().map(|(index, entry)| read(index, entry, shape)).collect()
}

fn read<T: DeserializeOwned>(index: usize, entry: Value, shape: &Shape) -> Result<T, Error> {
    let Value::Object(object) = entry else {
        return Err(shape.wrong(format!("[{index}]"), entry.to_string(), "is not an object"));
    };
    let Some(required) = object.get(shape.required).cloned() else {
        return Err(shape.missing(format!("[{index}].{}", shape.required)));
    };
    let error = match serde_json::from_value(Value::Object(object.clone())) {
        Ok(entry) => return Ok(entry),
        Err(error) => error,
    };
    // No key depends on another: the one at fault is at fault alone, beside the one that must be there.
    let alone = |key: &String, value: &Value| {
        let mut single = Map::new();
        single.insert(shape.required.to_owned(), required.clone());
        single.insert(key.clone(), value.clone());
        serde_json::from_value::<T>(Value::Object(single)).err()
    };
    let found = object.iter().find_map(|(key, value)| Some((key, value, alone(key, value)?)));
    Err(match found {
        Some((key, value, error)) => {
            shape.wrong(format!("[{index}].{key}"), value.to_string(), format!("is wrong: {}", before_remedy(&error)))
        }
        None => shape.wrong(format!("[{index}]"), "an entry", format!("is wrong: {}", before_remedy(&error))),
    })
}

/// What is wrong, without the remedy that a part of it may bring along: the shape is the remedy.
fn before_remedy(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split("; ").next().unwrap_or_default().trim_start_matches(": ").to_owned()
}
