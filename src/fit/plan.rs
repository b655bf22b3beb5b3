//! The smallest layouts of one kind of device that hold a workload.

use super::layout::{check, widest_heads};
use super::{LayoutError, Question, Server};
use crate::engine::Spread;
use crate::estimate::{EstimateError, Layout, Workload, estimate};
use crate::hardware::Budget;
use crate::units::{Bytes, KvDtype};

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
///
/// # Errors
/// [`LayoutError`] where not even one rank can be.
pub fn ranks(question: &Question, per_node: u64) -> Result<Vec<u64>, LayoutError> {
    let most = match question.engine.profile.spread {
        Spread::Ranks => widest_heads(question.model).unwrap_or(per_node).min(per_node),
        Spread::Layers | Spread::Whole => 1,
    };
    let can = |tp: u64| check(question, Layout { tp, ..Layout::default() });
    let possible: Vec<u64> = (1..=most).rev().filter(|&tp| can(tp).is_ok()).collect();
    if possible.is_empty() { can(1).map(|()| possible) } else { Ok(possible) }
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
    let search = Search { question, limits, budgets, least: least_bytes(question) };
    // Of one replica, and of several.
    let [mut one, mut several] = [None, None];
    for &tp in ranks {
        let of_one = (search.budgets)(Layout { tp, ..Layout::default() })?;
        let Some(Budget { usable, weights, .. }) = of_one.first() else { continue };
        let ranks = Ranks { tp, usable: usable.bytes, weights: weights.bytes };
        search.replicas(&ranks, 1, &mut one)?;
        for dp in 2..=search.wanted() {
            // So many replicas must be of fewer devices than the best that is known, one rank being the least.
            let most = several.as_ref().map_or(limits.gpus, |found: &Planned| found.gpus.saturating_sub(1));
            if tp.saturating_mul(dp) > most {
                break;
            }
            search.replicas(&ranks, dp, &mut several)?;
        }
    }
    if let Some(planned) = &mut one {
        planned.smaller = search.next_smaller(ranks, planned.gpus)?;
    }
    let mut found: Vec<Planned> = [one, several].into_iter().flatten().collect();
    found.sort_by_key(|planned| planned.gpus);
    Ok(found)
}

/// The layout of at most so many devices that comes closest to holding the workload, where none holds it.
///
/// # Errors
/// As [`plan`].
pub fn closest<E: From<LayoutError>>(
    question: &Question,
    ranks: &[u64],
    limits: Limits,
    budgets: impl Fn(Layout) -> Result<Vec<Budget>, E>,
) -> Result<Option<Smaller>, E> {
    let search = Search { question, limits, budgets, least: Bytes(0) };
    search.next_smaller(ranks, limits.gpus.saturating_add(1))
}

/// The live bytes of one request, in the format that the engine stores: however it is spread, it takes no less. 0 where
/// that is not known.
fn least_bytes(question: &Question) -> Bytes {
    let Question { model, engine, workload, .. } = question;
    let seq_len = question.usual_len();
    let whole = Workload { seq_len, batch: 1, layout: Layout::default(), memory: None, ..*workload };
    let stored = engine.answer(model, &whole).map(|answer| answer.estimate.stored);
    let live = stored.and_then(|stored| estimate(model, &Workload { kv_dtype: KvDtype::Given(stored), ..whole }));
    live.map(|live| live.bytes).unwrap_or_default()
}

/// Tensor parallel ranks, and what each has and holds if there is one stage.
struct Ranks {
    tp: u64,
    usable: Bytes,
    weights: Bytes,
}

struct Search<'a, B> {
    question: &'a Question<'a>,
    limits: Limits,
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

    /// The fewest stages that could hold weights and so many requests, if all could be divided evenly.
    fn fewest_stages(&self, ranks: &Ranks, batch: u64) -> u64 {
        let of_rank = self.least.0.saturating_mul(batch).checked_div(ranks.tp).unwrap_or_default();
        ranks.weights.0.saturating_add(of_rank).div_ceil(ranks.usable.0.max(1)).max(1)
    }

    /// Puts the fewest devices in `best` that hold the workload with such ranks and `dp` replicas, if they are fewer.
    fn replicas(&self, ranks: &Ranks, dp: u64, best: &mut Option<Planned>) -> Result<(), E> {
        let tp = ranks.tp;
        let batch = self.wanted().div_ceil(dp);
        // One replica less would have no more to hold.
        if dp > 1 && self.wanted().div_ceil(dp.saturating_sub(1)) == batch {
            return Ok(());
        }
        for pp in self.fewest_stages(ranks, batch)..=self.most_stages() {
            let gpus = tp.saturating_mul(pp).saturating_mul(dp);
            if gpus > self.limits.gpus || best.as_ref().is_some_and(|found| found.gpus <= gpus) {
                break;
            }
            let layout = Layout { tp, pp, dp, ..Layout::default() };
            let budgets = (self.budgets)(Layout { dp: 1, ..layout })?;
            // Cheaper to see than to ask the engine: all pools together are too small.
            let pools = budgets.iter().map(|budget| budget.pool().unwrap_or_default().0).fold(0, u64::saturating_add);
            if pools.saturating_mul(tp) < self.least.0.saturating_mul(batch) {
                continue;
            }
            let Some(Ok((server, slack))) = self.held(layout, &budgets, batch) else { continue };
            let failed = |error: EstimateError| E::from(LayoutError::Estimate(error));
            let run = server.requests(self.question.usual_len()).map_err(failed)?.at_once();
            let fewer = run.checked_div(dp).unwrap_or_default().saturating_mul(dp.saturating_sub(1));
            // An engine that runs fewer at once than there is room for needs more replicas; where one less would do, it is
            // told as that.
            if run >= self.wanted() && fewer < self.wanted() {
                let dp = dp.saturating_sub(1);
                let smaller = (dp > 0).then_some(Smaller::Requests { dp, requests: fewer });
                *best = Some(Planned { layout, gpus, requests: run, slack, budgets, smaller });
            }
            break;
        }
        Ok(())
    }

    /// The server of a layout, and what `batch` requests of a replica leave of its memory; or what they are short of. None
    /// where the engine does not divide the model so.
    fn held(&self, layout: Layout, budgets: &[Budget], batch: u64) -> Option<Result<(Server<'_>, Bytes), Bytes>> {
        if let Some(short) = budgets.iter().filter_map(|budget| budget.pool().err()).max() {
            return Some(Err(short));
        }
        let server = Server::of(*self.question, layout, budgets).ok()?;
        let left = server.left(self.question.usual_len(), batch).ok()?;
        Some(left.map(|slack| (server, slack)))
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
            let budgets = (self.budgets)(layout)?;
            if let Some(Err(bytes)) = self.held(layout, &budgets, self.wanted())
                && closest.is_none_or(|(_, least)| bytes < least)
            {
                closest = Some((layout, bytes));
            }
        }
        Ok(closest.map(|(layout, bytes)| Smaller::Short { layout, bytes }))
    }
}
