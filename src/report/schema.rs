//! JSON Schemas, made of the types that are read and written, when they are asked for.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{BatchRow, Item, Listing};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A shape.
#[derive(Debug)]
pub struct Schema {
    /// Its name.
    pub name: &'static str,
    /// The same with its version, as documents name themselves.
    pub full: &'static str,
    /// Its schema.
    pub generate: fn() -> Value,
}

impl Schema {
    /// The schema as text, what it is about first.
    pub fn text(&self) -> String {
        let name = self.name;
        let mut schema = (self.generate)();
        let names_itself = schema["properties"].get("schema").is_some();
        let title = if names_itself { self.full.to_owned() } else { format!("kvsize {name}") };
        if names_itself {
            schema["properties"]["schema"]["const"] = self.full.into();
        }
        schema["$schema"] = DIALECT.into();
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
}

/// One schema for all of them: a document is one of these, or a list of such documents.
pub fn one_of(schemas: &[Schema]) -> String {
    let references: Vec<_> =
        schemas.iter().map(|schema| format!("      {{\"$ref\": \"#/$defs/{}\"}}", schema.name)).collect();
    let definition =
        |schema: &Schema| format!("    \"{}\": {}", schema.name, schema.text().trim_end().replace('\n', "\n    "));
    let definitions: Vec<_> = schemas.iter().map(definition).collect();
    let (references, definitions) = (references.join(",\n"), definitions.join(",\n"));
    format!(
        "{{\n  \"$schema\": \"{DIALECT}\",\n  \"title\": \"The JSON of kvsize\",\n  \
         \"anyOf\": [\n    {{\"$ref\": \"#/$defs/document\"}},\n    {{\"type\": \"array\", \"items\": {{\"$ref\": \
         \"#/$defs/document\"}}}}\n  ],\n  \"$defs\": {{\n    \"document\": {{\n     \"anyOf\": [\n{references}\n     ]}},\n\
         {definitions}\n  }}\n}}\n"
    )
}

/// The schema of what is read.
pub fn read<T: JsonSchema>() -> Value {
    of::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

/// The schema of what is written: what is not required is not null but absent, and a later version may write more.
pub fn written<T: JsonSchema>() -> Value {
    let mut schema = of::<T>(SchemaSettings::draft2020_12().for_serialize());
    each(&mut schema, &mut |schema| {
        if schema.get("additionalProperties") == Some(&false.into()) {
            schema.remove("additionalProperties");
        }
        let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
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

/// The schema of a [`Listing`].
pub fn listed<T: Item + JsonSchema>(about: &str) -> Value {
    let mut schema = written::<Listing<T>>();
    schema["description"] = about.into();
    schema
}

/// The schema of a [`BatchRow`].
pub fn batch_row() -> Value {
    let mut schema = written::<BatchRow>();
    schema["properties"]["id"]["type"] = json!(["string", "number", "boolean", "null"]);
    schema
}

/// The schema of a type, every part in place: the names of our types are not part of the format.
fn of<T: JsonSchema>(settings: SchemaSettings) -> Value {
    let settings = settings.with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    each(&mut schema, &mut |schema| {
        schema.remove("format");
        let Some(about) = schema.get("description").and_then(Value::as_str) else { return };
        // The name of the shape is its title.
        let about = about.split_once("/1`: ").map_or(about, |(_, about)| about).replace('\n', " ");
        // Links belong to the documentation of the types.
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

/// Applies `act` to a schema and to all schemas in it.
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
