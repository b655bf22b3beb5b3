//! The models of the catalogue.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Item, entry};
use crate::catalogue::ModelSummary;
use crate::estimate::{Workload, estimate};
use crate::model::{FileType, Model};
use crate::report::estimates::layers_in_words;
use crate::report::text::in_unit;
use crate::report::{BytesPerTokenValue, Cell, Column, Medium, ModelDescription, Page};
use crate::units::{ByteUnit, Tokens, fixed_point, group_thousands};

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
    /// The longest sequence it was made for.
    model_max_seq_len: Option<u64>,
    /// Live bytes of one more token, at that length, in its 16-bit format.
    bytes_per_token: Option<BytesPerTokenValue>,
    /// Live bytes of one sequence of that length.
    bytes_at_model_max_seq_len: Option<u64>,
    /// Bytes of its weights, as its checkpoint stores them.
    weights_bytes: Option<u64>,
    /// The same in other formats, where its tensors are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    weights: Vec<InFormat>,
    /// Its layers, in words.
    layers: Option<String>,
    /// Where its configuration was read.
    source: String,
    /// When.
    date: String,
}

/// Weights in a format.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InFormat {
    /// The format, as `--weights-dtype` takes it.
    weights_dtype: &'static str,
    /// Their bytes.
    bytes: u64,
}

/// File types whose weights are shown with a model.
const FILE_TYPES: [&str; 3] = ["Q8_0", "Q6_K", "Q4_K_M"];

impl ModelItem {
    /// The row of an entry, and of its model where that is known.
    pub fn new(entry: ModelSummary, model: Option<&Model>) -> Self {
        let ModelSummary { names, label, base, parameters, weight_bytes, source, date } = entry;
        let mut names = names.into_iter();
        let name = names.next().unwrap_or_default();
        let longest = model.and_then(|model| {
            let seq_len = model.max_position_embeddings.unwrap_or(USUAL_LENGTH);
            estimate(model, &Workload { kv_dtype: model.dtype.into(), ..Workload::of(seq_len, 1) }).ok()
        });
        let own = model.and_then(|model| model.weights.as_ref());
        let file_types = model.and_then(|model| model.gguf_tensors.as_ref()?.as_ref().ok()).into_iter();
        let weights = file_types.flat_map(|tensors| {
            FILE_TYPES.iter().filter_map(|name| {
                let file = name.parse::<FileType>().ok()?.published(tensors).file(tensors).ok()?;
                Some(InFormat { weights_dtype: name, bytes: file.weights.bytes?.0 })
            })
        });
        Self {
            name,
            label,
            aliases: names.collect(),
            base,
            parameters: parameters.or_else(|| own?.parameters),
            model_max_seq_len: model.and_then(|model| model.max_position_embeddings).map(|tokens| tokens.0),
            bytes_per_token: longest.as_ref().map(|longest| longest.bytes_per_token.into()),
            bytes_at_model_max_seq_len: longest.map(|longest| longest.bytes.0),
            weights_bytes: weight_bytes.or_else(|| Some(own?.bytes?.0)),
            weights: weights.collect(),
            layers: model.map(|model| layers_in_words(&ModelDescription::new(model))),
            source,
            date,
        }
    }

    /// What it is ordered by, smallest first; what is unknown comes last.
    pub fn cache_a_token(&self) -> f64 {
        self.bytes_per_token.map_or(f64::INFINITY, BytesPerTokenValue::as_f64)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The length of a model that has no maximum.
const USUAL_LENGTH: Tokens = Tokens(131_072);

impl Item for ModelItem {
    const SCHEMA: &'static str = "kvsize.models/1";

    fn columns(_: Medium) -> Vec<Column<'static, Self>> {
        // The part of a hub id before its slash.
        let publisher = |item: &Self| item.label.split_once('/').map(|(publisher, _)| publisher.to_owned());
        vec![
            Column::left("Name", |item: &Self| item.name.clone()).key("name"),
            Column::left("Publisher", publisher).until(1).key("publisher"),
            Column::csv("model", |item: &Self| item.label.clone()),
            Column::right("Params", |item: &Self| {
                let billions = item.parameters.map(|all| Cell::Both(in_billions(all), all.to_string()));
                billions.unwrap_or(Cell::Missing("-"))
            })
            .key("parameters"),
            Column::right("Context", |item: &Self| Cell::or(item.model_max_seq_len, "-")).key("model_max_seq_len"),
            Column::right("bytes/token", |item: &Self| {
                item.bytes_per_token.map_or(Cell::Missing("-"), |slope| Cell::Both(slope.grouped(), slope.to_string()))
            })
            .key("bytes_per_token"),
            Column::right("Weights GB", |item: &Self| {
                let gigabytes = |bytes: u64| fixed_point(bytes.into(), 1_000_000_000, 1);
                let both = item.weights_bytes.map(|bytes| Cell::Both(gigabytes(bytes), bytes.to_string()));
                both.unwrap_or(Cell::Missing("-"))
            })
            .key("weights_bytes"),
        ]
    }

    fn plain(&self) -> String {
        self.name.clone()
    }

    /// One model has a page.
    fn entries(items: &[Self], _: ByteUnit) -> Page {
        let [item] = items else { return Vec::new() };
        let amount = |bytes: u64| in_unit(bytes, ByteUnit::Gigabytes);
        let known = |number: Option<u64>| number.map(group_thousands).unwrap_or_default();
        let cache = item.bytes_at_model_max_seq_len.zip(item.model_max_seq_len).map(|(bytes, tokens)| {
            format!("{} at {} tokens, live bytes in 16 bits", amount(bytes), group_thousands(tokens))
        });
        let about = [
            ("also", item.aliases.join(", ")),
            ("copy of", item.base.clone().unwrap_or_default()),
            ("parameters", known(item.parameters)),
            ("context", known(item.model_max_seq_len)),
            ("layers", item.layers.clone().unwrap_or_default()),
            (
                "cache a token",
                item.bytes_per_token.map(|slope| format!("{} bytes", slope.grouped())).unwrap_or_default(),
            ),
            ("cache", cache.unwrap_or_default()),
            ("weights", item.weights_bytes.map(amount).unwrap_or_default()),
            ("source", format!("{}, {}", item.source, item.date)),
        ];
        let formats = item.weights.iter().map(|format| (format.weights_dtype.to_owned(), amount(format.bytes)));
        entry(&item.label, about, "weights in other formats", formats).into()
    }
}

/// `8.0B`, `405B`
fn in_billions(parameters: u64) -> String {
    const BILLION: u64 = 1_000_000_000;
    let places = u32::from(parameters < 100 * BILLION);
    format!("{}B", fixed_point(parameters.into(), BILLION.into(), places))
}
