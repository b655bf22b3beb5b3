//! What fits on hardware, as a document: every figure, and how each is known.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{CostRow, ServerRow};
use crate::engine::{Calibration, Double, Known, Term};
use crate::fit::{Binding, Deployment, Fitted, Requests};
use crate::hardware::Budget;
use crate::model::Model;
use crate::report::ModelDescription;
use crate::report::document::{BytesPerTokenValue, notes_of};
use crate::units::Notes;

/// `kvsize.fit/1`: a model, and what configurations of hardware hold of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FitDocument {
    /// Name and version of this shape.
    pub schema: &'static str,
    /// Version of kvsize.
    pub kvsize: &'static str,
    /// The model.
    pub model: ModelDescription,
    /// Whether all that was asked for fits everywhere.
    pub fits: bool,
    /// A row a configuration, engine and format.
    pub configurations: Vec<FitRow>,
    /// What there is to say of it.
    #[serde(flatten)]
    pub notes: Notes,
}

/// A configuration of a [`FitDocument`].
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct FitRow {
    /// The server.
    #[serde(flatten)]
    pub server: ServerRow,
    /// Ranks that each keep a part of a sequence's tokens, where there is more than one.
    pub dcp: Option<u64>,
    /// `given` or `chosen`.
    #[schemars(extend("enum" = ["given", "chosen"]))]
    pub layout: &'static str,
    /// Whether what was asked for fits.
    pub fits: bool,
    /// Bytes that are missing on the device that is full first.
    pub shortfall_bytes: Option<u64>,
    /// What keeps it from holding more.
    pub binding: Binding,
    /// The longest request, or the longest of so many at once, no longer than the model's own maximum; absent where there is
    /// no end.
    pub max_seq_len: Option<u64>,
    /// Tokens in the pools of all replicas; absent where there is no end.
    pub tokens: Option<u64>,
    /// Requests at the length asked for, or at the longest; then at the average.
    pub requests: Vec<Requests>,
    /// One more token of one sequence, over all devices of a replica.
    pub bytes_per_token: BytesPerTokenValue,
    /// The memory of each device, a pipeline stage each.
    pub stages: Vec<StageRow>,
    /// What `--memory` must be for an estimate of the same.
    pub memory_bytes: u64,
    /// How far off pools were that were estimated so.
    pub pool_error: Option<PoolError>,
    /// What it costs, where a price is known.
    pub cost: Option<CostRow>,
    /// The line that starts such a server.
    pub command: Option<String>,
}

/// A term: its bytes on each device, and how they are known.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TermRow {
    /// Its name.
    pub name: &'static str,
    /// Bytes.
    pub bytes: u64,
    /// How they are known.
    pub known: Known,
    /// Where from.
    pub source: String,
}

/// The memory of each device of a pipeline stage.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct StageRow {
    /// Total, usable, weights, and what the engine needs beside.
    pub terms: Vec<TermRow>,
    /// What is left for the cache; absent where nothing is.
    pub pool_bytes: Option<u64>,
}

/// How far off pools were that were estimated as this one, each log's model left out of the fit.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PoolError {
    /// The engine of the logs, with its version.
    pub engine: String,
    /// The device of the logs.
    pub gpu: &'static str,
    /// How many logs.
    pub logs: u32,
    /// The mean of the absolute errors.
    pub mean_percent: Double,
    /// The largest.
    pub max_percent: Double,
    /// Whether this pool is below a tenth of the device, and these are the errors of such pools.
    pub small_pool: bool,
    /// Whether this server's version, device or ranks are none of the logs': its error may be larger.
    pub extrapolated: bool,
}

impl PoolError {
    pub(super) fn of(deployment: &Deployment) -> Option<Self> {
        let Deployment { engine, layout, budgets, .. } = deployment;
        let calibration = deployment.calibration?;
        let tenth = |budget: &Budget| budget.pool().unwrap_or_default().0.saturating_mul(10) < budget.total.bytes.0;
        let small_pool = budgets.iter().any(tenth);
        let Calibration { engine: name, version, device, logs, small_pools, most_ranks, .. } = calibration;
        let extrapolated = engine.version != *version || engine.device.id != *device || layout.tp > *most_ranks;
        let (errors, logs) = if small_pool {
            (calibration.small_pool_left_out, *small_pools)
        } else {
            (calibration.pool_left_out, logs.saturating_sub(*small_pools))
        };
        let percent = |hundredths: u32| Double::ratio(hundredths.into(), 100);
        Some(Self {
            engine: format!("{name}@{version}"),
            gpu: device,
            logs,
            mean_percent: percent(errors.mean),
            max_percent: percent(errors.max),
            small_pool,
            extrapolated,
        })
    }

    pub(super) fn words(&self) -> String {
        let small = if self.small_pool { ", pools below a tenth of a GPU" } else { "" };
        format!(
            "pools so estimated were off by {:.2} % on average and {:.2} % at most, over {} logs of {} on {}{small}, each model \
             left out of its fit{}",
            self.mean_percent.value(),
            self.max_percent.value(),
            self.logs,
            self.engine,
            self.gpu,
            if self.extrapolated { "; this server is none of those, and may be further off" } else { "" }
        )
    }
}

impl FitDocument {
    /// The document of what was asked of a model; `of_question` is said of the question.
    pub fn new(model: &Model, fitted: &[Fitted], of_question: &Notes) -> Self {
        let mut notes = notes_of(model, &[]);
        notes.add(&of_question.assumptions, &of_question.warnings);
        for Fitted { fit, .. } in fitted {
            notes.add(&fit.assumptions, &fit.warnings);
        }
        Self {
            schema: "kvsize.fit/1",
            kvsize: env!("CARGO_PKG_VERSION"),
            model: ModelDescription::new(model),
            fits: fitted.iter().all(|fitted| fitted.fit.fits),
            configurations: fitted.iter().map(row).collect(),
            notes,
        }
    }
}

fn row(Fitted { deployment, layout_given, fit }: &Fitted) -> FitRow {
    FitRow {
        server: ServerRow::new(deployment),
        dcp: Some(deployment.layout.dcp).filter(|&dcp| dcp > 1),
        layout: if *layout_given { "given" } else { "chosen" },
        fits: fit.fits,
        shortfall_bytes: fit.shortfall.map(|bytes| bytes.0),
        binding: fit.binding.clone(),
        max_seq_len: fit.longest.map(|longest| longest.0),
        tokens: fit.tokens,
        requests: fit.requests.clone(),
        bytes_per_token: fit.bytes_per_token.into(),
        stages: deployment.budgets.iter().map(stage).collect(),
        memory_bytes: fit.memory.0,
        pool_error: PoolError::of(deployment),
        cost: CostRow::of(deployment, fit.tokens),
        command: deployment.command.clone(),
    }
}

fn stage(budget: &Budget) -> StageRow {
    let row = |name, term: &Term| TermRow { name, bytes: term.bytes.0, known: term.known, source: term.source.clone() };
    let Budget { total, usable, weights, overhead } = budget;
    let terms = [("total", total), ("usable", usable), ("weights", weights)].into_iter();
    let terms = terms.chain(overhead.iter().map(|(name, term)| (*name, term)));
    StageRow {
        terms: terms.map(|(name, term)| row(name, term)).collect(),
        pool_bytes: budget.pool().ok().map(|bytes| bytes.0),
    }
}
