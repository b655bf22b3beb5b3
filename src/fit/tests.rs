//! What holds of every answer about hardware, whatever the model and the memory.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::engine::{Double, Engine, Term};
use crate::estimate::{Layout, Workload};
use crate::hardware::{Accelerator, Budget};
use crate::model::{Model, ModelSpec};
use crate::request::{Ask, HardwareRequest, Place, Total};
use crate::units::{Bytes, Code, ElementFormat, Error, Tokens};

fn model(layers: u64, kv_heads: u64, window: Option<u64>) -> Model {
    let spec = ModelSpec {
        layers: Some(layers),
        kv_heads: Some(kv_heads),
        heads: Some(kv_heads * 4),
        hidden_size: Some(kv_heads * 4 * 64),
        sliding_window: window,
        ..ModelSpec::default()
    };
    spec.model().unwrap()
}

fn question<'a>(model: &'a Model, engine: &'a Engine, seq_len: Option<u64>, batch: u64) -> Question<'a> {
    Question {
        model,
        engine,
        workload: Workload { kv_dtype: ElementFormat::BF16.into(), ..Workload::of(Tokens(1), 1) },
        seq_len: seq_len.map(Tokens),
        batch: Some(batch),
        average: None,
    }
}

/// GPUs of which so much is left for the cache, one stage after the other.
fn budgets(pools: &[u64]) -> Vec<Budget> {
    let term = |bytes| Term::given(Bytes(bytes), "a test");
    let budget = |&pool: &u64| Budget { total: term(pool), usable: term(pool), weights: term(0), overhead: Vec::new() };
    pools.iter().map(budget).collect()
}

fn fitted(question: &Question, layout: Layout, pools: &[u64]) -> Fit {
    let budgets = budgets(pools);
    Server::of(*question, layout, &budgets).unwrap().fit().unwrap()
}

/// The longest, as a number that has an end.
fn end(longest: Option<Tokens>) -> u64 {
    longest.map_or(u64::MAX, |longest| longest.0)
}

fn engines() -> impl Strategy<Value = Engine> {
    prop::sample::select(vec!["ideal", "vllm", "vllm@0.19", "llama.cpp", "sglang", "tensorrt-llm", "transformers"])
        .prop_map(|name| name.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// More memory never holds less: no shorter a request, no fewer of them, and what fits goes on fitting.
    #[test]
    fn more_memory_never_fits_less(
        engine in engines(),
        layers in 1u64..12,
        heads in 1u64..4,
        window in prop::option::of(64u64..2000),
        seq_len in prop::option::of(1u64..40_000),
        batch in 1u64..6,
        memory in 0u64..(4 << 30),
        more in 0u64..(1 << 30),
    ) {
        let model = model(layers, heads, window);
        let question = question(&model, &engine, seq_len, batch);
        let [less, more] = [memory, memory + more].map(|pool| fitted(&question, Layout::default(), &[pool]));
        prop_assert!(end(less.longest) <= end(more.longest), "{:?} {:?}", less.longest, more.longest);
        prop_assert!(!less.fits || more.fits);
        if seq_len.is_some() {
            let room = |fit: &Fit| fit.requests[0].room.unwrap_or(u64::MAX);
            prop_assert!(room(&less) <= room(&more));
            if let (Some(less), Some(more)) = (less.missing, more.missing) {
                prop_assert!(less >= more);
            }
        }
        // What does not fit is short of bytes, or of something that is named.
        let other = |binding: &Binding| ["sequences", "refused", "engine"].contains(&binding.kind);
        prop_assert!(!less.fits || less.missing.is_none());
        prop_assert!(less.fits || less.missing.is_some() || other(&less.binding), "{less:?}");
    }

    /// The longest that fits, fits by the engine's own answer; a token more does not.
    #[test]
    fn the_longest_is_the_longest(
        engine in engines(),
        layers in 1u64..12,
        heads in 1u64..4,
        window in prop::option::of(64u64..2000),
        memory in (1u64 << 20)..(2 << 30),
    ) {
        let model = model(layers, heads, window);
        let fit = fitted(&question(&model, &engine, None, 1), Layout::default(), &[memory]);
        let holds = |seq_len: u64| {
            let workload = Workload {
                seq_len: Tokens(seq_len),
                memory: Some(Bytes(memory)),
                kv_dtype: ElementFormat::BF16.into(),
                ..Workload::of(Tokens(1), 1)
            };
            let Ok(answer) = engine.answer(&model, &workload) else { return false };
            match answer.capacity {
                Some(capacity) => capacity.fits && capacity.max_seq_len >= seq_len,
                None => answer.estimate.bytes_per_gpu <= Bytes(memory),
            }
        };
        let longest = end(fit.longest);
        prop_assert!(longest == 0 || holds(longest.min(1 << 40)), "{longest} fits");
        prop_assert!(fit.longest.is_none() || !holds(longest.saturating_add(1)), "{longest} is the longest");
    }

    /// Stages of one memory each hold what the tightest of them holds.
    #[test]
    fn the_tightest_stage_binds(pools in prop::collection::vec((1u64 << 24)..(1 << 30), 1..4), heads in 1u64..4) {
        let model = model(12, heads, None);
        let engine = Engine::ideal();
        let layout = Layout { pp: pools.len() as u64, ..Layout::default() };
        let fit = fitted(&question(&model, &engine, None, 1), layout, &pools);
        // 12 layers divide evenly over one, two and three stages.
        let least = *pools.iter().min().unwrap();
        let alone = fitted(&question(&model, &engine, None, 1), layout, &vec![least; pools.len()]);
        prop_assert_eq!(fit.longest, alone.longest);
        let uneven = pools.iter().any(|&pool| pool != least);
        if fit.binding.kind == "pipeline_stage" {
            let words = |index: usize| format!("the memory of pipeline stage {} of {}", index + 1, pools.len());
            let stage = (0..pools.len()).find(|&index| words(index) == fit.binding.reason);
            prop_assert!(uneven && stage.is_some_and(|index| pools[index] == least));
        }
    }

    /// What a plan finds, fits, with the slack it tells.
    #[test]
    fn what_is_planned_fits(
        engine in engines(),
        layers in 1u64..8,
        heads in 1u64..4,
        seq_len in 1u64..20_000,
        batch in 1u64..40,
        memory in (1u64 << 26)..(1 << 30),
    ) {
        let model = model(layers, heads, None);
        let question = question(&model, &engine, Some(seq_len), batch);
        let limits = Limits { gpus: 64, per_node: 8, given: Place::default(), layouts: Layouts::Any };
        let pools = |layout: Layout| vec![memory; usize::try_from(layout.pp).unwrap()];
        let of = |layout: Layout| -> Result<_, Error> { Ok(budgets(&pools(layout))) };
        let sizes = ranks(&question, limits).unwrap();
        for planned in plan(&question, &sizes, limits, of).unwrap() {
            let fit = fitted(&question, planned.layout, &pools(planned.layout));
            prop_assert!(fit.fits, "{planned:?}");
            prop_assert_eq!(planned.gpus, planned.layout.gpus().unwrap());
            prop_assert!(planned.requests[0].run(batch));
            let server = Server::of(question, planned.layout, &budgets(&pools(planned.layout))).unwrap();
            let left = server.left(Tokens(seq_len), batch.div_ceil(planned.layout.dp)).unwrap();
            prop_assert_eq!(left, Left::Spare(planned.slack));
        }
    }
}

/// The article's rule, in the terms of a server: 0.9 of 80 GB, less 34 GB over eight.
#[test]
fn a_share_of_the_total_less_weights_is_left() {
    let spec = ModelSpec { layers: Some(48), hidden_size: Some(5120), kv_heads: Some(8), ..ModelSpec::default() };
    let (model, engine) = (spec.model().unwrap(), Engine::ideal());
    let accelerator = Accelerator {
        id: "a".into(),
        marketed: Some(Term::given(Bytes(80_000_000_000), "a test")),
        ..Accelerator::default()
    };
    let ask = Ask {
        capacity: Some(Total::Marketed),
        utilization: Double::parse("0.9"),
        weights: Some(Bytes(34_000_000_000)),
        overhead: Some(Bytes(0)),
        ..Ask::default()
    };
    let request = ask.hardware_of(Arc::new(model.clone()), vec![engine.clone()]).unwrap();
    let question = Question {
        workload: Workload { kv_dtype: ElementFormat::FP16.into(), ..Workload::of(Tokens(1), 1) },
        ..question(&model, &engine, None, 1)
    };
    let layout = Layout { tp: 8, pp: 4, ..Layout::default() };
    let stages = request.budgets(&accelerator, &question, layout).unwrap().stages;
    assert_eq!(stages.len(), 4);
    assert_eq!(stages[0].pool(), Ok(Bytes(72_000_000_000 - 34_000_000_000 / 32)));
    let unknown = HardwareRequest { total: Total::Driver, ..request.clone() };
    assert_eq!(
        unknown.budgets(&accelerator, &question, layout).unwrap_err().to_string(),
        "--gpu: a has no driver memory size from any source; give it with --gpu-memory, or another --capacity"
    );
    let weightless = HardwareRequest { weights: None, ..request };
    assert_eq!(weightless.budgets(&accelerator, &question, layout).unwrap_err().code, Code::NoWeights);
}
