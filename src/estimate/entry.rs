//! One entry, K and V of one token in one layer, and the tensors of a state, as one rank holds them.

use super::{BytesPerToken, Layout, State, error};
use crate::model::{KeyValue, RecurrentState};
use crate::units::{Code, ElementFormat, Error, Exact, KvFormat};

/// An entry on one rank.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    k: Side,
    v: Side,
}

/// K or V of an entry.
#[derive(Debug, Clone, Copy)]
struct Side {
    vectors: u64,
    /// Of all vectors together.
    elements: Exact,
    format: ElementFormat,
}

impl Entry {
    /// KV heads are divided over ranks ([`Layout::heads_on_rank`]); a vector is replicated, and has no V.
    pub(super) fn new(key_value: KeyValue, layout: Layout, stored: KvFormat) -> Result<Self, Error> {
        let side = |vectors: u64, dim: u64, format| Side { vectors, elements: Exact::from(vectors) * dim, format };
        let both = |heads, k, v| Self { k: side(heads, k, stored.k), v: side(heads, v, stored.v) };
        let (heads, tp) = match key_value {
            KeyValue::Vector { elements } => return Ok(both(1, elements, 0)),
            heads => (heads.num_key_value_heads().unwrap_or(1), layout.tp),
        };
        let on_rank = layout.heads_on_rank(heads)?;
        match (key_value.head_dims(), key_value.shortcut_width()) {
            (Some((k, v)), _) => Ok(both(on_rank, k, v)),
            (None, Some(width)) if tp == 1 => Ok(both(1, width, width)),
            (None, _) => Err(error::undivided_shortcut(heads, tp)),
        }
    }

    /// Bits of that many entries.
    pub(super) fn bits(self, entries: Exact) -> Exact {
        self.k.bits(entries) + self.v.bits(entries)
    }

    /// Bytes of one entry in all layers of all ranks, `copies` of them, for every `every` tokens of each rank that the tokens are divided over:
    /// `layers · tp · (k bits / k block + v bits / v block) / (8 · every · ranks)`
    pub(super) fn bytes_per_token(self, copies: Exact, ranks: u64, every: u64) -> Result<BytesPerToken, Error> {
        let (k_block, v_block) = (self.k.format.elements_per_block(), self.v.format.elements_per_block());
        let bits = self.k.bits_times_block() * v_block + self.v.bits_times_block() * k_block;
        let denominator = (Exact::from(k_block) * v_block * 8u64 * every * ranks).wide()?;
        Ok(BytesPerToken { numerator: (bits * copies).wide()?, denominator })
    }
}

impl Side {
    fn bits(self, entries: Exact) -> Exact {
        let blocks = (entries * self.elements).div_ceil(self.format.elements_per_block());
        blocks * self.format.bits_per_block() + entries * self.vectors() * self.format.bits_per_vector()
    }

    /// Bits of one entry, times the elements of a block, which need not divide it.
    fn bits_times_block(self) -> Exact {
        let of_vectors = Exact::from(self.vectors()) * self.format.bits_per_vector();
        self.elements * self.format.bits_per_block() + of_vectors * self.format.elements_per_block()
    }

    /// Vectors without elements are not stored.
    fn vectors(self) -> u64 {
        if self.elements == Exact::ZERO { 0 } else { self.vectors }
    }
}

// The tensors of a state, as one rank holds them.

/// Bytes of a recurrent layer's state on one of `tp` ranks, for one sequence; `columns` are what its convolution keeps.
///
/// # Errors
/// [`Error`] when heads or channels do not divide over the ranks.
pub fn recurrent_bytes(state: RecurrentState, columns: u64, tp: u64) -> Result<u64, Error> {
    let tensors = StateTensor::of(State::Recurrent { state, columns: columns.into() }, tp)?;
    tensors.into_iter().flatten().map(|tensor| tensor.bits(Exact::ONE).div_ceil(8u64)).sum::<Exact>().get()
}

/// A tensor of fixed size on one rank, for one sequence in one layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct StateTensor {
    elements: Exact,
    format: ElementFormat,
}

impl StateTensor {
    /// The tensors of a state on one of `tp` ranks: of a recurrent layer its convolution's columns and its memory.
    pub(super) fn of(state: State, tp: u64) -> Result<[Option<Self>; 2], Error> {
        match state {
            State::None => Ok([None, None]),
            State::Replicated { elements, format } => Ok([Some(Self { elements: elements.into(), format }), None]),
            State::Recurrent { state, columns } => Self::recurrent(state, columns, tp),
        }
    }

    /// Channels and heads are divided over the ranks. Groups are, too, while they divide; past that each rank has one of
    /// its own (vLLM 0.33 `model_executor/layers/mamba/mamba_utils.py`, `MambaStateShapeCalculator`).
    fn recurrent(state: RecurrentState, columns: Exact, tp: u64) -> Result<[Option<Self>; 2], Error> {
        let divided = |size: u64| match size.checked_div(tp) {
            Some(each) if size.is_multiple_of(tp) => Ok(Exact::from(each)),
            _ => {
                let name = state.mechanism.name();
                let problem = format!("does not divide the {size} heads or channels of the {name} state");
                Err(Error::new(Code::UnevenTensorParallel, "--tp", tp.to_string(), problem, "use one that does"))
            }
        };
        let convolution = state.convolution.map(|convolution| {
            let groups = divided(convolution.groups).unwrap_or(Exact::ONE);
            let channels = divided(convolution.channels)? + groups * convolution.channels_per_group;
            Ok::<_, Error>(Self { elements: channels * columns, format: convolution.format })
        });
        let memory = state.memory.map(|memory| {
            let elements = divided(memory.heads)? * memory.elements_per_head;
            Ok::<_, Error>(Self { elements, format: memory.format })
        });
        Ok([convolution.transpose()?, memory.transpose()?])
    }

    /// Bits of that many copies of the tensor.
    pub(super) fn bits(self, copies: Exact) -> Exact {
        (copies * self.elements).div_ceil(self.format.elements_per_block()) * self.format.bits_per_block()
    }
}
