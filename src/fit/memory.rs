//! The memory of a layout's devices, term by term: what is given, and what is known or estimated for the rest.

use super::{LayoutError, Question};
use crate::engine::Double;
use crate::estimate::Layout;
use crate::hardware::{Accelerator, Budget, Known, Term};
use crate::model::{Model, Weights, WeightsOrigin};
use crate::units::{Bytes, Diagnose, Diagnosis, display_diagnosis};

/// Which of a device's totals is counted with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Total {
    /// What an engine is told.
    #[default]
    Visible,
    /// What the driver reports.
    Driver,
    /// What it is sold with.
    Marketed,
}

impl Total {
    /// The name, as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Visible => "visible",
            Self::Driver => "driver",
            Self::Marketed => "marketed",
        }
    }
}

/// What is known of the memory of a device, and what was given in its place.
#[derive(Debug, Clone)]
pub struct Memory<'a> {
    /// The device.
    pub accelerator: &'a Accelerator,
    /// Which of its totals is counted with.
    pub total: Total,
    /// The share of it that the engine takes, if that was given.
    pub utilization: Option<Double>,
    /// The weights of one replica.
    pub weights: Option<&'a Term>,
    /// What the engine needs beside weights and cache on each device, if that was given.
    pub overhead: Option<Bytes>,
}

/// Why the memory of a layout's devices is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryError {
    /// No source has this total of the device.
    Total {
        /// The device.
        gpu: String,
        /// Which total.
        total: Total,
    },
    /// The weights of the model are not known.
    Weights {
        /// The model.
        model: String,
    },
    /// A share of more than all.
    Utilization(String),
    /// No layout.
    Layout(LayoutError),
}

impl From<LayoutError> for MemoryError {
    fn from(error: LayoutError) -> Self {
        Self::Layout(error)
    }
}

impl Diagnose for MemoryError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            Self::Total { gpu, total } => Diagnosis::new(
                "no_total",
                "--gpu",
                gpu.clone(),
                format!("has no total from any source that is {}", total.name()),
                "give it with --gpu-memory, or another --capacity",
            ),
            Self::Weights { model } => Diagnosis::new(
                "no_weights",
                "MODEL",
                model.clone(),
                "has weights that are not known here".into(),
                "give their bytes with --weights, or the files that hold them",
            ),
            Self::Utilization(found) => Diagnosis::new(
                "utilization",
                "--utilization",
                found.clone(),
                "is more than all of the memory".into(),
                "give a share of at most 1, as 0.9",
            ),
            Self::Layout(error) => error.diagnosis(),
        }
    }
}

display_diagnosis!(MemoryError);

/// The weights of a model as a term, as far as they are known.
pub fn weights_of(model: &Model) -> Option<Term> {
    let Weights { bytes, origin, .. } = model.weights.as_ref()?;
    let known = match origin {
        WeightsOrigin::Headers | WeightsOrigin::Index => Known::Measured,
        WeightsOrigin::Catalogue => Known::Catalogue,
        WeightsOrigin::Config => Known::Estimated,
    };
    Some(Term { bytes: (*bytes)?, known, source: origin.words().into() })
}

impl Memory<'_> {
    /// The memory of each stage's devices.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn budgets(&self, question: &Question, layout: Layout) -> Result<Vec<Budget>, MemoryError> {
        let Self { accelerator, total: counted, utilization, weights, overhead } = self;
        let total = match counted {
            Total::Visible => accelerator.total(),
            Total::Driver => accelerator.driver.clone(),
            Total::Marketed => accelerator.marketed.clone(),
        };
        let total = total.ok_or_else(|| MemoryError::Total { gpu: accelerator.id.clone(), total: *counted })?;
        let weights = weights.ok_or_else(|| MemoryError::Weights { model: question.model.name.clone() })?;
        let share = utilization.map_or(900_000, Double::millionths);
        let usable = u128::from(total.bytes.0).saturating_mul(share.into()).div_euclid(1_000_000);
        let usable = Term {
            bytes: Bytes(u64::try_from(usable).unwrap_or(u64::MAX)),
            known: Known::Given,
            source: "share".into(),
        };
        let gpus = layout.tp.saturating_mul(layout.pp);
        let each = Term { bytes: Bytes(weights.bytes.0.div_ceil(gpus.max(1))), ..weights.clone() };
        let overhead = overhead.map(|bytes| ("overhead", Term::given(bytes, "--overhead")));
        let budget = Budget { total, usable, weights: each, overhead: overhead.into_iter().collect() };
        Ok((0..layout.pp).map(|_| budget.clone()).collect())
    }
}
