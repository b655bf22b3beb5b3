//! Answers about hardware: what fits on it, and the layouts that hold a workload.

mod fit;
mod fit_details;
mod fit_page;
mod plan;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_with::skip_serializing_none;

pub use self::fit::{AssumedRow, FitDocument, FitRow, PoolError, StageRow, TermRow, WayOutRow};
pub use self::plan::{PlanDocument, PlanRow};

use crate::engine::Double;
use crate::fit::Deployment;
use crate::hardware::Price;
use crate::report::{Cell, clean};
use crate::units::{KvDtype, fixed_point};

/// What is served, on which devices.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct ServerRow {
    /// The device.
    pub gpu: String,
    /// How many.
    pub gpus: u64,
    /// The engine.
    pub engine: String,
    /// The format asked for.
    pub kv_dtype: String,
    /// What is stored, where that is not what was asked for.
    pub kv_dtype_resolved: Option<String>,
    /// Tensor parallel ranks.
    pub tp: u64,
    /// Pipeline stages; of an engine that splits by layers, its devices.
    pub pp: u64,
    /// Replicas.
    pub dp: u64,
}

impl ServerRow {
    fn new(Deployment { gpu, gpus, engine, kv_dtype, stored, layout, .. }: &Deployment) -> Self {
        Self {
            gpu: gpu.clone(),
            gpus: *gpus,
            engine: engine.to_string(),
            kv_dtype: kv_dtype.to_string(),
            kv_dtype_resolved: (KvDtype::Given(*stored) != *kv_dtype).then(|| stored.to_string()),
            tp: layout.tp,
            pp: layout.pp,
            dp: layout.dp,
        }
    }

    /// `8xh100-sxm`
    fn configuration(&self) -> String {
        format!("{}x{}", self.gpus, self.gpu)
    }

    /// `tp 4, pp 2`
    fn spread(&self) -> String {
        spread(self.tp, self.pp, self.dp)
    }

    fn stored(&self) -> &str {
        self.kv_dtype_resolved.as_deref().unwrap_or(&self.kv_dtype)
    }

    /// The name of the engine alone.
    fn engine_name(&self) -> String {
        self.engine.split('@').next().unwrap_or_default().to_owned()
    }
}

/// What it costs, in US dollars.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct CostRow {
    /// For one GPU in one hour.
    #[serde(serialize_with = "decimal")]
    #[schemars(with = "String")]
    pub usd_per_gpu_hour: Double,
    /// For all of them.
    #[serde(serialize_with = "decimal")]
    #[schemars(with = "String")]
    pub usd_per_hour: Double,
    /// For each million tokens that the pool can hold; absent where it holds none, or has no limit.
    #[serde(serialize_with = "decimal_if_known")]
    #[schemars(with = "Option<String>")]
    pub usd_per_million_token_hours: Option<Double>,
    /// The offer.
    pub price: Price,
}

/// Money is a decimal in a string: no reader rounds it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn decimal<S: Serializer>(dollars: &Double, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&in_dollars(*dollars))
}

#[expect(clippy::ref_option, reason = "serde passes references")]
fn decimal_if_known<S: Serializer>(dollars: &Option<Double>, serializer: S) -> Result<S::Ok, S::Error> {
    dollars.map(in_dollars).serialize(serializer)
}

/// Millionths in a dollar.
const MICRO: u64 = 1_000_000;

impl CostRow {
    /// The cost of a deployment with pools of `tokens`; `None` without a price, or past 2⁶⁴ − 1 millionths.
    fn of(deployment: &Deployment, tokens: Option<u64>) -> Option<Self> {
        let price = deployment.price.as_ref()?;
        let all = price.per_hour(deployment.gpus)?;
        let tokens = tokens.filter(|&tokens| tokens > 0);
        Some(Self {
            usd_per_gpu_hour: Double::ratio(price.micro_dollars_per_gpu_hour, MICRO),
            usd_per_hour: Double::ratio(all, MICRO),
            // Millionths of a dollar for all tokens, over millions of tokens: the millions cancel.
            usd_per_million_token_hours: tokens.map(|tokens| Double::ratio(all, tokens)),
            price: price.clone(),
        })
    }

    fn per_hour(&self) -> Cell {
        in_dollars(self.usd_per_hour).into()
    }

    /// `US$ 7.81 to hold a million tokens for an hour`
    fn per_tokens(&self) -> Option<String> {
        let each = in_dollars(self.usd_per_million_token_hours?);
        Some(format!("US$ {each} to hold a million tokens for an hour"))
    }

    /// Whose offer it is, and of what.
    fn offer_of(&self, server: &ServerRow) -> String {
        format!("{}: {}", server.gpu, clean(&self.price.words()))
    }
}

/// Dollars to the cent, or, of less than one that is no whole number of cents, to four places.
fn in_dollars(dollars: Double) -> String {
    const CENT: u64 = MICRO / 100;
    let micro = dollars.millionths();
    let places = if micro < MICRO && !micro.is_multiple_of(CENT) { 4 } else { 2 };
    fixed_point(micro.into(), MICRO.into(), places)
}

/// `tp 8, pp 4`
pub(super) fn spread(tp: u64, pp: u64, dp: u64) -> String {
    let sizes = [("tp", tp), ("pp", pp), ("dp", dp)];
    let told = sizes.iter().filter(|(name, size)| *size > 1 || (*name == "tp" && pp == 1 && dp == 1));
    told.map(|(name, size)| format!("{name} {size}")).collect::<Vec<_>>().join(", ")
}
