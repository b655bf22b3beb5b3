//! What the weights of a model come to: bytes and parameters, and how they are known.

use super::{CheckpointFormat, CheckpointTensors, Holder};
use crate::units::{Bytes, Error, Exact, named};

/// The weights of a model. What is not known is none; nothing is guessed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights {
    /// The same by element type, in the order of first appearance; empty where only sums are known.
    pub by_dtype: Vec<DtypeWeights>,
    /// All bytes, as engines hold them.
    pub bytes: Option<Bytes>,
    /// Those of the checkpoint's files, where they are computed and differ.
    pub stored: Option<Bytes>,
    /// All parameters: what quantisation stores beside them (scales, zero points) is in the bytes and not in these.
    pub parameters: Option<u64>,
    /// Parameters that one token passes through; none for a model without experts.
    pub active_parameters: Option<u64>,
    /// Parameters of what sees or hears, where those are counted in addition to the text model's.
    pub tower_parameters: Option<u64>,
    /// Parameters of MTP layers, which are not counted.
    pub mtp_parameters: Option<u64>,
    /// Their bytes in the files, if these hold them.
    pub mtp_bytes: Option<Bytes>,
    /// The tensors by shape, as its configuration implies them; none where its class is not known tensor by tensor.
    pub tensors: Option<Tensors>,
    /// How all this is known.
    pub origin: WeightsOrigin,
    /// What there is to say of it.
    pub notes: Vec<String>,
}

/// The weights of one element type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtypeWeights {
    /// Its name where the weights are: `BF16` in safetensors, `q4_K` in GGUF.
    pub dtype: String,
    /// Tensors of it; none where they are not listed.
    pub tensors: Option<u64>,
    /// Elements as stored: of packed types one element holds several parameters.
    pub parameters: u64,
    /// Their bytes; none for a type whose size is not known.
    pub bytes: Option<Bytes>,
}

impl DtypeWeights {
    /// Adds this to what there is of the same type.
    pub(crate) fn add_to(self, types: &mut Vec<Self>) -> Result<(), Error> {
        let Some(same) = types.iter_mut().find(|known| known.dtype == self.dtype) else {
            types.push(self);
            return Ok(());
        };
        let sum = |(a, b)| (Exact::from(a) + b).get();
        same.tensors = same.tensors.zip(self.tensors).map(sum).transpose()?;
        same.parameters = sum((same.parameters, self.parameters))?;
        let bytes = same.bytes.zip(self.bytes).map(|(a, b)| sum((a.0, b.0)));
        same.bytes = bytes.transpose()?.map(Bytes);
        Ok(())
    }
}

named! {
    /// How weights are known.
    #[derive(Default)]
    pub enum WeightsOrigin {
        /// From the headers of the files that hold them: exact.
        Headers = "headers",
        /// From the total that the index of the files states.
        Index = "index",
        /// From the catalogue, which names its source.
        Catalogue = "catalogue",
        /// Computed from the dimensions of the configuration.
        #[default]
        Config = "computed",
    }
}

impl Weights {
    /// Computed weights of these tensors.
    ///
    /// # Errors
    /// More than 2^64 - 1 bytes.
    pub(crate) fn from_tensors(
        tensors: CheckpointTensors,
        tied: bool,
        experts: Option<Experts>,
    ) -> Result<Self, Error> {
        let (parameters, routed) = (tensors.parameters().get()?, tensors.routed().get()?);
        let (bytes, stored) = (tensors.bytes(Holder::Engine)?, tensors.bytes(Holder::Files)?);
        Ok(Self {
            by_dtype: tensors.by_dtype()?,
            bytes: Some(bytes),
            stored: Some(stored).filter(|&stored| stored != bytes),
            parameters: Some(parameters),
            active_parameters: experts.and_then(|experts| experts.active(parameters, routed)),
            mtp_bytes: (!tensors.mtp.is_empty()).then(|| tensors.mtp_bytes()).transpose()?,
            tensors: Some(Tensors { groups: tensors.groups()?, tied, checkpoint: Some(tensors) }),
            ..Self::new(WeightsOrigin::Config)
        })
    }

    /// The same weights in another format, of a text model of class `model_type`; `None` where its tensors are not known.
    ///
    /// # Errors
    /// More than 2^64 - 1 bytes.
    pub fn in_format(&self, format: CheckpointFormat, model_type: Option<&str>) -> Result<Option<Self>, Error> {
        let Some(Tensors { tied, checkpoint: Some(tensors), .. }) = &self.tensors else { return Ok(None) };
        let quantized = tensors.quantized(&format.quantizer(model_type));
        let weights = Self::from_tensors(quantized, *tied, None)?;
        Ok(Some(Self {
            active_parameters: self.active_parameters,
            tower_parameters: self.tower_parameters,
            mtp_parameters: self.mtp_parameters,
            notes: format.note().map(Into::into).into_iter().collect(),
            ..weights
        }))
    }

    /// Weights of which nothing is known yet but how.
    pub(crate) fn new(origin: WeightsOrigin) -> Self {
        Self { origin, ..Self::default() }
    }
}

impl WeightsOrigin {
    /// The same in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Headers => "the headers of the files",
            Self::Index => "the total that the index states",
            Self::Catalogue => "the catalogue",
            Self::Config => "computed from the config, not read from weights",
        }
    }
}

/// The tensors of a model by shape, joined as engines join them (q, k and v are one, gate and up are one), and what
/// parallel ranks make of each. Their bytes are those of the format that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensors {
    /// The groups.
    pub groups: Vec<TensorGroup>,
    /// Whether the head is the embedding, which then stands on the first and on the last stage.
    pub tied: bool,
    /// The same by shape, from which other formats are computed; `None` for those of a GGUF file.
    pub(crate) checkpoint: Option<CheckpointTensors>,
}

/// Tensors that are alike. One has the bytes of its three parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorGroup {
    /// Where they are.
    pub place: Place,
    /// How many are there, in each layer if they are in layers.
    pub count: u64,
    /// Bytes that tensor parallel ranks divide.
    pub divided: u64,
    /// Bytes that they divide by KV heads, each held by several ranks once there are more ranks than heads.
    pub by_kv_heads: u64,
    /// KV heads (or groups of a state): the most ranks that `by_kv_heads` is divided over.
    pub num_key_value_heads: u64,
    /// Bytes that every rank holds.
    pub whole: u64,
    /// Of `divided`, those that an engine may store in a layout of its kernels with more bytes: packed experts.
    pub packed: bool,
}

/// Where tensors are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The embedding: of the first stage.
    Embedding,
    /// The head, and the norm before it: of the last stage.
    Head,
    /// In each of these layers, in order.
    Layers(Vec<u32>),
    /// Beside the text model: what sees or hears. Of the first stage.
    Beside,
}

impl TensorGroup {
    /// Adds what engines hold in the same tensor.
    pub(crate) fn add(&mut self, other: &Self) -> Result<(), Error> {
        let sum = |a: u64, b: u64| (Exact::from(a) + b).get();
        self.divided = sum(self.divided, other.divided)?;
        self.by_kv_heads = sum(self.by_kv_heads, other.by_kv_heads)?;
        self.whole = sum(self.whole, other.whole)?;
        self.num_key_value_heads = self.num_key_value_heads.max(other.num_key_value_heads);
        Ok(())
    }

    /// Bytes of one tensor, undivided.
    pub fn bytes(&self) -> Exact {
        Exact::from(self.divided) + self.by_kv_heads + self.whole
    }
}

/// Experts of a mixture: those of a layer, and those that one token is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// Experts of a layer that tokens are sent to.
    pub all: u64,
    /// Those that one token is sent to.
    pub per_token: u64,
}

impl Experts {
    /// The parameters that one token passes through, of `parameters` of which `routed` are in such experts, all alike; none
    /// where they do not divide.
    pub fn active(self, parameters: u64, routed: u64) -> Option<u64> {
        let each = routed.checked_div(self.all).filter(|_| routed > 0 && routed.is_multiple_of(self.all))?;
        let idle = self.all.checked_sub(self.per_token)?;
        parameters.checked_sub(each.checked_mul(idle)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_passes_through_its_experts_and_all_that_is_no_expert() {
        let experts = Experts { all: 8, per_token: 2 };
        assert_eq!(experts.active(1000, 800), Some(1000 - 600));
        // Experts that are not alike, more of them than there are, none at all.
        assert_eq!(experts.active(1000, 801), None);
        assert_eq!(Experts { all: 8, per_token: 9 }.active(1000, 800), None);
        assert_eq!(Experts { all: 0, per_token: 0 }.active(1000, 800), None);
        assert_eq!(experts.active(1000, 0), None);
    }
}
