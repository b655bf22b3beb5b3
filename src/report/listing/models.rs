//! The models of the catalogue.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::Item;
use crate::catalogue::ModelSummary;
use crate::report::{Column, Medium};

/// A model of a [`Listing`](super::Listing): a row of `kvsize.models/1`.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelItem {
    /// Its shortest name.
    name: String,
    /// Where it is published.
    label: String,
    /// Other names of it.
    aliases: Vec<String>,
    /// The model that it is a quantized, renamed or tuned copy of.
    base: Option<String>,
    /// All parameters.
    parameters: Option<u64>,
    /// Bytes of its weights.
    weight_bytes: Option<u64>,
    /// Where its configuration was read.
    source: String,
    /// When.
    date: String,
}

impl From<ModelSummary> for ModelItem {
    fn from(entry: ModelSummary) -> Self {
        let ModelSummary { names, label, base, parameters, weight_bytes, source, date } = entry;
        let mut names = names.into_iter();
        let name = names.next().unwrap_or_default();
        Self { name, label, aliases: names.collect(), base, parameters, weight_bytes, source, date }
    }
}

impl Item for ModelItem {
    const SCHEMA: &'static str = "kvsize.models/1";

    fn columns(_: Medium) -> Vec<Column<'static, Self>> {
        // The part of a hub id before its slash.
        let publisher = |item: &Self| item.label.split_once('/').map(|(publisher, _)| publisher.to_owned());
        vec![
            Column::left("Name", |item: &Self| item.name.clone()).key("Name"),
            Column::left("Publisher", publisher).key("Publisher"),
        ]
    }

    fn plain(&self) -> String {
        self.name.clone()
    }
}
