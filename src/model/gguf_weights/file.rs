//! The bytes of a file, and where llama.cpp puts them.

use std::collections::BTreeMap;

use super::walk::Typed;
use super::{FileType, GgufTensors, PER_LAYER_EMBEDDING, TOKEN_EMBEDDING};
use crate::model::{DtypeWeights, Place, TensorGroup, Tensors, Weights, WeightsOrigin};
use crate::units::{Bytes, Error, Exact};

/// The weights of a model in a file of one type.
#[derive(Debug, Clone)]
pub struct GgufFileWeights {
    /// The file type.
    pub file_type: FileType,
    /// All of them, by element type and by place.
    pub weights: Weights,
    /// Embeddings, which stay on the host.
    pub host: Bytes,
    /// What devices hold with all layers on them: all else, and a second copy of an embedding that is the output as well.
    pub device: Bytes,
    /// About how long the header is, by the vocabulary: files are longer by it, and no device holds it.
    pub header: Option<Bytes>,
}

/// Headers by the tokens of the vocabulary: file bytes less tensors of published files, in steps of 10 kB. Of Llama 3 they
/// are 7.8 to 8.3 MB by the metadata, and 0.74 to 0.76 MB of vocabularies of 32 thousand.
const HEADERS: &[(u64, u64, u64)] = &[
    (32_000, 32_768, 750_000),
    (128_256, 128_256, 7_840_000),
    (151_643, 152_064, 5_970_000),
    (200_019, 201_088, 13_010_000),
    (256_000, 256_000, 6_100_000),
    (262_144, 262_208, 6_530_000),
];

/// What is summed up in one group.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Embedding,
    PerLayerEmbedding,
    Layer(u32),
    Rest,
}

impl FileType {
    /// The weights of a model in a file of this type.
    ///
    /// # Errors
    /// As [`FileType::types`].
    pub fn file(self, tensors: &GgufTensors) -> Result<GgufFileWeights, Error> {
        let types = self.types(tensors)?;
        let mut parts: BTreeMap<Part, Exact> = BTreeMap::new();
        let mut by_dtype = Vec::new();
        for typed in &types {
            let sum = parts.entry(Part::from_tensor(typed)).or_insert(Exact::ZERO);
            *sum = *sum + typed.bytes();
            let share = DtypeWeights {
                dtype: typed.tensor_type.name().into(),
                tensors: None,
                parameters: typed.tensor.elements,
                bytes: Some(typed.bytes().bytes()?),
            };
            share.add_to(&mut by_dtype)?;
        }
        let of = |part: &Part| parts.get(part).copied().unwrap_or(Exact::ZERO);
        let bytes: Exact = parts.values().copied().sum();
        let host = of(&Part::Embedding) + of(&Part::PerLayerEmbedding);
        let second = if tensors.is_tied() { of(&Part::Embedding) } else { Exact::ZERO };
        let parameters: Exact = types.iter().map(|typed| typed.tensor.elements).sum();
        let weights = Weights {
            by_dtype,
            bytes: Some(bytes.bytes()?),
            parameters: Some(parameters.get()?),
            tensors: Some(Tensors { groups: groups(&parts)?, tied: tensors.is_tied(), checkpoint: None }),
            notes: self.notes(tensors),
            ..Weights::new(WeightsOrigin::Config)
        };
        let vocabulary = tensors.vocabulary().unwrap_or_default();
        let header = HEADERS.iter().find(|(first, last, _)| (*first..=*last).contains(&vocabulary));
        Ok(GgufFileWeights {
            file_type: self,
            weights,
            host: host.bytes()?,
            device: (bytes - host + second).bytes()?,
            header: header.map(|(.., bytes)| Bytes(*bytes)),
        })
    }

    /// What is assumed, and how published files may differ.
    fn notes(self, tensors: &GgufTensors) -> Vec<String> {
        let matrix = self.assumption().map(|assumption| format!(", {assumption}")).unwrap_or_default();
        let rule = if self.release.is_older() { " up to b8179" } else { "" };
        let mut notes = vec![format!(
            "{self} as llama-quantize{rule} makes it{matrix}; publishers' own recipes (UD-, _L, _XL) differ: a file's header \
             is exact"
        )];
        notes.extend(self.release.note());
        notes.extend(tensors.notes.iter().cloned());
        let experts = tensors.tensors.iter().any(|tensor| tensor.is_stacked);
        if tensors.architecture == GPT_OSS && self.name() != MXFP4_MOE && experts {
            notes.push(format!(
                "published files of gpt-oss keep their experts in MXFP4 whatever their names say: {MXFP4_MOE} has their bytes"
            ));
        }
        notes
    }

    /// The type that files of this name have of a model: the publishers of gpt-oss keep its experts in MXFP4.
    #[must_use]
    pub fn published(self, tensors: &GgufTensors) -> Self {
        let mxfp4 = Self::all().find(|file_type| file_type.name() == MXFP4_MOE);
        mxfp4.filter(|_| tensors.architecture == GPT_OSS).map_or(self, |mxfp4| mxfp4.with_release(self.release))
    }
}

const GPT_OSS: &str = "gpt-oss";
const MXFP4_MOE: &str = "MXFP4_MOE";

impl Part {
    fn from_tensor(typed: &Typed<'_>) -> Self {
        match (typed.layer, typed.tensor.name.as_str()) {
            (Some(layer), _) => Self::Layer(layer),
            (None, TOKEN_EMBEDDING) => Self::Embedding,
            (None, PER_LAYER_EMBEDDING) => Self::PerLayerEmbedding,
            (None, _) => Self::Rest,
        }
    }
}

/// One group a place: llama.cpp divides whole layers over devices.
fn groups(parts: &BTreeMap<Part, Exact>) -> Result<Vec<TensorGroup>, Error> {
    let group = |(part, bytes): (&Part, &Exact)| {
        let place = match part {
            Part::Embedding => Place::Embedding,
            // Of the first stage, as are towers: no device has it.
            Part::PerLayerEmbedding => Place::Beside,
            Part::Layer(layer) => Place::Layers(vec![*layer]),
            Part::Rest => Place::Head,
        };
        let divided = bytes.get()?;
        Ok(TensorGroup { place, count: 1, divided, by_kv_heads: 0, num_key_value_heads: 1, whole: 0, packed: false })
    };
    parts.iter().map(group).collect()
}
