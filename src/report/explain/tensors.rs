//! Which tensors of a GGUF file have which type, and why.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use crate::model::{Reason, TensorType, Typed};
use crate::report::column::{Cell, Column, grid};
use crate::report::grid::{Block, Grid};
use crate::report::text::ranges;
use crate::units::{ByteUnit, Error, Exact};

/// Tensors of one name that have the same type for the same reason.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct ExplainedTensors {
    /// Their name, without the layer; absent for vectors, which have many.
    pub name: Option<String>,
    /// The layers, as ranges; absent outside of layers.
    pub layers: Option<String>,
    /// Their type.
    pub dtype: &'static str,
    /// Why they have it.
    pub reason: String,
    /// How many.
    pub tensors: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl ExplainedTensors {
    /// The tensors of a file, those alike in one row.
    ///
    /// # Errors
    /// Integers that end.
    pub fn of_file(types: &[Typed]) -> Result<Vec<Self>, Error> {
        type Key<'a> = (&'a str, TensorType, Reason);
        let mut alike: BTreeMap<Key<'_>, (Vec<u32>, u64, Exact)> = BTreeMap::new();
        for typed in types {
            let key = (&*typed.tensor.name, typed.tensor_type, typed.reason);
            let (layers, tensors, bytes) = alike.entry(key).or_insert((Vec::new(), 0, Exact::ZERO));
            layers.extend(typed.layer);
            *tensors = tensors.saturating_add(1);
            *bytes = *bytes + typed.bytes();
        }
        let row = |((name, tensor_type, reason), (mut layers, tensors, bytes)): (Key<'_>, (Vec<u32>, u64, Exact))| {
            layers.sort_unstable();
            layers.dedup();
            Ok(Self {
                name: Some(name.to_owned()).filter(|name| !name.is_empty()),
                layers: Some(ranges(layers)).filter(|layers| !layers.is_empty()),
                dtype: tensor_type.name(),
                reason: reason.to_string(),
                tensors,
                bytes: bytes.get()?,
            })
        };
        alike.into_iter().map(row).collect()
    }
}

/// The rows as a table; the layers go where it is too wide.
pub(super) fn table(rows: &[ExplainedTensors]) -> Block {
    let columns = [
        Column::left("Tensors", |row: &ExplainedTensors| row.name.clone().unwrap_or_else(|| "vectors".into())),
        Column::right("Count", |row: &ExplainedTensors| row.tensors),
        Column::left("Type", |row: &ExplainedTensors| row.dtype),
        Column::right("Bytes", |row: &ExplainedTensors| Cell::Count(row.bytes)),
        Column::left("Why", |row: &ExplainedTensors| row.reason.clone()),
        Column::left("Layers", |row: &ExplainedTensors| row.layers.clone()).until(1),
    ];
    let grid: Grid = grid(rows, columns, ByteUnit::Bytes);
    Block::Grid(grid)
}
