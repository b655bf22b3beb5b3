//! What fits on hardware, as a document: every figure, and how each is known.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{CostRow, ServerRow};
use crate::engine::{Calibration, Details, Double, Known, Term};
use crate::fit::{Deployment, Fitted, Requests, WayOut};
use crate::hardware::Budget;
use crate::report::Detail;
use crate::report::document::BytesPerTokenValue;
use crate::units::Notes;

/// `kvsize.fit/1`: what configurations of hardware hold of models.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FitDocument {
    /// Name and version of this shape.
    pub schema: &'static str,
    /// Version of kvsize.
    pub kvsize: &'static str,
    /// A row a model, configuration, engine, format, length and number of requests.
    pub fits: Vec<FitRow>,
    /// What there is to say of it.
    #[serde(flatten)]
    pub notes: Notes,
    /// How much of it people read.
    #[serde(skip)]
    pub detail: Detail,
}

/// A row of a [`FitDocument`]. Terms are those of the device that has least for the cache.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct FitRow {
    /// The model's name.
    pub model: String,
    /// The server.
    #[serde(flatten)]
    pub server: ServerRow,
    /// Ranks that each keep a part of a sequence's tokens, where there is more than one.
    pub dcp: Option<u64>,
    /// `given` or `chosen`.
    #[schemars(extend("enum" = ["given", "chosen"]))]
    pub layout: &'static str,
    /// What was not given and decides the answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<AssumedRow>,
    /// The format of the weights; absent where their bytes are given.
    pub weights_dtype: Option<String>,
    /// Tokens of a request: those asked for, else the longest that fits.
    pub seq_len: u64,
    /// Requests at once that were asked for, over all replicas.
    pub batch: u64,
    /// Whether what was asked for fits.
    pub fits: bool,
    /// What keeps it from holding more.
    #[schemars(extend("enum" = ["weights", "memory", "pipeline_stage", "kv_heads", "sequences", "model_max_seq_len", "refused", "engine", "nothing"]))]
    pub binding: &'static str,
    /// The same in words.
    pub binding_reason: String,
    /// The longest request alone, no longer than the model's own maximum; absent where there is no limit.
    pub longest_seq_len: Option<u64>,
    /// The longest of `batch` requests at once.
    pub longest_seq_len_at_batch: Option<u64>,
    /// The model's own maximum.
    pub model_max_seq_len: Option<u64>,
    /// Room for requests of `seq_len` tokens, over all replicas, as the engine counts it; absent where there is no limit.
    pub max_requests: Option<Double>,
    /// Requests of that length, then of the average length.
    pub requests: Vec<Requests>,
    /// Tokens in the pools of all replicas; absent where there is no limit.
    pub pool_tokens: Option<u64>,
    /// Bytes of the cache of the requests of one replica, over all its devices.
    pub bytes: u64,
    /// The most of them that any one device holds.
    pub bytes_per_gpu: u64,
    /// One more token of one sequence, over all devices of a replica.
    pub bytes_per_token: BytesPerTokenValue,
    /// What is left for the cache on a device; absent where nothing is.
    pub pool_bytes: Option<u64>,
    /// What `--memory` must be for an estimate of the same.
    pub memory_bytes: u64,
    /// Weights on a device.
    pub weights_bytes: u64,
    /// What the engine needs there in addition to weights and cache.
    pub overhead_bytes: u64,
    /// What the engine may use of it.
    pub usable_bytes: u64,
    /// Its memory.
    pub total_bytes: u64,
    /// What is missing on a device, where memory does not suffice.
    pub missing_bytes: Option<u64>,
    /// What the requests leave there, where it does.
    pub spare_bytes: Option<u64>,
    /// The memory of a device, term by term.
    pub terms: Vec<TermRow>,
    /// The same of each pipeline stage, where they differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageRow>,
    /// The error of the estimated pool.
    pub error: Option<PoolError>,
    /// What it costs, where a price is known.
    #[serde(flatten)]
    pub cost: Option<CostRow>,
    /// Single changes after which it fits, where it does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ways_out: Vec<WayOutRow>,
    /// The line that starts such a server.
    pub command: Option<String>,
    /// The engine's own figures, under its name.
    #[serde(flatten)]
    #[schemars(with = "crate::engine::DetailsByEngine")]
    pub details: Option<Details>,
}

/// A value that was not given and decides the answer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AssumedRow {
    /// The option that gives another.
    pub option: &'static str,
    /// The value.
    pub value: String,
}

impl AssumedRow {
    pub(super) fn new(option: &'static str, value: &str) -> Self {
        Self { option, value: value.to_owned() }
    }
}

/// A single change after which what was asked for fits.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct WayOutRow {
    /// The option to type.
    pub change: String,
    /// Whether it fits then.
    pub fits: bool,
    /// Requests that run at once then; absent where there is no limit.
    pub max_requests: Option<u64>,
    /// The line that starts such a server.
    pub command: Option<String>,
}

/// A term: its bytes on each device, and how they are known.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
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
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
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

    /// `0.12 % of the pool (35 servers of this class)`
    pub(super) fn brief(&self) -> String {
        let Self { mean_percent, logs, extrapolated, .. } = self;
        let class = if *extrapolated { "servers of other classes" } else { "servers of this class" };
        format!("{:.1} % of the pool ({logs} {class})", mean_percent.value())
    }

    pub(super) fn words(&self) -> String {
        let Self { mean_percent, max_percent, logs, engine, gpu, .. } = self;
        let small = if self.small_pool { ", pools below a tenth of a GPU" } else { "" };
        let extrapolated =
            if self.extrapolated { "; this server is none of those, and may be further off" } else { "" };
        format!(
            "pool estimate error: {:.2} % mean, {:.2} % max ({logs} logs of {engine} on {gpu}{small}, \
             leave-one-model-out){extrapolated}",
            mean_percent.value(),
            max_percent.value(),
        )
    }
}

impl FitDocument {
    /// The document of what was found, with what there is to say of it.
    pub fn new(fitted: &[Fitted], of_question: &Notes, detail: Detail) -> Self {
        let mut notes = Notes::default();
        for Fitted { request, fit, .. } in fitted {
            notes.add(&request.assumed.iter().map(ToString::to_string).collect::<Vec<_>>(), &[]);
            notes.add(&request.model.assumptions, &request.model.warnings);
            notes.add(&fit.answer.assumptions, &fit.answer.warnings);
        }
        notes.extend(of_question);
        let fits = fitted.iter().map(FitRow::new).collect();
        Self { schema: "kvsize.fit/1", kvsize: env!("CARGO_PKG_VERSION"), fits, notes, detail }
    }

    /// Whether all that was asked for fits.
    pub fn fits(&self) -> bool {
        self.fits.iter().all(|row| row.fits)
    }
}

impl FitRow {
    fn new(fitted: &Fitted) -> Self {
        let Fitted { request, deployment, layout_given, fit, .. } = fitted;
        let stages: Vec<StageRow> = deployment.budgets.iter().map(StageRow::new).collect();
        let pool = |budget: &&Budget| budget.pool().unwrap_or_default();
        let tightest = deployment.budgets.iter().min_by_key(pool).map(StageRow::new);
        let StageRow { terms, pool_bytes } = tightest.unwrap_or(StageRow { terms: Vec::new(), pool_bytes: None });
        let sum = |is: fn(&str) -> bool| {
            terms.iter().filter(|term| is(term.name)).fold(0u64, |sum, term| sum.saturating_add(term.bytes))
        };
        let (estimate, replicas) = (&fit.answer.estimate, deployment.layout.dp);
        let of_asked = fit.requests.first();
        let counted = |requests: &Requests| Some(requests.max_concurrency?.times(Double::whole(replicas)));
        let at_once = |requests: &Requests| requests.room.map(Double::whole);
        Self {
            model: request.model.name.clone(),
            server: ServerRow::new(deployment),
            dcp: Some(deployment.layout.dcp).filter(|&dcp| dcp > 1),
            layout: if *layout_given { "given" } else { "chosen" },
            assumed: request.assumed.iter().map(|assumed| AssumedRow::new(assumed.option, &assumed.value)).collect(),
            weights_dtype: request.weights_dtype.clone(),
            seq_len: fit.seq_len.0,
            batch: request.batch.unwrap_or(1),
            fits: fit.fits,
            binding: fit.binding.kind,
            binding_reason: fit.binding.reason.clone(),
            longest_seq_len: fit.longest_alone.map(|longest| longest.0),
            longest_seq_len_at_batch: fit.longest.map(|longest| longest.0),
            model_max_seq_len: request.model.max_position_embeddings.map(|tokens| tokens.0),
            max_requests: of_asked.and_then(|requests| counted(requests).or_else(|| at_once(requests))),
            requests: fit.requests.clone(),
            pool_tokens: fit.tokens,
            bytes: estimate.bytes.0,
            bytes_per_gpu: estimate.bytes_per_gpu.0,
            bytes_per_token: estimate.bytes_per_token.into(),
            pool_bytes,
            memory_bytes: fit.memory.0,
            weights_bytes: sum(|name| name == "weights"),
            overhead_bytes: sum(is_overhead),
            usable_bytes: sum(|name| name == "usable"),
            total_bytes: sum(|name| name == "total"),
            missing_bytes: fit.missing.map(|bytes| bytes.0),
            spare_bytes: fit.spare.map(|bytes| bytes.0),
            terms,
            stages: if stages.windows(2).all(|pair| pair[0] == pair[1]) { Vec::new() } else { stages },
            error: PoolError::of(deployment),
            cost: CostRow::of(deployment, fit.tokens),
            ways_out: fitted.ways_out().into_iter().map(WayOutRow::from).collect(),
            command: deployment.command.clone(),
            details: fit.answer.details.clone(),
        }
    }
}

impl From<WayOut> for WayOutRow {
    fn from(WayOut { change, requests, command }: WayOut) -> Self {
        Self { change, fits: true, max_requests: requests, command }
    }
}

/// Whether a term is what the engine needs in addition to weights and cache.
pub(super) fn is_overhead(name: &str) -> bool {
    !["total", "usable", "weights"].contains(&name)
}

impl StageRow {
    fn new(budget: &Budget) -> Self {
        let row =
            |name, term: &Term| TermRow { name, bytes: term.bytes.0, known: term.known, source: term.source.clone() };
        let Budget { total, usable, weights, overhead } = budget;
        let terms = [("total", total), ("usable", usable), ("weights", weights)].into_iter();
        let terms = terms.chain(overhead.iter().map(|(name, term)| (*name, term)));
        Self {
            terms: terms.map(|(name, term)| row(name, term)).collect(),
            pool_bytes: budget.pool().ok().map(|bytes| bytes.0),
        }
    }
}
