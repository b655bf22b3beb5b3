//! Bytes and parameters of the tensors of a file, by type, from their descriptions alone.

use super::damaged;
use crate::units::{Code, Error, Exact};

/// A type of tensors: its number, name, elements of a block and bytes of one (`ggml/include/ggml.h`,
/// `ggml/src/ggml-common.h` of ggml 0.26.0).
const TYPES: &[(u32, &str, u64, u64)] = &[
    (0, "f32", 1, 4),
    (1, "f16", 1, 2),
    (2, "q4_0", 32, 18),
    (3, "q4_1", 32, 20),
    (6, "q5_0", 32, 22),
    (7, "q5_1", 32, 24),
    (8, "q8_0", 32, 34),
    (9, "q8_1", 32, 36),
    (10, "q2_K", 256, 84),
    (11, "q3_K", 256, 110),
    (12, "q4_K", 256, 144),
    (13, "q5_K", 256, 176),
    (14, "q6_K", 256, 210),
    (15, "q8_K", 256, 292),
    (16, "iq2_xxs", 256, 66),
    (17, "iq2_xs", 256, 74),
    (18, "iq3_xxs", 256, 98),
    (19, "iq1_s", 256, 50),
    (20, "iq4_nl", 32, 18),
    (21, "iq3_s", 256, 110),
    (22, "iq2_s", 256, 82),
    (23, "iq4_xs", 256, 136),
    (24, "i8", 1, 1),
    (25, "i16", 1, 2),
    (26, "i32", 1, 4),
    (27, "i64", 1, 8),
    (28, "f64", 1, 8),
    (29, "iq1_m", 256, 56),
    (30, "bf16", 1, 2),
    (34, "tq1_0", 256, 54),
    (35, "tq2_0", 256, 66),
    (39, "mxfp4", 32, 17),
    (40, "nvfp4", 64, 36),
    (41, "q1_0", 128, 18),
    (42, "q2_0", 64, 18),
];

/// The tensors of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tensors {
    /// How many.
    pub count: u64,
    /// Their elements.
    pub parameters: u64,
    /// Elements in experts that tokens are sent to: of tensors named `…_exps…`.
    pub routed: u64,
    /// Their bytes, by type, in the order of first appearance.
    pub types: Vec<TensorType>,
    /// The names of those of MTP layers.
    pub nextn: Vec<String>,
}

/// The tensors of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorType {
    /// The number of the type.
    pub id: u32,
    /// Its name; none for a type that is not known here.
    pub name: Option<&'static str>,
    /// Tensors of it.
    pub tensors: u64,
    /// Their elements.
    pub parameters: u64,
    /// Their bytes; none for a type that is not known here.
    pub bytes: Option<u64>,
}

impl Tensors {
    /// Adds a tensor of these dimensions, the first of which is that of rows, and gives its bytes, if they are known; the reason
    /// if there can be no such tensor.
    pub(super) fn add(&mut self, name: &str, id: u32, dimensions: &[u64]) -> Result<Option<u64>, String> {
        let exact = |number: Exact| number.get().map_err(|_| "has more than 2^64 - 1 elements or bytes".to_owned());
        let elements = dimensions.iter().fold(Exact::ONE, |product, &dimension| product * dimension);
        let known = TYPES.iter().find(|(known, ..)| *known == id);
        let bytes = match known {
            Some((_, name, block, bytes)) => {
                let row = dimensions.first().copied().unwrap_or(1);
                if !row.is_multiple_of(*block) {
                    return Err(format!("has rows of {row} elements, which blocks of {name} do not divide"));
                }
                Some(exact(elements / *block * *bytes)?)
            }
            None => None,
        };
        let elements = exact(elements)?;
        if !self.types.iter().any(|share| share.id == id) {
            let name = known.map(|(_, name, ..)| *name);
            let bytes = known.map(|_| 0);
            self.types.push(TensorType { id, name, tensors: 0, parameters: 0, bytes });
        }
        let share = self.types.iter_mut().find(|share| share.id == id);
        if let Some(share) = share {
            share.tensors = share.tensors.saturating_add(1);
            share.parameters = exact(Exact::from(share.parameters) + elements)?;
            share.bytes = share.bytes.zip(bytes).map(|(sum, bytes)| exact(Exact::from(sum) + bytes)).transpose()?;
        }
        if name.contains("_exps.") {
            self.routed = exact(Exact::from(self.routed) + elements)?;
        }
        self.count = self.count.saturating_add(1);
        self.parameters = exact(Exact::from(self.parameters) + elements)?;
        Ok(bytes)
    }

    /// Adds the tensors of another part of the same file.
    pub(in crate::source) fn merge(&mut self, other: Self) -> Result<(), Error> {
        let exact = |a: u64, b: u64| (Exact::from(a) + b).get().map_err(|_| too_much());
        self.count = exact(self.count, other.count)?;
        self.parameters = exact(self.parameters, other.parameters)?;
        self.routed = exact(self.routed, other.routed)?;
        for more in other.types {
            match self.types.iter_mut().find(|share| share.id == more.id) {
                None => self.types.push(more),
                Some(share) => {
                    share.tensors = share.tensors.saturating_add(more.tensors);
                    share.parameters = exact(share.parameters, more.parameters)?;
                    share.bytes = share.bytes.zip(more.bytes).map(|(a, b)| exact(a, b)).transpose()?;
                }
            }
        }
        self.nextn.extend(other.nextn);
        Ok(())
    }

    /// All bytes; none if there is a type that is not known here.
    pub fn bytes(&self) -> Option<u64> {
        self.types.iter().try_fold(0u64, |sum, share| sum.checked_add(share.bytes?))
    }
}

pub(super) fn too_much() -> Error {
    damaged(Code::GgufTooMuch, "", "the metadata", "is more than any model has")
}
