//! The bytes of a checkpoint's tensors.

use super::encoding::{Encoding, Holder};
use super::quantizer::Quantizer;
use super::shape::{Kind, Shape};
use crate::model::{DtypeWeights, TensorGroup};
use crate::units::{Bytes, Error, Exact};

/// The dtype of what is not quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlainDtype {
    pub(crate) name: &'static str,
    pub(crate) element_bytes: u64,
}

impl PlainDtype {
    /// The dtype that a configuration names; bf16 where it names none.
    pub(crate) fn new(name: Option<&str>) -> Self {
        let (name, element_bytes) = match name.map(|name| name.strip_prefix("torch.").unwrap_or(name)) {
            Some("float16" | "half") => ("F16", 2),
            Some("float32" | "float") => ("F32", 4),
            _ => ("BF16", 2),
        };
        Self { name, element_bytes }
    }
}

/// The tensors of a checkpoint, each with how it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckpointTensors {
    pub(crate) dtype: PlainDtype,
    /// All but MTP layers.
    pub(crate) shapes: Vec<Shape>,
    /// Those of MTP layers.
    pub(crate) mtp: Vec<Shape>,
}

impl CheckpointTensors {
    /// The same, stored as a quantizer does.
    pub(crate) fn quantized(&self, quantizer: &Quantizer) -> Self {
        Self { dtype: self.dtype, shapes: quantizer.applied(&self.shapes), mtp: quantizer.applied_to_mtp(&self.mtp) }
    }

    /// All bytes.
    ///
    /// # Errors
    /// More than 2^64 - 1.
    pub(crate) fn bytes(&self, holder: Holder) -> Result<Bytes, Error> {
        self.shapes.iter().map(|shape| self.all_bytes(shape, holder)).sum::<Exact>().bytes()
    }

    /// Bytes of MTP layers, which are not among the others.
    ///
    /// # Errors
    /// More than 2^64 - 1.
    pub(crate) fn mtp_bytes(&self) -> Result<Bytes, Error> {
        self.mtp.iter().map(|shape| self.all_bytes(shape, Holder::Files)).sum::<Exact>().bytes()
    }

    /// Parameters of all.
    pub(crate) fn parameters(&self) -> Exact {
        self.shapes.iter().map(Shape::parameters).sum()
    }

    /// Parameters of experts that tokens are sent to.
    pub(crate) fn routed(&self) -> Exact {
        self.shapes.iter().filter(|shape| shape.is_routed()).map(Shape::parameters).sum()
    }

    fn all_bytes(&self, shape: &Shape, holder: Holder) -> Exact {
        self.bytes_of_one(shape, holder) * shape.tensors()
    }

    /// The bytes of one tensor, all its matrices together.
    fn bytes_of_one(&self, shape: &Shape, holder: Holder) -> Exact {
        let Some(encoding) = shape.encoding else { return self.plain(shape.rows(), shape) };
        let matrices = Exact::from(shape.matrices.max(1));
        encoding.bytes(shape.rows() / matrices, shape.columns, holder) * matrices
    }

    fn plain(&self, rows: Exact, shape: &Shape) -> Exact {
        rows * shape.columns * self.dtype.element_bytes
    }

    /// The tensors as engines hold and join them.
    ///
    /// # Errors
    /// More than 2^64 - 1 bytes.
    pub(crate) fn groups(&self) -> Result<Vec<TensorGroup>, Error> {
        let mut groups: Vec<TensorGroup> = Vec::with_capacity(self.shapes.len());
        let mut last: Option<&Shape> = None;
        for shape in &self.shapes {
            let group = self.group(shape)?;
            let joined = last.is_some_and(|last| last.is_joined_with(shape));
            match groups.last_mut().filter(|_| joined) {
                Some(whole) => whole.add(&group)?,
                None => groups.push(group),
            }
            last = Some(shape);
        }
        Ok(groups)
    }

    fn group(&self, shape: &Shape) -> Result<TensorGroup, Error> {
        let [divided, by_kv_heads, whole] = self.parts(shape);
        Ok(TensorGroup {
            place: shape.place.clone(),
            count: shape.count,
            divided: divided.get()?,
            by_kv_heads: by_kv_heads.get()?,
            num_key_value_heads: shape.num_key_value_heads,
            whole: whole.get()?,
            packed: shape.kind == Kind::Expert && shape.encoding == Some(Encoding::Mxfp4),
        })
    }

    /// The bytes of the three parts of a tensor. Of one that is quantized as a whole each part has its share, and what does
    /// not divide every rank has.
    fn parts(&self, shape: &Shape) -> [Exact; 3] {
        let rows = [shape.divided, shape.by_kv_heads, shape.whole];
        if shape.encoding.is_none() {
            return rows.map(|rows| self.plain(rows.into(), shape));
        }
        let bytes = self.bytes_of_one(shape, Holder::Engine);
        if rows.iter().filter(|&&rows| rows > 0).count() <= 1 {
            return rows.map(|rows| if rows > 0 { bytes } else { Exact::ZERO });
        }
        let of_rows = |rows: u64| bytes * rows / shape.rows();
        let (divided, by_kv_heads) = (of_rows(shape.divided), of_rows(shape.by_kv_heads));
        [divided, by_kv_heads, bytes - divided - by_kv_heads]
    }

    /// All tensors as engines hold them by element type: those that are not quantized, then those that are.
    ///
    /// # Errors
    /// More than 2^64 - 1 bytes.
    pub(crate) fn by_dtype(&self) -> Result<Vec<DtypeWeights>, Error> {
        let mut shares = Vec::new();
        let plain = self.shapes.iter().filter(|shape| shape.encoding.is_none());
        for shape in plain.chain(self.shapes.iter().filter(|shape| shape.encoding.is_some())) {
            let share = DtypeWeights {
                dtype: shape.encoding.map_or(self.dtype.name, Encoding::dtype).into(),
                tensors: None,
                parameters: shape.parameters().get()?,
                bytes: Some(self.all_bytes(shape, Holder::Engine).bytes()?),
            };
            share.add_to(&mut shares)?;
        }
        Ok(shares)
    }

    /// Elements as a listing counts them that has `counted` of what each matrix is stored as; those of MTP layers apart.
    #[cfg(test)]
    pub(crate) fn elements(&self, counted: impl Fn(&[super::encoding::Stored]) -> Exact) -> [u64; 2] {
        let of_shape = |shape: &Shape| match shape.encoding {
            None => shape.parameters(),
            Some(encoding) => {
                let stored = encoding.stored(shape.rows() / shape.matrices, shape.columns, Holder::Files);
                counted(&stored) * shape.matrices * shape.tensors()
            }
        };
        [&self.shapes, &self.mtp].map(|shapes| shapes.iter().map(of_shape).sum::<Exact>().get().unwrap())
    }
}
