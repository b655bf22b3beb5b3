//! The walk over the tensors of a file that gives each its type.

use std::collections::BTreeMap;
use std::fmt;

use super::file_type::{FileType, Imatrix};
use super::table::{Category, Condition, Grouped, INTEGERS, KEPT, KEPT_16_BIT, SEVENTY_BILLION, Steps};
use super::tensor_type::TensorType;
use super::{GgufTensor, GgufTensors, TOKEN_EMBEDDING};
use crate::units::{Code, Error, Exact};

/// A tensor of a layer, with the type that a file type gives it.
#[derive(Debug, Clone, Copy)]
pub struct Typed<'a> {
    /// The tensor.
    pub tensor: &'a GgufTensor,
    /// Its layer; `None` outside of layers.
    pub layer: Option<u32>,
    /// Its type.
    pub tensor_type: TensorType,
    /// Why it has that.
    pub reason: Reason,
}

/// Why a tensor has its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No file type changes it.
    Kept,
    /// The file type's own.
    Default,
    /// The embedding has a type of its own.
    Embedding,
    /// The output, or an embedding that is the output as well.
    Output,
    /// A rule for the tensor, by what holds for it.
    Rule(Condition),
    /// Raised after that: V of a 70B model, K and V with 8 experts.
    Raised,
    /// Experts alone have the file type's own.
    NotAnExpert,
    /// Its rows do not divide into blocks of the type that it would have.
    Fallback(TensorType),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => f.write_str("not quantized"),
            Self::Default => f.write_str("the file type's own"),
            Self::Embedding => f.write_str("embedding"),
            Self::Output => f.write_str("output, or an embedding that is the output"),
            Self::Rule(condition) => condition.fmt(f),
            Self::Raised => f.write_str("raised: V of a 70B, K and V with 8 experts"),
            Self::NotAnExpert => f.write_str("not an expert"),
            Self::Fallback(wanted) => write!(f, "rows do not divide into blocks of {}", wanted.name()),
        }
    }
}

impl Typed<'_> {
    /// Its bytes.
    pub fn bytes(&self) -> Exact {
        self.tensor_type.bytes(self.tensor.elements.into())
    }
}

/// How far the walk is: the tensors seen of each category.
#[derive(Debug, Default)]
struct Counters(BTreeMap<Category, u64>);

impl Counters {
    /// The ordinal of the next one.
    fn next(&mut self, category: Category) -> u64 {
        let count = self.0.entry(category).or_default();
        let ordinal = *count;
        *count = count.saturating_add(1);
        ordinal
    }
}

/// Where a tensor stands among those of its category.
#[derive(Debug, Clone, Copy)]
struct Position {
    ordinal: u64,
    /// What stands for the layer: the ordinal, or with experts the number of the layer.
    layer: u64,
    /// How many there are, as llama.cpp counts them.
    count: u64,
}

struct Walk<'a> {
    file_type: FileType,
    tensors: &'a GgufTensors,
    is_seventy_billion: bool,
    /// Tensors that are taken as V, fused ones included.
    values: u64,
}

impl FileType {
    /// The type of each tensor, by layer and name as llama.cpp walks them.
    ///
    /// # Errors
    /// [`Code::Refused`]: the file type has no type for rows of some width.
    pub fn types(self, tensors: &GgufTensors) -> Result<Vec<Typed<'_>>, Error> {
        let mut all: Vec<(Option<u32>, &GgufTensor)> = Vec::new();
        for tensor in &tensors.tensors {
            match &tensor.layers {
                None => all.push((None, tensor)),
                Some(layers) => all.extend(layers.iter().map(|&layer| (Some(layer), tensor))),
            }
        }
        all.sort_by(|(a, one), (b, other)| (a, &one.name).cmp(&(b, &other.name)));
        let is_value = |tensor: &GgufTensor| {
            tensor.kept().is_none() && matches!(Category::from_name(&tensor.name), Category::V | Category::FusedQkv)
        };
        let values = all.iter().filter(|(_, tensor)| is_value(tensor)).map(|_| 1u64).sum();
        let walk = Walk { file_type: self, tensors, is_seventy_billion: tensors.is_seventy_billion(), values };
        let mut counters = Counters::default();
        let typed = |(layer, tensor)| {
            let (tensor_type, reason) = walk.tensor_type(layer, tensor, &mut counters)?;
            Ok(Typed { tensor, layer, tensor_type, reason })
        };
        all.into_iter().map(typed).collect()
    }
}

impl GgufTensors {
    fn is_seventy_billion(&self) -> bool {
        SEVENTY_BILLION.iter().any(|&(architecture, layers, grouped)| {
            self.architecture == architecture && self.layers == layers && (grouped == Grouped::Any || self.gqa > 1)
        })
    }
}

impl GgufTensor {
    /// The type that it keeps whatever the file type is; `None` for a matrix that is quantised.
    fn kept(&self) -> Option<TensorType> {
        if self.columns <= 1 || KEPT.iter().any(|part| self.name.contains(part)) {
            return Some(TensorType::F32);
        }
        if self.name == INTEGERS {
            return Some(TensorType::I32);
        }
        KEPT_16_BIT.iter().any(|part| self.name.contains(part)).then_some(TensorType::Bf16)
    }
}

impl Walk<'_> {
    fn tensor_type(
        &self,
        layer: Option<u32>,
        tensor: &GgufTensor,
        counters: &mut Counters,
    ) -> Result<(TensorType, Reason), Error> {
        let row = self.file_type.row;
        if let Some(kept) = tensor.kept() {
            return Ok((kept, Reason::Kept));
        }
        let category = Category::from_name(&tensor.name);
        if row.steps == Steps::Unquantized {
            return Ok((row.default, Reason::Default));
        }
        let category = self.effective(category);
        let ordinal = counters.next(category);
        let (wanted, reason) = match category {
            Category::Output => (self.output(tensor), Reason::Output),
            Category::Embedding if self.is_output(tensor) => (self.output(tensor), Reason::Output),
            Category::Embedding if row.embedding == row.default => (row.default, Reason::Default),
            Category::Embedding => (row.embedding, Reason::Embedding),
            _ if row.steps == Steps::Experts => {
                if tensor.is_stacked {
                    (row.default, Reason::Default)
                } else {
                    (TensorType::Q8_0, Reason::NotAnExpert)
                }
            }
            _ => self.by_rows(category, self.position(category, layer, ordinal)),
        };
        let fallback = wanted.or_fallback(tensor.columns);
        let with_reason = |found: TensorType| {
            let reason = if found == wanted { reason } else { Reason::Fallback(wanted) };
            (self.older_fallback(wanted, found), reason)
        };
        fallback.map(with_reason).ok_or_else(|| {
            let problem = format!("has rows of {} elements, for which {} has no type", tensor.columns, row.name);
            Error::new(Code::Refused, "--weights-dtype", tensor.name.clone(), problem, "give another file type")
        })
    }

    /// The category that the release of llama-quantize has.
    fn effective(&self, category: Category) -> Category {
        let is_value = category == Category::FusedQkv && !self.file_type.release.is_older();
        if is_value { Category::V } else { category }
    }

    /// Whether an embedding is the output as well.
    fn is_output(&self, tensor: &GgufTensor) -> bool {
        self.tensors.is_tied() && (!self.file_type.release.is_older() || tensor.name == TOKEN_EMBEDDING)
    }

    fn output(&self, tensor: &GgufTensor) -> TensorType {
        let row = self.file_type.row;
        let is_q8 = row.steps != Steps::Experts && (self.is_falcon() || !row.default.divides(tensor.columns));
        if is_q8 { TensorType::Q8_0 } else { row.output }
    }

    fn by_rows(&self, category: Category, position: Position) -> (TensorType, Reason) {
        let row = self.file_type.row;
        let found = row.rows.iter().find(|(of, condition, _)| *of == category && self.holds(*condition, position));
        let (wanted, reason) =
            found.map_or((row.default, Reason::Default), |(_, condition, wanted)| (*wanted, Reason::Rule(*condition)));
        match (row.steps, category) {
            (Steps::Raised, Category::V | Category::K) if self.tensors.experts == 8 => {
                (TensorType::Q8_0, Reason::Raised)
            }
            (Steps::Raised, Category::V)
                if self.is_seventy_billion && matches!(wanted, TensorType::Q3K | TensorType::Q4K) =>
            {
                (TensorType::Q5K, Reason::Raised)
            }
            _ => (wanted, reason),
        }
    }

    fn position(&self, category: Category, layer: Option<u32>, ordinal: u64) -> Position {
        if category == Category::V {
            return Position { ordinal, layer: ordinal, count: self.values };
        }
        let by_name = layer.filter(|_| self.tensors.experts > 1);
        Position { ordinal, layer: by_name.map_or(ordinal, u64::from), count: self.tensors.layers.into() }
    }

    fn holds(&self, condition: Condition, position: Position) -> bool {
        let Position { ordinal, layer, count } = position;
        let (first, last) = (count / 8, count.saturating_mul(7) / 8);
        match condition {
            Condition::Always => true,
            Condition::Gqa4 => self.tensors.gqa >= 4,
            Condition::Gqa4OrExperts4 => self.tensors.gqa >= 4 || self.tensors.experts >= 4,
            Condition::Experts8 => self.tensors.experts == 8,
            Condition::More => layer < first || layer >= last || layer.saturating_sub(first) % 3 == 2,
            Condition::Eighth => layer < first,
            Condition::OrdinalEighth => ordinal < first,
            Condition::Sixteenth => layer < count / 16,
            Condition::Middle => (first..last).contains(&layer),
            Condition::FirstTensors(tensors) => ordinal < tensors,
            Condition::Imatrix => self.file_type.imatrix == Imatrix::Given,
            Condition::Falcon => self.is_falcon(),
            Condition::Not(condition) => !self.holds(*condition, position),
            Condition::All(conditions) => conditions.iter().all(|condition| self.holds(*condition, position)),
        }
    }

    fn is_falcon(&self) -> bool {
        self.tensors.architecture == "falcon"
    }

    /// The older rule falls back from 2 and 3 bits to another type of the same bytes.
    fn older_fallback(&self, wanted: TensorType, found: TensorType) -> TensorType {
        let is_older = self.file_type.release.is_older();
        match (wanted, found) {
            (TensorType::Q2K | TensorType::Q3K, TensorType::Q4_0) if is_older => TensorType::Iq4Nl,
            _ => found,
        }
    }
}
