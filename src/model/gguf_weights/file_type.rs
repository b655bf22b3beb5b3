//! The file types of GGUF files, by name.

use std::fmt;
use std::str::FromStr;

use super::table::{FILE_TYPES, FileTypeRow, Matrix};
use super::tensor_type::TensorType;
use crate::units::{Code, Error};

/// A GGUF file type as llama-quantize makes it: which type each tensor has.
#[derive(Debug, Clone, Copy)]
pub struct FileType {
    pub(super) row: &'static FileTypeRow,
    /// Whether an importance matrix is given.
    pub(super) imatrix: Imatrix,
    pub(super) release: Release,
}

/// Whether llama-quantize is given an importance matrix, on which some types of tensors depend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imatrix {
    /// It is.
    Given,
    /// It is not.
    Absent,
}

/// A build of llama-quantize: its rule changed once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release(u64);

/// The last build of the older rule, and the first of the newer one: those between were not compared.
const LAST_OLD: u64 = 8179;
const FIRST_NEW: u64 = 8390;

impl Default for Release {
    fn default() -> Self {
        Self(FIRST_NEW)
    }
}

impl Release {
    /// Whether it has the older rule, by which all files of 2024 and 2025 were made.
    pub fn is_older(self) -> bool {
        self.0 <= LAST_OLD
    }

    /// A note on a build whose rule was not compared.
    pub fn note(self) -> Option<String> {
        (LAST_OLD.saturating_add(1)..FIRST_NEW).contains(&self.0).then(|| {
            format!(
                "llama-quantize b{}: its rule changed between b{LAST_OLD} and b{FIRST_NEW}; the newer one is used",
                self.0
            )
        })
    }
}

impl FromStr for Release {
    type Err = Error;

    /// Reads the number of a build, as `b8179`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let number = text.strip_prefix(['b', 'B']).unwrap_or(text).parse();
        number.map(Self).map_err(|_| {
            Error::new(Code::WrongType, "", text, "is not a build of llama.cpp", "give its number, as b8179")
        })
    }
}

impl FileType {
    /// All of them, each with the matrix that it is usually made with.
    pub fn all() -> impl Iterator<Item = Self> {
        FILE_TYPES.iter().map(Self::new)
    }

    fn new(row: &'static FileTypeRow) -> Self {
        let imatrix = match row.matrix {
            Matrix::Needed | Matrix::Usual => Imatrix::Given,
            Matrix::Unusual => Imatrix::Absent,
        };
        Self { row, imatrix, release: Release::default() }
    }

    /// The type of a name as [`FromStr`] reads it, without an error's list where there is none.
    pub(crate) fn find(text: &str) -> Option<Self> {
        let plain = text.to_ascii_lowercase().replace('-', "_");
        let (name, imatrix) = match (plain.strip_suffix("+imatrix"), plain.strip_suffix("_imatrix")) {
            (Some(name), _) => (name, Some(Imatrix::Given)),
            (None, Some(name)) => (name, Some(Imatrix::Absent)),
            (None, None) => (plain.as_str(), None),
        };
        let row = FILE_TYPES.iter().find(|row| row.name.eq_ignore_ascii_case(name))?;
        let usual = Self::new(row);
        Some(Self { imatrix: imatrix.unwrap_or(usual.imatrix), ..usual })
    }

    /// The type of tensors for which its rule has no other.
    pub fn main_type(self) -> TensorType {
        self.row.default
    }

    /// Its name, as `Q4_K_M`.
    pub fn name(self) -> &'static str {
        self.row.name
    }

    /// Whether an importance matrix is assumed, and why.
    pub fn assumption(self) -> Option<&'static str> {
        match (self.row.matrix, self.imatrix) {
            (Matrix::Needed, Imatrix::Given) => Some("made with an importance matrix, without which it cannot be made"),
            (Matrix::Usual, Imatrix::Given) => Some("made with an importance matrix, as is usual"),
            _ => None,
        }
    }

    /// As a release of llama-quantize makes it.
    #[must_use]
    pub fn with_release(self, release: Release) -> Self {
        Self { release, ..self }
    }
}

impl PartialEq for FileType {
    fn eq(&self, other: &Self) -> bool {
        (self.name(), self.imatrix, self.release) == (other.name(), other.imatrix, other.release)
    }
}

impl Eq for FileType {}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for FileType {
    type Err = Error;

    /// Reads a name in any case, with `-` or `_`; `+imatrix` or `-imatrix` at its end says whether there is a matrix.
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::find(text).ok_or_else(|| {
            let names: Vec<&str> = FILE_TYPES.iter().map(|row| row.name).collect();
            Error::new(
                Code::UnknownFormat,
                "",
                text,
                "is not a GGUF file type",
                format!("give one of {}", names.join(", ")),
            )
        })
    }
}
