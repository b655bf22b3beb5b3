//! What a version of a shape promised, it keeps.

use std::fs;

use serde_json::{Map, Value, json};

use crate::harness::golden;
use crate::schema::{names, schema};

/// What `new` takes away of what `old` promises of documents that are written; of such that are `read`, what it asks for that `old`
/// does not.
fn breaks(old: &Value, new: &Value, read: bool, path: &str, found: &mut Vec<String>) {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { panic!("{path}: no schema") };
    let list = |schema: &Map<String, Value>, word: &str| -> Vec<Value> {
        match schema.get(word) {
            None => Vec::new(),
            Some(Value::Array(list)) => list.clone(),
            Some(one) => vec![one.clone()],
        }
    };
    let mut say = |what: String| found.push(format!("{path}: {what}"));
    if old.get("const") != new.get("const") {
        say("another constant".into());
    }
    // Of what is written there may be no other type than promised, nor may a key be gone; of what is read, no less.
    let (wider, narrower) = if read { (new, old) } else { (old, new) };
    for word in ["type", "enum"] {
        let (most, less) = (list(wider, word), list(narrower, word));
        // Words may be added to what is written, too: they are documented as open.
        let is_open = word == "enum" && !read && less.len() > most.len();
        let (most, less) = if is_open { (less, most) } else { (most, less) };
        if most.is_empty() != less.is_empty() || !less.iter().all(|one| most.contains(one)) {
            say(format!("{word} is another"));
        }
    }
    let (most, less) = (list(narrower, "required"), list(wider, "required"));
    if !less.iter().all(|key| most.contains(key)) {
        say("required is another".into());
    }
    if read && new.get("additionalProperties") == Some(&false.into()) && !old.contains_key("additionalProperties") {
        say("other keys are refused".into());
    }
    for word in ["anyOf", "oneOf", "allOf", "if", "then", "minimum", "maximum", "minItems", "maxItems"] {
        let bare = |schema: &Map<String, Value>| schema.get(word).map(|rule| undescribed(rule.clone()));
        if bare(old) != bare(new) {
            say(format!("{word} is another"));
        }
    }
    for (key, rule) in old.get("properties").and_then(Value::as_object).into_iter().flatten() {
        match new.get("properties").and_then(|properties| properties.get(key)) {
            Some(inner) => breaks(rule, inner, read, &format!("{path}.{key}"), found),
            None => found.push(format!("{path}.{key}: gone")),
        }
    }
    for word in ["items", "additionalProperties"] {
        if let (Some(old @ Value::Object(_)), Some(new @ Value::Object(_))) = (old.get(word), new.get(word)) {
            breaks(old, new, read, &format!("{path}.{word}"), found);
        }
    }
}

/// A rule without its words.
fn undescribed(mut rule: Value) -> Value {
    match &mut rule {
        Value::Object(object) => {
            object.remove("description");
            object.values_mut().for_each(|inner| *inner = undescribed(inner.take()));
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| *inner = undescribed(inner.take())),
        _ => {}
    }
    rule
}

const READ: [&str; 3] = ["spec", "batch-line", "budgets"];

/// A shape that takes something back, or asks for more, is another version; what is added changes nothing for those who read it.
#[test]
fn a_version_of_a_shape_only_grows() {
    let names = names();
    let promised =
        fs::read_dir(golden("schemas")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    for file in promised {
        assert!(names.iter().any(|name| file == format!("{name}-1.json")), "{file}: its shape is gone");
    }
    for name in names {
        let path = golden(&format!("schemas/{name}-1.json"));
        let promised: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap_or_else(|_| {
            panic!(
                "{}: write what `kvsize generate schema {name}` prints there, the promise of this version",
                path.display()
            )
        }))
        .unwrap();
        let mut found = Vec::new();
        breaks(&promised, &schema(&name), READ.contains(&name.as_str()), &name, &mut found);
        assert_eq!(found, [""; 0], "{name}: give it the version 2, and keep that beside the first");
    }
}

type Change = fn(&mut Value);

#[test]
fn what_breaks_is_seen_and_what_grows_is_not() {
    let old = json!({
        "type": "object", "required": ["schema", "bytes"],
        "properties": {
            "schema": {"const": "kvsize.x/1"}, "bytes": {"type": "integer", "minimum": 0},
            "kind": {"type": "string", "enum": ["a", "b"]}, "rows": {"type": "array", "items": {"type": "integer"}},
        },
    });
    let broken = |read: bool, change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new);
        let mut found = Vec::new();
        breaks(&old, &new, read, "x", &mut found);
        !found.is_empty()
    };
    let never: [Change; 3] = [
        |_| {},
        |new| new["properties"]["more"] = json!({"type": "string"}),
        |new| new["properties"]["bytes"]["description"] = "Bytes".into(),
    ];
    let always: [Change; 6] = [
        |new| new["properties"]["schema"]["const"] = "kvsize.x/2".into(),
        |new| drop(new["properties"].as_object_mut().unwrap().remove("kind")),
        |new| new["properties"]["bytes"]["type"] = "string".into(),
        |new| new["properties"]["bytes"]["minimum"] = 1.into(),
        |new| new["properties"]["rows"]["items"]["type"] = "string".into(),
        |new| new["properties"]["kind"]["enum"] = json!(["a", "c"]),
    ];
    for read in [true, false] {
        assert!(never.iter().all(|change| !broken(read, change)), "{read}");
        for (index, change) in always.iter().enumerate() {
            assert!(broken(read, change), "{index} {read}");
        }
    }
    // What is read may be of more kinds, what is written of fewer; and the other way about for what is required.
    let of_more: Change = |new| new["properties"]["bytes"]["type"] = json!(["integer", "null"]);
    let asks_more: Change = |new| new["required"] = json!(["schema", "bytes", "kind"]);
    let asks_less: Change = |new| new["required"] = json!(["schema"]);
    assert_eq!((broken(true, &of_more), broken(false, &of_more)), (false, true));
    assert_eq!((broken(true, &asks_more), broken(false, &asks_more)), (true, false));
    assert_eq!((broken(true, &asks_less), broken(false, &asks_less)), (false, true));
}
