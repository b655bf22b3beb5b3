//! Budgets: whether a workload stays within the bytes that are allowed, how long a request may be that does, whether hardware
//! holds what is asserted of it, and what became of it all since a baseline.

mod baseline;
mod examine;
mod hardware;
mod verdict;

pub use baseline::{Change, Increase, Taken};
pub use examine::{Examined, examine};
pub use hardware::{Demand, Held};
pub use verdict::Verdict;

use crate::engine::Engine;
use crate::estimate::{Estimate, Workload};
use crate::fit::{MOST, longest_of};
use crate::model::Model;
use crate::units::{Bytes, Code, Error, Exact, KvFormat, Margin, Tokens};

/// What is allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// Bytes over all devices of a replica.
    pub bytes: Option<Bytes>,
    /// Bytes on any one device.
    pub bytes_per_gpu: Option<Bytes>,
    /// The part of both that is kept free.
    pub margin: Margin,
}

/// A limit of a [`Budget`], and what is taken of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", serde_with::skip_serializing_none, derive(serde::Serialize, schemars::JsonSchema))]
pub struct Limit {
    /// `bytes`, over all devices of a replica, or `bytes_per_gpu`.
    #[cfg_attr(feature = "cli", schemars(extend("enum" = ["bytes", "bytes_per_gpu"])))]
    pub kind: &'static str,
    /// The budget.
    pub budget: Bytes,
    /// The budget less its margin.
    pub allowed: Bytes,
    /// What the workload takes.
    pub taken: Bytes,
    /// Bytes that are left; absent where there are too many.
    pub left: Option<Bytes>,
    /// Bytes that are too many.
    pub over: Option<Bytes>,
}

/// What a budget says of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What it takes.
    pub taken: Taken,
    /// The limits that were given.
    pub limits: Vec<Limit>,
    /// The longest request, of as many as were asked for, that stays within all limits, no longer than the model's own
    /// maximum; none where there is no limit, or no end.
    pub longest: Option<Tokens>,
    /// What is stored.
    pub stored: KvFormat,
    /// What the engine's rules took for granted.
    pub assumptions: Vec<String>,
    /// What may make the answer wrong.
    pub warnings: Vec<String>,
}

impl Checked {
    /// Whether all limits hold.
    pub fn is_within(&self) -> bool {
        all_hold(&self.limits)
    }
}

fn all_hold(limits: &[Limit]) -> bool {
    limits.iter().all(|limit| limit.over.is_none())
}

impl Budget {
    /// Whether anything is limited.
    pub fn is_limited(&self) -> bool {
        self.bytes.is_some() || self.bytes_per_gpu.is_some()
    }

    /// The limits, with what is taken of them.
    fn limits(&self, taken: Taken) -> Vec<Limit> {
        let limit = |kind, budget: Option<Bytes>, taken: Bytes| {
            budget.map(|budget| {
                let allowed = self.margin.allowed(budget);
                let left = (Exact::from(allowed) - taken).bytes().ok();
                let over = (Exact::from(taken) - allowed).bytes().ok().filter(|_| left.is_none());
                Limit { kind, budget, allowed, taken, left, over }
            })
        };
        let all = limit("bytes", self.bytes, taken.bytes);
        all.into_iter().chain(limit("bytes_per_gpu", self.bytes_per_gpu, taken.bytes_per_gpu)).collect()
    }
}

/// Whether `workload` on `model` stays within `budget` in an engine.
///
/// # Errors
/// [`Error`] where the engine has no answer for the workload.
pub fn check(model: &Model, workload: &Workload, engine: &Engine, budget: &Budget) -> Result<Checked, Error> {
    let answer = engine.answer(model, workload)?;
    let taken = |estimate: &Estimate| Taken { bytes: estimate.bytes, bytes_per_gpu: estimate.bytes_per_gpu };
    let limits = budget.limits(taken(&answer.estimate));
    let answer_at = |seq_len: u64| {
        let seq_len = Tokens(seq_len);
        // Of sequences that are no longer than the prefix all is shared.
        let shared_prefix = workload.shared_prefix.map(|prefix| prefix.min(seq_len));
        engine.answer(model, &Workload { seq_len, shared_prefix, ..*workload })
    };
    let asked = workload.seq_len.0;
    let holds = |seq_len: u64| match answer_at(seq_len) {
        Ok(answer) => Ok(all_hold(&budget.limits(taken(&answer.estimate)))),
        Err(error) if error.code == Code::TooLarge => Ok(false),
        // What an engine refuses is too long, or else too short for what it is set to.
        Err(error) if error.code == Code::Refused => Ok(seq_len < asked),
        Err(error) => Err(error),
    };
    let maximum = model.max_position_embeddings.map(|tokens| tokens.0);
    let most = maximum.unwrap_or(MOST);
    let longest = if limits.is_empty() { None } else { Some(longest_of(model, most, holds)?) };
    let longest = longest.map(|longest| if longest > 0 && answer_at(longest).is_err() { 0 } else { longest });
    Ok(Checked {
        taken: taken(&answer.estimate),
        limits,
        longest: longest.filter(|&longest| maximum.is_some() || longest < MOST).map(Tokens),
        stored: answer.estimate.stored,
        assumptions: answer.assumptions,
        warnings: answer.warnings,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::ModelSpec;
    use crate::units::ElementFormat;

    fn model() -> Model {
        let spec = ModelSpec { layers: Some(4), kv_heads: Some(2), head_dim: Some(64), ..ModelSpec::default() };
        spec.model().unwrap()
    }

    fn of(seq_len: u64, batch: u64) -> Workload {
        Workload { kv_dtype: ElementFormat::BF16.into(), ..Workload::of(Tokens(seq_len), batch) }
    }

    #[test]
    fn a_margin_is_kept_free() {
        assert_eq!(Margin(0).allowed(Bytes(7)), Bytes(7));
        assert_eq!(Margin(1_000_000).allowed(Bytes(7)), Bytes(0));
        assert_eq!(Margin(1).allowed(Bytes(7)), Bytes(6));
        assert_eq!(Margin(500_000).allowed(Bytes(u64::MAX)), Bytes(u64::MAX / 2));
    }

    proptest! {
        /// The longest within the budget is within it, and a token more is not; a larger budget never allows less.
        #[test]
        fn the_longest_within_is_the_longest(
            engine in prop::sample::select(vec!["ideal", "vllm", "llama.cpp", "sglang", "transformers"]),
            batch in 1u64..9, budget in (1u64 << 20)..(1 << 32), more in 0u64..(1 << 30), margin in 0u32..500_000,
        ) {
            let (model, engine): (_, Engine) = (model(), engine.parse().unwrap());
            let longest = |bytes: u64| {
                let budget = Budget { bytes: Some(Bytes(bytes)), margin: Margin(margin), ..Budget::default() };
                let checked = check(&model, &of(1, batch), &engine, &budget).unwrap();
                (checked.longest.map_or(u64::MAX, |longest| longest.0), budget)
            };
            let (most, budget) = longest(budget);
            let within = |seq_len: u64| {
                check(&model, &of(seq_len, batch), &engine, &budget).is_ok_and(|checked| checked.is_within())
            };
            prop_assert!(most == 0 || within(most));
            prop_assert!(!within(most.saturating_add(1)));
            prop_assert!(longest(budget.bytes.unwrap().0 + more).0 >= most);
        }
    }
}
