//! Tensors of known shapes, in the formats of a checkpoint.

use serde_json::{Map, Value};

use super::scheme::{Kind, Scheme};
use crate::model::{DtypeWeights, Place, TensorGroup};
use crate::source::hf_config::declared_quantization;
use crate::units::{Error, Exact};

/// Tensors of one shape.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) place: Place,
    pub(super) kind: Kind,
    /// How many there are, in each layer if they are on layers.
    pub(super) count: u64,
    /// Rows that ranks divide, rows that they divide by KV heads, and rows that each rank has.
    pub(super) divided: u64,
    pub(super) by_kv_heads: u64,
    pub(super) whole: u64,
    pub(super) columns: u64,
    pub(super) num_key_value_heads: u64,
    /// The name of the matrix in a GGUF file; `None` for a vector.
    pub(super) gguf: Option<String>,
    /// What engines join it into.
    pub(super) join: Option<String>,
    /// Columns in a GGUF file where they differ, else 0.
    pub(super) gguf_columns: u64,
    pub(super) stacked: bool,
}

impl Shape {
    /// One vector without elements, to be filled in.
    pub(super) fn vector(place: Place) -> Self {
        Self {
            place,
            kind: Kind::Other,
            count: 1,
            divided: 0,
            by_kv_heads: 0,
            whole: 0,
            columns: 1,
            num_key_value_heads: 1,
            gguf: None,
            join: None,
            gguf_columns: 0,
            stacked: false,
        }
    }

    /// How many there are in the model.
    fn tensors(&self) -> Exact {
        let places = match &self.place {
            Place::Layers(layers) => layers.len(),
            Place::Embedding | Place::Head | Place::Beside => 1,
        };
        Exact::from(places) * self.count
    }

    /// The rows of one.
    pub(super) fn rows(&self) -> Exact {
        Exact::from(self.divided) + self.by_kv_heads + self.whole
    }

    /// The parameters of all of them.
    pub(super) fn parameters(&self) -> Exact {
        self.rows() * self.columns * self.tensors()
    }

    /// Whether engines hold both in one tensor.
    fn is_joined_with(&self, other: &Self) -> bool {
        (&self.join, &self.place, self.count) == (&other.join, &other.place, other.count)
    }

    /// Whether a token passes through some of them only: those of its experts.
    pub(super) fn is_routed(&self) -> bool {
        matches!(self.kind, Kind::Expert | Kind::ExpertBias)
    }
}

/// The formats of a checkpoint.
pub(super) struct Format {
    dtype: &'static str,
    element_bytes: u64,
    /// Of the tensors that are quantized, if all their bytes follow from the configuration.
    scheme: Option<Scheme>,
}

impl Format {
    /// Those of a configuration, `root`, whose text model is `text`, of class `model_type`.
    pub(super) fn new(text: &Map<String, Value>, root: &Map<String, Value>, model_type: &str) -> Self {
        let dtype = [text, root]
            .iter()
            .find_map(|keys| ["torch_dtype", "dtype"].iter().find_map(|key| keys.get(*key)?.as_str()));
        let (dtype, element_bytes) = match dtype.map(|name| name.strip_prefix("torch.").unwrap_or(name)) {
            Some("float16" | "half") => ("F16", 2),
            Some("float32" | "float") => ("F32", 4),
            _ => ("BF16", 2),
        };
        let scheme = declared_quantization(root, text).and_then(|declared| Scheme::new(declared, model_type));
        Self { dtype, element_bytes, scheme }
    }

    fn scheme(&self, kind: Kind) -> Option<Scheme> {
        self.scheme.filter(|scheme| scheme.quantizes(kind))
    }

    fn bytes(&self, shape: &Shape, rows: u64) -> Exact {
        match self.scheme(shape.kind) {
            Some(scheme) => scheme.bytes(rows, shape.columns),
            None => Exact::from(rows) * shape.columns * self.element_bytes,
        }
    }

    /// The tensors as engines join them.
    pub(super) fn groups(&self, shapes: &[Shape]) -> Result<Vec<TensorGroup>, Error> {
        let mut groups: Vec<TensorGroup> = Vec::with_capacity(shapes.len());
        let mut last: Option<&Shape> = None;
        for shape in shapes {
            let group = self.group(shape)?;
            let joined = last.is_some_and(|last| last.join.is_some() && last.is_joined_with(shape));
            match groups.last_mut().filter(|_| joined) {
                Some(whole) => whole.add(&group)?,
                None => groups.push(group),
            }
            last = Some(shape);
        }
        Ok(groups)
    }

    fn group(&self, shape: &Shape) -> Result<TensorGroup, Error> {
        Ok(TensorGroup {
            place: shape.place.clone(),
            count: shape.count,
            divided: self.bytes(shape, shape.divided).get()?,
            by_kv_heads: self.bytes(shape, shape.by_kv_heads).get()?,
            num_key_value_heads: shape.num_key_value_heads,
            whole: self.bytes(shape, shape.whole).get()?,
            packed: shape.kind == Kind::Expert && self.scheme == Some(Scheme::Mxfp4),
        })
    }

    /// All tensors by element type: those that are not quantized, then those that are.
    pub(super) fn by_dtype(&self, shapes: &[Shape]) -> Result<Vec<DtypeWeights>, Error> {
        let share = |dtype: &str, scheme: Option<Scheme>| {
            let belong = || shapes.iter().filter(|shape| self.scheme(shape.kind) == scheme);
            let bytes = |shape: &Shape| {
                let rows = [shape.divided, shape.by_kv_heads, shape.whole];
                rows.into_iter().map(|rows| self.bytes(shape, rows)).sum::<Exact>() * shape.tensors()
            };
            Ok(DtypeWeights {
                dtype: dtype.into(),
                tensors: None,
                parameters: belong().map(Shape::parameters).sum::<Exact>().get()?,
                bytes: Some(belong().map(bytes).sum::<Exact>().bytes()?),
            })
        };
        let quantized = self.scheme.map(|scheme| share(scheme.dtype(), Some(scheme)));
        std::iter::once(share(self.dtype, None)).chain(quantized).collect()
    }
}
