//! `kvsize generate schema [NAME]`: the shape of our JSON.

mod inputs;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};

use super::failure::ErrorDocument;
use super::{Answer, Subcommand, Visibility, typed};
use crate::report::schema::{Schema, batch_row, listed, one_of, read, written};
use crate::report::{
    ArticleDocument, CheckDocument, ChecksDocument, EngineItem, EstimateDocument, Explanation, FitDocument, FormatItem,
    GpuItem, ModelItem, PlanDocument, Strategies, WeightsItem,
};
use crate::source::spec;

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "schema",
    about: "The JSON Schema of what is read and written",
    arguments: SchemaArguments::augment_args,
    run: |matches| Ok(run(&typed(matches)?)),
    visibility: Visibility::Unlisted,
    ..Subcommand::BARE
};

macro_rules! schema {
    ($name:literal, $generate:expr) => {
        Schema { name: $name, full: concat!("kvsize.", $name, "/1"), generate: $generate }
    };
    ($name:literal, $item:ty, $about:literal) => {
        schema!($name, || listed::<$item>($about))
    };
}

/// All shapes; a test validates what is written against them.
const SCHEMAS: &[Schema] = &[
    schema!("spec", read::<spec::ModelObject>),
    schema!("estimate", written::<EstimateDocument<'static>>),
    schema!("batch", batch_row),
    schema!("batch-line", inputs::line),
    schema!("weights", WeightsItem, "What models weigh"),
    schema!("strategies", written::<Strategies>),
    schema!("fit", written::<FitDocument>),
    schema!("article", written::<ArticleDocument<'static>>),
    schema!("plan", written::<PlanDocument>),
    schema!("check", written::<CheckDocument>),
    schema!("checks", written::<ChecksDocument>),
    schema!("budgets", inputs::budgets),
    schema!("explain", written::<Explanation>),
    schema!("models", ModelItem, "The models of the catalogue"),
    schema!("gpus", GpuItem, "The accelerators of the catalogue"),
    schema!("formats", FormatItem, "The formats of caches and of weights"),
    schema!("engines", EngineItem, "The engines"),
    schema!("error", written::<ErrorDocument>),
];

#[derive(Debug, Args)]
struct SchemaArguments {
    /// The shape, as kvsize.estimate/1 or without its version; all in one without it
    #[arg(value_name = "NAME", value_parser = names())]
    name: Option<String>,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(SCHEMAS.iter().map(|schema| PossibleValue::new(schema.name).alias(schema.full)))
}

fn run(arguments: &SchemaArguments) -> Answer {
    let named = |name: &str| SCHEMAS.iter().find(|known| [known.name, known.full].contains(&name));
    let known = arguments.name.as_deref().and_then(named);
    let data = known.map_or_else(|| one_of(SCHEMAS), Schema::text);
    Answer { data, ..Answer::default() }
}
