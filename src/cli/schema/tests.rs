//! The schemas that we ship are those of the types that are written and read: each is made anew of these, and compared.

use std::path::Path;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::cli::failure::ErrorDocument;
use crate::cli::gpu_list::GpuItem;
use crate::cli::lists::{EngineItem, FormatItem, ModelItem};
use crate::cli::weights::WeightsItem;
use crate::cli::{budgets, request};
use crate::report::{
    self, CheckDocument, ChecksDocument, Document, EstimateRow, Explanation, FitDocument, PlanDocument, SCHEMAS,
    Strategies,
};
use crate::source::spec;

/// `kvsize.batch/1`: an estimate as one object, a row of `kvsize.estimate/1` with its model. A line of a batch that is not
/// answered gets a `kvsize.error/1`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "read by the derive alone")]
struct BatchRow {
    /// Name and version of this shape.
    #[schemars(extend("const" = "kvsize.batch/1"))]
    schema: String,
    /// The line that asked; absent in a sweep.
    #[schemars(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    /// The id that came with it.
    #[schemars(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
    /// The model's name.
    model: String,
    #[schemars(flatten)]
    row: EstimateRow,
    /// What was taken for granted, where there is something.
    #[schemars(skip_serializing_if = "Vec::is_empty")]
    assumptions: Vec<String>,
    /// What may make the answer wrong, where there is something.
    #[schemars(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// The schema of what is written: what is not required is not null but absent, and more may be written one day.
fn written<T: JsonSchema>() -> Value {
    let mut schema = of::<T>(SchemaSettings::draft2020_12().for_serialize());
    each(&mut schema, &mut |schema| {
        if schema.get("additionalProperties") == Some(&false.into()) {
            schema.remove("additionalProperties");
        }
        let required = schema.get("required").cloned().unwrap_or_default();
        let required = required.as_array().cloned().unwrap_or_default();
        for (name, property) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
            if required.contains(&name.as_str().into()) {
                continue;
            }
            if let Some(types) = property.get_mut("type").and_then(Value::as_array_mut) {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    property["type"] = only.clone();
                }
            }
        }
    });
    schema
}

/// The schema of a type, every part where it is: what our types are called is no one's business.
fn of<T: JsonSchema>(settings: SchemaSettings) -> Value {
    let settings = settings.with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    each(&mut schema, &mut |schema| {
        schema.remove("format");
        let Some(about) = schema.get("description").and_then(Value::as_str) else { return };
        // The name of the shape is its title.
        let about = about.split_once("/1`: ").map_or(about, |(_, about)| about).replace('\n', " ");
        // Links are of the documentation of the types.
        if about.contains("[`") {
            schema.remove("description");
        } else {
            let about = about.strip_suffix('.').unwrap_or(&about);
            let (first, rest) = about.split_at(about.chars().next().map_or(0, char::len_utf8));
            schema["description"] = format!("{}{rest}", first.to_uppercase()).into();
        }
    });
    schema
}

/// Does something to a schema and to all that are in it.
fn each(schema: &mut Value, act: &mut impl FnMut(&mut Map<String, Value>)) {
    let Some(object) = schema.as_object_mut() else { return };
    act(object);
    for (word, inner) in object.iter_mut() {
        match (word.as_str(), inner) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(|inner| each(inner, act)),
            ("anyOf" | "oneOf" | "allOf", Value::Array(rules)) => rules.iter_mut().for_each(|inner| each(inner, act)),
            ("items" | "additionalProperties", inner) => each(inner, act),
            _ => {}
        }
    }
}

/// The schema of a list, of the name that it has.
fn listed<T: JsonSchema>(name: &str, about: &str) -> Value {
    let mut schema = written::<report::Listing<T>>();
    schema["properties"]["schema"]["const"] = format!("kvsize.{name}/1").into();
    schema["description"] = about.into();
    schema
}

/// A schema of the name, generated.
fn generated(name: &str) -> Value {
    match name {
        "spec" => of::<spec::ModelObject>(SchemaSettings::draft2020_12().for_deserialize()),
        "estimate" => written::<Document>(),
        "batch" => {
            let mut schema = written::<BatchRow>();
            schema["properties"]["id"]["type"] = json!(["string", "number", "boolean", "null"]);
            schema
        }
        "batch-line" => request::shape(),
        "weights" => listed::<WeightsItem>(name, "What models weigh"),
        "strategies" => written::<Strategies>(),
        "fit" => written::<FitDocument>(),
        "plan" => written::<PlanDocument>(),
        "check" => written::<CheckDocument>(),
        "checks" => written::<ChecksDocument>(),
        "budgets" => budgets::shape(),
        "explain" => written::<Explanation>(),
        "models" => listed::<ModelItem>(name, "The models of the catalogue"),
        "gpus" => listed::<GpuItem>(name, "The accelerators of the catalogue"),
        "formats" => listed::<FormatItem>(name, "The element formats"),
        "engines" => listed::<EngineItem>(name, "The engines"),
        "error" => written::<ErrorDocument>(),
        other => panic!("{other} has no types here"),
    }
}

/// The text of a schema, what it is about first.
fn text(name: &str) -> String {
    let mut schema = generated(name);
    let title =
        schema["properties"]["schema"]["const"].as_str().map_or_else(|| format!("kvsize {name}"), ToOwned::to_owned);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["$id"] = format!("urn:kvsize:{name}:1").into();
    schema["title"] = title.into();
    let mut schema = schema.as_object().cloned().unwrap_or_default();
    let first = ["$schema", "$id", "title", "description", "type", "required"];
    let first: Vec<(String, Value)> = first.iter().filter_map(|word| schema.remove_entry(*word)).collect();
    let word = |(word, value): (String, Value)| {
        format!("  \"{word}\": {}", serde_json::to_string_pretty(&value).unwrap_or_default().replace('\n', "\n  "))
    };
    let words: Vec<String> = first.into_iter().chain(schema).map(word).collect();
    format!("{{\n{}\n}}\n", words.join(",\n"))
}

/// With `KVSIZE_WRITE_SCHEMAS=1` in the environment the files are written anew.
#[test]
fn what_is_shipped_is_what_the_types_say() {
    let write = std::env::var_os("KVSIZE_WRITE_SCHEMAS").is_some_and(|value| value == "1");
    for schema in SCHEMAS {
        let text = text(schema.name);
        if write {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/report/schema/{}.json", schema.name));
            std::fs::write(path, text).unwrap();
        } else {
            assert!(
                text == schema.text,
                "src/report/schema/{}.json is not what the types say: run this test with KVSIZE_WRITE_SCHEMAS=1",
                schema.name
            );
        }
    }
}
