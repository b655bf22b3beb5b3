//! The smallest layouts of one kind of device that hold a workload.

use super::layout::{check, widest_heads};
use super::{LayoutError, Question, Server};
use crate::engine::Spread;
use crate::estimate::{EstimateError, Layout};
use crate::hardware::Budget;
use crate::units::{Bytes, Tokens};

/// A layout that holds the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// How the model is spread.
    pub layout: Layout,
    /// Devices in all.
    pub gpus: u64,
    /// Requests that all replicas run at once.
    pub requests: u64,
    /// Bytes to spare on the device that is full first.
    pub slack: Bytes,
    /// The memory of each stage's devices.
    pub budgets: Vec<Budget>,
    /// Why fewer devices do not hold it; none where one is the fewest.
    pub smaller: Option<Smaller>,
}

/// Why fewer devices do not hold a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Smaller {
    /// Bytes are missing on a device.
    Short {
        /// The layout that comes closest, of the next smaller number of devices.
        layout: Layout,
        /// The bytes.
        bytes: Bytes,
    },
    /// One replica less runs too few requests.
    Requests {
        /// Replicas.
        dp: u64,
        /// The requests they run.
        requests: u64,
    },
}

/// What limits a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Devices at the most.
    pub gpus: u64,
    /// Devices of a node, which tensor parallel ranks do not leave.
    pub per_node: u64,
}

/// The sizes of tensor parallel ranks that the model and the engine can take, the widest first.
pub fn ranks(question: &Question, per_node: u64) -> Vec<u64> {
    let most = match question.engine.profile.spread {
        Spread::Ranks => widest_heads(question.model).unwrap_or(per_node).min(per_node),
        Spread::Layers | Spread::Whole => 1,
    };
    let can = |&tp: &u64| check(question, Layout { tp, ..Layout::default() }).is_ok();
    (1..=most).rev().filter(can).collect()
}

/// The layouts of fewest devices that hold the workload: the one that is smallest, and, of a batch, the smallest with one
/// replica and the smallest with several. `budgets` tells the memory of a layout's devices. Empty where none does.
///
/// # Errors
/// [`LayoutError`] where the engine has no answer, or `budgets` none.
pub fn plan<E: From<LayoutError>>(
    question: &Question,
    ranks: &[u64],
    limits: Limits,
    budgets: impl Fn(Layout) -> Result<Vec<Budget>, E>,
) -> Result<Vec<Planned>, E> {
    let (seq_len, wanted) = (question.seq_len.unwrap_or(Tokens(1)), question.batch.unwrap_or(1));
    let stages = match question.engine.profile.spread {
        Spread::Whole => 1,
        Spread::Ranks | Spread::Layers => u64::from(question.model.num_hidden_layers),
    };
    let mut tried: Vec<Tried> = Vec::new();
    // Of one replica, and of several.
    let mut best: [Option<Planned>; 2] = [None, None];
    for &tp in ranks {
        for pp in 1..=stages {
            let each = tp.saturating_mul(pp);
            let worse = |found: &Option<Planned>| found.as_ref().is_some_and(|found| found.gpus < each);
            if each > limits.gpus || best.iter().all(worse) || (wanted == 1 && worse(&best[0])) {
                break;
            }
            let layout = Layout { tp, pp, ..Layout::default() };
            let memory = budgets(layout)?;
            let short = memory.iter().filter_map(|budget| budget.pool().err()).max();
            if let Some(short) = short {
                tried.push(Tried { layout, gpus: each, short });
                continue;
            }
            let failed = |error: EstimateError| E::from(LayoutError::Estimate(error));
            let server = Server::of(*question, layout, &memory).map_err(failed)?;
            let missing = server.shortfall(seq_len, 1).map_err(failed)?;
            if missing > Bytes(0) {
                tried.push(Tried { layout, gpus: each, short: missing });
                continue;
            }
            let run = server.requests(seq_len).map_err(failed)?.at_once();
            if run == 0 {
                continue;
            }
            let dp = wanted.div_ceil(run);
            let gpus = each.saturating_mul(dp);
            let place = &mut best[usize::from(dp > 1)];
            if gpus > limits.gpus || place.as_ref().is_some_and(|found| found.gpus <= gpus) {
                continue;
            }
            let slack = server.slack(seq_len, wanted.div_ceil(dp)).map_err(failed)?;
            *place = Some(Planned {
                layout: Layout { dp, ..layout },
                gpus,
                requests: run.saturating_mul(dp),
                slack,
                budgets: memory,
                smaller: (dp > 1).then(|| Smaller::Requests {
                    dp: dp.saturating_sub(1),
                    requests: run.saturating_mul(dp.saturating_sub(1)),
                }),
            });
        }
    }
    let mut found: Vec<Planned> = best.into_iter().flatten().collect();
    for planned in &mut found {
        if planned.smaller.is_none() {
            planned.smaller = next_smaller(&tried, planned.gpus);
        }
    }
    found.sort_by_key(|planned| planned.gpus);
    Ok(found)
}

/// A layout that did not hold the workload.
struct Tried {
    layout: Layout,
    gpus: u64,
    short: Bytes,
}

/// Of those that were tried with fewer devices, the most devices; of these the one that comes closest.
fn next_smaller(tried: &[Tried], gpus: u64) -> Option<Smaller> {
    let fewer = tried.iter().filter(|tried| tried.gpus < gpus);
    let closest = fewer.max_by_key(|tried| (tried.gpus, std::cmp::Reverse(tried.short)))?;
    Some(Smaller::Short { layout: closest.layout, bytes: closest.short })
}
