//! What the weights of a model come to: bytes and parameters, and how they are known.

use crate::units::Bytes;

/// The weights of a model. What is not known is none; nothing is guessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// The same by element type, in the order of first appearance; empty where only sums are known.
    pub by_dtype: Vec<DtypeWeights>,
    /// All bytes.
    pub bytes: Option<Bytes>,
    /// All parameters: what quantisation stores beside them (scales, zero points) is in the bytes and not in these.
    pub parameters: Option<u64>,
    /// Parameters that one token passes through; none for a model without experts.
    pub active_parameters: Option<u64>,
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

/// How weights are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightsOrigin {
    /// From the headers of the files that hold them: exact.
    Headers,
    /// From the total that the index of the files states.
    Index,
    /// From the catalogue, which names its source.
    Catalogue,
    /// Computed from the dimensions of the configuration.
    Config,
}

impl WeightsOrigin {
    /// The name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Index => "index",
            Self::Catalogue => "catalogue",
            Self::Config => "computed",
        }
    }

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
