//! The shapes of what is read: a line of a batch and a file of budgets, from the rows that their reader has.

use serde_json::{Map, Value, json};

use crate::cli::budgets;
use crate::engine::{PROFILES, Setting, ValueKind};
use crate::request::{Ask, BUDGET, Field, Kind, LINE, Selection, field_of, key_of};

/// The shape of a line of a batch.
pub(super) fn line() -> Value {
    let mut properties = properties(LINE);
    let id = "Yours: a text, a number, true, false or null, which comes back with the answer";
    properties.insert("id".into(), json!({"description": id, "type": ["string", "number", "boolean", "null"]}));
    json!({
        "description": "One estimate, under the names of the options; null is as if it were not there. A line names a model, or \
                        gives its dimensions (layers, kv_heads, …).",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

/// The shape of a file of budgets.
pub(super) fn budgets() -> Value {
    let mut properties = properties(BUDGET);
    let name = "Its name, by which a baseline is compared";
    let engine = "Engine to check, with its version: vllm@0.33; or ideal";
    properties.insert("name".into(), json!({"description": name, "type": "string"}));
    properties.insert("engine".into(), json!({"description": engine, "type": "string"}));
    for (key, about) in [
        (
            "model",
            "A catalogue name, a path relative to this file or a hub id; or an object, a config.json or kvsize.spec/1",
        ),
        ("batch", "Concurrent requests; on GPUs over all replicas, as kvsize fit counts them [default: 1]"),
        (
            "gpu",
            "GPUs that the minima apply to, as 8xh100, and whose defaults the engine has [default: those of must_fit_on]",
        ),
        ("accelerators", "JSON file with your own accelerators, relative to this file"),
    ] {
        properties.entry(key).or_insert_with(|| json!({}))["description"] = about.into();
    }
    let asserting = ["max_bytes", "max_bytes_per_gpu", "must_fit_on", "min_context", "min_concurrent_requests"];
    let budget = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "engine"],
        "anyOf": asserting.map(|key| json!({"required": [key]})),
        "properties": properties,
    });
    json!({
        "description": "What `kvsize check --file` reads: budgets under the names of the options; null is as if it were not there. \
                        Each asserts one or more of max_bytes, max_bytes_per_gpu, must_fit_on, min_context and \
                        min_concurrent_requests.",
        "type": "object",
        "additionalProperties": false,
        "required": ["schema", "budgets"],
        "properties": {
            "schema": {"const": budgets::SCHEMA},
            "$schema": {"description": "Where an editor finds this schema; not used", "type": ["string", "null"]},
            "margin": {"description": "Part of every budget to keep free, as 5%", "type": ["string", "null"]},
            "catalogue": {"description": "JSON file with your own models, relative to this file", "type": ["string", "null"]},
            "budgets": {"description": "The budgets; no two have the same name", "type": "array", "minItems": 1, "items": budget},
        },
    })
}

/// A property for each name of each option of a selection, and of each setting of an engine.
fn properties(selection: Selection) -> Map<String, Value> {
    let mut properties = Map::new();
    for field in selection.fields() {
        let own = field.key();
        let mut shape = of_field(field);
        shape["description"] = field_of(&field.about.replace(", comma-separated", "")).into();
        for alias in field.aliases {
            let mut shape = shape.clone();
            shape["description"] = format!("The same as {own}").into();
            properties.insert(key_of(alias), shape);
        }
        properties.insert(own, shape);
    }
    for setting in PROFILES.iter().flat_map(|profile| profile.settings) {
        let own = key_of(setting.name);
        let mut shape = of_setting(setting);
        let mut add = |name: &str, about: String| {
            shape["description"] = about.into();
            properties.entry(key_of(name)).or_insert_with(|| shape.clone());
        };
        add(setting.name, field_of(setting.about));
        let short = setting.name.strip_prefix("enable-").filter(|name| !name.is_empty());
        for alias in short.into_iter().chain([setting.alias]).filter(|name| !name.is_empty()) {
            add(alias, format!("The same as {own}"));
        }
        if let ValueKind::Switch { off } = setting.kind {
            add(off, format!("The opposite of {own}"));
        }
    }
    properties
}

/// How the value of an option is written; what its reader refuses has no place in the shape.
fn of_field(field: &Field) -> Value {
    let least = u64::from(field.read(&mut Ask::default(), "0".into()).is_err());
    match field.kind {
        Kind::Words(_) => json!({"enum": field.words().map(Value::from).chain([Value::Null]).collect::<Vec<_>>()}),
        Kind::Number if field.value_name == "RATIO" => json!({"type": ["number", "null"], "minimum": 0}),
        Kind::Number => json!({"type": ["integer", "null"], "minimum": least}),
        Kind::Size => json!({"type": ["integer", "string", "null"], "minimum": least}),
        Kind::Text => json!({"type": ["string", "null"]}),
        Kind::Texts => json!({"type": ["string", "array", "null"], "items": {"type": "string"}, "minItems": 1}),
        Kind::Model => json!({"type": ["string", "object", "null"]}),
        Kind::Switch => json!({"type": ["boolean", "null"]}),
    }
}

/// How the value of a setting is written; words that are numbers may be written as such.
fn of_setting(setting: &Setting) -> Value {
    match setting.kind {
        ValueKind::Switch { .. } => json!({"type": ["boolean", "null"]}),
        ValueKind::Count => json!({"type": ["integer", "null"], "minimum": 1}),
        ValueKind::CountOrZero => json!({"type": ["integer", "null"], "minimum": 0}),
        ValueKind::Ratio => json!({"type": ["number", "null"], "minimum": 0}),
        ValueKind::Choice(words) => {
            let both = |word: &&str| [Some(Value::from(*word)), word.parse::<i64>().ok().map(Value::from)];
            json!({"enum": words.iter().flat_map(both).flatten().chain([Value::Null]).collect::<Vec<_>>()})
        }
    }
}
