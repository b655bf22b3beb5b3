//! Hybrids: what recurrent layers hold, and the blocks that attention beside them is given.

use super::backend::{Backend, Query, lcm};
use super::dtype::CacheDtype;
use super::layers::Attention;
use super::reader::Reader;
use crate::estimate::recurrent_bytes;
use crate::model::{LayerCache, Mechanism, Memory, RecurrentState};
use crate::units::{ElementFormat, Error};

impl Reader<'_> {
    /// The block of hybrids, whose page covers a state, and the page that all share (`_align_hybrid_block_size`).
    pub(super) fn aligned(
        &self,
        preferred: u64,
        attention: &[Attention],
        states: &[(u32, usize, u64, bool)],
        sizes: &[(Backend, Query)],
    ) -> Result<(u64, Option<u64>), Error> {
        let too_large = Error::too_large;
        let Some(first) = attention.first() else { return Ok((preferred, None)) };
        let (k, _, heads) = first.dims;
        let v = if first.query.latent { 0 } else { k };
        // The model's own format is asked for its name, so that packed latents count as their plain width here.
        let dtype = if first.dtype.name() == "fp8_ds_mla" { CacheDtype::named("fp8") } else { first.dtype };
        let per_token = dtype.content(k, v, self.model.dtype).and_then(|content| content.checked_mul(heads));
        let per_token = per_token.ok_or_else(too_large)?;
        let state = states.iter().map(|&(_, _, content, _)| content).max().unwrap_or_default();
        if state == 0 {
            return Ok((preferred, None));
        }
        let smallest = first.backend.smallest_block(&first.query);
        let mut unit = smallest.max(preferred);
        if first.query.latent {
            unit = unit.max(if self.release.is_newest { 128 } else { 64 });
        }
        if self.caches_prefixes() && self.release.exports_states {
            unit = lcm(unit, self.checkpoint_alignment().unwrap_or(1)).ok_or_else(too_large)?;
        }
        let mut kernels = sizes.iter().map(|(backend, query)| backend.smallest_block(query));
        let kernels = kernels.try_fold(1, lcm).ok_or_else(too_large)?;
        let tokens = state.div_ceil(unit.checked_mul(per_token).ok_or_else(too_large)?.max(1));
        let block_size = unit.checked_mul(tokens).and_then(|size| size.checked_next_multiple_of(kernels));
        let block_size = block_size.ok_or_else(too_large)?.max(preferred);
        let page = block_size.checked_mul(per_token).ok_or_else(too_large)?;
        Ok((block_size, (page != state).then_some(page)))
    }

    /// Tokens that the checkpoints inside a prefill are aligned to, where every recurrent layer names a number.
    pub(super) fn checkpoint_alignment(&self) -> Option<u64> {
        let states = self.groups().filter_map(|cache| match cache {
            LayerCache::Recurrent(state) => Some(self.exports(state)),
            _ => None,
        });
        states.map(|(_, alignment)| alignment).reduce(|a, b| lcm(a?, b?)).flatten()
    }

    /// Whether a layer exports a state from inside a prefill, and the alignment it asks of blocks.
    pub(super) fn exports(&self, state: &RecurrentState) -> (bool, Option<u64>) {
        let capability = self.engine.device.compute_capability;
        let width = state.memory.map_or(0, |memory| memory.elements_per_head);
        // Heads of 128 × 128.
        let square_128 = width == 128 * 128;
        match state.mechanism {
            // `mamba_mixer2.py`: at any token.
            Mechanism::Mamba2 => (true, None),
            // `qwen_gdn_linear_attn.py`: FlashInfer's prefill.
            Mechanism::GatedDeltaNet if self.family() != "olmo_hybrid" => {
                let serves = capability == (9, 0) || (matches!(capability.0, 10 | 12) && square_128);
                (serves, serves.then_some(64))
            }
            // `models/kimi_k3/nvidia/kda.py`: FlashKDA. Its alignment is not asked of blocks.
            Mechanism::Kda => {
                let serves = matches!(capability.0, 9 | 10 | 12) && square_128 && self.model.checkpoint.bounded_gates;
                (serves, None)
            }
            _ => (false, None),
        }
    }

    /// States: layer, group, bytes on one rank and whether one more is held for checkpoints.
    pub(super) fn states(&self) -> Result<Vec<(u32, usize, u64, bool)>, Error> {
        let speculative = self.model.drafter.as_ref().map_or(0, |drafter| drafter.tokens);
        let mut states = Vec::new();
        for (source, group) in self.model.layer_groups.iter().enumerate() {
            let LayerCache::Recurrent(state) = group.cache else { continue };
            self.check_state(&state)?;
            let kernel = state.convolution.map_or(0, |convolution| convolution.kernel.saturating_sub(1));
            let widens = matches!(
                state.mechanism,
                Mechanism::Mamba2 | Mechanism::GatedDeltaNet | Mechanism::Kda | Mechanism::ShortConvolution
            );
            let columns = if widens && kernel > 0 { kernel.saturating_add(speculative) } else { kernel };
            let content = recurrent_bytes(self.as_stored(state), columns, self.workload.layout.tp)?;
            let exports = self.release.exports_states && self.exports(&state).0;
            states.extend(group.layers.iter().map(|&layer| (layer, source, content, exports)));
        }
        Ok(states)
    }

    /// What the layers' classes assert (`mamba_mixer2.py`; `mamba_utils.py`, `kda_state_dtype`).
    fn check_state(&self, state: &RecurrentState) -> Result<(), Error> {
        let tp = self.workload.layout.tp;
        let groups = state.convolution.map_or(1, |convolution| convolution.groups);
        if state.mechanism == Mechanism::Mamba2 && groups > 1 && !groups.is_multiple_of(tp) {
            let reason = format!("does not divide the {groups} groups of Mamba2 layers, which must then be 1");
            return Err(self.engine.refusal("--tp", tp, reason, "use a size that does"));
        }
        if state.mechanism == Mechanism::Kda && self.options.memory_format == Some(ElementFormat::FP16) {
            let reason = "is no format of a KDA recurrent state, which are auto, float32 and bfloat16";
            return Err(self.engine.refusal("--mamba-ssm-cache-dtype", "float16", reason, "use one of them"));
        }
        Ok(())
    }

    /// The state in the formats that vLLM stores it in.
    pub(super) fn as_stored(&self, state: RecurrentState) -> RecurrentState {
        let convolution_format = self.options.state_format.unwrap_or(self.model.dtype);
        let family = self.family();
        let declared = self.model.checkpoint.state_format;
        let memory_format = self.options.memory_format.unwrap_or(match state.mechanism {
            Mechanism::Kda => ElementFormat::FP32,
            // `NemotronHForCausalLMConfig`, `Qwen3_5ForConditionalGenerationConfig`.
            _ if family.starts_with("nemotron_h") => declared.unwrap_or(ElementFormat::FP32),
            _ if family.starts_with("qwen3_5") => declared.unwrap_or(convolution_format),
            _ => convolution_format,
        });
        RecurrentState {
            convolution: state
                .convolution
                .map(|convolution| crate::model::Convolution { format: convolution_format, ..convolution }),
            memory: state.memory.map(|memory| Memory { format: memory_format, ..memory }),
            ..state
        }
    }
}
