//! What each engine makes of an estimate: one file an engine, its rules and where they were read in its first lines.

pub mod transformers;

use std::fmt;
use std::str::FromStr;

use crate::estimate::{Estimate, EstimateError, Workload, estimate};
use crate::model::Model;
use crate::units::{Diagnose, Diagnosis, display_diagnosis};

/// An engine whose allocation can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The live bytes: no blocks, no padding, no reserve.
    Ideal,
    /// Hugging Face transformers, one of its caches.
    Transformers(transformers::Cache),
}

/// A name that is no engine here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownEngine(pub String);

impl Engine {
    /// What `workload` on `model` takes in this engine.
    ///
    /// # Errors
    /// [`EstimateError`] as [`estimate`], or what the engine refuses.
    pub fn estimate(self, model: &Model, workload: &Workload) -> Result<Estimate, EstimateError> {
        match self {
            Self::Ideal => estimate(model, workload),
            Self::Transformers(cache) => transformers::estimate(model, workload, cache),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ideal => f.pad("ideal"),
            Self::Transformers(_) => f.pad("transformers@5.23"),
        }
    }
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    /// Reads an engine's name, its version after `@` if it must be that one.
    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        match text {
            "ideal" => Ok(Self::Ideal),
            "transformers" | "transformers@5.23" | "transformers@5.23.0" => {
                Ok(Self::Transformers(transformers::Cache::default()))
            }
            _ => Err(UnknownEngine(text.to_owned())),
        }
    }
}

impl Diagnose for UnknownEngine {
    fn diagnosis(&self) -> Diagnosis {
        Diagnosis {
            code: "unknown_engine",
            field: String::new(),
            found: self.0.clone(),
            problem: "is not an engine known here".into(),
            remedy: "use ideal or transformers (transformers@5.23)".into(),
        }
    }
}

display_diagnosis!(UnknownEngine);
