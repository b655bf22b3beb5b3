//! The memory of a layout's devices, term by term: what is given, and what is known or estimated for the rest.

use super::Question;
use crate::engine::{Calibration, Double, Engine, Known, Overhead, OverheadTerm, RESERVE, Rule, Term, usable};
use crate::estimate::{Layout, Workload};
use crate::hardware::{Accelerator, Budget};
use crate::request::{HardwareRequest, Total};
use crate::units::{Bytes, Code, Error, Exact};

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

impl HardwareRequest {
    /// The memory of each stage's devices, each of them an `accelerator`: what was given, and what is known for the rest.
    ///
    /// # Errors
    /// A total or weights that are not known, or an overhead that must be given.
    pub fn budgets(&self, accelerator: &Accelerator, question: &Question, layout: Layout) -> Result<Budgets, Error> {
        let whole = match self.total {
            Total::Visible => accelerator.total(),
            Total::Driver => accelerator.driver.clone(),
            Total::Marketed => accelerator.marketed.clone(),
        };
        let whole = whole.ok_or_else(|| {
            let found = accelerator.id.clone();
            if !accelerator.sizes_gib.is_empty() {
                let sizes: Vec<String> = accelerator.sizes_gib.iter().map(|size| format!("{size} GB")).collect();
                let problem = format!("is sold with {}", sizes.join(", "));
                let first = accelerator.sizes_gib.last().copied().unwrap_or_default();
                return Error::new(Code::NoTotal, "--gpu", &found, problem, format!("name one, as {found}-{first}gb"));
            }
            let problem = format!("has no {} memory size from any source", self.total.name());
            let remedy = "give it with --gpu-memory, or another --capacity";
            Error::new(Code::NoTotal, "--gpu", found, problem, remedy)
        })?;
        let weights = self.weights.as_ref().ok_or_else(|| {
            let remedy = "give their bytes with --weights, or the files that hold them";
            Error::new(Code::NoWeights, "MODEL", question.model.name.clone(), "has unknown weights", remedy)
        })?;
        let share = self.share(question.engine)?;
        let workload = Workload { seq_len: question.usual_len(), batch: 1, layout, memory: None, ..question.workload };
        let Overhead { stages: overheads, calibration, notes } = match self.overhead {
            Some(bytes) => given_overhead(bytes, layout),
            None => question.engine.overhead(question.model, &workload)?,
        };
        // A reserve is what an engine's share leaves: with a share that is given it counts no more.
        let counts = |term: &OverheadTerm| self.utilization.is_none() || term.name != RESERVE;
        let Question { model, engine, .. } = question;
        let by_stage = engine.weights_by_stage(model, weights.bytes, layout)?;
        let of_stage = |(bytes, terms): (Bytes, Vec<OverheadTerm>)| -> Result<Budget, Error> {
            let mut budget = Budget {
                total: whole.clone(),
                usable: share.usable(&whole),
                weights: Term { bytes, ..weights.clone() },
                overhead: terms.into_iter().filter(counts).map(|OverheadTerm { name, term }| (name, term)).collect(),
            };
            if let (Rule::OfFree, Ok(free)) = (share.rule, budget.pool()) {
                budget.overhead.push(("left_free", share.left_free(free)?));
            }
            Ok(budget)
        };
        let stages = by_stage.into_iter().zip(overheads).map(of_stage).collect::<Result<_, _>>()?;
        Ok(Budgets { stages, calibration, notes })
    }

    /// The share that an engine takes: the one given, or its own.
    fn share(&self, engine: &Engine) -> Result<EngineShare, Error> {
        let own = engine.share()?;
        if let Some(fraction) = self.utilization {
            // An engine that takes all has no setting for it; a share that is given is one of the total.
            let rule = if own.rule == Rule::All { Rule::OfTotal } else { own.rule };
            return Ok(EngineShare { rule, fraction, known: Known::Given, source: "--utilization".into() });
        }
        let fraction = Double::parse(own.default).unwrap_or(Double::whole(1));
        Ok(EngineShare { rule: own.rule, fraction, known: Known::Catalogue, source: own.source.into() })
    }
}

/// The overhead that was given, the same on every stage.
fn given_overhead(bytes: Bytes, layout: Layout) -> Overhead {
    let term = OverheadTerm { name: "overhead", term: Term::given(bytes, "--overhead") };
    let stages = usize::try_from(layout.pp).unwrap_or(usize::MAX);
    Overhead { stages: vec![vec![term]; stages], calibration: None, notes: Vec::new() }
}

/// The share of a device that an engine takes.
struct EngineShare {
    rule: Rule,
    fraction: Double,
    known: Known,
    source: String,
}

impl EngineShare {
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
    fn left_free(&self, free: Bytes) -> Result<Term, Error> {
        let taken = Double::whole(free.0).times(self.fraction).truncated();
        let source = format!("the engine takes {} of what is free: {}", self.fraction.value(), self.source);
        Ok(Term { bytes: Exact::from(free).less(taken).bytes()?, known: self.known, source })
    }
}
