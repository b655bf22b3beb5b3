//! The ideal estimate against cache tensors that transformers really made (`golden/README.md`).
//!
//! Its static cache keeps min(S, W) entries of a window and min(S, C) of a chunk, as the ideal does; its dynamic cache
//! drops an entry once a window is full, so those runs are compared below every window.

use std::fs;

use kvsize::estimate::{Layout, Workload, estimate};
use kvsize::source::resolve;
use kvsize::units::Diagnose;
use kvsize::units::{ElementFormat, Tokens};
use serde_json::Value;

use crate::harness::golden;

/// Golden models are read exactly or refused with one of these reasons.
const REFUSED: &[&str] = &["unsupported_mechanism", "unknown_layer_type", "not_a_decoder"];

#[test]
fn the_ideal_estimate_equals_what_transformers_cached() {
    let golden_data: Value = serde_json::from_str(&fs::read_to_string(golden("transformers.json")).unwrap()).unwrap();
    let mut compared = 0;
    let mut failures = Vec::new();
    for case in golden_data["cases"].as_array().unwrap() {
        let config = case["config"].as_str().unwrap();
        let model = match resolve(golden(config).to_str().unwrap(), &mut std::io::empty()) {
            Ok(model) => model,
            Err(error) => {
                if !REFUSED.contains(&error.diagnosis().code) {
                    failures.push(format!("{config}: {error}"));
                }
                continue;
            }
        };
        let smallest = model.layer_groups.iter().filter_map(|group| group.cache.bound()).min();
        for run in case["runs"].as_array().unwrap() {
            let request = &run["request"];
            let seq_len = Tokens(request["seq_len"].as_u64().unwrap());
            if request["cache"] != "static" && smallest.is_some_and(|bound| seq_len >= bound) {
                continue;
            }
            let workload = Workload {
                seq_len,
                batch: request["batch"].as_u64().unwrap(),
                format: ElementFormat::BF16.into(),
                layout: Layout::default(),
            };
            let bytes = estimate(&model, &workload).unwrap().bytes.0;
            if Some(bytes) != run["expect"]["bytes"].as_u64() {
                failures.push(format!("{config}: {bytes} != {run}"));
            }
            compared += 1;
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    assert!(compared > 500, "{compared}");
}
