//! Answers about hardware: what fits on it, and the layouts that hold a workload.

mod fit;
mod fit_page;
mod plan;

use serde::Serialize;

pub(super) use self::fit::described;
pub use self::fit::{BindingDescription, FitDocument, FitRow, Fitted, PoolError, RequestsRow, StageRow, TermRow};
pub use self::plan::{Asked, PlanDocument, PlanRow, PlannedOn, SmallerRow, TooSmall};

use crate::engine::Double;
use crate::hardware::Price;
use crate::units::fixed_point;

/// What it costs.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct CostRow {
    /// US dollars for one GPU in one hour.
    pub dollars_per_gpu_hour: Double,
    /// For all of them.
    pub dollars_per_hour: Double,
    /// For each million tokens that the pool can hold; absent where it holds none, or has no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dollars_per_million_token_hours: Option<Double>,
    /// The offer.
    #[serde(flatten)]
    pub offer: Price,
}

/// Millionths in a dollar.
const MICRO: u64 = 1_000_000;

impl CostRow {
    /// The cost of `gpus` at a price, whose pools hold `tokens`; none past 2⁶⁴ − 1 millionths.
    fn of(price: &Price, gpus: u64, tokens: Option<u64>) -> Option<Self> {
        let all = price.micro_dollars_per_gpu_hour.checked_mul(gpus)?;
        let tokens = tokens.filter(|&tokens| tokens > 0);
        Some(Self {
            dollars_per_gpu_hour: Double::ratio(price.micro_dollars_per_gpu_hour, MICRO),
            dollars_per_hour: Double::ratio(all, MICRO),
            // Millionths of a dollar for all tokens, over millions of tokens: the millions cancel.
            dollars_per_million_token_hours: tokens.map(|tokens| Double::ratio(all, tokens)),
            offer: price.clone(),
        })
    }
}

/// Adds a text that is not there yet.
fn add_once(texts: &mut Vec<String>, text: &str) {
    if !texts.iter().any(|known| known == text) {
        texts.push(text.to_owned());
    }
}

/// Dollars to the cent, or, of less than one that is no whole number of cents, to four places.
fn in_dollars(dollars: Double) -> String {
    const CENT: u64 = MICRO / 100;
    let micro = dollars.millionths();
    let places = if micro < MICRO && !micro.is_multiple_of(CENT) { 4 } else { 2 };
    fixed_point(micro.into(), MICRO.into(), places)
}

/// Whether rows differ in something.
fn differ<'a, T, U: PartialEq + ?Sized + 'a>(rows: &'a [T], of: impl Fn(&'a T) -> &'a U) -> bool {
    rows.iter().any(|row| rows.first().is_some_and(|first| of(first) != of(row)))
}

/// The name of an engine alone.
fn without_version(engine: &str) -> String {
    engine.split('@').next().unwrap_or_default().to_owned()
}

/// `tp 8, pp 4`
pub(super) fn spread(tp: u64, pp: u64, dp: u64) -> String {
    let sizes = [("tp", tp), ("pp", pp), ("dp", dp)];
    let told = sizes.iter().filter(|(name, size)| *size > 1 || (*name == "tp" && pp == 1 && dp == 1));
    told.map(|(name, size)| format!("{name} {size}")).collect::<Vec<_>>().join(", ")
}
