//! The shapes of our JSON, as JSON Schema.

/// A shape.
#[derive(Debug)]
pub struct Schema {
    /// Its name.
    pub name: &'static str,
    /// Its JSON Schema.
    pub text: &'static str,
}

/// All that are documented; a test holds what is written against them.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "spec", text: include_str!("schema/spec.json") },
    Schema { name: "estimate", text: include_str!("schema/estimate.json") },
    Schema { name: "batch", text: include_str!("schema/batch.json") },
    Schema { name: "batch-line", text: include_str!("schema/batch-line.json") },
    Schema { name: "weights", text: include_str!("schema/weights.json") },
    Schema { name: "strategies", text: include_str!("schema/strategies.json") },
    Schema { name: "fit", text: include_str!("schema/fit.json") },
    Schema { name: "plan", text: include_str!("schema/plan.json") },
    Schema { name: "check", text: include_str!("schema/check.json") },
    Schema { name: "checks", text: include_str!("schema/checks.json") },
    Schema { name: "budgets", text: include_str!("schema/budgets.json") },
    Schema { name: "explain", text: include_str!("schema/explain.json") },
    Schema { name: "models", text: include_str!("schema/models.json") },
    Schema { name: "gpus", text: include_str!("schema/gpus.json") },
    Schema { name: "formats", text: include_str!("schema/formats.json") },
    Schema { name: "engines", text: include_str!("schema/engines.json") },
    Schema { name: "error", text: include_str!("schema/error.json") },
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
