//! Why a file is no GGUF of a model with a cache.

use std::io;

use crate::model::ModelError;
use crate::units::{Code, Diagnose, Error, display_diagnosis, group_thousands};

/// Why a file is no GGUF of a model with a cache.
#[derive(Debug)]
pub enum GgufError {
    /// It does not begin with `GGUF`.
    Magic,
    /// A version that is not read.
    Version(u32),
    /// Written for machines that store numbers the other way round.
    BigEndian,
    /// It ends within something.
    Truncated {
        /// Within what.
        what: &'static str,
        /// Bytes up to it.
        position: u64,
        /// Bytes of the file.
        len: u64,
    },
    /// A count or length that the rest of the file can't hold.
    Implausible {
        /// Of what.
        what: &'static str,
        /// The count.
        count: u64,
        /// Bytes up to it.
        position: u64,
        /// Bytes of the file.
        len: u64,
    },
    /// A value of a type that does not exist.
    ValueType {
        /// Its key.
        key: String,
        /// The type.
        found: u32,
    },
    /// A list of lists, which no GGUF has.
    Nested {
        /// Its key.
        key: String,
    },
    /// A key that is there twice.
    Twice {
        /// The key.
        key: String,
    },
    /// More keys, or longer values, than any model has.
    TooMuch,
    /// A tensor that can't be.
    Tensor {
        /// Its name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A key that must be there.
    Missing {
        /// The key.
        key: String,
    },
    /// A value that is not what its key needs.
    WrongValue {
        /// The key.
        key: String,
        /// The value, shortened.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A later part of a split file, which has no keys.
    LaterPart {
        /// Its number, from 1.
        part: u64,
        /// Parts.
        parts: u64,
    },
    /// A mechanism under an architecture that is not known.
    UnknownArchitecture {
        /// The architecture.
        architecture: String,
        /// A key of the mechanism.
        key: String,
    },
    /// A model without a cache.
    NoCache {
        /// The architecture.
        architecture: String,
        /// Why.
        reason: String,
    },
    /// Dimensions that make no model.
    Model(ModelError),
    /// What the system said.
    Io(io::Error),
}

impl From<io::Error> for GgufError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ModelError> for GgufError {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
}

impl Diagnose for GgufError {
    fn diagnosis(&self) -> Error {
        const AGAIN: &str = "the file is damaged: download it again";
        let at = |position: u64, len: u64| format!("at byte {} of {}", group_thousands(position), group_thousands(len));
        match self {
            Self::Magic => Error::new(Code::GgufMagic, "", "the file", "does not begin with GGUF", "give a GGUF file"),
            Self::Version(found) => Error::new(
                Code::GgufVersion,
                "version",
                found.to_string(),
                "is not a version of GGUF that is read here",
                "read are 2 and 3; convert the model again",
            ),
            Self::BigEndian => Error::new(
                Code::GgufBigEndian,
                "version",
                "the file",
                "is big-endian",
                "give a little-endian one, as llama.cpp's converter writes without --bigendian",
            ),
            Self::Truncated { what, position, len } => Error::new(
                Code::GgufTruncated,
                "",
                "the file",
                format!("ends within {what} ({})", at(*position, *len)),
                AGAIN,
            ),
            Self::Implausible { what, count, position, len } => Error::new(
                Code::GgufImplausible,
                "",
                format!("{} {what}", group_thousands(*count)),
                format!("is more than the rest of the file holds ({})", at(*position, *len)),
                AGAIN,
            ),
            Self::ValueType { key, found } => {
                Error::new(Code::GgufValueType, key, format!("type {found}"), "is not a type of GGUF values", AGAIN)
            }
            Self::Nested { key } => Error::new(Code::GgufNested, key, "a list", "is a list of lists", AGAIN),
            Self::Twice { key } => Error::new(Code::GgufTwice, key, "it", "is there twice", AGAIN),
            Self::TooMuch => Error::new(Code::GgufTooMuch, "", "the metadata", "is more than any model has", AGAIN),
            Self::Tensor { name, reason } => Error::new(Code::GgufTensor, name, "the tensor", reason.clone(), AGAIN),
            Self::Missing { key } => {
                Error::missing(key, "give the GGUF of a language model, as llama.cpp's converter writes it")
            }
            Self::WrongValue { key, found, expected } => {
                Error::new(Code::WrongType, key, found.clone(), format!("is not {expected}"), "convert the model again")
            }
            Self::LaterPart { part, parts } => Error::new(
                Code::GgufLaterPart,
                "split.no",
                format!("part {part} of {parts}"),
                "has no keys",
                "give the first part, whose name ends in -00001-of-…",
            ),
            Self::UnknownArchitecture { architecture, key } => Error::new(
                Code::UnknownArchitecture,
                "general.architecture",
                architecture.clone(),
                format!("is not an architecture known here, and {key} says that it is no plain attention"),
                "give the config.json of the model it was made from",
            ),
            Self::NoCache { architecture, reason } => Error::new(
                Code::NoCache,
                "general.architecture",
                architecture.clone(),
                format!("has no KV cache: {reason}"),
                "give the GGUF of a model that generates text",
            ),
            Self::Model(error) => error.diagnosis(),
            Self::Io(error) => Error::new(Code::Io, "", error.to_string(), String::new(), "make the file readable"),
        }
    }
}

display_diagnosis!(GgufError);
