//! What each engine makes of an estimate. Only the ideal is here: live bytes and nothing an engine adds.

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
}

/// A name that is no engine here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownEngine(pub String);

impl Engine {
    /// What `workload` on `model` takes in this engine.
    ///
    /// # Errors
    /// [`EstimateError`] as [`estimate`].
    pub fn estimate(self, model: &Model, workload: &Workload) -> Result<Estimate, EstimateError> {
        match self {
            Self::Ideal => estimate(model, workload),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ideal => f.pad("ideal"),
        }
    }
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        match text {
            "ideal" => Ok(Self::Ideal),
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
            remedy: "use ideal".into(),
        }
    }
}

display_diagnosis!(UnknownEngine);
