//! The rows of the catalogue, against the files and lists that they come from.

use std::collections::BTreeMap;

use kvsize::catalogue::{self, ModelSummary};
use kvsize::engine::Engine;
use kvsize::estimate::Workload;
use kvsize::model::{KeyValue, LayerCache, Model};
use kvsize::request::Weigh;
use kvsize::source::{Resolver, of_json, resolve};
use kvsize::units::{Code, Tokens};
use serde_json::Value;

use crate::harness::{golden, kvsize};
use crate::round_trip::{differences, engines, without_provenance};

/// The lines of a file of `golden/catalogue`.
fn lines(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(golden(&format!("catalogue/{name}.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(line: &'a Value, key: &str) -> &'a str {
    line[key].as_str().unwrap()
}

/// Entries by their names.
fn by_name() -> BTreeMap<String, ModelSummary> {
    let entries = catalogue::models(&[]);
    entries.flat_map(|entry| entry.names.clone().into_iter().map(move |name| (name, entry.clone()))).collect()
}

/// The text model of a configuration.
fn text_model(config: &mut Value) -> &mut Value {
    let inner = ["text_config", "language_config", "llm_config"].into_iter().find(|key| config[*key].is_object());
    match inner {
        Some(key) => &mut config[key],
        None => config,
    }
}

/// What an entry says of a model is what its published configuration says: the same model, or, where an entry keeps fewer
/// keys of weights, the same bytes in every engine.
#[test]
fn an_entry_and_its_published_configuration_agree() {
    let engines = engines();
    let (mut same, mut figures, mut different) = (0, 0, Vec::new());
    for mut line in lines("published") {
        let name = text(&line, "model").to_owned();
        let mut config = line["config"].take();
        if line["quantized_copy"] == true {
            config.as_object_mut().unwrap().remove("quantization_config");
            text_model(&mut config).as_object_mut().unwrap().remove("quantization_config");
        }
        for key in line["left_to_the_class"].as_array().into_iter().flatten() {
            config[key.as_str().unwrap()] = serde_json::json!({});
        }
        let mut by_name = resolve(&name).unwrap();
        let mut published =
            of_json(config.to_string(), &by_name.name).unwrap_or_else(|error| panic!("{name}: {error}"));
        for key in line["changed"].as_array().into_iter().flatten() {
            let (of_entry, of_file) = match key.as_str().unwrap() {
                "max_position_embeddings" => {
                    (by_name.max_position_embeddings.take(), published.max_position_embeddings.take())
                }
                "vocab_size" => {
                    for model in [&mut by_name, &mut published] {
                        model.checkpoint.embedding_parameters = None;
                    }
                    let widths = [&mut by_name, &mut published].map(|model| &mut model.checkpoint.widths.vocab_size);
                    let [of_entry, of_file] = widths.map(|size| size.take().map(Tokens));
                    (of_entry, of_file)
                }
                "torch_dtype" => {
                    published.dtype = by_name.dtype;
                    continue;
                }
                "sliding_window" => continue,
                other => panic!("{name}: {other}"),
            };
            assert_ne!(of_entry, of_file, "{name}: {key} is not changed");
        }
        if without_provenance(by_name.clone()) == without_provenance(published.clone()) {
            same += 1;
        } else {
            different.extend(differences(&by_name, &published, &engines));
            figures += 1;
        }
    }
    assert!(different.is_empty(), "{different:#?}");
    assert!(same > 150 && figures < 60, "{same} the same, {figures} by their figures");
}

/// A row that points to its base gives what the whole copy gave that stood in its place.
#[test]
fn a_row_with_a_base_is_the_copy_that_it_replaces() {
    let engines = engines();
    let (copies, mut different) = (lines("copies"), Vec::new());
    assert!(copies.len() > 10, "{}", copies.len());
    for copy in copies {
        let overlay = catalogue::parse_overlay(&serde_json::json!([copy]).to_string()).unwrap();
        let name = copy["names"][0].as_str().unwrap();
        let whole = Resolver::default().overlay(&overlay).model(name).unwrap();
        different.extend(differences(&resolve(name).unwrap(), &whole, &engines));
        assert!(catalogue::find(name, &[]).unwrap().base.is_some(), "{name}");
    }
    assert!(different.is_empty(), "{different:#?}");
}

#[test]
fn a_base_is_an_entry_with_a_configuration_of_its_own() {
    let entries = by_name();
    let mut pointing = 0;
    for entry in catalogue::models(&[]) {
        let Some(base) = &entry.base else { continue };
        let of_base = &entries[&base.to_lowercase()];
        assert_eq!((&of_base.label, &of_base.base), (base, &None), "{}", entry.label);
        pointing += 1;
    }
    assert!(pointing > 150, "{pointing}");
}

/// What the file next to the configuration declares decides the cache's format, and is said of the weights.
#[test]
fn a_quantization_next_to_the_configuration_is_that_of_the_row() {
    let name = "nvidia/qwen3-235b-a22b-nvfp4";
    let model = Resolver::default().weights(Weigh::Yes).model(name).unwrap();
    let base = resolve("qwen/qwen3-235b-a22b").unwrap();
    let declared = model.checkpoint.quantization.clone().unwrap();
    assert_eq!((declared.quant_algo.as_deref(), declared.beside), (Some("NVFP4"), true));
    assert!(base.checkpoint.quantization.is_none());
    assert_eq!(model.layer_groups, base.layer_groups);
    let notes = model.weights.unwrap().notes.join(" ");
    assert!(notes.contains("quantised (hf_quant_config.json)"), "{notes}");
}

/// Every model that people run most is found by its hub id, in the order of use, or said to be missing.
#[test]
fn the_most_used_models_are_found_and_listed_first() {
    let entries = by_name();
    let order: Vec<String> = catalogue::models(&[]).map(|entry| entry.label).collect();
    let mut ranks: BTreeMap<&str, u64> = BTreeMap::new();
    let used = lines("used");
    for line in &used {
        let found = entries.get(&text(line, "model").to_lowercase());
        assert_eq!(found.is_none(), line["missing"].is_string(), "{line}");
        if let Some(entry) = found {
            ranks.entry(&entry.label).or_insert(line["rank"].as_u64().unwrap());
        }
    }
    let (first, last) = order.split_at(ranks.len());
    let listed: Vec<u64> = first.iter().map(|label| ranks[label.as_str()]).collect();
    assert!(listed.is_sorted(), "{listed:?}");
    assert!(last.iter().all(|label| !ranks.contains_key(label.as_str())));
    assert!(ranks.len() > 240, "{}", ranks.len());
    let output = kvsize("models -f plain").output();
    let position = |name: &str| output.lines().position(|line| line == name).unwrap();
    assert!(position("qwen3-4b") < position("opt-1.3b"));
}

/// Dimensions that the hub lists are those of the entry, and so are the elements that the files store.
#[test]
fn an_entry_and_the_hub_s_listing_agree() {
    let entries = by_name();
    let (mut dimensions, mut elements) = (0, 0);
    for line in lines("listing") {
        let entry = &entries[&text(&line, "id").to_lowercase()];
        let name = &entry.label;
        let model = Resolver::default().weights(Weigh::Yes).model(name).unwrap();
        if let Some(layers) = line["num_hidden_layers"].as_u64() {
            assert_eq!(u64::from(model.num_hidden_layers), layers, "{name}");
            assert_eq!(model.checkpoint.hidden_size, line["hidden_size"].as_u64(), "{name}");
            dimensions += 1;
        }
        if entry.base.is_some() {
            continue;
        }
        // Dimensions alone decide the cache of these.
        let [group] = model.layer_groups.as_slice() else { panic!("{name}: {:?}", model.layer_groups) };
        let LayerCache::FullAttention { key_value } = group.cache else { panic!("{name}: {group:?}") };
        let listed = [&line["num_key_value_heads"], &line["head_dim"], &line["head_dim"]];
        let KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim } = key_value else {
            panic!("{name}: {group:?}")
        };
        assert_eq!([num_key_value_heads, head_dim, v_head_dim].map(Some), listed.map(Value::as_u64), "{name}");
        let says = entry.source.contains("from the stored elements");
        assert!(says || model.weights.is_none(), "{name}");
        if let Some(weights) = model.weights {
            assert_eq!(weights.parameters, line["stored_elements"].as_u64(), "{name}");
            elements += 1;
        }
    }
    assert!(dimensions > 200 && elements > 40, "{dimensions} {elements}");
}

/// Live bytes and vLLM: an answer, or a refusal that says why.
#[test]
fn every_entry_is_answered_or_refused_with_a_reason() {
    let vllm: Engine = "vllm".parse().unwrap();
    let mut refused = Vec::new();
    for entry in catalogue::models(&[]) {
        let name = &entry.names[0];
        let model: Model = resolve(name).unwrap();
        let workload = Workload { encoder_len: Some(Tokens(100)), ..Workload::of(Tokens(256), 1) };
        let ideal = Engine::ideal().answer(&model, &workload).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(ideal.estimate.bytes.0 > 0, "{name}");
        if let Err(error) = vllm.answer(&model, &workload) {
            assert!(!error.problem.is_empty() && !error.remedy.is_empty(), "{name}: {error}");
            assert!(!matches!(error.code, Code::Missing | Code::WrongType), "{name}: {error}");
            refused.push(name.clone());
        }
    }
    insta::assert_snapshot!("refused_by_vllm", refused.join("\n"));
}
