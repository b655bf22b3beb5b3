//! A figure that says how it is known.

use serde::Serialize;

use crate::units::Bytes;

/// How a figure is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// The user said so.
    Given,
    /// Read where it is: from a driver, or from the headers of files.
    Measured,
    /// From the catalogue, which names its source.
    Catalogue,
    /// Computed by a rule that may be off.
    Estimated,
}

impl Known {
    /// The name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Measured => "measured",
            Self::Catalogue => "catalogue",
            Self::Estimated => "estimated",
        }
    }
}

/// Bytes on one device, and how they are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Term {
    /// In bytes.
    pub bytes: Bytes,
    /// How it is known.
    pub known: Known,
    /// Where it was read, or how it is estimated.
    pub source: String,
}

impl Term {
    /// Bytes that the user gave with an option.
    pub fn given(bytes: Bytes, option: &str) -> Self {
        Self { bytes, known: Known::Given, source: option.into() }
    }
}
