//! The keys of an architecture, with their types checked and what was read noted.

use std::cell::RefCell;

use super::{GgufError, Header, Value};
use crate::model::Fact;

/// The keys of a header under the prefix of its architecture.
pub(super) struct Keys<'a> {
    header: &'a Header,
    architecture: &'a str,
    origin: &'a str,
    facts: RefCell<Vec<Fact>>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(header: &'a Header, architecture: &'a str, origin: &'a str) -> Self {
        Self { header, architecture, origin, facts: RefCell::default() }
    }

    /// The whole name of a key.
    pub(super) fn field(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// What was read.
    pub(super) fn into_facts(self) -> Vec<Fact> {
        self.facts.into_inner()
    }

    /// A value, noted.
    fn get(&self, key: &str) -> Option<&'a Value> {
        let field = self.field(key);
        let value = self.header.metadata.get(&field)?;
        let mut facts = self.facts.borrow_mut();
        if !facts.iter().any(|fact| fact.key == field) {
            facts.push(Fact { key: field, value: value.shortened(), from: self.origin.into() });
        }
        Some(value)
    }

    /// A number of 0 or more; llama.cpp counts in 32 bits.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Integer(value)) => match u32::try_from(*value) {
                Ok(value) => Ok(Some(value.into())),
                Err(_) => Err(self.wrong(key, "a whole number of 32 bits")),
            },
            Some(_) => Err(self.wrong(key, "a whole number")),
        }
    }

    /// A number, 0 where it is missing.
    pub(super) fn number_or_zero(&self, key: &str) -> Result<u64, GgufError> {
        Ok(self.number(key)?.unwrap_or_default())
    }

    /// A number that must be there.
    pub(super) fn needed(&self, key: &str) -> Result<u64, GgufError> {
        self.number(key)?.ok_or_else(|| self.missing(key))
    }

    /// A list of numbers of 0 or more; none where there is none, or a number in its place.
    pub(super) fn list(&self, key: &str) -> Result<Option<Vec<u64>>, GgufError> {
        match self.get(key) {
            None | Some(Value::Integer(_)) => Ok(None),
            Some(Value::List(list)) => {
                let number = |value: &i64| u32::try_from(*value).map(u64::from);
                let numbers: Result<Vec<u64>, _> = list.iter().map(number).collect();
                numbers.map(Some).map_err(|_| self.wrong(key, "a list of whole numbers of 32 bits"))
            }
            Some(_) => Err(self.wrong(key, "a list of whole numbers")),
        }
    }

    /// A list, one entry a layer and cut or filled up with 0.
    pub(super) fn layers_listed(&self, key: &str, layers: usize) -> Result<Option<Vec<bool>>, GgufError> {
        let list = self.list(key)?;
        Ok(list.map(|list| {
            let mut flags: Vec<bool> = list.iter().map(|&flag| flag != 0).collect();
            flags.resize(layers, false);
            flags
        }))
    }

    /// One number for all layers, or one for each.
    pub(super) fn per_layer(&self, key: &str, layers: usize) -> Result<Option<Vec<u64>>, GgufError> {
        if let Some(list) = self.list(key)? {
            if list.len() != layers {
                return Err(self.wrong(key, &format!("one entry for each of the {layers} layers")));
            }
            return Ok(Some(list));
        }
        Ok(self.number(key)?.map(|number| vec![number; layers]))
    }

    /// The first key that begins with one of these.
    pub(super) fn any_of(&self, starts: &[&str]) -> Option<String> {
        starts.iter().find_map(|start| {
            let field = self.field(start);
            self.header.metadata.keys().find(|key| key.starts_with(&field)).cloned()
        })
    }

    pub(super) fn missing(&self, key: &str) -> GgufError {
        GgufError::Missing { key: self.field(key) }
    }

    /// An error that shows the value.
    pub(super) fn wrong(&self, key: &str, expected: &str) -> GgufError {
        let key = self.field(key);
        let found = self.header.metadata.get(&key).map_or_else(|| "missing".into(), Value::shortened);
        GgufError::WrongValue { key, found, expected: expected.into() }
    }
}
