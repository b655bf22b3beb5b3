//! The pool of a server, from the model, the card, the layout and the options alone, against what start-up logs report; and the
//! fit of its few constants, done again here with models and families left out. `cargo test pool -- --nocapture` prints it all.
#![allow(clippy::cast_precision_loss, clippy::float_arithmetic, reason = "a fit is made of floats")]
#![allow(clippy::print_stdout, reason = "the table of logs is printed with --nocapture")]

use std::collections::BTreeSet;

use serde_json::Value;

use kvsize::engine::vllm::{FITTED, FittedMemory, overhead_by};
use kvsize::engine::{Calibration, Double, Engine, Errors, Overhead, SettingValue, usable, weights_by_stage};
use kvsize::estimate::{Layout, Workload};
use kvsize::model::{DraftMethod, Model};
use kvsize::request::Weigh;
use kvsize::source::Resolver;
use kvsize::units::{Bytes, Tokens};

use crate::harness::{golden, kvsize};

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
        let fitted = Box::leak(Box::new(by.fitted()));
        overhead_by(&self.model, &self.workload, &self.engine, fitted).unwrap()
    }

    fn term(&self, by: &Fit, name: &str) -> f64 {
        let overhead = self.overhead(by);
        let terms = overhead.stages[self.last()].iter().filter(|term| term.name == name);
        terms.map(|term| term.term.bytes.0 as f64).sum()
    }

    /// What the engine takes of the card, by the catalogue's engine-visible total of an H100.
    fn pool(&self, by: &Fit) -> Bytes {
        let fraction = Double::parse(&self.log["gpu_memory_utilization"].to_string()).unwrap();
        let overhead = total(&self.overhead(by), self.last());
        Bytes(usable(VISIBLE, fraction).0 - self.weights().0 - overhead.0)
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

/// All terms of a stage.
fn total(overhead: &Overhead, stage: usize) -> Bytes {
    Bytes(overhead.stages[stage].iter().map(|term| term.term.bytes.0).sum())
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
        let fitted = &FITTED[0];
        Self {
            step: fitted.step.0 as f64,
            hidden_states: fitted.hidden_states_per_mille as f64 / 1000.0,
            outside: fitted.outside.iter().map(|(ranks, bytes)| (*ranks, bytes.0 as f64)).collect(),
            outside_of_stages: fitted.outside_of_stages.0 as f64,
            packed_experts: fitted.packed_experts_per_mille as f64 / 1000.0,
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of a fit")]
    fn fitted(&self) -> FittedMemory {
        let outside: Vec<_> = self.outside.iter().map(|(ranks, bytes)| (*ranks, Bytes(*bytes as u64))).collect();
        FittedMemory {
            step: Bytes(self.step.max(0.0) as u64),
            hidden_states_per_mille: (self.hidden_states * 1000.0).round() as u64,
            outside: Box::leak(outside.into_boxed_slice()),
            outside_of_stages: Bytes(self.outside_of_stages as u64),
            packed_experts_per_mille: (self.packed_experts * 1000.0).round() as u64,
            ..FITTED[0]
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
        let model = Resolver::default().weights(Weigh::Yes).model_of_json(config.to_string(), "a model").unwrap();
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
    let calibration: &Calibration = &FITTED[0].calibration;
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

/// What the engine expects its graphs to take, by the layers of a stage: a line through the logs.
#[test]
fn the_estimate_for_graphs_is_fitted() {
    let points: Vec<(f64, f64)> = cases()
        .iter()
        .map(|case| {
            let layers = f64::from(case.model.num_hidden_layers) / case.workload.layout.pp as f64;
            (layers, case.gib("cuda_graph_estimated_gib") * GIB)
        })
        .collect();
    let of = |value: fn(&(f64, f64)) -> f64| mean(&points.iter().map(value).collect::<Vec<_>>()).unwrap();
    let (x, y) = (of(|point| point.0), of(|point| point.1));
    let slope = (of(|point| point.0 * point.1) - x * y) / (of(|point| point.0 * point.0) - x * x);
    let base = y - slope * x;
    let off: Vec<f64> = points.iter().map(|(layers, bytes)| (base + slope * layers - bytes).abs()).collect();
    let (mean, most) = (mean(&off).unwrap(), off.iter().copied().fold(0.0, f64::max));
    println!("graphs: {base:.0} + {slope:.0} a layer; off by {mean:.0}, at most {most:.0}");
    let fitted = &FITTED[0];
    let near = |one: f64, other: Bytes| (one - other.0 as f64).abs() < 0.001 * GIB;
    assert!(near(base, fitted.graphs) && near(60.0 * slope, Bytes(60 * fitted.graphs_per_layer.0)));
    assert!(near(mean, fitted.graphs_mean_error) && near(most, fitted.graphs_max_error));
}

fn weighed(name: &str) -> Model {
    let path = golden(&format!("pool/{name}.json"));
    Resolver::default().weights(Weigh::Yes).model(path.to_str().unwrap()).unwrap()
}

fn layout(tp: u64, pp: u64) -> Layout {
    Layout { tp, pp, ..Layout::default() }
}

/// The weights of each stage of a model, and all there are.
fn staged(model: &Model, tp: u64, pp: u64) -> (Vec<u64>, u64) {
    let all = model.weights.as_ref().unwrap().bytes.unwrap();
    let stages = weights_by_stage(model, all, layout(tp, pp)).unwrap();
    (stages.into_iter().map(|bytes| bytes.0).collect(), all.0)
}

const LLAMA: &str = "meta-llama--Llama-3.1-8B-Instruct";
const GRANITE: &str = "ibm-granite--granite-3.1-8b-instruct";
const DEEPSEEK: &str = "deepseek-ai--DeepSeek-V2-Lite-Chat";

#[test]
fn stages_hold_all_weights_and_repeat_what_is_whole() {
    let llama = weighed(LLAMA);
    for pp in [1, 2, 3, 4, 32] {
        let (stages, all) = staged(&llama, 1, pp);
        assert_eq!(stages.iter().sum::<u64>(), all, "{pp} stages");
    }
    let embedding = 128_256 * 4096 * 2;
    let (stages, all) = staged(&llama, 1, 4);
    // Both ends have a matrix of the vocabulary, and the last a norm beside it.
    let layers = (all - 2 * embedding - 4096 * 2) / 4;
    assert_eq!(stages, [layers + embedding, layers, layers, layers + embedding + 4096 * 2]);
    // Ranks repeat norms, 65 of them; past 8 ranks, K and V too: 1024 rows each, in 32 layers.
    let norms = 65 * 4096 * 2;
    let (stages, _) = staged(&llama, 8, 1);
    assert_eq!(stages[0] * 8, all + 7 * norms);
    let (stages, _) = staged(&llama, 16, 1);
    assert_eq!(stages[0] * 16, all + 15 * norms + 2 * 1024 * 4096 * 2 * 32);
    // A tied embedding is on both ends.
    let (stages, all) = staged(&weighed(GRANITE), 1, 2);
    assert_eq!(stages.iter().sum::<u64>(), all + 49_155 * 4096 * 2);
    // The first layer of DeepSeek has no experts; down-projections and routers are whole on every rank.
    let (stages, all) = staged(&weighed(DEEPSEEK), 1, 3);
    assert_eq!(stages.iter().sum::<u64>(), all);
    assert!(stages[0] < stages[1] && stages[1] < stages[2]);
    let (stages, _) = staged(&weighed(DEEPSEEK), 2, 1);
    let whole = 27 * ((576 + 2) * 2048 + 512) + 26 * 64 * 2048 + 2048;
    assert_eq!(stages[0] * 2, all + whole * 2);
}

#[test]
fn weights_of_another_sum_scale_what_is_in_layers() {
    let llama = weighed(LLAMA);
    let ends = 2 * 128_256 * 4096 * 2 + 4096 * 2;
    let on_one = |bytes: u64, pp| {
        let stages = weights_by_stage(&llama, Bytes(bytes), layout(1, pp)).unwrap();
        stages.into_iter().map(|bytes| bytes.0).collect::<Vec<_>>()
    };
    assert_eq!(on_one(9_000_000_000, 1), [9_000_000_000]);
    let halves = on_one(9_000_000_000, 2);
    let layers = (9_000_000_000 - ends) / 2;
    let embedding = 128_256 * 4096 * 2;
    assert_eq!(halves, [layers + embedding, layers + embedding + 4096 * 2]);
    // Less than embedding and head come to: they are scaled as well.
    assert_eq!(on_one(1_000_000_000, 1), [1_000_000_000]);
    assert_eq!(on_one(0, 1), [0]);
    // A class whose tensors are not known: evenly.
    let unknown = kvsize::source::resolve("phi-2").unwrap();
    let stages = weights_by_stage(&unknown, Bytes(32_000), layout(2, 3)).unwrap();
    assert_eq!(stages, [Bytes(5500), Bytes(5500), Bytes(5000)]);
}

/// The terms of the stages of a model of 8 Ki tokens, by name.
fn terms(model: &Model, layout: Layout, engine: &Engine) -> Vec<Vec<(&'static str, u64)>> {
    let workload = Workload { layout, ..Workload::of(Tokens(8192), 1) };
    let stages = engine.overhead(model, &workload).unwrap().stages;
    stages.into_iter().map(|terms| terms.iter().map(|term| (term.name, term.term.bytes.0)).collect()).collect()
}

fn engine(name: &str) -> Engine {
    name.parse().unwrap()
}

#[test]
fn terms_follow_the_settings_the_layout_and_the_version() {
    let llama = weighed(LLAMA);
    let fitted = &FITTED[0];
    let constant = fitted.step.0;
    // 1024 requests x 128256 words x (2 + 12) bytes, 132 rows of 4, 8192 hidden states and 2 x 1024; positions of the model.
    let sampler = 1024 * 128_256 * 14 + 132 * 128_256 * 4 + (8192 + 2048) * 4096 * 2;
    let one = terms(&llama, layout(1, 1), &engine("vllm@0.19"));
    let rotary = ("rotary_table", 131_072 * 128 * 2);
    let outside = fitted.outside[0].1.0;
    assert_eq!(one, [vec![("step", sampler + constant), ("outside", outside), rotary]]);
    // Fewer requests: the feed-forward is what counts, and it shrinks with ranks.
    let mut few = engine("vllm@0.19");
    few.settings.set("max-num-seqs", SettingValue::Count(16));
    let states = |per_mille: u64| 8192 * 4096 * 2 * per_mille / 1000;
    let fed = |ranks: u64| 8192 * 14_336 / ranks * 6 + states(fitted.hidden_states_per_mille) + constant;
    assert_eq!(terms(&llama, layout(1, 1), &few)[0][0], ("step", fed(1)));
    assert_eq!(terms(&llama, layout(4, 1), &few)[0][0], ("step", fed(4)));
    // Only the last stage samples, and each passes two states of each token on.
    let staged = terms(&llama, layout(1, 2), &engine("vllm@0.19"));
    assert_eq!(staged[0][0], ("step", fed(1) + states(2000)));
    assert_eq!(staged[1][0], ("step", sampler + constant + states(2000)));
    assert_eq!(staged[0][1], ("outside", fitted.outside_of_stages.0));
    // The newest version takes its graphs out of the pool, of the layers of a stage, and is said not to be calibrated.
    let (base, each) = (fitted.graphs, fitted.graphs_per_layer);
    let newest = terms(&llama, layout(1, 1), &engine("vllm"));
    assert_eq!(newest[0].last(), Some(&("cuda_graphs", base.0 + 32 * each.0)));
    let noted = engine("vllm").overhead(&llama, &Workload { layout: layout(8, 1), ..Workload::of(Tokens(8192), 1) });
    assert_eq!(
        noted.unwrap().notes,
        [
            "calibrated on logs of vllm 0.19, as there are none of 0.33: its step has the same tensors",
            "its estimate for CUDA graphs is met to 0.155 GiB on average, 0.633 at most",
            "no log has more than 4 tensor parallel ranks",
        ]
    );
    let drafted = weighed(LLAMA).drafted(DraftMethod::Eagle, 3, None);
    let noted = engine("vllm@0.19").overhead(&drafted, &Workload::of(Tokens(8192), 1)).unwrap().notes;
    assert_eq!(noted, ["the weights and the step of the drafter are not counted"]);
    // Latents: copies of what leads from them, 27 layers x 16 heads x 256 x 512, and positions in 4 bytes.
    let latent = terms(&weighed(DEEPSEEK), layout(1, 1), &engine("vllm@0.19"));
    assert!(latent[0].contains(&("latent_copies", 27 * 16 * 256 * 512 * 2)), "{latent:?}");
    assert!(latent[0].contains(&("rotary_table", 163_840 * 64 * 4)), "{latent:?}");
}

#[test]
fn engines_without_logs_have_a_rule_or_are_refused() {
    let llama = weighed(LLAMA);
    assert_eq!(terms(&llama, layout(1, 2), &engine("llama.cpp")), vec![vec![("margin", 1 << 30)]; 2]);
    assert_eq!(terms(&llama, layout(1, 1), &Engine::ideal()), [vec![]]);
    // 512 + 1.5 x 8192 + 128 + 2 x 256 + 8 x 58 of 81559 MiB is 17.05 %: its fraction is 0.83.
    let reserved = 81_559u64 * (1 << 20) * 17 / 100;
    assert_eq!(terms(&llama, layout(1, 1), &engine("sglang")), [vec![("reserve", reserved)]]);
    let refused = |model: &Model, name: &str| {
        engine(name).overhead(model, &Workload::of(Tokens(8192), 1)).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&llama, "tensorrt-llm"),
        "--overhead: unknown: no public start-up logs say what it holds beside weights and cache (tensorrt-llm); give it, \
         as --overhead 8GiB"
    );
    let narrow = kvsize::source::resolve("llama-2-7b").unwrap();
    let without = Model { checkpoint: kvsize::model::Checkpoint::default(), ..narrow };
    assert!(refused(&without, "vllm").contains("a step follows from hidden_size, which is unknown for this model"));
    assert_eq!(
        (engine("vllm@0.19").share().unwrap().default, engine("vllm").share().unwrap().default),
        ("0.9", "0.92")
    );
    assert_eq!(usable(VISIBLE, Double::parse("0.95").unwrap()).0, (VISIBLE.0 * 95).div_ceil(100));
}

/// What `kvsize fit` prints is what is compared with the logs here: the same pool to the byte, the same concurrency.
#[test]
fn fit_tells_the_pool_that_the_logs_are_compared_with() {
    let published = Fit::published();
    for case in cases().iter().filter(|case| case.log["pp"] == 1) {
        let config = golden(&format!("pool/{}.json", case.name().replace('/', "--")));
        let tp = case.workload.layout.tp;
        let (seq_len, share) = (case.workload.seq_len.0, &case.log["gpu_memory_utilization"]);
        let dtype = if case.log["kv_cache_dtype"] == "fp8" { "-d fp8" } else { "" };
        let arguments = format!(
            "fit {} --gpu {tp}xh100 --tp {tp} -e vllm@0.19 --utilization {share} -s {seq_len} {dtype} --json -q",
            config.display()
        );
        let document: Value = serde_json::from_str(&kvsize(&arguments).output()).unwrap();
        let row = &document["fits"][0];
        assert_eq!(row["pool_bytes"], case.pool(&published).0, "{arguments}");
        assert_eq!(row["requests"][0]["max_concurrency"], case.concurrency(&published), "{arguments}");
    }
}

/// A server of another version and of a model that is in none of the logs above.
#[test]
fn a_server_of_0_17_is_near() {
    let config = r#"{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 5120, "head_dim": 128,
        "intermediate_size": 17408, "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 8,
        "vocab_size": 151936, "max_position_embeddings": 40960, "torch_dtype": "bfloat16"}"#;
    let model = Resolver::default().weights(Weigh::Yes).model_of_json(config, "a model").unwrap();
    let weights = model.weights.as_ref().unwrap().bytes.unwrap();
    let workload = Workload::of(Tokens(8192), 1);
    let overhead = total(&engine("vllm@0.19").overhead(&model, &workload).unwrap(), 0);
    let left = Bytes(usable(VISIBLE, Double::parse("0.95").unwrap()).0 - weights.0 - overhead.0);
    // Reported: weights of 27.52 GiB, a step of 2.23 and 0.13 outside, which leave 45.34.
    let error = left.0 as f64 / GIB / 45.34 - 1.0;
    println!("0.17.0, Qwen3-14B: pool {:.2} GiB, {:+.2} %", left.0 as f64 / GIB, 100.0 * error);
    assert!(error.abs() < 0.005);
}

proptest::proptest! {
    #[test]
    fn more_of_anything_never_leaves_more(
        name in proptest::sample::select(vec![LLAMA, GRANITE, DEEPSEEK, "meta-llama--Llama-4-Scout-17B-16E-Instruct"]),
        tokens in 1u64..100_000, requests in 1u64..5_000, tp in 0u32..3, weights in 0u64..u64::MAX,
    ) {
        let model = weighed(name);
        let by = |tokens: u64, requests: u64| {
            let mut engine = engine("vllm");
            engine.settings.set("max-num-batched-tokens", SettingValue::Count(tokens));
            engine.settings.set("max-num-seqs", SettingValue::Count(requests));
            let workload = Workload { layout: layout(1 << tp, 1), ..Workload::of(Tokens(4096), 1) };
            total(&engine.overhead(&model, &workload).unwrap(), 0)
        };
        let less = by(tokens, requests);
        proptest::prop_assert!(less <= by(tokens + 1, requests) && less <= by(tokens, requests + 1));
        let on = |weights: u64| weights_by_stage(&model, Bytes(weights), layout(1 << tp, 2)).unwrap();
        for (one, other) in on(weights).iter().zip(on(weights.saturating_add(1_000_000))) {
            proptest::prop_assert!(*one <= other);
        }
    }
}
