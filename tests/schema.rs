//! Our JSON is as `kvsize schema` says, and a model that is written can be read again.

use std::fs;

use kvsize::engine::{Engine, PROFILES};
use kvsize::estimate::{Workload, estimate};
use kvsize::source::spec;
use kvsize::units::Tokens;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::harness::{Run, golden, kvsize};

/// Where `value` is not as `schema` says. The words of JSON Schema that are used here and no others; unlike the standard, what
/// no schema mentions is an error too, so that nothing is written that is not documented.
fn violations(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let Some(schema) = schema.as_object() else { panic!("{path}: {schema}") };
    let is_object = value.is_object();
    let wrong = |what: &str| format!("{path}: {what}: {value}");
    for (word, rule) in schema {
        match word.as_str() {
            "$schema" | "$id" | "title" | "description" | "default" | "then" => {}
            "type" => {
                let is = |kind: &Value| is_of(value, kind.as_str().unwrap());
                if !(rule.as_array().map_or_else(|| is(rule), |kinds| kinds.iter().any(is))) {
                    found.push(wrong(&format!("is no {rule}")));
                }
            }
            "const" => {
                if value != rule {
                    found.push(wrong(&format!("is not {rule}")));
                }
            }
            "enum" => {
                if !rule.as_array().unwrap().contains(value) {
                    found.push(wrong("is not one of its words"));
                }
            }
            "minimum" => {
                if value.is_number() && value.as_f64().unwrap() < rule.as_f64().unwrap() {
                    found.push(wrong("is too small"));
                }
            }
            "maximum" => {
                if value.as_u64().is_some_and(|number| number > rule.as_u64().unwrap()) {
                    found.push(wrong("is too large"));
                }
            }
            "maxItems" => {
                if value.as_array().is_some_and(|list| list.len() as u64 > rule.as_u64().unwrap()) {
                    found.push(wrong("is too long"));
                }
            }
            // Without it what is not mentioned is an error all the same; see properties.
            "additionalProperties" => {
                let declared = |key: &&String| schema.get("properties").and_then(|all| all.get(key.as_str())).is_some();
                for (key, inner) in value.as_object().into_iter().flatten().filter(|(key, _)| !declared(key)) {
                    match rule {
                        Value::Bool(false) => found.push(wrong(&format!("{key} is not in the schema"))),
                        Value::Bool(true) => {}
                        rule => violations(rule, inner, &format!("{path}.{key}"), found),
                    }
                }
            }
            "oneOf" => {
                let count = rule.as_array().unwrap().iter().filter(|rule| valid(rule, value)).count();
                if count != 1 {
                    found.push(wrong(&format!("fits {count} of its shapes")));
                }
            }
            "minItems" => {
                if value.as_array().is_some_and(|list| (list.len() as u64) < rule.as_u64().unwrap()) {
                    found.push(wrong("is too short"));
                }
            }
            "required" => {
                let missing = |key: &&Value| is_object && value.get(key.as_str().unwrap()).is_none();
                found.extend(rule.as_array().unwrap().iter().find(missing).map(|key| wrong(&format!("has no {key}"))));
            }
            "properties" => {
                for (key, rule) in rule.as_object().unwrap() {
                    if let Some(inner) = value.get(key) {
                        violations(rule, inner, &format!("{path}.{key}"), found);
                    }
                }
                let declared = |key: &&String| rule.get(key.as_str()).is_some();
                // Under a condition some keys are looked at, not listed.
                let listed = schema.contains_key("type") && !schema.contains_key("additionalProperties");
                let unknown = value.as_object().filter(|_| listed);
                found.extend(
                    unknown
                        .iter()
                        .flat_map(|object| object.keys())
                        .filter(|key| !declared(key))
                        .map(|key| wrong(&format!("{key} is not in the schema"))),
                );
            }
            "items" => {
                for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
                    violations(rule, inner, &format!("{path}[{index}]"), found);
                }
            }
            "anyOf" => {
                let fits = |rule: &Value| valid(rule, value);
                if !rule.as_array().unwrap().iter().any(fits) {
                    found.push(wrong("fits none of its shapes"));
                }
            }
            "allOf" => rule.as_array().unwrap().iter().for_each(|rule| violations(rule, value, path, found)),
            "if" => {
                if valid(rule, value) {
                    violations(&schema["then"], value, path, found);
                }
            }
            other => panic!("{path}: {other} is not a word of JSON Schema that is used here"),
        }
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    }
}

/// The shapes.
pub(crate) fn names() -> Vec<String> {
    let all: Value = serde_json::from_str(&kvsize("generate schema").output()).unwrap();
    // With what a document is: one of these.
    all["$defs"].as_object().unwrap().keys().filter(|name| *name != "document").cloned().collect()
}

/// A schema whose references are replaced by what they refer to.
fn resolved(schema: &Value, definitions: &Value) -> Value {
    match schema {
        Value::Object(object) => {
            if let Some(Value::String(to)) = object.get("$ref") {
                resolved(&definitions[to.strip_prefix("#/$defs/").unwrap()], definitions)
            } else {
                let inner = object.iter().filter(|(word, _)| *word != "$defs");
                inner.map(|(word, inner)| (word.clone(), resolved(inner, definitions))).collect()
            }
        }
        Value::Array(list) => list.iter().map(|inner| resolved(inner, definitions)).collect(),
        other => other.clone(),
    }
}

fn valid(schema: &Value, value: &Value) -> bool {
    let mut found = Vec::new();
    violations(schema, value, "", &mut found);
    found.is_empty()
}

pub(crate) fn schema(name: &str) -> Value {
    serde_json::from_str(&kvsize(&format!("generate schema {name}")).output()).unwrap()
}

pub(crate) fn assert_valid(schema: &Value, value: &Value, what: &str) {
    let mut found = Vec::new();
    violations(schema, value, "", &mut found);
    assert_eq!(found, [""; 0], "{what}");
}

/// The configurations of the golden data that have a cache.
fn configs() -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(golden("configs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    names.sort();
    assert!(names.len() > 100);
    names
}

#[test]
fn estimates_are_as_their_schema_says() {
    let estimate = schema("estimate");
    let mut seen = Map::new();
    for arguments in [
        "llama-4-scout -s 1k,1m -e ideal,vllm,sglang,tensorrt-llm,transformers --memory 64GiB -q",
        "llama-3.1-8b -s 1k -e llama.cpp,ollama --memory 8GiB -q",
        "llama-3.1-8b -s 1m -e vllm --memory 1GiB --tp 2 --dcp 1 -q",
        "deepseek-v4-flash deepseek-v3 gemma-3-27b -d fp8,auto -s 8k -q",
        "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.json openai--gpt-oss-20b.json -q",
        "class-default--t5.json --encoder-len 100 --k-dtype q8_0 --v-dtype q4_0 -s 1k -q",
        "--layers 48 --hidden-size 5120 --kv-heads 8 -q",
        "--layers 48 --hidden-size 5120 --kv-heads 7 -q",
    ] {
        let document: Value = serde_json::from_str(&kvsize(&format!("{arguments} --json")).data()).unwrap();
        assert_valid(&estimate, &document, arguments);
        let rows = document["estimates"].as_array().unwrap();
        // A line of jsonl is a row that says what it is.
        let text = kvsize(&format!("{arguments} -f jsonl")).data();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), rows.len(), "{arguments}");
        for (line, row) in lines.iter().zip(rows) {
            assert_eq!(line["schema"], "kvsize.estimate/1", "{arguments}");
            for (key, value) in row.as_object().unwrap() {
                assert_eq!(line[key], *value, "{arguments}: {key}");
            }
            seen.extend(row.as_object().unwrap().clone());
        }
    }
    for key in ["vllm", "llama_cpp", "ollama", "sglang", "tensorrt_llm", "transformers", "capacity", "gaps", "k_dtype"]
    {
        assert!(seen.contains_key(key), "{key}");
    }
}

#[test]
fn lists_and_explanations_are_as_their_schemas_say() {
    for (name, arguments) in [
        ("models", "models"),
        ("gpus", "gpus"),
        ("formats", "formats"),
        ("engines", "engines"),
        ("explain", "explain llama-4-scout -s 1m -b 2"),
        ("explain", "explain deepseek-v3 -s 8k -e vllm --memory 8GiB --tp 2"),
        ("explain", "explain openai--gpt-oss-20b.json -s 8k -e llama.cpp"),
        ("explain", "explain nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.json -s 8k -e sglang"),
        ("explain", "explain llama-3.1-8b -s 8k -e transformers -d quanto_int4"),
    ] {
        let text = kvsize(&format!("{arguments} --json -q")).data();
        assert_valid(&schema(name), &serde_json::from_str(&text).unwrap(), arguments);
    }
}

#[test]
fn weights_and_errors_are_as_their_schemas_say() {
    let weights = "weights openai--gpt-oss-20b.json hunyuan-7b Qwen--Qwen3-30B-A3B.json --json";
    assert_valid(&schema("weights"), &serde_json::from_str(&kvsize(weights).output()).unwrap(), weights);
    for arguments in ["nosuch --json", "--frmat --json", "--layers 0 --json", "weights nosuch --json"] {
        let text = kvsize(arguments).text();
        let line = text.strip_prefix("--- stderr\n").unwrap().strip_suffix("\n--- status 2\n").unwrap();
        assert_valid(&schema("error"), &serde_json::from_str(line).unwrap(), arguments);
    }
}

#[test]
fn strategies_are_as_their_schema_says() {
    let strategies = schema("strategies");
    for arguments in [
        "levers article --json -q",
        "levers llama-4-scout --gpu h200 -b 3 -s 1m --floors --json -q",
        "levers llama-3.1-8b -s 8k --floors --json -q",
        "levers deepseek-v3 --gpu 4xgb300 -s 128K --json -q",
        "levers class-default--mamba2.json -s 1k --json -q",
    ] {
        assert_valid(&strategies, &serde_json::from_str(&kvsize(arguments).output()).unwrap(), arguments);
    }
}

#[test]
fn answers_about_hardware_are_as_their_schemas_say() {
    for (name, arguments, status) in [
        ("fit", "fit llama-3.1-8b --gpu 2xl4,h100,gb300 -e vllm,sglang -s 8K --avg-seq-len 100", 0),
        ("fit", "fit deepseek-v3 --gpu 16xh100 --pp 2 -e vllm", 0),
        ("fit", "fit llama-3.1-70b --gpu 1xh100 -e vllm --price 2/gpu-h", 1),
        ("fit", "fit class-default--mamba2.json -e ideal --gpu h100 --weights 1GB", 0),
        ("check", "check llama-3.1-8b -s 128K -b 8 --budget 200GB --budget-per-gpu 40GB --tp 4 -e vllm --margin 5%", 0),
        ("check", "check falcon-mamba-7b -b 100000 --budget 1GB", 1),
        ("check", "check llama-3.1-70b -s 128K -b 8 --gpu 4xl40s -e vllm", 1),
        ("check", "check llama-3.1-8b -s 8K --gpu 1xh100", 0),
        ("plan", "plan llama-3.1-70b -s 128K -b 40 -e vllm", 0),
        ("plan", "plan llama-3.1-70b -s 128K --gpu 1xl4", 1),
    ] {
        let text = kvsize(&format!("{arguments} --json -q")).data_with(status);
        assert_valid(&schema(name), &serde_json::from_str(&text).unwrap(), arguments);
    }
}

#[test]
fn all_schemas_are_one_and_each_has_a_name() {
    let all: Value = serde_json::from_str(&kvsize("generate schema").output()).unwrap();
    for name in names() {
        assert_eq!(all["$defs"][&name], schema(&name), "{name}");
        assert_eq!(schema(&format!("kvsize.{name}/1")), schema(&name));
    }
    let all = resolved(&all, &all["$defs"]);
    for arguments in [
        "llama-3.1-8b -s 8k",
        "llama-3.1-8b qwen3-8b -s 8k",
        "llama-3.1-8b -s 1k..4k*2 --tp 1,2",
        "article",
        "explain llama-3.1-8b -s 8k",
        "fit llama-3.1-8b --gpu 1xh100",
        "plan llama-3.1-8b -s 8k",
        "check llama-3.1-8b -s 8k --budget 40GB",
        "check --file ci/kv-budgets.json",
        "levers llama-3.1-8b -s 8k",
        "weights llama-3.1-8b",
        "models",
        "gpus",
        "formats",
        "engines",
    ] {
        let document = kvsize(&format!("{arguments} --json -q")).data();
        assert_valid(&all, &serde_json::from_str(&document).unwrap(), arguments);
    }
    assert!(!valid(&all, &json!([{"schema": "kvsize.estimate/1"}])));
    let text = kvsize("generate schema estimat").text();
    let unknown =
        "error: NAME: estimat is not one of its values; nearest: estimate; use one of spec, estimate, batch, ";
    assert!(text.contains(unknown) && text.ends_with("status 2\n"), "{text}");
}

/// Every model that is read, written as our own object and read again, takes the same bytes.
#[test]
fn the_model_of_an_estimate_is_a_spec() {
    let spec = schema("spec");
    let mut kinds = std::collections::BTreeSet::new();
    for name in configs() {
        let arguments = [name.as_str(), "-s", "1000,100000", "-d", "bf16", "--json", "-q"];
        let encoder = ["--encoder-len", "100"];
        let run = |model: &str, encoder: &[&str]| {
            let arguments = [model].into_iter().chain(arguments[1..].iter().copied()).chain(encoder.iter().copied());
            arguments.map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
        let text = |arguments: &[String], stdin: &str| {
            let text = Run::new(arguments.iter().map(String::as_str)).stdin(stdin).text();
            text.split_once("--- stderr").unwrap().0.to_owned()
        };
        // With an encoder or without one; some configurations have no cache at all.
        let with = [&[][..], &encoder[..]]
            .into_iter()
            .find_map(|encoder| Some((encoder, parse(&text(&run(&name, encoder), ""))?)));
        let Some((encoder, document)) = with else { continue };
        let model = &document["models"][0];
        for group in model["layer_groups"].as_array().unwrap() {
            kinds.insert(group["kind"].as_str().unwrap().to_owned());
        }
        assert_valid(&spec, model, &name);
        let again = parse(&text(&run("-", encoder), &model.to_string())).unwrap_or_else(|| panic!("{name}: {model}"));
        assert_eq!(again["models"][0]["source"], "spec");
        assert_eq!(again["models"][0]["layer_groups"], model["layer_groups"], "{name}");
        let bytes = |document: &Value| -> Vec<Value> {
            document["estimates"].as_array().unwrap().iter().map(|row| row["bytes"].clone()).collect()
        };
        assert_eq!(bytes(&again), bytes(&document), "{name}");
    }
    assert_eq!(kinds.len(), 10, "{kinds:?}");
}

#[test]
fn dimensions_are_read_under_the_names_of_the_options() {
    let spec = schema("spec");
    let flags = kvsize("--layers 48 --hidden-size 5120 --heads 40 --kv-heads 8 -s 1k -f csv -q").output();
    for object in [
        json!({"layers": 48, "hidden_size": 5120, "heads": 40, "kv_heads": 8, "name": "model from flags"}),
        json!({"schema": "kvsize.spec/1", "name": "model from flags",
               "layer_groups": [{"kind": "full_attention", "layers": 40, "kv_heads": 8, "k_dim": 128},
                                {"kind": "full_attention", "layers": [40, 41, 42, 43, 44, 45, 46, 47], "kv_heads": 8, "head_dim": 128}]}),
    ] {
        assert_valid(&spec, &object, "");
        let read = kvsize("- -s 1k -f csv -q").stdin(object.to_string()).output();
        // Two groups are two rows of the same sum.
        assert_eq!(read.lines().next(), flags.lines().next());
        assert_eq!(read.lines().nth(1), flags.lines().nth(1), "{object}");
    }
}

#[test]
fn what_is_wrong_in_an_object_is_named() {
    let spec = schema("spec");
    let full = |key: &str, value: Value| {
        let mut group = json!({"kind": "full_attention", "layers": 2, "kv_heads": 2, "k_dim": 4});
        group[key] = value;
        json!({"layer_groups": [group]})
    };
    let tells = "`kvsize generate schema spec` shows its shape";
    for (object, message) in [
        (json!({"layers": 4}), "heads: missing; add head_dim, or hidden_size with heads"),
        (json!({"layers": 0, "kv_heads": 2, "head_dim": 4}), "layers: 0 is not a positive count; write 1 or more"),
        (
            json!({"layers": 70_000, "kv_heads": 2, "head_dim": 4}),
            "layers: 70000 is more layers than any model has; give at most 65536",
        ),
        (
            json!({"layers": 4, "kv_heads": 3, "heads": 8, "hidden_size": 64}),
            "kv_heads: 3 does not divide heads 8; give KV heads \
             that do; each serves an equal group of query heads",
        ),
        (
            json!({"schema": "kvsize.estimate/1", "layers": 4}),
            "schema: \"kvsize.estimate/1\" is not the shape that is read here; \
             write \"kvsize.spec/1\"",
        ),
        (json!({"layer_groups": []}), "layer_groups: [] is empty; give one group or more"),
        (json!({"layer_groups": 4}), "layer_groups: 4 is not a list; write a list of objects"),
        (
            json!({"layers": 4, "layer_groups": [{}]}),
            "layer_groups: is given in addition to the dimensions of all layers; give the \
             dimensions of each group, or those of all layers and no layer_groups",
        ),
        (
            json!({"layer_groups": [{"layers": 1}]}),
            "layer_groups[0].kind: missing; use one of full_attention, sliding_attention, \
             chunked_attention, latent_attention, indexer, compressed_attention, recurrent_state, cross_attention, shared, none",
        ),
        (
            full("kind", json!("attention")),
            "layer_groups[0].kind: attention is not a kind of layers known here; use one of \
             full_attention, sliding_attention, chunked_attention, latent_attention, indexer, compressed_attention, \
             recurrent_state, cross_attention, shared, none",
        ),
        (full("kind", json!("sliding_attention")), "layer_groups[0].window: missing; add it"),
        (full("layers", json!(0)), "layer_groups[0].layers: 0 is not a positive count; write 1 or more"),
        (full("layers", json!([])), "layer_groups[0].layers: [] is empty; list the layers, counted from 0"),
        (
            full("layers", json!([99_999])),
            "layer_groups[0].layers: 100000 is more layers than any model has; give at most 65536",
        ),
        (full("kv_heads", json!(0)), "layer_groups[0].kv_heads: 0 is not a positive count; write 1 or more"),
        (
            full("layer_indices", json!([1, 1])),
            "layer_groups[0].layer_indices: 1 layers differ from 2, the number under layers; list each layer once",
        ),
        (
            json!({"num_hidden_layers": 1, "layer_groups": [{"kind": "shared", "layers": 2}]}),
            "num_hidden_layers: 1 is less than the 2 layers of layer_groups; count all layers, or leave it out",
        ),
        (
            json!({"schema": "kvsize.estimate/1", "model": {"layer_groups": [{"kind": "none", "layers": 0}]}}),
            "model.layer_groups[0].layers: 0 is not a positive count; write 1 or more",
        ),
        (
            full("formula", json!("article_shortcut")),
            "layer_groups[0].formula: article_shortcut needs a hidden_size of at least kv_heads; add hidden_size to the model",
        ),
        (
            json!({"layer_groups": [{"kind": "recurrent_state", "layers": 1, "mechanism": "x"}]}),
            "layer_groups[0].mechanism: x is \
             not a recurrence known here; use one of mamba1, mamba2, gated_delta_net, kda, lightning, short_conv, rg_lru, rwkv, \
             cca, mlstm",
        ),
    ] {
        kvsize("-").stdin(object.to_string()).stderr(&format!("error: standard input: {message}\n")).status(2);
        let allowed = [
            "heads: missing",
            "kv_heads: 3",
            "more layers than",
            "is given in addition",
            "needs a hidden_size",
            "differ from",
            "is less than the",
        ];
        assert!(!valid(&spec, &object) || allowed.iter().any(|part| message.contains(part)), "{object}");
    }
    for (object, path) in [
        (full("kv_heads", json!("2")), "layer_groups[0].kv_heads"),
        (full("kvheads", json!(2)), "layer_groups[0].kvheads"),
        (json!({"layers": 4, "kvheads": 2}), "kvheads"),
        (
            json!({"layers": 4, "checkpoint": {"quantization": {"kv_cache_scheme": {"num_bits": "8"}}}}),
            "checkpoint.quantization.kv_cache_scheme.num_bits",
        ),
        (json!({"layers": "4", "kv_heads": 2}), "layers"),
    ] {
        let text = kvsize("-").stdin(object.to_string()).text();
        assert!(text.contains(&format!("error: standard input: {path}: is not read: ")), "{text}");
        assert!(text.contains("is not read: ") && text.contains(tells) && text.ends_with("status 2\n"), "{text}");
        assert!(!valid(&spec, &object), "{object}");
    }
}

/// The maximum under its old key is refused by the new one, in a document too; under the new one it is kept.
#[test]
fn the_old_key_of_the_maximum_is_refused() {
    let spec = schema("spec");
    let object = |key: &str| json!({"layers": 4, "kv_heads": 2, "head_dim": 4, key: 1000});
    let (old, new) = (object("max_seq_len"), object("model_max_seq_len"));
    let document = json!({"schema": "kvsize.estimate/1", "models": [old]});
    for (object, path) in [(&old, ""), (&document, "models[0].")] {
        let message = format!("{path}max_seq_len: is model_max_seq_len now; write that");
        kvsize("-").stdin(object.to_string()).stderr(&format!("error: standard input: {message}\n")).status(2);
    }
    assert!(!valid(&spec, &old) && valid(&spec, &new));
    let text = kvsize("- --json -q").stdin(new.to_string()).output();
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["models"][0]["model_max_seq_len"], 1000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_object_makes_it_panic(
        kinds in prop::collection::vec(prop::sample::select(vec![
            "full_attention", "sliding_attention", "chunked_attention", "latent_attention", "indexer", "compressed_attention",
            "recurrent_state", "cross_attention", "shared", "none",
        ]), 1..4),
        numbers in prop::collection::vec(prop::sample::select(vec![0u64, 1, 2, 3, 8, 128, 4096, 1 << 32, u64::MAX]), 15),
        layers in prop::sample::select(vec![json!(1), json!(3), json!(60), json!([2, 0, 2]), json!([70_000]), json!(u64::MAX)]),
    ) {
        let keys = [
            "kv_heads", "k_dim", "v_dim", "window", "chunk", "kv_lora_rank", "qk_rope_head_dim", "index_head_dim", "ratio",
            "encoder_tokens", "conv_channels", "conv_kernel", "state_heads", "state_elements", "head_dim",
        ];
        let groups = kinds.iter().map(|kind| {
            let mut group: Map<String, Value> =
                keys.iter().zip(&numbers).map(|(key, number)| ((*key).to_owned(), json!(number))).collect();
            group.insert("kind".into(), json!(kind));
            group.insert("layers".into(), layers.clone());
            group.insert("mechanism".into(), json!("mamba2"));
            Value::Object(group)
        });
        let object = json!({"layer_groups": groups.collect::<Vec<_>>()});
        if let Ok(model) = spec::model(object.as_object().unwrap(), "m") {
            let workload = Workload { encoder_len: Some(Tokens(10)), ..Workload::of(Tokens(100_000), 3) };
            let _ = estimate(&model, &workload);
            for profile in PROFILES {
                let _ = profile.name.parse::<Engine>().unwrap().answer(&model, &workload);
            }
        }
    }
}
