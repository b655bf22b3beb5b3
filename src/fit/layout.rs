//! How a model is spread over a number of devices, where nobody says.

use super::Question;
use crate::engine::Spread;
use crate::estimate::{EstimateError, Layout, Workload};
use crate::model::{KeyValue, LayerGroup, Model};
use crate::units::{Diagnose, Diagnosis, display_diagnosis};

/// The parallel sizes that were given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GivenLayout {
    /// Tensor parallel ranks.
    pub tp: Option<u64>,
    /// Pipeline stages.
    pub pp: Option<u64>,
    /// Replicas.
    pub dp: Option<u64>,
    /// Decode context parallel ranks.
    pub dcp: Option<u64>,
}

/// Devices, and how many of them are in a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Devices in all.
    pub gpus: u64,
    /// Devices of a node, which tensor parallel ranks do not leave.
    pub per_node: u64,
}

/// Why there is no layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayoutError {
    /// The sizes given do not come to the devices.
    Product {
        /// The sizes given.
        given: GivenLayout,
        /// Devices in all.
        gpus: u64,
    },
    /// Query heads that ranks do not divide.
    QueryHeads {
        /// Query heads.
        num_attention_heads: u64,
        /// Ranks.
        tp: u64,
    },
    /// An engine that does not spread a model so.
    Spread {
        /// The engine.
        engine: &'static str,
        /// The flag.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// The model can't be spread so.
    Estimate(EstimateError),
}

impl Diagnose for LayoutError {
    fn diagnosis(&self) -> Diagnosis {
        let (code, field, found, problem, remedy) = match self {
            Self::Product { given, gpus } => {
                let size = |name: &str, size: Option<u64>| size.map(|size| format!("{name} {size}"));
                let sizes = [size("tp", given.tp), size("pp", given.pp), size("dp", given.dp)];
                let found = sizes.into_iter().flatten().collect::<Vec<_>>().join(" x ");
                let problem = format!("does not come to {gpus} GPUs");
                (
                    "layout",
                    "--tp --pp --dp",
                    found,
                    problem,
                    "give sizes whose product is the number of GPUs, or fewer of them",
                )
            }
            Self::QueryHeads { num_attention_heads, tp } => {
                let problem = format!("does not divide the {num_attention_heads} query heads");
                ("layout", "--tp", tp.to_string(), problem, "give a divisor of them")
            }
            Self::Spread { engine, field, found } => {
                let problem = format!("is not how {engine} spreads a model");
                ("layout", *field, found.to_string(), problem, "leave it out: the number of GPUs decides")
            }
            Self::Estimate(error) => return error.diagnosis(),
        };
        Diagnosis::new(code, field, found, problem, remedy)
    }
}

display_diagnosis!(LayoutError);

/// A layout of the devices: the sizes given, and sensible ones for the rest. Tensor parallel ranks first, since they share
/// each token's work: as many as a node has, as divide the heads, and as do not keep a KV head twice. Pipeline stages take the
/// rest; where there are too few layers, or an engine keeps a model whole, replicas do.
///
/// # Errors
/// [`LayoutError`].
pub fn layout_of(question: &Question, sizes: Sizes, given: GivenLayout) -> Result<Layout, LayoutError> {
    let engine = question.engine;
    match engine.profile.spread {
        Spread::Ranks => of_ranks(question, sizes, given),
        spread => {
            for (field, size) in [("--tp", given.tp), ("--pp", given.pp), ("--dcp", given.dcp)] {
                if let Some(found) = size.filter(|&size| size > 1) {
                    return Err(LayoutError::Spread { engine: engine.profile.name, field, found });
                }
            }
            let product = LayoutError::Product { given, gpus: sizes.gpus };
            let dp = given.dp.unwrap_or(if spread == Spread::Whole { sizes.gpus } else { 1 });
            let pp = sizes.gpus.checked_div(dp).filter(|_| sizes.gpus.is_multiple_of(dp)).ok_or(product.clone())?;
            if spread == Spread::Whole && pp > 1 {
                return Err(product);
            }
            Ok(Layout { tp: 1, pp, dp, dcp: 1 })
        }
    }
}

fn of_ranks(question: &Question, sizes: Sizes, given: GivenLayout) -> Result<Layout, LayoutError> {
    let product = || LayoutError::Product { given, gpus: sizes.gpus };
    let known = [given.tp, given.pp, given.dp].into_iter().flatten().try_fold(1u64, u64::checked_mul);
    let known = known.filter(|&known| known > 0 && sizes.gpus.is_multiple_of(known)).ok_or_else(product)?;
    let rest = sizes.gpus.checked_div(known).ok_or_else(product)?;
    if given.tp.is_some() && given.pp.is_some() && given.dp.is_some() && rest > 1 {
        return Err(product());
    }
    let dcp = given.dcp.unwrap_or(1);
    let finished = |tp: u64, pp: u64, dp: u64| Layout { tp, pp, dp, dcp };
    let spread = |tp: u64| {
        // What ranks leave over goes to the stages, or to replicas if stages are given or too many.
        let left = if given.tp.is_some() { rest } else { rest.checked_div(tp).unwrap_or(1) };
        match (given.pp, given.dp) {
            (Some(pp), Some(dp)) => finished(tp, pp, dp),
            (Some(pp), None) => finished(tp, pp, left),
            (None, Some(dp)) => finished(tp, left, dp),
            (None, None) if left <= u64::from(question.model.num_hidden_layers) => finished(tp, left, 1),
            (None, None) => finished(tp, 1, left),
        }
    };
    if let Some(tp) = given.tp {
        let layout = spread(tp);
        check(question, layout)?;
        return Ok(layout);
    }
    let heads = widest_heads(question.model);
    let fixed = given.pp.is_some() && given.dp.is_some();
    let widest = if fixed { rest } else { rest.min(sizes.per_node) };
    let ranks = (1..=widest).rev().filter(|&tp| rest.is_multiple_of(tp) && (!fixed || tp == rest));
    let mut refused = None;
    for tp in ranks {
        if !fixed && heads.is_some_and(|heads| tp > heads) {
            continue;
        }
        let layout = spread(tp);
        match check(question, layout) {
            Ok(()) => return Ok(layout),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(product))
}

/// KV heads of the layers that have most of them: more ranks would keep each more than once in every layer. None where no
/// layer has heads: a latent is whole on every rank, whatever their number.
pub(super) fn widest_heads(model: &Model) -> Option<u64> {
    let heads = |group: &LayerGroup| group.cache.key_value().and_then(KeyValue::num_key_value_heads);
    model.layer_groups.iter().filter_map(heads).max()
}

/// Whether the model can be spread so: query heads divide over ranks, and the engine has an answer.
pub(super) fn check(question: &Question, layout: Layout) -> Result<(), LayoutError> {
    let Question { model, engine, workload, .. } = question;
    let tp = layout.tp;
    if let Some(num_attention_heads) = model.checkpoint.num_attention_heads.filter(|heads| !heads.is_multiple_of(tp)) {
        return Err(LayoutError::QueryHeads { num_attention_heads, tp });
    }
    let workload = Workload { seq_len: question.usual_len(), batch: 1, layout, memory: None, ..*workload };
    engine.answer(model, &workload).map(|_| ()).map_err(LayoutError::Estimate)
}
