//! Bytes and parameters of the tensors of a file, by type, from their descriptions alone.

use super::damaged;
use crate::model::DtypeWeights;
use crate::units::{Bytes, Code, Error, Exact};

/// The types of tensors, a line each: number, name, elements of a block and bytes of one (`ggml/include/ggml.h`,
/// `ggml/src/ggml-common.h` of ggml 0.26.0).
const TYPES: &str = include_str!("types.txt");

/// A type of tensors.
struct TensorType {
    name: &'static str,
    elements_per_block: u64,
    bytes_per_block: u64,
}

impl TensorType {
    /// The type of a number; a test holds that every line is one.
    fn numbered(id: u32) -> Option<Self> {
        TYPES.lines().find_map(|line| {
            let mut words = line.split(' ');
            let number: u32 = words.next()?.parse().ok()?;
            let (name, mut counts) = (words.next()?, words.map_while(|count| count.parse().ok()));
            let (elements_per_block, bytes_per_block) = (counts.next()?, counts.next()?);
            (number == id).then_some(Self { name, elements_per_block, bytes_per_block })
        })
    }
}

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
        let (dtype, bytes) = match TensorType::numbered(id) {
            Some(TensorType { name, elements_per_block, bytes_per_block }) => {
                let row = dimensions.first().copied().unwrap_or(1);
                if !row.is_multiple_of(elements_per_block) {
                    return Err(format!("has rows of {row} elements, which blocks of {name} do not divide"));
                }
                (name.to_owned(), Some((elements / elements_per_block * bytes_per_block).get().map_err(too_many)?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_type_of_its_own() {
        let numbers: Vec<u32> = TYPES.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b));
        for (id, line) in numbers.into_iter().zip(TYPES.lines()) {
            let TensorType { name, elements_per_block, bytes_per_block } = TensorType::numbered(id).unwrap();
            assert_eq!(format!("{id} {name} {elements_per_block} {bytes_per_block}"), line);
            assert!(elements_per_block > 0 && bytes_per_block > 0);
        }
    }
}
