//! Texts to the values of options.

use std::borrow::Cow;

use super::Named;
use crate::engine::Double;
use crate::units::{Bytes, Code, Error, Quantity, Tokens};

#[expect(clippy::unnecessary_wraps, reason = "the setter of an option may fail")]
pub(super) fn set<T>(field: &mut T, value: T) -> Result<(), Error> {
    *field = value;
    Ok(())
}

pub(super) fn put<T>(field: &mut Option<T>, value: Result<T, Error>) -> Result<(), Error> {
    set(field, Some(value?))
}

pub(super) fn push<T>(field: &mut Vec<T>, value: Result<T, Error>) -> Result<(), Error> {
    field.push(value?);
    Ok(())
}

/// An object begins with a brace, as no name does.
pub(super) fn named(text: Cow<'_, str>) -> Named<'_> {
    if text.starts_with('{') { Named::Object(text) } else { Named::Name(text) }
}

pub(super) fn tokens(text: &str) -> Result<u64, Error> {
    text.parse().map(|Tokens(tokens)| tokens)
}

pub(super) fn bytes(text: &str) -> Result<u64, Error> {
    text.parse().map(|Bytes(bytes)| bytes)
}

pub(super) fn positive_bytes(text: &str) -> Result<Bytes, Error> {
    match text.parse()? {
        Bytes(0) => Err(Quantity::Bytes.zero(text)),
        bytes => Ok(bytes),
    }
}

/// A share above 0, written as a decimal.
pub(super) fn share(text: &str) -> Result<Double, Error> {
    let is_plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let value = Double::parse(text).filter(|value| *value > Double::whole(0) && *value <= Double::whole(1));
    value.filter(|_| is_plain).ok_or_else(|| {
        let remedy = "give a decimal above 0 and at most 1, as 0.9";
        Error::new(Code::NotAShare, "", text, "is not a share of the whole", remedy)
    })
}

/// The memory of a GPU. A bare number is bytes, and no GPU has less than a million: its unit was forgotten.
pub(super) fn memory_of_a_gpu(text: &str) -> Result<Bytes, Error> {
    let bytes = positive_bytes(text)?;
    if bytes.0 < 1_000_000 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let remedy = format!("write {text}GB");
        return Err(Error::new(Code::NotANumber, "", text, "is so many bytes, too few for a GPU", remedy));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_plain_decimal_of_at_most_one() {
        assert!(["0.9", "1", "1.0", ".5"].iter().all(|text| share(text).is_ok()));
        assert!(["0", "1.1", "-0.5", "9e-1", "90%", ""].iter().all(|text| share(text).is_err()));
        assert_eq!(share("2").unwrap_err().code, Code::NotAShare);
    }
}
