//! The smallest layouts of one kind of device that hold a workload.

use super::layout::{check, widest_heads};
use super::{LayoutError, Question, Server};
use crate::engine::Spread;
use crate::estimate::{EstimateError, Layout, Workload};
use crate::hardware::Budget;
use crate::units::Bytes;

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

/// The layouts of fewest devices that hold the workload: of one replica, and, of a batch, of several. `budgets` tells the
/// memory of a layout's devices. Empty where none does.
///
/// # Errors
/// What `budgets` says, or [`LayoutError`] where the engine has no answer.
pub fn plan<E: From<LayoutError>>(
    question: &Question,
    ranks: &[u64],
    limits: Limits,
    budgets: impl Fn(Layout) -> Result<Vec<Budget>, E>,
) -> Result<Vec<Planned>, E> {
    let search = Search { question, budgets, least: least_bytes(question) };
    // Of one replica, and of several.
    let mut best: [Option<Planned>; 2] = [None, None];
    for &tp in ranks {
        for pp in search.fewest_stages(tp)?..=search.most_stages() {
            let each = tp.saturating_mul(pp);
            let worse = |found: &Option<Planned>| found.as_ref().is_some_and(|found| found.gpus <= each);
            if each > limits.gpus || worse(&best[0]) && (search.wanted() == 1 || worse(&best[1])) {
                break;
            }
            let Some(planned) = search.held(Layout { tp, pp, ..Layout::default() })? else { continue };
            let place = &mut best[usize::from(planned.layout.dp > 1)];
            if planned.gpus <= limits.gpus && place.as_ref().is_none_or(|found| planned.gpus < found.gpus) {
                *place = Some(planned);
            }
        }
    }
    let mut found: Vec<Planned> = best.into_iter().flatten().collect();
    for planned in &mut found {
        if planned.layout.dp == 1 {
            planned.smaller = search.next_smaller(ranks, planned.gpus)?;
        }
    }
    found.sort_by_key(|planned| planned.gpus);
    Ok(found)
}

/// Bytes of the cache of one request over all devices, however it is spread: more ranks and stages take no less.
fn least_bytes(question: &Question) -> Bytes {
    let Question { model, engine, workload, .. } = question;
    let whole =
        Workload { seq_len: question.usual_len(), batch: 1, layout: Layout::default(), memory: None, ..*workload };
    engine.answer(model, &whole).map(|answer| answer.estimate.bytes).unwrap_or_default()
}

struct Search<'a, B> {
    question: &'a Question<'a>,
    budgets: B,
    least: Bytes,
}

impl<E: From<LayoutError>, B: Fn(Layout) -> Result<Vec<Budget>, E>> Search<'_, B> {
    fn wanted(&self) -> u64 {
        self.question.batch.unwrap_or(1)
    }

    fn most_stages(&self) -> u64 {
        match self.question.engine.profile.spread {
            Spread::Whole => 1,
            Spread::Ranks | Spread::Layers => u64::from(self.question.model.num_hidden_layers),
        }
    }

    /// The fewest stages that could hold weights and one request, if all could be divided evenly.
    fn fewest_stages(&self, tp: u64) -> Result<u64, E> {
        let budgets = (self.budgets)(Layout { tp, ..Layout::default() })?;
        let Some(budget) = budgets.first() else { return Ok(1) };
        let of_rank = self.least.0.checked_div(tp).unwrap_or_default();
        let all = budget.weights.bytes.0.saturating_add(of_rank);
        Ok(all.div_ceil(budget.usable.bytes.0.max(1)).max(1))
    }

    /// Bytes that `batch` requests are short of; the server where they fit.
    fn short(&self, layout: Layout, batch: u64) -> Result<Result<(Server<'_>, Vec<Budget>), Bytes>, E> {
        let failed = |error: EstimateError| E::from(LayoutError::Estimate(error));
        let budgets = (self.budgets)(layout)?;
        if let Some(short) = budgets.iter().filter_map(|budget| budget.pool().err()).max() {
            return Ok(Err(short));
        }
        let server = Server::of(*self.question, layout, &budgets).map_err(failed)?;
        let missing = server.shortfall(self.question.usual_len(), batch).map_err(failed)?;
        Ok(if missing > Bytes(0) { Err(missing) } else { Ok((server, budgets)) })
    }

    /// The replicas of `layout` that hold the workload, if one holds a request.
    fn held(&self, layout: Layout) -> Result<Option<Planned>, E> {
        let failed = |error: EstimateError| E::from(LayoutError::Estimate(error));
        let Ok((server, budgets)) = self.short(layout, 1)? else { return Ok(None) };
        let (seq_len, wanted) = (self.question.usual_len(), self.wanted());
        let run = server.requests(seq_len).map_err(failed)?.at_once();
        if run == 0 {
            return Ok(None);
        }
        let dp = wanted.div_ceil(run);
        let slack = server.slack(seq_len, wanted.div_ceil(dp)).map_err(failed)?;
        let fewer = dp.saturating_sub(1);
        let smaller = (dp > 1).then(|| Smaller::Requests { dp: fewer, requests: run.saturating_mul(fewer) });
        let gpus = layout.tp.saturating_mul(layout.pp).saturating_mul(dp);
        let requests = run.saturating_mul(dp);
        Ok(Some(Planned { layout: Layout { dp, ..layout }, gpus, requests, slack, budgets, smaller }))
    }

    /// Of the layouts of one replica with fewer devices those with most; of these the one that comes closest.
    fn next_smaller(&self, ranks: &[u64], gpus: u64) -> Result<Option<Smaller>, E> {
        let fewer = ranks.iter().filter_map(|&tp| {
            let pp = gpus.saturating_sub(1).checked_div(tp)?.min(self.most_stages());
            (pp > 0).then_some(Layout { tp, pp, ..Layout::default() })
        });
        let mut fewer: Vec<Layout> = fewer.collect();
        let size = |layout: &Layout| layout.tp.saturating_mul(layout.pp);
        let most = fewer.iter().map(size).max().unwrap_or_default();
        fewer.retain(|layout| size(layout) == most);
        let mut closest: Option<(Layout, Bytes)> = None;
        for layout in fewer {
            if let Err(bytes) = self.short(layout, self.wanted())?
                && closest.is_none_or(|(_, least)| bytes < least)
            {
                closest = Some((layout, bytes));
            }
        }
        Ok(closest.map(|(layout, bytes)| Smaller::Short { layout, bytes }))
    }
}
