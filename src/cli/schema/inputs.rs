//! The shapes of what is read: a line of a batch and a file of budgets, from the rows that their reader has.

use serde_json::{Map, Value, json};

use crate::engine::{PROFILES, Setting, ValueKind};
use crate::request::{Ask, BUDGET, Field, Kind, LINE, Selection, field_of, key_of};

/// The shape of a line of a batch.
pub(super) fn line() -> Value {
    let mut schema = serde_json::from_str(include_str!("../about/batch-line.schema.json")).unwrap_or_default();
    add_properties(&mut schema, LINE);
    schema
}

/// The shape of a file of budgets.
pub(super) fn budgets() -> Value {
    let mut schema: Value = serde_json::from_str(include_str!("../about/budgets.schema.json")).unwrap_or_default();
    add_properties(&mut schema["properties"]["budgets"]["items"], BUDGET);
    schema
}

/// Adds the options of a selection. A property that is there with its type is another's; of one without, the description stays.
fn add_properties(schema: &mut Value, selection: Selection) {
    for (key, mut shape) in properties(selection) {
        let known = &mut schema["properties"][key];
        if known.get("type").is_some() {
            continue;
        }
        if let Some(about) = known.get("description") {
            shape["description"] = about.clone();
        }
        *known = shape;
    }
}

/// A property for each name of each option of a selection, and of each setting of an engine.
fn properties(selection: Selection) -> Map<String, Value> {
    let mut properties = Map::new();
    for field in selection.fields() {
        let own = field.key();
        let mut shape = of_field(field);
        shape["description"] = field_of(&field.about().0.replace(", comma-separated", "")).into();
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
