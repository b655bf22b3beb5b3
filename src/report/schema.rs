//! The shapes of our JSON, as JSON Schema.

/// A shape.
#[derive(Debug)]
pub struct Schema {
    /// Its name.
    pub name: &'static str,
    /// The same with its version, as documents name themselves.
    pub full: &'static str,
    /// Its JSON Schema.
    pub text: &'static str,
}

macro_rules! schema {
    ($name:literal) => {
        Schema {
            name: $name,
            full: concat!("kvsize.", $name, "/1"),
            text: include_str!(concat!("schema/", $name, ".json")),
        }
    };
}

/// All that are documented; a test holds what is written against them.
pub const SCHEMAS: &[Schema] = &[
    schema!("spec"),
    schema!("estimate"),
    schema!("batch"),
    schema!("batch-line"),
    schema!("weights"),
    schema!("strategies"),
    schema!("fit"),
    schema!("plan"),
    schema!("check"),
    schema!("checks"),
    schema!("budgets"),
    schema!("explain"),
    schema!("models"),
    schema!("gpus"),
    schema!("formats"),
    schema!("engines"),
    schema!("error"),
];

/// One schema for all of them: a document is one of these, or a list of such documents.
pub fn all_schemas() -> String {
    let names = SCHEMAS.iter().map(|schema| schema.name);
    let references: Vec<_> = names.map(|name| format!("      {{\"$ref\": \"#/$defs/{name}\"}}")).collect();
    let definitions: Vec<_> = SCHEMAS
        .iter()
        .map(|schema| format!("    \"{}\": {}", schema.name, schema.text.trim_end().replace('\n', "\n    ")))
        .collect();
    let (references, definitions) = (references.join(",\n"), definitions.join(",\n"));
    format!(
        "{{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n  \"title\": \"The JSON of kvsize\",\n  \
         \"anyOf\": [\n    {{\"$ref\": \"#/$defs/document\"}},\n    {{\"type\": \"array\", \"items\": {{\"$ref\": \
         \"#/$defs/document\"}}}}\n  ],\n  \"$defs\": {{\n    \"document\": {{\n     \"anyOf\": [\n{references}\n     ]}},\n\
         {definitions}\n  }}\n}}\n"
    )
}
