//! Why a file is no GGUF of a model with a cache.

use std::io;

use crate::model::ModelError;
use crate::units::{Diagnose, Diagnosis, display_diagnosis, group_thousands};

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
    fn diagnosis(&self) -> Diagnosis {
        const AGAIN: &str = "the file is damaged: download it again";
        let at = |position: u64, len: u64| format!("at byte {} of {}", group_thousands(position), group_thousands(len));
        match self {
            Self::Magic => Diagnosis::new(
                "gguf_magic",
                "",
                "the file".into(),
                "does not begin with GGUF".into(),
                "give a GGUF file",
            ),
            Self::Version(found) => Diagnosis::new(
                "gguf_version",
                "version",
                found.to_string(),
                "is not a version of GGUF that is read here".into(),
                "read are 2 and 3; convert the model again",
            ),
            Self::BigEndian => Diagnosis::new(
                "gguf_big_endian",
                "version",
                "the file".into(),
                "is big-endian".into(),
                "give a little-endian one, as llama.cpp's converter writes without --bigendian",
            ),
            Self::Truncated { what, position, len } => Diagnosis::new(
                "gguf_truncated",
                "",
                "the file".into(),
                format!("ends within {what} ({})", at(*position, *len)),
                AGAIN,
            ),
            Self::Implausible { what, count, position, len } => Diagnosis::new(
                "gguf_implausible",
                "",
                format!("{} {what}", group_thousands(*count)),
                format!("is more than the rest of the file holds ({})", at(*position, *len)),
                AGAIN,
            ),
            Self::ValueType { key, found } => Diagnosis::new(
                "gguf_value_type",
                key,
                format!("type {found}"),
                "is not a type of GGUF values".into(),
                AGAIN,
            ),
            Self::Nested { key } => {
                Diagnosis::new("gguf_nested", key, "a list".into(), "is a list of lists".into(), AGAIN)
            }
            Self::Twice { key } => Diagnosis::new("gguf_twice", key, "it".into(), "is there twice".into(), AGAIN),
            Self::TooMuch => {
                Diagnosis::new("gguf_too_much", "", "the metadata".into(), "is more than any model has".into(), AGAIN)
            }
            Self::Tensor { name, reason } => {
                Diagnosis::new("gguf_tensor", name, "the tensor".into(), reason.clone(), AGAIN)
            }
            Self::Missing { key } => Diagnosis::new(
                "missing",
                key,
                "missing".into(),
                String::new(),
                "give the GGUF of a language model, as llama.cpp's converter writes it",
            ),
            Self::WrongValue { key, found, expected } => Diagnosis::new(
                "wrong_type",
                key,
                found.clone(),
                format!("is not {expected}"),
                "convert the model again",
            ),
            Self::LaterPart { part, parts } => Diagnosis::new(
                "gguf_later_part",
                "split.no",
                format!("part {part} of {parts}"),
                "has no keys".into(),
                "give the first part, whose name ends in -00001-of-…",
            ),
            Self::UnknownArchitecture { architecture, key } => Diagnosis::new(
                "unknown_architecture",
                "general.architecture",
                architecture.clone(),
                format!("is not an architecture known here, and {key} says that it is no plain attention"),
                "give the config.json of the model it was made from",
            ),
            Self::NoCache { architecture, reason } => Diagnosis::new(
                "no_cache",
                "general.architecture",
                architecture.clone(),
                format!("has no KV cache: {reason}"),
                "give the GGUF of a model that generates text",
            ),
            Self::Model(error) => error.diagnosis(),
            Self::Io(error) => Diagnosis::new("io", "", error.to_string(), String::new(), "make the file readable"),
        }
    }
}

display_diagnosis!(GgufError);
