//! Computed parameters against the totals of stored elements that the hub states of unquantised repositories.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::computed;
use crate::source::hf_config::parse;

/// The rows: repositories with their totals and the keys of their configuration that decide tensors. `parts` names what
/// makes a repository differ from the model that engines load, `unmatched` is what is left with a reason.
pub(super) fn rows() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hub-weights.jsonl");
    fs::read_to_string(path).unwrap().lines().map(|line| parse(line).unwrap()).collect()
}

/// What a part adds to the parameters, or takes from them.
fn part(name: &str, config: &Value, mtp: Option<u64>) -> i128 {
    let text = config.get("text_config").unwrap_or(config);
    let number = |key: &str| i128::from(text[key].as_u64().unwrap_or_else(|| panic!("{key} of {config}")));
    match name {
        // Layers that predict further tokens.
        "mtp" => mtp.unwrap_or_else(|| panic!("no MTP layers: {config}")).into(),
        // A head that is stored although it is the embedding.
        "lm_head" => number("hidden_size") * number("vocab_size"),
        // The bias that chooses experts is not among the elements: it is in single precision.
        "no_router_bias" => {
            let listed = text["layers_block_type"].as_array();
            let layers = match (text["hybrid_override_pattern"].as_str(), listed, text["num_hash_layers"].as_u64()) {
                (Some(letters), ..) => i128::try_from(letters.matches('E').count()).unwrap(),
                (_, Some(names), _) => i128::try_from(names.iter().filter(|name| **name == "moe").count()).unwrap(),
                (.., Some(hashed)) => number("num_hidden_layers") - i128::from(hashed),
                _ => panic!("no layers with experts: {config}"),
            };
            -(layers + i128::from(mtp.is_some())) * number("n_routed_experts")
        }
        // Multipliers of tokens, sizes and offsets of heads in a table of n-grams: integers.
        "ngram_integers" => number("ngram_size") + 2 * (number("ngram_size") - 1) * number("heads_per_ngram"),
        // Frequencies of rotary embeddings that old checkpoints store for each layer.
        "rotary" => number("num_hidden_layers") * (number("hidden_size") / number("num_attention_heads") / 2),
        other => panic!("{other} is no part"),
    }
}

#[test]
fn repositories_hold_what_is_computed_and_parts_with_names() {
    let (mut met, mut unmatched) = (0, 0);
    for row in rows() {
        let name = row["id"].as_str().unwrap();
        let weights = computed(&row["config"], None).unwrap_or_else(|reason| panic!("{name}: {reason}"));
        let stored = i128::from(row["stored_elements"].as_u64().unwrap());
        let parts: Vec<&str> =
            row["parts"].as_array().into_iter().flatten().map(|part| part.as_str().unwrap()).collect();
        let mtp = weights.mtp_parameters.filter(|_| parts.contains(&"mtp"));
        let more: i128 = parts.iter().map(|name| part(name, &row["config"], mtp)).sum();
        let left = stored - i128::from(weights.parameters.unwrap()) - more;
        if let Some(reason) = row["unmatched"].as_str() {
            assert!(left != 0 && !reason.is_empty(), "{name} is met after all");
            unmatched += 1;
        } else {
            assert_eq!(left, 0, "{name}");
            met += 1;
        }
    }
    assert!(unmatched * 10 < met, "{unmatched} and {met}");
}

/// The classes that rows are of.
pub(super) fn model_types() -> BTreeSet<String> {
    let types = |row: &Value| {
        let config = &row["config"];
        [&config["model_type"], &config["text_config"]["model_type"]].map(|name| name.as_str().map(ToOwned::to_owned))
    };
    rows().iter().filter(|row| row["unmatched"].is_null()).flat_map(types).flatten().collect()
}
