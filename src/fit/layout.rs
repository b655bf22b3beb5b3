//! How a model is spread over a number of devices, where nobody says.

use super::Question;
use crate::engine::Spread;
use crate::estimate::{Layout, Workload};
use crate::model::{KeyValue, LayerGroup, Model};
use crate::units::{Code, Diagnose, Error, display_diagnosis};

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
        /// Whether it keeps a model whole, and does not divide its layers either.
        whole: bool,
    },
    /// The model can't be spread so.
    Estimate(Error),
}

impl Diagnose for LayoutError {
    fn diagnosis(&self) -> Error {
        let (code, field, found, problem, remedy) = match self {
            Self::Product { given, gpus } => {
                let size = |name: &str, size: Option<u64>| size.map(|size| format!("{name} {size}"));
                let sizes = [size("tp", given.tp), size("pp", given.pp), size("dp", given.dp)];
                let found = sizes.into_iter().flatten().collect::<Vec<_>>().join(" x ");
                let problem = format!("does not come to {gpus} GPUs");
                (
                    Code::Layout,
                    "--tp --pp --dp",
                    found,
                    problem,
                    "give sizes whose product is the number of GPUs, or fewer of them",
                )
            }
            Self::QueryHeads { num_attention_heads, tp } => {
                let problem = format!("does not divide the {num_attention_heads} query heads");
                (Code::Layout, "--tp", tp.to_string(), problem, "give a divisor of them")
            }
            Self::Spread { engine, field, found, whole: true } => {
                let problem = format!("divides a model that {engine} keeps whole here");
                (Code::Layout, *field, found.to_string(), problem, "leave it out: each GPU is a replica")
            }
            Self::Spread { engine, field, found, whole: false } => {
                let problem = format!("is not how {engine} spreads a model");
                (Code::Layout, *field, found.to_string(), problem, "leave it out: the number of GPUs decides")
            }
            Self::Estimate(error) => return error.clone(),
        };
        Error::new(code, field, found, problem, remedy)
    }
}

display_diagnosis!(LayoutError);

/// Layouts of the devices, the most usual first: the sizes given, and sensible ones for the rest. Tensor parallel ranks first,
/// since they share each token's work: as many as a node has, as divide the heads, and as do not keep a KV head twice.
/// Pipeline stages take the rest; where there are too few layers, or an engine keeps a model whole, replicas do. Those that
/// follow have fewer ranks, or replicas in place of stages.
///
/// # Errors
/// [`LayoutError`] where there is none.
pub fn layouts_of(question: &Question, sizes: Sizes, given: GivenLayout) -> Result<Vec<Layout>, LayoutError> {
    let engine = question.engine;
    match engine.profile.spread {
        Spread::Ranks => of_ranks(question, sizes, given),
        spread => {
            for (field, size) in [("--tp", given.tp), ("--pp", given.pp), ("--dcp", given.dcp)] {
                if let Some(found) = size.filter(|&size| size > 1) {
                    return Err(LayoutError::Spread {
                        engine: engine.profile.name,
                        field,
                        found,
                        whole: spread == Spread::Whole,
                    });
                }
            }
            let product = LayoutError::Product { given, gpus: sizes.gpus };
            let dp = given.dp.unwrap_or(if spread == Spread::Whole { sizes.gpus } else { 1 });
            let pp = sizes.gpus.checked_div(dp).filter(|_| sizes.gpus.is_multiple_of(dp)).ok_or(product.clone())?;
            if spread == Spread::Whole && pp > 1 {
                return Err(product);
            }
            let layout = |dp: u64| Layout { tp: 1, pp: sizes.gpus.checked_div(dp).unwrap_or(1), dp, dcp: 1 };
            let others =
                divisors(sizes.gpus).filter(|&other| given.dp.is_none() && spread == Spread::Layers && other != dp);
            Ok([dp].into_iter().chain(others).map(layout).collect())
        }
    }
}

/// The divisors of a number of devices, up to which layouts are tried, the smallest first.
fn divisors(number: u64) -> impl Iterator<Item = u64> {
    const MOST: u64 = 4096;
    (1..=number.min(MOST)).filter(move |&divisor| number.is_multiple_of(divisor))
}

fn of_ranks(question: &Question, sizes: Sizes, given: GivenLayout) -> Result<Vec<Layout>, LayoutError> {
    let product = || LayoutError::Product { given, gpus: sizes.gpus };
    let known = [given.tp, given.pp, given.dp].into_iter().flatten().try_fold(1u64, u64::checked_mul);
    let known = known.filter(|&known| known > 0 && sizes.gpus.is_multiple_of(known)).ok_or_else(product)?;
    let rest = sizes.gpus.checked_div(known).ok_or_else(product)?;
    if given.tp.is_some() && given.pp.is_some() && given.dp.is_some() && rest > 1 {
        return Err(product());
    }
    let layers = u64::from(question.model.num_hidden_layers);
    let dcp = given.dcp.unwrap_or(1);
    // What ranks leave over goes to the stages, or to replicas if stages are given or too many.
    let spread = |tp: u64| -> Vec<Layout> {
        let left = if given.tp.is_some() { rest } else { rest.checked_div(tp).unwrap_or(1) };
        let of = |pp: u64, dp: u64| Layout { tp, pp, dp, dcp };
        match (given.pp, given.dp) {
            (Some(pp), Some(dp)) => vec![of(pp, dp)],
            (Some(pp), None) => vec![of(pp, left)],
            (None, Some(dp)) => vec![of(left, dp)],
            (None, None) => {
                let replicas = divisors(left).map(|dp| of(left.checked_div(dp).unwrap_or(1), dp));
                let possible: Vec<Layout> = replicas.filter(|layout| layout.pp <= layers).collect();
                // Of more stages than layers there is none: one stage, and replicas.
                if left > layers { possible.into_iter().rev().collect() } else { possible }
            }
        }
    };
    let heads = widest_heads(question.model);
    let fixed = given.pp.is_some() && given.dp.is_some();
    let widest = if fixed { rest } else { rest.min(sizes.per_node) };
    let ranks: Vec<u64> = match given.tp {
        Some(tp) => vec![tp],
        None => (1..=widest)
            .rev()
            .filter(|&tp| rest.is_multiple_of(tp) && (!fixed || tp == rest))
            .filter(|&tp| fixed || heads.is_none_or(|heads| heads.is_multiple_of(tp)))
            .collect(),
    };
    let (mut found, mut refused) = (Vec::new(), None);
    for layout in ranks.into_iter().flat_map(spread) {
        // What the engine says of one layout costs an answer: of the many that follow it is asked when they are tried.
        if found.is_empty() {
            match check(question, layout) {
                Ok(()) => found.push(layout),
                Err(error) => refused = Some(error),
            }
        } else {
            found.push(layout);
        }
    }
    if found.is_empty() { Err(refused.unwrap_or_else(product)) } else { Ok(found) }
}

/// KV heads of the layers that have most of them: more ranks would keep each more than once in every layer. None where no
/// layer has heads: a latent is whole on every rank, whatever their number.
pub(super) fn widest_heads(model: &Model) -> Option<u64> {
    let heads = |group: &LayerGroup| group.cache.key_value().and_then(KeyValue::num_key_value_heads);
    model.layer_groups.iter().filter_map(heads).max()
}

/// Whether the model can be spread so: query heads divide over ranks, KV heads do or are repeated evenly, and the engine has
/// an answer.
pub(super) fn check(question: &Question, layout: Layout) -> Result<(), LayoutError> {
    let Question { model, engine, workload, .. } = question;
    let tp = layout.tp;
    if let Some(num_attention_heads) = model.checkpoint.num_attention_heads.filter(|heads| !heads.is_multiple_of(tp)) {
        return Err(LayoutError::QueryHeads { num_attention_heads, tp });
    }
    if let Some(heads) = widest_heads(model) {
        layout.heads_on_rank(heads).map_err(LayoutError::Estimate)?;
    }
    let layout = if engine.profile.spread == Spread::Ranks { Layout { dp: 1, ..layout } } else { Layout::default() };
    let workload = Workload { seq_len: question.usual_len(), batch: 1, layout, memory: None, ..*workload };
    engine.answer(model, &workload).map(|_| ()).map_err(LayoutError::Estimate)
}
