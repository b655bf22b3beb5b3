//! How a model is spread over a number of devices, where nobody says.

use super::{Limits, Question};
use crate::engine::{Engine, Spread};
use crate::estimate::{Layout, Workload};
use crate::model::{KeyValue, LayerGroup, Model};
use crate::request::Place;
use crate::units::{Code, Error};

/// The sizes given do not multiply to the devices.
fn wrong_product(given: Place, gpus: u64) -> Error {
    let size = |name: &str, size: Option<u64>| size.map(|size| format!("{name} {size}"));
    let sizes = [size("tp", given.tp), size("pp", given.pp), size("dp", given.dp)];
    let found = sizes.into_iter().flatten().collect::<Vec<_>>().join(" x ");
    let remedy = "give sizes whose product is the number of GPUs, or fewer of them";
    Error::new(Code::Layout, "--tp --pp --dp", found, format!("is not {gpus} GPUs"), remedy)
}

/// An engine that does not spread a model by this size.
fn not_spread_so(engine: &Engine, field: &str, size: u64) -> Error {
    let name = engine.profile.name;
    let (problem, remedy) = match engine.profile.spread {
        Spread::Whole => {
            (format!("divides a model that {name} keeps whole here"), "leave it out: each GPU is a replica")
        }
        Spread::Ranks | Spread::Layers => {
            (format!("is not how {name} spreads a model"), "leave it out: the number of GPUs decides")
        }
    };
    Error::new(Code::Layout, field, size.to_string(), problem, remedy)
}

/// Layouts of all devices, the most usual first: the sizes given, and sensible ones for the rest. Tensor parallel ranks first,
/// since they share each token's work: as many as a node has, as divide the heads, and as do not keep a KV head twice.
/// Pipeline stages take the rest; where there are too few layers, or an engine keeps a model whole, replicas do. Those that
/// follow have fewer ranks, or replicas in place of stages.
///
/// # Errors
/// [`Code::Layout`] where there is none.
pub fn layouts_of(question: &Question, limits: Limits) -> Result<Vec<Layout>, Error> {
    let (engine, Limits { gpus, given, .. }) = (question.engine, limits);
    match engine.profile.spread {
        Spread::Ranks => of_ranks(question, limits),
        spread => {
            for (field, size) in [("--tp", given.tp), ("--pp", given.pp), ("--dcp", given.dcp)] {
                if let Some(found) = size.filter(|&size| size > 1) {
                    return Err(not_spread_so(engine, field, found));
                }
            }
            let product = || wrong_product(given, gpus);
            let dp = given.dp.unwrap_or(if spread == Spread::Whole { gpus } else { 1 });
            let pp = gpus.checked_div(dp).filter(|_| gpus.is_multiple_of(dp)).ok_or_else(product)?;
            if spread == Spread::Whole && pp > 1 {
                return Err(product());
            }
            let layout = |dp: u64| Layout { tp: 1, pp: gpus.checked_div(dp).unwrap_or(1), dp, dcp: 1 };
            let others = divisors(gpus).filter(|&other| given.dp.is_none() && spread == Spread::Layers && other != dp);
            Ok([dp].into_iter().chain(others).map(layout).collect())
        }
    }
}

/// The divisors of a number of devices, up to which layouts are tried, the smallest first.
fn divisors(number: u64) -> impl Iterator<Item = u64> {
    const MOST: u64 = 4096;
    (1..=number.min(MOST)).filter(move |&divisor| number.is_multiple_of(divisor))
}

fn of_ranks(question: &Question, limits: Limits) -> Result<Vec<Layout>, Error> {
    let Limits { gpus, per_node, given, .. } = limits;
    let product = || wrong_product(given, gpus);
    let known = [given.tp, given.pp, given.dp].into_iter().flatten().try_fold(1u64, u64::checked_mul);
    let known = known.filter(|&known| known > 0 && gpus.is_multiple_of(known)).ok_or_else(product)?;
    let rest = gpus.checked_div(known).ok_or_else(product)?;
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
    let widest = if fixed { rest } else { rest.min(per_node) };
    let ranks: Vec<u64> = match given.tp {
        Some(tp) => vec![tp],
        None => (1..=widest)
            .rev()
            .filter(|&tp| rest.is_multiple_of(tp) && (!fixed || tp == rest))
            .filter(|&tp| fixed || heads.is_none_or(|heads| heads.is_multiple_of(tp)))
            .collect(),
    };
    let mut layouts = ranks.into_iter().flat_map(spread);
    let mut refused = None;
    let can = |layout: &Layout| check(question, *layout).map_err(|error| refused = Some(error)).is_ok();
    // What the engine says of one layout costs an answer: of the many that follow it is asked when they are tried.
    let first = layouts.find(can);
    let first = first.ok_or_else(|| refused.unwrap_or_else(product))?;
    Ok([first].into_iter().chain(layouts).collect())
}

/// KV heads of the layers that have most of them: more ranks would keep each more than once in every layer. None where no
/// layer has heads: a latent is whole on every rank, whatever their number.
pub(super) fn widest_heads(model: &Model) -> Option<u64> {
    let heads = |group: &LayerGroup| group.cache.key_value().and_then(KeyValue::num_key_value_heads);
    model.layer_groups.iter().filter_map(heads).max()
}

/// Whether the model can be spread so: query heads divide over ranks, KV heads do or are repeated evenly, and the engine has
/// an answer.
pub(super) fn check(question: &Question, layout: Layout) -> Result<(), Error> {
    let Question { model, engine, workload, .. } = question;
    let tp = layout.tp;
    if let Some(num_attention_heads) = model.checkpoint.num_attention_heads.filter(|heads| !heads.is_multiple_of(tp)) {
        let problem = format!("does not divide the {num_attention_heads} query heads");
        return Err(Error::new(Code::Layout, "--tp", tp.to_string(), problem, "give a divisor of them"));
    }
    if let Some(heads) = widest_heads(model) {
        layout.heads_on_rank(heads)?;
    }
    let layout = if engine.profile.spread == Spread::Ranks { Layout { dp: 1, ..layout } } else { Layout::default() };
    let workload = Workload { seq_len: question.usual_len(), batch: 1, layout, memory: None, ..*workload };
    engine.answer(model, &workload).map(|_| ())
}
