//! What models weigh.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Block, Item, Page, entry};
use crate::model::{CheckpointFormat, GgufFileWeights, Origin, Weights};
use crate::report::text::in_unit;
use crate::report::{Cell, Column, Medium, WeightsDescription, clean};
use crate::units::{ByteUnit, Bytes, group_thousands};

/// A row of `kvsize.weights/1`.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct WeightsItem {
    /// The model's name.
    pub name: String,
    /// Where it was read from.
    #[schemars(extend("enum" = ["spec", "config", "gguf", "catalogue"]))]
    source: &'static str,
    /// Its `model_type`.
    model_type: Option<String>,
    /// Its weights.
    #[serde(flatten)]
    pub weights: WeightsDescription,
    /// What is known of them in a format that was asked for.
    #[serde(flatten)]
    file: Option<FileDescription>,
    /// How they are known, in words.
    #[serde(skip)]
    from: &'static str,
}

/// Weights in a format that was asked for.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
struct FileDescription {
    /// The format.
    weights_dtype: String,
    /// All bytes, as the tool of the format makes the files.
    weights_bytes: u64,
    /// About the bytes of its header, by the vocabulary, which are not among them.
    header_bytes: Option<u64>,
    /// Those that GPUs hold with all layers of a GGUF file on them.
    device_bytes: Option<u64>,
    /// Those that stay on the host.
    host_bytes: Option<u64>,
}

impl WeightsItem {
    /// The row of the weights of a model that was read from `origin`.
    pub fn new(name: &str, origin: Origin, model_type: Option<&str>, weights: &Weights) -> Self {
        Self {
            name: clean(name),
            source: origin.name(),
            model_type: model_type.map(clean),
            weights: weights.into(),
            file: None,
            from: weights.origin.words(),
        }
    }

    /// The row of its weights in a GGUF file.
    pub fn in_file(name: &str, origin: Origin, model_type: Option<&str>, file: &GgufFileWeights) -> Self {
        let description = FileDescription {
            weights_dtype: file.file_type.name().into(),
            weights_bytes: file.weights.bytes.map_or(0, |bytes| bytes.0),
            header_bytes: file.header.map(|bytes| bytes.0),
            device_bytes: Some(file.device.0),
            host_bytes: Some(file.host.0),
        };
        Self { file: Some(description), ..Self::new(name, origin, model_type, &file.weights) }
    }

    /// The row of its weights in a format of checkpoints.
    pub fn in_checkpoint(
        name: &str,
        origin: Origin,
        model_type: Option<&str>,
        format: CheckpointFormat,
        weights: &Weights,
    ) -> Self {
        let description = FileDescription {
            weights_dtype: format.to_string(),
            weights_bytes: weights.stored.or(weights.bytes).map_or(0, |bytes| bytes.0),
            header_bytes: None,
            device_bytes: None,
            host_bytes: None,
        };
        Self {
            file: Some(description),
            from: "computed from the config and the layout of the format",
            ..Self::new(name, origin, model_type, weights)
        }
    }
}

impl Item for WeightsItem {
    const SCHEMA: &'static str = "kvsize.weights/1";

    fn columns(_: Medium) -> Vec<Column<'static, Self>> {
        let exact = |count: Option<u64>| count.map(|count| Cell::Text(count.to_string()));
        vec![
            Column::left("Model", |item: &Self| item.name.clone()).key("Model"),
            Column::right("Bytes", move |item: &Self| exact(item.weights.bytes)).key("Bytes"),
            Column::right("Parameters", move |item: &Self| exact(item.weights.parameters)).key("Parameters"),
            Column::right("Active", move |item: &Self| exact(item.weights.active_parameters)).key("Active"),
            Column::left("Origin", |item: &Self| item.weights.origin).key("Origin"),
        ]
    }

    /// The bytes, then the name.
    fn plain(&self) -> String {
        let bytes = self.weights.bytes.map_or_else(|| "unknown".into(), |bytes| bytes.to_string());
        format!("{bytes} {}", self.name)
    }

    fn entries(items: &[Self], unit: ByteUnit) -> Page {
        items.iter().flat_map(|item| item.entry(unit)).collect()
    }

    fn largest(items: &[Self]) -> Bytes {
        Bytes(items.iter().filter_map(|item| item.weights.bytes).max().unwrap_or_default())
    }
}

impl WeightsItem {
    fn entry(&self, unit: ByteUnit) -> [Block; 2] {
        let WeightsDescription { bytes, parameters, active_parameters, by_dtype, notes, .. } = &self.weights;
        let amount = |bytes: u64| format!("{} ({} bytes)", in_unit(bytes, unit), group_thousands(bytes));
        let mut about = vec![
            ("weights", bytes.map_or_else(|| "not known".into(), amount)),
            ("parameters", parameters.map_or_else(|| "not known".into(), group_thousands)),
        ];
        about.extend(active_parameters.map(|active| ("active", group_thousands(active))));
        about.extend(self.weights.stored_bytes.map(|stored| ("in files", amount(stored))));
        let parts = [("of towers", self.weights.tower_parameters), ("MTP layers", self.weights.mtp_parameters)];
        about.extend(parts.into_iter().filter_map(|(name, count)| Some((name, group_thousands(count?)))));
        about.extend(self.weights.mtp_bytes.map(|bytes| ("MTP in files", amount(bytes))));
        if let Some(file) = &self.file {
            let kind = if file.device_bytes.is_some() { "file type" } else { "format" };
            about.insert(0, (kind, file.weights_dtype.clone()));
            about.extend(file.device_bytes.map(|bytes| ("on GPUs", amount(bytes))));
            about.extend(file.host_bytes.map(|bytes| ("on host", amount(bytes))));
            about.extend(
                file.header_bytes.map(|header| ("header", format!("about {} in addition", in_unit(header, unit)))),
            );
        }
        about.push(("from", self.from.into()));
        about.extend(notes.iter().map(|note| ("note", note.clone())));
        let properties = by_dtype.iter().map(|share| {
            let tensors = share.tensors.map(|tensors| format!("{} tensors, ", group_thousands(tensors)));
            let elements = group_thousands(share.parameters);
            let size = share.bytes.map_or_else(|| "bytes not known".into(), amount);
            (share.dtype.clone(), format!("{}{elements} elements, {size}", tensors.unwrap_or_default()))
        });
        entry(&self.name, about, "by element type", properties)
    }
}
