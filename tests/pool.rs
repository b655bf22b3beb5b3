//! The pool of a server, from the model, the card, the layout and the options alone, against what start-up logs report; and the
//! fit of its few constants, done again here with models and families left out. `cargo test pool -- --nocapture` prints it all.
#![allow(clippy::cast_precision_loss, clippy::float_arithmetic, reason = "a fit is made of floats")]

use std::collections::BTreeSet;

use serde_json::Value;

use kvsize::engine::{Double, Engine, SettingValue};
use kvsize::estimate::{Layout, Workload};
use kvsize::hardware::{CALIBRATIONS, Calibration, Errors, Overhead, Rule, overhead_by, pool, weights_by_stage};
use kvsize::model::Model;
use kvsize::source::resolve_weighed;
use kvsize::units::{Bytes, Tokens};

use crate::harness::golden;

const GIB: f64 = 1_073_741_824.0;

/// A log, and what is known without it.
struct Case {
    log: Value,
    model: Model,
    engine: Engine,
    workload: Workload,
}

impl Case {
    fn gib(&self, key: &str) -> f64 {
        self.log[key].as_f64().unwrap()
    }

    fn name(&self) -> &str {
        self.log["model"].as_str().unwrap()
    }

    /// The model, its sizes of parallelism, lengths and quantised builds being one.
    fn model(&self) -> &str {
        let builds = ["Llama-3.3-70B", "Qwen2.5-7B", "Mistral-Small-3.1-24B"];
        builds.into_iter().find(|build| self.name().contains(build)).unwrap_or_else(|| match self.name() {
            // Kimi-Dev is Qwen2.5-72B trained on, and the two Granites differ in four words of their vocabulary.
            "moonshotai/Kimi-Dev-72B" => "Qwen/Qwen2.5-72B-Instruct",
            "ibm-granite/granite-3.3-8b-instruct" => "ibm-granite/granite-3.1-8b-instruct",
            name => name,
        })
    }

    /// Its family: all that is built alike.
    fn family(&self) -> &str {
        let families =
            ["gemma", "granite", "lama", "mistral", "mixtral", "qwen", "deepseek", "kimi-vl", "phi", "gpt-oss"];
        let name = self.model().to_lowercase();
        let family = families.into_iter().find(|family| name.contains(family)).unwrap();
        match family {
            "mixtral" => "mistral",
            "kimi-vl" => "deepseek",
            family => family,
        }
    }

    /// What is left for the cache, in GiB; with several stages, of the last, which holds the least.
    fn reported(&self) -> f64 {
        self.log["available_kv_gib_binding_stage"].as_f64().unwrap_or_else(|| self.gib("available_kv_gib"))
    }

    fn last(&self) -> usize {
        usize::try_from(self.workload.layout.pp).unwrap() - 1
    }

    fn weights(&self) -> Bytes {
        let all = self.model.weights.as_ref().unwrap().bytes.unwrap();
        *weights_by_stage(&self.model, all, self.workload.layout).unwrap().last().unwrap()
    }

    fn overhead(&self, by: &Fit) -> Overhead {
        let calibration = Box::leak(Box::new(by.calibration()));
        overhead_by(&self.model, &self.workload, &self.engine, Some(calibration)).unwrap()
    }

    fn term(&self, by: &Fit, name: &str) -> f64 {
        let overhead = self.overhead(by);
        let terms = overhead.stages[self.last()].iter().filter(|term| term.name == name);
        terms.map(|term| term.term.bytes.0 as f64).sum()
    }

    /// What the engine takes of the card, by the catalogue's engine-visible total of an H100.
    fn pool(&self, by: &Fit) -> Bytes {
        let fraction = Double::parse(&self.log["gpu_memory_utilization"].to_string()).unwrap();
        let overhead = self.overhead(by).by_stage()[self.last()];
        pool(VISIBLE, Rule::OfTotal, fraction, self.weights(), overhead).unwrap()
    }

    fn pool_error(&self, by: &Fit) -> f64 {
        self.pool(by).0 as f64 / GIB / self.reported() - 1.0
    }

    fn concurrency(&self, by: &Fit) -> f64 {
        let workload = Workload { memory: Some(self.pool(by)), ..self.workload };
        let answer = self.engine.answer(&self.model, &workload).unwrap();
        answer.capacity.unwrap().max_concurrency.unwrap().value()
    }

    fn concurrency_error(&self, by: &Fit) -> f64 {
        self.concurrency(by) / self.gib("max_concurrency") - 1.0
    }

    /// Whether its pool is under a tenth of the card.
    fn is_small(&self) -> bool {
        self.reported() < VISIBLE.0 as f64 / GIB / 10.0
    }
}

/// 79.19 GiB, rounded down to a byte.
const VISIBLE: Bytes = Bytes(85_029_615_042);

/// The constants that no rule gives.
#[derive(Debug, Clone)]
struct Fit {
    step: f64,
    hidden_states: f64,
    outside: Vec<(u64, f64)>,
    outside_of_stages: f64,
    packed_experts: f64,
}

impl Fit {
    /// Those that are published.
    fn published() -> Self {
        let calibration = &CALIBRATIONS[0];
        Self {
            step: calibration.step.0 as f64,
            hidden_states: calibration.hidden_states_per_mille as f64 / 1000.0,
            outside: calibration.outside.iter().map(|(ranks, bytes)| (*ranks, bytes.0 as f64)).collect(),
            outside_of_stages: calibration.outside_of_stages.0 as f64,
            packed_experts: calibration.packed_experts_per_mille as f64 / 1000.0,
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of a fit")]
    fn calibration(&self) -> Calibration {
        let outside: Vec<_> = self.outside.iter().map(|(ranks, bytes)| (*ranks, Bytes(*bytes as u64))).collect();
        Calibration {
            step: Bytes(self.step.max(0.0) as u64),
            hidden_states_per_mille: (self.hidden_states * 1000.0).round() as u64,
            outside: Box::leak(outside.into_boxed_slice()),
            outside_of_stages: Bytes(self.outside_of_stages as u64),
            packed_experts_per_mille: (self.packed_experts * 1000.0).round() as u64,
            ..CALIBRATIONS[0]
        }
    }

    /// Least squares over some logs: each constant is in logs of its own, so each is a mean.
    fn of(cases: &[&Case]) -> Self {
        let mut fit =
            Self { step: 0.0, hidden_states: 3.5, outside: Vec::new(), outside_of_stages: 0.0, packed_experts: 0.0 };
        for _ in 0..5 {
            let more = Self { hidden_states: fit.hidden_states + 1.0, ..fit.clone() };
            let (mut sampled, mut fed) = (Vec::new(), Vec::new());
            for case in cases {
                let peak = case.term(&fit, "step");
                let left = case.gib("activation_peak_gib") * GIB - peak;
                let state = case.term(&more, "step") - peak;
                if state > 0.0 { fed.push(left / state) } else { sampled.push(left) }
            }
            fit.step += mean(&sampled).unwrap_or_default();
            fit.hidden_states += mean(&fed).unwrap_or_default();
        }
        let outside = |tp: u64, pp: u64| {
            let alike = cases.iter().filter(|case| (case.workload.layout.tp, case.workload.layout.pp) == (tp, pp));
            mean(&alike.map(|case| case.gib("non_torch_forward_gib") * GIB).collect::<Vec<_>>())
        };
        fit.outside = [1, 2, 4].into_iter().filter_map(|tp| Some((tp, outside(tp, 1)?))).collect();
        // Left out, the one log of stages is told by the logs of one device.
        fit.outside_of_stages = outside(1, 2).or(outside(1, 1)).unwrap();
        let packed = Self { packed_experts: 1.0, ..fit.clone() };
        let of_packed = |case: &&&Case| case.term(&packed, "kernel_layout") > 0.0;
        let excess = |case: &&Case| {
            let known = case.weights().0 as f64 + case.term(&fit, "rotary_table") + case.term(&fit, "allocator");
            (case.gib("model_loading_gib") * GIB - known) / case.term(&packed, "kernel_layout")
        };
        fit.packed_experts = mean(&cases.iter().filter(of_packed).map(excess).collect::<Vec<_>>()).unwrap_or_default();
        fit
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The mean and the largest of absolute errors, in hundredths of a percent, rounded up.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and not negative")]
fn errors(values: impl Iterator<Item = f64>) -> Errors {
    let values: Vec<f64> = values.map(f64::abs).collect();
    let hundredths = |value: f64| (value * 10_000.0).ceil() as u32;
    Errors { mean: hundredths(mean(&values).unwrap()), max: hundredths(values.into_iter().fold(0.0, f64::max)) }
}

/// The logs of vLLM 0.19.0, with the models read from configurations.
fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(golden("server-logs/vllm.json")).unwrap();
    let logs: Value = serde_json::from_str(&text).unwrap();
    let of_version = |log: &&Value| log["vllm_version"] == "0.19.0" && !log["model_dims"].is_null();
    let case = |log: &Value| {
        let name = log["model"].as_str().unwrap().replace('/', "--");
        let mut config: Value =
            serde_json::from_str(&std::fs::read_to_string(golden(&format!("pool/{name}.json"))).unwrap()).unwrap();
        config["torch_dtype"] = log["dtype"].clone();
        let model = resolve_weighed("-", &mut config.to_string().as_bytes(), &[], None).unwrap();
        let mut engine: Engine = "vllm@0.19".parse().unwrap();
        engine.settings.set("enable-prefix-caching", SettingValue::Switch(log["enable_prefix_caching"] == true));
        let mut workload = Workload::of(Tokens(log["max_model_len"].as_u64().unwrap()), 1);
        workload.kv_dtype = log["kv_cache_dtype"].as_str().unwrap().parse().unwrap();
        workload.layout =
            Layout { tp: log["tp"].as_u64().unwrap(), pp: log["pp"].as_u64().unwrap(), ..Layout::default() };
        Case { log: log.clone(), model, engine, workload }
    };
    logs["cases"].as_array().unwrap().iter().filter(of_version).map(case).collect()
}

/// The fit for each case without all cases that share its `group`.
fn left_out<'a>(cases: &'a [Case], group: impl Fn(&'a Case) -> &'a str) -> Vec<Fit> {
    let fit = |case: &'a Case| Fit::of(&cases.iter().filter(|other| group(other) != group(case)).collect::<Vec<_>>());
    cases.iter().map(fit).collect()
}

fn percent(errors: Errors) -> String {
    let percent = |hundredths: u32| f64::from(hundredths) / 100.0;
    format!("mean {:.2} %, max {:.2} %", percent(errors.mean), percent(errors.max))
}

#[test]
fn pools_are_those_that_servers_reported() {
    let cases = cases();
    let published = Fit::published();
    let all = vec![published.clone(); cases.len()];
    let by_model = left_out(&cases, Case::model);
    let by_family = left_out(&cases, Case::family);
    println!(
        "log   model                                              tp pp  weights  (log)    pool   (log)  left out, %"
    );
    for (case, fit) in cases.iter().zip(&by_model) {
        println!(
            "{:5} {:50} {:2} {:2} {:8.3} {:7.2} {:7.3} {:7.2} {:+8.3}",
            case.log["id"].as_str().unwrap(),
            case.name(),
            case.workload.layout.tp,
            case.workload.layout.pp,
            (case.weights().0 as f64
                + ["rotary_table", "latent_copies", "allocator", "kernel_layout"]
                    .map(|name| case.term(&published, name))
                    .iter()
                    .sum::<f64>())
                / GIB,
            case.gib("model_loading_gib"),
            case.pool(&published).0 as f64 / GIB,
            case.reported(),
            100.0 * case.pool_error(fit),
        );
    }
    println!("fit of all: {:?}", Fit::of(&cases.iter().collect::<Vec<_>>()));
    let summary = |fits: &[Fit], small: bool| {
        let chosen = || cases.iter().zip(fits).filter(|(case, _)| case.is_small() == small);
        let pool = errors(chosen().map(|(case, fit)| case.pool_error(fit)));
        let concurrency = errors(chosen().map(|(case, fit)| case.concurrency_error(fit)));
        (pool, concurrency, chosen().count())
    };
    for (name, fits) in [("published", &all), ("model left out", &by_model), ("family left out", &by_family)] {
        for (size, small) in [("", false), (", pool under a tenth of the card", true)] {
            let (pool, concurrency, logs) = summary(fits, small);
            println!("{name}{size} ({logs}): pool {}; concurrency {}", percent(pool), percent(concurrency));
        }
    }

    let (pool, ..) = summary(&all, false);
    let (pool_left_out, concurrency_left_out, logs) = summary(&by_model, false);
    let (small_pool_left_out, _, small_pools) = summary(&by_model, true);
    let models: BTreeSet<_> = cases.iter().map(Case::model).collect();
    let calibration = &CALIBRATIONS[0];
    // What is published is what the logs give.
    let counted = [calibration.logs, calibration.models, calibration.small_pools];
    assert_eq!(counted.map(|count| usize::try_from(count).unwrap()), [cases.len(), models.len(), small_pools]);
    assert_eq!(logs + small_pools, cases.len());
    assert_eq!(
        [
            calibration.pool,
            calibration.pool_left_out,
            calibration.concurrency_left_out,
            calibration.small_pool_left_out
        ],
        [pool, pool_left_out, concurrency_left_out, small_pool_left_out],
    );
    // And within what was asked for: 2 % of the pool, 3 % of the concurrency.
    let (family, family_concurrency, _) = summary(&by_family, false);
    assert!(pool_left_out.mean < 200 && concurrency_left_out.mean < 300);
    assert!(family.mean < 200 && family_concurrency.mean < 300);
}

/// The published constants are those of the fit, to a hundredth of a GiB or less.
#[test]
fn published_constants_are_fitted() {
    let cases = cases();
    let (fit, published) = (Fit::of(&cases.iter().collect::<Vec<_>>()), Fit::published());
    let near = |one: f64, other: f64| (one - other).abs() < 0.001 * GIB;
    assert!(near(fit.step, published.step), "{fit:?}");
    assert!((fit.hidden_states - published.hidden_states).abs() < 0.001, "{fit:?}");
    assert!((fit.packed_experts - published.packed_experts).abs() < 0.001, "{fit:?}");
    assert!(near(fit.outside_of_stages, published.outside_of_stages), "{fit:?}");
    for (one, other) in fit.outside.iter().zip(&published.outside) {
        assert!(one.0 == other.0 && near(one.1, other.1), "{fit:?}");
    }
}
