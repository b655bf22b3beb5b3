//! The tensors of a state, as one rank holds them.

use super::State;
use crate::model::RecurrentState;
use crate::units::{Code, ElementFormat, Error, Exact};

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
