//! The keys of an object that decide no cache: a value of another type than is wanted is taken as missing, as engines take
//! it.

use serde_json::{Map, Value};

use crate::units::Decimal;

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
