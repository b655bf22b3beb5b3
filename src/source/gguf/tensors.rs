//! Bytes and parameters of the tensors of a file, by type, from their descriptions alone.

use super::damaged;
use crate::model::DtypeWeights;
use crate::units::{Bytes, Code, Error, Exact};

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
    /// The same by type, in the order of first appearance.
    pub types: Vec<DtypeWeights>,
    /// The names of those of MTP layers.
    pub nextn: Vec<String>,
}

impl Tensors {
    /// Adds a tensor of these dimensions, the first of which is that of rows, and gives its bytes, if they are known; the reason
    /// if there can be no such tensor.
    pub(super) fn add(&mut self, name: &str, id: u32, dimensions: &[u64]) -> Result<Option<u64>, String> {
        let too_many = |_| "has more than 2^64 - 1 elements or bytes".to_owned();
        let elements = dimensions.iter().fold(Exact::ONE, |product, &dimension| product * dimension);
        let (dtype, bytes) = match TYPES.iter().find(|(known, ..)| *known == id) {
            Some((_, name, block, bytes)) => {
                let row = dimensions.first().copied().unwrap_or(1);
                if !row.is_multiple_of(*block) {
                    return Err(format!("has rows of {row} elements, which blocks of {name} do not divide"));
                }
                ((*name).to_owned(), Some((elements / *block * *bytes).get().map_err(too_many)?))
            }
            None => (format!("type {id}"), None),
        };
        let elements = elements.get().map_err(too_many)?;
        let routed = if name.contains("_exps.") { elements } else { 0 };
        let share = DtypeWeights { dtype, tensors: Some(1), parameters: elements, bytes: bytes.map(Bytes) };
        let one = Self { count: 1, parameters: elements, routed, types: vec![share], nextn: Vec::new() };
        self.merge(one).map_err(too_many)?;
        Ok(bytes)
    }

    /// Adds other tensors of the same file, or those of another part of it.
    pub(in crate::source) fn merge(&mut self, other: Self) -> Result<(), Error> {
        self.count = (Exact::from(self.count) + other.count).get()?;
        self.parameters = (Exact::from(self.parameters) + other.parameters).get()?;
        self.routed = (Exact::from(self.routed) + other.routed).get()?;
        for share in other.types {
            share.add_to(&mut self.types)?;
        }
        self.nextn.extend(other.nextn);
        Ok(())
    }

    /// All bytes; none if there is a type that is not known here.
    pub fn bytes(&self) -> Option<u64> {
        let bytes: Option<Exact> = self.types.iter().map(|share| share.bytes.map(Exact::from)).sum();
        bytes?.get().ok()
    }
}

pub(in crate::source) fn too_much() -> Error {
    damaged(Code::GgufTooMuch, "", "the metadata", "is more than any model has")
}
