//! Hybrids: what recurrent layers hold, and the blocks of the attention in the same model.

use super::backend::{Choice, lcm};
use super::dtype::CacheDtype;
use super::layers::{Attention, Block};
use super::planner::Planner;
use super::release::{Rule, Trait};
use super::state_format;
use crate::estimate::recurrent_bytes;
use crate::model::Mechanism::{
    Cca, GatedDeltaNet, Kda, Lightning, Mamba1, Mamba2, Mlstm, RgLru, Rwkv, ShortConvolution,
};
use crate::model::{Convolution, LayerCache, Mechanism, Memory, RecurrentState};
use crate::units::{ElementFormat, Error, Exact};

/// The state of a layer.
pub(super) struct State {
    pub(super) layer: u32,
    /// The model's layer group.
    pub(super) source: usize,
    /// Bytes on one rank.
    pub(super) content: u64,
    /// Whether a request holds one more, for a checkpoint inside a prefill.
    pub(super) checkpoint: bool,
}

/// Where a layer exports a state from inside a prefill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checkpoints {
    Nowhere,
    AtAnyToken,
    /// At multiples of this, which blocks are then, too.
    Every(u64),
}

impl Planner<'_> {
    /// The block of hybrids, whose page covers a state, and the page that all share (`_align_hybrid_block_size`).
    pub(super) fn aligned(&self, plain: Block, attention: &[Attention], states: &[State]) -> Result<Block, Error> {
        let preferred = plain.tokens;
        let Some(first) = attention.first() else { return Ok(plain) };
        let (k, latent) = (first.heads.k, first.choice.query.kind.is_latent());
        // The model's own format is asked for its name, so that packed latents count as their plain width here.
        let dtype = if first.dtype == CacheDtype::Fp8DsMla { CacheDtype::Fp8 } else { first.dtype };
        let content = dtype.content(k, if latent { 0 } else { k }, self.model.dtype)?;
        let per_token = Exact::from(content) * first.heads.count;
        let state = states.iter().map(|state| state.content).max().unwrap_or_default();
        if state == 0 {
            return Ok(plain);
        }
        let mut unit = first.choice.smallest_block().max(preferred);
        if latent && self.release.has(Rule::HYBRID_LATENT_BLOCKS_OF_64) {
            unit = unit.max(64);
        }
        if latent && self.release.has(Rule::HYBRID_LATENT_BLOCKS_OF_128) {
            unit = unit.max(128);
        }
        if self.caches_prefixes() {
            unit = lcm(unit, self.checkpoint_alignment()).ok_or_else(Error::too_large)?;
        }
        let backends = self.backends(attention);
        let kernels = backends.iter().map(Choice::smallest_block).try_fold(1, lcm);
        let blocks = Exact::from(state).div_ceil((per_token * unit).max(1u64));
        let tokens = (blocks * unit).round_up_to(kernels.ok_or_else(Error::too_large)?).max(preferred);
        let page = (tokens * per_token).get()?;
        Ok(Block { tokens: tokens.get()?, page: (page != state).then_some(page) })
    }

    /// Tokens that blocks are aligned to for the checkpoints inside a prefill: 1 unless every recurrent layer names a number.
    fn checkpoint_alignment(&self) -> u64 {
        let alignments = self.groups().filter_map(|cache| {
            let LayerCache::Recurrent(state) = cache else { return None };
            Some(if let Checkpoints::Every(tokens) = self.checkpoints(state) { Some(tokens) } else { None })
        });
        alignments.reduce(|a, b| lcm(a?, b?)).flatten().unwrap_or(1)
    }

    /// Where a layer exports a state from inside a prefill.
    fn checkpoints(&self, state: &RecurrentState) -> Checkpoints {
        let capability = self.engine.device.compute_capability;
        // Heads of 128 × 128.
        let square_128 = state.memory.is_some_and(|memory| memory.elements_per_head == 128 * 128);
        let has = |rule| self.release.has(rule);
        match state.mechanism {
            // `mamba_mixer2.py`
            Mamba2 if has(Rule::MAMBA2_CHECKPOINTS) => Checkpoints::AtAnyToken,
            // `qwen_gdn_linear_attn.py`: FlashInfer's prefill.
            GatedDeltaNet if has(Rule::DELTA_NET_CHECKPOINTS) && !self.has(Trait::NoCheckpoints) => match capability {
                (9, 0) => Checkpoints::Every(64),
                (10 | 12, _) if square_128 => Checkpoints::Every(64),
                _ => Checkpoints::Nowhere,
            },
            // `models/kimi_k3/nvidia/kda.py`: FlashKDA. Its alignment is not asked of blocks.
            Kda if has(Rule::KDA_CHECKPOINTS)
                && matches!(capability.0, 9 | 10 | 12)
                && square_128
                && self.model.checkpoint.bounded_gates =>
            {
                Checkpoints::AtAnyToken
            }
            Mamba1 | Mamba2 | GatedDeltaNet | Kda | Lightning | ShortConvolution | RgLru | Rwkv | Cca | Mlstm => {
                Checkpoints::Nowhere
            }
        }
    }

    /// The states of all recurrent layers.
    pub(super) fn states(&self) -> Result<Vec<State>, Error> {
        let mut states = Vec::new();
        for (source, group) in self.model.layer_groups.iter().enumerate() {
            let LayerCache::Recurrent(state) = group.cache else { continue };
            self.check_state(&state)?;
            let widens = state.columns() != Exact::ZERO && drafts_widen(state.mechanism);
            let columns = (state.columns() + if widens { self.drafted_tokens() } else { 0 }).get()?;
            let content = recurrent_bytes(self.as_stored(state), columns, self.workload.layout.tp)?;
            let checkpoint = self.checkpoints(&state) != Checkpoints::Nowhere;
            states.extend(group.layers.iter().map(|&layer| State { layer, source, content, checkpoint }));
        }
        Ok(states)
    }

    /// What the layers' classes assert (`mamba_mixer2.py`; `mamba_utils.py`, `kda_state_dtype`).
    fn check_state(&self, state: &RecurrentState) -> Result<(), Error> {
        let tp = self.workload.layout.tp;
        let groups = state.convolution.map_or(1, |convolution| convolution.groups);
        let divides = state.mechanism != Mamba2 || groups <= 1 || groups.is_multiple_of(tp);
        let reason = format_args!("does not divide the {groups} groups of Mamba2 layers, which must then be 1");
        self.engine.require(divides, "--tp", tp, reason, "use a size that does")?;
        let in_fp16 = self.engine.settings.choice("mamba-ssm-cache-dtype") == Some("float16");
        let reason = "is no format of a KDA recurrent state, which are auto, float32 and bfloat16";
        let taken = state.mechanism != Kda || !in_fp16;
        self.engine.require(taken, "--mamba-ssm-cache-dtype", "float16", reason, "use one of them")
    }

    /// The state in the formats that vLLM stores it in.
    fn as_stored(&self, state: RecurrentState) -> RecurrentState {
        let format = state_format(self.engine, "mamba-cache-dtype").unwrap_or(self.model.dtype);
        let memory_format = state_format(self.engine, "mamba-ssm-cache-dtype").unwrap_or_else(|| {
            let declared = self.model.checkpoint.state_format.filter(|_| self.has(Trait::DeclaredMemory));
            match declared {
                _ if state.mechanism == Kda => ElementFormat::FP32,
                Some(declared) => declared,
                None if self.has(Trait::MemoryInFp32) => ElementFormat::FP32,
                None => format,
            }
        });
        RecurrentState {
            convolution: state.convolution.map(|convolution| Convolution { format, ..convolution }),
            memory: state.memory.map(|memory| Memory { format: memory_format, ..memory }),
            ..state
        }
    }
}

/// Whether a convolution keeps one more column for each drafted token (`mamba_utils.py`).
fn drafts_widen(mechanism: Mechanism) -> bool {
    match mechanism {
        Mamba2 | GatedDeltaNet | Kda | ShortConvolution => true,
        Mamba1 | Lightning | RgLru | Rwkv | Cca | Mlstm => false,
    }
}
