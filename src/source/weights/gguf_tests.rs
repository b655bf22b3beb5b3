//! File types against what llama-quantize makes, and tensors against what its converter writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Extra, gguf_tensors};
use crate::model::{FileType, GgufTensors};
use crate::source::hf_config::parse;

fn rows() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf-weights.jsonl");
    fs::read_to_string(path).unwrap().lines().map(|line| parse(line).unwrap()).collect()
}

/// Bytes by element type.
fn by_type(tensors: &GgufTensors, file_type: FileType) -> BTreeMap<String, u64> {
    let mut types = BTreeMap::new();
    for typed in file_type.types(tensors).unwrap() {
        *types.entry(typed.tensor_type.name().to_owned()).or_default() += typed.bytes().get().unwrap();
    }
    types
}

#[test]
fn file_types_are_what_llama_quantize_makes() {
    let (mut runs, mut wrong) = (0, Vec::new());
    for row in rows() {
        let name = row["model"].as_str().unwrap();
        let tensors = match gguf_tensors(
            &row["config"],
            Extra { mtp: name.ends_with("-mtp"), lm_head: name.ends_with("-lmhead") },
        ) {
            Ok(tensors) => tensors,
            Err(reason) => {
                wrong.push(format!("{name}: {reason}"));
                continue;
            }
        };
        for (run, expected) in row["runs"].as_object().unwrap() {
            let with = if run.contains('+') { run.clone() } else { format!("{run}-imatrix") };
            let file_type: FileType = with.parse().unwrap();
            let found = by_type(&tensors, file_type);
            let wanted: BTreeMap<String, u64> = serde_json::from_value(expected["by_type"].clone()).unwrap();
            runs += 1;
            if found != wanted {
                wrong.push(format!("{name} {run}: {found:?}, not {wanted:?}"));
            }
            let older = by_type(&tensors, file_type.with_release("b8179".parse().unwrap())).values().sum::<u64>();
            let wanted = expected["bytes_before_march_2026"].as_u64().unwrap_or(expected["bytes"].as_u64().unwrap());
            if older != wanted {
                wrong.push(format!("{name} {run} up to b8179: {older}, not {wanted}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {runs}:\n{}", wrong.len(), wrong.join("\n"));
}
