//! The memory of a layout's devices, term by term: what is given, and what is known or estimated for the rest.

use super::{LayoutError, Question};
use crate::engine::{Calibration, Double, Engine, Known, Overhead, OverheadTerm, RESERVE, Rule, Term, usable};
use crate::estimate::{Layout, Workload};
use crate::hardware::{Accelerator, Budget};
use crate::model::{Model, Weights, WeightsOrigin};
use crate::units::{Bytes, Code, Diagnose, Error, display_diagnosis};

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
    /// No layout.
    Layout(LayoutError),
}

impl From<LayoutError> for MemoryError {
    fn from(error: LayoutError) -> Self {
        Self::Layout(error)
    }
}

impl Diagnose for MemoryError {
    fn diagnosis(&self) -> Error {
        match self {
            Self::Total { gpu, total } => Error::new(
                Code::NoTotal,
                "--gpu",
                gpu.clone(),
                format!("has no total from any source that is {}", total.name()),
                "give it with --gpu-memory, or another --capacity",
            ),
            Self::Weights { model } => Error::new(
                Code::NoWeights,
                "MODEL",
                model.clone(),
                "has weights that are not known here",
                "give their bytes with --weights, or the files that hold them",
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

impl From<Error> for MemoryError {
    fn from(error: Error) -> Self {
        Self::Layout(LayoutError::Estimate(error))
    }
}

/// The memory of a layout's devices.
#[derive(Debug, Clone)]
pub struct Budgets {
    /// Of each pipeline stage.
    pub stages: Vec<Budget>,
    /// What overheads are calibrated by, where they were not given.
    pub calibration: Option<&'static Calibration>,
    /// What there is to say of them.
    pub notes: Vec<String>,
}

impl Memory<'_> {
    /// The memory of each stage's devices.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn budgets(&self, question: &Question, layout: Layout) -> Result<Budgets, MemoryError> {
        let Self { accelerator, total, overhead: given, .. } = self;
        let whole = match total {
            Total::Visible => accelerator.total(),
            Total::Driver => accelerator.driver.clone(),
            Total::Marketed => accelerator.marketed.clone(),
        };
        let whole = whole.ok_or_else(|| MemoryError::Total { gpu: accelerator.id.clone(), total: *total })?;
        let weights = self.weights.ok_or_else(|| MemoryError::Weights { model: question.model.name.clone() })?;
        let share = self.share(question.engine)?;
        let workload = Workload { seq_len: question.usual_len(), batch: 1, layout, memory: None, ..question.workload };
        let Overhead { stages: overheads, calibration, notes } = match given {
            Some(bytes) => given_overhead(*bytes, layout),
            None => question.engine.overhead(question.model, &workload)?,
        };
        // SGLang's reserve is what its share leaves, told the other way round.
        let beside = |term: &OverheadTerm| self.utilization.is_none() || term.name != RESERVE;
        let Question { model, engine, .. } = question;
        let by_stage = engine.weights_by_stage(model, weights.bytes, layout)?;
        let of_stage = |(bytes, terms): (Bytes, Vec<OverheadTerm>)| {
            let mut budget = Budget {
                total: whole.clone(),
                usable: share.usable(&whole),
                weights: Term { bytes, ..weights.clone() },
                overhead: terms.into_iter().filter(beside).map(|OverheadTerm { name, term }| (name, term)).collect(),
            };
            if let (Rule::OfFree, Ok(free)) = (share.rule, budget.pool()) {
                budget.overhead.push(("left_free", share.left_free(free)));
            }
            budget
        };
        Ok(Budgets { stages: by_stage.into_iter().zip(overheads).map(of_stage).collect(), calibration, notes })
    }

    /// The share that an engine takes: the one given, or its own.
    fn share(&self, engine: &Engine) -> Result<Taken, Error> {
        let own = engine.share()?;
        if let Some(fraction) = self.utilization {
            // An engine that takes all has no setting for it; a share that is given is one of the total.
            let rule = if own.rule == Rule::All { Rule::OfTotal } else { own.rule };
            return Ok(Taken { rule, fraction, known: Known::Given, source: "--utilization".into() });
        }
        let fraction = Double::parse(own.default).unwrap_or(Double::whole(1));
        Ok(Taken { rule: own.rule, fraction, known: Known::Catalogue, source: own.source.into() })
    }
}

/// The overhead that was given, the same on every stage.
fn given_overhead(bytes: Bytes, layout: Layout) -> Overhead {
    let term = OverheadTerm { name: "overhead", term: Term::given(bytes, "--overhead") };
    let stages = usize::try_from(layout.pp).unwrap_or(usize::MAX);
    Overhead { stages: vec![vec![term]; stages], calibration: None, notes: Vec::new() }
}

/// The share of a device that an engine takes.
struct Taken {
    rule: Rule,
    fraction: Double,
    known: Known,
    source: String,
}

impl Taken {
    /// What of `total` weights, overhead and cache may take.
    fn usable(&self, total: &Term) -> Term {
        let (bytes, source) = match self.rule {
            Rule::OfTotal => {
                (usable(total.bytes, self.fraction), format!("{} of the total: {}", self.fraction.value(), self.source))
            }
            Rule::OfFree => (total.bytes, "all of it; the engine's share is of what is free".into()),
            Rule::All => (total.bytes, format!("all of it ({})", self.source)),
        };
        // No better known than what it is a share of.
        let known = if total.known == Known::Estimated { Known::Estimated } else { self.known };
        Term { bytes, known, source }
    }

    /// What an engine leaves of what is free.
    fn left_free(&self, free: Bytes) -> Term {
        let taken = Double::whole(free.0).times(self.fraction).truncated();
        let source = format!("the engine takes {} of what is free: {}", self.fraction.value(), self.source);
        Term { bytes: Bytes(free.0.saturating_sub(taken)), known: self.known, source }
    }
}
