//! The smallest layouts of one kind of device that hold a workload.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::layout::{check, widest_heads};
use super::{Left, Question, Requests, Server};
use crate::engine::Spread;
use crate::estimate::{Layout, Workload, estimate};
use crate::hardware::Budget;
use crate::request::Place;
use crate::units::{Bytes, Error, Exact, KvDtype};

/// A layout that holds the workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// How the model is spread.
    pub layout: Layout,
    /// Devices in all.
    pub gpus: u64,
    /// Requests of the length asked for, then of the average.
    pub requests: Vec<Requests>,
    /// Bytes to spare on the device that is full first.
    pub slack: Bytes,
    /// The memory of each stage's devices.
    pub budgets: Rc<Vec<Budget>>,
    /// Why fewer devices do not hold it; none where one is the fewest, or no layout of fewer can be.
    pub smaller: Option<Smaller>,
}

/// Why fewer devices do not hold a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", serde_with::skip_serializing_none, derive(serde::Serialize, schemars::JsonSchema))]
pub struct Smaller {
    /// Devices.
    pub gpus: u64,
    /// Tensor parallel ranks.
    pub tp: u64,
    /// Pipeline stages.
    pub pp: u64,
    /// Replicas.
    pub dp: u64,
    /// Bytes missing on a device.
    pub missing_bytes: Option<Bytes>,
    /// Requests that run at once, fewer than asked for.
    pub requests: Option<u64>,
}

impl Smaller {
    /// A layout, without what it lacks.
    fn of(Layout { tp, pp, dp, .. }: Layout) -> Self {
        Self { gpus: tp.saturating_mul(pp).saturating_mul(dp), tp, pp, dp, missing_bytes: None, requests: None }
    }
}

/// What limits a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Devices at the most.
    pub gpus: u64,
    /// Devices of a node, which tensor parallel ranks do not leave.
    pub per_node: u64,
    /// The sizes that were given.
    pub given: Place,
    /// The numbers of devices that are looked at.
    pub layouts: Layouts,
}

/// Which layouts are proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layouts {
    /// What people rent or own: 1, 2, 4 or 8 devices of a node, then whole nodes; tensor parallel ranks within a node, pipeline
    /// stages between nodes.
    Nodes,
    /// Any number of devices, with stages anywhere.
    Any,
}

impl Limits {
    /// Whether a layout is one to propose, of an engine that spreads models so.
    fn allow(&self, layout: Layout, spread: Spread) -> bool {
        let Layout { tp, pp, dp, .. } = layout;
        let gpus = tp.saturating_mul(pp).saturating_mul(dp);
        let whole_nodes = gpus.is_multiple_of(self.per_node.max(1));
        match self.layouts {
            Layouts::Any => true,
            Layouts::Nodes => {
                let rented = whole_nodes || gpus < self.per_node && gpus.is_power_of_two();
                let within = pp == 1 || spread == Spread::Layers || tp == self.per_node;
                rented && within
            }
        }
    }
}

/// The sizes of tensor parallel ranks that the model and the engine can take, the widest first; of a size that is given, that
/// one.
///
/// # Errors
/// [`Error`] where not even one rank can be, or not as many as were given.
pub fn ranks(question: &Question, limits: Limits) -> Result<Vec<u64>, Error> {
    let can = |tp: u64| check(question, Layout { tp, dcp: limits.given.dcp.unwrap_or(1), ..Layout::default() });
    if let Some(tp) = limits.given.tp {
        return can(tp).map(|()| vec![tp]);
    }
    let most = match question.engine.profile.spread {
        Spread::Ranks => widest_heads(question.model).unwrap_or(limits.per_node).min(limits.per_node),
        Spread::Layers | Spread::Whole => 1,
    };
    let possible: Vec<u64> = (1..=most).rev().filter(|&tp| can(tp).is_ok()).collect();
    if possible.is_empty() { can(1).map(|()| possible) } else { Ok(possible) }
}

/// The layouts of fewest devices that hold the workload: of one replica, and, of a batch, of several. `budgets` tells the
/// memory of a layout's devices. Empty where none does.
///
/// # Errors
/// What `budgets` says, or [`Error`] where the engine has no answer.
pub fn plan(
    question: &Question,
    ranks: &[u64],
    limits: Limits,
    budgets: impl Fn(Layout) -> Result<Vec<Budget>, Error>,
) -> Result<Vec<Planned>, Error> {
    let search = Search::of(question, limits, budgets, least_bytes(question));
    // Of one replica, and of several.
    let [mut one, mut several] = [None, None];
    for &tp in ranks {
        let of_one = search.budgets(Layout { tp, ..Layout::default() })?;
        let Some(Budget { usable, weights, .. }) = of_one.first() else { continue };
        let ranks = Ranks { tp, usable: usable.bytes, weights: weights.bytes };
        if limits.given.dp.is_none_or(|dp| dp == 1) {
            search.replicas(&ranks, 1, &mut one)?;
        }
        let replicas = limits.given.dp.map_or(2..=search.wanted(), |dp| dp.max(2)..=dp);
        for dp in replicas {
            // So many replicas must be of fewer devices than the best that is known, one rank being the least.
            let most = several.as_ref().map_or(limits.gpus, |found: &Planned| found.gpus.saturating_sub(1));
            if tp.saturating_mul(dp) > most {
                break;
            }
            search.replicas(&ranks, dp, &mut several)?;
        }
    }
    let mut found: Vec<Planned> = [one, several].into_iter().flatten().collect();
    for planned in found.iter_mut().filter(|planned| planned.smaller.is_none()) {
        planned.smaller = search.next_smaller(ranks, planned.gpus, planned.layout.dp)?;
    }
    found.sort_by_key(|planned| planned.gpus);
    Ok(found)
}

/// The layout of at most so many devices that comes closest to holding the workload, where none holds it.
///
/// # Errors
/// As [`plan`].
pub fn closest(
    question: &Question,
    ranks: &[u64],
    limits: Limits,
    budgets: impl Fn(Layout) -> Result<Vec<Budget>, Error>,
) -> Result<Option<Smaller>, Error> {
    let search = Search::of(question, limits, budgets, Bytes(0));
    search.next_smaller(ranks, limits.gpus.saturating_add(1), limits.given.dp.unwrap_or(1))
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

/// The memory of layouts by their ranks and stages.
type Known = BTreeMap<(u64, u64), Rc<Vec<Budget>>>;

struct Search<'a, B> {
    question: &'a Question<'a>,
    limits: Limits,
    of_layout: B,
    /// The memory of the layouts that were looked at, by ranks and stages.
    known: RefCell<Known>,
    least: Bytes,
}

impl<'a, B: Fn(Layout) -> Result<Vec<Budget>, Error>> Search<'a, B> {
    fn of(question: &'a Question<'a>, limits: Limits, of_layout: B, least: Bytes) -> Self {
        Self { question, limits, of_layout, known: RefCell::default(), least }
    }

    fn allows(&self, layout: Layout) -> bool {
        self.limits.allow(layout, self.question.engine.profile.spread)
    }

    fn wanted(&self) -> u64 {
        self.question.batch.unwrap_or(1)
    }

    fn stages(&self) -> std::ops::RangeInclusive<u64> {
        let most = match self.question.engine.profile.spread {
            Spread::Whole => 1,
            Spread::Ranks | Spread::Layers => u64::from(self.question.model.num_hidden_layers),
        };
        self.limits.given.pp.map_or(1..=most, |pp| pp..=pp.min(most))
    }

    /// The memory of each stage's devices, which replicas have alike.
    fn budgets(&self, layout: Layout) -> Result<Rc<Vec<Budget>>, Error> {
        let key = (layout.tp, layout.pp);
        if let Some(known) = self.known.borrow().get(&key) {
            return Ok(Rc::clone(known));
        }
        let budgets = Rc::new((self.of_layout)(Layout { dp: 1, ..layout })?);
        self.known.borrow_mut().insert(key, Rc::clone(&budgets));
        Ok(budgets)
    }

    /// The fewest stages that could hold weights and so many requests, if all could be divided evenly.
    fn fewest_stages(&self, ranks: &Ranks, batch: u64) -> Result<u64, Error> {
        let of_rank = Exact::from(self.least) * batch / ranks.tp;
        (of_rank + ranks.weights).div_ceil(ranks.usable.0.max(1)).max(1u64).get()
    }

    /// Puts the fewest devices in `best` that hold the workload with such ranks and `dp` replicas, if they are fewer.
    fn replicas(&self, ranks: &Ranks, dp: u64, best: &mut Option<Planned>) -> Result<(), Error> {
        let tp = ranks.tp;
        let batch = self.wanted().div_ceil(dp);
        // One replica less would have no more to hold.
        let given = self.limits.given.dp.is_some();
        if !given && dp > 1 && self.wanted().div_ceil(dp.saturating_sub(1)) == batch {
            return Ok(());
        }
        let (first, last) = self.stages().into_inner();
        for pp in self.fewest_stages(ranks, batch)?.max(first)..=last {
            let gpus = tp.saturating_mul(pp).saturating_mul(dp);
            if gpus > self.limits.gpus || best.as_ref().is_some_and(|found| found.gpus <= gpus) {
                break;
            }
            let layout = Layout { tp, pp, dp, dcp: self.limits.given.dcp.unwrap_or(1) };
            if !self.allows(layout) {
                continue;
            }
            let budgets = self.budgets(layout)?;
            // Cheaper to see than to ask the engine: all pools together are too small.
            let pools = budgets.iter().map(|budget| budget.pool().unwrap_or_default()).sum::<Exact>();
            if (pools * tp).wide()? < (Exact::from(self.least) * batch).wide()? {
                continue;
            }
            let Some(server) = self.server(layout, &budgets) else { continue };
            let Ok(Left::Spare(slack)) = server.left(self.question.usual_len(), batch) else { continue };
            let requests = server.requests(self.question.usual_len())?;
            let fewer = requests
                .at_once
                .map(|run| run.checked_div(dp).unwrap_or_default().saturating_mul(dp.saturating_sub(1)));
            // An engine that runs fewer at once than there is room for needs more replicas; where one less would do, it is
            // told as that.
            if requests.run(self.wanted()) && (given || fewer.is_some_and(|fewer| fewer < self.wanted()) || dp == 1) {
                let at_average = self.question.average.map(|average| server.requests(average)).transpose()?;
                let one_less = Smaller::of(Layout { dp: dp.saturating_sub(1), ..layout });
                let smaller = fewer.filter(|_| dp > 1 && !given);
                let smaller = smaller.map(|requests| Smaller { requests: Some(requests), ..one_less });
                let requests = [Some(requests), at_average].into_iter().flatten().collect();
                *best = Some(Planned { layout, gpus, requests, slack, budgets, smaller });
            }
            break;
        }
        Ok(())
    }

    /// The server of a layout, if the engine divides the model so.
    fn server(&self, layout: Layout, budgets: &[Budget]) -> Option<Server<'a>> {
        Server::of(*self.question, layout, budgets).ok()
    }

    /// Of the layouts of `dp` replicas with fewer devices, those with most that the engine can make; of these the one that
    /// comes closest.
    fn next_smaller(&self, ranks: &[u64], gpus: u64, dp: u64) -> Result<Option<Smaller>, Error> {
        let batch = self.wanted().div_ceil(dp);
        for each in (1..gpus.div_ceil(dp)).rev() {
            let divides = ranks.iter().filter(|&&tp| each.is_multiple_of(tp));
            let layouts = divides.filter_map(|&tp| {
                let pp = each.checked_div(tp).filter(|pp| self.stages().contains(pp))?;
                let layout = Layout { tp, pp, dp, dcp: self.limits.given.dcp.unwrap_or(1) };
                Some(layout).filter(|layout| self.allows(*layout))
            });
            let mut closest: Option<(Layout, Bytes)> = None;
            for layout in layouts {
                let budgets = self.budgets(layout)?;
                let left = self.server(layout, &budgets).map(|server| server.left(self.question.usual_len(), batch));
                if let Some(Ok(Left::Short(bytes))) = left
                    && closest.is_none_or(|(_, least)| bytes < least)
                {
                    closest = Some((layout, bytes));
                }
            }
            if let Some((layout, bytes)) = closest {
                return Ok(Some(Smaller { missing_bytes: Some(bytes), ..Smaller::of(layout) }));
            }
        }
        Ok(None)
    }
}
