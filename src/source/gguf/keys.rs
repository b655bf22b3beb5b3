//! The keys of an architecture, with their types checked and what was read noted.

use std::cell::RefCell;

use super::{Header, Value, missing};
use crate::model::Fact;
use crate::units::{Code, Error, Exact};

/// The keys of a header under the prefix of its architecture.
pub(super) struct Keys<'a> {
    header: &'a Header,
    architecture: &'a str,
    origin: &'a str,
    /// What was read.
    pub(super) facts: RefCell<Vec<Fact>>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(header: &'a Header, architecture: &'a str, origin: &'a str) -> Self {
        Self { header, architecture, origin, facts: RefCell::default() }
    }

    /// The whole name of a key.
    pub(super) fn field(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// Whether an MTP layer has the tensor of this name.
    pub(super) fn has_mtp_tensor(&self, name: &str) -> bool {
        self.header.tensors.nextn.iter().any(|known| known == name)
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
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, Error> {
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
    pub(super) fn number_or_zero(&self, key: &str) -> Result<u64, Error> {
        Ok(self.number(key)?.unwrap_or_default())
    }

    /// A number that must be there.
    pub(super) fn needed(&self, key: &str) -> Result<u64, Error> {
        self.number(key)?.ok_or_else(|| self.missing(key))
    }

    /// A list of numbers of 0 or more; none where there is none, or a number in its place.
    pub(super) fn list(&self, key: &str) -> Result<Option<Vec<u64>>, Error> {
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
    pub(super) fn layers_listed(&self, key: &str, layers: usize) -> Result<Option<Vec<bool>>, Error> {
        let none = std::iter::repeat(false);
        Ok(self.list(key)?.map(|list| list.iter().map(|&flag| flag != 0).chain(none).take(layers).collect()))
    }

    /// One number for all layers, or one for each.
    pub(super) fn per_layer(&self, key: &str, layers: usize) -> Result<Option<Vec<u64>>, Error> {
        if let Some(list) = self.list(key)? {
            if list.len() != layers {
                return Err(self.wrong(key, &format!("one entry for each of the {layers} layers")));
            }
            return Ok(Some(list));
        }
        Ok(self.number(key)?.map(|number| vec![number; layers]))
    }

    /// The first key that begins so.
    pub(super) fn beginning_with(&self, start: &str) -> Option<String> {
        let start = self.field(start);
        self.header.metadata.keys().find(|key| key.starts_with(&start)).cloned()
    }

    pub(super) fn missing(&self, key: &str) -> Error {
        missing(self.field(key))
    }

    /// An error that shows the value.
    pub(super) fn wrong(&self, key: &str, expected: &str) -> Error {
        let field = self.field(key);
        let found = self.header.metadata.get(&field).map(Value::shortened);
        let problem = format!("is not {expected}");
        Error { found, ..Error::without_value(Code::WrongType, field, problem, "convert the model again") }
    }

    /// A number of elements, unless the dimensions of the file make it overflow.
    pub(super) fn elements(&self, number: Exact) -> Result<u64, Error> {
        number.get().map_err(|_| {
            let problem = "has dimensions whose product is past 2^64 - 1";
            Error::new(Code::TooLarge, "general.architecture", self.architecture, problem, "convert the model again")
        })
    }
}
