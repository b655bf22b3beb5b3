//! Against cache tensors that transformers really made (`golden/README.md`), integer for integer.

use std::fs;

use kvsize::engine::{Engine, SettingValue};
use kvsize::estimate::{Workload, estimate};
use kvsize::model::{LayerCache, Mechanism, Model};
use kvsize::source::resolve;
use kvsize::units::{ElementFormat, Tokens};
use serde_json::Value;

use crate::harness::golden;

/// Every golden run: its configuration, the model read from it, what was asked, and the bytes measured.
fn for_each_run(mut check: impl FnMut(&str, &Model, &Workload, &'static str, u64)) {
    let golden_data: Value = serde_json::from_str(&fs::read_to_string(golden("transformers.json")).unwrap()).unwrap();
    for case in golden_data["cases"].as_array().unwrap() {
        let config = case["config"].as_str().unwrap();
        let model = resolve(golden(config).to_str().unwrap()).unwrap();
        for run in case["runs"].as_array().unwrap() {
            let request = &run["request"];
            let cache = if request["cache"] == "static" { "static" } else { "dynamic" };
            let seq_len = Tokens(request["seq_len"].as_u64().unwrap());
            let workload = Workload {
                kv_dtype: ElementFormat::BF16.into(),
                encoder_len: encoder_len(case, request),
                ..Workload::of(seq_len, request["batch"].as_u64().unwrap())
            };
            check(config, &model, &workload, cache, run["expect"]["bytes"].as_u64().unwrap());
        }
    }
}

/// The encoder's tokens: the length of the cross tensors, or of the image that the mode names.
fn encoder_len(case: &Value, request: &Value) -> Option<Tokens> {
    let of_image = request["mode"].as_str().filter(|mode| mode.contains("image"));
    let of_image = of_image.and_then(|mode| mode.split_whitespace().find_map(|word| word.parse().ok()));
    let layers = case["layout"]["layers"].as_array().unwrap();
    let cross =
        layers.iter().map(|layer| &layer[1]).find(|layer| layer["kind"].as_str().unwrap().starts_with("cross."));
    of_image.or_else(|| cross.and_then(|layer| layer["tensors"]["keys"][0][2].as_u64())).map(Tokens)
}

#[test]
fn transformers_equals_what_it_cached() {
    let mut compared = 0;
    let mut failures = Vec::new();
    for_each_run(|config, model, workload, cache, expected| {
        let mut engine: Engine = "transformers".parse().unwrap();
        engine.settings.set("cache", SettingValue::Choice(cache));
        let answer = engine.answer(model, workload);
        if let Ok(answer) = &answer {
            // Each difference to the ideal has its reason.
            let gaps: i128 = answer.gaps.iter().map(|gap| gap.bytes).sum();
            let ideal = estimate(model, workload).unwrap().bytes.0;
            assert_eq!(i128::from(answer.estimate.bytes.0) - i128::from(ideal), gaps, "{config} {workload:?}");
        }
        let bytes = answer.map(|answer| answer.estimate.bytes.0);
        if bytes != Ok(expected) {
            failures.push(format!("{config}: {bytes:?} != {expected}: {cache:?} {workload:?}"));
        }
        compared += 1;
    });
    assert!(failures.is_empty(), "{} of {compared}\n{}", failures.len(), failures.join("\n"));
    assert_eq!(compared, 1202);
}

#[test]
fn the_ideal_equals_what_a_static_cache_holds_where_no_rule_of_transformers_differs() {
    let mut compared = 0;
    for_each_run(|config, model, workload, cache, expected| {
        let differs = |cache: &LayerCache| {
            matches!(
                cache,
                LayerCache::Recurrent(_)
                    | LayerCache::Compressed { .. }
                    | LayerCache::CrossAttention { optional: true, .. }
            ) || matches!(cache, LayerCache::SlidingWindow { window, transformers_window, .. } if *transformers_window != Some(*window))
        };
        if cache == "static" && !model.layer_groups.iter().any(|group| differs(&group.cache)) {
            assert_eq!(estimate(model, workload).unwrap().bytes.0, expected, "{config} {workload:?}");
            compared += 1;
        }
    });
    assert!(compared > 250, "{compared}");
}

/// No figure of transformers is below the ideal but where a rule of its own drops an entry, named here.
#[test]
fn transformers_is_below_the_ideal_only_where_it_drops_entries() {
    for_each_run(|config, model, workload, cache, measured| {
        let drops = |group: &LayerCache| match group {
            LayerCache::SlidingWindow { .. } | LayerCache::ChunkedLocal { .. } => cache == "dynamic",
            LayerCache::Compressed { .. } | LayerCache::CrossAttention { optional: true, .. } => true,
            // It keeps mLSTM's memory in the model's format, though the config names fp32.
            LayerCache::Recurrent(state) => state.mechanism == Mechanism::Mlstm,
            _ => false,
        };
        let ideal = estimate(model, workload).unwrap().bytes.0;
        let named = model.layer_groups.iter().any(|group| drops(&group.cache));
        assert!(measured >= ideal || named, "{config} {workload:?}: {measured} < {ideal}");
    });
}
