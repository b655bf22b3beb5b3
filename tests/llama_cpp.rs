//! Against what libllama really allocated (`golden/README.md`), integer for integer.

use std::fs;
use std::io::Cursor;

use kvsize::engine::{Details, Engine, SettingValue};
use kvsize::estimate::{Workload, estimate};
use kvsize::model::Model;
use kvsize::source::gguf;
use kvsize::units::{ElementFormat, KvDtype, KvFormat, Tokens};
use serde_json::{Value, json};

use crate::gguf_file;
use crate::harness::golden;

fn golden_data(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(golden(path)).unwrap()).unwrap()
}

/// The model of a case: its metadata, written as a GGUF header and read as one.
fn model(case: &Value) -> Model {
    let bytes = gguf_file::header(case["arch"].as_str().unwrap(), &case["metadata"]);
    let len = bytes.len() as u64;
    let header = gguf::read(Cursor::new(bytes), len).unwrap();
    gguf::model(&header, case["model"].as_str().unwrap(), "test.gguf").unwrap()
}

fn format(name: &Value) -> ElementFormat {
    name.as_str().unwrap().parse().unwrap()
}

/// The engine with the settings of a request, and the workload.
fn request(request: &Value) -> (Engine, Workload) {
    let mut engine: Engine = "llama.cpp".parse().unwrap();
    let count = |key: &str| request[key].as_u64();
    for (name, key) in [
        ("ctx-size", "n_ctx"),
        ("parallel", "n_seq_max"),
        ("batch-size", "n_batch"),
        ("ubatch-size", "n_ubatch"),
        ("rs-seq", "n_rs_seq"),
    ] {
        if let Some(count) = count(key) {
            engine.settings.set(name, SettingValue::Count(count));
        }
    }
    for (name, key) in [("kv-unified", "kv_unified"), ("swa-full", "swa_full")] {
        engine.settings.set(name, SettingValue::Switch(request[key].as_bool().unwrap()));
    }
    let flash_attention = if count("flash_attn") == Some(1) { "on" } else { "off" };
    engine.settings.set("flash-attn", SettingValue::Choice(flash_attention));
    let (n_ctx, n_seq_max) = (count("n_ctx").unwrap(), count("n_seq_max").unwrap());
    let kv_dtype = KvDtype::Given(KvFormat::new(format(&request["type_k"]), format(&request["type_v"])));
    (engine, Workload { kv_dtype, ..Workload::of(Tokens(n_ctx.div_ceil(n_seq_max)), n_seq_max) })
}

fn for_each_run(mut check: impl FnMut(&Value, &Model, &Value, &Value)) {
    for case in golden_data("llamacpp.json")["cases"].as_array().unwrap() {
        let model = model(case);
        for run in case["runs"].as_array().unwrap() {
            check(&case["model"], &model, &run["request"], &run["expect"]);
        }
    }
}

#[test]
fn llama_cpp_equals_what_libllama_allocated() {
    let (mut compared, mut refused) = (0, 0);
    let mut failures = Vec::new();
    for_each_run(|name, model, asked, expected| {
        let (engine, workload) = request(asked);
        let answer = engine.answer(model, &workload);
        let found = match &answer {
            Err(_) => json!("refused"),
            Ok(answer) => {
                let Some(Details::LlamaCpp(facts)) = &answer.details else { panic!("{name}") };
                let (n_ctx, n_ctx_seq, parts) = (facts.n_ctx, facts.n_ctx_seq, &facts.parts);
                json!({"bytes": answer.estimate.bytes.0, "n_ctx": n_ctx, "n_ctx_seq": n_ctx_seq, "parts": parts})
            }
        };
        let expected = if expected["refused"].is_null() { expected.clone() } else { json!("refused") };
        refused += usize::from(expected == "refused");
        if found != expected {
            failures.push(format!("{name} {asked}\n  {found} != {expected} {:?}", answer.err().map(|e| e.to_string())));
        }
        compared += 1;
    });
    assert!(failures.is_empty(), "{} of {compared}\n{}", failures.len(), failures[..failures.len().min(12)].join("\n"));
    assert_eq!((compared, refused), (1573, 41));
}

#[test]
fn the_gaps_add_up_to_the_difference_from_the_ideal() {
    let mut compared = 0;
    for_each_run(|name, model, asked, _| {
        let (engine, workload) = request(asked);
        let Ok(answer) = engine.answer(model, &workload) else { return };
        let ideal = estimate(model, &workload).unwrap();
        let difference = i128::from(answer.estimate.bytes.0) - i128::from(ideal.bytes.0);
        let gaps: i128 = answer.gaps.iter().map(|gap| gap.bytes).sum();
        assert_eq!(gaps, difference, "{name} {asked} {:?}", answer.gaps);
        let groups: u64 = answer.estimate.layer_groups.iter().map(|group| group.bytes.0).sum();
        assert_eq!(groups, answer.estimate.bytes.0, "{name} {asked}");
        compared += 1;
    });
    assert_eq!(compared, 1573 - 41);
}
