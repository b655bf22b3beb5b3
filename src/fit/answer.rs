//! What hardware holds of a request: each kind of GPU with each engine and format.

use std::sync::Arc;

use super::{
    Budgets, Fit, Layouts, Limits, Planned, Question, Requests, Server, Smaller, closest, layouts_of, plan, ranks,
};
use crate::engine::{Calibration, Engine, Served, Spread};
use crate::estimate::{Layout, Workload};
use crate::hardware::{Budget, DRIVER_LESS_VISIBLE, Price, exact_size};
use crate::request::{Fleet, HardwareRequest, OnHardware, Total, past_maximum};
use crate::units::{Bytes, Code, Error, KvDtype, KvFormat, Notes, Tokens};

/// GPUs of a node, unless something else is known.
pub const PER_NODE: u64 = 8;

/// GPUs to plan with at the most, unless a number is given.
const MOST_GPUS: u64 = 256;

/// A model in an engine, laid out on GPUs of one kind.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// The device, by its own name.
    pub gpu: String,
    /// How many.
    pub gpus: u64,
    /// What an hour of one costs, where that is known.
    pub price: Option<Price>,
    /// The engine.
    pub engine: Engine,
    /// The format asked for.
    pub kv_dtype: KvDtype,
    /// What is stored.
    pub stored: KvFormat,
    /// How the model is spread.
    pub layout: Layout,
    /// The memory of each stage's devices.
    pub budgets: Vec<Budget>,
    /// What overheads are calibrated by, where they were estimated.
    pub calibration: Option<&'static Calibration>,
    /// The line that starts such a server.
    pub command: Option<String>,
}

/// What GPUs of one kind hold of a question, in an engine and a format.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// The question.
    pub request: Arc<HardwareRequest>,
    /// The GPUs.
    pub fleet: Fleet,
    /// The server.
    pub deployment: Deployment,
    /// Whether any of the layout was given.
    pub layout_given: bool,
    /// What it holds.
    pub fit: Fit,
}

/// What GPUs hold, a row each.
#[derive(Debug, Clone, Default)]
pub struct Fits {
    /// The rows.
    pub rows: Vec<Fitted>,
    /// What was taken for granted, and what may make the answer wrong: of rows that an engine refuses, that they are left out.
    pub notes: Notes,
}

impl Fits {
    /// Whether all that was asked for fits on each kind.
    pub fn fits(&self) -> bool {
        self.rows.iter().all(|row| row.fit.fits)
    }
}

/// A layout that holds a workload, on GPUs of one kind.
#[derive(Debug)]
pub struct PlannedOn {
    /// The question.
    pub request: Arc<HardwareRequest>,
    /// The server.
    pub deployment: Deployment,
    /// Requests of the length asked for, then of the average.
    pub requests: Vec<Requests>,
    /// Bytes to spare on the device that is full first.
    pub slack: Bytes,
    /// Why fewer devices do not hold it; `None` where one is the fewest, or no layout of fewer can be.
    pub smaller: Option<Smaller>,
}

/// Devices of which no number that may be holds the workload.
#[derive(Debug)]
#[cfg_attr(feature = "cli", serde_with::skip_serializing_none, derive(serde::Serialize, schemars::JsonSchema))]
pub struct TooSmall {
    /// The device.
    pub gpu: String,
    /// Devices at the most.
    pub max_gpus: u64,
    /// The layout that comes closest, and what it lacks.
    pub closest: Option<Smaller>,
}

/// The smallest layouts of each kind of GPU that hold a workload.
#[derive(Debug, Default)]
pub struct Plans {
    /// Tokens of each request.
    pub seq_len: Tokens,
    /// The layouts.
    pub rows: Vec<PlannedOn>,
    /// Kinds that do not hold it.
    pub too_small: Vec<TooSmall>,
    /// Kinds that an engine refuses, and why.
    pub left_out: Vec<String>,
    /// What was taken for granted, and what may make the answer wrong.
    pub notes: Notes,
}

/// What each kind of GPU holds: the first layout that holds what is asked for, else the most usual one.
///
/// ```
/// use kvsize::fit::fits;
/// use kvsize::request::Ask;
/// use kvsize::source::LocalSources;
/// let ask = Ask::new("llama-3.1-70b").set("gpu", "8xh100")?.set("engine", "vllm")?.set("seq_len", "32K")?;
/// let found = fits(&ask.on_hardware(&LocalSources, ask.fleets(&LocalSources)?)?)?;
/// assert!(found.fits() && found.rows[0].fit.requests[0].at_once > Some(30));
/// # Ok::<(), kvsize::units::Error>(())
/// ```
///
/// # Errors
/// What is not known of the memory or the weights, or what the engine refuses where no other row is left.
pub fn fits(asked: &[OnHardware]) -> Result<Fits, Error> {
    let mut found = Fits::default();
    let mut refusals = Refusals::default();
    for OnHardware { request, fleets } in asked {
        found.notes.extend(&assumed_totals(request, fleets));
        let (request, first) = (Arc::new(request.clone()), found.rows.len());
        for fleet in fleets {
            for (engine, formats) in &request.engines {
                for &kv_dtype in formats {
                    match fitted(&request, fleet, engine, kv_dtype) {
                        Ok((row, assumed)) => {
                            found.notes.add(assumed.as_slice(), &[]);
                            found.rows.push(row);
                        }
                        Err(error) => refusals.add(error, fleet, engine)?,
                    }
                }
            }
        }
        let new = found.rows.iter().skip(first).map(|row| &row.deployment);
        add_of_all(&mut found.notes, &request, new);
    }
    found.notes.add(&[], &refusals.words(found.rows.len())?);
    Ok(found)
}

fn question<'a>(request: &'a HardwareRequest, engine: &'a Engine, kv_dtype: KvDtype) -> Question<'a> {
    Question {
        model: &request.model,
        engine,
        workload: Workload { kv_dtype, ..request.common },
        seq_len: request.seq_len,
        batch: request.batch,
        average: request.average,
    }
}

/// What one kind of GPU holds in an engine and a format; and what was assumed of the device.
pub(super) fn fitted(
    request: &Arc<HardwareRequest>,
    fleet: &Fleet,
    engine: &Engine,
    kv_dtype: KvDtype,
) -> Result<(Fitted, Option<String>), Error> {
    let (engine, assumed) = HardwareRequest::on_device(engine, fleet)?;
    let question = question(request, &engine, kv_dtype);
    let given = request.place;
    // Without a count there are as many as the sizes that were given need.
    let sizes = [given.tp, given.pp, given.dp].into_iter().flatten().fold(1, u64::saturating_mul);
    let gpus = fleet.count.unwrap_or(sizes);
    let answer = |layout: Layout| -> Result<_, Error> {
        let budgets = request.budgets(&fleet.accelerator, &question, layout)?;
        let fit = Server::of(question, layout, &budgets.stages)?.fit()?;
        Ok((layout, budgets, fit))
    };
    let no_layout = || {
        let id = fleet.accelerator.id.clone();
        Error::new(Code::Layout, "--gpu", id, "has no layout", "name other GPUs")
    };
    let layouts = layouts_of(&question, Limits { gpus, per_node: PER_NODE, given, layouts: Layouts::Any })?;
    let mut answers = layouts.into_iter().map(answer);
    let usual = answers.next().ok_or_else(no_layout)??;
    // Other layouts than the usual one, which do not hold it either or which the engine refuses, are passed over.
    let other = if usual.2.fits { None } else { answers.flatten().find(|(.., fit)| fit.fits) };
    let (layout, budgets, mut fit) = other.unwrap_or(usual);
    fit.answer.assumptions.extend_from_slice(&budgets.notes);
    let seq_len = Some(fit.seq_len).filter(|_| fit.fits);
    let deployment = Deployment {
        command: seq_len.and_then(|seq_len| command(request, &question, layout, seq_len)),
        ..deployment(&question, fleet, layout, fit.answer.estimate.stored, &budgets)
    };
    let layout_given = [given.tp, given.pp, given.dp].iter().any(Option::is_some);
    let (request, fleet) = (Arc::clone(request), fleet.clone());
    Ok((Fitted { request, fleet, deployment, layout_given, fit }, assumed))
}

/// A deployment, without its command.
fn deployment(question: &Question, fleet: &Fleet, layout: Layout, stored: KvFormat, budgets: &Budgets) -> Deployment {
    let Layout { tp, pp, dp, .. } = layout;
    Deployment {
        gpu: fleet.accelerator.id.clone(),
        gpus: tp.saturating_mul(pp).saturating_mul(dp),
        price: fleet.price.clone(),
        engine: question.engine.clone(),
        kv_dtype: question.workload.kv_dtype,
        stored,
        layout,
        budgets: budgets.stages.clone(),
        calibration: budgets.calibration,
        command: None,
    }
}

/// The smallest layouts of each kind of GPU that hold the requests that are asked about, each of the model's own maximum where
/// no length is given.
///
/// # Errors
/// As [`fits`], and a length that is neither given nor known.
pub fn plans(asked: &[OnHardware]) -> Result<Plans, Error> {
    let mut plans = Plans::default();
    let mut refusals = Refusals::default();
    for OnHardware { request, fleets } in asked {
        let seq_len = request.seq_len.or(request.model.max_position_embeddings).ok_or_else(|| {
            let problem = "missing, and the model has no maximum of its own";
            Error::without_value(Code::NoLength, "--seq-len", problem, "give the tokens of a request")
        })?;
        let request = &Arc::new(HardwareRequest { seq_len: Some(seq_len), ..request.clone() });
        plans.seq_len = seq_len;
        plans.notes.extend(&assumed_totals(request, fleets));
        let first = plans.rows.len();
        // Which ranks are possible does not depend on the device, but for its class.
        let mut possible = Vec::new();
        for (engine, formats) in &request.engines {
            for fleet in fleets {
                for &kv_dtype in formats {
                    let planned = plan_in(request, fleet, (engine, kv_dtype), &mut possible, &mut plans);
                    planned.or_else(|error| refusals.add(error, fleet, engine))?;
                }
            }
        }
        let new = plans.rows.iter().skip(first).map(|row| &row.deployment);
        add_of_all(&mut plans.notes, request, new);
    }
    plans.left_out = refusals.words(plans.rows.len().max(plans.too_small.len()))?;
    Ok(plans)
}

/// Ranks by what decides them: the engine, its device's compute capability, the format.
type Possible = Vec<((String, (u32, u32), KvDtype), Vec<u64>)>;

fn plan_in(
    request: &Arc<HardwareRequest>,
    fleet: &Fleet,
    (engine, kv_dtype): (&Engine, KvDtype),
    possible: &mut Possible,
    plans: &mut Plans,
) -> Result<(), Error> {
    let (engine, assumed) = HardwareRequest::on_device(engine, fleet)?;
    let question = question(request, &engine, kv_dtype);
    let gpus = request.max_gpus.or(fleet.count).unwrap_or(MOST_GPUS);
    let is_given = [request.place.tp, request.place.pp, request.place.dp].iter().any(Option::is_some);
    let layouts = if is_given || request.any_layout { Layouts::Any } else { Layouts::Nodes };
    let limits = Limits { gpus, per_node: PER_NODE, given: request.place, layouts };
    let budgets = |layout| Ok(request.budgets(&fleet.accelerator, &question, layout)?.stages);
    let class = (engine.to_string(), engine.device.compute_capability, kv_dtype);
    let ranks = if let Some((_, ranks)) = possible.iter().find(|(known, _)| *known == class) {
        ranks.clone()
    } else {
        let found = ranks(&question, limits)?;
        possible.push((class, found.clone()));
        found
    };
    let planned = plan(&question, &ranks, limits, budgets)?;
    plans.notes.add(assumed.as_slice(), &[]);
    let Some(first) = planned.first() else {
        let (gpu, closest) = (fleet.accelerator.id.clone(), closest(&question, &ranks, limits, budgets)?);
        plans.too_small.push(TooSmall { gpu, max_gpus: gpus, closest });
        return Ok(());
    };
    let found = request.budgets(&fleet.accelerator, &question, first.layout)?;
    let spread = if engine.profile.spread == Spread::Ranks { first.layout } else { Layout::default() };
    let seq_len = question.seq_len.unwrap_or(Tokens(1));
    let workload = Workload { seq_len, layout: Layout { dp: 1, ..spread }, ..question.workload };
    let answer = engine.answer(question.model, &workload)?;
    plans.notes.add(&found.notes, &[]);
    plans.notes.add(&answer.assumptions, &answer.warnings);
    plans.rows.extend(planned.into_iter().map(|Planned { layout, requests, slack, smaller, budgets, .. }| {
        let deployment = Deployment {
            budgets: budgets.to_vec(),
            command: command(request, &question, layout, seq_len),
            ..deployment(&question, fleet, layout, answer.estimate.stored, &found)
        };
        PlannedOn { request: Arc::clone(request), deployment, requests, slack, smaller }
    }));
    Ok(())
}

/// The line that starts a server of a layout, with requests of up to `seq_len` tokens.
fn command(request: &HardwareRequest, question: &Question, layout: Layout, seq_len: Tokens) -> Option<String> {
    let Question { model, engine, workload, batch, .. } = *question;
    let served = Served {
        model: request.typed.as_deref(),
        is_path: request.is_path,
        name: &model.name,
        dtype: model.dtype,
        engine,
        kv_dtype: workload.kv_dtype,
        layout,
        seq_len,
        batch,
        utilization: request.utilization,
        // Weights of another format are another checkpoint, a drafter has options of its own, and past their model's maximum
        // servers do not start: there is no line for these.
        is_told: !request.is_what_if
            && model.drafter.is_none()
            && model.max_position_embeddings.is_none_or(|maximum| seq_len <= maximum),
        replicas_apart: engine.separate_replicas(model, layout).is_some(),
    };
    served.command()
}

/// Adds what there is to say of all rows together.
fn add_of_all<'a>(notes: &mut Notes, request: &HardwareRequest, mut rows: impl Iterator<Item = &'a Deployment>) {
    if let Some(text) = rows.find_map(|row| row.engine.separate_replicas(&request.model, row.layout)) {
        notes.assume(text);
    }
    notes.add(&[], past_maximum(&request.model, request.seq_len).as_slice());
}

/// What had to be assumed of the memory of GPUs: of each, or, of many, all in one.
fn assumed_totals(request: &HardwareRequest, fleets: &[Fleet]) -> Notes {
    const FEW: usize = 3;
    if request.total != Total::Visible {
        return Notes::default();
    }
    let estimated =
        fleets.iter().filter_map(|Fleet { accelerator, .. }| Some((&*accelerator.id, accelerator.assumption()?)));
    let (names, assumptions): (Vec<&str>, Vec<String>) = estimated.unzip();
    if names.len() <= FEW {
        return Notes { assumptions, warnings: Vec::new() };
    }
    let less = exact_size(DRIVER_LESS_VISIBLE);
    let text = format!(
        "usable memory estimated: the driver's figure minus {less}, the median of measured cards, for {}",
        names.join(", ")
    );
    Notes { assumptions: vec![text], warnings: Vec::new() }
}

/// Rows that an engine refuses: they are left out with a warning, but one that is alone is an error.
#[derive(Default)]
struct Refusals {
    words: Vec<String>,
    first: Option<Error>,
}

impl Refusals {
    /// Any other error than a refusal is one of the question.
    fn add(&mut self, error: Error, fleet: &Fleet, engine: &Engine) -> Result<(), Error> {
        if error.code != Code::Refused {
            return Err(error);
        }
        self.words.push(format!("left out: {} with {engine}: {error}", fleet.accelerator.id));
        self.first.get_or_insert(error);
        Ok(())
    }

    /// The warnings beside the rows that are left; without any, the error.
    fn words(self, rows: usize) -> Result<Vec<String>, Error> {
        match self.first.filter(|_| rows == 0) {
            Some(error) => Err(error),
            None => Ok(self.words),
        }
    }
}
