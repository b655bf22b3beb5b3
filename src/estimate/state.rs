//! The tensors of a state, as one rank holds them.

use super::{State, error};
use crate::model::RecurrentState;
use crate::units::{ElementFormat, Error};

/// Bytes of a recurrent layer's state on one of `tp` ranks, for one sequence; `columns` are what its convolution keeps.
///
/// # Errors
/// [`Error`] when heads or channels do not divide over the ranks.
pub fn recurrent_bytes(state: RecurrentState, columns: u64, tp: u64) -> Result<u64, Error> {
    let tensors = StateTensor::of(State::Recurrent(state, columns), tp)?;
    let bytes = |bits: u128| u64::try_from(bits.div_ceil(8)).map_err(|_| Error::too_large());
    tensors
        .into_iter()
        .flatten()
        .try_fold(0u64, |sum, tensor| sum.checked_add(bytes(tensor.bits(1, 1)?)?).ok_or_else(Error::too_large))
}

/// A tensor of fixed size on one rank, for one sequence in one layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct StateTensor {
    elements: u128,
    format: ElementFormat,
}

impl StateTensor {
    /// The tensors of a state on one of `tp` ranks: of a recurrent layer its convolution's columns and its memory.
    pub(super) fn of(state: State, tp: u64) -> Result<[Option<Self>; 2], Error> {
        match state {
            State::None => Ok([None, None]),
            State::Replicated(elements, format) => Ok([Some(Self { elements: u128::from(elements), format }), None]),
            State::Recurrent(state, columns) => Self::recurrent(state, columns, tp),
        }
    }

    /// Channels and heads are divided over the ranks. Groups are, too, while they divide; past that each rank has one of
    /// its own (vLLM 0.33 `model_executor/layers/mamba/mamba_utils.py`, `MambaStateShapeCalculator`).
    fn recurrent(state: RecurrentState, columns: u64, tp: u64) -> Result<[Option<Self>; 2], Error> {
        let mechanism = state.mechanism.name();
        let divided = |size: u64| {
            size.checked_div(tp)
                .filter(|_| size.is_multiple_of(tp))
                .ok_or_else(|| error::uneven_state(mechanism, size, tp))
        };
        let convolution = state.convolution.map(|convolution| {
            let groups = match convolution.groups.checked_div(tp) {
                Some(groups) if convolution.groups.is_multiple_of(tp) => groups,
                _ => 1,
            };
            let grouped = groups.checked_mul(convolution.channels_per_group).ok_or_else(Error::too_large)?;
            let channels = divided(convolution.channels)?.checked_add(grouped).ok_or_else(Error::too_large)?;
            let elements = u128::from(channels).checked_mul(u128::from(columns)).ok_or_else(Error::too_large)?;
            Ok::<_, Error>(Self { elements, format: convolution.format })
        });
        let memory = state.memory.map(|memory| {
            let elements = u128::from(divided(memory.heads)?)
                .checked_mul(u128::from(memory.elements_per_head))
                .ok_or_else(Error::too_large)?;
            Ok::<_, Error>(Self { elements, format: memory.format })
        });
        Ok([convolution.transpose()?, memory.transpose()?])
    }

    /// Bits of the tensor for each of `batch` sequences in each of `layers` layers.
    pub(super) fn bits(self, layers: usize, batch: u64) -> Result<u128, Error> {
        let copies = u128::try_from(layers).ok().and_then(|layers| layers.checked_mul(u128::from(batch)));
        copies.and_then(|copies| self.format.bits(copies.checked_mul(self.elements)?)).ok_or_else(Error::too_large)
    }
}
