//! Against pools that SGLang really sized and built (`golden/README.md`), number for number.

use std::fs;

use kvsize::engine::{Answer, Device, Engine};
use kvsize::estimate::{EstimateError, Layout, Workload};
use kvsize::model::Model;
use kvsize::source::resolve;
use kvsize::units::{Bytes, Tokens};
use serde_json::Value;

use crate::harness::golden;

/// What of a request is not a setting of the engine.
const WORKLOAD: &[&str] = &["engine", "kv_dtype", "tp", "gpu", "seq_len", "memory"];

fn cases() -> Vec<Value> {
    let data: Value = serde_json::from_str(&fs::read_to_string(golden("sglang.json")).unwrap()).unwrap();
    data["cases"].as_array().unwrap().clone()
}

fn model(case: &Value) -> Model {
    let config = golden(case["config"].as_str().unwrap());
    resolve(config.to_str().unwrap(), &mut std::io::empty(), &[]).unwrap()
}

fn device(name: &str) -> Device {
    match name {
        "h100-sxm" => Device::default(),
        "b200-sxm" => Device { id: name.into(), compute_capability: (10, 0), memory_mib: 183_359 },
        other => panic!("{other}"),
    }
}

/// The engine and the workload of a request.
fn asked(request: &Value) -> (Engine, Workload) {
    let mut engine: Engine = request["engine"].as_str().unwrap().parse().unwrap();
    engine.device = device(request["gpu"].as_str().unwrap());
    for (name, value) in request.as_object().unwrap() {
        if WORKLOAD.contains(&name.as_str()) {
            continue;
        }
        let setting = engine.setting(&name.replace('_', "-")).unwrap_or_else(|| panic!("{name} is no setting"));
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        engine.settings.set(setting.name, setting.read(&text).unwrap());
    }
    let number = |name: &str| request[name].as_u64().unwrap();
    let workload = Workload {
        kv_dtype: request["kv_dtype"].as_str().unwrap().parse().unwrap(),
        layout: Layout { tp: number("tp"), ..Layout::default() },
        memory: Some(Bytes(number("memory"))),
        ..Workload::of(Tokens(number("seq_len")), 1)
    };
    (engine, workload)
}

fn answer(model: &Model, request: &Value) -> Result<Answer, EstimateError> {
    let (engine, workload) = asked(request);
    engine.answer(model, &workload)
}

/// What `expected` lists and `found` has otherwise; a whole number equals itself whichever way it is written.
fn differences(path: &str, expected: &Value, found: &Value, differences: &mut Vec<String>) {
    match expected {
        Value::Object(fields) => {
            for (name, expected) in fields {
                self::differences(&format!("{path}{name}."), expected, &found[name], differences);
            }
        }
        Value::Number(number) if number.is_f64() => {
            if found.as_f64() != number.as_f64() {
                differences.push(format!("{path} {found} != {expected}"));
            }
        }
        _ => {
            if found != expected {
                differences.push(format!("{path} {found} != {expected}"));
            }
        }
    }
}

#[test]
fn sglang_equals_what_it_sized_and_built() {
    let mut failures = Vec::new();
    let cases = cases();
    for case in &cases {
        let (id, request) = (case["id"].as_str().unwrap(), &case["request"]);
        let mut found = Vec::new();
        match answer(&model(case), request) {
            Err(error) => found.push(error.to_string()),
            Ok(answer) => {
                let details = serde_json::to_value(answer.details.unwrap()).unwrap();
                let details = &details["sglang"];
                differences("", &case["expect"], details, &mut found);
                let resolved = &case["resolved"];
                differences("dtype ", &resolved["kv_dtype"], &details["kv_cache_dtype"], &mut found);
                differences("backend ", &resolved["attention_backend"], &details["attention_backend"], &mut found);
                let capacity = answer.capacity.unwrap();
                let tokens = case["expect"]["max_total_num_tokens"].as_u64();
                if (capacity.fits, capacity.tokens) != (true, tokens) {
                    found.push(format!("capacity {capacity:?}"));
                }
            }
        }
        if !found.is_empty() {
            failures.push(format!("{id} {} {request}: {}", case["model"], found.join("; ")));
        }
    }
    assert!(failures.is_empty(), "{} of {}\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert_eq!(cases.len(), 309);
}
